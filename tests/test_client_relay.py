"""
Tests for L{tcpsvc.client.relay}.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.client import CannotReach, Relay, relay
from tests.support import ProducerTransport


class HalvesTransport(ProducerTransport):
    """
    A transport that can close its half.

    @ivar halfClosed: Whether it has.
    """

    halfClosed = False

    def loseWriteConnection(self) -> None:
        """Close our half."""
        self.halfClosed = True


class RelayTests(SynchronousTestCase):
    """
    Tests for L{Relay}, between two transports in memory.
    """

    def setUp(self) -> None:
        """
        Join the two.
        """
        self.prepare()
        self.relay.local.makeConnection(self.local)
        self.relay.service.makeConnection(self.service)

    def prepare(
        self,
        linger: float = 1.0,
        local: Any = None,
        isClosed: Callable[[object], bool | None] | None = None,
    ) -> None:
        """
        Set up a relay whose sides are not connected yet.
        """
        self.clock = Clock()
        self.relay = Relay(self.clock, linger, isClosed=isClosed)
        self.local: Any = local or HalvesTransport()
        self.service: Any = HalvesTransport()

    def lose(self, problem: Exception | None = None) -> None:
        """
        The service's connection is gone.
        """
        self.relay.service.connectionLost(Failure(problem or ConnectionDone()))

    def loseLocal(self) -> None:
        """
        The local connection is gone.
        """
        self.relay.local.connectionLost(Failure(ConnectionDone()))

    def test_octets(self) -> None:
        """
        Octets pass as they are, both ways.
        """
        every = bytes(range(256))
        self.relay.local.dataReceived(every)
        self.relay.service.dataReceived(every[::-1])
        self.assertEqual(every, self.service.value())
        self.assertEqual(every[::-1], self.local.value())

    def test_notBefore(self) -> None:
        """
        The local side is not read before the service is there.
        """
        self.prepare()
        self.relay.local.makeConnection(self.local)
        self.assertEqual("paused", self.local.producerState)
        self.assertFalse(self.relay.isOpen)
        self.relay.service.makeConnection(self.service)
        self.assertEqual("producing", self.local.producerState)
        self.assertTrue(self.relay.isOpen)

    def test_pace(self) -> None:
        """
        Neither side is read faster than the other takes it.
        """
        for source, sink in ((self.local, self.service), (self.service, self.local)):
            other = sink.producerState
            sink.producer.pauseProducing()
            self.assertEqual("paused", source.producerState)
            self.assertEqual(other, sink.producerState)
            sink.producer.resumeProducing()
            self.assertEqual("producing", source.producerState)

    def test_linger(self) -> None:
        """
        After the local half is closed, the service is copied until it was
        silent for so long; then its connection is closed in good order.
        """
        self.relay.local.readConnectionLost()
        for _ in range(5):
            self.clock.advance(0.9)
            self.relay.service.dataReceived(b"a")
        self.assertFalse(self.service.disconnecting)
        self.assertEqual(b"aaaaa", self.local.value())
        self.clock.advance(1.1)
        self.assertTrue(self.service.disconnecting)
        self.assertFalse(self.service.aborted)
        self.assertIsNone(self.service.producer)
        # What it says until it answers the close is delivered too.
        self.relay.service.dataReceived(b"b")
        self.assertEqual(b"aaaaab", self.local.value())
        self.lose()
        self.assertTrue(self.local.disconnecting)
        self.assertFalse(self.local.aborted)
        self.assertNoResult(self.relay.finished)
        self.loseLocal()
        self.successResultOf(self.relay.finished)
        self.assertIsNone(self.relay.problem)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_noLinger(self) -> None:
        """
        With 0 seconds it is closed at once.
        """
        self.prepare(0)
        self.relay.local.makeConnection(self.local)
        self.relay.service.makeConnection(self.service)
        self.relay.local.readConnectionLost()
        self.assertTrue(self.service.disconnecting)

    def test_endlessLinger(self) -> None:
        """
        With infinite seconds only the service ends it.
        """
        self.prepare(math.inf)
        self.relay.local.makeConnection(self.local)
        self.relay.service.makeConnection(self.service)
        self.relay.local.readConnectionLost()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertFalse(self.service.disconnecting)
        self.lose()
        self.assertTrue(self.local.disconnecting)

    def test_notSilentButUnread(self) -> None:
        """
        A service that is not read, because the local side does not take what it
        says, is not silent.
        """
        self.relay.local.readConnectionLost()
        self.local.producer.pauseProducing()
        self.clock.pump([1.0] * 100)
        self.assertFalse(self.service.disconnecting)
        self.local.producer.resumeProducing()
        self.clock.pump([0.6] * 2)
        self.assertTrue(self.service.disconnecting)

    def test_silenceAfterTheLastWord(self) -> None:
        """
        The silence is counted from when the service has taken what was said.
        """
        self.service.producer.pauseProducing()
        self.relay.local.readConnectionLost()
        self.clock.advance(100)
        self.assertFalse(self.service.disconnecting)
        self.service.producer.resumeProducing()
        self.assertEqual("paused", self.local.producerState)
        self.clock.advance(0.9)
        self.assertFalse(self.service.disconnecting)
        self.clock.advance(0.2)
        self.assertTrue(self.service.disconnecting)

    def test_serviceCloses(self) -> None:
        """
        When the service closes, the local side is closed when all is delivered:
        our half first, and the rest when it has closed too, or after 2 s.
        """
        self.local.producer.pauseProducing()
        self.lose()
        self.assertFalse(self.local.halfClosed)
        producer = self.local.producer
        producer.resumeProducing()
        self.assertTrue(self.local.halfClosed)
        self.assertIsNone(self.local.producer)
        self.relay.local.writeConnectionLost()
        self.relay.local.dataReceived(b"too late")
        self.assertEqual(b"", self.service.value())
        self.clock.advance(1.9)
        self.assertFalse(self.local.disconnecting)
        self.clock.advance(0.2)
        self.assertTrue(self.local.disconnecting)
        self.assertFalse(self.local.aborted)

    def test_serviceClosesAndLocalAnswers(self) -> None:
        """
        The local side that closes too is closed at once.
        """
        self.local.pauseProducing()
        self.lose()
        self.assertEqual("producing", self.local.producerState)
        self.relay.local.writeConnectionLost()
        self.relay.local.readConnectionLost()
        self.assertTrue(self.local.disconnecting)
        self.loseLocal()
        self.successResultOf(self.relay.finished)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_withoutHalves(self) -> None:
        """
        A local side that has no halves is closed as a whole.
        """
        self.prepare(local=ProducerTransport())
        self.relay.local.makeConnection(self.local)
        self.relay.service.makeConnection(self.service)
        self.lose()
        self.assertTrue(self.local.disconnecting)

    def test_serviceLost(self) -> None:
        """
        When the service is lost, the local side is cut, and it is known why.
        """
        problem = CannotReach("lost")
        self.lose(problem)
        self.assertTrue(self.local.aborted)
        self.assertIs(problem, self.relay.problem)
        self.loseLocal()
        self.successResultOf(self.relay.finished)

    def test_endedByService(self) -> None:
        """
        It is known whether the service has ended it in good order, while nobody
        here had begun to.
        """
        for begin, problem, expected in (
            (lambda relay: None, None, True),
            (lambda relay: None, CannotReach("lost"), False),
            (lambda relay: relay.leave(), None, False),
            (lambda relay: relay.local.readConnectionLost(), None, False),
            (lambda relay: self.loseLocal(), None, False),
        ):
            self.setUp()
            begin(self.relay)
            self.lose(problem)
            self.assertIs(expected, self.relay.endedByService)

    def test_lostWhileLeaving(self) -> None:
        """
        When we were closing, it does not matter how the service ends.
        """
        self.relay.leave()
        self.lose(ConnectionLost())
        self.assertFalse(self.local.aborted)
        self.assertIsNone(self.relay.problem)

    def test_localGone(self) -> None:
        """
        When the local side is gone, the service's connection is closed in good
        order without delay; what it still says is read and discarded, so that
        its answer to the close is not held up.
        """
        self.local.producer.pauseProducing()
        self.loseLocal()
        self.assertTrue(self.service.disconnecting)
        self.assertFalse(self.service.aborted)
        self.assertEqual("producing", self.service.producerState)
        self.relay.service.dataReceived(b"a")
        self.assertEqual(b"", self.local.value())
        self.assertNoResult(self.relay.finished)
        left = self.relay.whenLeft()
        self.lose()
        self.successResultOf(self.relay.finished)
        self.successResultOf(left)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_unansweredClose(self) -> None:
        """
        A service that does not answer the close is cut off after 2 s.
        """
        self.loseLocal()
        self.clock.advance(1.9)
        self.assertFalse(self.service.aborted)
        self.clock.advance(0.2)
        self.assertTrue(self.service.aborted)

    def test_localGoneBefore(self) -> None:
        """
        A local side that is gone before the service is there is the end; if the
        service comes nevertheless, it is closed.
        """
        self.prepare()
        self.relay.local.makeConnection(self.local)
        self.loseLocal()
        self.successResultOf(self.relay.finished)
        self.relay.service.makeConnection(self.service)
        self.assertTrue(self.service.disconnecting)
        self.lose()

    def test_endsTwice(self) -> None:
        """
        The local half is closed once, however often it is said.
        """
        self.relay.local.readConnectionLost()
        self.clock.advance(0.6)
        self.relay.local.readConnectionLost()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.clock.advance(0.6)
        self.assertTrue(self.service.disconnecting)
        self.relay.leave()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_halfClose(self) -> None:
        """
        When the local side has ended its half, so does the service's connection, as
        soon as all before is written; what the service says is still delivered.
        """
        self.service.producer.pauseProducing()
        self.relay.local.dataReceived(b"question")
        self.relay.local.readConnectionLost()
        self.assertFalse(self.service.halfClosed)
        self.service.producer.resumeProducing()
        self.assertTrue(self.service.halfClosed)
        self.assertIsNone(self.service.producer)
        self.assertFalse(self.service.disconnecting)
        self.relay.service.dataReceived(b"answer")
        self.assertEqual(b"answer", self.local.value())

    def test_serviceClosesWhileInputComes(self) -> None:
        """
        When the service closes, the local side is not read any more, nothing is
        written to the service, and its connection is closed at once. What was still
        read is counted, and no input keeps the processor busy.
        """
        self.relay.service.dataReceived(b"last words")
        self.relay.service.readConnectionLost()
        self.assertEqual("paused", self.local.producerState)
        self.assertIsNone(self.service.producer)
        self.assertTrue(self.service.disconnecting)
        self.relay.local.dataReceived(b"too late")
        self.relay.service.readConnectionLost()
        self.lose()
        self.assertTrue(self.local.halfClosed)
        self.assertEqual(b"last words", self.local.value())
        self.assertEqual(b"", self.service.value())
        self.assertEqual(8, self.relay.undelivered)
        self.assertTrue(self.relay.serviceClosed)
        self.assertTrue(self.relay.endedByService)
        reads = 0
        while not self.local.disconnecting:
            self.clock.advance(0.01)
            while self.local.producerState == "producing":
                self.relay.local.dataReceived(b"a" * 65536)
                reads += 1
        self.assertLess(self.clock.seconds(), 2.2)
        self.assertLess(reads, 50)

    def test_serviceClosesWithUndelivered(self) -> None:
        """
        What is on its way to a service that has closed does not delay the end.
        """
        self.patch(relay, "undelivered", lambda transport: 1000)
        self.relay.service.readConnectionLost()
        self.assertTrue(self.service.aborted)
        self.lose(CannotReach("the connection was cut"))
        self.assertIsNone(self.relay.problem)
        self.assertEqual(1000, self.relay.undelivered)
        self.assertTrue(self.relay.endedByService)

    def test_closeNotifyUndelivered(self) -> None:
        """
        A C{close_notify} of ours that is on its way is no input.
        """
        self.relay.local.readConnectionLost()
        self.patch(relay, "undelivered", lambda transport: 24)
        self.relay.service.readConnectionLost()
        self.assertEqual(0, self.relay.undelivered)
        self.assertFalse(self.service.aborted)

    def test_slowLocal(self) -> None:
        """
        A local side that is slow to read what the service has said last is not closed
        before it has read all, and then has 2 s to close.
        """
        waiting = 1000
        self.patch(
            relay, "undelivered", lambda each: waiting if each is self.local else 0
        )
        self.lose()
        self.clock.pump([1.0] * 60)
        self.assertFalse(self.local.disconnecting)
        waiting = 0
        self.clock.pump([0.1] * 18)
        self.assertFalse(self.local.disconnecting)
        self.clock.pump([0.1] * 4)
        self.assertTrue(self.local.disconnecting)

    def test_onlySends(self) -> None:
        """
        A local side that goes on sending after the service has closed, and reads
        nothing of what the service has said, is reset after a while.
        """
        self.patch(relay, "undelivered", lambda each: 1000 * (each is self.local))
        self.local.producer.pauseProducing()
        self.lose()
        while not self.local.aborted:
            if self.local.producerState == "producing":
                self.relay.local.dataReceived(b"a")
            self.clock.advance(0.1)
            self.assertLess(self.clock.seconds(), 31)
        self.assertGreater(self.clock.seconds(), 29)
        self.assertFalse(self.local.halfClosed)

    def test_serviceFails(self) -> None:
        """
        When the service takes nothing any more, the local side is not read.
        """
        self.service.producer.stopProducing()
        self.assertEqual("paused", self.local.producerState)

    def test_leavingReadsNothing(self) -> None:
        """
        A relay that leaves the service does not read the local side.
        """
        self.relay.leave()
        self.assertEqual("paused", self.local.producerState)

    def joined(self, closed: list[bool | None]) -> None:
        """
        Join two sides. Of the local one it is known what C{closed} has.
        """
        self.prepare(isClosed=lambda _: closed[0])
        self.relay.local.makeConnection(self.local)
        self.relay.service.makeConnection(self.service)

    def test_localClosed(self) -> None:
        """
        A local side that has closed altogether is not waited for: the service is left
        as soon as all before is written.
        """
        self.joined([True])
        self.service.producer.pauseProducing()
        self.relay.local.dataReceived(b"last words")
        self.relay.local.readConnectionLost()
        self.assertFalse(self.service.disconnecting)
        self.service.producer.resumeProducing()
        self.assertTrue(self.service.disconnecting)
        self.assertFalse(self.service.aborted)
        self.assertEqual(b"last words", self.service.value())
        self.assertTrue(self.local.aborted)

    def test_localClosedLater(self) -> None:
        """
        So is one that closes altogether while the service is waited for.
        """
        closed: list[bool | None] = [False]
        self.joined(closed)
        self.relay.local.readConnectionLost()
        self.clock.advance(0.5)
        self.assertFalse(self.service.disconnecting)
        closed[0] = True
        self.clock.advance(0.03)
        self.assertTrue(self.service.disconnecting)

    def test_localOpen(self) -> None:
        """
        One that is there to read gets what the service says until it is silent.
        """
        self.joined([False])
        self.relay.local.readConnectionLost()
        self.assertTrue(self.service.halfClosed)
        self.clock.pump([0.1] * 9)
        self.assertFalse(self.service.disconnecting)
        self.clock.pump([0.1] * 2)
        self.assertTrue(self.service.disconnecting)

    def test_unknownAndNothingOwed(self) -> None:
        """
        Where it is not known whether the local side is there, a service that has
        answered all is waited for only briefly; one that owes an answer is not.
        """
        for owed, patience in ((False, 0.05), (True, 1.0)):
            self.joined([None])
            self.relay.local.dataReceived(b"question")
            self.relay.service.dataReceived(b"answer")
            if owed:
                self.relay.local.dataReceived(b"question")
            self.relay.local.readConnectionLost()
            self.clock.advance(patience - 0.01)
            self.assertFalse(self.service.disconnecting, owed)
            self.clock.advance(0.02)
            self.assertTrue(self.service.disconnecting, owed)
