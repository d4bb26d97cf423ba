# -*- test-case-name: tests.test_service -*-

"""
Assembles the service, and takes it down in order.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import cast

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.failure import Failure

import tcpsvc
from tcpsvc.admission import Admission
from tcpsvc.audit.trail import InThread, Trail, TrailError
from tcpsvc.builtin import ServiceFacts, controlCommands, serviceCommands
from tcpsvc.commands import Command, CommandsError
from tcpsvc.doorway import DoorwayFactory
from tcpsvc.events import SERVICE_STARTED, SERVICE_STOPPED, Event, Journal
from tcpsvc.identity import fingerprintOf
from tcpsvc.interfaces import AuditUnavailable
from tcpsvc.pending import PendingLimit
from tcpsvc.session import CommandBackend
from tcpsvc.slot import Slot
from tcpsvc.sockets import Closing, holdAcceptsDown, written
from tcpsvc.tls import ServerMaterial, ServerTLS


@frozen
class Settings:
    """
    What a service is made from; all of it checked.

    @ivar listen: Server endpoint strings to serve with mutual TLS.
    @ivar listenPlaintext: The same, to serve without.
    @ivar material: Keys and certificates.
    @ivar tlsMinimum: A key of L{tcpsvc.tls.VERSIONS}.
    @ivar commands: The commands beside those that every service has.
    @ivar audit: The file of the audit trail.
    @ivar auditSync: When records are forced to the disk.
    @ivar idleTimeout: Seconds without a request; 0 is no limit.
    @ivar maxSession: Seconds that a session may last; 0 is no limit.
    @ivar handshakeTimeout: Seconds that a handshake may take.
    @ivar maxPending: How many connections may be in handshake.
    """

    listen: tuple[str, ...]
    listenPlaintext: tuple[str, ...]
    material: ServerMaterial
    tlsMinimum: str
    commands: tuple[Command, ...]
    audit: Path
    auditSync: str
    idleTimeout: float
    maxSession: float
    handshakeTimeout: float
    maxPending: int


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
        reactor: IReactorTime,
        inThread: InThread,
        observer: ILogObserver = globalLogPublisher,
    ) -> None:
        """
        @param reactor: Listens, and is the clock of all.
        @param inThread: Runs a blocking call beside the reactor.
        @param observer: Gets the log.
        """
        self._settings = settings
        self._reactor = reactor
        self._inThread = inThread
        self._observer = observer
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
            self._trail = Trail(
                settings.audit, settings.auditSync, clock, self._inThread
            )
        except TrailError as error:
            raise StartError(str(error)) from None
        self._journal = Journal(self._trail, clock, self._observer)
        try:
            self._admission = self._assembled()
            for description, factory in self._doors():
                self._listen(description, factory)
            self._listeners = self._described()
            self._tell(SERVICE_STARTED)
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
            started=clock.seconds(),
            certificateExpires=settings.material.certificate.not_valid_after_utc,
        )
        commands = serviceCommands(facts)
        for one in settings.commands:
            commands.add(one)
        return Admission(
            slot=slot,
            backend=CommandBackend(commands, facts.greeting, "commands"),
            control=CommandBackend(
                controlCommands(facts), facts.controlGreeting, "control"
            ),
            journal=journal,
            closing=Closing(clock),
            clock=clock,
            idleTimeout=settings.idleTimeout,
            maxSession=settings.maxSession,
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
            self._journal,
            admission.closing,
            self._reactor,
            settings.maxPending,
            settings.handshakeTimeout,
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
        endpoint = cast(
            IStreamServerEndpoint, serverFromString(self._reactor, description)
        )
        ports: list[IListeningPort] = []
        failures: list[Failure] = []
        listening = endpoint.listen(factory)
        listening.addCallbacks(ports.append, failures.append)
        for failure in failures:
            raise StartError(f"cannot listen on {description}: {_why(failure.value)}")
        if not ports:
            raise StartError(f"cannot listen on {description}: it does not say when")
        holdAcceptsDown(ports[0])
        self._ports += ports

    def _described(self) -> list[str]:
        """
        Where the service listens and how, for log and trail.
        """
        secure = f"mutual TLS {self._settings.tlsMinimum} or later"
        return [
            f"{_place(port)}, "
            + (
                secure
                if number < len(self._settings.listen)
                else "plaintext, anonymous"
            )
            for number, port in enumerate(self._ports)
        ]

    def _tell(self, event: Event) -> None:
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
            },
        )
        self._journal.commit()

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
        ended = gatherResults(closed).addCallback(lambda _: self._pending.stop())
        ended.addCallback(lambda _: self._admission.stop())
        ended.addCallback(lambda _: self._finish())
        return ended.addErrback(
            lambda failure: log.failure("did not stop cleanly", failure)
        )

    def _finish(self) -> None:
        """
        The last record.
        """
        try:
            self._tell(SERVICE_STOPPED)
        except AuditUnavailable as error:
            self._journal.log.error("{error}", error=str(error))
        self._trail.close()


def _place(port: IListeningPort) -> str:
    """
    Where a port listens, as people write it.
    """
    host = port.getHost()
    name = getattr(host, "name", None)
    if name is None:
        return written(host)
    return f"unix:{name.decode(errors='replace') if isinstance(name, bytes) else name}"


def _why(error: BaseException | None) -> str:
    """
    Why a door could not be opened, without where.
    """
    cause = error.socketError if isinstance(error, CannotListenError) else error
    return getattr(cause, "strerror", None) or str(cause)
