"""
The plots of docs/performance.rst, drawn by matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.figures import Figure
from bench.machine import BenchError
from bench.results import Results
from bench.work import Measure, Work

OURS, THEIRS = "#b3472b", "#8795a5"
WIDTH = 7.0


def plot(results: Results, work: Work, peers: Sequence[str], path: Path) -> bool:
    """
    Draw a work: bars for its peers, or a line for each over its points.

    @return: Whether there was anything to draw.
    @raise BenchError: If matplotlib is not installed.
    """
    if not work.axis and len(peers) < 3:
        return False
    try:
        from matplotlib import pyplot
    except ImportError:
        raise BenchError(
            "no matplotlib to draw with: pip install 'tcpsvc[bench]'"
        ) from None
    # The same figures make the same file; text stays text.
    pyplot.switch_backend("svg")
    pyplot.rcParams.update({"svg.hashsalt": "tcpsvc", "svg.fonttype": "none"})
    if work.axis:
        number = len(work.measures)
        drawn, axes = pyplot.subplots(
            1, number, figsize=(WIDTH, 3.4), squeeze=False, layout="constrained"
        )
        for axis, measure in zip(axes[0], work.measures, strict=True):
            _lines(axis, results, work, peers, measure)
        axes[0][0].legend(frameon=False, fontsize="small")
    else:
        drawn, axis = pyplot.subplots(
            figsize=(WIDTH, 0.6 + 0.3 * len(peers)), layout="constrained"
        )
        _bars(axis, results, work, peers, work.measures[0])
    drawn.savefig(path, metadata={"Date": None})
    pyplot.close(drawn)
    return True


def _bars(
    axis: Any, results: Results, work: Work, peers: Sequence[str], measure: Measure
) -> None:
    """
    A bar for each peer, with its spread.
    """
    figures = [Figure.of(results.of(work.name, peer, measure.name)) for peer in peers]
    medians = [one.median for one in figures]
    spread = [
        [one.median - one.least for one in figures],
        [one.most - one.median for one in figures],
    ]
    colours = [OURS if peer.startswith("tcpsvc") else THEIRS for peer in peers]
    axis.barh(peers, medians, xerr=spread, color=colours, ecolor="black", capsize=2)
    axis.invert_yaxis()
    axis.set_xlabel(f"{measure.label}, {measure.unit}")
    axis.spines[["top", "right"]].set_visible(False)


def _lines(
    axis: Any, results: Results, work: Work, peers: Sequence[str], measure: Measure
) -> None:
    """
    A line for each peer, with its spread as a band.
    """
    points = results.points(work)
    for peer in peers:
        figures = [
            Figure.of(results.of(work.name, peer, measure.name, point))
            for point in points
        ]
        (line,) = axis.plot(
            points, [one.median for one in figures], marker=".", label=peer
        )
        axis.fill_between(
            points,
            [one.least for one in figures],
            [one.most for one in figures],
            alpha=0.2,
            color=line.get_color(),
        )
    axis.set_xscale("log", base=2)
    if measure.unit == "us":
        axis.set_ylim(bottom=0)
    else:
        axis.set_yscale("log")
    axis.set_xticks(points, [f"{point:,}" for point in points], rotation=45)
    axis.set_xlabel(work.axis)
    axis.set_title(f"{measure.label}, {measure.unit}", fontsize="medium")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
