# -*- test-case-name: tests.test_endpoints_mutual -*-

"""
C{mtls:}: TCP with mutual TLS, for servers and for clients.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.client.address import Address, parseAddress
from tcpsvc.client.errors import ClientError
from tcpsvc.client.material import ENDPOINT_STRING, ClientMaterial, loadClientMaterial
from tcpsvc.client.tls import ClientTLS
from tcpsvc.duplex import DuplexTLS
from tcpsvc.keyfiles import KeyDirectory, KeyFileError
from tcpsvc.tls import VERSIONS, ServerTLS, loadServerMaterial


def parseMutualServer(
    reactor: Any,
    port: str = "4433",
    keys: str = "keys",
    interface: str = "",
    minimum: str = "1.3",
) -> MutualServerEndpoint:
    """
    The endpoint of C{mtls:PORT:keys=DIR:interface=ADDRESS:minimum=1.3}.

    @raise ValueError: If a value is not right, or the keys cannot be used.
    """
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"mtls: {port}: a port is wanted")
    if minimum not in VERSIONS:
        raise ValueError(f"mtls: minimum={minimum}: one of {', '.join(VERSIONS)}")
    try:
        material = loadServerMaterial(KeyDirectory(Path(keys)), time.time())
    except KeyFileError as error:
        raise ValueError(f"mtls: {error}") from None
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    return MutualServerEndpoint(
        kind(reactor, int(port), interface=interface),
        ServerTLS(material, minimum, protocols=()),
    )


@implementer(IStreamServerEndpoint)
@frozen
class MutualServerEndpoint:
    """
    Listens by another endpoint, and lets in who shows a good certificate.

    A protocol's C{connectionMade} comes before the handshake; one that
    provides L{twisted.internet.interfaces.IHandshakeListener} is told when the
    client's certificate was verified.
    """

    endpoint: IStreamServerEndpoint
    tls: IOpenSSLServerConnectionCreator

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @see: L{IStreamServerEndpoint.listen}
        """
        wrapped = TLSMemoryBIOFactory(self.tls, False, factory)
        # Unbuffered: the default loses what is answered to octets that arrive
        # together with the end of the stream.
        wrapped.protocol = DuplexTLS
        return self.endpoint.listen(wrapped)


def parseMutualClient(
    reactor: Any,
    host: str,
    port: str = "4433",
    keys: str = "keys",
    identity: str | None = None,
) -> MutualClientEndpoint:
    """
    The endpoint of C{mtls:HOST:PORT:keys=DIR:identity=NAME}.

    @param identity: Whose keys; by default the only ones there are.
    @raise ValueError: If a value is not right, or the keys cannot be used.
    """
    try:
        address = parseAddress(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        directory = KeyDirectory(Path(keys))
        material = loadClientMaterial(directory, identity, ENDPOINT_STRING)
        ClientTLS(material, address, b"")
    except ClientError as error:
        raise ValueError(f"mtls: {error}") from None
    endpoint = HostnameEndpoint(reactor, address.host, address.port)
    return MutualClientEndpoint(endpoint, material, address)


@implementer(IStreamClientEndpoint)
@frozen
class MutualClientEndpoint:
    """
    Connects by another endpoint, shows a certificate, and verifies the
    server's.

    The protocol's C{connectionMade} comes when that is done. That the server
    does not like the client's certificate shows only afterwards (RFC 8446,
    section 4.4.4): the connection is lost then.
    """

    endpoint: IStreamClientEndpoint
    material: ClientMaterial
    address: Address

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}

        @return: Fails with L{tcpsvc.client.errors.CertificateRefused} if the
            server's certificate is not good.
        """
        tls = ClientTLS(self.material, self.address, b"")
        arrivals = _Arrivals(factory, tls)
        wrapped = TLSMemoryBIOFactory(tls, True, arrivals)
        wrapped.protocol = DuplexTLS
        connecting = self.endpoint.connect(wrapped)
        arrivals.connecting = connecting
        connecting.addErrback(arrivals.failed)
        return arrivals.first


class _Arrivals(Factory):
    """
    Builds what waits for the end of a handshake.

    @ivar first: Fires with the protocol whose handshake has completed first.
    @ivar connecting: Fires when there is somebody to shake hands with.
    """

    noisy = False
    connecting: Deferred[IProtocol] | None = None

    def __init__(self, factory: IProtocolFactory, tls: ClientTLS) -> None:
        self.first: Deferred[IProtocol] = Deferred(self._cancel)
        self._factory = factory
        self._tls = tls
        self._begun: list[_Arrival] = []

    def buildProtocol(  # type: ignore[override]  # stands in for the real one
        self, address: IAddress
    ) -> _Arrival:
        """
        A connection is made.
        """
        arrival = _Arrival(self._factory.buildProtocol(address), self._tls, self.first)
        self._begun.append(arrival)
        return arrival

    def failed(self, failure: Failure) -> None:
        """
        There is nobody.
        """
        if not self.first.called:
            self.first.errback(failure)

    def _cancel(self, first: Deferred[IProtocol]) -> None:
        """
        Nobody waits any longer.
        """
        # Before anything below can say why it has ended.
        first.errback(CancelledError())
        for arrival in self._begun:
            arrival.abort()
        if self.connecting is not None:
            self.connecting.cancel()


@implementer(IHandshakeListener)
class _Arrival(Protocol):
    """
    Stands in for a protocol until the server was verified.
    """

    transport: Any

    def __init__(
        self,
        protocol: IProtocol | None,
        tls: ClientTLS,
        arrived: Deferred[IProtocol],
    ) -> None:
        self._protocol = protocol
        self._tls = tls
        self._arrived = arrived

    def handshakeCompleted(self) -> None:
        """
        The server's certificate is good: the protocol takes over.
        """
        protocol, transport = self._protocol, self.transport
        if protocol is None or self._arrived.called:
            transport.abortConnection()
            return
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)
        self._arrived.callback(protocol)
        if IHandshakeListener.providedBy(protocol):
            IHandshakeListener(protocol).handshakeCompleted()

    def abort(self) -> None:
        """
        Nobody waits any longer.
        """
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        There was no handshake.
        """
        if not self._arrived.called:
            why = self._tls.explain(reason.value)
            self._arrived.errback(reason if why is None else Failure(why))
