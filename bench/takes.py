"""
How each kind of work is done once, by one peer.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from bench.machine import BenchError, cores, pinned, syncTime
from bench.peers import RECORDS, Peer, Running, environment, tcpsvc
from bench.records import recordSpeed
from bench.stand import Stand

Figures = dict[str, float]

REQUEST = 64
WARM = 200
CHUNK = 1 << 14
LINE = b"%063d\n" % 0
LONG_TRAIL = "tcpsvc, a long trail"

PACE = 0.005
"""
Seconds between two requests of a holder that others disturb.
"""

FLOOD_SECONDS = 5
"""
How many times as long a flood is measured as other work: its requests are few.
"""


def _sent(
    stand: Stand, one: Running, size: int, depth: int = 0, chunk: int = CHUNK
) -> Figures:
    """
    Send without waiting for replies.

    @param size: Octets of a request.
    @param depth: How many may be under way; 0 is as many as the peer bears.
    @param chunk: Octets that are sent at a time.
    @return: Requests a second, MB/s, and for how much of the time the load
        generator was busy.
    """
    depth = depth or -(-one.peer.window // size)
    done = stand.loaded(one, "stream", size=size, chunk=chunk, depth=depth, warmup=WARM)
    return {
        "rate": done["per_second"],
        "bulk": done["mb_per_second"],
        "busy": done["busy"],
    }


def _lockStep(
    stand: Stand, one: Running, size: int = REQUEST, chunk: int = CHUNK
) -> Figures:
    """
    Send one request at a time.

    @return: Microseconds, and requests a second.
    """
    done = stand.loaded(one, "lock-step", size=size, chunk=chunk, warmup=WARM)
    return {
        "p50": done["latency"]["p50_us"],
        "p99": done["latency"]["p99_us"],
        "rate": done["per_second"],
    }


def lockStep(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    One request at a time; and beside it, what the disk takes to be in step.
    """
    with stand.up(peer) as one:
        figures = _lockStep(stand, one)
        return {**figures, "sync": syncTime(one.place.directory) * 1e6}


def pipelined(stand: Stand, peer: Peer, depth: int) -> Figures:
    """
    Requests without waiting for replies.
    """
    with stand.up(peer) as one:
        return _sent(stand, one, REQUEST, depth)


def requestSizes(stand: Stand, peer: Peer, size: int) -> Figures:
    """
    Requests of one size, one at a time, and without waiting.
    """
    with stand.up(peer) as one:
        return {**_lockStep(stand, one, size), **_sent(stand, one, size)}


def bulk(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    Octets both ways at once; or only the records of that.
    """
    if peer.name == RECORDS.name:
        chunk = bytes(range(128, 256)) if peer.framing == "binary" else LINE
        chunk *= CHUNK // len(chunk)
        return {"bulk": recordSpeed(stand.directory, chunk, stand.size.seconds)}
    with stand.up(peer) as one:
        return _sent(stand, one, CHUNK)


def chunks(stand: Stand, peer: Peer, size: int) -> Figures:
    """
    Chunks of one size, each sent by itself: one at a time, and without waiting.
    """
    with stand.up(peer) as one:
        return {
            **_lockStep(stand, one, size, chunk=size),
            **_sent(stand, one, size, chunk=size),
        }


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


def flooding(flood: str, atOnce: int) -> Callable[[Stand, Peer, int], Figures]:
    """
    The latency of a holder that sends a request every 5 ms, while others flood.

    @param flood: What they do, in the words of load.c.
    @param atOnce: How many they are.
    """

    def take(stand: Stand, peer: Peer, _: int) -> Figures:
        """
        Do it once.
        """
        with stand.up(peer) as one:
            before = one.memory()
            done = stand.loaded(
                one,
                "flood",
                flood=flood,
                at_once=atOnce,
                also=stand.keys.others,
                pace=PACE,
                seconds=stand.size.seconds * FLOOD_SECONDS,
                warmup=WARM,
            )
            return {
                "quiet": done["quiet"]["p99_us"] / 1e3,
                "flooded": done["flooded"]["p99_us"] / 1e3,
                "p50": done["flooded"]["p50_us"] / 1e3,
                "floods": done["floods_per_second"],
                "connect": done["connect_max_us"] / 1e3,
                "grown": one.memory() - before,
            }

    return take


def slowClients(stand: Stand, peer: Peer, _: int) -> Figures:
    """
    The admission of clients with 200 ms of round trip among silent connections.
    """
    with stand.up(peer) as one:
        done = stand.loaded(
            one,
            "slow",
            flood="silent",
            at_once=4,
            pace=0.2,
            seconds=stand.size.seconds * FLOOD_SECONDS,
        )
        return {"admitted": done["admitted"] / (done["admitted"] + done["failed"])}


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
    A service with a new trail, or with a long one if that is in its name.
    """
    trail = stand.longTrail() if peer.name == LONG_TRAIL else None
    with stand.up(peer, trail) as one:
        return {
            **_lockStep(stand, one),
            **_sent(stand, one, REQUEST),
            "started": one.started,
            "memory": one.memory(),
        }
