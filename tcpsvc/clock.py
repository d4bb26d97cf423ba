# -*- test-case-name: tests.test_clock -*-

"""
The clock of all durations.
"""

from __future__ import annotations

import time
from typing import Any


def useMonotonicClock(reactor: Any) -> None:
    """
    Let a reactor measure durations by the monotonic clock of the system.

    Twisted's timers compare with the wall-clock time, so a clock that is set moves or
    stops them. From this call on C{reactor.seconds()} is no time of the day.

    @param reactor: Any reactor of Twisted's, also one on L{asyncio}, whose event loop
        is monotonic by itself.
    @raise RuntimeError: If the reactor has timers already: they were set by the other
        clock.
    """
    if reactor.getDelayedCalls():
        raise RuntimeError("the reactor has timers already")
    reactor.seconds = time.monotonic
