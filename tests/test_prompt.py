"""
Tests for L{tcpsvc.prompt}.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet import tcp, unix
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IListeningPort,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import ContextFactory
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tcpsvc import prompt
from tcpsvc.expecting import Expecting
from tcpsvc.prompt import (
    MAX_SINGLE_OCTETS,
    MAX_TURN,
    PromptServer,
    expectMore,
    sendAtOnce,
)

ALL = 1 << 30
"""
The room of a system that takes whatever it is given.
"""


def _always() -> bool:
    """
    Nobody else ever waits.
    """
    return True


class FakeSocket:
    """
    A socket whose system takes so many octets, or none at all.

    @ivar room: How many octets it still takes.
    @ivar error: What each sending fails with; 0 is nothing.
    @ivar sent: What it was given.
    @ivar sends: How often it was asked to send.
    @ivar chunks: What can be read; an empty one is the end.
    @ivar closed: Whether it is closed, or its sending half.
    """

    def __init__(self) -> None:
        self.room = ALL
        self.error = 0
        self.sent = b""
        self.sends = 0
        self.chunks: list[bytes] = []
        self.closed = False

    def send(self, data: bytes | memoryview) -> int:
        """Take octets, as many as there is room for."""
        self.sends += 1
        if self.closed:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        taken = bytes(data[: self.room])
        if not taken:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def recv(self, octets: int) -> bytes:
        """Give what has come."""
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if not self.chunks:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self.chunks.pop(0)

    def shutdown(self, how: int) -> None:
        """Close the sending half."""
        self.closed = True

    def close(self) -> None:
        """Close both."""
        self.closed = True

    def setblocking(self, blocking: bool) -> None:
        """Do nothing: it never blocks."""

    def setsockopt(self, *option: object) -> None:
        """Do nothing."""

    def fileno(self) -> int:
        """No file stands behind it."""
        return -1


@implementer(IHalfCloseableProtocol)
class Listener(Protocol):
    """
    A protocol that keeps what happens.

    @ivar told: What it was told: C{"half"} when its half is closed, and why the
        connection was lost.
    """

    def __init__(self) -> None:
        self.told: list[object] = []

    def readConnectionLost(self) -> None:
        """The other half is closed."""

    def writeConnectionLost(self) -> None:
        """Our half is closed."""
        self.told.append("half")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self.told.append(reason.type)


@implementer(IPushProducer)
class Producer:
    """
    A producer that keeps what it is told.

    @ivar told: That.
    @ivar more: What it writes when it may go on.
    """

    def __init__(self, transport: tcp.Server) -> None:
        self.told: list[str] = []
        self.more = b""
        self._transport = transport

    def pauseProducing(self) -> None:
        """Wait."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """Go on."""
        self.told.append("resume")
        more, self.more = self.more, b""
        self._transport.write(more)

    def stopProducing(self) -> None:
        """Nobody listens."""
        self.told.append("stop")


class End:
    """
    The server's end of a connection, its socket, its protocol and a reactor.
    """

    def __init__(self, kind: type[tcp.Server] = PromptServer) -> None:
        self.reactor = MemoryReactorClock()
        self.socket = FakeSocket()
        self.protocol = Listener()
        self.transport = kind(
            cast(socket.socket, self.socket),
            self.protocol,
            ("192.0.2.1", 49152),
            cast(tcp.Port, None),
            0,
            self.reactor,
        )
        self.protocol.makeConnection(self.transport)

    @property
    def queues(self) -> bool:
        """Whether the reactor is asked to tell when something can be sent."""
        return self.transport in self.reactor.getWriters()

    def turn(self) -> None:
        """
        A turn of the reactor.
        """
        if self.queues:
            why = self.transport.doWrite()
            if why:
                self.reactor.removeReader(self.transport)
                self.reactor.removeWriter(self.transport)
                self.transport.connectionLost(Failure(why))
        self.reactor.advance(0)


class PromptTests(SynchronousTestCase):
    """
    Tests for L{PromptServer}, with a socket in memory.
    """

    def setUp(self) -> None:
        """
        A connection.
        """
        self.end = End()
        self.transport = self.end.transport
        self.socket = self.end.socket
        self.told = self.end.protocol.told

    def test_atOnce(self) -> None:
        """
        What is written is sent when C{write} returns, with one call of the system
        each; the reactor has nothing to do.
        """
        self.transport.write(b"one")
        self.assertEqual(b"one", self.socket.sent)
        self.transport.write(b"two")
        self.assertEqual(b"onetwo", self.socket.sent)
        self.assertEqual(2, self.socket.sends)
        self.assertFalse(self.end.queues)

    def test_nothing(self) -> None:
        """
        Nothing to send asks the system for nothing.
        """
        self.transport.write(b"")
        self.assertEqual(0, self.socket.sends)
        self.assertFalse(self.end.queues)

    def test_notBytes(self) -> None:
        """
        Text is refused, as ever.
        """
        for queues in (False, True):
            self.transport.writeSequence([b"x"] * queues)
            self.assertRaises(TypeError, self.transport.write, "text")

    def test_rest(self) -> None:
        """
        What the system does not take is queued, and all that is written
        meanwhile behind it, even when there is room again. When all of that is sent,
        what is written is sent at once again.
        """
        for room in (3, 0):
            self.end = End()
            self.end.socket.room = room
            self.end.transport.write(b"abcdef")
            self.assertEqual(b"abcdef"[:room], self.end.socket.sent)
            self.assertTrue(self.end.queues)
            self.end.socket.room = ALL
            sends = self.end.socket.sends
            self.end.transport.write(b"gh")
            self.assertEqual(sends, self.end.socket.sends)
            self.end.turn()
            self.assertEqual(b"abcdefgh", self.end.socket.sent)
            self.assertFalse(self.end.queues)
            self.end.transport.write(b"i")
            self.assertEqual(b"abcdefghi", self.end.socket.sent)

    def test_large(self) -> None:
        """
        More than is sent in one go arrives in order.
        """
        octets = b"".join(b"%07d\n" % n for n in range(100_000))
        self.transport.write(octets)
        self.assertEqual(self.transport.SEND_LIMIT, len(self.socket.sent))
        self.transport.write(b"end")
        for _ in range(10):
            self.end.turn()
        self.assertEqual(octets + b"end", self.socket.sent)

    def test_sequence(self) -> None:
        """
        A sequence is queued, as ever, and what follows it is sent behind it.
        """
        self.transport.writeSequence([b"one", b"two"])
        self.transport.write(b"three")
        self.assertEqual(b"", self.socket.sent)
        self.end.turn()
        self.assertEqual(b"onetwothree", self.socket.sent)

    def test_fails(self) -> None:
        """
        If it cannot be sent, C{write} says nothing: the connection is lost, in the
        reactor's next turn and once.
        """
        for number in (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT):
            end = End()
            end.socket.error = number
            end.transport.write(b"lost")
            end.transport.write(b"more")
            self.assertEqual([], end.protocol.told)
            end.turn()
            self.assertEqual([ConnectionLost], end.protocol.told)
            end.transport.write(b"late")
            end.turn()
            self.assertEqual([ConnectionLost], end.protocol.told)
            self.assertEqual(b"", end.socket.sent)

    def test_producer(self) -> None:
        """
        A producer is not asked to wait while the system takes what is written. It
        is when too much is queued, and may go on when all of that is sent: what
        it writes then is sent at once.
        """
        producer = Producer(self.transport)
        self.transport.registerProducer(producer, True)
        size = self.transport.bufferSize
        self.transport.write(b"a" * size + b"b")
        self.assertEqual([], producer.told)
        self.socket.room = 10
        self.transport.write(b"c" * (size + 10))
        self.assertEqual([], producer.told)
        self.transport.write(b"d")
        self.assertEqual(["pause"], producer.told)
        self.end.turn()
        self.assertEqual(["pause"], producer.told)
        self.socket.room = ALL
        producer.more = b"e"
        self.end.turn()
        self.assertEqual(["pause", "resume"], producer.told)
        self.assertTrue(self.socket.sent.endswith(b"cde"))
        self.assertFalse(self.end.queues)

    def test_loseConnection(self) -> None:
        """
        Closing delivers all that was written before.
        """
        self.socket.room = 2
        self.transport.write(b"abcd")
        self.transport.loseConnection()
        self.end.turn()
        self.assertFalse(self.socket.closed)
        self.socket.room = ALL
        self.end.turn()
        self.assertEqual(b"abcd", self.socket.sent)
        self.assertTrue(self.socket.closed)
        self.assertEqual([ConnectionDone], self.told)

    def test_loseConnectionAtOnce(self) -> None:
        """
        If nothing is queued it closes in the reactor's next turn.
        """
        self.transport.write(b"abcd")
        self.transport.loseConnection()
        self.assertEqual([], self.told)
        self.end.turn()
        self.assertEqual(b"abcd", self.socket.sent)
        self.assertEqual([ConnectionDone], self.told)

    def test_halfClosed(self) -> None:
        """
        When its half is closed nothing more is sent; all that was written before is.
        """
        self.socket.room = 2
        self.transport.write(b"abcd")
        self.transport.loseWriteConnection()
        self.socket.room = ALL
        self.end.turn()
        self.assertEqual(["half"], self.told)
        self.assertEqual(b"abcd", self.socket.sent)
        self.transport.write(b"late")
        self.end.turn()
        self.assertEqual(b"abcd", self.socket.sent)
        self.assertEqual(["half"], self.told)

    def test_abort(self) -> None:
        """
        When it is cut off nothing more is sent, neither what is queued nor what
        is written after that.
        """
        for room in (2, 4):
            end = End()
            end.socket.room = room
            end.transport.write(b"abcd")
            end.transport.abortConnection()
            end.socket.room = ALL
            end.transport.write(b"late")
            self.assertEqual(b"abcd"[:room], end.socket.sent)
            end.turn()
            self.assertEqual([ConnectionAborted], end.protocol.told)
            end.transport.write(b"later")
            end.turn()
            self.assertEqual(b"abcd"[:room], end.socket.sent)

    def test_startTLS(self) -> None:
        """
        When TLS has begun on it nothing is sent in the clear.
        """

        class Contexts(ContextFactory):
            isClient = False

            def getContext(self) -> SSL.Context:
                return SSL.Context(SSL.TLS_METHOD)

        self.transport.write(b"hello")
        self.transport.startTLS(Contexts())
        self.transport.write(b"a secret")
        self.end.turn()
        self.assertEqual(b"hello", self.socket.sent)

    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=4),
                st.integers(0, 5),
                st.sampled_from(("turn", "close", "half")),
            ),
            max_size=30,
        )
    )
    def test_asEver(self, steps: list[bytes | int | str]) -> None:
        """
        Whatever is written while the system has whatever room: the same arrives in
        the same order as by Twisted's own, and the protocol learns the same.
        """
        outcomes = []
        for kind in (tcp.Server, PromptServer):
            end = End(kind)
            end.socket.room = 0
            for step in steps:
                if isinstance(step, bytes):
                    end.transport.write(step)
                elif isinstance(step, int):
                    end.socket.room += step
                elif step == "turn":
                    end.turn()
                elif step == "close":
                    end.transport.loseConnection()
                elif end.transport.connected:
                    end.transport.loseWriteConnection()
            end.socket.room = ALL
            for _ in range(3):
                end.turn()
            outcomes.append((end.socket.sent, end.protocol.told))
        self.assertEqual(*outcomes)


class Answering(Listener):
    """
    A protocol that answers each chunk with a reply.

    @ivar read: The chunks.
    @ivar silent: Which of them get no reply.
    @ivar reply: What the others get.
    @ivar act: Called after each reply.
    """

    transport: tcp.Server

    def __init__(self) -> None:
        super().__init__()
        self.read: list[bytes] = []
        self.silent: list[bytes] = []
        self.reply = b"reply"
        self.act: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        """A request, say."""
        self.read.append(data)
        if data not in self.silent:
            self.transport.write(self.reply)
            self.act()


class ReadOnTests(SynchronousTestCase):
    """
    Tests for a L{PromptServer} that expects more.
    """

    def setUp(self) -> None:
        """
        A connection on which three requests come, each when the reply before it was
        sent.
        """
        self.end = End()
        self.transport = cast(PromptServer, self.end.transport)
        self.protocol = Answering()
        self.protocol.transport = self.transport
        self.transport.protocol = self.protocol
        self.transport.startReading()
        self.socket = self.end.socket
        self.socket.chunks = [b"one", b"two", b"three"]
        self.now = 0.0
        self.waits = 0
        self.patch(prompt, "perf_counter", lambda: self.now)

    def poll(self, timeout: float) -> bool:
        """
        Whether something can be read; looking takes its time.
        """
        self.assertEqual(0, timeout)
        self.waits += 1
        self.now += MAX_TURN / 3
        return bool(self.socket.chunks)

    def expect(self) -> None:
        """
        Expect more.
        """
        self.transport.expect(Expecting(self.poll, lambda: self.now))

    def test_notExpecting(self) -> None:
        """
        Unless more is expected, the reactor gets its turn after each chunk.
        """
        self.assertIdentical(None, self.transport.doRead())
        self.assertEqual([b"one"], self.protocol.read)

    def test_readOn(self) -> None:
        """
        Where more is expected, what comes after a reply is read in the same turn,
        and at the end of it the reactor gets its own.
        """
        self.expect()
        self.assertIdentical(None, self.transport.doRead())
        self.assertEqual([b"one", b"two", b"three"], self.protocol.read)
        self.assertEqual(b"replyreplyreply", self.socket.sent)

    def test_turn(self) -> None:
        """
        However quickly octets come, the reactor gets its turn.
        """
        self.expect()
        self.socket.chunks = [b"more"] * 100
        self.transport.doRead()
        self.assertEqual(4, len(self.protocol.read))
        self.transport.doRead()
        self.assertEqual(8, len(self.protocol.read))

    def test_nothingSent(self) -> None:
        """
        Where there was no reply nothing is waited for.
        """
        self.expect()
        self.protocol.silent = [b"two"]
        self.transport.doRead()
        self.assertEqual([b"one", b"two"], self.protocol.read)
        self.socket.chunks.clear()
        self.waits = 0
        self.transport.doRead()
        self.assertEqual(0, self.waits)

    def test_muchSent(self) -> None:
        """
        Where more was sent than a single reply, nothing is waited for.
        """
        self.expect()
        self.protocol.reply = b"x" * MAX_SINGLE_OCTETS
        self.transport.doRead()
        self.assertEqual(3, len(self.protocol.read))
        self.socket.chunks = [b"one", b"two"]
        self.protocol.reply += b"x"
        self.transport.doRead()
        self.assertEqual(4, len(self.protocol.read))

    def test_notRead(self) -> None:
        """
        Nothing is read after a reply with which reading stops, for now or for ever,
        and nothing while a reply is queued.
        """

        def full() -> None:
            self.socket.room = 0
            self.transport.write(b"queued")

        for name in ("stopReading", "pauseProducing", "loseConnection", ""):
            self.setUp()
            self.expect()
            self.protocol.act = getattr(self.transport, name) if name else full
            self.assertIdentical(None, self.transport.doRead())
            self.assertEqual([b"one"], self.protocol.read)
            self.assertEqual(0, self.waits)

    def test_end(self) -> None:
        """
        If the end comes after a reply, the reactor is told of it.
        """
        self.expect()
        self.socket.chunks = [b"one", b""]
        why = self.transport.doRead()
        self.assertIsInstance(why, ConnectionDone)
        self.assertEqual([b"one"], self.protocol.read)

    def test_lost(self) -> None:
        """
        The same if the connection is lost then.
        """
        self.expect()

        def reset() -> None:
            self.socket.error = errno.ECONNRESET

        self.protocol.act = reset
        self.assertIsInstance(self.transport.doRead(), ConnectionLost)


class ExpectMoreTests(SynchronousTestCase):
    """
    Tests for L{expectMore}.
    """

    def test_beneathTLS(self) -> None:
        """
        The transport beneath wrappers expects more, if it can.
        """
        here, there = socket.socketpair()
        self.addCleanup(there.close)
        self.addCleanup(here.close)
        end = End()
        self.patch(end.transport, "fileno", here.fileno)
        more: list[Expecting] = []
        self.patch(end.transport, "expect", more.append)
        inner = Protocol()
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), inner)
        wrapper.makeConnection(end.transport)
        expectMore(inner.transport, _always)
        self.assertFalse(more[0].come())
        there.send(b"x")
        self.assertTrue(Expecting.of(here.fileno(), _always).come())

    def test_others(self) -> None:
        """
        Others are left as they are.
        """
        for other in (StringTransport(), End(tcp.Server).transport):
            before = dict(vars(other))
            expectMore(other, _always)
            self.assertEqual(before, vars(other))


class SendAtOnceTests(SynchronousTestCase):
    """
    Tests for L{sendAtOnce}.
    """

    def test_TCP(self) -> None:
        """
        The connections that a TCP port accepts send at once; those of other ports
        do not.
        """
        made: list[Protocol] = []

        class Kept(Factory):
            noisy = False

            def buildProtocol(self, address: IAddress | None) -> Protocol:
                made.append(Protocol())
                return made[-1]

        ports = [
            tcp.Port(0, Kept(), interface="127.0.0.1", reactor=MemoryReactorClock())
            for _ in range(2)
        ]
        sendAtOnce(ports[0])
        for port in ports:
            port.startListening()
            self.addCleanup(port.connectionLost, None)
            with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
                port.doRead()
                transport = cast(tcp.Server, made[-1].transport)
                self.addCleanup(transport.connectionLost, Failure(ConnectionDone()))
                transport.write(b"hello")
                client.settimeout(10 if port is ports[0] else 0)
                if port is ports[0]:
                    self.assertEqual(b"hello", client.recv(5))
                else:
                    self.assertRaises(BlockingIOError, client.recv, 5)

    def test_otherPorts(self) -> None:
        """
        UNIX ports, TCP ports with a transport of their own, and what is none of
        Twisted's ports are left as they are.
        """

        class OwnServer(tcp.Server):
            """A transport of somebody's own."""

        reactor = MemoryReactorClock()
        own = tcp.Port(0, Factory(), reactor=reactor)
        own.transport = OwnServer
        for port in (
            unix.Port(b"/run/x", Factory(), reactor=reactor),
            own,
            reactor.listenTCP(0, Factory()),
        ):
            before = dict(vars(port))
            sendAtOnce(cast(IListeningPort, port))
            self.assertEqual(before, vars(port))
