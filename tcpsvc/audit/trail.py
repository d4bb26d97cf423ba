# -*- test-case-name: tests.test_audit_trail -*-

"""
The writer of the audit trail.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.audit.chain import BrokenRecord, Chain, chainAfter
from tcpsvc.interfaces import AuditUnavailable, ITrail

SYNC_POLICIES = ("everysec", "no")
"""
When records are forced to the disk: within about a second, or when the system
likes.
"""

SYNC_PERIOD = 1.0
"""
How often C{everysec} forces records to the disk, in seconds.
"""

MAX_RECORD_OCTETS = 64 * 1024 * 1024
"""
The longest last record that a start looks for, in octets.
"""

_TAIL_OCTETS = 64 * 1024

InThread = Callable[[Callable[[], None]], "Deferred[None]"]


class TrailError(Exception):
    """
    A trail cannot be opened. The message is one line for people.
    """


@implementer(ITrail)
class Trail:
    """
    One file that records are appended to, by nobody else.

    Records gather until L{commit} writes them in one write. A write that fails
    is undone: the file ends where it ended before, and so does the chain.

    @ivar path: The file.
    """

    _log = Logger(namespace="tcpsvc")

    def __init__(
        self, path: Path, sync: str, clock: IReactorTime, inThread: InThread
    ) -> None:
        """
        Open the file, or make it, and continue its chain.

        @param sync: C{everysec} or C{no}: when records are forced to the disk.
        @param inThread: Runs a blocking call beside the reactor.
        @raise TrailError: If that cannot be done.
        """
        self.path = path
        self._clock = clock
        self._inThread = inThread
        self._syncs = sync == "everysec"
        self._syncDue: IDelayedCall | None = None
        # Whether something was written since the last forcing to the disk began.
        self._unforced = False
        # Whether the file has, behind its last record, what a write has left.
        self._torn = False
        self._gathered = bytearray()
        self._descriptor = _opened(path)
        try:
            _locked(path, self._descriptor)
            self._size = os.fstat(self._descriptor).st_size
            self._chain = _chainAtEnd(path, self._descriptor, self._size)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._recorded = (self._chain.records, self._chain.head)

    @property
    def records(self) -> int:
        """
        @see: L{ITrail.records}
        """
        return self._chain.records

    @property
    def head(self) -> str:
        """
        @see: L{ITrail.head}
        """
        return self._chain.head

    def append(self, moment: float, event: str, fields: dict[str, object]) -> None:
        """
        @see: L{ITrail.append}
        """
        self._gathered += self._chain.link(moment, event, fields)
        self._gathered += b"\n"

    def commit(self) -> Deferred[None] | None:
        """
        @see: L{ITrail.commit}
        """
        if not self._gathered:
            return None
        gathered, self._gathered = self._gathered, bytearray()
        try:
            if self._torn:
                self._truncate()
            _writeAll(self._descriptor, gathered)
        except OSError as error:
            self._undo()
            raise AuditUnavailable(
                f"{self.path}: cannot be written: {error.strerror}"
            ) from None
        self._size += len(gathered)
        self._recorded = (self._chain.records, self._chain.head)
        self._unforced = True
        self._syncSoon()
        return None

    def close(self) -> None:
        """
        Force all to the disk, and let another service write the trail. What
        comes after that cannot be recorded.
        """
        if self._descriptor < 0:
            return
        if self._syncDue is not None and self._syncDue.active():
            self._syncDue.cancel()
        # The number may soon be another file's.
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if self._syncs:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _undo(self) -> None:
        """
        Take back what a failed write has left, in file and chain. If that fails
        too, it is tried again before anything else is written.
        """
        self._chain = Chain(*self._recorded)
        self._torn = True
        with suppress(OSError):
            self._truncate()

    def _truncate(self) -> None:
        """
        End the file where its last record ends.
        """
        os.ftruncate(self._descriptor, self._size)
        self._torn = False

    def _syncSoon(self) -> None:
        """
        Force what was written to the disk in a second, unless that is due.
        """
        if self._syncs and self._syncDue is None and self._descriptor >= 0:
            self._syncDue = self._clock.callLater(SYNC_PERIOD, self._sync)

    def _sync(self) -> None:
        """
        Force to the disk what was written in the last second.
        """
        descriptor = os.dup(self._descriptor)
        self._unforced = False

        def synced(result: Failure | None) -> None:
            os.close(descriptor)
            self._syncDue = None
            if result is not None:
                self._log.failure(
                    "{path}: cannot be forced to the disk", result, path=str(self.path)
                )
            if self._unforced:
                self._syncSoon()

        self._inThread(lambda: os.fdatasync(descriptor)).addBoth(synced)


def _opened(path: Path) -> int:
    """
    A descriptor that appends to a file which is nobody else's to read.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        why = "is a symbolic link" if path.is_symlink() else error.strerror
        raise TrailError(f"{path}: the audit trail cannot be opened: {why}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TrailError(f"{path}: the audit trail cannot be opened: not a file")
    return descriptor


def _locked(path: Path, descriptor: int) -> None:
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


def _chainAtEnd(path: Path, descriptor: int, size: int) -> Chain:
    """
    The chain that the file's last line ends.
    """
    if size == 0:
        return Chain()
    tail, want = b"", _TAIL_OCTETS
    while True:
        tail = os.pread(descriptor, want, max(0, size - want))
        line = tail[:-1].rpartition(b"\n")[2]
        if len(line) < len(tail) - 1 or want >= size:
            break
        if want >= MAX_RECORD_OCTETS:
            raise TrailError(f"{path}: the last line is too long to be a record")
        want *= 4
    if not tail.endswith(b"\n"):
        raise TrailError(f"{path}: the last line is not whole; move the file away")
    try:
        return chainAfter(line)
    except BrokenRecord as error:
        raise TrailError(f"{path}: the last line is no record: {error}") from None


def _writeAll(descriptor: int, octets: bytearray) -> None:
    """
    Write until nothing is left, or fail.
    """
    with memoryview(octets) as view:
        at = os.write(descriptor, view)
        while at < len(view):
            at += os.write(descriptor, view[at:])
