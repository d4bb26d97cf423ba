"""
Tests for L{tcpsvc.audit.reading}.
"""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import permutations
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit import reading
from tcpsvc.audit.reading import (
    POLL_PERIOD,
    CannotRead,
    DamagedFile,
    Entry,
    TrailFiles,
    follow,
    openFiles,
    openPart,
    predecessorOf,
)
from tests.trails import MadeTrail, conversation, write


class ReadingTestCase(SynchronousTestCase):
    """
    Files in a directory.
    """

    def setUp(self) -> None:
        """
        Make a directory, and a trail.
        """
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.lines = conversation().lines

    def open(self, *names: str) -> TrailFiles:
        """
        Open files of the directory.
        """
        trail = openFiles(self.path / name for name in names)
        self.addCleanup(trail.close)
        return trail

    def smallBlocks(self, octets: int) -> None:
        """
        Read so much at once.
        """
        self.patch(reading, "BLOCK", octets)


class PartTests(ReadingTestCase):
    """
    Tests for L{TrailPart}.
    """

    def test_lines(self) -> None:
        """
        The lines are read without their newlines, however much is read at
        once, and what stands behind the last newline is kept apart.
        """
        octets = b"one\n\ntwo\nthree\n"
        for torn in (b"", b"fo", b"four four four"):
            (self.path / "x").write_bytes(octets + torn)
            for size in range(1, 20):
                self.smallBlocks(size)
                (part,) = self.open("x").parts
                self.assertEqual([b"one", b"", b"two", b"three"], list(part.lines()))
                self.assertEqual(torn, part.torn)

    def test_again(self) -> None:
        """
        A file can be read more than once.
        """
        write(self.path / "x", self.lines)
        (part,) = self.open("x").parts
        self.assertEqual(list(part.lines()), list(part.lines()))

    def test_packed(self) -> None:
        """
        A compressed file is read like any other, whatever it is called.
        """
        plain = write(self.path / "x", self.lines)
        (self.path / "y").write_bytes(gzip.compress(plain.read_bytes()))
        (part,) = self.open("y").parts
        self.assertEqual((self.lines, 1), (list(part.lines()), part.first))

    def test_damaged(self) -> None:
        """
        A compressed file that is cut off or changed is damaged, and the message
        names it.
        """
        packed = gzip.compress(b"x\n" * 5000 + os.urandom(5000))
        for octets in (packed[:-4], packed[:40], packed[:-4] + b"abcd", packed[:2]):
            (self.path / "y").write_bytes(octets)
            (part,) = self.open("y").parts
            error = self.assertRaises(DamagedFile, list, part.lines())
            self.assertIn("y: the compressed file is damaged", str(error))

    def test_longLine(self) -> None:
        """
        A line that is longer than any record is not gathered to its end.
        """
        self.patch(reading, "MAX_LINE_OCTETS", 100)
        self.smallBlocks(10)
        (self.path / "x").write_bytes(b"x" * 1000)
        (part,) = self.open("x").parts
        self.assertRaises(DamagedFile, list, part.lines())

    def test_pipe(self) -> None:
        """
        A pipe is read once, and loses nothing to a look at its beginning.
        """
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        os.write(writer, b"".join(line + b"\n" for line in self.lines))
        os.close(writer)
        part = openPart(Path(f"/dev/fd/{reader}"))
        self.addCleanup(part.close)
        self.assertEqual(self.lines, list(part.lines()))

    def test_passed(self) -> None:
        """
        It is told how many octets of the file were read, which are all of them
        at the end.
        """
        plain = write(self.path / "x", self.lines)
        (self.path / "y").write_bytes(gzip.compress(plain.read_bytes()))
        self.smallBlocks(100)
        for part in self.open("x", "y").parts:
            told: list[int] = []
            part.passed = told.append
            list(part.lines())
            self.assertEqual(part.size, sum(told))

    def test_lastLine(self) -> None:
        """
        The last whole line is found from the end, whatever is read at once.
        """
        for torn in (b"", b"torn"):
            for lines in ([], [b"one"], [b"one", b"two"], [b"x" * 50, b"y" * 50, b""]):
                plain = b"".join(line + b"\n" for line in lines) + torn
                (self.path / "x").write_bytes(plain)
                (self.path / "y").write_bytes(gzip.compress(plain))
                for size in (1, 7, 1000):
                    self.smallBlocks(size)
                    for part in self.open("x", "y").parts:
                        self.assertEqual(lines[-1] if lines else b"", part.lastLine())

    @given(
        st.lists(st.sampled_from([b"", b"a", b"mark", b"bbb mark"]), max_size=6),
        st.sampled_from([b"", b"torn mark"]),
        st.integers(1, 12),
    )
    def test_startOfLast(self, lines: list[bytes], torn: bytes, size: int) -> None:
        """
        It is found where the last whole line with a mark begins, and how many
        lines are before it.
        """
        plain = b"".join(line + b"\n" for line in lines) + torn
        marked = [number for number, line in enumerate(lines) if b"mark" in line]
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "x").write_bytes(plain)
        (directory / "y").write_bytes(gzip.compress(plain))
        former, reading.BLOCK = reading.BLOCK, size
        try:
            for name in ("x", "y"):
                part = openPart(directory / name)
                start = part.startOfLast(b"mark")
                if not marked:
                    self.assertIsNone(start)
                else:
                    assert start is not None
                    self.assertEqual(marked[-1], part.linesBefore(start))
                    (first, *_) = next(part.blocks(start))
                    self.assertEqual(lines[marked[-1]], first)
                part.close()
        finally:
            reading.BLOCK = former


class FilesTests(ReadingTestCase):
    """
    Tests for L{openFiles}.
    """

    def test_order(self) -> None:
        """
        The files are in the order of their records, whatever the order in
        which they are named; one without records is the last.
        """
        write(self.path / "a", self.lines[6:])
        write(self.path / "b", self.lines[:3])
        plain = write(self.path / "c", self.lines[3:6])
        plain.write_bytes(gzip.compress(plain.read_bytes()))
        write(self.path / "d", [])
        for names in permutations("abcd"):
            trail = self.open(*names)
            found = [part.path.name for part in trail.parts]
            self.assertEqual(["b", "c", "a", "d"], found)
            self.assertEqual([1, 4, 7, None], [part.first for part in trail.parts])
            lines = [entry.line for entry in trail.entries()]
            self.assertEqual(self.lines, lines)

    def test_damagedFirstLine(self) -> None:
        """
        A file whose first line is damaged still has its place.
        """
        write(self.path / "a", [b"nothing", *self.lines[4:]])
        write(self.path / "b", self.lines[:3])
        trail = self.open("a", "b")
        self.assertEqual([1, 4], [part.first for part in trail.parts])

    def test_entries(self) -> None:
        """
        Each line has its file, its number there, and its fields, unless it is
        damaged.
        """
        write(self.path / "a", [self.lines[0], b"[]", b'{"x":"\\ud800"}'])
        write(self.path / "b", [b"nothing"])
        found = [
            (entry.part.path.name, entry.number, entry.fields)
            for entry in self.open("a", "b").entries()
        ]
        self.assertEqual(
            [("a", 1), ("a", 2), ("a", 3), ("b", 1)], [f[:2] for f in found]
        )
        assert found[0][2] is not None
        self.assertEqual(1, found[0][2]["seq"])
        self.assertEqual([None, {"x": "\ud800"}, None], [f[2] for f in found[1:]])

    def test_torn(self) -> None:
        """
        A file of torn lines is passed over with a word. If there is no other, it
        is none.
        """
        write(self.path / "a", self.lines)
        (self.path / "a.torn-20261123T005603.000000Z").write_bytes(b"{")
        trail = self.open("a", "a.torn-20261123T005603.000000Z")
        self.assertEqual(1, len(trail.parts))
        (note,) = trail.notes
        self.assertIn("a.torn-20261123T005603.000000Z: passed over", note)
        self.assertRaises(CannotRead, self.open, "a.torn-20261123T005603.000000Z")

    def test_twice(self) -> None:
        """
        A file that is named twice is read once.
        """
        write(self.path / "a", self.lines)
        (self.path / "b").symlink_to("a")
        trail = self.open("a", "b", "a")
        self.assertEqual((1, 2), (len(trail.parts), len(trail.notes)))

    def test_cannotRead(self) -> None:
        """
        A file that cannot be opened is named, in one line.
        """
        for name in ("nowhere", "."):
            error = self.assertRaises(CannotRead, self.open, name)
            self.assertIn(str(self.path / name), str(error))
            self.assertEqual(1, len(str(error).splitlines()))
        self.assertEqual(66, CannotRead.exitStatus)

    def test_renamed(self) -> None:
        """
        A file that is renamed after it was opened is read all the same.
        """
        path = write(self.path / "a", self.lines)
        trail = self.open("a")
        path.rename(self.path / "b")
        write(path, [])
        self.assertEqual(len(self.lines), len(list(trail.entries())))

    def test_memory(self) -> None:
        """
        A long trail needs no more memory than a short one.
        """
        line = self.lines[1] + b"\n"
        with (self.path / "a").open("wb") as file:
            for _ in range(100):
                file.write(line * 1000)
        self.assertGreater((self.path / "a").stat().st_size, 30_000_000)
        trail = self.open("a")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(100_000, sum(len(block) for block in trail.parts[0].blocks()))
        self.assertLess(tracemalloc.get_traced_memory()[1], 4_000_000)


class PredecessorTests(ReadingTestCase):
    """
    Tests for L{predecessorOf}.
    """

    def test_found(self) -> None:
        """
        The file beside it whose last record has the hash is found, also if it
        is compressed.
        """
        write(self.path / "audit.jsonl", self.lines[5:])
        former = write(self.path / "audit.jsonl.1", self.lines[:5])
        (part,) = self.open("audit.jsonl").parts
        head = sha256(self.lines[4]).hexdigest()
        self.assertEqual(former, predecessorOf(part, head))
        former.write_bytes(gzip.compress(former.read_bytes()))
        self.assertEqual(former, predecessorOf(part, head))

    def test_fromRotated(self) -> None:
        """
        It is found from a file that is rotated itself, whichever of the two is.
        """
        write(self.path / "audit.jsonl-20270116", self.lines[5:])
        for name in ("audit.jsonl.20270115T080000.000000Z", "audit.jsonl"):
            former = write(self.path / name, self.lines[:5])
            (part,) = self.open("audit.jsonl-20270116").parts
            head = sha256(self.lines[4]).hexdigest()
            self.assertEqual(former, predecessorOf(part, head))
            former.unlink()

    def test_none(self) -> None:
        """
        No file with another end, or another name, is taken for it.
        """
        write(self.path / "audit.jsonl", self.lines[5:])
        write(self.path / "audit.jsonl.1", self.lines[:4])
        write(self.path / "audit.jsonl.torn-1", self.lines[:5])
        write(self.path / "other", self.lines[:5])
        write(self.path / "audit.jsonl-2", self.lines[:5])
        write(self.path / "audit.bak", self.lines[:5])
        (self.path / "audit.d").mkdir()
        (part,) = self.open("audit.jsonl").parts
        head = sha256(self.lines[4]).hexdigest()
        self.assertIsNone(predecessorOf(part, head))


Happening = Callable[[], object]


class _Enough(Exception):
    """
    Ends a reading that would never end.
    """


class FollowTests(ReadingTestCase):
    """
    Tests for L{follow}.
    """

    def follow(self, *happenings: Happening, seen: int = 0) -> list[bytes]:
        """
        The lines that are read from C{audit.jsonl} while these things happen,
        each in a pause of its own.
        """
        left = list(happenings)

        def wait(seconds: float) -> None:
            self.assertEqual(POLL_PERIOD, seconds)
            if not left:
                raise _Enough
            left.pop(0)()

        lines: list[bytes] = []
        try:
            for entry in follow(self.path / "audit.jsonl", wait, seen):
                if entry is not None:
                    lines.append(entry.line)
        except _Enough:
            pass
        return lines

    def add(
        self, lines: Sequence[bytes], ending: bytes = b"\n"
    ) -> Callable[[], object]:
        """
        What adds lines to the file.
        """

        def add() -> None:
            with (self.path / "audit.jsonl").open("ab") as file:
                file.write(b"\n".join(lines) + ending)

        return add

    def rename(self, name: str) -> Happening:
        """
        What renames the file.
        """
        return lambda: (self.path / "audit.jsonl").rename(self.path / name)

    def test_grows(self) -> None:
        """
        What is there is read, and then what is added, each line when it is
        whole.
        """
        self.add(self.lines[:2])()
        found = self.follow(
            self.add(self.lines[2:4]),
            self.add([self.lines[4][:20]], b""),
            self.add([self.lines[4][20:], self.lines[5]]),
        )
        self.assertEqual(self.lines[:6], found)

    def test_partOfLine(self) -> None:
        """
        A line that is not whole is not read.
        """
        self.add(self.lines[:2], b"")()
        self.assertEqual(self.lines[:1], self.follow(lambda: None))

    def test_numbers(self) -> None:
        """
        Lines are numbered through.
        """
        self.add(self.lines[:2])()
        found: list[Entry] = []
        for entry in follow(self.path / "audit.jsonl", lambda _: self.add([b"{}"])()):
            if entry is not None:
                found.append(entry)
            if len(found) == 5:
                break
        self.assertEqual([1, 2, 3, 4, 5], [entry.number for entry in found])

    def test_rotated(self) -> None:
        """
        It goes on in the next file, after the last lines of the former one.
        """
        self.add(self.lines[:2])()
        found = self.follow(
            self.rename("audit.jsonl.1"),
            lambda: write(self.path / "audit.jsonl.1", self.lines[:2]),
            self.add(self.lines[2:4]),
            self.add(self.lines[4:5]),
        )
        self.assertEqual(self.lines[:5], found)

    def test_lateInFormer(self) -> None:
        """
        While the new file is empty, the former one is still read.
        """
        self.add(self.lines[:2])()

        def late() -> None:
            with (self.path / "audit.jsonl.1").open("ab") as file:
                file.write(self.lines[2] + b"\n")

        found = self.follow(
            self.rename("audit.jsonl.1"),
            (self.path / "audit.jsonl").touch,
            late,
            self.add(self.lines[3:5]),
        )
        self.assertEqual(self.lines[:5], found)

    def test_severalRotations(self) -> None:
        """
        Files that come and go between two looks are read too, in order.
        """
        self.add(self.lines[:2])()

        def rotate() -> None:
            for number in range(2, 6):
                self.rename(f"audit.jsonl.{number}")()
                self.add(self.lines[number : number + 1])()

        self.assertEqual(self.lines[:6], self.follow(rotate))

    def test_rotatedBefore(self) -> None:
        """
        So are files that were renamed before the first look.
        """
        write(self.path / "audit.jsonl.1", self.lines[:2])
        write(self.path / "audit.jsonl.2", self.lines[2:4])
        self.add(self.lines[4:6])()
        self.assertEqual(self.lines[2:6], self.follow(seen=2))

    def test_otherTrail(self) -> None:
        """
        Files whose names rotation does not produce are of other trails.
        """
        write(self.path / "audit.jsonl.1", self.lines[2:4])
        for name in ("audit.jsonl-2", "audit.bak", "audit.jsonl-2.1"):
            write(self.path / name, self.lines[:4])
        self.add(self.lines[4:6])()
        self.assertEqual(self.lines[2:6], self.follow())

    def test_truncated(self) -> None:
        """
        A file that is cut back to nothing is read from its beginning again.
        """
        self.add(self.lines[:3])()

        def truncate() -> None:
            write(self.path / "audit.jsonl", self.lines[3:4])

        self.assertEqual(self.lines[:4], self.follow(truncate))

    def test_notYet(self) -> None:
        """
        A file that is not there is waited for.
        """
        self.assertEqual(self.lines[:1], self.follow(self.add(self.lines[:1])))

    def test_pauses(self) -> None:
        """
        Before each pause it is told that there is nothing more for now.
        """
        self.add(self.lines[:1])()
        entries = follow(self.path / "audit.jsonl", lambda _: None)
        self.assertIsNotNone(next(entries))
        self.assertIsNone(next(entries))
        self.assertIsNone(next(entries))


class MadeTrailTests(SynchronousTestCase):
    """
    The trails of these tests.
    """

    def test_receipt(self) -> None:
        """
        Its receipt is of its last line.
        """
        trail = MadeTrail()
        line = trail.add("x")
        self.assertEqual(f"1:{sha256(line).hexdigest()}", trail.receipt)
