"""
The work that is measured, row by row.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve, frozen

from bench import takes
from bench.peers import (
    PLAIN,
    RECORDS,
    S_CLIENT,
    S_SERVER,
    SER2NET,
    SOCAT,
    STUNNEL,
    TCPSVC_SEND,
    Peer,
    gateway,
    tcpsvc,
    tcpsvcBefore,
)
from bench.stand import Stand


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
    take: Callable[[Stand, Peer, int], dict[str, float]]
    ours: str = "tcpsvc"
    axis: str = ""
    points: tuple[int, ...] = (0,)


P50 = Measure("p50", "p50", "us")
P99 = Measure("p99", "p99", "us")
RATE = Measure("rate", "requests", "a second")
BULK = Measure("bulk", "each way", "MB/s")
MEMORY = Measure("memory", "memory", "MiB")
SECONDS = Measure("seconds", "took", "s")

FOREIGN = (S_SERVER, SOCAT, STUNNEL, SER2NET, PLAIN)
TCPSVC = tcpsvc()
ALWAYS = tcpsvc("always")
COMMANDS = (*FOREIGN, TCPSVC, tcpsvc("no"), ALWAYS)
GATEWAY = gateway()
PASSING = (STUNNEL, SOCAT, SER2NET, GATEWAY, gateway("digest"), RECORDS)
LONG_TRAIL = evolve(TCPSVC, name=takes.LONG_TRAIL)
OPEN = tcpsvc("everysec", "--reconnect-rate", "0")
FLOODED = (
    Measure("flooded", "p99 in the flood", "ms"),
    Measure("quiet", "p99 in quiet", "ms"),
    Measure("p50", "p50 in the flood", "ms"),
    Measure("floods", "replies to the others", "a second"),
    Measure("connect", "longest connect()", "ms"),
    Measure("grown", "memory", "MiB more"),
)
FLOODS = (
    ("who", 1, "one control client asks WHO without waiting"),
    ("who", 8, "eight control clients ask WHO without waiting"),
    ("status", 8, "eight control clients ask STATUS without waiting"),
    ("ask", 8, "eight control clients ask WHO in lock-step"),
    ("telnet", 8, "eight control clients offer telnet options"),
    ("key-update", 8, "eight control clients renew TLS keys"),
    ("one-byte", 8, "eight control clients send TLS records of one byte"),
    ("closing", 8, "eight refused clients renew TLS keys"),
    ("connect", 1, "one client reconnects in a tight loop"),
    ("burst", 32, "384 TCP connections come at once, each second"),
)
KNOCKED = (
    Measure("knocked", "p99 while they knock", "ms"),
    Measure("quiet", "p99 in quiet", "ms"),
    Measure("knocks", "knocks", "a second"),
)

WORKS = (
    Work(
        "lock-step",
        "Lock-step: a 64-octet request, its reply, the next",
        (P50, P99, RATE, Measure("sync", "an fdatasync", "us")),
        COMMANDS,
        takes.lockStep,
    ),
    Work(
        "pipelined", "Pipelined 64-octet requests", (RATE,), COMMANDS, takes.pipelined
    ),
    Work("bulk", "Bulk both ways: text", (BULK,), PASSING, takes.bulk, GATEWAY.name),
    Work(
        "bulk-binary",
        "Bulk both ways: octets of all values",
        (BULK,),
        tuple(peer.saying("binary") for peer in PASSING),
        takes.bulk,
        GATEWAY.name,
    ),
    Work(
        "handshakes",
        "Full handshakes with one request each",
        (Measure("rate", "connections", "a second"), P50),
        (*FOREIGN, TCPSVC),
        takes.handshakes,
    ),
    Work(
        "turn-over",
        "Turn-over: the holder's close to the next client's admission",
        (P50, P99, Measure("handshake", "a handshake, p50", "us")),
        (S_SERVER, OPEN),
        takes.turnOver,
    ),
    Work(
        "knock-bare",
        "The holder's p99 while connections that say nothing knock",
        KNOCKED,
        (STUNNEL, PLAIN, OPEN),
        takes.knocking("bare"),
    ),
    Work(
        "knock-strangers",
        "The holder's p99 while strangers without a certificate knock",
        KNOCKED,
        (STUNNEL, PLAIN, OPEN),
        takes.knocking("stranger"),
    ),
    Work(
        "knock-known",
        "The holder's p99 while known clients knock and are turned away",
        KNOCKED,
        (OPEN,),
        takes.knocking("known"),
    ),
    *(
        Work(
            f"flood-{flood}-{number}",
            f"The holder's latency while {words}",
            FLOODED,
            (TCPSVC, *tcpsvcBefore()),
            takes.flooding(flood, number),
        )
        for flood, number, words in FLOODS
    ),
    Work(
        "flood-handshakes",
        "The holder's latency while eight clients reconnect, without a limit on that",
        FLOODED,
        (OPEN, *tcpsvcBefore()),
        takes.flooding("connect", 8),
    ),
    Work(
        "flood-silent",
        "Admission with 200 ms of round trip among 80 silent connections a second",
        (Measure("admitted", "admitted", "of 1"),),
        (TCPSVC, *tcpsvcBefore()),
        takes.slowClients,
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
        (PLAIN, TCPSVC),
        takes.memory,
    ),
    Work(
        "start",
        "From the start of the process until it listens",
        (SECONDS,),
        (PLAIN, TCPSVC),
        takes.start,
    ),
    Work(
        "send",
        "One request by a program, from its start to its end",
        (SECONDS,),
        (S_CLIENT, TCPSVC_SEND),
        takes.clientProcess,
        TCPSVC_SEND.name,
    ),
    Work(
        "request-size",
        "Requests of other sizes",
        (P50, RATE),
        (S_SERVER, PLAIN, TCPSVC),
        takes.requestSizes,
        axis="octets of a request",
        points=(16, 64, 256, 1024, 4096),
    ),
    Work(
        "depth",
        "Pipelining depth",
        (RATE,),
        (S_SERVER, PLAIN, TCPSVC, ALWAYS),
        takes.pipelined,
        axis="requests under way",
        points=(1, 4, 16, 64, 256, 1024, 4096),
    ),
    Work(
        "chunk-size",
        "Chunks of other sizes, through a gateway",
        (P50, BULK),
        (STUNNEL, GATEWAY),
        takes.chunks,
        GATEWAY.name,
        axis="octets of a chunk",
        points=(64, 256, 1024, 4096, 16384, 65536),
    ),
    Work(
        "trail",
        "The trail's length: a new one, and one of ten million records",
        (Measure("started", "listens after", "s"), P50, RATE, MEMORY),
        (TCPSVC, LONG_TRAIL),
        takes.trailLength,
    ),
)
