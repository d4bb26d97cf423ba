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

from tcpsvc.closing import CLOSE_PATIENCE, STALL_PATIENCE, Closing
from tcpsvc.duplex import DuplexTLS
from tcpsvc.sockets import Transport, undelivered

LINGER = 1.0
"""
Seconds of silence after which a service is taken to have said everything to a
local side that says nothing more.
"""

SHORT_LINGER = 0.05
"""
The same in seconds where the service owes no answer, and it is not known whether
anybody would hear one.
"""

PROBE_PERIOD = 0.02
"""
Seconds between two looks whether the local side is still there.
"""

DISCARD_PERIOD = 0.05
"""
Seconds between two reads of what a local side sends to a service that has closed. A
program that never stops sending must not keep the processor busy.
"""

MAX_CLOSE_NOTIFY = 31
"""
The most bytes that a C{close_notify} takes on the wire.
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
        Carry nothing more, and read nothing more.
        """
        self._over = True
        self._source.pauseProducing()
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
        The sink takes nothing any more; its protocol hears of it.
        """
        if not self._over:
            self._source.pauseProducing()


class Relay:
    """
    Joins a local connection to a service.

    Both are connected by others: C{local} first, from which nothing is read
    until C{service} is there. When the local side has ended its half, so does
    the service's connection, and the service is copied until it closes or is
    silent; or until the local side is gone altogether, where that can be known. When
    the local side is gone, the service's connection is closed in good order; when
    the service closes, the local side is not read any more, and closed after all is
    delivered; and when the service's connection is lost, the local one is cut.

    @ivar local: The protocol for the local transport.
    @ivar service: The protocol for L{openStream <tcpsvc.client.openStream>}.
    @ivar inputEnded: Whether the local side says nothing more.
    @ivar problem: How the service's connection was lost, if not in good order.
    @ivar endedByService: Whether the service closed in good order, when nobody here
        had begun to end it.
    @ivar serviceClosed: Whether the service closed in good order, of its own accord;
        the local side may have ended its half before.
    @ivar undelivered: About how many bytes that were read from the local side had not
        reached the service when it closed in good order, of its own accord.
    @ivar localReason: What the local connection ended with.
    @ivar finished: Fires when both are gone, or the local one is before there
        was another. It does not fail.
    """

    def __init__(
        self,
        clock: IReactorTime,
        linger: float = LINGER,
        begin: Callable[[], None] = lambda: None,
        isClosed: Callable[[Transport], bool | None] | None = None,
    ) -> None:
        """
        @param linger: Seconds of silence of the service, after which it is
            closed when the local side has ended its half; may be infinite.
        @param begin: Called when the local side is connected.
        @param isClosed: Says of the local transport, after it has ended its half,
            whether its other end is gone altogether; L{None} if that is not known.
        """
        self.inputEnded = False
        self.problem: Exception | None = None
        self.endedByService = False
        self.serviceClosed = False
        self.undelivered = 0
        self.localReason: Failure | None = None
        self.finished: Deferred[None] = Deferred()
        self.local = _LocalSide(self)
        self.service = _ServiceSide(self)
        self._clock = clock
        self._linger = linger
        self._begin = begin
        self._isClosed = isClosed
        self._closing = Closing(clock)
        self._in: _Flow | None = None
        self._out: _Flow | None = None
        self._leaving = False
        self._halfClosed = False
        self._answerOwed = False
        self._discarded = False
        self._lastHeard = 0.0
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
        Bytes for the service.
        """
        if self.serviceClosed:
            self.undelivered += len(data)
        if self.serviceClosed or self._serviceGone:
            self._discarded = True
            self.local.transport.pauseProducing()
        elif self.isOpen and not self._leaving:
            self._answerOwed = True
            self.service.transport.write(data)

    def _localEnded(self) -> None:
        """
        The local side has closed its half.
        """
        if self.inputEnded:
            return
        self.inputEnded = True
        if self._serviceGone:
            self._stopTimer()
            self.local.transport.loseConnection()
        elif self._in is not None and not self._leaving:
            self._in.finish(self._closeHalf)

    def _closeHalf(self) -> None:
        """
        All has been written to the service: tell it so, and see how long it says
        nothing. One that is closed at once is not told of a half-close first.
        """
        self._lastHeard = self._clock.seconds()
        self._awaitLastWords()
        if not self._leaving:
            self._halfClosed = True
            self.service.transport.loseWriteConnection()

    def _awaitLastWords(self) -> None:
        """
        Leave when the service is silent, or nobody is there to hear it. One that is
        not read is not silent.
        """
        assert self._out is not None
        self._timer = None
        now, patience = self._clock.seconds(), self._linger
        if self._out.full:
            self._lastHeard = now
        if self._isClosed is not None:
            closed = self._isClosed(self.local.transport)
            if closed:
                self.leave()
                self.local.transport.abortConnection()
                return
            if closed is None and not self._answerOwed:
                patience = min(patience, SHORT_LINGER)
        left = self._lastHeard + patience - now
        if left <= 0:
            self.leave()
            return
        if self._isClosed is not None:
            left = min(left, PROBE_PERIOD)
        if not math.isinf(left):
            self._timer = self._clock.callLater(left, self._awaitLastWords)

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
        Bytes from the service.
        """
        self._answerOwed = False
        self._lastHeard = self._clock.seconds()
        if self.localReason is None:
            self.local.transport.write(data)

    def _serviceClosing(self) -> None:
        """
        The service has closed in good order. It takes nothing any more, so what is on
        the way to it must not delay the end.
        """
        assert self._in is not None
        if self.serviceClosed:
            return
        self.serviceClosed = True
        self._stopTimer()
        transport = self.service.transport
        self.undelivered = undelivered(transport)
        if self._halfClosed:
            self.undelivered = max(0, self.undelivered - MAX_CLOSE_NOTIFY)
        self._in.drop()
        if self.undelivered:
            transport.abortConnection()
        else:
            transport.loseConnection()

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
        elif self._leaving or self.serviceClosed or reason.check(ConnectionDone):
            self.endedByService = not (self._leaving or self.inputEnded)
            self._out.finish(self._closeLocal)
            if self._out.full and not self.inputEnded:
                self._awaitLocalEnd(self._clock.seconds(), 0)
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
        closing both with bytes unread would reset it, and what was written
        last would be lost with it.
        """
        self._stopTimer()
        transport = self.local.transport
        closeHalf = getattr(transport, "loseWriteConnection", None)
        if self.inputEnded or closeHalf is None:
            transport.loseConnection()
        else:
            closeHalf()
            self._awaitLocalEnd(self._clock.seconds(), 0)

    def _awaitLocalEnd(self, since: float, waiting: int) -> None:
        """
        Close the local connection when its other end closes, or has had
        L{CLOSE_PATIENCE} for that after all was delivered. What it still sends is
        discarded, a chunk at a time. One that only sends, and takes nothing for
        L{STALL_PATIENCE}, is reset; one that does neither may do so for ever.

        @param since: Since when it could have closed, by the clock.
        @param waiting: How many bytes were not delivered to it at the last look.
        """
        assert self._out is not None
        transport, now = self.local.transport, self._clock.seconds()
        left = undelivered(transport)
        isStalled = bool(left) or self._out.full
        if left != waiting or (isStalled and not self._discarded):
            since = now
        if now >= since + (STALL_PATIENCE if isStalled else CLOSE_PATIENCE):
            if isStalled:
                transport.abortConnection()
            else:
                transport.loseConnection()
            return
        self._discarded = False
        transport.resumeProducing()
        self._timer = self._clock.callLater(
            DISCARD_PERIOD, self._awaitLocalEnd, since, left
        )

    def _finish(self) -> None:
        """
        Nothing is left.
        """
        if not self.finished.called:
            self.finished.callback(None)

    def _stopTimer(self) -> None:
        """
        Cancel the timer.
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

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The local side is gone."""
        self._relay._localLost(reason)


@implementer(IHalfCloseableProtocol)
class _ServiceSide(Protocol):
    """
    The service's side of a relay.
    """

    transport: DuplexTLS

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connectionMade(self) -> None:
        """We are admitted."""
        self._relay._serviceMade()

    def dataReceived(self, data: bytes) -> None:
        """Octets for the local side."""
        self._relay._serviceSaid(data)

    def readConnectionLost(self) -> None:
        """There are no more."""
        self._relay._serviceClosing()

    def writeConnectionLost(self) -> None:
        """Never called: TLS sends its C{close_notify} at once."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The service is gone."""
        self._relay._serviceLost(reason)
