# -*- test-case-name: tests.test_audit_file -*-

"""
The file under the trail: opened for one writer, appended to, cut back.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path


class TrailError(Exception):
    """
    A trail cannot be opened. The message is one line for people.
    """


class TrailFile:
    """
    One file that this process appends to, and no other.

    @ivar path: Where it was when it was opened.
    @ivar size: How many octets of it are whole records.
    """

    def __init__(self, path: Path) -> None:
        """
        Open the file, or make it, so that only its owner can read it.

        @raise TrailError: If that cannot be done, or another process has it.
        """
        self.path = path
        self.descriptor = _opened(path)
        try:
            _lock(path, self.descriptor)
            self.size = os.fstat(self.descriptor).st_size
            self._torn = False
        except BaseException:
            os.close(self.descriptor)
            raise

    def append(self, octets: bytes | bytearray) -> None:
        """
        Write whole records, or nothing.

        @raise OSError: If they could not be written. The file is then as long
            as it was before, or will be before anything else is written.
        """
        if self._torn:
            self.cutTo(self.size)
        try:
            with memoryview(octets) as view:
                at = os.write(self.descriptor, view)
                while at < len(view):
                    at += os.write(self.descriptor, view[at:])
        except OSError:
            self._torn = True
            with suppress(OSError):
                self.cutTo(self.size)
            raise
        self.size += len(octets)

    def cutTo(self, size: int) -> None:
        """
        Cut the file off behind its first C{size} octets.
        """
        os.ftruncate(self.descriptor, size)
        self.size = size
        self._torn = False

    def read(self, at: int, octets: int) -> bytes:
        """
        Read at most C{octets} octets from the C{at}-th on.
        """
        return os.pread(self.descriptor, octets, at)

    def isAt(self, path: Path) -> bool:
        """
        Whether this file is the one that lies at C{path} now.
        """
        try:
            there = path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self.descriptor))

    def twin(self) -> int:
        """
        @return: Another descriptor of the file, which a thread may use and has
            to close, whatever becomes of this one.
        """
        return os.dup(self.descriptor)

    def close(self) -> None:
        """
        Let another process write the file.
        """
        os.close(self.descriptor)


def syncDirectory(path: Path) -> None:
    """
    Force the names in a directory to the disk.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        raise TrailError(
            f"{path}: another service writes this audit trail; name another file "
            "with --audit"
        ) from None
    except OSError as error:
        raise TrailError(
            f"{path}: the audit trail cannot be locked: {error.strerror}"
        ) from None
