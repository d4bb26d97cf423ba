"""
Tests for L{tcpsvc.wire}.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from types import FrameType

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.wire import (
    MAX_REPLY_OCTETS,
    MAX_REQUEST_OCTETS,
    MAX_UNENDED_OCTETS,
    BadRequest,
    Event,
    Negotiation,
    ProtocolError,
    Reply,
    ReplyParser,
    Request,
    RequestParser,
    written,
)
from tests.support import clientNamed

ENDINGS = (b"\n", b"\r\n", b"\r", b"\r\0")
CLIENT = clientNamed()

_PIECES = st.sampled_from(
    (
        *ENDINGS,
        b"\0",
        b"NOOP",
        b"echo  a b",
        "gr\u00fc\u00df \U0001f600".encode(),
        b"\x80",
        b"\xff\xff",
        b"\xff\xfd\x06",
        b"\xff\xfb\n",
        b"\xff\xfd\r",
        b"\xff\xf4",
        b"\xff\xfa\x18\x01\r\n\xff\xff\n\xff\xf0",
        b"\xff\xfa\x18",
        b"\xff",
        b"x" * (MAX_REQUEST_OCTETS - 2),
        b"y" * MAX_REQUEST_OCTETS,
        b"z" * (MAX_UNENDED_OCTETS - 1),
    )
)
_STREAMS = st.lists(st.one_of(_PIECES, st.binary(max_size=8)), max_size=12).map(
    b"".join
)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """
    @return: C{data} in chunks that end at C{places}.
    """
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[at:end] for at, end in zip([0, *ends], ends, strict=False)]


def parse(chunks: Iterable[bytes]) -> tuple[list[Event], bytes]:
    """
    @return: What a L{RequestParser} makes of the chunks: the requests, good and
        bad, and all that it answers to telnet's negotiations.
    """
    parser = RequestParser(CLIENT)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return (
        [event for event in events if not isinstance(event, Negotiation)],
        b"".join(event.answer for event in events if isinstance(event, Negotiation)),
    )


def lines(data: bytes) -> list[str]:
    """
    @return: The lines of the requests in C{data}; each has to be good.
    """
    events, _ = parse([data])
    requests = [event for event in events if isinstance(event, Request)]
    assert len(requests) == len(events), events
    return [request.line for request in requests]


def only(data: bytes) -> BadRequest:
    """
    @return: The one bad request that C{data} makes.
    """
    (event,), _ = parse([data])
    assert isinstance(event, BadRequest)
    return event


def callsIn(work: Callable[[], object]) -> int:
    """
    @return: How many functions, of Python and of C, C{work} calls.
    """
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # what it calls back would be counted too
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


def grownBy(work: Callable[[], object]) -> int:
    """
    @return: How many octets of memory C{work} allocates and keeps.
    """
    wasTracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        if not wasTracing:
            tracemalloc.stop()
    return after - before


class _CountedOctets(bytearray):
    """
    A bytearray that counts the octets that are copied out of it.
    """

    copied = 0

    def __bytes__(self) -> bytes:
        self.copied += len(self)
        return bytes(memoryview(self))

    def __add__(self, other: object) -> bytearray:
        raise AssertionError("all that is kept would be copied for each chunk")


class RequestTests(SynchronousTestCase):
    """
    Tests for the L{Request}s that L{RequestParser} makes.
    """

    def test_endings(self) -> None:
        """
        LF, CR LF, CR and CR NUL each end a line, and may be mixed.
        """
        for ending in ENDINGS:
            self.assertEqual(lines(b"A" + ending + b"B" + ending), ["A", "B"])
        self.assertEqual(lines(b"A\nB\r\nC\rD\r\0E\n"), ["A", "B", "C", "D", "E"])

    def test_bareReturnAtOnce(self) -> None:
        """
        A line that ends with CR is there when the CR is, and the LF or NUL
        that comes in the next chunk is part of that ending.
        """
        for second in (b"\n", b"\0"):
            parser = RequestParser(CLIENT)
            self.assertEqual(len(parser.feed(b"A\r")), 1)
            self.assertEqual(parser.feed(second), [])
            (event,) = parser.feed(b"B\n")
            assert isinstance(event, Request)
            self.assertEqual(event.line, "B")

    def test_returnAndCommand(self) -> None:
        """
        A telnet command between CR and LF does not make two endings of them.
        """
        parser = RequestParser(CLIENT)
        chunks = (b"A\r", b"\xff\xf1", b"\0B\r\xff\xf1\nC\n")
        found = [event for chunk in chunks for event in parser.feed(chunk)]
        self.assertEqual(
            [event.line for event in found if isinstance(event, Request)],
            ["A", "B", "C"],
        )

    def test_nulElsewhere(self) -> None:
        """
        A NUL that does not follow a CR is part of the line.
        """
        self.assertEqual(lines(b"A\0B\n\0C\n\r\n\0D\n"), ["A\0B", "\0C", "\0D"])

    def test_emptyLines(self) -> None:
        """
        Empty lines are ignored, whatever they end with.
        """
        self.assertEqual(lines(b"\n\r\n\r\r\0\n\rA\r\r\n\n"), ["A"])

    def test_unended(self) -> None:
        """
        A line without an ending is no request yet.
        """
        self.assertEqual(lines(b"A\nB"), ["A"])

    def test_parts(self) -> None:
        """
        The verb is in upper case; the argument is what follows one space, with
        each further space kept.
        """
        for line, verb, argument in (
            (b"noop", "NOOP", ""),
            (b"Echo Text", "ECHO", "Text"),
            (b"echo  two ", "ECHO", " two "),
            (b"echo ", "ECHO", ""),
            (b" echo", "", "echo"),
            (b"echo\tx", "ECHO\tX", ""),
            ("stra\u00dfe x".encode(), "stra\u00dfe", "x"),
        ):
            (request,), _ = parse([line + b"\n"])
            self.assertEqual(request, Request(line.decode(), verb, argument, CLIENT))

    def test_telnetAnswered(self) -> None:
        """
        Telnet's negotiations are answered WONT and DONT, and are no text.
        """
        events, answers = parse([b"EC\xff\xfd\x06HO\xff\xfb\x1f a\xff\xf4\n"])
        self.assertEqual(answers, b"\xff\xfc\x06\xff\xfe\x1f")
        self.assertEqual(events, [Request("ECHO a", "ECHO", "a", CLIENT)])

    def test_longest(self) -> None:
        """
        A request of exactly 4096 octets is good.
        """
        line = "\u00e4" * (MAX_REQUEST_OCTETS // 2)
        for ending in ENDINGS:
            self.assertEqual(lines(line.encode() + ending), [line])

    @given(
        st.lists(
            st.text(
                st.characters(max_codepoint=127, exclude_characters="\r\n\0"),
                min_size=1,
                max_size=9,
            )
        )
    )
    def test_ASCII(self, told: list[str]) -> None:
        """
        Lines of ASCII make the same requests whether there are other lines in their
        chunk or not.
        """
        octets = "".join(f"{line}\n" for line in told).encode()
        alone, _ = parse([octets])
        among, _ = parse([octets + "\u00e4\n".encode()])
        self.assertEqual(alone, among[:-1])
        for event in alone:
            assert type(event) is Request
            verb, _, argument = event.line.partition(" ")
            self.assertEqual((event.verb, event.argument), (verb.upper(), argument))

    @settings(deadline=None)
    @given(_STREAMS, st.lists(st.integers(min_value=0), max_size=12))
    @example(b"A\r\0B\r\nC\r\xff\xf1\nD", range(20))
    @example(b"y" * (MAX_REQUEST_OCTETS + 1) + b"\r\nNOOP\r\n", [4096, 4097, 4098])
    @example(b"z" * (MAX_UNENDED_OCTETS + 1) + b"\r\nNOOP\r\n", [4096, 65536, 65537])
    @example(b"z" * (MAX_UNENDED_OCTETS + 1) + b"\xff\xfd\x06", [65537])
    @example(b"z" * MAX_UNENDED_OCTETS + b"\r\nNOOP\r\n", [1, 65535, 65536, 65537])
    def test_anyChunks(self, stream: bytes, places: Sequence[int]) -> None:
        """
        However the same octets are cut into chunks, the same requests, the same
        refusals and the same answers to negotiations come out.
        """
        self.assertSame(stream, cut(stream, places))

    def assertSame(self, stream: bytes, chunks: list[bytes]) -> None:
        """
        Fail unless the chunks of a stream make the same as the stream at once.
        When it is given up, negotiations behind that may go unanswered.
        """
        events, answers = parse(chunks)
        wanted, wantedAnswers = parse([stream])
        self.assertEqual(events, wanted)
        last = wanted[-1] if wanted else None
        if isinstance(last, BadRequest) and last.reply.closes:
            self.assertTrue(wantedAnswers.startswith(answers))
        else:
            self.assertEqual(answers, wantedAnswers)

    @settings(deadline=None)
    @given(st.lists(_PIECES, max_size=5).map(b"".join).map(lambda data: data[:5000]))
    def test_singleOctets(self, stream: bytes) -> None:
        """
        Octets that come one by one make the same as when they come at once.
        """
        self.assertSame(stream, cut(stream, range(len(stream))))

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.text(
                    st.characters(
                        exclude_categories=["Cs"], exclude_characters="\r\n\0"
                    ),
                    min_size=1,
                    max_size=60,
                ),
                st.sampled_from(ENDINGS),
            )
        )
    )
    def test_anyText(self, told: list[tuple[str, bytes]]) -> None:
        """
        Whatever lines of text are sent, with whatever endings, the requests
        have just these lines.
        """
        stream = b"".join(line.encode() + ending for line, ending in told)
        self.assertEqual(lines(stream), [line for line, _ in told])


class BadRequestTests(SynchronousTestCase):
    """
    Tests for the L{BadRequest}s that L{RequestParser} makes.
    """

    def test_tooLong(self) -> None:
        """
        Of a line of 4097 octets the beginning is kept; it gets 500
        LINE-TOO-LONG, and the lines around it are requests.
        """
        long = b"x" * (MAX_REQUEST_OCTETS + 1)
        events, _ = parse([b"A\n" + long + b"\r\nB\n"])
        first, bad, last = events
        assert isinstance(bad, BadRequest)
        self.assertEqual(bad.head, long[:MAX_REQUEST_OCTETS])
        self.assertEqual(bad.octets, MAX_REQUEST_OCTETS + 1)
        self.assertEqual((bad.reply.code, bad.reply.word), (500, "LINE-TOO-LONG"))
        self.assertFalse(bad.reply.closes)
        assert isinstance(first, Request)
        assert isinstance(last, Request)
        self.assertEqual((first.line, last.line), ("A", "B"))

    def test_tooLongToldOnce(self) -> None:
        """
        A line that is too long is told of when it ends, and not before.
        """
        parser = RequestParser(CLIENT)
        self.assertEqual(parser.feed(b"x" * 5000), [])
        self.assertEqual(parser.feed(b"x" * 5000), [])
        (bad,) = parser.feed(b"\n")
        assert isinstance(bad, BadRequest)
        self.assertEqual(bad.octets, 10000)

    def test_tooLongForgotten(self) -> None:
        """
        What was too long of one line does not count for the next, however that
        one comes.
        """
        events, _ = parse([b"x" * 10000, b"\n", b"NO", b"OP\n"])
        bad, good = events
        assert isinstance(bad, BadRequest)
        self.assertEqual(good, Request("NOOP", "NOOP", "", CLIENT))

    def test_longWithEnding(self) -> None:
        """
        A line past 65536 octets closes although it has an ending, and is told
        as long as it had grown when it could have been given up.
        """
        for chunks in ([b"x" * 70000 + b"\n"], [b"x" * 70000, b"\n"]):
            (bad,), _ = parse(chunks)
            assert isinstance(bad, BadRequest)
            self.assertTrue(bad.reply.closes)
            self.assertEqual(bad.octets, MAX_UNENDED_OCTETS + 1)

    def test_ending(self) -> None:
        """
        A line of exactly 65536 octets that ends is only too long; the ending
        does not count.
        """
        for ending in ENDINGS:
            bad = only(b"x" * MAX_UNENDED_OCTETS + ending)
            self.assertFalse(bad.reply.closes)
            self.assertEqual(bad.octets, MAX_UNENDED_OCTETS)

    def test_unended(self) -> None:
        """
        65537 octets without an ending are given up at once, with a reply that
        closes.
        """
        bad = only(b"x" * (MAX_UNENDED_OCTETS + 1))
        self.assertTrue(bad.reply.closes)
        self.assertEqual((bad.reply.code, bad.reply.word), (500, "LINE-TOO-LONG"))
        self.assertEqual(len(bad.head), MAX_REQUEST_OCTETS)
        self.assertEqual(bad.octets, MAX_UNENDED_OCTETS + 1)

    def test_nothingAfterClosing(self) -> None:
        """
        After a reply that closes nothing is parsed any more: neither requests
        nor negotiations, in this chunk or in later ones.
        """
        for rest in ([b"\nNOOP\n\xff\xfd\x06"], [b"", b"\nNOOP\n", b"\xff\xfd\x06\n"]):
            parser = RequestParser(CLIENT)
            first, *others = rest
            found = parser.feed(b"x" * (MAX_UNENDED_OCTETS + 1))
            for chunk in (first, *others):
                found += parser.feed(chunk)
            self.assertEqual(len(found), 1, found)

    def test_notUTF8(self) -> None:
        """
        A line that is not UTF-8 is kept as it came, and gets 500 NOT-UTF-8.
        """
        for line in (b"\x80", b"ECHO \xc3", b"\xff\xff", b"\xed\xa0\x80", b"\xc0\x80"):
            bad = only(line + b"\r\n")
            self.assertEqual(bad.head, line.replace(b"\xff\xff", b"\xff"))
            self.assertEqual(bad.octets, len(bad.head))
            self.assertEqual((bad.reply.code, bad.reply.word), (500, "NOT-UTF-8"))
            self.assertFalse(bad.reply.closes)

    def test_cutCharacter(self) -> None:
        """
        A character that comes in two chunks is one character.
        """
        events, _ = parse([b"ECHO \xc3", b"\xa4\n"])
        self.assertEqual(events, [Request("ECHO \u00e4", "ECHO", "\u00e4", CLIENT)])


class ForeignTests(SynchronousTestCase):
    """
    Clients of other protocols on a plaintext listener.
    """

    def told(self, stream: bytes, places: Iterable[int] = ()) -> list[Event]:
        """
        @return: What a parser makes of a stream, but for telnet.
        """
        parser = RequestParser(CLIENT, plaintext=True)
        return [
            event
            for chunk in cut(stream, places)
            for event in parser.feed(chunk)
            if not isinstance(event, Negotiation)
        ]

    def assertForeign(self, stream: bytes, head: bytes, octets: int) -> None:
        """
        However the stream is cut, it is one bad request that closes.
        """
        cuts: list[Iterable[int]] = [[], range(40), range(0, len(stream), 512)]
        for places in (*cuts, [len(head)]):
            (event,) = self.told(stream, places)
            assert isinstance(event, BadRequest)
            self.assertEqual((event.head, event.octets), (head, octets))
            self.assertEqual(event.reply.word, "NOT-OUR-PROTOCOL")
            self.assertTrue(event.reply.closes)

    def test_HTTP(self) -> None:
        """
        The request line of HTTP, in all its forms, and nothing behind it.
        """
        for line in (
            b"GET / HTTP/1.1",
            b"get / http/1.0",
            b"POST http://127.0.0.1:4434/ HTTP/1.1",
            b"CONNECT bench.example:4434 HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"PRI * HTTP/2.0",
            b"GET / HTTP/3",
            b"M-SEARCH * HTTP/1.1",
            b"GET  /\t HTTP/1.1 ",
            b"GET /\xe4\x80 HTTP/1.1",
        ):
            for before, after in (
                (b"", b"\r\n"),
                (b"\r\n\n", b"\n"),
                (b"\xff\xf4", b"\r\0"),
            ):
                stream = before + line + after + b"NOOP\r\nQUIT\r\n"
                self.assertForeign(stream, line, len(line))

    def test_longHTTP(self) -> None:
        """
        So it is if the line is longer than a request may be.
        """
        for length in (4080, 4081, 4082, 4090, 4100, 5000, 65521, 65522):
            line = b"GET /" + b"x" * (length - 5) + b" HTTP/1.1"
            self.assertForeign(line + b"\r\nNOOP\r\n", line[:4096], len(line))

    def test_TLS(self) -> None:
        """
        The beginning of a TLS handshake, which need not have a line ending.
        """
        for rest in (b"\x01\x02\0\x01\0\x01\xfc\x03\x03", b"\x01\nNOOP\r\n"):
            self.assertForeign(b"\x16\x03" + rest, b"\x16\x03", 2)

    def test_ours(self) -> None:
        """
        Other first lines are ours, and all later ones.
        """
        for stream in (
            b"NOOP\r\nGET / HTTP/1.1\r\n\x16\x03\r\n",
            b"ECHO a b HTTP/1.1\r\nNOOP\r\n",
            b"GET / HTTP/1.1x\r\nNOOP\r\n",
            b"GET HTTP/1.1\r\nNOOP\r\n",
            b"\x16\r\nNOOP\r\n",
            b"ECHO " + b"x" * 5000 + b"\r\nNOOP\r\n",
            b"ECHO \x80\r\nNOOP\r\n",
        ):
            cuts: list[Iterable[int]] = [[], range(40), range(0, len(stream), 512)]
            for places in cuts:
                expected, _ = parse([stream])
                self.assertEqual(self.told(stream, places), expected)

    def test_elsewhere(self) -> None:
        """
        Not on a plaintext listener, such lines are requests.
        """
        self.assertEqual(
            lines(b"GET / HTTP/1.1\r\nNOOP\r\n"), ["GET / HTTP/1.1", "NOOP"]
        )

    @settings(deadline=None)
    @given(_STREAMS, st.lists(st.integers(min_value=0), max_size=12))
    def test_anyChunks(self, stream: bytes, places: Sequence[int]) -> None:
        """
        However the bytes are cut into chunks, the same comes out.
        """
        self.assertEqual(self.told(stream), self.told(stream, places))


class RequestCostTests(SynchronousTestCase):
    """
    Tests for what L{RequestParser} takes of memory and time.
    """

    def test_keepsLittle(self) -> None:
        """
        Of a line without an ending, and of a telnet subnegotiation without
        an end, no more than the longest request is kept, however they come.
        """
        for stream in (
            b"x" * MAX_UNENDED_OCTETS,
            b"\xff\xfa" + b"x" * 1_000_000,
            (b"x" * 60_000 + b"\n") * 20 + b"x" * 60_000,
        ):
            for size in (1_000, len(stream)):
                parser = RequestParser(CLIENT)
                parser.feed(b"warm\nup")
                chunks = [stream[at : at + size] for at in range(0, len(stream), size)]

                def feed(
                    parser: RequestParser = parser, chunks: list[bytes] = chunks
                ) -> None:
                    for chunk in chunks:
                        parser.feed(chunk)

                self.assertLess(grownBy(feed), 3 * MAX_REQUEST_OCTETS)

    def test_linear(self) -> None:
        """
        An overlong line that comes octet by octet costs as much for its last
        octets as for its first.
        """

        def costOf(octets: int) -> int:
            parser = RequestParser(CLIENT)
            return callsIn(lambda: [parser.feed(b"x") for _ in range(octets)])

        few, many = costOf(6_000), costOf(60_000)
        self.assertLess(many, 11 * few)

    def test_copiesOnce(self) -> None:
        """
        What is kept of a line is copied when the line ends, and not with
        each chunk.
        """
        parser = RequestParser(CLIENT)
        parser._rest = kept = _CountedOctets()
        for _ in range(10_000):
            parser.feed(b"x")
        parser.feed(b"\n")
        self.assertIs(parser._rest, kept)
        self.assertEqual(kept.copied, MAX_REQUEST_OCTETS)


class ReplyTests(SynchronousTestCase):
    """
    Tests for L{Reply}.
    """

    def test_oneLine(self) -> None:
        """
        A reply of one line is its code, a space and its text.
        """
        self.assertEqual(Reply(200, "OK").encode(), b"200 OK\r\n")
        self.assertEqual(Reply(200, "").encode(), b"200 \r\n")
        self.assertEqual(Reply(200, "\u00e4").encode(), b"200 \xc3\xa4\r\n")

    def test_lines(self) -> None:
        """
        Each line break in the text begins another line; all but the last have
        a hyphen behind the code.
        """
        for text in ("a\nb\n", "a\r\nb\r\n", "a\rb\r"):
            reply = Reply(214, text)
            self.assertEqual(reply.encode(), b"214-a\r\n214-b\r\n214 \r\n")
            self.assertEqual(reply.lines, ["a", "b", ""])

    def test_written(self) -> None:
        """
        As text it is what is sent, without the last line's ending.
        """
        for text in ("a", "a\nb", "", "\u00e4\r\n\udcff"):
            reply = Reply(214, text)
            self.assertEqual(f"{reply}\r\n".encode(), reply.encode())
            self.assertEqual(written(214, text), str(reply))

    def test_surrogates(self) -> None:
        """
        What UTF-8 cannot say is written as an escape, in what is sent and
        in what is recorded alike.
        """
        reply = Reply(200, "file\udcff")
        self.assertEqual(reply.encode(), b"200 file\\udcff\r\n")
        self.assertEqual(str(reply), "200 file\\udcff")
        self.assertEqual(str(Reply(200, "a\n\udcff")), "200-a\r\n200 \\udcff")

    def test_errors(self) -> None:
        """
        4xx and 5xx are errors and have a word; others have none.
        """
        for code, isError, word in (
            (200, False, ""),
            (399, False, ""),
            (400, True, "BUSY"),
            (599, True, "BUSY"),
        ):
            reply = Reply(code, "BUSY held by alice")
            self.assertEqual((reply.isError, reply.word), (isError, word))
        self.assertEqual(Reply(421, "BUSY").word, "BUSY")

    @given(st.integers(200, 599), st.text(st.characters()))
    def test_grammar(self, code: int, text: str) -> None:
        """
        Whatever its text, a reply is lines of the code and a hyphen, and a last
        one of the code and a space (RFC 5321, section 4.2.1).
        """
        *others, last, rest = Reply(code, text).encode().split(b"\r\n")
        self.assertEqual(rest, b"")
        self.assertTrue(last.startswith(b"%d " % code), last)
        for line in others:
            self.assertTrue(line.startswith(b"%d-" % code), line)
        for line in (*others, last):
            self.assertNotIn(b"\n", line)
            self.assertNotIn(b"\r", line)


class ReplyParserTests(SynchronousTestCase):
    """
    Tests for L{ReplyParser}.
    """

    def parse(self, chunks: Iterable[bytes]) -> list[Reply]:
        """
        @return: The replies in the chunks.
        """
        parser = ReplyParser()
        return [reply for chunk in chunks for reply in parser.feed(chunk)]

    @given(
        st.lists(st.tuples(st.integers(200, 599), _TEXTS)),
        st.lists(st.integers(min_value=0), max_size=12),
    )
    @example([(214, "a\r\n\rb\n"), (200, "")], range(30))
    def test_roundTrip(
        self, told: list[tuple[int, str]], places: Sequence[int]
    ) -> None:
        """
        Any replies that are sent, in whatever chunks, come out as they went in,
        with LF for each line break.
        """
        stream = b"".join(Reply(code, text).encode() for code, text in told)
        self.assertEqual(
            self.parse(cut(stream, places)),
            [Reply(code, "\n".join(Reply(code, text).lines)) for code, text in told],
        )

    @given(st.text(st.characters()))
    @example("\ud800")
    def test_roundTripOfSurrogates(self, text: str) -> None:
        """
        Text with surrogates comes out as it was recorded: with escapes.
        """
        sent = Reply(200, text)
        (got,) = self.parse([sent.encode()])
        self.assertEqual(str(got), str(sent))

    def test_bareLF(self) -> None:
        """
        A peer that ends lines with LF alone is understood.
        """
        self.assertEqual(self.parse([b"211-a\n211 b\n"]), [Reply(211, "a\nb")])

    def test_codeAlone(self) -> None:
        """
        A code without a text is a reply with an empty text.
        """
        self.assertEqual(self.parse([b"200\r\n"]), [Reply(200, "")])

    def test_notUTF8(self) -> None:
        """
        Octets that are not UTF-8 become escapes.
        """
        self.assertEqual(self.parse([b"200 \xff\r\n"]), [Reply(200, "\\xff")])

    def test_noReply(self) -> None:
        """
        A line that does not begin with a code from 200 to 599 is none of this
        protocol; what it was is told in short.
        """
        for line in (b"", b"hello", b"20 x", b"2000", b"100 x", b"600 x", b"200_x"):
            error = self.assertRaises(ProtocolError, self.parse, [line + b"\r\n"])
            self.assertEqual(f"no reply, but {line.decode()!r}", str(error))
        error = self.assertRaises(ProtocolError, self.parse, [b"x" * 5000 + b"\n"])
        self.assertLess(len(str(error)), 120)

    def test_goodBeforeBad(self) -> None:
        """
        However a good reply and something that is none are cut into chunks, the
        good one is not lost.
        """
        whole = ReplyParser()
        error = self.assertRaises(ProtocolError, whole.feed, b"200 a\r\nhello\r\n")
        self.assertEqual(error.replies, [Reply(200, "a")])
        cut = ReplyParser()
        self.assertEqual(cut.feed(b"200 a\r\nhel"), [Reply(200, "a")])
        error = self.assertRaises(ProtocolError, cut.feed, b"lo\r\n")
        self.assertEqual(error.replies, [])

    def test_twoCodes(self) -> None:
        """
        All lines of a reply have one code (RFC 5321, section 4.2.1).
        """
        parser = ReplyParser()
        self.assertRaises(ProtocolError, parser.feed, b"211-x\r\n500 y\r\n")

    def test_midway(self) -> None:
        """
        It is midway from a reply's first octet to its last.
        """
        parser = ReplyParser()
        self.assertFalse(parser.midway)
        for octet in b"211-a\r\n211 b\r":
            self.assertEqual(parser.feed(bytes([octet])), [])
            self.assertTrue(parser.midway)
        self.assertEqual(len(parser.feed(b"\n")), 1)
        self.assertFalse(parser.midway)

    def test_tooLong(self) -> None:
        """
        A reply without an end is given up, whether it is one line or many.
        """
        for head, unit in ((b"200 ", b"x" * 65536), (b"", b"200-" + b"x" * 60 + b"\n")):
            parser = ReplyParser()
            parser.feed(head)
            block = unit * (1 + 65536 // len(unit))
            with self.assertRaises(ProtocolError):
                for _ in range(2 + MAX_REPLY_OCTETS // 60_000):
                    parser.feed(block)

    def test_manyReplies(self) -> None:
        """
        The limit is one of each reply, not of all together.
        """
        parser = ReplyParser()
        block = (b"200 " + b"x" * 60 + b"\r\n") * 1000
        for _ in range(2 + MAX_REPLY_OCTETS // 64_000):
            self.assertEqual(len(parser.feed(block)), 1000)

    def test_linear(self) -> None:
        """
        A long line that comes octet by octet is copied once, when it ends, and
        each octet costs the same.
        """

        def costOf(octets: int) -> int:
            parser = ReplyParser()
            return callsIn(lambda: [parser.feed(b"2") for _ in range(octets)])

        few, many = costOf(2_000), costOf(20_000)
        self.assertLess(many, 11 * few)
        parser = ReplyParser()
        parser._rest = kept = _CountedOctets()
        for octet in b"200 " + b"x" * 10_000 + b"\n":
            parser.feed(bytes([octet]))
        self.assertIs(parser._rest, kept)
        self.assertEqual(kept.copied, 10_004)
