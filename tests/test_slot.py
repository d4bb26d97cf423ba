"""
Tests for L{tcpsvc.slot}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tcpsvc.interfaces import Claim, ISlot, SlotHeld
from tcpsvc.slot import Slot
from tests.support import clientNamed


class SlotTests(SynchronousTestCase):
    """
    Tests for L{Slot}.
    """

    def setUp(self) -> None:
        """
        Make a slot and two that want it.
        """
        self.slot = Slot()
        self.alice, self.bob = clientNamed("alice"), clientNamed("bob")

    def claim(self) -> Claim:
        """
        @return: Alice's claim.
        """
        return self.successResultOf(self.slot.claim(self.alice))

    def test_interface(self) -> None:
        """
        It provides L{ISlot}.
        """
        self.assertTrue(verifyObject(ISlot, self.slot))

    def test_free(self) -> None:
        """
        At first it is nobody's, and nobody has claimed it.
        """
        self.assertIsNone(self.slot.current)
        self.assertEqual(self.slot.claims, 0)

    def test_claim(self) -> None:
        """
        Whoever claims a free slot has it.
        """
        claim = self.claim()
        self.assertIs(claim.holder, self.alice)
        self.assertIs(self.slot.current, claim)
        self.assertEqual(self.slot.claims, 1)

    def test_held(self) -> None:
        """
        While one has it, another's claim fails and says whose it is; the holder
        keeps it, and the claim does not count.
        """
        claim = self.claim()
        for client in (self.bob, self.alice):
            failure = self.failureResultOf(self.slot.claim(client), SlotHeld)
            self.assertIs(failure.value.claim, claim)
            self.assertEqual(str(failure.value), "held by alice")
        self.assertIs(self.slot.current, claim)
        self.assertEqual(self.slot.claims, 1)

    def test_release(self) -> None:
        """
        When it is given back it is free, and the next claim succeeds.
        """
        self.successResultOf(self.slot.release(self.claim()))
        self.assertIsNone(self.slot.current)
        claim = self.successResultOf(self.slot.claim(self.bob))
        self.assertIs(claim.holder, self.bob)
        self.assertEqual(self.slot.claims, 2)

    def test_releasedTwice(self) -> None:
        """
        A claim that no longer holds the slot cannot give back another's, not
        even another of the same client.
        """
        stale = self.claim()
        self.slot.release(stale)
        claim = self.claim()
        self.successResultOf(self.slot.release(stale))
        self.assertIs(self.slot.current, claim)

    def test_forged(self) -> None:
        """
        A claim that only looks like the holder's gives nothing back.
        """
        claim = self.claim()
        self.slot.release(Claim(claim.holder, claim.token))
        self.assertIs(self.slot.current, claim)

    def test_tokens(self) -> None:
        """
        Each claim's token is greater than the one before.
        """
        tokens = []
        for _ in range(3):
            claim = self.claim()
            tokens.append(claim.token)
            self.slot.release(claim)
        self.assertEqual(tokens, sorted(set(tokens)))
