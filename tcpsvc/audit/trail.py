# -*- test-case-name: tests.test_audit_trail -*-

"""
The writer of the audit trail.

It is I{open} as a rule. When a record cannot be written it is I{blocked}: it
refuses all records and tries once a second whether writing works again. When
the disk does not take what was written it is I{dead}, and so is the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from tcpsvc.audit.chain import Chain, body, bodyAt, timeOf
from tcpsvc.audit.checkpoint import RECORDS_BETWEEN, SECONDS_BETWEEN, Signer
from tcpsvc.audit.disk import Disk
from tcpsvc.audit.file import TrailError, TrailFile
from tcpsvc.audit.recovery import Ending, recover
from tcpsvc.interfaces import AuditUnavailable, ITrail
from tcpsvc.times import toCompact, toSeconds

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
How many records of strangers a blocked trail keeps to write them later.
"""

_STRANGERS = ("handshake.failed", "session.refused")
_ENDS = ("session.closed", "service.stopped")

_REQUEST = '"event":"request"'
_HEAD = 64
"""
Within so many characters a body says which event it is, and nothing else.
"""

MAX_UNSIGNED_OCTETS = 16 * 1024 * 1024
"""
A checkpoint follows this many octets of records at the latest: so what a start
reads is bounded.
"""


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
    now: Callable[[], float] | None = None,
) -> tuple[Trail, Ending]:
    """
    Open a trail, and bring its end in order after a crash.

    @param key: Signs its checkpoints.
    @param now: The wall clock, for time stamps; the same as C{clock} if L{None}.
    @return: The trail, and how it ended.
    @raise TrailError: If it is damaged, or cannot be written.
    """
    file = TrailFile(path)
    try:
        ending = recover(file, (now or clock.seconds)(), key.public_key())
    except OSError as error:
        file.close()
        raise TrailError(f"{path}: cannot be read: {error.strerror}") from None
    except BaseException:
        file.close()
        raise
    left = evolve(ending, left=dict(ending.left))
    signer = Signer.of(key)
    return Trail(file, ending, signer, clock, disk, sync, maxOctets, now), left


@implementer(ITrail)
class Trail:
    """
    One file that records are appended to, by nobody else.

    Records gather until they are written, all in one write. A write that fails
    is undone: the file ends where it ended before, and so does the chain.

    A new file is written to when all of the former is on the disk; until then
    records gather. So a power cut leaves no gap between the two.

    @ivar id: The id of the trail: a random UUID, the same in all its files and
        after each start.
    @ivar blocked: Why nothing can be recorded now; empty if it can.
    @ivar lastBlocked: From when to when that was so the last time; empty if never.
    """

    blocked = ""
    lastBlocked = ""
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
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        @param ending: How the file ends now.
        @param sync: One of L{SYNC_POLICIES}.
        @param maxOctets: Begin a new file when this one is as large; 0 is never.
        """
        self._file = file
        self._path = file.path
        self._chain = ending.chain
        self._written = (self._chain.records, self._chain.head, ending.unsigned, 0)
        self.id = ending.trail or str(uuid4())
        self._sessions = ending.left
        self._unsigned = ending.unsigned
        self._unsignedOctets = 0
        self._signer = signer
        self._clock = clock
        self._now = now or clock.seconds
        self._disk = disk
        self._sync = sync
        self._maxOctets = self._turnAt = maxOctets
        self._gathered: list[bytes] = []
        self._taken: list[Taken] = []
        self._kept: list[Taken] = []
        self._forgotten = 0
        self._timers: dict[Callable[[], None], IDelayedCall] = {}
        # How to make room for the next file, and who waits for it.
        self._turning: Callable[[], None] | None = None
        self._held: list[Deferred[None]] = []
        self._closed = False
        self._blockedSince = 0.0

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
        self._link([body(moment, event, fields)])
        self._taken.append(Taken(moment, event, fields))
        if event == "session.opened":
            self._sessions[str(fields["session"])] = 0
        elif event == "session.closed":
            self._sessions.pop(str(fields["session"]), None)
            self._sign()
        self._signIfDue()

    def extend(self, session: str, n: int, bodies: Sequence[str]) -> None:
        """
        @see: L{ITrail.extend}
        """
        rest = bodies
        while rest:
            room = max(1, RECORDS_BETWEEN - self._unsigned)
            now, rest = rest[:room], rest[room:]
            self._link(now)
            if session in self._sessions:
                # A checkpoint has the requests before it, and none behind it.
                behind = sum(_REQUEST in one[:_HEAD] for one in rest)
                self._sessions[session] = n - behind
            self._signIfDue(timeOf(now[-1]))

    def _link(self, bodies: Sequence[str]) -> None:
        """
        Add records to those that will be written.
        """
        lines = self._chain.extend(bodies)
        self._gathered.append(lines)
        self._unsigned += len(bodies)
        self._unsignedOctets += len(lines)

    def _signIfDue(self, time: str = "") -> None:
        """
        Add a checkpoint if there are records enough for one.

        @param time: The time of the last of several records, in JSON: those behind
            it are of now at the latest too.
        """
        if (
            self._unsigned >= RECORDS_BETWEEN
            or self._unsignedOctets >= MAX_UNSIGNED_OCTETS
        ):
            self._sign(time=time)

    def _sign(self, evenIfSigned: bool = False, time: str = "") -> None:
        """
        Add a checkpoint, unless the last record is one.

        @param time: Its time, in JSON, if that is not now.
        """
        if self._unsigned or evenIfSigned:
            fields = self._signer.sign(
                self._chain.records, self._chain.head, self._sessions
            )
            fields["trail"] = self.id
            made = (
                bodyAt(time, "checkpoint", fields)
                if time
                else body(self._now(), "checkpoint", fields)
            )
            self._link([made])
            self._unsigned = self._unsignedOctets = 0

    # Writing them.

    def write(self) -> None:
        """
        @see: L{ITrail.write}
        """
        if self._gathered and (self._turning is None or self.blocked):
            self._flush()

    def commit(self) -> Deferred[None] | None:
        """
        @see: L{ITrail.commit}
        """
        if self.blocked:
            self._flush()
        if not self._gathered:
            return None
        if self._turning is not None:
            held: Deferred[None] = Deferred()
            self._held.append(held)
            return held
        self._flush()
        return self._disk.force(self._file) if self._sync == "always" else None

    def _flush(self) -> None:
        """
        Write what has gathered.

        @raise AuditUnavailable: If that cannot be done.
        """
        try:
            if self.blocked:
                raise AuditUnavailable(self.blocked)
            self._put()
        except AuditUnavailable:
            self._rollBack()
            if not self._closed:
                self._later(RETRY_PERIOD, self._retry)
            raise
        if self._maxOctets and self._file.size >= self._turnAt:
            self._turnOver()

    def _put(self) -> None:
        """
        Write what has gathered to the file.

        @raise AuditUnavailable: If that cannot be done; the trail is blocked
            then.
        """
        if not self._gathered:
            return
        try:
            self._file.append(b"".join(self._gathered))
        except OSError as error:
            if not self.blocked:
                self._block(f"cannot be written: {error.strerror}")
            raise AuditUnavailable(self.blocked) from None
        self._gathered = []
        self._taken = []
        self._written = (
            self._chain.records,
            self._chain.head,
            self._unsigned,
            self._unsignedOctets,
        )
        self._later(SYNC_PERIOD, self._look)
        if self._sync != "no":
            self._later(SYNC_PERIOD, self._force)
        if self._unsigned:
            self._later(SECONDS_BETWEEN, self._signInTime)

    def _block(self, why: str) -> None:
        """
        Nothing can be recorded from now on.
        """
        self._blockedSince = self._now()
        self.blocked = f"{self._path}: {why}"
        self._log.critical("{why}; nobody is admitted", why=self.blocked)

    def _rollBack(self) -> None:
        """
        Forget what was linked and not written, and keep what happened all the
        same.
        """
        self._gathered = []
        taken, self._taken = self._taken, []
        for one in taken:
            if one.event in _ENDS:
                self._kept.append(one)
            elif one.event == "session.opened":
                self._sessions.pop(str(one.fields["session"]), None)
            elif one.event in _STRANGERS:
                if len(self._kept) < MAX_KEPT:
                    self._kept.append(one)
                else:
                    self._forgotten += 1
        records, head, self._unsigned, self._unsignedOctets = self._written
        self._chain = Chain(records, head)

    def _retry(self) -> None:
        """
        See whether a blocked trail can be written again: first comes what
        happened meanwhile. There is always something to write, as else nobody
        could tell.
        """
        if not self.blocked or self._turning is not None:
            return
        if self._file.isNowhere():
            self._later(RETRY_PERIOD, self.reopen)
            return
        self._rollBack()
        for one in self._kept:
            self._link([body(*one)])
        self._sign(evenIfSigned=True)
        try:
            self._put()
        except AuditUnavailable:
            self._rollBack()
            self._later(RETRY_PERIOD, self._retry)
            return
        self._kept.clear()
        since, until = toSeconds(self._blockedSince), toSeconds(self._now())
        self.lastBlocked = f"from {since} to {until}"
        self.blocked = ""
        self._log.info("{path}: can be written again", path=str(self._path))
        if self._forgotten:
            self._log.warn(
                "{path}: {count} records of refusals were too many to keep",
                path=str(self._path),
                count=self._forgotten,
            )
            self._forgotten = 0

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

    def _look(self) -> None:
        """
        See that the file still has a name: what is written to one that was
        removed, or replaced by an editor's copy, is lost when it is closed.
        """
        if self.blocked or self._turning is not None:
            return
        if self._file.isNowhere():
            self._block("was removed, or replaced by another file")
            self.reopen()
        elif self._file.wasChanged():
            self._log.critical(
                "{path}: somebody else has changed it; the trail goes on in a new file",
                path=str(self._path),
            )
            self._begin(self._rename)

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
        if self._closed or self._turning is not None:
            return
        if self._file.isAt(self._path):
            self._log.info("{path}: has not been renamed", path=str(self._path))
        else:
            self._begin(lambda: None)

    def _turnOver(self) -> None:
        """
        Rename the file, as it is large enough, and begin a new one. If that
        fails, it is tried again when the file has grown as much again.
        """
        self._turnAt = self._file.size + self._maxOctets
        self._begin(self._rename)

    def _rename(self) -> None:
        """
        Give the file a name that no other has, unless somebody has done so.
        """
        moment = self._now()
        while self._file.isAt(self._path):
            name = self._path.with_name(f"{self._path.name}.{toCompact(moment)}")
            if not name.exists():
                self._path.rename(name)
            moment += 1e-6

    def _begin(self, rename: Callable[[], None]) -> None:
        """
        Sign the end of the file, and force it to the disk: then comes a new one.

        @param rename: Makes room for that.
        """
        if not self.blocked:
            self._sign()
            try:
                self._put()
            except AuditUnavailable:
                self._rollBack()
                self._later(RETRY_PERIOD, self._retry)
        self._turning = rename
        if self._sync == "no":
            self._goOver()
        else:
            self._disk.force(self._file).addCallback(lambda _: self._goOver())

    def _goOver(self) -> None:
        """
        The file is on the disk: go on with a new one; or with this, if there
        cannot be one.
        """
        rename, self._turning = self._turning, None
        if rename is None:
            return
        try:
            self._file.settle()
            rename()
            new = TrailFile(self._path)
            if new.size:
                new.close()
                raise TrailError(f"{self._path}: is not empty")
        except (TrailError, OSError) as error:
            former = (
                "what was recorded in the file that was here is lost when the service "
                "stops"
                if self._file.isNowhere()
                else "the former file goes on"
            )
            self._log.error("{error}; {former}", error=str(error), former=former)
            self._goOn()
            return
        ended, self._file = self._file, new
        self._turnAt = self._maxOctets
        self._log.info("{path}: begun", path=str(self._path))
        try:
            self._goOn()
        finally:
            ended.close()

    def _goOn(self) -> None:
        """
        Write what has waited.
        """
        held, self._held = self._held, []
        self._retry()
        try:
            self._flush()
        except AuditUnavailable as error:
            for one in held:
                one.errback(error)
            return
        if self._sync == "always":
            self._disk.force(self._file).addCallback(lambda _: _fire(held))
        else:
            if self._sync != "no":
                self._disk.force(self._file)
            _fire(held)

    def close(self) -> None:
        """
        Sign the end, force all to the disk, and let another service write the
        trail. Blocks until that is done; nothing may be recorded any more.
        """
        if self._closed:
            return
        self._closed = True
        self._maxOctets = 0
        try:
            if self._turning is not None:
                if self._sync != "no":
                    self._disk.forceNow(self._file)
                self._goOver()
            self._retry()
            self._sign()
            self._flush()
            if self._sync != "no":
                self._disk.forceNow(self._file)
        except AuditUnavailable as error:
            self._log.error("{error}", error=str(error))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            self._file.close()
            self.blocked = f"{self._path}: is closed"


def _fire(waiting: list[Deferred[None]]) -> None:
    """
    Tell all that wait that it is done.
    """
    for one in waiting:
        one.callback(None)
