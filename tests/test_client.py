"""
Tests for L{tcpsvc.client}.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from twisted.internet import error, reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.client import (
    BackendDown,
    BadAddress,
    Busy,
    CannotReach,
    ClientError,
    ConfigurationError,
    IsGateway,
    ProtocolViolation,
    Session,
    SessionEnded,
    Unavailable,
    parseAddress,
)
from tcpsvc.client.arrival import arrive
from tcpsvc.client.connection import reach
from tcpsvc.client.conversation import CLOSE_PATIENCE
from tcpsvc.client.material import loadClientMaterial
from tcpsvc.client.tls import ClientTLS
from tcpsvc.client.waiting import LAST_DELAY, untilAdmitted
from tcpsvc.tls import ALPN_CONTROL, ALPN_SESSION
from tcpsvc.wire import Reply
from tests.certificates import writeKeys
from tests.clientside import (
    Bench,
    LiveTestCase,
    NoALPN,
    commandEnvironment,
    outcome,
)


class AddressTests(SynchronousTestCase):
    """
    Tests for L{parseAddress}.
    """

    def test_forms(self) -> None:
        """
        The port is 4433 unless given; IPv6 addresses stand in brackets.
        """
        for text, host, port in (
            ("bench", "bench", 4433),
            ("bench.example:5000", "bench.example", 5000),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("[::1]", "::1", 4433),
            ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ):
            address = parseAddress(text)
            self.assertEqual((host, port), (address.host, address.port))
            self.assertEqual(address, parseAddress(str(address)))

    def test_international(self) -> None:
        """
        A host name that is not ASCII becomes its A-label (RFC 5890).
        """
        self.assertEqual("xn--prfstand-75a", parseAddress("Prüfstand").host)

    def test_zone(self) -> None:
        """
        The zone of an IPv6 address leads there, but is no part of its name.
        """
        address = parseAddress("[fe80::1%eth0]")
        self.assertEqual(("fe80::1%eth0", "fe80::1"), (address.host, address.name))

    def test_wrong(self) -> None:
        """
        What is no address is refused with what is wanted instead.
        """
        for text, advice in (
            ("", "HOST"),
            ("::1", "in brackets"),
            ("2001:db8::1:4433", "in brackets"),
            ("[bench]", "no IPv6 address"),
            ("bench:", "no port behind the colon"),
            ("[::1]:", "no port behind the colon"),
            (":4433", "no host before the colon"),
            ("bench:0", "1 to 65535"),
            ("bench:65536", "1 to 65535"),
            ("bench:123456", "1 to 65535"),
            ("bench:http", "1 to 65535"),
            ("a b", "HOST"),
            ("a:b:c", "HOST"),
            ("tcp://bench", "did you mean 'bench'?"),
            ("https://bench:5000/", "did you mean 'bench:5000'?"),
            ("mtls:bench:5000", "did you mean 'bench:5000'?"),
            ("alice@bench:5000", "did you mean 'bench:5000', as identity 'alice'"),
            ("@bench", "HOST"),
            ("\u2603\ufdfa..", "name of a host"),
        ):
            problem = self.assertRaises(BadAddress, parseAddress, text)
            self.assertIn(advice, str(problem))
            self.assertEqual(64, problem.exitStatus)


class BenchTestCase(SynchronousTestCase):
    """
    A test with a client and a scripted server in memory.
    """

    def setUp(self) -> None:
        """
        Set up both.
        """
        self.keys = writeKeys(Path(self.mktemp()))
        self.bench = Bench(self.keys)
        self.server = self.bench.server


class ConnectTests(BenchTestCase):
    """
    Tests for L{connect}.
    """

    def refused(self, kind: type[ClientError], status: int) -> str:
        """
        Why the client gives up when the connection is accepted.
        """
        connected = self.bench.connect()
        self.bench.accept()
        return self.message(connected, kind, status)

    def message(
        self, connected: Deferred[Session], kind: type[ClientError], status: int
    ) -> str:
        """
        Why the client has given up: with one line, and nothing left behind.
        """
        problem = self.failureResultOf(connected, kind).value
        self.assertIs(kind, type(problem))
        self.assertEqual(status, problem.exitStatus)
        self.assertEqual(1, len(str(problem).splitlines()))
        self.assertEqual([], self.bench.reactor.getDelayedCalls())
        return str(problem)

    def test_session(self) -> None:
        """
        A session has the service's greeting and who the server is.
        """
        connected = self.bench.connect()
        self.bench.accept()
        session = self.successResultOf(connected)
        self.assertEqual(220, session.greeting.code)
        self.assertEqual("bench tcpsvc 1; you are alice", session.greeting.text)
        self.assertIn("IP:127.0.0.1", session.peer.names)
        self.assertEqual([], self.bench.reactor.getDelayedCalls())

    def test_waitsForGreeting(self) -> None:
        """
        After the handshake, which proves nothing in TLS 1.3, the client waits
        for the whole greeting.
        """
        self.server.greeting = b"220-patience\r\n220 you"
        connected = self.bench.connect()
        self.bench.accept()
        self.assertTrue(self.server.completed)
        self.assertNoResult(connected)
        self.server.say(b" are alice\r\n")
        self.bench.flush()
        self.assertEqual(
            "patience\nyou are alice", self.successResultOf(connected).greeting.text
        )

    def test_protocol(self) -> None:
        """
        A session and a control connection offer different protocols.
        """
        for control, protocol in ((False, ALPN_SESSION), (True, ALPN_CONTROL)):
            connected = self.bench.connect(control=control)
            self.bench.accept()
            self.successResultOf(connected)
            self.assertEqual(protocol, self.bench.pump.server.negotiatedProtocol)

    def test_protocolNotAgreed(self) -> None:
        """
        A peer that knows not our protocol is left before it can take
        us for another client.
        """
        self.bench.serverTLS = NoALPN(self.keys)
        message = self.refused(ProtocolViolation, 76)
        self.assertIn("does not speak tcpsvc/1", message)

    def test_busy(self) -> None:
        """
        A busy service says who holds it.
        """
        self.server.greeting = b"421 BUSY held by bob since then, idle 2 s\r\n"
        connected = self.bench.connect()
        self.bench.accept()
        problem = self.failureResultOf(connected, Busy).value
        self.assertEqual("held by bob since then, idle 2 s", str(problem))
        self.assertEqual(75, problem.exitStatus)
        self.assertEqual("BUSY", problem.reply.word)
        self.assertIsNotNone(self.server.lost)

    def test_unavailable(self) -> None:
        """
        Any other refusal is no reason to try again soon.
        """
        for greeting in (
            b"421 SHUTDOWN the service is stopping",
            b"421 AUDIT-UNAVAILABLE nothing can be recorded",
        ):
            self.server.greeting = greeting + b"\r\n"
            message = self.refused(Unavailable, 69)
            self.assertIn(greeting[4:].decode(), message)

    def test_backendDown(self) -> None:
        """
        That a gateway does not reach its device is said in a sentence.
        """
        self.server.greeting = b"451 BACKEND-DOWN no instrument\r\n"
        self.assertEqual(
            "not connected: the resource behind the service cannot be reached; its log "
            "says why",
            self.refused(BackendDown, 69),
        )

    def test_strangeGreeting(self) -> None:
        """
        What does not begin with 220 is no service of ours.
        """
        for greeting in (b"200 hello\r\n", b"SSH-2.0-OpenSSH\r\n", b"\0\1\2\n"):
            self.server.greeting = greeting
            self.refused(ProtocolViolation, 76)

    def test_gateway(self) -> None:
        """
        A gateway has no replies: it is left in good order before any octet is
        sent to its device, whatever that says, and the message says what to use.
        """
        self.server.greeting = b"220 bench tcpsvc 1 gateway; you are alice\r\nlogin: "
        connected = self.bench.connect("127.0.0.1:5000")
        self.bench.accept()
        self.bench.flush()
        self.assertEqual(
            "the service at 127.0.0.1:5000 is a gateway to its device: use `tcpsvc "
            "connect 127.0.0.1:5000` or `tcpsvc forward LOCAL 127.0.0.1:5000`",
            self.message(connected, IsGateway, 76),
        )
        self.assertEqual(([], b""), (self.server.lines, self.server._rest))
        self.assertTrue(
            self.server.lost and self.server.lost.check(error.ConnectionDone)
        )

    def test_gatewayDoesNotAnswer(self) -> None:
        """
        A gateway that does not answer the close is cut off.
        """
        self.server.greeting = b""
        connected = self.bench.connect()
        self.bench.accept()
        # What the client sends from here on is lost.
        self.patch(self.bench.clientTransport, "getOutBuffer", lambda: None)
        self.server.say(b"220 bench tcpsvc 1 gateway; you are alice\r\n")
        self.bench.flush()
        self.assertNoResult(connected)
        aborted: list[bool] = []
        self.patch(
            self.bench.clientTransport, "abortConnection", lambda: aborted.append(True)
        )
        self.bench.reactor.advance(CLOSE_PATIENCE + 0.1)
        self.assertEqual([True], aborted)
        self.bench.pump.client.connectionLost(Failure(error.ConnectionAborted()))
        self.message(connected, IsGateway, 76)

    def test_named(self) -> None:
        """
        Only the word in its place says that it is a gateway.
        """
        for greeting in (
            "220 gateway tcpsvc 1; you are alice",
            "220 bench tcpsvc 1; you are a tcpsvc 1 gateway; b",
        ):
            self.server.greeting = f"{greeting}\r\n".encode()
            connected = self.bench.connect()
            self.bench.accept()
            self.successResultOf(connected).abort()

    def test_noGreeting(self) -> None:
        """
        A service that closes without a word breaks the protocol.
        """
        self.server.greeting = b""
        connected = self.bench.connect()
        self.bench.accept()
        self.bench.pump.server.loseConnection()
        self.bench.flush()
        self.assertIn("without a word", self.message(connected, ProtocolViolation, 76))

    def test_lostBeforeGreeting(self) -> None:
        """
        A connection that is lost on the way is said to be.
        """
        self.server.greeting = b""
        connected = self.bench.connect()
        self.bench.accept()
        self.bench.pump.client.connectionLost(Failure(error.ConnectionLost()))
        self.assertIn("was lost", self.message(connected, CannotReach, 69))

    def test_timeout(self) -> None:
        """
        A service that does not greet in time is given up.
        """
        self.server.greeting = b""
        connected = self.bench.connect(timeout=3.0)
        self.bench.accept()
        self.bench.reactor.advance(2.9)
        self.assertNoResult(connected)
        self.bench.reactor.advance(0.2)
        self.assertIn("timed out", self.message(connected, CannotReach, 69))
        self.bench.flush()
        self.assertIsNotNone(self.server.lost)

    def test_noTCP(self) -> None:
        """
        The time for TCP counts too.
        """
        connected = self.bench.connect(timeout=3.0)
        self.bench.reactor.advance(3.1)
        self.assertIn("timed out", self.message(connected, CannotReach, 69))

    def test_slowName(self) -> None:
        """
        A name that is not found in time is not said to be unknown.
        """

        def unknown(resolving: Deferred[Any]) -> None:
            resolving.errback(error.DNSLookupError("no results"))

        class Slow:
            def connect(self, factory: object) -> Deferred[Any]:
                return Deferred(unknown)

        clock = Clock()
        tls = ClientTLS(
            loadClientMaterial(self.keys, "alice"), parseAddress("bench"), ALPN_SESSION
        )
        arriving = outcome(
            arrive(Slow(), parseAddress("bench"), tls, ALPN_SESSION, clock, 3.0)  # type: ignore[arg-type]
        )
        clock.advance(3.0)
        self.assertIn(
            "timed out", str(self.failureResultOf(arriving, CannotReach).value)
        )

    def test_cancel(self) -> None:
        """
        Cancelling closes the connection.
        """
        self.server.greeting = b""
        connected = self.bench.connect()
        self.bench.accept()
        connected.cancel()
        self.failureResultOf(connected, CancelledError)
        self.bench.flush()
        self.assertIsNotNone(self.server.lost)
        self.assertEqual([], self.bench.reactor.getDelayedCalls())

    def test_unreachable(self) -> None:
        """
        Why there is no connection is said in words.
        """
        for reason, words in (
            (error.ConnectionRefusedError(), "refused: is the service running?"),
            (error.NoRouteError(), "no route"),
            (error.TimeoutError(), "timed out"),
            (error.ConnectError(osError="odd"), "odd"),
        ):
            connected = self.bench.connect("127.0.0.1:5000")
            factory: Any = self.bench.reactor.tcpClients[-1][2]
            factory.clientConnectionFailed(None, Failure(reason))
            self.bench.reactor.pump([0.1] * 5)
            message = self.message(connected, CannotReach, 69)
            self.assertIn("127.0.0.1:5000: ", message)
            self.assertIn(words, message)

    def test_wait(self) -> None:
        """
        If it should, the client comes back until it is admitted.
        """
        self.server.greeting = b"421 BUSY held by bob since then, idle 2 s\r\n"
        connected = self.bench.connect(wait=5.0)
        self.bench.accept()
        self.assertNoResult(connected)
        self.server.greeting = b"220 now you\r\n"
        self.bench.reactor.advance(1)
        self.bench.accept()
        self.assertEqual("now you", self.successResultOf(connected).greeting.text)

    def test_wrongKeys(self) -> None:
        """
        Without keys, nothing is even tried.
        """
        connected = self.bench.connect(identity="nobody")
        self.message(connected, ConfigurationError, 78)
        self.assertEqual([], self.bench.reactor.tcpClients)


class Collector(Protocol):
    """
    Keeps what it gets.
    """

    def __init__(self) -> None:
        self.got = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.got += data

    def connectionLost(self, reason: object = None) -> None:
        """Note it."""
        self.lost = True


class HandOverTests(BenchTestCase):
    """
    Tests for L{reach} and L{Arrival.handOver}.
    """

    def test_rawBytes(self) -> None:
        """
        What follows the greeting, at once or later, reaches the successor as
        it is, and so does the end.
        """
        self.server.greeting = b"220 you\r\n\x00raw\n421"
        reached = outcome(
            reach(self.bench.reactor, "127.0.0.1", keys=self.keys, identity=None)
        )
        self.bench.accept()
        arrival = self.successResultOf(reached)
        self.server.say(b" more")
        self.bench.flush()
        self.bench.pump.server.loseConnection()
        self.bench.flush()
        collector = Collector()
        arrival.handOver(collector)
        self.assertEqual(b"\x00raw\n421 more", collector.got)
        self.assertTrue(collector.lost)


class SessionTests(BenchTestCase):
    """
    Tests for L{Session}.
    """

    def setUp(self) -> None:
        """
        Open a session.
        """
        super().setUp()
        connected = self.bench.connect()
        self.bench.accept()
        self.session = self.successResultOf(connected)

    def say(self, octets: bytes) -> None:
        """
        Let the server say something.
        """
        self.server.say(octets)
        self.bench.flush()

    def test_pipelined(self) -> None:
        """
        Requests do not wait for replies, which come in the same order.
        """
        replies = [self.session.send(text) for text in ("ECHO a", b"ECHO b", "HELP")]
        self.bench.flush()
        self.assertEqual([b"ECHO a", b"ECHO b", b"HELP"], self.server.lines)
        self.say(b"200 a\r\n200 b\r\n214-one\r\n21")
        self.assertEqual(Reply(200, "a"), self.successResultOf(replies[0]))
        self.assertEqual(Reply(200, "b"), self.successResultOf(replies[1]))
        self.assertNoResult(replies[2])
        self.say(b"4 two\r\n")
        self.assertEqual(["one", "two"], self.successResultOf(replies[2]).lines)

    def test_errorReply(self) -> None:
        """
        A reply of 4xx or 5xx is a reply like others.
        """
        reply = self.session.send("junk")
        self.say(b"500 UNKNOWN-COMMAND JUNK\r\n")
        self.assertTrue(self.successResultOf(reply).isError)

    def test_notALine(self) -> None:
        """
        What is no single line, or one without a reply, is not sent.
        """
        for request in ("", b"", "a\nb", "a\r", b"\n", "\0"):
            self.assertRaises(ValueError, self.session.send, request)
        self.bench.flush()
        self.assertEqual([], self.server.lines)

    def test_octets(self) -> None:
        """
        Octets that are no UTF-8 arrive as they are. One that telnet would take
        for a command is sent twice.
        """
        self.session.send(b"\xfe\xff").addErrback(lambda _: None)
        self.session.send("\udc80").addErrback(lambda _: None)
        self.bench.flush()
        self.assertEqual([b"\xfe\xff\xff", b"\x80"], self.server.lines)

    def test_endedByService(self) -> None:
        """
        A 421 ends the session: it is no reply, whoever waits fails with it,
        and the connection is closed.
        """
        answered, waiting = self.session.send("NOOP"), self.session.send("NOOP")
        self.say(b"200 OK\r\n421 SHUTDOWN good bye\r\n200 late\r\n")
        self.successResultOf(answered)
        problem = self.failureResultOf(waiting, SessionEnded).value
        self.assertEqual("SHUTDOWN", problem.reply.word)
        self.assertEqual(1, problem.exitStatus)
        self.assertEqual(problem.reply, self.successResultOf(self.session.closed))
        self.failureResultOf(self.session.send("NOOP"), SessionEnded)
        self.assertIsNotNone(self.server.lost)
        self.assertEqual([], self.bench.reactor.getDelayedCalls())

    def test_replyToNothing(self) -> None:
        """
        A reply that nobody asked for breaks the protocol: from here on no
        reply could be trusted to belong to its request.
        """
        self.say(b"200 surprise\r\n")
        self.assertIsNone(self.successResultOf(self.session.closed))
        problem = self.failureResultOf(self.session.send("NOOP"), ProtocolViolation)
        self.assertIn("to no request", str(problem.value))

    def test_noReply(self) -> None:
        """
        What is no reply breaks the protocol.
        """
        reply = self.session.send("NOOP")
        self.say(b"<html>\r\n")
        self.failureResultOf(reply, ProtocolViolation)
        self.assertIsNotNone(self.server.lost)

    def test_closedWithoutReply(self) -> None:
        """
        A service that closes and leaves a request unanswered breaks the
        protocol.
        """
        reply = self.session.send("NOOP")
        self.bench.pump.server.loseConnection()
        self.bench.flush()
        self.failureResultOf(reply, ProtocolViolation)

    def closeInOrder(self) -> None:
        """
        Let the server close.
        """
        self.bench.pump.server.loseConnection()
        self.bench.flush()

    def test_closedBehindReply(self) -> None:
        """
        A service that closes in good order behind a reply, whatever its code
        is, has ended the session with that: who waits is told how many do.
        """
        for waiting, words in (
            (0, "the service ended the session"),
            (1, "the service ended the session; 1 request has no reply"),
            (2, "the service ended the session; 2 requests have no reply"),
        ):
            self.setUp()
            answered = self.session.send("LOGOUT")
            unanswered = [self.session.send("NOOP") for _ in range(waiting)]
            self.say(b"200 logged out\r\n")
            self.closeInOrder()
            last = self.successResultOf(answered)
            for reply in (*unanswered, self.session.send("late")):
                problem = self.failureResultOf(reply, SessionEnded).value
                self.assertEqual((words, 1), (str(problem), problem.exitStatus))
                self.assertEqual(last, problem.reply)
            self.assertEqual(last, self.successResultOf(self.session.closed))
            self.assertEqual(last, self.successResultOf(self.session.close()))

    def test_closedBehindReplyWhileClosing(self) -> None:
        """
        The C{QUIT} of L{Session.close} is none of the user's requests.
        """
        replies = [self.session.send("LOGOUT"), self.session.send("NOOP")]
        closing = self.session.close()
        self.say(b"200 logged out\r\n")
        self.closeInOrder()
        problem = self.failureResultOf(replies[1], SessionEnded).value
        self.assertIn("; 1 request has", str(problem))
        self.assertEqual(Reply(200, "logged out"), self.successResultOf(closing))

    def test_closedMidway(self) -> None:
        """
        A service that closes in the midst of a reply breaks the protocol, as
        one does that never replied.
        """
        replies = [self.session.send("NOOP"), self.session.send("HELP")]
        self.say(b"200 OK\r\n214-one\r\n")
        self.closeInOrder()
        self.failureResultOf(replies[1], ProtocolViolation)
        self.assertIsNone(self.successResultOf(self.session.closed))

    def test_lostBehindReply(self) -> None:
        """
        A connection that is not closed in good order is lost, whatever was
        said before.
        """
        replies = [self.session.send("NOOP"), self.session.send("NOOP")]
        self.say(b"200 OK\r\n")
        self.bench.pump.client.connectionLost(Failure(error.ConnectionLost()))
        self.failureResultOf(replies[1], CannotReach)
        self.assertIsNone(self.successResultOf(self.session.closed))

    def test_lost(self) -> None:
        """
        A lost connection fails what waits.
        """
        reply = self.session.send("NOOP")
        self.bench.pump.client.connectionLost(Failure(error.ConnectionLost()))
        self.failureResultOf(reply, CannotReach)
        self.assertIsNone(self.successResultOf(self.session.closed))

    def test_quit(self) -> None:
        """
        After a C{QUIT} of one's own the session is over in good order.
        """
        reply, late = self.session.send("QUIT"), self.session.send("NOOP")
        self.say(b"221 bye\r\n")
        self.assertEqual(221, self.successResultOf(reply).code)
        self.assertNoResult(self.session.closed)
        closing = self.session.close()
        self.bench.flush()
        self.assertNotIn(b"QUIT", self.server.lines[1:])
        self.assertEqual("bye", getattr(self.successResultOf(closing), "text", None))
        self.failureResultOf(late, SessionEnded)

    def test_close(self) -> None:
        """
        Closing says C{QUIT}, waits for the farewell, and closes TLS.
        """
        closings = self.session.close(), self.session.close()
        self.failureResultOf(self.session.send("NOOP"), CannotReach)
        self.bench.flush()
        self.assertEqual([b"QUIT"], self.server.lines)
        self.assertNoResult(closings[0])
        self.say(b"221 bye; record 7 abc\r\n")
        for closing in (*closings, self.session.closed, self.session.close()):
            self.assertEqual(
                Reply(221, "bye; record 7 abc"), self.successResultOf(closing)
            )
        assert self.server.lost is not None
        self.assertTrue(self.server.lost.check(error.ConnectionDone))
        self.assertEqual([], self.bench.reactor.getDelayedCalls())

    def test_closeWithoutFarewell(self) -> None:
        """
        A service that has no farewell is waited for only so long.
        """
        closing = self.session.close()
        waiting = self.bench.reactor
        waiting.advance(CLOSE_PATIENCE - 0.1)
        self.bench.flush()
        self.assertNoResult(closing)
        waiting.advance(0.2)
        self.bench.flush()
        self.assertIsNone(self.successResultOf(closing))

    def test_closeNotAnswered(self) -> None:
        """
        A service that says good bye and does not close is cut off.
        """
        closing = self.session.close()
        self.bench.flush()
        # What the client sends from here on is lost.
        self.patch(self.bench.clientTransport, "getOutBuffer", lambda: None)
        aborted: list[bool] = []
        self.patch(
            self.bench.clientTransport, "abortConnection", lambda: aborted.append(True)
        )
        self.say(b"221 bye\r\n")
        self.bench.reactor.advance(CLOSE_PATIENCE - 0.1)
        self.assertEqual([], aborted)
        self.bench.reactor.advance(0.2)
        self.assertEqual([True], aborted)
        self.bench.pump.client.connectionLost(Failure(error.ConnectionAborted()))
        self.assertEqual(Reply(221, "bye"), self.successResultOf(closing))

    def test_abort(self) -> None:
        """
        Cutting the connection fails what waits.
        """
        reply = self.session.send("NOOP")
        self.session.abort()
        self.failureResultOf(reply, CannotReach)
        self.bench.flush()
        self.successResultOf(self.session.closed)

    def test_cancelledReply(self) -> None:
        """
        Who does not want a reply any more does not put the others out of step.
        """
        unwanted, wanted = self.session.send("ECHO a"), self.session.send("ECHO b")
        unwanted.cancel()
        self.failureResultOf(unwanted, CancelledError)
        self.say(b"200 a\r\n200 b\r\n")
        self.assertEqual("b", self.successResultOf(wanted).text)


class WaitingTests(SynchronousTestCase):
    """
    Tests for L{untilAdmitted}.
    """

    def setUp(self) -> None:
        """
        Set up a service that is busy until told otherwise.
        """
        self.clock = Clock()
        self.tries: list[float] = []
        self.problem: Exception | None = Busy(Reply(421, "BUSY held by bob"))

    async def attempt(self) -> str:
        """
        Try once.
        """
        self.tries.append(self.clock.seconds())
        if self.problem is not None:
            raise self.problem
        return "admitted"

    def wait(self, seconds: float, chance: float = 0.0) -> Deferred[str]:
        """
        Begin to try.
        """
        return outcome(untilAdmitted(self.attempt, seconds, self.clock, lambda: chance))

    def test_once(self) -> None:
        """
        Who does not wait tries once.
        """
        self.failureResultOf(self.wait(0), Busy)
        self.assertEqual([0.0], self.tries)

    def test_backoff(self) -> None:
        """
        The first tries come soon, and then ever more slowly, up to one in ten
        seconds.
        """
        waiting = self.wait(float("inf"))
        self.clock.pump([0.01] * 3500)
        pauses = [b - a for a, b in zip(self.tries, self.tries[1:], strict=False)]
        self.assertEqual(
            [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0],
            [round(pause, 1) for pause in pauses],
        )
        self.problem = None
        self.clock.advance(LAST_DELAY)
        self.assertEqual("admitted", self.successResultOf(waiting))

    def test_firstDelay(self) -> None:
        """
        The first pause may be another, from which the others grow.
        """
        waiting = outcome(
            untilAdmitted(self.attempt, 2.0, self.clock, lambda: 0.0, firstDelay=0.125)
        )
        self.clock.pump([0.125] * 16)
        self.failureResultOf(waiting, Busy)
        self.assertEqual([0.0, 0.125, 0.375, 0.875, 1.875, 2.0], self.tries)

    def test_jitter(self) -> None:
        """
        Those who wait together do not come back together: each pause may be up to
        a quarter shorter.
        """
        self.wait(1, chance=1.0).addErrback(lambda _: None)
        self.clock.advance(0.14)
        self.assertEqual(1, len(self.tries))
        self.clock.advance(0.02)
        self.assertEqual(2, len(self.tries))
        self.clock.advance(10)

    def test_deadline(self) -> None:
        """
        The last try is made when the time is over, and its answer counts.
        """
        waiting = self.wait(0.3)
        self.clock.advance(0.2)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.failureResultOf(waiting, Busy)
        self.assertEqual(3, len(self.tries))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_otherProblem(self) -> None:
        """
        Only that it is busy is a reason to try again.
        """
        self.problem = CannotReach("gone")
        self.failureResultOf(self.wait(10), CannotReach)
        self.assertEqual(1, len(self.tries))

    def test_cancel(self) -> None:
        """
        Cancelling ends the waiting.
        """
        waiting = self.wait(10)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual([], self.clock.getDelayedCalls())


class ImportTests(SynchronousTestCase):
    """
    Tests for what importing the client does.
    """

    def test_noReactor(self) -> None:
        """
        No reactor is installed, and nothing of the server is imported.
        """
        code = (
            "import sys, tcpsvc.client; print(*(name for name in ("
            "'twisted.internet.reactor', 'tcpsvc.service', 'tcpsvc.doorway', "
            "'tcpsvc.session', 'tcpsvc.audit') if name in sys.modules))"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code],
            env=commandEnvironment(),
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual("\n", printed.stdout)


class LiveTests(LiveTestCase):
    """
    The client and a real service over loopback.
    """

    async def test_conversation(self) -> None:
        """
        A session from greeting to farewell; meanwhile others are told that it
        is busy, and control connections are admitted.
        """
        session = await self.connect()
        self.assertIn("you are alice", session.greeting.text)
        self.assertEqual("localhost", session.peer.name)
        replies = await gatherResults(
            [session.send(f"ECHO {number}") for number in range(2000)]
        )
        self.assertEqual([str(n) for n in range(2000)], [r.text for r in replies])
        problem = await self.assertFailure(self.connect("bob"), Busy)
        self.assertIn("held by alice since", str(problem))
        control = await self.connect("bob", control=True)
        self.assertIn("alice", (await control.send("WHO")).text)
        await control.close()
        waiting = self.connect("bob", wait=30)
        farewell = await session.close()
        assert farewell is not None
        self.assertEqual(221, farewell.code)
        await (await waiting).close()

    async def test_notUTF8(self) -> None:
        """
        Octets that are no UTF-8 cost one reply each, also those that telnet
        would take for commands.
        """
        session = await self.connect()
        waiting: list[Awaitable[Reply]] = [
            session.send(request) for request in (b"\xff", b"\xff\xfd\x01", b"\x80")
        ]
        self.assertEqual(["NOT-UTF-8"] * 3, [(await reply).word for reply in waiting])
        self.assertEqual("x", (await session.send("ECHO x")).text)
        await session.close()

    async def test_socket(self) -> None:
        """
        Small requests are sent at once, and a dead service is found soon.
        """
        arrival = await reach(reactor, self.host, keys=self.keys, identity="alice")
        below: Any = arrival.transport.transport
        handle = below.getHandle()
        for level, option in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        ):
            self.assertTrue(handle.getsockopt(level, option))
        self.assertEqual(
            30_000, handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        )
        await Session(arrival, reactor).close()

    async def test_documentedExample(self) -> None:
        """
        The example in the documentation does what is said there.
        """
        page = Path(__file__).parent.parent / "docs" / "reference" / "python-client.rst"
        found = re.search(
            r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", page.read_text()
        )
        assert found is not None
        code = re.sub(r"(?m)^    ", "", found[1]).replace("bench.example", self.host)
        path = self.path / "example.py"
        path.write_text(code)
        (self.path / "keys").symlink_to(self.path)
        output, errors, status = await getProcessOutputAndValue(
            sys.executable,
            [str(path)],
            env=self.environment,
            path=str(self.path),
        )
        self.assertEqual((b"", 0), (errors, status))
        self.assertEqual(b"hello\nthe record: bye\n", re.sub(b"bye.*", b"bye", output))
