# -*- test-case-name: tests.test_jsontext -*-

"""
Pieces of JSON in ASCII (RFC 8259), from which records are put together.
"""

from __future__ import annotations

from json import JSONEncoder
from json.encoder import encode_basestring_ascii

quoted = encode_basestring_ascii
"""
A text as a JSON string; what is not ASCII is escaped, lone surrogates too.
"""

_encode = JSONEncoder(separators=(",", ":")).encode


def members(fields: dict[str, object]) -> str:
    """
    @param fields: JSON primitives.
    @return: The members of the object that they make, without its braces.
    @raise TypeError: If something is not a JSON primitive.
    """
    return _encode(fields)[1:-1]
