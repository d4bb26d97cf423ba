"""
Tests for L{tcpsvc.recorded}.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from pathlib import Path
from unicodedata import normalize

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.answering import Answering
from tcpsvc.builtin import Conversation, Help
from tcpsvc.commands import BadArgument, Command, Commands, commandsOf
from tcpsvc.events import Journal
from tcpsvc.recorded import Recorded
from tcpsvc.session import CommandSession
from tcpsvc.wire import BadRequest, Reply, Request, RequestParser
from tests.support import (
    LogLines,
    clientNamed,
    clockAtEpoch,
    openedTrail,
    verifiedRecords,
)

CANARY = "Tweety-4711"
"""
What nobody may ever read.
"""


@define
class Vault:
    """
    Commands with secrets.

    @ivar late: What has to be answered yet.
    """

    late: list[Deferred[object]] = field(factory=list)

    def open(self, request: Request) -> object:
        """
        Does what its argument says, which has the secret in it.
        """
        how = request.argument.partition(" ")[0]
        if how == "raise":
            raise RuntimeError(request.argument)
        if how == "exit":
            raise SystemExit(request.argument)
        if how == "bad":
            raise BadArgument(request.argument)
        if how == "type":
            return [request.argument]
        if how == "code":
            return Reply(999, request.argument)
        if how == "error":
            return Reply(550, request.argument)
        if how == "word":
            return Reply(550, CANARY)
        if how == "newline":
            return Reply(550, f"BAD\n{CANARY}")
        if how == "late":
            self.late.append(Deferred())
            return self.late[-1]
        if how == "co":
            return self.coroutine(request)
        return f"opened, {len(request.argument)}"

    async def coroutine(self, request: Request) -> str:
        """
        Fails late.
        """
        raise KeyError(request.argument)

    def tell(self, request: Request) -> object:
        """
        Tells the secret.
        """
        if request.argument == "error":
            return Reply(450, f"{CANARY} is spoilt")
        if request.argument == "lines":
            return Reply(200, f"one\n{CANARY}\nthree")
        if request.argument == "raise":
            raise RuntimeError(CANARY)
        if request.argument == "type":
            return Reply(7, CANARY)
        return CANARY

    def commands(self) -> Commands:
        """
        @return: Its commands, and an ordinary one.
        """
        return Commands(
            [
                Command(
                    "OPEN", self.open, argument="HOW", aliases=("UNLOCK",), secret=True
                ),
                Command("SHUT", self.open, argument="HOW", pure=True, secret=True),
                Command("TELL", self.tell, argument="HOW", secretReply=True),
                Command("PLAIN", lambda request: CANARY),
                *commandsOf(Conversation(lambda: 0.0)),
            ]
        )


def mayBeSecret(line: bytes) -> bool:
    """
    Whether one of the verbs C{OPEN}, C{UNLOCK} and C{SHUT} can be seen in a line,
    with or without its first letter.
    """
    text = normalize("NFKD", line.decode("utf-8", "ignore")).upper()
    text = "".join(each for each in text if " " <= each <= "~")
    return bool(re.search("OPEN|UNLOCK|SHUT|^PEN|^NLOCK|^HUT", text))


def recorded(members: str) -> dict[str, object]:
    """
    Read members of a record back, which are ASCII.
    """
    assert members.isascii()
    fields = json.loads(f"{{{members}}}")
    assert isinstance(fields, dict)
    return fields


class FieldsTests(SynchronousTestCase):
    """
    What of each request and reply goes into the record.
    """

    def setUp(self) -> None:
        """
        Make the table.
        """
        self.commands = Vault().commands()
        self.recorded = Recorded(self.commands)

    def parsed(self, line: bytes) -> Request | BadRequest:
        """
        A line, taken apart.
        """
        [event] = RequestParser(clientNamed()).feed(line + b"\n")
        assert isinstance(event, (Request, BadRequest))
        return event

    def request(self, line: bytes) -> dict[str, object]:
        """
        What is recorded of a line.
        """
        event = self.parsed(line)
        return recorded(self.recorded.request(event, self.commandOf(event)))

    def commandOf(self, event: Request | BadRequest) -> Command | None:
        """
        The command that answers a line.
        """
        return self.commands.find(event.verb) if isinstance(event, Request) else None

    def test_ordinary(self) -> None:
        """
        Of an ordinary command all is recorded, also if there is none such, it is
        too long, or not UTF-8.
        """
        self.assertEqual({"request": "plain x "}, self.request(b"plain x "))
        self.assertEqual({"request": "nope"}, self.request(b"nope"))
        self.assertEqual({"request": "TELL x"}, self.request(b"TELL x"))
        self.assertEqual({"request_b64": "UExBSU4ggA=="}, self.request(b"PLAIN \x80"))
        self.assertEqual(
            {"request": "PLAIN " + "x" * 4090, "octets": 5006},
            self.request(b"PLAIN " + b"x" * 5000),
        )

    def test_secret(self) -> None:
        """
        Of a secret one its verb and the length of its argument, in octets,
        however the verb is written, and however bad the line is.
        """
        for line, octets in (
            (b"OPEN", 0),
            (b"OPEN ", 0),
            (b"OPEN sesame", 6),
            (b"open  sesame ", 8),
            (b"Unlock sesame", 6),
            ("OPEN S\u00e9same".encode(), 7),
            (b"OPEN \x80sesame", 7),
            (b"unlock \x80sesame", 7),
            (b"OPEN " + b"x" * 5000, 5000),
            (b"unlock " + b"x" * 5000, 5000),
            (b"OPEN " + b"\x80" * 5000, 5000),
        ):
            self.assertEqual(
                {"request": "OPEN", "argument_octets": octets}, self.request(line), line
            )

    def test_secretElsewhere(self) -> None:
        """
        So it is where the secret command does not answer, as on a control
        connection; the reply, which repeats an unknown verb, is recorded
        without it.
        """
        control = Recorded(
            Commands(commandsOf(Conversation(lambda: 0.0))), self.commands
        )
        for line in (b"OPEN sesame", b"open\tsesame", b"Unlock sesame"):
            event = self.parsed(line)
            assert isinstance(event, Request)
            self.assertEqual(
                {"request": "OPEN", "argument_octets": 6 + (b"\t" in line)},
                recorded(control.request(event, None)),
            )
            reply = Reply(500, f"UNKNOWN-COMMAND {event.verb}")
            self.assertEqual(
                {
                    "reply": "500",
                    "reply_octets": len(reply.encode()) - 2,
                },
                recorded(control.reply(event, None, reply, str(reply))),
            )
        self.assertEqual(
            {"request": "ECHO OPEN sesame"},
            recorded(
                control.request(
                    self.parsed(b"ECHO OPEN sesame"), self.commands.find("ECHO")
                )
            ),
        )

    def reply(self, line: bytes, reply: Reply) -> dict[str, object]:
        """
        What is recorded of a reply to a line.
        """
        event = self.parsed(line)
        command = self.commandOf(event)
        return recorded(self.recorded.reply(event, command, reply, str(reply)))

    def test_ordinaryReply(self) -> None:
        """
        Replies are recorded in full: those of ordinary commands, and what a
        secret one answers when all is well.
        """
        for line in (b"PLAIN", b"nope", b"PLAIN \x80", b"OPEN sesame"):
            self.assertEqual(
                {"reply": "200-one\r\n200 two"},
                self.reply(line, Reply(200, "one\ntwo")),
            )
        self.assertEqual(
            {"reply": "550 NO x"}, self.reply(b"PLAIN", Reply(550, "NO x"))
        )

    def test_secretReply(self) -> None:
        """
        Of a secret reply, and of what a secret command has to complain of, the
        code and the length; and the word if the service itself has chosen it.
        """
        for line, reply, shown in (
            (b"TELL", Reply(200, CANARY), "200"),
            (b"TELL", Reply(200, f"one\n{CANARY}"), "200"),
            (b"TELL", Reply(550, CANARY), "550"),
            (b"OPEN x", Reply(550, CANARY), "550"),
            (b"OPEN x", Reply(550, f"NO\n{CANARY}"), "550"),
            (b"OPEN x", Reply(501, f"BAD-ARGUMENT {CANARY}"), "501 BAD-ARGUMENT"),
            (b"OPEN x", Reply(451, "COMMAND-FAILED OPEN"), "451 COMMAND-FAILED"),
            (b"OPEN \x80", Reply(500, "NOT-UTF-8 x"), "500 NOT-UTF-8"),
            (b"OPEN " + b"x" * 5000, Reply(500, "LINE-TOO-LONG"), "500 LINE-TOO-LONG"),
        ):
            self.assertEqual(
                {"reply": shown, "reply_octets": len(reply.encode()) - 2},
                self.reply(line, reply),
            )


class CanaryTests(SynchronousTestCase):
    """
    A session with secrets, recorded on the disk and logged.
    """

    def setUp(self) -> None:
        """
        Begin it.
        """
        self.path = Path(self.mktemp())
        self.clock = clockAtEpoch()
        self.trail = openedTrail(self.path, self.clock)
        self.addCleanup(self.trail.close)
        self.log = LogLines()
        journal = Journal(self.trail, self.clock, self.log)
        self.vault = Vault()
        commands = self.commands = self.vault.commands()
        self.session = CommandSession(
            clientNamed(),
            Answering(commands, journal.log),
            Recorded(commands),
            Reply(220, "hello"),
            journal.ofSession("s"),
            lambda reason: None,
        )
        self.transport = StringTransport()
        self.session.makeConnection(self.transport)

    def send(self, line: str | bytes) -> None:
        """
        Send a line.
        """
        octets = line if isinstance(line, bytes) else line.encode()
        self.session.dataReceived(octets + b"\r\n")

    def assertNoCanary(self, requests: int) -> None:
        """
        So many requests and replies are recorded, and nobody can read the secret
        in trail and log, nor in anything of the log's events.
        """
        records = verifiedRecords(self.path)
        for name in ("request", "reply"):
            self.assertEqual(
                [*range(1, requests + 1)],
                [record["n"] for record in records if record["event"] == name],
            )
        everything = self.path.read_text() + "\n".join(self.log.texts())
        for event in self.log.events:
            everything += repr(event) + str(event.get("log_failure", ""))
            self.assertNotIn("log_failure", event)
        for record in records:
            for key in ("request_b64", "reply_b64"):
                self.assertNotIn(key, record)
        for secret in (CANARY, CANARY.upper(), CANARY[:6]):
            self.assertNotIn(secret, everything)

    def test_argument(self) -> None:
        """
        Whatever a secret command does with its argument, it reaches neither trail
        nor log; what the client is told is told to it alone.
        """
        ways = [
            "fine",
            "raise",
            "exit",
            "bad",
            "type",
            "code",
            "error",
            "word",
            "newline",
            "co",
        ]
        lines = [
            f"{verb} {way} {CANARY}"
            for verb in ("OPEN", "unlock", "SHUT")
            for way in ways
        ]
        for line in lines:
            self.send(line)
        self.assertNoCanary(len(lines))
        self.assertIn(CANARY.encode(), self.transport.value())

    def test_badLines(self) -> None:
        """
        So it is with lines that are too long, or not UTF-8.
        """
        self.send(f"OPEN {CANARY} ".encode() + b"x" * 5000)
        self.send(b"OPEN " + b"x" * 5000 + CANARY.encode())
        self.send(f"OPEN {CANARY} ".encode() + b"\x80")
        self.send(f"SHUT {CANARY} ".encode() + b"\x80" * 5000)
        self.send(b"OPEN " + CANARY.encode() + b"x" * 70_000)
        self.assertNoCanary(5)

    def test_mistyped(self) -> None:
        """
        So it is with a line whose first word is the verb, though no request begins
        in that way.
        """
        self.send(f" OPEN {CANARY}")
        self.send(f"open\t{CANARY}")
        self.send(f"OPEN\u00a0{CANARY}")
        self.assertNoCanary(3)

    def test_disguised(self) -> None:
        """
        So it is with a line that no command answers, whatever is in front of the
        verb, behind it or within it: the record says that the secret command was
        meant, and the reply's record does not repeat the line.
        """
        lines = [
            f"\ufeffOPEN {CANARY}",
            f"\ufeffopen\t{CANARY}",
            f"OPEN\v{CANARY}",
            f"OPEN\0{CANARY}",
            f"\0OPEN {CANARY}",
            f"OPEN\u200b{CANARY}",
            f"OPEN{CANARY}",
            f"OPEN={CANARY}",
            f'"OPEN {CANARY}"',
            f"> OPEN {CANARY}",
            f"please open {CANARY}",
            f"\x1b[AOPEN {CANARY}",
            f"O\x7fPEN {CANARY}",
            f"OPX\x08EN {CANARY}",
            f"OPSS\x7f\x7fEN {CANARY}",
            f"\x08OPENT\x08 {CANARY}",
            f"\uff2f\uff30\uff25\uff2e {CANARY}",
            f"\u017fhut {CANARY}",
            f"unl\u00f6ck {CANARY}",
            f"HELP OPEN {CANARY}",
            f"help open{CANARY}",
            f"HELP\tOPEN {CANARY}",
        ]
        octets = [line.encode() for line in lines] + [
            b"\xfeOPEN " + CANARY.encode(),
            b"\xff OPEN " + CANARY.encode(),
            b"\xff\xf4OPEN\t" + CANARY.encode(),
            b"\xff\xfeOPEN " + CANARY.encode(),
            b"\xff\xfbOPEN " + CANARY.encode(),
            b"\x80\x80OPEN\x80" + CANARY.encode(),
            b"\t OPEN\t" + CANARY.encode() + b"x" * 5000,
            b"HELP OPEN " + CANARY.encode() + b"\x80",
        ]
        for one in commandsOf(Help(self.commands)):
            self.commands.add(one)
        for line in octets:
            self.send(line)
        self.assertNoCanary(len(octets))
        shown = [
            record["request"]
            for record in verifiedRecords(self.path)
            if record["event"] == "request"
        ]
        self.assertEqual({"OPEN", "SHUT"}, set(shown))

    def test_wide(self) -> None:
        """
        So it is with a line in UTF-16, whose byte order mark looks like a telnet
        negotiation and takes a character of the verb with it.
        """
        for encoding in ("utf-16-le", "utf-16-be"):
            for mark in ("", "\ufeff"):
                self.send(f"{mark}OPEN {CANARY}".encode(encoding))
        text = "".join(each for each in self.path.read_text())
        self.assertNotIn("\\u0000".join(CANARY[-3:]), text)
        self.assertNotIn("request_b64", text)

    def test_helpOf(self) -> None:
        """
        HELP of a secret command is recorded in full, as is HELP of any other.
        """
        for one in commandsOf(Help(self.commands)):
            self.commands.add(one)
        for line in ("HELP OPEN", "help  unlock ", "HELP ECHO", "HELP"):
            self.send(line)
        self.assertEqual(
            ["HELP OPEN", "help  unlock ", "HELP ECHO", "HELP"],
            [
                record["request"]
                for record in verifiedRecords(self.path)
                if record["event"] == "request"
            ],
        )

    @given(
        before=st.text(st.characters(exclude_categories=["L", "N", "Cs"])),
        between=st.text(st.characters(exclude_categories=["L", "N", "Cs"])),
        verb=st.sampled_from(["OPEN", "unlock", "Shut", "\u017fhut"]),
    )
    def test_anyDisguise(self, before: str, between: str, verb: str) -> None:
        """
        So it is with whatever is no letter and no digit around the verb.
        """
        line = f"{before}{verb}{between}{CANARY}".replace("\r", "").replace("\n", "")
        self.setUp()
        self.send(line)
        self.assertNotIn(CANARY, self.path.read_text())
        self.assertNotIn(CANARY.upper(), self.path.read_text())
        self.assertNotIn("request_b64", self.path.read_text())

    def test_late(self) -> None:
        """
        So it is with what comes late, or not at all.
        """
        self.send(f"OPEN late {CANARY}")
        self.vault.late.pop().errback(RuntimeError(CANARY))
        self.send(f"OPEN late {CANARY}")
        self.vault.late.pop().errback(BadArgument(CANARY))
        self.send(f"OPEN late {CANARY}")
        self.vault.late.pop().callback([CANARY])
        self.assertNoCanary(3)
        self.send(f"OPEN late {CANARY}")
        self.vault.late.pop().addErrback(lambda failure: 1 / len(CANARY[:0]))
        self.session.stop()
        self.assertEqual([], self.flushLoggedErrors())

    def test_reply(self) -> None:
        """
        A secret reply reaches the client, and neither trail nor log.
        """
        for how in ("", " error", " lines", " raise", " type"):
            self.send(f"TELL{how}")
        self.assertNoCanary(5)
        self.assertEqual(3, self.transport.value().count(CANARY.encode()))

    def test_canBeSeen(self) -> None:
        """
        These tests would see it: an ordinary command's is there.
        """
        self.send("PLAIN")
        self.send(f"ECHO {CANARY}")
        self.assertIn(CANARY, self.path.read_text())

    @given(st.lists(st.binary(max_size=200)))
    def test_anything(self, lines: list[bytes]) -> None:
        """
        Whatever octets a client sends: each request is one record in one line of
        ASCII, from which the line can be read back.
        """
        self.setUp()
        parser = RequestParser(clientNamed())
        expected = []
        for line in lines:
            for each in parser.feed(line + b"\r\n"):
                if isinstance(each, BadRequest):
                    expected.append(each.head)
                elif isinstance(each, Request):
                    expected.append(each.line.encode())
            self.send(line)
        records = verifiedRecords(self.path)
        found = []
        for record in records:
            if record["event"] != "request":
                continue
            if "request_b64" in record:
                found.append(b64decode(record["request_b64"], validate=True))
            elif "argument_octets" not in record:
                found.append(record["request"].encode())
        expected = [line for line in expected if not mayBeSecret(line)]
        self.assertEqual(expected, found)
        for text in self.path.read_bytes().splitlines():
            self.assertTrue(text.isascii())
            json.loads(text)
