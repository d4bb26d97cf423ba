"""
Tests for L{tcpsvc.builtin}.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

import tcpsvc
from tcpsvc.answering import Answering
from tcpsvc.builtin import ServiceFacts, controlCommands, serviceCommands
from tcpsvc.commands import Commands, CommandsError, command, commandsOf
from tcpsvc.events import SESSION_REFUSED
from tcpsvc.recorded import Recorded
from tcpsvc.session import CommandSession
from tcpsvc.slot import Slot
from tcpsvc.wire import Reply, ReplyParser, Request, RequestParser
from tests.support import (
    EPOCH,
    clientNamed,
    clockAtEpoch,
    journalInMemory,
)

VERSION = tcpsvc.__version__


@command("VOLT", argument="VOLTS")
def volt(_: Request) -> str:
    """
    sets the output

    VOLTS is a number.
    """
    return ""


class _BuiltinTests(SynchronousTestCase):
    """
    A service in memory whose commands can be asked.
    """

    def setUp(self) -> None:
        """
        Make the facts of a service that started an hour ago.
        """
        self.clock: Clock = clockAtEpoch()
        self.journal, self.trail, self.log = journalInMemory(self.clock)
        self.slot = Slot()
        self.facts = ServiceFacts(
            host="bench.example",
            slot=self.slot,
            journal=self.journal,
            started=EPOCH - 3600,
            begun=EPOCH - 3600,
            certificateExpires=datetime(2028, 2, 29, 12, tzinfo=timezone.utc),
        )
        self.alice = clientNamed()

    def commands(self) -> Commands:
        """
        @return: The commands that are asked.
        """
        return serviceCommands(self.facts)

    def ask(self, line: str) -> Reply:
        """
        @return: The reply to one line, which has to be there at once.
        """
        (request,) = RequestParser(self.alice).feed(line.encode() + b"\n")
        assert isinstance(request, Request)
        commands = self.commands()
        answering = Answering(commands, self.journal.log)
        reply = answering.answer(request, commands.find(request.verb))
        assert isinstance(reply, Reply)
        return reply

    def hold(self) -> None:
        """
        Let alice hold the slot.
        """
        self.successResultOf(self.slot.claim(self.alice))


class ServiceCommandsTests(_BuiltinTests):
    """
    Tests for the commands of a session.
    """

    def test_verbs(self) -> None:
        """
        These verbs are built in, and no others.
        """
        self.assertEqual(
            [(one.verb, *one.aliases) for one in self.commands()],
            [
                ("HELP",),
                ("ECHO",),
                ("NOOP",),
                ("TIME",),
                ("WHO",),
                ("STATUS",),
                ("VERSION",),
                ("QUIT", "EXIT", "BYE"),
            ],
        )

    def test_pure(self) -> None:
        """
        All of them do nothing but answer, save the one that ends the session. And
        of STATUS the request has to be on record before, for it tells of it.
        """
        self.assertEqual(
            [one.verb for one in self.commands() if not one.pure], ["STATUS", "QUIT"]
        )

    def test_echo(self) -> None:
        """
        ECHO answers its text as it is: with its spaces, case and characters.
        """
        for text in (
            "a",
            " a  B ",
            "gr\u00fc\u00df \U0001f600",
            "a\0\x1b[0m",
            "ECHO x",
        ):
            self.assertEqual(self.ask(f"ECHO {text}"), Reply(200, text))
        self.assertEqual(self.ask("ECHO"), Reply(200, ""))

    def test_noop(self) -> None:
        """
        NOOP answers 200.
        """
        self.assertEqual(self.ask("NOOP").encode(), b"200 OK\r\n")

    def test_time(self) -> None:
        """
        TIME answers the time of the service, ISO 8601 in UTC.
        """
        self.assertEqual(self.ask("TIME").encode(), b"200 2027-01-15T08:00:00Z\r\n")
        self.clock.advance(61.9)
        self.assertEqual(self.ask("TIME").encode(), b"200 2027-01-15T08:01:01Z\r\n")

    def test_version(self) -> None:
        """
        VERSION answers the version.
        """
        self.assertEqual(self.ask("VERSION"), Reply(200, f"tcpsvc {VERSION}"))

    def test_quit(self) -> None:
        """
        QUIT, EXIT and BYE answer 221 with a receipt, and close. It is of the
        last record before the reply.
        """
        self.journal.note(SESSION_REFUSED, {})
        self.trail.head = "cd" * 32
        for verb in ("QUIT", "EXIT", "BYE"):
            reply = self.ask(verb)
            self.assertEqual(reply.code, 221)
            self.assertEqual(f"bye; record 1 {'cd' * 32}", reply.text)
            self.assertTrue(reply.closes)

    def test_othersStay(self) -> None:
        """
        No other verb closes.
        """
        for verb in ("HELP", "ECHO", "NOOP", "TIME", "WHO", "STATUS", "VERSION"):
            self.assertFalse(self.ask(verb).closes, verb)

    def test_who(self) -> None:
        """
        WHO answers the holder's name and address, since when it holds the
        service, and for how many whole seconds it has been idle.
        """
        self.hold()
        self.clock.advance(61.9)
        self.alice.lastRequest = EPOCH + 60
        self.assertEqual(
            self.ask("WHO").encode(),
            b"200 alice 192.0.2.1:49152 since 2027-01-15T08:00:00Z idle 1 s\r\n",
        )

    def test_whoAtOnce(self) -> None:
        """
        A holder whose clock went back is not idle for less than nothing.
        """
        self.hold()
        self.alice.lastRequest = EPOCH + 5
        self.assertTrue(self.ask("WHO").text.endswith(" idle 0 s"))

    def test_status(self) -> None:
        """
        STATUS answers 211 and these names, in this order, a line each.
        """
        self.hold()
        session = self.journal.ofSession("session-1")
        for n in (1, 2):
            session.request(n, '"request":"NOOP"', EPOCH)
        session.commit()
        record: dict[str, object] = {
            "address": "192.0.2.2:5",
            "identity": self.alice.identity.asRecord(),
            "reason": "busy",
        }
        self.journal.tell(SESSION_REFUSED, record, more="")
        self.journal.commit()
        self.trail.head = "ab" * 32
        self.clock.advance(1.5)
        self.assertEqual(
            self.ask("STATUS").encode().decode().splitlines(),
            [
                f"211-version: {VERSION}",
                "211-started: 2027-01-15T07:00:00Z",
                "211-uptime_s: 3601",
                "211-holder: alice",
                "211-sessions: 1",
                "211-requests: 2",
                "211-refusals: 1",
                "211-certificate_expires: 2028-02-29T12:00:00Z",
                "211-audit_records: 3",
                f"211-audit_head: {'ab' * 32}",
                "211 audit_state: open",
            ],
        )

    def test_statusOfItself(self) -> None:
        """
        The figures of STATUS include its own request, and what came with it.
        """
        commands = self.commands()
        session = CommandSession(
            self.alice,
            Answering(commands, self.journal.log),
            Recorded(commands),
            Reply(220, "hello"),
            self.journal.ofSession("session-1"),
            lambda reason: None,
        )
        transport = StringTransport()
        session.makeConnection(transport)
        session.dataReceived(b"VERSION\r\nSTATUS\r\nVERSION\r\nSTATUS\r\n")
        _, _, first, _, second = ReplyParser().feed(transport.value())
        self.assertIn("requests: 2", first.lines)
        self.assertIn("audit_records: 3", first.lines)
        self.assertIn("requests: 4", second.lines)
        self.assertIn("audit_records: 7", second.lines)

    def test_statusBlocked(self) -> None:
        """
        STATUS says why nothing can be recorded, if nothing can.
        """
        self.trail.blocked = "audit.jsonl: cannot be written: No space left on device"
        self.assertEqual(
            f"audit_state: {self.trail.blocked}", self.ask("STATUS").lines[-1]
        )

    def test_statusOfNobody(self) -> None:
        """
        What does not apply is empty in STATUS: the name stays.
        """
        self.facts.certificateExpires = None
        text = self.ask("STATUS").lines
        self.assertIn("holder: ", text)
        self.assertIn("certificate_expires: ", text)
        self.assertIn("sessions: 0", text)

    def test_help(self) -> None:
        """
        HELP answers 214 and a line a verb, each with what it does.
        """
        reply = self.ask("HELP")
        self.assertEqual(reply.code, 214)
        self.assertEqual(
            reply.lines,
            [
                "HELP [VERB]  lists the commands, or explains one",
                "ECHO TEXT    answers TEXT",
                "NOOP         does nothing, and keeps the session from being idle",
                "TIME         answers the time of the service, in UTC",
                f"{'WHO':11}  answers who holds the service, from where and since when",
                "STATUS       answers how the service is, a line each of name: value",
                "VERSION      answers the version of the service",
                "QUIT         ends the session with a receipt (also: EXIT, BYE)",
            ],
        )

    def test_helpOfOne(self) -> None:
        """
        HELP VERB explains one, whatever the case; an alias gets the command's
        own line.
        """
        for verb, line in (
            ("TIME", "TIME  answers the time of the service, in UTC"),
            ("echo ", "ECHO TEXT  answers TEXT"),
            (
                "Bye",
                """\
QUIT  ends the session with a receipt (also: EXIT, BYE)
The receipt names the last record before this reply and the SHA-256 of
its line. Whoever keeps it can show later that the audit trail was not
cut off before that record, nor written anew.""",
            ),
        ):
            self.assertEqual(self.ask(f"HELP {verb}"), Reply(214, line))

    def test_helpOfUnknown(self) -> None:
        """
        HELP of a verb that is not there is 501 BAD-ARGUMENT.
        """
        self.assertEqual(
            self.ask("HELP NOTHING"),
            Reply(501, "BAD-ARGUMENT there is no such command; HELP lists them"),
        )

    def test_helpOfFurther(self) -> None:
        """
        Commands that are added later are in HELP too, with all that their
        docstrings say.
        """
        commands = serviceCommands(self.facts)
        commands.add(commandsOf(volt)[0])
        self.patch(self, "commands", lambda: commands)
        self.assertEqual(self.ask("HELP").lines[-1], "VOLT VOLTS   sets the output")
        self.assertEqual(
            self.ask("HELP volt").lines,
            ["VOLT VOLTS  sets the output", "VOLTS is a number."],
        )

    def test_taken(self) -> None:
        """
        No further command can take a verb that is built in.
        """
        for one in self.commands():
            for verb in (one.verb, *one.aliases):
                (other,) = commandsOf(command(verb)(lambda request: ""))
                self.assertRaises(CommandsError, self.commands().add, other)

    def test_arguments(self) -> None:
        """
        A verb that takes no argument gets 501 BAD-ARGUMENT with one.
        """
        for verb in ("NOOP", "TIME", "WHO", "STATUS", "VERSION", "QUIT", "BYE"):
            reply = self.ask(f"{verb} x")
            self.assertEqual((reply.code, reply.word), (501, "BAD-ARGUMENT"))
            self.assertFalse(reply.closes)

    def test_case(self) -> None:
        """
        A verb is known in whatever case.
        """
        for verb in ("noop", "Noop", "nOOP"):
            self.assertEqual(self.ask(verb), Reply(200, "OK"))

    def test_unknown(self) -> None:
        """
        Any other verb is 500 UNKNOWN-COMMAND.
        """
        for line in ("NOPE", "NOO", "NOOPS", " NOOP", "NOOP\t", "\u017ftatus"):
            reply = self.ask(line)
            self.assertEqual((reply.code, reply.word), (500, "UNKNOWN-COMMAND"))

    def test_greeting(self) -> None:
        """
        The greeting names the host, the version and the client.
        """
        self.assertEqual(
            self.facts.greeting(self.alice).encode(),
            f"220 bench.example tcpsvc {VERSION}; you are alice\r\n".encode(),
        )

    def test_gatewayGreeting(self) -> None:
        """
        That of a gateway says that it is one.
        """
        self.assertEqual(
            self.facts.gatewayGreeting(self.alice).encode(),
            f"220 bench.example tcpsvc {VERSION} gateway; you are alice\r\n".encode(),
        )


class ControlCommandsTests(_BuiltinTests):
    """
    Tests for the commands of a control connection.
    """

    def commands(self) -> Commands:
        """
        @return: The commands that are asked.
        """
        return controlCommands(self.facts)

    def test_verbs(self) -> None:
        """
        HELP, WHO, STATUS, VERSION and QUIT are there, and nothing that a
        session has beside them.
        """
        self.assertEqual(
            [one.verb for one in self.commands()],
            ["HELP", "WHO", "STATUS", "VERSION", "QUIT"],
        )
        self.assertEqual(
            [line.split()[0] for line in self.ask("HELP").lines],
            ["HELP", "WHO", "STATUS", "VERSION", "QUIT"],
        )
        self.assertEqual(self.ask("NOOP").word, "UNKNOWN-COMMAND")

    def test_whoOfNobody(self) -> None:
        """
        While the service is free, WHO says so.
        """
        self.assertEqual(self.ask("WHO"), Reply(200, "nobody"))

    def test_whoOfAnother(self) -> None:
        """
        WHO answers who holds the service, not who asks.
        """
        self.successResultOf(self.slot.claim(clientNamed("bob")))
        self.assertTrue(re.match("bob 192", self.ask("WHO").text))

    def test_greeting(self) -> None:
        """
        The greeting says that this is a control connection.
        """
        self.assertEqual(
            self.facts.controlGreeting(self.alice).encode(),
            f"220 bench.example tcpsvc {VERSION} control; you are alice\r\n".encode(),
        )
