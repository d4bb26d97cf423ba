"""
Tests for L{tcpsvc.paced}, with control connections.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.paced import BURST, RATE
from tcpsvc.tls import ALPN_CONTROL
from tests.peers import House


class PacedTests(SynchronousTestCase):
    """
    Requests on control connections.
    """

    def setUp(self) -> None:
        """
        One control connection.
        """
        self.house = House()
        self.asker = self.house.visit("bob", ALPN_CONTROL)
        self.asker.received.clear()

    def replies(self) -> int:
        """
        How many replies have come.
        """
        return sum(line[:4] == "200 " for line in self.asker.lines)

    def test_burst(self) -> None:
        """
        A few requests are answered at once, further ones at a steady pace; meanwhile
        nothing is read.
        """
        self.asker.send(b"WHO\n" * 40)
        self.assertEqual(BURST, self.replies())
        self.assertTrue(self.asker.socket.paused)
        self.house.clock.pump([0.05] * 20)
        self.house.pump()
        self.assertEqual(BURST + RATE, self.replies())
        self.house.clock.pump([0.05] * 20)
        self.house.pump()
        self.assertEqual(40, self.replies())
        self.assertFalse(self.asker.socket.paused)
        self.assertEqual("", self.asker.ending)

    def test_endOfInput(self) -> None:
        """
        All that was asked is answered before the end of the input ends the session.
        """
        assert self.asker.tls is not None
        self.asker.tls.send(b"WHO\n" * 20)
        self.asker.tls.shutdown()
        self.asker.pump()
        self.assertEqual("", self.asker.ending)
        for _ in range(20):
            self.house.advance(0.05)
        self.assertEqual(20, self.replies())
        self.assertEqual("closed", self.asker.ending)

    def test_gone(self) -> None:
        """
        When the connection is lost no timer stays for what is left.
        """
        self.asker.send(b"WHO\n" * 40)
        self.asker.vanish()
        self.house.advance(100)
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_notSessions(self) -> None:
        """
        The holder of the slot is not slowed down.
        """
        alice = self.house.visit("alice")
        alice.send(b"WHO\n" * 1000)
        self.assertEqual(1001, len(alice.lines))
