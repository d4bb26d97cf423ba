"""
Tests for L{tcpsvc.clock}.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.clock import useMonotonicClock
from tcpsvc.events import REPLY, Journal
from tests.clientside import commandEnvironment
from tests.support import MemoryTrail, clockAtEpoch


class MonotonicClockTests(SynchronousTestCase):
    """
    Tests for L{useMonotonicClock}, with reactors of its own.
    """

    def reactors(self) -> list[ReactorBase]:
        """
        One of each kind that tcpsvc runs under.
        """
        loop = asyncio.SelectorEventLoop()
        self.addCleanup(loop.close)
        return [EPollReactor(), AsyncioSelectorReactor(loop)]

    def test_clockIsSet(self) -> None:
        """
        A wall clock that is set by an hour, forward or back, moves no timer: a short
        one runs when it is due, and a long one does not.
        """
        shift = 0.0
        wall = staticmethod(lambda: time.time() + shift)
        self.patch(ReactorBase, "seconds", wall)
        for hours in (1, -1):
            for reactor in self.reactors():
                shift = 0.0
                useMonotonicClock(reactor)
                called: list[str] = []
                reactor.callLater(1800, called.append, "long")
                reactor.callLater(0.01, called.append, "short")
                shift = hours * 3600.0
                for _ in range(2):
                    reactor.iterate(0.02)
                self.assertEqual(["short"], called, (hours, reactor))

    def test_timersBefore(self) -> None:
        """
        Timers that were set by the other clock are an error.
        """
        for reactor in self.reactors():
            reactor.callLater(1, lambda: None)
            self.assertRaises(RuntimeError, useMonotonicClock, reactor)


class CommandTests(SynchronousTestCase):
    """
    The commands of the client.
    """

    def test_monotonic(self) -> None:
        """
        They run under the monotonic clock, also those with a line editor.
        """
        for before in ("", "installEditorsReactor()"):
            program = f"""\
import sys, time
from tcpsvc.cli.prompts import installEditorsReactor
from tcpsvc.cli.running import run

async def main(reactor):
    return 0 if reactor.seconds is time.monotonic else 1

{before}
sys.exit(run(main))
"""
            done = subprocess.run(
                [sys.executable, "-c", program],
                env=commandEnvironment(),
                timeout=20,
                check=False,
            )
            self.assertEqual(0, done.returncode, before)


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
