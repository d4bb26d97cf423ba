"""
Tests for L{tcpsvc.expecting}.
"""

from __future__ import annotations

import socket
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.expecting import MAX_LEFT_OUT, PATIENCE, Expecting


def _always() -> bool:
    """
    Nobody else ever waits.
    """
    return True


class ExpectingTests(SynchronousTestCase):
    """
    Tests for L{Expecting}.
    """

    def setUp(self) -> None:
        """
        A socket that is looked at in a time of its own.
        """
        self.now = 0.0
        self.comesAt = 0.0
        self.looks = 0
        self.mayWait = True
        self.expecting = Expecting(self.poll, lambda: self.now, lambda: self.mayWait)

    def poll(self, timeout: float) -> bool:
        """
        Whether octets have come; looking takes a microsecond.
        """
        self.assertEqual(0, timeout)
        self.looks += 1
        self.now += 1e-6
        return self.now >= self.comesAt

    def come(self, after: float) -> bool:
        """
        Wait for octets that come in C{after} seconds.
        """
        self.comesAt = self.now + after
        return self.expecting.come()

    def test_there(self) -> None:
        """
        What is there already is not waited for.
        """
        self.assertTrue(self.come(0))
        self.assertEqual(1, self.looks)

    def test_soon(self) -> None:
        """
        What comes soon is waited for, each time anew.
        """
        for _ in range(3):
            self.assertTrue(self.come(PATIENCE * 0.9))

    def test_never(self) -> None:
        """
        What does not come soon is given up when its time is over.
        """
        self.assertFalse(self.come(1))
        self.assertTrue(PATIENCE <= self.now < PATIENCE + 5e-6)

    def test_inVain(self) -> None:
        """
        After a wait in vain one is left out; after another one three, and so on, up
        to a limit: who is never quick enough costs next to nothing.
        """
        looked = []
        for number in range(260):
            self.looks = 0
            self.assertFalse(self.come(1))
            if self.looks:
                looked.append(number)
        gaps = [later - former - 1 for former, later in pairwise(looked)]
        self.assertEqual([1, 3, 7, 15, 31, MAX_LEFT_OUT, MAX_LEFT_OUT], gaps[:7])

    def test_quickAgain(self) -> None:
        """
        A wait that was worth it makes good for those in vain.
        """
        for _ in range(5):
            self.come(1)
        while not self.come(0):
            pass
        self.come(1)
        self.assertFalse(self.come(0))
        self.assertTrue(self.come(0))

    def test_othersWait(self) -> None:
        """
        While others have to wait meanwhile, nothing is expected.
        """
        self.mayWait = False
        self.assertFalse(self.come(0))
        self.assertEqual(0, self.looks)

    def test_descriptor(self) -> None:
        """
        A socket is looked at: octets can be read, and so can an end.
        """
        here, there = socket.socketpair()
        self.addCleanup(here.close)
        self.assertFalse(Expecting.of(here.fileno(), _always).come())
        there.send(b"x")
        self.assertTrue(Expecting.of(here.fileno(), _always).come())
        here.recv(1)
        self.assertFalse(Expecting.of(here.fileno(), _always).come())
        there.close()
        self.assertTrue(Expecting.of(here.fileno(), _always).come())
