"""
What many tests use: twins in memory, and shortcuts.
"""

from __future__ import annotations

import os
import shutil
from unittest import SkipTest

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import implementer

from tcpsvc.events import Journal
from tcpsvc.identity import Client, Identity
from tcpsvc.interfaces import AuditUnavailable, ITrail

EPOCH = 1_800_000_000.0
"""
When the clocks of tests begin, in seconds since the epoch.
"""


@implementer(ITrail)
@define
class MemoryTrail:
    """
    A trail in memory.

    @ivar taken: The records not yet committed.
    @ivar kept: The committed ones, each as C{(moment, event, fields)}.
    @ivar commits: How many records each commit had.
    @ivar broken: Why committing fails, if it does.
    @ivar pending: If a list, commits answer with Deferreds, kept there for the
        test to fire.
    """

    taken: list[tuple[float, str, dict[str, object]]] = field(factory=list)
    kept: list[tuple[float, str, dict[str, object]]] = field(factory=list)
    commits: list[int] = field(factory=list)
    broken: str = ""
    pending: list[Deferred[None]] | None = None
    head: str = "0" * 64

    @property
    def records(self) -> int:
        """How many records there are."""
        return len(self.kept) + len(self.taken)

    def append(self, moment: float, event: str, fields: dict[str, object]) -> None:
        """Take a record."""
        self.taken.append((moment, event, fields))

    def commit(self) -> Deferred[None] | None:
        """Keep what was taken, at once, late or not at all."""
        taken, self.taken = self.taken, []
        if self.broken:
            raise AuditUnavailable(self.broken)
        if taken:
            self.commits.append(len(taken))
        self.kept += taken
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
