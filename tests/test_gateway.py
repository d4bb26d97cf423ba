"""
Tests for L{tcpsvc.gateway}, behind real doors.
"""

from __future__ import annotations

import contextlib
import socket
from hashlib import sha256
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet import reactor as globalReactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tcpsvc import closing, gateway
from tcpsvc.client.connection import DEFAULT_TIMEOUT
from tcpsvc.device import CLOSE_PATIENCE
from tcpsvc.doorway import CLEANUP_PATIENCE
from tcpsvc.flow import MAX_WAITING_OCTETS
from tcpsvc.gateway import CONNECT_PATIENCE, QUIET_PATIENCE, STALL_PATIENCE
from tcpsvc.interfaces import IBackend, ISession
from tcpsvc.sockets import undelivered
from tcpsvc.stall import STALL_PERIOD
from tcpsvc.tls import ALPN_CONTROL, ALPN_SESSION
from tests.gatewayside import FULL, GatewayHouse, LineSocket, hangUpHalf
from tests.peers import Peer

reactor: Any = globalReactor

GREETING = b"220 bench.example tcpsvc "

LATE = (
    f"the backend twin: cannot be reached: no connection within {CONNECT_PATIENCE:g} s"
)


class GatewayTestCase(SynchronousTestCase):
    """
    A house with a gateway.
    """

    def setUp(self) -> None:
        """
        Build it.
        """
        self.build()

    def build(self, **settings: Any) -> None:
        """
        Build it with other settings.
        """
        self.house = GatewayHouse(**settings)

    def settle(self, *peers: Peer) -> None:
        """
        Let everything close that wants to.
        """
        for _ in range(3):
            for peer in peers:
                peer.pump()
            for device in self.house.endpoint.sockets:
                device.settle()

    def assertNextIsServed(self) -> None:
        """
        The slot is free, nothing is left to happen, and the next client reaches
        the device.
        """
        self.assertEqual("", self.house.holder)
        # The second in which refusals are counted.
        self.house.clock.advance(1)
        self.assertEqual([], self.house.clock.getDelayedCalls())
        self.house.endpoint.auto, self.house.endpoint.down = True, ""
        self.house.trail.broken, self.house.trail.pending = "", None
        # A new connection, not the former one.
        sockets = len(self.house.endpoint.sockets)
        bob = self.house.visit("bob")
        self.assertEqual("bob", self.house.holder)
        self.assertEqual(sockets + 1, len(self.house.endpoint.sockets))
        bob.send(b"next")
        opening = b"".join(self.house.settings.onOpen)
        self.assertEqual(opening + b"next", self.house.device.written)
        self.house.device.say(b"answer")
        bob.pump()
        self.assertEqual(b"answer", bob.received)

    def assertNoErrors(self) -> None:
        """
        The log has no failure.
        """
        for event in self.house.log.events:
            self.assertNotIn("log_failure", event)


class CarryTests(GatewayTestCase):
    """
    Octets both ways.
    """

    def test_interfaces(self) -> None:
        """
        Backend and session provide what the doorway relies on.
        """
        backend = self.house.admission.backend
        verifyObject(IBackend, backend)
        self.assertEqual("twin:", backend.description)
        self.house.enter()
        doorway: Any = self.house.visit().protocol
        self.assertIsNot(None, doorway)
        session: Any = self.house.device.protocol._owner
        verifyObject(ISession, session)

    def test_recordedFirst(self) -> None:
        """
        Each chunk is recorded before the device, or the client, sees it.
        """
        alice = self.house.visit()
        alice.send(b"*IDN?\n")
        self.assertEqual(
            [
                ("connect", b""),
                ("record", b"in:*IDN?\n"),
                ("device", b"*IDN?\n"),
            ],
            self.house.history,
        )
        alice.reads = False
        self.house.device.say(b"thing\n")
        self.assertEqual(("record", b"out:thing\n"), self.house.history[-1])
        alice.reads = True
        alice.pump()
        self.assertEqual(b"thing\n", alice.received)

    def test_fields(self) -> None:
        """
        A record of data names session and direction; octets that are not UTF-8
        are in base64.
        """
        alice = self.house.visit()
        alice.send(b"\xff\0")
        self.house.device.say("\xb5V\r\n".encode())
        session = self.house.trail.of("session.opened")[0]["session"]
        self.assertEqual(
            [
                {"session": session, "direction": "in", "data_b64": "/wA="},
                {"session": session, "direction": "out", "data": "\xb5V\r\n"},
            ],
            self.house.trail.of("gateway.data"),
        )
        self.assertEqual(2, self.house.journal.counts["gateway.data"])

    def test_digest(self) -> None:
        """
        With C{--audit-payload digest} the record has length and SHA-256, and
        the device the octets; the last words too are only digested.
        """
        self.build(payload="digest", onOpen=(b"hi",))
        alice = self.house.visit()
        alice.send(b"firmware")
        self.assertEqual(b"hifirmware", self.house.device.written)
        record = self.house.trail.of("gateway.data")[1]
        self.assertEqual(8, record["octets"])
        self.assertEqual(sha256(b"firmware").hexdigest(), record["sha256"])
        self.assertNotIn("data", record)
        self.assertNotIn("hi", str(self.house.trail.kept))

    def test_everyOctet(self) -> None:
        """
        All 256 octets pass both ways untouched, telnet's IAC, NUL and line ends
        too, with TLS and without.
        """
        octets = bytes(range(256)) + b"\xff\xfd\x03\xff\xff\r\0\r\n\n\r"
        for enter in (self.house.visit, self.house.enter):
            peer = enter()
            peer.send(octets)
            self.assertEqual(octets, self.house.device.written)
            self.house.device.say(octets[::-1])
            peer.pump()
            self.assertEqual(octets[::-1], peer.received)
            peer.close()
            self.settle(peer)
        self.assertEqual(octets * 2, self.house.trail.carried("in"))
        self.assertEqual(octets[::-1] * 2, self.house.trail.carried("out"))

    def test_sums(self) -> None:
        """
        The record of the end counts what came from the client and went to it,
        and not what the service says to the device, or the greeting.
        """
        self.build(onOpen=(b"hello",), onClose=(b"bye",))
        alice = self.house.visit("alice", ALPN_SESSION)
        alice.send(b"12345")
        self.house.device.say(b"1234567")
        alice.pump()
        self.house.clock.advance(1.5)
        alice.close()
        self.settle(alice)
        closed = self.house.closed()[0]
        self.assertEqual(
            ("client-closed", 0, 5, 7, 1.5),
            tuple(
                closed[name]
                for name in (
                    *("reason", "requests", "bytes_in", "bytes_out"),
                    "duration_s",
                )
            ),
        )
        self.assertNotIn("exit_status", closed)

    def test_outcome(self) -> None:
        """
        How a program has ended is in the record of the session's end.
        """
        alice = self.house.visit()
        device: Any = self.house.device
        device.outcome = {"signal": 15}
        device.lose()
        self.settle(alice)
        self.assertEqual(15, self.house.closed()[0]["signal"])

    def test_log(self) -> None:
        """
        The log says at a session's end how much went through, and how a program has
        ended; requests there were none.
        """
        alice = self.house.visit()
        device: Any = self.house.device
        alice.send(b"abc")
        device.say(b"x")
        device.outcome = {"exit_status": 3}
        device.lose()
        self.settle(alice)
        [line] = [one for one in self.house.log.texts() if "has ended" in one]
        self.assertRegex(
            line,
            r" has ended: backend-closed "
            r"\(3 octets in, 1 octet out, exit status 3, [0-9.]+ s\)\Z",
        )

    def test_lastRequest(self) -> None:
        """
        What the client says counts against its idle time; what the device says
        does not.
        """
        self.build(idleTimeout=10.0)
        alice = self.house.visit()
        self.house.clock.advance(8)
        alice.send(b"x")
        self.house.clock.advance(8)
        self.house.device.say(b"y")
        alice.pump()
        self.assertEqual(("", b"y"), (alice.ending, alice.received))
        self.house.clock.advance(2)
        self.settle(alice)
        self.assertEqual(["idle-timeout"], self.house.reasons())


class TransparencyTests(GatewayTestCase):
    """
    What the client is told by us.
    """

    def endings(self, *alpn: bytes) -> dict[str, bytes]:
        """
        All that clients have received, in each state in which the service
        turns them away.
        """
        told = {}

        self.build()
        holder = self.house.visit("bob")
        alice = self.house.visit("alice", *alpn)
        told["busy"] = bytes(alice.received)
        self.assertEqual("closed", alice.ending)
        self.assertTrue(alice.closeNotified)
        self.assertEqual("bob", self.house.holder)
        holder.close()

        self.build()
        self.house.endpoint.down = "no route"
        alice = self.house.visit("alice", *alpn)
        told["backend-down"] = bytes(alice.received)
        self.assertTrue(alice.closeNotified)

        self.build()
        self.house.trail.broken = "disk full"
        alice = self.house.visit("alice", *alpn)
        told["audit-unavailable"] = bytes(alice.received)
        self.assertTrue(alice.closeNotified)
        self.assertEqual(0, self.house.endpoint.attempts)

        self.build()
        self.house.admission.stopping = True
        alice = self.house.visit("alice", *alpn)
        told["stopping"] = bytes(alice.received)
        self.assertTrue(alice.closeNotified)

        for reason in ("idle-timeout", "session-limit", "shutdown"):
            self.build(
                idleTimeout=5.0 if reason == "idle-timeout" else 0.0,
                maxSession=5.0 if reason == "session-limit" else 0.0,
            )
            self.house.endpoint.auto = False
            alice = self.house.visit("alice", *alpn)
            if reason == "shutdown":
                self.house.admission.stop()
            else:
                self.house.clock.advance(5)
            alice.pump()
            told[reason] = bytes(alice.received)
            self.assertEqual([reason], self.house.reasons())
            self.assertTrue(alice.closeNotified)
        return told

    def test_noALPN(self) -> None:
        """
        Without ALPN not one octet is ours, whatever happens.
        """
        for reason, told in self.endings().items():
            self.assertEqual(b"", told, reason)

    def test_otherALPN(self) -> None:
        """
        A client that offers only other protocols gets TLS's alert for that, and does
        not reach the device.
        """
        self.build()
        alice = self.house.visit("alice", b"http/1.1")
        self.assertEqual(b"", alice.received)
        self.assertIn("no application protocol", alice.alert)
        self.assertEqual(0, self.house.endpoint.attempts)
        self.assertEqual("", self.house.holder)

    def test_told(self) -> None:
        """
        With ALPN C{tcpsvc/1} one line says why, before the device is there.
        """
        told = self.endings(ALPN_SESSION)
        for reason, words in (
            ("busy", b"421 BUSY held by bob since "),
            ("backend-down", b"451 BACKEND-DOWN "),
            ("audit-unavailable", b"421 AUDIT-UNAVAILABLE "),
            ("stopping", b"421 SHUTDOWN "),
            ("idle-timeout", b"421 IDLE-TIMEOUT "),
            ("session-limit", b"421 SESSION-LIMIT "),
            ("shutdown", b"421 SHUTDOWN "),
        ):
            self.assertTrue(told[reason].startswith(words), told[reason])
            self.assertEqual(1, told[reason].count(b"\r\n"), told[reason])

    def test_greeting(self) -> None:
        """
        With ALPN one C{220} line comes when the device is there, and before the
        device's first octet.
        """
        self.house.endpoint.auto = False
        alice = self.house.visit("alice", ALPN_SESSION)
        self.assertEqual(b"", alice.received)
        self.house.endpoint.connected()
        self.house.device.say(b"banner\r\n")
        alice.pump()
        self.assertTrue(alice.received.startswith(GREETING), alice.received)
        end = b" gateway; you are alice\r\nbanner\r\n"
        self.assertTrue(alice.received.endswith(end), alice.received)
        self.assertEqual(2, alice.received.count(b"\r\n"))

    def test_noGreeting(self) -> None:
        """
        Without ALPN, and on a plaintext listener, the device's first octet is the
        first.
        """
        for enter in (self.house.visit, self.house.enter):
            peer = enter()
            self.house.device.say(b"banner")
            peer.pump()
            self.assertEqual(b"banner", peer.received)
            peer.close()
            self.settle(peer)

    def test_midstream(self) -> None:
        """
        Once the stream has begun not one octet of ours is in it, whatever ends it,
        for whomever.
        """
        for alpn in ((), (ALPN_SESSION,)):
            for reason in (
                *("idle-timeout", "session-limit", "shutdown"),
                *("audit-unavailable", "backend-closed"),
            ):
                self.build(
                    idleTimeout=5.0 if reason == "idle-timeout" else 0.0,
                    maxSession=5.0 if reason == "session-limit" else 0.0,
                )
                alice = self.house.visit("alice", *alpn)
                alice.received.clear()
                self.house.device.say(b"begun")
                alice.pump()
                if reason == "shutdown":
                    self.house.admission.stop()
                elif reason == "audit-unavailable":
                    self.house.trail.broken = "disk full"
                    alice.send(b"x")
                    self.assertEqual(b"", self.house.device.written)
                elif reason == "backend-closed":
                    self.house.device.hangUp()
                else:
                    self.house.clock.advance(5)
                self.settle(alice)
                self.assertEqual(b"begun", alice.received, reason)
                self.assertTrue(alice.closeNotified, reason)

    def test_plaintextBusy(self) -> None:
        """
        On a plaintext listener a client is turned away without a word.
        """
        self.house.enter()
        late = self.house.enter()
        late.pump()
        self.assertEqual(b"", late.received)
        self.assertTrue(late.sawEnd)

    def test_control(self) -> None:
        """
        The control protocol answers while the gateway is held, and leads nobody
        to the device.
        """
        self.house.visit()
        bob = self.house.visit("bob", ALPN_CONTROL)
        bob.send(b"WHO\r\n")
        self.assertIn("alice", bob.lines[1])
        self.assertEqual(1, self.house.endpoint.attempts)


class ConnectTests(GatewayTestCase):
    """
    The way to the device.
    """

    def setUp(self) -> None:
        """
        The device takes its time.
        """
        self.build()
        self.house.endpoint.auto = False

    def test_onAdmission(self) -> None:
        """
        Nothing is connected before somebody is admitted: not for a client in
        handshake, nor for one that is turned away, nor before the session's
        beginning is recorded.
        """
        knocking = Peer(self.house.secure)
        self.assertEqual(0, self.house.endpoint.attempts)
        knocking.vanish()
        self.house.trail.pending = []
        self.house.visit()
        self.assertEqual(0, self.house.endpoint.attempts)
        self.house.trail.fire()
        self.assertEqual(1, self.house.endpoint.attempts)
        self.house.visit("bob")
        self.assertEqual(1, self.house.endpoint.attempts)

    def test_early(self) -> None:
        """
        What the client says before the device is there is recorded and passed on
        then, in order, after what a session begins with.
        """
        self.build(onOpen=(b"open",))
        self.house.endpoint.auto = False
        alice = self.house.visit(early=b"1")
        alice.send(b"2")
        alice.send(b"3")
        self.assertEqual([("connect", b"")], self.house.history)
        self.house.endpoint.connected()
        self.assertEqual(b"open123", self.house.device.written)
        self.assertEqual(b"open123", self.house.trail.carried("in"))
        alice.send(b"4")
        self.assertEqual(b"open1234", self.house.device.written)

    def test_earlyWhileRecorded(self) -> None:
        """
        So is what comes while the session's beginning is being recorded; and the
        client is read after that.
        """
        self.house.trail.pending = []
        peer = self.house.enter()
        peer.send(b"1")
        self.assertTrue(peer.socket.paused)
        self.house.trail.fire()
        self.house.trail.pending = None
        self.assertFalse(peer.socket.paused)
        peer.send(b"2")
        self.house.endpoint.connected()
        self.assertEqual(b"12", self.house.device.written)

    def test_earlyBounded(self) -> None:
        """
        No more is kept for the device than a bound and a chunk; when it is there
        all goes on, at its pace.
        """
        for late in (False, True):
            self.setUp()
            self.house.trail.pending = [] if late else None
            peer = self.house.enter()
            sent = 0
            if late:
                # The doorway keeps the first chunk itself.
                peer.send(b"x" * 65536)
                sent += 65536
                self.house.trail.fire()
            while not peer.socket.paused:
                peer.send(b"x" * 65536)
                sent += 65536
                self.assertLessEqual(sent, MAX_WAITING_OCTETS + 65536)
            self.house.trail.pending = None
            self.house.endpoint.connected()
            self.assertTrue(peer.socket.paused)
            self.assertEqual(sent, len(self.house.device.take()))
            self.assertFalse(peer.socket.paused)

    def test_refused(self) -> None:
        """
        A device that cannot be reached: the log says why, the session ends, the
        slot is free.
        """
        self.house.endpoint.down = "no route"
        alice = self.house.visit()
        self.assertTrue(alice.closeNotified)
        self.assertEqual(["backend-down"], self.house.reasons())
        self.assertIn(
            "the backend twin: cannot be reached: the connection was lost",
            self.house.log.texts(),
        )
        self.assertNextIsServed()

    def test_raises(self) -> None:
        """
        An endpoint that raises is one that cannot be reached.
        """

        def connect(factory: object) -> Any:
            raise RuntimeError(f"broken endpoint for {factory}")

        self.patch(self.house.endpoint, "connect", connect)
        alice = self.house.visit("alice", ALPN_SESSION)
        self.assertIn(b"451 BACKEND-DOWN", alice.received)
        self.assertEqual("", self.house.holder)

    def test_hangs(self) -> None:
        """
        So is one that does not answer in time, which is before C{tcpsvc} gives up.
        """
        self.assertLess(CONNECT_PATIENCE, DEFAULT_TIMEOUT)
        alice = self.house.visit("alice", ALPN_SESSION)
        self.house.clock.advance(CONNECT_PATIENCE - 0.1)
        self.assertEqual("alice", self.house.holder)
        self.house.clock.advance(0.1)
        alice.pump()
        self.assertIn(b"451 BACKEND-DOWN", alice.received)
        self.assertEqual(1, self.house.endpoint.cancelled)
        self.assertEqual(["backend-down"], self.house.reasons())
        self.assertIn(LATE, self.house.log.texts())
        self.assertNextIsServed()

    def test_refusedLate(self) -> None:
        """
        A device that refuses the certificate of this service says so by TLS only
        when it seems to be connected: the log says it.
        """
        for stopped in (False, True):
            self.setUp()
            self.house.endpoint.auto = True
            alice = self.house.visit()
            if stopped:
                alice.close()
            alert = SSL.Error([("SSL routines", "", "ssl/tls alert unknown ca")])
            self.house.device.lose(alert)
            told = (
                "the backend twin: has ended the connection: it refuses this "
                "certificate: unknown ca"
            )
            self.assertEqual(not stopped, told in self.house.log.texts())

    def test_hangsOnTCP(self) -> None:
        """
        The log says the same where Twisted says only which connection it has
        given up.
        """
        address = IPv4Address("TCP", "192.0.2.50", 5025)
        self.patch(
            self.house.endpoint,
            "_cancelled",
            lambda connecting: connecting.errback(ConnectingCancelledError(address)),
        )
        self.house.visit()
        self.house.clock.advance(CONNECT_PATIENCE)
        self.assertIn(LATE, self.house.log.texts())

    def test_clientLeaves(self) -> None:
        """
        A client that leaves meanwhile is noticed: connecting is given up, and the
        slot is free, unless it has closed in order and sent something.
        """
        for leave, sent in ((Peer.close, b""), (Peer.vanish, b"early")):
            self.setUp()
            alice = self.house.visit()
            if sent:
                alice.send(sent)
            leave(alice)
            self.assertEqual(1, self.house.endpoint.cancelled)
            self.assertEqual(len(sent), self.house.closed()[0]["bytes_in"])
            self.assertEqual([], self.house.trail.of("gateway.data"))
            self.assertNextIsServed()

    def test_clientSendsAndLeaves(self) -> None:
        """
        What a client has sent before it closed is for the device, as soon as that is
        there; then the session ends. With or without close_notify.
        """
        for leave in (Peer.close, Peer.hangUp):
            self.setUp()
            alice = self.house.visit()
            alice.send(b"OUTP ON\n")
            leave(alice)
            self.assertEqual([], self.house.closed())
            device = self.house.endpoint.connected()
            device.settle()
            alice.pump()
            self.assertEqual(b"OUTP ON\n", bytes(device.written))
            (data,) = self.house.trail.of("gateway.data")
            self.assertEqual(("in", "OUTP ON\n"), (data["direction"], data["data"]))
            self.assertEqual(1, len(self.house.closed()))
            self.assertNextIsServed()

    def test_cancelTakesTime(self) -> None:
        """
        The slot is free only when connecting has been given up.
        """
        alice = self.house.visit()
        _, connecting = self.house.endpoint.waiting.pop()
        self.patch(connecting, "cancel", lambda: None)
        alice.vanish()
        self.assertEqual("alice", self.house.holder)
        self.assertEqual([], self.house.closed())
        connecting.errback(CancelledError())
        self.assertEqual(["connection-lost"], self.house.reasons())
        self.assertNextIsServed()

    def test_connectsAfterAll(self) -> None:
        """
        An endpoint that connects although nobody wants it any more is cut off; the
        device hears nothing and nothing of it is heard.
        """
        self.build(onOpen=(b"open",), onClose=(b"close",))
        self.house.endpoint.auto = False
        alice = self.house.visit()
        factory, _ = self.house.endpoint.waiting[0]
        alice.vanish()
        self.house.endpoint.waiting.append((factory, Deferred()))
        late = self.house.endpoint.connected()
        self.assertTrue(late.aborted)
        late.say(b"late")
        self.assertEqual(b"", late.written)
        late.settle()
        self.assertEqual([], self.house.trail.of("gateway.data"))
        self.assertNextIsServed()


class HandshakeTests(GatewayTestCase):
    """
    A device over TLS that accepts the connection and does not answer the handshake.
    """

    def setUp(self) -> None:
        """
        The endpoint does TLS, as Twisted's own does.
        """
        super().setUp()
        connect = self.house.endpoint.connect

        def secure(factory: Any) -> Deferred[Any]:
            options = optionsForClientTLS("bench.example")
            wrapped: Any = TLSMemoryBIOFactory(options, True, factory)
            connecting: Deferred[Any] = connect(wrapped)
            return connecting.addCallback(lambda layer: layer.wrappedProtocol)

        self.undo = self.patch(self.house.endpoint, "connect", secure)

    def assertGivenUp(self, alice: Peer) -> None:
        """
        The device's connection is cut off, it has heard nothing, and the next client
        is served.
        """
        self.settle(alice)
        self.assertTrue(self.house.device.aborted)
        self.assertEqual([], self.house.trail.of("gateway.data"))
        self.undo.restore()
        self.assertNextIsServed()

    def test_late(self) -> None:
        """
        It has as long as one that does not answer at all; whoever may be told is not
        greeted meanwhile.
        """
        alice = self.house.visit("alice", ALPN_SESSION)
        alice.send(b"early")
        self.house.clock.advance(CONNECT_PATIENCE - 0.1)
        alice.pump()
        self.assertEqual(b"", alice.received)
        self.house.clock.advance(0.1)
        alice.pump()
        self.assertIn(b"451 BACKEND-DOWN", alice.received)
        self.assertEqual(["backend-down"], self.house.reasons())
        self.assertIn(
            "the backend twin: cannot be reached: no TLS handshake within "
            f"{CONNECT_PATIENCE:g} s",
            self.house.log.texts(),
        )
        self.assertGivenUp(alice)

    def test_clientLeaves(self) -> None:
        """
        If the client leaves meanwhile the handshake is given up.
        """
        alice = self.house.visit()
        alice.vanish()
        self.assertEqual(["connection-lost"], self.house.reasons())
        self.assertGivenUp(alice)

    def test_deviceLeaves(self) -> None:
        """
        A device that closes the connection meanwhile was never there.
        """
        alice = self.house.visit("alice", ALPN_SESSION)
        self.house.device.lose()
        alice.pump()
        self.assertIn(b"451 BACKEND-DOWN", alice.received)
        self.assertEqual(["backend-down"], self.house.reasons())
        self.undo.restore()
        self.settle(alice)
        self.assertNextIsServed()


class PaceTests(GatewayTestCase):
    """
    Bounded memory, and nothing lost.
    """

    def test_clientDoesNotRead(self) -> None:
        """
        A device that floods a client which does not read is not read either; when
        the client reads again it gets every octet.
        """
        for enter in (self.house.visit, self.house.enter):
            alice = enter()
            # Twisted's own socket would ask for a pause by itself.
            alice.reads = False
            producer: Any = alice.socket.producer
            sent = bytearray()
            for number in range(3):
                chunk = bytes([number]) * 1000
                self.house.device.say(chunk)
                sent += chunk
            producer.pauseProducing()
            self.assertTrue(self.house.device.paused)
            producer.resumeProducing()
            self.assertFalse(self.house.device.paused)
            alice.reads = True
            alice.pump()
            self.assertEqual(sent, alice.received)
            alice.close()
            self.settle(alice)

    def test_deviceDoesNotRead(self) -> None:
        """
        A client that floods a device which does not read is not read either.
        """
        alice = self.house.enter()
        sent = 0
        while not alice.socket.paused:
            alice.send(b"x" * 16384)
            sent += 16384
            self.assertLessEqual(sent, FULL + 16384)
        alice.send(b"y")
        self.assertEqual(sent, len(self.house.device.take()))
        self.assertFalse(alice.socket.paused)
        alice.pump()
        self.assertEqual(b"x" * sent + b"y", self.house.device.written)

    def test_recordsWait(self) -> None:
        """
        What waits for the disk is bounded both ways.
        """
        alice = self.house.enter()
        self.house.trail.pending = []
        sent = 0
        while not alice.socket.paused:
            alice.send(b"x" * 65536)
            sent += 65536
            self.assertLessEqual(sent, MAX_WAITING_OCTETS + 65536)
        said = 0
        while not self.house.device.paused:
            self.house.device.say(b"y" * 65536)
            said += 65536
            self.assertLessEqual(said, MAX_WAITING_OCTETS + 65536)
        self.assertEqual(b"", self.house.device.written)
        self.assertEqual(b"", alice.received)
        while self.house.trail.pending:
            self.house.trail.fire()
        alice.pump()
        self.assertEqual(sent, len(self.house.device.take()))
        self.assertEqual(said, len(alice.received))
        self.assertFalse(alice.socket.paused)
        self.assertFalse(self.house.device.paused)

    def test_deviceStopsReading(self) -> None:
        """
        When a device will take nothing any more, as a program that has closed its
        input, its client is still read: else nobody would notice it leave.
        """
        alice = self.house.enter()
        alice.send(b"x" * (FULL + 1))
        self.assertTrue(alice.socket.paused)
        producer: Any = self.house.device.producer
        producer.stopProducing()
        self.assertFalse(alice.socket.paused)


class AuditTests(GatewayTestCase):
    """
    Nothing goes on that is not recorded.
    """

    def test_late(self) -> None:
        """
        While the disk takes its time nothing goes on; then all does, in order.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        alice.send(b"1")
        alice.send(b"2")
        self.house.device.say(b"a")
        self.house.device.say(b"b")
        alice.pump()
        self.assertEqual((b"", b""), (self.house.device.written, alice.received))
        self.house.trail.fire()
        self.assertEqual(b"1", self.house.device.written)
        self.house.trail.fire(3)
        alice.pump()
        self.assertEqual((b"12", b"ab"), (self.house.device.written, alice.received))

    def assertNothingGoesOn(self, alice: Peer) -> None:
        """
        The session has ended, nobody has seen anything, and all is well when
        the disk is.
        """
        self.settle(alice)
        self.assertEqual((b"", b""), (self.house.device.written, alice.received))
        self.assertTrue(alice.closeNotified)
        self.assertIn("disk full", self.house.log.texts())
        self.assertNoErrors()
        self.assertNextIsServed()

    def test_in(self) -> None:
        """
        A chunk for the device that cannot be written ends the session, and so do
        the last words, which cannot be recorded either.
        """
        self.build(onClose=(b"close", b"off"))
        alice = self.house.visit()
        self.house.trail.broken = "disk full"
        alice.send(b"1")
        self.assertNothingGoesOn(alice)

    def test_out(self) -> None:
        """
        So does one for the client.
        """
        alice = self.house.visit()
        self.house.trail.broken = "disk full"
        self.house.device.say(b"1")
        self.assertNothingGoesOn(alice)

    def test_lateIn(self) -> None:
        """
        The same when the disk says so later: what is behind goes nowhere either,
        although it was recorded.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        alice.send(b"1")
        alice.send(b"2")
        self.house.device.say(b"a")
        self.house.trail.failNext()
        self.house.trail.fire(2)
        self.assertEqual(["audit-unavailable"], self.reasonsAfter(alice))
        self.assertNothingGoesOn(alice)

    def reasonsAfter(self, alice: Peer) -> list[str]:
        """
        Why sessions have ended, when all is closed.
        """
        self.settle(alice)
        return self.house.reasons()

    def test_lateOut(self) -> None:
        """
        And the other way.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        self.house.device.say(b"1")
        self.house.device.say(b"2")
        self.house.trail.failNext()
        self.house.trail.fire()
        self.assertEqual(["audit-unavailable"], self.reasonsAfter(alice))
        self.assertNothingGoesOn(alice)

    def test_lastWordsWhenDiskIsWellAgain(self) -> None:
        """
        If the disk is well again the last words are recorded and sent, and not the
        unrecorded chunk before them.
        """
        self.build(onClose=(b"close",))
        alice = self.house.visit()
        self.house.trail.pending = []
        alice.send(b"1")
        self.house.trail.failNext()
        self.house.trail.fire()
        self.settle(alice)
        self.assertEqual(b"close", self.house.device.written)
        self.assertEqual(["audit-unavailable"], self.house.reasons())

    def test_opening(self) -> None:
        """
        What a session begins with is recorded first too; if it cannot be, the
        device hears nothing and the session ends before it has begun.
        """
        self.build(onOpen=(b"open", b"more"))
        self.house.endpoint.auto = False
        alice = self.house.visit()
        self.house.trail.broken = "disk full"
        self.house.endpoint.connected()
        self.assertNothingGoesOn(alice)

    def test_otherError(self) -> None:
        """
        An error that no trail should make ends the session as well, and its
        traceback is in the log.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        alice.send(b"1")
        self.house.trail.pending.pop().errback(RuntimeError("bug"))
        self.settle(alice)
        self.assertEqual(["audit-unavailable"], self.house.reasons())
        failures = [
            event["log_failure"]
            for event in self.house.log.events
            if "log_failure" in event
        ]
        self.assertEqual(["bug"], [failure.getErrorMessage() for failure in failures])


class HalfCloseTests(GatewayTestCase):
    """
    One of both has said all.
    """

    def test_client(self) -> None:
        """
        A client that closes its half: the device is told after all octets before,
        and what it answers arrives.
        """
        alice = self.house.enter()
        self.house.trail.pending = []
        alice.send(b"1")
        hangUpHalf(alice)
        self.assertFalse(self.house.device.halfClosed)
        self.house.trail.fire()
        self.assertEqual(b"1", self.house.device.written)
        self.assertTrue(self.house.device.halfClosed)
        self.house.trail.pending = None
        self.house.clock.advance(60)
        self.house.device.say(b"answer")
        self.house.device.hangUp()
        self.settle(alice)
        self.assertEqual(b"answer", alice.received)
        self.assertEqual(["backend-closed"], self.house.reasons())
        self.assertNextIsServed()

    def test_clientBefore(self) -> None:
        """
        The same when it does so before the device is there.
        """
        self.house.endpoint.auto = False
        alice = self.house.enter()
        alice.send(b"1")
        hangUpHalf(alice)
        self.house.endpoint.connected()
        self.assertEqual(b"1", self.house.device.written)
        self.assertTrue(self.house.device.halfClosed)

    def test_serial(self) -> None:
        """
        A device without halves has answered when it has been silent for a while
        after it took all.
        """
        self.house.endpoint.kind = LineSocket
        alice = self.house.enter()
        alice.send(b"x" * (FULL + 1))
        hangUpHalf(alice)
        self.house.clock.advance(60)
        self.assertEqual([], self.house.reasons())
        self.house.device.take()
        for _ in range(3):
            self.house.clock.advance(QUIET_PATIENCE - 0.1)
            self.house.device.say(b"y")
        self.house.clock.advance(QUIET_PATIENCE - 0.1)
        self.assertEqual([], self.house.reasons())
        self.house.clock.advance(0.1)
        self.settle(alice)
        self.assertEqual(b"yyy", alice.received)
        self.assertEqual(["client-closed"], self.house.reasons())
        self.assertNextIsServed()

    def test_serialAndSlowClient(self) -> None:
        """
        The silence ends nothing before the client has taken what was said.
        """
        self.house.endpoint.kind = LineSocket
        alice = self.house.enter()
        hangUpHalf(alice)
        producer: Any = alice.socket.producer
        self.house.device.say(b"answer")
        producer.pauseProducing()
        self.house.clock.advance(QUIET_PATIENCE)
        self.assertEqual([], self.house.reasons())
        producer.resumeProducing()
        self.settle(alice)
        self.assertEqual(["client-closed"], self.house.reasons())

    def test_lastWords(self) -> None:
        """
        A device that is to be sent last words is not told: it is waited for as if
        it knew no half-close.
        """
        self.build(onClose=(b"close",))
        alice = self.house.enter()
        alice.send(b"1")
        hangUpHalf(alice)
        self.assertFalse(self.house.device.halfClosed)
        self.house.device.say(b"answer")
        self.house.clock.advance(QUIET_PATIENCE)
        self.house.device.hangUp()
        self.settle(alice)
        self.assertEqual(b"answer", alice.received)
        self.assertEqual(b"1close", self.house.device.written)
        self.assertEqual(["client-closed"], self.house.reasons())

    def test_lastWordsAndCannotRecord(self) -> None:
        """
        A half that closes when the session is over changes nothing.
        """
        self.build(onOpen=(b"open",))
        self.house.endpoint.auto = False
        alice = self.house.enter()
        hangUpHalf(alice)
        self.house.trail.broken = "disk full"
        self.house.endpoint.connected()
        self.house.device.hangUp()
        self.settle(alice)
        self.assertEqual("", self.house.holder)

    def test_device(self) -> None:
        """
        A device that closes its half: all that it has said is recorded and
        delivered, and then the client's connection is closed in good order.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        self.house.device.say(b"last")
        self.house.device.hangUp()
        alice.pump()
        self.assertFalse(alice.closeNotified)
        self.house.trail.fire()
        self.house.trail.pending = None
        self.settle(alice)
        self.assertEqual(b"last", alice.received)
        self.assertTrue(alice.closeNotified)
        self.assertEqual(["backend-closed"], self.house.reasons())
        self.assertNextIsServed()

    def test_deviceAndSlowClient(self) -> None:
        """
        A client that is slow to read is not cut off: the session ends when its
        buffer was taken.
        """
        for lose in (False, True):
            self.build()
            alice = self.house.visit()
            producer: Any = alice.socket.producer
            self.house.device.say(b"last")
            producer.pauseProducing()
            if lose:
                self.house.device.lose()
            else:
                self.house.device.hangUp()
            self.house.clock.advance(60)
            self.assertEqual([], self.house.reasons())
            producer.resumeProducing()
            self.settle(alice)
            self.assertEqual(b"last", alice.received)
            self.assertTrue(alice.closeNotified)
            self.assertEqual(["backend-closed"], self.house.reasons())

    def test_delivery(self) -> None:
        """
        Nor is it cut off while something has not arrived at its system, although the
        session has ended: until then the slot is not free.
        """
        left = [9]
        self.patch(closing, "undelivered", lambda transport: left[0])
        alice = self.house.enter()
        alice.answersClose = False
        self.house.device.hangUp()
        self.house.device.lose()
        self.house.clock.pump([closing.DELIVERY_PERIOD] * 100)
        self.settle(alice)
        self.assertEqual(["backend-closed"], self.house.reasons())
        self.assertEqual(("", "anonymous"), (alice.ending, self.house.holder))
        left[0] = 0
        self.house.clock.pump([closing.DELIVERY_PERIOD, closing.CLOSE_PATIENCE])
        self.settle(alice)
        self.assertNextIsServed()

    def test_endTwice(self) -> None:
        """
        That the client's input has ended counts once, however often it is said: one
        silence is waited for, and an answer in the midst of it arrives whole.
        """
        self.house.endpoint.kind = LineSocket
        alice = self.house.enter()
        hangUpHalf(alice)
        session: Any = self.house.device.protocol._owner
        for _ in range(4):
            session.inputEnded()
            self.house.clock.advance(QUIET_PATIENCE - 0.1)
            session.inputEnded()
            self.house.device.say(b"line")
        self.house.clock.advance(QUIET_PATIENCE)
        self.settle(alice)
        self.assertEqual(b"line" * 4, alice.received)
        self.assertEqual(["client-closed"], self.house.reasons())
        self.assertNextIsServed()

    def test_endTwiceAndHalfClose(self) -> None:
        """
        A device that has been told once is not told again.
        """
        alice = self.house.enter()
        hangUpHalf(alice)
        self.assertTrue(self.house.device.halfClosed)
        session: Any = self.house.device.protocol._owner
        self.house.device.halfClosed = False
        session.inputEnded()
        self.assertFalse(self.house.device.halfClosed)

    def test_backpressureIsNoSilence(self) -> None:
        """
        While the client takes nothing its device is not read, and so the device's
        silence is ours: it is waited for from when the client has taken all.
        """
        self.house.endpoint.kind = LineSocket
        alice = self.house.enter()
        hangUpHalf(alice)
        producer: Any = alice.socket.producer
        write = alice.socket.write

        def fill(data: bytes) -> None:
            write(data)
            producer.pauseProducing()

        self.patch(alice.socket, "write", fill)
        for _ in range(3):
            self.house.clock.advance(QUIET_PATIENCE - 0.1)
            self.house.device.say(b"part")
            self.assertTrue(self.house.device.paused)
            self.house.clock.pump([1] * 60)
            self.assertEqual([], self.house.reasons())
            producer.resumeProducing()
        self.house.clock.advance(QUIET_PATIENCE)
        self.settle(alice)
        self.assertEqual(b"part" * 3, alice.received)
        self.assertEqual(["client-closed"], self.house.reasons())

    def test_recordsAreNoSilence(self) -> None:
        """
        Nor is the time in which what the device has said is recorded.
        """
        self.house.endpoint.kind = LineSocket
        alice = self.house.enter()
        hangUpHalf(alice)
        self.house.trail.pending = []
        self.house.device.say(b"part")
        self.house.clock.pump([1] * 10)
        self.assertEqual([], self.house.reasons())
        self.house.trail.fire()
        self.house.trail.pending = None
        self.house.clock.advance(QUIET_PATIENCE - 0.1)
        self.house.device.say(b"part")
        self.house.clock.advance(QUIET_PATIENCE)
        self.settle(alice)
        self.assertEqual(b"part" * 2, alice.received)
        self.assertEqual(["client-closed"], self.house.reasons())

    def test_bothEnd(self) -> None:
        """
        A client that closes its half while a device that has ended is being delivered
        changes nothing: no silence is waited for then.
        """
        self.build(onClose=(b"close",))
        alice = self.house.enter()
        producer: Any = alice.socket.producer
        self.house.device.say(b"last")
        producer.pauseProducing()
        self.house.device.hangUp()
        hangUpHalf(alice)
        producer.resumeProducing()
        self.assertEqual([b"close"], [self.house.device.written])
        self.settle(alice)
        self.assertEqual(["backend-closed"], self.house.reasons())

    def test_quietAndLeaves(self) -> None:
        """
        A client that leaves while the device's silence is waited for leaves no
        timer.
        """
        self.house.endpoint.kind = LineSocket
        alice = self.house.enter()
        hangUpHalf(alice)
        alice.vanish()
        self.settle(alice)
        self.assertEqual(["connection-lost"], self.house.reasons())
        self.assertNextIsServed()

    def test_deviceLost(self) -> None:
        """
        A device whose connection breaks: the same; what the client says meanwhile
        is dropped, and not recorded as if somebody had got it.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        self.house.device.say(b"last")
        self.house.device.lose(ConnectionResetError())
        alice.send(b"to nobody")
        self.house.trail.fire()
        self.house.trail.pending = None
        self.settle(alice)
        self.assertEqual(b"last", alice.received)
        self.assertEqual(b"", self.house.trail.carried("in"))
        self.assertEqual(["backend-closed"], self.house.reasons())
        self.assertNextIsServed()


class StallTests(GatewayTestCase):
    """
    A device that takes nothing.
    """

    def fill(self, alice: Peer) -> None:
        """
        The client sends until it is not read any more.
        """
        while not alice.socket.paused:
            alice.send(b"x" * 16384)

    def wait(self, seconds: float) -> None:
        """
        Let time go by.
        """
        self.house.clock.pump([STALL_PERIOD] * round(seconds / STALL_PERIOD))

    def assertStalled(self, alice: Peer) -> None:
        """
        The session has ended for it, and the device is cut off in its time.
        """
        self.settle(alice)
        self.wait(CLOSE_PATIENCE)
        self.settle(alice)
        self.assertEqual(["backend-stalled"], self.house.reasons())
        self.assertIn(
            "the backend twin: takes nothing of what waits for it",
            self.house.log.texts(),
        )
        self.assertNextIsServed()

    def test_limit(self) -> None:
        """
        It is given up after a while, with TLS and without: its client is not read, so
        nobody would notice that it is gone.
        """
        for enter in ("enter", "visit"):
            self.build()
            alice: Peer = getattr(self.house, enter)()
            self.fill(alice)
            self.wait(STALL_PATIENCE)
            self.assertEqual([], self.house.reasons())
            self.wait(2 * STALL_PERIOD)
            self.assertStalled(alice)

    def test_afterHalfClose(self) -> None:
        """
        So it is when the client has closed its half, which may be all that is seen of
        one that was killed.
        """
        alice = self.house.enter()
        self.fill(alice)
        hangUpHalf(alice)
        self.wait(STALL_PATIENCE + 2 * STALL_PERIOD)
        self.assertStalled(alice)

    def test_clientIsGone(self) -> None:
        """
        A client that has closed TCP below TLS is gone: a device that takes nothing
        then has only as long as to close. Without TLS that client may wait for an
        answer.
        """
        self.patch(gateway, "hasHungUp", lambda transport: True)
        alice = self.house.visit()
        self.fill(alice)
        self.wait(CLOSE_PATIENCE + 2 * STALL_PERIOD)
        self.assertStalled(alice)
        self.build()
        self.fill(self.house.enter())
        self.wait(STALL_PATIENCE)
        self.assertEqual([], self.house.reasons())

    def test_slow(self) -> None:
        """
        A device that takes a little now and then is left alone, and so is one that
        says something meanwhile.
        """
        alice = self.house.enter()
        self.fill(alice)
        for number in range(6):
            self.wait(STALL_PATIENCE - STALL_PERIOD)
            if number % 2:
                del self.house.device.outgoing[:1]
            else:
                self.house.device.say(b"busy")
        self.assertEqual([], self.house.reasons())

    def test_deviceHasEnded(self) -> None:
        """
        Nothing is expected of a device that has ended, while its client takes what it
        has said.
        """
        for lose in (False, True):
            self.build()
            alice = self.house.enter()
            self.house.device.say(b"last")
            self.fill(alice)
            self.house.trail.pending = []
            self.house.device.say(b"words")
            (self.house.device.lose if lose else self.house.device.hangUp)()
            self.wait(STALL_PATIENCE * 2)
            self.assertEqual([], self.house.reasons())
            self.house.trail.fire()
            self.house.trail.pending = None
            self.assertEqual(["backend-closed"], self.reasonsAfter(alice))
            self.assertEqual(b"lastwords", alice.received)

    def test_notIdle(self) -> None:
        """
        A client that is not read, as its device is slow, is not idle: it may be
        sending all the time. One that takes nothing itself is, in the end.
        """
        for reads in (True, False):
            self.build(idleTimeout=300.0)
            alice = self.house.enter()
            self.fill(alice)
            if not reads:
                cast(Any, alice.socket.producer).pauseProducing()
            for _ in range(12):
                self.wait(STALL_PATIENCE / 2)
                del self.house.device.outgoing[:1]
            self.assertEqual(
                [] if reads else ["idle-timeout"], self.reasonsAfter(alice)
            )
            if reads:
                self.house.device.take()
                self.wait(300)
                self.assertEqual(["idle-timeout"], self.reasonsAfter(alice))

    def reasonsAfter(self, alice: Peer) -> list[str]:
        """
        Why sessions have ended, when all is closed that can be.
        """
        self.settle(alice)
        self.wait(CLOSE_PATIENCE)
        self.settle(alice)
        return self.house.reasons()

    def test_cannotWrite(self) -> None:
        """
        So is one that is not read, because the client takes nothing: it cannot be
        told from one that waits for that, as an echo does.
        """
        alice = self.house.enter()
        self.fill(alice)
        producer: Any = alice.socket.producer
        producer.pauseProducing()
        self.wait(STALL_PATIENCE * 2)
        self.assertEqual([], self.house.reasons())
        producer.resumeProducing()
        self.wait(STALL_PATIENCE)
        self.assertEqual([], self.house.reasons())
        self.wait(2 * STALL_PERIOD)
        self.assertStalled(alice)


class UndeliveredTests(TestCase):
    """
    What a system still has to deliver.
    """

    async def test_socket(self) -> None:
        """
        It is what the peer's has not taken, with and without layers above the
        socket; nothing when all is there, when it is closed, or without a socket.
        """
        made: Deferred[Protocol] = Deferred()

        class Taker(Protocol):
            def connectionMade(self) -> None:
                made.callback(self)

        port: Any = reactor.listenTCP(
            0, Factory.forProtocol(Taker), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
            transport: Any = (await made).transport
            self.assertEqual(0, undelivered(transport))
            transport.write(b"x" * 20_000_000)
            await deferLater(reactor, 0.1)
            self.assertGreater(undelivered(transport), 0)
            factory = WrappingFactory(Factory())
            wrapper: Any = ProtocolWrapper(factory, Protocol())
            wrapper.transport = transport
            self.assertGreater(undelivered(wrapper), 0)
            client.setblocking(False)
            got = 0
            while got < 20_000_000:
                with contextlib.suppress(BlockingIOError):
                    got += len(client.recv(1_000_000))
                await deferLater(reactor, 0)
            self.assertEqual(0, undelivered(transport))
            transport.abortConnection()
            self.assertEqual(0, undelivered(transport))
        self.assertEqual(0, undelivered(StringTransport()))


class LastWordsTests(GatewayTestCase):
    """
    What the device is sent when a session begins and ends.
    """

    def setUp(self) -> None:
        """
        Something at both ends.
        """
        self.build(
            onOpen=(b"o1\n", b"o2\n"),
            onClose=(b"c1\n", b"c2\n"),
            idleTimeout=50.0,
            maxSession=70.0,
        )

    def test_order(self) -> None:
        """
        First the opening, then the client; last the closing; each recorded before
        it is sent, and the session's end recorded when the device is closed.
        """
        alice = self.house.visit()
        alice.send(b"x")
        alice.close()
        self.settle(alice)
        expected: list[tuple[str, bytes]] = [("connect", b"")]
        for data in (b"o1\n", b"o2\n", b"x", b"c1\n", b"c2\n"):
            expected += [("record", b"in:" + data), ("device", data)]
        expected += [("device lost", b""), ("closed", b"client-closed")]
        self.assertEqual(expected, self.house.history)

    def test_everyEnd(self) -> None:
        """
        The closing is sent at every kind of end while the device is there.
        """

        def idle(_: Peer) -> None:
            self.house.clock.advance(50)

        def limit(alice: Peer) -> None:
            self.house.clock.advance(40)
            alice.send(b"x")
            self.house.clock.advance(30)

        def shutdown(_: Peer) -> None:
            self.house.admission.stop()

        def deviceEnds(_: Peer) -> None:
            self.house.device.hangUp()

        for reason, act in (
            ("client-closed", Peer.close),
            ("connection-lost", Peer.vanish),
            ("idle-timeout", idle),
            ("session-limit", limit),
            ("shutdown", shutdown),
            ("backend-closed", deviceEnds),
        ):
            self.setUp()
            alice = self.house.visit()
            act(alice)
            self.settle(alice)
            self.house.clock.advance(CLOSE_PATIENCE)
            self.settle(alice)
            self.assertEqual([reason], self.house.reasons())
            self.assertTrue(
                self.house.device.written.endswith(b"c1\nc2\n"),
                (reason, self.house.device.written),
            )
            self.assertEqual(
                ("closed", reason.encode()), self.house.history[-1], reason
            )

    def test_deviceGone(self) -> None:
        """
        A device that is gone is sent nothing, and nothing is recorded as sent.
        """
        alice = self.house.visit()
        self.house.device.lose()
        self.settle(alice)
        self.assertEqual(b"o1\no2\n", self.house.device.written)
        self.assertEqual(b"o1\no2\n", self.house.trail.carried("in"))

    def test_late(self) -> None:
        """
        The closing waits for its record too, behind what the client has said; the
        device's connection is closed only after that.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        alice.send(b"x")
        alice.close()
        self.assertFalse(self.house.device.halfClosed)
        self.assertEqual("alice", self.house.holder)
        self.house.trail.fire(3)
        self.house.trail.pending = None
        self.assertEqual(b"o1\no2\nxc1\nc2\n", self.house.device.written)
        self.assertTrue(self.house.device.halfClosed)
        self.house.device.hangUp()
        self.settle(alice)
        self.assertEqual("", self.house.holder)

    def test_lateAndFails(self) -> None:
        """
        If the closing cannot be recorded after all, it is not sent, and the device
        is closed.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        alice.close()
        self.house.trail.failNext()
        self.assertTrue(self.house.device.halfClosed)
        self.house.trail.fire()
        self.assertEqual(b"o1\no2\n", self.house.device.written)
        self.settle(alice)
        self.assertEqual(["client-closed"], self.house.reasons())
        self.assertNextIsServed()

    def test_deviceLostWhileWaiting(self) -> None:
        """
        A device that goes meanwhile ends the session.
        """
        alice = self.house.visit()
        self.house.trail.pending = []
        alice.close()
        self.house.device.lose()
        self.assertEqual(["client-closed"], self.house.reasons())
        self.house.trail.fire(2)
        self.assertEqual(b"o1\no2\n", self.house.device.written)
        self.assertNextIsServed()


class NothingReachesTheNextTests(GatewayTestCase):
    """
    One session's things stay in it.
    """

    def test_lateOctets(self) -> None:
        """
        What the device says after the session's end reaches neither the trail nor
        the next client.
        """
        alice = self.house.visit()
        first = self.house.device
        alice.send(b"READ?")
        alice.close()
        first.say(b"late answer")
        self.settle(alice)
        first.hangUp()
        first.settle()
        self.assertEqual(b"", self.house.trail.carried("out"))
        bob = self.house.visit("bob")
        first.say(b"later still")
        bob.pump()
        self.assertEqual(b"", bob.received)
        self.assertEqual(b"", self.house.trail.carried("out"))

    def test_slotWaits(self) -> None:
        """
        The slot is free only when the device's connection is closed.
        """
        alice = self.house.visit()
        alice.close()
        self.assertEqual("alice", self.house.holder)
        self.assertIn(b"421 BUSY", self.house.visit("bob", ALPN_SESSION).received)
        self.house.device.hangUp()
        self.assertEqual("alice", self.house.holder)
        self.house.device.settle()
        self.assertEqual("", self.house.holder)
        self.assertNextIsServed()

    def test_deviceDoesNotClose(self) -> None:
        """
        A device that does not let itself be closed is cut off.
        """
        alice = self.house.visit()
        alice.close()
        self.house.clock.advance(CLOSE_PATIENCE)
        self.assertTrue(self.house.device.aborted)
        self.house.device.settle()
        self.assertNextIsServed()

    def test_nothingHelps(self) -> None:
        """
        If even that does not help, the log says so, and the slot is free after a
        bounded time.
        """
        alice = self.house.visit()
        alice.close()
        self.house.clock.pump([CLOSE_PATIENCE, CLEANUP_PATIENCE - CLOSE_PATIENCE])
        self.assertEqual("", self.house.holder)
        self.assertIn(
            f"did not end within {CLEANUP_PATIENCE}", self.house.log.texts()[-2]
        )
        first = self.house.device
        first.lose()
        self.assertNextIsServed()

    def test_diskNeverAnswers(self) -> None:
        """
        While a disk does not answer the last words wait; the device is cut off
        before the slot is free.
        """
        self.build(onClose=(b"close",))
        alice = self.house.visit()
        self.house.trail.pending = []
        alice.close()
        self.house.clock.advance(CLEANUP_PATIENCE)
        self.assertTrue(self.house.device.aborted)
        self.assertEqual("", self.house.holder)
        self.assertEqual(b"", self.house.device.written)


class EndTests(GatewayTestCase):
    """
    Each end leaves all in order.
    """

    def test_floodAtEnd(self) -> None:
        """
        A client that leaves while both flood and nobody reads: the device's
        connection is closed, and what was recorded last is what was sent last.
        """
        alice = self.house.enter()
        while not alice.socket.paused:
            alice.send(b"x" * 65536)
        producer: Any = alice.socket.producer
        producer.pauseProducing()
        self.assertTrue(self.house.device.paused)
        alice.vanish()
        self.assertFalse(self.house.device.paused)
        self.house.device.say(b"y" * 65536)
        self.assertEqual(b"", self.house.trail.carried("out"))
        self.house.clock.advance(CLOSE_PATIENCE)
        self.settle(alice)
        self.assertEqual(
            self.house.trail.carried("in"), bytes(self.house.device.written)
        )
        self.assertNextIsServed()

    def test_producersAreGone(self) -> None:
        """
        No producer is registered when a transport is to be closed: it would keep
        it from closing.
        """
        alice = self.house.visit()
        self.house.admission.stop()
        alice.pump()
        self.assertIs(None, alice.socket.producer)
        self.assertIs(None, self.house.device.producer)
        self.assertTrue(alice.closeNotified)

    def test_shutdown(self) -> None:
        """
        To stop waits until the device's connection is closed.
        """
        done: list[object] = []
        alice = self.house.visit()
        self.house.admission.stop().addCallback(done.append)
        alice.pump()
        self.assertEqual([], done)
        self.house.device.lose()
        self.assertEqual(1, len(done))
        self.assertEqual(["shutdown"], self.house.reasons())

    def test_silentClient(self) -> None:
        """
        A silent client that does not answer the close is cut off, and the next is
        served.
        """
        self.build(idleTimeout=30.0)
        alice = self.house.visit()
        alice.answersClose = False
        self.house.clock.advance(30)
        self.settle(alice)
        self.house.clock.advance(2)
        self.settle(alice)
        self.assertEqual("reset", alice.ending)
        self.assertNextIsServed()

    def test_manyInTurn(self) -> None:
        """
        One after another, each has a connection of its own.
        """
        for number in range(5):
            peer = self.house.visit(f"client{number}")
            peer.send(str(number).encode())
            peer.close()
            self.settle(peer)
            self.house.clock.advance(1)
            self.settle(peer)
            self.assertEqual(str(number).encode(), self.house.device.written)
        self.assertEqual(5, len(self.house.endpoint.sockets))
        self.assertNoErrors()
        self.assertNextIsServed()
