# -*- test-case-name: tests.test_gateway -*-

"""
The session of one client with a thing behind a client endpoint: octets both
ways, each chunk recorded before it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, cast

from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.device import Device
from tcpsvc.flow import MAX_WAITING_OCTETS, Flow, payload
from tcpsvc.identity import Client
from tcpsvc.interfaces import AuditUnavailable, IBackend, ISession, ISessionJournal
from tcpsvc.sockets import Transport, undelivered
from tcpsvc.unreachable import whyUnreachable
from tcpsvc.wire import Reply

QUIET_PATIENCE = 2.0
"""
Seconds of silence after which a device that knows no half-close is taken to have
answered a client that has closed its half.
"""

CONNECT_PATIENCE = 5.0
"""
Seconds that the device's connection has to open. Clients that wait 10 s for the
first words are to hear why there is none.
"""

DELIVERY_PATIENCE = 30.0
"""
Seconds that a client has to take what was said before the device has ended.
"""

DELIVERY_PERIOD = 0.05
"""
Seconds between two looks whether it has.
"""


@frozen
class GatewaySettings:
    """
    What a gateway is made from.

    @ivar description: The endpoint string that leads to the device.
    @ivar onOpen: What the device is sent when a session begins.
    @ivar onClose: What it is sent when a session ends.
    @ivar payload: One of L{tcpsvc.flow.PAYLOADS}.
    """

    description: str
    onOpen: tuple[bytes, ...] = ()
    onClose: tuple[bytes, ...] = ()
    payload: str = "full"


@implementer(ISession)
class GatewaySession(Protocol):
    """
    One client, joined to the device.
    """

    transport: Transport  # type: ignore[assignment]  # never None while in use
    requests = 0
    busy = False

    def __init__(
        self,
        settings: GatewaySettings,
        endpoint: IStreamClientEndpoint,
        client: Client,
        greeting: Reply | None,
        journal: ISessionJournal,
        end: Callable[[str], None],
        clock: IReactorTime,
    ) -> None:
        """
        @param endpoint: Leads to the device.
        @param greeting: What the client is told when the device is there, if it
            may be told anything.
        """
        self.mayBeTold = True
        self.bytesIn = 0
        self.outcome: dict[str, object] = {}
        self._settings = settings
        self._endpoint = endpoint
        self._client = client
        self._greeting = greeting
        self._journal = journal
        self._end = end
        self._clock = clock
        self._connecting: Deferred[IProtocol] | None = None
        self._device: Device | None = None
        self._in: Flow | None = None
        self._out: Flow | None = None
        self._early: list[bytes] = []
        self._inputEnded = False
        self._quiet: IDelayedCall | None = None
        self._delivery: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    @property
    def bytesOut(self) -> int:
        """
        @see: L{ISession.bytesOut}
        """
        return self._out.octets if self._out is not None else 0

    # The device.

    def connectionMade(self) -> None:
        """
        The client is admitted: connect to the device. The client is read
        meanwhile, as its leaving would not be noticed otherwise.
        """
        factory = Factory.forProtocol(lambda: Device(self, self._clock))
        factory.noisy = False
        self._connecting = maybeDeferred(self._endpoint.connect, factory)
        self._connecting.addTimeout(CONNECT_PATIENCE, self._clock, _late)
        self._connecting.addErrback(self._notConnected)

    def _notConnected(self, failure: Failure) -> None:
        """
        The device cannot be reached.
        """
        if self._stopped is not None:
            if not self._stopped.called:
                self._stopped.callback(None)
            return
        assert failure.value is not None
        self._journal.log.error(
            "the backend {backend} cannot be reached: {why}",
            backend=self._settings.description,
            why=whyUnreachable(failure.value),
        )
        self._end("backend-down")

    def deviceConnected(self, device: Device) -> None:
        """
        The device is there: octets flow.
        """
        if self._stopped is not None:
            device.abort()
            return
        self._device = device
        self._in = self._flow("in", self.transport, device.transport)
        self._out = self._flow("out", device.transport, self.transport)
        if self._greeting is not None:
            self.transport.write(self._greeting.encode())
        self.mayBeTold = False
        self.transport.resumeProducing()
        self._in.start()
        self._out.start()
        early, self._early = self._early, []
        for data in (*self._settings.onOpen, *early):
            self._in.carry(data)
        if self._inputEnded:
            self.inputEnded()

    def _flow(self, direction: str, source: Transport, sink: Transport) -> Flow:
        """
        One direction of the session.
        """
        return Flow(
            lambda data: self._journal.data(
                direction, payload(data, self._settings.payload)
            ),
            self._journal.commit,
            self._cannotRecord,
            source,
            sink,
        )

    def _cannotRecord(self, failure: Failure) -> None:
        """
        A chunk could not be recorded: it does not go on.
        """
        if failure.check(AuditUnavailable):
            self._journal.log.error("{error}", error=str(failure.value))
        else:
            self._journal.log.failure("a record could not be written", failure)
        if self._stopped is None:
            self._end("audit-unavailable")
        elif self._device is not None:
            self._device.close()

    def deviceSaid(self, data: bytes) -> None:
        """
        Octets from the device. After the session they are discarded.
        """
        if self._quiet is not None and self._quiet.active():
            self._quiet.reset(QUIET_PATIENCE)
        if self._out is not None:
            self._out.carry(data)

    def deviceEnded(self) -> None:
        """
        The device has closed its half: so do we, when the client has taken all.
        """
        self._finish("backend-closed")

    def deviceLost(self, device: Device) -> None:
        """
        The connection to the device is gone.
        """
        self.outcome = device.outcome
        if self._device is not device:
            return
        self._device = None
        if self._in is not None:
            self._in.stop()
        if self._stopped is None:
            if device.problem is not None:
                self._journal.log.error(
                    "the backend {backend} has ended the connection: {why}",
                    backend=self._settings.description,
                    why=whyUnreachable(device.problem),
                )
            self.deviceEnded()
        elif not self._stopped.called:
            self._stopped.callback(None)

    # The client.

    def dataReceived(self, data: bytes) -> None:
        """
        Octets from the client. They wait for the device, as many as may.
        """
        self._client.lastRequest = self._journal.seconds()
        self.bytesIn += len(data)
        if self._in is not None:
            self._in.carry(data)
            return
        self._early.append(data)
        if self.bytesIn > MAX_WAITING_OCTETS:
            self.transport.pauseProducing()

    def inputEnded(self, leaving: bool = False) -> None:
        """
        The client has closed its half: pass that on where the device's transport
        has it, unless there are last words to come. Else the session ends when
        the device has nothing more to say.
        """
        self._inputEnded = True
        if leaving and self._stopped is None:
            self._end("client-closed")
            return
        if self._device is None or self._in is None or self._stopped is not None:
            return
        if self._device.knowsHalfClose and not self._settings.onClose:
            self._in.whenPassedOn(self._device.closeHalf)
        else:
            self._in.whenTaken(self._waitForQuiet)

    def _waitForQuiet(self) -> None:
        """
        The device has all: its answer is complete when it is silent for a while.
        """
        self._quiet = self._clock.callLater(
            QUIET_PATIENCE, self._finish, "client-closed"
        )

    # The end.

    def _finish(self, reason: str) -> None:
        """
        End the session when the client has taken all that it will get.
        """
        if self._stopped is None and self._out is not None:
            until = self._clock.seconds() + DELIVERY_PATIENCE
            self._out.whenTaken(lambda: self._deliver(reason, until))

    def _deliver(self, reason: str, until: float) -> None:
        """
        End the session when all has arrived: once its connection is being closed,
        a client that is slow to read would be cut off.
        """
        if self._delivery is not None and self._delivery.active():
            self._delivery.cancel()
        if undelivered(self.transport) and self._clock.seconds() < until:
            self._delivery = self._clock.callLater(
                DELIVERY_PERIOD, self._deliver, reason, until
            )
        else:
            self._end(reason)

    def stop(self) -> Deferred[None]:
        """
        The session is over: say the last words to the device and close its
        connection. What it still says is discarded.
        """
        stopped: Deferred[None] = Deferred(lambda _: self._giveUp())
        self._stopped = stopped
        for timer in (self._quiet, self._delivery):
            if timer is not None and timer.active():
                timer.cancel()
        if self._out is not None:
            self._out.stop()
        device = self._device
        if self._in is not None and device is not None:
            for text in self._settings.onClose:
                self._in.carry(text)
            self._in.whenPassedOn(device.close)
        elif self._connecting is not None and not self._connecting.called:
            self._connecting.cancel()
        else:
            stopped.callback(None)
        return stopped

    def _giveUp(self) -> None:
        """
        Nobody waits any longer for the device's connection to close.
        """
        if self._device is not None:
            self._device.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The client is gone; L{stop} has been called before.
        """


def _late(_: object, seconds: float) -> NoReturn:
    """
    There is no connection to the device, and nobody waits any longer.
    """
    raise TimeoutError(f"no connection within {seconds:g} s")


@implementer(IBackend)
class GatewayBackend:
    """
    Joins clients to a device.
    """

    transparent = True

    def __init__(
        self,
        settings: GatewaySettings,
        endpoint: IStreamClientEndpoint,
        greeting: Callable[[Client], Reply],
        clock: IReactorTime,
    ) -> None:
        """
        @param endpoint: Leads to the device.
        @param greeting: What a client is greeted with that may be told.
        """
        self.description = settings.description
        self._settings = settings
        self._endpoint = endpoint
        self._greeting = greeting
        self._clock = clock

    def openSession(
        self,
        client: Client,
        journal: ISessionJournal,
        end: Callable[[str], None],
        told: bool,
    ) -> ISession:
        """
        @see: L{IBackend.openSession}
        """
        greeting = self._greeting(client) if told else None
        return cast(
            ISession,
            GatewaySession(
                self._settings,
                self._endpoint,
                client,
                greeting,
                journal,
                end,
                self._clock,
            ),
        )
