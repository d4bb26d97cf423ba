# -*- test-case-name: tests.test_audit_chain -*-

"""
The chain of records: pure, with no file in it.

A record is one line of JSON in ASCII. Its last field, C{prev}, is the SHA-256
of the line before it, without that line's newline.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import sha256

from attrs import frozen

from tcpsvc.jsontext import members, quoted
from tcpsvc.times import toMicroseconds

NOTHING_BEFORE = "0" * 64
"""
What the first record has for C{prev}.
"""

_HASH = re.compile("[0-9a-f]{64}")


class BrokenRecord(ValueError):
    """
    A line is no record. The message says what is wrong with it.
    """


def body(moment: float, event: str, fields: dict[str, object]) -> str:
    """
    What stands in a record between C{seq} and C{prev}.

    @param moment: When it happened, in seconds since the epoch.
    @param fields: JSON primitives; what is not ASCII is escaped.
    """
    return bodyAt(f'"time":"{toMicroseconds(moment)}"', event, fields)


def bodyAt(time: str, event: str, fields: dict[str, object]) -> str:
    """
    The same for a moment that another record has.

    @param time: As from L{timeOf}.
    """
    start = f'{time},"event":{quoted(event)}'
    return f"{start},{members(fields)}" if fields else start


def timeOf(one: str) -> str:
    """
    @param one: As from L{body}.
    @return: The member C{time} with which it begins.
    """
    return one.partition(",")[0]


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
        return self.extend([body(moment, event, fields)])[:-1]

    def extend(self, bodies: Sequence[str]) -> bytes:
        """
        Make the next records, at once.

        @param bodies: What stands in each between C{seq} and C{prev}, as from
            L{body}; ASCII.
        @return: Their lines, each with a newline.
        """
        seq, head = self.records, self.head
        lines = []
        for one in bodies:
            seq += 1
            line = f'{{"seq":{seq},{one},"prev":"{head}"}}'.encode("ascii")
            head = sha256(line).hexdigest()
            lines.append(line)
        lines.append(b"")
        self.records, self.head = seq, head
        return b"\n".join(lines)

    def follow(self, line: bytes) -> None:
        """
        Go on to a record that was read back.

        @param line: Without its newline.
        @raise BrokenRecord: If it does not continue the chain.
        """
        seq = self.records + 1
        if not line.startswith(b'{"seq":%d,' % seq):
            raise BrokenRecord(f"it is not record {seq}")
        if not line.endswith(b',"prev":"%s"}' % self.head.encode("ascii")):
            raise BrokenRecord("it does not continue the record before it")
        self.records = seq
        self.head = sha256(line).hexdigest()


@frozen
class Record:
    """
    A record that was read back.

    @ivar seq: Its number, from 1.
    @ivar prev: The SHA-256 of the line before it, in hex.
    @ivar event: Its event's name.
    @ivar fields: All that its line says, those three too.
    """

    seq: int
    prev: str
    event: str
    fields: dict[str, object]


def parsed(line: bytes) -> Record:
    """
    Read a record back.

    @param line: Without its newline.
    @raise BrokenRecord: If it is none.
    """
    if not line.strip():
        raise BrokenRecord("it is blank, and no record")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise BrokenRecord("it is not JSON") from None
    if not isinstance(fields, dict):
        raise BrokenRecord("it is not a JSON object")
    seq, prev, event = (fields.get(name) for name in ("seq", "prev", "event"))
    if type(seq) is not int or seq < 1:
        raise BrokenRecord("it has no sequence number")
    if not isinstance(prev, str) or not _HASH.fullmatch(prev):
        raise BrokenRecord("it has no hash of the record before it")
    if not isinstance(event, str):
        raise BrokenRecord("it has no event")
    return Record(seq, prev, event, fields)


def trailOf(record: Record) -> str:
    """
    @return: The id of the trail that a record is of; empty if the record does not
        say so. Those that do are C{service.started} and C{checkpoint}.
    """
    trail = record.fields.get("trail")
    says = record.event in ("service.started", "checkpoint")
    return trail if says and isinstance(trail, str) else ""
