# -*- test-case-name: tests.test_audit_recovery -*-

"""
What a start finds at the end of a trail, and makes of it.

A line that a crash has cut off is moved out of the way. What stands before it
is verified from the last checkpoint on; damage there is not for a service to
mend, and stops the start. The cost does not grow with the trail.
"""

from __future__ import annotations

import gzip
import os
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tcpsvc.audit.chain import BrokenRecord, Chain, Record, parsed
from tcpsvc.audit.checkpoint import CHECKPOINT_MARK, isSignedBy, nameOf
from tcpsvc.audit.file import TrailError, TrailFile, syncDirectory
from tcpsvc.times import toCompact

MAX_TAIL_OCTETS = 256 * 1024 * 1024
"""
How many octets from the end a checkpoint, or failing that the first record, is
looked for.
"""

_BLOCK = 64 * 1024


@define
class Ending:
    """
    How a trail ends.

    @ivar chain: The end of its chain.
    @ivar left: The sessions that have begun and not ended, each with how many
        requests are known of it.
    @ivar unsigned: How many records come after the last checkpoint.
    @ivar torn: Where the line went that a crash had cut off, if there was one.
    """

    chain: Chain = field(factory=Chain)
    left: dict[str, int] = field(factory=dict)
    unsigned: int = 0
    torn: Path | None = None


def recover(file: TrailFile, now: float, key: Ed25519PublicKey) -> Ending:
    """
    Bring the end of a trail in order.

    @param now: The time, in seconds since the epoch: it names what is moved.
    @param key: The key whose checkpoints are verified.
    @raise TrailError: If there is damage; the message has the line's number.
    """
    torn = _moveTornLine(file, now)
    if file.size == 0:
        ending = _predecessor(file.path) or Ending()
    else:
        ending = _endingOf(file, key)
    ending.torn = torn
    return ending


def _moveTornLine(file: TrailFile, now: float) -> Path | None:
    """
    Move what stands behind the last newline into a file of its own.

    @return: That file, if there was anything to move.
    """
    at = file.size
    torn = b""
    while at > 0:
        block = file.read(max(0, at - _BLOCK), min(at, _BLOCK))
        cut = block.rfind(b"\n") + 1
        torn = block[cut:] + torn
        at -= len(block) - cut
        if cut:
            break
        if len(torn) > MAX_TAIL_OCTETS:
            raise TrailError(f"{file.path}: this is no audit trail: it has no lines")
    if not torn:
        return None
    path = file.path.with_name(f"{file.path.name}.torn-{toCompact(now)}")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as kept:
            kept.write(torn)
            kept.flush()
            os.fsync(descriptor)
        syncDirectory(path.parent)
    except OSError as error:
        raise TrailError(
            f"{file.path}: the last line is torn and cannot be moved to {path}: "
            f"{error.strerror}"
        ) from None
    file.cutTo(at)
    return path


def _endingOf(file: TrailFile, key: Ed25519PublicKey) -> Ending:
    """
    Verify the records from the last checkpoint on.
    """
    lines: list[bytes] = []
    for line in _backwards(file):
        lines.append(line)
        if CHECKPOINT_MARK in line:
            break
    lines.reverse()
    chain: Chain | None = None
    ending = Ending()
    for number, line in enumerate(lines):
        try:
            record = parsed(line)
            if chain is None:
                chain = Chain(record.seq - 1, record.prev)
                if record.event != "checkpoint" and record.seq > 1:
                    former = _predecessor(file.path, record.prev)
                    ending.left = former.left if former is not None else {}
            chain.follow(line)
            _count(ending, record, key)
        except BrokenRecord as problem:
            behind = len(lines) - number
            lineNumber = _lines(file) - behind + 1
            raise TrailError(
                f"{file.path}: line {lineNumber} is damaged: {problem}; nothing is "
                "recorded behind it. Keep the file, and move it away to start anew"
            ) from None
    assert chain is not None
    ending.chain = chain
    return ending


def _count(ending: Ending, record: Record, key: Ed25519PublicKey) -> None:
    """
    Follow one record of the trail's end.

    @raise BrokenRecord: If it is a checkpoint that our own key did not sign.
    """
    fields = record.fields
    session = str(fields.get("session", ""))
    ending.unsigned += 1
    if record.event == "checkpoint":
        if fields.get("key") == nameOf(key) and not isSignedBy(fields, key):
            raise BrokenRecord("the signature of this checkpoint is wrong")
        ending.unsigned = 0
        ending.left = sessionsOf(record)
    elif record.event == "session.opened":
        ending.left[session] = 0
    elif record.event == "session.closed":
        ending.left.pop(session, None)
    elif record.event == "request" and session in ending.left:
        ending.left[session] += 1


def sessionsOf(record: Record) -> dict[str, int]:
    """
    The sessions that were open at a checkpoint, each with its requests so far;
    none, if the record is no checkpoint.
    """
    sessions = record.fields.get("sessions")
    if record.event != "checkpoint" or not isinstance(sessions, dict):
        return {}
    return {name: n for name, n in sessions.items() if isinstance(n, int)}


def _backwards(file: TrailFile) -> Iterator[bytes]:
    """
    The lines of a file that ends with a newline, the last one first.
    """
    at = file.size - 1
    rest: list[bytes] = []
    while at > 0:
        size = min(at, _BLOCK)
        at -= size
        first, *others = file.read(at, size).split(b"\n")
        if others:
            others[-1] += b"".join(reversed(rest))
            yield from reversed(others)
            rest = [first]
        else:
            rest.append(first)
        if file.size - at > MAX_TAIL_OCTETS:
            raise TrailError(
                f"{file.path}: no checkpoint in the last {MAX_TAIL_OCTETS} octets"
            )
    yield b"".join(reversed(rest))


def _lines(file: TrailFile) -> int:
    """
    How many lines a file has: for a message only, as it reads all of it.
    """
    return sum(file.read(at, _BLOCK).count(b"\n") for at in range(0, file.size, _BLOCK))


def _predecessor(path: Path, head: str = "") -> Ending | None:
    """
    How the trail ends that was renamed to make room for a file at C{path}: the
    newest of the files whose names begin with its name.

    @param head: The hash with which it has to end; empty for any.
    """
    newest: Ending | None = None
    for other in path.parent.glob(f"{path.name}[.-]*"):
        if other.name.startswith(f"{path.name}.torn-"):
            continue
        line = _lastLine(other)
        try:
            record = parsed(line)
        except BrokenRecord:
            continue
        chain = Chain(record.seq, sha256(line).hexdigest())
        if head and chain.head != head:
            continue
        if newest is None or record.seq > newest.chain.records:
            newest = Ending(chain, sessionsOf(record))
    return newest


def _lastLine(path: Path) -> bytes:
    """
    The last line of a file, which logrotate may have compressed.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                (line,) = deque(packed, maxlen=1) or (b"",)
                return line.rstrip(b"\n")
        with path.open("rb") as plain:
            end = plain.seek(0, os.SEEK_END)
            want = _BLOCK
            while True:
                plain.seek(max(0, end - want))
                tail = plain.read().rstrip(b"\n")
                if b"\n" in tail or want >= end or want > MAX_TAIL_OCTETS:
                    return tail.rpartition(b"\n")[2]
                want *= 4
    except (OSError, EOFError, gzip.BadGzipFile):
        return b""
