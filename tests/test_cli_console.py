"""
Tests for L{tcpsvc.cli.console}, L{tcpsvc.cli.prompts} and L{tcpsvc.cli.history}.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pexpect  # type: ignore[import-untyped]  # it has no types
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.cli.completion import VerbCompleter
from tcpsvc.cli.console import converse, requestsIn, verbsIn
from tcpsvc.cli.history import MAX_OCTETS, historyPath, openHistory
from tcpsvc.cli.prompts import PlainPrompt
from tcpsvc.cli.running import Interruption
from tcpsvc.cli.standard import Input, Output
from tcpsvc.client import CannotReach, Session, SessionEnded
from tcpsvc.wire import Reply
from tests.clientside import COMMAND, LiveTestCase, outcome
from tests.test_cli_send import MemorySession


class VerbsTests(SynchronousTestCase):
    """
    Tests for L{verbsIn} and L{requestsIn}.
    """

    def test_verbs(self) -> None:
        """
        Each line of HELP begins with a verb; other lines have none.
        """
        reply = Reply(214, "HELP [VERB]    lists\nMEAS:VOLT?  no\nNOOP\n  more")
        self.assertEqual(
            {"HELP": " [VERB]    lists", "MEAS": ":VOLT?  no", "NOOP": ""},
            verbsIn(reply),
        )

    def test_noHelp(self) -> None:
        """
        Without HELP nothing is completed.
        """
        self.assertEqual({}, verbsIn(Reply(500, "UNKNOWN-COMMAND HELP")))

    def test_requests(self) -> None:
        """
        What was pasted may be many requests, and none of them is empty.
        """
        self.assertEqual([b"a", b"b", b"\x80"], requestsIn("a\r\n\nb\r\udc80"))
        self.assertEqual([], requestsIn(""))


class VerbCompleterTests(SynchronousTestCase):
    """
    Tests for L{VerbCompleter}.
    """

    def completed(self, typed: str) -> list[str]:
        """
        What a line can become.
        """
        completer = VerbCompleter(
            {"ECHO": " TEXT  answers TEXT", "EXIT": "       ends it", "HELP": ""}
        )
        return [
            typed[: len(typed) + completion.start_position] + completion.text
            for completion in completer.get_completions(
                Document(typed), CompleteEvent()
            )
        ]

    def test_verb(self) -> None:
        """
        A verb is completed in whatever case it is begun; one that has an
        argument is followed by a blank.
        """
        self.assertEqual(["ECHO "], self.completed("ec"))
        self.assertEqual(["ECHO "], self.completed("Echo"))
        self.assertEqual(["EXIT"], self.completed("EX"))
        self.assertEqual(["ECHO ", "EXIT", "HELP"], self.completed(""))

    def test_askedOf(self) -> None:
        """
        So is the verb that HELP is asked of, which has no argument there.
        """
        self.assertEqual(["HELP ECHO"], self.completed("HELP ec"))
        self.assertEqual(["help EXIT"], self.completed("help ex"))

    def test_argument(self) -> None:
        """
        No other argument is completed.
        """
        for typed in ("ECHO ec", "ECHO ", "HELP ECHO ec", " ec", "x"):
            self.assertEqual([], self.completed(typed))

    def test_meaning(self) -> None:
        """
        Beside each verb stands what HELP says of it.
        """
        completer = VerbCompleter({"ECHO": " TEXT  answers TEXT"})
        (completion,) = completer.get_completions(Document("e"), CompleteEvent())
        self.assertEqual("ECHO", completion.display_text)
        self.assertEqual("TEXT answers TEXT", completion.display_meta_text)


class MemoryPrompt:
    """
    A prompt whose user is the test.
    """

    def __init__(self) -> None:
        self.asking: Deferred[str | None] = Deferred()
        self.asked = 0

    async def ask(self) -> str | None:
        """Ask the test."""
        self.asked += 1
        self.asking = Deferred()
        return await self.asking

    def dismiss(self) -> None:
        """Ask no more."""
        if not self.asking.called:
            self.asking.callback(None)


class MemoryOutput:
    """
    An output that is a list.
    """

    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, reply: Reply) -> None:
        """Keep it."""
        self.shown.append(str(reply))

    def write(self, text: str) -> None:
        """Keep it."""
        self.shown.append(text)


class ConverseTests(SynchronousTestCase):
    """
    Tests for L{converse}.
    """

    def setUp(self) -> None:
        """
        Begin.
        """
        self.session = MemorySession()
        self.prompt = MemoryPrompt()
        self.output = MemoryOutput()
        self.conversing = outcome(
            converse(
                cast(Session, self.session), self.prompt, cast(Output, self.output)
            )
        )

    def test_conversation(self) -> None:
        """
        A request is sent, its reply is shown, and the next one is asked for.
        The end of input is a QUIT, whose farewell is shown.
        """
        self.prompt.asking.callback("NOOP")
        self.assertEqual([b"NOOP"], [request for request, _ in self.session.sent])
        self.session.answer()
        self.prompt.asking.callback("")
        self.prompt.asking.callback(None)
        self.assertEqual(0, self.successResultOf(self.conversing))
        self.assertTrue(self.session.quit)
        self.assertEqual(["200 OK", "221 bye"], self.output.shown)

    def test_failed(self) -> None:
        """
        An error among the replies is the exit status.
        """
        self.prompt.asking.callback("junk")
        self.session.answer(Reply(500, "UNKNOWN-COMMAND JUNK"))
        self.prompt.asking.callback(None)
        self.assertEqual(1, self.successResultOf(self.conversing))

    def test_endedWhileAsking(self) -> None:
        """
        If the service ends the session, its word is shown at once, and no
        more is asked for.
        """
        self.session.lose(Reply(421, "IDLE-TIMEOUT good bye"), None)
        self.assertEqual(1, self.successResultOf(self.conversing))
        self.assertEqual(["421 IDLE-TIMEOUT good bye"], self.output.shown)

    def test_endedWhileAnswering(self) -> None:
        """
        So it is while a reply is awaited.
        """
        words = Reply(421, "SHUTDOWN good bye")
        self.prompt.asking.callback("NOOP")
        self.session.lose(words, SessionEnded(words))
        self.assertEqual(1, self.successResultOf(self.conversing))
        self.assertEqual([str(words)], self.output.shown)

    def test_ownQuit(self) -> None:
        """
        The reply to the user's own QUIT is shown once, as it comes, and
        nothing is asked for behind it.
        """
        words = Reply(221, "bye; record 7 0a1b")
        self.session.words = words
        self.prompt.asking.callback("bye")
        self.session.answer(words)
        self.assertEqual(0, self.successResultOf(self.conversing))
        self.assertEqual(["221 bye; record 7 0a1b"], self.output.shown)
        self.assertEqual(1, self.prompt.asked)

    def test_endedBehindReply(self) -> None:
        """
        If the service ends the session with any other reply, which is shown
        once, it is said that it did.
        """
        words = Reply(200, "logged out")
        self.prompt.asking.callback("logout")
        self.session.answer(words)
        self.session.lose(words, None)
        problem = self.failureResultOf(self.conversing, SessionEnded).value
        self.assertEqual("the service ended the session", str(problem))
        self.assertEqual([str(words)], self.output.shown)

    def test_endedBeforeReply(self) -> None:
        """
        And that there is no reply, if one was awaited.
        """
        words = Reply(200, "logged out")
        self.prompt.asking.callback("logout\nNOOP")
        self.session.answer(words)
        self.session.lose(words, SessionEnded(words, 1))
        problem = self.failureResultOf(self.conversing, SessionEnded).value
        self.assertIn("1 request has no reply", str(problem))
        self.assertEqual([str(words)], self.output.shown)

    def test_lost(self) -> None:
        """
        A lost connection is no good end.
        """
        self.session.lose(None, None)
        self.failureResultOf(self.conversing, CannotReach)

    def test_interruptedReply(self) -> None:
        """
        Trouble with showing cuts the session.
        """
        self.output.show = self.broken  # type: ignore[method-assign]
        self.prompt.asking.callback("NOOP")
        self.session.answer()
        self.failureResultOf(self.conversing, BrokenPipeError)
        self.assertTrue(self.session.aborted)

    def broken(self, reply: Reply) -> None:
        """
        Cannot show.
        """
        raise BrokenPipeError


class PlainPromptTests(SynchronousTestCase):
    """
    Tests for L{PlainPrompt}.
    """

    def setUp(self) -> None:
        """
        Make a prompt.
        """
        self.reading: Deferred[bytes] = Deferred()
        self.output = MemoryOutput()
        self.exits = 0
        self.interruption = Interruption()
        self.patch(self.interruption, "exit", self.exited)
        self.prompt = PlainPrompt(
            cast(Input, self), cast(Output, self.output), self.interruption
        )

    def exited(self) -> None:
        """
        Count.
        """
        self.exits += 1

    def read(self) -> Deferred[bytes]:
        """
        The input, in the hands of the test.
        """
        self.reading = Deferred()
        return self.reading

    def ask(self) -> Deferred[str | None]:
        """
        Ask for a line.
        """
        return outcome(self.prompt.ask())

    def test_lines(self) -> None:
        """
        Lines that were typed ahead are taken without asking.
        """
        asking = self.ask()
        self.assertEqual(["> "], self.output.shown)
        self.reading.callback(b"a\nb\n")
        self.assertEqual("a", self.successResultOf(asking))
        self.assertEqual("b", self.successResultOf(self.ask()))
        self.assertEqual(["> "], self.output.shown)

    def test_end(self) -> None:
        """
        At the end of input there is no line any more.
        """
        asking = self.ask()
        self.reading.callback(b"")
        self.assertIsNone(self.successResultOf(asking))
        self.assertIsNone(self.successResultOf(self.ask()))

    def test_dismiss(self) -> None:
        """
        Dismissed, it stops asking.
        """
        asking = self.ask()
        self.prompt.dismiss()
        self.assertIsNone(self.successResultOf(asking))
        self.assertIsNone(self.successResultOf(self.ask()))

    def test_interrupt(self) -> None:
        """
        Ctrl-C asks anew while it asks, and exits while it does not.
        """
        asking = self.ask()
        self.interruption.answer()
        self.assertEqual(["> ", "\n> "], self.output.shown)
        self.assertNoResult(asking)
        self.reading.callback(b"a\n")
        self.assertEqual(0, self.exits)
        self.interruption.answer()
        self.assertEqual(1, self.exits)


class HistoryTests(SynchronousTestCase):
    """
    Tests for L{openHistory} and L{historyPath}.
    """

    def test_path(self) -> None:
        """
        It is where XDG says, if that is an absolute path.
        """
        for value, path in (
            ("/state", "/state/tcpsvc/history"),
            ("state", "/home/alice/.local/state/tcpsvc/history"),
            ("", "/home/alice/.local/state/tcpsvc/history"),
        ):
            self.patch(os, "environ", {"XDG_STATE_HOME": value, "HOME": "/home/alice"})
            self.assertEqual(Path(path), historyPath())

    def test_private(self) -> None:
        """
        Nobody else can read it, also if it was there before.
        """
        path = Path(self.mktemp()) / "tcpsvc" / "history"
        openHistory(path).append_string("ECHO secret")
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        self.assertEqual(0o700, stat.S_IMODE(path.parent.stat().st_mode))
        path.chmod(0o644)
        history = openHistory(path)
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        self.assertEqual(["ECHO secret"], list(history.load_history_strings()))

    def test_bounded(self) -> None:
        """
        It does not grow for ever, and loses the oldest lines, each as a whole.
        """
        path = Path(self.mktemp())
        history = openHistory(path)
        lines = [f"ECHO {number} {'+' * 100}" for number in range(3000)]
        for line in lines:
            history.append_string(line)
        self.assertGreater(path.stat().st_size, MAX_OCTETS)
        kept = list(openHistory(path).load_history_strings())
        self.assertLess(path.stat().st_size, MAX_OCTETS)
        self.assertGreater(len(kept), 500)
        self.assertEqual(lines[: -len(kept) - 1 : -1], kept)

    def test_unwritable(self) -> None:
        """
        Without a place for it there is a history of this session only.
        """
        blocked = Path(self.mktemp())
        blocked.write_text("a file")
        self.assertIsInstance(openHistory(blocked / "history"), InMemoryHistory)

    def test_full(self) -> None:
        """
        That a line cannot be kept is no reason to stop.
        """
        path = Path(self.mktemp())
        history = openHistory(path)
        path.unlink()
        path.mkdir()
        history.append_string("ECHO lost")


NO_EDITOR = (
    "-c",
    "import importlib.util as u; find = u.find_spec\n"
    "u.find_spec = lambda n, *a: None if n == 'prompt_toolkit' else find(n, *a)\n"
    + COMMAND[1],
)
"""
The command, as where prompt_toolkit is not installed.
"""


class LiveTests(LiveTestCase):
    """
    C{tcpsvc console} on a terminal, and a real service.
    """

    options = ("--idle-timeout", "4")

    def spawn(self, command: tuple[str, ...] = COMMAND) -> Any:
        """
        Begin a console on a terminal. To be called in a thread.
        """
        console = pexpect.spawn(
            sys.executable,
            [*command, "console", self.host],
            env=cast(
                Any,
                {**self.environment, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"},
            ),
            encoding="utf-8",
            timeout=20,
        )
        console.expect("220 .*; you are alice\r\n")
        console.expect(">")
        return console

    def ended(self, console: Any) -> int:
        """
        The exit status of a console that ends now.
        """
        console.expect(pexpect.EOF)
        console.close()
        return cast(int, console.exitstatus)

    def inThread(self, talk: Callable[[], None]) -> Deferred[None]:
        """
        Let a user talk, who blocks.
        """
        return deferToThread(talk)

    def test_edited(self) -> Deferred[None]:
        """
        Lines can be edited, verbs completed, former lines called back; Ctrl-C
        abandons a line; Ctrl-D ends the session in good order.
        """

        def talk() -> None:
            console = self.spawn()
            console.send("ECHO two\x01\x1b[C\x1b[C\x1b[C\x1b[C\x1b[C\x0bone\r")
            console.expect("200 one\r\n")
            console.expect(">")
            console.send("vers\t")
            console.expect("VERSION")
            console.send("\r")
            console.expect("200 tcpsvc ")
            console.expect(">")
            console.send("ec\t")
            console.expect("ECHO")
            console.send("hi\r")
            console.expect("200 hi\r\n")
            console.expect(">")
            console.send("junk\x03")
            console.expect(">")
            console.send("\x1b[A\x1b[A\x1b[A\r")
            console.expect("200 one\r\n")
            console.expect(">")
            console.send("\x04")
            console.expect("221 bye.*\r\n")
            self.assertEqual(0, self.ended(console))
            history = self.path / "state" / "tcpsvc" / "history"
            self.assertIn("+VERSION\n", history.read_text())
            self.assertNotIn("junk", history.read_text())
            self.assertEqual(0o600, stat.S_IMODE(history.stat().st_mode))

        return self.inThread(talk)

    def test_plain(self) -> Deferred[None]:
        """
        Without the line editor the console does what the terminal can.
        """

        def talk() -> None:
            console = self.spawn(NO_EDITOR)
            console.send("junk\x03")
            console.expect(">")
            console.send("ECHO one\r")
            console.expect("200 one\r\n")
            console.expect(">")
            console.send("wrong\r")
            console.expect("500 UNKNOWN-COMMAND WRONG")
            console.expect(">")
            console.send("\x04")
            console.expect("221 bye.*\r\n")
            self.assertEqual(1, self.ended(console))

        return self.inThread(talk)

    def test_endedByService(self) -> Deferred[None]:
        """
        If the service ends the session, that is shown at once and the console
        ends, with the terminal as it was before.
        """

        def talk() -> None:
            for command in (COMMAND, NO_EDITOR):
                console = self.spawn(command)
                console.send("ECHO half")
                console.expect("421 IDLE-TIMEOUT [^\r\n]*\r\n")
                self.assertEqual(1, self.ended(console))

        return self.inThread(talk)

    def test_interruptFromElsewhere(self) -> Deferred[None]:
        """
        A SIGINT that is no key of the editor's abandons the line too.
        """

        def talk() -> None:
            console = self.spawn()
            console.expect("25h")
            console.kill(2)
            console.expect(">")
            console.send("ECHO on\r")
            console.expect("200 on\r\n")
            console.expect(">")
            console.send("\x04")
            self.assertEqual(0, self.ended(console))

        return self.inThread(talk)

    async def test_noTerminal(self) -> None:
        """
        Without a terminal it is C{tcpsvc send HOST -}.
        """
        ended = await self.run_("console", self.host, typed=b"ECHO a\njunk\n")
        self.assertEqual(1, ended.status)
        self.assertTrue(re.match(r"200 a\n500 UNKNOWN.*\n\Z", ended.output))

    async def test_busy(self) -> None:
        """
        A busy service is exit status 75, on a terminal too.
        """
        session = await self.connect("bob")

        def talk() -> int:
            console = pexpect.spawn(
                sys.executable,
                [*COMMAND, "console", self.host],
                env=cast(Any, self.environment),
                encoding="utf-8",
                timeout=20,
            )
            console.expect("tcpsvc: held by bob since")
            return self.ended(console)

        self.assertEqual(75, await deferToThread(talk))
        await session.close()
