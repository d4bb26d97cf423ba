"""
Tests for L{tcpsvc.audit.disk}.
"""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.disk import Disk
from tcpsvc.audit.file import TrailFile
from tests.support import Beside, LogLines, atOnce


class DiskTests(SynchronousTestCase):
    """
    Files, and a disk that keeps what it is asked.
    """

    def setUp(self) -> None:
        """
        Two files.
        """
        self.synced: list[str] = []
        self.error: OSError | None = None
        self.deaths: list[str] = []
        self.patch(os, "fdatasync", self.fdatasync)
        self.patch(os, "fsync", lambda descriptor: None)
        self.beside = Beside()
        self.disk = Disk(self.beside, self.deaths.append)
        self.files = [self.open("one"), self.open("two")]

    def open(self, name: str) -> TrailFile:
        """
        Open a file.
        """
        path = Path(self.mktemp())
        path.mkdir()
        file = TrailFile(path / name)
        self.addCleanup(file.close)
        return file

    def fdatasync(self, descriptor: int) -> None:
        """Force a file to the disk."""
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name  # noqa: PTH115
        self.synced.append(name)
        if self.error is not None:
            raise self.error

    def force(self, number: int = 0) -> Deferred[None]:
        """
        Force one of the files.
        """
        return self.disk.force(self.files[number])

    def test_beside(self) -> None:
        """
        The reactor is not blocked: nothing is asked of the disk but beside it,
        and whoever waits is told when that is done.
        """
        done = self.force()
        self.assertEqual([], self.synced)
        self.assertNoResult(done)
        self.beside.work()
        self.assertEqual(["one"], self.synced)
        self.assertIsNone(self.successResultOf(done))

    def test_group(self) -> None:
        """
        All that come while the disk is busy are served by one C{fdatasync} that
        begins afterwards; none by that which had begun already.
        """
        first = self.force()
        others = [self.force() for _ in range(100)]
        self.assertEqual(1, len(self.beside.waiting))
        self.beside.work()
        self.assertIsNone(self.successResultOf(first))
        for one in others:
            self.assertNoResult(one)
        self.assertEqual(1, len(self.beside.waiting))
        self.beside.work()
        for one in others:
            self.assertIsNone(self.successResultOf(one))
        self.assertEqual(["one", "one"], self.synced)
        self.assertEqual([], self.beside.waiting)

    def test_again(self) -> None:
        """
        Whoever asks again when it is told gets the next one.
        """
        told: list[Deferred[None]] = []
        self.force().addCallback(lambda _: told.append(self.force()))
        self.beside.work()
        self.assertNoResult(told[0])
        self.beside.work()
        self.assertIsNone(self.successResultOf(told[0]))

    def test_atOnce(self) -> None:
        """
        Work that is done at once is told at once, again and again.
        """
        self.disk = Disk(atOnce, self.deaths.append)
        for _ in range(3):
            self.assertIsNone(self.successResultOf(self.force()))

    def test_twoFiles(self) -> None:
        """
        Of two files, that is forced first which was to be first.
        """
        busy = self.force()
        both = [self.force(1), self.force(0), self.force(1)]
        self.beside.work()
        self.beside.work()
        self.assertEqual(["one", "two", "one"], self.synced)
        for one in (busy, *both):
            self.assertIsNone(self.successResultOf(one))

    def test_cancelled(self) -> None:
        """
        Whoever no longer waits harms nobody else.
        """
        busy = self.force()
        waiting = [self.force() for _ in range(3)]
        for one in (busy, waiting[1]):
            one.cancel()
            self.failureResultOf(one, CancelledError)
        self.beside.workAll()
        self.assertIsNone(self.successResultOf(waiting[0]))
        self.assertIsNone(self.successResultOf(waiting[2]))

    def test_closedMeanwhile(self) -> None:
        """
        A file that is closed while it waits is forced all the same, and closed
        afterwards.
        """
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        file = TrailFile(Path(self.mktemp()))
        busy, done = self.force(), self.disk.force(file)
        file.close()
        self.beside.workAll()
        self.assertIsNone(self.successResultOf(busy))
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(2, len(self.synced))
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))  # noqa: PTH208

    def test_noDescriptors(self) -> None:
        """
        It needs no further descriptor, of which strangers can take the last.
        """
        for name in ("open", "dup"):
            self.patch(os, name, None)
        done = self.force()
        self.beside.work()
        self.assertIsNone(self.successResultOf(done))

    def test_failed(self) -> None:
        """
        When the disk fails, that is the end: it is told once, nobody who waits
        is ever told that it was done, and the disk is never asked again: a later
        call may succeed although the data is lost.
        """
        self.error = OSError(errno.EIO, os.strerror(errno.EIO))
        waiting = [self.force(), self.force(), self.force(1)]
        self.beside.work()
        self.assertEqual(["Input/output error"], self.deaths)
        self.error = None
        waiting.append(self.force())
        self.disk.forceNow(self.files[1])
        self.assertEqual([], self.beside.waiting)
        self.assertEqual(["one"], self.synced)
        for one in waiting:
            self.assertNoResult(one)
        self.assertEqual(1, len(self.deaths))

    def test_nameFailed(self) -> None:
        """
        The same holds if it was the file's name that could not be forced.
        """

        def fail(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.patch(os, "fsync", fail)
        done = self.force()
        self.beside.work()
        self.assertEqual(["Input/output error"], self.deaths)
        self.assertNoResult(done)

    def test_now(self) -> None:
        """
        At the end it may be waited for.
        """
        self.disk.forceNow(self.files[0])
        self.assertEqual(["one"], self.synced)
        self.assertEqual([], self.deaths)

    def test_nowFailed(self) -> None:
        """
        If it fails then, what is under way is told to nobody either, whether it
        fails too or not.
        """
        for again in (None, OSError(errno.EIO, os.strerror(errno.EIO))):
            self.setUp()
            busy = self.force()
            self.error = OSError(errno.EIO, os.strerror(errno.EIO))
            self.disk.forceNow(self.files[0])
            self.error = again
            self.beside.work()
            self.assertEqual(["Input/output error"], self.deaths)
            self.assertNoResult(busy)

    def test_noThread(self) -> None:
        """
        If no thread can be started, the file is forced to the disk all the same,
        and who waits is told when it is there, not before. The next call gets a
        thread again. The log says so once, until a thread was had.
        """
        lines = LogLines()
        self.patch(Disk, "_log", Logger(namespace="tcpsvc", observer=lines))
        for _ in range(2):
            self.beside.refusing = 2
            for number in (0, 1):
                self.synced.clear()
                self.assertIsNone(self.successResultOf(self.force(number)))
                self.assertEqual([("one", "two")[number]], self.synced)
            last = self.force()
            self.assertNoResult(last)
            self.beside.work()
            self.assertIsNone(self.successResultOf(last))
        said = [text for text in lines.texts() if "cannot start a thread" in text]
        self.assertEqual(2, len(said))
        self.assertIn("can't start new thread", said[0])
        self.assertEqual([], self.deaths)

    def test_noThreadThen(self) -> None:
        """
        So it is with what has come while a thread was at work: all that wait are
        told, and no descriptor is left open.
        """
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        file = TrailFile(Path(self.mktemp()))
        waiting = [self.force(), self.disk.force(file), self.force(1)]
        file.close()
        self.beside.refusing = 1
        self.beside.workAll()
        for one in waiting:
            self.assertIsNone(self.successResultOf(one))
        self.assertEqual(3, len(self.synced))
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))  # noqa: PTH208

    def test_noThreadLater(self) -> None:
        """
        So it is if that no thread can be started shows only later.
        """
        starting: Deferred[None] = Deferred()
        self.disk = Disk(lambda work: starting, self.deaths.append)
        done = self.force()
        self.assertNoResult(done)
        starting.errback(RuntimeError("can't start new thread"))
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual((["one"], []), (self.synced, self.deaths))

    def test_noThreadFailed(self) -> None:
        """
        A disk that fails then is as fatal as in a thread.
        """
        self.beside.refusing = 1
        self.error = OSError(errno.EIO, os.strerror(errno.EIO))
        done = self.force()
        self.assertEqual(["Input/output error"], self.deaths)
        self.assertNoResult(done)

    def test_closeFailed(self) -> None:
        """
        A file that cannot be closed delays nothing: those who wait are told, the
        disk is asked again, and the error is reported.
        """
        real = os.close

        def fail(descriptor: int) -> None:
            real(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        file = TrailFile(Path(self.mktemp()))
        waiting = [self.disk.force(file), self.force()]
        file.close()
        broken = self.patch(os, "close", fail)
        self.beside.work()
        broken.restore()
        self.beside.work()
        for one in waiting:
            self.assertIsNone(self.successResultOf(one))
        gc.collect()
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))
