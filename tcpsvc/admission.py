# -*- test-case-name: tests.test_admission -*-

"""
What all doorways to one resource share, and what they say to whom.
"""

from __future__ import annotations

import math
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from tcpsvc.bucket import Reconnections
from tcpsvc.closing import Closing
from tcpsvc.events import SESSION_REFUSED, Journal, SessionJournal
from tcpsvc.flood import Flood
from tcpsvc.identity import Client
from tcpsvc.interfaces import IBackend, ISlot
from tcpsvc.polling import Polling
from tcpsvc.times import toSeconds
from tcpsvc.wire import Reply

MAX_CONTROLS = 8
"""
How many control connections may be open at once.
"""

MAX_CONTROLS_EACH = 2
"""
How many of them one identity may have.
"""

MAX_DELAYED = 64
"""
How many clients may be made to wait for coming too often; others are not.
"""

LAST_WORDS = {
    "idle-timeout": Reply(421, "IDLE-TIMEOUT no request for too long; good bye"),
    "session-limit": Reply(421, "SESSION-LIMIT a session may last no longer; good bye"),
    "shutdown": Reply(421, "SHUTDOWN the service is stopping; good bye"),
    "audit-unavailable": Reply(
        421, "AUDIT-UNAVAILABLE nothing can be recorded now, so nothing is served"
    ),
    "backend-down": Reply(
        451, "BACKEND-DOWN the resource cannot be reached; the service's log says why"
    ),
    "control-limit": Reply(
        421,
        f"BUSY {MAX_CONTROLS} control connections are open, or {MAX_CONTROLS_EACH} of "
        "yours; try again later",
    ),
}
"""
What a client is told when the service sends it away, by the reason.
"""


class Guest(Protocol):
    """
    A connection that has a session, as the admission sees it.

    @ivar gone: Fires when it is lost and cleaned up after.
    @ivar name: Whose it is.
    """

    gone: Deferred[None]

    @property
    def name(self) -> str:
        """The name of its client's identity."""

    def end(self, reason: str) -> None:
        """End the session."""


@define(eq=False)
class Admission:
    """
    What all doorways to one resource share.

    @ivar slot: The right to use the resource.
    @ivar backend: What answers the holder.
    @ivar control: What answers those who only ask about the service.
    @ivar idleTimeout: Seconds without a request; 0 is no limit.
    @ivar maxSession: Seconds that a session may last; 0 is no limit.
    @ivar reconnections: Who comes too often.
    @ivar stopping: Whether the service is going down.
    @ivar delayed: How many clients wait for an answer as they come too often.
    """

    slot: ISlot
    backend: IBackend
    control: IBackend
    journal: Journal
    flood: Flood
    closing: Closing
    clock: IReactorTime
    idleTimeout: float
    maxSession: float
    reconnections: Reconnections
    stopping: bool = field(default=False, init=False)
    delayed: int = field(default=0, init=False)
    _polling: Polling = field(init=False)
    _inside: dict[Guest, bool] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._polling = Polling(self.journal)

    def journalOf(self, client: Client, control: bool) -> SessionJournal:
        """
        @return: Where a client's session tells what happens in it.
        """
        if control:
            return self._polling.ofSession(client)
        return self.journal.ofSession(client.session)

    def mayExpect(self) -> bool:
        """
        Whether the holder's next request may be waited for: nobody else is in session.
        """
        return len(self._inside) == 1

    def enter(self, guest: Guest, control: bool) -> None:
        """
        Count a connection in that has a session.
        """
        self._inside[guest] = control

    def leave(self, guest: Guest) -> None:
        """
        Count a connection out. It need not have been counted in.
        """
        self._inside.pop(guest, None)

    def hasRoomForControl(self, name: str) -> bool:
        """
        Whether an identity may open another control connection.
        """
        names = [guest.name for guest, control in self._inside.items() if control]
        return len(names) < MAX_CONTROLS and names.count(name) < MAX_CONTROLS_EACH

    def quiet(self) -> float:
        """
        @return: For how many seconds the holder has sent nothing; infinite if there
            is none, or if it is leaving.
        """
        current = self.slot.current
        if current is None or current.holder.leaving:
            return math.inf
        ago: float = self.clock.seconds() - current.holder.lastRequest
        return ago

    def delayOf(self, client: Client) -> float:
        """
        A client is refused, or wants to ask: see whether it comes too often.

        @return: For how many seconds it should wait for the answer.
        """
        delay = self.reconnections.came(f"identity {client.identity.name}")
        return delay if self.delayed < MAX_DELAYED else 0.0

    def busy(self, holder: Client) -> Reply:
        """
        @return: What a client is told while another holds the slot.
        """
        return Reply(
            421,
            f"BUSY held by {holder.identity.name} since {toSeconds(holder.since)}, "
            f"idle {holder.idleSeconds(self.clock.seconds())} s",
        )

    def refused(self, client: Client, reason: str, holder: str = "") -> None:
        """
        Tell that a client was turned away.
        """
        record: dict[str, object] = {
            "address": client.address,
            "identity": client.identity.asRecord(),
            "reason": reason,
        }
        more = ""
        if holder:
            record["holder"] = holder
            more = f" (held by {holder})"
        self.flood.tell(SESSION_REFUSED, record, more)

    def stop(self) -> Deferred[list[None]]:
        """
        Admit nobody any more, and end all sessions.

        @return: Fires when they are gone and cleaned up after. What could not be
            ended, because something failed that never should, is not waited for.
        """
        self.stopping = True
        self._polling.tellAll()
        self.closing.hurry()
        ending = []
        for guest in list(self._inside):
            try:
                guest.end("shutdown")
            except Exception:
                # It may never be gone, and the others end all the same.
                self.journal.log.failure("a session did not end")
            else:
                ending.append(guest.gone)
        return gatherResults(ending)
