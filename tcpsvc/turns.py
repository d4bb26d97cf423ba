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
            the next turn is L{SPACING} away.
        """
        self._clock = clock
        self._atWork = atWork
        self._taken = False
        self._waiting: deque[Work] = deque()

    def do(self, work: Work) -> bool:
        """
        Do it now, or in a later turn.

        @return: Whether it has been done.
        """
        if self._taken:
            self._waiting.append(work)
            return False
        self._taken = work()
        if self._taken:
            self._clock.callLater(SPACING if self._atWork() else 0, self._next)
        return True

    def _next(self) -> None:
        """
        Another turn has come.
        """
        self._taken = False
        while self._waiting and not self._taken:
            self.do(self._waiting.popleft())
