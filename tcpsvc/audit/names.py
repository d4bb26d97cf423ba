# -*- test-case-name: tests.test_audit_names -*-

"""
The names of a trail's files: the one that is written to, and those that rotation
has renamed.

Rotation adds to the name a number (C{.1}) or a date, with or without a time
(C{-20270115}, C{-20270115-1800000000}, C{.20270115T080000.000000Z}), and C{.gz} if
it compresses the file. No other file is part of a trail: C{psu-2} and C{psu.bak} do
not belong to the trail C{psu}.
"""

from __future__ import annotations

import re

_DATE = "[0-9]{4}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12][0-9]|3[01])"
_TIME = "(?:[-_.T]?[0-9]{2})*Z?"
_SUFFIX = rf"(?:\.[0-9]+|[-._]{_DATE}{_TIME})(?:\.gz)?"
_isSuffix = re.compile(_SUFFIX).fullmatch
_rotated = re.compile(rf"(.+?){_SUFFIX}", re.DOTALL).fullmatch


def isRotated(name: str, base: str) -> bool:
    """
    Whether rotation gives this name to a file of a trail.

    @param base: The name of the file that is written to.
    """
    return name.startswith(base) and _isSuffix(name[len(base) :]) is not None


def baseOf(name: str) -> str:
    """
    @return: The name without what rotation has added; the name itself if that is
        nothing.
    """
    match = _rotated(name)
    return match[1] if match is not None else name
