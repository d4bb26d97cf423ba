"""
What the audit trail costs: C{python -m bench.audit} measures it on this machine and
prints a table; C{--short} takes seconds, C{--rst FILE} writes a page for the docs.

Each figure is the median of several runs, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from bench.figures import Figure, written
from bench.machine import ROOT
from bench.peers import TCPSVC, TWISTD, environment
from bench.trail import (
    IN_A_CHUNK,
    auditKey,
    exchange,
    journalOf,
    longTrail,
    opened,
    writeRecords,
)
from tcpsvc.audit.trail import Trail


@frozen
class Size:
    """
    How much is measured.

    @ivar records: How many records the long trail has.
    @ivar exchanges: How many exchanges a run of the writer has.
    @ivar synced: The same, where each waits for the disk.
    @ivar runs: How often each run is made.
    """

    records: int
    exchanges: int
    synced: int
    runs: int


LONG = Size(records=10_000_000, exchanges=100_000, synced=2_000, runs=5)
SHORT = Size(records=100_000, exchanges=10_000, synced=100, runs=3)


@define
class Table:
    """
    The figures, in the order in which they were taken.
    """

    rows: list[tuple[str, str, str, str]] = field(factory=list)

    def add(self, what: str, unit: str, values: list[float]) -> None:
        """
        Add a figure, and show it.
        """
        figure = Figure.of(values)
        spread = f"{written(figure.least)} to {written(figure.most)}"
        row = (what, written(figure.median), unit, spread)
        self.rows.append(row)
        print(f"{row[0]:<62} {row[1]:>10} {row[2]:<12} {row[3]}", flush=True)


# The writer.


async def writeSynced(trail: Trail, reactor: Any, exchanges: int, clients: int) -> None:
    """
    Write exchanges that wait for the disk twice each, for clients that are
    served beside each other.
    """

    async def one() -> None:
        journal = journalOf(trail, reactor)
        for n in range(exchanges // clients):
            for _ in exchange(journal, n):
                committed = journal.commit()
                if committed is not None:
                    await committed

    await gatherResults([Deferred.fromCoroutine(one()) for _ in range(clients)])


async def writer(
    table: Table, size: Size, directory: Path, key: Ed25519PrivateKey, reactor: Any
) -> None:
    """
    Microseconds a record.
    """

    async def timed(
        what: str, sync: str, exchanges: int, work: Callable[[Trail], Any]
    ) -> None:
        took = []
        for number in range(size.runs):
            path = directory / f"writer-{number}.jsonl"
            trail = opened(path, key, reactor, sync)
            begun = time.perf_counter()
            await work(trail)
            took.append((time.perf_counter() - begun) * 1e6 / (2 * exchanges))
            trail.close()
            path.unlink()
        table.add(what, "us a record", took)

    for sync in ("no", "everysec"):
        await timed(
            f"{sync}: each record in a write of its own",
            sync,
            size.exchanges,
            lambda trail: writeRecords(trail, size.exchanges, False, reactor),
        )
        await timed(
            f"{sync}: {2 * IN_A_CHUNK} records a write (pipelined requests)",
            sync,
            size.exchanges,
            lambda trail: writeRecords(trail, size.exchanges, True, reactor),
        )
    for clients in (1, 8, 64):
        waiting = "record waits" if clients == 1 else "records wait"
        await timed(
            f"always: {clients} {waiting} at a time",
            "always",
            size.synced,
            partial(
                writeSynced, reactor=reactor, exchanges=size.synced, clients=clients
            ),
        )


# The reader.


@frozen
class Run:
    """
    What a program took.

    @ivar seconds: How long it ran.
    @ivar busy: For how many of them it kept a core busy.
    @ivar memory: The most memory that it had, in MiB.
    """

    seconds: float
    busy: float
    memory: float


def ran(arguments: list[str]) -> Run:
    """
    Run a program to its end, with its output thrown away.

    @raise SystemExit: If it fails.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.DEVNULL, cwd=ROOT
    )
    status = Path(f"/proc/{process.pid}/status")
    most = 0.0
    while True:
        # What wait4() tells has the memory of this process in it, before exec.
        if found := re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE):
            most = int(found[1]) / 1024
        ended, result, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        time.sleep(0.005)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(result)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: status {process.returncode}")
    return Run(seconds, used.ru_utime + used.ru_stime, most)


def reader(table: Table, size: Size, path: Path, keys: Path) -> None:
    """
    How fast a trail is verified and shown, and with how much memory.
    """
    with path.open("rb") as trail:
        number = sum(
            block.count(b"\n") for block in iter(lambda: trail.read(1 << 20), b"")
        )
    many = f"{number:,} records, {path.stat().st_size / 1e9:.2g} GB"
    for what, arguments in (
        ("verify", ["verify", "--keys", str(keys), "--expect-checkpoints"]),
        ("verify --quick", ["verify", "--keys", str(keys), "--quick"]),
        ("show", ["show"]),
        ("show --json", ["show", "--json"]),
    ):
        runs = [
            ran([*TCPSVC, "audit", *arguments, str(path)])
            for _ in range(
                1 if size is LONG and what != "verify --quick" else size.runs
            )
        ]
        if what == "verify --quick":
            table.add(f"{what} of {many}", "s", [one.seconds for one in runs])
        else:
            speeds = [number / one.seconds for one in runs]
            table.add(f"{what} of {many}", "records/s", speeds)
            speeds = [number / one.busy for one in runs]
            table.add(f"{what}: of a core of its own", "records/s", speeds)
            table.add(f"{what}: it took", "s", [one.seconds for one in runs])
        table.add(f"{what}: most memory", "MiB", [one.memory for one in runs])


def starts(table: Table, size: Size, path: Path, keys: Path, what: str) -> None:
    """
    How long a service takes until it listens.
    """
    took = []
    for _ in range(size.runs):
        begun = time.perf_counter()
        with subprocess.Popen(
            [
                *(*TWISTD, "-n", "--pidfile=", "tcpsvc", "--keys", str(keys)),
                *("--audit", str(path), "--listen", "tcp:0:interface=127.0.0.1"),
            ],
            env=environment(),
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            if not any(b"listening on" in line for line in process.stdout):
                raise SystemExit("the service does not start")
            took.append(time.perf_counter() - begun)
            process.terminate()
    table.add(f"start of the service with {what}", "s", took)


# The whole.


def machine(directory: Path) -> list[str]:
    """
    What it was measured on.
    """
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"{os.cpu_count()} x {model or platform.processor()}, {memory:.0f} GiB",
        f"{platform.system()} {platform.release()}, file system {kind}",
        f"Python {platform.python_version()}",
    ]


def page(table: Table, about: list[str]) -> str:
    """
    The page for the documentation.
    """
    title = "Figures of the audit trail"
    lines = [
        title,
        "=" * len(title),
        "",
        "Written by ``python -m bench.audit --rst FILE``: do not edit. Each figure is",
        "a median, with the least and the greatest behind it. They are of one machine,",
        "which may have been shared: compare them with each other, and measure your",
        "own. What takes long was measured once.",
        "",
        *(f"- {line}" for line in about),
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 60 14 12 22",
        "",
    ]
    header = ("What", "Median", "Unit", "Spread")
    for row in (header, *table.rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}")
    return "\n".join(lines) + "\n"


async def measure(reactor: Any, options: argparse.Namespace) -> None:
    """
    Take all figures.
    """
    size = SHORT if options.short else LONG
    table = Table()
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        directory = Path(name)
        about = machine(directory)
        print("\n".join(about), flush=True)
        keys = directory / "keys"
        ran([*TCPSVC, "keys", "init", "--keys", str(keys), "localhost"])
        key = auditKey(keys)
        await writer(table, size, directory, key, reactor)
        starts(table, size, directory / "new.jsonl", keys, "no trail")
        path = directory / "audit.jsonl"
        begun = time.perf_counter()
        await longTrail(path, key, size.records, reactor)
        took = (time.perf_counter() - begun) * 1e6 / size.records
        table.add(f"writing a trail of {size.records:,} records", "us a record", [took])
        reader(table, size, path, keys)
        starts(table, size, path, keys, f"a trail of {size.records:,} records")
    if options.rst:
        options.rst.write_text(page(table, about), encoding="utf-8")


def main() -> None:
    """
    Parse the command line, and measure.
    """
    parser = argparse.ArgumentParser(description="What the audit trail costs.")
    parser.add_argument("--short", action="store_true", help="seconds, not minutes")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write a page")
    parser.add_argument("--dir", type=Path, help="where to write; by default /tmp")
    options = parser.parse_args()
    task.react(lambda reactor: Deferred.fromCoroutine(measure(reactor, options)))


if __name__ == "__main__":
    main()
