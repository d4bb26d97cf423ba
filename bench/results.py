"""
What was measured: every value of every run, kept as JSON beside the tables.
"""

from __future__ import annotations

import json
from pathlib import Path

from attrs import define, field

from bench.figures import Figure
from bench.stand import Stand
from bench.work import Work

SAVED = "results.json"


@define
class Results:
    """
    Values by work, peer, point and measure; one for each run.

    @ivar about: What it was measured on, a line each.
    """

    about: list[str] = field(factory=list)
    values: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = field(
        factory=dict
    )

    def measuredOn(self, about: list[str], only: list[str] | None) -> None:
        """
        Say what the values are measured on from now; of some works, if only those
        are measured anew.
        """
        if only and self.about:
            again = f"{about[0]}: {', '.join(only)}"
            if again not in self.about:
                self.about.append(again)
        else:
            self.about = about

    def add(self, work: str, peer: str, point: int, figures: dict[str, float]) -> None:
        """
        Add what one run gave.
        """
        into = self.values.setdefault(work, {}).setdefault(peer, {})
        for name, value in figures.items():
            into.setdefault(str(point), {}).setdefault(name, []).append(value)

    def of(self, work: str, peer: str, measure: str, point: int = 0) -> list[float]:
        """
        The values of all runs; none if it was not measured.
        """
        peers = self.values.get(work, {})
        return peers.get(peer, {}).get(str(point), {}).get(measure, [])

    def points(self, work: Work) -> list[int]:
        """
        The points that all peers of a work were measured at.
        """
        peers = self.values.get(work.name, {}).values()
        return [
            point for point in work.points if all(str(point) in one for one in peers)
        ]

    def save(self, path: Path) -> None:
        """
        Write them.
        """
        text = json.dumps({"about": self.about, "values": self.values}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """
        Read them; there are none if there is no such file.
        """
        if not path.exists():
            return cls()
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(found["about"], found["values"])


def measure(stand: Stand, work: Work, results: Results) -> None:
    """
    Do a work by turns: each peer once, then each again. Prints what it gave.
    """
    results.values.pop(work.name, None)
    here = [peer for peer in work.peers if peer.here]
    for peer in work.peers:
        if peer not in here:
            print(f"{work.name}: {peer.name} is not installed here, and left out")
    points = work.points if stand.size.curves else work.points[-1:]
    for _ in range(stand.size.runs):
        for point in points:
            for peer in here:
                results.add(work.name, peer.name, point, work.take(stand, peer, point))
    print(f"\n{work.title}")
    for point in results.points(work):
        for peer in here:
            figures = [
                f"{one.label} {Figure.of(values)} {one.unit}"
                for one in work.measures
                if (values := results.of(work.name, peer.name, one.name, point))
            ]
            where = f"{point:>8,} " if work.axis else ""
            print(f"  {where}{peer.name:<29} {'; '.join(figures)}", flush=True)
