"""
The stand that peers are put on: a directory, keys, the load generator, and how much
is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from bench.machine import BenchError, compiled, cores, pinned
from bench.peers import (
    Keys,
    Peer,
    Place,
    Running,
    environment,
    freePort,
    running,
)


@frozen
class Size:
    """
    How much is measured.

    @ivar runs: How often each peer has its turn.
    @ivar seconds: How long one measurement lasts.
    @ivar knocks: How many connections knock.
    @ivar requests: How many requests memory is watched over.
    @ivar records: How many records the long trail has.
    @ivar curves: Whether curves are measured at all their points, or at the last.
    """

    runs: int
    seconds: float
    knocks: int
    requests: int
    records: int
    curves: bool


LONG = Size(
    runs=5,
    seconds=1,
    knocks=10_000,
    requests=1_000_000,
    records=10_000_000,
    curves=True,
)
SHORT = Size(
    runs=1, seconds=0.05, knocks=100, requests=2_000, records=20_000, curves=False
)


@frozen
class Stand:
    """
    All that a measurement needs.

    @ivar directory: Where peers write; its file system is that of the trails.
    @ivar cache: Where long trails are kept from one call to the next, with the keys
        that they were signed with.
    @ivar keys: The keys of all ends.
    @ivar load: The program of the load generator.
    @ivar echo: The program of the plain echo.
    @ivar size: How much is measured.
    """

    directory: Path
    cache: Path
    keys: Keys
    load: Path
    echo: Path
    size: Size

    @contextmanager
    def up(self, peer: Peer, trail: Path | None = None) -> Iterator[Running]:
        """
        Run a peer in a directory of its own.

        @param trail: The trail that it goes on with; afterwards it is as before.
        """
        with tempfile.TemporaryDirectory(dir=self.directory) as name:
            place = Place(Path(name), freePort(), freePort(), self.keys, self.echo)
            octets = trail.stat().st_size if trail else 0
            if trail:
                place.trail.hardlink_to(trail)
            try:
                with running(peer, place) as one:
                    yield one
            finally:
                if trail:
                    os.truncate(trail, octets)

    def longTrail(self) -> Path:
        """
        A trail with many records, made if it is not there yet.
        """
        path = self.cache / f"trail-{self.size.records}.jsonl"
        if not path.exists():
            made = self.directory / "trail.jsonl"
            arguments = (made, self.keys.directory, self.size.records)
            print(f"writing a trail of {self.size.records:,} records", flush=True)
            subprocess.run(
                [sys.executable, "-m", "bench.trail", *map(str, arguments)],
                env=environment(),
                check=True,
            )
            made.rename(path)
        return path

    def loaded(self, one: Running, mode: str, **options: object) -> dict[str, Any]:
        """
        Put a load on a running peer.

        @param mode: A mode of load.c.
        @param options: Its options; for how long, if they do not say it.
        @return: What it measured.
        @raise BenchError: If a reply is not what it must be, or does not come.
        """
        if "count" not in options:
            options.setdefault("seconds", self.size.seconds)
        certificate, key = self.keys.client
        arguments = [str(self.load), mode, "--port", str(one.place.port)]
        arguments += ["--ca", self.keys.ca, "--cert", certificate, "--key", key]
        arguments += ["--framing", one.peer.framing]
        arguments += ["--greeting"] if one.peer.greeting else []
        arguments += ["--busy"] if one.peer.busy else []
        for name, value in options.items():
            for one_ in value if isinstance(value, list) else [value]:
                arguments += [f"--{name.replace('_', '-')}", str(one_)]
        done = subprocess.run(
            pinned(cores()[1], arguments),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{one.peer.name}, {mode}: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@contextmanager
def stand(directory: Path | None, size: Size) -> Iterator[Stand]:
    """
    Set it up, and take it down; the long trails stay, in the temporary directory.

    @param directory: Where to write; the temporary directory if L{None}.
    """
    parent = Path(directory or tempfile.gettempdir()).resolve()
    cache = parent / f"tcpsvc-bench-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        place = Path(name)
        keys = Keys(cache / "keys-2")
        if not keys.directory.exists():
            made = Keys.made(place / "keys")
            made.directory.rename(keys.directory)
        yield Stand(
            place,
            cache,
            keys,
            compiled("load.c", place, "-lssl", "-lcrypto"),
            compiled("echo.c", place),
            size,
        )
