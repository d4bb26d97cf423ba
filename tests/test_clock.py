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
from tests.clientside import commandEnvironment


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
