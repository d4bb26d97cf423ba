# -*- test-case-name: tests.test_doorway -*-

"""
Admission: who is it, and is there room? Then a session, or a refusal.
"""

from __future__ import annotations

from enum import Enum
from typing import Callable
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.events import SESSION_CLOSED, SESSION_OPENED, SESSION_REFUSED, Journal
from tcpsvc.identity import ANONYMOUS, Client, Identity
from tcpsvc.interfaces import AuditUnavailable, IBackend, ISession, ISlot
from tcpsvc.slot import Claim, SlotHeld
from tcpsvc.sockets import Closing, tune, written
from tcpsvc.times import toSeconds
from tcpsvc.tls import ALPN_CONTROL, ALPN_SESSION, describe, identityOfPeer
from tcpsvc.wire import Reply

MAX_CONTROLS = 8
"""
How many control connections may be open at once.
"""

CLEANUP_PATIENCE = 10.0
"""
Seconds that a session's backend has to come to an end after the session has.
"""

LAST_WORDS = {
    "idle-timeout": Reply(421, "IDLE-TIMEOUT no request for too long; good bye"),
    "session-limit": Reply(421, "SESSION-LIMIT a session may last no longer; good bye"),
    "shutdown": Reply(421, "SHUTDOWN the service is stopping; good bye"),
    "audit-unavailable": Reply(
        421, "AUDIT-UNAVAILABLE nothing can be recorded now, so nothing is served"
    ),
}
"""
What a client is told when the service ends its session, by the reason.
"""

_TOO_MANY_CONTROLS = Reply(
    421, f"BUSY {MAX_CONTROLS} control connections are open; try again later"
)


@define(eq=False)
class Admission:
    """
    What all doorways to one resource share.

    @ivar slot: The right to use the resource.
    @ivar backend: What answers the holder.
    @ivar control: What answers those who only ask about the service.
    @ivar idleTimeout: Seconds without a request; 0 is no limit.
    @ivar maxSession: Seconds that a session may last; 0 is no limit.
    @ivar inside: The doorways that have a session now.
    @ivar stopping: Whether the service is going down.
    """

    slot: ISlot
    backend: IBackend
    control: IBackend
    journal: Journal
    closing: Closing
    clock: IReactorTime
    idleTimeout: float
    maxSession: float
    inside: set[Doorway] = field(factory=set)
    stopping: bool = False

    def stop(self) -> Deferred[object]:
        """
        End all sessions.

        @return: Fires when they are gone and cleaned up after.
        """
        self.stopping = True
        doorways = list(self.inside)
        for doorway in doorways:
            doorway.end("shutdown")
        return DeferredList([doorway.gone for doorway in doorways])


class DoorwayFactory(Factory):
    """
    Builds the doorway of each connection of one listener.
    """

    noisy = False

    def __init__(self, admission: Admission, plaintext: bool) -> None:
        """
        @param plaintext: Whether there is no TLS around the doorway, and
            nobody to ask who the client is.
        """
        self.admission = admission
        self.plaintext = plaintext

    def buildProtocol(self, address: IAddress | None) -> Doorway:
        """
        @return: A doorway; never L{None}, which TLS around it could not bear.
        """
        return Doorway(self.admission, self.plaintext)


class _State(Enum):
    """
    How far a connection has come.
    """

    ARRIVING = "in handshake"
    CLAIMING = "waiting for slot or trail"
    SERVING = "in session"
    LEAVING = "on its way out"


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class Doorway(Protocol):
    """
    One connection, from the end of its handshake to the end of its session.

    Octets reach the session only while it is being served; in each
    other state they are kept (while the slot or the trail makes it wait) or
    dropped.

    @ivar handshakeEnded: Called with L{None} when the handshake has completed,
        or with the failure that ended it.
    @ivar gone: Fires when the connection is lost and cleaned up after.
    """

    def __init__(self, admission: Admission, plaintext: bool) -> None:
        self._admission = admission
        self._plaintext = plaintext
        self._state = _State.ARRIVING
        self._early = bytearray()
        self._session: ISession | None = None
        self._claim: Claim | None = None
        self._control = False
        self._mayBeTold = False
        self._watch: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self.handshakeEnded: Callable[[Failure | None], None] = lambda failure: None
        self.gone: Deferred[None] = Deferred()

    # Arriving.

    def connectionMade(self) -> None:
        """
        Without TLS, whoever comes is let in as nobody in particular.
        """
        if self._plaintext:
            tune(self.transport)
            self._arrive(ANONYMOUS, None, None)

    def handshakeCompleted(self) -> None:
        """
        The certificate was verified: the client may claim the slot. Whatever
        fails here closes the connection.
        """
        if self._state is not _State.ARRIVING:
            return
        try:
            connection = self.transport.getHandle()
            identity, tls = identityOfPeer(connection), describe(connection)
            self.handshakeEnded(None)
            self._arrive(identity, tls, self.transport.negotiatedProtocol)
        except Exception:
            self._admission.journal.log.failure("a client could not be admitted")
            self._state = _State.LEAVING
            self.transport.abortConnection()

    def _arrive(
        self, identity: Identity, tls: dict[str, object] | None, protocol: bytes | None
    ) -> None:
        """
        A client is here: claim the slot for it, unless it only wants to ask.
        """
        admission = self._admission
        self._state = _State.CLAIMING
        now = admission.clock.seconds()
        address = written(self.transport.getPeer())
        client = Client(identity, address, str(uuid4()), now, now)
        self._control = protocol == ALPN_CONTROL
        self._mayBeTold = self._control or (
            protocol == ALPN_SESSION or not admission.backend.transparent
        )
        if admission.stopping:
            self._refuse(client, "shutdown", LAST_WORDS["shutdown"])
        elif not self._control:
            claimed = admission.slot.claim(client)
            claimed.addCallback(self._claimed, client, tls)
            claimed.addErrback(self._notClaimed, client)
        elif sum(doorway._control for doorway in admission.inside) < MAX_CONTROLS:
            self._open(client, tls, admission.control)
        else:
            self._refuse(client, "control-limit", _TOO_MANY_CONTROLS)

    # Turned away.

    def _notClaimed(self, failure: Failure, client: Client) -> None:
        """
        The slot is another's, or cannot be had.
        """
        if not failure.check(SlotHeld):
            self._admission.journal.log.failure("a client was not admitted", failure)
            self._state = _State.LEAVING
            self.transport.abortConnection()
            return
        holder = failure.value.claim.holder
        idle = max(0, int(self._admission.clock.seconds() - holder.lastRequest))
        text = (
            f"BUSY held by {holder.identity.name} since {toSeconds(holder.since)}, "
            f"idle {idle} s"
        )
        self._refuse(client, "busy", Reply(421, text), holder.identity.name)

    def _refuse(
        self, client: Client, reason: str, reply: Reply, holder: str = ""
    ) -> None:
        """
        Turn a client away, and say why if it may be told.
        """
        if self._state is not _State.CLAIMING:
            return
        self._state = _State.LEAVING
        journal = self._admission.journal
        record: dict[str, object] = {
            "address": client.address,
            "identity": client.identity.asRecord(),
            "reason": reason,
        }
        if holder:
            record["holder"] = holder
        try:
            journal.tell(
                SESSION_REFUSED, record, because=f" (held by {holder})" * bool(holder)
            )
            journal.commit()
        except AuditUnavailable as error:
            journal.log.error("{error}", error=str(error))
        if self._mayBeTold:
            self.transport.write(reply.encode())
        self._close()

    # Admitted.

    def _claimed(
        self, claim: Claim, client: Client, tls: dict[str, object] | None
    ) -> None:
        """
        The slot is this client's, if it is still there to use it.
        """
        if self._state is not _State.CLAIMING:
            self._admission.slot.release(claim)
            return
        self._claim = claim
        self._open(client, tls, self._admission.backend)

    def _open(
        self, client: Client, tls: dict[str, object] | None, backend: IBackend
    ) -> None:
        """
        Record that the session has begun, and then begin it.
        """
        self._client = client
        self._journal = self._admission.journal.ofSession(client.session)
        record: dict[str, object] = {
            "address": client.address,
            "identity": client.identity.asRecord(),
            "tls": tls,
        }
        if self._control:
            record["control"] = True
        self._admission.inside.add(self)
        self._session = session = backend.openSession(client, self._journal, self.end)
        try:
            self._journal.tell(SESSION_OPENED, record)
            committed = self._journal.commit()
        except AuditUnavailable as error:
            self._cannotRecord(Failure(error))
            return
        if committed is None:
            self._serve(session)
        else:
            committed.addCallback(lambda _: self._serve(session))
            committed.addErrback(self._cannotRecord)

    def _cannotRecord(self, failure: Failure) -> None:
        """
        The session's beginning could not be recorded: there will be none.
        """
        self._journal.log.error("{error}", error=str(failure.value))
        if self._state is not _State.CLAIMING:
            return
        self._state = _State.LEAVING
        if self._mayBeTold:
            self.transport.write(LAST_WORDS["audit-unavailable"].encode())
        self._close()

    def _serve(self, session: ISession) -> None:
        """
        Join the client to its session.
        """
        if self._state is not _State.CLAIMING:
            return
        self._rearm()
        self._state = _State.SERVING
        session.makeConnection(self.transport)
        if self._early and self._state is _State.SERVING:
            early, self._early = bytes(self._early), bytearray()
            self.transport.resumeProducing()
            session.dataReceived(early)
        if self._state is _State.SERVING:
            # The last statement: only now do octets reach the session.
            self.dataReceived = session.dataReceived  # type: ignore[method-assign]

    def dataReceived(self, data: bytes) -> None:
        """
        Octets that no session takes.
        """
        if self._state is _State.CLAIMING:
            self._early += data
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """
        The client closed its half of a plaintext connection.
        """
        if self._state is _State.SERVING and self._session is not None:
            self._session.inputEnded()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Our half is closed: the client has all that it will get.
        """

    # Limits of time.

    def _rearm(self) -> None:
        """
        Look at the limits again at the nearest moment that one could be
        reached. Requests only leave the time behind at which they came.
        """
        admission, now = self._admission, self._admission.clock.seconds()
        waits = []
        if admission.idleTimeout:
            waits.append(self._client.lastRequest + admission.idleTimeout - now)
            if self._session is not None and self._session.busy:
                waits = [admission.idleTimeout]
        if admission.maxSession:
            waits.append(self._client.since + admission.maxSession - now)
        if waits:
            self._watch = admission.clock.callLater(max(0.0, min(waits)), self._look)

    def _look(self) -> None:
        """
        End the session if it has reached a limit.
        """
        admission, now = self._admission, self._admission.clock.seconds()
        idle = now - self._client.lastRequest
        busy = self._session is not None and self._session.busy
        if admission.maxSession and now - self._client.since >= admission.maxSession:
            self.end("session-limit")
        elif admission.idleTimeout and idle >= admission.idleTimeout and not busy:
            self.end("idle-timeout")
        else:
            self._rearm()

    # Leaving.

    def end(self, reason: str) -> None:
        """
        End the session, and say why where that can be said.

        @param reason: As in the record of the session's end.
        """
        if self._session is None or self._state is _State.LEAVING:
            return
        self._leaveSession(reason)
        if reason in LAST_WORDS and self._mayBeTold:
            self.transport.write(LAST_WORDS[reason].encode())
        self.transport.unregisterProducer()
        self._close()

    def _close(self) -> None:
        """
        Close the connection so that the last words arrive: what the client
        still sends is read and dropped.
        """
        self.transport.resumeProducing()
        self._admission.closing.close(self.transport, self._plaintext)

    def _leaveSession(self, reason: str) -> None:
        """
        No octet reaches the session any more, and its end is recorded.
        """
        assert self._session is not None
        self._state = _State.LEAVING
        self.__dict__.pop("dataReceived", None)
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._stopped = self._session.stop()
        duration = self._admission.clock.seconds() - self._client.since
        try:
            self._journal.tell(
                SESSION_CLOSED,
                {
                    "reason": reason,
                    "requests": self._session.requests,
                    "bytes_in": self._session.bytesIn,
                    "bytes_out": self._session.bytesOut,
                    "duration_s": round(max(0.0, duration), 6),
                },
            )
            self._journal.commit()
        except AuditUnavailable as error:
            self._journal.log.error("{error}", error=str(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The transport is gone: when the backend is cleaned up, the slot is free.
        """
        self._admission.closing.closed(self.transport)
        if self._state is _State.ARRIVING:
            self.handshakeEnded(reason)
        if self._state is not _State.LEAVING and self._session is not None:
            clean = reason.check(ConnectionDone) is not None
            self._leaveSession("client-closed" if clean else "connection-lost")
        self._state = _State.LEAVING
        if self._session is not None and self._stopped is not None:
            self._session.connectionLost(reason)
            self._stopped.addTimeout(CLEANUP_PATIENCE, self._admission.clock)
            self._stopped.addErrback(
                lambda failure: self._journal.log.failure(
                    "the end of session {session} was not clean",
                    failure,
                    session=self._client.session,
                )
            )
            self._stopped.addCallback(lambda _: self._cleanedUp())
        else:
            self._cleanedUp()

    def _cleanedUp(self) -> None:
        """
        Nothing of this connection is left.
        """
        self._admission.inside.discard(self)
        if self._claim is not None:
            self._admission.slot.release(self._claim)
        self.gone.callback(None)
