# -*- test-case-name: tests.test_audit_replay -*-

"""
A session as its client saw it, at the pace at which it happened.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone

from attrs import define, field, frozen

from tcpsvc.audit.show import escaped, payloadOf

WIDTH, HEIGHT = 80, 24
"""
The size of the terminal in a recording.
"""

_LINE_BREAK = re.compile("\r\n|\n|\r")


@frozen
class Moment:
    """
    Something that the client typed or saw.

    @ivar at: Seconds since the session began.
    @ivar typed: Whether the client sent it.
    @ivar octets: What it was; lines end with CR LF.
    """

    at: float
    typed: bool
    octets: bytes


def momentsOf(
    records: Iterable[dict[str, object]],
    speed: float = 1.0,
    maxWait: float | None = None,
) -> Iterator[Moment]:
    """
    What a session looked like.

    @param records: The fields of all records of one session, in order.
    @param speed: How many times as fast.
    @param maxWait: The longest pause in seconds, once it is as fast as that;
        L{None} for any.
    """
    at = 0.0
    former: datetime | None = None
    for fields in records:
        now = timeOf(fields)
        if former is not None and now is not None:
            # A clock that was set back makes no pause.
            pause = max(0.0, (now - former) / timedelta(seconds=1)) / speed
            at += pause if maxWait is None else min(pause, maxWait)
        former = now or former
        shown = _shown(fields)
        if shown is not None:
            yield Moment(at, *shown)


def _shown(fields: dict[str, object]) -> tuple[bool, bytes] | None:
    """
    What a record shows: whether it was typed, and the octets.
    """
    event = fields.get("event")
    if event == "request":
        octets = payloadOf(fields, "request") or b""
        line = plain(octets.decode("utf-8", "backslashreplace"))
        if "argument_octets" in fields:
            line += " ..."
        return True, f"{line}\r\n".encode()
    if event == "reply":
        octets = payloadOf(fields, "reply") or b""
        text = octets.decode("utf-8", "backslashreplace")
        lines = (plain(line) for line in _LINE_BREAK.split(text))
        return False, "".join(f"{line}\r\n" for line in lines).encode()
    if event == "gateway.data":
        data = payloadOf(fields, "data")
        if data is None:
            data = f"[{escaped(str(fields.get('octets')))} octets]\r\n".encode()
        return fields.get("direction") == "in", data
    return None


def timeOf(fields: dict[str, object]) -> datetime | None:
    """
    When a record was made; L{None} if it does not say so.
    """
    text = fields.get("time")
    if not isinstance(text, str):
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(
            tzinfo=timezone.utc
        )
    except ValueError:
        return None


def plain(text: str) -> str:
    """
    Text that a terminal shows and does not obey: what is printable, tabs and
    the ends of lines stay, all else is escaped.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\t\n\r\\" else escaped(each)
        for each in text
    )


@define
class Plainly:
    """
    Makes L{plain} text of a stream of octets, however it is cut.
    """

    _decoder: codecs.IncrementalDecoder = field(
        factory=lambda: codecs.getincrementaldecoder("utf-8")("backslashreplace")
    )

    def __call__(self, octets: bytes) -> str:
        """
        @param octets: What comes next in the stream.
        """
        return plain(self._decoder.decode(octets)).replace("\r\n", "\n")


def play(
    moments: Iterable[Moment],
    write: Callable[[Moment], object],
    clock: Callable[[], float],
    sleep: Callable[[float], object],
) -> None:
    """
    Show moments when it is time for them.

    @param clock: Tells seconds that never go back.
    @param sleep: Waits for some seconds.
    """
    began = clock()
    for moment in moments:
        wait = began + moment.at - clock()
        if wait > 0:
            sleep(wait)
        write(moment)


def asciicast(
    moments: Iterable[Moment], began: datetime | None, title: str, typed: bool = True
) -> Iterator[str]:
    """
    A recording in the format asciicast version 2, as asciinema plays it.

    @param began: When the session began.
    @param typed: Whether what was typed is shown like what was answered, or only
        recorded as input, because the device has echoed it.
    @return: Its lines.
    """
    header: dict[str, object] = {"version": 2, "width": WIDTH, "height": HEIGHT}
    if began is not None:
        header["timestamp"] = int(began.timestamp())
    header["title"] = title
    yield json.dumps(header)
    decoders = {
        way: codecs.getincrementaldecoder("utf-8")("replace") for way in (True, False)
    }
    for moment in moments:
        text = decoders[moment.typed].decode(moment.octets)
        if text:
            way = "i" if moment.typed and not typed else "o"
            yield json.dumps([round(moment.at, 6), way, text])
