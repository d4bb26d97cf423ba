# -*- test-case-name: tests.test_audit_recovery -*-

"""
What a start finds at the end of a trail, and makes of it.

A line that a crash has cut off is moved out of the way: it has no newline, and
after a power cut it may end in NUL bytes up to the end of the file, or consist of
them. The records before it are verified from the last checkpoint on. Anything else
is damage: it stops the start, with nothing changed. The cost does not grow with
the trail.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tcpsvc.audit.chain import BrokenRecord, Chain, Record, parsed, trailOf
from tcpsvc.audit.checkpoint import CHECKPOINT_MARK, isSignedBy, nameOf
from tcpsvc.audit.file import TrailError, TrailFile, TrailInUse, syncName
from tcpsvc.audit.names import isRotated
from tcpsvc.times import toCompact

MAX_TAIL_OCTETS = 256 * 1024 * 1024
"""
How many octets from the end a checkpoint, or failing that the first record, is
looked for.
"""

_BLOCK = 64 * 1024

_Read = Callable[[int, int], bytes]


@define
class Ending:
    """
    How a trail ends.

    @ivar chain: The end of its chain.
    @ivar left: The sessions that have begun and not ended, each with how many
        requests are known of it.
    @ivar unsigned: How many records come after the last checkpoint.
    @ivar torn: Where the line went that a crash had cut off, if there was one.
    @ivar trail: The id of the trail; empty if no record has it.
    """

    chain: Chain = field(factory=Chain)
    left: dict[str, int] = field(factory=dict)
    unsigned: int = 0
    torn: Path | None = None
    trail: str = ""


class _Damage(BrokenRecord):
    """
    One of several lines is no record, or not the next one.

    @ivar number: How many good ones stand before it.
    """

    def __init__(self, problem: BrokenRecord, number: int) -> None:
        super().__init__(str(problem))
        self.number = number


def recover(file: TrailFile, now: float, key: Ed25519PublicKey) -> Ending:
    """
    Bring the end of a trail in order.

    @param now: The time, in seconds since the epoch: it names what is moved.
    @param key: The key whose checkpoints are verified.
    @raise TrailError: If there is damage; the message has the line's number.
    """
    return _Recovery(file.path, now, key).ending(file)


@define
class _Recovery:
    """
    The recovery of one trail.

    @ivar _path: The file's name; those of former files begin with it.
    """

    _path: Path
    _now: float
    _key: Ed25519PublicKey

    def ending(self, file: TrailFile) -> Ending:
        """
        Bring the end of one of the trail's files in order. Nothing is changed
        unless all that is read of the file is good.
        """
        end = _endOfLines(file.read, file.size, file.path)
        lines: list[bytes] = []
        if end:
            lines = _sinceCheckpoint(_backwards(file.read, end, file.path))
        ending = self._followed(file, end, lines, Ending())
        if not _mayBeTorn(file, end):
            raise _refusal(
                file, end, "a NUL byte in it has others behind it than NUL bytes"
            )
        former = self._predecessorOf(lines, ending)
        if former is not None:
            ending = self._followed(file, end, lines, former)
        if end < file.size:
            ending.torn = _moveTorn(file, end, self._now)
        return ending

    def _followed(
        self, file: TrailFile, end: int, lines: list[bytes], before: Ending
    ) -> Ending:
        """
        Follow the last lines of a file.

        @param end: Where they end.
        @param before: How the trail ends before them.
        @raise TrailError: If they are no chain.
        """
        try:
            _follow(before, lines, self._key)
        except _Damage as problem:
            at = end - sum(len(line) + 1 for line in lines[problem.number :])
            raise _refusal(file, at, str(problem)) from None
        return before

    def _predecessorOf(self, lines: list[bytes], ending: Ending) -> Ending | None:
        """
        How the file before this one ends, if that has to be known: this one
        has no records, or it has some and no checkpoint.

        @param lines: The last lines of this file.
        @param ending: How it ends by itself.
        """
        if not lines:
            return self._predecessor()
        first = parsed(lines[0])
        if first.event == "checkpoint" or first.seq == 1:
            return None
        return self._predecessor(first.prev, ending.trail)

    def _predecessor(self, head: str = "", trail: str = "") -> Ending | None:
        """
        How the file of the trail ends that was renamed to make room for a new
        one: the one with the last record.

        @param head: The hash with which it has to end; empty for any.
        @param trail: The id that it has to have, if it has one; empty for any.
        @raise TrailInUse: If another service still writes it.
        @raise TrailError: If the files are of several trails.
        """
        found: list[tuple[Record, Path, list[bytes], str]] = []
        for path in self._formerFiles():
            lines = _lastLines(path)
            try:
                last = parsed(lines[-1] if lines else b"")
            except BrokenRecord:
                continue
            if head and sha256(lines[-1]).hexdigest() != head:
                continue
            its = _trailIn(lines)
            if not (trail and its) or trail == its:
                found.append((last, path, lines, its))
        if not found:
            return None
        if len({its for _, _, _, its in found if its}) > 1:
            names = ", ".join(sorted(path.name for _, path, _, _ in found))
            raise TrailError(
                f"{self._path}: the rotated files beside it belong to several trails: "
                f"{names}; to fix: move those of other trails to another directory"
            )
        newest, path, lines, its = max(found, key=lambda one: one[0].seq)
        try:
            if path.suffix != ".gz":
                return self._recovered(path)
            ending = Ending()
            _follow(ending, lines, self._key)
            return ending
        except TrailInUse:
            raise
        except (TrailError, BrokenRecord):
            # It was moved away because it is damaged, or is only there to read.
            chain = Chain(newest.seq, sha256(lines[-1]).hexdigest())
            return Ending(chain, trail=its)

    def _recovered(self, path: Path) -> Ending:
        """
        Bring a former file in order.
        """
        file = TrailFile(path)
        try:
            return self.ending(file)
        finally:
            file.close()

    def _formerFiles(self) -> list[Path]:
        """
        The files that rotation has renamed. Of compressed ones, only the newest:
        to look into them takes long.
        """
        name = self._path.name
        found = [
            path
            for path in self._path.parent.iterdir()
            if isRotated(path.name, name) and path.is_file()
        ]
        packed = [path for path in found if path.suffix == ".gz"]
        packed.sort(key=lambda path: path.stat().st_mtime)
        return [path for path in found if path not in packed[:-1]]


def _follow(ending: Ending, lines: list[bytes], key: Ed25519PublicKey) -> None:
    """
    Follow the records of a trail's end.

    @raise _Damage: If they are no chain.
    """
    for number, line in enumerate(lines):
        try:
            record = parsed(line)
            if number == 0:
                ending.chain = Chain(record.seq - 1, record.prev)
            ending.chain.follow(line)
            _count(ending, record, key)
        except BrokenRecord as problem:
            raise _Damage(problem, number) from None


def _count(ending: Ending, record: Record, key: Ed25519PublicKey) -> None:
    """
    Follow one record of the trail's end.

    @raise BrokenRecord: If it is a checkpoint that our own key did not sign, or
        of another trail.
    """
    fields = record.fields
    trail = trailOf(record)
    if trail and ending.trail and trail != ending.trail:
        raise BrokenRecord(
            f"it is of the trail {trail[:64]!r}, and the records before it of "
            f"{ending.trail[:64]!r}"
        )
    ending.trail = ending.trail or trail
    session = str(fields.get("session", ""))
    ending.unsigned += 1
    if record.event == "checkpoint":
        if fields.get("key") == nameOf(key) and not (
            isSignedBy(fields, key)
            and (fields["count"], fields["head"]) == (record.seq - 1, record.prev)
        ):
            raise BrokenRecord("the signature of this checkpoint is wrong")
        ending.unsigned = 0
        ending.left = _sessionsOf(record)
    elif record.event == "session.opened":
        ending.left[session] = 0
    elif record.event == "session.closed":
        ending.left.pop(session, None)
    elif record.event == "request" and session in ending.left:
        ending.left[session] += 1


def _sessionsOf(record: Record) -> dict[str, int]:
    """
    The sessions that were open at a checkpoint, each with its requests so far.
    """
    sessions = record.fields.get("sessions")
    if not isinstance(sessions, dict):
        return {}
    return {name: n for name, n in sessions.items() if isinstance(n, int)}


def _trailIn(lines: list[bytes]) -> str:
    """
    The id that the last of some lines has which has one; empty if none has.
    """
    for line in reversed(lines):
        with suppress(BrokenRecord):
            if trail := trailOf(parsed(line)):
                return trail
    return ""


# Files.


def _refusal(file: TrailFile, at: int, what: str) -> TrailError:
    """
    Why a service does not start with a file.

    @param at: Where the damaged line begins.
    """
    return TrailError(
        f"{file.path}: line {_lines(file, at) + 1} is damaged: {what}; "
        "nothing is recorded behind it. Keep the file, and move it away to start anew"
    )


def _mayBeTorn(file: TrailFile, end: int) -> bool:
    """
    Whether a crash may have left what stands behind the last whole line: if there
    are NUL bytes in it, they reach to the end of the file. A power cut leaves them
    where the size of a file is on the disk and its bytes are not.
    """
    ended = False
    for at in range(end, file.size, _BLOCK):
        block = file.read(at, min(_BLOCK, file.size - at))
        text = block.rstrip(b"\0")
        if b"\0" in text or (ended and text):
            return False
        ended = len(text) < len(block)
    return True


def _endOfLines(read: _Read, size: int, path: Path) -> int:
    """
    How many octets of a file are whole lines.
    """
    at = size
    while at > 0:
        begin = max(0, at - _BLOCK)
        found = read(begin, at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
        if size - at > MAX_TAIL_OCTETS:
            raise TrailError(f"{path}: this is no audit trail: it has no lines")
    return 0


def _backwards(read: _Read, end: int, path: Path) -> Iterator[bytes]:
    """
    The lines of a file before C{end}, where one has ended; the last one first.
    """
    at = end - 1
    rest: list[bytes] = []
    while at > 0:
        begin = max(0, at - _BLOCK)
        first, *others = read(begin, at - begin).split(b"\n")
        at = begin
        if others:
            others[-1] += b"".join(reversed(rest))
            yield from reversed(others)
            rest = [first]
        else:
            rest.append(first)
        if end - at > MAX_TAIL_OCTETS:
            raise TrailError(
                f"{path}: no checkpoint in the last {MAX_TAIL_OCTETS} octets; move "
                "it away to start anew"
            )
    yield b"".join(reversed(rest))


def _sinceCheckpoint(backwards: Iterator[bytes]) -> list[bytes]:
    """
    The lines from the last checkpoint on, or all if there is none.
    """
    lines: list[bytes] = []
    for line in backwards:
        lines.append(line)
        if CHECKPOINT_MARK in line:
            break
    lines.reverse()
    return lines


def _lines(file: TrailFile, end: int) -> int:
    """
    How many lines there are before C{end}: for a message only, as it reads all
    of them.
    """
    return sum(
        file.read(at, min(_BLOCK, end - at)).count(b"\n")
        for at in range(0, end, _BLOCK)
    )


def _moveTorn(file: TrailFile, at: int, now: float) -> Path:
    """
    Move what stands behind the last whole record into a file of its own.

    @return: That file.
    """
    path = file.path.with_name(f"{file.path.name}.torn-{toCompact(now)}")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as kept:
                for begin in range(at, file.size, _BLOCK):
                    kept.write(file.read(begin, min(_BLOCK, file.size - begin)))
                kept.flush()
                os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise
        syncName(path)
        file.cutTo(at)
    except OSError as error:
        raise TrailError(
            f"{file.path}: the last line is torn and cannot be moved to {path}: "
            f"{error.strerror}"
        ) from None
    return path


def _lastLines(path: Path) -> list[bytes]:
    """
    The whole lines of a file from the last checkpoint on, or all if there is
    none; nothing if it cannot be read.
    """
    lines: list[bytes] = []
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                for line in packed:
                    if CHECKPOINT_MARK in line:
                        lines.clear()
                    if line.endswith(b"\n"):
                        lines.append(line[:-1])
            return lines
        with path.open("rb") as plain:

            def read(at: int, octets: int) -> bytes:
                return os.pread(plain.fileno(), octets, at)

            end = _endOfLines(read, os.fstat(plain.fileno()).st_size, path)
            return _sinceCheckpoint(_backwards(read, end, path)) if end else []
    except (OSError, EOFError, TrailError):
        return []
