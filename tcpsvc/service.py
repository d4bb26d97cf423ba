# -*- test-case-name: tests.test_service -*-

"""
Assembles the service, and takes it down in order.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorCore,
    IReactorFromThreads,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.failure import Failure

import tcpsvc
from tcpsvc.admission import Admission
from tcpsvc.audit.disk import Disk, InThread
from tcpsvc.audit.file import TrailError
from tcpsvc.audit.recovery import Ending
from tcpsvc.audit.trail import openTrail
from tcpsvc.bucket import Reconnections
from tcpsvc.builtin import ServiceFacts, controlCommands, serviceCommands
from tcpsvc.closing import Closing
from tcpsvc.commands import Command, CommandsError
from tcpsvc.doorway import DoorwayFactory
from tcpsvc.endpointstrings import serverEndpoint
from tcpsvc.events import (
    SERVICE_STARTED,
    SERVICE_STOPPED,
    SESSION_CLOSED,
    Event,
    Journal,
)
from tcpsvc.flood import Flood
from tcpsvc.gateway import GatewayBackend, GatewaySettings
from tcpsvc.identity import fingerprintOf
from tcpsvc.interfaces import AuditUnavailable, IBackend
from tcpsvc.listening import placeOf, whyNotListening
from tcpsvc.paced import PacedSession
from tcpsvc.pending import PendingLimit
from tcpsvc.prompt import sendAtOnce
from tcpsvc.session import CommandBackend
from tcpsvc.slot import Slot
from tcpsvc.sockets import holdAcceptsDown
from tcpsvc.tls import ServerMaterial, ServerTLS


class Reactor(IReactorTime, IReactorCore, IReactorFromThreads):
    """
    What the service needs of a reactor.
    """


@frozen
class Settings:
    """
    What a service is made from; all of it checked.

    @ivar listen: Server endpoint strings to serve with mutual TLS.
    @ivar listenPlaintext: The same, to serve without.
    @ivar material: Keys and certificates.
    @ivar tlsMinimum: A key of L{tcpsvc.tls.VERSIONS}.
    @ivar commands: The commands beside those that every service has.
    @ivar gateway: What clients are joined to in place of the commands, if
        anything.
    @ivar audit: The file of the audit trail.
    @ivar auditSync: When records are forced to the disk.
    @ivar auditKey: What signs its checkpoints.
    @ivar auditMaxOctets: At which size a new file begins; 0 is never.
    @ivar idleTimeout: Seconds without a request; 0 is no limit.
    @ivar maxSession: Seconds that a session may last; 0 is no limit.
    @ivar handshakeTimeout: Seconds that a handshake may take.
    @ivar maxPending: How many connections may be in handshake.
    @ivar reconnectRate: How often a second an identity or address may be refused
        before it has to wait; 0 is no limit.
    """

    listen: tuple[str, ...]
    listenPlaintext: tuple[str, ...]
    material: ServerMaterial
    tlsMinimum: str
    commands: tuple[Command, ...]
    audit: Path
    auditSync: str
    auditKey: Ed25519PrivateKey
    auditMaxOctets: int
    idleTimeout: float
    maxSession: float
    handshakeTimeout: float
    maxPending: int
    reconnectRate: float
    gateway: GatewaySettings | None = None


class StartError(Exception):
    """
    The service cannot start. The message is one line for people.
    """


def _inOneLine(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """
    An exception hook that shows why the service did not start, and no
    traceback. Standard error itself may be the log by now.
    """
    if issubclass(kind, StartError):
        print(f"tcpsvc: {error}", file=sys.__stderr__)
    else:
        sys.__excepthook__(kind, error, trace)


class ExclusiveService(Service):
    """
    One resource, one slot, and all listeners that lead to it.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Reactor,
        inThread: InThread,
        observer: ILogObserver = globalLogPublisher,
        leave: Callable[[int], object] = os._exit,
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        @param reactor: Listens, and is the clock of all.
        @param inThread: Runs a blocking call beside the reactor.
        @param observer: Gets the log.
        @param leave: Ends the process, with a status.
        @param now: The wall clock, for time stamps; the reactor's if L{None}.
        """
        self._settings = settings
        self._reactor = reactor
        self._inThread = inThread
        self._observer = observer
        self._leave = leave
        self._now = now or reactor.seconds
        self._log = Logger(namespace="tcpsvc", observer=observer)
        self._ports: list[IListeningPort] = []
        self._begun = False
        self._opened = False

    def privilegedStartService(self) -> None:
        """
        Open the trail and the listeners, while ports below 1024 can be had.
        """
        super().privilegedStartService()
        self._begin()

    def startService(self) -> None:
        """
        Start, if L{privilegedStartService} was not called before (C{twist}
        does not).
        """
        super().startService()
        if not self._begun:
            self._begin()
        self._reactor.callWhenRunning(self._catchHangUp)
        self._reactor.callWhenRunning(_keepWhatIsThere)

    def _begin(self) -> None:
        """
        Open all, or say why that cannot be done.
        """
        self._begun = True
        try:
            self._open()
        except StartError as error:
            # twistd lets it end the process; as a daemon it tells its parent.
            # No worse than an error: what is critical would go to standard error
            # as well, where twist has no log yet.
            self._log.error("cannot start: {why}", why=str(error))
            sys.excepthook = _inOneLine
            raise

    def _open(self) -> None:
        """
        Open the trail, then the doors.

        @raise StartError: If that cannot be done; then nothing is left open.
        """
        settings, clock = self._settings, self._reactor
        try:
            self._trail, ending = openTrail(
                settings.audit,
                settings.auditKey,
                clock,
                Disk(self._inThread, self._die),
                settings.auditSync,
                settings.auditMaxOctets,
                self._now,
            )
        except TrailError as error:
            raise StartError(str(error)) from None
        self._journal = Journal(self._trail, clock, self._observer, self._now)
        self._flood = Flood(self._journal)
        try:
            self._admission = self._assembled()
            for description, factory in self._doors():
                self._listen(description, factory)
            self._listeners = self._described()
            self._tellOfCrash(ending)
            self._tell(SERVICE_STARTED, trail=self._trail.id)
        except Exception as error:
            for port in self._ports:
                port.stopListening()
            self._trail.close()
            if isinstance(error, (OSError, AuditUnavailable, CommandsError)):
                raise StartError(str(error)) from None
            raise
        self._opened = True
        for how in self._listeners:
            self._journal.log.info("listening on {how}", how=how)
        if settings.material.crl is None:
            self._journal.log.warn("there is no revocation list: nobody is revoked")

    def _tellOfCrash(self, ending: Ending) -> None:
        """
        Tell what a start has found at the end of the trail, and end the sessions
        that nobody could end.
        """
        if ending.torn is not None:
            self._journal.log.warn(
                "the trail's last line was torn; it is kept in {torn}",
                torn=str(ending.torn),
            )
        for session, requests in ending.left.items():
            self._journal.log.warn(
                "session {session} was cut off by a crash", session=session
            )
            self._journal.ofSession(session).note(
                SESSION_CLOSED,
                {
                    "reason": "crash",
                    "requests": requests,
                    "bytes_in": None,
                    "bytes_out": None,
                    "duration_s": None,
                },
            )

    def _catchHangUp(self) -> None:
        """
        At SIGHUP, begin a new file of the trail if the old one was renamed.
        """
        signal.signal(
            signal.SIGHUP,
            lambda *_: self._reactor.callFromThread(self._trail.reopen),
        )

    def _die(self, why: str) -> None:
        """
        The disk has failed: what was written may be lost, and no later call
        could tell. So this is the end, at once, before anything else is said.
        """
        self._log.critical(
            "{path}: cannot be forced to the disk: {why}; exit status {status}",
            path=str(self._settings.audit),
            why=why,
            status=os.EX_IOERR,
        )
        self._leave(os.EX_IOERR)

    def _assembled(self) -> Admission:
        """
        Put together what all doorways share.
        """
        settings, clock, journal = self._settings, self._reactor, self._journal
        slot = Slot()
        facts = ServiceFacts(
            host=socket.gethostname(),
            slot=slot,
            journal=journal,
            started=self._now(),
            certificateExpires=settings.material.certificate.not_valid_after_utc,
        )
        commands = serviceCommands(facts)
        for one in settings.commands:
            commands.add(one)
        backend: IBackend = CommandBackend(commands, facts.greeting, "commands")
        if settings.gateway is not None:
            endpoint = clientFromString(clock, settings.gateway.description)
            backend = GatewayBackend(
                settings.gateway, endpoint, facts.gatewayGreeting, clock
            )
        return Admission(
            slot=slot,
            backend=backend,
            control=CommandBackend(
                controlCommands(facts),
                facts.controlGreeting,
                "control",
                commands,
                partial(PacedSession, clock),
            ),
            journal=journal,
            flood=self._flood,
            closing=Closing(clock),
            clock=clock,
            idleTimeout=settings.idleTimeout,
            maxSession=settings.maxSession,
            reconnections=Reconnections(clock, settings.reconnectRate),
        )

    def _doors(self) -> list[tuple[str, Factory]]:
        """
        The endpoint strings to listen on, each with its factory. All TLS
        listeners share one limit of pending connections.
        """
        settings, admission = self._settings, self._admission
        self._pending = secure = PendingLimit(
            DoorwayFactory(admission, plaintext=False),
            ServerTLS(settings.material, settings.tlsMinimum),
            self._flood,
            admission.closing,
            self._reactor,
            settings.maxPending,
            settings.handshakeTimeout,
            admission,
        )
        plaintext = DoorwayFactory(admission, plaintext=True)
        return [(description, secure) for description in settings.listen] + [
            (description, plaintext) for description in settings.listenPlaintext
        ]

    def _listen(self, description: str, factory: Factory) -> None:
        """
        Open one door.

        @raise StartError: If it cannot be opened.
        """
        try:
            endpoint = serverEndpoint(self._reactor, description)
        except ValueError as error:
            raise StartError(f"cannot listen on {description}: {error}") from None
        ports: list[IListeningPort] = []
        failures: list[Failure] = []
        listening = endpoint.listen(factory)
        listening.addCallbacks(ports.append, failures.append)
        for failure in failures:
            raise StartError(
                f"cannot listen on {description}: {whyNotListening(failure.value)}"
            )
        if not ports:
            raise StartError(f"cannot listen on {description}: it does not say when")
        self._ports += ports
        holdAcceptsDown(ports[0])
        sendAtOnce(ports[0])

    def _described(self) -> list[str]:
        """
        Where the service listens and how, for log and trail.
        """
        secure = f"mutual TLS {self._settings.tlsMinimum} or later"
        return [
            f"{placeOf(port)}, "
            + (
                secure
                if number < len(self._settings.listen)
                else "plaintext, anonymous"
            )
            for number, port in enumerate(self._ports)
        ]

    def _tell(self, event: Event, **more: object) -> None:
        """
        Tell that the service starts or stops.
        """
        self._journal.tell(
            event,
            {
                "version": tcpsvc.__version__,
                "listeners": self._listeners,
                "backend": self._admission.backend.description,
                "sync": self._settings.auditSync,
                "certificate": fingerprintOf(self._settings.material.certificate),
                **more,
            },
        )
        committed = self._journal.commit()
        if committed is not None:
            committed.addErrback(self._notRecorded)

    def _notRecorded(self, failure: Failure) -> None:
        """
        The service's end could not be recorded.
        """
        self._journal.log.error("{error}", error=failure.getErrorMessage())

    def stopService(self) -> Deferred[None]:
        """
        Close the doors, end the sessions, then the trail.
        """
        super().stopService()
        if not self._opened:
            return succeed(None)
        log = self._journal.log
        closed = [
            maybeDeferred(port.stopListening).addErrback(
                lambda failure: log.failure("a listener did not close", failure)
            )
            for port in self._ports
        ]
        ended: Deferred[Any] = gatherResults(closed)
        for step in (self._pending.stop, self._admission.stop, self._finish):
            # Whatever one raises, the others are done: the trail is closed last.
            ended.addCallback(_after, step)
            ended.addErrback(
                lambda failure: log.failure("did not stop cleanly", failure)
            )
        return ended

    def _finish(self) -> None:
        """
        The last record.
        """
        try:
            self._flood.tellAll()
            self._tell(SERVICE_STOPPED)
        except AuditUnavailable:
            self._notRecorded(Failure())
        finally:
            self._trail.close()


def _after(_: object, step: Callable[[], object]) -> object:
    """
    Do a step when the one before it is done.
    """
    return step()


def _keepWhatIsThere() -> None:
    """
    What has been made by now lasts as long as the process. Let Python's garbage
    collector not look through all of it again and again: that takes 20 ms, in which
    nobody is served.
    """
    gc.collect()
    gc.freeze()
