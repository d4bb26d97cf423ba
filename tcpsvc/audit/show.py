# -*- test-case-name: tests.test_audit_show -*-

"""
Records as a person reads them: sessions as conversations, all else in a line.

What a peer sent is shown with escapes for whatever is not printable, so that it
cannot act upon a terminal; a backslash of its own is doubled.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from attrs import define, evolve, field, frozen

from tcpsvc.outcomes import counted, outcomeOf
from tcpsvc.times import toMicroseconds

MAX_SESSIONS = 4096
"""
How many sessions are known at once; of more that seem to be open the oldest is
forgotten.
"""

Style = Callable[[str, str], str]
"""
Gives a text a look: the text, and one of C{"head"}, C{"time"}, C{"asked"},
C{"error"}, C{"warning"} and C{"aside"}.
"""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_LINE_BREAK = re.compile("\r\n|\n|\r")
_INDENT = " " * 14
_COMMON_NAME = re.compile(r"(?:^|[,+])CN=((?:[^\\,+]|\\.)*)")


@frozen
class Known:
    """
    What is known of a session.

    @ivar name: Who it is of; empty if its beginning was not read.
    @ivar address: Where that is.
    @ivar opened: When it was opened, as in the record.
    @ivar gateway: Whether it is one with a gateway, as far as was seen.
    """

    name: str = ""
    address: str = ""
    opened: str = ""
    gateway: bool = False


@define
class Sessions:
    """
    The sessions that are open where the trail is being read.
    """

    _open: dict[str, Known] = field(factory=dict)
    _gateway: bool = False

    def follow(self, fields: dict[str, object]) -> None:
        """
        Go on to a record, before it is shown.
        """
        event = fields.get("event")
        session = _text(fields, "session")
        if event == "service.started":
            self._gateway = fields.get("backend") != "commands"
        elif event == "session.opened":
            self._open[session] = Known(
                _nameIn(fields),
                _text(fields, "address"),
                _text(fields, "time"),
                self._gateway and not fields.get("control"),
            )
            if len(self._open) > MAX_SESSIONS:
                del self._open[next(iter(self._open))]
        elif event == "gateway.data" and session in self._open:
            # The service's start may stand in an earlier file.
            self._open[session] = evolve(self._open[session], gateway=True)

    def leave(self, fields: dict[str, object]) -> None:
        """
        Leave a record behind.
        """
        if fields.get("event") == "session.closed":
            self._open.pop(_text(fields, "session"), None)

    def find(self, session: str) -> Known:
        """
        @return: What is known of a session, which may be nothing.
        """
        return self._open.get(session, _UNKNOWN)


_UNKNOWN = Known()


@frozen
class Selection:
    """
    Which records are wanted.

    @ivar session: What the session's identifier begins with; empty for all
        records.
    @ivar identity: Whose records; empty for everybody's.
    @ivar since: The first moment, as in records; empty for all.
    """

    session: str = ""
    identity: str = ""
    since: str = ""

    def takes(self, fields: dict[str, object], sessions: Sessions) -> bool:
        """
        Whether a record is wanted.
        """
        if self.since and _text(fields, "time") < self.since:
            return False
        session = _text(fields, "session")
        if self.session and not session.startswith(self.session):
            return False
        return not self.identity or self.identity == (
            sessions.find(session).name if session else _nameIn(fields)
        )


def momentOf(text: str, now: float) -> str:
    """
    @param text: A date, or a date and a time (ISO 8601, in UTC unless it says
        otherwise), or how long ago: C{90s}, C{15m}, C{2h}, C{3d}, C{1w}.
    @param now: Seconds since the epoch.
    @return: That moment, as in records.
    @raise ValueError: If it is none of these.
    """
    if ago := _AGO.fullmatch(text):
        return toMicroseconds(max(0.0, now - int(ago[1]) * _UNITS[ago[2]]))
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    try:
        moment = moment.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"{text} is beyond all calendars") from None
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


class Teller:
    """
    Tells a trail, one record after the other.
    """

    def __init__(self, sessions: Sessions, style: Style) -> None:
        """
        @param sessions: Follows the trail beside this.
        """
        self._sessions = sessions
        self._style = style
        self._day = ""
        self._current = ""
        self._running = False

    def tell(self, fields: dict[str, object]) -> Iterator[str]:
        """
        @return: The lines that tell of a record; none for a checkpoint.
        """
        event = _text(fields, "event")
        if event == "checkpoint":
            return
        day = escaped(_text(fields, "time")[:10])
        if day != self._day:
            self._day = day
            yield self._style(day, "head")
        told = _TOLD.get(event, Teller._other)
        yield from told(self, fields)

    def _line(self, fields: dict[str, object], text: str, look: str = "") -> str:
        """
        A line with the time before it.
        """
        clock = escaped(_text(fields, "time")[11:23]).ljust(len(_INDENT) - 2)
        return f"{self._style(clock, 'time')}  {self._style(text, look)}"

    def _started(self, fields: dict[str, object]) -> Iterator[str]:
        """
        The service has started.
        """
        if self._running:
            text = "the service had not been stopped: it crashed, or was killed"
            yield self._line(fields, text, "warning")
        self._running = True
        self._current = ""
        version, backend, sync = (
            _shown(fields.get(name)) for name in ("version", "backend", "sync")
        )
        text = f"tcpsvc {version} started: {backend}, audit trail synced: {sync}"
        yield self._line(fields, text, "head")
        listeners = fields.get("listeners")
        for listener in listeners if isinstance(listeners, list) else ():
            yield f"{_INDENT}{_shown(listener)}"

    def _stopped(self, fields: dict[str, object]) -> Iterator[str]:
        """
        The service has stopped.
        """
        self._running = False
        text = f"tcpsvc {_shown(fields.get('version'))} stopped"
        yield self._line(fields, text, "head")

    def _failed(self, fields: dict[str, object]) -> Iterator[str]:
        """
        A handshake has failed.
        """
        certificate = fields.get("certificate")
        subject = certificate.get("subject") if isinstance(certificate, dict) else None
        who = f" ({_shown(subject)})" if subject else ""
        detail = f" ({_shown(fields['detail'])})" if "detail" in fields else ""
        text = (
            f"handshake failed: {_shown(fields.get('address'))}{who}: "
            f"{_shown(fields.get('reason'))}{detail}{_counted(fields)}"
        )
        yield self._line(fields, text, "warning")

    def _refused(self, fields: dict[str, object]) -> Iterator[str]:
        """
        A client was turned away.
        """
        holder = fields.get("holder")
        text = (
            f"turned away: {escaped(_nameIn(fields))} from "
            f"{_shown(fields.get('address'))}: {_shown(fields.get('reason'))}"
            f"{f', held by {_shown(holder)}' if holder else ''}{_counted(fields)}"
        )
        yield self._line(fields, text, "warning")

    def _opened(self, fields: dict[str, object]) -> Iterator[str]:
        """
        A session begins.
        """
        session = _text(fields, "session")
        self._current = session
        tls = fields.get("tls")
        how = _shown(tls.get("version")) if isinstance(tls, dict) else "plaintext"
        control = ", control" if fields.get("control") else ""
        text = (
            f"{escaped(_nameIn(fields))} from {_shown(fields.get('address'))} "
            f"({how}{control}), session {escaped(session)}"
        )
        yield ""
        yield self._line(fields, text, "head")

    def _closed(self, fields: dict[str, object]) -> Iterator[str]:
        """
        A session has ended.
        """
        session = _text(fields, "session")
        known = self._sessions.find(session)
        whose = f"{escaped(known.name)}, " if known.name else ""
        if session == self._current:
            self._current = ""
        requests = fields.get("requests")
        outcome = outcomeOf(fields)
        parts = []
        if requests != 0 or not (known.gateway or outcome):
            parts.append(escaped(counted(requests, "request")))
        seconds = fields.get("duration_s")
        if isinstance(seconds, (int, float)):
            parts.append(duration(seconds))
        for what, direction in (("bytes_in", "in"), ("bytes_out", "out")):
            if fields.get(what) is not None:
                octets = escaped(counted(fields[what], "octet"))
                parts.append(f"{octets} {direction}")
        if outcome:
            parts.append(escaped(outcome))
        account = f" ({', '.join(parts)})" if parts else ""
        text = (
            f"{whose}session {escaped(session[:8])} ended: "
            f"{_shown(fields.get('reason'))}{account}"
        )
        yield self._line(fields, text, "head")

    def _turn(self, fields: dict[str, object]) -> Iterator[str]:
        """
        Say whose conversation goes on, if it is another than before.
        """
        session = _text(fields, "session")
        if session == self._current:
            return
        self._current = session
        known = self._sessions.find(session)
        who = (
            f"{escaped(known.name)} from {escaped(known.address)}, "
            if known.name
            else ""
        )
        since = f", since {escaped(known.opened)}" if known.opened else ""
        yield self._line(fields, f"{who}session {escaped(session)}{since}", "head")

    def _request(self, fields: dict[str, object]) -> Iterator[str]:
        """
        A request came.
        """
        yield from self._turn(fields)
        aside = ""
        if "argument_octets" in fields:
            octets = _shown(fields["argument_octets"])
            aside = f"an argument of {octets} octets, which is secret"
        elif "octets" in fields:
            aside = f"{_shown(fields['octets'])} octets in all"
        text = f"> {_payload(fields, 'request')}"
        yield self._line(fields, text, "asked") + self._aside(aside)

    def _reply(self, fields: dict[str, object]) -> Iterator[str]:
        """
        A reply left.
        """
        yield from self._turn(fields)
        *others, last = _LINE_BREAK.split(_text(fields, "reply"))
        if not others and "reply" not in fields:
            last = ""
        code = fields.get("code")
        look = "error" if isinstance(code, int) and code >= 400 else ""
        for line in others:
            yield f"{_INDENT}{self._style('< ' + escaped(line), look)}"
        asides = []
        if "reply_octets" in fields:
            asides.append(f"{_shown(fields['reply_octets'])} octets, which are secret")
        took = fields.get("duration_us")
        if isinstance(took, (int, float)):
            asides.append(duration(took / 1e6))
        text = escaped(last) if "reply" in fields else _payload(fields, "reply")
        yield f"{_INDENT}{self._style('< ' + text, look)}" + self._aside(
            ", ".join(asides)
        )

    def _data(self, fields: dict[str, object]) -> Iterator[str]:
        """
        Octets went through a gateway.
        """
        yield from self._turn(fields)
        came = fields.get("direction") == "in"
        look = "asked" if came else ""
        mark = ">" if came else "<"
        octets = payloadOf(fields, "data")
        if octets is None:
            text = (
                f"{mark} {_shown(fields.get('octets'))} octets, "
                f"SHA-256 {_shown(fields.get('sha256'))}"
            )
            yield self._line(fields, text, look)
            return
        first = True
        for piece in octets.splitlines() or [b""]:
            text = f"{mark} {escapedOctets(piece)}"
            if first:
                yield self._line(fields, text, look)
            else:
                yield f"{_INDENT}{self._style(text, look)}"
            first = False

    def _other(self, fields: dict[str, object]) -> Iterator[str]:
        """
        An event of a later version.
        """
        known = ("seq", "time", "event", "prev")
        rest = (f"{_shown(k)}={_shown(v)}" for k, v in fields.items() if k not in known)
        yield self._line(fields, " ".join((_shown(fields.get("event")), *rest)))

    def _aside(self, text: str) -> str:
        """
        What is said beside a line.
        """
        return self._style(f"  ({text})", "aside") if text else ""


_TOLD: dict[str, Callable[[Teller, dict[str, object]], Iterator[str]]] = {
    "service.started": Teller._started,
    "service.stopped": Teller._stopped,
    "handshake.failed": Teller._failed,
    "session.refused": Teller._refused,
    "session.opened": Teller._opened,
    "session.closed": Teller._closed,
    "request": Teller._request,
    "reply": Teller._reply,
    "gateway.data": Teller._data,
}


def escaped(text: str) -> str:
    """
    Text that does nothing on a terminal but to be seen.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        each if each.isprintable() and each != "\\" else _escape(each) for each in text
    )


def escapedOctets(octets: bytes) -> str:
    """
    The same of octets that may not be UTF-8.
    """
    text = octets.decode("utf-8", "surrogateescape")
    return "".join(
        f"\\x{ord(each) - 0xDC00:02x}"
        if "\udc80" <= each <= "\udcff"
        else escaped(each)
        for each in text
    )


def _isOctet(character: str) -> bool:
    """
    Whether a character stands for an octet that is not UTF-8.
    """
    return "\udc80" <= character <= "\udcff"


def _escape(character: str) -> str:
    """
    A character as an escape of Python's.
    """
    return character.encode("unicode_escape").decode("ascii")


def duration(seconds: float) -> str:
    """
    A duration as people say it.
    """
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def payloadOf(fields: dict[str, object], name: str) -> bytes | None:
    """
    @param name: C{request}, C{reply} or C{data}.
    @return: The octets that a record has; L{None} if it does not have them.
    """
    text = fields.get(name)
    if isinstance(text, str):
        return text.encode("utf-8", "backslashreplace")
    packed = fields.get(f"{name}_b64")
    if isinstance(packed, str):
        try:
            return b64decode(packed, validate=True)
        except (Base64Error, ValueError):
            return None
    return None


def _payload(fields: dict[str, object], name: str) -> str:
    """
    The same, escaped.
    """
    text = fields.get(name)
    if isinstance(text, str):
        return escaped(text)
    return escapedOctets(payloadOf(fields, name) or b"")


def _text(fields: dict[str, object], name: str) -> str:
    """
    A field that should be text; empty if it is not.
    """
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _shown(value: object) -> str:
    """
    A field of whatever type.
    """
    return escaped(value if isinstance(value, str) else str(value))


def _counted(fields: dict[str, object]) -> str:
    """
    How often something happened, if a record stands for many.
    """
    count = fields.get("count")
    many = count not in (None, 1)
    return f" (the last of {_shown(count)} within a second)" if many else ""


def _nameIn(fields: dict[str, object]) -> str:
    """
    Whose record it is, as far as it says so itself: by an identity, or by the
    common name in a certificate that was shown.
    """
    identity = fields.get("identity")
    if isinstance(identity, dict):
        return _text(identity, "name")
    certificate = fields.get("certificate")
    if isinstance(certificate, dict):
        match = _COMMON_NAME.search(_text(certificate, "subject"))
        return re.sub(r"\\(.)", r"\1", match[1]) if match else ""
    return ""
