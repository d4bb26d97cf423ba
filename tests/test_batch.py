"""
Tests for L{tcpsvc.batch}.
"""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.answering import Answering
from tcpsvc.audit.chain import Chain, parsed
from tcpsvc.batch import MAX_GATHERED_OCTETS, Batch
from tcpsvc.commands import BadArgument, Command, Commands
from tcpsvc.recorded import Recorded
from tcpsvc.wire import (
    MAX_UNENDED_OCTETS,
    Event,
    Negotiation,
    Reply,
    ReplyParser,
    Request,
    RequestParser,
)
from tests.support import (
    EPOCH,
    BodiesTrail,
    clientNamed,
    clockAtEpoch,
    journalInMemory,
)

CANARY = "Tweety-4711"
"""
What nobody may ever read in a record.
"""


class BatchTests(SynchronousTestCase):
    """
    Tests for L{Batch}, with the journal of a session and a trail in memory.
    """

    def setUp(self) -> None:
        """
        Commands of all kinds, and a clock that some of them advance.
        """
        self.clock = clockAtEpoch()
        journal, self.trail, self.log = journalInMemory(self.clock)
        self.journal = journal.ofSession("session-1")
        self.calls: list[str] = []
        commands = Commands()
        for verb, function, secret, secretReply in (
            ("ECHO", lambda request: request.argument, False, False),
            ("TAKE", self.take, False, False),
            ("REPLY", self.reply, False, False),
            ("FAIL", self.raises, False, False),
            ("BAD", self.bad, False, False),
            ("LATE", self.late, False, False),
            ("SOON", lambda request: succeed(CANARY), False, False),
            ("OPEN", lambda request: "opened", True, False),
            ("BREAK", self.raises, True, False),
            ("TELL", lambda request: CANARY, False, True),
        ):
            commands.add(
                Command(
                    verb,
                    function,
                    argument="TEXT",
                    pure=True,
                    secret=secret,
                    secretReply=secretReply,
                )
            )
        commands.add(Command("DO", self.do, argument="TEXT"))
        self.answering = Answering(commands, journal.log)
        self.recorded = Recorded(commands)

    def do(self, request: Request) -> str:
        """
        A command that has an effect: never called here.
        """
        raise AssertionError("it is not pure")

    def take(self, request: Request) -> str:
        """
        Takes so many seconds.
        """
        self.clock.rightNow += float(request.argument)
        return "took"

    def reply(self, request: Request) -> Reply:
        """
        Answers with a code, and takes an eighth of a second.
        """
        self.clock.rightNow += 0.125
        return Reply(int(request.argument), "WORD as\nasked", request.argument == "221")

    def raises(self, request: Request) -> str:
        """
        Fails.
        """
        raise RuntimeError(request.argument)

    def bad(self, request: Request) -> str:
        """
        Complains of its argument.
        """
        raise BadArgument("not so")

    def late(self, request: Request) -> Deferred[str]:
        """
        Would answer late.
        """
        return Deferred(lambda _: self.calls.append("cancelled"))

    def events(self, *lines: str | bytes) -> deque[Event]:
        """
        @return: What comes of lines.
        """
        octets = [line if isinstance(line, bytes) else line.encode() for line in lines]
        parser = RequestParser(clientNamed())
        return deque(parser.feed(b"".join(line + b"\n" for line in octets)))

    def lines(self, waiting: deque[Event]) -> list[str]:
        """
        @return: The requests that wait.
        """
        return [event.line for event in waiting if isinstance(event, Request)]

    def further(self, waiting: deque[Event], requests: int = 0) -> Batch:
        """
        @return: A batch that has answered; what it told is not yet on record.
        """
        batch = Batch(self.answering, self.recorded, self.journal, requests)
        batch.answer(waiting)
        return batch

    def batch(self, waiting: deque[Event], requests: int = 0) -> Batch:
        """
        @return: A batch that has answered, when what it told is on record.
        """
        batch = self.further(waiting, requests)
        self.assertEqual([], self.trail.kept + self.trail.taken)
        self.assertIsNone(self.journal.commit())
        return batch

    def codes(self, batch: Batch) -> list[int]:
        """
        @return: The codes of the replies that are sent.
        """
        return [reply.code for reply in ReplyParser().feed(batch.octets)]

    def told(self) -> list[tuple[str, object, object]]:
        """
        @return: The records: which event, of which request, what was said.
        """
        said = ("request", "request_b64", "reply")
        return [
            (event, fields["n"], next(fields[name] for name in said if name in fields))
            for _, event, fields in self.trail.kept
        ]

    def test_nothing(self) -> None:
        """
        Of nothing comes nothing.
        """
        batch = self.batch(deque(), 7)
        self.assertEqual((7, b"", ""), (batch.requests, batch.octets, batch.ends))
        self.assertEqual([], self.trail.kept)

    def test_order(self) -> None:
        """
        Replies are sent and recorded in the order of the requests, each behind its
        request, whatever is answered how; their numbers go on from those before.
        """
        waiting = self.events(
            "ECHO a",
            "echo b",
            "REPLY 202",
            "ECHO c",
            "NOPE",
            b"\x80",
            "BAD x",
            "ECHO d",
        )
        batch = self.batch(waiting, 10)
        self.assertEqual(deque(), waiting)
        self.assertEqual(18, batch.requests)
        self.assertEqual("", batch.ends)
        texts = [str(reply) for reply in ReplyParser().feed(batch.octets)]
        self.assertEqual(
            [
                "200 a",
                "200 b",
                "202-WORD as\r\n202 asked",
                "200 c",
                "500 UNKNOWN-COMMAND NOPE: HELP lists the commands",
                "500 NOT-UTF-8 requests are UTF-8 text; this line was ignored",
                "501 BAD-ARGUMENT not so",
                "200 d",
            ],
            texts,
        )
        asked = [
            "ECHO a",
            "echo b",
            "REPLY 202",
            "ECHO c",
            "NOPE",
            "gA==",
            "BAD x",
            "ECHO d",
        ]
        expected: list[tuple[str, object, object]] = []
        for n, (line, text) in enumerate(zip(asked, texts, strict=True), 11):
            expected += [("request", n, line), ("reply", n, text)]
        self.assertEqual(expected, self.told())
        self.assertEqual(
            [200, 200, 202, 200, 500, 500, 501, 200],
            [fields["code"] for fields in self.trail.of("reply")],
        )
        self.assertEqual({"session-1": 18}, self.trail.requests)

    def test_oneCommit(self) -> None:
        """
        All of it is handed to the trail at once.
        """
        self.batch(self.events("ECHO a", "NOPE", "ECHO b"))
        self.assertEqual([6], self.trail.commits)

    def test_impure(self) -> None:
        """
        It stops at a request that has an effect: that waits, and what is behind it.
        """
        waiting = self.events("ECHO a", "NOPE", "DO x", "ECHO b")
        batch = self.batch(waiting)
        self.assertEqual([200, 500], self.codes(batch))
        self.assertEqual(["DO x", "ECHO b"], self.lines(waiting))
        waiting.popleft()
        self.assertEqual(b"200 b\r\n", self.further(waiting, 3).octets)

    def test_impureFirst(self) -> None:
        """
        If that is the first one, nothing is answered, and nothing told.
        """
        waiting = self.events("DO x", "ECHO b")
        batch = self.batch(waiting, 2)
        self.assertEqual((2, b""), (batch.requests, batch.octets))
        self.assertEqual(2, len(waiting))
        self.assertEqual([], self.trail.kept)

    def test_negotiation(self) -> None:
        """
        It stops at a telnet negotiation, which is no request.
        """
        waiting = self.events("ECHO a")
        waiting.append(Negotiation(b"\xff\xfc\x06"))
        waiting += self.events("ECHO b")
        batch = self.batch(waiting)
        self.assertEqual((1, b"200 a\r\n"), (batch.requests, batch.octets))
        self.assertEqual(2, len(waiting))
        batch = self.further(waiting, 1)
        self.assertEqual((1, b""), (batch.requests, batch.octets))
        self.assertEqual(2, len(waiting))

    def test_bound(self) -> None:
        """
        When so many octets of replies have gathered the rest waits; one reply may
        go over that.
        """
        text = "x" * 4000
        needed = -(-MAX_GATHERED_OCTETS // len(f"200 {text}"))
        for line in (f"ECHO {text}", "N" * 4000):
            waiting = self.events(*[line] * (needed * 200))
            batch = self.further(waiting)
            self.assertEqual(needed * 200 - len(waiting), batch.requests)
            self.assertEqual(batch.requests, len(self.codes(batch)))
            self.assertGreaterEqual(len(batch.octets), MAX_GATHERED_OCTETS)
            self.assertLess(len(batch.octets), MAX_GATHERED_OCTETS + 2 * 4096)

    def test_closes(self) -> None:
        """
        A reply that closes the session is the last one, and it is said why.
        """
        for line, code, reason in (
            ("REPLY 221", 221, "quit"),
            ("REPLY 421", 421, "quit"),
            (b"x" * (MAX_UNENDED_OCTETS + 1), 500, "line-too-long"),
        ):
            waiting = self.events("ECHO a", line)
            waiting += self.events("ECHO b")
            batch = self.further(waiting)
            self.assertEqual(reason, batch.ends)
            self.assertEqual([200, code], self.codes(batch))
            self.assertEqual(["ECHO b"], self.lines(waiting))

    def test_notClosing(self) -> None:
        """
        Other errors end nothing.
        """
        batch = self.batch(self.events(b"x" * 5000, "REPLY 550", "ECHO a"))
        self.assertEqual([500, 550, 200], self.codes(batch))
        self.assertEqual("", batch.ends)

    def test_moments(self) -> None:
        """
        Each request was taken in hand when the one before it was answered, and each
        reply is as late as its command has made it; so it is with replies of all
        kinds. When the last one was answered is known.
        """
        self.clock.rightNow += 1
        batch = self.batch(
            self.events(
                "TAKE 0.5", "ECHO a", "TAKE 0.25", "REPLY 202", "REPLY 550", "TAKE 2"
            )
        )
        expected: list[tuple[float, object]] = []
        moment = EPOCH + 1
        for seconds in (0.5, 0, 0.25, 0.125, 0.125, 2):
            expected.append((moment, None))
            moment += seconds
            expected.append((moment, round(seconds * 1e6)))
        self.assertEqual(
            expected,
            [(at, fields.get("duration_us")) for at, _, fields in self.trail.kept],
        )
        self.assertEqual(moment, batch.moment)

    def test_microseconds(self) -> None:
        """
        What a reply took is the difference of the times in its two records, to the
        microsecond.
        """
        self.batch(self.events(*["TAKE 0.0000013"] * 50, "REPLY 202", "TAKE 0.1"))
        for (begun, _, _), (done, _, fields) in zip(
            self.trail.kept[::2], self.trail.kept[1::2], strict=True
        ):
            self.assertEqual(round((done - begun) * 1e6), fields["duration_us"])

    def test_clockGoesBack(self) -> None:
        """
        No reply took less than nothing, should the clock be set back.
        """
        self.batch(self.events("TAKE -10", "TAKE 1", "TAKE -5", "REPLY 202"))
        self.assertEqual(
            [0, 1_000_000, 0, 125_000],
            [fields["duration_us"] for fields in self.trail.of("reply")],
        )

    def test_secrets(self) -> None:
        """
        Of secrets only the length is told, wherever they stand; the client gets its
        replies.
        """
        waiting = self.events(
            "ECHO a",
            f"OPEN {CANARY}",
            f" OPEN {CANARY}",
            f"OPEN {CANARY}".encode() + b"\x80",
            f"BREAK {CANARY}",
            "ECHO b",
            "TELL me",
        )
        batch = self.batch(waiting)
        self.assertIn(CANARY.encode(), batch.octets)
        self.assertEqual(7, batch.requests)
        self.assertEqual(14, len(self.trail.kept))
        self.assertNotIn(CANARY, repr(self.trail.kept))
        self.assertNotIn(CANARY, repr(self.log.events))
        self.assertEqual(
            [
                "200 a",
                "200 opened",
                "500",
                "500 NOT-UTF-8",
                "451 COMMAND-FAILED",
                "200 b",
                "200",
            ],
            [fields["reply"] for fields in self.trail.of("reply")],
        )

    def test_late(self) -> None:
        """
        A command that called itself pure and returns a Deferred has failed, fired
        or not: what it waits for is cancelled, nothing of it is sent, and what is
        behind it is answered.
        """
        batch = self.batch(self.events("LATE x", "SOON x", "ECHO a"))
        self.assertEqual([451, 451, 200], self.codes(batch))
        self.assertEqual(["cancelled"], self.calls)
        self.assertNotIn(CANARY.encode(), batch.octets)
        self.assertEqual(
            [451, 451, 200], [fields["code"] for fields in self.trail.of("reply")]
        )

    def test_fails(self) -> None:
        """
        A command that raises is answered, and what is behind it too.
        """
        batch = self.batch(self.events("FAIL x", "ECHO a"))
        self.assertEqual([451, 200], self.codes(batch))


class ReadBackTests(SynchronousTestCase):
    """
    What a L{Batch} has told can be read back from the trail.
    """

    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"])),
                st.text(st.characters(codec=None, exclude_categories=())),
                st.booleans(),
            ),
            max_size=8,
        )
    )
    def test_anything(self, exchanges: list[tuple[str, str, bool]]) -> None:
        """
        Whatever is asked and answered, with lone surrogates too: each record is one
        line of ASCII, and the request and the reply as it is sent can be read back
        from it.
        """
        trail = BodiesTrail()
        journal, _, _ = journalInMemory(trail=trail)
        replies = [Reply(202 if coded else 200, text) for _, text, coded in exchanges]
        answers = iter(
            [reply if reply.code == 202 else reply.text for reply in replies]
        )
        commands = Commands(
            [Command("SAY", lambda _: next(answers), argument="TEXT", pure=True)]
        )
        batch = Batch(
            Answering(commands, journal.log),
            Recorded(commands),
            session := journal.ofSession("s"),
            0,
        )
        lines = [f"SAY {asked}" for asked, _, _ in exchanges]
        batch.answer(
            deque(Request(line, "SAY", line[4:], clientNamed()) for line in lines)
        )
        session.commit()
        made = Chain().extend(trail.bodies)
        self.assertTrue(made.isascii())
        self.assertEqual(2 * len(lines), made.count(b"\n"))
        self.assertNotIn(b"\r", made)
        chain, asked, answered = Chain(), [], []
        for line in made.splitlines():
            chain.follow(line)
            fields = parsed(line).fields
            if fields["event"] == "request":
                asked.append(fields["request"])
            else:
                answered.append(fields["reply"])
        self.assertEqual(lines, asked)
        self.assertEqual([str(reply) for reply in replies], answered)
        self.assertEqual(b"".join(reply.encode() for reply in replies), batch.octets)
