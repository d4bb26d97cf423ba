"""
The work that is measured, row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import frozen

from bench.machine import syncTime
from bench.peers import (
    PLAIN,
    S_SERVER,
    SER2NET,
    SOCAT,
    STUNNEL,
    Peer,
    gateway,
    tcpsvc,
)
from bench.stand import Stand

Figures = dict[str, float]


@frozen
class Measure:
    """
    One column of a table.

    @ivar name: Its name in the results.
    @ivar label: What it is.
    @ivar unit: Of what.
    """

    name: str
    label: str
    unit: str


@frozen
class Work:
    """
    One kind of work, done by several peers.

    @ivar name: Its name on the command line.
    @ivar title: What is done.
    @ivar measures: What is measured.
    @ivar peers: Who does it.
    @ivar take: Does it once: with a stand, a peer and a point.
    @ivar axis: What the points are, if there are several.
    @ivar points: The amounts that cost is measured over; 0 is no limit.
    """

    name: str
    title: str
    measures: tuple[Measure, ...]
    peers: tuple[Peer, ...]
    take: Callable[[Stand, Peer, int], Figures]
    axis: str = ""
    points: tuple[int, ...] = (0,)


P50 = Measure("p50", "p50", "us")
P99 = Measure("p99", "p99", "us")
RATE = Measure("rate", "requests", "a second")
BULK = Measure("bulk", "each way", "MB/s")

WARM = 200
REQUEST = 64
# Requests under way: with more, socat and its cat wait for each other without end.
DEPTH = 1024
ALL = (S_SERVER, SOCAT, STUNNEL, SER2NET, PLAIN)


def lockStep(stand: Stand, peer: Peer, size: int) -> Figures:
    """
    One request at a time.
    """
    with stand.up(peer) as one:
        done = stand.loaded(one, "lock-step", size=size or REQUEST, warmup=WARM)
        sync = syncTime(stand.directory) * 1e6 if "always" in peer.name else 0.0
    return {
        "p50": done["latency"]["p50_us"],
        "p99": done["latency"]["p99_us"],
        "rate": done["per_second"],
        "sync": sync,
    }


def pipelined(stand: Stand, peer: Peer, depth: int) -> Figures:
    """
    Requests without waiting for replies.
    """
    with stand.up(peer) as one:
        done = stand.loaded(one, "stream", size=REQUEST, depth=depth or DEPTH, warmup=WARM)
    return {"rate": done["per_second"]}


WORKS = (
    Work(
        "lock-step",
        "Lock-step: a 64-octet request, its reply, the next",
        (P50, P99, RATE),
        (*ALL, tcpsvc(), tcpsvc("no"), tcpsvc("always")),
        lockStep,
    ),
    Work(
        "pipelined",
        "Pipelined 64-octet requests",
        (RATE,),
        (*ALL, tcpsvc(), tcpsvc("no"), tcpsvc("always")),
        pipelined,
    ),
)
