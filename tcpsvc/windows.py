# -*- test-case-name: tests.test_windows -*-

"""
What happens often, told at most once in a while.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Windows(Generic[K, V]):
    """
    Counts, each in a window of time of its own. When a window ends, what was counted
    is told, and counting goes on in another one; if there was nothing, it ends.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, tell: Callable[[V], bool]
    ) -> None:
        """
        @param seconds: How long a window is.
        @param tell: Tells what was counted, and sets it to nothing; says whether there
            was anything.
        """
        self._clock = clock
        self._seconds = seconds
        self._tell = tell
        self._open: dict[K, tuple[V, IDelayedCall]] = {}

    def __len__(self) -> int:
        """
        How many windows are open.
        """
        return len(self._open)

    def find(self, key: K) -> V | None:
        """
        @return: What is counted by this key, if a window is open.
        """
        found = self._open.get(key)
        return None if found is None else found[0]

    def begin(self, key: K, counted: V) -> V:
        """
        Open a window.
        """
        timer = self._clock.callLater(self._seconds, self._ended, key)
        self._open[key] = (counted, timer)
        return counted

    def tellAll(self) -> None:
        """
        Tell what has been counted so far, and end all windows.
        """
        windows, self._open = self._open, {}
        for counted, timer in windows.values():
            timer.cancel()
            self._tell(counted)

    def _ended(self, key: K) -> None:
        """
        A window has ended: open the next one, unless nothing was counted.
        """
        counted = self.begin(key, self._open[key][0])
        if not self._tell(counted):
            self._open.pop(key)[1].cancel()
