# -*- test-case-name: tests.test_doorway -*-

"""
Who is it, and is there room? Then a session, or a refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import cast
from uuid import uuid4

from twisted.internet import defer
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.admission import LAST_WORDS, Admission
from tcpsvc.closing import DELIVERY_PATIENCE, SHORT_PATIENCE
from tcpsvc.duplex import DuplexTLS
from tcpsvc.events import SESSION_CLOSED, SESSION_OPENED, SessionJournal
from tcpsvc.identity import ANONYMOUS, Client, Identity, UnacceptableCertificate
from tcpsvc.interfaces import AuditUnavailable, Claim, IBackend, ISession, SlotHeld
from tcpsvc.limits import TimeLimits
from tcpsvc.outcomes import accountOf
from tcpsvc.prompt import expectMore
from tcpsvc.sockets import (
    MAX_CONTROL_READ,
    MAX_OTHER_READ,
    MAX_READ,
    Pulse,
    Transport,
    readAtMost,
    tune,
    written,
)
from tcpsvc.tls import ALPN_CONTROL, ALPN_SESSION, describe, identityOfPeer
from tcpsvc.wire import Reply

DISCARD_PERIOD = 0.05
"""
Seconds between two reads from a plaintext client that is being closed.
"""

CLEANUP_PATIENCE = 10.0
"""
Seconds that a session's backend has to come to an end after the session has.
"""


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
    other state they are kept (while slot or trail make it wait) or dropped.

    @ivar handshakeEnded: Called with L{None} when the handshake has completed,
        or with the failure that ended it.
    @ivar preferred: Called with C{True} when the client holds the slot and is
        served, and with C{False} when it is not any more.
    @ivar gone: Fires when the connection is lost and cleaned up after.
    """

    transport: Transport  # type: ignore[assignment]  # never None while in use

    # What a session has; set when it is opened.
    _client: Client
    _journal: SessionJournal
    _session: ISession | None = None
    _limits: TimeLimits | None = None
    _opening: dict[str, object] | None = None  # Not yet logged.
    _stopped: Deferred[None] | None = None

    def __init__(self, admission: Admission, plaintext: bool) -> None:
        self.handshakeEnded: Callable[[Failure | None], None] = lambda failure: None
        self.preferred: Callable[[bool], None] = lambda isHolder: None
        self.gone: Deferred[None] = Deferred()
        self._delayed: IDelayedCall | None = None
        self._resting: IDelayedCall | None = None
        self._admission = admission
        self._plaintext = plaintext
        self._state = _State.ARRIVING
        self._mayBeTold = False
        self._early = bytearray()
        self._inputEnded = False
        self._leaving = False
        self._secured: DuplexTLS | None = None
        self._pulse = Pulse(admission.clock, self)
        self._claim: Claim | None = None
        self._lost = False

    @property
    def name(self) -> str:
        """Whose it is, when it has been let in."""
        return self._client.identity.name

    @property
    def _isTruncated(self) -> bool:
        """Whether TCP has ended below TLS."""
        return self._secured is not None and self._secured.truncated

    # Arriving.

    def connectionMade(self) -> None:
        """
        Without TLS, whoever comes is let in as nobody in particular.
        """
        readAtMost(self.transport, MAX_OTHER_READ)
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
            self._secured = secured = cast(DuplexTLS, self.transport)
            connection = secured.getHandle()
            identity, tls = identityOfPeer(connection), describe(connection)
            self.handshakeEnded(None)
            self._arrive(identity, tls, secured.negotiatedProtocol)
        except Exception:
            failure = Failure()
            if self._state is _State.ARRIVING:
                self.handshakeEnded(failure)
            self._abort(failure)

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
        client = Client(identity, address, str(uuid4()), admission.journal.now(), now)
        control = protocol == ALPN_CONTROL
        asked = control or protocol == ALPN_SESSION
        self._mayBeTold = asked or not admission.backend.transparent
        record: dict[str, object] = {
            "address": address,
            "identity": identity.asRecord(),
            "tls": tls,
        }
        if admission.stopping:
            self._refuse(client, "shutdown", LAST_WORDS["shutdown"])
        elif not control:
            claimed = admission.slot.claim(client)
            claimed.addCallbacks(
                self._claimed,
                self._notClaimed,
                callbackArgs=(client, record),
                errbackArgs=(client,),
            )
            claimed.addErrback(self._abort)
        elif admission.hasRoomForControl(identity.name):
            readAtMost(self.transport, MAX_CONTROL_READ)
            self._enter(client, control=True)
            self._answerAfter(
                admission.delayOf(client),
                partial(self._openControl, client, record | {"control": True}),
            )
        else:
            self._refuse(client, "control-limit", LAST_WORDS["control-limit"])

    def _abort(self, failure: Failure) -> None:
        """
        Something failed that never should: nobody is let in by it.
        """
        if not failure.check(UnacceptableCertificate):
            self._admission.flood.tellFailure(failure)
        if self._session is not None and self._state is not _State.LEAVING:
            self._leaveSession("failed", self._session)
        self._state = _State.LEAVING
        if not self._lost:
            self.transport.abortConnection()

    # Turned away.

    def _notClaimed(self, failure: Failure, client: Client) -> None:
        """
        The slot is another's, or cannot be had.
        """
        if not isinstance(failure.value, SlotHeld):
            self._abort(failure)
            return
        holder = failure.value.claim.holder
        busy = self._admission.busy(holder)
        self._refuse(client, "busy", busy, holder.identity.name)

    def _refuse(
        self, client: Client, reason: str, reply: Reply, holder: str = ""
    ) -> None:
        """
        Turn a client away, and say why if it may be told.
        """
        if self._state is not _State.CLAIMING:
            return
        self._state = _State.LEAVING
        self._admission.refused(client, reason, holder)
        self._answerAfter(self._admission.delayOf(client), partial(self._close, reply))

    def _answerAfter(self, delay: float, answer: Callable[[], None]) -> None:
        """
        Answer a client that comes too often after a while, in which nothing is read.
        """
        if not delay:
            answer()
            return
        admission = self._admission
        admission.delayed += 1
        self.transport.pauseProducing()

        def late() -> None:
            admission.delayed -= 1
            self._delayed = None
            self.transport.resumeProducing()
            answer()

        self._delayed = admission.clock.callLater(delay, late)

    def _openControl(self, client: Client, record: dict[str, object]) -> None:
        """
        Begin a control session, unless the service is stopping by now.
        """
        if self._admission.stopping:
            self._refuse(client, "shutdown", LAST_WORDS["shutdown"])
        elif self._state is _State.CLAIMING:
            self._open(client, record, self._admission.control)

    # Admitted.

    def _claimed(self, claim: Claim, client: Client, record: dict[str, object]) -> None:
        """
        The slot is this client's, if it is still there to use it.
        """
        if self._state is not _State.CLAIMING:
            self._admission.slot.release(claim)
            return
        self._claim = claim
        if self._admission.stopping:
            self._refuse(client, "shutdown", LAST_WORDS["shutdown"])
            return
        self._enter(client, control=False)
        self._open(client, record, self._admission.backend)

    def _enter(self, client: Client, control: bool) -> None:
        """
        Count the connection among those that have a session, or are about to.
        """
        self._client = client
        self._admission.enter(self, control)

    def _open(
        self, client: Client, record: dict[str, object], backend: IBackend
    ) -> None:
        """
        Record that the session begins, and then begin it.
        """
        admission = self._admission
        self._transparent = backend.transparent
        self._journal = admission.journalOf(client, backend is admission.control)
        session = backend.openSession(client, self._journal, self.end, self._mayBeTold)
        try:
            self._journal.note(SESSION_OPENED, record)
            self._session = session
            committed = self._journal.commit()
        except AuditUnavailable as error:
            self._cannotRecord(Failure(error))
            return
        if committed is None:
            self._serve(session, record)
        else:
            committed.addCallback(lambda _: self._serve(session, record))
            committed.addErrback(self._cannotRecord)

    def _cannotRecord(self, failure: Failure) -> None:
        """
        The session's beginning could not be recorded: there will be none.
        """
        if not failure.check(AuditUnavailable):
            self._abort(failure)
        elif self._state is _State.CLAIMING:
            reason = "audit-unavailable"
            self._refuse(self._client, reason, LAST_WORDS[reason])

    def _serve(self, session: ISession, record: dict[str, object]) -> None:
        """
        Join the client to its session, whose beginning is recorded.
        """
        if self._state is not _State.CLAIMING:
            return
        self._opening = record
        admission = self._admission
        self._limits = TimeLimits(
            admission.clock,
            admission.idleTimeout,
            admission.maxSession,
            self._client,
            session,
            self.end,
        )
        self._limits.start()
        self._state = _State.SERVING
        early, self._early = bytes(self._early), bytearray()
        if early:
            # Before the session begins, which may want nothing to be read.
            self.transport.resumeProducing()
        # While the greeting is on its way, the rest is done.
        session.makeConnection(cast(ITransport, self.transport))
        if self._state is _State.SERVING:
            self._sayOpened()
            self._pulse.start()
            if self._claim is not None:
                self.preferred(True)
                readAtMost(self.transport, MAX_READ)
                expectMore(self.transport, self._admission.mayExpect)
        if early and self._state is _State.SERVING:
            session.dataReceived(early)
        if self._inputEnded and self._state is _State.SERVING:
            session.inputEnded(self._leaving, self._isTruncated)
        if self._state is _State.SERVING:
            # The last statement: only now do octets reach the session.
            self.dataReceived = session.dataReceived  # type: ignore[method-assign]  # no detour

    def _sayOpened(self) -> None:
        """
        Log that the session has begun, unless that was done.
        """
        record, self._opening = self._opening, None
        if record is not None:
            kind = "control session" if "control" in record else "session"
            self._journal.say(SESSION_OPENED, record, kind=kind)

    def dataReceived(self, data: bytes) -> None:
        """
        Octets that no session takes. Those of a plaintext client that is being closed
        are discarded at leisure, so that a flood of them costs the holder little.
        """
        if self._state is _State.CLAIMING:
            self._early += data
            self.transport.pauseProducing()
        elif self._plaintext and self._state is _State.LEAVING and not self._lost:
            self.transport.pauseProducing()
            self._resting = self._admission.clock.callLater(
                DISCARD_PERIOD, self.transport.resumeProducing
            )

    def readConnectionLost(self) -> None:
        """
        The client sends nothing more: it has sent the C{close_notify} of TLS, or
        the end of TCP's stream, or both one after the other. Twisted may deliver
        the latter repeatedly.
        """
        leaving = self._secured is not None and self._secured.streamEnded
        if self._inputEnded and leaving is self._leaving:
            return
        self._inputEnded, self._leaving = True, leaving
        if self._state is _State.SERVING and self._session is not None:
            self._session.inputEnded(leaving, self._isTruncated)
        elif self._state is not _State.CLAIMING or not self._early:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Our half is closed: the client has all that it will get.
        """

    # Leaving.

    def end(self, reason: str) -> None:
        """
        End the session, and say why where that can be said.

        @param reason: As in the record of the session's end.
        """
        if self._session is None or self._state is _State.LEAVING:
            return
        if reason == "client-closed" and self._isTruncated:
            reason = "connection-lost"
        mayBeTold = self._session.mayBeTold
        self._leaveSession(reason, self._session)
        self.transport.unregisterProducer()
        ownWish = reason not in LAST_WORDS
        self._close(
            LAST_WORDS.get(reason) if mayBeTold else None,
            DELIVERY_PATIENCE if ownWish else SHORT_PATIENCE,
        )

    def _close(self, reply: Reply | None, patience: float = SHORT_PATIENCE) -> None:
        """
        Say the last words, and close the connection so that they arrive: what
        the client still sends is read and dropped.

        @param patience: Seconds that the client may take to receive everything.
        """
        if reply is not None and self._mayBeTold:
            self.transport.write(reply.encode())
        self.transport.resumeProducing()
        self._admission.closing.close(
            self.transport,
            unheard=not self._inputEnded,
            hadSession=self._session is not None,
            patience=patience,
        )

    def _leaveSession(self, reason: str, session: ISession) -> None:
        """
        No octet reaches the session any more. Its end is recorded when nothing
        more can happen in it.
        """
        self._sayOpened()
        self._state = _State.LEAVING
        self._client.leaving = True
        self.preferred(False)
        readAtMost(self.transport, MAX_OTHER_READ)
        self.__dict__.pop("dataReceived", None)
        self._pulse.stop()
        if self._limits is not None:
            self._limits.stop()
        self._stopped = maybeDeferred(session.stop)
        self._stopped.addTimeout(CLEANUP_PATIENCE, self._admission.clock)
        self._stopped.addErrback(self._notStopped)
        self._stopped.addCallback(lambda _: self._recordEnd(reason, session))
        # Whatever fails here, the slot is free afterwards.
        self._stopped.addErrback(
            lambda failure: self._journal.log.failure(
                "the end of session {session} was not recorded",
                failure,
                session=self._client.session,
            )
        )

    def _notStopped(self, failure: Failure) -> None:
        """
        The session has raised something as it was stopped, or takes too long.
        """
        late = failure.check(defer.TimeoutError) is not None
        how = f"did not end within {CLEANUP_PATIENCE} s" if late else "failed to end"
        self._journal.log.failure(
            "session {session} {how}", failure, session=self._client.session, how=how
        )

    def _recordEnd(self, reason: str, session: ISession) -> None:
        """
        Record the end of the session.
        """
        duration = self._admission.clock.seconds() - self._client.opened
        record: dict[str, object] = {
            "reason": reason,
            "requests": session.requests,
            "bytes_in": session.bytesIn,
            "bytes_out": session.bytesOut,
            "duration_s": round(max(0.0, duration), 6),
            **session.outcome,
        }
        try:
            account = accountOf(record, self._transparent)
            self._journal.tell(SESSION_CLOSED, record, account=account)
            committed = self._journal.commit()
        except AuditUnavailable as error:
            self._notRecorded(Failure(error))
        else:
            if committed is not None:
                committed.addErrback(self._notRecorded)

    def _notRecorded(self, failure: Failure) -> None:
        """
        The session's end could not be recorded yet.
        """
        self._journal.log.error("{error}", error=failure.getErrorMessage())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The transport is gone: when the backend is cleaned up, the slot is free.
        """
        self._lost = True
        if self._delayed is not None:
            self._delayed.cancel()
            self._admission.delayed -= 1
        if self._resting is not None and self._resting.active():
            self._resting.cancel()
        self._admission.closing.closed(self.transport)
        if self._state is _State.ARRIVING:
            self.handshakeEnded(reason)
        if self._state is not _State.LEAVING and self._session is not None:
            clean = reason.check(ConnectionDone) is not None
            self._leaveSession(
                "client-closed" if clean else "connection-lost", self._session
            )
        self._state = _State.LEAVING
        if self._stopped is None or self._session is None:
            self._cleanedUp()
            return
        self._stopped.addCallback(lambda _: self._cleanedUp())
        self._session.connectionLost(reason)

    def _cleanedUp(self) -> None:
        """
        Nothing of this connection is left.
        """
        self._admission.leave(self)
        if self._claim is not None:
            self._admission.slot.release(self._claim)
        self.gone.callback(None)
