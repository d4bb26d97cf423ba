# -*- test-case-name: tests.test_times -*-

"""
Moments as people and programs read them: ISO 8601 in UTC with C{Z}.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache


def toSeconds(moment: float) -> str:
    """
    @param moment: Seconds since the epoch.
    @return: The moment to the second: C{2026-11-23T00:56:03Z}.
    """
    return _utc(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


def toMicroseconds(moment: float) -> str:
    """
    @param moment: Seconds since the epoch.
    @return: The moment to the microsecond: C{2026-11-23T00:56:03.000000Z}.
    """
    return toText(toMicros(moment))


def toMicros(moment: float) -> int:
    """
    @param moment: Seconds since the epoch.
    @return: The same in microseconds, to the nearest.
    """
    return int(moment * 1e6 + 0.5)


def toText(micros: int) -> str:
    """
    Quick if many moments of one second follow each other.

    @param micros: Microseconds since the epoch.
    @return: The moment as L{toMicroseconds} writes it.
    """
    return f"{_second(micros // 1_000_000)}{micros % 1_000_000:06d}Z"


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    """
    The moment to the second, with a point behind it.
    """
    return f"{_utc(second):%Y-%m-%dT%H:%M:%S}."


def toCompact(moment: float) -> str:
    """
    @param moment: Seconds since the epoch.
    @return: The moment to the microsecond, as part of a file's name:
        C{20261123T005603.000000Z}.
    """
    return _utc(moment).strftime("%Y%m%dT%H%M%S.%fZ")


def _utc(moment: float) -> datetime:
    """
    The moment in UTC.
    """
    return datetime.fromtimestamp(moment, timezone.utc)
