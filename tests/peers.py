"""
Clients in memory: real octets and real TLS between a protocol of the service
and a client, with no socket and no time of day.

A peer is asked for what a client does, and tells what a client sees::

    house = House()
    alice = house.visit(clientContext(authority().client("alice")))
    alice.send(b"WHO" + CRLF)
    alice.lines                     # what it has been told
    alice.ending                    # "" while the connection is open
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from attrs import define, field
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.admission import Admission
from tcpsvc.bucket import Reconnections
from tcpsvc.builtin import ServiceFacts, controlCommands, serviceCommands
from tcpsvc.closing import Closing
from tcpsvc.commands import Command
from tcpsvc.doorway import DoorwayFactory
from tcpsvc.flood import Flood
from tcpsvc.identity import Client
from tcpsvc.interfaces import IBackend, ISession, ISessionJournal, ISlot
from tcpsvc.paced import PacedSession
from tcpsvc.pending import PendingLimit
from tcpsvc.session import CommandBackend
from tcpsvc.slot import Slot
from tcpsvc.tls import ServerMaterial, ServerTLS
from tcpsvc.turns import Turns
from tests.certificates import Pair, authority
from tests.support import MemoryTrail, clockAtEpoch, journalInMemory

HOST = "bench.example"
"""
The name of the machine, in greetings.
"""


def clientContext(
    pair: Pair | None = None,
    *,
    alpn: Sequence[bytes] = (),
    chain: Sequence[x509.Certificate] = (),
    highest: int = SSL.TLS1_3_VERSION,
    ciphers: bytes = b"",
) -> SSL.Context:
    """
    A client's side of TLS. It takes whatever certificate the service shows.

    @param pair: What it shows of itself; nothing if L{None}.
    @param alpn: The protocols that it offers (RFC 7301).
    @param chain: The certificates that it shows beside its own.
    @param highest: The highest version of TLS that it speaks.
    @param ciphers: Its ciphers of TLS 1.2, as OpenSSL writes them.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(highest)
    if ciphers:
        context.set_cipher_list(ciphers)
    if pair is not None:
        context.use_certificate(pair.certificate)
        context.use_privatekey(pair.key)
    for certificate in chain:
        context.add_extra_chain_cert(X509.from_cryptography(certificate))
    if alpn:
        context.set_alpn_protos(list(alpn))
    return context


def serverMaterial(
    *,
    authorities: Sequence[x509.Certificate] = (),
    crl: x509.CertificateRevocationList | None = None,
) -> ServerMaterial:
    """
    The keys of a service.

    @param authorities: Who may sign its clients; L{authority} if none.
    """
    pair = _serverPair()
    return ServerMaterial(
        chain=[pair.certificate],
        key=pair.key,
        authorities=list(authorities) or [authority().certificate],
        crl=crl,
    )


@cache
def _serverPair() -> Pair:
    """
    The pair of all services of this process.
    """
    return authority().server()


class SocketOptions:
    """
    Keeps what is set of a socket, as C{(level, option): value}.
    """

    def __init__(self) -> None:
        self.set: dict[tuple[int, int], int] = {}

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option."""
        self.set[level, option] = value

    def fileno(self) -> int:
        """There is no descriptor."""
        return -1


@implementer(ITCPTransport, ISystemHandle, IPushProducer)
class Socket:
    """
    The service's end of a connection, as Twisted's TCP has it.

    @ivar outgoing: What was written and the client has not read.
    @ivar written: All that was ever written.
    """

    def __init__(self, address: IPv4Address) -> None:
        self.address = address
        self.outgoing = bytearray()
        self.written = bytearray()
        self.options = SocketOptions()
        self.paused = False
        self.disconnecting = False
        self.halfClosed = False
        self.aborted = False
        self.lost = False
        self.producer: object | None = None

    def write(self, data: bytes) -> None:
        """Send octets."""
        if not self.lost and not self.aborted:
            self.outgoing += data
            self.written += data

    def writeSequence(self, data: Any) -> None:
        """Send octets."""
        self.write(b"".join(data))

    def getPeer(self) -> IPv4Address:
        """Where the client is."""
        return self.address

    def getHost(self) -> IPv4Address:
        """Where the service is."""
        return IPv4Address("TCP", "192.0.2.254", 4433)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Take a producer."""
        assert self.producer is None and streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Let the producer go."""
        self.producer = None

    def pauseProducing(self) -> None:
        """Read no more."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Read again."""
        self.paused = False

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """Close when all is written."""
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        """Close this half when all is written."""
        self.halfClosed = True

    def abortConnection(self) -> None:
        """Close at once: what was not sent is lost."""
        self.aborted = True
        self.outgoing.clear()

    def setTcpNoDelay(self, enabled: Any) -> None:
        """Send small writes at once."""
        self.options.set[0, 1] = int(enabled)

    def getTcpNoDelay(self) -> bool:
        """Whether small writes are sent at once."""
        return bool(self.options.set.get((0, 1)))

    def setTcpKeepAlive(self, enabled: Any) -> None:
        """Probe a silent peer."""
        self.options.set[0, 2] = int(enabled)

    def getTcpKeepAlive(self) -> bool:
        """Whether a silent peer is probed."""
        return bool(self.options.set.get((0, 2)))

    def getHandle(self) -> SocketOptions:
        """The socket itself."""
        return self.options


class Peer:
    """
    A client, and the connection that it has made.

    @ivar received: What it was told, deciphered.
    @ivar ending: How the connection came to its end: C{"closed"} by the
        service in good order, C{"reset"} by the service, C{"left"} by the
        client; empty while it is open.
    @ivar closeNotified: Whether the service closed TLS in good order.
    @ivar alert: The alert or other error that ended TLS, in OpenSSL's words.
    @ivar reads: Whether the client reads at all.
    @ivar answersClose: Whether it answers the service's close.
    """

    def __init__(
        self,
        factory: Factory,
        context: SSL.Context | None = None,
        address: IPv4Address | None = None,
    ) -> None:
        """
        Connect.

        @param context: The client's TLS; plaintext if L{None}.
        """
        address = address or IPv4Address("TCP", "192.0.2.1", 49152)
        self.received = bytearray()
        self.ending = ""
        self.closeNotified = False
        self.sawEnd = False
        self.alert = ""
        self.reads = True
        self.answersClose = True
        self._toSend = bytearray()
        self._early = b""
        self._greeted = False
        self._moving = False
        self.socket = Socket(address)
        self.tls: SSL.Connection | None = None
        if context is not None:
            self.tls = SSL.Connection(context, None)
            self.tls.set_connect_state()
        self._clock: object = getattr(factory, "clock", None)
        protocol = factory.buildProtocol(address)
        assert isinstance(protocol, Protocol)
        self.protocol = protocol
        protocol.makeConnection(self.socket)

    @property
    def address(self) -> str:
        """Where it is, as people write it."""
        return f"{self.socket.address.host}:{self.socket.address.port}"

    @property
    def lines(self) -> list[str]:
        """What it was told, line by line."""
        return bytes(self.received).decode().splitlines()

    # What a client does.

    def shakeHands(self, early: bytes = b"") -> Peer:
        """
        Begin TLS, and go on until nothing moves.

        @param early: To be sent with the last octets of the handshake.
        """
        self._early = early
        self._greeted = True
        self.pump()
        return self

    def send(self, data: bytes) -> Peer:
        """
        Send, and go on until nothing moves.
        """
        if self.tls is None:
            self._toSend += data
        else:
            self.tls.send(data)
        self.pump()
        return self

    def sendRaw(self, data: bytes) -> None:
        """
        Send octets that no TLS has made.
        """
        self._toSend += data
        self.pump()

    def close(self) -> None:
        """
        Close in good order: TLS first, then TCP.
        """
        if self.tls is not None:
            self.tls.shutdown()
        self.pump()
        self.hangUp()

    def hangUp(self) -> None:
        """
        Close this half of the TCP connection, without a word of TLS.
        """
        if self.socket.lost:
            return
        if IHalfCloseableProtocol.providedBy(self.protocol):
            half: Any = self.protocol
            half.readConnectionLost()
            self.pump()
        else:
            self._lose(ConnectionDone(), "left")

    def vanish(self) -> None:
        """
        Reset the connection.
        """
        self._lose(ConnectionLost(), "left")

    # What moves.

    def pump(self) -> None:
        """
        Go on until nothing moves.
        """
        if self._moving:
            return
        self._moving = True
        while self._upward() or self._downward():
            pass
        self._moving = False

    def _upward(self) -> bool:
        """
        From the client to the service.
        """
        self._drainTLS()
        if self.socket.lost or self.socket.paused or not self._toSend:
            return False
        if self.socket.aborted:
            return False
        octets, self._toSend = bytes(self._toSend), bytearray()
        self.protocol.dataReceived(octets)
        if isinstance(self._clock, Clock):
            self._clock.advance(0)  # The next turn of the reactor.
        return True

    def _downward(self) -> bool:
        """
        From the service to the client.
        """
        socket = self.socket
        if socket.lost:
            return False
        if socket.aborted:
            self._lose(ConnectionAborted(), "reset")
            return True
        if socket.outgoing and self.reads:
            octets, socket.outgoing = bytes(socket.outgoing), bytearray()
            self._take(octets)
            return True
        if socket.disconnecting and not socket.outgoing:
            self._lose(ConnectionDone(), "closed")
            return True
        if socket.halfClosed and not socket.outgoing and not self.sawEnd:
            self.sawEnd = True
            if self.answersClose:
                self.hangUp()
            return True
        return False

    def _take(self, octets: bytes) -> None:
        """
        Take octets off the wire.
        """
        if self.tls is None:
            self.received += octets
            return
        if self.alert:
            return
        self.tls.bio_write(octets)
        self._shake()
        try:
            while True:
                self.received += self.tls.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            if not self.closeNotified:
                self.closeNotified = True
                if self.answersClose:
                    self.tls.shutdown()
        except SSL.Error as error:
            # After a failed handshake, this one has no words.
            self.alert = self.alert or _words(error)

    def _shake(self) -> None:
        """
        Go on with the handshake.
        """
        assert self.tls is not None
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            self.alert = _words(error)
            return
        if self._early:
            early, self._early = self._early, b""
            self.tls.send(early)

    def _drainTLS(self) -> None:
        """
        Put what TLS wants to say on the wire.
        """
        if self.tls is None or not self._greeted:
            return
        if not self._toSend and not self.socket.written:
            self._shake()
        try:
            while True:
                self._toSend += self.tls.bio_read(65536)
        except SSL.WantReadError:
            pass

    def _lose(self, why: Exception, ending: str) -> None:
        """
        The connection is no more.
        """
        if not self.socket.lost:
            self.socket.lost = True
            self.ending = ending
            self.protocol.connectionLost(Failure(why))


def _words(error: SSL.Error) -> str:
    """
    OpenSSL's words for an error.
    """
    if not error.args:
        return "closed"
    problems = error.args[0]
    return str(problems[-1][2] if isinstance(problems, list) else error.args[-1])


@implementer(ISession)
class ThingSession(Protocol):
    """
    A session with a twin of some thing.

    @ivar got: What came from the client.
    @ivar stopped: What L{stop} returned, if it was called.
    """

    def __init__(self, thing: Thing, client: Client, end: Callable[[str], None]):
        self.thing = thing
        self.client = client
        self.end = end
        self.requests = 3
        self.bytesIn = 5
        self.bytesOut = 7
        self.busy = False
        self.mayBeTold = True
        self.outcome: dict[str, object] = {}
        self.got = bytearray()
        self.calls: list[str] = []
        self.stopped: Deferred[None] | None = None

    def connectionMade(self) -> None:
        """Begin."""
        self.calls.append("connectionMade")
        if self.thing.broken:
            raise RuntimeError(self.thing.broken)

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.got += data

    def inputEnded(self, leaving: bool = False, truncated: bool = False) -> None:
        """The client sends no more; or it leaves, and the session ends."""
        if leaving:
            self.end("client-closed")
        else:
            self.calls.append("inputEnded")

    def stop(self) -> Deferred[None]:
        """The session is over."""
        self.calls.append("stop")
        if self.thing.slow:
            self.stopped = Deferred()
            return self.stopped
        return succeed(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone."""
        self.calls.append("connectionLost")


@implementer(IBackend)
@define(eq=False)
class Thing:
    """
    A twin of what answers the clients.

    @ivar transparent: As in L{IBackend}.
    @ivar slow: Whether its sessions need time to stop.
    @ivar broken: What its sessions raise when they begin.
    @ivar refuses: What it raises when a session is wanted.
    @ivar sessions: All that it has made.
    """

    description: str = "thing"
    transparent: bool = True
    slow: bool = False
    broken: str = ""
    refuses: str = ""
    sessions: list[ThingSession] = field(factory=list)

    def openSession(
        self,
        client: Client,
        journal: ISessionJournal,
        end: Callable[[str], None],
        told: bool,
    ) -> ISession:
        """Make a session."""
        if self.refuses:
            raise RuntimeError(self.refuses)
        session = ThingSession(self, client, end)
        self.sessions.append(session)
        made: ISession = session
        return made


class House:
    """
    All that is behind the doors of one service, in memory.

    @ivar trail: What was recorded.
    @ivar log: What was logged.
    @ivar cost: Seconds that a piece of work for those without the slot seems to take.
    """

    def __init__(
        self,
        *,
        backend: Thing | None = None,
        commands: Sequence[Command] = (),
        slot: ISlot | None = None,
        trail: MemoryTrail | None = None,
        tls: ServerTLS | None = None,
        idleTimeout: float = 900.0,
        maxSession: float = 28800.0,
        limit: int = 16,
        patience: float = 10.0,
        reconnectRate: float = 0.0,
    ) -> None:
        """
        @param backend: What answers; the commands if L{None}.
        """
        self.clock = clockAtEpoch()
        self.journal, self.trail, self.log = journalInMemory(self.clock, trail)
        self.slot: ISlot = slot or Slot()
        facts = ServiceFacts(HOST, self.slot, self.journal, self.clock.seconds(), None)
        table = serviceCommands(facts)
        for one in commands:
            table.add(one)
        thing: IBackend | None = backend
        answering: IBackend = CommandBackend(table, facts.greeting, "commands")
        control: IBackend = CommandBackend(
            controlCommands(facts),
            facts.controlGreeting,
            "control",
            session=partial(PacedSession, self.clock),
        )
        self.closing = Closing(self.clock)
        self.flood = Flood(self.journal)
        self.admission = Admission(
            slot=self.slot,
            backend=thing or answering,
            control=control,
            reconnections=Reconnections(self.clock, reconnectRate),
            journal=self.journal,
            flood=self.flood,
            closing=self.closing,
            clock=self.clock,
            idleTimeout=idleTimeout,
            maxSession=maxSession,
        )
        self.plaintext = DoorwayFactory(self.admission, plaintext=True)
        self.secure = PendingLimit(
            DoorwayFactory(self.admission, plaintext=False),
            tls or _serverTLS(),
            self.flood,
            self.closing,
            self.clock,
            limit,
            patience,
            self.admission,
        )
        self.cost = 0.0
        self._spent = 0.0
        self.secure.turns = Turns(self.clock, self.admission.quiet, self._worked)
        self.peers: list[Peer] = []

    def _worked(self) -> float:
        """
        Measures that each piece of work for those without the slot takes C{cost}.
        """
        self._spent += self.cost
        return self._spent

    def knock(
        self, context: SSL.Context | None = None, host: str = "192.0.2.1"
    ) -> Peer:
        """
        Connect to the listener with TLS, and say nothing.
        """
        peer = Peer(
            self.secure,
            context or clientContext(_namedPair("alice")),
            IPv4Address("TCP", host, 49152 + len(self.peers)),
        )
        self.peers.append(peer)
        return peer

    def visit(
        self, name: str = "alice", *alpn: bytes, context: SSL.Context | None = None
    ) -> Peer:
        """
        Connect to the listener with TLS, and shake hands.

        @param name: Whose certificate is shown.
        """
        context = context or clientContext(_namedPair(name), alpn=alpn)
        return self.knock(context).shakeHands()

    def telnet(self) -> Peer:
        """
        Connect to the listener without TLS.
        """
        address = IPv4Address("TCP", "127.0.0.1", 49152 + len(self.peers))
        peer = Peer(self.plaintext, None, address)
        self.peers.append(peer)
        peer.pump()
        return peer

    def advance(self, seconds: float) -> None:
        """
        Let time go by, and then everything move.
        """
        self.clock.advance(seconds)
        self.pump()

    def pump(self) -> None:
        """
        Let everything move.
        """
        for peer in self.peers:
            peer.pump()


@cache
def _serverTLS() -> ServerTLS:
    """
    The TLS of all houses of this process.
    """
    return ServerTLS(serverMaterial(), "1.3")


@cache
def _namedPair(name: str) -> Pair:
    """
    The pair of a client.
    """
    return authority().client(name)


namedPair = _namedPair
