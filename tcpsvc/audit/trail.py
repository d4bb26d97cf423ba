# -*- test-case-name: tests.test_audit_trail -*-

"""
The writer of the audit trail.

It is I{open} as a rule. When a record cannot be written it is I{blocked}: it
refuses all records and tries once a second whether writing works again. When
the disk does not take what was written it is I{dead}, and so is the process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from tcpsvc.audit.chain import Chain
from tcpsvc.audit.checkpoint import RECORDS_BETWEEN, SECONDS_BETWEEN, Signer
from tcpsvc.audit.disk import Disk
from tcpsvc.audit.file import TrailError, TrailFile
from tcpsvc.audit.recovery import Ending, recover
from tcpsvc.interfaces import AuditUnavailable, ITrail
from tcpsvc.times import toCompact

SYNC_POLICIES = ("always", "everysec", "no")
"""
When records are forced to the disk: before anything depends on them, within
about a second, or when the system likes.
"""

SYNC_PERIOD = 1.0
"""
How often C{everysec} forces records to the disk, in seconds.
"""

RETRY_PERIOD = 1.0
"""
How often a blocked trail tries to write, in seconds.
"""

MAX_KEPT = 256
"""
How many records a blocked trail keeps to write them later: of those events that
happen all the same.
"""

_KEPT = ("handshake.failed", "session.refused", "session.closed", "service.stopped")


class Taken(NamedTuple):
    """
    A record that was taken and is not yet written.
    """

    moment: float
    event: str
    fields: dict[str, object]


def openTrail(
    path: Path,
    key: Ed25519PrivateKey,
    clock: IReactorTime,
    disk: Disk,
    sync: str,
    maxOctets: int = 0,
) -> tuple[Trail, Ending]:
    """
    Open a trail, and bring its end in order after a crash.

    @param key: Signs its checkpoints.
    @return: The trail, and how it ended.
    @raise TrailError: If it is damaged, or cannot be written.
    """
    file = TrailFile(path)
    try:
        ending = recover(file, clock.seconds(), key.public_key())
    except BaseException:
        file.close()
        raise
    left = Ending(ending.chain, dict(ending.left), ending.unsigned, ending.torn)
    return Trail(file, ending, Signer.of(key), clock, disk, sync, maxOctets), left


@implementer(ITrail)
class Trail:
    """
    One file that records are appended to, by nobody else.

    Records gather until they are written, all in one write. A write that fails
    is undone: the file ends where it ended before, and so does the chain.

    @ivar blocked: Why nothing can be recorded now; empty if it can.
    """

    blocked = ""
    _log = Logger(namespace="tcpsvc")

    def __init__(
        self,
        file: TrailFile,
        ending: Ending,
        signer: Signer,
        clock: IReactorTime,
        disk: Disk,
        sync: str,
        maxOctets: int = 0,
    ) -> None:
        """
        @param ending: How the file ends now.
        @param sync: One of L{SYNC_POLICIES}.
        @param maxOctets: Begin a new file when this one is as large; 0 is never.
        """
        self._file = file
        self._path = file.path
        self._chain = ending.chain
        self._written = (self._chain.records, self._chain.head, ending.unsigned)
        self._sessions = ending.left
        self._unsigned = ending.unsigned
        self._signer = signer
        self._clock = clock
        self._disk = disk
        self._sync = sync
        self._maxOctets = maxOctets
        self._gathered = bytearray()
        self._taken: list[Taken] = []
        self._kept: list[Taken] = []
        self._timers: dict[Callable[[], None], IDelayedCall] = {}
        self._turning = False

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

    # Taking records.

    def append(self, moment: float, event: str, fields: dict[str, object]) -> None:
        """
        @see: L{ITrail.append}
        """
        if event == "request":
            self._sessions[str(fields["session"])] = cast(int, fields["n"])
        elif event not in ("reply", "gateway.data"):
            self._taken.append(Taken(moment, event, fields))
        self._link(moment, event, fields)
        if event == "session.opened":
            self._sessions[str(fields["session"])] = 0
        elif event == "session.closed":
            self._sessions.pop(str(fields["session"]), None)
            self._sign()
        elif self._unsigned >= RECORDS_BETWEEN:
            self._sign()

    def _link(self, moment: float, event: str, fields: dict[str, object]) -> None:
        """
        Add a record to those that will be written.
        """
        self._gathered += self._chain.link(moment, event, fields)
        self._gathered += b"\n"
        self._unsigned += 1

    def _sign(self) -> None:
        """
        Add a checkpoint, unless the last record is one.
        """
        if self._unsigned:
            fields = self._signer.sign(self._chain.records, self._chain.head)
            fields["sessions"] = dict(self._sessions)
            self._link(self._clock.seconds(), "checkpoint", fields)
            self._unsigned = 0

    # Writing them.

    def write(self) -> None:
        """
        @see: L{ITrail.write}
        """
        gathered, self._gathered = self._gathered, bytearray()
        taken, self._taken = self._taken, []
        if not gathered:
            return
        try:
            if self.blocked:
                raise AuditUnavailable(self.blocked)
            self._put(gathered)
        except AuditUnavailable:
            self._rollBack()
            room = MAX_KEPT - len(self._kept)
            self._kept += [one for one in taken if one.event in _KEPT][:room]
            for one in taken:
                if one.event == "session.opened":
                    self._sessions.pop(str(one.fields["session"]), None)
            raise
        if self._maxOctets and self._file.size >= self._maxOctets:
            self._turnOver()

    def _rollBack(self) -> None:
        """
        Forget what was linked and not written.
        """
        records, head, self._unsigned = self._written
        self._chain = Chain(records, head)

    def commit(self) -> Deferred[None] | None:
        """
        @see: L{ITrail.commit}
        """
        if not self._gathered:
            return None
        self.write()
        return self._disk.force(self._file) if self._sync == "always" else None

    def _put(self, octets: bytearray) -> None:
        """
        Write records to the file.

        @raise AuditUnavailable: If that cannot be done; the trail is blocked
            then.
        """
        try:
            self._file.append(octets)
        except OSError as error:
            if not self.blocked:
                self.blocked = f"{self._path}: cannot be written: {error.strerror}"
                self._log.critical("{why}; nobody is admitted", why=self.blocked)
            self._later(RETRY_PERIOD, self._retry)
            raise AuditUnavailable(self.blocked) from None
        self._written = (self._chain.records, self._chain.head, self._unsigned)
        if self._sync != "no":
            self._later(SYNC_PERIOD, self._force)
        if self._unsigned:
            self._later(SECONDS_BETWEEN, self._signInTime)

    def _retry(self) -> None:
        """
        See whether a blocked trail can be written again: first comes what
        happened meanwhile.
        """
        self._gathered.clear()
        for one in self._kept:
            self._link(*one)
        self._sign()
        gathered, self._gathered = self._gathered, bytearray()
        try:
            self._put(gathered)
        except AuditUnavailable:
            self._rollBack()
            return
        self._kept.clear()
        self.blocked = ""
        self._log.info("{path}: can be written again", path=str(self._path))

    # What happens in time.

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        """
        Call C{act} in a while, unless that is due already.
        """
        if act not in self._timers:
            self._timers[act] = self._clock.callLater(seconds, self._due, act)

    def _due(self, act: Callable[[], None]) -> None:
        """
        It is time for C{act}.
        """
        del self._timers[act]
        act()

    def _force(self) -> None:
        """
        Force to the disk what nobody waits for.
        """
        self._disk.force(self._file)

    def _signInTime(self) -> None:
        """
        Sign what has not been signed for long enough.
        """
        self._sign()
        try:
            self.write()
        except AuditUnavailable as error:
            self._log.error("{error}", error=str(error))

    # Another file.

    def reopen(self) -> None:
        """
        Begin a new file if somebody has renamed this one.
        """
        if self._file.isAt(self._path):
            self._log.info("{path}: has not been renamed", path=str(self._path))
        else:
            self._begin()

    def _turnOver(self) -> None:
        """
        Rename the file, as it is large enough, and begin a new one.
        """
        if self._turning or not self._file.isAt(self._path):
            return
        self._turning = True
        try:
            now = toCompact(self._clock.seconds())
            self._path.rename(self._path.with_name(f"{self._path.name}.{now}"))
            self._begin()
        except OSError as error:
            self._log.error(
                "{path}: cannot be renamed: {why}",
                path=str(self._path),
                why=error.strerror,
            )
        finally:
            self._turning = False

    def _begin(self) -> None:
        """
        Sign the end of the former file, and begin a new one. If there cannot be
        one, the former goes on.
        """
        self._sign()
        try:
            self.write()
            new = TrailFile(self._path)
        except (AuditUnavailable, TrailError) as error:
            self._log.error("{error}; the former file goes on", error=str(error))
            return
        if new.size:
            new.close()
            self._log.error(
                "{path}: is not empty; the former file goes on", path=str(self._path)
            )
            return
        former, self._file = self._file, new
        if self._sync != "no":
            self._disk.force(former)
            self._disk.force(new, self._path.parent)
        former.close()
        self._log.info("{path}: begun", path=str(self._path))

    def close(self) -> None:
        """
        Sign the end, force all to the disk, and let another service write the
        trail. Blocks until that is done; nothing may be recorded any more.
        """
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._sign()
        try:
            self.write()
            if self._sync != "no":
                self._disk.forceNow(self._file)
        except AuditUnavailable as error:
            self._log.error("{error}", error=str(error))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._file.close()
