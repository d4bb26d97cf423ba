# -*- test-case-name: tests.test_times -*-

"""
Moments as people and programs read them: ISO 8601 in UTC with C{Z}.
"""

from __future__ import annotations

from datetime import datetime, timezone


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
    return _utc(moment).isoformat(timespec="microseconds")[:26] + "Z"


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
