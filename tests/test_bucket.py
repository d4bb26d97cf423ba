"""
Tests for L{tcpsvc.bucket}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.bucket import MAX_DELAY, MAX_KEYS, Reconnections, TokenBucket
from tests.support import clockAtEpoch


class TokenBucketTests(SynchronousTestCase):
    """
    Tests for L{TokenBucket}.
    """

    def setUp(self) -> None:
        """
        Two tokens a second, and three at once.
        """
        self.clock = clockAtEpoch()
        self.bucket = TokenBucket(self.clock, 2, 3)

    def test_burst(self) -> None:
        """
        What it holds can be taken at once; for more the taker should wait, ever
        longer, up to a second.
        """
        waits = [self.bucket.take() for _ in range(9)]
        self.assertEqual([0, 0, 0, 0.5, 1, 1, 1, 1, 1], waits)

    def test_fills(self) -> None:
        """
        It gains tokens with time, and never holds more than at first.
        """
        for _ in range(4):
            self.bucket.take()
        self.assertEqual((0.5, 1.0), (self.bucket.debt(), self.bucket.wait()))
        self.clock.advance(1)
        self.assertEqual((0.0, 0.0), (self.bucket.debt(), self.bucket.wait()))
        self.assertEqual([0, 0.5], [self.bucket.take(), self.bucket.take()])
        self.clock.advance(1000)
        waits = [self.bucket.take() for _ in range(4)]
        self.assertEqual([0, 0, 0, 0.5], waits)


class ReconnectionsTests(SynchronousTestCase):
    """
    Tests for L{Reconnections}.
    """

    def test_delay(self) -> None:
        """
        Who comes more often than allowed waits, and nobody else does.
        """
        clock = clockAtEpoch()
        reconnections = Reconnections(clock, 5)
        for _ in range(5):
            self.assertEqual(0, reconnections.came("alice"))
        self.assertEqual(0, reconnections.delay("alice"))
        self.assertAlmostEqual(0.2, reconnections.came("alice"))
        self.assertAlmostEqual(0.2, reconnections.delay("alice"))
        for _ in range(100):
            self.assertLessEqual(reconnections.came("alice"), MAX_DELAY)
        self.assertEqual(0, reconnections.came("bob"))
        self.assertEqual(0, reconnections.delay("carol"))
        clock.advance(2)
        self.assertEqual(0, reconnections.delay("alice"))

    def test_disabled(self) -> None:
        """
        0 disables it.
        """
        reconnections = Reconnections(clockAtEpoch(), 0)
        for _ in range(1000):
            self.assertEqual(0, reconnections.came("alice"))
        self.assertEqual(0, reconnections.delay("alice"))

    def test_bounded(self) -> None:
        """
        Those who have not come for the longest time are forgotten first.
        """
        reconnections = Reconnections(clockAtEpoch(), 1)
        for _ in range(3):
            reconnections.came("often")
            reconnections.came("once")
        for number in range(MAX_KEYS - 1):
            reconnections.came(f"client {number}")
            reconnections.came("often")
        self.assertEqual(MAX_DELAY, reconnections.delay("often"))
        self.assertEqual(0, reconnections.delay("once"))
