"""
The generated part of docs/performance.rst: tables in reStructuredText.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.figures import Figure, ratio
from bench.plots import plot
from bench.results import Results
from bench.targets import TARGETS
from bench.work import WORKS, Measure, Work


def write(results: Results, directory: Path) -> None:
    """
    Write the tables and the plots.

    @param directory: The one that the page includes them from.
    """
    lines = [f"- {line}" for line in results.about]
    (directory / "machine.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (directory / "targets.txt").write_text(_joined(targets(results)), encoding="utf-8")
    sections = [line for work in WORKS for line in section(results, work, directory)]
    (directory / "figures.txt").write_text(_joined(sections), encoding="utf-8")


def _joined(lines: Iterable[str]) -> str:
    """
    Lines of a file.
    """
    return "\n".join((".. Written by python -m bench: do not edit.", "", *lines)) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """
    A table, line by line.
    """
    yield from (".. list-table::", "   :header-rows: 1", "")
    for row in (header, *rows):
        for number, cell in enumerate(row):
            yield f"   {'*' if number == 0 else ' '} - {cell}".rstrip()
    yield ""


def targets(results: Results) -> Iterator[str]:
    """
    Each target beside what was measured.
    """
    rows = []
    for one in TARGETS:
        figure = one.found(results)
        if figure is None:
            measured, met = "not measured", ""
        else:
            measured, met = str(figure), "yes" if one.metBy(figure) else "**no**"
        rows.append((one.work, f"{one} {one.figure}", measured, met))
    return table(("Work", "Target", "Measured", "Met"), rows)


def section(results: Results, work: Work, directory: Path) -> Iterator[str]:
    """
    A work's title, its plot and its tables; nothing if it was not measured.
    """
    measured = results.values.get(work.name, {})
    peers = [peer.name for peer in work.peers if peer.name in measured]
    if not peers:
        return
    yield from (work.title, "~" * len(work.title), "")
    if plot(results, work, peers, directory / f"{work.name}.svg"):
        yield from (f".. image:: {directory.name}/{work.name}.svg", "")
    if work.axis:
        for measure in work.measures:
            yield from grown(results, work, peers, measure)
    else:
        yield from compared(results, work, peers)


def compared(results: Results, work: Work, peers: Sequence[str]) -> Iterator[str]:
    """
    The table of a work: a line for each peer.
    """
    first = work.measures[0]
    ours = results.of(work.name, work.ours, first.name)
    others = len(peers) > 1
    rows = []
    for peer in peers:
        row = [peer]
        row += [
            str(Figure.of(results.of(work.name, peer, one.name)))
            for one in work.measures
        ]
        if others:
            itself = peer == work.ours
            values = results.of(work.name, peer, first.name)
            row.append("" if itself or not ours else str(ratio(ours, values)))
        rows.append(row)
    header = ["", *(f"{one.label}, {one.unit}" for one in work.measures)]
    header += [f"{work.ours}'s {first.label} is times its"] if others else []
    return table(header, rows)


def grown(
    results: Results, work: Work, peers: Sequence[str], measure: Measure
) -> Iterator[str]:
    """
    A table of a work over its points: a column for each peer.
    """
    rows = [
        [f"{point:,}"]
        + [
            str(Figure.of(values)) if values else ""
            for values in (
                results.of(work.name, peer, measure.name, point) for peer in peers
            )
        ]
        for point in results.points(work)
    ]
    yield from (f"{measure.label}, {measure.unit}:", "")
    yield from table((work.axis, *peers), rows)
