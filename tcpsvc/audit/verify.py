# -*- test-case-name: tests.test_audit_verify -*-

"""
A trail, record by record: is each of them the one that was written, in its
place? Pure: it is given lines, and knows no files but by their names.

Lines come in blocks, and a block in order is found to be so by a few calls that
walk through it in C. Only a block that is not is looked at line by line.
"""

from __future__ import annotations

import re
from binascii import hexlify
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import msgspec
from attrs import define, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tcpsvc.audit.chain import (
    NOTHING_BEFORE,
    BrokenRecord,
    Chain,
    Record,
    parsed,
    trailOf,
)
from tcpsvc.audit.checkpoint import (
    CHECKPOINT_MARK,
    RECORDS_BETWEEN,
    isSignedBy,
    nameOf,
)
from tcpsvc.audit.reading import DamagedFile, TrailPart

MAX_UNSIGNED = RECORDS_BETWEEN + 16
"""
The most records that a service leaves behind the last checkpoint: those that
make it sign, and some that may come in between.
"""

_BEGINNING = re.compile(rb'\{"seq":([0-9]{1,18}),')
_PREV = re.compile(rb'.*,"prev":"([0-9a-f]{64})"\}', re.DOTALL)
_MARKED = ("checkpoint", "service.started")
_MAX_STRANGERS = 8
_RECEIPT = re.compile(r"(?:.*\brecord +)?([1-9][0-9]{0,17})[: ]([0-9a-fA-F]{64})\.?")


def examine(
    parts: Sequence[TrailPart], walk: Walk, *, quickly: bool = False
) -> Findings:
    """
    Walk along the files of a trail.

    @param parts: In their order.
    @param quickly: Whether to begin at the last checkpoint, and not at the first
        record.
    @raise BadTrail: If the trail is not what was written.
    """
    start = 0
    if quickly:
        parts, start = _fromLastCheckpoint(parts)
    for index, part in enumerate(parts):
        number = 0
        walk.begin(part.name)
        try:
            for lines in part.blocks(start if index == 0 else 0):
                walk.follow(lines)
                number += len(lines)
            walk.end(part.torn)
        except DamagedFile as damage:
            raise BadTrail(part.name, number + 1, damage.what) from None
        except BadTrail as bad:
            if start and bad.line is not None and bad.file == parts[0].name:
                bad.line += parts[0].linesBefore(start)
            raise
    return walk.finish()


def _fromLastCheckpoint(
    parts: Sequence[TrailPart],
) -> tuple[Sequence[TrailPart], int]:
    """
    The files from the last one with a checkpoint on, and the octet at which the
    last checkpoint begins in that. All files, if there is no checkpoint.
    """
    for index in reversed(range(len(parts))):
        try:
            start = parts[index].startOfLast(CHECKPOINT_MARK)
        except DamagedFile as damage:
            raise BadTrail(parts[index].name, None, damage.what) from None
        if start is not None:
            return parts[index:], start
    return parts, 0


class _Any(msgspec.Struct):
    """
    What any record has. Decoding it reads all of the line, and makes little.
    """

    event: str


_beginning = b'{"seq":%d,'.__mod__
_end = b',"prev":"%b"}'.__mod__
_decode = msgspec.json.Decoder(_Any).decode


class BadTrail(Exception):
    """
    A trail is not what was written.

    @ivar file: The name of the file.
    @ivar line: The number of the first bad line; L{None} if it is about what is
        not there.
    @ivar what: What is wrong, in a phrase.
    """

    def __init__(self, file: str, line: int | None, what: str) -> None:
        super().__init__(file, line, what)
        self.file = file
        self.line = line
        self.what = what

    def __str__(self) -> str:
        """
        One line for people.
        """
        where = "" if self.line is None else f" line {self.line}:"
        return f"{self.file}:{where} {self.what}"


@frozen(order=True)
class Receipt:
    """
    What a client was given when it left: the trail had this record.

    @ivar seq: The record's number.
    @ivar hash: The SHA-256 of its line, in hex.
    """

    seq: int
    hash: str

    @classmethod
    def of(cls, text: str) -> Receipt:
        """
        @param text: C{SEQ:HASH}, or the reply C{221 bye; record SEQ HASH}.
        @raise ValueError: If it is neither.
        """
        match = _RECEIPT.fullmatch(text.strip())
        if match is None:
            raise ValueError("neither SEQ:HASH nor the reply that has a receipt")
        return cls(int(match[1]), match[2].lower())

    def __str__(self) -> str:
        """
        As the command takes it.
        """
        return f"{self.seq}:{self.hash}"


@frozen
class Place:
    """
    A line, and where it is.
    """

    file: str
    number: int
    line: bytes


@frozen
class Findings:
    """
    What a trail has been found to be.

    @ivar first: The number of the first record; 0 if there is none.
    @ivar prev: The hash of the record before the first.
    @ivar last: The number of the last record; 0 if there is none.
    @ivar head: The SHA-256 of the last record's line.
    @ivar since: The time of the first record.
    @ivar until: The time of the last record.
    @ivar checkpoints: How many checkpoints are good.
    @ivar unchecked: How many more are of keys that are not at hand.
    @ivar strangers: The names of some of those keys.
    @ivar unsigned: How many records come after the last checkpoint.
    @ivar torn: The files whose last lines are no whole ones.
    @ivar trail: The id of the trail; empty if no record has it.
    """

    first: int
    prev: str
    last: int
    head: str
    since: str
    until: str
    checkpoints: int
    unchecked: int
    strangers: tuple[str, ...]
    unsigned: int
    torn: tuple[str, ...]
    trail: str = ""

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.last - self.first + 1 if self.first else 0


@define
class _Suspicion:
    """
    A line that does not fit; the one after it will say more.
    """

    before: Place | None
    bad: Place
    expected: int


class Walk:
    """
    Goes along a trail from its first line to its last.

    @ivar files: The names of the files that it came through.
    """

    def __init__(
        self,
        keys: Iterable[Ed25519PublicKey] = (),
        receipts: Iterable[Receipt] = (),
        expectCheckpoints: bool = False,
        mayBegin: Callable[[int, str], bool] = lambda first, prev: False,
    ) -> None:
        """
        @param keys: Those whose checkpoints are verified.
        @param receipts: What the trail has to have.
        @param expectCheckpoints: Whether there have to be checkpoints, all by
            these keys, and no more records after the last than there may be.
        @param mayBegin: Asked whether what is given may begin with a record that
            is not number 1: with its number, and the hash before it.
        """
        self.files: list[str] = []
        self._mayBegin = mayBegin
        self._keys = {nameOf(key): key for key in keys}
        self._receipts = sorted(receipts)
        self._expectCheckpoints = expectCheckpoints
        self._file = ""
        self._number = 0
        self._chain: Chain | None = None
        self._first = 0
        self._prev = NOTHING_BEFORE
        self._since = ""
        self._last: Place | None = None
        self._suspicion: _Suspicion | None = None
        self._checkpoints = 0
        self._unchecked = 0
        self._strangers: dict[str, None] = {}
        self._signed = 0
        self._torn: list[str] = []
        self._trail = ""

    # Going along.

    def begin(self, file: str) -> None:
        """
        A file begins.
        """
        self._file = file
        self._number = 0
        self.files.append(file)

    def follow(self, lines: Sequence[bytes]) -> None:
        """
        Go on along some lines.

        @param lines: Without their newlines.
        @raise BadTrail: If one is not what was written.
        """
        if not lines:
            return
        if self._suspicion is not None:
            raise self._judged(self._suspicion, lines[0])
        marked = self._marked(lines) if self._chain is not None else None
        if marked is None:
            self._followEach(lines)
        else:
            assert self._chain is not None
            for at in marked:
                record, number = parsed(lines[at]), self._number + at + 1
                self._compareTrail(record, number)
                self._checkpoint(record, number)
            head = sha256(lines[-1]).hexdigest()
            self._chain = Chain(self._chain.records + len(lines), head)
            self._number += len(lines)
            self._last = Place(self._file, self._number, lines[-1])
        if self._suspicion is None:
            self._compare(lines)

    def _marked(self, lines: Sequence[bytes]) -> list[int] | None:
        """
        Where among the lines the checkpoints and the starts of a service are;
        L{None} unless all lines are records that continue the chain, each as the
        writer makes it.
        """
        assert self._chain is not None
        numbers = range(self._chain.records + 1, self._chain.records + 1 + len(lines))
        if not all(map(bytes.startswith, lines, map(_beginning, numbers))):
            return None
        heads = [hexlify(sha256(line).digest()) for line in lines[:-1]]
        heads.insert(0, self._chain.head.encode())
        if not all(map(bytes.endswith, lines, map(_end, heads))):
            return None
        if not all(map(bytes.isascii, lines)):
            return None
        try:
            return [
                at for at, line in enumerate(lines) if _decode(line).event in _MARKED
            ]
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            # It may be a lone surrogate, which is JSON all the same.
            return None

    def _followEach(self, lines: Sequence[bytes]) -> None:
        """
        Go on line by line.
        """
        for at, line in enumerate(lines):
            self._number += 1
            here = Place(self._file, self._number, line)
            try:
                record = parsed(line)
                if not line.isascii():
                    raise BrokenRecord("it is not ASCII")
            except BrokenRecord as problem:
                raise BadTrail(here.file, here.number, str(problem)) from None
            self._compareTrail(record, self._number)
            if self._chain is None:
                self._start(record, here)
            assert self._chain is not None
            expected = self._chain.records + 1
            try:
                self._chain.follow(line)
            except BrokenRecord:
                suspicion = _Suspicion(self._last, here, expected)
                if at + 1 == len(lines):
                    self._suspicion = suspicion
                    return
                raise self._judged(suspicion, lines[at + 1]) from None
            self._checkpoint(record, self._number)
            self._last = here

    def _start(self, record: Record, here: Place) -> None:
        """
        The chain begins with this record, or before it in another file.
        """
        if (record.seq == 1) is not (record.prev == NOTHING_BEFORE):
            what = "its number and its link do not agree on what is before it"
            raise BadTrail(here.file, here.number, what)
        self._first, self._prev = record.seq, record.prev
        self._since = str(record.fields.get("time", ""))
        self._signed = record.seq - 1
        self._chain = Chain(record.seq - 1, record.prev)
        known = record.seq == 1
        for receipt in self._receipts:
            if receipt.seq == self._chain.records:
                known = True
                if receipt.hash != record.prev:
                    what = f"it does not continue record {receipt.seq} of the receipt"
                    raise BadTrail(here.file, here.number, what)
        if not known and not self._mayBegin(record.seq, record.prev):
            before = "record 1 is"
            if record.seq > 2:
                before = f"records 1 to {record.seq - 1} are"
            what = f"it is record {record.seq}, and {before} in none of these files"
            raise BadTrail(here.file, here.number, what)

    def _compareTrail(self, record: Record, number: int) -> None:
        """
        See that a record is of the same trail as those before it, if it says so.
        """
        trail = trailOf(record)
        if trail and self._trail and trail != self._trail:
            what = (
                f"it is of the trail {trail[:64]!r}, and the records before it are of "
                f"the trail {self._trail[:64]!r}"
            )
            raise BadTrail(self._file, number, what)
        self._trail = self._trail or trail

    def _checkpoint(self, record: Record, number: int) -> None:
        """
        See whether a record is good, if it is a checkpoint.
        """
        if record.event != "checkpoint":
            return
        fields = record.fields
        count, head, key = (fields.get(name) for name in ("count", "head", "key"))
        what = ""
        if count != record.seq - 1 or head != record.prev:
            what = "this checkpoint is not of the record before it"
        elif (known := self._keys.get(str(key))) is not None:
            if not isSignedBy(fields, known):
                what = "the signature of this checkpoint is wrong"
            self._checkpoints += 1
        elif self._expectCheckpoints:
            what = f"this checkpoint is signed by another key, {str(key)[:64]!r}"
        else:
            self._unchecked += 1
            if len(self._strangers) < _MAX_STRANGERS:
                self._strangers[str(key)[:64]] = None
        if what:
            raise BadTrail(self._file, number, what)
        self._signed = record.seq

    def _compare(self, lines: Sequence[bytes]) -> None:
        """
        Hold the receipts for these records against them.
        """
        assert self._chain is not None
        before = self._chain.records - len(lines)
        for receipt in self._receipts:
            at = receipt.seq - before - 1
            if 0 <= at < len(lines):
                found = sha256(lines[at]).hexdigest()
                if found != receipt.hash:
                    raise BadTrail(
                        self._file,
                        self._number - len(lines) + at + 1,
                        f"record {receipt.seq} is not the one of the receipt: its "
                        f"SHA-256 is {found}, not {receipt.hash}",
                    )

    def end(self, torn: bytes = b"") -> None:
        """
        A file has ended.

        @param torn: What stands behind its last newline.
        @raise BadTrail: If that cannot be the beginning of the next record. NUL
            bytes up to the end of the file can: a power cut leaves them.
        """
        if not torn or self._suspicion is not None:
            return
        text = torn.rstrip(b"\0")
        if b"\0" in text:
            what = "a NUL byte in it has others behind it than NUL bytes"
            raise BadTrail(self._file, self._number + 1, what)
        if self._chain is not None:
            beginning = _beginning(self._chain.records + 1)
            if not (text.startswith(beginning) or beginning.startswith(text)):
                what = "behind the last record stands what is not of the next"
                raise BadTrail(self._file, self._number + 1, what)
        elif not text.startswith(b'{"seq":'[: len(text)]):
            raise BadTrail(self._file, self._number + 1, "it is not JSON")
        self._torn.append(self._file)

    def finish(self) -> Findings:
        """
        The trail has ended.

        @raise BadTrail: If something that it should have is not there.
        """
        if self._suspicion is not None:
            raise self._judged(self._suspicion, None)
        chain = self._chain or Chain()
        for receipt in self._receipts:
            if receipt.seq > chain.records:
                what = (
                    f"the trail ends with record {chain.records}, and the receipt is "
                    f"for record {receipt.seq}: it was cut off or written anew"
                )
                raise BadTrail(self._file, None, what)
            if receipt.seq < self._first - 1:
                what = (
                    f"the trail begins with record {self._first} here, and the "
                    f"receipt is for record {receipt.seq}"
                )
                raise BadTrail(self._file, None, what)
        until = ""
        if self._last is not None:
            until = str(parsed(self._last.line).fields.get("time", ""))
        findings = Findings(
            self._first,
            self._prev,
            chain.records,
            chain.head,
            self._since,
            until,
            self._checkpoints,
            self._unchecked,
            tuple(self._strangers),
            chain.records - self._signed,
            tuple(self._torn),
            self._trail,
        )
        if self._expectCheckpoints:
            self._expect(findings)
        return findings

    def _expect(self, findings: Findings) -> None:
        """
        See that there are as many checkpoints as there should be.
        """
        if not findings.checkpoints:
            raise BadTrail(self._file, None, "there is no checkpoint in the trail")
        if findings.unsigned > MAX_UNSIGNED:
            what = (
                f"{findings.unsigned} records follow the last checkpoint, where a "
                f"service signs after {RECORDS_BETWEEN}"
            )
            raise BadTrail(self._file, None, what)

    # Who is to blame.

    def _judged(self, suspicion: _Suspicion, after: bytes | None) -> BadTrail:
        """
        Which line was changed, when one does not continue the one before it?
        The line after them has the hash of what the second of them was.

        @param after: The line after both; L{None} if there is none.
        """
        before, bad, expected = suspicion.before, suspicion.bad, suspicion.expected
        match = _BEGINNING.match(bad.line)
        head = sha256(bad.line).hexdigest()
        vouched = _linkOf(after) == head
        denied = False
        for receipt in self._receipts:
            if receipt.seq == expected:
                vouched = vouched or receipt.hash == head
                denied = not vouched
        if match is None:
            what = f"it does not begin as record {expected} does"
        elif not _linkOf(bad.line):
            what = "it does not end as a record does"
        elif int(match[1]) != expected:
            found = int(match[1])
            what = f"it is record {found}, where record {expected} belongs"
            if found == expected - 1 and before is not None and vouched:
                if before.line != bad.line:
                    inserted = f"it is not the record {found} that the others link to"
                    return BadTrail(before.file, before.number, inserted)
                what = f"record {found} is there twice"
        elif before is None:
            what = "it does not begin a chain"
        elif vouched or _isConsistent(bad.line):
            changed = f"it was changed: record {expected} has another hash of it"
            return BadTrail(before.file, before.number, changed)
        elif after is None and not denied:
            what = (
                f"it, or what the last record has for its hash, was changed: record "
                f"{expected} does not continue it"
            )
            return BadTrail(before.file, before.number, what)
        else:
            what = "it was changed, or the record before it: it does not continue it"
        return BadTrail(bad.file, bad.number, what)


def _linkOf(line: bytes | None) -> str:
    """
    The hash of the record before it that a line ends with; empty if it does not
    end as a record does.
    """
    match = _PREV.fullmatch(line) if line is not None else None
    return match[1].decode() if match is not None else ""


def _isConsistent(line: bytes) -> bool:
    """
    Whether a line is a checkpoint that has the same hash of the record before it
    in both places.
    """
    if CHECKPOINT_MARK not in line:
        return False
    try:
        record = parsed(line)
    except BrokenRecord:
        return False
    return record.fields.get("head") == record.prev
