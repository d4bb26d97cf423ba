"""
Tests for L{tcpsvc.limits}.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tcpsvc.identity import Client
from tcpsvc.interfaces import ISession
from tcpsvc.limits import TimeLimits
from tests.support import EPOCH, clientNamed, clockAtEpoch


@implementer(ISession)
class _Session(Protocol):
    """
    A session that is as busy as a test says.
    """

    requests = bytesIn = bytesOut = 0
    busy = False
    mayBeTold = True
    outcome: ClassVar[dict[str, object]] = {}

    def inputEnded(self, leaving: bool = False, truncated: bool = False) -> None:
        """Nothing happens."""

    def stop(self) -> Deferred[None]:
        """It is over."""
        return succeed(None)


@define
class _Limited:
    """
    A session under limits, and the reasons for which it was ended.
    """

    clock: Clock
    client: Client
    session: _Session
    limits: TimeLimits
    ends: list[str]

    def ask(self) -> None:
        """Make a request now."""
        self.client.lastRequest = self.clock.seconds()


def limited(idle: float, longest: float) -> _Limited:
    """
    @return: A session that has begun just now.
    """
    clock, client, session = clockAtEpoch(), clientNamed(), _Session()
    ends: list[str] = []
    limits = TimeLimits(clock, idle, longest, client, session, ends.append)
    limits.start()
    return _Limited(clock, client, session, limits, ends)


class TimeLimitsTests(SynchronousTestCase):
    """
    Tests for L{TimeLimits}.
    """

    def test_idle(self) -> None:
        """
        A session without a request is ended when the limit is reached, and
        not before.
        """
        it = limited(900, 0)
        it.clock.advance(899)
        self.assertEqual(it.ends, [])
        it.clock.advance(1)
        self.assertEqual(it.ends, ["idle-timeout"])

    def test_requests(self) -> None:
        """
        The time without a request is counted from the last request.
        """
        it = limited(900, 0)
        for _ in range(5):
            it.clock.advance(600)
            it.ask()
        it.clock.advance(899)
        self.assertEqual(it.ends, [])
        it.clock.advance(1)
        self.assertEqual(it.ends, ["idle-timeout"])

    def test_noTimerTouched(self) -> None:
        """
        A request touches no timer: there is one, which looks by itself.
        """
        it = limited(900, 28800)
        (timer,) = it.clock.getDelayedCalls()
        it.clock.advance(1)
        it.ask()
        self.assertEqual(it.clock.getDelayedCalls(), [timer])
        self.assertEqual(timer.getTime(), EPOCH + 900)

    def test_busy(self) -> None:
        """
        While a request is being answered the session is not idle, however long
        that takes.
        """
        it = limited(900, 0)
        it.session.busy = True
        it.clock.pump([450] * 20)
        self.assertEqual(it.ends, [])

    def test_afterBusy(self) -> None:
        """
        When the answer has come, the time without a request is counted
        from then: the session leaves that moment behind.
        """
        it = limited(900, 0)
        it.session.busy = True
        it.clock.pump([450] * 10)
        it.session.busy = False
        it.ask()
        it.clock.pump([1] * 899)
        self.assertEqual(it.ends, [])
        it.clock.advance(1)
        self.assertEqual(it.ends, ["idle-timeout"])

    def test_longest(self) -> None:
        """
        A session is ended at its longest, however busy it is.
        """
        it = limited(900, 28800)
        it.session.busy = True
        for _ in range(28799):
            it.clock.advance(1)
            it.ask()
        self.assertEqual(it.ends, [])
        it.clock.advance(1)
        self.assertEqual(it.ends, ["session-limit"])

    def test_longestAlone(self) -> None:
        """
        Without a limit of idleness the longest one holds.
        """
        it = limited(0, 100)
        it.clock.advance(99)
        self.assertEqual(it.ends, [])
        it.clock.advance(1)
        self.assertEqual(it.ends, ["session-limit"])

    def test_off(self) -> None:
        """
        With both limits off there is no timer.
        """
        it = limited(0, 0)
        self.assertEqual(it.clock.getDelayedCalls(), [])

    def test_endedOnce(self) -> None:
        """
        The session is ended once, and no timer is left behind.
        """
        it = limited(10, 10)
        it.clock.pump([5] * 10)
        self.assertEqual(len(it.ends), 1)
        self.assertEqual(it.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """
        After it was stopped it ends nothing and has no timer; it may be stopped
        again, even if there never was one.
        """
        for it in (limited(10, 20), limited(0, 0)):
            it.limits.stop()
            it.limits.stop()
            self.assertEqual(it.clock.getDelayedCalls(), [])

    def test_startedLate(self) -> None:
        """
        A client that has reached its limit before it is served is ended at once.
        """
        it = limited(0, 0)
        it.clock.advance(100)
        it.limits.idle = 10
        it.limits.start()
        it.clock.advance(0)
        self.assertEqual(it.ends, ["idle-timeout"])

    @settings(deadline=None)
    @given(st.floats(0.001, 100_000), st.floats(0.001, 100_000), st.floats(0, 10))
    def test_anyLimits(self, idle: float, longest: float, first: float) -> None:
        """
        Whatever the limits are, the session is ended at the nearer one, with few
        looks: rounding of seconds since the epoch makes the timer neither
        early nor busy.
        """
        it = limited(idle, longest)
        it.clock.advance(min(first, idle / 2, longest / 2))
        it.ask()
        looks = 0
        while not it.ends and looks < 10:
            (timer,) = it.clock.calls
            # Not by advance(), which would never return from a timer that is
            # set to now again and again.
            it.clock.calls.remove(timer)
            it.clock.rightNow = max(it.clock.rightNow, timer.getTime())
            timer.called = 1
            timer.func(*timer.args, **timer.kw)
            looks += 1
        idleAt = it.client.lastRequest + idle
        longestAt = it.client.since + longest
        self.assertLess(abs(it.clock.seconds() - min(idleAt, longestAt)), 1e-5)
        self.assertLess(looks, 5)
        if abs(idleAt - longestAt) > 1e-5:
            wanted = "idle-timeout" if idleAt < longestAt else "session-limit"
            self.assertEqual(it.ends, [wanted])
