"""
The work that is measured, row by row.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen

from bench.machine import BenchError, cores, pinned, syncTime
from bench.peers import (
    PLAIN,
    S_SERVER,
    SER2NET,
    SOCAT,
    STUNNEL,
    TCPSVC,
    Peer,
    Place,
    Running,
    environment,
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
    @ivar ours: The peer that the others are compared with.
    @ivar axis: What the points are, if there are several.
    @ivar points: The amounts that cost is measured over; 0 is no limit.
    """

    name: str
    title: str
    measures: tuple[Measure, ...]
    peers: tuple[Peer, ...]
    take: Callable[[Stand, Peer, int], Figures]
    ours: str = "tcpsvc"
    axis: str = ""
    points: tuple[int, ...] = (0,)


P50 = Measure("p50", "p50", "us")
P99 = Measure("p99", "p99", "us")
RATE = Measure("rate", "requests", "a second")
BULK = Measure("bulk", "each way", "MB/s")
MEMORY = Measure("memory", "memory", "MiB")
SECONDS = Measure("seconds", "took", "s")

REQUEST = 64
WARM = 200
CHUNK = 1 << 14
FOREIGN = (S_SERVER, SOCAT, STUNNEL, SER2NET, PLAIN)


def _sent(stand: Stand, one: Running, size: int, depth: int = 0) -> dict[str, Any]:
    """
    Send without waiting for replies.

    @param size: Octets of a request, or of a chunk.
    @param depth: How many may be under way; 0 is as many as the peer bears.
    """
    depth = depth or -(-one.peer.window // size)
    return stand.loaded(
        one, "stream", size=size, chunk=max(size, CHUNK), depth=depth, warmup=WARM
    )


def lockStep(stand: Stand, peer: Peer, size: int) -> Figures:
    """
    One request at a time.
    """
    with stand.up(peer) as one:
        done = stand.loaded(one, "lock-step", size=size or REQUEST, warmup=WARM)
        figures = {
            "p50": done["latency"]["p50_us"],
            "p99": done["latency"]["p99_us"],
            "rate": done["per_second"],
        }
        if peer == ALWAYS:
            figures["sync"] = syncTime(one.place.directory) * 1e6
    return figures


def pipelined(stand: Stand, peer: Peer, depth: int) -> Figures:
    """
    Requests without waiting for replies.
    """
    with stand.up(peer) as one:
        return {"rate": _sent(stand, one, REQUEST, depth)["per_second"]}


def requestSizes(stand: Stand, peer: Peer, size: int) -> Figures:
    """
    Requests of one size, one at a time, and without waiting.
    """
    with stand.up(peer) as one:
        done = stand.loaded(one, "lock-step", size=size, warmup=WARM)
        return {
            "p50": done["latency"]["p50_us"],
            "rate": _sent(stand, one, size)["per_second"],
        }


def bulk(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    Octets both ways at once.
    """
    with stand.up(peer) as one:
        return {"bulk": _sent(stand, one, CHUNK)["mb_per_second"]}


def chunks(stand: Stand, peer: Peer, size: int) -> Figures:
    """
    Chunks of one size, each sent by itself: one at a time, and without waiting.
    """
    with stand.up(peer) as one:
        done = stand.loaded(one, "lock-step", size=size, chunk=size, warmup=WARM)
        sent = stand.loaded(one, "stream", size=size, chunk=size, warmup=WARM, depth=0)
        return {"p50": done["latency"]["p50_us"], "bulk": sent["mb_per_second"]}


def handshakes(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    Connections with one request each.
    """
    with stand.up(peer) as one:
        done = stand.loaded(one, "handshakes")
        return {"rate": done["per_second"], "p50": done["latency"]["p50_us"]}


def turnOver(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    From the holder's close to the next client's greeting.
    """
    with stand.up(peer) as one:
        done = stand.loaded(one, "turn-over")
        return {
            "p50": done["turn_over"]["p50_us"],
            "handshake": done["handshake"]["p50_us"],
            "p99": done["turn_over"]["p99_us"],
        }


def knocking(knock: str) -> Callable[[Stand, Peer, int], Figures]:
    """
    The holder's latency while others knock.

    @param knock: Who they are, in the words of load.c.
    """

    def take(stand: Stand, peer: Peer, _: int) -> Figures:
        """
        Do it once.
        """
        with stand.up(peer) as one:
            done = stand.loaded(
                one, "knock", knock=knock, knocks=stand.size.knocks, warmup=WARM
            )
            return {
                "quiet": done["quiet"]["p99_us"] / 1e3,
                "knocked": done["knocked"]["p99_us"] / 1e3,
                "knocks": done["knocks_per_second"],
            }

    return take


def memory(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    The memory of a service as it is used.
    """
    size = stand.size
    with stand.up(peer) as one:
        started = one.memory()
        stand.loaded(one, "knock", count=WARM, knock="stranger", knocks=size.knocks)
        knocked = one.memory()
        some = size.requests // 10
        stand.loaded(one, "stream", size=REQUEST, count=some)
        warm = one.memory()
        stand.loaded(one, "stream", size=REQUEST, count=size.requests)
        return {
            "started": started,
            "knocked": knocked,
            "warm": warm,
            "requests": one.memory(),
        }


def start(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    From the start of the process until it listens.
    """
    with stand.up(peer) as one:
        return {"seconds": one.started}


def clientProcess(stand: Stand, client: Peer, _: int) -> Figures:
    """
    One request by a client that is a program, from its start to its end.
    """
    with stand.up(tcpsvc()) as one:
        begun = time.perf_counter()
        done = subprocess.run(
            pinned(cores()[1], client.commands(one.place)[0]),
            env=environment(),
            input="ECHO hello\nQUIT\n",
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - begun
    if "200 hello" not in done.stdout:
        raise BenchError(f"{client.name}: {done.stdout}{done.stderr}")
    return {"seconds": took}


def trailLength(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    A service with a new trail, or with a long one.
    """
    trail = stand.longTrail() if peer == LONG_TRAIL else None
    with stand.up(peer, trail) as one:
        done = stand.loaded(one, "lock-step", size=REQUEST, warmup=WARM)
        return {
            "started": one.started,
            "p50": done["latency"]["p50_us"],
            "rate": _sent(stand, one, REQUEST)["per_second"],
            "memory": one.memory(),
        }


def _tcpsvcSend(place: Place) -> list[list[str]]:
    """
    C{tcpsvc send} with the least of arguments.
    """
    keys = ("--keys", str(place.keys.directory))
    return [[*TCPSVC, "send", *keys, f"localhost:{place.port}", "ECHO hello"]]


def _sClient(place: Place) -> list[list[str]]:
    """
    The same by OpenSSL's client.
    """
    certificate, key = place.keys.client
    return [
        [
            *("openssl", "s_client", "-quiet", "-verify_quiet", "-nocommands"),
            *("-connect", f"localhost:{place.port}"),
            *("-CAfile", place.keys.ca, "-cert", certificate, "-key", key),
        ]
    ]


TCPSVC_SERVICE = tcpsvc()
ALWAYS = tcpsvc("always")
COMMANDS = (*FOREIGN, TCPSVC_SERVICE, tcpsvc("no"), ALWAYS)
GATEWAY = gateway()
PASSING = (STUNNEL, SOCAT, SER2NET, GATEWAY, gateway("digest"))
LONG_TRAIL = evolve(TCPSVC_SERVICE, name="tcpsvc, ten million records")
SEND = Peer("tcpsvc send", _tcpsvcSend)
KNOCKED = (
    Measure("quiet", "p99 in quiet", "ms"),
    Measure("knocked", "p99 while they knock", "ms"),
    Measure("knocks", "knocks", "a second"),
)

WORKS = (
    Work(
        "lock-step",
        "Lock-step: a 64-octet request, its reply, the next",
        (P50, P99, RATE),
        COMMANDS,
        lockStep,
    ),
    Work("pipelined", "Pipelined 64-octet requests", (RATE,), COMMANDS, pipelined),
    Work("bulk", "Bulk both ways: text", (BULK,), PASSING, bulk, GATEWAY.name),
    Work(
        "bulk-binary",
        "Bulk both ways: octets of all values",
        (BULK,),
        tuple(peer.saying("binary") for peer in PASSING),
        bulk,
        GATEWAY.name,
    ),
    Work(
        "handshakes",
        "Full handshakes with one request each",
        (Measure("rate", "connections", "a second"), P50),
        (*FOREIGN, TCPSVC_SERVICE),
        handshakes,
    ),
    Work(
        "turn-over",
        "Turn-over: the holder's close to the next client's admission",
        (P50, P99, Measure("handshake", "a handshake, p50", "us")),
        (S_SERVER, TCPSVC_SERVICE),
        turnOver,
    ),
    Work(
        "knock-bare",
        "The holder's p99 while connections that say nothing knock",
        KNOCKED,
        (STUNNEL, PLAIN, TCPSVC_SERVICE),
        knocking("bare"),
    ),
    Work(
        "knock-strangers",
        "The holder's p99 while strangers without a certificate knock",
        KNOCKED,
        (STUNNEL, PLAIN, TCPSVC_SERVICE),
        knocking("stranger"),
    ),
    Work(
        "knock-known",
        "The holder's p99 while known clients knock and are turned away",
        KNOCKED,
        (TCPSVC_SERVICE,),
        knocking("known"),
    ),
    Work(
        "memory",
        "Memory",
        (
            Measure("started", "started", "MiB"),
            Measure("knocked", "after the knocks", "MiB"),
            Measure("warm", "after 100 000 requests", "MiB"),
            Measure("requests", "after a million more", "MiB"),
        ),
        (PLAIN, TCPSVC_SERVICE),
        memory,
    ),
    Work(
        "start",
        "From the start of the process until it listens",
        (SECONDS,),
        (PLAIN, TCPSVC_SERVICE),
        start,
    ),
    Work(
        "send",
        "One request by a program, from its start to its end",
        (SECONDS,),
        (Peer("openssl s_client", _sClient), SEND),
        clientProcess,
        SEND.name,
    ),
    Work(
        "request-size",
        "Requests of other sizes",
        (P50, RATE),
        (S_SERVER, PLAIN, TCPSVC_SERVICE),
        requestSizes,
        axis="octets of a request",
        points=(16, 64, 256, 1024, 4096),
    ),
    Work(
        "depth",
        "Pipelining depth",
        (RATE,),
        (S_SERVER, PLAIN, TCPSVC_SERVICE, ALWAYS),
        pipelined,
        axis="requests under way",
        points=(1, 4, 16, 64, 256, 1024, 4096),
    ),
    Work(
        "chunk-size",
        "Chunks of other sizes, through a gateway",
        (P50, BULK),
        (STUNNEL, GATEWAY),
        chunks,
        GATEWAY.name,
        axis="octets of a chunk",
        points=(64, 256, 1024, 4096, 16384, 65536),
    ),
    Work(
        "trail",
        "The trail's length",
        (Measure("started", "listens after", "s"), P50, RATE, MEMORY),
        (TCPSVC_SERVICE, LONG_TRAIL),
        trailLength,
    ),
)
