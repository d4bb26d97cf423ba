# -*- test-case-name: tests.test_client_stream -*-

"""
A service as a stream of octets: what a gateway is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.client.arrival import Arrival
from tcpsvc.client.connection import DEFAULT_TIMEOUT, reach
from tcpsvc.client.errors import CannotReach
from tcpsvc.closing import Closing
from tcpsvc.duplex import DuplexTLS
from tcpsvc.identity import Identity
from tcpsvc.keyfiles import KeyDirectory


class Stream:
    """
    A session with a service whose octets go to and from a protocol; made by
    L{openStream}.

    @ivar greeting: The service's first words, which the protocol does not get.
    @ivar peer: Who the server's certificate says it is; if it has no common
        name, its C{name} is the host.
    """

    def __init__(
        self, arrival: Arrival, protocol: IProtocol, clock: IReactorTime
    ) -> None:
        self.greeting = arrival.greeting
        self.peer: Identity = arrival.server
        self._closing = Closing(clock)
        self._closers: list[Deferred[None]] = []
        self._lost = False
        self._joined = _Joined(protocol, self._connectionLost)
        arrival.handOver(self._joined)

    def close(self) -> Deferred[None]:
        """
        Close in good order: when all is sent that was written, and the service
        has answered. If it does not within 2 s, the connection is cut. A
        producer has to be unregistered before.

        @return: Fires when the connection is lost. It does not fail, and may be
            called again.
        """
        if self._lost:
            return succeed(None)
        closer: Deferred[None] = Deferred()
        self._closers.append(closer)
        self._closing.close(self._joined.transport)
        return closer

    def abort(self) -> None:
        """
        Cut the connection at once.
        """
        if not self._lost:
            self._joined.cut = True
            self._joined.transport.abortConnection()

    def _connectionLost(self) -> None:
        """
        The connection is gone.
        """
        self._lost = True
        self._closing.closed(self._joined.transport)
        closers, self._closers = self._closers, []
        for closer in closers:
            closer.callback(None)


@implementer(IHalfCloseableProtocol)
class _Joined(Protocol):
    """
    The protocol of a stream, in words that it understands.

    @ivar cut: Whether it was told to cut the connection.
    """

    transport: DuplexTLS

    def __init__(self, protocol: IProtocol, lost: Callable[[], None]) -> None:
        self.cut = False
        self._protocol = protocol
        self._lost = lost

    def connectionMade(self) -> None:
        """
        Octets may be written.
        """
        self._protocol.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """
        Octets from the service.
        """
        self._protocol.dataReceived(data)

    def readConnectionLost(self) -> None:
        """
        The service says nothing more. A protocol that does not know about half-closes
        has its connection closed.
        """
        if IHalfCloseableProtocol.providedBy(self._protocol):
            cast(IHalfCloseableProtocol, self._protocol).readConnectionLost()
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Never called: TLS sends its C{close_notify} at once.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone. In good order it ends with the close_notify of
        RFC 8446, section 6.1; without one something may be missing.
        """
        problem: Exception
        if self.cut or reason.check(ConnectionAborted):
            problem = CannotReach("the connection was cut")
        elif reason.check(ConnectionDone) or self._saidGoodBye(reason):
            problem = ConnectionDone()
        else:
            problem = CannotReach("the connection to the service was lost")
        self._lost()
        self._protocol.connectionLost(Failure(problem))

    def _saidGoodBye(self, reason: Failure) -> bool:
        """
        Whether the service had closed, and only then reset the connection, as it
        does if something from us was still on its way. (After an alert OpenSSL
        has the same mark, but then the reason is an error of its own.)
        """
        if not reason.check(ConnectionClosed):
            return False
        handle = self.transport.getHandle()
        return bool(handle.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


async def openStream(
    reactor: IReactorTime,
    host: str,
    protocol: IProtocol,
    *,
    keys: KeyDirectory,
    identity: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    wait: float | None = None,
) -> Stream:
    """
    Open a session with a service and join it to a protocol, which gets what
    comes after the greeting.

    The protocol's C{connectionLost} gets L{ConnectionDone} if the connection was
    closed in good order, from whichever side, and else L{CannotReach}. Its
    transport has C{loseWriteConnection()}: it tells the service that nothing more
    will come, by TLS's C{close_notify}, and what the service says is still received.
    A protocol that provides L{IHalfCloseableProtocol} is told by
    C{readConnectionLost} when the service sends its own, and closes the transport
    then; a tcpsvc service takes nothing any more from that moment. For others it is
    closed.

    @param protocol: Is connected when the service has admitted us, and is
        never if this fails.

    The other parameters and the errors are those of L{connect
    <tcpsvc.client.connect>}, save that a gateway is welcome here, as is a service of
    commands.
    """
    arrival = await reach(
        reactor, host, keys=keys, identity=identity, timeout=timeout, wait=wait
    )
    return Stream(arrival, protocol, reactor)
