"""
Tests for L{tcpsvc.clock}.
"""

from __future__ import annotations

import time

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.clock import useMonotonicClock
from tcpsvc.events import REPLY, Journal
from tests.support import MemoryTrail, clockAtEpoch


class MonotonicTests(SynchronousTestCase):
    """
    Tests for L{useMonotonicClock}, with reactors that never run.
    """

    def test_timers(self) -> None:
        """
        Timers are due by the monotonic clock, whatever the wall clock says.
        """
        self.patch(time, "time", lambda: 0.0)
        for kind in (EPollReactor, AsyncioSelectorReactor):
            with self.subTest(kind.__name__):
                reactor = kind()
                self.addCleanup(reactor.removeAll)
                useMonotonicClock(reactor)
                before = time.monotonic()
                call = reactor.callLater(5, lambda: None)
                self.assertLessEqual(before + 5, call.getTime())
                self.assertLessEqual(call.getTime(), time.monotonic() + 5)
                self.assertGreater(reactor.timeout() or 0, 4)
                call.cancel()


class SetClockTests(SynchronousTestCase):
    """
    What is told to a journal while the wall clock is set.
    """

    def setUp(self) -> None:
        """
        A journal whose two clocks differ.
        """
        self.clock = clockAtEpoch()
        self.trail = MemoryTrail()
        self.ahead = 1000.0
        journal = Journal(self.trail, self.clock, now=self.wall)
        self.journal = journal
        self.session = journal.ofSession("session-1")

    def wall(self) -> float:
        """
        The wall clock.
        """
        return self.clock.seconds() + self.ahead

    def test_stamps(self) -> None:
        """
        Time stamps are of the wall clock, durations are not.
        """
        for ahead in (1000.0, -3600.0, 1200.0):
            self.ahead = ahead
            since = self.session.seconds()
            self.session.request(1, '"request":"A"', since)
            self.clock.advance(0.25)
            self.session.reply(1, '"reply":"200 A"', 200, since)
            self.session.exchanges(2, since, [("B", "200 B", self.session.seconds())])
            self.session.data("in", '"data":"C"')
            self.session.commit()
            now = self.wall()
            moments = [moment for moment, _, _ in self.trail.kept]
            self.assertEqual([now - 0.25, now, now - 0.25, now, now], moments)
            taken = [reply["duration_us"] for reply in self.trail.of(REPLY.name)]
            self.assertEqual([250_000, 250_000], taken)
            self.trail.kept.clear()

    def test_notes(self) -> None:
        """
        Other records have the time of the wall clock too.
        """
        self.journal.note(REPLY, {})
        self.journal.commit()
        self.assertEqual(self.wall(), self.trail.kept[0][0])
