# -*- test-case-name: tests.test_client_relay -*-

"""
A local connection joined to a service: octets both ways, each read no faster
than the other side takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.closing import CLOSE_PATIENCE, Closing
from tcpsvc.sockets import Transport

LINGER = 1.0
"""
Seconds of silence after which a service is taken to have said everything to a
local side that says nothing more.
"""


@implementer(IPushProducer)
class _Flow:
    """
    One direction, as the producer of the transport that it goes to: what that
    cannot take is not read.

    @ivar full: Whether it cannot take more now.
    """

    def __init__(self, source: Transport, sink: Transport) -> None:
        self.full = False
        self._source = source
        self._sink = sink
        self._over = False
        self._registered = True
        self._then: Callable[[], None] | None = None
        sink.registerProducer(self, True)

    def finish(self, then: Callable[[], None]) -> None:
        """
        The source has said all: call C{then} when the sink has room.
        """
        self._over = True
        self._then = then
        if not self.full:
            self._end()

    def drop(self) -> None:
        """
        Carry nothing more.
        """
        self._over = True
        self._then = None
        self._end()

    def _end(self) -> None:
        """
        Let the sink go.
        """
        if self._registered:
            self._registered = False
            self._sink.unregisterProducer()
        then, self._then = self._then, None
        if then is not None:
            then()

    def pauseProducing(self) -> None:
        """
        The sink is full.
        """
        self.full = True
        if not self._over:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """
        The sink has room.
        """
        self.full = False
        if self._over:
            self._end()
        else:
            self._source.resumeProducing()

    def stopProducing(self) -> None:
        """
        The sink is gone; its protocol hears of it.
        """


class Relay:
    """
    Joins a local connection to a service.

    Both are connected by others: C{local} first, from which nothing is read
    until C{service} is there. When the local side has ended its half, the
    service is copied until it closes or is silent, since it cannot be
    half-closed over TLS. When the local side is gone, the service's connection
    is closed in good order; when the service closes, the local one, after all
    is delivered; and when the service's connection is lost, the local one is
    cut.

    @ivar local: The protocol for the local transport.
    @ivar service: The protocol for L{openStream <tcpsvc.client.openStream>}.
    @ivar inputEnded: Whether the local side says nothing more.
    @ivar problem: How the service's connection was lost, if not in good order.
    @ivar endedByService: Whether the service closed in good order, when nobody here
        had begun to end it.
    @ivar localReason: What the local connection ended with.
    @ivar finished: Fires when both are gone, or the local one is before there
        was another. It does not fail.
    """

    def __init__(
        self,
        clock: IReactorTime,
        linger: float = LINGER,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param linger: Seconds of silence of the service, after which it is
            closed when the local side has ended its half; may be infinite.
        @param begin: Called when the local side is connected.
        """
        self.inputEnded = False
        self.problem: Exception | None = None
        self.endedByService = False
        self.localReason: Failure | None = None
        self.finished: Deferred[None] = Deferred()
        self.local = _LocalSide(self)
        self.service = _ServiceSide(self)
        self._clock = clock
        self._linger = linger
        self._begin = begin
        self._closing = Closing(clock)
        self._in: _Flow | None = None
        self._out: _Flow | None = None
        self._leaving = False
        self._serviceGone = False
        self._timer: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []

    @property
    def isOpen(self) -> bool:
        """Whether there is a session with the service."""
        return self._in is not None and not self._serviceGone

    def leave(self) -> None:
        """
        Close the service's connection in good order, or after 2 s at last at
        once. What it still says is delivered.
        """
        if self._in is None or self._out is None or self._serviceGone:
            return
        self._stopTimer()
        self._leaving = True
        self._in.drop()
        if self.localReason is not None:
            # The answer to the close has to be read, and nobody holds that up.
            self._out.drop()
            self.service.transport.resumeProducing()
        self._closing.close(self.service.transport)

    def whenLeft(self) -> Deferred[None]:
        """
        @return: Fires when there is no session with the service any more.
        """
        if not self.isOpen:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    # The local side.

    def _localMade(self) -> None:
        """
        Read nothing before there is somebody to say it to.
        """
        self.local.transport.pauseProducing()
        self._begin()

    def _localSaid(self, data: bytes) -> None:
        """
        Octets for the service.
        """
        if self.isOpen and not self._leaving:
            self.service.transport.write(data)

    def _localEnded(self) -> None:
        """
        The local side has closed its half.
        """
        if self.inputEnded:
            return
        self.inputEnded = True
        if self._serviceGone:
            self.local.transport.loseConnection()
        elif self._in is not None and not self._leaving:
            self._in.finish(self._beginSilence)

    def _beginSilence(self) -> None:
        """
        All has been said to the service: see how long it says nothing.
        """
        if self._linger == 0:
            self.leave()
        elif not math.isinf(self._linger):
            self._timer = self._clock.callLater(self._linger, self._silent)

    def _silent(self) -> None:
        """
        Nothing came for a while; if it could.
        """
        assert self._out is not None
        if self._out.full:
            self._beginSilence()
        else:
            self.leave()

    def _localLost(self, reason: Failure) -> None:
        """
        The local side is gone.
        """
        self.localReason = reason
        self._stopTimer()
        if self.isOpen:
            self.leave()
        else:
            self._finish()

    # The service.

    def _serviceMade(self) -> None:
        """
        The service has admitted us.
        """
        local, service = self.local.transport, self.service.transport
        self._in = _Flow(local, service)
        self._out = _Flow(service, local)
        if self.localReason is None:
            local.resumeProducing()
        else:
            self.leave()

    def _serviceSaid(self, data: bytes) -> None:
        """
        Octets from the service.
        """
        if self.localReason is None:
            self.local.transport.write(data)
            if self._timer is not None and self._timer.active():
                self._timer.reset(self._linger)

    def _serviceLost(self, reason: Failure) -> None:
        """
        The service is gone.
        """
        assert self._in is not None
        assert self._out is not None
        self._serviceGone = True
        self._stopTimer()
        self._closing.closed(self.service.transport)
        self._in.drop()
        if self.localReason is not None:
            self._finish()
        elif self._leaving or reason.check(ConnectionDone):
            self.endedByService = not (self._leaving or self.inputEnded)
            self._out.finish(self._closeLocal)
        else:
            assert isinstance(reason.value, Exception)
            self.problem = reason.value
            self._out.drop()
            self.local.transport.abortConnection()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _closeLocal(self) -> None:
        """
        Close the local connection when all is delivered. Only our half at first:
        closing both with octets unread would reset it, and what was written
        last would be lost with it.
        """
        transport = self.local.transport
        closeHalf = getattr(transport, "loseWriteConnection", None)
        if self.inputEnded or closeHalf is None:
            transport.loseConnection()
        else:
            transport.resumeProducing()
            closeHalf()

    def _localDelivered(self) -> None:
        """
        All is written to the local side, which now should close too.
        """
        if self._serviceGone and self.localReason is None:
            self._stopTimer()
            self._timer = self._clock.callLater(
                CLOSE_PATIENCE, self.local.transport.loseConnection
            )

    def _finish(self) -> None:
        """
        Nothing is left.
        """
        if not self.finished.called:
            self.finished.callback(None)

    def _stopTimer(self) -> None:
        """
        Wait for nothing.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


@implementer(IHalfCloseableProtocol)
class _LocalSide(Protocol):
    """
    The local side of a relay.
    """

    transport: Transport  # type: ignore[assignment]  # never None while in use

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connectionMade(self) -> None:
        """Somebody is there."""
        self._relay._localMade()

    def dataReceived(self, data: bytes) -> None:
        """Octets for the service."""
        self._relay._localSaid(data)

    def readConnectionLost(self) -> None:
        """There are no more."""
        self._relay._localEnded()

    def writeConnectionLost(self) -> None:
        """Our half is closed."""
        self._relay._localDelivered()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The local side is gone."""
        self._relay._localLost(reason)


class _ServiceSide(Protocol):
    """
    The service's side of a relay.
    """

    transport: Transport  # type: ignore[assignment]  # never None while in use

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connectionMade(self) -> None:
        """We are admitted."""
        self._relay._serviceMade()

    def dataReceived(self, data: bytes) -> None:
        """Octets for the local side."""
        self._relay._serviceSaid(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The service is gone."""
        self._relay._serviceLost(reason)
