# -*- test-case-name: tests.test_device -*-

"""
The connection of a gateway's session to the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as StaticProtocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from tcpsvc.duplex import DuplexTLS
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

    Over TLS the device counts as connected when the handshake has completed, whatever
    endpoint leads to it.

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
        self._connected = False
        self._connecting: Deferred[None] | None = None
        self._lost: Failure | None = None
        self._ended = False
        self._closing = False

    @property
    def knowsHalfClose(self) -> bool:
        """
        Whether it can be told that nothing more will come. Over Twisted's own TLS it
        cannot: that transport only says to be TCP, like the one below.
        """
        return (
            IHalfCloseable.providedBy(self.transport)
            or isinstance(self.transport, DuplexTLS)
            or self._isTCP
        )

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
        There is a connection. Small writes are sent at once, and if the device's
        machine dies that is found.
        """
        transport: Any = self.transport
        if ITCPTransport.providedBy(transport) and not IUNIXTransport.providedBy(
            transport
        ):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        # That of ssl: is beside its transport, all others are the transport.
        for layer in (transport, getattr(transport, "protocol", None)):
            if isinstance(layer, TLSMemoryBIOProtocol):
                # Twisted's wrapper around a protocol passes on one of the two
                # interfaces that this class would provide, and TCP needs the other.
                alsoProvides(self, IHandshakeListener)
                alsoProvides(layer.wrappedProtocol, IHandshakeListener)
                return
        self._connect()

    def handshakeCompleted(self) -> None:
        """
        The device's certificate is good. It may still not like ours (RFC 8446,
        section 4.4.4).
        """
        # Twisted says so even if the certificate names another host.
        if not getattr(self.transport, "disconnecting", False):
            self._connect()

    def _connect(self) -> None:
        """
        The device is there.
        """
        if self._connected:
            return
        self._connected = True
        if self._connecting is not None:
            self._connecting.callback(None)
        self._owner.deviceConnected(self)

    def whenConnected(self) -> Deferred[None]:
        """
        @return: Fires when the device is there, or fails with what has ended the
            connection before. To cancel it closes the connection.
        """
        if self._connected:
            return succeed(None)
        if self._lost is not None:
            return fail(self._lost)
        self._connecting = Deferred(lambda _: self.abort())
        return self._connecting

    def dataReceived(self, data: bytes) -> None:
        """
        The device says something.
        """
        self._owner.deviceSaid(data)

    def readConnectionLost(self) -> None:
        """
        The device will say nothing more. Twisted reports that again when a socket
        that has ended is resumed.
        """
        if self._ended:
            return
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
        self._lost = reason
        connecting, self._connecting = self._connecting, None
        if connecting is not None and not connecting.called:
            connecting.errback(reason)
        self._owner.deviceLost(self)
