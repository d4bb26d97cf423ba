"""
What the tests of the client talk to: a service in memory that says what it is
told to, and a real one on loopback.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from attrs import define
from OpenSSL import SSL
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import TestCase
from zope.interface import implementer

import tcpsvc
from tcpsvc.client import Session, connect
from tcpsvc.commands import command
from tcpsvc.keyfiles import KeyDirectory
from tcpsvc.service import StartError
from tcpsvc.tap import Options, makeService
from tcpsvc.tls import ServerTLS, loadServerMaterial
from tcpsvc.wire import Reply, Request
from tests.certificates import writeKeys

_T = TypeVar("_T")


@command("LOGOUT")
def logout(_request: Request) -> Reply:
    """ends the session, and does not say so"""
    return Reply(200, "logged out", closes=True)


PORTS = range(15100, 16000)
"""
Where services listen in tests.
"""


@implementer(IHandshakeListener)
class ScriptedServer(Protocol):
    """
    The server's side, in the hands of a test.

    @ivar greeting: What it says when the handshake has completed.
    @ivar answer: Makes the answer to a line, if there is to be one.
    @ivar lines: The lines that came.
    @ivar completed: Whether the handshake has completed.
    @ivar lost: Why the connection was lost.
    """

    def __init__(self) -> None:
        self.greeting = b"220 bench tcpsvc 1; you are alice\r\n"
        self.answer: Callable[[bytes], bytes] | None = None
        self.lines: list[bytes] = []
        self.completed = False
        self.lost: Failure | None = None
        self._rest = b""

    def handshakeCompleted(self) -> None:
        """
        Greet the client.
        """
        self.completed = True
        if self.greeting:
            self.say(self.greeting)

    def say(self, octets: bytes) -> None:
        """
        Send something.
        """
        assert self.transport is not None
        self.transport.write(octets)

    def dataReceived(self, data: bytes) -> None:
        """
        Answer lines.
        """
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            self.lines.append(line)
            if self.answer is not None:
                self.say(self.answer(line))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Note why.
        """
        self.lost = reason


class Bench:
    """
    A client and a scripted server, joined in memory by real TLS.

    @ivar reactor: The client's.
    @ivar server: The server's side.
    @ivar plain: Whether the server speaks no TLS.
    """

    def __init__(self, keys: KeyDirectory, serverKeys: KeyDirectory | None = None):
        """
        @param keys: The client's.
        @param serverKeys: The server's, if they are others.
        """
        self.reactor = MemoryReactorClock()
        self.server = ScriptedServer()
        self.plain = False
        self.keys = keys
        material = loadServerMaterial(serverKeys or keys, time.time())
        self.serverTLS: Any = ServerTLS(material, "1.2")

    def connect(self, host: str = "127.0.0.1", **options: Any) -> Deferred[Session]:
        """
        Let the client connect; its TCP connection is still to be made.
        """
        options = {"keys": self.keys, "identity": "alice", **options}
        return Deferred.fromCoroutine(connect(self.reactor, host, **options))

    def accept(self) -> None:
        """
        Make the client's last TCP connection, and let the two talk.
        """
        factory: Any = self.reactor.tcpClients[-1][2]
        client = factory.buildProtocol(None)
        server: Any = self.server
        if not self.plain:
            wrapping = TLSMemoryBIOFactory(
                self.serverTLS, False, Factory.forProtocol(lambda: server), self.reactor
            )
            server = wrapping.buildProtocol(None)
        self.clientTransport = FakeTransport(client, isServer=False)
        self.serverTransport = FakeTransport(server, isServer=True)
        self.pump = IOPump(
            client, server, self.clientTransport, self.serverTransport, False
        )
        server.makeConnection(self.serverTransport)
        client.makeConnection(self.clientTransport)
        self.flush()

    def flush(self) -> None:
        """
        Let the two talk until they have nothing more to say.
        """
        for _ in range(12):
            self.reactor.advance(0)
            self.pump.flush()


@implementer(IOpenSSLServerConnectionCreator)
class NoALPN:
    """
    The server's TLS without any of the protocols that a client offers.
    """

    def __init__(self, keys: KeyDirectory, maximum: int = SSL.TLS1_3_VERSION) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.set_max_proto_version(maximum)
        self._context.use_certificate_file(str(keys.server))
        self._context.use_privatekey_file(str(keys.serverKey))

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """
        Make the server's side of a connection.
        """
        return SSL.Connection(self._context, None)


@define
class Ended:
    """
    How a process ended, and what it said.
    """

    output: str
    errors: str
    status: int


class LiveTestCase(TestCase):
    """
    A test that talks to a real service on loopback.

    @ivar keys: The service's keys, and those of alice and bob.
    @ivar host: Where the service is.
    """

    timeout = 60
    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        """
        Start a service.
        """
        self.path = Path(self.mktemp()).absolute()
        self.keys = writeKeys(self.path, clients=("alice", "bob"))
        self.service = self._started()
        self.addCleanup(self.service.stopService)

    def _started(self) -> Any:
        """
        A service on some port that is free.
        """
        for port in random.sample(PORTS, len(PORTS)):
            options = Options()
            options.parseOptions(
                [
                    "--keys",
                    str(self.path),
                    "--audit",
                    str(self.path / "audit.jsonl"),
                    "--listen",
                    f"tcp:{port}:interface=127.0.0.1",
                    *self.options,
                ]
            )
            service = IService(makeService(options, cast(Any, reactor)))
            try:
                service.privilegedStartService()
            except StartError:
                continue
            service.startService()
            self.port = port
            self.host = f"localhost:{port}"
            return service
        raise AssertionError("no port is free")

    def connect(self, identity: str = "alice", **options: Any) -> Deferred[Session]:
        """
        Open a session.
        """
        return Deferred.fromCoroutine(
            connect(reactor, self.host, keys=self.keys, identity=identity, **options)
        )

    @property
    def environment(self) -> dict[str, str]:
        """
        The environment in which C{tcpsvc} finds the keys of alice.
        """
        return commandEnvironment(
            TCPSVC_KEYS=str(self.path),
            TCPSVC_IDENTITY="alice",
            XDG_STATE_HOME=str(self.path / "state"),
        )

    async def run_(self, *words: str, typed: bytes | None = None) -> Ended:
        """
        Run C{tcpsvc} to its end.

        @param typed: What comes on its standard input.
        """
        output, errors, status = await getProcessOutputAndValue(
            sys.executable,
            [*COMMAND, *words],
            env=self.environment,
            stdinBytes=typed or b"",
        )
        return Ended(output.decode(), errors.decode(), status)


COMMAND = ("-c", "from tcpsvc.cli import main; main()")
"""
What makes C{tcpsvc} of Python, wherever it is installed.
"""


def commandEnvironment(**more: str) -> dict[str, str]:
    """
    An environment in which L{COMMAND} runs, from whatever directory.
    """
    root = str(Path(tcpsvc.__file__).resolve().parent.parent)
    names = (
        "PATH",
        "HOME",
        "LANG",
        "COVERAGE_PROCESS_START",
        "COVERAGE_PROCESS_CONFIG",
    )
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    return {**inherited, "PYTHONPATH": root, **more}


def outcome(coroutine: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
    """
    A coroutine as a Deferred.
    """
    return Deferred.fromCoroutine(coroutine)
