"""
Tests for L{tcpsvc.endpoints.program}, L{tcpsvc.endpoints.processes} and
L{tcpsvc.endpoints.complaints}: with real programs.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpsvc.endpoints import program
from tcpsvc.endpoints.complaints import MAX_LINE, MAX_LINES, Complaints
from tcpsvc.endpoints.processes import signalSession
from tcpsvc.endpoints.program import (
    END_PATIENCE,
    KILL_PATIENCE,
    Program,
    ProgramEndpoint,
    parseProgram,
)
from tcpsvc.interfaces import IHalfCloseable
from tests.support import LogLines

reactor: Any = globalReactor

PATIENCE = 20.0
"""
Seconds that a test waits for what ought to happen soon.
"""

HERE = Path(__file__).resolve().parent.parent


@implementer(IHalfCloseableProtocol)
class Listener(Protocol):
    """
    Keeps what a program says.

    @ivar ended: Fires when its standard output has ended.
    @ivar lost: Fires when the connection is closed.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = bytearray()
        self.ended: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self._wanted: list[tuple[Callable[[bytes], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.got += data
        for wanted in self._wanted[:]:
            test, done = wanted
            if test(bytes(self.got)):
                self._wanted.remove(wanted)
                done.callback(None)

    def until(self, test: Callable[[bytes], bool]) -> Deferred[None]:
        """Wait until what was said is right."""
        done: Deferred[None] = Deferred()
        if test(bytes(self.got)):
            done.callback(None)
        else:
            self._wanted.append((test, done))
        return done.addTimeout(PATIENCE, reactor)

    def readConnectionLost(self) -> None:
        """There will be no more."""
        self.ended.callback(None)

    def writeConnectionLost(self) -> None:
        """Our half is closed."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.lost.callback(None)


def words(description: str) -> tuple[str, ...]:
    """
    What an endpoint string starts.
    """
    endpoint = clientFromString(reactor, description)
    assert isinstance(endpoint, ProgramEndpoint)
    return endpoint.words


class ParseTests(SynchronousTestCase):
    """
    C{exec:} and a command.
    """

    def test_quoting(self) -> None:
        """
        Words are quoted as in a shell; nothing in them has a meaning for one.
        """
        for description, expected in (
            ("exec:cat", ("cat",)),
            ("exec:cat  -u\t-", ("cat", "-u", "-")),
            ("exec:sh -c 'a b' \"c d\" ''", ("sh", "-c", "a b", "c d", "")),
            ('exec:sh -c "it\'s; $HOME | *"', ("sh", "-c", "it's; $HOME | *")),
            ("exec:cat #1", ("cat", "#1")),
        ):
            self.assertEqual(expected, words(description), description)

    def test_colons(self) -> None:
        """
        A colon needs no backslash, but may have one.
        """
        expected = ("cat", "a:b", "::", "c")
        self.assertEqual(expected, words("exec:cat a:b :: c"))
        self.assertEqual(expected, words(r"exec:cat a\:b \:\: c"))

    def test_backslash(self) -> None:
        """
        A backslash for the program is doubled for the endpoint string, and once
        more where a shell would want that.
        """
        self.assertEqual(("cat", r"a\nb"), words(r"exec:cat 'a\\nb'"))
        self.assertEqual(("cat", "a b"), words(r"exec:cat a\\ b"))

    def test_equals(self) -> None:
        """
        An equals sign needs a backslash; without, the error shows where.
        """
        self.assertEqual(("env", "A=1", "cat"), words(r"exec:env A\=1 cat"))
        self.assertEqual(("cat", "a:b=c"), words(r"exec:cat a:b\=c"))
        error = self.assertRaises(ValueError, words, "exec:env A=1 cat")
        self.assertEqual(r"exec: write env A\=1 cat with that backslash", str(error))

    def test_path(self) -> None:
        """
        A path is made absolute, as the service may go to another directory; a
        name is left for PATH.
        """
        here = Path(self.mktemp())
        here.mkdir()
        (here / "thing").write_text("#!/bin/sh\n")
        (here / "thing").chmod(0o755)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(here)
        self.assertEqual((str(Path.cwd() / "thing"), "-v"), words("exec:./thing -v"))

    def test_bad(self) -> None:
        """
        What cannot be started is one line, when the string is read.
        """
        file = Path(self.mktemp()).absolute()
        file.touch(0o600)
        for description, why in (
            ("exec:nosuchprogram -v", "exec: there is no program nosuchprogram"),
            ("exec:/nosuch/program", "exec: there is no program /nosuch/program"),
            (f"exec:{file}", f"exec: there is no program {file}"),
            ("exec:", "exec: a command is wanted"),
            ("exec", "exec: a command is wanted"),
            ("exec:''", "exec: a command is wanted"),
            ("exec:cat 'a", "exec: No closing quotation"),
            (r"exec:cat a\\", "exec: No escaped character"),
        ):
            error = self.assertRaises(ValueError, words, description)
            self.assertEqual(why, str(error))

    def test_noSetsid(self) -> None:
        """
        So is a machine without setsid.
        """
        empty = Path(self.mktemp())
        empty.mkdir()
        (empty / "cat").symlink_to("/bin/cat")
        self.patch(os, "environ", {**os.environ, "PATH": str(empty)})
        error = self.assertRaises(ValueError, parseProgram, reactor, "cat")
        self.assertEqual(
            "exec: there is no program setsid (package util-linux)", str(error)
        )


class ProgramTestCase(TestCase):
    """
    Real programs.
    """

    def setUp(self) -> None:
        """
        Listen to the log.
        """
        self.log = LogLines()
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    async def start(self, *command: str) -> Listener:
        """
        Start a program.
        """
        factory = Factory.forProtocol(Listener)
        factory.noisy = False
        leader = "/usr/bin/setsid"
        endpoint = ProgramEndpoint(reactor, leader, command)
        return cast(Listener, await endpoint.connect(factory))

    async def python(self, code: str) -> Listener:
        """
        Start a Python program, isolated so that it starts soon.
        """
        return await self.start(sys.executable, "-ISEc", code)

    async def pids(self, listener: Listener, count: int) -> list[int]:
        """
        The numbers that a program has said, one a line.
        """
        await listener.until(lambda got: got.count(b"\n") >= count)
        return [int(line) for line in listener.got.split()[:count]]

    async def assertGone(self, *pids: int) -> None:
        """
        These processes have ended.
        """
        for _ in range(200):
            if not any(isAlive(pid) for pid in pids):
                return
            await deferLater(reactor, 0.01)
        for pid in pids:
            if isAlive(pid):
                os.kill(pid, signal.SIGKILL)
                self.fail(f"process {pid} has outlived the session")

    async def ended(self, listener: Listener) -> dict[str, object]:
        """
        How it has ended.
        """
        await listener.lost.addTimeout(PATIENCE, reactor)
        outcome: dict[str, object] = listener.transport.outcome
        return outcome


def isAlive(pid: int) -> bool:
    """
    Whether a process runs.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


class StreamTests(ProgramTestCase):
    """
    Octets in and out.
    """

    async def test_interfaces(self) -> None:
        """
        The program is a transport that has halves and can be told to wait.
        """
        listener = await self.start("cat")
        for interface in (ITransport, IPushProducer, IHalfCloseable):
            verifyObject(interface, listener.transport)
        verifyObject(IAddress, listener.transport.getPeer())
        listener.transport.loseConnection()
        self.assertEqual({"exit_status": 0}, await self.ended(listener))

    async def test_bothWays(self) -> None:
        """
        4 MiB of all octets go through C{cat} and come back the same.
        """
        sent = os.urandom(4 * 1024 * 1024)
        listener = await self.start("cat")
        listener.transport.writeSequence([sent[:1000], sent[1000:]])
        listener.transport.loseWriteConnection()
        await listener.ended.addTimeout(PATIENCE, reactor)
        self.assertEqual({"exit_status": 0}, await self.ended(listener))
        self.assertTrue(sent == listener.got, len(listener.got))

    async def test_paused(self) -> None:
        """
        A program that is not read has to wait, and nothing is lost.
        """
        listener = await self.start("head", "-c", "3000000", "/dev/zero")
        listener.transport.pauseProducing()
        await deferLater(reactor, 0.2)
        self.assertLess(len(listener.got), 1_000_000)
        listener.transport.resumeProducing()
        await self.ended(listener)
        self.assertEqual(3_000_000, len(listener.got))

    async def test_producer(self) -> None:
        """
        A program that does not read makes its producer pause; one that has closed
        its input makes it stop.
        """
        calls: list[str] = []

        @implementer(IPushProducer)
        class Producer:
            def pauseProducing(self) -> None:
                calls.append("pause")

            def resumeProducing(self) -> None:
                calls.append("resume")

            def stopProducing(self) -> None:
                calls.append("stop")

        listener = await self.start("sh", "-c", "sleep 0.2; exec 0<&-; echo; sleep 60")
        listener.transport.registerProducer(Producer(), True)
        listener.transport.write(b"x" * 1_000_000)
        self.assertEqual(["pause"], calls)
        await listener.until(bool)
        listener.transport.write(b"y")
        await deferLater(reactor, 0.1)
        self.assertEqual(["pause", "stop"], calls)
        listener.transport.unregisterProducer()
        listener.transport.registerProducer(Producer(), True)
        self.assertEqual(["pause", "stop", "stop"], calls)
        listener.transport.abortConnection()
        await self.ended(listener)

    async def test_environment(self) -> None:
        """
        The program has the service's environment and directory.
        """
        self.patch(os, "environ", {**os.environ, "TCPSVC_TEST": "here"})
        listener = await self.start("sh", "-c", 'echo "$TCPSVC_TEST $PWD"')
        await self.ended(listener)
        self.assertEqual(f"here {Path.cwd()}\n".encode(), listener.got)

    async def test_leader(self) -> None:
        """
        The program leads a process group and a session of its own.
        """
        listener = await self.python(
            "import os; print(os.getpid(), os.getpgid(0), os.getsid(0))"
        )
        await self.ended(listener)
        pid, group, session = listener.got.split()
        self.assertEqual((pid, pid), (group, session))


class FailTests(ProgramTestCase):
    """
    What cannot be started.
    """

    async def test_goneMeanwhile(self) -> None:
        """
        A program that is no more when it is to be started cannot be connected to.
        """
        error = await self.assertFailure(self._connect("/nosuch/program"), ConnectError)
        self.assertIn("there is no program /nosuch/program", str(error))

    async def test_noProcess(self) -> None:
        """
        Nor can one that the system does not start.
        """

        def spawnProcess(*arguments: object, **named: object) -> None:
            raise OSError(11, os.strerror(11), str((arguments, named))[:0])

        self.patch(reactor, "spawnProcess", spawnProcess)
        error = await self.assertFailure(self._connect("cat"), ConnectError)
        self.assertIn("cat: Resource temporarily unavailable", str(error))

    async def test_noProtocol(self) -> None:
        """
        A factory that wants none gets none.
        """
        factory: Any = Factory()
        factory.buildProtocol = lambda address: None
        endpoint = ProgramEndpoint(reactor, "/usr/bin/setsid", ("cat",))
        await self.assertFailure(endpoint.connect(factory), ConnectError)

    def _connect(self, program: str) -> Deferred[Any]:
        """
        Try to start a program.
        """
        endpoint = ProgramEndpoint(reactor, "/usr/bin/setsid", (program,))
        return endpoint.connect(Factory.forProtocol(Listener))


class EndTests(ProgramTestCase):
    """
    All that was started ends.
    """

    async def test_status(self) -> None:
        """
        The exit status, or the signal, of a program that ends by itself.
        """
        for code, outcome in (
            ("exit 0", {"exit_status": 0}),
            ("exit 3", {"exit_status": 3}),
            ("kill -9 $$", {"signal": 9}),
        ):
            listener = await self.start("sh", "-c", code)
            self.assertEqual(outcome, await self.ended(listener))

    async def test_inputEnds(self) -> None:
        """
        A program may end by itself when its input does, and has read all of it.
        """
        path = Path(self.mktemp())
        listener = await self.start("sh", "-c", f"cat > {path}; exit 4")
        listener.transport.write(b"last words")
        listener.transport.loseConnection()
        self.assertEqual({"exit_status": 4}, await self.ended(listener))
        self.assertEqual(b"last words", path.read_bytes())

    async def test_outputIsReadAtEnd(self) -> None:
        """
        One that has much to say before it ends is read to its end, even if it was
        not read before.
        """
        listener = await self.start("sh", "-c", "head -c 200000 /dev/zero; exit 5")
        listener.transport.pauseProducing()
        await deferLater(reactor, 0.05)
        listener.transport.loseConnection()
        self.assertEqual({"exit_status": 5}, await self.ended(listener))

    async def test_terminated(self) -> None:
        """
        One that does not is asked to by SIGTERM.
        """
        listener = await self.start("sleep", "600")
        listener.transport.loseConnection()
        self.assertEqual({"signal": 15}, await self.ended(listener))

    async def test_stubborn(self) -> None:
        """
        One that ignores SIGTERM is killed, with all its children, within a bounded
        time, even if its output floods and nobody reads it.
        """
        listener = await self.python(
            "import os, signal, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "child = os.fork()\n"
            "print(os.getpid(), flush=True)\n"
            "while True: os.write(1, b'\\n' * 999 if not child else b' ')\n"
        )
        pids = await self.pids(listener, 2)
        listener.transport.pauseProducing()
        begun = reactor.seconds()
        listener.transport.loseConnection()
        self.assertEqual({"signal": 9}, await self.ended(listener))
        self.assertLess(reactor.seconds() - begun, END_PATIENCE + KILL_PATIENCE + 1)
        await self.assertGone(*pids)

    async def test_stopped(self) -> None:
        """
        So is one that was stopped.
        """
        listener = await self.python("import os; os.kill(0, 19)")
        listener.transport.loseConnection()
        self.assertEqual({"signal": 9}, await self.ended(listener))

    async def test_children(self) -> None:
        """
        When a program ends by itself, the children that it leaves behind are
        killed, even those that have closed its output or forked twice.
        """
        listener = await self.python(
            "import os, time\n"
            "def linger():\n"
            "    print(os.getpid(), flush=True)\n"
            "    for fd in range(3): os.close(fd)\n"
            "    time.sleep(600)\n"
            "if not os.fork(): linger()\n"
            "if not os.fork():\n"
            "    if not os.fork(): linger()\n"
            "    os._exit(0)\n"
            "os.wait(); os.read(0, 1)\n"
        )
        pids = await self.pids(listener, 2)
        self.assertTrue(all(map(isAlive, pids)))
        listener.transport.loseWriteConnection()
        self.assertEqual({"exit_status": 0}, await self.ended(listener))
        await self.assertGone(*pids)

    async def test_ownGroups(self) -> None:
        """
        So are those that have made a process group of their own, as the jobs of an
        interactive shell do; each is asked by SIGTERM first.
        """
        path = Path(self.mktemp()).absolute()
        listener = await self.python(
            "import os, signal, time\n"
            "def asked(*_):\n"
            f"    open({str(path)!r}, 'w').close()\n"
            "if os.fork():\n"
            "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "else:\n"
            "    os.setpgid(0, 0)\n"
            "    signal.signal(signal.SIGTERM, asked)\n"
            "    print(os.getpid(), flush=True)\n"
            "while True: time.sleep(600)\n"
        )
        pids = await self.pids(listener, 1)
        listener.transport.loseConnection()
        self.assertEqual({"signal": 9}, await self.ended(listener))
        await self.assertGone(*pids)
        self.assertTrue(path.exists())

    async def test_outputClosed(self) -> None:
        """
        A program that closes its output and goes on: its end of output is told,
        and it is ended with the connection.
        """
        listener = await self.python(
            "import os, time\nprint(os.getpid(), flush=True)\n"
            "os.close(0); os.close(1); os.close(2); time.sleep(600)"
        )
        await listener.ended.addTimeout(PATIENCE, reactor)
        (pid,) = await self.pids(listener, 1)
        self.assertTrue(isAlive(pid))
        self.assertNoResult(listener.lost)
        listener.transport.loseConnection()
        await self.ended(listener)
        await self.assertGone(pid)

    async def test_daemonHoldsOutput(self) -> None:
        """
        A daemon of a session of its own gets away; but that it holds the program's
        output delays the end only for a bounded time. Nobody is signalled once
        the program has ended: its number may be another's by then.
        """
        signalled: list[signal.Signals] = []

        def signalling(leader: int, number: signal.Signals) -> bool:
            signalled.append(number)
            return signalSession(leader, number)

        self.patch(program, "signalSession", signalling)
        listener = await self.python(
            "import os, time\n"
            "if not os.fork():\n"
            "    os.setsid(); print(os.getpid(), flush=True); time.sleep(600)\n"
            "os.read(0, 1)\n"
        )
        (pid,) = await self.pids(listener, 1)
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        begun = reactor.seconds()
        listener.transport.loseConnection()
        self.assertEqual({"exit_status": 0}, await self.ended(listener))
        self.assertLess(reactor.seconds() - begun, END_PATIENCE + KILL_PATIENCE + 1)
        self.assertEqual([signal.SIGKILL], signalled)

    async def test_abort(self) -> None:
        """
        An abort does not wait, not even right after the start, when there is no
        process group yet.
        """
        listener = await self.start("sleep", "600")
        listener.transport.abortConnection()
        self.assertEqual({"signal": 9}, await self.ended(listener))

    async def test_afterTheEnd(self) -> None:
        """
        What is asked of a program that has ended does nothing and leaves no
        timer.
        """
        listener = await self.start("true")
        await self.ended(listener)
        ended = listener.transport
        ended.write(b"x")
        ended.loseWriteConnection()
        ended.loseConnection()
        ended.stopProducing()
        ended.abortConnection()
        self.assertEqual({"exit_status": 0}, ended.outcome)
        # trial finds what is left in the reactor.

    async def test_stopProducing(self) -> None:
        """
        Whoever wants nothing more of it closes it.
        """
        listener = await self.start("cat")
        listener.transport.stopProducing()
        self.assertEqual({"exit_status": 0}, await self.ended(listener))

    async def test_notOurs(self) -> None:
        """
        Processes that may not be signalled do not keep the others from it.
        """

        def forbidden(pid: int, number: int) -> None:
            raise PermissionError(pid, number)

        self.patch(os, "killpg", forbidden)
        self.assertTrue(signalSession(2**22 + 1, signal.SIGTERM))


class ComplaintsTests(ProgramTestCase):
    """
    Standard error.
    """

    def setUp(self) -> None:
        """
        A clock, and nothing said.
        """
        super().setUp()
        self.clock = Clock()
        clock: Any = self.clock
        self.complaints = Complaints("thing", clock, Logger(observer=self.log))

    def said(self) -> list[str]:
        """
        What the log has of it.
        """
        return [
            line.removeprefix("thing says: ")
            for line in self.log.texts()
            if line.startswith("thing")
        ]

    async def test_program(self) -> None:
        """
        What a real program writes there is in the log, line by line, and not in
        its output.
        """
        listener = await self.start("sh", "-c", "echo out; printf 'a\\nb' >&2")
        await self.ended(listener)
        self.assertEqual(b"out\n", listener.got)
        self.assertEqual(
            ["sh says: a", "sh says: b"],
            [line for line in self.log.texts() if line.startswith("sh says")],
        )

    def test_lines(self) -> None:
        """
        Lines may come in pieces, and end with CR LF; the last needs no end.
        """
        for data in (b"a", b"b\nc\r\n\nd", b"e"):
            self.complaints.feed(data)
        self.assertEqual(["ab", "c", ""], self.said())
        self.complaints.finish()
        self.assertEqual(["ab", "c", "", "de"], self.said())

    def test_escaped(self) -> None:
        """
        Nothing can end a line of the log or move a cursor; other letters stay.
        """
        self.complaints.feed("\x1b[2J\ta\rb \xb5 \xff\u2028\n".encode() + b"\xff\n")
        self.assertEqual(["\\x1b[2J\\ta\\rb \xb5 \xff\\u2028", "\\xff"], self.said())

    def test_format(self) -> None:
        """
        What a program says is never a format.
        """
        self.complaints.feed(b"{line} {0} %s\n")
        self.assertEqual(["{line} {0} %s"], self.said())

    def test_long(self) -> None:
        """
        Of a line that is too long the beginning is logged, once, however it
        comes; the next is whole.
        """
        self.complaints.feed(b"x" * MAX_LINE + b"\n")
        self.complaints.feed(b"y" * (MAX_LINE + 1) + b"\n")
        for _ in range(5):
            self.complaints.feed(b"z" * MAX_LINE)
        self.complaints.feed(b"\nnext\n")
        self.assertEqual(
            [
                "x" * MAX_LINE,
                "y" * MAX_LINE + " [...]",
                "z" * MAX_LINE + " [...]",
                "next",
            ],
            self.said(),
        )

    def test_many(self) -> None:
        """
        Past so many lines in a second they are counted.
        """
        self.complaints.feed(b"x\n" * (MAX_LINES + 7))
        self.assertEqual(["x"] * MAX_LINES, self.said())
        self.clock.advance(1)
        self.complaints.feed(b"y\n")
        self.assertEqual(
            ["thing has said 7 more lines, too many to log", "y"],
            self.said()[MAX_LINES:],
        )
        self.complaints.feed(b"z\n" * MAX_LINES)
        self.complaints.finish()
        self.assertEqual(
            "thing has said 1 more lines, too many to log", self.said()[-1]
        )

    def test_global(self) -> None:
        """
        A program's transport logs to the log of the whole process.
        """
        thing = Program(reactor, Listener(), "thing")
        thing.errReceived(b"x\n")
        self.assertEqual(["x"], self.said())
