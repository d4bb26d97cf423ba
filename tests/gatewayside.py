"""
A gateway in memory: twins of the device and of the trail, and a house whose
doors lead to a gateway.

Everything that matters writes down what it does in one list, the history, so
that a test can see what came before what::

    house = GatewayHouse()
    alice = house.visit("alice")
    alice.send(b"*IDN?")
    house.history        # [("record", b"in:*IDN?"), ("device", b"*IDN?")]
    house.device.say(b"thing")
    alice.received       # b"thing"
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer, implementer_only

from tcpsvc.admission import Admission
from tcpsvc.bucket import Reconnections
from tcpsvc.builtin import ServiceFacts, controlCommands
from tcpsvc.closing import Closing
from tcpsvc.doorway import DoorwayFactory
from tcpsvc.events import Journal
from tcpsvc.flood import Flood
from tcpsvc.gateway import GatewayBackend, GatewaySettings
from tcpsvc.interfaces import AuditUnavailable, IBackend, ITrail
from tcpsvc.pending import PendingLimit
from tcpsvc.session import CommandBackend
from tcpsvc.slot import Slot
from tcpsvc.tls import ServerTLS
from tcpsvc.turns import Turns
from tests.certificates import authority
from tests.peers import HOST, Peer, Socket, clientContext, serverMaterial
from tests.support import LogLines, clockAtEpoch, recordOf

History = list[tuple[str, bytes]]
"""
What happened, in order: who, and which octets.
"""

FULL = 65536
"""
How many octets a transport's buffer takes before it asks to be spared, as
Twisted's own does.
"""


@implementer(ITrail)
class Ledger:
    """
    A trail in memory.

    @ivar kept: The written records, each as C{(event, fields)}.
    @ivar broken: Why nothing can be written, if so.
    @ivar pending: If a list, commits answer with Deferreds, kept there for the
        test to fire.
    """

    head = "0" * 64

    def __init__(self, history: History) -> None:
        self.kept: list[tuple[str, dict[str, object]]] = []
        self.broken = ""
        self.pending: list[Deferred[None]] | None = None
        self._taken: list[tuple[str, dict[str, object]]] = []
        self._history = history

    lastBlocked = ""

    @property
    def blocked(self) -> str:
        """Why nothing can be recorded."""
        return self.broken

    @property
    def records(self) -> int:
        """How many records there are."""
        return len(self.kept) + len(self._taken)

    def append(self, moment: float, event: str, fields: dict[str, object]) -> None:
        """Take a record."""
        self._taken.append((event, fields))

    def extend(self, session: str, n: int, bodies: Sequence[str]) -> None:
        """Take records of a session."""
        for body in bodies:
            _, event, fields = recordOf(body)
            assert fields["session"] == session, body
            self._taken.append((event, fields))

    def write(self) -> None:
        """Write what was taken."""
        taken, self._taken = self._taken, []
        if self.broken:
            raise AuditUnavailable(self.broken)
        for event, fields in taken:
            self.kept.append((event, fields))
            if event == "gateway.data":
                told = str(fields["direction"]).encode() + b":" + dataOf(fields)
                self._history.append(("record", told))
            elif event == "session.closed":
                self._history.append(("closed", str(fields["reason"]).encode()))

    def commit(self) -> Deferred[None] | None:
        """Write, and wait for the disk."""
        some = bool(self._taken)
        self.write()
        if self.pending is None or not some:
            return None
        waiting: Deferred[None] = Deferred()
        self.pending.append(waiting)
        return waiting

    def fire(self, count: int = 1) -> None:
        """The disk has so many of the commits."""
        assert self.pending is not None
        for _ in range(count):
            self.pending.pop(0).callback(None)

    def failNext(self) -> None:
        """The disk does not take the next commit."""
        assert self.pending is not None
        self.pending.pop(0).errback(AuditUnavailable("disk full"))

    def of(self, event: str) -> list[dict[str, object]]:
        """The fields of all records of one event."""
        return [fields for name, fields in self.kept if name == event]

    def carried(self, direction: str) -> bytes:
        """All octets of one direction."""
        return b"".join(
            dataOf(fields)
            for fields in self.of("gateway.data")
            if fields["direction"] == direction
        )


def dataOf(fields: dict[str, object]) -> bytes:
    """
    The octets that a record has.
    """
    if "data_b64" in fields:
        return b64decode(str(fields["data_b64"]))
    return str(fields.get("data", "")).encode()


class PacedSocket(Socket):
    """
    A socket whose peer reads only when it is told to, and which asks its producer
    to pause while more than L{FULL} octets wait.
    """

    def write(self, data: bytes) -> None:
        """Send octets."""
        super().write(data)
        if len(self.outgoing) > FULL and self.producer is not None:
            cast(Any, self.producer).pauseProducing()

    @property
    def unwritten(self) -> int:
        """What waits for the peer, in bytes."""
        return len(self.outgoing)

    def take(self) -> bytes:
        """The peer reads all that there is, again and again."""
        taken = bytearray()
        while self.outgoing:
            taken += self.outgoing
            self.outgoing.clear()
            if self.producer is not None:
                cast(Any, self.producer).resumeProducing()
        return bytes(taken)


class DeviceSocket(PacedSocket):
    """
    The service's end of the connection to a device over TCP.

    @ivar protocol: What the service has there.
    """

    def __init__(self, history: History) -> None:
        super().__init__(IPv4Address("TCP", "192.0.2.50", 5025))
        self.protocol: Any = None
        self._history = history

    def write(self, data: bytes) -> None:
        """Send octets to the device."""
        super().write(data)
        self._history.append(("device", bytes(data)))

    def say(self, data: bytes) -> None:
        """The device says something, and is read."""
        assert not self.paused
        self.protocol.dataReceived(data)

    def hangUp(self) -> None:
        """The device closes its half."""
        self.protocol.readConnectionLost()

    def lose(self, why: Exception | None = None) -> None:
        """The connection is closed."""
        assert not self.lost
        self.lost = True
        self._history.append(("device lost", b""))
        self.protocol.connectionLost(Failure(why or ConnectionDone()))

    def settle(self) -> None:
        """Answer a close, and do what was asked of the socket."""
        if self.lost:
            return
        if self.halfClosed and not self.disconnecting:
            self.hangUp()
        if self.aborted:
            self.lose(ConnectionAborted())
        elif self.disconnecting:
            self.lose()


@implementer_only(IPushProducer)
class LineSocket(DeviceSocket):
    """
    The same for a device that knows no half-close: a serial line.
    """

    def loseWriteConnection(self) -> None:
        """Twisted's serial ports have this too, without a meaning."""
        raise AssertionError("a serial line has no halves")


@implementer(IStreamClientEndpoint)
class DeviceEndpoint:
    """
    Leads to twins of a device.

    @ivar auto: Whether it connects at once; else L{connected} does it.
    @ivar down: Why it cannot be reached, if so.
    @ivar sockets: All connections that were made.
    @ivar attempts: How often somebody wanted to connect.
    @ivar cancelled: How often somebody gave that up.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.auto = True
        self.down = ""
        self.kind: Callable[[History], DeviceSocket] = DeviceSocket
        self.sockets: list[DeviceSocket] = []
        self.attempts = 0
        self.cancelled = 0
        self.waiting: list[tuple[IProtocolFactory, Deferred[IProtocol]]] = []

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, or wait until the test does it."""
        self.attempts += 1
        self.history.append(("connect", b""))
        if self.down:
            return fail(ConnectionLost(self.down))
        connecting: Deferred[IProtocol] = Deferred(self._cancelled)
        self.waiting.append((factory, connecting))
        if self.auto:
            self.connected()
        return connecting

    def _cancelled(self, connecting: Deferred[IProtocol]) -> None:
        """Somebody waits no longer."""
        self.cancelled += 1
        self.waiting = [pair for pair in self.waiting if pair[1] is not connecting]

    def connected(self) -> DeviceSocket:
        """The device is there."""
        factory, connecting = self.waiting.pop(0)
        socket = self.kind(self.history)
        self.sockets.append(socket)
        protocol = factory.buildProtocol(socket.address)
        assert protocol is not None
        socket.protocol = protocol
        cast(Protocol, protocol).makeConnection(socket)
        connecting.callback(protocol)
        return socket


class GatewayHouse:
    """
    All that is behind the doors of one service with a gateway, in memory.
    """

    def __init__(
        self,
        *,
        onOpen: tuple[bytes, ...] = (),
        onClose: tuple[bytes, ...] = (),
        payload: str = "full",
        idleTimeout: float = 900.0,
        maxSession: float = 28800.0,
    ) -> None:
        self.history: History = []
        self.clock: Clock = clockAtEpoch()
        clock: IReactorTime = self.clock
        self.trail = Ledger(self.history)
        self.log = LogLines()
        self.journal = Journal(self.trail, clock, self.log)
        self.slot = Slot()
        self.endpoint = DeviceEndpoint(self.history)
        self.settings = GatewaySettings("twin:", onOpen, onClose, payload)
        facts = ServiceFacts(HOST, self.slot, self.journal, clock.seconds(), None)
        backend: IBackend = GatewayBackend(
            self.settings, self.endpoint, facts.gatewayGreeting, clock
        )
        control: IBackend = CommandBackend(
            controlCommands(facts), facts.controlGreeting, "control"
        )
        closing = Closing(clock)
        flood = Flood(self.journal)
        self.admission = Admission(
            slot=self.slot,
            backend=backend,
            control=control,
            journal=self.journal,
            flood=flood,
            closing=closing,
            clock=clock,
            idleTimeout=idleTimeout,
            maxSession=maxSession,
            reconnections=Reconnections(clock, 0),
        )
        self.plaintext = DoorwayFactory(self.admission, plaintext=True)
        self.secure = PendingLimit(
            DoorwayFactory(self.admission, plaintext=False),
            ServerTLS(serverMaterial(), "1.3"),
            flood,
            closing,
            clock,
            16,
            10.0,
            self.admission,
        )
        self.secure.turns = Turns(clock, self.admission.quiet, lambda: 0.0)

    @property
    def device(self) -> DeviceSocket:
        """The newest connection to the device."""
        return self.endpoint.sockets[-1]

    @property
    def holder(self) -> str:
        """Who holds the slot."""
        claim = self.slot.current
        return "" if claim is None else claim.holder.identity.name

    def visit(self, name: str = "alice", *alpn: bytes, early: bytes = b"") -> Peer:
        """
        Connect to the listener with TLS, and shake hands.
        """
        context: SSL.Context = clientContext(authority().client(name), alpn=alpn)
        return Peer(self.secure, context).shakeHands(early)

    def enter(self) -> Peer:
        """
        Connect to the listener without TLS.
        """
        return Peer(self.plaintext)

    def closed(self) -> list[dict[str, object]]:
        """What was recorded of the ends of sessions."""
        return self.trail.of("session.closed")

    def reasons(self) -> list[str]:
        """Why sessions have ended."""
        return [str(fields["reason"]) for fields in self.closed()]


def hangUpHalf(peer: Peer) -> None:
    """
    A client without TLS closes its half, and goes on reading.
    """
    protocol: Any = peer.protocol
    assert IHalfCloseableProtocol.providedBy(protocol)
    protocol.readConnectionLost()
    peer.pump()
