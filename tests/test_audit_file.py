"""
Tests for L{tcpsvc.audit.file}.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.file import TrailError, TrailFile, TrailInUse, syncName


def failing(number: int) -> Callable[..., int]:
    """
    A system call that always fails.
    """

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def descriptors() -> int:
    """
    How many this process has open.
    """
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


class FileTestCase(SynchronousTestCase):
    """
    A file in a directory of its own.
    """

    def setUp(self) -> None:
        """
        Make the directory.
        """
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "audit.jsonl"

    def open(self) -> TrailFile:
        """
        Open the file; it is closed at the end.
        """
        file = TrailFile(self.path)
        self.addCleanup(self.closeAll, file)
        return file

    def closeAll(self, file: TrailFile) -> None:
        """
        Close a file, if it is not.
        """
        while file._holders > 0:
            file.close()


class OpenTests(FileTestCase):
    """
    How a file is opened.
    """

    def assertRefused(self, *words: str) -> TrailError:
        """
        The file cannot be opened: one line says why, and of which file. No
        descriptor is left.
        """
        before = descriptors()
        error = self.assertRaises(TrailError, TrailFile, self.path)
        self.assertEqual(before, descriptors())
        for word in (str(self.path), *words):
            self.assertIn(word, str(error))
        self.assertEqual(1, len(str(error).splitlines()))
        assert isinstance(error, TrailError)
        return error

    def test_mode(self) -> None:
        """
        A new file is nobody else's to read, whatever the umask.
        """
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.open()
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_existing(self) -> None:
        """
        A file that is there is gone on with, in the mode that somebody gave it.
        """
        self.path.write_bytes(b"one\n")
        self.path.chmod(0o640)
        file = self.open()
        self.assertEqual(4, file.size)
        file.append(b"two\n")
        self.assertEqual(b"one\ntwo\n", self.path.read_bytes())
        self.assertEqual(0o640, stat.S_IMODE(self.path.stat().st_mode))

    def test_second(self) -> None:
        """
        A file that is being written is refused to another, until it is closed.
        """
        first = self.open()
        error = self.assertRefused("another service writes", "--audit")
        self.assertIsInstance(error, TrailInUse)
        first.close()
        self.open()

    def test_secondProcess(self) -> None:
        """
        It is refused to another process too, and free when that has ended in
        whatever way.
        """
        program = (
            "import sys; from pathlib import Path; "
            "from tcpsvc.audit.file import TrailFile; "
            "t = TrailFile(Path(sys.argv[1])); "
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

    def test_notInherited(self) -> None:
        """
        A program that a command starts inherits neither descriptor nor lock,
        even if it takes all that can be inherited.
        """
        file = self.open()
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; print(1, flush=True); sys.stdin.read()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            file.close()
            self.open()
            child.kill()

    def test_symbolicLink(self) -> None:
        """
        A symbolic link is not followed, to a file that is there or not.
        """
        target = self.directory / "target"
        self.path.symlink_to(target.absolute())
        self.assertRefused("symbolic link")
        self.assertFalse(target.exists())
        target.write_bytes(b"")
        self.assertRefused("symbolic link")

    def test_notAFile(self) -> None:
        """
        A directory or a pipe is refused, and not waited for.
        """
        self.path.mkdir()
        self.assertRefused("directory")
        self.path.rmdir()
        os.mkfifo(self.path)
        self.assertRefused("not a regular file")

    def test_nowhere(self) -> None:
        """
        A file in a directory that is not there is refused.
        """
        self.path = self.path / "audit.jsonl"
        self.assertRefused("No such file or directory")

    def test_directoryUnreadable(self) -> None:
        """
        A directory that cannot be opened, so that the file's name could never be
        forced to the disk, is refused.
        """
        real = os.open

        def opened(path: Path, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_DIRECTORY:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return real(path, flags, mode)

        self.patch(os, "open", opened)
        self.assertRefused("directory", "Permission denied")

    def test_lockFails(self) -> None:
        """
        A file system without locks is refused.
        """
        self.patch(fcntl, "flock", failing(errno.ENOLCK))
        self.assertRefused("cannot be locked", os.strerror(errno.ENOLCK))


class AppendTests(FileTestCase):
    """
    Whole records, or nothing.
    """

    def setUp(self) -> None:
        """
        A file with something in it, and writes that can fail.
        """
        super().setUp()
        self.faults: list[int] = []
        self.file = self.open()
        self.file.append(b"first\n")
        self._write = os.write
        self.patch(os, "write", self.write)

    def write(self, descriptor: int, octets: bytes | memoryview) -> int:
        """
        Write; a positive fault is how many octets are taken, a negative one the
        error.
        """
        fault = self.faults.pop(0) if self.faults else len(octets)
        if fault < 0:
            raise OSError(-fault, os.strerror(-fault))
        return self._write(descriptor, octets[:fault])

    def assertContents(self, octets: bytes) -> None:
        """
        The file has this and knows its size.
        """
        self.assertEqual(octets, self.path.read_bytes())
        self.assertEqual(len(octets), self.file.size)

    def test_short(self) -> None:
        """
        A write that takes only a part is gone on with.
        """
        self.faults = [1, 2, 3]
        self.file.append(b"second\n")
        self.assertContents(b"first\nsecond\n")

    def test_undone(self) -> None:
        """
        A write that fails, at once or behind any octet, leaves nothing; the next
        one stands behind what was there.
        """
        for number in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG):
            for octets in range(7):
                self.faults = [octets, -number] if octets else [-number]
                error = self.assertRaises(OSError, self.file.append, b"second\n")
                self.assertEqual(number, error.errno)
                self.assertContents(b"first\n")
        self.file.append(bytearray(b"third\n"))
        self.assertContents(b"first\nthird\n")

    def test_cannotBeUndone(self) -> None:
        """
        If what a failed write left cannot be taken back either, nothing is
        written behind it until it can: there is never anything torn before a
        record.
        """
        self.faults = [3, -errno.ENOSPC]
        broken = self.patch(os, "ftruncate", failing(errno.EIO))
        self.assertRaises(OSError, self.file.append, b"second\n")
        self.assertEqual(b"first\nsec", self.path.read_bytes())
        self.assertRaises(OSError, self.file.append, b"third\n")
        self.assertRaises(OSError, self.file.settle)
        self.assertEqual(b"first\nsec", self.path.read_bytes())
        broken.restore()
        self.file.append(b"fourth\n")
        self.assertContents(b"first\nfourth\n")

    def test_read(self) -> None:
        """
        What was written can be read from any place.
        """
        self.assertEqual(b"st\n", self.file.read(3, 9))
        self.file.cutTo(2)
        self.assertContents(b"fi")


class DiskTests(FileTestCase):
    """
    What is forced to the disk, and when the file is closed.
    """

    def setUp(self) -> None:
        """
        Keep what is forced: C{f} for the file, C{d} for its directory.
        """
        super().setUp()
        self.forced = ""
        self.patch(os, "fdatasync", self.fdatasync)
        self.patch(os, "fsync", self.fsync)

    def fdatasync(self, descriptor: int) -> None:
        """Force a file."""
        self.assertTrue(os.path.samestat(self.path.stat(), os.fstat(descriptor)))
        self.forced += "f"

    def fsync(self, descriptor: int) -> None:
        """Force a directory."""
        self.assertTrue(os.path.samestat(self.directory.stat(), os.fstat(descriptor)))
        self.forced += "d"

    def test_nameOnce(self) -> None:
        """
        A file is forced each time; its name once, behind the first: without a
        name, what is in it would be lost with the machine.
        """
        file = self.open()
        file.sync()
        self.assertEqual("fd", self.forced)
        file.sync()
        self.assertEqual("fdf", self.forced)

    def test_nameFails(self) -> None:
        """
        A name that cannot be forced is an error; but that its file system has no
        such call is none.
        """
        file = self.open()
        broken = self.patch(os, "fsync", failing(errno.EIO))
        self.assertRaises(OSError, file.sync)
        broken.restore()
        self.patch(os, "fsync", failing(errno.EINVAL))
        file.sync()

    def test_syncName(self) -> None:
        """
        The name of a file that is none of ours can be forced too.
        """
        before = descriptors()
        syncName(self.path)
        self.assertEqual("d", self.forced)
        self.assertEqual(before, descriptors())

    def test_hold(self) -> None:
        """
        A file that is held open stays open until it was closed as often as it
        was held; then nothing of it is left, and another may write it.
        """
        before = descriptors()
        file = self.open()
        file.hold()
        file.close()
        file.sync()
        self.assertRaises(TrailInUse, TrailFile, self.path)
        file.close()
        self.assertEqual(before, descriptors())
        self.open()

    def test_isAt(self) -> None:
        """
        A file knows whether it is the one with a name: not if it was renamed,
        and not if another is there.
        """
        file = self.open()
        self.assertTrue(file.isAt(self.path))
        other = self.directory / "other"
        self.path.rename(other)
        self.assertFalse(file.isAt(self.path))
        self.assertTrue(file.isAt(other))
        self.path.touch()
        self.assertFalse(file.isAt(self.path))
        self.assertFalse(file.isAt(self.path / "below"))
