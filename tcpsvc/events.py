# -*- test-case-name: tests.test_events -*-

"""
The catalogue of events, and the journals that tell them.

An event goes to two places: first into the audit trail, which may refuse, and
then, if it has words for people, to the log through L{twisted.logger}. Only
literals of this module are ever used as a log format; what a peer sent is
a field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import Factory, define, field, frozen
from constantly import NamedConstant
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, Logger, LogLevel, globalLogPublisher
from zope.interface import implementer

from tcpsvc.interfaces import ISessionJournal, ITrail
from tcpsvc.jsontext import quoted
from tcpsvc.times import toMicros, toMicroseconds, toText


@frozen
class Event:
    """
    One kind of event.

    @ivar name: Its name, in trail and log.
    @ivar fields: What a record of it has beside C{seq}, C{time}, C{event} and
        C{prev}; a name that ends in C{?} is there only when it applies.
    @ivar level: Its level in the log.
    @ivar format: The line for people, or empty: then it is in the trail only.
    """

    name: str
    fields: tuple[str, ...]
    level: NamedConstant = LogLevel.info
    format: str = ""


SERVICE_STARTED = Event(
    "service.started",
    ("version", "listeners", "backend", "sync", "certificate", "trail"),
    LogLevel.info,
    "tcpsvc {version} serves {backend}; audit trail synced: {sync}",
)
SERVICE_STOPPED = Event(
    "service.stopped",
    ("version", "listeners", "backend", "sync", "certificate"),
    LogLevel.info,
    "tcpsvc {version} has stopped",
)
HANDSHAKE_FAILED = Event(
    "handshake.failed",
    ("address", "reason", "detail?", "certificate?", "count?"),
    LogLevel.warn,
    "refused {address} in the handshake: {reason}{more}",
)
SESSION_REFUSED = Event(
    "session.refused",
    ("address", "identity", "reason", "holder?", "count?"),
    LogLevel.warn,
    "turned away {identity[name]} from {address}: {reason}{more}",
)
SESSION_OPENED = Event(
    "session.opened",
    ("session", "address", "identity", "tls", "control?"),
    LogLevel.info,
    "{kind} {session} of {identity[name]} from {address} has begun",
)
REQUEST = Event(
    "request",
    ("session", "n", "request?", "request_b64?", "argument_octets?", "octets?"),
)
REPLY = Event(
    "reply", ("session", "n", "reply", "reply_octets?", "code", "duration_us")
)
GATEWAY_DATA = Event(
    "gateway.data",
    ("session", "direction", "data?", "data_b64?", "octets?", "sha256?"),
)
SESSION_CLOSED = Event(
    "session.closed",
    (
        "session",
        "reason",
        "requests",
        "bytes_in",
        "bytes_out",
        "duration_s",
        "exit_status?",
        "signal?",
    ),
    LogLevel.info,
    "session {session} has ended: {reason} ({account}, {duration_s:.3f} s)",
)

CONTROL_POLLED = Event(
    "control.polled",
    ("address", "identity", "sessions", "requests"),
    LogLevel.info,
    "{identity[name]} from {address} keeps asking: {sessions} further control "
    "sessions, {requests} further requests",
)

CHECKPOINT = Event(
    "checkpoint", ("count", "head", "key", "signature", "sessions", "trail")
)

AUDITED = (
    SERVICE_STARTED,
    SERVICE_STOPPED,
    HANDSHAKE_FAILED,
    SESSION_REFUSED,
    SESSION_OPENED,
    REQUEST,
    REPLY,
    GATEWAY_DATA,
    SESSION_CLOSED,
    CONTROL_POLLED,
    CHECKPOINT,
)
"""
The events that the audit trail has.
"""


@define
class Journal:
    """
    Where all that happens is told.

    @ivar clock: Measures durations.
    @ivar now: The wall clock, in seconds since the epoch, for time stamps only: it may
        be set. By default the same.
    @ivar counts: How often each event was told, by its name.
    """

    trail: ITrail
    clock: IReactorTime
    observer: ILogObserver = globalLogPublisher
    now: Callable[[], float] = field(
        default=Factory(lambda self: self.clock.seconds, takes_self=True)
    )
    counts: dict[str, int] = field(factory=lambda: {e.name: 0 for e in AUDITED})
    log: Logger = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.log = Logger(namespace="tcpsvc", observer=self.observer)

    def tell(self, event: Event, record: dict[str, object], **forPeople: str) -> None:
        """
        Put an event into the log, and give it to the trail.

        @param record: The record's fields, as JSON primitives.
        @param forPeople: Further fields that only the log's line shows.
        """
        self.counts[event.name] += 1
        self.say(event, record, **forPeople)
        self.note(event, record)

    def note(self, event: Event, record: dict[str, object]) -> None:
        """
        Give an event to the trail only.
        """
        self.trail.append(self.now(), event.name, record)

    def say(self, event: Event, record: dict[str, object], **forPeople: str) -> None:
        """
        Put an event into the log only, if it has words for people.
        """
        if event.format:
            self.log.emit(
                event.level, event.format, event=event.name, **record, **forPeople
            )

    def write(self) -> None:
        """
        @see: L{ITrail.write}
        """
        self.trail.write()

    def commit(self) -> Deferred[None] | None:
        """
        @see: L{ITrail.commit}
        """
        return self.trail.commit()

    def ofSession(self, session: str) -> SessionJournal:
        """
        @return: A journal whose every record names the session.
        """
        return SessionJournal(self, session)


@implementer(ISessionJournal)
class SessionJournal:
    """
    A journal bound to one session. What there is much of is told here: requests,
    replies and data, which have no words for people. Their records are put
    together by hand, and wait here for C{commit}, or for another event.
    """

    def __init__(self, journal: Journal, session: str) -> None:
        self.session = session
        self._journal = journal
        self.seconds = journal.clock.seconds
        self._now = journal.now
        self._epoch = 0.0
        self._bodies: list[str] = []
        self._counts = journal.counts
        self._n = 0
        self._request = _afterTime("request", session, "n")
        self._reply = _afterTime("reply", session, "n")
        self._data = _afterTime("gateway.data", session, "direction")

    @property
    def log(self) -> Logger:
        """The log of the service, for what is no event."""
        return self._journal.log

    def tell(self, event: Event, record: dict[str, object], **forPeople: str) -> None:
        """
        @see: L{Journal.tell}
        """
        self._handOver()
        self._journal.tell(event, {"session": self.session, **record}, **forPeople)

    def note(self, event: Event, record: dict[str, object]) -> None:
        """
        @see: L{Journal.note}
        """
        self._handOver()
        self._journal.note(event, {"session": self.session, **record})

    def say(self, event: Event, record: dict[str, object], **forPeople: str) -> None:
        """
        @see: L{Journal.say}
        """
        self._journal.say(event, {"session": self.session, **record}, **forPeople)

    def request(self, n: int, asked: str, moment: float) -> None:
        """
        @see: L{ISessionJournal.request}
        """
        self._n = n
        self._counts["request"] += 1
        self._setEpoch()
        time = toMicroseconds(moment + self._epoch)
        self._bodies.append(f'"time":"{time}{self._request}{n},{asked}')

    def reply(self, n: int, answered: str, code: int, since: float) -> float:
        """
        @see: L{ISessionJournal.reply}
        """
        now = self.seconds()
        self._counts["reply"] += 1
        self._setEpoch()
        took = max(0, toMicros(now) - toMicros(since))
        self._bodies.append(
            f'"time":"{toMicroseconds(now + self._epoch)}{self._reply}{n},{answered},'
            f'"code":{code},"duration_us":{took}'
        )
        return now

    def exchanges(
        self, first: int, since: float, exchanges: Iterable[tuple[str, str, float]]
    ) -> None:
        """
        @see: L{ISessionJournal.exchanges}
        """
        self._setEpoch()
        epoch = self._epoch
        request, reply, add = self._request, self._reply, self._bodies.append
        before = toMicros(since + epoch)
        begun = toText(before)
        n = first - 1
        for asked, answered, now in exchanges:
            n += 1
            micros = toMicros(now + epoch)
            done = toText(micros)
            took = micros - before if micros > before else 0
            add(f'"time":"{begun}{request}{n},"request":{quoted(asked)}')
            add(
                f'"time":"{done}{reply}{n},"reply":{quoted(answered)},'
                f'"code":200,"duration_us":{took}'
            )
            before, begun = micros, done
        self._n = n
        self._counts["request"] += n + 1 - first
        self._counts["reply"] += n + 1 - first

    def data(self, direction: str, carried: str) -> None:
        """
        @see: L{ISessionJournal.data}
        """
        self._setEpoch()
        now = toMicroseconds(self.seconds() + self._epoch)
        self._counts["gateway.data"] += 1
        self._bodies.append(f'"time":"{now}{self._data}"{direction}",{carried}')

    def commit(self) -> Deferred[None] | None:
        """
        @see: L{ITrail.commit}
        """
        self._handOver()
        return self._journal.trail.commit()

    def _setEpoch(self) -> None:
        """
        Compare the clocks, once for all records that are committed together: a time
        stamp is what the one of durations says, from then on.
        """
        if not self._bodies:
            self._epoch = self._now() - self.seconds()

    def _handOver(self) -> None:
        """
        Give to the trail what waits.
        """
        if self._bodies:
            bodies, self._bodies = self._bodies, []
            self._journal.trail.extend(self.session, self._n, bodies)


def _afterTime(event: str, session: str, then: str) -> str:
    """
    What stands in each record of a session between its time and what differs.
    """
    return f'","event":{quoted(event)},"session":{quoted(session)},"{then}":'
