# -*- test-case-name: tests.test_client -*-

"""
Waiting until a busy service has room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import random
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tcpsvc.client.errors import Busy

FIRST_DELAY = 0.2
"""
Seconds before the second try.
"""

LAST_DELAY = 10.0
"""
The most seconds between two tries: each is a line and a record on the service.
"""

_GROWTH = 2.0
_CHANCE = 0.25

_T = TypeVar("_T")


async def untilAdmitted(
    attempt: Callable[[], Awaitable[_T]],
    wait: float,
    clock: IReactorTime,
    chance: Callable[[], float] = random,
    firstDelay: float = FIRST_DELAY,
) -> _T:
    """
    Try until the service is not busy: soon again at first, then ever more slowly,
    and a last time when the time is over.

    @param attempt: One try.
    @param wait: For how many seconds to begin another; may be infinite.
    @param chance: A random number from 0 to 1: those who wait together
        should not come back together.
    @param firstDelay: Seconds before the second try.
    @raise Busy: If it still is when the time is over.
    """
    deadline = clock.seconds() + wait
    delay = firstDelay
    while True:
        try:
            return await attempt()
        except Busy:
            left = deadline - clock.seconds()
            if left <= 0:
                raise
        await deferLater(clock, min(left, delay * (1 - _CHANCE * chance())))
        delay = min(LAST_DELAY, delay * _GROWTH)
