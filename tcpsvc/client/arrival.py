# -*- test-case-name: tests.test_client -*-

"""
The way to a service: TCP, TLS, and its first words.

In TLS 1.3 a client whose certificate is refused believes its handshake
complete, and learns otherwise when it first reads. So nobody has arrived
before the greeting has.
"""

from __future__ import annotations

import re

from OpenSSL.crypto import X509
from twisted.internet import error as errors
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionDone,
    DNSLookupError,
)
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.certificates import describe, reading
from tcpsvc.client.address import Address
from tcpsvc.client.errors import (
    BackendDown,
    Busy,
    CannotReach,
    ClientError,
    ProtocolViolation,
    Unavailable,
)
from tcpsvc.client.tls import ClientTLS
from tcpsvc.closing import Closing
from tcpsvc.duplex import DuplexTLS
from tcpsvc.identity import Identity, UnacceptableCertificate, identityFrom
from tcpsvc.sockets import tune
from tcpsvc.unreachable import whyUnreachable
from tcpsvc.wire import ProtocolError, Reply, ReplyParser

_GATEWAY = re.compile(r"\S+ tcpsvc \S+ gateway;")


def isOfGateway(greeting: Reply) -> bool:
    """
    Whether a greeting says that octets pass behind it, and no requests and replies.
    """
    return _GATEWAY.match(greeting.text) is not None


@implementer(IHandshakeListener)
class Arrival(Protocol):
    """
    One connection to a service, until it has greeted us and somebody takes
    it over.

    @ivar greeting: The service's first words.
    @ivar server: Who its certificate says it is.
    @ivar arrived: Fires with this arrival at the greeting, or fails with a
        L{ClientError}.
    """

    greeting: Reply
    server: Identity
    transport: DuplexTLS

    def __init__(self, tls: ClientTLS, address: Address, wanted: bytes) -> None:
        """
        @param wanted: The protocol that has to be agreed upon by ALPN.
        """
        self.arrived: Deferred[Arrival] = Deferred(lambda _: self._giveUp())
        self._tls = tls
        self._address = address
        self._wanted = wanted
        self._parser = ReplyParser()
        self._settled = False
        self._early = bytearray()
        self._lost: Failure | None = None

    def connectionMade(self) -> None:
        """
        Find a dead service soon, and send small requests at once.
        """
        tune(self.transport.transport)

    def handshakeCompleted(self) -> None:
        """
        The server is who it should be; see that it speaks our language. A
        control connection to something else might take its slot.
        """
        if self._settled:
            return
        try:
            shown = self.transport.getHandle().get_peer_certificate()
            self.server = _identityOf(shown, self._address)
            agreed = self.transport.negotiatedProtocol
        except Exception:
            self._fail(Failure())
            return
        if agreed != self._wanted:
            self._fail(
                ProtocolViolation(
                    f"{self._address} does not speak {self._wanted.decode()}: "
                    "is it a tcpsvc service?"
                )
            )

    def dataReceived(self, data: bytes) -> None:
        """
        The first words. What comes behind them is for the successor.
        """
        if self._settled:
            self._early += data
            return
        while data and not self._settled:
            line, ending, data = data.partition(b"\n")
            try:
                replies = self._parser.feed(line + ending)
            except ProtocolError as error:
                self._fail(ProtocolViolation(f"{self._address} sent {error}"))
                return
            for reply in replies:
                self._early += data
                self._greeted(reply)

    def _greeted(self, reply: Reply) -> None:
        """
        The first words are complete: we are admitted, or we are not.
        """
        self.greeting = reply
        if reply.code == 220:
            self._settled = True
            # Nothing is read until somebody wants it.
            self.transport.pauseProducing()
            self.arrived.callback(self)
        elif reply.code == 421 and reply.word == "BUSY":
            self._fail(Busy(reply))
        elif reply.word == "BACKEND-DOWN":
            self._fail(BackendDown(reply))
        elif reply.isError:
            self._fail(Unavailable(reply))
        else:
            self._fail(ProtocolViolation(f"{self._address} began with {str(reply)!r}"))

    def handOver(self, successor: IProtocol) -> None:
        """
        Join the connection to a protocol, from behind the greeting on.
        """
        self.transport.wrappedProtocol = successor
        successor.makeConnection(self.transport)
        if self._lost is None:
            self.transport.resumeProducing()
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            successor.dataReceived(early)
        if self._lost is not None:
            successor.connectionLost(self._lost)

    def leave(self, clock: IReactorTime) -> Deferred[None]:
        """
        Close the connection in good order, and send nothing. If the service does
        not answer that within 2 s, the connection is cut.

        @return: Fires when the connection is lost. It does not fail.
        """
        leaver = _Leaver(clock)
        self.handOver(leaver)
        return leaver.gone

    def _giveUp(self) -> None:
        """
        Nobody waits any more.
        """
        self._settled = True
        if self.connected:
            self.transport.abortConnection()

    def _fail(self, why: ClientError | Failure) -> None:
        """
        The way leads nowhere.
        """
        self._giveUp()
        self.arrived.errback(why)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone: why, depends on how far we came.
        """
        self._lost = reason
        if not self._settled:
            self._settled = True
            explained = self._tls.explain(reason.value)
            if explained is None and reason.check(ConnectionDone):
                explained = ProtocolViolation(
                    f"{self._address} closed the connection without a word"
                )
            elif explained is None and reason.check(ConnectionClosed):
                explained = CannotReach(
                    f"{self._address}: the connection was lost before the service "
                    "said anything"
                )
            self.arrived.errback(explained or reason)


class _Leaver(Protocol):
    """
    Closes the connection that it gets.

    @ivar gone: Fires when it is lost.
    """

    transport: DuplexTLS

    def __init__(self, clock: IReactorTime) -> None:
        self.gone: Deferred[None] = Deferred()
        self._closing = Closing(clock)

    def connectionMade(self) -> None:
        """
        Close it.
        """
        self._closing.close(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It is closed.
        """
        self._closing.closed(self.transport)
        self.gone.callback(None)


async def arrive(
    endpoint: IStreamClientEndpoint,
    address: Address,
    tls: ClientTLS,
    wanted: bytes,
    clock: IReactorTime,
    timeout: float,
) -> Arrival:
    """
    Go all the way to a service's greeting.

    @param endpoint: Leads to the service; TLS is done here.
    @param wanted: The protocol that has to be agreed upon by ALPN.
    @param timeout: Seconds for all of the way.
    @raise ClientError: If it does not end well.
    """
    arrival = Arrival(tls, address, wanted)
    factory = TLSMemoryBIOFactory(
        tls, True, Factory.forProtocol(lambda: arrival), clock=clock
    )
    factory.protocol = DuplexTLS

    async def walk() -> Arrival:
        await endpoint.connect(factory)
        return await arrival.arrived

    walking = Deferred.fromCoroutine(walk())
    timer = clock.callLater(timeout, walking.cancel)
    try:
        return await walking
    except (ConnectError, DNSLookupError) as error:
        if not timer.active():
            raise _late(address, timeout) from None
        raise CannotReach(f"{address}: {_whyUnreachable(error, address)}") from None
    except (CancelledError, ConnectingCancelledError):
        if not timer.active():
            raise _late(address, timeout) from None
        raise
    finally:
        if timer.active():
            timer.cancel()


def _identityOf(shown: X509, address: Address) -> Identity:
    """
    Who a server is: its common name if it has one that can be shown, else the name
    that it was called by.
    """
    try:
        with reading():
            return identityFrom(shown.to_cryptography())
    except UnacceptableCertificate:
        description = describe(shown)
        return Identity(
            address.name,
            description.serial,
            description.fingerprint,
            description.names,
        )


def _late(address: Address, timeout: float) -> CannotReach:
    """
    The way took too long.
    """
    return CannotReach(f"{address}: timed out, there was no answer in {timeout:g} s")


def _whyUnreachable(error: Exception, address: Address) -> str:
    """
    Why there is no connection, in words.
    """
    if isinstance(error, DNSLookupError):
        return f"name not known: is {address.host!r} written right?"
    if isinstance(error, errors.ConnectionRefusedError):
        return "connection refused: is the service running?"
    return whyUnreachable(error)
