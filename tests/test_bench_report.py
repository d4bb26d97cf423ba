# -*- test-case-name: tests.test_bench_report -*-

"""
The benchmark's results, its targets, and the tables that are made of them.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.figures import Figure
from bench.report import compared, grown, table, targets
from bench.results import Results
from bench.targets import TARGETS, Target
from bench.work import WORKS, Work


def workNamed(name: str) -> Work:
    """
    A work of the benchmark.
    """
    return next(work for work in WORKS if work.name == name)


def someResults() -> Results:
    """
    Two runs of two peers; the second run was slow for both.
    """
    results = Results(["a machine"])
    for slow in (1.0, 10.0):
        for peer, p50 in (("s_server", 80.0), ("tcpsvc", 100.0)):
            figures = {"p50": p50 * slow, "p99": 200.0, "rate": 1e6 / p50}
            figures["sync"] = 150.0
            results.add("lock-step", peer, 0, figures)
    return results


class ResultsTests(SynchronousTestCase):
    """
    L{Results}.
    """

    def test_roundTrip(self) -> None:
        """
        What is saved is what is loaded.
        """
        path = Path(self.mktemp())
        results = someResults()
        results.save(path)
        self.assertEqual(Results.load(path), results)

    def test_noFile(self) -> None:
        """
        Where nothing was saved, there are no results.
        """
        self.assertEqual(Results.load(Path(self.mktemp())), Results())

    def test_measuredAgain(self) -> None:
        """
        They say what they were measured on; where only some works are measured
        again, what stood there stays.
        """
        results = Results()
        results.measuredOn(["Monday", "a machine"], None)
        results.measuredOn(["Tuesday", "a machine"], ["send", "start"])
        self.assertEqual(results.about, ["Monday", "a machine", "Tuesday: send, start"])
        results.measuredOn(["Friday", "another"], None)
        self.assertEqual(results.about, ["Friday", "another"])

    def test_pointsOfAll(self) -> None:
        """
        A curve has the points that all its peers were measured at.
        """
        work = workNamed("depth")
        results = Results()
        for peer, points in (("s_server", (1, 4, 16)), ("tcpsvc", (4, 16))):
            for point in points:
                results.add(work.name, peer, point, {"rate": 1.0})
        self.assertEqual(results.points(work), [4, 16])


class TargetTests(SynchronousTestCase):
    """
    L{Target}, and the targets themselves.
    """

    def test_bounds(self) -> None:
        """
        A figure keeps to a bound by its median, and may be equal to it.
        """

        def target(atLeast: bool) -> Target:
            return Target("", "", 1.0, atLeast, lambda results: Figure.of([1.0]))

        for median, most, least in ((0.9, True, False), (1, True, True)):
            with self.subTest(median=median):
                figure = Figure(median, 0, 9)
                self.assertEqual(target(False).metBy(figure), most)
                self.assertEqual(target(True).metBy(figure), least)

    def test_ratio(self) -> None:
        """
        The first target is a ratio of single runs.
        """
        self.assertEqual(TARGETS[0].found(someResults()), Figure(1.25, 1.25, 1.25))

    def test_notMeasured(self) -> None:
        """
        Without results no target has a figure, and none fails.
        """
        for one in TARGETS:
            with self.subTest(work=one.work):
                self.assertIsNone(one.found(Results()))

    def test_named(self) -> None:
        """
        Every target finds its figure in a run of all works.
        """
        results = Results()
        for work in WORKS:
            for peer in work.peers:
                for point in work.points:
                    names = [measure.name for measure in work.measures]
                    figures = dict.fromkeys([*names, "sync"], 1.0)
                    results.add(work.name, peer.name, point, figures)
        for one in TARGETS:
            with self.subTest(work=one.work):
                self.assertIsNotNone(one.found(results))


class TableTests(SynchronousTestCase):
    """
    The tables.
    """

    def test_table(self) -> None:
        """
        A table is a list-table, with a header.
        """
        self.assertEqual(
            list(table(("a", "b"), [("1", "")])),
            [
                ".. list-table::",
                "   :header-rows: 1",
                "",
                "   * - a",
                "     - b",
                "   * - 1",
                "     -",
                "",
            ],
        )

    def test_compared(self) -> None:
        """
        A peer's line has its figures, and how many times its own ours is.
        """
        lines = list(
            compared(someResults(), workNamed("lock-step"), ["s_server", "tcpsvc"])
        )
        at = lines.index("   * - s_server")
        self.assertEqual(
            lines[at + 1 : at + 6],
            [
                "     - 440 (80 to 800)",
                "     - 200",
                "     - 12,500",
                "     - 150",
                "     - 1.25",
            ],
        )
        self.assertEqual(lines[lines.index("   * - tcpsvc") + 5], "     -")

    def test_grown(self) -> None:
        """
        A line of a curve has its point, and a figure for each peer.
        """
        work = workNamed("depth")
        results = Results()
        for point in work.points:
            for peer in ("s_server", "tcpsvc"):
                results.add(work.name, peer, point, {"rate": 10.0 * point})
        lines = list(grown(results, work, ["s_server", "tcpsvc"], work.measures[0]))
        at = lines.index("   * - 1,024")
        self.assertEqual(lines[at + 1 : at + 3], ["     - 10,240"] * 2)

    def test_targets(self) -> None:
        """
        The table of targets says what was measured, and what was not.
        """
        text = "\n".join(targets(someResults()))
        self.assertIn("at most 1.25 times s_server's\n     - 1.25\n     - yes", text)
        self.assertIn("not measured", text)
