# -*- test-case-name: tests.test_gateway -*-

"""
The session of one client with a thing behind a client endpoint: octets both
ways, each chunk recorded before it goes on.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from typing import Any, cast

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.identity import Client
from tcpsvc.interfaces import AuditUnavailable, IBackend, ISession, ISessionJournal
from tcpsvc.sockets import Transport
from tcpsvc.wire import Reply

MAX_WAITING_OCTETS = 256 * 1024
"""
How many octets of one direction may wait to be recorded before no more are read.
"""

CLOSE_PATIENCE = 4.0
"""
Seconds that the device's connection has to close after a session.
"""

QUIET_PATIENCE = 2.0
"""
Seconds of silence after which a device that knows no half-close is taken to have
answered a client that has closed its half.
"""

CONNECT_PATIENCE = 10.0
"""
Seconds that the device's connection has to open.
"""

PAYLOADS = ("full", "digest")
"""
What of each chunk is recorded.
"""


def payload(data: bytes, kind: str) -> dict[str, object]:
    """
    The fields of a record that say what was carried.

    @param kind: One of L{PAYLOADS}.
    """
    if kind == "digest":
        return {"octets": len(data), "sha256": sha256(data).hexdigest()}
    try:
        return {"data": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"data_b64": b64encode(data).decode("ascii")}


@implementer(IPushProducer)
@define(eq=False)
class Flow:
    """
    One direction: what comes from one transport is recorded and then written
    to the other.

    It is the producer of the transport that it writes to: what that cannot
    take is not read. Octets that wait to be recorded are bounded likewise.

    @ivar octets: How many were carried.
    """

    _tell: Callable[[bytes], None]
    _commit: Callable[[], Deferred[None] | None]
    _failed: Callable[[Failure], None]
    _source: Transport
    _sink: Transport
    octets: int = field(default=0, init=False)
    _waiting: deque[bytes] = field(factory=deque, init=False)
    _waitingOctets: int = field(default=0, init=False)
    _full: bool = field(default=False, init=False)
    _reading: bool = field(default=True, init=False)
    _whenEmpty: Callable[[], None] | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)

    def start(self) -> None:
        """
        Follow the pace at which the sink takes what is written.
        """
        self._sink.registerProducer(self, True)

    def carry(self, data: bytes) -> None:
        """
        Record a chunk and then pass it on.
        """
        if self._stopped:
            return
        self.octets += len(data)
        try:
            self._tell(data)
            committed = self._commit()
        except AuditUnavailable:
            self._failed(Failure())
            return
        if committed is None and not self._waiting:
            self._sink.write(data)
            return
        self._waiting.append(data)
        self._waitingOctets += len(data)
        self._adjust()
        assert committed is not None
        committed.addCallback(lambda _: self._recorded())
        committed.addErrback(self._failed)

    def _recorded(self) -> None:
        """
        The oldest waiting chunk may go on.
        """
        if self._stopped:
            return
        data = self._waiting.popleft()
        self._waitingOctets -= len(data)
        self._sink.write(data)
        self._adjust()
        if not self._waiting and self._whenEmpty is not None:
            self._whenEmpty()

    def finish(self, then: Callable[[], None]) -> None:
        """
        Call C{then} when all has been passed on.
        """
        if self._waiting:
            self._whenEmpty = then
        else:
            then()

    def stop(self) -> None:
        """
        Carry nothing more; what waits is discarded.
        """
        self._stopped = True
        self._waiting.clear()
        self._whenEmpty = None

    def _adjust(self) -> None:
        """
        Read only what can be written.
        """
        reading = not self._full and self._waitingOctets <= MAX_WAITING_OCTETS
        if reading is not self._reading and not self._stopped:
            self._reading = reading
            if reading:
                self._source.resumeProducing()
            else:
                self._source.pauseProducing()

    def pauseProducing(self) -> None:
        """
        The sink is full.
        """
        self._full = True
        self._adjust()

    def resumeProducing(self) -> None:
        """
        The sink has room.
        """
        self._full = False
        self._adjust()

    def stopProducing(self) -> None:
        """
        The sink is going away, and says so by C{connectionLost} too.
        """


@frozen
class GatewaySettings:
    """
    What a gateway is made from.

    @ivar endpoint: Leads to the device.
    @ivar description: The endpoint string.
    @ivar onOpen: What the device is sent when a session begins.
    @ivar onClose: What it is sent when a session ends.
    @ivar payload: One of L{PAYLOADS}.
    """

    endpoint: IStreamClientEndpoint
    description: str
    onOpen: tuple[bytes, ...] = ()
    onClose: tuple[bytes, ...] = ()
    payload: str = "full"


@implementer(IHalfCloseableProtocol)
class DeviceConnection(Protocol):
    """
    The connection to the device, for one session.
    """

    transport: Transport  # type: ignore[assignment]  # never None while in use

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    def connectionMade(self) -> None:
        """
        The device is there.
        """
        self._session.deviceConnected(self)

    def dataReceived(self, data: bytes) -> None:
        """
        The device says something.
        """
        self._session.deviceSaid(data)

    def readConnectionLost(self) -> None:
        """
        The device will say nothing more.
        """
        self._session.deviceEnded()

    def writeConnectionLost(self) -> None:
        """
        What is written to the device does not arrive any more, or has ended.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The device is gone.
        """
        self._session.deviceLost()


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
        client: Client,
        greeting: Reply | None,
        journal: ISessionJournal,
        end: Callable[[str], None],
        clock: IReactorTime,
    ) -> None:
        """
        @param greeting: What the client is told when the device is there, if it
            may be told anything.
        """
        self.mayBeTold = True
        self.outcome: dict[str, object] = {}
        self._settings = settings
        self._client = client
        self._greeting = greeting
        self._journal = journal
        self._end = end
        self._clock = clock
        self._connecting: Deferred[IProtocol] | None = None
        self._device: DeviceConnection | None = None
        self._in: Flow | None = None
        self._out: Flow | None = None
        self._early = bytearray()
        self._closing = False
        self._inputEnded = False
        self._quiet: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    @property
    def bytesIn(self) -> int:
        """
        @see: L{ISession.bytesIn}
        """
        return self._in.octets if self._in is not None else 0

    @property
    def bytesOut(self) -> int:
        """
        @see: L{ISession.bytesOut}
        """
        return self._out.octets if self._out is not None else 0

    # The device.

    def connectionMade(self) -> None:
        """
        The client is admitted: connect to the device, and read nothing before
        that is done.
        """
        self.transport.pauseProducing()
        factory = Factory.forProtocol(lambda: DeviceConnection(self))
        factory.noisy = False
        self._connecting = self._settings.endpoint.connect(factory)
        self._connecting.addTimeout(CONNECT_PATIENCE, self._clock)
        self._connecting.addErrback(self._notConnected)

    def _notConnected(self, failure: Failure) -> None:
        """
        The device cannot be reached.
        """
        if self._stopped is not None:
            if not self._stopped.called:
                self._stopped.callback(None)
            return
        self._journal.log.error(
            "the backend {backend} cannot be reached: {why}",
            backend=self._settings.description,
            why=failure.getErrorMessage(),
        )
        self._end("backend-down")

    def deviceConnected(self, device: DeviceConnection) -> None:
        """
        The device is there: octets flow.
        """
        self._device = device
        if self._stopped is not None:
            device.transport.loseConnection()
            return
        self._in = self._flow("in", self.transport, device.transport)
        self._out = self._flow("out", device.transport, self.transport)
        if self._greeting is not None:
            self.transport.write(self._greeting.encode())
        self.mayBeTold = False
        self._in.start()
        self._out.start()
        for text in self._settings.onOpen:
            self._in.carry(text)
        early, self._early = bytes(self._early), bytearray()
        if early:
            self._in.carry(early)
        self.transport.resumeProducing()
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
        if self._stopped is None:
            self._journal.log.error("{error}", error=str(failure.value))
            self._end("audit-unavailable")
        elif self._device is not None:
            self._closeDevice(self._device)

    def deviceSaid(self, data: bytes) -> None:
        """
        Octets from the device. After the session they are discarded.
        """
        if self._stopped is None and self._out is not None:
            if self._quiet is not None:
                self._quiet.reset(QUIET_PATIENCE)
            self._out.carry(data)

    def deviceEnded(self) -> None:
        """
        The device has closed its half: so do we, when all was passed on.
        """
        if self._stopped is None and self._out is not None:
            self._out.finish(lambda: self._end("backend-closed"))

    def deviceLost(self) -> None:
        """
        The connection to the device is gone.
        """
        device, self._device = self._device, None
        if device is not None:
            self.outcome = getattr(device.transport, "outcome", {})
        if self._stopped is None:
            self.deviceEnded()
        elif not self._stopped.called:
            self._stopped.callback(None)

    # The client.

    def dataReceived(self, data: bytes) -> None:
        """
        Octets from the client.
        """
        self._client.lastRequest = self._journal.seconds()
        if self._in is not None:
            self._in.carry(data)
        else:
            self._early += data

    def inputEnded(self) -> None:
        """
        The client has closed its half: pass that on where the device's transport
        has it; else the session ends.
        """
        self._inputEnded = True
        if self._device is None or self._in is None:
            return
        closeHalf = getattr(self._device.transport, "loseWriteConnection", None)
        if closeHalf is not None:
            self._in.finish(closeHalf)
        else:
            self._quiet = self._clock.callLater(
                QUIET_PATIENCE, self._end, "client-closed"
            )

    # The end.

    def stop(self) -> Deferred[None]:
        """
        The session is over: say the last words to the device and close its
        connection. What it still says is discarded.
        """
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        device = self._device
        if self._in is not None and device is not None:
            for text in self._settings.onClose:
                self._in.carry(text)
            self._in.finish(lambda: self._closeDevice(device))
        elif self._connecting is not None and not self._connecting.called:
            self._connecting.cancel()
        else:
            stopped.callback(None)
        if self._out is not None:
            self._out.stop()
        if self._quiet is not None and self._quiet.active():
            self._quiet.cancel()
        return stopped

    def _closeDevice(self, device: DeviceConnection) -> None:
        """
        Close the device's connection, in good order or at last at once.
        """
        assert self._in is not None
        self._in.stop()
        if self._closing:
            return
        self._closing = True
        transport: Any = device.transport
        transport.unregisterProducer()
        transport.resumeProducing()
        transport.loseConnection()
        assert self._stopped is not None
        abort = getattr(transport, "abortConnection", transport.loseConnection)
        timer = self._clock.callLater(CLOSE_PATIENCE, abort)

        def closed(result: object) -> object:
            if timer.active():
                timer.cancel()
            return result

        self._stopped.addBoth(closed)

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
        greeting: Callable[[Client], Reply],
        clock: IReactorTime,
    ) -> None:
        """
        @param greeting: What a client is greeted with that may be told.
        """
        self.description = settings.description
        self._settings = settings
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
            GatewaySession(self._settings, client, greeting, journal, end, self._clock),
        )
