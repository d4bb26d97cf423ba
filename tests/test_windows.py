"""
Tests for L{tcpsvc.windows}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.windows import Windows
from tests.support import clockAtEpoch


class WindowsTests(SynchronousTestCase):
    """
    Tests for L{Windows}.
    """

    def setUp(self) -> None:
        """
        Windows of a second, in which things are listed.
        """
        self.clock = clockAtEpoch()
        self.told: list[list[int]] = []
        self.windows: Windows[str, list[int]] = Windows(self.clock, 1, self.tell)

    def tell(self, counted: list[int]) -> bool:
        """
        Keep what is told.
        """
        self.told.append(list(counted))
        wasAnything = bool(counted)
        counted.clear()
        return wasAnything

    def test_goesOn(self) -> None:
        """
        What was counted is told once a window, as long as there is anything.
        """
        counted = self.windows.begin("a", [1])
        self.assertIs(counted, self.windows.find("a"))
        self.clock.advance(1)
        counted.append(2)
        self.assertEqual(([[1]], 1), (self.told, len(self.windows)))
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual([[1], [2], []], self.told)
        self.assertEqual((None, 0), (self.windows.find("a"), len(self.windows)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_tellAll(self) -> None:
        """
        All windows can be ended early, and no timer stays.
        """
        self.windows.begin("a", [1])
        self.windows.begin("b", [2])
        self.windows.tellAll()
        self.assertEqual([[1], [2]], self.told)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_raises(self) -> None:
        """
        What cannot be told this time is counted on.
        """

        def fail(_: list[int]) -> bool:
            raise RuntimeError("no")

        windows: Windows[str, list[int]] = Windows(self.clock, 1, fail)
        windows.begin("a", [1])
        self.assertRaises(RuntimeError, self.clock.advance, 1)
        self.assertEqual([1], windows.find("a"))
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
