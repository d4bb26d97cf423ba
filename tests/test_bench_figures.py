# -*- test-case-name: tests.test_bench_figures -*-

"""
The arithmetic of the benchmark's report.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.figures import Figure, ratio, written


class FigureTests(SynchronousTestCase):
    """
    L{Figure}.
    """

    def test_median(self) -> None:
        """
        It has the middle of the runs, the least and the greatest.
        """
        self.assertEqual(Figure.of([5.0, 1.0, 9.0]), Figure(5.0, 1.0, 9.0))

    def test_evenNumber(self) -> None:
        """
        Of an even number of runs it has what is between the two in the middle.
        """
        self.assertEqual(Figure.of([1.0, 2.0, 4.0, 100.0]).median, 3.0)

    def test_none(self) -> None:
        """
        No runs have no figure.
        """
        self.assertRaises(ValueError, Figure.of, [])

    def test_text(self) -> None:
        """
        It is written with its spread, if it has one.
        """
        self.assertEqual(str(Figure.of([2.0, 1.0, 3.0])), "2 (1 to 3)")
        self.assertEqual(str(Figure.of([2.0])), "2")


class RatioTests(SynchronousTestCase):
    """
    L{ratio}.
    """

    def test_runByRun(self) -> None:
        """
        Ratios are taken within a run: a slow one on both sides changes nothing,
        though it changes the medians.
        """
        self.assertEqual(ratio([2.0, 20.0, 4.0], [1.0, 10.0, 2.0]), Figure(2, 2, 2))

    def test_notTheRatioOfMedians(self) -> None:
        """
        The median is of the ratios.
        """
        self.assertEqual(ratio([1.0, 2.0, 9.0], [1.0, 4.0, 3.0]), Figure(1, 0.5, 3))

    def test_unequal(self) -> None:
        """
        Runs without a counterpart are refused.
        """
        self.assertRaises(ValueError, ratio, [1.0, 2.0], [1.0])


class WrittenTests(SynchronousTestCase):
    """
    L{written}.
    """

    def test_threeDigits(self) -> None:
        """
        Three digits are kept; great numbers are whole, and parted by commas.
        """
        self.assertEqual(written(0.012345), "0.0123")
        self.assertEqual(written(12.345), "12.3")
        self.assertEqual(written(1234567.8), "1,234,568")
        self.assertEqual(written(-1234.5), "-1,234")
