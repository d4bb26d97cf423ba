"""
Tests for L{tcpsvc.duplex}.
"""

from __future__ import annotations

import contextlib

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IOpenSSLServerConnectionCreator,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer

from tcpsvc.duplex import DuplexConnection, DuplexTLS
from tests.certificates import authority
from tests.peers import clientContext


class Above(Protocol):
    """
    Keeps what it is told.
    """

    def __init__(self) -> None:
        self.received = b""
        self.ends = 0
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def readConnectionLost(self) -> None:
        """Count it."""
        self.ends += 1

    def writeConnectionLost(self) -> None:
        """Never called."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.lost = reason


@implementer(IHalfCloseableProtocol)
class HalfCloseableAbove(Above):
    """
    The same, for connections whose directions end one at a time.
    """


class Wire(StringTransport):
    """
    A transport in memory that can be half-closed.
    """

    halfClosed = False
    aborted = False

    def loseWriteConnection(self) -> None:
        """Note it."""
        self.halfClosed = True

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True


class DuplexTests(SynchronousTestCase):
    """
    A server's L{DuplexTLS}, and a client that is plain OpenSSL.
    """

    def connect(self, above: Above, handshake: bool = True) -> None:
        """
        Join the two, and shake hands.
        """
        pair = authority().server()
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(pair.certificate)
        context.use_privatekey(pair.key)

        @implementer(IOpenSSLServerConnectionCreator)
        class Creator:
            """Makes the server's side."""

            def serverConnectionForTLS(
                self, protocol: TLSMemoryBIOProtocol
            ) -> SSL.Connection:
                """Make it."""
                return DuplexConnection(context, protocol)

        factory = TLSMemoryBIOFactory(Creator(), False, Factory.forProtocol(Above))
        factory.protocol = DuplexTLS
        self.above = above
        self.wire = Wire()
        alsoProvides(self.wire, ITCPTransport)
        self.server = DuplexTLS(factory, above)
        self.client = SSL.Connection(clientContext(), None)
        self.client.set_connect_state()
        self.server.makeConnection(self.wire)
        if handshake:
            for _ in range(3):
                self.exchange()

    def exchange(self) -> bytes:
        """
        Carry what is there both ways.

        @return: What the client has received.
        """
        received = b""
        if self.wire.value():
            self.client.bio_write(self.wire.value())
            self.wire.clear()
        try:
            self.client.do_handshake()
            while True:
                received += self.client.recv(65536)
        except SSL.WantReadError:
            pass
        self.flush()
        return received

    def flush(self) -> None:
        """
        Carry what the client has to send.
        """
        with contextlib.suppress(SSL.WantReadError):
            self.server.dataReceived(self.client.bio_read(65536))

    def test_endOfInput(self) -> None:
        """
        The peer's close_notify is the end of its direction, told once; what is
        written afterwards arrives.
        """
        above = HalfCloseableAbove()
        self.connect(above)
        self.client.send(b"question")
        self.client.shutdown()
        self.flush()
        self.assertEqual((b"question", 1), (above.received, above.ends))
        self.assertTrue(self.server.inputEnded)
        self.assertFalse(self.wire.disconnecting)
        self.server.write(b"answer")
        self.assertEqual(b"answer", self.exchange())
        self.server.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(1, above.ends)

    def test_closedAfterwards(self) -> None:
        """
        When this side closes too, so does TCP at once.
        """
        self.connect(HalfCloseableAbove())
        self.client.shutdown()
        self.flush()
        self.server.loseConnection()
        self.assertTrue(self.wire.disconnecting)

    def test_notHalfCloseable(self) -> None:
        """
        Where the protocol above knows no half-close, all is closed.
        """
        self.connect(Above())
        self.client.shutdown()
        self.flush()
        self.assertTrue(self.wire.disconnecting)

    def test_closing(self) -> None:
        """
        Where this side is closing, TCP's stream is ended behind close_notify; the
        peer's close_notify and the end of its stream complete that.
        """
        above = HalfCloseableAbove()
        self.connect(above)
        self.server.loseConnection()
        self.assertTrue(self.wire.halfClosed)
        self.assertFalse(self.wire.disconnecting)
        self.client.shutdown()
        self.flush()
        self.server.readConnectionLost()
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual(0, above.ends)

    def test_closedAfterBareEnd(self) -> None:
        """
        A peer that has closed TCP without close_notify is not waited for.
        """
        above = HalfCloseableAbove()
        self.connect(above)
        self.server.readConnectionLost()
        self.server.readConnectionLost()
        self.assertEqual(1, above.ends)
        self.assertFalse(self.wire.disconnecting)
        self.server.write(b"last words")
        self.server.loseConnection()
        self.assertTrue(self.wire.disconnecting)
        self.client.bio_write(self.wire.value())
        self.assertEqual(b"last words", self.client.recv(65536))
        self.assertRaises(SSL.ZeroReturnError, self.client.recv, 65536)

    def test_closeHalf(self) -> None:
        """
        Our close_notify comes behind all that was written, and the peer is heard on.
        """
        above = HalfCloseableAbove()
        self.connect(above)
        self.server.write(b"last words")
        self.server.loseWriteConnection()
        self.client.bio_write(self.wire.value())
        self.assertEqual(b"last words", self.client.recv(65536))
        self.assertRaises(SSL.ZeroReturnError, self.client.recv, 65536)
        self.client.send(b"and yet")
        self.flush()
        self.assertEqual(b"and yet", above.received)
        self.assertFalse(self.wire.disconnecting)

    def test_closeHalfInHandshake(self) -> None:
        """
        Where there is no TLS yet, nothing can be said: the connection is cut.
        """
        self.connect(HalfCloseableAbove(), handshake=False)
        self.server.loseWriteConnection()
        self.assertTrue(self.wire.aborted)

    def test_closeUnheard(self) -> None:
        """
        A peer that is closed unheard gets all that was written and the end; what it
        still sends costs no decryption.
        """
        above = HalfCloseableAbove()
        self.connect(above)
        self.server.write(b"421 good bye")
        self.server.closeUnheard()
        self.client.bio_write(self.wire.value())
        self.assertEqual(b"421 good bye", self.client.recv(65536))
        self.assertRaises(SSL.ZeroReturnError, self.client.recv, 65536)
        self.client.send(b"more")
        self.patch(DuplexConnection, "bio_write", None)
        self.flush()
        self.server.closeUnheard()
        self.assertEqual(b"", above.received)

    def test_closeHalfTwice(self) -> None:
        """
        The second close of our half does nothing.
        """
        self.connect(HalfCloseableAbove())
        self.server.loseWriteConnection()
        said = self.wire.value()
        self.server.loseWriteConnection()
        self.assertEqual(said, self.wire.value())
        self.assertFalse(self.wire.aborted)

    def test_closeEndsStream(self) -> None:
        """
        A close is more than a half-close: the end of TCP's stream follows the
        C{close_notify}, also if that was sent before. The peer is still heard.
        """
        for halfFirst in (False, True):
            above = HalfCloseableAbove()
            self.connect(above)
            if halfFirst:
                self.server.loseWriteConnection()
                self.assertFalse(self.wire.halfClosed)
            self.server.loseConnection()
            self.assertTrue(self.wire.halfClosed)
            self.assertFalse(self.wire.disconnecting)
            self.client.send(b"and yet")
            self.flush()
            self.assertEqual(b"and yet", above.received)

    def test_errorReleasesProducer(self) -> None:
        """
        When TLS fails, the producer is told and unregistered: it would keep TCP from
        closing, and produce for nothing.
        """
        self.connect(HalfCloseableAbove())
        producer = Producer()
        self.server.registerProducer(producer, True)
        self.server.dataReceived(b"\x17\x03\x03\x00\x20" + bytes(32))
        self.assertTrue(producer.stopped)
        self.assertIsNone(self.wire.producer)
        self.assertTrue(self.wire.disconnecting)


@implementer(IPushProducer)
class Producer:
    """
    Keeps whether it was stopped.
    """

    stopped = False

    def pauseProducing(self) -> None:
        """Not of interest."""

    def resumeProducing(self) -> None:
        """Not of interest."""

    def stopProducing(self) -> None:
        """Note it."""
        self.stopped = True
