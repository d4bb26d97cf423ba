# -*- test-case-name: tests.test_clock -*-

"""
The clock of all durations.
"""

from __future__ import annotations

import time
from typing import Any


def useMonotonicClock(reactor: Any) -> None:
    """
    Let a reactor measure time by a clock that is never set.

    Twisted's go by the wall clock: when that is set, timers fire early, late or not
    at all. To be called before the first C{callLater}.
    """
    reactor.seconds = time.monotonic
