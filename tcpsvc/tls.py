# -*- test-case-name: tests.test_tls -*-

"""
Mutual TLS for the service: key files to contexts, and why a certificate was
refused, in words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from typing import cast

from attrs import define, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from OpenSSL._util import lib
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from tcpsvc.certificates import Description, encodedOf, reading, verificationError
from tcpsvc.certificates import describe as describeCertificate
from tcpsvc.duplex import DuplexConnection
from tcpsvc.escapes import excerpt, printable
from tcpsvc.identity import (
    Identity,
    UnacceptableCertificate,
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

_GROUPS = b"X25519:P-256:P-384"
_MLKEM_GROUP = b"X25519MLKEM768"
_FIRST_WITH_MLKEM = 0x30500000  # OpenSSL 3.5

_NO_AUTO_CHAIN = 0x8  # SSL_MODE_NO_AUTO_CHAIN of OpenSSL's ssl.h
_RELEASE_BUFFERS = 0x10  # SSL_MODE_RELEASE_BUFFERS: 34 KiB of an idle connection.

INTERNAL_ERROR = "internal error: the log has a traceback"
"""
Why a handshake failed if the reason is an error of this program.
"""

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
OpenSSL's numbers of verification errors (X509_V_ERR_*) in words. Others are told in
OpenSSL's.
"""

_HANDSHAKE_REASONS = {
    "peer did not return a certificate": "no certificate",
    "http request": "not TLS: an HTTP request",
    "https proxy request": "not TLS: an HTTP proxy request",
    "wrong version number": "not TLS",
    "unsupported protocol": "a version of TLS that is not allowed",
    "no shared cipher": "no cipher in common",
    "no suitable key share": "no key exchange group in common",
    "no suitable groups": "no key exchange group in common",
    "wrong curve": "a certificate with a key on a curve that is not allowed",
    "excessive message size": "a certificate chain of more than 100 KiB",
    "asn1 lib": "a certificate that cannot be read",
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
    What was found of a client in the handshake.

    @ivar refusal: Why it was refused, in words of ours; empty if it was not.
    @ivar detail: What else is known of that: shortened, and partly the client's choice.
    @ivar certificate: What the client showed; L{None} if it showed nothing.
    """

    refusal: str = ""
    detail: str = ""
    certificate: X509 | None = None

    def refuse(self, refusal: str, detail: str = "") -> None:
        """
        Refuse the client.
        """
        self.refusal, self.detail = refusal, detail

    @property
    def shown(self) -> dict[str, object] | None:
        """What the certificate says of itself, for the trail."""
        description = self._description
        return None if description is None else description.asRecord()

    @property
    def _description(self) -> Description | None:
        """What the certificate says of itself."""
        if self.certificate is None:
            return None
        return describeCertificate(self.certificate)

    def account(self) -> tuple[dict[str, object], str]:
        """
        What is to be told of a failed handshake beside address and reason.

        @return: Fields of the record, and what a line of the log has.
        """
        record: dict[str, object] = {}
        description = self._description
        detail = self.detail
        if description is not None:
            detail = detail or description.problem
        if detail:
            record["detail"] = detail
        if description is not None:
            record["certificate"] = description.asRecord()
        more = [text for text in (detail, str(description or "")) if text]
        return record, f" ({printable('; '.join(more))})" if more else ""


class NoCommonProtocol(SSL.Error):
    """
    A client offers only application protocols (RFC 7301) that are not known here.

    Raised in the callback that selects one, it becomes the alert
    C{no_application_protocol}. Twisted needs a subclass of L{SSL.Error} to end the
    connection in order; the argument is as OpenSSL's errors have it.
    """

    def __init__(self) -> None:
        super().__init__([("tcpsvc", "ALPN", "no application protocol")])


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

    def __init__(
        self,
        material: ServerMaterial,
        minimum: str,
        protocols: Container[bytes] = (ALPN_SESSION, ALPN_CONTROL),
    ) -> None:
        """
        @param minimum: The lowest version of TLS, a key of L{VERSIONS}.
        @param protocols: The application protocols (RFC 7301) that are served. A
            client that offers only others is refused. If empty, what clients offer is
            ignored.
        """
        self._protocols = protocols
        self._context = _serverContext(material, VERSIONS[minimum])
        self._context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._judge
        )
        if protocols:
            self._context.set_alpn_select_callback(self._chooseProtocol)

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
        if depth == 0 or judgement.certificate is None:
            judgement.certificate = shown
        if not valid:
            judgement.refuse(_REASONS.get(error) or verificationError(error))
        else:
            try:
                _clientFrom(shown)
            except UnacceptableCertificate as problem:
                judgement.refuse(str(problem), problem.detail)
        return not judgement.refusal

    def _chooseProtocol(
        self, connection: SSL.Connection, offered: list[bytes]
    ) -> bytes:
        """
        The first protocol of the client's that is served. Called only for clients
        that offer any.

        @raise NoCommonProtocol: If there is none (RFC 7301, section 3.2).
        """
        for protocol in offered:
            if protocol in self._protocols:
                return protocol
        names = b", ".join(offered).decode("ascii", "backslashreplace")
        cast(ServerConnection, connection).judgement.refuse(
            "no application protocol in common", f"offered: {excerpt(names)}"
        )
        raise NoCommonProtocol()


def whyFailed(judgement: Judgement, error: BaseException | None) -> str:
    """
    Why a handshake failed, in words.

    @param error: What the transport was lost with.
    """
    if judgement.refusal:
        return judgement.refusal
    if isinstance(error, UnacceptableCertificate):
        return str(error)
    if error is None or isinstance(error, ConnectionClosed):
        return "the client left"
    if not isinstance(error, SSL.Error):
        return INTERNAL_ERROR
    if not error.args or not error.args[0]:
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
    shown = connection.get_peer_certificate()
    if shown is None:
        raise UnacceptableCertificate("no certificate")
    return _clientFrom(shown)


def _clientFrom(shown: X509) -> Identity:
    """
    Which client a certificate names.

    @raise UnacceptableCertificate: If it names nobody, is not for clients, or cannot
        be read.
    """
    with reading():
        return _clientOf(encodedOf(shown))


@lru_cache(maxsize=MAX_REMEMBERED_CLIENTS)
def _clientOf(encoded: bytes) -> Identity:
    """
    Which client a certificate names. That depends on its bytes only, and so it is
    read once, not in each handshake.

    @param encoded: The certificate, in DER.
    """
    certificate = x509.load_der_x509_certificate(encoded)
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


def _restrictGroups(context: SSL.Context) -> None:
    """
    Allow the key exchange groups of Mozilla's modern profile, and no others.

    pyOpenSSL has no public call for this. Its bindings, which Twisted uses as well,
    have C{SSL_CTX_set1_groups_list} under the name that it had before OpenSSL 1.1.1.
    """
    groups = _GROUPS
    if SSL.OPENSSL_VERSION_NUMBER >= _FIRST_WITH_MLKEM:
        groups = _MLKEM_GROUP + b":" + groups
    if lib.SSL_CTX_set1_curves_list(context._context, groups) != 1:
        raise RuntimeError(f"OpenSSL does not know all of {groups.decode()}")


def _serverContext(material: ServerMaterial, minimum: int) -> SSL.Context:
    """
    The context of all connections that are made until the key files change.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(minimum)
    context.set_cipher_list(_CIPHERS_1_2)
    _restrictGroups(context)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_privatekey(material.key)
    context.use_certificate(material.certificate)
    # Left alone, OpenSSL would seek and verify it again in each handshake.
    context.set_mode(_NO_AUTO_CHAIN | _RELEASE_BUFFERS)
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
