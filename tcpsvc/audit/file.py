# -*- test-case-name: tests.test_audit_file -*-

"""
The file under the trail: opened for one writer, appended to, cut back, forced
to the disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path


class TrailError(Exception):
    """
    A trail cannot be opened. The message is one line for people.
    """


class TrailInUse(TrailError):
    """
    Another process writes the trail.
    """


class TrailFile:
    """
    One file that this process appends to, and no other.

    @ivar path: Where it was when it was opened.
    @ivar size: How many octets of it are whole records.
    """

    _torn = False
    _named = False
    _holders = 1

    def __init__(self, path: Path) -> None:
        """
        Open the file, or make it, so that only its owner can read it.

        @raise TrailError: If that cannot be done, or another process has it.
        """
        self.path = path
        self._descriptor = _opened(path)
        try:
            _lock(path, self._descriptor)
            self.size = os.fstat(self._descriptor).st_size
            self._directory = _openedDirectory(path)
        except OSError as error:
            os.close(self._descriptor)
            raise TrailError(
                f"{path}: the audit trail cannot be opened: its directory: "
                f"{error.strerror}"
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, octets: bytes | bytearray) -> None:
        """
        Write whole records, or nothing.

        @raise OSError: If they could not be written. The file is then as long
            as it was before, or will be before anything else is written.
        """
        self.settle()
        try:
            with memoryview(octets) as view:
                at = os.write(self._descriptor, view)
                while at < len(view):
                    at += os.write(self._descriptor, view[at:])
        except OSError:
            self._torn = True
            with suppress(OSError):
                self.cutTo(self.size)
            raise
        self.size += len(octets)

    def settle(self) -> None:
        """
        Cut off what is left of a write that has failed, if that could not be
        done at once.

        @raise OSError: If it still cannot.
        """
        if self._torn:
            self.cutTo(self.size)

    def cutTo(self, size: int) -> None:
        """
        Cut the file off behind its first C{size} octets.
        """
        os.ftruncate(self._descriptor, size)
        self.size = size
        self._torn = False

    def read(self, at: int, octets: int) -> bytes:
        """
        Read at most C{octets} octets from the C{at}-th on.
        """
        return os.pread(self._descriptor, octets, at)

    def sync(self) -> None:
        """
        Force to the disk what was written so far; and, the first time, the
        file's name. Blocks, so a thread may call it.

        @raise OSError: If the disk has failed.
        """
        os.fdatasync(self._descriptor)
        if not self._named:
            _syncDirectory(self._directory)
            self._named = True

    def isNowhere(self) -> bool:
        """
        Whether the file has no name any more: it ends when it is closed.
        """
        return os.fstat(self._descriptor).st_nlink == 0

    def wasChanged(self) -> bool:
        """
        Whether the file is not as long as it was made here.
        """
        return not self._torn and os.fstat(self._descriptor).st_size != self.size

    def isAt(self, path: Path) -> bool:
        """
        Whether this file is the one that lies at C{path} now.
        """
        try:
            there = path.lstat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def hold(self) -> None:
        """
        Keep the file open until it was closed once more.
        """
        self._holders += 1

    def close(self) -> None:
        """
        Let another process write the file, if nobody holds it open.
        """
        self._holders -= 1
        if not self._holders:
            try:
                os.close(self._descriptor)
            finally:
                os.close(self._directory)


def syncName(path: Path) -> None:
    """
    Force the name of a file to the disk.
    """
    descriptor = _openedDirectory(path)
    try:
        _syncDirectory(descriptor)
    finally:
        os.close(descriptor)


def _openedDirectory(path: Path) -> int:
    """
    A descriptor of the directory that a file is in.
    """
    return os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _syncDirectory(descriptor: int) -> None:
    """
    Force the names in a directory to the disk, as far as its file system can.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def _opened(path: Path) -> int:
    """
    A descriptor that appends to a file which is nobody else's to read.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    flags |= os.O_NONBLOCK  # a pipe in the file's place would keep us waiting
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        why = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise TrailError(f"{path}: the audit trail cannot be opened: {why}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TrailError(
            f"{path}: the audit trail cannot be opened: it is not a regular file"
        )
    return descriptor


def _lock(path: Path, descriptor: int) -> None:
    """
    Keep every other writer out for as long as the descriptor is open.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TrailInUse(
            f"{path}: another service writes this audit trail; name another file "
            "with --audit"
        ) from None
    except OSError as error:
        raise TrailError(
            f"{path}: the audit trail cannot be locked: {error.strerror}"
        ) from None
