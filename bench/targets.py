"""
What the project has set out to reach, and how far it is.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from bench.figures import Figure, ratio
from bench.results import Results
from bench.takes import LONG_TRAIL
from bench.work import FLOODS


@frozen
class Target:
    """
    A bound on one figure.

    @ivar work: What is done.
    @ivar figure: What is compared with the bound.
    @ivar bound: The bound itself.
    @ivar atLeast: Whether the figure is to be at least the bound, not at most.
    @ivar values: Gives the figure of the results.
    """

    work: str
    figure: str
    bound: float
    atLeast: bool
    values: Callable[[Results], Figure]

    def found(self, results: Results) -> Figure | None:
        """
        The figure; L{None} if it was not measured.
        """
        try:
            return self.values(results)
        except ValueError:
            return None

    def metBy(self, figure: Figure) -> bool:
        """
        Whether a figure's median keeps to the bound.
        """
        if self.atLeast:
            return figure.median >= self.bound
        return figure.median <= self.bound

    def __str__(self) -> str:
        """
        The bound in words.
        """
        return f"at {'least' if self.atLeast else 'most'} {self.bound:g}"


def _single(work: str, peer: str, measure: str) -> Callable[[Results], Figure]:
    """
    A figure as it was measured.
    """
    return lambda results: Figure.of(results.of(work, peer, measure))


def _ratio(
    work: str, measure: str, peer: str, other: str
) -> Callable[[Results], Figure]:
    """
    How many times one peer's figure another's is.
    """
    return lambda results: ratio(
        results.of(work, peer, measure), results.of(work, other, measure)
    )


def _within(
    work: str, peer: str, measure: str, over: str, join: Callable[[float, float], float]
) -> Callable[[Results], Figure]:
    """
    Two measures of one peer, joined run by run.
    """
    return lambda results: Figure.of(
        [
            join(a, b)
            for a, b in zip(
                results.of(work, peer, measure),
                results.of(work, peer, over),
                strict=True,
            )
        ]
    )


def _difference(a: float, b: float) -> float:
    """
    The one without the other.
    """
    return a - b


def _quotient(a: float, b: float) -> float:
    """
    The one by the other.
    """
    return a / b


def _always(results: Results) -> Figure:
    """
    Lock-step C{always} over two fdatasyncs and the lock-step time without them.
    """
    name = "lock-step"
    runs = zip(
        results.of(name, "tcpsvc, always", "p50"),
        results.of(name, "tcpsvc, always", "sync"),
        results.of(name, "tcpsvc", "p50"),
        strict=True,
    )
    return Figure.of([all_ / (2 * sync + p50) for all_, sync, p50 in runs])


def _longer(results: Results) -> Figure:
    """
    How many seconds later the service listens with a long trail.
    """
    runs = zip(
        results.of("trail", LONG_TRAIL, "started"),
        results.of("trail", "tcpsvc", "started"),
        strict=True,
    )
    return Figure.of([a - b for a, b in runs])


def _undisturbed(work: str, name: str, measure: str) -> Target:
    """
    How much longer the holder waits while others disturb it.
    """
    figure = _within(name, "tcpsvc", measure, "quiet", _quotient)
    return Target(work, "times its p99 in quiet", 3, False, figure)


def _knocks(name: str, who: str) -> tuple[Target, ...]:
    """
    What the holder notices of those who knock.
    """
    work = f"Holder's p99 while {who} knock"
    return (
        _undisturbed(work, name, "knocked"),
        Target(work, "ms", 20, False, _single(name, "tcpsvc", "knocked")),
    )


def _floods(name: str, words: str) -> tuple[Target, ...]:
    """
    What the holder notices of a flood, and what the service needs for it.
    """
    work = f"Holder's p99 while {words}"
    return (
        _undisturbed(work, name, "flooded"),
        Target(work, "MiB more", 16, False, _single(name, "tcpsvc", "grown")),
    )


TARGETS = (
    Target(
        "Lock-step, 64 octets: p50",
        "times s_server's",
        1.25,
        False,
        _ratio("lock-step", "p50", "tcpsvc", "s_server"),
    ),
    Target(
        "Pipelined 64-octet requests a second",
        "times s_server's",
        1,
        True,
        _ratio("pipelined", "rate", "tcpsvc", "s_server"),
    ),
    Target(
        "The same under always",
        "times everysec's",
        0.5,
        True,
        _ratio("pipelined", "rate", "tcpsvc, always", "tcpsvc"),
    ),
    Target(
        "Lock-step under always: p50",
        "times two fdatasyncs and the lock-step p50",
        1.2,
        False,
        _always,
    ),
    Target(
        "Gateway, bulk both ways: text",
        "times stunnel's MB/s",
        0.9,
        True,
        _ratio("bulk", "bulk", "tcpsvc gateway", "stunnel"),
    ),
    Target(
        "Gateway, bulk both ways: all octets",
        "times stunnel's MB/s",
        0.9,
        True,
        _ratio("bulk-binary", "bulk", "tcpsvc gateway", "stunnel"),
    ),
    Target(
        "Full handshakes with one request a second",
        "times s_server's",
        1,
        True,
        _ratio("handshakes", "rate", "tcpsvc", "s_server"),
    ),
    Target(
        "Turn-over, beyond one handshake",
        "us",
        1000,
        False,
        _within("turn-over", "tcpsvc", "p50", "handshake", _difference),
    ),
    *_knocks("knock-bare", "silent connections"),
    *_knocks("knock-strangers", "strangers"),
    *_knocks("knock-known", "known clients"),
    *(
        target
        for flood, number, words in FLOODS
        for target in _floods(f"flood-{flood}-{number}", words)
    ),
    *_floods("flood-handshakes", "eight clients reconnect, without a limit on that"),
    Target(
        "Clients that are refused in that time",
        "a second",
        100,
        True,
        _single("flood-handshakes", "tcpsvc", "floods"),
    ),
    Target(
        "Longest connect() of 384 TCP connections at once",
        "ms",
        500,
        False,
        _single("flood-burst-32", "tcpsvc", "connect"),
    ),
    Target(
        "Slow clients among 80 silent connections a second",
        "of 1 admitted",
        0.95,
        True,
        _single("flood-silent", "tcpsvc", "admitted"),
    ),
    Target("Memory: started", "MiB", 60, False, _single("memory", "tcpsvc", "started")),
    Target(
        "Memory: after the knocks",
        "MiB more",
        8,
        False,
        _within("memory", "tcpsvc", "knocked", "started", _difference),
    ),
    Target(
        "Memory: after a million requests",
        "MiB more",
        1,
        False,
        _within("memory", "tcpsvc", "requests", "warm", _difference),
    ),
    Target(
        "Start to listening", "s", 0.6, False, _single("start", "tcpsvc", "seconds")
    ),
    Target(
        "tcpsvc send, whole process",
        "s",
        0.5,
        False,
        _single("send", "tcpsvc send", "seconds"),
    ),
    Target("Ten million records: start", "s more", 1, False, _longer),
    Target(
        "Ten million records: lock-step p50",
        "times a new trail's",
        1.05,
        False,
        _ratio("trail", "p50", LONG_TRAIL, "tcpsvc"),
    ),
)
