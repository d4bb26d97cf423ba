"""
Tests for L{tcpsvc.pending}.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from operator import itemgetter

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import tcpsvc.doorway
from tcpsvc import pending
from tcpsvc.identity import fingerprintOf
from tcpsvc.pending import READ_BURST, READ_RATE, Knock, groupOf
from tcpsvc.tls import ALPN_CONTROL, INTERNAL_ERROR, ServerConnection, ServerTLS
from tcpsvc.turns import LOCK_STEP_FACTOR, TURN_BUDGET
from tests.certificates import authority, newAuthority, otherAuthority
from tests.malformed import Forged, commonName, forged, malformed
from tests.peers import House, Peer, clientContext, namedPair, serverMaterial
from tests.support import MemoryTrail

TURN = 0.02  # Seconds after which another turn has come, whatever it costs.
DISPLACED = "displaced by a newer connection"


class _CountingTLS(ServerTLS):
    """
    Counts the TLS connections that it makes.
    """

    made = 0

    def serverConnectionForTLS(self, protocol: object) -> ServerConnection:
        self.made += 1
        return super().serverConnectionForTLS(protocol)  # type: ignore[arg-type]


def _failures(house: House) -> list[tuple[object, object]]:
    """
    The addresses and reasons of all handshakes that failed.
    """
    return [
        (record["address"], record["reason"])
        for record in house.trail.of("handshake.failed")
    ]


def _hello() -> bytes:
    """
    How a client begins TLS.
    """
    client = SSL.Connection(clientContext(), None)
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(65536)


class SilenceTests(SynchronousTestCase):
    """
    Connections that say nothing.
    """

    def setUp(self) -> None:
        """
        A house that counts what TLS it makes.
        """
        self.tls = _CountingTLS(serverMaterial(), "1.3")
        self.house = House(tls=self.tls, limit=2)
        self.house.cost = TURN_BUDGET

    def test_costsNoTLS(self) -> None:
        """
        A connection that says nothing costs no TLS object, and gets no octet.
        """
        peer = self.house.knock()
        self.house.pump()
        self.assertEqual(0, self.tls.made)
        self.assertEqual(b"", bytes(peer.socket.written))

    def test_firstOctets(self) -> None:
        """
        TLS begins with the first octets, once, however they are cut.
        """
        peer = self.house.knock()
        hello = _hello()
        for at in range(0, len(hello), 7):
            peer.protocol.dataReceived(hello[at : at + 7])
            self.house.clock.advance(1 / READ_RATE)
        self.assertEqual(1, self.tls.made)
        self.assertNotEqual(b"", bytes(peer.socket.written))

    def test_turns(self) -> None:
        """
        One handshake is worked on in a turn of the reactor. The next one waits
        for its own, and is not read meanwhile.
        """
        first, second = self.house.knock(), self.house.knock()
        first.protocol.dataReceived(_hello())
        second.protocol.dataReceived(_hello())
        self.assertEqual(1, self.tls.made)
        self.assertEqual(b"", bytes(second.socket.written))
        self.assertEqual((False, True), (first.socket.paused, second.socket.paused))
        self.house.clock.advance(0)
        self.assertEqual(2, self.tls.made)
        self.assertNotEqual(b"", bytes(second.socket.written))
        self.assertFalse(second.socket.paused)

    def test_holderFirst(self) -> None:
        """
        While the holder is in lock-step the next turn is a while away; a single
        newcomer does not wait at all.
        """
        self.house = House(tls=self.tls, limit=8)
        alice = self.house.visit()
        made = self.tls.made
        self.house.cost = TURN_BUDGET
        spacing = TURN_BUDGET * LOCK_STEP_FACTOR
        first, second = self.house.knock(), self.house.knock()
        alice.send(b"NOOP\n")
        first.protocol.dataReceived(_hello())
        self.assertEqual(made + 1, self.tls.made)
        second.protocol.dataReceived(_hello())
        for _ in range(9):
            self.house.clock.advance(spacing / 10)
            alice.send(b"NOOP\n")
        self.assertEqual(made + 1, self.tls.made)
        for _ in range(3):
            self.house.clock.advance(spacing / 10)
            alice.send(b"NOOP\n")
        self.assertEqual(made + 2, self.tls.made)

    def test_goneBeforeItsTurn(self) -> None:
        """
        Whoever is gone when its turn comes costs no TLS, and the turn is another's.
        """
        first, second = self.house.knock(), self.house.knock()
        first.protocol.dataReceived(_hello())
        second.protocol.dataReceived(_hello())
        second.socket.lost = True
        second.protocol.connectionLost(Failure(ConnectionLost()))
        third = self.house.knock()
        third.protocol.dataReceived(_hello())
        self.assertEqual(1, self.tls.made)
        self.house.clock.advance(0)
        self.assertEqual(2, self.tls.made)
        self.assertNotEqual(b"", bytes(third.socket.written))

    def test_givenUpBeforeItsTurn(self) -> None:
        """
        The same holds for who is displaced while it waits.
        """
        first, second = self.house.knock(), self.house.knock()
        first.protocol.dataReceived(_hello())
        second.protocol.dataReceived(_hello())
        self.patch(secrets, "choice", itemgetter(-1))
        self.house.knock()
        self.house.clock.advance(0)
        self.assertEqual(1, self.tls.made)
        self.assertTrue(second.socket.aborted)

    def test_patience(self) -> None:
        """
        After the handshake timeout a silent connection is reset, without any
        TLS, and recorded once.
        """
        peer = self.house.knock()
        self.house.advance(9.999)
        self.assertEqual("", peer.ending)
        self.house.advance(0.001)
        self.assertEqual("reset", peer.ending)
        self.assertEqual(0, self.tls.made)
        self.assertEqual(b"", bytes(peer.socket.written))
        self.assertEqual(
            [("192.0.2.1:49152", "no handshake within 10 s")], _failures(self.house)
        )
        self.house.advance(1)
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_patienceInTheMiddle(self) -> None:
        """
        The handshake timeout counts from the connection's beginning, and a
        trickle of octets does not prolong it.
        """
        peer = self.house.knock()
        for octet in _hello()[:9]:
            peer.protocol.dataReceived(bytes([octet]))
            self.house.advance(1)
        self.assertEqual("", peer.ending)
        self.house.advance(1)
        self.assertEqual("reset", peer.ending)
        self.assertEqual(
            [("192.0.2.1:49152", "no handshake within 10 s")], _failures(self.house)
        )

    def test_patienceGiven(self) -> None:
        """
        The handshake timeout is what it was set to.
        """
        house = House(patience=2.5)
        peer = house.knock()
        house.advance(2.5)
        self.assertEqual("reset", peer.ending)
        self.assertEqual(
            [("192.0.2.1:49152", "no handshake within 2.5 s")], _failures(house)
        )

    def test_leftInSilence(self) -> None:
        """
        A connection that is closed before it said anything is recorded once,
        and closed.
        """
        for leave in (Peer.hangUp, Peer.vanish):
            house = House()
            peer = house.knock()
            leave(peer)
            self.assertNotEqual("", peer.ending)
            self.assertEqual([("192.0.2.1:49152", "the client left")], _failures(house))
            house.advance(1)
            self.assertEqual([], house.clock.getDelayedCalls())

    def test_noDataAfterGivingUp(self) -> None:
        """
        Octets that come after a connection was given up begin no TLS.
        """
        knock = self.house.secure.buildProtocol(None)
        transport = StringTransport()
        knock.makeConnection(transport)
        self.house.clock.advance(10)
        self.assertTrue(transport.disconnected)
        knock.dataReceived(_hello())
        self.assertEqual(0, self.tls.made)
        self.assertEqual(b"", transport.value())


class ShareTests(SynchronousTestCase):
    """
    What is read from those who do not hold the slot.
    """

    def setUp(self) -> None:
        """
        A house whose slot alice holds.
        """
        self.house = House(limit=8, reconnectRate=2)
        self.alice = self.house.visit("alice")

    def test_holder(self) -> None:
        """
        What the holder sends is answered at once, however often.
        """
        self.house.cost = 1
        for _ in range(200):
            self.alice.received.clear()
            self.alice.protocol.dataReceived(self.sealed(self.alice, b"NOOP\n"))
            self.alice.pump()
            self.assertEqual(["200 OK"], self.alice.lines)

    def test_order(self) -> None:
        """
        What waited for its turn when the client became the holder is not overtaken,
        although the backend reads on.
        """
        pending: list[Deferred[None]] = []
        house = House(trail=MemoryTrail(pending=pending))
        alice = house.knock(clientContext(namedPair("alice"))).shakeHands()
        house.cost = TURN_BUDGET
        other = house.knock()
        other.protocol.dataReceived(_hello())
        alice.protocol.dataReceived(self.sealed(alice, b"ECHO 1\n"))
        pending.pop(0).callback(None)
        alice.socket.resumeProducing()
        alice.protocol.dataReceived(self.sealed(alice, b"ECHO 2\n"))
        house.clock.advance(1)
        while pending:
            pending.pop(0).callback(None)
            alice.pump()
        self.assertEqual(["200 1", "200 2"], alice.lines[1:])

    def sealed(self, peer: Peer, data: bytes) -> bytes:
        """
        What a client puts on the wire.
        """
        assert peer.tls is not None
        peer.tls.send(data)
        return peer.tls.bio_read(65536)

    def test_control(self) -> None:
        """
        What comes on a control connection waits for its turn, and is not read
        meanwhile; so do whole and empty lines, and key updates.
        """
        asker = self.house.visit("bob", ALPN_CONTROL)
        self.house.cost = TURN_BUDGET
        self.house.clock.advance(1)
        other = self.house.knock()
        other.protocol.dataReceived(_hello())
        asker.received.clear()
        asker.protocol.dataReceived(self.sealed(asker, b"WHO\n"))
        asker.pump()
        self.assertEqual(b"", bytes(asker.received))
        self.assertTrue(asker.socket.paused)
        self.house.clock.advance(0)
        self.assertFalse(asker.socket.paused)
        asker.pump()
        self.assertEqual("200 alice", asker.lines[0][:9])

    def test_newcomer(self) -> None:
        """
        A newcomer's handshake does not wait behind all that comes on other connections
        from its address.
        """
        askers = [
            self.house.visit(name, ALPN_CONTROL) for name in ("bob", "carol", "dave")
        ]
        self.house.clock.advance(1)
        self.house.cost = TURN_BUDGET
        for asker in askers:
            asker.received.clear()
            asker.protocol.dataReceived(self.sealed(asker, b"WHO\n"))
        newcomer = self.house.knock()
        order: list[Knock] = []

        def decrypt(knock: Knock, _: bytes) -> None:
            order.append(knock)

        self.patch(Knock, "_decrypt", decrypt)
        newcomer.protocol.dataReceived(_hello())
        self.house.clock.advance(1)
        self.assertEqual(
            [askers[1].protocol, newcomer.protocol, askers[2].protocol], order
        )

    def test_reads(self) -> None:
        """
        Only so many times a second something is read, whatever it is.
        """
        asker = self.house.visit("bob", ALPN_CONTROL)
        reads = 0
        for _ in range(1000):
            if not asker.socket.paused:
                asker.protocol.dataReceived(self.sealed(asker, b"\n"))
                reads += 1
            self.house.clock.advance(0.001)
        self.assertLessEqual(reads, READ_BURST + READ_RATE + 1)
        self.assertGreater(reads, READ_RATE)

    def test_closing(self) -> None:
        """
        The same holds for who was refused and does not close.
        """
        bob = self.house.visit("bob")
        self.assertEqual("421 BUSY", bob.lines[0][:8])
        self.assertEqual("closed", bob.ending)
        carol = self.house.knock(clientContext(namedPair("carol")))
        carol.answersClose = False
        carol.shakeHands()
        reads = 0
        for _ in range(1000):
            if not carol.socket.paused:
                carol.protocol.dataReceived(b"x" * 4096)
                reads += 1
            self.house.clock.advance(0.001)
        self.assertLessEqual(reads, READ_BURST + READ_RATE + 1)
        self.assertEqual("", carol.ending)

    def test_lost(self) -> None:
        """
        No timer stays of a connection that is lost while it waits.
        """
        asker = self.house.visit("bob", ALPN_CONTROL)
        self.house.clock.advance(61)
        while not asker.socket.paused:
            asker.protocol.dataReceived(self.sealed(asker, b"\n"))
        asker.vanish()
        self.alice.vanish()
        self.house.clock.advance(0)
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_failures(self) -> None:
        """
        An address whose handshakes fail again and again waits before the next, up to
        a second; others do not, nor do silent connections count.
        """
        for _ in range(10):
            self.house.knock(host="192.0.2.66").hangUp()
        self.assertEqual(0, self.house.admission.reconnections.delay("192.0.2.66"))
        for _ in range(5):
            junk = self.house.knock(host="192.0.2.66")
            junk.sendRaw(b"GET / HTTP/1.1\r\n\r\n")
            self.house.advance(1)
            self.assertEqual("closed", junk.ending)
        for _ in range(5):
            junk = self.house.knock(host="192.0.2.66")
            junk.sendRaw(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual("", junk.ending)
        self.assertTrue(junk.socket.paused)
        other = self.house.knock(host="192.0.2.67")
        other.shakeHands()
        self.assertEqual("421 BUSY", other.lines[0][:8])
        self.house.advance(1)
        self.assertEqual("closed", junk.ending)


class DisplacementTests(SynchronousTestCase):
    """
    More connections than may be pending.
    """

    def setUp(self) -> None:
        """
        A house where three connections may be pending.
        """
        self.tls = _CountingTLS(serverMaterial(), "1.3")
        self.house = House(tls=self.tls, limit=3)
        # Chance chooses the oldest.
        self.patch(secrets, "choice", itemgetter(0))

    def ended(self) -> list[int]:
        """
        Which of the peers, from 0, are no longer connected.
        """
        self.house.pump()
        return [number for number, peer in enumerate(self.house.peers) if peer.ending]

    def test_oldestOfTheMostCommon(self) -> None:
        """
        Past the limit, the oldest connection of the address that has most of
        them is reset; it is recorded, and no TLS was worked on.
        """
        for host in ("192.0.2.9", "192.0.2.7", "192.0.2.7"):
            self.house.knock(host=host)
        self.assertEqual([], self.ended())
        self.house.knock(host="192.0.2.8")
        self.assertEqual([1], self.ended())
        self.assertEqual("reset", self.house.peers[1].ending)
        self.assertEqual(b"", bytes(self.house.peers[1].socket.written))
        self.assertEqual(0, self.tls.made)
        self.assertEqual([("192.0.2.7:49153", DISPLACED)], _failures(self.house))

    def test_newcomerCounted(self) -> None:
        """
        The newcomer counts for its address: it can make it the one that has
        most, and its own predecessor go.
        """
        for host in ("192.0.2.9", "192.0.2.8", "192.0.2.7"):
            self.house.knock(host=host)
        self.house.knock(host="192.0.2.7")
        self.assertEqual([2], self.ended())

    def test_tie(self) -> None:
        """
        When several addresses have the most, the oldest connection of all of
        theirs goes.
        """
        for host in ("192.0.2.9", "192.0.2.8", "192.0.2.7"):
            self.house.knock(host=host)
        self.house.knock(host="192.0.2.6")
        self.assertEqual([0], self.ended())
        self.house.knock(host="192.0.2.5")
        self.assertEqual([0, 1], self.ended())

    def test_tieOfPairs(self) -> None:
        """
        Older connections of addresses that have fewer stay.
        """
        house = self.house = House(limit=5)
        for last in (1, 2, 3, 3, 2):
            house.knock(host=f"192.0.2.{last}")
        house.knock(host="192.0.2.4")
        self.assertEqual([1], self.ended())

    def test_junkPushesOutJunk(self) -> None:
        """
        However many connections one address makes, a client of another that
        comes between them gets through.
        """
        for _ in range(10):
            self.house.knock(host="192.0.2.66")
        alice = self.house.knock(host="192.0.2.1")
        for _ in range(10):
            self.house.knock(host="192.0.2.66")
        self.house.pump()
        alice.shakeHands()
        self.assertEqual("", alice.ending)
        self.assertIn("you are alice", alice.lines[0])
        self.house.flood.tellAll()
        first, others = self.house.trail.of("handshake.failed")
        self.assertNotIn("count", first)
        self.assertEqual(17, others["count"])

    def test_oneAfterTheOther(self) -> None:
        """
        Newcomers of one turn of the reactor displace one connection each,
        although none of those is lost yet.
        """
        for _ in range(6):
            self.house.knock()
        self.assertEqual([("192.0.2.1:49152", DISPLACED)], _failures(self.house))
        self.house.advance(1)
        self.assertEqual(("192.0.2.1:49154", DISPLACED), _failures(self.house)[1])
        self.assertEqual(2, self.house.trail.of("handshake.failed")[1]["count"])
        self.assertEqual([0, 1, 2], self.ended())

    def test_inHandshake(self) -> None:
        """
        A connection in the middle of its handshake can be displaced too, and
        is told of once.
        """
        for last in (1, 2, 3):
            peer = self.house.knock(host=f"192.0.2.{last}")
            peer.reads = False
            peer.shakeHands()
        self.assertEqual(3, self.tls.made)
        self.house.knock(host="192.0.2.4")
        self.assertEqual([0], self.ended())
        self.assertEqual("reset", self.house.peers[0].ending)
        self.assertEqual([("192.0.2.1:49152", DISPLACED)], _failures(self.house))

    def test_silentFirst(self) -> None:
        """
        While the address that has most has connections that have sent nothing, none of
        its connections is displaced whose handshake has begun.
        """
        for _ in range(2):
            peer = self.house.knock()
            peer.reads = False
            peer.shakeHands()
        for _ in range(3):
            self.house.knock()
        self.assertEqual([2, 3], self.ended())

    def test_silentElsewhere(self) -> None:
        """
        A connection that has sent nothing yet is not displaced for those of an address
        that has more and has sent something.
        """
        honest = self.house.knock(host="192.0.2.9")
        for _ in range(10):
            peer = self.house.knock()
            peer.reads = False
            peer.shakeHands()
        self.house.pump()
        self.assertEqual("", honest.ending)

    def test_newcomerStays(self) -> None:
        """
        A newcomer is not displaced itself, though it is the only one that has sent
        nothing.
        """
        for _ in range(4):
            peer = self.house.knock()
            self.assertEqual("", peer.ending)
            peer.reads = False
            peer.shakeHands()

    def test_atRandom(self) -> None:
        """
        Chance chooses among equals: all of the address that has most which have sent
        nothing.
        """
        chosen: list[list[str]] = []

        def choice(among: list[Knock]) -> Knock:
            chosen.append([knock.group for knock in among])
            return among[-1]

        self.patch(secrets, "choice", choice)
        for last in (1, 2, 2, 3):
            self.house.knock(host=f"192.0.2.{last}")
        self.assertEqual([["192.0.2.2", "192.0.2.2"]], chosen)
        self.assertEqual([2], self.ended())

    def test_groups(self) -> None:
        """
        An IPv6 network of 64 bits counts as one address, and an IPv4 address as
        itself, however it is written.
        """
        for host, group in (
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::9", "2001:db8:1:2::"),
            ("2001:db8:1:3::9", "2001:db8:1:3::"),
            ("fe80::1%eth0", "fe80::"),
        ):
            with self.subTest(host):
                self.assertEqual(group, groupOf(host))
        self.assertEqual("unix", groupOf("unix"))

    def test_begun(self) -> None:
        """
        Only so many handshakes are under way; another one displaces one of them.
        """
        self.patch(pending, "MAX_BEGUN", 2)
        self.house = House(tls=self.tls, limit=8)
        for last in (1, 2, 3, 3):
            peer = self.house.knock(host=f"192.0.2.{last}")
            peer.reads = False
            peer.shakeHands()
        self.assertEqual([0, 2], self.ended())
        self.assertEqual(4, self.tls.made)

    def test_bytes(self) -> None:
        """
        All handshakes together may have so many bytes; the largest is displaced for
        others. What has ended is not counted.
        """
        self.patch(pending, "MAX_BYTES", 10_000)
        self.house = House(limit=8)
        for _ in range(8):
            self.house.visit("alice").close()
        large, small = self.house.knock(), self.house.knock()
        hello = b"\x16\x03\x01\x40\x00\x01\x00\xff\x00" + bytes(16_000)
        for at in range(0, 6000, 1000):
            large.sendRaw(hello[at : at + 1000])
        for at in range(0, 5000, 1000):
            small.sendRaw(hello[at : at + 1000])
        self.house.pump()
        self.assertEqual(("reset", ""), (large.ending, small.ending))

    def test_settledIsNotCounted(self) -> None:
        """
        Connections whose handshake has completed are no longer counted, the
        holder's and the busy ones.
        """
        holder = self.house.visit("alice")
        turnedAway = self.house.visit("bob")
        for _ in range(3):
            self.house.knock()
        self.assertEqual("", holder.ending)
        self.assertEqual("closed", turnedAway.ending)
        self.assertEqual([1], self.ended())
        self.house.knock()
        self.assertEqual([1, 2], self.ended())

    def test_lingeringRefusedIsNotCounted(self) -> None:
        """
        A client that was turned away and does not answer the close is not
        counted either.
        """
        self.house.visit("alice")
        bob = self.house.knock()
        bob.answersClose = False
        bob.shakeHands()
        self.assertEqual("", bob.ending)
        for _ in range(3):
            self.house.knock()
        self.assertEqual([], self.ended())

    def test_goneIsNotCounted(self) -> None:
        """
        Connections that were lost, in silence or with a failed handshake, are
        no longer counted.
        """
        self.house.knock().vanish()
        self.house.visit(context=clientContext(None))
        for _ in range(3):
            self.house.knock()
        self.assertEqual([0, 1], self.ended())

    def test_unixSocket(self) -> None:
        """
        All peers on a UNIX socket count as one address.
        """
        for address in (UNIXAddress(None), UNIXAddress(b"/x")):
            knock = self.house.secure.buildProtocol(address)
            transport = StringTransport(peerAddress=address)
            knock.makeConnection(transport)
            self.assertEqual("unix", knock.group)

    def test_timeoutDoesNotRunOn(self) -> None:
        """
        After the handshake its timeout is of no importance any more.
        """
        alice = self.house.visit("alice")
        self.house.advance(60)
        self.assertEqual("", alice.ending)
        self.assertEqual([], _failures(self.house))


class RecordTests(SynchronousTestCase):
    """
    What trail and log have of handshakes that failed: each exactly once.
    """

    def test_certificateRefused(self) -> None:
        """
        The record has address, reason, and the certificate that was shown;
        the log has a line of the same.
        """
        pair = otherAuthority().client("eve")
        house = House()
        eve = house.visit(context=clientContext(pair))
        self.assertEqual("closed", eve.ending)
        self.assertEqual(["handshake.failed"], house.trail.events())
        self.assertEqual(
            {
                "address": "192.0.2.1:49152",
                "reason": "unknown CA",
                "certificate": {
                    "subject": "CN=eve",
                    "serial": format(pair.certificate.serial_number, "x"),
                    "fingerprint": fingerprintOf(pair.certificate),
                    "names": ["DNS:eve"],
                },
            },
            house.trail.of("handshake.failed")[0],
        )
        self.assertEqual(
            ["refused 192.0.2.1:49152 in the handshake: unknown CA (CN=eve)"],
            house.log.texts(),
        )

    def test_nothingShown(self) -> None:
        """
        Without a certificate, the record has none.
        """
        house = House()
        house.visit(context=clientContext(None))
        self.assertEqual(
            [{"address": "192.0.2.1:49152", "reason": "no certificate"}],
            house.trail.of("handshake.failed"),
        )
        self.assertEqual(
            ["refused 192.0.2.1:49152 in the handshake: no certificate"],
            house.log.texts(),
        )

    def test_learnsNothing(self) -> None:
        """
        A client without an acceptable certificate learns nothing but the alert,
        and neither claims the slot nor is a session begun.
        """
        house = House()
        for pair in (None, otherAuthority().client(), authority().expired()):
            peer = house.knock(clientContext(pair))
            peer.shakeHands(b"WHO\r\n")
            self.assertEqual([], peer.lines)
            self.assertIn("alert", peer.alert)
        self.assertIsNone(house.slot.current)
        self.assertEqual(0, house.slot.claims)
        self.assertEqual(["handshake.failed"] * 3, house.trail.events())

    def test_notTLS(self) -> None:
        """
        What is not TLS is closed, and recorded once.
        """
        house = House()
        peer = house.knock()
        peer.sendRaw(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual("closed", peer.ending)
        self.assertEqual(
            [("192.0.2.1:49152", "not TLS: an HTTP request")], _failures(house)
        )

    def test_leftInTheMiddle(self) -> None:
        """
        A client that leaves in the middle of the handshake is recorded once.
        """
        for leave in (Peer.hangUp, Peer.vanish):
            house = House()
            peer = house.knock()
            peer.reads = False
            peer.shakeHands()
            leave(peer)
            house.advance(2)
            self.assertNotEqual("", peer.ending)
            self.assertEqual([("192.0.2.1:49152", "the client left")], _failures(house))
            house.advance(60)
            self.assertEqual(1, len(house.trail.events()))

    def test_certificateRefusedAndSlow(self) -> None:
        """
        A refused client that does not read its alert is cut off at the
        handshake timeout; the record says why it was refused, once.
        """
        house = House()
        peer = house.knock(clientContext(authority().expired()))
        peer.shakeHands()
        slow = house.knock(clientContext(authority().expired()))
        take = slow._take

        def once(octets: bytes) -> None:
            take(octets)
            slow.reads = False

        slow._take = once  # type: ignore[method-assign]
        slow.shakeHands()
        self.assertEqual("", slow.ending)
        house.advance(10)
        self.assertEqual("reset", slow.ending)
        self.assertEqual(
            [("192.0.2.1:49152", "expired"), ("192.0.2.1:49153", "expired")],
            _failures(house),
        )

    def test_trailBroken(self) -> None:
        """
        A trail that cannot be written is no reason for an exception; the log
        has the failure all the same.
        """
        house = House()
        house.trail.broken = "disk full"
        peer = house.visit(context=clientContext(None))
        self.assertEqual("closed", peer.ending)
        self.assertEqual([], house.trail.events())
        self.assertEqual(
            [
                "refused 192.0.2.1:49152 in the handshake: no certificate",
                "not recorded yet",
            ],
            house.log.texts(),
        )

    def test_noRecordOfSuccess(self) -> None:
        """
        A handshake that completes leaves no record of a failed one, then or
        when the connection ends.
        """
        house = House()
        house.visit().close()
        house.visit().vanish()
        self.assertEqual([], _failures(house))


class KnockTests(SynchronousTestCase):
    """
    Tests for L{Knock}.
    """

    def test_interface(self) -> None:
        """
        A L{Knock} hears when the client closes its half of the connection.
        """
        knock = House().secure.buildProtocol(None)
        self.assertTrue(verifyObject(IHalfCloseableProtocol, knock))
        self.assertIsInstance(knock, Knock)
        self.assertIsInstance(House().secure, Factory)

    def test_socketOptions(self) -> None:
        """
        The socket is tuned before anything has been said, so that dead peers
        are found even in the handshake.
        """
        peer = House().knock()
        self.assertTrue(peer.socket.getTcpNoDelay())
        self.assertTrue(peer.socket.getTcpKeepAlive())

    def test_repliesBeforeBareEnd(self) -> None:
        """
        Requests that come together with TLS's close are answered before the
        connection ends.
        """
        house = House()
        alice = house.visit()
        assert alice.tls is not None
        alice.tls.send(b"ECHO one\r\nECHO two\r\n")
        alice.close()
        self.assertEqual(["200 one", "200 two"], alice.lines[1:])

    def test_hungUpSession(self) -> None:
        """
        A client in session that closes TCP without a word of TLS still gets
        the replies to what it has asked, and its session ends.
        """
        house = House()
        alice = house.visit()
        assert alice.tls is not None
        alice.tls.send(b"ECHO one\r\n")
        alice.answersClose = False
        alice.pump()
        alice.hangUp()
        house.advance(2)
        self.assertEqual(["200 one"], alice.lines[1:])
        self.assertNotEqual("", alice.ending)
        self.assertIsNone(house.slot.current)
        self.assertEqual(1, len(house.trail.of("session.closed")))


class ErrorTests(SynchronousTestCase):
    """
    What no client gets to see: errors of this program, and what made them.
    """

    def setUp(self) -> None:
        """
        A house where somebody is in session.
        """
        self.house = House()
        self.holder = self.house.visit("alice")

    def knock(self, pair: Forged) -> Peer:
        """
        Shake hands with a client that shows this certificate.
        """
        context = clientContext()
        pair.showIn(context)
        peer = self.house.knock(context).shakeHands()
        for _ in range(4):
            self.house.advance(TURN)
        return peer

    def assertHolderAlone(self) -> None:
        """
        The holder has noticed nothing, and nobody else is here.
        """
        self.assertEqual("200 x", self.holder.send(b"ECHO x\r\n").lines[-1])
        self.assertEqual(1, len(self.house.trail.of("session.opened")))
        self.assertEqual([], self.house.trail.of("session.refused"))

    def test_unreadable(self) -> None:
        """
        A certificate that cannot be read is refused with an alert at once, and has one
        record, also while somebody is at work. The log has a line, and no traceback.
        """
        peer = self.knock(malformed()["a PrintableString with @"])
        self.assertIn("alert internal error", peer.alert)
        self.assertEqual("closed", peer.ending)
        (record,) = self.house.trail.of("handshake.failed")
        self.assertEqual("a certificate that cannot be read", record["reason"])
        self.assertIn("PrintableString", str(record["detail"]))
        self.assertIn("fingerprint", str(record["certificate"]))
        self.assertIn(
            "in the handshake: a certificate that cannot be read (ValueError: ",
            self.house.log.texts()[-1],
        )
        self.assertFalse([e for e in self.house.log.events if "log_failure" in e])
        self.assertHolderAlone()

    def test_unreadableByTheHundred(self) -> None:
        """
        Two hundred of them make two records, of which the second counts.
        """
        pair = malformed()["an x400Address"]
        for _ in range(200):
            context = clientContext()
            context.use_certificate(x509.load_der_x509_certificate(pair.encoded))
            context.use_privatekey(pair.key)
            self.house.knock(context).shakeHands()
            self.house.advance(0)
        self.house.advance(1)
        first, others = self.house.trail.of("handshake.failed")
        self.assertEqual((None, 199), (first.get("count"), others.get("count")))
        self.assertLess(len("".join(self.house.log.texts())), 2000)

    def test_large(self) -> None:
        """
        A common name of 95 KB makes small records and lines.
        """
        large = commonName(b"\x07" * 95_000)
        self.knock(forged(subject=large, by=newAuthority("elsewhere")))
        (record,) = self.house.trail.of("handshake.failed")
        self.assertEqual("unknown CA", record["reason"])
        self.assertLess(len(json.dumps(record)), 2500)
        self.assertLess(len(self.house.log.texts()[-1]), 2500)

    def test_otherProtocols(self) -> None:
        """
        A client that speaks something else, like an HTTPS client, gets an alert and
        takes no slot; the record says what it offered.
        """
        context = clientContext(authority().client("bob"), alpn=[b"h2", b"http/1.1"])
        peer = self.house.knock(context).shakeHands()
        self.house.advance(TURN)
        self.assertIn("alert no application protocol", peer.alert)
        (record,) = self.house.trail.of("handshake.failed")
        self.assertEqual(
            {
                "address": peer.address,
                "reason": "no application protocol in common",
                "detail": "offered: h2, http/1.1",
            },
            record,
        )
        self.assertFalse([e for e in self.house.log.events if "log_failure" in e])
        self.assertHolderAlone()

    def test_otherProtocolsAreOneReason(self) -> None:
        """
        Whatever clients offer, it is one reason: they are counted together.
        """
        for number in range(100):
            context = clientContext(alpn=[b"x%d" % number])
            self.house.knock(context).shakeHands()
            self.house.advance(0)
        self.house.advance(1)
        self.assertEqual(2, len(self.house.trail.of("handshake.failed")))

    def test_errorInHandshake(self) -> None:
        """
        An error of this program while TLS is worked on ends the connection at once,
        with one record; the traceback is logged once.
        """

        def fail(*_: object) -> None:
            raise RuntimeError("broken on purpose")

        for _ in range(3):
            self.patch(TLSMemoryBIOProtocol, "dataReceived", fail)
            peer = self.house.knock()
            peer.protocol.dataReceived(_hello())
            self.house.clock.advance(TURN)
            self.assertTrue(peer.socket.aborted)
            self.doCleanups()
        self.house.advance(1)
        self.assertEqual(
            [INTERNAL_ERROR] * 2, [reason for _, reason in _failures(self.house)]
        )
        self.assertEqual(
            1, len([e for e in self.house.log.events if "log_failure" in e])
        )
        self.assertHolderAlone()

    def test_errorBehindHandshake(self) -> None:
        """
        The same holds for an error when the handshake has completed.
        """

        def fail(*_: object) -> None:
            raise RuntimeError("broken on purpose")

        self.patch(tcpsvc.doorway, "describe", fail)
        for _ in range(3):
            peer = self.house.visit("bob")
            self.house.advance(TURN)
            self.house.advance(TURN)
            self.assertEqual("reset", peer.ending)
        self.house.advance(1)
        self.assertEqual(
            [INTERNAL_ERROR] * 2, [reason for _, reason in _failures(self.house)]
        )
        self.assertEqual(
            1, len([e for e in self.house.log.events if "log_failure" in e])
        )
        self.assertHolderAlone()
