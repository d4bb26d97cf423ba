"""
Tests for L{tcpsvc.cli.connect} and L{tcpsvc.cli.stdio}.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from threading import Thread
from typing import IO, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tcpsvc.cli import QuietEnd
from tcpsvc.cli.connect import join
from tcpsvc.cli.running import Interruption
from tcpsvc.cli.stdio import MAX_UNWRITTEN_OCTETS, StandardStreams
from tcpsvc.client import Busy, CannotReach
from tests.clientside import COMMAND, LiveTestCase, commandEnvironment
from tests.streamside import BUSY, OF_GATEWAY, StreamTestCase, core, until

EVERY = bytes(range(256))


class Kept(Protocol):
    """
    A protocol that keeps what happens to it.
    """

    def __init__(self) -> None:
        self.octets = bytearray()
        self.ended = False
        self.lost: Deferred[object] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.octets += data

    def readConnectionLost(self) -> None:
        """Keep that it ended."""
        self.ended = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep why."""
        self.lost.callback(reason.value)


@implementer(IPushProducer)
class Pace:
    """
    A producer that keeps what it is told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        """Keep that."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """Keep that."""
        self.told.append("resume")

    def stopProducing(self) -> None:
        """Keep that."""


def isIdle(streams: StandardStreams) -> bool:
    """
    Whether no chunk of the input is being read.
    """
    return not streams._asked


class StandardStreamsTests(TestCase):
    """
    Tests for L{StandardStreams}, with pipes and socket pairs in the place of
    standard input and output.
    """

    timeout = 30

    def setUp(self) -> None:
        """
        Nothing is open.
        """
        self.kept = Kept()
        self._open: set[int] = set()
        self.addCleanup(self.closeAll)

    def opened(self, *descriptors: int) -> tuple[int, ...]:
        """
        Close these at the end.
        """
        self._open.update(descriptors)
        return descriptors

    def closeAll(self) -> None:
        """
        Close whatever is open.
        """
        for descriptor in list(self._open):
            self.close(descriptor)

    def close(self, descriptor: int) -> None:
        """
        Close one, once.
        """
        if descriptor in self._open:
            self._open.remove(descriptor)
            os.close(descriptor)

    def pipes(self) -> tuple[StandardStreams, int, int]:
        """
        @return: The streams, where to write their input and read their output.
        """
        theirInput, typed = self.opened(*os.pipe())
        shown, theirOutput = self.opened(*os.pipe())
        return self.streams(theirInput, theirOutput, typed), typed, shown

    def pair(self) -> tuple[StandardStreams, int]:
        """
        @return: The streams, and the other end of their one socket.
        """
        theirs, ours = (each.detach() for each in socket.socketpair())
        self.opened(theirs, ours)
        return self.streams(theirs, theirs, ours), ours

    def streams(
        self, theirInput: int, theirOutput: int, other: int | None = None
    ) -> StandardStreams:
        """
        @param other: The other end of the input. It is closed first, and then nobody
            reads the input any more: its descriptor will be another's.
        @return: The streams, which will have ended before all is closed.
        """
        streams = StandardStreams(core, self.kept, theirInput, theirOutput)
        kept = self.kept

        async def end() -> None:
            streams._unwritten = 0
            streams.loseConnection()
            await until(lambda: kept.lost.called)
            if other is not None:
                self.close(other)
                await until(lambda: not streams._asked)

        self.addCleanup(lambda: Deferred.fromCoroutine(end()))
        return streams

    async def test_bothWays(self) -> None:
        """
        Octets pass as they are; input is read only when that is wanted.
        """
        streams, typed, shown = self.pipes()
        os.write(typed, EVERY)
        await deferToThread(lambda: None)
        self.assertEqual(b"", self.kept.octets)
        streams.resumeProducing()
        await until(lambda: self.kept.octets == EVERY)
        streams.write(EVERY[::-1])
        self.assertEqual(EVERY[::-1], await deferToThread(os.read, shown, 1000))

    async def test_paused(self) -> None:
        """
        While paused at most the chunk that was asked for is read.
        """
        streams, typed, _ = self.pipes()
        streams.resumeProducing()
        streams.pauseProducing()
        os.write(typed, b"a")
        await until(lambda: self.kept.octets == b"a")
        os.write(typed, b"b")
        await deferToThread(lambda: None)
        self.assertTrue(select.select([streams._descriptors[0]], [], [], 0)[0])
        streams.resumeProducing()
        await until(lambda: self.kept.octets == b"ab")

    async def test_file(self) -> None:
        """
        Regular files will do; the end of the input leaves the output open.
        """
        source, sink = Path(self.mktemp()), Path(self.mktemp())
        source.write_bytes(EVERY * 1000)
        (theirInput,) = self.opened(os.open(source, os.O_RDONLY))
        (theirOutput,) = self.opened(os.open(sink, os.O_WRONLY | os.O_CREAT))
        streams = self.streams(theirInput, theirOutput)
        streams.resumeProducing()
        await until(lambda: self.kept.ended)
        self.assertEqual(EVERY * 1000, self.kept.octets)
        streams.write(EVERY * 1000)
        streams.loseConnection()
        self.assertIsInstance(await self.kept.lost, ConnectionDone)
        self.assertEqual(EVERY * 1000, sink.read_bytes())

    async def test_nobodyReads(self) -> None:
        """
        The producer is paused while the output takes nothing, and goes on when
        it does; all is written before the end.
        """
        streams, _, shown = self.pipes()
        pace = Pace()
        streams.registerProducer(pace, True)
        sent = 0
        while not pace.told:
            streams.write(b"a" * 10_000)
            sent += 10_000
        self.assertLessEqual(sent, MAX_UNWRITTEN_OCTETS + 10_000)
        streams.loseConnection()
        got = 0
        while got < sent:
            got += len(await deferToThread(os.read, shown, 65536))
        await self.kept.lost
        self.assertEqual(["pause", "resume"], pace.told)

    async def test_nonBlocking(self) -> None:
        """
        It does not matter if somebody has made the descriptors non-blocking.
        """
        streams, typed, shown = self.pipes()
        for descriptor in streams._descriptors:
            os.set_blocking(descriptor, False)
        streams.resumeProducing()
        await deferToThread(lambda: None)
        os.write(typed, b"a")
        await until(lambda: self.kept.octets == b"a")
        streams.write(b"b" * 200_000)
        got = 0
        while got < 200_000:
            got += len(await deferToThread(os.read, shown, 65536))

    async def test_readerGoes(self) -> None:
        """
        It is noticed that nobody reads any more, also when nothing is written
        and nothing typed.
        """
        streams, _, shown = self.pipes()
        streams.resumeProducing()
        self.close(shown)
        self.assertIsInstance(await self.kept.lost, BrokenPipeError)

    async def test_bothGo(self) -> None:
        """
        If the writer of the input is gone as well, what it said is carried to
        its end before.
        """
        streams, typed, shown = self.pipes()
        streams.resumeProducing()
        streams.pauseProducing()
        os.write(typed, b"a")
        await until(lambda: self.kept.octets == b"a")
        os.write(typed, b"last words")
        self.close(typed)
        self.close(shown)
        await deferToThread(lambda: None)
        self.assertNoResult(self.kept.lost)
        streams.resumeProducing()
        self.assertIsInstance(await self.kept.lost, BrokenPipeError)
        self.assertEqual(b"alast words", self.kept.octets)

    async def test_unread(self) -> None:
        """
        It is known how much of the input was not taken: what is left of a file, what
        waits in a pipe, and a chunk that was read when nobody wanted it any more. What
        was typed ahead on a terminal is for the next program.
        """
        source = Path(self.mktemp())
        source.write_bytes(b"a" * 200_000)
        (file,) = self.opened(os.open(source, os.O_RDONLY))
        os.read(file, 50_000)
        pipe, writing = self.opened(*os.pipe())
        os.write(writing, b"left")
        typed, terminal = self.opened(*os.openpty())
        os.write(typed, b"ls\n")
        (sink,) = self.opened(os.open(os.devnull, os.O_WRONLY))
        for theirInput, expected in ((file, 150_000), (pipe, 4), (terminal, 0)):
            self.kept = Kept()
            streams = self.streams(theirInput, sink)
            self.assertEqual(expected, streams.unread)
            if theirInput == file:
                streams.resumeProducing()
            streams.loseConnection()
            await self.kept.lost
            await until(partial(isIdle, streams))
            self.assertEqual(expected, streams.unread)
            self.assertEqual(b"", self.kept.octets)

    async def test_socketCloses(self) -> None:
        """
        One socket that is closed, as gdb does it, is a good end, after its last
        words; there is no half of it to go on with.
        """
        streams, ours = self.pair()
        streams.resumeProducing()
        os.write(ours, b"$k#6b")
        self.close(ours)
        self.assertIsInstance(await self.kept.lost, ConnectionDone)
        self.assertEqual(b"$k#6b", self.kept.octets)
        self.assertFalse(self.kept.ended)

    async def test_socketClosesUnread(self) -> None:
        """
        If not all could be written to it, something was missed.
        """
        streams, ours = self.pair()
        streams.write(b"a" * (1 << 20))
        streams.resumeProducing()
        os.write(ours, b"b")
        await until(lambda: self.kept.octets == b"b")
        self.close(ours)
        self.assertIsInstance(await self.kept.lost, BrokenPipeError)

    async def test_socketResets(self) -> None:
        """
        The reset that unread octets make of the close is no trouble with the
        input.
        """
        streams, ours = self.pair()
        streams.write(b"a")
        await until(lambda: not streams._unwritten)
        streams.resumeProducing()
        self.close(ours)
        self.assertIsInstance(await self.kept.lost, ConnectionDone)

    async def test_socketHalf(self) -> None:
        """
        A socket that is closed for writing only is still read from.
        """
        streams, ours = self.pair()
        streams.resumeProducing()
        with socket.socket(fileno=os.dup(ours)) as end:
            end.shutdown(socket.SHUT_WR)
        await until(lambda: self.kept.ended)
        streams.write(b"a")
        self.assertEqual(b"a", await deferToThread(os.read, ours, 10))

    async def test_goneBefore(self) -> None:
        """
        If both go before anything is read, that is the end at once.
        """
        _, typed, shown = self.pipes()
        self.close(typed)
        self.close(shown)
        self.assertIsInstance(await self.kept.lost, BrokenPipeError)

    async def test_full(self) -> None:
        """
        What cannot be written, or read, is said of the right one.
        """
        theirInput, _ = self.opened(*os.pipe())
        (full,) = self.opened(os.open("/dev/full", os.O_WRONLY))
        self.streams(theirInput, full).write(b"a")
        error: Any = await self.kept.lost
        self.assertEqual("standard output", error.filename)
        self.kept = Kept()
        (directory,) = self.opened(os.open("/", os.O_RDONLY))
        self.streams(directory, full).resumeProducing()
        error = await self.kept.lost
        self.assertEqual("standard input", error.filename)

    async def test_noThread(self) -> None:
        """
        If no thread can be started to read or to write with, the streams end with
        that as the reason: nobody waits for what never comes.
        """

        def refuse(_: Thread) -> None:
            raise RuntimeError("can't start new thread")

        for use in (
            lambda streams: streams.resumeProducing(),
            lambda streams: streams.write(b"a"),
        ):
            self.kept = Kept()
            streams, _, _ = self.pipes()
            refused = self.patch(Thread, "start", refuse)
            use(streams)
            refused.restore()
            reason = await self.kept.lost
            assert isinstance(reason, OSError)
            self.assertEqual("can't start new thread", reason.strerror)
            self.assertIn("standard ", str(reason.filename))


class JoinTests(StreamTestCase):
    """
    Tests for L{join}, with a service on loopback.
    """

    def setUp(self) -> None:
        """
        Make pipes.
        """
        super().setUp()
        self.theirInput, self.typed = os.pipe()
        self.shown, self.theirOutput = os.pipe()
        self.interruption = Interruption()
        self.told: list[str] = []
        self._closed: set[int] = set()
        for each in (self.theirInput, self.typed, self.shown, self.theirOutput):
            self.addCleanup(self.close, each)

    def close(self, descriptor: int) -> None:
        """
        Close one, once.
        """
        if descriptor not in self._closed:
            self._closed.add(descriptor)
            os.close(descriptor)

    def join(self, linger: float = 1.0, wait: float | None = None) -> Deferred[int]:
        """
        Join the pipes to the service.
        """
        return Deferred.fromCoroutine(
            join(
                self.service.target(wait),
                linger,
                core,
                self.interruption,
                self.theirInput,
                self.theirOutput,
                self.told.append,
            )
        )

    async def test_gatewayCloses(self) -> None:
        """
        A gateway cannot say among the octets of its device that it ends the
        session: that is said in a line.
        """
        self.service.greetings.append(OF_GATEWAY)
        joining = self.join()
        server = await self.service.connections.get()
        server.say(EVERY)
        server.close()
        self.assertEqual(0, await joining)
        self.assertEqual(EVERY, os.read(self.shown, 1000))
        self.assertEqual(1, len(self.told))
        self.assertRegex(
            self.told[0], r"\Athe service closed the session after [0-9]+ s: [^\n]+\Z"
        )

    async def test_endsWithGateway(self) -> None:
        """
        Nothing is said if the program that uses it comes to its end with the
        session, just after the gateway has closed.
        """
        self.service.greetings.append(OF_GATEWAY)
        joining = self.join()
        server = await self.service.connections.get()
        server.close()
        await server.gone
        self.close(self.typed)
        self.assertEqual(0, await joining)
        self.assertEqual([], self.told)

    async def test_bothWays(self) -> None:
        """
        Octets pass as they are, without the greeting. When the service closes,
        all that it said is written, and the exit status is 0. A service of
        commands has said itself that it does.
        """
        joining = self.join()
        server = await self.service.connections.get()
        os.write(self.typed, EVERY)
        await until(lambda: server.received == EVERY)
        server.say(EVERY[::-1])
        server.close()
        self.assertEqual(0, await joining)
        self.assertEqual(EVERY[::-1], os.read(self.shown, 1000))
        self.assertEqual([], self.told)

    async def test_linger(self) -> None:
        """
        At the end of the input the service is copied until it is silent, and
        then closed in good order.
        """
        joining = self.join(linger=0.3)
        server = await self.service.connections.get()
        os.write(self.typed, b"last")
        self.close(self.typed)
        await until(lambda: server.received == b"last")
        server.say(b"answer")
        self.assertEqual(0, await joining)
        self.assertIsInstance(await server.gone, ConnectionDone)
        self.assertEqual(b"answer", os.read(self.shown, 1000))

    async def test_noLinger(self) -> None:
        """
        With 0 it is closed at the end of the input, after all that was typed.
        """
        joining = self.join(linger=0)
        server = await self.service.connections.get()
        os.write(self.typed, EVERY)
        self.close(self.typed)
        self.assertEqual(0, await joining)
        self.assertEqual(EVERY, server.received)

    async def test_lost(self) -> None:
        """
        A lost connection is not an end like others, but what came before it is
        written.
        """
        joining = self.join()
        server = await self.service.connections.get()
        server.say(b"half a wo")
        self.assertEqual(b"half a wo", await deferToThread(os.read, self.shown, 1000))
        server.cut()
        problem = await self.assertFailure(joining, CannotReach)
        self.assertIn("was lost", str(problem))

    async def test_readerGone(self) -> None:
        """
        When nobody reads the output any more, the service is left in good order,
        even if it says nothing.
        """
        joining = self.join()
        server = await self.service.connections.get()
        os.write(self.typed, b"a")
        await until(lambda: server.received)
        self.close(self.shown)
        await self.assertFailure(joining, BrokenPipeError)
        self.assertIsInstance(await server.gone, ConnectionDone)

    async def test_busy(self) -> None:
        """
        A busy service is C{Busy}.
        """
        self.service.greetings.append(BUSY)
        await self.assertFailure(self.join(), Busy)

    async def test_wait(self) -> None:
        """
        With C{--wait} it is tried again; nothing of the input is lost.
        """
        self.service.greetings += [BUSY, BUSY]
        os.write(self.typed, EVERY)
        joining = self.join(wait=20)
        for _ in range(3):
            server = await self.service.connections.get()
        await until(lambda: server.received == EVERY)
        server.close()
        self.assertEqual(0, await joining)

    async def test_readerGoneWhileWaiting(self) -> None:
        """
        Nobody waits for a service whose output nobody would read.
        """
        self.service.greetings += [BUSY] * 1000
        joining = self.join(wait=1000)
        await self.service.connections.get()
        self.close(self.shown)
        await self.assertFailure(joining, BrokenPipeError)

    async def test_interrupt(self) -> None:
        """
        Ctrl-C closes in good order, also if nobody reads what there is to write;
        the next one would exit at once.
        """
        joining = self.join()
        server = await self.service.connections.get()
        server.say(b"a" * 150_000)
        await deferToThread(select.select, [self.shown], [], [])
        self.interruption.answer()
        self.assertEqual(self.interruption.exit, self.interruption.answer)
        problem: Any = await self.assertFailure(joining, QuietEnd)
        self.assertEqual(130, problem.status)
        self.assertIsInstance(await server.gone, ConnectionDone)
        left = 150_000
        while left:  # The thread that writes has to end before its pipe does.
            left -= len(await deferToThread(os.read, self.shown, 65536))


class ProcessTests(StreamTestCase):
    """
    C{tcpsvc connect} as a process.
    """

    def started(
        self, *words: str, before: str = "", **options: Any
    ) -> subprocess.Popen[bytes]:
        """
        Start it.

        @param before: What the process does before, in Python.
        """
        options.setdefault("stdin", subprocess.PIPE)
        options.setdefault("stdout", subprocess.PIPE)
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                before + COMMAND[1],
                "connect",
                self.service.host,
                *words,
            ],
            stderr=subprocess.PIPE,
            env=commandEnvironment(TCPSVC_KEYS=str(self.path), TCPSVC_IDENTITY="alice"),
            **options,
        )

        def end() -> None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

        self.addCleanup(end)
        return process

    async def ended(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes, int]:
        """
        What it said until it ended, and its exit status.
        """
        output, errors = await deferToThread(process.communicate)
        return output or b"", errors, process.returncode

    async def test_refused(self) -> None:
        """
        A refusal is one line on standard error and exit status 75; standard
        output stays empty.
        """
        self.service.greetings.append(BUSY)
        output, errors, status = await self.ended(self.started())
        self.assertEqual((b"", 75), (output, status))
        self.assertRegex(errors, rb"\Atcpsvc: held by bob since .*\n\Z")

    async def test_lost(self) -> None:
        """
        A lost connection is one line on standard error and exit status 69.
        """
        process = self.started()
        server = await self.service.connections.get()
        server.cut()
        _, errors, status = await self.ended(process)
        self.assertEqual(69, status)
        self.assertEqual(b"tcpsvc: the connection to the service was lost\n", errors)

    async def test_serviceCloses(self) -> None:
        """
        A gateway that closes is one line on standard error and exit status 0.
        """
        self.service.greetings.append(OF_GATEWAY)
        process = self.started()
        server = await self.service.connections.get()
        server.close()
        await server.gone
        status = await deferToThread(process.wait)
        _, errors = process.communicate()
        self.assertEqual(0, status)
        self.assertRegex(errors, rb"\Atcpsvc: the service closed the session .*\n\Z")

    async def test_brokenPipe(self) -> None:
        """
        Nobody to read is exit status 141, without a word.
        """
        process = self.started()
        await self.service.connections.get()
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        status = await deferToThread(process.wait)
        assert process.stderr is not None
        self.assertEqual((141, b""), (status, process.stderr.read()))

    async def test_interrupted(self) -> None:
        """
        Ctrl-C is exit status 130, without a word, and a close in good order.
        """
        process = self.started(
            before="import signal as s; s.signal(s.SIGINT, s.SIG_DFL); "
        )
        server = await self.service.connections.get()
        assert process.stdin is not None
        os.write(process.stdin.fileno(), b"a")
        await until(lambda: server.received)
        process.send_signal(signal.SIGINT)
        self.assertIsInstance(await server.gone, ConnectionDone)
        self.assertEqual((b"", b"", 130), await self.ended(process))

    async def test_terminated(self) -> None:
        """
        So do SIGTERM and SIGHUP, also both together, without waiting for what a
        linger waits for; and they end it as they always do.
        """
        for numbers in (
            (signal.SIGTERM,),
            (signal.SIGHUP,),
            (signal.SIGTERM, signal.SIGHUP),
        ):
            process = self.started("--linger", "inf")
            server = await self.service.connections.get()
            assert process.stdin is not None
            os.write(process.stdin.fileno(), b"a")
            process.stdin.close()
            process.stdin = None
            await until(partial(len, server.received))
            for number in numbers:
                process.send_signal(number)
            self.assertIsInstance(await server.gone, ConnectionDone)
            output, errors, status = await self.ended(process)
            self.assertEqual((b"", b""), (output, errors))
            self.assertIn(-status, numbers)

    async def test_ignored(self) -> None:
        """
        If Ctrl-C was ignored before, as it is in the background, it still is.
        """
        process = self.started(
            before="import signal as s; s.signal(s.SIGINT, s.SIG_IGN); "
        )
        server = await self.service.connections.get()
        process.send_signal(signal.SIGINT)
        server.say(b"still here")
        server.close()
        self.assertEqual((b"still here", b"", 0), await self.ended(process))

    async def test_closedInput(self) -> None:
        """
        An input that was closed before is at its end: what the service says is
        shown until it is silent.
        """
        process = self.started("--linger", "0.3", before="import os; os.close(0); ")
        server = await self.service.connections.get()
        server.say(b"a" * 100_000)
        self.assertEqual((b"a" * 100_000, b"", 0), await self.ended(process))
        self.assertEqual(b"", server.received)

    async def test_closedOutput(self) -> None:
        """
        An output that was closed before cannot be written to; nothing that was
        meant for it goes anywhere else.
        """
        process = self.started(before="import os; os.close(0); os.close(1); ")
        server = await self.service.connections.get()
        server.say(b"a" * 100_000)
        _, errors, status = await self.ended(process)
        self.assertEqual(74, status)
        self.assertEqual(b"tcpsvc: standard output: Bad file descriptor\n", errors)
        self.assertEqual(b"", server.received)

    async def test_terminal(self) -> None:
        """
        A terminal will do for both; hanging it up ends the session.
        """
        ours, theirs = os.openpty()
        process = self.started(stdin=theirs, stdout=theirs)
        os.close(theirs)
        server = await self.service.connections.get()
        os.write(ours, b"typed\n")
        await until(lambda: server.received == b"typed\n")
        server.say(b"shown\n")
        got = b""
        while b"shown" not in got:
            got += await deferToThread(os.read, ours, 100)
        os.close(ours)
        await server.gone
        await deferToThread(process.wait)

    async def test_socket(self) -> None:
        """
        One socket as both, as gdb and socat have it: its close ends the session
        at once, after the last words.
        """
        ours, theirs = socket.socketpair()
        process = self.started("--linger", "inf", stdin=theirs, stdout=theirs)
        theirs.close()
        server = await self.service.connections.get()
        server.say(b"OK")
        self.assertEqual(b"OK", await deferToThread(ours.recv, 10))
        ours.sendall(b"$k#6b")
        ours.close()
        self.assertIsInstance(await server.gone, ConnectionDone)
        self.assertEqual(b"$k#6b", server.received)
        self.assertEqual((b"", b"", 0), await self.ended(process))

    async def test_usage(self) -> None:
        """
        Seconds that are none are wrong usage.
        """
        for value in ("-1", "nan", "x"):
            _, _, status = await self.ended(self.started(f"--linger={value}"))
            self.assertEqual(64, status)


class BulkTests(LiveTestCase):
    """
    Much data through C{tcpsvc connect} and a real gateway.
    """

    timeout = 120
    options = ("--gateway", "exec:cat", "--audit-payload", "digest")
    size = 64 << 20

    def measured(self) -> tuple[bool, int, int, int]:
        """
        Send random octets, read nothing until nothing more can be sent, and then
        compare.

        @return: Whether all came back, how much was sent when it stalled, the
            most memory in KiB, the exit status.
        """
        octets = os.urandom(self.size)
        process = subprocess.Popen(
            [sys.executable, *COMMAND, "connect", "--linger", "60", self.host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment,
        )
        typed: Any = process.stdin
        shown: Any = process.stdout
        os.set_blocking(typed.fileno(), False)
        sent = 0
        while select.select([], [typed], [], 2.0)[1]:
            sent += os.write(typed.fileno(), octets[sent : sent + 65536])
            if sent == self.size:
                break
        os.set_blocking(typed.fileno(), True)
        rest = Thread(target=_sendAll, args=(typed, octets[sent:]))
        rest.start()
        got = bytearray()
        while len(got) < self.size and (chunk := os.read(shown.fileno(), 1 << 20)):
            got += chunk
        rest.join()
        status = Path(f"/proc/{process.pid}/status").read_text()
        memory = re.search(r"VmHWM:\s+([0-9]+) kB", status)
        assert memory is not None
        process.send_signal(signal.SIGINT)
        shown.close()
        return got == octets, sent, int(memory[1]), process.wait()

    async def test_slowReader(self) -> None:
        """
        64 MiB go out and come back as they were. While nobody reads, no more is
        taken than buffers hold, and memory stays small.
        """
        same, stalled, memory, status = await deferToThread(self.measured)
        self.assertTrue(same)
        self.assertLess(stalled, 40 << 20)
        self.assertLess(memory, 100 << 10)
        # 0 if it has ended by itself before: the gateway's program has.
        self.assertIn(status, (0, 130, 141))


def _sendAll(typed: IO[bytes], octets: bytes) -> None:
    """
    Write it all.
    """
    typed.write(octets)
    typed.close()
