"""
Tests for L{tcpsvc.escapes}.
"""

from __future__ import annotations

import ast
import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.escapes import MAX_EXCERPT, MAX_EXCERPTS, excerpt, excerpts, octetsOf


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
        What is no escape is said in one line of ASCII that shows it as it was
        written, and why it is none.
        """
        none = r"is no escape; a backslash itself is written \\"
        surrogate = r"is half a character (a surrogate); an octet is written \xNN"
        for text, line in (
            (r"a\q", rf"'\q' {none}"),
            ("a\\", rf"'\' {none}"),
            ("\\\n", rf"'\\n' {none}"),
            ("\\\xe9", rf"'\\xe9' {none}"),
            (r"\x4", r"'\x' has to be followed by two hexadecimal digits"),
            (r"\xg0", r"'\x' has to be followed by two hexadecimal digits"),
            (r"\u12", r"'\u' has to be followed by four hexadecimal digits"),
            (r"\U0001F60", r"'\U' has to be followed by eight hexadecimal digits"),
            (r"\ud800", rf"'\ud800' {surrogate}"),
            (r"\uDFFF", rf"'\uDFFF' {surrogate}"),
            (r"\U0000d800", rf"'\U0000d800' {surrogate}"),
            (r"\U00110000", r"'\U00110000' is no character: the last is \U0010ffff"),
            (r"\400", r"'\400' is more than an octet, whose last is \377"),
        ):
            error = self.assertRaises(ValueError, octetsOf, text)
            self.assertEqual(line, str(error))

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


class ExcerptTests(SynchronousTestCase):
    """
    Tests for L{excerpt} and L{excerpts}.
    """

    def test_short(self) -> None:
        """
        A text that is short enough stays as it is.
        """
        for text in ("", "alice", "a" * MAX_EXCERPT, "\ud800"):
            self.assertEqual(text, excerpt(text))

    def test_long(self) -> None:
        """
        A longer one is cut, between two characters, and says so.
        """
        self.assertEqual("abc\u2026 (5 bytes, 3 shown)", excerpt("abcde", 3))
        self.assertEqual("\u00fc\u2026 (6 bytes, 2 shown)", excerpt("\u00fc" * 3, 3))

    @given(st.text(st.characters()), st.integers(1, 40))
    def test_limit(self, text: str, limit: int) -> None:
        """
        Whatever the text, no more than the limit of it is shown.
        """
        shown = excerpt(text, limit)
        if shown != text:
            kept = shown.partition("\u2026 (")[0] if "\u2026" not in text else ""
            self.assertLessEqual(len(kept.encode("utf-8", "surrogatepass")), limit)
            self.assertRegex(shown, r"\u2026 \(\d+ bytes, \d+ shown\)\Z")

    def test_few(self) -> None:
        """
        A few short texts stay as they are.
        """
        self.assertEqual((), excerpts([]))
        names = tuple(f"DNS:{n}" for n in range(MAX_EXCERPTS))
        self.assertEqual(names, excerpts(names))

    def test_many(self) -> None:
        """
        Of many texts the first few are left, and a last one that says how many there
        were; of long ones fewer, but one at least.
        """
        self.assertEqual(
            ("0", "1", "2", "3", "4", "5", "6", "7", "\u2026 (9 names, 8 shown)"),
            excerpts(list("012345678")),
        )
        long = "n" * 1000
        self.assertEqual(
            (excerpt(long), "\u2026 (3 names, 1 shown)"), excerpts([long, "a", "b"])
        )
