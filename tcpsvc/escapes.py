# -*- test-case-name: tests.test_escapes -*-

"""
Octets as people write them on a command line, and text as a log can show it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_EXCERPT = 256
"""
How many bytes of UTF-8 of a text that a peer has sent a log or a record shows.
"""

MAX_EXCERPTS = 8
"""
How many names that a peer has sent a log or a record shows.
"""

_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-7]{1,3})|x(?P<hex>[0-9A-Fa-f]{2})"
    r"|(?:u(?P<u>[0-9A-Fa-f]{4})|U(?P<U>[0-9A-Fa-f]{8}))"
    r"|(?P<one>[abfnrtv\\'\"])|(?P<bad>.?))",
    re.DOTALL,
)

_ONE = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
    "'": b"'",
    '"': b'"',
}

_DIGITS = {"x": "two", "u": "four", "U": "eight"}


def octetsOf(text: str) -> bytes:
    r"""
    Resolve Python's escapes. C{\xNN} and C{\NNN} are octets, as in a literal of
    bytes; every other character is its UTF-8, as is C{\uNNNN}. An argument of the
    command line that is not UTF-8 stays as it is.

    @raise ValueError: If there is an escape that Python does not have. One line says
        which, and why not.
    """
    octets = bytearray()
    end = 0
    for match in _ESCAPE.finditer(text):
        octets += text[end : match.start()].encode("utf-8", "surrogateescape")
        octets += _octets(match)
        end = match.end()
    return bytes(octets + text[end:].encode("utf-8", "surrogateescape"))


def _octets(match: re.Match[str]) -> bytes:
    """
    What an escape stands for.
    """
    if match["one"]:
        return _ONE[match["one"]]
    if match["octal"] or match["hex"]:
        value = int(match["octal"] or match["hex"], 8 if match["octal"] else 16)
        if value < 256:
            return bytes([value])
    elif match["u"] or match["U"]:
        try:
            return chr(int(match["u"] or match["U"], 16)).encode()
        except ValueError:
            pass  # A surrogate, or past Unicode's end.
    raise ValueError(f"'{_shown(match.group())}' {_whyNot(match)}")


def _whyNot(match: re.Match[str]) -> str:
    """
    Why what follows a backslash is no escape.
    """
    if match["octal"]:
        return r"is more than an octet, whose last is \377"
    if match["u"] or match["U"]:
        if int(match["u"] or match["U"], 16) > 0x10FFFF:
            return r"is no character: the last is \U0010ffff"
        return r"is half a character (a surrogate); an octet is written \xNN"
    if match["bad"] in _DIGITS:
        return f"has to be followed by {_DIGITS[match['bad']]} hexadecimal digits"
    return r"is no escape; a backslash itself is written \\"


def printable(text: str) -> str:
    """
    @return: The text with escapes for all that could end a line of the log or move a
        terminal's cursor.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


def excerpt(text: str, limit: int = MAX_EXCERPT) -> str:
    """
    The beginning of a text that may be of any length.

    @param limit: How many bytes of UTF-8 are kept, at most.
    @return: The text itself if it is not longer; else its beginning, and how long it
        is and how much of it is shown.
    """
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) <= limit:
        return text
    # A character that the limit cuts in two is left out.
    shown = encoded[:limit].decode("utf-8", "ignore")
    return f"{shown}\u2026 ({len(encoded)} bytes, {len(shown.encode())} shown)"


def excerpts(texts: Sequence[str]) -> tuple[str, ...]:
    """
    The first few of any number of texts, each shortened by L{excerpt}. All together
    have L{MAX_EXCERPTS} texts and twice L{MAX_EXCERPT} bytes at most.

    @return: The texts, and if some were left out, a last text that says how many there
        are and how many are shown.
    """
    shown: list[str] = []
    left = 2 * MAX_EXCERPT
    for text in texts[:MAX_EXCERPTS]:
        left -= len(text.encode("utf-8", "surrogatepass"))
        if shown and left < 0:
            break
        shown.append(excerpt(text))
    if len(shown) < len(texts):
        shown.append(f"\u2026 ({len(texts)} names, {len(shown)} shown)")
    return tuple(shown)


def _shown(text: str) -> str:
    """
    A text in printable ASCII, with its backslashes as they are.
    """
    return "".join(
        each if each.isascii() and each.isprintable() else ascii(each)[1:-1]
        for each in text
    )
