# -*- test-case-name: tests.test_turns -*-

"""
One piece of work for strangers in each turn of the reactor, so that whoever is in
session never waits behind more than one; and seldom behind any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

SPACING = 0.02
"""
Seconds from one piece of work to the next while somebody is at work in session. With
requests that follow each other, not one in a hundred has to wait.
"""

_TOO_EARLY = 0.001  # Seconds by which a timer may be so.

Work = Callable[[], bool]
"""
A piece of work that takes a few milliseconds at most. It says whether it was still
wanted: if not, the turn is another's.
"""


class Turns:
    """
    Work is done at once if it is the first of its turn; else it waits for a turn
    of its own. Whoever brings it sees to it that not too much waits.
    """

    def __init__(self, clock: IReactorTime, atWork: Callable[[], bool]) -> None:
        """
        @param atWork: Whether somebody is at work in session, and comes first. Then
            L{SPACING} has to pass between two pieces.
        """
        self._clock = clock
        self._atWork = atWork
        self._taken = False
        self._last = float("-inf")
        self._called = False
        self._waiting: deque[Work] = deque()

    def do(self, work: Work) -> bool:
        """
        Do it now, or in a later turn.

        @return: Whether it has been done.
        """
        delay = self._delay()
        if delay is None and not self._waiting:
            self._take(work)
            return True
        self._waiting.append(work)
        self._callNext(delay or 0)
        return False

    def _delay(self) -> float | None:
        """
        For how many seconds the next piece has to wait; L{None} if it need not.
        """
        if self._taken:
            return 0
        ago = self._clock.seconds() - self._last
        waits = 0 <= ago < SPACING - _TOO_EARLY and self._atWork()
        return SPACING - ago if waits else None

    def _take(self, work: Work) -> None:
        """
        It is the turn of this one.
        """
        self._taken = work()
        if self._taken:
            self._last = self._clock.seconds()
            self._callNext(0)

    def _callNext(self, delay: float) -> None:
        """
        Let another turn come.
        """
        if not self._called:
            self._called = True
            self._clock.callLater(delay, self._next)

    def _next(self) -> None:
        """
        Another turn has come.
        """
        self._called = self._taken = False
        try:
            while self._waiting and self._delay() is None:
                self._take(self._waiting.popleft())
        finally:
            if self._waiting:
                self._callNext(self._delay() or 0)
