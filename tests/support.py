"""
What many tests use: twins in memory, and shortcuts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import SkipTest

from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import implementer

from tcpsvc.audit.chain import NOTHING_BEFORE
from tcpsvc.audit.disk import Disk, InThread
from tcpsvc.audit.trail import Trail, openTrail
from tcpsvc.events import Journal
from tcpsvc.identity import Client, Identity
from tcpsvc.interfaces import AuditUnavailable, ITrail

EPOCH = 1_800_000_000.0
"""
When the clocks of tests begin, in seconds since the epoch.
"""


def recordOf(body: str) -> tuple[float, str, dict[str, object]]:
    """
    Read back what stands in a record between C{seq} and C{prev}; it has to be one
    line of ASCII, and to begin with its time and event.

    @return: When it happened, its event's name, and the further fields.
    """
    assert body.isascii(), body
    assert "\n" not in body, body
    assert "\r" not in body, body
    fields = json.loads(f"{{{body}}}")
    assert list(fields)[:2] == ["time", "event"], body
    time = fields.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time), body
    moment = datetime.fromisoformat(time[:-1] + "+00:00").timestamp()
    return moment, fields.pop("event"), fields


@implementer(ITrail)
@define
class MemoryTrail:
    """
    A trail in memory.

    @ivar taken: The records not yet committed.
    @ivar kept: The committed ones, each as C{(moment, event, fields)}.
    @ivar commits: How many records each commit had.
    @ivar broken: Why committing fails, if it does.
    @ivar blocked: What is said of that beforehand.
    @ivar pending: If a list, commits answer with Deferreds, kept there for the
        test to fire.
    @ivar requests: The number of each session's last request, as it was said.
    """

    taken: list[tuple[float, str, dict[str, object]]] = field(factory=list)
    kept: list[tuple[float, str, dict[str, object]]] = field(factory=list)
    commits: list[int] = field(factory=list)
    broken: str = ""
    blocked: str = ""
    pending: list[Deferred[None]] | None = None
    lastBlocked: str = ""
    head: str = "0" * 64
    requests: dict[str, int] = field(factory=dict)

    @property
    def records(self) -> int:
        """How many records there are."""
        return len(self.kept) + len(self.taken)

    def append(self, moment: float, event: str, fields: dict[str, object]) -> None:
        """Take a record."""
        self.taken.append((moment, event, fields))

    def extend(self, session: str, n: int, bodies: Sequence[str]) -> None:
        """Take records of a session."""
        self.requests[session] = n
        for body in bodies:
            record = recordOf(body)
            assert record[2]["session"] == session, body
            self.taken.append(record)

    def write(self) -> None:
        """Keep what was taken, or not."""
        taken, self.taken = self.taken, []
        if self.broken:
            raise AuditUnavailable(self.broken)
        if taken:
            self.commits.append(len(taken))
        self.kept += taken

    def commit(self) -> Deferred[None] | None:
        """Keep what was taken, at once, late or not at all."""
        taken = self.taken
        self.write()
        if self.pending is None or not taken:
            return None
        waiting: Deferred[None] = Deferred()
        self.pending.append(waiting)
        return waiting

    def events(self) -> list[str]:
        """The names of the committed events, in order."""
        return [event for _, event, _ in self.kept]

    def of(self, event: str) -> list[dict[str, object]]:
        """The fields of all committed records of one event."""
        return [fields for _, name, fields in self.kept if name == event]


class BodiesTrail(MemoryTrail):
    """
    A trail that keeps what stands in the records of sessions as it was handed over.

    @ivar bodies: That.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[str] = []

    def extend(self, session: str, n: int, bodies: Sequence[str]) -> None:
        """Take records of a session."""
        self.bodies += bodies


@implementer(ILogObserver)
@define
class LogLines:
    """
    An observer that keeps what it gets.
    """

    events: list[LogEvent] = field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)

    def texts(self) -> list[str]:
        """The lines for people, in order."""
        return [formatEvent(event) for event in self.events]


def clockAtEpoch() -> Clock:
    """
    A clock that stands at L{EPOCH}.
    """
    clock = Clock()
    clock.advance(EPOCH)
    return clock


def journalInMemory(
    clock: Clock | None = None, trail: MemoryTrail | None = None
) -> tuple[Journal, MemoryTrail, LogLines]:
    """
    A journal whose trail and log are lists.
    """
    trail = MemoryTrail() if trail is None else trail
    lines = LogLines()
    return Journal(trail, clock or clockAtEpoch(), lines), trail, lines


def clientNamed(name: str = "alice", session: str = "session-1") -> Client:
    """
    A client as after admission.
    """
    return Client(Identity(name), "192.0.2.1:49152", session, EPOCH, EPOCH)


class ProducerTransport(StringTransport):
    """
    A transport that counts what is asked of it.

    @ivar aborted: Whether it was closed at once.
    """

    aborted = False

    def abortConnection(self) -> None:
        """Close at once."""
        self.aborted = True
        super().abortConnection()


def requireProgram(name: str) -> str:
    """
    The path of a program that no one here wrote.

    @raise SkipTest: If it is not installed, and this is not CI, where each
        has to be.
    """
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI"):
            raise AssertionError(f"CI has to install {name}")
        raise SkipTest(f"{name} is not installed")
    return path


@cache
def auditKey() -> Ed25519PrivateKey:
    """
    What signs the trails of this process.
    """
    return Ed25519PrivateKey.generate()


def atOnce(work: Callable[[], None]) -> Deferred[None]:
    """
    Run a blocking call here and now.
    """
    return execute(work)


def openedTrail(
    path: Path,
    clock: Clock | None = None,
    sync: str = "no",
    inThread: InThread = atOnce,
    maxOctets: int = 0,
) -> Trail:
    """
    A trail on the disk, that ends the test if the disk fails.
    """

    def die(why: str) -> None:
        raise AssertionError(f"the disk has failed: {why}")

    disk = Disk(inThread, die)
    clock = clock or clockAtEpoch()
    return openTrail(path, auditKey(), clock, disk, sync, maxOctets)[0]


def verifiedRecords(*paths: Path) -> list[dict[str, Any]]:
    """
    The records of a trail, from its first one on; each link is checked by
    SHA-256.

    @param paths: Its files, in order.
    """
    head = NOTHING_BEFORE
    records: list[dict[str, Any]] = []
    for path in paths:
        contents = path.read_bytes()
        assert contents.isascii()
        assert not contents or contents.endswith(b"\n"), f"{path} is torn"
        for line in contents.split(b"\n")[:-1]:
            record = json.loads(line)
            place = f"line {len(records) + 1} of all"
            assert record["prev"] == head, f"{place} is not linked"
            assert record["seq"] == len(records) + 1, f"{place} is not the next"
            head = sha256(line).hexdigest()
            records.append(record)
    return records


class Beside:
    """
    A thread beside the reactor, that works when the test lets it.

    @ivar waiting: What it has to do.
    @ivar refusing: How many times more it cannot be started.
    """

    def __init__(self) -> None:
        self.refusing = 0
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, work: Callable[[], None]) -> Deferred[None]:
        """Take work, or fail as C{deferToThread} does without threads."""
        if self.refusing:
            self.refusing -= 1
            raise RuntimeError("can't start new thread")
        done: Deferred[None] = Deferred()
        self.waiting.append((work, done))
        return done

    def work(self) -> None:
        """Do the first thing that is to be done, and tell."""
        work, done = self.waiting.pop(0)
        try:
            work()
        except Exception:
            done.errback()
        else:
            done.callback(None)

    def workAll(self) -> None:
        """Work until there is nothing to do."""
        while self.waiting:
            self.work()
