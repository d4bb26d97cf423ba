# -*- test-case-name: tests.test_tls -*-

"""
Mutual TLS for the service: key files to contexts, and why a certificate was
refused, in words.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from typing import cast

from attrs import define, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from tcpsvc.duplex import DuplexConnection
from tcpsvc.identity import (
    Identity,
    UnacceptableCertificate,
    alternativeNames,
    fingerprintOf,
    identityFrom,
    isForClients,
    isForServers,
    isSignedBy,
)
from tcpsvc.keyfiles import (
    KeyDirectory,
    KeyFileError,
    PrivateKey,
    readCertificates,
    readCRL,
    readPrivateKey,
)

ALPN_SESSION = b"tcpsvc/1"
"""
Offered by a client that wants to be told about admission (RFC 7301).
"""

ALPN_CONTROL = b"tcpsvc-control/1"
"""
Offered by a client that only asks about the service.
"""

VERSIONS = {"1.3": SSL.TLS1_3_VERSION, "1.2": SSL.TLS1_2_VERSION}
"""
The versions of TLS that may be the minimum.
"""

_CIPHERS_1_2 = b"ECDHE+AESGCM:ECDHE+CHACHA20"

_NO_AUTO_CHAIN = 0x8  # SSL_MODE_NO_AUTO_CHAIN of OpenSSL's ssl.h

MAX_REMEMBERED_CLIENTS = 256
"""
Of how many certificates it is remembered whom they name.
"""

_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266, section 4

_REASONS = {
    2: "unknown CA",
    3: "no revocation list of its CA",
    7: "unknown CA",
    9: "not yet valid",
    10: "expired",
    11: "the revocation list is not yet valid: make it anew",
    12: "the revocation list has expired: make it anew",
    18: "unknown CA",
    19: "unknown CA",
    20: "unknown CA",
    21: "unknown CA",
    22: "certificate chain too long",
    23: "revoked",
    24: "unknown CA",
    26: "wrong purpose",
}
"""
OpenSSL's numbers of verification errors (X509_V_ERR_*) in words.
"""

_HANDSHAKE_REASONS = {
    "peer did not return a certificate": "no certificate",
    "http request": "not TLS: an HTTP request",
    "https proxy request": "not TLS: an HTTP proxy request",
    "wrong version number": "not TLS",
    "unsupported protocol": "a version of TLS that is not allowed",
    "no shared cipher": "no cipher in common",
    "unexpected eof while reading": "the client left",
    "alert unknown ca": "the client does not know this service's CA",
    "alert bad certificate": "the client refuses this service's certificate",
    "alert certificate unknown": "the client refuses this service's certificate",
    "alert internal error": "the client refuses this service's certificate",
    "alert certificate expired": (
        "the client finds this service's certificate expired"
    ),
}
"""
OpenSSL's reasons for a failed handshake in words. What it writes before
C{alert} differs from version to version.
"""


@frozen
class ServerMaterial:
    """
    What a service shows of itself and holds its clients against.

    @ivar chain: The server's certificate, and those between it and its CA.
    @ivar key: The server's private key.
    @ivar authorities: Who may sign the clients' certificates.
    @ivar crl: The revoked certificates, if there is a list.
    """

    chain: list[x509.Certificate]
    key: PrivateKey
    authorities: list[x509.Certificate]
    crl: x509.CertificateRevocationList | None

    @property
    def certificate(self) -> x509.Certificate:
        """The server's own certificate."""
        return self.chain[0]


def loadServerMaterial(directory: KeyDirectory, now: float) -> ServerMaterial:
    """
    Read what a server needs, and see that it can be used.

    @param now: The time, in seconds since the epoch.
    @raise KeyFileError: If something is missing or useless.
    """
    material = ServerMaterial(
        chain=readCertificates(directory.server),
        key=readPrivateKey(directory.serverKey),
        authorities=readCertificates(directory.ca),
        crl=readCRL(directory.crl) if os.path.lexists(directory.crl) else None,
    )
    moment = datetime.fromtimestamp(now, timezone.utc)
    certificate = material.certificate
    problem = None
    if _publicOctets(certificate) != _publicOctets(material.key):
        problem = f"does not belong to {directory.serverKey}"
    elif certificate.not_valid_after_utc < moment:
        problem = f"has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    elif certificate.not_valid_before_utc > moment:
        problem = "is not yet valid: is the clock right?"
    elif not isForServers(certificate):
        problem = "is not for servers (extended key usage serverAuth)"
    if problem is not None:
        raise KeyFileError(
            f"{directory.server}: this certificate {problem}; "
            "`tcpsvc keys check` says how to mend it"
        )
    return material


def _publicOctets(owner: x509.Certificate | PrivateKey) -> bytes:
    """
    The public key of a certificate or private key, in DER.
    """
    return owner.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


@define
class Judgement:
    """
    What was found of a client's certificate in the handshake.

    @ivar refusal: Why it was refused, in words; empty if it was not.
    @ivar certificate: What the client showed; L{None} if it showed nothing.
    """

    refusal: str = ""
    certificate: x509.Certificate | None = None

    @property
    def shown(self) -> dict[str, object] | None:
        """What the certificate says of itself, for log and trail."""
        return None if self.certificate is None else _shown(self.certificate)


class ServerConnection(DuplexConnection):
    """
    OpenSSL's side of one client's connection.

    @ivar judgement: What the handshake has found so far.
    """

    def __init__(self, context: SSL.Context, protocol: TLSMemoryBIOProtocol) -> None:
        super().__init__(context, protocol)
        self.judgement = Judgement()


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """
    Makes the server's side of each TLS connection.

    Clients have to show a certificate that one of the authorities signed for
    clients, and that is valid and not revoked. Nothing is resumed: no
    tickets and no session cache, so that each handshake is judged in full.
    """

    def __init__(self, material: ServerMaterial, minimum: str) -> None:
        """
        @param minimum: The lowest version of TLS, a key of L{VERSIONS}.
        """
        self._context = _serverContext(material, VERSIONS[minimum])
        self._context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._judge
        )

    def serverConnectionForTLS(
        self, protocol: TLSMemoryBIOProtocol
    ) -> ServerConnection:
        """
        @see: L{IOpenSSLServerConnectionCreator}
        """
        return ServerConnection(self._context, protocol)

    def _judge(
        self,
        connection: SSL.Connection,
        shown: X509,
        error: int,
        depth: int,
        valid: int,
    ) -> bool:
        """
        Judge one certificate of a client's chain, after OpenSSL has.

        @param error: OpenSSL's number of what is wrong with it, if C{valid} is 0.
        @param depth: 0 for the client's own certificate.
        """
        judgement = cast(ServerConnection, connection).judgement
        if valid and depth > 0:
            return not judgement.refusal
        certificate = shown.to_cryptography()
        if depth == 0 or judgement.certificate is None:
            judgement.certificate = certificate
        if not valid:
            judgement.refusal = _REASONS.get(error, f"OpenSSL's verify error {error}")
        else:
            try:
                _clientFrom(certificate)
            except UnacceptableCertificate as problem:
                judgement.refusal = str(problem)
        return not judgement.refusal


def whyFailed(judgement: Judgement, error: BaseException | None) -> str:
    """
    Why a handshake failed, in words.

    @param error: What the transport was lost with.
    """
    if judgement.refusal:
        return judgement.refusal
    if not isinstance(error, SSL.Error) or not error.args or not error.args[0]:
        return "the client left"
    problem = error.args[0]
    words = problem[-1][2] if isinstance(problem, list) else str(error.args[-1])
    known = re.sub(r"^\S+ alert ", "alert ", words.lower())
    return _HANDSHAKE_REASONS.get(known, words)


def identityOfPeer(connection: SSL.Connection) -> Identity:
    """
    @return: Who the verified certificate says the client is.
    @raise UnacceptableCertificate: If it names nobody.
    """
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        raise UnacceptableCertificate("no certificate")
    return _clientFrom(certificate)


@lru_cache(maxsize=MAX_REMEMBERED_CLIENTS)
def _clientFrom(certificate: x509.Certificate) -> Identity:
    """
    Which client a certificate names. That depends on its octets only, and so it is
    read once, not in each handshake.

    @raise UnacceptableCertificate: If it names nobody, or is not for clients.
    """
    if not isForClients(certificate):
        raise UnacceptableCertificate("wrong purpose")
    return identityFrom(certificate)


def describe(connection: SSL.Connection) -> dict[str, object]:
    """
    The connection's version, cipher and channel binding, for the trail. The
    binding is RFC 9266's tls-exporter, hashed, as it is a secret of sorts.
    """
    exporter = connection.export_keying_material(_EXPORTER_LABEL, 32, b"")
    return {
        "version": connection.get_protocol_version_name(),
        "cipher": connection.get_cipher_name(),
        "exporter": sha256(exporter).hexdigest(),
    }


def _serverContext(material: ServerMaterial, minimum: int) -> SSL.Context:
    """
    The context of all connections that are made until the key files change.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(minimum)
    context.set_cipher_list(_CIPHERS_1_2)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_privatekey(material.key)
    context.use_certificate(material.certificate)
    # Left alone, OpenSSL would seek and verify it again in each handshake.
    context.set_mode(_NO_AUTO_CHAIN)
    for certificate in _intermediates(material):
        context.add_extra_chain_cert(certificate)
    store = context.get_cert_store()
    assert store is not None
    for authority in material.authorities:
        store.add_cert(X509.from_cryptography(authority))
        context.add_client_ca(authority)
    if material.crl is not None:
        store.add_crl(material.crl)
        store.set_flags(X509StoreFlags.CRL_CHECK)
    context.set_alpn_select_callback(_chooseProtocol)
    return context


def _intermediates(material: ServerMaterial) -> list[x509.Certificate]:
    """
    What stands between the server's certificate and a root, as far as it is known
    here. Clients have the root (RFC 8446, section 4.4.2, lets it be left out).
    """
    between, last = material.chain[1:], material.chain[-1]
    rest = list(material.authorities)
    while rest:
        issuer = next((one for one in rest if isSignedBy(last, one)), None)
        if issuer is None or issuer.issuer == issuer.subject:
            break
        rest.remove(issuer)
        between.append(issuer)
        last = issuer
    return between


def _shown(certificate: x509.Certificate) -> dict[str, object]:
    """
    What a certificate that was not accepted says of itself.
    """
    try:
        names = list(alternativeNames(certificate))
    except ValueError:
        names = []
    return {
        "subject": certificate.subject.rfc4514_string(),
        "serial": format(certificate.serial_number, "x"),
        "fingerprint": fingerprintOf(certificate),
        "names": names,
    }


def _chooseProtocol(
    _: SSL.Connection, offered: list[bytes]
) -> bytes | SSL._NoOverlappingProtocols:
    """
    The first protocol of the client's that is known here, or none: then
    the handshake goes on without, as it does for clients that offer nothing.
    """
    for protocol in offered:
        if protocol in (ALPN_SESSION, ALPN_CONTROL):
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS
