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
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.device import CLOSE_PATIENCE, Device
from tcpsvc.duplex import DuplexTLS
from tcpsvc.flow import MAX_WAITING_OCTETS, Flow, payload
from tcpsvc.identity import Client
from tcpsvc.interfaces import AuditUnavailable, IBackend, ISession, ISessionJournal
from tcpsvc.sockets import Transport, hasHungUp
from tcpsvc.stall import StallWatch
from tcpsvc.unreachable import whyUnreachable
from tcpsvc.wire import Reply

QUIET_PATIENCE = 2.0
"""
Seconds of silence after which a device that knows no half-close is taken to have
answered a client that has closed its half. Time in which the device is not read,
because the client takes nothing or a record is being written, is not silence.
"""

CONNECT_PATIENCE = 5.0
"""
Seconds that the device's connection has to open, its TLS handshake included. Clients
that wait 10 s for the first words are to hear why there is none.
"""

STALL_PATIENCE = 60.0
"""
Seconds that a device may neither take anything of what waits for it nor say anything.
Meanwhile the client is not read, so nobody knows whether it is still there.
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
        self._connecting: Deferred[None] | None = None
        self._reached = False
        self._device: Device | None = None
        self._in: Flow | None = None
        self._out: Flow | None = None
        self._early: list[bytes] = []
        self._inputEnded = False
        self._leaves = False
        self._finishing = False
        self._quiet: IDelayedCall | None = None
        self._stall: StallWatch | None = None
        self._stopped: Deferred[None] | None = None

    @property
    def bytesOut(self) -> int:
        """
        @see: L{ISession.bytesOut}
        """
        return self._out.octets if self._out is not None else 0

    @property
    def busy(self) -> bool:
        """
        Whether the device is taking its time over what the client has sent: the client
        may be sending more, which is not read meanwhile. How long that may last is
        limited by L{STALL_PATIENCE}, or else it does not count.
        """
        return (
            self._in is not None
            and self._out is not None
            and not self._in.reading
            and self._out.reading
        )

    # The device.

    def connectionMade(self) -> None:
        """
        The client is admitted: connect to the device. The client is read
        meanwhile, as its leaving would not be noticed otherwise.
        """
        factory = Factory.forProtocol(self._build)
        factory.noisy = False
        connecting = maybeDeferred(self._endpoint.connect, factory)
        # Only a Device is built, so this is one.
        self._connecting = connecting.addCallback(
            lambda device: cast(Device, device).whenConnected()
        )
        self._connecting.addTimeout(CONNECT_PATIENCE, self._clock, self._late)
        self._connecting.addErrback(self._notConnected)

    def _build(self) -> Device:
        """
        There is a connection; its TLS handshake may be still to come.
        """
        self._reached = True
        return Device(self, self._clock)

    def _late(self, _: object, seconds: float) -> NoReturn:
        """
        The device is not there yet, and is waited for no longer.
        """
        missing = "TLS handshake" if self._reached else "connection"
        raise TimeoutError(f"no {missing} within {seconds:g} s")

    def _notConnected(self, failure: Failure) -> None:
        """
        The device cannot be reached.
        """
        self._connecting = None
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
        self._stall = StallWatch(
            self._clock,
            device.transport,
            lambda: self.bytesOut,
            self._stallPatience,
            self._stalled,
        )
        self._stall.start()
        early, self._early = self._early, []
        for data in (*self._settings.onOpen, *early):
            self._in.carry(data)
        if self._leaves:
            self._end("client-closed")
        elif self._inputEnded:
            self._passEndOn()

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
        if self._out is None:
            return
        self._out.carry(data)
        if self._quiet is not None:
            self._listen()

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

    def inputEnded(self, leaving: bool = False, truncated: bool = False) -> None:
        """
        The client has closed its half: pass that on where the device's transport
        has it, unless there are last words to come. Else the session ends when
        the device has nothing more to say.
        """
        first, self._inputEnded = not self._inputEnded, True
        if self._stopped is not None:
            return
        self._leaves = self._leaves or leaving
        if self._leaves:
            # What it has sent is for the device, as soon as that is there.
            if self._device is not None or not self._early:
                self._end("client-closed")
        elif first:
            self._passEndOn()

    def _passEndOn(self) -> None:
        """
        Tell the device, if it is there, that nothing more will come.
        """
        if self._device is None or self._in is None or self._stopped is not None:
            return
        if self._device.knowsHalfClose and not self._settings.onClose:
            self._in.whenPassedOn(self._device.closeHalf)
        else:
            self._in.whenTaken(self._listen)

    def _listen(self) -> None:
        """
        The device has all: its answer is complete when it is silent for a while
        although it could speak.
        """
        self._stopListening()
        if self._out is not None and not self._finishing:
            self._out.whenTaken(self._waitForQuiet)

    def _waitForQuiet(self) -> None:
        """
        The device can speak from now on.
        """
        self._quiet = self._clock.callLater(
            QUIET_PATIENCE, self._finish, "client-closed"
        )

    def _stopListening(self) -> None:
        """
        Whether the device is silent does not matter, or not yet.
        """
        if self._quiet is not None and self._quiet.active():
            self._quiet.cancel()

    # A device that takes nothing.

    def _stallPatience(self) -> float | None:
        """
        For how many seconds the device may take nothing, as things are now. A device
        that is not read may take nothing because it cannot write: then there is no
        limit. A client that has closed TCP below TLS is gone, and its device has as
        long as to close.
        """
        if self._out is not None and not self._out.reading:
            return None
        gone = isinstance(self.transport, DuplexTLS) and hasHungUp(self.transport)
        return CLOSE_PATIENCE if gone else STALL_PATIENCE

    def _stalled(self) -> None:
        """
        The device takes nothing any more.
        """
        self._journal.log.error(
            "the backend {backend} takes nothing of what waits for it",
            backend=self._settings.description,
        )
        self._end("backend-stalled")

    # The end.

    def _finish(self, reason: str) -> None:
        """
        End the session when the client has taken all but what its connection takes
        yet. That is still delivered when the connection is being closed.
        """
        self._finishing = True
        self._stopWatching()
        if self._stopped is None and self._out is not None:
            self._out.whenTaken(lambda: self._end(reason))

    def _stopWatching(self) -> None:
        """
        What the device does decides nothing any more.
        """
        self._stopListening()
        if self._stall is not None:
            self._stall.stop()

    def stop(self) -> Deferred[None]:
        """
        The session is over: say the last words to the device and close its
        connection. What it still says is discarded.
        """
        stopped: Deferred[None] = Deferred(lambda _: self._giveUp())
        self._stopped = stopped
        self._stopWatching()
        if self._out is not None:
            self._out.stop()
        device = self._device
        if self._in is not None and device is not None:
            for text in self._settings.onClose:
                self._in.carry(text)
            self._in.whenPassedOn(device.close)
        elif self._in is None and self._connecting is not None:
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
