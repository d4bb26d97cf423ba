"""
Tests for L{tcpsvc.client.stream}.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tcpsvc.client import Busy, CannotReach, Stream, openStream
from tests.certificates import writeKeys
from tests.clientside import Bench, LiveTestCase


class Kept(Protocol):
    """
    A protocol that keeps what happens to it.
    """

    def __init__(self) -> None:
        self.octets = b""
        self.lost: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.octets += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep why."""
        self.lost.append(reason)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Kept):
    """
    The same, for connections whose directions end one at a time.
    """

    ended = False

    def readConnectionLost(self) -> None:
        """Keep that."""
        self.ended = True

    def writeConnectionLost(self) -> None:
        """Never called."""


@implementer(IPushProducer)
class Endless:
    """
    A producer that would always have more.
    """

    def pauseProducing(self) -> None:
        """Not of interest."""

    def resumeProducing(self) -> None:
        """Not of interest."""

    def stopProducing(self) -> None:
        """Not of interest."""


class StreamTests(SynchronousTestCase):
    """
    Tests for L{openStream} and L{Stream}, through real TLS in memory.
    """

    def setUp(self) -> None:
        """
        Set up a service.
        """
        self.bench = Bench(writeKeys(Path(self.mktemp()), clients=("alice",)))
        self.protocol: Any = Kept()

    def opened(self) -> Deferred[Stream]:
        """
        Open a stream.
        """
        opening = Deferred.fromCoroutine(
            openStream(
                self.bench.reactor, "127.0.0.1", self.protocol, keys=self.bench.keys
            )
        )
        self.bench.accept()
        return opening

    def test_octets(self) -> None:
        """
        What comes after the greeting is the protocol's, as it is and from its
        first octet on, also if it came with the greeting; the greeting is not.
        """
        every = bytes(range(256))
        self.bench.server.greeting += every
        stream = self.successResultOf(self.opened())
        self.assertEqual(every, self.protocol.octets)
        self.bench.server.say(b"\r\n\0" + every)
        transport: Any = self.protocol.transport
        transport.write(every + b"\r\n")
        self.bench.flush()
        self.assertEqual(every + b"\r\n\0" + every, self.protocol.octets)
        self.assertEqual([every.replace(b"\r\n", b"")], self.bench.server.lines)
        self.assertEqual("bench tcpsvc 1; you are alice", stream.greeting.text)
        self.assertEqual("localhost", stream.peer.name)

    def test_busy(self) -> None:
        """
        If the service is busy, the protocol is never connected.
        """
        self.bench.server.greeting = b"421 BUSY held by bob\r\n"
        self.failureResultOf(self.opened(), Busy)
        self.assertIsNone(self.protocol.transport)

    def test_close(self) -> None:
        """
        The stream is closed in good order, after what was written.
        """
        stream = self.successResultOf(self.opened())
        self.protocol.transport.write(b"last\r\n")
        closing, again = stream.close(), stream.close()
        self.assertNoResult(closing)
        self.bench.flush()
        self.assertEqual([b"last"], self.bench.server.lines)
        self.successResultOf(closing)
        self.successResultOf(again)
        self.successResultOf(stream.close())
        self.assertIs(ConnectionDone, self.protocol.lost[0].type)
        self.assertEqual([], self.bench.reactor.getDelayedCalls())
        lost = self.bench.server.lost
        assert lost is not None
        self.assertIs(ConnectionDone, lost.type)

    def test_closeUnanswered(self) -> None:
        """
        A service that does not answer the close is cut off after 2 s.
        """
        stream = self.successResultOf(self.opened())
        closing = stream.close()
        self.bench.reactor.advance(1.9)
        self.assertFalse(self.bench.clientTransport.disconnecting)
        self.bench.reactor.advance(0.2)
        self.assertTrue(self.bench.clientTransport.disconnecting)
        self.bench.clientTransport.reportDisconnect()
        self.successResultOf(closing)
        self.assertEqual(1, len(self.protocol.lost))

    def test_serviceCloses(self) -> None:
        """
        A service that closes in good order has closed in good order.
        """
        self.successResultOf(self.opened())
        self.bench.server.transport.loseConnection()  # type: ignore[union-attr]
        self.bench.flush()
        self.assertIs(ConnectionDone, self.protocol.lost[0].type)

    def test_resetAfterGoodBye(self) -> None:
        """
        So it has if its socket is reset after its close_notify, because
        something from us was on its way.
        """
        self.successResultOf(self.opened())
        transport: Any = self.protocol.transport
        self.bench.server.transport.loseConnection()  # type: ignore[union-attr]
        octets = self.bench.serverTransport.getOutBuffer()
        transport.dataReceived(octets)
        self.assertEqual([], self.protocol.lost)
        transport.connectionLost(Failure(ConnectionLost()))
        self.assertIs(ConnectionDone, self.protocol.lost[0].type)

    def test_truncated(self) -> None:
        """
        An end without close_notify is a loss: something may be missing.
        """
        for reason in (ConnectionDone(), ConnectionLost()):
            self.setUp()
            self.successResultOf(self.opened())
            transport: Any = self.protocol.transport
            transport.connectionLost(Failure(reason))
            self.assertIs(CannotReach, self.protocol.lost[0].type)
            self.assertIn("was lost", self.protocol.lost[0].getErrorMessage())

    def test_serviceClosesOnHalfCloseable(self) -> None:
        """
        A protocol that knows half-closes is told of the service's close_notify, and
        closes; another is closed, also if it has registered a producer.
        """
        self.protocol = HalfCloseable()
        self.successResultOf(self.opened())
        self.bench.server.transport.loseConnection()  # type: ignore[union-attr]
        self.bench.flush()
        self.assertTrue(self.protocol.ended)
        self.assertEqual([], self.protocol.lost)
        self.protocol.transport.loseConnection()
        self.bench.flush()
        self.assertIs(ConnectionDone, self.protocol.lost[0].type)

    def test_serviceClosesOnProducer(self) -> None:
        """
        A producer does not keep the connection from closing.
        """
        self.successResultOf(self.opened())
        self.protocol.transport.registerProducer(Endless(), True)
        self.bench.server.transport.loseConnection()  # type: ignore[union-attr]
        self.bench.flush()
        self.assertIs(ConnectionDone, self.protocol.lost[0].type)

    def test_abort(self) -> None:
        """
        C{abort} cuts the connection, and is harmless afterwards.
        """
        stream = self.successResultOf(self.opened())
        stream.abort()
        self.bench.flush()
        self.assertIs(CannotReach, self.protocol.lost[0].type)
        stream.abort()


class ExampleTests(LiveTestCase):
    """
    The example in the documentation.
    """

    options = ("--gateway", "exec:sh -c 'read question; echo \"ACME $question\"; cat'")

    async def test_ask(self) -> None:
        """
        It does what it says, with a real gateway.
        """
        docs = Path(__file__).parent.parent / "docs" / "reference" / "python-client.rst"
        if not docs.exists():
            raise SkipTest("the documentation is not here")
        shown = re.search(r":caption: ask\.py\n\n((?:    .*\n|\n)+)", docs.read_text())
        assert shown is not None
        program = Path(self.mktemp()).absolute()
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(textwrap.dedent(shown[1]))
        (program.parent / "keys").symlink_to(self.path)
        output, errors, status = await getProcessOutputAndValue(
            sys.executable,
            [str(program), self.host],
            env=self.environment,
            path=str(program.parent),
        )
        self.assertEqual(
            (b"localhost answers ACME *IDN?\n", b"", 0), (output, errors, status)
        )
