"""
Tests for L{tcpsvc.jsontext}.
"""

from __future__ import annotations

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.jsontext import members, packed, quoted
from tests.test_audit_chain import ANY_TEXT, FIELDS


class QuotedTests(SynchronousTestCase):
    """
    Tests for L{quoted}.
    """

    def test_escaped(self) -> None:
        """
        What is not ASCII is escaped with u and four hexadecimal digits, a lone
        surrogate too; and so are quotes, backslashes and control characters.
        """
        for text, written in (
            ("", '""'),
            ("plain", '"plain"'),
            ('a"b\\c', r'"a\"b\\c"'),
            ("\0\r\n\t\x1b", r'"\u0000\r\n\t\u001b"'),
            ("Zo\u00eb \U0001f52c", r'"Zo\u00eb \ud83d\udd2c"'),
            ("\ud800", r'"\ud800"'),
            ("\u2028", r'"\u2028"'),
        ):
            self.assertEqual(written, quoted(text))

    @given(ANY_TEXT)
    def test_readBack(self, text: str) -> None:
        """
        Any text is one line of ASCII and reads back equal.
        """
        written = quoted(text)
        self.assertTrue(written.isascii())
        self.assertEqual(1, len(written.splitlines()))
        self.assertEqual(text, json.loads(written))


class PackedTests(SynchronousTestCase):
    """
    Tests for L{packed}.
    """

    @given(st.binary())
    def test_packed(self, octets: bytes) -> None:
        """
        It is base64 with the standard alphabet and padding, in quotes.
        """
        self.assertEqual(f'"{b64encode(octets).decode()}"', packed(octets))


class MembersTests(SynchronousTestCase):
    """
    Tests for L{members}.
    """

    def test_written(self) -> None:
        """
        The members stand in their order, without blanks and without the braces.
        """
        self.assertEqual("", members({}))
        self.assertEqual(
            r'"b":1,"a":{"x":[1.5,null,true,"\u00df"]}',
            members({"b": 1, "a": {"x": [1.5, None, True, "\u00df"]}}),
        )

    @given(FIELDS)
    def test_readBack(self, fields: dict[str, object]) -> None:
        """
        Any fields are one line of ASCII and read back equal, in their order.
        """
        written = members(fields)
        self.assertTrue(written.isascii())
        self.assertLessEqual(len(written.splitlines()), 1)
        back = json.loads(f"{{{written}}}")
        self.assertEqual(fields, back)
        self.assertEqual(list(fields), list(back))

    def test_impossible(self) -> None:
        """
        What JSON cannot say is refused.
        """
        self.assertRaises(TypeError, members, {"x": object()})
        self.assertRaises(TypeError, members, {"x": b"octets"})
