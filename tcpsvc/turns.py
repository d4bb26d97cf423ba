# -*- test-case-name: tests.test_turns -*-

"""
The share of the reactor's time that clients without the slot have.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from time import perf_counter

from twisted.internet.interfaces import IReactorTime

TURN_BUDGET = 0.0005
"""
Seconds of work in one turn of the reactor, after which no further piece is begun.
"""

LOCK_STEP = 0.002
"""
A holder that has sent something within so many seconds is expected to send more at
once: it is in lock-step.
"""

ACTIVE = 0.05
"""
For how many seconds after the holder has sent something it comes first at all.
"""

LOCK_STEP_FACTOR = 12
"""
How many times as long as the work of a turn has taken the next one waits while the
holder is in lock-step. So few of its requests are delayed that its 99th percentile
does not show it.
"""

ACTIVE_FACTOR = 1
"""
The same while the holder is active otherwise.
"""

MAX_PAUSE = 0.1
"""
Seconds that work waits for the holder at most, however long the work before took.
"""

_TOO_EARLY = 0.0002  # Seconds by which a timer may be so.

Work = Callable[[], bool]
"""
A piece of work that takes about a millisecond at most. It says whether it was still
wanted: if not, the turn is another's.
"""


class Turns:
    """
    Does work piece by piece: at once if nothing else was done in this turn of the
    reactor, else in a later one. Groups take turns, so that one that brings much work
    waits behind itself. Whoever brings it sees to it that not too much waits.

    What throttles it is the lag that it causes: the longer the work of a turn has
    taken, the longer an active holder has the reactor to itself.
    """

    def __init__(
        self,
        clock: IReactorTime,
        quiet: Callable[[], float],
        now: Callable[[], float] = perf_counter,
    ) -> None:
        """
        @param quiet: For how many seconds the holder has sent nothing; infinite if
            there is no holder.
        @param now: Measures how long work takes, in seconds.
        """
        self._clock = clock
        self._quiet = quiet
        self._now = now
        self._spent = 0.0
        self._taken = False
        self._lag = 0.0
        self._last = float("-inf")
        self._called = False
        self._waiting: OrderedDict[str, deque[Work]] = OrderedDict()

    @property
    def empty(self) -> bool:
        """Whether no work waits."""
        return not self._waiting

    def do(self, group: str, work: Work) -> bool:
        """
        Do it now, or in a later turn.

        @param group: Whose work it is.
        @return: Whether it has been done.
        """
        delay = self._delay()
        if delay is None and not self._waiting:
            self._take(work)
            return True
        self._waiting.setdefault(group, deque()).append(work)
        self._callNext(delay or 0)
        return False

    def _delay(self) -> float | None:
        """
        For how many seconds the next piece has to wait; L{None} if it need not.
        """
        if self._taken and self._spent >= TURN_BUDGET:
            return 0
        quiet = self._quiet()
        if quiet >= ACTIVE:
            return None
        since = self._clock.seconds() - self._last
        wait = self._lag * ACTIVE_FACTOR - since
        if quiet < LOCK_STEP:
            # Unless it turns out that the holder is not in lock-step.
            wait = min(
                self._lag * LOCK_STEP_FACTOR - since, max(wait, LOCK_STEP - quiet)
            )
        wait = min(wait, MAX_PAUSE - since)
        return wait if wait > _TOO_EARLY else None

    def _take(self, work: Work) -> None:
        """
        It is the turn of this one.
        """
        begun = self._now()
        try:
            wanted = work()
        finally:
            took = self._now() - begun
            self._spent += took
        if wanted:
            self._taken = True
            self._lag = self._spent
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
        self._spent = 0.0
        try:
            while self._waiting and self._delay() is None:
                self._take(self._pop())
        finally:
            if self._waiting:
                self._callNext(self._delay() or 0)

    def _pop(self) -> Work:
        """
        The next piece of the group whose turn it is.
        """
        group, pieces = next(iter(self._waiting.items()))
        work = pieces.popleft()
        if pieces:
            self._waiting.move_to_end(group)
        else:
            del self._waiting[group]
        return work
