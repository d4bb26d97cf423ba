"""
What the tests of streams talk to: a service on loopback that says what it is
told to, each connection of it in the hands of the test.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tcpsvc.cli.options import Target
from tcpsvc.duplex import DuplexTLS
from tcpsvc.tls import ServerTLS, loadServerMaterial
from tests.certificates import writeKeys
from tests.clientside import ScriptedServer

core: Any = reactor

BUSY = b"421 BUSY held by bob since 2026-11-23T00:56:03Z, idle 7 s\r\n"


OF_GATEWAY = b"220 bench tcpsvc 1 gateway; you are alice\r\n"


@implementer(IHalfCloseableProtocol)
class StreamServer(ScriptedServer):
    """
    A scripted server that keeps what it gets as it is, and knows half-closes.

    @ivar received: All that came.
    @ivar inputEnded: Whether the client has half-closed the connection.
    @ivar gone: Fires when the connection is lost.
    """

    def __init__(self, greeting: bytes) -> None:
        super().__init__()
        self.greeting = greeting
        self.received = bytearray()
        self.inputEnded = False
        self.gone: Deferred[object] = Deferred()
        self.greeted: Deferred[StreamServer] = Deferred()

    def handshakeCompleted(self) -> None:
        """Greet the client."""
        super().handshakeCompleted()
        if self.greeting == BUSY:
            assert self.transport is not None
            self.transport.loseConnection()
        self.greeted.callback(self)

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.received += data

    def readConnectionLost(self) -> None:
        """Note it."""
        self.inputEnded = True

    def writeConnectionLost(self) -> None:
        """Never called."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note why."""
        super().connectionLost(reason)
        self.gone.callback(reason.value)

    def close(self) -> None:
        """Close in good order."""
        assert self.transport is not None
        self.transport.loseConnection()

    def cut(self) -> None:
        """Close without the words that end TLS."""
        self.transport.transport.loseConnection()  # type: ignore[union-attr]


class ScriptedService:
    """
    Listens on loopback.

    @ivar greetings: What the next connections are greeted with, one each; when
        there is none left, with a 220.
    """

    def __init__(self, path: Path) -> None:
        self.keys = writeKeys(path, clients=("alice",))
        self.greetings: list[bytes] = []
        self.connections: DeferredQueue[StreamServer] = DeferredQueue()
        tls: Any = ServerTLS(loadServerMaterial(self.keys, time.time()), "1.3")
        inner = Factory.forProtocol(self._build)
        factory = TLSMemoryBIOFactory(tls, False, inner, core)
        factory.protocol = DuplexTLS
        self._port = core.listenTCP(0, factory, interface="127.0.0.1")
        self.host = f"localhost:{self._port.getHost().port}"
        self._all: list[StreamServer] = []

    def _build(self) -> Protocol:
        greeting = b"220 bench; you are alice\r\n"
        server = StreamServer(self.greetings.pop(0) if self.greetings else greeting)
        server.greeted.addCallback(self.connections.put)
        self._all.append(server)
        return server

    def target(self, wait: float | None = None) -> Target:
        """What a command line says that leads here."""
        return Target(self.host, str(self.keys.path), "alice", 10.0, wait)

    async def stop(self) -> None:
        """Close everything."""
        await self._port.stopListening()
        for server in self._all:
            if server.lost is None:
                assert server.transport is not None
                server.transport.abortConnection()  # type: ignore[attr-defined]
                await server.gone


class StreamTestCase(TestCase):
    """
    A test with a L{ScriptedService}.
    """

    timeout = 60

    def setUp(self) -> None:
        """Start the service."""
        self.path = Path(self.mktemp()).absolute()
        self.service = ScriptedService(self.path)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.service.stop()))


async def until(condition: Callable[[], object]) -> None:
    """
    Let the reactor run until something is so. The test's timeout ends it.
    """
    while not condition():
        await deferLater(core, 0.005)
