# -*- test-case-name: tests.test_wire -*-

"""
The line protocol without the network: bytes to requests, replies to bytes.

Nothing here knows a socket or an event loop. However the same bytes are cut
into chunks, the same requests come out. The cost of a chunk is proportional
to its octets; what is kept between chunks is at most L{MAX_REQUEST_OCTETS}
for requests and L{MAX_REPLY_OCTETS} for replies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from tcpsvc.identity import Client
from tcpsvc.telnet import TelnetFilter

MAX_REQUEST_OCTETS = 4096
"""
The longest request, in octets without its ending.
"""

MAX_UNENDED_OCTETS = 65536
"""
The most octets that may come without a line ending.
"""

MAX_REPLY_OCTETS = 16 * 1024 * 1024
"""
The longest reply that L{ReplyParser} takes, in octets with all its lines.
"""

_HTTP = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Z-]+[ \t]+[^ \t]+[ \t]+HTTP/[0-9](\.[0-9])?[ \t]*",
    re.IGNORECASE,
)
_TLS = b"\x16\x03"
_TAIL_OCTETS = 32
_LINE_BREAK = re.compile("\r\n|\n|\r")
_made = tuple.__new__
_REPLY_LINE = re.compile(r"([2-5][0-9][0-9])([ -]|$)(.*)", re.DOTALL)


class Reply(NamedTuple):
    """
    One reply: C{CODE text}, or several lines of it (RFC 959, section 4.2;
    RFC 5321, section 4.2.1).

    @ivar code: Three digits. 4xx and 5xx texts begin with a symbolic word.
    @ivar text: What stands behind the code; each line break in it begins
        another line of the reply.
    @ivar closes: Whether the session ends with this reply.
    """

    code: int
    text: str
    closes: bool = False

    @property
    def isError(self) -> bool:
        """Whether the code is 4xx or 5xx."""
        return self.code >= 400

    @property
    def word(self) -> str:
        """The symbolic word of an error, such as C{BUSY}; else empty."""
        return self.text.partition(" ")[0] if self.isError else ""

    @property
    def lines(self) -> list[str]:
        """The text, line by line."""
        return _LINE_BREAK.split(self.text)

    def __str__(self) -> str:
        """
        The reply as it is sent, without the last line's ending. What UTF-8
        cannot say (a lone surrogate) is written as an escape.
        """
        return written(self.code, self.text)

    def encode(self) -> bytes:
        """
        @return: The octets to send.
        """
        return f"{self}\r\n".encode()


def written(code: int, text: str) -> str:
    """
    @return: What C{str} gives of a L{Reply} with this code and text.
    """
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if "\n" not in text and "\r" not in text:
        return f"{code} {text}"
    *others, last = _LINE_BREAK.split(text)
    return "".join(f"{code}-{line}\r\n" for line in others) + f"{code} {last}"


class Request(NamedTuple):
    """
    One line from a client, taken apart.

    @ivar line: The line without its ending.
    @ivar verb: What stands before the first space, in upper case if ASCII.
    @ivar argument: What follows that one space; empty if there is none.
    @ivar client: Who sent it.
    """

    line: str
    verb: str
    argument: str
    client: Client


class BadRequest(NamedTuple):
    """
    A line that is no request, with the reply that it deserves.

    @ivar head: The line, as far as it was kept: L{MAX_REQUEST_OCTETS} at most.
    @ivar octets: How long the line was, or had grown when it was given up.
    @ivar reply: What to answer. If it closes, nothing more will be parsed.
    """

    head: bytes
    octets: int
    reply: Reply


class Negotiation(NamedTuple):
    """
    A telnet negotiation was refused.

    @ivar answer: What to send at once, in place of a reply (RFC 854).
    """

    answer: bytes


Event = Request | BadRequest | Negotiation

_NOT_UTF_8 = Reply(500, "NOT-UTF-8 requests are UTF-8 text; this line was ignored")
_TOO_LONG = Reply(
    500,
    f"LINE-TOO-LONG a request has at most {MAX_REQUEST_OCTETS} octets; "
    "this line was ignored",
)
_UNENDED = Reply(
    500,
    f"LINE-TOO-LONG no line ending in {MAX_UNENDED_OCTETS} octets; good bye",
    closes=True,
)
_NOT_OURS = Reply(
    500,
    "NOT-OUR-PROTOCOL expected plain text lines, not HTTP or TLS; good bye",
    closes=True,
)


class RequestParser:
    """
    Bytes from one client to L{Request}s, in order.

    A line ends with LF, CR LF, CR, or CR NUL (RFC 854, "The NVT Printer").
    Empty lines are ignored.
    """

    def __init__(self, client: Client, plaintext: bool = False) -> None:
        """
        @param plaintext: Whether the bytes come from a plaintext listener. A web
            page can make a browser send HTTP or TLS there, with commands in the
            lines that follow. So nothing is parsed behind a first line that is the
            request line of HTTP (RFC 9112, section 3) or begins as a TLS handshake
            (RFC 8446, section 5.1).
        """
        self._client = client
        self._first = plaintext
        self._tail = b""
        self._telnet = TelnetFilter()
        self._rest = bytearray()
        self._dropped = 0
        self._afterCR = False
        self._closed = False

    def feed(self, data: bytes) -> list[Event]:
        """
        Take one chunk apart.

        @return: What is complete now. After a L{BadRequest} that closes, this
            and all later chunks give nothing more.
        """
        events: list[Event] = []
        if self._closed:
            return events
        if self._telnet.concerns(data):
            data, answers = self._telnet.strip(data)
            if answers:
                events.append(Negotiation(answers))
        if not data:
            return events
        data = self._withLineFeeds(data)
        if self._rest:
            first, ended, data = data.partition(b"\n")
            self._keep(first, events)
            if not ended:
                return events
            self._endKept(events)
        whole, _, rest = data.rpartition(b"\n")
        if whole and not self._closed:
            self._linesEnded(whole, events)
        if rest and not self._closed:
            self._keep(rest, events)
        return events

    def _linesEnded(self, whole: bytes, events: list[Event]) -> None:
        """
        Make events of lines that stand in one chunk, with LF between them.
        """
        if self._first or not whole.isascii():
            for line in whole.split(b"\n"):
                if line and not self._closed:
                    self._lineEnded(line, len(line), events)
            return
        client = self._client
        for text in whole.decode("ascii").split("\n"):
            if len(text) > MAX_REQUEST_OCTETS:
                self._lineEnded(text.encode("ascii"), len(text), events)
                if self._closed:
                    return
            elif text:
                verb, _, argument = text.partition(" ")
                events.append(_made(Request, (text, verb.upper(), argument, client)))

    def _withLineFeeds(self, data: bytes) -> bytes:
        """
        The chunk with LF for each of the endings.
        """
        if self._afterCR and data[:1] in (b"\n", b"\0"):
            data = data[1:]
        self._afterCR = data[-1:] == b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r\0", b"\n")
            data = data.replace(b"\r", b"\n")
        return data

    def _keep(self, piece: bytes, events: list[Event]) -> None:
        """
        Keep the beginning of a line whose ending has not come.
        """
        room = MAX_REQUEST_OCTETS - len(self._rest)
        self._rest += piece[:room]
        if len(piece) > room:
            self._dropped += len(piece) - room
            self._tail = (self._tail + piece[room:])[-_TAIL_OCTETS:]
        if len(self._rest) + self._dropped > MAX_UNENDED_OCTETS or (
            self._first and self._rest.startswith(_TLS)
        ):
            self._endKept(events)

    def _endKept(self, events: list[Event]) -> None:
        """
        The line whose beginning was kept has ended.
        """
        if self._closed:
            return
        line, octets = bytes(self._rest) + self._tail, len(self._rest) + self._dropped
        self._rest.clear()
        self._tail = b""
        self._dropped = 0
        self._lineEnded(line, octets, events)

    def _lineEnded(self, line: bytes, octets: int, events: list[Event]) -> None:
        """
        Make an event of one line, of which C{line} is at least the beginning.
        """
        if self._first:
            self._first = False
            if foreign := _foreign(line, octets):
                self._closed = True
                events.append(foreign)
                return
        if octets > MAX_REQUEST_OCTETS:
            self._closed = octets > MAX_UNENDED_OCTETS
            reply = _UNENDED if self._closed else _TOO_LONG
            octets = min(octets, MAX_UNENDED_OCTETS + 1)
            events.append(BadRequest(line[:MAX_REQUEST_OCTETS], octets, reply))
            return
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            events.append(BadRequest(line, octets, _NOT_UTF_8))
            return
        verb, _, argument = text.partition(" ")
        if verb.isascii():
            verb = verb.upper()
        events.append(Request(text, verb, argument, self._client))


def _foreign(line: bytes, octets: int) -> BadRequest | None:
    """
    @param line: A first line. If it is too long, its beginning and its end.
    @return: What to answer if it is of another protocol.
    """
    if line.startswith(_TLS):
        return BadRequest(_TLS, len(_TLS), _NOT_OURS)
    ends = line[:MAX_REQUEST_OCTETS] + line[MAX_REQUEST_OCTETS:][-_TAIL_OCTETS:]
    if octets <= MAX_UNENDED_OCTETS and _HTTP.fullmatch(ends):
        return BadRequest(line[:MAX_REQUEST_OCTETS], octets, _NOT_OURS)
    return None


class ProtocolError(Exception):
    """
    The peer does not speak this protocol. The message says what it sent.

    @ivar replies: The good replies that stood before that in the same chunk.
    """

    def __init__(self, message: str, replies: Iterable[Reply] = ()) -> None:
        super().__init__(message)
        self.replies = list(replies)


class ReplyParser:
    """
    Bytes from a service to L{Reply}s, in order: the client's side.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._lines: list[str] = []
        self._octets = 0
        self._code = ""

    @property
    def midway(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """
        Take one chunk apart.

        @return: The replies that are complete now.
        @raise ProtocolError: If it is not a reply, or longer than
            L{MAX_REPLY_OCTETS}.
        """
        *ended, rest = data.split(b"\n")
        replies: list[Reply] = []
        for piece in ended:
            self._rest += piece
            line = bytes(self._rest)
            self._rest.clear()
            self._octets += len(line)
            self._checkSize(replies)
            self._lineEnded(line.removesuffix(b"\r"), replies)
        self._rest += rest
        self._checkSize(replies)
        return replies

    def _checkSize(self, replies: list[Reply]) -> None:
        """
        Give up on a reply without an end.
        """
        if self._octets + len(self._rest) > MAX_REPLY_OCTETS:
            raise ProtocolError(
                f"a reply of more than {MAX_REPLY_OCTETS} octets", replies
            )

    def _lineEnded(self, line: bytes, replies: list[Reply]) -> None:
        """
        Add one line to the reply that it belongs to.
        """
        text = line.decode("utf-8", "backslashreplace")
        match = _REPLY_LINE.match(text)
        if match is None:
            raise ProtocolError(f"no reply, but {text[:80]!r}", replies)
        code, mark, rest = match.groups()
        if self._lines and code != self._code:
            raise ProtocolError(f"a reply of two codes: {text[:80]!r}", replies)
        self._code = code
        self._lines.append(rest)
        if mark != "-":
            replies.append(Reply(int(code), "\n".join(self._lines)))
            self._lines = []
            self._octets = 0
