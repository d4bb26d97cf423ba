# -*- test-case-name: tests.test_device -*-

"""
The connection of a gateway's session to the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as StaticProtocol

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.interfaces import IHalfCloseable
from tcpsvc.sockets import Transport

CLOSE_PATIENCE = 4.0
"""
Seconds that a device's connection has to close after a session.
"""

ANSWER_PATIENCE = 0.5
"""
Seconds that a device has to answer the close of our half. A connection that
is closed while the device still speaks would be reset, and what it was told
last could be lost.
"""


class Owner(StaticProtocol):
    """
    Whose connection it is.
    """

    def deviceConnected(self, device: Device) -> None:
        """The device is there."""

    def deviceSaid(self, data: bytes) -> None:
        """The device says something."""

    def deviceEnded(self) -> None:
        """The device will say nothing more."""

    def deviceLost(self, device: Device) -> None:
        """The connection is closed."""


@implementer(IHalfCloseableProtocol)
class Device(Protocol):
    """
    The connection to the device, for one session.

    @ivar outcome: How the device itself has ended, if it is one that can.
    @ivar problem: What was wrong with its TLS, if anything was.
    """

    transport: Transport  # type: ignore[assignment]  # never None while in use

    def __init__(self, owner: Owner, clock: IReactorTime) -> None:
        self.outcome: dict[str, object] = {}
        self.problem: SSL.Error | None = None
        self._owner = owner
        self._clock = clock
        self._timers: list[IDelayedCall] = []
        self._ended = False
        self._closing = False

    @property
    def knowsHalfClose(self) -> bool:
        """
        Whether it can be told that nothing more will come. Over TLS it cannot:
        that transport only says to be TCP, like the one below.
        """
        return IHalfCloseable.providedBy(self.transport) or self._isTCP

    @property
    def _isTCP(self) -> bool:
        """
        Whether it is a socket without TLS.
        """
        return ITCPTransport.providedBy(
            self.transport
        ) and not ISSLTransport.providedBy(self.transport)

    def connectionMade(self) -> None:
        """
        The device is there. Small writes are sent at once, and if its machine
        dies that is found.
        """
        transport: Any = self.transport
        if ITCPTransport.providedBy(transport) and not IUNIXTransport.providedBy(
            transport
        ):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        self._owner.deviceConnected(self)

    def dataReceived(self, data: bytes) -> None:
        """
        The device says something.
        """
        self._owner.deviceSaid(data)

    def readConnectionLost(self) -> None:
        """
        The device will say nothing more.
        """
        self._ended = True
        if self._closing:
            self.transport.loseConnection()
        else:
            self._owner.deviceEnded()

    def writeConnectionLost(self) -> None:
        """
        Our half is closed.
        """

    def closeHalf(self) -> None:
        """
        Tell the device that nothing more will come. A producer would hold that
        back.
        """
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseWriteConnection()

    def close(self) -> None:
        """
        Close the connection, in good order or at last at once. What the device
        still says is read and dropped.
        """
        if self._closing:
            return
        self._closing = True
        transport = self.transport
        transport.unregisterProducer()
        transport.resumeProducing()
        self._later(CLOSE_PATIENCE, self.abort)
        if self._isTCP and not self._ended:
            self._later(ANSWER_PATIENCE, transport.loseConnection)
            self.closeHalf()
        else:
            transport.loseConnection()

    def abort(self) -> None:
        """
        Close the connection at once.
        """
        self._closing = True
        transport: Any = self.transport
        getattr(transport, "abortConnection", transport.loseConnection)()

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        """
        Do something in a while, unless the connection is closed before.
        """
        self._timers.append(self._clock.callLater(seconds, act))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is closed.
        """
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        if isinstance(reason.value, SSL.Error):
            self.problem = reason.value
        self.outcome = getattr(self.transport, "outcome", {})
        self._owner.deviceLost(self)
