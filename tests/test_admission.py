"""
Tests for L{tcpsvc.admission}.
"""

from __future__ import annotations

import math

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.admission import (
    LAST_WORDS,
    MAX_CONTROLS,
    MAX_CONTROLS_EACH,
    MAX_DELAYED,
    Admission,
)
from tcpsvc.bucket import Reconnections
from tcpsvc.closing import Closing
from tcpsvc.flood import Flood
from tcpsvc.slot import Slot
from tests.peers import Thing
from tests.support import EPOCH, clientNamed, clockAtEpoch, journalInMemory


@define(eq=False, slots=False)
class _Guest:
    """
    A connection that keeps why it was ended.
    """

    gone: Deferred[None] = field(factory=Deferred)
    reasons: list[str] = field(factory=list)
    name: str = "alice"

    def end(self, reason: str) -> None:
        """Keep the reason."""
        self.reasons.append(reason)


class AdmissionTests(SynchronousTestCase):
    """
    Tests for L{Admission}.
    """

    def setUp(self) -> None:
        """
        An admission in memory.
        """
        self.clock: Clock = clockAtEpoch()
        self.journal, self.trail, self.log = journalInMemory(self.clock)
        self.admission = Admission(
            slot=Slot(),
            backend=Thing(),
            control=Thing(),
            journal=self.journal,
            flood=Flood(self.journal),
            closing=Closing(self.clock),
            clock=self.clock,
            idleTimeout=900.0,
            maxSession=28800.0,
            reconnections=Reconnections(self.clock, 1),
        )

    def test_busy(self) -> None:
        """
        The busy reply names the holder, since when it holds, and for how many
        whole seconds it has been idle.
        """
        holder = clientNamed("alice")
        holder.lastRequest = EPOCH + 5
        self.clock.advance(12.9)
        reply = self.admission.busy(holder)
        self.assertEqual(
            "421 BUSY held by alice since 2027-01-15T08:00:00Z, idle 7 s", str(reply)
        )

    def test_quiet(self) -> None:
        """
        It is known for how long the holder has sent nothing; it is for ever while
        the slot is free, or its holder leaving.
        """
        self.assertEqual(math.inf, self.admission.quiet())
        holder = clientNamed("alice")
        claim = self.successResultOf(self.admission.slot.claim(holder))
        self.assertEqual(0, self.admission.quiet())
        self.clock.advance(0.25)
        self.assertEqual(0.25, self.admission.quiet())
        holder.lastRequest = self.clock.seconds()
        self.assertEqual(0, self.admission.quiet())
        holder.leaving = True
        self.assertEqual(math.inf, self.admission.quiet())
        holder.leaving = False
        self.admission.slot.release(claim)
        self.assertEqual(math.inf, self.admission.quiet())

    def test_mayExpect(self) -> None:
        """
        The holder's next request is waited for only while nobody else is in session.
        """
        self.admission.enter(_Guest(), control=False)
        self.assertTrue(self.admission.mayExpect())
        other = _Guest()
        self.admission.enter(other, control=True)
        self.assertFalse(self.admission.mayExpect())
        self.admission.leave(other)
        self.assertTrue(self.admission.mayExpect())

    def test_delay(self) -> None:
        """
        An identity that is refused again and again waits ever longer for that, up to
        a second; others do not, nor does anybody when too many wait.
        """
        alice, bob = clientNamed("alice"), clientNamed("bob")
        self.assertEqual(0, self.admission.delayOf(alice))
        self.assertEqual(1, self.admission.delayOf(alice))
        self.assertEqual(1, self.admission.delayOf(alice))
        self.assertEqual(0, self.admission.delayOf(bob))
        self.admission.delayed = MAX_DELAYED
        self.assertEqual(0, self.admission.delayOf(alice))

    def test_controlRoomEach(self) -> None:
        """
        An identity may have two control connections; its session does not count.
        """
        self.assertEqual(2, MAX_CONTROLS_EACH)
        self.admission.enter(_Guest(), control=False)
        for _ in range(2):
            self.assertTrue(self.admission.hasRoomForControl("alice"))
            self.admission.enter(_Guest(), control=True)
        self.assertFalse(self.admission.hasRoomForControl("alice"))
        self.assertTrue(self.admission.hasRoomForControl("bob"))

    def test_controlRoom(self) -> None:
        """
        There is room for eight control connections, however many others there
        are, and again when one has left.
        """
        self.assertEqual(8, MAX_CONTROLS)
        self.admission.enter(_Guest(), control=False)
        guests = [_Guest(name=f"client {number}") for number in range(8)]
        for guest in guests:
            self.assertTrue(self.admission.hasRoomForControl("bob"))
            self.admission.enter(guest, control=True)
        self.assertFalse(self.admission.hasRoomForControl("bob"))
        self.admission.leave(guests[0])
        self.assertTrue(self.admission.hasRoomForControl("bob"))

    def test_leaveTwice(self) -> None:
        """
        Whoever was not counted in can be counted out.
        """
        guest = _Guest()
        self.admission.leave(guest)
        self.admission.enter(guest, control=True)
        self.admission.leave(guest)
        self.admission.leave(guest)
        self.successResultOf(self.admission.stop())
        self.assertEqual([], guest.reasons)

    def test_refused(self) -> None:
        """
        A refusal is recorded with who, where, why, and the holder if that is
        why; and logged.
        """
        bob = clientNamed("bob")
        self.admission.refused(bob, "busy", "alice")
        self.admission.refused(bob, "shutdown")
        common = {"address": bob.address, "identity": bob.identity.asRecord()}
        self.assertEqual(
            [
                {**common, "reason": "busy", "holder": "alice"},
                {**common, "reason": "shutdown"},
            ],
            self.trail.of("session.refused"),
        )
        self.assertEqual(
            [
                "turned away bob from 192.0.2.1:49152: busy (held by alice)",
                "turned away bob from 192.0.2.1:49152: shutdown",
            ],
            self.log.texts(),
        )

    def test_refusedUnrecorded(self) -> None:
        """
        A refusal that cannot be recorded is logged all the same.
        """
        self.trail.broken = "disk full"
        self.admission.refused(clientNamed("bob"), "busy", "alice")
        self.assertEqual([], self.trail.kept)
        self.assertEqual(
            [
                "turned away bob from 192.0.2.1:49152: busy (held by alice)",
                "not recorded yet",
            ],
            self.log.texts(),
        )

    def test_stop(self) -> None:
        """
        All who are inside are ended, and waited for until they are gone.
        """
        guests = [_Guest(), _Guest()]
        for number, guest in enumerate(guests):
            self.admission.enter(guest, control=bool(number))
        self.assertFalse(self.admission.stopping)
        stopped = self.admission.stop()
        self.assertTrue(self.admission.stopping)
        self.assertEqual([["shutdown"]] * 2, [guest.reasons for guest in guests])
        guests[0].gone.callback(None)
        self.assertNoResult(stopped)
        guests[1].gone.callback(None)
        self.successResultOf(stopped)

    def test_stopFails(self) -> None:
        """
        That one session cannot be ended is logged, and keeps neither the others
        from being ended nor the service from stopping.
        """

        def fail(_: str) -> None:
            raise ZeroDivisionError

        guests = [_Guest(), _Guest(), _Guest()]
        for guest in guests:
            self.admission.enter(guest, False)
        self.patch(guests[1], "end", fail)
        stopped = self.admission.stop()
        self.assertEqual([["shutdown"], [], ["shutdown"]], [g.reasons for g in guests])
        self.assertNoResult(stopped)
        for guest in (guests[0], guests[2]):
            guest.gone.callback(None)
        self.successResultOf(stopped)
        (event,) = self.log.events
        self.assertTrue(event["log_failure"].check(ZeroDivisionError))

    def test_stopWhoLeaves(self) -> None:
        """
        A guest may leave while it is being ended.
        """
        guest = _Guest()

        def end(_: str) -> None:
            self.admission.leave(guest)
            guest.gone.callback(None)

        guest.end = end  # type: ignore[assignment,method-assign]
        self.admission.enter(guest, control=False)
        self.successResultOf(self.admission.stop())

    def test_lastWords(self) -> None:
        """
        All last words are replies 421, with the contract's symbolic word.
        """
        self.assertEqual(
            {
                "idle-timeout": "IDLE-TIMEOUT",
                "session-limit": "SESSION-LIMIT",
                "shutdown": "SHUTDOWN",
                "audit-unavailable": "AUDIT-UNAVAILABLE",
                "backend-down": "BACKEND-DOWN",
                "control-limit": "BUSY",
            },
            {reason: reply.word for reason, reply in LAST_WORDS.items()},
        )
        self.assertEqual({421, 451}, {reply.code for reply in LAST_WORDS.values()})
