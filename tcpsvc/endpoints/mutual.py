# -*- test-case-name: tests.test_endpoints_mutual -*-

"""
C{mtls:}: TCP with mutual TLS, for servers and for clients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from tcpsvc.client.address import Address, parseAddress
from tcpsvc.client.errors import ClientError
from tcpsvc.client.material import ClientMaterial, loadClientMaterial
from tcpsvc.client.tls import ClientTLS
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
        material = loadServerMaterial(KeyDirectory(Path(keys)), reactor.seconds())
    except KeyFileError as error:
        raise ValueError(str(error)) from None
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    return MutualServerEndpoint(
        kind(reactor, int(port), interface=interface), ServerTLS(material, minimum)
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
        return self.endpoint.listen(TLSMemoryBIOFactory(self.tls, False, factory))


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
        material = loadClientMaterial(KeyDirectory(Path(keys)), identity)
    except ClientError as error:
        raise ValueError(str(error)) from None
    endpoint = HostnameEndpoint(reactor, address.host, address.port)
    return MutualClientEndpoint(endpoint, material, address)


@implementer(IStreamClientEndpoint)
@frozen
class MutualClientEndpoint:
    """
    Connects by another endpoint, shows a certificate, and verifies the
    server's.
    """

    endpoint: IStreamClientEndpoint
    material: ClientMaterial
    address: Address

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        tls = ClientTLS(self.material, self.address, b"")
        wrapped = TLSMemoryBIOFactory(tls, True, factory)
        connecting = self.endpoint.connect(wrapped)
        return connecting.addCallback(_within)


def _within(tls: IProtocol) -> IProtocol:
    """
    The protocol that TLS was wrapped around.
    """
    return cast(TLSMemoryBIOProtocol, tls).wrappedProtocol
