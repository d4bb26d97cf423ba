"""
Tests for L{tcpsvc.escapes}.
"""

from __future__ import annotations

import ast
import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.escapes import octetsOf


class OctetsTests(SynchronousTestCase):
    """
    Escapes, and what is none.
    """

    def test_escapes(self) -> None:
        """
        Each of Python's escapes means what it means there.
        """
        for text, octets in (
            (r"*RST\n", b"*RST\n"),
            (r"\r\t\a\b\f\v", b"\r\t\a\b\f\v"),
            (r"\x00\x1b[0m\xFF", b"\0\x1b[0m\xff"),
            (r"\0\7\33\377\1234", b"\0\7\33\377S4"),
            (r"\\n", b"\\n"),
            (r"\'\"", b"'\""),
            (r"\u20ac\U0001F600", "\u20ac\U0001f600".encode()),
            ("caf\xe9", "caf\xe9".encode()),
            ("", b""),
        ):
            self.assertEqual(octets, octetsOf(text), text)

    def test_argumentNotUTF8(self) -> None:
        """
        An argument whose octets are not UTF-8 keeps them.
        """
        self.assertEqual(b"\xff\n", octetsOf(os.fsdecode(b"\xff\\n")))

    def test_bad(self) -> None:
        """
        What is no escape is said in one line of ASCII that shows it.
        """
        for text, shown in (
            (r"a\q", r"\\q"),
            ("a\\", "\\\\"),
            (r"\x1", r"\\x"),
            (r"\xg0", r"\\x"),
            (r"\u12", r"\\u"),
            (r"\ud800", r"\\ud800"),
            (r"\U00110000", r"\\U00110000"),
            (r"\400", r"\\400"),
            ("\\\n", r"\\\n"),
            ("\\\xe9", r"\\\xe9"),
        ):
            error = self.assertRaises(ValueError, octetsOf, text)
            line = str(error)
            self.assertIn(f"'{shown}' is no escape", line)
            self.assertEqual(1, len(line.splitlines()), line)
            self.assertTrue(line.isascii())

    @given(st.binary(max_size=40))
    def test_asInBytes(self, data: bytes) -> None:
        """
        What Python writes for octets is read as them.
        """
        written = repr(data)[2:-1]
        self.assertEqual(ast.literal_eval(repr(data)), octetsOf(written))

    @given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
    def test_withoutBackslash(self, text: str) -> None:
        """
        Text without a backslash is its UTF-8.
        """
        text = text.replace("\\", "")
        self.assertEqual(text.encode(), octetsOf(text))
