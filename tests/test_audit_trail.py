"""
Tests for L{tcpsvc.audit.trail}.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tcpsvc.audit.chain import NOTHING_BEFORE, Chain
from tcpsvc.audit.trail import SYNC_POLICIES, Trail, TrailError
from tcpsvc.interfaces import AuditUnavailable, ITrail
from tests.support import EPOCH
from tests.test_audit_chain import FIELDS


def _atOnce(work: Callable[[], None]) -> Deferred[None]:
    """
    Run a blocking call here and now.
    """
    work()
    return succeed(None)


class _Disk:
    """
    Stands between a trail and C{os.write}, and fails as it is told to.

    @ivar faults: For each write to come, how many octets of it succeed, or the
        error it fails with; when none is left all succeed.
    """

    def __init__(self) -> None:
        self.faults: list[int | OSError] = []
        self.writes = 0
        self._write = os.write

    def write(self, descriptor: int, octets: bytes | memoryview) -> int:
        """Write, or do not."""
        self.writes += 1
        fault = self.faults.pop(0) if self.faults else len(octets)
        if isinstance(fault, OSError):
            raise fault
        return self._write(descriptor, octets[:fault])


def _full() -> OSError:
    """
    What a full disk says.
    """
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _verified(path: Path) -> list[dict[str, object]]:
    """
    The records of a trail; each link is checked by SHA-256.
    """
    contents = path.read_bytes()
    assert contents.isascii()
    assert not contents or contents.endswith(b"\n")
    head, records = NOTHING_BEFORE, []
    for number, line in enumerate(contents.split(b"\n")[:-1], 1):
        record = json.loads(line)
        assert record["prev"] == head, f"line {number} is not linked"
        assert record["seq"] == number
        head = sha256(line).hexdigest()
        records.append(record)
    return records


class TrailTestCase(SynchronousTestCase):
    """
    A trail on the disk.
    """

    def setUp(self) -> None:
        """
        A new file.
        """
        self.clock = Clock()
        self.path = Path(self.mktemp())

    def open(
        self,
        sync: str = "no",
        inThread: Callable[[Callable[[], None]], Deferred[None]] = _atOnce,
    ) -> Trail:
        """
        Open the trail; it is closed at the end if it is not before.
        """
        trail = Trail(self.path, sync, self.clock, inThread)
        self.addCleanup(trail.close)
        return trail

    def assertRefused(self, *words: str) -> None:
        """
        The trail cannot be opened: one line says why, and of which file.
        """
        error = self.assertRaises(TrailError, self.open)
        for word in (str(self.path), *words):
            self.assertIn(word, str(error))
        self.assertEqual(1, len(str(error).splitlines()))


class RecordTests(TrailTestCase):
    """
    What is written.
    """

    def test_interface(self) -> None:
        """
        A L{Trail} provides L{ITrail}.
        """
        self.assertTrue(verifyObject(ITrail, self.open()))

    def test_mode(self) -> None:
        """
        A new file is nobody else's to read, whatever the umask.
        """
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.open()
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_committed(self) -> None:
        """
        Records are in the file when they are committed, and not before.
        """
        trail = self.open()
        trail.append(EPOCH, "request", {"n": 1})
        trail.append(EPOCH, "reply", {"n": 1})
        self.assertEqual(b"", self.path.read_bytes())
        self.assertIsNone(trail.commit())
        self.assertEqual(
            ["request", "reply"], [record["event"] for record in _verified(self.path)]
        )

    def test_counts(self) -> None:
        """
        The trail knows how many records it has, and the last one's hash.
        """
        trail = self.open()
        self.assertEqual((0, NOTHING_BEFORE), (trail.records, trail.head))
        for number in range(1, 4):
            trail.append(EPOCH, "e", {})
            trail.commit()
            line = self.path.read_bytes().splitlines()[-1]
            self.assertEqual(
                (number, sha256(line).hexdigest()), (trail.records, trail.head)
            )

    def test_oneWrite(self) -> None:
        """
        All records of a commit go into one write; a commit without any
        writes nothing.
        """
        disk = _Disk()
        trail = self.open()
        self.patch(os, "write", disk.write)
        for _ in range(100):
            trail.append(EPOCH, "e", {"text": "x" * 1000})
        trail.commit()
        trail.commit()
        self.assertEqual(1, disk.writes)

    @given(st.lists(st.lists(FIELDS, max_size=3), max_size=3))
    def test_anything(self, commits: list[list[dict[str, object]]]) -> None:
        """
        Whatever is in the fields, each record is one line of ASCII that reads
        back equal, linked to the one before; and a new start goes on from it.
        """
        with TemporaryDirectory() as directory:
            path = Path(directory) / "audit.jsonl"
            expected: list[dict[str, object]] = []
            for records in commits:
                trail = Trail(path, "no", self.clock, _atOnce)
                for fields in records:
                    trail.append(0.0, "e", fields)
                    expected.append(fields)
                trail.commit()
                trail.close()
            found = _verified(path) if commits else []
            for record in found:
                for name in ("seq", "time", "event", "prev"):
                    del record[name]
            self.assertEqual(expected, found)

    def test_surrogates(self) -> None:
        """
        Text that UTF-8 cannot say is recorded all the same.
        """
        trail = self.open()
        trail.append(EPOCH, "reply", {"reply": "200 \ud800"})
        trail.append(EPOCH, "reply", {"reply": "after"})
        trail.commit()
        self.assertEqual(
            ["200 \ud800", "after"], [r["reply"] for r in _verified(self.path)]
        )

    def test_impossible(self) -> None:
        """
        A record that cannot be made leaves no gap in the chain.
        """
        trail = self.open()
        trail.append(EPOCH, "e", {})
        self.assertRaises(TypeError, trail.append, EPOCH, "e", {"x": object()})
        trail.append(EPOCH, "e", {})
        trail.commit()
        self.assertEqual(2, len(_verified(self.path)))


class FailureTests(TrailTestCase):
    """
    Writes that fail.
    """

    def setUp(self) -> None:
        """
        A trail of one record, and a disk that fails on request.
        """
        super().setUp()
        self.trail = self.open()
        self.trail.append(EPOCH, "first", {})
        self.trail.commit()
        self.disk = _Disk()
        self.patch(os, "write", self.disk.write)

    def assertUndone(self, words: str = "No space left on device") -> None:
        """
        The commit that comes fails and leaves no trace, in file and chain; the
        next one goes well.
        """
        before = self.path.read_bytes(), self.trail.records, self.trail.head
        self.trail.append(EPOCH, "lost", {"text": "x" * 500})
        self.trail.append(EPOCH, "lost", {})
        error = self.assertRaises(AuditUnavailable, self.trail.commit)
        self.assertEqual(f"{self.path}: cannot be written: {words}", str(error))
        self.assertEqual(
            before, (self.path.read_bytes(), self.trail.records, self.trail.head)
        )
        self.assertIsNone(self.trail.commit())
        self.assertEqual(before[0], self.path.read_bytes(), "lost records came back")
        self.trail.append(EPOCH, "next", {})
        self.assertIsNone(self.trail.commit())
        self.assertEqual(
            ["first", "next"], [record["event"] for record in _verified(self.path)]
        )

    def test_failed(self) -> None:
        """
        A write that fails is undone.
        """
        self.disk.faults = [_full()]
        self.assertUndone()

    def test_partial(self) -> None:
        """
        A write that fails in the middle of a record is undone.
        """
        self.disk.faults = [50, 51, _full()]
        self.assertUndone()

    def test_between(self) -> None:
        """
        A write that fails between two records is undone for both.
        """
        self.disk.faults = [len(_lineOf("x" * 500)) + 1, _full()]
        self.assertUndone()

    def test_otherError(self) -> None:
        """
        The message says what the system said.
        """
        self.disk.faults = [OSError(errno.EIO, os.strerror(errno.EIO))]
        self.assertUndone("Input/output error")

    def test_again(self) -> None:
        """
        It can fail any number of times.
        """
        for _ in range(3):
            self.disk.faults = [7, _full()]
            self.trail.append(EPOCH, "lost", {})
            self.assertRaises(AuditUnavailable, self.trail.commit)
        self.assertUndoneNot()

    def assertUndoneNot(self) -> None:
        """
        The next commit goes well.
        """
        self.trail.append(EPOCH, "next", {})
        self.trail.commit()
        self.assertEqual(2, len(_verified(self.path)))

    def test_short(self) -> None:
        """
        A write that takes only a part is gone on with.
        """
        self.disk.faults = [1, 2, 3]
        self.trail.append(EPOCH, "next", {})
        self.assertIsNone(self.trail.commit())
        self.assertEqual(4, self.disk.writes)
        self.assertEqual(2, len(_verified(self.path)))

    def test_cannotBeUndone(self) -> None:
        """
        If what a failed write left cannot be taken back either, nothing is
        recorded behind it until it can: the chain stays whole.
        """
        truncate = os.ftruncate

        def broken(descriptor: int, length: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), descriptor, length)

        self.disk.faults = [50, _full()]
        undo = self.patch(os, "ftruncate", broken)
        self.trail.append(EPOCH, "lost", {})
        self.assertRaises(AuditUnavailable, self.trail.commit)
        self.trail.append(EPOCH, "lost", {})
        self.assertRaises(AuditUnavailable, self.trail.commit)
        undo.restore()
        self.assertIs(truncate, os.ftruncate)
        self.trail.append(EPOCH, "next", {})
        self.trail.commit()
        self.assertEqual(
            ["first", "next"], [record["event"] for record in _verified(self.path)]
        )

    def test_closed(self) -> None:
        """
        After the trail was closed nothing can be recorded, and its descriptor,
        which may be another file's by then, is not written to.
        """
        self.trail.close()
        other = Path(self.mktemp())
        with other.open("wb"):
            self.trail.append(EPOCH, "late", {})
            self.assertRaises(AuditUnavailable, self.trail.commit)
            self.trail.close()
        self.assertEqual(b"", other.read_bytes())
        self.assertEqual(1, len(_verified(self.path)))


def _lineOf(text: str) -> bytes:
    """
    As long a line as the second record of a trail with this text.
    """
    chain = Chain()
    chain.link(EPOCH, "first", {})
    return chain.link(EPOCH, "lost", {"text": text})


class SyncTests(TrailTestCase):
    """
    When records are forced to the disk.
    """

    def setUp(self) -> None:
        """
        Count what is forced.
        """
        super().setUp()
        self.synced: list[int] = []
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.patch(os, "fdatasync", self.synced.append)

    def later(self, work: Callable[[], None]) -> Deferred[None]:
        """
        Run a blocking call when the test lets it.
        """
        done: Deferred[None] = Deferred()
        self.waiting.append((work, done))
        return done

    def write(self, trail: Trail) -> None:
        """
        Record something.
        """
        trail.append(EPOCH, "e", {})
        trail.commit()

    def test_policies(self) -> None:
        """
        There are the contract's policies.
        """
        self.assertEqual({"everysec", "no"}, set(SYNC_POLICIES) - {"always"})

    def test_everysec(self) -> None:
        """
        C{everysec} forces records to the disk once, a second after the first
        of them; and not again while nothing is written.
        """
        trail = self.open("everysec")
        self.clock.advance(5)
        self.assertEqual([], self.synced)
        self.write(trail)
        self.clock.advance(0.9)
        self.write(trail)
        self.assertEqual([], self.synced)
        self.clock.advance(0.1)
        self.assertEqual(1, len(self.synced))
        self.clock.advance(10)
        self.assertEqual(1, len(self.synced))
        self.write(trail)
        self.clock.advance(1)
        self.assertEqual(2, len(self.synced))

    def test_inThread(self) -> None:
        """
        It never blocks the reactor: the work is done beside it. What is
        written meanwhile is forced in its turn.
        """
        trail = self.open("everysec", self.later)
        self.write(trail)
        self.clock.advance(1)
        self.assertEqual([], self.synced)
        [(work, done)] = self.waiting
        self.write(trail)
        work()
        done.callback(None)
        self.assertEqual(1, len(self.synced))
        self.clock.advance(1)
        self.assertEqual(2, len(self.waiting), "the later record was forgotten")
        self.waiting[1][1].callback(None)

    def test_no(self) -> None:
        """
        C{no} forces nothing, not even at the end.
        """
        trail = self.open("no")
        self.write(trail)
        self.assertEqual([], self.clock.getDelayedCalls())
        trail.close()
        self.assertEqual([], self.synced)

    def test_close(self) -> None:
        """
        Closing forces all to the disk, and leaves no timer.
        """
        trail = self.open("everysec")
        self.write(trail)
        trail.close()
        self.assertEqual(1, len(self.synced))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_closeInTheMiddle(self) -> None:
        """
        A trail may be closed while records are being forced to the disk.
        """
        trail = self.open("everysec", self.later)
        self.write(trail)
        self.clock.advance(1)
        trail.close()
        [(work, done)] = self.waiting
        work()
        done.callback(None)
        self.assertEqual(2, len(self.synced))

    def test_descriptors(self) -> None:
        """
        No descriptor is left behind.
        """
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        trail = Trail(self.path, "everysec", self.clock, _atOnce)
        for _ in range(5):
            self.write(trail)
            self.clock.advance(1)
        trail.close()
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))  # noqa: PTH208


class OpenTests(TrailTestCase):
    """
    What trails can be opened.
    """

    def test_continues(self) -> None:
        """
        A trail that is there is gone on with, in one chain.
        """
        for number in range(3):
            trail = self.open()
            self.assertEqual(number, trail.records)
            trail.append(EPOCH, "e", {"text": "ß" * number})
            trail.commit()
            trail.close()
        self.assertEqual(3, len(_verified(self.path)))

    def test_longRecord(self) -> None:
        """
        The last record is found however long it is.
        """
        for size in (65_000, 66_000, 300_000, 3_000_000):
            trail = self.open()
            trail.append(EPOCH, "e", {"text": "x" * size})
            trail.commit()
            trail.close()
        self.open()
        self.assertEqual(4, len(_verified(self.path)))

    def test_tailBoundary(self) -> None:
        """
        The last record is found wherever it lies in what is read of the file.
        """
        for size in range(65_536 - 180, 65_536 - 150):
            self.path.unlink(missing_ok=True)
            for text in ("a", "x" * size):
                trail = self.open()
                trail.append(EPOCH, "e", {"text": text})
                trail.commit()
                trail.close()
            trail = self.open()
            self.assertEqual(2, trail.records)
            trail.close()

    def test_damaged(self) -> None:
        """
        A last line that is no record is refused.
        """
        for contents, words in (
            (b'{"seq":1}\nrubbish\n', "not JSON"),
            (b'{"seq":1}\n{"seq":"2"}\n', "no sequence number"),
            (b'{"seq":1}\n\n', "not JSON"),
            (b"\n", "not JSON"),
            (b'{"seq":1}\n\xff\n', "not JSON"),
        ):
            self.path.write_bytes(contents)
            self.assertRefused("last line", words)
            self.assertEqual(contents, self.path.read_bytes())

    def test_second(self) -> None:
        """
        A trail that is being written is refused to another, until it is closed.
        """
        first = self.open()
        self.assertRefused("another service writes", "--audit")
        first.close()
        self.open()

    def test_secondProcess(self) -> None:
        """
        It is refused to another process too, and free when that has ended in
        whatever way.
        """
        program = (
            "import sys; from pathlib import Path; "
            "from twisted.internet.task import Clock; "
            "from tcpsvc.audit.trail import Trail; "
            "t = Trail(Path(sys.argv[1]), 'no', Clock(), None); "
            "print('open', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as other:
            assert other.stdout is not None
            self.assertEqual(b"open\n", other.stdout.readline())
            self.assertRefused("another service writes")
            other.kill()
        self.open()

    def test_symbolicLink(self) -> None:
        """
        A symbolic link is not followed, to a file that is there or not.
        """
        target = Path(self.mktemp())
        self.path.symlink_to(target.absolute())
        self.assertRefused("symbolic link")
        self.assertFalse(target.exists())
        target.write_bytes(b"")
        self.assertRefused("symbolic link")

    def test_notAFile(self) -> None:
        """
        A directory or a pipe is refused.
        """
        self.path.mkdir()
        self.assertRefused("directory")
        self.path.rmdir()
        os.mkfifo(self.path)
        self.assertRefused("not a file")

    def test_nowhere(self) -> None:
        """
        A file in a directory that is not there is refused.
        """
        self.path = self.path / "audit.jsonl"
        self.assertRefused("No such file or directory")

    def test_nothingLeftOpen(self) -> None:
        """
        A trail that was refused leaves no descriptor, and no lock.
        """
        self.path.write_bytes(b"rubbish\n")
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        self.assertRefused()
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        self.path.write_bytes(b"")
        self.open()
