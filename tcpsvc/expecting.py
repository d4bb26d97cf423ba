# -*- test-case-name: tests.test_expecting -*-

"""
Octets that are expected soon.

Whoever has a reply in hand often asks the next thing at once. To fall asleep until
then, and be woken, takes the system longer than the reply took to make; so it is
worth a moment of looking again and again. Where it was not, it is done ever more
seldom.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import perf_counter

PATIENCE = 0.00025
"""
Seconds that octets are waited for.
"""

MAX_LEFT_OUT = 63
"""
How many waits are left out, at most, after those in vain. So what a peer is never
quick enough for costs 4 us for each of its requests.
"""


class Expecting:
    """
    Waits a moment for octets of one socket.
    """

    def __init__(
        self,
        poll: Callable[[float], object],
        now: Callable[[], float] = perf_counter,
        mayWait: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        @param poll: Tells whether there is anything to read, or an end; given 0, it
            does not wait.
        @param now: A clock that never goes back, in seconds.
        @param mayWait: Whether nobody else has to wait meanwhile.
        """
        self._mayWait = mayWait
        self._poll = poll
        self._now = now
        self._leftOut = 0
        self._toLeaveOut = 0

    @classmethod
    def of(cls, descriptor: int, mayWait: Callable[[], bool]) -> Expecting:
        """
        @param descriptor: A socket's.
        @param mayWait: Whether nobody else has to wait meanwhile.
        """
        asking = select.poll()
        asking.register(descriptor, select.POLLIN)
        return cls(asking.poll, mayWait=mayWait)

    def come(self) -> bool:
        """
        Wait for them, unless that was in vain lately.

        @return: Whether there is something to read.
        """
        if self._toLeaveOut:
            self._toLeaveOut -= 1
            return False
        if not self._mayWait():
            return False
        until = self._now() + PATIENCE
        while not self._poll(0):
            if self._now() >= until:
                self._leftOut = min(2 * self._leftOut + 1, MAX_LEFT_OUT)
                self._toLeaveOut = self._leftOut
                return False
        self._leftOut = 0
        return True
