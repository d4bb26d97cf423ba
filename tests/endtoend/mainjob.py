"""
A day's work: thousands of requests of every kind, and the replies that the
contract promises to them.

Deterministic: the same seed gives the same requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from attrs import frozen

import tcpsvc

MAX_REQUEST = 4096
"""
The longest request in octets.
"""

MAX_UNENDED = 65536
"""
A line that is not longer is answered, and the session goes on.
"""

ENDINGS = (b"\n", b"\r\n", b"\r", b"\r\0")

TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"

HELP = (
    ("HELP [VERB]", "lists the commands, or explains one"),
    ("ECHO TEXT", "answers TEXT"),
    ("NOOP", "does nothing, and keeps the session from being idle"),
    ("TIME", "answers the time of the service, in UTC"),
    ("WHO", "answers who holds the service, from where and since when"),
    ("STATUS", "answers how the service is, a line each of name: value"),
    ("VERSION", "answers the version of the service"),
    ("QUIT", "ends the session with a receipt (also: EXIT, BYE)"),
)

DETAILS = {
    "QUIT": (
        "The receipt names the last record before this reply and the SHA-256 of",
        "its line. Whoever keeps it can show later that the audit trail was not",
        "cut off before that record, nor written anew.",
    )
}
"""
What HELP says of some verbs when it is asked for one of them.
"""

STATUS = (
    ("version", re.escape(tcpsvc.__version__.encode())),
    ("started", TIME),
    ("uptime_s", rb"\d+"),
    ("holder", rb"alice"),
    ("sessions", rb"1"),
    ("requests", rb"\d+"),
    ("refusals", rb"0"),
    ("certificate_expires", TIME),
    ("audit_records", rb"\d+"),
    ("audit_head", rb"[0-9a-f]{64}"),
    ("audit_state", rb"open"),
)

WORDS = (
    *("volt", "Ampère", "Ω", "µV", "grün", "日本語", "🔌", "e\u0301", "\u2028", "\x85"),
    *("a  b", "\t", '"quoted"', "\\n", "%s", "{x}", "200 OK", "\x7f\x1b[31m", "\u200b"),
)


@frozen
class Exchange:
    """
    One line, and what is to come back.

    @ivar line: Without its ending; empty for a line that is ignored.
    @ivar reply: All octets of the reply: as they are, or a pattern if not all
        can be known.
    """

    line: bytes
    reply: bytes | re.Pattern[bytes]

    def isAnsweredBy(self, reply: bytes) -> bool:
        """
        Whether a reply is the promised one.
        """
        if isinstance(self.reply, bytes):
            return reply == self.reply
        return self.reply.fullmatch(reply) is not None


def replied(code: int, *lines: str) -> bytes:
    """
    A reply as RFC 959 and RFC 5321 have it.
    """
    *others, last = lines
    return "".join(
        [f"{code}-{line}\r\n" for line in others] + [f"{code} {last}\r\n"]
    ).encode()


TOO_LONG = replied(
    500, "LINE-TOO-LONG a request has at most 4096 octets; this line was ignored"
)
NOT_UTF_8 = replied(500, "NOT-UTF-8 requests are UTF-8 text; this line was ignored")


class MainJob:
    """
    Makes one exchange after another.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._kinds: tuple[tuple[int, Callable[[], Exchange]], ...] = (
            (30, self.echo),
            (10, self.longEcho),
            (12, self.noop),
            (6, self.time),
            (6, self.who),
            (4, self.version),
            (3, self.status),
            (3, self.help),
            (3, self.helpOfOne),
            (6, self.unknown),
            (6, self.badArgument),
            (4, self.empty),
            (4, self.notUTF8),
            (3, self.tooLong),
        )

    def exchanges(self, number: int) -> list[Exchange]:
        """
        So many of them, each kind as often as its weight says.
        """
        weights, kinds = zip(*self._kinds, strict=True)
        return [
            kind() for kind in self._random.choices(kinds, weights=weights, k=number)
        ]

    def ending(self) -> bytes:
        """
        One of the four line endings.
        """
        return self._random.choice(ENDINGS)

    # The kinds.

    def echo(self) -> Exchange:
        """A few words, some of them not ASCII; or none at all."""
        text = " ".join(self._random.choices(WORDS, k=self._random.randrange(6)))
        return Exchange(f"{self.cased('ECHO')} {text}".encode(), replied(200, text))

    def longEcho(self) -> Exchange:
        """A long request: one in ten is just as long as is allowed."""
        room = MAX_REQUEST - len("ECHO ")
        length = room if self._random.random() < 0.1 else self._random.randrange(room)
        text = "".join(self._random.choices("abcdef ", k=length))
        return Exchange(f"ECHO {text}".encode(), replied(200, text))

    def noop(self) -> Exchange:
        """Nothing; a space behind the verb is no argument."""
        space = self._random.choice(("", " "))
        return Exchange(f"{self.cased('NOOP')}{space}".encode(), replied(200, "OK"))

    def time(self) -> Exchange:
        """The time."""
        return self.like("TIME", rb"200 " + TIME + rb"\r\n")

    def who(self) -> Exchange:
        """Who holds it: we."""
        return self.like(
            "WHO", rb"200 alice 127\.0\.0\.1:\d+ since " + TIME + rb" idle 0 s\r\n"
        )

    def version(self) -> Exchange:
        """The version."""
        return Exchange(
            self.cased("VERSION").encode(), replied(200, f"tcpsvc {tcpsvc.__version__}")
        )

    def status(self) -> Exchange:
        """A line each of name and value."""
        lines = [name.encode() + b": " + value for name, value in STATUS]
        *others, last = lines
        pattern = b"".join(rb"211-" + line + rb"\r\n" for line in others)
        return self.like("STATUS", pattern + rb"211 " + last + rb"\r\n")

    def help(self) -> Exchange:
        """A line a verb."""
        lines = [f"{usage:<11}  {summary}" for usage, summary in HELP]
        return Exchange(self.cased("HELP").encode(), replied(214, *lines))

    def helpOfOne(self) -> Exchange:
        """One verb explained, or the news that there is no such verb."""
        usage, summary = self._random.choice(HELP)
        if self._random.random() < 0.3:
            return Exchange(
                b"HELP NOSUCH",
                replied(501, "BAD-ARGUMENT there is no such command; HELP lists them"),
            )
        verb = usage.partition(" ")[0]
        lines = [f"{usage}  {summary}", *DETAILS.get(verb, ())]
        return Exchange(f"HELP {self.cased(verb)}".encode(), replied(214, *lines))

    def unknown(self) -> Exchange:
        """A verb that nobody knows, perhaps a long one or a strange one."""
        verb = self._random.choice(
            ("PASV", "*IDN?", "ÄCHO", "", "ECHOES", "\x1b[A", "X" * 70, "QUIT;", "٣")
        )
        argument = self._random.choice(("", " x", " hello world"))
        if not verb and not argument:
            argument = " x"
        shown = verb[:64] or "a line begins with its verb"
        return Exchange(
            f"{verb}{argument}".encode(),
            replied(500, f"UNKNOWN-COMMAND {shown}: HELP lists the commands"),
        )

    def badArgument(self) -> Exchange:
        """An argument where none is wanted."""
        verb = self._random.choice(
            ("NOOP", "TIME", "WHO", "STATUS", "VERSION", "QUIT", "EXIT", "BYE")
        )
        known = "QUIT" if verb in ("EXIT", "BYE") else verb
        return Exchange(
            f"{self.cased(verb)} now".encode(),
            replied(501, f"BAD-ARGUMENT {known} takes no argument"),
        )

    def empty(self) -> Exchange:
        """An empty line, which is ignored."""
        return Exchange(b"", b"")

    def notUTF8(self) -> Exchange:
        """Octets that are no UTF-8; 255 is telnet's, and not among them."""
        bad = self._random.choice(
            (b"\x80", b"\xc3(", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5xyz")
        )
        return Exchange(b"ECHO " + bad, NOT_UTF_8)

    def tooLong(self) -> Exchange:
        """A line that is too long, by one octet or by many, UTF-8 or not."""
        length = self._random.choice((MAX_REQUEST + 1, 5000, 20000, MAX_UNENDED))
        filler = self._random.choice((b"x", "ü".encode(), b"\xfe"))
        return Exchange((b"ECHO " + filler * length)[:length], TOO_LONG)

    # Help.

    def like(self, verb: str, pattern: bytes) -> Exchange:
        """
        A request whose reply is known as a pattern only.
        """
        return Exchange(self.cased(verb).encode(), re.compile(pattern))

    def cased(self, verb: str) -> str:
        """
        The verb in upper, lower or mixed case.
        """
        return self._random.choice((verb, verb.lower(), verb.title()))
