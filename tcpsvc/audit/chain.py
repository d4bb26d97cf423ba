# -*- test-case-name: tests.test_audit_chain -*-

"""
The chain of records: pure, with no file in it.

A record is one line of JSON in ASCII. Its last field, C{prev}, is the SHA-256
of the line before it, without that line's newline.
"""

from __future__ import annotations

import json
from hashlib import sha256

import msgspec

from tcpsvc.times import toMicroseconds

NOTHING_BEFORE = "0" * 64
"""
What the first record has for C{prev}.
"""

_encode = msgspec.json.Encoder().encode


class BrokenRecord(ValueError):
    """
    A line is no record. The message says what is wrong with it.
    """


class Chain:
    """
    The end of a chain, to which records are linked.

    @ivar records: How many there are; the last one's C{seq}.
    @ivar head: The SHA-256 of the last one's line, in hex.
    """

    __slots__ = ("head", "records")

    def __init__(self, records: int = 0, head: str = NOTHING_BEFORE) -> None:
        self.records = records
        self.head = head

    def link(self, moment: float, event: str, fields: dict[str, object]) -> bytes:
        """
        Make the next record.

        @param moment: When it happened, in seconds since the epoch.
        @param fields: JSON primitives; what is not ASCII is escaped.
        @return: Its line, without a newline.
        """
        record = {
            "seq": self.records + 1,
            "time": toMicroseconds(moment),
            "event": event,
            **fields,
            "prev": self.head,
        }
        try:
            line = _encode(record)
        except UnicodeEncodeError:
            # A lone surrogate, which UTF-8 cannot say and an escape can.
            line = b""
        if not line or not line.isascii():
            line = json.dumps(record, separators=(",", ":")).encode("ascii")
        self.records += 1
        self.head = sha256(line).hexdigest()
        return line


def chainAfter(line: bytes) -> Chain:
    """
    The chain as it is after a record that was read back.

    @param line: The last record, without its newline.
    @raise BrokenRecord: If it is no record.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise BrokenRecord("it is not JSON") from None
    number = record.get("seq") if isinstance(record, dict) else None
    if type(number) is not int or number < 1:
        raise BrokenRecord("it has no sequence number")
    return Chain(number, sha256(line).hexdigest())
