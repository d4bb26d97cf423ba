"""
The benchmark, C{python -m bench}: tcpsvc and its peers, side by side in one run. It
measures, prints and, with C{--write}, makes the tables and plots of
docs/performance.rst.

This directory has no C{__init__.py}: whoever has commands of their own in a
C{bench.py} is to find those.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attrs import evolve

from bench.machine import BenchError, about
from bench.report import write
from bench.results import SAVED, Results, measure
from bench.stand import LONG, SHORT, stand
from bench.targets import TARGETS
from bench.work import WORKS


def parsed() -> argparse.Namespace:
    """
    The options.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure tcpsvc and its peers, side by side in one run.",
    )
    names = [work.name for work in WORKS]
    parser.add_argument("--short", action="store_true", help="only see that all runs")
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"measure this row; may be given several times: {', '.join(names)}",
    )
    parser.add_argument("--runs", type=int, metavar="N", help="how often, each")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long, each")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="DIR",
        help="write the tables and plots of the documentation; with --only, the "
        "figures of other rows stay as they are there",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="measure nothing: write DIR's tables and plots from its results",
    )
    parser.add_argument("--dir", type=Path, help="where to write trails (/tmp)")
    options = parser.parse_args()
    if options.report and not options.write:
        parser.error("--report goes with --write DIR")
    return options


def main() -> None:
    """
    Measure, print and write.
    """
    options = parsed()
    if options.report:
        write(Results.load(options.write / SAVED), options.write)
        return
    size = SHORT if options.short else LONG
    size = evolve(
        size, runs=options.runs or size.runs, seconds=options.seconds or size.seconds
    )
    works = [one for one in WORKS if options.only is None or one.name in options.only]
    with stand(options.dir, size) as place:
        into = options.write or place.directory / "performance"
        into.mkdir(parents=True, exist_ok=True)
        results = Results.load(into / SAVED)
        results.measuredOn(about(place.directory, size.runs), options.only)
        print("\n".join(results.about))
        for work in works:
            measure(place, work, results)
            results.save(into / SAVED)
        if options.write or (options.short and not options.only):
            write(results, into)
        tell(results)


def tell(results: Results) -> None:
    """
    Print how far the targets are met.
    """
    print("\nTargets")
    for one in TARGETS:
        if figure := one.found(results):
            met = "met" if one.metBy(figure) else "MISSED"
            print(f"  {met:<6} {one.work}: {figure} {one.figure}, {one} is wanted")


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
