"""
Tests for L{tcpsvc.closing}.
"""

from __future__ import annotations

import contextlib
import socket
from typing import cast

from twisted.internet.interfaces import ISystemHandle, ITCPTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tcpsvc import closing
from tcpsvc.closing import (
    CLOSE_PATIENCE,
    DELIVERY_PATIENCE,
    DELIVERY_PERIOD,
    MAX_CLOSING,
    SHORT_PATIENCE,
    STALL_PATIENCE,
    Closing,
)
from tcpsvc.sockets import Transport, acknowledged, undelivered
from tests.support import ProducerTransport, clockAtEpoch


@implementer(ITCPTransport)
class _BareSocket(ProducerTransport):
    """
    A TCP transport that counts what is asked of it.
    """

    halfClosed = 0
    closes = 0

    def loseWriteConnection(self) -> None:
        """Close our half."""
        self.halfClosed += 1

    def loseConnection(self) -> None:
        """Close."""
        self.closes += 1

    def getTcpNoDelay(self) -> bool:
        """Not asked."""
        raise NotImplementedError

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Not asked."""
        raise NotImplementedError

    getTcpKeepAlive = getTcpNoDelay
    setTcpKeepAlive = setTcpNoDelay


class ClosingTests(SynchronousTestCase):
    """
    Tests for L{Closing}.
    """

    def setUp(self) -> None:
        """
        Make one whose clock the test moves.
        """
        self.clock = clockAtEpoch()
        self.closing = Closing(self.clock)

    def close(self, unheard: bool = False) -> _BareSocket:
        """
        @return: A transport that was told to close.
        """
        transport = _BareSocket()
        self.closing.close(cast(Transport, transport), unheard)
        return transport

    def test_inGoodOrder(self) -> None:
        """
        A transport is closed in good order first: over TLS, both halves.
        """
        transport = self.close()
        self.assertEqual((transport.closes, transport.halfClosed), (1, 0))
        self.assertFalse(transport.aborted)

    def test_unheard(self) -> None:
        """
        Of a bare socket only our half is closed at first, so that what was
        written last arrives although octets of the peer are unread.
        """
        transport = self.close(unheard=True)
        self.assertEqual((transport.closes, transport.halfClosed), (0, 1))
        self.assertFalse(transport.aborted)

    def test_unheardWithoutHalves(self) -> None:
        """
        A transport that has no halves is closed as a whole.
        """
        transport = ProducerTransport()
        self.closing.close(cast(Transport, transport), unheard=True)
        self.assertTrue(transport.disconnecting)

    def test_unanswered(self) -> None:
        """
        A peer that does not answer is cut off after two seconds, not before,
        and once.
        """
        self.assertEqual(CLOSE_PATIENCE, 2.0)
        for unheard in (False, True):
            transport = self.close(unheard)
            self.clock.advance(1.9)
            self.assertFalse(transport.aborted)
            self.clock.advance(0.2)
            self.assertTrue(transport.aborted)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_answered(self) -> None:
        """
        A peer that answers in time is not cut off, and no timer stays.
        """
        transport = self.close()
        self.clock.advance(1)
        self.closing.closed(cast(Transport, transport))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(5)
        self.assertFalse(transport.aborted)

    def test_never(self) -> None:
        """
        A transport that was lost without being closed here may be told of, also
        after it was cut off.
        """
        self.closing.closed(cast(Transport, _BareSocket()))
        transport = self.close()
        self.clock.advance(3)
        self.closing.closed(cast(Transport, transport))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_twice(self) -> None:
        """
        A transport that is told twice to close is closed once, and has no more
        time for it.
        """
        transport = self.close()
        self.clock.advance(1.5)
        self.closing.close(cast(Transport, transport))
        self.assertEqual(transport.closes, 1)
        self.clock.advance(0.6)
        self.assertTrue(transport.aborted)

    def test_most(self) -> None:
        """
        At most 64 take their time: past that the oldest is cut off.
        """
        self.assertEqual(MAX_CLOSING, 64)
        transports = [self.close() for _ in range(64)]
        self.assertFalse(any(transport.aborted for transport in transports))
        for count in (1, 2):
            transports.append(self.close())
            self.assertEqual(
                [transport.aborted for transport in transports],
                [True] * count + [False] * 64,
            )
        self.assertEqual(len(self.clock.getDelayedCalls()), 64)

    def test_sessions(self) -> None:
        """
        A connection that had a session is displaced by no other.
        """
        holder = _BareSocket()
        self.closing.close(cast(Transport, holder), hadSession=True)
        for _ in range(100):
            self.close()
        self.assertFalse(holder.aborted)
        self.clock.advance(CLOSE_PATIENCE)
        self.assertTrue(holder.aborted)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_mostAtOnce(self) -> None:
        """
        Those that have answered make room.
        """
        transports = [self.close() for _ in range(64)]
        self.closing.closed(cast(Transport, transports[5]))
        self.close()
        self.assertFalse(any(transport.aborted for transport in transports))


@implementer(ISystemHandle)
class _OnSocket(_BareSocket):
    """
    The same with a socket under it.
    """

    def __init__(self, handle: socket.socket) -> None:
        super().__init__()
        self._handle = handle

    def getHandle(self) -> socket.socket:
        """The socket."""
        return self._handle


class DeliveryTests(SynchronousTestCase):
    """
    Tests for L{Closing} with a peer that has not taken all that was written.
    """

    def setUp(self) -> None:
        """
        Fill a connection, and close it.
        """
        self.clock = clockAtEpoch()
        self.closing = Closing(self.clock)
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.client = socket.create_connection(server.getsockname())
            self.addCleanup(self.client.close)
            ours, _ = server.accept()
        self.addCleanup(ours.close)
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(b"x" * 65536)
        self.transport = _OnSocket(ours)
        self.closing.close(cast(Transport, self.transport), unheard=True)

    def wait(self, seconds: float) -> None:
        """
        Let time go by as a reactor does.
        """
        self.clock.pump([DELIVERY_PERIOD] * round(seconds / DELIVERY_PERIOD))

    def readAll(self) -> None:
        """
        Take all that is there, and let the system say so.
        """
        self.client.setblocking(False)
        while undelivered(self.transport):
            with contextlib.suppress(BlockingIOError):
                self.client.recv(1 << 20)

    def test_slowReader(self) -> None:
        """
        The time for the answer begins when all is delivered.
        """
        self.wait(CLOSE_PATIENCE * 3)
        self.assertFalse(self.transport.aborted)
        self.readAll()
        self.wait(CLOSE_PATIENCE)
        self.assertFalse(self.transport.aborted)
        self.wait(DELIVERY_PERIOD * 3)
        self.assertTrue(self.transport.aborted)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stalledReader(self) -> None:
        """
        A peer that takes nothing is cut off after half a minute.
        """
        self.wait(STALL_PATIENCE - 1)
        self.assertFalse(self.transport.aborted)
        self.wait(2)
        self.assertTrue(self.transport.aborted)

    def test_steadyReader(self) -> None:
        """
        A peer that takes something is waited for longer, but not without end.
        """
        taken = 0
        self.patch(closing, "acknowledged", lambda transport: taken)
        for _ in range(round(DELIVERY_PATIENCE / 20) - 1):
            taken += 1
            self.wait(20)
        self.assertFalse(self.transport.aborted)
        taken += 1
        self.wait(21)
        self.assertTrue(self.transport.aborted)

    def test_hurry(self) -> None:
        """
        When the service stops, a peer has ten seconds more, however steadily it reads.
        """
        self.assertEqual(10, SHORT_PATIENCE)
        taken = 0
        self.patch(closing, "acknowledged", lambda transport: taken)
        self.wait(20)
        self.closing.hurry()
        for _ in range(9):
            taken += 1
            self.wait(1)
        self.assertFalse(self.transport.aborted)
        taken += 1
        self.wait(2)
        self.assertTrue(self.transport.aborted)

    def test_patience(self) -> None:
        """
        The time for the delivery can be shorter from the beginning.
        """
        self.closing.closed(cast(Transport, self.transport))
        self.closing.close(cast(Transport, self.transport), patience=5)
        self.wait(4)
        self.assertFalse(self.transport.aborted)
        self.wait(2)
        self.assertTrue(self.transport.aborted)

    def test_acknowledged(self) -> None:
        """
        What the peer's system has taken is counted.
        """
        before = acknowledged(self.transport)
        self.assertGreater(before, 0)
        self.readAll()
        self.assertGreater(acknowledged(self.transport), before)
        self.assertEqual(0, acknowledged(ProducerTransport()))
        here, there = socket.socketpair()
        self.addCleanup(here.close)
        self.addCleanup(there.close)
        self.assertEqual(0, acknowledged(_OnSocket(here)))

    def test_closed(self) -> None:
        """
        A connection that is lost meanwhile leaves no timer.
        """
        self.wait(1)
        self.closing.closed(cast(Transport, self.transport))
        self.assertEqual([], self.clock.getDelayedCalls())
