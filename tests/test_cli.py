"""
Tests for L{tcpsvc.cli}, and for L{tcpsvc.cli.inquire}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import SynchronousTestCase

import tcpsvc
from tcpsvc.cli import SUBCOMMANDS, LazyGroup, QuietEnd, inquire, program
from tcpsvc.cli.options import WaitingCommand, targetOptions
from tcpsvc.cli.running import Interruption
from tcpsvc.client import ProtocolViolation
from tcpsvc.wire import Reply
from tests.certificates import authority, writeKeys, writePair
from tests.clientside import COMMAND, LiveTestCase, commandEnvironment


class ProgramTests(SynchronousTestCase):
    """
    The command as a process of its own, without a service.
    """

    def setUp(self) -> None:
        """
        Write keys.
        """
        self.path = Path(self.mktemp()).absolute()
        self.keys = writeKeys(self.path)

    def run_(
        self, *words: str, before: str = "", redirection: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """
        Run the command to its end.

        @param before: Python to be run first.
        @param redirection: Where the shell shall lead its output.
        """
        inShell = ("sh", "-c", f'exec "$@" {redirection}', "sh")
        return subprocess.run(
            [*inShell, sys.executable, "-c", before + COMMAND[1], *words],
            env=commandEnvironment(TCPSVC_KEYS=str(self.path)),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def fails(self, status: int, *words: str) -> str:
        """
        What the command says, in one line on standard error, when it fails.
        """
        ended = self.run_(*words)
        self.assertEqual(status, ended.returncode, ended.stderr)
        self.assertEqual("", ended.stdout)
        self.assertEqual(1, len(ended.stderr.splitlines()), ended.stderr)
        self.assertTrue(ended.stderr.startswith("tcpsvc"), ended.stderr)
        return ended.stderr

    def test_module(self) -> None:
        """
        C{python -m tcpsvc} is the same command, by the same name.
        """
        ended = subprocess.run(
            [sys.executable, "-m", "tcpsvc", "--nonsense"],
            env=commandEnvironment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual((64, ""), (ended.returncode, ended.stdout))
        self.assertEqual(self.fails(64, "--nonsense"), ended.stderr)

    def test_helpIsLight(self) -> None:
        """
        The help lists each sub-command, and imports none of them.
        """
        ended = self.run_(
            "--help",
            before=(
                "import atexit, sys; atexit.register(lambda: print(*("
                "name for name in ('twisted', 'cryptography', 'OpenSSL') "
                "if name in sys.modules), file=sys.stderr));"
            ),
        )
        self.assertEqual((0, "\n"), (ended.returncode, ended.stderr))
        for name in SUBCOMMANDS:
            self.assertRegex(ended.stdout, rf"(?m)^  {name} ")

    def test_startsLight(self) -> None:
        """
        C{send} imports neither the server nor the line editor.
        """
        ended = self.run_(
            "send",
            "localhost:1",
            "NOOP",
            before=(
                "import atexit, sys; atexit.register(lambda: print(*("
                "name for name in ('tcpsvc.service', 'tcpsvc.cli.console', "
                "'prompt_toolkit', "
                "'twisted.internet.asyncioreactor', 'twisted.application') "
                "if name in sys.modules)));"
            ),
        )
        self.assertEqual((69, "\n"), (ended.returncode, ended.stdout))

    def test_version(self) -> None:
        """
        C{--version} says the version.
        """
        ended = self.run_("--version")
        self.assertEqual(
            (0, f"tcpsvc {tcpsvc.__version__}\n"), (ended.returncode, ended.stdout)
        )

    def test_nothing(self) -> None:
        """
        Without a sub-command the help is shown, as for a wrong usage.
        """
        ended = self.run_()
        self.assertEqual((64, ""), (ended.returncode, ended.stdout))
        self.assertIn("Commands:", ended.stderr)

    def test_usage(self) -> None:
        """
        Wrong usage is one line and exit status 64.
        """
        for words in (
            ("dance",),
            ("--dance",),
            ("send",),
            ("who",),
            ("who", "bench", "bench"),
            ("status", "bench", "--dance"),
            ("send", "a b", "NOOP"),
            ("send", "::1", "NOOP"),
            ("who", "bench", "--timeout", "soon"),
            ("who", "bench", "--timeout", "-1"),
            ("who", "bench", "--timeout", "nan"),
            ("send", "bench", "--timeout", "0", "NOOP"),
            ("who", "bench", "--timeout=-0.0"),
            ("who", "bench", "--wait=soon"),
            ("keys", "dance"),
        ):
            self.fails(64, *words)

    def test_helpInUsageError(self) -> None:
        """
        It is said where to read more.
        """
        self.assertIn("Try: tcpsvc send --help", self.fails(64, "send"))

    def test_configuration(self) -> None:
        """
        Keys that are missing are exit status 78.
        """
        self.assertIn(
            "no identity 'bob'", self.fails(78, "who", "x", "--identity", "bob")
        )
        message = self.fails(78, "who", "x", "--keys", str(self.path / "none"))
        self.assertIn("none/ca.pem: there is no such file", message)
        self.keys.clientKey("alice").chmod(0o644)
        self.assertIn("chmod 600", self.fails(78, "send", "x", "NOOP"))

    def test_keyFileError(self) -> None:
        """
        What any sub-command finds wrong with a key file is exit status 78.
        """
        ended = self.run_(
            "who",
            "x",
            before=(
                "import tcpsvc.cli.inquire as i, tcpsvc.keyfiles as k\n"
                "def run(*_): raise k.KeyFileError('k.pem: torn')\n"
                "i.run = run\n"
            ),
        )
        self.assertEqual(78, ended.returncode)
        self.assertEqual("tcpsvc: k.pem: torn\n", ended.stderr)

    def test_unreachable(self) -> None:
        """
        A service that is not there is exit status 69.
        """
        self.assertIn("connection refused", self.fails(69, "who", "127.0.0.1:1"))

    def test_interruptedEarly(self) -> None:
        """
        Ctrl-C before anything has begun is quiet, too.
        """
        ended = self.run_(
            "who",
            "x",
            before=(
                "import tcpsvc.cli.inquire as i\n"
                "def run(*_): raise KeyboardInterrupt\n"
                "i.run = run\n"
            ),
        )
        self.assertEqual((130, "", ""), (ended.returncode, ended.stdout, ended.stderr))

    def test_descriptorsFirst(self) -> None:
        """
        That is seen to before anything else.
        """
        ended = self.run_(
            "--version",
            before=(
                "import os, tcpsvc.cli\n"
                "tcpsvc.cli.occupyStandardDescriptors = lambda: os._exit(42)\n"
            ),
        )
        self.assertEqual((42, ""), (ended.returncode, ended.stdout))

    def test_cannotComplain(self) -> None:
        """
        That nothing can be said on standard error does not change the exit
        status.
        """
        for redirection in ("2>/dev/full", "2>&-"):
            for status, words in (
                (64, ()),
                (64, ("dance",)),
                (69, ("who", "127.0.0.1:1")),
                (78, ("who", "x", "--identity", "bob")),
            ):
                ended = self.run_(*words, redirection=redirection)
                self.assertEqual((status, ""), (ended.returncode, ended.stdout), words)

    def test_cannotPrint(self) -> None:
        """
        That nothing can be printed is exit status 74, whoever prints.
        """
        for redirection, why in (
            (">/dev/full", "No space left on device"),
            (">&-", "Bad file descriptor"),
        ):
            for words in (("--version",), ("--help",)):
                ended = self.run_(*words, redirection=redirection)
                self.assertEqual(
                    (74, f"tcpsvc: {why}\n"), (ended.returncode, ended.stderr)
                )

    def test_closedDescriptors(self) -> None:
        """
        Descriptors 0 to 2 are never a connection's, also if they were closed.
        """
        ended = self.run_(
            before=(
                "import os, sys; report = os.dup(1)\n"
                "for number in (0, 1, 2): os.close(number)\n"
                "from tcpsvc.cli import occupyStandardDescriptors\n"
                "occupyStandardDescriptors()\n"
                "os.write(report, b'%d' % os.open('/', os.O_RDONLY)); os._exit(0)\n"
            ),
        )
        self.assertGreater(int(ended.stdout), 2)


class LazyGroupTests(SynchronousTestCase):
    """
    Tests for L{LazyGroup}.
    """

    def test_complete(self) -> None:
        """
        What the list says of each sub-command is what itself says.
        """
        assert isinstance(program, LazyGroup)
        context = click.Context(program)
        for name, (_, words) in SUBCOMMANDS.items():
            command = program.get_command(context, name)
            assert command is not None
            self.assertEqual(name, command.name)
            self.assertEqual(words, command.get_short_help_str(limit=200), name)

    def test_unknown(self) -> None:
        """
        There are no others.
        """
        assert isinstance(program, LazyGroup)
        self.assertIsNone(program.get_command(click.Context(program), "dance"))


class WaitOptionTests(SynchronousTestCase):
    """
    Tests for L{WaitingCommand}.
    """

    def parsed(self, *words: str) -> tuple[float | None, str, tuple[str, ...]]:
        """
        What is understood: how long to wait, the host, and the rest.
        """

        @click.command(cls=WaitingCommand)
        @targetOptions
        @click.argument("rest", nargs=-1)
        def command() -> None:
            """Do nothing."""

        values = command.make_context("command", list(words)).params
        return values["wait"], values["host"], values["rest"]

    def test_wait(self) -> None:
        """
        A number behind C{--wait} is its value, and anything else is not.
        """
        for words, understood in {
            ("bench", "A"): (None, "bench", ("A",)),
            ("--wait", "bench", "A"): (float("inf"), "bench", ("A",)),
            ("--wait", "5", "bench", "A"): (5.0, "bench", ("A",)),
            ("--wait=0.5", "bench", "A"): (0.5, "bench", ("A",)),
            ("bench", "--wait", "A"): (float("inf"), "bench", ("A",)),
            ("bench", "--wait", "1e1", "A"): (10.0, "bench", ("A",)),
            ("bench", "A", "--wait"): (float("inf"), "bench", ("A",)),
            ("--wait", "--", "5"): (float("inf"), "5", ()),
            ("bench", "--", "--wait", "5"): (None, "bench", ("--wait", "5")),
            ("--wait", "inf", "5"): (float("inf"), "inf", ("5",)),
            ("--wait", "192.0.2.1", "A"): (float("inf"), "192.0.2.1", ("A",)),
            ("--wait", "bench", "-"): (float("inf"), "bench", ("-",)),
        }.items():
            self.assertEqual(understood, self.parsed(*words), words)


HELD = Reply(200, "alice of the lab 192.0.2.1:5000 since 2026-11-23T00:56:03Z idle 7 s")


class InterruptionTests(SynchronousTestCase):
    """
    Tests for L{Interruption}.
    """

    def test_again(self) -> None:
        """
        Ctrl-C is answered each time. SIGTERM and SIGHUP are only if nothing came
        before: one of each together is no impatience.
        """
        for numbers, answered in (
            ((signal.SIGINT, signal.SIGINT), 2),
            ((signal.SIGTERM, signal.SIGHUP, signal.SIGTERM), 1),
            ((signal.SIGINT, signal.SIGTERM), 1),
            ((signal.SIGHUP, signal.SIGINT), 2),
        ):
            answers: list[int] = []
            interruption = Interruption()
            interruption.answer = partial(answers.append, 1)
            for number in numbers:
                interruption(number, None)
            self.assertEqual(answered, len(answers), numbers)

    def test_end(self) -> None:
        """
        After Ctrl-C the command ends with 130.
        """
        interruption = Interruption()
        problem = self.assertRaises(QuietEnd, interruption.end)
        self.assertEqual(130, problem.status)


class InquireTests(SynchronousTestCase):
    """
    Tests for L{inquire}.
    """

    def test_holder(self) -> None:
        """
        Who holds the service is the service's own line, or an object.
        """
        self.assertEqual(HELD.text, inquire.holderAsText(HELD))
        self.assertEqual(
            {
                "held": True,
                "name": "alice of the lab",
                "address": "192.0.2.1:5000",
                "since": "2026-11-23T00:56:03Z",
                "idle_s": 7,
            },
            json.loads(inquire.holderAsJSON(HELD)),
        )

    def test_nobody(self) -> None:
        """
        If nobody does, the object has the same keys.
        """
        reply = Reply(200, "nobody")
        self.assertEqual("nobody", inquire.holderAsText(reply))
        self.assertEqual(
            {
                "held": False,
                "name": None,
                "address": None,
                "since": None,
                "idle_s": None,
            },
            json.loads(inquire.holderAsJSON(reply)),
        )

    def test_someoneCalledNobody(self) -> None:
        """
        Even if somebody is called so.
        """
        reply = Reply(200, "nobody unix since 2026-11-23T00:56:03Z idle 7 s")
        self.assertTrue(inquire.holderOf(reply)["held"])

    def test_strangeHolder(self) -> None:
        """
        What says something else breaks the protocol.
        """
        for read in (inquire.holderAsText, inquire.holderAsJSON):
            self.assertRaises(ProtocolViolation, read, Reply(200, "who knows"))

    def test_status(self) -> None:
        """
        Values stand in a column.
        """
        reply = Reply(211, "version: 1\nholder: \naudit_records: 12")
        self.assertEqual(
            "version:       1\nholder:\naudit_records: 12", inquire.statusAsText(reply)
        )

    def test_statusAsJSON(self) -> None:
        """
        Numbers are numbers, but what may only look like one is not; what
        there is none of is null.
        """
        reply = Reply(
            211,
            "version: 1\nholder: 42\nsessions: 7\naudit_head: 00\nuptime_s: 0\n"
            "new: x: y",
        )
        self.assertEqual(
            {
                "version": "1",
                "holder": "42",
                "sessions": 7,
                "audit_head": "00",
                "uptime_s": 0,
                "new": "x: y",
            },
            json.loads(inquire.statusAsJSON(reply)),
        )
        empty = json.loads(inquire.statusAsJSON(Reply(211, "holder: ")))
        self.assertEqual({"holder": None}, empty)

    def test_strangeStatus(self) -> None:
        """
        What says something else breaks the protocol.
        """
        self.assertRaises(ProtocolViolation, inquire.valuesOf, Reply(211, "fine"))


class Sleeper(ProcessProtocol):
    """
    A process that is to be interrupted.
    """

    def __init__(self) -> None:
        self.said = b""
        self.output: Deferred[None] = Deferred()
        self.ended: Deferred[int | None] = Deferred()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Note what it says."""
        self.said += data
        if not self.output.called:
            self.output.callback(None)

    def processEnded(self, reason: object) -> None:
        """Note how it ends."""
        self.ended.callback(reason.value.exitCode)  # type: ignore[attr-defined]


class LiveTests(LiveTestCase):
    """
    The command and a real service.
    """

    async def test_inquiries(self) -> None:
        """
        C{who} and C{status} ask without taking the service from anybody.
        """
        ended = await self.run_("who", self.host)
        self.assertEqual(
            ("nobody\n", "", 0), (ended.output, ended.errors, ended.status)
        )
        session = await self.connect("bob")
        ended = await self.run_("who", self.host)
        self.assertRegex(
            ended.output, r"\Abob 127\.0\.0\.1:[0-9]+ since \S+ idle \d+ s\n\Z"
        )
        ended = await self.run_("who", "--json", self.host)
        self.assertEqual("bob", json.loads(ended.output)["name"])
        ended = await self.run_("status", self.host)
        self.assertRegex(ended.output, r"(?m)^holder: +bob$")
        ended = await self.run_("status", self.host, "--json")
        self.assertEqual(1, json.loads(ended.output)["sessions"])
        await session.close()

    async def test_busy(self) -> None:
        """
        A busy service is exit status 75, and it is said who holds it; who
        waits is admitted in the end.
        """
        session = await self.connect("bob")
        ended = await self.run_("send", self.host, "NOOP")
        self.assertEqual(("", 75), (ended.output, ended.status))
        self.assertRegex(ended.errors, r"\Atcpsvc: held by bob since .*\n\Z")
        ended = await self.run_("send", "--wait", "0.3", self.host, "NOOP")
        self.assertEqual(75, ended.status)
        waiting = Deferred.fromCoroutine(self.run_("send", "--wait", self.host, "NOOP"))
        await session.send("NOOP")
        await session.close()
        self.assertEqual("200 OK\n", (await waiting).output)

    async def test_refused(self) -> None:
        """
        A refused certificate is exit status 77.
        """
        pair = authority().expired("alice")
        writePair(self.keys.client("alice"), self.keys.clientKey("alice"), pair)
        ended = await self.run_("send", self.host, "NOOP")
        self.assertEqual(("", 77), (ended.output, ended.status))
        self.assertRegex(ended.errors, r"\Atcpsvc: .*has expired.*\n\Z")

    async def test_wrongName(self) -> None:
        """
        So is a server of another name.
        """
        ended = await self.run_("send", f"127.0.0.2:{self.port}", "NOOP")
        self.assertIn(ended.status, (69, 77))

    async def test_otherService(self) -> None:
        """
        What is no tcpsvc service is exit status 76.
        """
        listening = await self.plainListener()
        ended = await self.run_("send", f"localhost:{listening}", "NOOP")
        self.assertEqual(76, ended.status)
        self.assertIn("does not speak TLS", ended.errors)

    async def plainListener(self) -> int:
        """
        The port of a service without TLS, which ends with the test.
        """
        from twisted.internet.error import CannotListenError
        from twisted.internet.protocol import Factory, Protocol

        class Plain(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"220 plain\r\n")

        for port in range(15999, 15100, -1):
            try:
                listening = cast(Any, reactor).listenTCP(
                    port, Factory.forProtocol(Plain), interface="127.0.0.1"
                )
            except CannotListenError:
                continue
            self.addCleanup(listening.stopListening)
            return port
        raise AssertionError("no port is free")

    async def test_interrupt(self) -> None:
        """
        Ctrl-C ends the command at once and quietly with exit status 130, and
        the service is free again.
        """
        sleeper = Sleeper()
        process = cast(Any, reactor).spawnProcess(
            sleeper,
            sys.executable,
            [sys.executable, *COMMAND, "send", self.host, "-"],
            env=self.environment,
        )
        process.write(b"ECHO here\n")
        await sleeper.output
        os.kill(process.pid, signal.SIGINT)
        self.assertEqual(130, await sleeper.ended)
        self.assertEqual(b"200 here\n", sleeper.said)
        await (await self.connect("bob", wait=10)).close()
