# -*- test-case-name: tests.test_slot -*-

"""
The one right to use a resource.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from tcpsvc.identity import Client
from tcpsvc.interfaces import Claim, ISlot, SlotHeld


@implementer(ISlot)
class Slot:
    """
    A slot that lives in this process and answers at once.

    @ivar claims: How many claims there have been.
    """

    def __init__(self) -> None:
        self.claims = 0
        self._claim: Claim | None = None

    @property
    def current(self) -> Claim | None:
        """The claim that holds the slot, if one does."""
        return self._claim

    def claim(self, client: Client) -> Deferred[Claim]:
        """
        @see: L{ISlot.claim}
        """
        if self._claim is not None:
            return fail(SlotHeld(self._claim))
        self.claims += 1
        self._claim = Claim(client, self.claims)
        return succeed(self._claim)

    def release(self, claim: Claim) -> Deferred[None]:
        """
        @see: L{ISlot.release}
        """
        if self._claim is claim:
            self._claim = None
        return succeed(None)
