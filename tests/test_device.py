"""
Tests for L{tcpsvc.device}.
"""

from __future__ import annotations

from typing import Any, cast

from service_identity import VerificationError
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import _WrappingProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    ISSLTransport,
    ITransport,
    IUNIXTransport,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides
from zope.interface.verify import verifyObject

from tcpsvc.device import ANSWER_PATIENCE, CLOSE_PATIENCE, Device
from tcpsvc.duplex import DuplexTLS
from tests.gatewayside import DeviceSocket, LineSocket


class DeviceTestCase(SynchronousTestCase):
    """
    A connection to a device, and somebody whose it is.
    """

    def setUp(self) -> None:
        """
        Connect to a device over TCP.
        """
        self.clock = Clock()
        self.calls: list[object] = []
        self.connect(DeviceSocket([]))

    def connect(self, socket: DeviceSocket) -> None:
        """
        Connect.
        """
        clock: Any = self.clock
        self.socket = socket
        self.device = Device(self, clock)
        self.socket.protocol = self.device
        transport: Any = socket
        self.calls.clear()
        self.device.makeConnection(transport)

    def deviceConnected(self, device: Device) -> None:
        """The device is there."""
        self.calls.append("connected")

    def deviceSaid(self, data: bytes) -> None:
        """The device says something."""
        self.calls.append(data)

    def deviceEnded(self) -> None:
        """The device will say nothing more."""
        self.calls.append("ended")

    def deviceLost(self, device: Device) -> None:
        """The connection is closed."""
        self.calls.append("lost")

    def assertNoTimers(self) -> None:
        """
        Nothing is left for later.
        """
        self.assertEqual([], self.clock.getDelayedCalls())


class TellTests(DeviceTestCase):
    """
    What the owner is told.
    """

    def test_all(self) -> None:
        """
        Each thing that happens, in order.
        """
        verifyObject(IHalfCloseableProtocol, self.device)
        self.socket.say(b"a")
        self.socket.hangUp()
        self.device.writeConnectionLost()
        self.socket.lose()
        self.assertEqual(["connected", b"a", "ended", "lost"], self.calls)

    def test_endTwice(self) -> None:
        """
        The end of its stream counts once, although Twisted reports it again when the
        socket is resumed.
        """
        self.socket.hangUp()
        self.socket.hangUp()
        self.assertEqual(["connected", "ended"], self.calls)
        self.device.close()
        self.socket.disconnecting = False
        self.socket.hangUp()
        self.assertFalse(self.socket.disconnecting)

    def test_socket(self) -> None:
        """
        Small writes are sent at once, and a dead machine is found, but nothing is
        set that would cut off a device that takes its time to read.
        """
        self.assertTrue(self.socket.getTcpNoDelay())
        self.assertTrue(self.socket.getTcpKeepAlive())
        self.assertEqual(2, len(self.socket.options.set))

    def test_noTCP(self) -> None:
        """
        A UNIX socket, which says that it is TCP too, is left alone, and so is a
        serial line.
        """
        unix = DeviceSocket([])
        alsoProvides(unix, IUNIXTransport)
        for socket in (unix, LineSocket([])):
            self.connect(socket)
            self.assertEqual({}, socket.options.set)

    def test_outcome(self) -> None:
        """
        How the device has ended is what its transport says, if it says that.
        """
        self.socket.lose()
        self.assertEqual({}, self.device.outcome)
        ended: Any = DeviceSocket([])
        ended.outcome = {"exit_status": 3}
        self.connect(ended)
        ended.lose()
        self.assertEqual({"exit_status": 3}, self.device.outcome)


class HandshakeTests(DeviceTestCase):
    """
    A device over TLS, whose handshake is still to come.
    """

    def setUp(self) -> None:
        """
        Connect to it.
        """
        super().setUp()
        self.calls.clear()
        clock: Any = self.clock
        self.device = Device(self, clock)
        tls = TLSMemoryBIOFactory(
            optionsForClientTLS("bench.example"),
            True,
            cast(Any, Factory.forProtocol(lambda: self.device)),
        )
        layer = tls.buildProtocol(IPv4Address("TCP", "192.0.2.50", 5025))
        assert layer is not None
        self.layer = layer
        self.below = DeviceSocket([])
        self.below.protocol = layer
        cast(Any, layer).makeConnection(self.below)

    def test_waits(self) -> None:
        """
        It is there when the handshake has completed, and not before; that is told
        once.
        """
        self.assertEqual([], self.calls)
        connected = self.device.whenConnected()
        self.assertNoResult(connected)
        self.assertTrue(IHandshakeListener.providedBy(self.device))
        for _ in range(2):
            self.device.handshakeCompleted()
        self.assertEqual(["connected"], self.calls)
        self.successResultOf(connected)
        self.successResultOf(self.device.whenConnected())

    def test_wrapped(self) -> None:
        """
        A layer between TLS and the device is asked to pass the news on, and goes on
        knowing half-closes.
        """
        clock: Any = self.clock
        device = Device(self, clock)
        between = _WrappingProtocol(Deferred(), device)
        self.assertFalse(IHandshakeListener.providedBy(between))
        layer: Any = TLSMemoryBIOProtocol(cast(Any, self.layer).factory, between)
        tcp: Any = DeviceSocket([])
        tcp.protocol = layer
        device.makeConnection(tcp)
        self.assertEqual([], self.calls)
        self.assertTrue(IHalfCloseableProtocol.providedBy(between))
        self.assertTrue(IHandshakeListener.providedBy(between))
        between.handshakeCompleted()
        self.assertEqual(["connected"], self.calls)

    def test_fails(self) -> None:
        """
        If the connection is lost before, that is why it is not there, for whoever
        asks before and for whoever asks after.
        """
        before = self.device.whenConnected()
        self.below.lose(ConnectionLost())
        for connected in (before, self.device.whenConnected()):
            self.failureResultOf(connected)
        self.assertEqual(["lost"], self.calls)

    def test_otherName(self) -> None:
        """
        A handshake that Twisted calls complete although it has given the connection up
        connects nobody: the certificate names another host.
        """
        connected = self.device.whenConnected()
        cast(Any, self.layer).failVerification(Failure(VerificationError([])))
        self.device.handshakeCompleted()
        self.assertEqual([], self.calls)
        self.below.settle()
        self.failureResultOf(connected, VerificationError)

    def test_cancel(self) -> None:
        """
        Whoever waits no longer closes the connection.
        """
        connected = self.device.whenConnected()
        connected.cancel()
        self.assertTrue(self.below.aborted)
        self.failureResultOf(connected, CancelledError)
        self.below.settle()
        self.assertEqual(["lost"], self.calls)


class HalfCloseTests(DeviceTestCase):
    """
    The end of what the client says.
    """

    def test_tcp(self) -> None:
        """
        TCP knows it. A producer that waits would hold it back, and is let go
        before.
        """
        self.socket.registerProducer(object(), True)
        self.assertTrue(self.device.knowsHalfClose)
        self.device.closeHalf()
        self.assertTrue(self.socket.halfClosed)
        self.assertIs(None, self.socket.producer)
        self.assertFalse(self.socket.disconnecting)

    def test_tls(self) -> None:
        """
        TLS does not: its transport hands out the method of the socket below it,
        which would cut the stream off without a word of TLS.
        """
        alsoProvides(self.socket, ISSLTransport)
        self.assertFalse(self.device.knowsHalfClose)

    def test_duplexTLS(self) -> None:
        """
        The TLS of C{mtls:} does: a C{close_notify} ends one direction only.
        """
        factory: Any = TLSMemoryBIOFactory(
            optionsForClientTLS("bench.example"), True, cast(Any, Factory())
        )
        self.device.transport = DuplexTLS(factory, self.device)
        self.assertTrue(self.device.knowsHalfClose)

    def test_serial(self) -> None:
        """
        A serial line does not, although Twisted's has a method of that name.
        """
        line = LineSocket([])
        alsoProvides(line, ITransport)
        self.connect(line)
        self.assertTrue(hasattr(line, "loseWriteConnection"))
        self.assertFalse(self.device.knowsHalfClose)


class CloseTests(DeviceTestCase):
    """
    The end.
    """

    def test_answered(self) -> None:
        """
        Our half is closed first, and the device read on; when it closes too, so
        do we.
        """
        self.socket.registerProducer(object(), True)
        self.socket.paused = True
        self.device.close()
        self.assertTrue(self.socket.halfClosed)
        self.assertIs(None, self.socket.producer)
        self.assertFalse(self.socket.paused)
        self.assertFalse(self.socket.disconnecting)
        self.socket.hangUp()
        self.assertTrue(self.socket.disconnecting)
        self.assertNotIn("ended", self.calls)
        self.socket.lose()
        self.assertNoTimers()

    def test_notAnswered(self) -> None:
        """
        A device that keeps its half open is closed after a while.
        """
        self.device.close()
        self.clock.advance(ANSWER_PATIENCE - 0.01)
        self.assertFalse(self.socket.disconnecting)
        self.clock.advance(0.01)
        self.assertTrue(self.socket.disconnecting)
        self.assertFalse(self.socket.aborted)
        self.socket.lose()
        self.assertNoTimers()

    def test_ended(self) -> None:
        """
        A device that has closed its half before is closed at once.
        """
        self.socket.hangUp()
        self.device.close()
        self.assertTrue(self.socket.disconnecting)

    def test_noHalves(self) -> None:
        """
        So is one without halves, of TLS or a serial line.
        """
        secure = DeviceSocket([])
        alsoProvides(secure, ISSLTransport)
        for socket in (secure, LineSocket([])):
            self.connect(socket)
            socket.registerProducer(object(), True)
            self.device.close()
            self.assertIs(None, socket.producer)
            self.assertTrue(socket.disconnecting)
            self.assertFalse(socket.halfClosed)

    def test_stuck(self) -> None:
        """
        A connection that does not close in time is cut off.
        """
        self.device.close()
        self.clock.advance(CLOSE_PATIENCE - 0.01)
        self.assertFalse(self.socket.aborted)
        self.clock.advance(0.01)
        self.assertTrue(self.socket.aborted)

    def test_twice(self) -> None:
        """
        To close twice is to close once.
        """
        self.device.close()
        timers = len(self.clock.getDelayedCalls())
        self.device.close()
        self.assertEqual(timers, len(self.clock.getDelayedCalls()))

    def test_abort(self) -> None:
        """
        An abort does not wait; a transport without one is closed.
        """
        self.device.abort()
        self.assertTrue(self.socket.aborted)

        class Plain:
            closed = False

            def loseConnection(self) -> None:
                self.closed = True

        plain: Any = Plain()
        self.device.makeConnection(plain)
        self.device.abort()
        self.assertTrue(plain.closed)
