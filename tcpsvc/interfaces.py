"""
The interfaces between the layers.

Each says what the layer above may rely on; the one implementation that stands
in this package is named beside it, and tests bring twins of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from zope.interface import Attribute, Interface

from tcpsvc.identity import Client


@frozen(eq=False)
class Claim:
    """
    The right of one client to use the resource.

    @ivar holder: Who has it.
    @ivar token: Grows with each claim: whoever acts on the resource can tell a
        late act of a former holder by it (a fencing token).
    """

    holder: Client
    token: int


class SlotHeld(Exception):
    """
    The slot is another's.

    @ivar claim: The claim that holds it.
    """

    def __init__(self, claim: Claim) -> None:
        super().__init__(f"held by {claim.holder.identity.name}")
        self.claim = claim


class AuditUnavailable(Exception):
    """
    The audit trail cannot be written now. The message says why.
    """


class ISlot(Interface):
    """
    The one right to use a resource (L{tcpsvc.slot.Slot}).
    """

    current = Attribute("The L{Claim} that holds the slot, or L{None}.")
    claims = Attribute("How many claims there have been, as an L{int}.")

    def claim(client: Client) -> Deferred[Claim]:
        """
        Claim the slot for a client.

        @return: Fires with the claim, or fails with
            L{SlotHeld} if it is another's.
        """

    def release(claim: Claim) -> Deferred[None]:
        """
        Give the slot back. A claim that no longer holds it is ignored.

        @return: Fires when the next claim can succeed.
        """


class ITrail(Interface):
    """
    The audit trail, as whoever has something to record sees it
    (L{tcpsvc.audit.trail.Trail}).
    """

    records = Attribute("How many records the trail has, as an L{int}.")
    head = Attribute("The SHA-256 of the last record's line, in hex.")
    blocked = Attribute("Why nothing can be recorded now; empty if it can.")
    lastBlocked = Attribute("From when to when that was so last; empty if never.")

    def append(moment: float, event: str, fields: dict[str, object]) -> None:
        """
        Take one record. It counts as recorded only after L{commit}.

        @param moment: When it happened, in seconds since the epoch.
        @param event: Its name in the catalogue, L{tcpsvc.events}.
        @param fields: What belongs to it, as JSON primitives.
        """

    def extend(session: str, n: int, bodies: Sequence[str]) -> None:
        """
        Take records of what happens in a session: those of which there are many.

        @param n: The number of the session's last request.
        @param bodies: The records, as from L{tcpsvc.audit.chain.body}.
        """

    def write() -> None:
        """
        Write all that was taken, for whom it is enough that it will be forced to
        the disk in a while.

        @raise AuditUnavailable: If it could not be done. What was taken since
            the last time is then forgotten, save what happened all the same.
        """

    def commit() -> Deferred[None] | None:
        """
        Record all that was taken.

        @return: L{None} if that is done; else a Deferred that fires when it
            is, or fails with L{AuditUnavailable}.
        @raise AuditUnavailable: As by L{write}.
        """


class ISessionJournal(Interface):
    """
    Where a session tells what happens in it
    (L{tcpsvc.events.SessionJournal}).
    """

    log: Logger = Attribute("The log of the service, for what is no event.")

    def seconds() -> float:
        """
        @return: The time in seconds, by a clock that is never set.
        """

    def request(n: int, asked: str, moment: float) -> None:
        """
        Tell of the C{n}-th request of the session.

        @param asked: The members of its record that say what was asked, in JSON.
        @param moment: When it was taken in hand, by C{seconds}.
        """

    def reply(n: int, answered: str, code: int, since: float) -> float:
        """
        Tell of the reply to the C{n}-th request.

        @param answered: The members of its record that say what is sent, in JSON.
        @param since: When the request was taken in hand, by C{seconds}.
        @return: When the reply was told.
        """

    def exchanges(
        first: int, since: float, exchanges: Iterable[tuple[str, str, float]]
    ) -> None:
        """
        Tell of requests that followed each other, and of their replies of code 200.

        @param first: The number of the first.
        @param since: When it was taken in hand, by C{seconds}.
        @param exchanges: The requests, the replies as they are sent, and when those
            were there.
        """

    def data(direction: str, carried: str) -> None:
        """
        Tell of a chunk of octets that is carried.

        @param direction: C{in} from the client, C{out} to it.
        @param carried: The members of its record that say what it is, in JSON.
        """

    def commit() -> Deferred[None] | None:
        """
        Record all that was told; see L{ITrail.commit}.
        """


class IHalfCloseable(Interface):
    """
    A transport beside TCP's whose own half can be closed.
    """

    def loseWriteConnection() -> None:
        """
        Close this half when all is written.
        """


class ISession(IProtocol):
    """
    What an admitted client talks to, for as long as it is admitted. L{stop} is
    called before C{connectionLost}, and no octets come after it.
    """

    requests = Attribute("How many requests came, as an L{int}.")
    bytesIn = Attribute("How many octets came from the client.")
    bytesOut = Attribute("How many octets went to the client.")
    busy = Attribute("Whether a request is being answered: then nobody is idle.")
    mayBeTold = Attribute(
        "Whether the service's own words can be told from the resource's."
    )
    outcome = Attribute("Further fields for the record of the session's end.")

    def inputEnded(leaving: bool = False, truncated: bool = False) -> None:
        """
        The client will send nothing more. May be called a second time, when the
        client is found to be leaving.

        @param leaving: Whether it has closed TCP below TLS too, so that it probably
            reads no more either. Otherwise it still reads.
        @param truncated: Whether it has closed TCP without closing TLS: it is gone, or
            somebody else has cut the connection off.
        """

    def stop() -> Deferred[None]:
        """
        The session is over: give up what is being done for it.

        @return: Fires when nothing of it is left to reach the next session.
        """


class IBackend(Interface):
    """
    What answers the clients: the commands (L{tcpsvc.session.CommandBackend})
    or a gateway.
    """

    description = Attribute("The backend in a few words, for log and trail.")
    transparent = Attribute(
        "Whether each byte of a session is the resource's own, so that only a "
        "client that asked for it may be told anything."
    )

    def openSession(
        client: Client,
        journal: ISessionJournal,
        end: Callable[[str], None],
        told: bool,
    ) -> ISession:
        """
        Make the session of a client that was admitted.

        @param journal: Where the session records what happens in it.
        @param end: To be called, once, with the reason, when the session
            wants its connection closed.
        @param told: Whether the client may be told anything.
        """
