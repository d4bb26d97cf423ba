"""
Tests for L{tcpsvc.cli.forward}.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import click
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.cli.forward import (
    Forwarder,
    Local,
    checkTarget,
    listen,
    parseLocal,
    whereOf,
)
from tcpsvc.cli.options import Target
from tcpsvc.client import BadAddress, CannotReach, ConfigurationError
from tests.clientside import COMMAND, LiveTestCase, commandEnvironment
from tests.streamside import BUSY, StreamServer, StreamTestCase, core, until

DEFAULT = "import signal as s; s.signal(s.SIGINT, s.SIG_DFL); "
"""
What a process does first, so that Ctrl-C works also if it does not for the tests.
"""

EVERY = bytes(range(256))


class ParseLocalTests(SynchronousTestCase):
    """
    Tests for L{parseLocal}.
    """

    def test_good(self) -> None:
        """
        A port alone, with an address of the loopback interface, and a path.
        """
        for text, local in (
            ("5025", Local("127.0.0.1", 5025)),
            ("0", Local("127.0.0.1", 0)),
            ("127.0.0.1:5025", Local("127.0.0.1", 5025)),
            ("127.0.0.53:5025", Local("127.0.0.53", 5025)),
            ("localhost:5025", Local("127.0.0.1", 5025)),
            ("LocalHost:65535", Local("127.0.0.1", 65535)),
            ("[::1]:5025", Local("::1", 5025)),
            ("unix:/run/scope", Local(path="/run/scope")),
            ("unix:a b:c", Local(path="a b:c")),
        ):
            self.assertEqual(local, parseLocal(text), text)

    def test_bad(self) -> None:
        """
        Whatever leads out of this machine, and what is nothing of the kind.
        """
        for text in (
            "0.0.0.0:5025",
            "[::]:5025",
            "192.0.2.1:5025",
            "bench.example:5025",
            "[::ffff:192.0.2.1]:5025",
            "::1:5025",
            ":5025",
            "127.0.0.1",
            "127.0.0.1:",
            "65536",
            "-1",
            "",
            "unix:",
            "unix:a\0b",
            "tcp:5025",
        ):
            self.assertRaises(click.BadParameter, parseLocal, text)

    def test_advice(self) -> None:
        """
        What was meant is guessed where that is easy.
        """
        for text, advice in (
            ("/run/scope", "did you mean 'unix:/run/scope'?"),
            ("tcp:5025", "did you mean '5025'?"),
            (":5025", "did you mean '127.0.0.1:5025'?"),
            ("5025:bench:4433", "did you mean two words, '5025 bench:4433'?"),
            ("::1:5025", "did you mean '[::1]:5025'?"),
            ("localhost", "as in 'localhost:5025'"),
            ("127.0.0.1:", "as in '127.0.0.1:5025'"),
            ("[::1]", "as in '[::1]:5025'"),
            ("localhost:http", "as in 'localhost:5025'"),
            ("bench.example", "HOST behind it, as in '5025 bench.example'."),
            ("bench:x", "or unix:PATH is wanted."),
            ("65536", "a port is a number from 0 to 65535."),
            ("1234567", "a port is a number from 0 to 65535."),
            ("127.0.0.1:99999", "a port is a number from 0 to 65535."),
            ("bench:5025", "whoever connects acts as you"),
        ):
            problem = self.assertRaises(click.BadParameter, parseLocal, text)
            self.assertIn(f"{text!r}: ", problem.message)
            self.assertIn(advice, problem.message)


class LocalClient(Protocol):
    """
    A program that knows no TLS.
    """

    transport: Any

    def __init__(self) -> None:
        self.octets = bytearray()
        self.gone: Deferred[object] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.octets += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep why."""
        self.gone.callback(reason.value)


class ForwarderTests(StreamTestCase):
    """
    Tests for L{Forwarder}, with a service on loopback.
    """

    def setUp(self) -> None:
        """
        Nothing is said.
        """
        super().setUp()
        self.said: list[str] = []

    def forward(
        self, local: Local | None = None, linger: float = 1.0, wait: float | None = None
    ) -> IStreamClientEndpoint:
        """
        Listen.

        @return: The way to it.
        """
        local = local or Local()
        forwarder = Forwarder(self.service.target(wait), linger, core, self.said.append)
        port = listen(local, forwarder, core)

        async def stop() -> None:
            await port.stopListening()  # type: ignore[misc]
            await forwarder.stop()

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        self.forwarder = forwarder
        if local.path:
            return UNIXClientEndpoint(core, local.path)
        host: Any = port.getHost()
        return TCP4ClientEndpoint(core, host.host, host.port)

    async def client(self, endpoint: IStreamClientEndpoint) -> LocalClient:
        """
        Connect.
        """
        client: Any = await endpoint.connect(Factory.forProtocol(LocalClient))
        self.addCleanup(client.transport.abortConnection)
        return client  # type: ignore[no-any-return]

    async def session(
        self, endpoint: IStreamClientEndpoint
    ) -> tuple[LocalClient, StreamServer]:
        """
        Connect, as far as to the service.
        """
        client = await self.client(endpoint)
        server = await self.service.connections.get()
        client.transport.write(b"a")
        await until(lambda: server.received)
        server.received.clear()
        return client, server

    async def test_bothWays(self) -> None:
        """
        Octets pass as they are, without the greeting, from the first on.
        """
        client = await self.client(self.forward())
        client.transport.write(EVERY)
        server = await self.service.connections.get()
        server.say(EVERY[::-1])
        await until(lambda: server.received == EVERY)
        await until(lambda: client.octets == EVERY[::-1])
        self.assertEqual([], self.said)

    async def test_serviceCloses(self) -> None:
        """
        A service that closes closes the local connection, after all it said.
        """
        client, server = await self.session(self.forward())
        server.say(b"a" * 1_000_000)
        server.close()
        self.assertIsInstance(await client.gone, ConnectionDone)
        self.assertEqual(1_000_000, len(client.octets))
        self.assertEqual([], self.said)

    async def test_serviceLost(self) -> None:
        """
        A service that is lost resets it, and people are told.
        """
        client, server = await self.session(self.forward())
        server.cut()
        self.assertIsInstance(await client.gone, ConnectionLost)
        await until(lambda: self.said)
        self.assertRegex(
            self.said[0], r"\A127\.0\.0\.1:[0-9]+: the connection to the service was"
        )

    async def test_localCloses(self) -> None:
        """
        A local program that closes ends the session in good order.
        """
        client, server = await self.session(self.forward(linger=0.1))
        client.transport.loseConnection()
        self.assertIsInstance(await server.gone, ConnectionDone)

    async def test_localResets(self) -> None:
        """
        So does one that resets, and at once.
        """
        client, server = await self.session(self.forward(linger=1000))
        client.transport.abortConnection()
        self.assertIsInstance(await server.gone, ConnectionDone)

    async def test_localHalf(self) -> None:
        """
        A local program that closes its half gets what the service says until it
        is silent.
        """
        client, server = await self.session(self.forward(linger=0.3))
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        await until(lambda: server.received == b"question")
        server.say(b"answer")
        self.assertIsInstance(await client.gone, ConnectionDone)
        self.assertEqual(b"answer", client.octets)
        self.assertIsInstance(await server.gone, ConnectionDone)

    async def test_busy(self) -> None:
        """
        Turned away, the local connection is reset at once, and the reason is
        said in a line. Nothing of what it wrote went anywhere.
        """
        self.service.greetings.append(BUSY)
        client = await self.client(self.forward())
        client.transport.write(b"a")
        server = await self.service.connections.get()
        self.assertIsInstance(await client.gone, ConnectionLost)
        self.assertEqual(1, len(self.said))
        self.assertRegex(
            self.said[0],
            r"\A127\.0\.0\.1:[0-9]+: turned away: held by bob since [^\n]*\Z",
        )
        self.assertEqual(b"", server.received)

    async def test_busyUnix(self) -> None:
        """
        Programs on a UNIX socket have no names: the socket is named instead.
        """
        self.service.greetings.append(BUSY)
        path = self.mktemp()
        client = await self.client(self.forward(Local(path=path)))
        await client.gone
        self.assertEqual(1, len(self.said))
        self.assertTrue(
            self.said[0].startswith(f"unix:{path}: turned away: held by bob "),
            self.said,
        )

    async def test_backendDown(self) -> None:
        """
        A device that is not reached is no fault of the program's.
        """
        self.service.greetings.append(b"451 BACKEND-DOWN no instrument\r\n")
        client = await self.client(self.forward())
        self.assertIsInstance(await client.gone, ConnectionLost)
        self.assertEqual(1, len(self.said))
        self.assertRegex(
            self.said[0],
            r"\A127\.0\.0\.1:[0-9]+: not connected: the resource behind the service "
            r"cannot be reached; its log says why\Z",
        )

    async def test_unreachable(self) -> None:
        """
        Nobody is turned away by a service that was not reached, or that says
        nothing in time.
        """
        endpoint = self.forward()
        for listens, timeout, words in (
            (False, 10.0, "connection refused: is the service running?"),
            (True, 0.1, "timed out, there was no answer in 0.1 s"),
        ):
            with socket.socket() as silent:
                silent.bind(("127.0.0.1", 0))
                if listens:
                    silent.listen()
                self.forwarder._target = evolve(
                    self.forwarder._target,
                    host=f"localhost:{silent.getsockname()[1]}",
                    timeout=timeout,
                )
                client = await self.client(endpoint)
                await client.gone
            self.assertRegex(
                self.said.pop(),
                r"\A127\.0\.0\.1:[0-9]+: not connected: localhost:[0-9]+: "
                + re.escape(words),
            )

    async def test_closed(self) -> None:
        """
        A service that admits nobody turns away.
        """
        self.service.greetings.append(b"421 SHUTDOWN the service is stopping\r\n")
        client = await self.client(self.forward())
        await client.gone
        self.assertIn(": turned away: the service admits nobody now", self.said[0])

    async def test_wait(self) -> None:
        """
        With C{--wait} the local connection waits, and keeps what it said.
        """
        self.service.greetings += [BUSY, BUSY]
        client = await self.client(self.forward(wait=20))
        client.transport.write(EVERY)
        client.transport.loseWriteConnection()
        for _ in range(3):
            server = await self.service.connections.get()
        await until(lambda: server.received == EVERY)
        self.assertEqual([], self.said)

    async def test_goneWhileWaiting(self) -> None:
        """
        Nobody waits for a program that has gone without a word.
        """
        self.service.greetings += [BUSY] * 1000
        client = await self.client(self.forward(wait=1000))
        await self.service.connections.get()
        client.transport.loseConnection()
        await until(lambda: not self.forwarder._relays)
        self.assertEqual([], self.said)

    async def test_next(self) -> None:
        """
        The next program waits until the session of the one before has ended,
        which is only looked for words from the service, and is not turned away
        while the service is cleaning up behind that.
        """
        endpoint = self.forward(linger=0.3)
        first, server = await self.session(endpoint)
        first.transport.loseWriteConnection()
        await until(lambda: any(each.inputEnded for each in self.forwarder._relays))
        self.service.greetings += [BUSY]
        second = await self.client(endpoint)
        second.transport.write(b"b")
        await self.service.connections.get()
        self.assertIsInstance(await server.gone, ConnectionDone)
        server = await self.service.connections.get()
        await until(lambda: server.received == b"b")
        self.assertEqual([], self.said)

    async def test_second(self) -> None:
        """
        While one is in session, the next is turned away at once, also shortly
        after another session.
        """
        endpoint = self.forward(linger=0.01)
        first, server = await self.session(endpoint)
        first.transport.loseConnection()
        await server.gone
        await self.session(endpoint)
        self.service.greetings += [BUSY, b"220 not to be seen\r\n"]
        second = await self.client(endpoint)
        self.assertIsInstance(await second.gone, ConnectionLost)
        self.assertEqual(1, len(self.service.greetings))

    async def test_unix(self) -> None:
        """
        A UNIX socket that only its owner can use.
        """
        path = self.mktemp()
        client, server = await self.session(self.forward(Local(path=path)))
        self.assertEqual(0o600, stat.S_IMODE(Path(path).stat().st_mode))
        server.say(EVERY)
        server.close()
        self.assertIsInstance(await client.gone, ConnectionDone)
        self.assertEqual(EVERY, client.octets)

    async def test_stale(self) -> None:
        """
        A socket that was left behind is replaced. One that somebody listens on,
        and a file that is none, are not.
        """
        path = Path(self.mktemp())
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        self.forward(Local(path=str(path)))
        problem = self.assertRaises(CannotReach, self.forward, Local(path=str(path)))
        self.assertRegex(str(problem), r"cannot listen on unix:.*: Address already in")
        other = Path(self.mktemp())
        other.write_text("precious")
        self.assertRaises(CannotReach, self.forward, Local(path=str(other)))
        self.assertEqual("precious", other.read_text())

    async def test_inUse(self) -> None:
        """
        Whoever listens on a socket does not hear that another wants it: for the
        first C{tcpsvc forward} that would be a session.
        """
        path = self.mktemp()
        with socket.socket(socket.AF_UNIX) as first:
            first.bind(path)
            for listens in (False, True):
                if listens:
                    first.listen()
                    first.setblocking(False)
                self.assertRaises(CannotReach, self.forward, Local(path=path))
                self.assertTrue(Path(path).is_socket())
            self.assertRaises(BlockingIOError, first.accept)

    async def test_stop(self) -> None:
        """
        At the end sessions are closed in good order; their local connections
        and those that wait are reset.
        """
        endpoint = self.forward(wait=1000)
        client, server = await self.session(endpoint)
        self.service.greetings += [BUSY] * 1000
        waiting = await self.client(endpoint)
        await self.service.connections.get()
        await self.forwarder.stop()
        self.assertIsInstance(await server.gone, ConnectionDone)
        self.assertIsInstance(await client.gone, ConnectionLost)
        self.assertIsInstance(await waiting.gone, ConnectionLost)


class CheckTests(SynchronousTestCase):
    """
    Tests for L{checkTarget} and L{whereOf}.
    """

    def test_bad(self) -> None:
        """
        What is wrong with host and keys is known before anybody connects.
        """
        for host, problem in (("[bench", BadAddress), ("bench", ConfigurationError)):
            target = Target(host, self.mktemp(), None, 10.0, None)
            self.assertRaises(problem, checkTarget, target)

    def test_where(self) -> None:
        """
        Addresses are said as they are written.
        """
        self.assertEqual("[::1]:5025", whereOf(Local("::1", 5025)))
        self.assertEqual("127.0.0.1:1", whereOf(Local("127.0.0.1", 1)))
        self.assertEqual("unix:a", whereOf(Local(path="a")))


class ProcessTests(StreamTestCase):
    """
    C{tcpsvc forward} as a process.
    """

    def started(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """
        Start it.
        """
        names = {"TCPSVC_KEYS": str(self.path), "TCPSVC_IDENTITY": "alice"}
        process = subprocess.Popen(
            [sys.executable, "-c", DEFAULT + COMMAND[1], "forward", *words],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=commandEnvironment(**{**names, **environment}),
        )

        def end() -> None:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()

        self.addCleanup(end)
        return process

    async def listening(self, process: subprocess.Popen[bytes]) -> str:
        """
        @return: Where it says that it listens.
        """
        assert process.stderr is not None
        line = (await deferToThread(process.stderr.readline)).decode()
        match = re.fullmatch(rf"tcpsvc: (\S+) leads to {self.service.host}\n", line)
        assert match is not None, line
        return match[1]

    async def test_signals(self) -> None:
        """
        It says where it listens, with the port that was free, and ends by the
        signal that it is sent, after its session has ended in good order.
        """
        for number, status in (
            (signal.SIGINT, 130),
            (signal.SIGTERM, -signal.SIGTERM),
            (signal.SIGHUP, -signal.SIGHUP),
        ):
            process = self.started("0", self.service.host)
            host, _, port = (await self.listening(process)).rpartition(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(b"a")
                server = await self.service.connections.get()
                await until(partial(len, server.received))
                process.send_signal(number)
                self.assertIsInstance(await server.gone, ConnectionDone)
                self.assertEqual(status, await deferToThread(process.wait))
                self.assertRaises(ConnectionResetError, client.recv, 1)
            assert process.stderr is not None
            self.assertEqual(b"", process.stderr.read())

    async def test_unix(self) -> None:
        """
        The socket is removed at the end.
        """
        path = self.mktemp()
        process = self.started(f"unix:{path}", self.service.host)
        self.assertEqual(f"unix:{path}", await self.listening(process))
        self.assertTrue(stat.S_ISSOCK(Path(path).stat().st_mode))
        process.terminate()
        await deferToThread(process.wait)
        self.assertFalse(Path(path).exists())

    async def test_cannotStart(self) -> None:
        """
        What is wrong is said in a line, before it listens: 64 for the address, 69
        for a port in use, 78 for the keys.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            for words, environment, status in (
                (("0.0.0.0:0", self.service.host), {}, 64),
                (("bench.example", port), {}, 64),
                (("bench.example",), {}, 64),
                ((port, "[bench"), {}, 64),
                ((port, self.service.host), {}, 69),
                ((port, self.service.host), {"TCPSVC_KEYS": "nowhere"}, 78),
                ((port, self.service.host), {"TCPSVC_IDENTITY": "eve"}, 78),
            ):
                process = self.started(*words, **environment)
                _, errors = await deferToThread(process.communicate)
                self.assertEqual(status, process.returncode, errors)
                self.assertEqual(1, errors.count(b"\n"), errors)


class BulkTests(LiveTestCase):
    """
    Much data through L{Forwarder} and a real gateway.
    """

    timeout = 120
    options = ("--gateway", "exec:cat", "--audit-payload", "digest")
    size = 64 << 20

    def measured(self) -> tuple[bool, int, int]:
        """
        Send random octets, read nothing until nothing more can be sent, and then
        compare.

        @return: Whether all came back, how much was sent when it stalled, the
            most memory in KiB.
        """
        octets = os.urandom(self.size)
        process = subprocess.Popen(
            [sys.executable, *COMMAND, "forward", "0", self.host],
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        said: Any = process.stderr
        try:
            port = int(said.readline().split()[1].rpartition(b":")[2])
            client = socket.create_connection(("127.0.0.1", port))
            client.setblocking(False)
            sent = 0
            while sent < self.size and select.select([], [client], [], 2.0)[1]:
                sent += client.send(octets[sent : sent + 65536])
            client.setblocking(True)
            rest = Thread(target=client.sendall, args=(octets[sent:],))
            rest.start()
            got = bytearray()
            while len(got) < self.size and (chunk := client.recv(1 << 20)):
                got += chunk
            rest.join()
            client.close()
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory = re.search(r"VmHWM:\s+([0-9]+) kB", status)
            assert memory is not None
            return got == octets, sent, int(memory[1])
        finally:
            process.terminate()
            process.wait()
            said.close()

    async def test_slowReader(self) -> None:
        """
        64 MiB go out and come back as they were. While nobody reads, no more is
        taken than buffers hold, and memory stays small.
        """
        same, stalled, memory = await deferToThread(self.measured)
        self.assertTrue(same)
        self.assertLess(stalled, 48 << 20)
        self.assertLess(memory, 100 << 10)
