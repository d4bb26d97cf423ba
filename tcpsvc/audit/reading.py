# -*- test-case-name: tests.test_audit_reading -*-

"""
The files of a trail as they are read back: in the order of their records, in
constant memory, while a service may be writing the last of them.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import IO, NamedTuple, cast

import msgspec
from attrs import define, field

from tcpsvc.audit.names import baseOf, isRotated

BLOCK = 256 * 1024
"""
How many octets are read at once.
"""

MAX_LINE_OCTETS = 256 * 1024 * 1024
"""
The longest line that is taken for a record.
"""

POLL_PERIOD = 0.2
"""
How often a followed file is looked at, in seconds.
"""

TORN = ".torn-"
"""
What the names of files have in them that a service has put torn lines into.
"""

_GZIP = b"\x1f\x8b"
_BEGINNING = re.compile(rb'\{"seq":([1-9][0-9]{0,18}),')
_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)
_decode = msgspec.json.Decoder().decode


class CannotRead(Exception):
    """
    A file cannot be opened or read. The message is one line for people.

    @ivar exitStatus: What a command that needs the file exits with.
    """

    exitStatus = os.EX_NOINPUT


class DamagedFile(Exception):
    """
    A compressed file ends too early or is not what it was.

    @ivar what: What is wrong with it, in a phrase.
    """

    def __init__(self, file: str, what: str) -> None:
        super().__init__(f"{file}: {what}")
        self.what = what


class Entry(NamedTuple):
    """
    One line of a trail.

    @ivar part: The file that it is in.
    @ivar number: Its number there, from 1.
    @ivar line: Its octets, without the newline.
    @ivar fields: What it says; L{None} if it is not a JSON object.
    """

    part: TrailPart
    number: int
    line: bytes
    fields: dict[str, object] | None


@define(eq=False)
class TrailPart:
    """
    One file of a trail, open from when it was found: a service may rename it
    meanwhile.

    @ivar first: The C{seq} of its first record; L{None} if it has none.
    @ivar size: How many octets it had, compressed if it is.
    @ivar torn: What stood behind its last newline when it was read.
    @ivar passed: Told how many octets of the file were read further.
    """

    path: Path
    _raw: io.FileIO
    first: int | None = None
    packed: bool = False
    size: int = 0
    torn: bytes = b""
    passed: Callable[[int], None] = field(default=lambda octets: None)
    _at: int = 0

    @property
    def name(self) -> str:
        """What the file is called in messages."""
        return str(self.path)

    @property
    def regular(self) -> bool:
        """Whether it can be read twice, which a pipe cannot."""
        return self._raw.seekable()

    def blocks(self, start: int = 0) -> Iterator[list[bytes]]:
        """
        Read the lines, many at a time.

        @param start: The octet, of what is not compressed, to begin at.
        @return: Lists of lines without their newlines; none is empty.
        @raise DamagedFile: If it is compressed and damaged.
        @raise CannotRead: If it cannot be read.
        """
        rest: list[bytes] = []
        kept = 0
        for chunk in self._chunks(start):
            lines = chunk.split(b"\n")
            if len(lines) == 1:
                rest.append(chunk)
                kept += len(chunk)
                if kept > MAX_LINE_OCTETS:
                    raise DamagedFile(self.name, "a line is longer than any record")
                continue
            if rest:
                lines[0] = b"".join((*rest, lines[0]))
            last = lines.pop()
            rest, kept = ([last] if last else []), len(last)
            yield lines
        self.torn = b"".join(rest)

    def lines(self) -> Iterator[bytes]:
        """
        Read the lines, one at a time.
        """
        for block in self.blocks():
            yield from block

    def _chunks(self, start: int) -> Iterator[bytes]:
        """
        Read the octets.
        """
        try:
            source = self._source(start)
            while chunk := source.read(BLOCK):
                at = self._raw.tell() if self.regular else 0
                self.passed(at - self._at)
                self._at = at
                yield chunk
        except _DAMAGE:
            what = "the compressed file is damaged or cut off"
            raise DamagedFile(self.name, what) from None
        except OSError as error:
            raise CannotRead(f"{self.name}: {error.strerror or error}") from None

    def _source(self, start: int) -> IO[bytes]:
        """
        The file from an octet on.
        """
        if self.regular:
            self._raw.seek(0)
            self._at = 0
        source = cast("IO[bytes]", self._raw)
        if self.packed:
            source = cast("IO[bytes]", gzip.GzipFile(fileobj=source, mode="rb"))
        if start:
            source.seek(start)
        return source

    def startOfLast(self, mark: bytes) -> int | None:
        """
        Where the last whole line begins that has C{mark} in it.

        @return: The octet, of what is not compressed; L{None} if there is no
            such line.
        """
        if self.packed or not self.regular:
            start, found = 0, None
            for block in self.blocks():
                for line in block:
                    if mark in line:
                        found = start
                    start += len(line) + 1
            return found
        for start, line in self._backwards():
            if mark in line:
                return start
        return None

    def linesBefore(self, octet: int) -> int:
        """
        How many lines end before an octet. Reads all of them.
        """
        number = 0
        for chunk in self._chunks(0):
            number += chunk[: max(0, octet)].count(b"\n")
            octet -= len(chunk)
            if octet <= 0:
                break
        return number

    def lastLine(self) -> bytes:
        """
        @return: The last whole line; empty if there is none.
        """
        line = b""
        if self.packed or not self.regular:
            for block in self.blocks():
                line = block[-1]
        else:
            _, line = next(self._backwards(), (0, b""))
        return line

    def _backwards(self) -> Iterator[tuple[int, bytes]]:
        """
        The whole lines of a plain file, the last one first, each with the octet
        at which it begins.
        """
        at = self._raw.seek(0, os.SEEK_END)
        rest: list[bytes] = []
        whole = False
        while at > 0:
            size = min(at, BLOCK)
            at -= size
            self._raw.seek(at)
            first, *others = self._readAll(size).split(b"\n")
            end = at + size
            for piece in reversed(others):
                line = b"".join((piece, *reversed(rest)))
                rest = []
                start = end - len(piece)
                if whole:
                    yield start, line
                whole = True
                end = start - 1
            rest.append(first)
        if whole:
            yield 0, b"".join(reversed(rest))

    def _readAll(self, size: int) -> bytes:
        """
        Read that many octets, or what there is.
        """
        octets = b""
        while len(octets) < size and (more := self._raw.read(size - len(octets))):
            octets += more
        return octets

    def sameFileAs(self, other: os.stat_result) -> bool:
        """
        Whether this is the file that C{other} is of.
        """
        return os.path.samestat(os.fstat(self._raw.fileno()), other)

    def close(self) -> None:
        """
        Close the file.
        """
        self._raw.close()


def openPart(path: Path) -> TrailPart:
    """
    Open a file of a trail.

    @raise CannotRead: If that is not possible.
    """
    try:
        raw = io.FileIO(path, "rb")
        part = TrailPart(path, raw)
        if part.regular:
            part.size = os.fstat(raw.fileno()).st_size
            part.packed = raw.read(len(_GZIP)) == _GZIP
    except OSError as error:
        raise CannotRead(f"{path}: cannot be opened: {error.strerror}") from None
    if part.regular:
        part.first = _firstRecord(part)
    return part


def _firstRecord(part: TrailPart) -> int | None:
    """
    The number of the first record of a file, also if its line is damaged.
    """
    try:
        for block in part.blocks():
            for index, line in enumerate(block):
                if match := _BEGINNING.match(line):
                    return max(1, int(match[1]) - index)
            break
    except DamagedFile:
        pass
    return None


@define
class TrailFiles:
    """
    The files of a trail, in the order of their records.

    @ivar notes: What was found about the files that people should know.
    """

    parts: list[TrailPart]
    notes: list[str]

    @property
    def size(self) -> int:
        """How many octets all files have."""
        return sum(part.size for part in self.parts)

    def entries(self) -> Iterator[Entry]:
        """
        All lines of all files.
        """
        for part in self.parts:
            yield from _entriesOf(part)

    def close(self) -> None:
        """
        Close all files.
        """
        for part in self.parts:
            part.close()


def openFiles(paths: Iterable[Path]) -> TrailFiles:
    """
    Open the files of a trail. In what order they are named does not matter.

    Files into which a service has put torn lines are passed over: they are no
    part of the trail. So are a file that is named twice, and the compressed copy of
    a file that is named too.

    @raise CannotRead: If one cannot be opened, or none is left.
    """
    trail = TrailFiles([], [])
    try:
        for path in paths:
            if TORN in path.name:
                trail.notes.append(
                    f"{path}: passed over: it has what a crash left of a record"
                )
                continue
            part = openPart(path)
            status = os.fstat(part._raw.fileno())
            if any(other.sameFileAs(status) for other in trail.parts):
                part.close()
                trail.notes.append(f"{path}: passed over: it is named twice")
            else:
                trail.parts.append(part)
        if not trail.parts:
            raise CannotRead("none of these files is a part of a trail")
    except BaseException:
        trail.close()
        raise
    for part in [part for part in trail.parts if _isCopy(part, trail.parts)]:
        trail.notes.append(f"{part.name}: passed over: the file that it is of is given")
        trail.parts.remove(part)
        part.close()
    trail.parts.sort(key=_order)
    return trail


def _isCopy(part: TrailPart, parts: Iterable[TrailPart]) -> bool:
    """
    Whether a file is what C{gzip} makes, or is just making, of another of these.
    """
    return part.packed and any(
        part.path == other.path.with_name(f"{other.path.name}.gz")
        and part.first in (other.first, None)
        for other in parts
    )


def _order(part: TrailPart) -> tuple[bool, int]:
    """
    Where a file belongs; one without records (just begun, say) is the last.
    """
    return part.first is None, part.first or 0


def siblings(path: Path) -> list[Path]:
    """
    The other files of the same trail beside a file, by their names.
    """
    base = baseOf(path.name)
    try:
        return sorted(
            other
            for other in path.parent.iterdir()
            if (other.name == base or isRotated(other.name, base))
            and other.name != path.name
            and other.is_file()
        )
    except OSError:
        return []


def predecessorOf(part: TrailPart, prev: str) -> Path | None:
    """
    The file beside this one whose last record has the hash C{prev}, if there
    is one.
    """
    for path in siblings(part.path):
        try:
            other = openPart(path)
        except CannotRead:
            continue
        try:
            if other.first is None or (part.first and other.first >= part.first):
                continue
            if sha256(other.lastLine()).hexdigest() == prev:
                return path
        except (CannotRead, DamagedFile):
            continue
        finally:
            other.close()
    return None


def _entriesOf(part: TrailPart) -> Iterator[Entry]:
    """
    The lines of one file.
    """
    number = 0
    for block in part.blocks():
        for line in block:
            number += 1
            yield Entry(part, number, line, fieldsOf(line))


def fieldsOf(line: bytes) -> dict[str, object] | None:
    """
    @return: What a line says; L{None} if it is not a JSON object.
    """
    try:
        fields = _decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        try:
            # A lone surrogate is JSON, but not for msgspec.
            fields = json.loads(line)
        except (ValueError, RecursionError):
            return None
    return fields if isinstance(fields, dict) else None


def follow(
    path: Path, wait: Callable[[float], object], seen: int = 0
) -> Iterator[Entry | None]:
    """
    Read a file while it grows, and the files that come in its place: never
    ends.

    @param wait: Sleeps for some seconds.
    @param seen: Up to which record the trail was read already.
    @return: Lines as they are complete; L{None} whenever there is none for now.
    """
    while True:
        part = _opened(path, wait)
        try:
            for missed in _between(part, seen):
                with closing(missed):
                    yield from _entriesOf(missed)
            for entry in _growing(part, path, wait):
                if entry is not None:
                    seen = max(seen, _seq(entry))
                yield entry
        finally:
            part.close()


def _growing(
    part: TrailPart, path: Path, wait: Callable[[float], object]
) -> Iterator[Entry | None]:
    """
    The lines of a file until another one is in its place, with L{None} before
    each pause.
    """
    raw = part._raw
    raw.seek(0)
    rest = b""
    number = at = 0
    replaced = False
    while True:
        chunk = raw.read(BLOCK)
        if chunk:
            at += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number += 1
                yield Entry(part, number, line, fieldsOf(line))
            continue
        if replaced:
            return
        if os.fstat(raw.fileno()).st_size < at:
            raw.seek(0)
            rest = b""
            number = at = 0
            continue
        replaced = _isReplaced(part, path)
        if not replaced:
            yield None
            wait(POLL_PERIOD)


def _isReplaced(part: TrailPart, path: Path) -> bool:
    """
    Whether another file, which is not empty, is where this one was. As long as
    it is empty the former may still grow.
    """
    try:
        there = path.stat()
    except OSError:
        return False
    return there.st_size > 0 and not part.sameFileAs(there)


def _opened(path: Path, wait: Callable[[float], object]) -> TrailPart:
    """
    Open a file as soon as it is there.
    """
    while True:
        try:
            return openPart(path)
        except CannotRead:
            if path.exists():
                raise
            wait(POLL_PERIOD)


def _between(part: TrailPart, seen: int) -> Sequence[TrailPart]:
    """
    The files that came and went unseen between record C{seen} and this file.
    """
    if part.first is None or part.first <= seen + 1:
        return []
    found = []
    for path in siblings(part.path):
        try:
            other = openPart(path)
        except CannotRead:
            continue
        if other.first is not None and seen < other.first < part.first:
            found.append(other)
        else:
            other.close()
    return sorted(found, key=_order)


def _seq(entry: Entry) -> int:
    """
    The number of a record; 0 if its line is damaged.
    """
    match = _BEGINNING.match(entry.line)
    return int(match[1]) if match else 0
