"""
Tests for L{tcpsvc.session}.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tcpsvc.answering import Answering
from tcpsvc.batch import MAX_GATHERED_OCTETS
from tcpsvc.builtin import Conversation, Farewell
from tcpsvc.commands import Command, Commands, commandsOf
from tcpsvc.interfaces import AuditUnavailable, IBackend, ISession
from tcpsvc.recorded import Recorded
from tcpsvc.session import MAX_WAITING_OCTETS, CommandBackend, CommandSession
from tcpsvc.wire import (
    MAX_REQUEST_OCTETS,
    MAX_UNENDED_OCTETS,
    Reply,
    ReplyParser,
    Request,
)
from tests.support import (
    EPOCH,
    MemoryTrail,
    ProducerTransport,
    clientNamed,
    clockAtEpoch,
    journalInMemory,
)

GREETING = Reply(220, "bench.example tcpsvc; you are alice")

UNREAD_OCTETS = 65536
"""
How many octets a transport holds before it asks its producer to pause.
"""


class WitnessTransport(ProducerTransport):
    """
    A transport that looks at the trail whenever it is written to, and whose
    peer reads only when it is told to.

    @ivar writes: What was written, write by write.
    @ivar seen: How many records the trail had at each write.
    @ivar unread: What the peer has not read.
    """

    def __init__(self, trail: MemoryTrail) -> None:
        super().__init__()
        self._trail = trail
        self.writes: list[bytes] = []
        self.seen: list[int] = []
        self.unread = bytearray()
        self.reads = True

    def write(self, data: bytes) -> None:
        """Take octets, and look."""
        super().write(data)
        self.writes.append(data)
        self.seen.append(len(self._trail.kept))
        if not self.reads:
            self.unread += data
            if len(self.unread) > UNREAD_OCTETS:
                assert self.producer is not None
                self.producer.pauseProducing()

    def read(self) -> int:
        """Let the peer read all that is there: so many octets."""
        octets = len(self.unread)
        self.unread.clear()
        if self.producer is not None:
            self.producer.resumeProducing()
        return octets


@define
class EagerTrail(MemoryTrail):
    """
    A trail whose commits answer with Deferreds that have fired already.
    """

    def commit(self) -> Deferred[None] | None:
        """Keep what was taken."""
        super().commit()
        return succeed(None)


@define
class StubbornTrail(MemoryTrail):
    """
    A trail whose commits succeed when they are cancelled, and never else.
    """

    def commit(self) -> Deferred[None] | None:
        """Keep what was taken."""
        super().commit()
        return Deferred(lambda waiting: waiting.callback(None))


class SessionTests(SynchronousTestCase):
    """
    A session with a trail in memory and a transport that looks at it.
    """

    trail: MemoryTrail

    def setUp(self) -> None:
        """
        Begin a session.
        """
        self.begin(MemoryTrail())

    def begin(self, trail: MemoryTrail) -> None:
        """
        Begin a session that is recorded in a trail.
        """
        self.clock: Clock = clockAtEpoch()
        journal, self.trail, self.log = journalInMemory(self.clock, trail)
        self.ends: list[str] = []
        self.stopped: Deferred[None] | None = None
        self.calls: list[str] = []
        self.waiting: list[Deferred[object]] = []
        self.client = clientNamed()
        self.commands = Commands(
            [
                *commandsOf(Conversation(self.clock.seconds)),
                *commandsOf(Farewell(trail)),
                Command("DO", self.do, argument="WHAT"),
                Command("LATE", self.late, argument="WHAT"),
                Command("FIRED", lambda request: succeed(request.argument), "N"),
                Command("CO", self.co, argument="N"),
                Command("LEAVE", lambda request: Reply(221, "bye", True), pure=True),
                Command("BIG", lambda request: "b" * 50_000, pure=True),
            ]
        )
        self.session = CommandSession(
            self.client,
            Answering(self.commands, journal.log),
            Recorded(self.commands),
            GREETING,
            journal.ofSession("session-1"),
            self.end,
        )
        self.transport = WitnessTransport(self.trail)
        self.session.makeConnection(self.transport)
        self.greeting = self.transport.value()
        self.forget()

    def do(self, request: Request) -> str:
        """
        A command that has an effect.
        """
        self.calls.append(request.argument)
        return f"did {request.argument}"

    def late(self, request: Request) -> Deferred[object]:
        """
        A command that answers when the test fires a Deferred.
        """
        self.calls.append(request.argument)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    async def co(self, request: Request) -> str:
        """
        A command that is a coroutine and does not wait.
        """
        self.calls.append(request.argument)
        return request.argument

    def end(self, reason: str) -> None:
        """
        End the session as a doorway does.
        """
        self.ends.append(reason)
        self.stopped = self.session.stop()
        self.transport.unregisterProducer()

    def send(self, *lines: str) -> None:
        """
        Send lines in one chunk.
        """
        self.session.dataReceived("".join(f"{line}\r\n" for line in lines).encode())

    def replies(self) -> list[str]:
        """
        @return: The texts of all replies that have left.
        """
        return [reply.text for reply in ReplyParser().feed(self.transport.value())]

    def requested(self) -> list[object]:
        """
        @return: The requests on record.
        """
        return [fields.get("request") for fields in self.trail.of("request")]

    def forget(self) -> None:
        """
        Forget what was written so far.
        """
        self.transport.clear()
        self.transport.writes.clear()
        self.transport.seen.clear()


class ConversationTests(SessionTests):
    """
    Tests for requests and replies.
    """

    def test_interface(self) -> None:
        """
        It provides L{ISession}.
        """
        self.assertTrue(verifyObject(ISession, self.session))

    def test_greeting(self) -> None:
        """
        A client is greeted, and from then on it sets the pace.
        """
        self.assertEqual(self.greeting, GREETING.encode())
        self.assertIs(self.transport.producer, self.session)
        self.assertTrue(self.transport.streaming)
        self.assertEqual(self.session.bytesOut, len(self.greeting))
        self.assertEqual(self.trail.kept, [])

    def test_requestAndReply(self) -> None:
        """
        A request gets its reply, and both are on record.
        """
        self.send("echo a b")
        self.assertEqual(self.transport.value(), b"200 a b\r\n")
        self.assertEqual(
            self.trail.kept,
            [
                (
                    EPOCH,
                    "request",
                    {"session": "session-1", "n": 1, "request": "echo a b"},
                ),
                (
                    EPOCH,
                    "reply",
                    {
                        "session": "session-1",
                        "n": 1,
                        "reply": "200 a b",
                        "code": 200,
                        "duration_us": 0,
                    },
                ),
            ],
        )

    def test_requestRecordedFirst(self) -> None:
        """
        When a command is called, its request is on record.
        """
        seen: list[tuple[list[object], int]] = []

        def look(_: Request) -> str:
            seen.append((self.requested(), len(self.trail.taken)))
            return "looked"

        self.commands.add(Command("LOOK", look))
        self.send("NOOP", "LOOK", "NOOP", "LOOK")
        self.assertEqual(
            seen,
            [
                (["NOOP", "LOOK"], 0),
                (["NOOP", "LOOK", "NOOP", "LOOK"], 0),
            ],
        )

    def test_replyRecordedFirst(self) -> None:
        """
        When a reply leaves, it is on record: of a pure command, of one with an
        effect, of a late one, and of a line that is no request.
        """
        self.send("NOOP", "NOPE", "DO x", "LATE y", "CO z", "QUIT")
        self.session.dataReceived(b"\x80\n")
        self.waiting[0].callback("late")
        self.assertGreater(len(self.transport.writes), 3)
        sent: list[Reply] = []
        for octets, seen in zip(
            self.transport.writes, self.transport.seen, strict=True
        ):
            sent += ReplyParser().feed(octets)
            self.assertEqual(
                [
                    fields["reply"]
                    for _, event, fields in self.trail.kept[:seen]
                    if event == "reply"
                ],
                [str(reply) for reply in sent],
            )
        self.assertEqual(sent[-1].code, 221)

    def test_severalLines(self) -> None:
        """
        A reply of several lines is recorded as it is sent, without its last
        ending.
        """
        self.commands.add(Command("TWO", lambda request: Reply(211, "a\nb")))
        self.send("TWO")
        (record,) = self.trail.of("reply")
        self.assertEqual(record["reply"], "211-a\r\n211 b")
        self.assertEqual(self.transport.value(), b"211-a\r\n211 b\r\n")

    def test_surrogates(self) -> None:
        """
        A reply that UTF-8 cannot say is recorded as it is sent, which any trail
        can take.
        """
        self.commands.add(Command("FILE", lambda request: "a\udcff"))
        self.send("FILE")
        (record,) = self.trail.of("reply")
        self.assertEqual(record["reply"], "200 a\\udcff")
        self.assertEqual(self.transport.value(), b"200 a\\udcff\r\n")

    def test_oneWrite(self) -> None:
        """
        A chunk of requests for pure commands is one write and one commit, with
        unknown verbs and lines that are no requests among them. A negotiation in
        it is answered first.
        """
        self.session.dataReceived(
            b"NOOP\r\nECHO a\nNOPE\n\x80\n\xff\xfd\x06" + b"x" * 5000 + b"\rNOOP\n"
        )
        negotiated, answered = self.transport.writes
        self.assertEqual(negotiated, b"\xff\xfc\x06")
        self.assertEqual(self.trail.commits, [12])
        self.assertEqual(
            [reply.code for reply in ReplyParser().feed(answered)],
            [200, 200, 500, 500, 500, 200],
        )

    def test_writesOfEffects(self) -> None:
        """
        A request with an effect is committed by itself, and so is its reply;
        the pure ones around it stay together.
        """
        self.send("NOOP", "NOOP", "DO x", "NOOP", "NOOP", "NOOP")
        self.assertEqual(self.trail.commits, [4, 1, 1, 6])
        self.assertEqual(len(self.transport.writes), 3)

    def test_negotiation(self) -> None:
        """
        A telnet negotiation is answered and not recorded: it is no request, and
        keeps no session from being idle.
        """
        self.clock.advance(5)
        self.session.dataReceived(b"\xff\xfd\x06")
        self.assertEqual(self.transport.value(), b"\xff\xfc\x06")
        self.assertEqual(self.trail.commits, [])
        self.assertEqual(self.session.requests, 0)
        self.assertEqual(self.client.lastRequest, EPOCH)

    def test_counters(self) -> None:
        """
        Requests are counted, good and bad, and octets both ways, with the
        greeting and with what is no request.
        """
        octets = b"NOOP\r\n\r\n\xff\xfd\x06\x80\nDO x\nuntold"
        for at in range(len(octets)):
            self.session.dataReceived(octets[at : at + 1])
        self.assertEqual(self.session.requests, 3)
        self.assertEqual([fields["n"] for fields in self.trail.of("reply")], [1, 2, 3])
        self.assertEqual(self.session.bytesIn, len(octets))
        self.assertEqual(
            self.session.bytesOut, len(self.greeting) + len(self.transport.value())
        )

    def test_lastRequest(self) -> None:
        """
        The client leaves behind when it asked last; and a late reply counts
        too, so that nobody is idle by waiting.
        """
        self.clock.advance(5)
        self.send("NOOP")
        self.assertEqual(self.client.lastRequest, EPOCH + 5)
        self.clock.advance(5)
        self.session.dataReceived(b"\x80\n")
        self.assertEqual(self.client.lastRequest, EPOCH + 10)
        self.send("LATE x")
        self.clock.advance(100)
        self.waiting[0].callback("")
        self.assertEqual(self.client.lastRequest, EPOCH + 110)

    def test_duration(self) -> None:
        """
        A reply's record says how long it took, in microseconds.
        """
        self.send("LATE x")
        self.clock.advance(1.5)
        self.waiting[0].callback("")
        (record,) = self.trail.of("reply")
        self.assertEqual(record["duration_us"], 1_500_000)

    def test_commandFails(self) -> None:
        """
        A command that raises is answered, recorded, and does not end the session.
        """

        def fail(_: Request) -> str:
            raise RuntimeError("secret")

        self.commands.add(Command("FAIL", fail))
        self.send("FAIL", "NOOP")
        (first, second) = ReplyParser().feed(self.transport.value())
        self.assertEqual((first.word, second.code), ("COMMAND-FAILED", 200))
        self.assertNotIn("secret", repr(self.trail.kept) + repr(self.replies()))
        self.assertEqual(self.ends, [])


class OrderTests(SessionTests):
    """
    Tests for the order of requests that come together.
    """

    def test_order(self) -> None:
        """
        Replies come in the order of the requests, with late commands and
        coroutines in their midst.
        """
        self.send("NOOP", "LATE a", "ECHO b", "CO c", "LATE d", "DO e", "FIRED f")
        self.send("ECHO g")
        self.assertEqual(self.replies(), ["OK"])
        self.waiting[0].callback("a")
        self.assertEqual(self.replies(), ["OK", "a", "b", "c"])
        self.waiting[1].callback("d")
        self.assertEqual(self.replies(), ["OK", "a", "b", "c", "d", "did e", "f", "g"])
        self.assertEqual(self.trail.events(), ["request", "reply"] * 8)
        self.assertEqual(
            [fields["n"] for fields in self.trail.of("reply")], list(range(1, 9))
        )

    def test_nextWaits(self) -> None:
        """
        While a command is at work no other is called, and no request behind
        it is recorded; the session is busy.
        """
        self.assertFalse(self.session.busy)
        self.send("LATE a", "LATE b", "DO c", "NOOP")
        self.send("LATE d")
        self.assertEqual(self.calls, ["a"])
        self.assertEqual(self.requested(), ["LATE a"])
        self.assertTrue(self.session.busy)
        self.waiting[0].callback("a")
        self.assertEqual(self.calls, ["a", "b"])
        self.assertTrue(self.session.busy)
        self.waiting[1].callback("b")
        self.assertEqual(self.calls, ["a", "b", "c", "d"])
        self.waiting[2].callback("d")
        self.assertFalse(self.session.busy)

    def test_firedInside(self) -> None:
        """
        A Deferred that is fired while its command is still being called is late
        all the same, and answered once.
        """

        def do(_: Request) -> Deferred[str]:
            waiting: Deferred[str] = Deferred()
            waiting.callback("inside")
            return waiting

        self.commands.add(Command("INSIDE", do))
        self.send("INSIDE", "NOOP")
        self.assertEqual(self.replies(), ["inside", "OK"])

    def assertManyAnswered(self, verb: str) -> None:
        """
        Fail unless five thousand requests for one verb, sent at once, are
        answered in order.
        """
        numbers = [str(number) for number in range(5000)]
        self.send(*(f"{verb} {number}" for number in numbers))
        while len(self.requested()) < len(numbers) and self.session.paused:
            self.transport.read()
        self.assertEqual(self.replies(), numbers)
        self.assertEqual(self.session.requests, 5000)

    def test_manyFired(self) -> None:
        """
        Thousands of requests whose Deferreds have fired already do not exhaust
        the stack.
        """
        self.assertManyAnswered("FIRED")

    def test_manyCoroutines(self) -> None:
        """
        Nor do thousands of coroutines that do not wait.
        """
        self.assertManyAnswered("CO")

    def test_manyBehindOne(self) -> None:
        """
        Nor do thousands that wait behind a late one.
        """
        self.send("LATE x", *(f"FIRED {number}" for number in range(5000)))
        self.waiting[0].callback("x")
        self.assertEqual(self.replies(), ["x", *map(str, range(5000))])

    def test_manyCommits(self) -> None:
        """
        Nor do thousands whose records a trail keeps at once but says so by a
        Deferred.
        """
        self.begin(EagerTrail())
        self.assertManyAnswered("FIRED")

    def test_manyLate(self) -> None:
        """
        Nor do thousands of late ones that are answered one after another.
        """
        self.send(*(f"LATE {number}" for number in range(5000)))
        for number in range(5000):
            self.waiting[number].callback(str(number))
        self.assertEqual(self.replies(), [str(number) for number in range(5000)])


class PaceTests(SessionTests):
    """
    Tests for clients that send faster than they read, or than it can be
    answered.
    """

    def test_notRead(self) -> None:
        """
        A client that does not read its replies is not read from, and not
        answered; what waits for it is bounded. When it reads, all is there.
        """
        self.transport.reads = False
        chunk = b"".join(b"ECHO %s\r\n" % (b"%06d" % n * 100) for n in range(200))
        sent = most = 0
        while self.transport.producerState == "producing":
            self.session.dataReceived(chunk)
            sent += 1
            most = max(most, len(self.transport.unread))
            self.assertLess(sent, 10, "it is read from without end")
        self.assertTrue(self.session.paused)
        self.assertLess(most, UNREAD_OCTETS + MAX_GATHERED_OCTETS + 2 * 4096)
        self.assertLess(self.session.requests, 200 * sent)
        while self.transport.unread:
            self.transport.read()
        self.assertEqual(self.transport.producerState, "producing")
        self.assertFalse(self.session.paused)
        self.assertEqual(self.replies(), [f"{n:06d}" * 100 for n in range(200)] * sent)

    def test_bigReplies(self) -> None:
        """
        Small requests for big replies are not answered ahead of their reader:
        what is gathered is bounded, and so is what waits unread.
        """
        self.transport.reads = False
        self.send(*["BIG"] * 1000)
        self.assertLess(
            len(self.transport.unread), UNREAD_OCTETS + MAX_GATHERED_OCTETS + 50_100
        )
        self.assertLess(self.session.requests, 6)
        read = 0
        while self.transport.unread:
            self.assertLess(
                len(self.transport.unread),
                UNREAD_OCTETS + MAX_GATHERED_OCTETS + 50_100,
            )
            read += self.transport.read()
        self.assertEqual(read, 1000 * len(b"200 \r\n" + b"b" * 50_000))

    def test_lateAndNotRead(self) -> None:
        """
        A late reply to a client that does not read leaves, and no request
        behind it is acted upon until the client reads.
        """
        self.transport.reads = False
        self.send("LATE a", "DO b")
        self.session.pauseProducing()
        self.waiting[0].callback("a")
        self.assertEqual(self.replies(), ["a"])
        self.assertEqual(self.calls, ["a"])
        self.transport.read()
        self.assertEqual(self.replies(), ["a", "did b"])

    def test_paused(self) -> None:
        """
        While the client does not read it is not read from, though nothing
        waits to be answered; and read from once more when it reads.
        """
        self.session.pauseProducing()
        self.assertEqual(self.transport.producerState, "paused")
        self.session.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")

    def test_backlog(self) -> None:
        """
        Behind a late command requests wait, up to 65536 octets; past that no
        more are read until they are answered.
        """
        self.send("LATE x")
        line = b"ECHO " + b"e" * 1017 + b"\r\n"
        self.assertEqual(MAX_WAITING_OCTETS % len(line), 0)
        count = MAX_WAITING_OCTETS // len(line)
        for _ in range(count):
            self.session.dataReceived(line)
        self.assertEqual(self.transport.producerState, "producing")
        self.session.dataReceived(b"\n")
        self.assertEqual(self.transport.producerState, "paused")
        self.waiting[0].callback("x")
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.replies(), ["x", *["e" * 1017] * count])

    def test_backlogOfSmallChunks(self) -> None:
        """
        Octets of requests that have been answered do not count as waiting.
        """
        for _ in range(3):
            self.session.dataReceived(b"NOOP\n" * 10_000)
            self.assertEqual(self.transport.producerState, "producing")
        self.send("LATE x")
        self.session.dataReceived(b"NOOP\n" * 10_000)
        self.assertEqual(self.transport.producerState, "producing")

    def test_backlogAndNotRead(self) -> None:
        """
        It is read from again only when neither the backlog nor the client's own
        reading stands against it.
        """
        self.send("LATE x")
        self.session.dataReceived(b"DO x\n" * 14_000)
        self.assertEqual(self.transport.producerState, "paused")
        self.session.pauseProducing()
        self.waiting[0].callback("x")
        self.assertEqual(self.transport.producerState, "paused")
        self.assertEqual(self.calls, ["x"])
        self.session.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.calls), 14_001)

    def test_stopProducing(self) -> None:
        """
        A transport that goes away may say so to its producer.
        """
        self.session.stopProducing()
        self.assertEqual(self.ends, [])


class BadLineTests(SessionTests):
    """
    Tests for lines that are no requests.
    """

    def test_tooLong(self) -> None:
        """
        Of a line that is too long its beginning and its length are on record;
        the session goes on.
        """
        self.send("x" * 5000, "NOOP")
        record = self.trail.of("request")[0]
        self.assertEqual(record["request"], "x" * MAX_REQUEST_OCTETS)
        self.assertEqual(record["octets"], 5000)
        self.assertNotIn("request_b64", record)
        self.assertEqual(
            [reply.split()[0] for reply in self.replies()], ["LINE-TOO-LONG", "OK"]
        )
        self.assertEqual(self.ends, [])

    def test_unended(self) -> None:
        """
        A line without an ending is on record, answered, and ends the session;
        nothing behind it is answered or recorded.
        """
        self.session.dataReceived(b"NOOP\n" + b"x" * (MAX_UNENDED_OCTETS + 1))
        self.assertEqual(self.ends, ["line-too-long"])
        record = self.trail.of("request")[1]
        self.assertEqual(record["request"], "x" * MAX_REQUEST_OCTETS)
        self.assertEqual(record["octets"], MAX_UNENDED_OCTETS + 1)
        self.assertEqual(
            [reply.split()[0] for reply in self.replies()], ["OK", "LINE-TOO-LONG"]
        )
        self.assertEqual(len(self.transport.writes), 1)

    def test_tooLongAndUnended(self) -> None:
        """
        One that has an ending, but past 65536 octets, ends the session as well.
        """
        self.session.dataReceived(b"x" * (MAX_UNENDED_OCTETS + 1) + b"\nNOOP\n")
        self.assertEqual(self.ends, ["line-too-long"])
        self.assertEqual(self.session.requests, 1)
        self.assertEqual(len(self.replies()), 1)

    def test_notUTF8(self) -> None:
        """
        A line that is not UTF-8 is on record in base64; its length is not, as
        it says nothing new.
        """
        self.session.dataReceived(b"ECHO \xc3\r\nNOOP\n")
        record = self.trail.of("request")[0]
        self.assertEqual(
            record,
            {
                "session": "session-1",
                "n": 1,
                "request_b64": b64encode(b"ECHO \xc3").decode(),
            },
        )
        self.assertEqual(
            [reply.split()[0] for reply in self.replies()], ["NOT-UTF-8", "OK"]
        )
        self.assertEqual(self.ends, [])

    def test_tooLongAndNotUTF8(self) -> None:
        """
        One that is both has base64 and length on record.
        """
        self.session.dataReceived(b"\x80" * 5000 + b"\n")
        (record,) = self.trail.of("request")
        self.assertEqual(
            record["request_b64"], b64encode(b"\x80" * MAX_REQUEST_OCTETS).decode()
        )
        self.assertEqual(record["octets"], 5000)
        self.assertNotIn("request", record)

    def test_inOrder(self) -> None:
        """
        They are answered in their turn.
        """
        self.send("LATE a")
        self.session.dataReceived(b"\x80\nECHO b\n")
        self.assertEqual(self.replies(), [])
        self.waiting[0].callback("a")
        self.assertEqual(
            [reply.split()[0] for reply in self.replies()], ["a", "NOT-UTF-8", "b"]
        )


class UnrecordedTests(SessionTests):
    """
    Tests for a trail that cannot be written.
    """

    def assertUnavailable(self) -> None:
        """
        Fail unless the session was ended because of the trail, and the log says
        why.
        """
        self.assertEqual(self.ends, ["audit-unavailable"])
        errors = [
            event for event in self.log.events if event["log_level"] == LogLevel.error
        ]
        self.assertEqual([event["error"] for event in errors], ["no space left"])
        self.assertFalse(self.session.busy)

    def test_request(self) -> None:
        """
        If a request cannot be recorded its command is not called, nothing
        leaves, nothing behind it is done, and the session ends.
        """
        self.trail.broken = "no space left"
        self.send("DO x", "NOOP", "DO y")
        self.assertEqual(self.calls, [])
        self.assertEqual(self.transport.value(), b"")
        self.assertUnavailable()

    def test_pure(self) -> None:
        """
        If pure requests cannot be recorded none of their replies leaves.
        """
        self.trail.broken = "no space left"
        self.send("NOOP", "ECHO x", "DO y")
        self.assertEqual(self.transport.value(), b"")
        self.assertEqual(self.calls, [])
        self.assertUnavailable()

    def test_reply(self) -> None:
        """
        If a reply cannot be recorded it does not leave, and the session ends.
        """

        def break_(_: Request) -> str:
            self.trail.broken = "no space left"
            return "untold"

        self.commands.add(Command("BREAK", break_))
        self.send("NOOP", "BREAK", "DO y")
        self.assertEqual(self.replies(), ["OK"])
        self.assertEqual(self.calls, [])
        self.assertUnavailable()

    def test_lateReply(self) -> None:
        """
        The same holds for a late reply.
        """
        self.send("LATE x", "DO y")
        self.trail.broken = "no space left"
        self.waiting[0].callback("untold")
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.calls, ["x"])
        self.assertUnavailable()

    def test_badLine(self) -> None:
        """
        The same holds for a line that is no request and ends the session.
        """
        self.trail.broken = "no space left"
        self.session.dataReceived(b"x" * (MAX_UNENDED_OCTETS + 1))
        self.assertEqual(self.transport.value(), b"")
        self.assertUnavailable()

    def test_quit(self) -> None:
        """
        The same holds for the last reply: the reason is the trail's.
        """

        def depart(_: Request) -> Reply:
            self.trail.broken = "no space left"
            return Reply(221, "bye", closes=True)

        self.commands.add(Command("DEPART", depart))
        self.send("DEPART")
        self.assertEqual(self.replies(), [])
        self.assertUnavailable()


class DeferredCommitTests(SessionTests):
    """
    Tests for a trail that takes its time.
    """

    def setUp(self) -> None:
        """
        Begin a session whose trail answers when the test says so.
        """
        self.begin(MemoryTrail(pending=[]))

    def commit(self) -> None:
        """
        The oldest commit is on the disk.
        """
        assert self.trail.pending is not None
        self.trail.pending.pop(0).callback(None)

    def refuse(self) -> None:
        """
        The oldest commit has failed.
        """
        assert self.trail.pending is not None
        self.trail.pending.pop(0).errback(
            Failure(AuditUnavailable("cannot be written"))
        )

    def test_request(self) -> None:
        """
        A command is called when its request is on the disk, and its reply
        leaves when that is.
        """
        self.send("DO x")
        self.assertEqual(self.calls, [])
        self.assertTrue(self.session.busy)
        self.commit()
        self.assertEqual(self.calls, ["x"])
        self.assertEqual(self.replies(), [])
        self.commit()
        self.assertEqual(self.replies(), ["did x"])
        self.assertFalse(self.session.busy)
        self.assertEqual(self.trail.pending, [])

    def test_pure(self) -> None:
        """
        Pure requests are answered together when all of them are on the disk;
        those that come meanwhile wait for the next commit.
        """
        self.send("ECHO a", "ECHO b")
        self.send("ECHO c")
        self.send("ECHO d")
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.trail.commits, [4])
        self.commit()
        self.assertEqual(self.replies(), ["a", "b"])
        self.assertEqual(self.trail.commits, [4, 4])
        self.commit()
        self.assertEqual(self.replies(), ["a", "b", "c", "d"])
        self.assertEqual(len(self.transport.writes), 2)

    def test_order(self) -> None:
        """
        The order is kept, with late commands among the others.
        """
        self.send("ECHO a", "LATE b", "DO c", "ECHO d", "QUIT", "ECHO e")
        while self.trail.pending or self.waiting:
            if self.trail.pending:
                self.commit()
            else:
                self.waiting.pop().callback("b")
        *others, last = self.replies()
        self.assertEqual(others, ["a", "b", "did c", "d"])
        self.assertTrue(last.startswith("bye; record "), last)
        self.assertEqual(self.ends, ["quit"])

    def test_requestFails(self) -> None:
        """
        If a request does not reach the disk its command is not called.
        """
        self.send("DO x", "DO y")
        self.refuse()
        self.assertEqual(self.calls, [])
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.ends, ["audit-unavailable"])
        self.assertFalse(self.session.busy)

    def test_replyFails(self) -> None:
        """
        If a reply does not reach the disk it does not leave.
        """
        self.send("DO x", "DO y")
        self.commit()
        self.refuse()
        self.assertEqual(self.calls, ["x"])
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.ends, ["audit-unavailable"])

    def test_pureFails(self) -> None:
        """
        If pure requests do not reach the disk no reply leaves.
        """
        self.send("NOOP", "NOOP")
        self.refuse()
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.ends, ["audit-unavailable"])

    def test_secondCommitRaises(self) -> None:
        """
        If the request reaches the disk and its reply cannot even be written,
        the reply does not leave.
        """
        self.send("DO x")
        self.trail.broken = "no space left"
        self.commit()
        self.assertEqual(self.calls, ["x"])
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.ends, ["audit-unavailable"])

    def test_stopped(self) -> None:
        """
        If the session is stopped while a request waits for the disk, its
        command is never called; the trail may still answer.
        """
        for answer in (self.commit, self.refuse):
            self.begin(MemoryTrail(pending=[]))
            self.send("DO x", "DO y")
            self.end("shutdown")
            assert self.stopped is not None
            self.successResultOf(self.stopped)
            answer()
            self.assertEqual(self.calls, [])
            self.assertEqual(self.replies(), [])
            self.assertEqual(self.ends, ["shutdown"])
            self.assertFalse(self.session.busy)

    def test_stoppedAndRecorded(self) -> None:
        """
        If the trail answers a session that gives up with success, nothing is
        done all the same.
        """
        self.begin(StubbornTrail())
        self.send("DO x", "NOOP")
        self.assertTrue(self.session.busy)
        self.end("shutdown")
        assert self.stopped is not None
        self.successResultOf(self.stopped)
        self.assertEqual(self.calls, [])
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.trail.events(), ["request"])

    def test_stoppedBeforeReply(self) -> None:
        """
        If it is stopped while a reply waits for the disk, the reply does not
        leave.
        """
        for lines in (("NOOP", "NOOP"), ("QUIT",)):
            self.begin(MemoryTrail(pending=[]))
            self.send(*lines)
            if lines == ("QUIT",):
                self.commit()
            self.end("session-limit")
            self.commit()
            self.assertEqual(self.replies(), [])
            self.assertEqual(self.ends, ["session-limit"])

    def test_inputEnded(self) -> None:
        """
        A client that has closed its half gets what still waits for the disk.
        """
        self.send("NOOP", "DO x")
        self.session.inputEnded()
        for _ in range(3):
            self.assertEqual(self.ends, [])
            self.commit()
        self.assertEqual(self.replies(), ["OK", "did x"])
        self.assertEqual(self.ends, ["client-closed"])

    def test_backlog(self) -> None:
        """
        While the disk is waited for, requests wait as behind a late command.
        """
        self.send("NOOP")
        self.session.dataReceived(b"NOOP\n" * 14_000)
        self.assertEqual(self.transport.producerState, "paused")
        while self.trail.pending:
            self.commit()
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.replies()), 14_001)


class EndTests(SessionTests):
    """
    Tests for how a session ends.
    """

    def assertQuit(self, reply: str) -> None:
        """
        Fail unless the session ended with a reply that closes, and nothing
        behind it was done.
        """
        self.assertEqual(self.ends, ["quit"])
        self.assertEqual(self.replies()[-1].partition(";")[0], reply)
        self.assertEqual(self.calls, [])
        self.assertEqual(len(self.trail.of("request")), self.session.requests)
        self.assertEqual(len(self.trail.of("reply")), len(self.replies()))

    def test_quit(self) -> None:
        """
        QUIT in the midst of other requests: those before it are answered, those
        behind it are neither answered nor recorded nor counted.
        """
        self.send("NOOP", "QUIT", "DO x", "NOOP", "LATE y", "\x80")
        self.assertEqual(self.requested(), ["NOOP", "QUIT"])
        self.assertQuit("bye")

    def test_quitRecorded(self) -> None:
        """
        The last reply is on record when the session ends.
        """
        seen: list[list[str]] = []
        end = self.end

        def look(reason: str) -> None:
            seen.append(self.trail.events())
            end(reason)

        self.session._end = look
        self.send("QUIT")
        self.assertEqual(seen, [["request", "reply"]])

    def test_quitBehindLate(self) -> None:
        """
        QUIT waits for its turn like the others.
        """
        self.send("LATE x", "QUIT", "NOOP")
        self.assertEqual(self.ends, [])
        self.waiting[0].callback("x")
        self.calls.clear()
        self.assertQuit("bye")

    def test_pureCloses(self) -> None:
        """
        A reply of a pure command may close too.
        """
        self.send("NOOP", "LEAVE", "NOOP", "DO x")
        self.assertEqual(self.requested(), ["NOOP", "LEAVE"])
        self.assertQuit("bye")

    def test_lateCloses(self) -> None:
        """
        A late reply may close too.
        """
        self.send("LATE x", "DO y", "NOOP")
        self.waiting[0].callback(Reply(221, "late", closes=True))
        self.calls.clear()
        self.assertEqual(self.requested(), ["LATE x"])
        self.assertQuit("late")

    def test_inputEnded(self) -> None:
        """
        When the client has closed its half and all is answered, the session
        ends.
        """
        self.send("NOOP")
        self.session.dataReceived(b"NOO")
        self.session.inputEnded()
        self.assertEqual(self.ends, ["client-closed"])
        self.assertEqual(self.replies(), ["OK"])

    def test_inputEndedBehindLate(self) -> None:
        """
        A client that has closed its half gets all its replies first, late ones
        too.
        """
        self.send("LATE a", "NOOP", "LATE b", "DO c")
        self.session.inputEnded()
        self.assertEqual(self.ends, [])
        self.waiting[0].callback("a")
        self.assertEqual(self.ends, [])
        self.waiting[1].callback("b")
        self.assertEqual(self.replies(), ["a", "OK", "b", "did c"])
        self.assertEqual(self.ends, ["client-closed"])

    def test_inputEndedAndQuit(self) -> None:
        """
        If the last of them is QUIT, that is the reason, and there is one.
        """
        self.send("LATE a", "QUIT")
        self.session.inputEnded()
        self.waiting[0].callback("a")
        self.assertEqual(self.ends, ["quit"])

    def test_inputEndedNotRead(self) -> None:
        """
        A client that has closed its half and reads slowly gets all its replies.
        """
        self.transport.reads = False
        self.send(*["BIG"] * 20)
        self.session.inputEnded()
        self.assertEqual(self.ends, [])
        while self.transport.unread:
            self.transport.read()
        self.assertEqual(len(self.replies()), 20)
        self.assertEqual(self.ends, ["client-closed"])

    def stop(self) -> Deferred[None]:
        """
        @return: What fires when the session has nothing left at work.
        """
        self.end("shutdown")
        assert self.stopped is not None
        return self.stopped

    def test_stop(self) -> None:
        """
        A session that does nothing is stopped at once.
        """
        self.assertIsNone(self.successResultOf(self.stop()))

    def test_stopLate(self) -> None:
        """
        Stopping cancels the late command; its reply is neither sent nor
        recorded, and what waited behind it is forgotten.
        """
        self.send("LATE x", "DO y", "NOOP")
        self.successResultOf(self.stop())
        self.assertTrue(self.waiting[0].called)
        self.assertEqual(self.calls, ["x"])
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.trail.events(), ["request"])
        self.assertFalse(self.session.busy)

    def test_stopWaits(self) -> None:
        """
        It is stopped when the command that was given up is over, not before:
        nothing of it reaches the next session.
        """
        cleaned: Deferred[None] = Deferred()
        never: Deferred[None] = Deferred()

        async def do(_: Request) -> str:
            try:
                await never
            except CancelledError:
                await cleaned
            return "over"

        self.commands.add(Command("CLEAN", do))
        self.send("CLEAN", "DO y")
        stopped = self.stop()
        self.assertNoResult(stopped)
        cleaned.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.calls, [])

    def test_stopAnswersNothing(self) -> None:
        """
        A command that answers when it is cancelled, and even one whose reply
        closes, is not heard.
        """

        def refuse(waiting: Deferred[object]) -> None:
            waiting.callback(Reply(221, "bye", closes=True))

        self.commands.add(Command("STUBBORN", lambda request: Deferred(refuse)))
        self.send("STUBBORN", "DO y")
        self.successResultOf(self.stop())
        self.assertEqual(self.ends, ["shutdown"])
        self.assertEqual(self.replies(), [])
        self.assertEqual(self.trail.events(), ["request"])

    def test_stoppedByCommand(self) -> None:
        """
        A command may end the session itself, by stopping the service: then
        neither it nor anything behind it is answered or recorded any more, and
        what it would wait for is given up.
        """
        cancelled: list[object] = []

        def stopLate(_: Request) -> Deferred[str]:
            self.end("shutdown")
            return Deferred(cancelled.append)

        def stop(_: Request) -> str:
            self.end("shutdown")
            return "stopped"

        for function in (stop, stopLate):
            self.begin(MemoryTrail())
            self.commands.add(Command("STOP", function))
            self.send("STOP", "DO x", "NOOP")
            self.assertEqual(self.ends, ["shutdown"])
            self.assertEqual(self.replies(), [])
            self.assertEqual(self.trail.events(), ["request"])
            self.assertFalse(self.session.busy)
        self.assertEqual(len(cancelled), 1)

    def test_readsAfterStop(self) -> None:
        """
        A session that was stopped leaves the transport's reading alone: the
        doorway reads and drops.
        """
        self.send("LATE x")
        self.session.dataReceived(b"NOOP\n" * 14_000)
        self.assertEqual(self.transport.producerState, "paused")
        self.stop()
        self.assertEqual(self.transport.producerState, "paused")
        self.begin(MemoryTrail())
        self.stop()
        self.session.pauseProducing()
        self.assertEqual(self.transport.producerState, "producing")

    def test_connectionLost(self) -> None:
        """
        After it was stopped its connection is lost without another word.
        """
        self.stop()
        self.session.connectionLost()
        self.assertEqual(self.ends, ["shutdown"])


class CommandBackendTests(SynchronousTestCase):
    """
    Tests for L{CommandBackend}.
    """

    def backend(self, greeting: Callable[[object], Reply]) -> CommandBackend:
        """
        @return: A backend of one command.
        """
        return CommandBackend(
            Commands([Command("WHOAMI", lambda request: request.client.identity.name)]),
            greeting,
            "commands",
        )

    def test_interface(self) -> None:
        """
        It provides L{IBackend}, and is not transparent: its clients may be told
        why they are sent away.
        """
        backend = self.backend(lambda client: GREETING)
        self.assertTrue(verifyObject(IBackend, backend))
        self.assertFalse(backend.transparent)
        self.assertEqual(backend.description, "commands")

    def test_openSession(self) -> None:
        """
        Each client gets a session of its own, is greeted by its name, and
        answered as who it is.
        """
        journal, trail, _ = journalInMemory()
        backend = self.backend(lambda client: Reply(220, client.identity.name))  # type: ignore[attr-defined]
        ends: list[str] = []
        for name in ("alice", "bob"):
            session = backend.openSession(
                clientNamed(name), journal.ofSession(f"of {name}"), ends.append, True
            )
            self.assertTrue(verifyObject(ISession, session))
            transport = ProducerTransport()
            session.makeConnection(transport)
            session.dataReceived(b"WHOAMI\n")
            self.assertEqual(
                transport.value(), f"220 {name}\r\n200 {name}\r\n".encode()
            )
        self.assertEqual(
            [fields["session"] for fields in trail.of("reply")],
            ["of alice", "of bob"],
        )
        self.assertEqual(ends, [])
