"""
The arithmetic of the report: medians, spreads, and ratios within one run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from attrs import frozen


@frozen
class Figure:
    """
    What several runs gave.

    @ivar median: The one in the middle.
    @ivar least: The least of them.
    @ivar most: The greatest of them.
    """

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """
        The figure of some runs, at least one.
        """
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        """
        The median, and the spread if there is any.
        """
        if self.least == self.most:
            return written(self.median)
        return f"{written(self.median)} ({written(self.least)} to {written(self.most)})"


def ratio(values: Sequence[float], others: Sequence[float]) -> Figure:
    """
    How many times the others the values are: run by run, so that what slows a
    whole run down counts on both sides.

    @raise ValueError: If there are not equally many of both.
    """
    return Figure.of([a / b for a, b in zip(values, others, strict=True)])


def written(value: float) -> str:
    """
    A number with three digits that matter.
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
