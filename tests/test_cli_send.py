"""
Tests for L{tcpsvc.cli.send}, L{tcpsvc.cli.exchange} and L{tcpsvc.cli.standard}.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tcpsvc.cli.exchange import MAX_AWAITED, MAX_AWAITED_OCTETS, Exchange
from tcpsvc.cli.send import linesOf
from tcpsvc.cli.standard import Input, Lines, Output
from tcpsvc.client import CannotReach, Session, SessionEnded
from tcpsvc.wire import MAX_UNENDED_OCTETS, Reply
from tests.clientside import COMMAND, LiveTestCase, outcome


class LinesTests(SynchronousTestCase):
    """
    Tests for L{Lines}.
    """

    def split(self, *chunks: bytes) -> list[bytes]:
        """
        The lines in some chunks.
        """
        lines = Lines()
        found = [line for chunk in chunks for line in lines.feed(chunk)]
        return found + lines.end()

    def test_endings(self) -> None:
        """
        Lines end as the service thinks they do; the last needs no ending.
        """
        self.assertEqual(
            [b"a", b"b", b"c", b"d", b"e"], self.split(b"a\nb\r\nc\rd\r\0e")
        )

    def test_empty(self) -> None:
        """
        Empty lines, which have no reply, are left out.
        """
        self.assertEqual([b"a", b"b"], self.split(b"\n\r\na\n\n\r\r\0b\n\n"))
        self.assertEqual([], self.split(b"", b"\r", b"\n", b"\r", b"\0"))

    def test_onlyNUL(self) -> None:
        """
        So are lines of NUL alone, also one that is more than is kept.
        """
        self.assertEqual([b"a\0", b"\0b"], self.split(b"\0\na\0\n\0\0\r\n\0b\n\0"))
        endless = b"\0" * (MAX_UNENDED_OCTETS + 1) + b"a"
        self.assertEqual([], self.split(endless + b"\n" + endless))

    def test_octets(self) -> None:
        """
        Octets that are no UTF-8 stay as they are.
        """
        self.assertEqual([b"\xff\x80"], self.split(b"\xff", b"\x80\n"))

    @given(st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"a", b"b\xff", b""])))
    def test_anyCut(self, pieces: list[bytes]) -> None:
        """
        However the same octets are cut, the same lines come out.
        """
        self.assertEqual(self.split(b"".join(pieces)), self.split(*pieces))

    def test_bounded(self) -> None:
        """
        Of an endless line no more is kept than makes the service end it.
        """
        lines = Lines()
        for _ in range(100):
            self.assertEqual([], lines.feed(b"a" * 10_000))
            self.assertLessEqual(len(lines.rest), MAX_UNENDED_OCTETS + 1)
        self.assertEqual([b"a" * (MAX_UNENDED_OCTETS + 1), b"b"], lines.feed(b"\nb\n"))


class OutputTests(SynchronousTestCase):
    """
    Tests for L{Output}.
    """

    def test_reply(self) -> None:
        """
        Replies are printed as they came, with LF for line ends.
        """
        path = Path(self.mktemp())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        output = Output(descriptor)
        for reply in (Reply(214, "a\nb"), Reply(200, "\xe4\udc80")):
            output.show(reply)
        os.close(descriptor)
        self.assertEqual(b"214-a\n214 b\n200 \xc3\xa4\\udc80\n", path.read_bytes())

    def test_full(self) -> None:
        """
        That nothing can be written is not passed over.
        """
        descriptor = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, descriptor)
        self.assertRaises(OSError, Output(descriptor).write, "a")


class InputTests(TestCase):
    """
    Tests for L{Input}, with the real reactor and a pipe.
    """

    timeout = 20

    def setUp(self) -> None:
        """
        Make a pipe.
        """
        self.readEnd, self.writeEnd = os.pipe()
        self.input = Input(reactor, self.readEnd)  # type: ignore[arg-type]

    async def test_chunks(self) -> None:
        """
        What comes is read when it comes, until the end.
        """
        reading = self.input.read()
        self.assertNoResult(reading)
        os.write(self.writeEnd, b"a")
        self.assertEqual(b"a", await reading)
        os.write(self.writeEnd, b"b")
        os.close(self.writeEnd)
        self.assertEqual(b"b", await self.input.read())
        self.assertEqual(b"", await self.input.read())
        os.close(self.readEnd)

    async def test_onlyWhenAsked(self) -> None:
        """
        Nothing is read ahead: memory does not grow with what waits there.
        """
        os.set_blocking(self.writeEnd, False)
        os.write(self.writeEnd, b"a")
        await self.input.read()
        written = 0
        try:
            while True:
                written += os.write(self.writeEnd, b"b" * 4096)
        except BlockingIOError:
            pass
        await deferToThread(lambda: None)
        self.assertRaises(BlockingIOError, os.write, self.writeEnd, b"c" * 4096)
        os.close(self.writeEnd)
        os.close(self.readEnd)

    async def test_blocking(self) -> None:
        """
        The descriptor, which others use too, is left blocking.
        """
        os.write(self.writeEnd, b"a")
        await self.input.read()
        self.assertTrue(os.get_blocking(self.readEnd))
        os.close(self.writeEnd)
        os.close(self.readEnd)

    async def test_noThread(self) -> None:
        """
        That no thread can be started to read with is an error like any other; the
        next call tries again.
        """

        def refuse(_: Thread) -> None:
            raise RuntimeError("can't start new thread")

        refused = self.patch(Thread, "start", refuse)
        error: Any = await self.assertFailure(self.input.read(), OSError)
        self.assertEqual("can't start new thread", error.strerror)
        refused.restore()
        os.write(self.writeEnd, b"a")
        self.assertEqual(b"a", await self.input.read())
        os.close(self.writeEnd)
        os.close(self.readEnd)

    async def test_error(self) -> None:
        """
        That nothing can be read is not passed over.
        """
        self.input = Input(reactor, self.writeEnd)  # type: ignore[arg-type]
        await self.assertFailure(self.input.read(), OSError)
        os.close(self.writeEnd)
        os.close(self.readEnd)


class MemorySession:
    """
    A session whose service is the test.

    @ivar sent: The requests, each with the Deferred of its reply.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Deferred[Reply]]] = []
        self.closed: Deferred[Reply | None] = Deferred()
        self.words: Reply | None = Reply(221, "bye")
        self.aborted = False
        self.quit = False

    def send(self, request: bytes) -> Deferred[Reply]:
        """Take a request."""
        reply: Deferred[Reply] = Deferred()
        self.sent.append((request, reply))
        return reply

    def answer(self, reply: Reply = Reply(200, "OK")) -> None:  # noqa: B008  # frozen
        """Answer the oldest request."""
        self.sent.pop(0)[1].callback(reply)

    def lose(self, words: Reply | None, problem: Exception | None) -> None:
        """Close, and fail what waits."""
        self.words = words
        waiting, self.sent = self.sent, []
        for _, reply in waiting:
            assert problem is not None
            reply.errback(problem)
        if not self.closed.called:
            self.closed.callback(words)

    def close(self) -> Deferred[Reply | None]:
        """Close in good order."""
        self.quit = True
        if not self.closed.called:
            self.closed.callback(self.words)
        closing: Deferred[Reply | None] = Deferred()
        closing.callback(self.words)
        return closing

    def abort(self) -> None:
        """Cut."""
        self.aborted = True


class ExchangeTests(SynchronousTestCase):
    """
    Tests for L{Exchange}.
    """

    def setUp(self) -> None:
        """
        Set up a session.
        """
        self.session = MemorySession()
        self.shown: list[Reply] = []
        self.more: Deferred[Sequence[bytes] | None] = Deferred()
        self.exchange = Exchange(cast(Session, self.session), self.shown.append)

    async def batches(self) -> AsyncIterator[Sequence[bytes]]:
        """
        What the test gives by L{give}.
        """
        while (batch := await self.more) is not None:
            yield batch

    def give(self, batch: Sequence[bytes] | None) -> None:
        """
        Let requests come, or their end.
        """
        more, self.more = self.more, Deferred()
        more.callback(batch)

    def run_(self) -> Deferred[None]:
        """
        Begin.
        """
        return outcome(self.exchange.run(self.batches()))

    def test_goodOrder(self) -> None:
        """
        Each reply is shown as it comes. After the last one the session is
        closed, and its farewell is not shown.
        """
        running = self.run_()
        self.give([b"a", b"b"])
        self.session.answer(Reply(200, "A"))
        self.assertEqual(["A"], [reply.text for reply in self.shown])
        self.give(None)
        self.assertFalse(self.session.quit)
        self.session.answer(Reply(200, "B"))
        self.assertTrue(self.session.quit)
        self.successResultOf(running)
        self.assertEqual(["A", "B"], [reply.text for reply in self.shown])
        self.assertFalse(self.exchange.failed)

    def test_failed(self) -> None:
        """
        A reply of 4xx or 5xx is remembered, and the exchange goes on.
        """
        running = self.run_()
        self.give([b"a", b"b"])
        self.session.answer(Reply(500, "UNKNOWN-COMMAND A"))
        self.session.answer()
        self.give(None)
        self.successResultOf(running)
        self.assertTrue(self.exchange.failed)

    def test_bounded(self) -> None:
        """
        Only so many requests are sent ahead of the replies.
        """
        self.run_()
        self.give([b"a"] * 1000)
        self.assertEqual(MAX_AWAITED, len(self.session.sent))
        self.session.answer()
        self.session.answer()
        self.assertEqual(MAX_AWAITED, len(self.session.sent))
        self.assertEqual(2, len(self.shown))

    def test_octetsBounded(self) -> None:
        """
        And only so many octets, but one request always.
        """
        self.run_()
        self.give([b"a" * (MAX_AWAITED_OCTETS + 1), *[b"b" * 30_000] * 4])
        self.assertEqual(1, len(self.session.sent))
        self.session.answer()
        self.assertEqual(2, len(self.session.sent))

    def test_endedByService(self) -> None:
        """
        If the service ends the session, its word is shown at once, also if
        nothing is awaited but input; then the exchange has failed.
        """
        words = Reply(421, "IDLE-TIMEOUT good bye")
        running = self.run_()
        self.session.lose(words, None)
        self.successResultOf(running)
        self.assertEqual([words], self.shown)
        self.assertTrue(self.exchange.failed)

    def test_endedInTheMidst(self) -> None:
        """
        The same, if replies are awaited and more requests are there.
        """
        words = Reply(421, "SHUTDOWN good bye")
        running = self.run_()
        self.give([b"a"] * 100)
        self.session.answer(Reply(200, "A"))
        self.session.lose(words, SessionEnded(words))
        self.successResultOf(running)
        self.assertEqual([Reply(200, "A"), words], self.shown)
        self.assertTrue(self.exchange.failed)

    def test_endedBehindReply(self) -> None:
        """
        If the service ends the session with a reply that does not say so, it
        is said that it did, unless nothing more was to come.
        """
        words = Reply(200, "logged out")
        for batch, more in (([b"a"], True), ([b"a", b"b"], True), ([b"a"], False)):
            self.setUp()
            running = self.run_()
            self.give(batch)
            if not more:
                self.give(None)
                self.session.words = words
            self.session.answer(words)
            self.session.lose(words, SessionEnded(words, 1))
            if more:
                self.failureResultOf(running, SessionEnded)
            else:
                self.successResultOf(running)
            self.assertEqual([words], self.shown)
            self.assertFalse(self.exchange.failed)

    def test_ownQuit(self) -> None:
        """
        After a C{QUIT} of the user's, its reply is shown, what follows it is
        not sent, and that is no failure.
        """
        words = Reply(221, "bye")
        running = self.run_()
        self.give([b"QUIT", b"b"])
        self.session.answer(words)
        self.session.lose(words, SessionEnded(words))
        self.successResultOf(running)
        self.assertEqual([words], self.shown)
        self.assertFalse(self.exchange.failed)

    def test_lost(self) -> None:
        """
        A lost connection ends the exchange with that, whatever it waits for.
        """
        for batch in ([], [b"a"], [b"a"] * 100):
            self.setUp()
            running = self.run_()
            self.give(batch)
            self.session.lose(None, CannotReach("lost"))
            self.failureResultOf(running, CannotReach)

    def test_cannotShow(self) -> None:
        """
        If a reply cannot be shown, no more is sent, and the exchange ends
        although more input could come.
        """

        def show(_reply: Reply) -> None:
            raise BrokenPipeError

        self.exchange = Exchange(cast(Session, self.session), show)
        running = self.run_()
        self.give([b"a"])
        self.session.answer()
        self.failureResultOf(running, BrokenPipeError)

    def test_cannotRead(self) -> None:
        """
        If the input cannot be read, the session is cut.
        """
        running = self.run_()
        self.more.errback(OSError("unreadable"))
        self.failureResultOf(running, OSError)
        self.assertTrue(self.session.aborted)


class MemoryInput:
    """
    An input in memory.
    """

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = [*chunks, b""]

    async def read(self) -> bytes:
        """The next chunk."""
        return self._chunks.pop(0)


class LinesOfTests(SynchronousTestCase):
    """
    Tests for L{linesOf}.
    """

    def test_lines(self) -> None:
        """
        Lines come in the batches in which they were read, the last without an
        ending too.
        """

        async def collected() -> list[Sequence[bytes]]:
            source = cast(Input, MemoryInput(b"a\nb\nc", b"d\ne"))
            return [batch async for batch in linesOf(source)]

        self.assertEqual(
            [[b"a", b"b"], [b"cd"], [b"e"]],
            self.successResultOf(outcome(collected())),
        )


class GatewayTests(LiveTestCase):
    """
    C{tcpsvc send} and C{console}, and a service that is a gateway.
    """

    options = ("--gateway", "exec:/bin/cat")

    async def test_gateway(self) -> None:
        """
        Both are refused with one line and exit status 76, and the device gets not
        one octet.
        """
        for words in (("send", self.host, "NOOP"), ("console", self.host)):
            ended = await self.run_(*words)
            self.assertEqual(("", 76), (ended.output, ended.status))
            self.assertEqual(
                f"tcpsvc: the service at {self.host} is a gateway to its device: use "
                f"`tcpsvc connect {self.host}` or `tcpsvc forward LOCAL {self.host}`\n",
                ended.errors,
            )
        trail = (self.path / "audit.jsonl").read_text()
        self.assertEqual(2, trail.count('"event":"session.opened"'))
        self.assertNotIn('"event":"gateway.data"', trail)


class LiveTests(LiveTestCase):
    """
    C{tcpsvc send} and a real service.
    """

    options = ("--idle-timeout", "2", "--commands", "tests.clientside:logout")

    async def test_arguments(self) -> None:
        """
        Each request in turn, its reply on standard output; the farewell to
        the client's own C{QUIT} is not shown.
        """
        ended = await self.run_("send", self.host, "ECHO a b", "noop", "HELP HELP")
        self.assertEqual(("", 0), (ended.errors, ended.status))
        self.assertRegex(ended.output, r"\A200 a b\n200 OK\n214[ -]HELP.*\n\Z")
        self.assertNotIn("\r", ended.output)

    async def test_errorReply(self) -> None:
        """
        An error is a reply like others, and exit status 1.
        """
        ended = await self.run_("send", self.host, "junk", "ECHO on")
        self.assertEqual(1, ended.status)
        self.assertEqual("", ended.errors)
        self.assertRegex(ended.output, r"\A500 UNKNOWN-COMMAND .*\n200 on\n\Z")

    async def test_notALine(self) -> None:
        """
        A request with a line end in it, or an empty one, is wrong usage.
        """
        for request in ("a\nQUIT", "a\r", ""):
            ended = await self.run_("send", self.host, "NOOP", request)
            self.assertEqual(("", 64), (ended.output, ended.status))
            self.assertEqual(1, len(ended.errors.splitlines()))

    async def test_input(self) -> None:
        """
        Lines of standard input, with any ending; empty ones are passed over.
        """
        typed = b"\n\0\nECHO a\r\n\r\nECHO b\rECHO \xff\nECHO \xc3\xa4\n" + b"x" * 5000
        for words in ((), ("-",)):
            ended = await self.run_("send", self.host, *words, typed=typed)
            self.assertEqual(1, ended.status, ended.errors)
            self.assertEqual(
                ["200 a", "200 b", "500 NOT-UTF-8", "200 \xe4", "500 LINE-TOO-LONG"],
                [" ".join(line.split()[:2]) for line in ended.output.splitlines()],
            )

    async def test_inputAmongArguments(self) -> None:
        """
        A C{-} stands for the input, wherever it is.
        """
        ended = await self.run_(
            "send", self.host, "ECHO a", "-", "ECHO c", typed=b"ECHO b"
        )
        self.assertEqual("200 a\n200 b\n200 c\n", ended.output)

    async def test_many(self) -> None:
        """
        Tens of thousands of lines are answered in order.
        """
        numbers = range(30_000)
        typed = "".join(f"ECHO {number}\n" for number in numbers).encode()
        ended = await self.run_("send", self.host, typed=typed)
        self.assertEqual("".join(f"200 {number}\n" for number in numbers), ended.output)
        self.assertEqual(0, ended.status)

    async def test_quit(self) -> None:
        """
        What the user sends himself is shown; what follows a C{QUIT} is not sent.
        """
        ended = await self.run_("send", self.host, typed=b"NOOP\nQUIT\nECHO late\n")
        self.assertRegex(ended.output, r"\A200 OK\n221 bye.*\n\Z")
        self.assertEqual(("", 0), (ended.errors, ended.status))

    async def test_slowInput(self) -> None:
        """
        Each reply is there before the next line need be.
        """
        output = await self.shell(
            "import subprocess, sys\n"
            "p = subprocess.Popen(sys.argv[1:], stdin=-1, stdout=-1, bufsize=0)\n"
            "for n in range(3):\n"
            "    p.stdin.write(b'ECHO %d\\n' % n); print(p.stdout.readline())\n"
            "p.stdin.close(); print(p.stdout.read(), p.wait())\n"
        )
        self.assertEqual("b'200 0\\n'\nb'200 1\\n'\nb'200 2\\n'\nb'' 0\n", output)

    async def test_idle(self) -> None:
        """
        If the service ends the session while input could still come, that is
        shown at once, and the command fails.
        """
        output = await self.shell(
            "import subprocess, sys\n"
            "p = subprocess.Popen(sys.argv[1:], stdin=-1, stdout=-1)\n"
            "print(p.stdout.read(), p.wait())\n"
        )
        self.assertTrue(re.match(r"b'421 IDLE-TIMEOUT .*\\n' 1\n", output), output)

    async def test_brokenPipe(self) -> None:
        """
        If nobody reads the replies, the command ends quietly.
        """
        output = await self.shell(
            "import subprocess, sys\n"
            "p = subprocess.Popen(sys.argv[1:], stdin=-1, stdout=-1, stderr=-1)\n"
            "p.stdout.close(); p.stdin.write(b'NOOP\\n'); p.stdin.flush()\n"
            "print(p.wait(), p.stderr.read())\n"
        )
        self.assertEqual("141 b''\n", output)

    async def test_outputFull(self) -> None:
        """
        That replies cannot be written is said, and exit status 74.
        """
        output = await self.shell(
            "import subprocess, sys\n"
            "p = subprocess.run([*sys.argv[1:], 'NOOP'], stdout=open('/dev/full', 'w'),"
            " stderr=-1)\n"
            "print(p.returncode, p.stderr)\n"
        )
        self.assertEqual("74 b'tcpsvc: No space left on device\\n'\n", output)

    async def test_outputClosed(self) -> None:
        """
        So it is if standard output, or the input that is wanted, was closed.
        """
        for redirection, words, status in (
            (">&-", "'NOOP'", 74),
            ("<&-", "'-'", 74),
            ("<&-", "'NOOP'", 0),
        ):
            output = await self.shell(
                "import subprocess, sys\n"
                f"p = subprocess.run(['sh', '-c', 'exec \"$@\" {redirection}', 'sh', "
                f"*sys.argv[1:], {words}], stdout=-1, stderr=-1)\n"
                "print(p.returncode, p.stderr.decode())\n"
            )
            error = "tcpsvc: Bad file descriptor\n" if status else ""
            self.assertEqual(f"{status} {error}\n", output)

    async def test_endedByCommand(self) -> None:
        """
        If a command ends the session, that is no trouble but for what comes
        behind it.
        """
        ended = await self.run_("send", self.host, "LOGOUT")
        self.assertEqual(
            ("200 logged out\n", "", 0), (ended.output, ended.errors, ended.status)
        )
        ended = await self.run_("send", self.host, "LOGOUT", "NOOP")
        self.assertEqual(
            (
                "200 logged out\n",
                "tcpsvc: the service ended the session; 1 request has no reply\n",
                1,
            ),
            (ended.output, ended.errors, ended.status),
        )

    async def test_endless(self) -> None:
        """
        A line for which the service ends the session is answered, and what
        follows is said to be not.
        """
        ended = await self.run_(
            "send", self.host, "-", "NOOP", typed=b"x" * (MAX_UNENDED_OCTETS + 1)
        )
        self.assertRegex(ended.output, r"\A500 LINE-TOO-LONG .*\n\Z")
        self.assertRegex(ended.errors, r"\Atcpsvc: the service ended the session.*\n\Z")
        self.assertEqual(1, ended.status)

    async def shell(self, code: str) -> str:
        """
        What a Python program prints that runs C{tcpsvc send} as C{sys.argv[1:]}.
        """
        from twisted.internet.utils import getProcessOutputAndValue

        command = [sys.executable, *COMMAND, "send", self.host]
        output, errors, _ = await getProcessOutputAndValue(
            sys.executable, ["-c", code, *command], env=self.environment
        )
        self.assertEqual(b"", errors)
        return cast(bytes, output).decode()
