# -*- test-case-name: tests.test_jsontext -*-

"""
Pieces of JSON in ASCII (RFC 8259), from which records are put together.
"""

from __future__ import annotations

from json import JSONEncoder
from json.encoder import encode_basestring_ascii

from msgspec.json import Encoder

quoted = encode_basestring_ascii
"""
A text as a JSON string; what is not ASCII is escaped, lone surrogates too.
"""

_encode = JSONEncoder(separators=(",", ":")).encode
_encodeLong = Encoder().encode


def quotedLong(octets: bytes) -> str:
    """
    Octets as a JSON string, quickly even if they are many.

    @raise UnicodeDecodeError: If they are not UTF-8.
    """
    text = octets.decode("utf-8")
    return _encodeLong(text).decode("ascii") if text.isascii() else quoted(text)


def packed(octets: bytes) -> str:
    """
    Octets of all values as a JSON string, in base64 (RFC 4648, section 4).
    """
    return _encodeLong(octets).decode("ascii")


def members(fields: dict[str, object]) -> str:
    """
    @param fields: JSON primitives.
    @return: The members of the object that they make, without its braces.
    @raise TypeError: If something is not a JSON primitive.
    """
    return _encode(fields)[1:-1]
