"""
Tests for L{tcpsvc.doorway}: real octets and real TLS, from the handshake to
the end of a session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from uuid import UUID

from attrs import define, field
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpsvc import closing, doorway, sockets
from tcpsvc.commands import command, commandsOf
from tcpsvc.doorway import CLEANUP_PATIENCE, DISCARD_PERIOD, Doorway
from tcpsvc.identity import Client, identityFrom
from tcpsvc.interfaces import AuditUnavailable, Claim, ISlot, SlotHeld
from tcpsvc.pending import Knock
from tcpsvc.sockets import PULSE_PERIOD
from tcpsvc.tls import ALPN_CONTROL, ALPN_SESSION, ServerTLS, describe
from tcpsvc.wire import Request
from tests.certificates import authority, otherAuthority
from tests.peers import (
    House,
    Peer,
    Thing,
    ThingSession,
    clientContext,
    namedPair,
    serverMaterial,
)
from tests.support import MemoryTrail

START = "2027-01-15T08:00:00Z"
"""
When the clocks of houses begin.
"""

GREETING = "220 bench.example tcpsvc 0.1.0; you are alice"


@implementer(ISlot)
@define(slots=False)
class LateSlot:
    """
    A slot that answers when the test lets it, as one in a cluster would.

    @ivar asked: Who asked for it, each with the Deferred to fire.
    @ivar released: The claims that were given back.
    """

    current: Claim | None = None
    claims: int = 0
    asked: list[tuple[Client, Deferred[Claim]]] = field(factory=list)
    released: list[Claim] = field(factory=list)

    def claim(self, client: Client) -> Deferred[Claim]:
        """Ask."""
        answer: Deferred[Claim] = Deferred()
        self.asked.append((client, answer))
        return answer

    def release(self, claim: Claim) -> Deferred[None]:
        """Give back."""
        self.released.append(claim)
        if self.current is claim:
            self.current = None
        return succeed(None)

    def grant(self) -> Claim:
        """Let the one who asked last have it."""
        client, answer = self.asked[-1]
        self.claims += 1
        self.current = made = Claim(client, self.claims)
        answer.callback(made)
        return made


def _holder(house: House) -> str:
    """
    The name of who holds the slot; empty if nobody does.
    """
    current: Claim | None = house.slot.current
    return current.holder.identity.name if current is not None else ""


def _failures(house: House) -> list[str]:
    """
    The exceptions that were logged.
    """
    return [
        repr(event["log_failure"].value)
        for event in house.log.events
        if "log_failure" in event
    ]


class ArrivalTests(SynchronousTestCase):
    """
    When and for whom the slot is claimed.
    """

    def test_interfaces(self) -> None:
        """
        A doorway hears of the handshake's end, and of each half's close.
        """
        made = House().plaintext.buildProtocol(None)
        self.assertTrue(verifyObject(IHandshakeListener, made))
        self.assertTrue(verifyObject(IHalfCloseableProtocol, made))

    def test_notInHandshake(self) -> None:
        """
        While a client is in the handshake the slot is free, and another
        can have it.
        """
        house = House()
        bob = house.knock(clientContext(namedPair("bob")))
        bob.reads = False
        bob.shakeHands()
        self.assertNotEqual(b"", bytes(bob.socket.written))
        self.assertEqual("", _holder(house))
        self.assertEqual([GREETING], house.visit("alice").lines)
        bob.reads = True
        bob.pump()
        self.assertTrue(bob.lines[0].startswith("421 BUSY held by alice"))

    def test_afterHandshake(self) -> None:
        """
        A client whose handshake has completed holds the slot, and is greeted.
        """
        house = House()
        alice = house.visit("alice")
        self.assertEqual([GREETING], alice.lines)
        self.assertEqual("alice", _holder(house))

    def test_expectsMore(self) -> None:
        """
        Of the holder more is expected after each reply, while there is no other
        session.
        """
        expected: list[object] = []
        mayExpect: list[Callable[[], bool]] = []

        def expect(transport: object, mayWait: Callable[[], bool]) -> None:
            expected.append(transport)
            mayExpect.append(mayWait)

        self.patch(doorway, "expectMore", expect)
        house = House()
        alice = house.visit("alice")
        house.visit("bob")
        self.assertEqual([_doorwayOf(alice).transport], expected)
        self.assertTrue(mayExpect[0]())
        asker = house.visit("bob", ALPN_CONTROL)
        self.assertEqual(1, len(expected))
        self.assertFalse(mayExpect[0]())
        asker.close()
        self.assertTrue(mayExpect[0]())

    def test_leaving(self) -> None:
        """
        A client is not leaving until its session is over, and then at once, however
        long it takes to clean up after it.
        """
        thing = Thing(slow=True)
        house = House(backend=thing)
        house.visit("alice")
        session = thing.sessions[-1]
        self.assertFalse(session.client.leaving)
        session.end("idle-timeout")
        self.assertTrue(session.client.leaving)
        self.assertEqual("alice", _holder(house))

    def test_oldVersion(self) -> None:
        """
        The same under TLS 1.2, where it is allowed.
        """
        house = House(tls=ServerTLS(serverMaterial(), "1.2"))
        context = clientContext(namedPair("alice"), highest=SSL.TLS1_2_VERSION)
        alice = house.visit(context=context)
        self.assertEqual([GREETING], alice.lines)
        alice.send(b"QUIT\r\n")
        self.assertEqual("closed", alice.ending)
        self.assertEqual("", _holder(house))

    def test_refusedCertificate(self) -> None:
        """
        A client without an acceptable certificate never claims the slot, nor
        does anything that it sends reach a session.
        """
        thing = Thing()
        house = House(backend=thing)
        house.knock(clientContext(otherAuthority().client())).shakeHands(b"x")
        house.knock(clientContext(None)).shakeHands(b"x")
        self.assertEqual(0, house.slot.claims)
        self.assertEqual([], thing.sessions)

    def test_onceOnly(self) -> None:
        """
        A handshake that is reported again changes nothing.
        """
        house = House()
        alice = house.visit()
        made = _doorwayOf(alice)
        made.handshakeCompleted()
        alice.pump()
        self.assertEqual([GREETING], alice.lines)
        self.assertEqual(1, house.slot.claims)
        self.assertEqual(["session.opened"], house.trail.events())

    def test_dataWithFinished(self) -> None:
        """
        Octets that come together with the handshake's end are the session's.
        """
        house = House()
        alice = house.knock()
        alice.shakeHands(b"ECHO early\r\n")
        self.assertEqual([GREETING, "200 early"], alice.lines)

    def test_failure(self) -> None:
        """
        A failure when the handshake has completed closes the connection; no
        octet in flight gets through, and the slot stays free.
        """
        for name in ("identityOfPeer", "describe", "uuid4", "written", "Client"):
            thing = Thing()
            house = House(backend=thing, limit=1)
            self.patch(doorway, name, _raising)
            alice = house.knock()
            alice.shakeHands(b"dangerous")
            self.assertEqual("reset", alice.ending, name)
            self.assertEqual(b"", bytes(alice.received))
            self.assertEqual([], thing.sessions)
            self.assertEqual("", _holder(house))
            self.assertEqual(["RuntimeError('broken on purpose')"], _failures(house))
            self.flushPatches()

    def flushPatches(self) -> None:
        """
        Undo what L{patch} has done so far.
        """
        self.doCleanups()

    def test_failureSettles(self) -> None:
        """
        After such a failure the connection is no longer pending.
        """
        house = House(limit=1)
        self.patch(doorway, "describe", _raising)
        house.visit()
        house.advance(1)
        self.assertEqual([], house.clock.getDelayedCalls())
        house.knock()
        self.assertEqual(
            [], [r for r in house.trail.of("handshake.failed") if "displ" in str(r)]
        )

    def test_failureOfBackend(self) -> None:
        """
        A backend that cannot make a session closes the connection; no octet
        gets through, and the slot is free again.
        """
        for thing in (Thing(refuses="no"), Thing(broken="no")):
            house = House(backend=thing)
            alice = house.knock()
            alice.shakeHands(b"dangerous")
            self.assertEqual("reset", alice.ending)
            self.assertEqual("", _holder(house))
            self.assertEqual(["RuntimeError('no')"], _failures(house))
            for session in thing.sessions:
                self.assertEqual(b"", bytes(session.got))
            self.assertEqual([], house.clock.getDelayedCalls())

    def test_brokenSessionStopped(self) -> None:
        """
        A session that failed as it began is stopped, and its end recorded: the
        trail has its beginning.
        """
        thing = Thing(broken="no")
        house = House(backend=thing)
        house.visit()
        self.assertEqual(
            ["connectionMade", "stop", "connectionLost"], thing.sessions[0].calls
        )
        self.assertEqual(["session.opened", "session.closed"], house.trail.events())
        told = [event["event"] for event in house.log.events if "event" in event]
        self.assertEqual(["session.opened", "session.closed"], told)

    def test_greetedFirst(self) -> None:
        """
        The session begins before the log says so, once: the client need not wait for
        that.
        """
        house = House(backend=Thing())
        logged: list[int] = []

        def begin(_: ThingSession) -> None:
            logged.append(len(house.log.events))

        self.patch(ThingSession, "connectionMade", begin)
        house.visit().close()
        self.assertEqual([0], logged)
        told = [event["event"] for event in house.log.events]
        self.assertEqual(["session.opened", "session.closed"], told)

    def test_dataInHandshake(self) -> None:
        """
        Octets for a doorway that nobody has come through are dropped.
        """
        made = House().secure.wrapInTLS(None).wrappedProtocol
        assert isinstance(made, Doorway)
        made.dataReceived(b"dangerous")
        self.assertEqual(b"", bytes(made._early))


def _doorwayOf(peer: Peer) -> Doorway:
    """
    The doorway at the other end of a peer's connection.
    """
    assert isinstance(peer.protocol, Knock)
    tls = peer.protocol._tls
    assert tls is not None and isinstance(tls.wrappedProtocol, Doorway)
    return tls.wrappedProtocol


def _raising(*_: object) -> None:
    """
    Fail.
    """
    raise RuntimeError("broken on purpose")


class BusyTests(SynchronousTestCase):
    """
    Clients that come while another holds the slot.
    """

    def test_words(self) -> None:
        """
        They are told who holds it, since when, and for how long nothing was
        asked; then the connection is closed in good order.
        """
        house = House()
        alice = house.visit("alice")
        house.advance(100)
        alice.send(b"NOOP\r\n")
        house.advance(42.9)
        bob = house.visit("bob")
        self.assertEqual(
            f"421 BUSY held by alice since {START}, idle 42 s\r\n".encode(),
            bytes(bob.received),
        )
        self.assertTrue(bob.closeNotified)
        self.assertEqual("closed", bob.ending)

    def test_record(self) -> None:
        """
        Each is recorded, and logged.
        """
        house = House()
        house.visit("alice")
        bob = house.visit("bob")
        self.assertEqual(
            [
                {
                    "address": bob.address,
                    "identity": identityFrom(namedPair("bob").certificate).asRecord(),
                    "reason": "busy",
                    "holder": "alice",
                }
            ],
            house.trail.of("session.refused"),
        )
        self.assertEqual(
            f"turned away bob from {bob.address}: busy (held by alice)",
            house.log.texts()[-1],
        )

    def test_holderNoticesNothing(self) -> None:
        """
        The holder gets no octet for that, is no less idle, and is answered as
        before.
        """
        house = House()
        alice = house.visit("alice")
        before = bytes(alice.received), len(alice.socket.written)
        house.advance(7)
        for _ in range(3):
            house.visit("bob")
        house.visit("alice")
        self.assertEqual(before, (bytes(alice.received), len(alice.socket.written)))
        self.assertFalse(alice.socket.paused)
        alice.send(b"ECHO still here\r\n")
        self.assertEqual([GREETING, "200 still here"], alice.lines)
        self.assertEqual("alice", _holder(house))

    def test_sameClientAgain(self) -> None:
        """
        The holder's own second connection is turned away as any other.
        """
        house = House()
        house.visit("alice")
        self.assertTrue(house.visit("alice").lines[0].startswith("421 BUSY"))

    def test_dataDropped(self) -> None:
        """
        What a client sends that is turned away reaches nobody, and is not
        answered; it gets its reply however much that is.
        """
        house = House()
        house.visit("alice")
        bob = house.knock(clientContext(namedPair("bob")))
        bob.answersClose = False
        bob.shakeHands(b"ECHO x\r\n" * 1000)
        bob.send(b"ECHO y\r\n" * 100_000)
        self.assertEqual(1, len(bob.lines))
        self.assertTrue(bob.lines[0].startswith("421 BUSY held by alice"))
        self.assertEqual([], house.trail.of("request"))

    def test_lingering(self) -> None:
        """
        A client that does not answer the close is cut off after 2 s.
        """
        house = House()
        house.visit("alice")
        bob = house.knock(clientContext(namedPair("bob")))
        bob.answersClose = False
        bob.shakeHands()
        house.advance(1.999)
        self.assertEqual("", bob.ending)
        house.advance(0.001)
        self.assertEqual("reset", bob.ending)

    def test_notReading(self) -> None:
        """
        A client that does not even read its reply is cut off after 2 s too.
        """
        house = House()
        house.visit("alice")
        bob = house.knock(clientContext(namedPair("bob")))
        take = bob._take

        def once(octets: bytes) -> None:
            take(octets)
            bob.reads = False

        bob._take = once  # type: ignore[method-assign]
        bob.shakeHands()
        self.assertEqual("", bob.ending)
        house.advance(2)
        self.assertEqual("reset", bob.ending)

    def test_betweenListeners(self) -> None:
        """
        There is one slot, however many listeners lead to it.
        """
        house = House()
        house.visit("alice")
        guest = house.telnet()
        self.assertTrue(guest.lines[0].startswith("421 BUSY held by alice"))
        self.assertEqual("closed", guest.ending)

    def test_nextOne(self) -> None:
        """
        When the holder has gone, the next one is admitted.
        """
        house = House()
        house.visit("alice").send(b"QUIT\r\n")
        self.assertIn("you are bob", house.visit("bob").lines[0])


class SlotTests(SynchronousTestCase):
    """
    When the slot is free again.
    """

    def test_transportLost(self) -> None:
        """
        The slot is held until the transport is lost, however long before the
        session has ended.
        """
        house = House()
        alice = house.visit("alice")
        alice.answersClose = False
        alice.send(b"QUIT\r\n")
        [bye] = alice.lines[1:]
        self.assertTrue(bye.startswith("221 bye; record "), bye)
        self.assertEqual("alice", _holder(house))
        self.assertTrue(house.visit("bob").lines[0].startswith("421 BUSY"))
        house.advance(2)
        self.assertEqual("reset", alice.ending)
        self.assertEqual("", _holder(house))

    def test_backendCleanedUp(self) -> None:
        """
        The slot is held until the backend is cleaned up, even when the
        transport is lost before.
        """
        thing = Thing(slow=True)
        house = House(backend=thing)
        alice = house.visit("alice")
        gone = _doorwayOf(alice).gone
        alice.vanish()
        self.assertEqual("alice", _holder(house))
        [session] = thing.sessions
        self.assertEqual(["connectionMade", "stop", "connectionLost"], session.calls)
        self.assertNoResult(gone)
        assert session.stopped is not None
        session.stopped.callback(None)
        self.assertEqual("", _holder(house))
        self.successResultOf(gone)
        self.assertEqual([], house.clock.getDelayedCalls())

    def test_backendFirst(self) -> None:
        """
        A backend that is cleaned up first waits for the transport.
        """
        thing = Thing(slow=True)
        house = House(backend=thing)
        alice = house.visit("alice")
        alice.answersClose = False
        [session] = thing.sessions
        session.end("quit")
        assert session.stopped is not None
        session.stopped.callback(None)
        self.assertEqual("alice", _holder(house))
        alice.vanish()
        self.assertEqual("", _holder(house))

    def test_backendRaises(self) -> None:
        """
        A backend that raises as it is stopped, or whose end cannot be told, holds the
        slot no longer; the log says what it was.
        """

        def stop() -> Deferred[None]:
            raise RuntimeError("no")

        for name, broken in (("stop", stop), ("outcome", None)):
            with self.subTest(name):
                thing = Thing()
                house = House(backend=thing)
                alice = house.visit("alice")
                setattr(thing.sessions[0], name, broken)
                alice.vanish()
                self.assertEqual("", _holder(house))
                house.visit("bob")
                self.assertEqual("bob", _holder(house))
                failures = [e for e in house.log.events if "log_failure" in e]
                self.assertEqual(1, len(failures))

    def test_backendRaisesAtTheLast(self) -> None:
        """
        The same if it raises when it is told that the connection is lost.
        """
        thing = Thing()
        house = House(backend=thing)
        alice = house.visit("alice")

        def connectionLost(_: object) -> None:
            raise RuntimeError("no")

        self.patch(thing.sessions[0], "connectionLost", connectionLost)
        self.assertRaises(RuntimeError, alice.vanish)
        self.assertEqual("", _holder(house))

    def test_backendNever(self) -> None:
        """
        A backend that does not come to an end holds the slot for ten seconds
        more; then the log says so, and the slot is free.
        """
        thing = Thing(slow=True)
        house = House(backend=thing)
        house.visit("alice").vanish()
        house.advance(CLEANUP_PATIENCE - 0.001)
        self.assertEqual("alice", _holder(house))
        house.advance(0.001)
        self.assertEqual("", _holder(house))
        self.assertIn("did not end within 10.0 s", house.log.texts()[-2])

    def test_backendFails(self) -> None:
        """
        A backend that fails to clean up is logged, and the slot is free.
        """
        thing = Thing(slow=True)
        house = House(backend=thing)
        house.visit("alice").vanish()
        [session] = thing.sessions
        assert session.stopped is not None
        session.stopped.errback(RuntimeError("stuck"))
        self.assertEqual("", _holder(house))
        self.assertEqual(["RuntimeError('stuck')"], _failures(house))

    def test_nothingReachesTheNext(self) -> None:
        """
        What a client sends after its session's end reaches neither its own
        session nor the next one.
        """
        thing = Thing()
        house = House(backend=thing)
        alice = house.visit("alice")
        alice.send(b"one")
        thing.sessions[0].end("quit")
        alice.answersClose = False
        alice.send(b"two")
        alice.vanish()
        house.visit("bob")
        self.assertEqual(b"one", bytes(thing.sessions[0].got))
        self.assertEqual(b"", bytes(thing.sessions[1].got))

    def test_afterQuit(self) -> None:
        """
        What stands behind a QUIT is dropped, in the same chunk and later.
        """
        house = House()
        alice = house.visit()
        alice.answersClose = False
        alice.send(b"QUIT\r\nECHO one\r\n")
        alice.send(b"ECHO two\r\n")
        [bye] = alice.lines[1:]
        self.assertTrue(bye.startswith("221 bye; record "), bye)
        self.assertEqual(1, len(house.trail.of("request")))


class LateSlotTests(SynchronousTestCase):
    """
    A slot that does not answer at once.
    """

    def setUp(self) -> None:
        """
        A house with such a slot.
        """
        self.slot = LateSlot()
        self.thing = Thing()
        self.house = House(slot=self.slot)
        self.other = House(slot=self.slot, backend=self.thing)

    def test_claimed(self) -> None:
        """
        The client is served when the slot is its.
        """
        alice = self.house.visit()
        self.assertEqual([], alice.lines)
        self.assertEqual([], self.house.trail.events())
        self.slot.grant()
        alice.pump()
        self.assertEqual([GREETING], alice.lines)

    def test_earlyData(self) -> None:
        """
        What the client sends meanwhile is kept and delivered, in order; but
        no more is read than was under way.
        """
        alice = self.house.visit()
        alice.send(b"ECHO one\r\nECHO tw")
        self.assertTrue(alice.socket.paused)
        alice.send(b"o\r\n")
        self.slot.grant()
        self.assertFalse(alice.socket.paused)
        alice.pump()
        self.assertEqual([GREETING, "200 one", "200 two"], alice.lines)

    def test_earlyDataAtOnce(self) -> None:
        """
        What came with the handshake's last octets is kept too.
        """
        alice = self.house.knock()
        alice.shakeHands(b"ECHO one\r\n")
        self.slot.grant()
        alice.pump()
        self.assertEqual([GREETING, "200 one"], alice.lines)

    def test_earlyQuit(self) -> None:
        """
        A session may end by what was kept.
        """
        alice = self.house.visit()
        alice.send(b"QUIT\r\n")
        self.slot.grant()
        alice.pump()
        greeting, bye = alice.lines
        self.assertEqual(GREETING, greeting)
        self.assertTrue(bye.startswith("221 bye; record "), bye)
        self.assertEqual("closed", alice.ending)
        self.assertIsNone(self.slot.current)

    def test_held(self) -> None:
        """
        A claim that fails late because the slot is another's gives the busy
        reply.
        """
        self.house.visit("alice")
        claim = self.slot.grant()
        bob = self.house.visit("bob")
        bob.send(b"ECHO one\r\n")
        self.assertEqual([], bob.lines)
        self.slot.asked[-1][1].errback(SlotHeld(claim))
        bob.pump()
        self.assertEqual([f"421 BUSY held by alice since {START}, idle 0 s"], bob.lines)
        self.assertEqual("closed", bob.ending)
        self.assertEqual("alice", _holder(self.house))

    def test_failed(self) -> None:
        """
        A claim that fails for any other reason closes the connection at once;
        nothing that was kept is delivered.
        """
        alice = self.other.visit()
        alice.send(b"dangerous")
        self.slot.asked[-1][1].errback(RuntimeError("no quorum"))
        alice.pump()
        self.assertEqual("reset", alice.ending)
        self.assertEqual(["RuntimeError('no quorum')"], _failures(self.other))
        self.assertEqual([], self.thing.sessions)

    def test_failsAtOnce(self) -> None:
        """
        The same if it fails at once.
        """
        error = RuntimeError("no quorum")
        self.slot.claim = lambda client: fail(error)  # type: ignore[method-assign]
        alice = self.other.visit()
        self.assertEqual("reset", alice.ending)
        self.assertEqual([], self.thing.sessions)

    def test_lostWhileClaiming(self) -> None:
        """
        A client that is lost while it waits leaves nothing: the claim is given
        back when it comes, and there was no session.
        """
        alice = self.other.visit()
        gone = _doorwayOf(alice).gone
        alice.vanish()
        self.successResultOf(gone)
        claim = self.slot.grant()
        self.assertEqual([claim], self.slot.released)
        self.assertIsNone(self.slot.current)
        self.assertEqual([], self.thing.sessions)
        self.assertEqual([], self.other.trail.events())
        self.assertEqual([], self.other.clock.getDelayedCalls())

    def test_lostWhileClaimingAndHeld(self) -> None:
        """
        A claim that fails after its client was lost is of no importance.
        """
        for error in (SlotHeld(Claim(_someone(), 1)), RuntimeError("no quorum")):
            alice = self.house.visit()
            alice.vanish()
            answer = self.slot.asked[-1][1]
            answer.errback(error)
            self.assertIsNone(self.successResultOf(answer))
            self.assertEqual([], self.house.trail.events())

    def test_shutdownWhileClaiming(self) -> None:
        """
        Nobody is admitted whose claim succeeds after the service has begun to
        stop: the claim is given back, and the client told.
        """
        alice = self.house.visit()
        self.house.admission.stop()
        claim = self.slot.grant()
        alice.pump()
        self.assertEqual([claim], self.slot.released)
        self.assertEqual(
            ["421 SHUTDOWN the service is stopping; good bye"], alice.lines
        )
        self.assertEqual([], self.house.trail.of("session.opened"))

    def test_released(self) -> None:
        """
        The claim that was granted is the one that is given back, once.
        """
        alice = self.house.visit()
        claim = self.slot.grant()
        alice.send(b"QUIT\r\n")
        self.assertEqual([claim], self.slot.released)


def _someone() -> Client:
    """
    A client.
    """
    identity = identityFrom(namedPair("someone").certificate)
    return Client(identity, "192.0.2.9:1", "session", 0.0, 0.0)


class ControlTests(SynchronousTestCase):
    """
    Clients that only ask about the service.
    """

    def test_greeting(self) -> None:
        """
        They are greeted as such, and do not take the slot.
        """
        house = House()
        asker = house.visit("bob", ALPN_CONTROL)
        self.assertEqual(
            ["220 bench.example tcpsvc 0.1.0 control; you are bob"], asker.lines
        )
        self.assertEqual("", _holder(house))
        self.assertEqual(0, house.slot.claims)
        self.assertEqual([GREETING], house.visit("alice").lines)

    def test_whileHeld(self) -> None:
        """
        They are answered while the slot is held, and leave the holder alone.
        """
        house = House()
        alice = house.visit("alice")
        asker = house.visit("bob", ALPN_CONTROL)
        asker.send(b"WHO\r\n")
        self.assertEqual(
            f"200 alice {alice.address} since {START} idle 0 s", asker.lines[-1]
        )
        asker.send(b"QUIT\r\n")
        self.assertEqual("closed", asker.ending)
        self.assertEqual("alice", _holder(house))
        alice.send(b"NOOP\r\n")
        self.assertEqual([GREETING, "200 OK"], alice.lines)

    def test_verbs(self) -> None:
        """
        They have HELP, WHO, STATUS, VERSION and QUIT, and no other verb.
        """
        house = House()
        asker = house.visit("bob", ALPN_CONTROL)
        asker.send(b"HELP\r\n")
        self.assertEqual(
            ["HELP", "WHO", "STATUS", "VERSION", "QUIT"],
            [line[4:].split()[0] for line in asker.lines[1:]],
        )
        asker.received.clear()
        asker.send(b"ECHO x\r\nNOOP\r\nTIME\r\n")
        self.assertEqual(
            ["500 UNKNOWN-COMMAND"] * 3, [line[:19] for line in asker.lines]
        )

    def test_atMostEight(self) -> None:
        """
        There are at most eight at once; the ninth is told so, and can come
        when one of them has left.
        """
        house = House()
        askers = [house.visit(f"asker{n}", ALPN_CONTROL) for n in range(8)]
        self.assertEqual([""] * 8, [asker.ending for asker in askers])
        ninth = house.visit("bob", ALPN_CONTROL)
        self.assertEqual(
            ["421 BUSY 8 control connections are open, or 2 of yours; try again later"],
            ninth.lines,
        )
        self.assertEqual("closed", ninth.ending)
        self.assertEqual(
            "control-limit", house.trail.of("session.refused")[0]["reason"]
        )
        askers[3].close()
        self.assertIn("control", house.visit("bob", ALPN_CONTROL).lines[0])

    def test_ofTheirOwn(self) -> None:
        """
        Eight of them do not keep a client from the slot.
        """
        house = House()
        for n in range(8):
            house.visit(f"asker{n}", ALPN_CONTROL)
        self.assertEqual([GREETING], house.visit("alice").lines)

    def test_atMostTwoEach(self) -> None:
        """
        An identity may have two at once.
        """
        house = House()
        askers = [house.visit("bob", ALPN_CONTROL) for _ in range(3)]
        self.assertEqual(["", "", "closed"], [asker.ending for asker in askers])
        self.assertEqual("421 BUSY", askers[2].lines[0][:8])
        self.assertEqual("", house.visit("carol", ALPN_CONTROL).ending)
        askers[0].close()
        self.assertEqual("", house.visit("bob", ALPN_CONTROL).ending)

    def test_withGateway(self) -> None:
        """
        They get the line protocol even where the backend is transparent.
        """
        house = House(backend=Thing())
        asker = house.visit("bob", ALPN_CONTROL)
        self.assertIn("control; you are bob", asker.lines[0])

    def test_records(self) -> None:
        """
        Their sessions are in the trail, marked.
        """
        house = House()
        house.visit("bob", ALPN_CONTROL).send(b"WHO\r\nQUIT\r\n")
        opened = house.trail.of("session.opened")[0]
        self.assertIs(True, opened["control"])
        self.assertEqual(2, house.trail.of("session.closed")[0]["requests"])

    def test_idle(self) -> None:
        """
        They can be idle no longer than others.
        """
        house = House(idleTimeout=30)
        asker = house.visit("bob", ALPN_CONTROL)
        house.advance(30)
        self.assertTrue(asker.lines[-1].startswith("421 IDLE-TIMEOUT"))


class TransparentTests(SynchronousTestCase):
    """
    A backend whose octets are all that a client may get.
    """

    def setUp(self) -> None:
        """
        A house with such a backend.
        """
        self.thing = Thing()
        self.house = House(backend=self.thing, idleTimeout=60)

    def test_admitted(self) -> None:
        """
        A client that is admitted gets only what the session writes.
        """
        alice = self.house.visit("alice")
        self.assertEqual(b"", bytes(alice.received))
        self.thing.sessions[0].transport.write(b"from the thing")  # type: ignore[union-attr]
        alice.pump()
        self.assertEqual(b"from the thing", bytes(alice.received))

    def test_turnedAway(self) -> None:
        """
        A client that is turned away gets a clean close and not one octet.
        """
        self.house.visit("alice")
        bob = self.house.visit("bob")
        self.assertEqual(b"", bytes(bob.received))
        self.assertTrue(bob.closeNotified)
        self.assertEqual("closed", bob.ending)
        self.assertEqual("busy", self.house.trail.of("session.refused")[0]["reason"])

    def test_otherProtocol(self) -> None:
        """
        To offer some other protocol is not to ask to be told.
        """
        self.house.visit("alice")
        self.assertEqual(b"", bytes(self.house.visit("bob", b"http/1.1").received))

    def test_told(self) -> None:
        """
        A client that offered C{tcpsvc/1} is told.
        """
        self.house.visit("alice")
        bob = self.house.visit("bob", ALPN_SESSION)
        self.assertEqual([f"421 BUSY held by alice since {START}, idle 0 s"], bob.lines)

    def test_ended(self) -> None:
        """
        When the service ends a session, not one octet is added, unless the
        client offered C{tcpsvc/1}.
        """
        alice = self.house.visit("alice")
        self.house.advance(60)
        self.assertEqual(b"", bytes(alice.received))
        self.assertEqual("closed", alice.ending)
        alice = self.house.visit("alice", ALPN_SESSION)
        self.house.advance(60)
        self.assertEqual(
            ["421 IDLE-TIMEOUT no request for too long; good bye"], alice.lines
        )

    def test_stopping(self) -> None:
        """
        The same at the service's end, and when nothing can be recorded.
        """
        alice = self.house.visit("alice")
        self.house.admission.stop()
        bob = self.house.visit("bob")
        self.house.pump()
        self.assertEqual((b"", b""), (bytes(alice.received), bytes(bob.received)))
        house = House(backend=Thing())
        house.trail.broken = "disk full"
        carol = house.visit("carol")
        self.assertEqual((b"", "closed"), (bytes(carol.received), carol.ending))

    def test_plaintext(self) -> None:
        """
        On a plaintext listener nobody can ask to be told.
        """
        self.house.visit("alice")
        guest = self.house.telnet()
        self.assertEqual((b"", "closed"), (bytes(guest.received), guest.ending))


class _Slow:
    """
    A command that takes its time.
    """

    def __init__(self) -> None:
        self.answer: Deferred[str] = Deferred()

    @command("SLOW")
    def slow(self, request: Request) -> Deferred[str]:
        """takes its time"""
        return self.answer


class ComesTooOftenTests(SynchronousTestCase):
    """
    Clients that are refused again and again, or keep opening control connections.
    """

    def setUp(self) -> None:
        """
        A house whose slot alice holds; one may come once a second.
        """
        self.house = House(reconnectRate=1)
        self.house.visit("alice")

    def test_refused(self) -> None:
        """
        The second refusal within a second comes a second later, to that identity only.
        What is sent meanwhile is not read.
        """
        self.assertEqual("421 BUSY", self.house.visit("bob").lines[0][:8])
        again = self.house.visit("bob")
        self.assertEqual([], again.lines)
        self.assertTrue(again.socket.paused)
        self.assertEqual("421 BUSY", self.house.visit("carol").lines[0][:8])
        self.house.advance(0.99)
        self.assertEqual(([], ""), (again.lines, again.ending))
        self.house.advance(0.02)
        self.assertEqual("421 BUSY", again.lines[0][:8])
        self.assertEqual("closed", again.ending)
        self.assertEqual(0, self.house.admission.delayed)

    def test_control(self) -> None:
        """
        The greeting of a control connection waits likewise.
        """
        self.house.visit("bob", ALPN_CONTROL).close()
        again = self.house.visit("bob", ALPN_CONTROL)
        self.assertEqual([], again.lines)
        self.house.advance(1)
        self.assertEqual("220", again.lines[0][:3])
        again.send(b"WHO\n")
        self.assertEqual("200 alice", again.lines[1][:9])

    def test_leaves(self) -> None:
        """
        A client that leaves meanwhile is forgotten.
        """
        for name, alpn in (("bob", ()), ("carol", (ALPN_CONTROL,))):
            with self.subTest(name):
                self.house.visit(name, *alpn)
                again = self.house.visit(name, *alpn)
                self.assertEqual(1, self.house.admission.delayed)
                again.vanish()
                self.assertEqual(0, self.house.admission.delayed)
        before = len(self.house.trail.kept)
        self.house.advance(5)
        self.assertEqual(before + 1, len(self.house.trail.kept))
        self.assertEqual("session.refused", self.house.trail.events()[-1])

    def test_stopping(self) -> None:
        """
        The service can stop meanwhile.
        """
        self.house.visit("bob", ALPN_CONTROL).close()
        again = self.house.visit("bob", ALPN_CONTROL)
        stopped = self.house.admission.stop()
        self.house.pump()
        for _ in range(5):
            self.house.advance(1)
        self.assertEqual("421 SHUTDOWN", again.lines[0][:12])
        self.successResultOf(stopped)


class EndOfInputTests(SynchronousTestCase):
    """
    The end of what a client sends over TLS (RFC 8446, section 6.1): its own direction
    ends, and no other.
    """

    def finish(self, guest: Peer, requests: bytes) -> None:
        """
        Send requests and C{close_notify} in one segment.
        """
        assert guest.tls is not None
        guest.tls.send(requests)
        guest.tls.shutdown()
        guest.pump()

    def reasons(self, house: House) -> list[object]:
        """
        Why sessions have ended.
        """
        return [record["reason"] for record in house.trail.of("session.closed")]

    def test_lateReply(self) -> None:
        """
        Requests that arrive with close_notify are answered, also if that takes
        time; then the service closes too.
        """
        slow = _Slow()
        house = House(commands=commandsOf(slow))
        guest = house.visit()
        self.finish(guest, b"SLOW\nECHO two\n")
        house.advance(10)
        self.assertEqual(("", "alice"), (guest.ending, _holder(house)))
        slow.answer.callback("one")
        house.pump()
        self.assertEqual(["200 one", "200 two"], guest.lines[1:])
        self.assertEqual(("closed", ""), (guest.ending, _holder(house)))
        self.assertTrue(guest.closeNotified)
        self.assertEqual(["client-closed"], self.reasons(house))

    def test_onDisk(self) -> None:
        """
        The same if replies wait for the disk.
        """
        pending: list[Deferred[None]] = []
        house = House(trail=MemoryTrail(pending=pending))
        guest = house.visit()
        pending.pop(0).callback(None)
        guest.pump()
        self.finish(guest, b"ECHO one\nSTATUS\n")
        while not guest.ending:
            pending.pop(0).callback(None)
            guest.pump()
        self.assertEqual("200 one", guest.lines[1])
        self.assertEqual("211", guest.lines[-1][:3])
        self.assertEqual("closed", guest.ending)

    def test_whileOpening(self) -> None:
        """
        The same if they arrive before the session's beginning is on the disk.
        """
        pending: list[Deferred[None]] = []
        house = House(trail=MemoryTrail(pending=pending))
        guest = house.visit()
        self.finish(guest, b"ECHO one\n")
        while not guest.ending:
            pending.pop(0).callback(None)
            guest.pump()
        self.assertEqual(["200 one"], guest.lines[1:])
        self.assertEqual("closed", guest.ending)

    def test_streamEndsToo(self) -> None:
        """
        A client that closes TCP behind it gets the replies too.
        """
        slow = _Slow()
        house = House(commands=commandsOf(slow))
        guest = house.visit()
        self.finish(guest, b"SLOW\n")
        guest.hangUp()
        self.assertEqual("", guest.ending)
        slow.answer.callback("one")
        house.pump()
        self.assertEqual(["200 one"], guest.lines[1:])
        self.assertEqual(["client-closed"], self.reasons(house))

    def test_truncated(self) -> None:
        """
        Where TCP ends without close_notify, replies that wait for the disk are sent;
        but it may be somebody else who ended it, and the record does not say that the
        client did.
        """
        pending: list[Deferred[None]] = []
        house = House(trail=MemoryTrail(pending=pending))
        guest = house.visit()
        pending.pop(0).callback(None)
        guest.pump()
        guest.send(b"ECHO one\nSTATUS\n")
        guest.hangUp()
        while not guest.ending:
            pending.pop(0).callback(None)
            guest.pump()
        self.assertEqual(("200 one", "211"), (guest.lines[1], guest.lines[-1][:3]))
        self.assertEqual(["connection-lost"], self.reasons(house))

    def test_truncatedAtWork(self) -> None:
        """
        A command that takes time is given up then, also one that comes behind others.
        """
        for requests in (b"SLOW\n", b"STATUS\nSLOW\n"):
            with self.subTest(requests):
                slow = _Slow()
                pending: list[Deferred[None]] = []
                house = House(
                    commands=commandsOf(slow), trail=MemoryTrail(pending=pending)
                )
                guest = house.visit()
                pending.pop(0).callback(None)
                guest.pump()
                guest.send(requests)
                guest.hangUp()
                while pending:
                    pending.pop(0).callback(None)
                    guest.pump()
                self.assertEqual(("closed", ""), (guest.ending, _holder(house)))
                self.assertIn("the command SLOW was given up", house.log.texts())
                self.assertFalse([e for e in house.log.events if "log_failure" in e])
                self.assertEqual(["connection-lost"], self.reasons(house))

    def test_closeIsNotDisplaced(self) -> None:
        """
        However many clients are refused and do not close, a session's close has its
        time.
        """
        house = House()
        guest = house.visit()
        guest.answersClose = False
        guest.send(b"QUIT\n")
        for _ in range(2 * closing.MAX_CLOSING):
            refused = Peer(house.plaintext)
            refused.answersClose = False
            refused.pump()
            self.assertEqual("421 BUSY", refused.lines[0][:8])
        guest.pump()
        self.assertEqual("", guest.ending)
        house.advance(closing.CLOSE_PATIENCE)
        self.assertEqual("reset", guest.ending)

    def test_deliveryTakesTime(self) -> None:
        """
        A client that takes nothing has half a minute after its own QUIT, and ten
        seconds after a limit was reached.
        """
        self.patch(closing, "undelivered", lambda transport: 1000)
        for requests, seconds in ((b"QUIT\n", 30), (b"", 10)):
            with self.subTest(requests):
                house = House(idleTimeout=5)
                guest = house.visit()
                guest.answersClose = False
                if requests:
                    guest.send(requests)
                else:
                    house.advance(5)
                self.assertTrue(guest.sawEnd)
                house.clock.pump([0.1] * (10 * seconds - 2))
                guest.pump()
                self.assertEqual("", guest.ending)
                house.clock.pump([0.1] * 4)
                guest.pump()
                self.assertEqual("reset", guest.ending)

    def test_closedUnheard(self) -> None:
        """
        What a client sends after its session has ended is not decrypted; its
        connection ends when it closes its half, or after 2 s.
        """
        house = House()
        guest = house.visit()
        guest.answersClose = False
        guest.send(b"QUIT\n")
        self.assertTrue(guest.closeNotified)
        self.assertTrue(guest.sawEnd)
        self.patch(SSL.Connection, "bio_write", None)
        guest.sendRaw(b"anything")
        self.assertEqual("", guest.ending)
        guest.hangUp()
        self.assertEqual("closed", guest.ending)


class LimitTests(SynchronousTestCase):
    """
    How long a session may be idle, and how long it may last.
    """

    def test_idle(self) -> None:
        """
        A session without a request for too long is ended, and told why.
        """
        house = House(idleTimeout=60)
        alice = house.visit()
        house.advance(59)
        alice.send(b"NOOP\r\n")
        house.advance(59.9)
        self.assertEqual("", alice.ending)
        house.advance(0.2)
        self.assertEqual(
            [GREETING, "200 OK", "421 IDLE-TIMEOUT no request for too long; good bye"],
            alice.lines,
        )
        self.assertEqual("closed", alice.ending)
        self.assertEqual("", _holder(house))
        self.assertEqual("idle-timeout", house.trail.of("session.closed")[0]["reason"])

    def test_longest(self) -> None:
        """
        A session that lasts too long is ended although it is not idle.
        """
        house = House(idleTimeout=60, maxSession=100)
        alice = house.visit()
        for _ in range(10):
            self.assertEqual("", alice.ending)
            alice.send(b"NOOP\r\n")
            house.advance(10)
        self.assertEqual(
            "421 SESSION-LIMIT a session may last no longer; good bye", alice.lines[-1]
        )
        self.assertEqual("session-limit", house.trail.of("session.closed")[0]["reason"])

    def test_off(self) -> None:
        """
        0 switches either limit off.
        """
        house = House(idleTimeout=0, maxSession=0)
        alice = house.visit()
        house.advance(10_000_000)
        self.assertEqual("", alice.ending)

    def test_floodAfterRefusal(self) -> None:
        """
        What a client sends after it was refused is read only now and then; when it
        closes, it is gone.
        """
        house = House()
        house.visit("alice")
        guest = house.telnet()
        self.assertEqual("closed", guest.ending)
        late = Peer(house.plaintext)
        late.answersClose = False
        late.pump()
        reads = 0
        for _ in range(1000):
            if not late.socket.paused:
                late.protocol.dataReceived(b"x" * 4096)
                reads += 1
            house.clock.advance(0.001)
        self.assertLessEqual(reads, 1 / DISCARD_PERIOD + 1)
        late.vanish()
        late = Peer(house.plaintext)
        house.advance(5)
        self.assertEqual(0, house.admission.delayed)

    def test_vanished(self) -> None:
        """
        A client that is gone is noticed within five seconds, even while neither
        end reads or writes: behind a command that never answers, with more
        requests waiting than are read.
        """
        house = House(commands=commandsOf(_Slow()))
        alice = house.visit()
        alice.send(b"SLOW\r\n" + b"NOOP\r\n" * 20000)
        failed: list[object] = []
        self.patch(sockets, "hasFailed", lambda transport: bool(failed))
        house.advance(PULSE_PERIOD)
        self.assertIsNotNone(house.slot.current)
        failed.append(True)
        house.advance(PULSE_PERIOD)
        self.assertIsNone(house.slot.current)
        self.assertEqual([], house.clock.getDelayedCalls())

    def test_answeringIsNotIdle(self) -> None:
        """
        A session that waits for the service is not idle.
        """
        slow = _Slow()
        house = House(idleTimeout=60, commands=commandsOf(slow))
        alice = house.visit()
        alice.send(b"SLOW\r\n")
        house.advance(1000)
        self.assertEqual("", alice.ending)
        slow.answer.callback("at last")
        alice.pump()
        self.assertEqual("200 at last", alice.lines[-1])
        house.advance(59)
        self.assertEqual("", alice.ending)
        house.advance(61)
        self.assertEqual("closed", alice.ending)

    def test_onTime(self) -> None:
        """
        After a late answer a session may be idle for as long as ever, and no
        longer.
        """
        slow = _Slow()
        house = House(idleTimeout=60, commands=commandsOf(slow))
        alice = house.visit()
        alice.send(b"SLOW\r\n")
        house.advance(70)
        slow.answer.callback("at last")
        alice.pump()
        house.advance(59.9)
        self.assertEqual("", alice.ending)
        house.advance(0.1)
        self.assertEqual("closed", alice.ending)

    def test_noTimerLeft(self) -> None:
        """
        A session that has ended leaves no timer.
        """
        house = House()
        house.visit().send(b"QUIT\r\n")
        house.visit().vanish()
        self.assertEqual([], house.clock.getDelayedCalls())

    def test_lastWordsAfterReplies(self) -> None:
        """
        A client that has not read its replies gets them before the last words,
        if it reads within 2 s; else it is cut off.
        """
        house = House(idleTimeout=60)
        alice = house.visit()
        alice.reads = False
        alice.send(b"ECHO one\r\n")
        house.advance(60)
        self.assertEqual("", alice.ending)
        alice.reads = True
        alice.pump()
        self.assertEqual(["200 one", "421"], [alice.lines[1], alice.lines[2][:3]])
        again = house.visit()
        again.reads = False
        house.advance(60)
        house.advance(2)
        self.assertEqual("reset", again.ending)


class ShutdownTests(SynchronousTestCase):
    """
    The end of the service.
    """

    def test_words(self) -> None:
        """
        The holder and those who only ask are told, and their ends recorded.
        """
        house = House()
        alice = house.visit("alice")
        asker = house.visit("bob", ALPN_CONTROL)
        stopped = house.admission.stop()
        self.assertNoResult(stopped)
        house.pump()
        for peer in (alice, asker):
            self.assertEqual(
                "421 SHUTDOWN the service is stopping; good bye", peer.lines[-1]
            )
            self.assertEqual("closed", peer.ending)
        self.successResultOf(stopped)
        self.assertEqual(
            ["shutdown"] * 2,
            [record["reason"] for record in house.trail.of("session.closed")],
        )

    def test_newcomers(self) -> None:
        """
        Whoever comes then is turned away with the same words.
        """
        house = House()
        house.admission.stop()
        bob = house.visit("bob")
        self.assertEqual(["421 SHUTDOWN the service is stopping; good bye"], bob.lines)
        asker = house.visit("bob", ALPN_CONTROL)
        self.assertEqual(bob.lines, asker.lines)
        house.flood.tellAll()
        self.assertEqual(
            [("shutdown", None), ("shutdown", 1)],
            [
                (record["reason"], record.get("count"))
                for record in house.trail.of("session.refused")
            ],
        )

    def test_stubbornPeer(self) -> None:
        """
        A peer that does not answer the close holds the end up for 2 s.
        """
        house = House()
        alice = house.visit()
        alice.answersClose = False
        stopped = house.admission.stop()
        house.advance(1.9)
        self.assertNoResult(stopped)
        house.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual("reset", alice.ending)

    def test_waitsForBackend(self) -> None:
        """
        It waits for the backend to be cleaned up.
        """
        thing = Thing(slow=True)
        house = House(backend=thing)
        house.visit()
        stopped = house.admission.stop()
        house.pump()
        self.assertNoResult(stopped)
        assert thing.sessions[0].stopped is not None
        thing.sessions[0].stopped.callback(None)
        self.successResultOf(stopped)


class UnavailableTests(SynchronousTestCase):
    """
    A trail that cannot be written when a session begins.
    """

    WORDS = "421 AUDIT-UNAVAILABLE nothing can be recorded now, so nothing is served"

    def test_atOnce(self) -> None:
        """
        The client is told so and turned away; no request of its is acted upon,
        the log says why, and the slot is free again.
        """
        house = House()
        house.trail.broken = "disk full"
        alice = house.knock()
        alice.shakeHands(b"ECHO one\r\n")
        self.assertEqual([self.WORDS], alice.lines)
        self.assertEqual("closed", alice.ending)
        self.assertEqual("", _holder(house))
        self.assertEqual([], house.trail.kept)
        self.assertIn(
            "turned away alice from 192.0.2.1:49152: audit-unavailable",
            house.log.texts(),
        )
        house.advance(1)
        self.assertEqual([], house.clock.getDelayedCalls())

    def test_goesOnByItself(self) -> None:
        """
        When the trail can be written again, clients are admitted again.
        """
        house = House()
        house.trail.broken = "disk full"
        house.visit()
        house.trail.broken = ""
        self.assertEqual([GREETING], house.visit().lines)
        self.assertEqual(["session.opened"], house.trail.events())

    def test_late(self) -> None:
        """
        The same if it is known only later that it cannot be written.
        """
        house = House(trail=MemoryTrail(pending=[]))
        alice = house.visit()
        alice.send(b"ECHO one\r\n")
        self.assertEqual([], alice.lines)
        assert house.trail.pending is not None
        house.trail.pending[0].errback(AuditUnavailable("disk full"))
        alice.pump()
        self.assertEqual([self.WORDS], alice.lines)
        self.assertEqual("", _holder(house))
        self.assertEqual([], house.trail.of("request"))

    def test_lateOtherError(self) -> None:
        """
        Any other failure there admits nobody either.
        """
        house = House(trail=MemoryTrail(pending=[]))
        alice = house.visit()
        assert house.trail.pending is not None
        house.trail.pending[0].errback(RuntimeError("broken"))
        alice.pump()
        self.assertEqual(("reset", []), (alice.ending, alice.lines))
        self.assertEqual("", _holder(house))

    def test_recordedFirst(self) -> None:
        """
        Not one octet leaves before the session's beginning is recorded; what
        the client has sent meanwhile is then answered.
        """
        house = House(trail=MemoryTrail(pending=[]))
        alice = house.visit()
        alice.send(b"QUIT\r\n")
        self.assertEqual(b"", bytes(alice.received))
        assert house.trail.pending is not None
        house.trail.pending[0].callback(None)
        alice.pump()
        self.assertEqual([GREETING], alice.lines)

    def test_lostWhileWaiting(self) -> None:
        """
        When the client is lost while its session's beginning is on its way to
        the disk, the session's end is recorded too, and nothing is sent later.
        """
        house = House(trail=MemoryTrail(pending=[]))
        alice = house.visit()
        alice.send(b"ECHO one\r\n")
        alice.vanish()
        self.assertEqual(["session.opened", "session.closed"], house.trail.events())
        closed = house.trail.of("session.closed")[0]
        self.assertEqual(
            ("connection-lost", 0, 0, 0),
            (
                closed["reason"],
                closed["requests"],
                closed["bytes_in"],
                closed["bytes_out"],
            ),
        )
        assert house.trail.pending is not None
        for waiting in house.trail.pending:
            waiting.callback(None)
        self.assertEqual("", _holder(house))
        self.assertEqual(2, len(house.trail.events()))
        self.assertEqual([], house.clock.getDelayedCalls())

    def test_shutdownWhileWaiting(self) -> None:
        """
        When the service stops in that moment, the client is told, and the
        session's end recorded.
        """
        house = House(trail=MemoryTrail(pending=[]))
        alice = house.visit()
        stopped = house.admission.stop()
        house.pump()
        self.assertEqual(
            ["421 SHUTDOWN the service is stopping; good bye"], alice.lines
        )
        self.successResultOf(stopped)
        self.assertEqual(["session.opened", "session.closed"], house.trail.events())

    def test_atTheEnd(self) -> None:
        """
        A session whose end cannot be recorded ends all the same.
        """
        house = House()
        alice = house.visit()
        house.trail.broken = "disk full"
        alice.vanish()
        self.assertEqual("", _holder(house))
        self.assertEqual(["session.opened"], house.trail.events())
        self.assertIn("disk full", house.log.texts())

    def test_inSession(self) -> None:
        """
        A request that cannot be recorded ends the session: its reply does not
        leave, but the words do.
        """
        house = House()
        alice = house.visit()
        house.trail.broken = "disk full"
        alice.send(b"ECHO one\r\n")
        self.assertEqual([GREETING, self.WORDS], alice.lines)
        self.assertEqual("closed", alice.ending)
        self.assertEqual("", _holder(house))


class RecordTests(SynchronousTestCase):
    """
    The records of a session's beginning and end.
    """

    def test_opened(self) -> None:
        """
        The beginning has session, address, identity, and what TLS agreed on.
        """
        house = House()
        alice = house.visit("alice")
        [record] = house.trail.of("session.opened")
        session = record.pop("session")
        self.assertEqual(4, UUID(str(session)).version)
        tls = cast(TLSMemoryBIOProtocol, _doorwayOf(alice).transport).getHandle()
        self.assertEqual(
            {
                "address": alice.address,
                "identity": identityFrom(namedPair("alice").certificate).asRecord(),
                "tls": describe(tls),
            },
            record,
        )
        self.assertEqual(
            f"session {session} of alice from {alice.address} has begun",
            house.log.texts()[-1],
        )

    def test_closed(self) -> None:
        """
        The end has the session, why, and how much there was of it.
        """
        house = House()
        alice = house.visit()
        house.advance(1.5)
        alice.send(b"ECHO one\r\n\r\nQUIT\r\n")
        [opened] = house.trail.of("session.opened")
        self.assertEqual(
            [
                {
                    "session": opened["session"],
                    "reason": "quit",
                    "requests": 2,
                    "bytes_in": 18,
                    "bytes_out": len(alice.received),
                    "duration_s": 1.5,
                }
            ],
            house.trail.of("session.closed"),
        )
        self.assertEqual(
            f"session {opened['session']} has ended: quit (2 requests, 1.500 s)",
            house.log.texts()[-1],
        )

    def test_lastWordsAreNotTheSession(self) -> None:
        """
        What the service says after a session's end is not counted in it.
        """
        thing = Thing(transparent=False)
        house = House(backend=thing, idleTimeout=10)
        house.visit()
        house.advance(10)
        closed = house.trail.of("session.closed")[0]
        self.assertEqual(
            (3, 5, 7), (closed["requests"], closed["bytes_in"], closed["bytes_out"])
        )

    def test_sessionsDiffer(self) -> None:
        """
        No two sessions have the same name.
        """
        house = House()
        house.visit().close()
        house.visit().close()
        one, two = house.trail.of("session.opened")
        self.assertNotEqual(one["session"], two["session"])

    def test_reasons(self) -> None:
        """
        A client that closes in good order and one that is lost are told apart.
        """
        house = House()
        house.visit().close()
        house.visit().vanish()
        self.assertEqual(
            ["client-closed", "connection-lost"],
            [record["reason"] for record in house.trail.of("session.closed")],
        )

    def test_once(self) -> None:
        """
        A session's end is recorded once, however often it is ended.
        """
        thing = Thing()
        house = House(backend=thing)
        alice = house.visit()
        alice.answersClose = False
        session = thing.sessions[0]
        session.end("quit")
        session.end("again")
        house.admission.stop()
        house.advance(2)
        self.assertEqual("reset", alice.ending)
        self.assertEqual(["session.opened", "session.closed"], house.trail.events())
        self.assertEqual(["connectionMade", "stop", "connectionLost"], session.calls)


class EndUnrecordedTests(SynchronousTestCase):
    """
    A session whose end cannot be recorded.
    """

    def test_late(self) -> None:
        """
        If that turns out late, the log says so, and nobody else is bothered.
        """
        house = House(trail=MemoryTrail(pending=[]))
        assert house.trail.pending is not None
        alice = house.visit()
        house.trail.pending.pop().callback(None)
        alice.close()
        house.trail.pending.pop().errback(AuditUnavailable("disk full"))
        self.assertEqual("disk full", house.log.texts()[-1])
        self.assertEqual("", _holder(house))


class LingerTests(SynchronousTestCase):
    """
    Peers that do not answer a close.
    """

    def test_ends(self) -> None:
        """
        Each kind of end is cut off after 2 s.
        """
        for visit in (House.visit, House.telnet):
            house = House()
            peer = visit(house)
            peer.answersClose = False
            peer.send(b"QUIT\r\n")
            self.assertTrue(peer.lines[-1].startswith("221 bye; record "))
            house.advance(1.999)
            self.assertEqual("", peer.ending)
            house.advance(0.001)
            self.assertEqual("reset", peer.ending)
            self.assertEqual("", _holder(house))

    def test_flood(self) -> None:
        """
        A peer that goes on sending is cut off all the same.
        """
        house = House()
        alice = house.visit()
        alice.answersClose = False
        alice.send(b"QUIT\r\n")
        for _ in range(4):
            alice.send(b"x" * 100_000)
            house.advance(0.5)
        self.assertEqual("reset", alice.ending)


class PlaintextTests(SynchronousTestCase):
    """
    A listener without TLS.
    """

    def test_anonymous(self) -> None:
        """
        Whoever comes holds the slot at once, as nobody in particular.
        """
        house = House()
        guest = house.telnet()
        self.assertEqual(
            ["220 bench.example tcpsvc 0.1.0; you are anonymous"], guest.lines
        )
        self.assertEqual("anonymous", _holder(house))
        [record] = house.trail.of("session.opened")
        record.pop("session")
        self.assertEqual(
            {
                "address": guest.address,
                "identity": {
                    "name": "anonymous",
                    "serial": "",
                    "fingerprint": "",
                    "names": [],
                },
                "tls": None,
            },
            record,
        )

    def test_tuned(self) -> None:
        """
        Its socket is tuned to find dead peers.
        """
        guest = House().telnet()
        self.assertTrue(guest.socket.getTcpKeepAlive())
        self.assertTrue(guest.socket.getTcpNoDelay())

    def test_halfClose(self) -> None:
        """
        A client that closes its half after its requests gets all replies; then
        the connection is closed, and the slot free.
        """
        house = House()
        guest = house.telnet()
        guest.send(b"ECHO one\r\nECHO two\n")
        guest.hangUp()
        self.assertEqual(["200 one", "200 two"], guest.lines[1:])
        house.advance(2)
        self.assertNotEqual("", guest.ending)
        self.assertEqual("", _holder(house))
        self.assertEqual(
            ["client-closed"],
            [record["reason"] for record in house.trail.of("session.closed")],
        )

    def test_halfCloseLateReply(self) -> None:
        """
        The same if a reply takes its time.
        """
        slow = _Slow()
        house = House(commands=commandsOf(slow))
        guest = house.telnet()
        guest.send(b"SLOW\r\nECHO two\r\n")
        guest.hangUp()
        house.advance(10)
        self.assertEqual("", guest.ending)
        slow.answer.callback("one")
        house.pump()
        self.assertEqual(["200 one", "200 two"], guest.lines[1:])
        house.advance(2)
        self.assertEqual("", _holder(house))

    def test_halfCloseWhileBusy(self) -> None:
        """
        A client that is turned away and closes its half is closed.
        """
        house = House()
        house.visit("alice")
        guest = house.telnet()
        self.assertEqual("closed", guest.ending)

    def test_halfCloseWhileClaiming(self) -> None:
        """
        A client that closes its half while it waits for the slot is closed.
        """
        house = House(slot=LateSlot())
        guest = house.telnet()
        guest.hangUp()
        self.assertEqual("closed", guest.ending)

    def test_vanished(self) -> None:
        """
        A connection that is lost frees the slot.
        """
        house = House()
        house.telnet().vanish()
        self.assertEqual("", _holder(house))

    def test_lastWordsArrive(self) -> None:
        """
        The last words are followed by the close of our half alone: to close
        all with octets unread would reset the connection, and they be lost.
        """
        house = House()
        guest = house.telnet()
        guest.answersClose = False
        guest.send(b"QUIT\r\n")
        self.assertTrue(guest.socket.halfClosed)
        self.assertFalse(guest.socket.disconnecting)


class DoorwayFactoryTests(SynchronousTestCase):
    """
    Tests for L{tcpsvc.doorway.DoorwayFactory}.
    """

    def test_never(self) -> None:
        """
        It never refuses to build a protocol.
        """
        house = House()
        house.visit()
        house.admission.stopping = True
        self.assertIsInstance(house.plaintext.buildProtocol(None), Protocol)

    def test_authority(self) -> None:
        """
        A certificate of the right authority is all that is asked for.
        """
        alice = House().visit(context=clientContext(authority().client("Zoë")))
        self.assertEqual(["220 bench.example tcpsvc 0.1.0; you are Zoë"], alice.lines)
