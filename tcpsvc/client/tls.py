# -*- test-case-name: tests.test_client_tls -*-

"""
The client's side of mutual TLS: its judgement of the server, and the server's
of it, in words.
"""

from __future__ import annotations

import re

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from tcpsvc.certificates import reading, verificationError
from tcpsvc.client.address import Address
from tcpsvc.client.errors import (
    CertificateRefused,
    ClientError,
    ConfigurationError,
    ProtocolViolation,
)
from tcpsvc.client.material import ClientMaterial
from tcpsvc.duplex import DuplexConnection
from tcpsvc.escapes import excerpts, printable
from tcpsvc.identity import UnacceptableCertificate, alternativeNames, isForServers

_REASONS = {
    2: "unknown CA",
    7: "unknown CA",
    9: "not yet valid",
    10: "expired",
    18: "unknown CA",
    19: "unknown CA",
    20: "unknown CA",
    21: "unknown CA",
    26: "wrong purpose",
}
"""
OpenSSL's numbers of verification errors (X509_V_ERR_*) in words.
"""

_OF_THE_SERVER = {
    "unknown CA": (
        "the server's certificate was not signed by the CA in ca.pem: is this the "
        "right service, and its CA?"
    ),
    "not yet valid": (
        "the server's certificate is not yet valid: is the clock of this machine right?"
    ),
    "expired": (
        "the server's certificate has expired: its keeper has to renew it "
        "(tcpsvc keys renew server)"
    ),
    "wrong purpose": (
        "the server's certificate is not for servers: its keeper has to make another "
        "(tcpsvc keys server)"
    ),
}

_OF_THE_CLIENT = {
    "bad certificate": (
        "it is not yet valid, or damaged: is the clock of this machine right? "
        "`tcpsvc keys check` says more"
    ),
    "unsupported certificate": (
        "it is not for clients: have one made by `tcpsvc keys client`"
    ),
    "certificate revoked": "it was revoked: have a new one made",
    "certificate expired": "it has expired: have it renewed (tcpsvc keys renew)",
    "certificate unknown": "the service's log says why",
    "unknown ca": (
        "another CA has signed it: take the keys that were made for this service"
    ),
    "access denied": "its owner may not use the service",
    "certificate required": "it wants one and was shown none",
    # What OpenSSL sends when a verify callback says no: the service has
    # found what OpenSSL does not look for.
    "internal error": (
        "it does not say that it is for clients, it names nobody, or it cannot be "
        "read: have one made by `tcpsvc keys client`"
    ),
}
"""
What each alert of a server (RFC 8446, section 6.2) says of our certificate.
"""

_ALERT = re.compile(r"alert (?:number )?([a-z0-9 ]+)\Z")

_NOT_TLS = ("wrong version number", "packet length too long", "http request")


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS:
    """
    Makes the client's side of one TLS connection.

    The server has to show a certificate that one of the authorities signed
    for servers, and that names the host. There is no way around that.

    @ivar refusal: Why the server's certificate was refused, if it was.
    """

    def __init__(
        self, material: ClientMaterial, address: Address, protocol: bytes
    ) -> None:
        """
        @param address: Where the server is: its certificate has to name that.
        @param protocol: What to offer by ALPN (RFC 7301); empty for nothing.
        @raise ConfigurationError: If key and certificate do not belong together.
        """
        self.refusal: CertificateRefused | None = None
        self._address = address
        self._context = _clientContext(material, protocol)
        self._context.set_verify(SSL.VERIFY_PEER, self._judge)

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        @see: L{IOpenSSLClientConnectionCreator}
        """
        connection = DuplexConnection(self._context, protocol)
        if not self._address.isIP:
            connection.set_tlsext_host_name(self._address.host.encode("ascii"))
        return connection

    def _judge(
        self,
        connection: SSL.Connection,
        shown: X509,
        error: int,
        depth: int,
        valid: int,
    ) -> bool:
        """
        Judge one certificate of the server's chain, after OpenSSL has.

        @param error: OpenSSL's number of what is wrong with it, if C{valid} is 0.
        @param depth: 0 for the server's own certificate.
        """
        problem = ""
        if not valid:
            reason = _REASONS.get(error, "")
            problem = _OF_THE_SERVER.get(
                reason,
                f"the server's certificate is not good: {verificationError(error)}",
            )
        elif depth == 0:
            try:
                with reading():
                    problem = _unsuitable(shown.to_cryptography(), self._address)
            except UnacceptableCertificate as unreadable:
                problem = (
                    f"the server's certificate cannot be read ({unreadable.detail}); "
                    "to fix: ask the administrator to renew it "
                    "(tcpsvc keys renew server)"
                )
        if problem:
            self.refusal = CertificateRefused(printable(problem))
        return not problem

    def explain(self, error: BaseException | None) -> ClientError | None:
        """
        @param error: What the connection was lost with.
        @return: What that means, if it has to do with TLS.
        """
        if self.refusal is not None:
            return self.refusal
        if not isinstance(error, SSL.Error):
            return None
        return _meaning(error)


def _unsuitable(certificate: x509.Certificate, address: Address) -> str:
    """
    What is wrong with a server's certificate that one of the authorities
    signed; empty if nothing is.
    """
    if not isForServers(certificate):
        return _OF_THE_SERVER["wrong purpose"]
    verify = (
        verify_certificate_ip_address if address.isIP else verify_certificate_hostname
    )
    try:
        verify(certificate, address.name)
    except (VerificationError, CertificateError):
        names = ", ".join(excerpts(alternativeNames(certificate))) or "nothing"
        return (
            f"the server's certificate does not name {address.name}, but {names}: "
            "call it by such a name, or have its keeper add this one"
        )
    return ""


def _meaning(error: SSL.Error) -> ClientError:
    """
    What an error of OpenSSL's means.
    """
    details = error.args[0] if error.args else ""
    words = details[-1][2] if details and isinstance(details, list) else str(details)
    alert = _ALERT.search(words)
    if alert is not None and alert.group(1) in _OF_THE_CLIENT:
        why = _OF_THE_CLIENT[alert.group(1)]
        return CertificateRefused(f"the service refused this certificate: {why}")
    if alert is not None and alert.group(1) == "no application protocol":
        return ProtocolViolation(
            "what is there does not speak this protocol: is it a tcpsvc service?"
        )
    if words in _NOT_TLS:
        return ProtocolViolation(
            f"what is there does not speak TLS ({words}): is it the right port?"
        )
    return ProtocolViolation(f"TLS failed: {words or 'OpenSSL does not say why'}")


def _clientContext(material: ClientMaterial, protocol: bytes) -> SSL.Context:
    """
    The context of one connection. A service always has TLS 1.3.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if protocol:
        context.set_alpn_protos([protocol])
    try:
        context.use_certificate(material.chain[0])
        context.use_privatekey(material.key)
    except SSL.Error:
        raise ConfigurationError(
            f"the certificate and the private key of {material.identity!r} do not "
            "belong together; `tcpsvc keys check` says more"
        ) from None
    for certificate in material.chain[1:]:
        context.add_extra_chain_cert(certificate)
    store = context.get_cert_store()
    assert store is not None
    for authority in material.authorities:
        store.add_cert(X509.from_cryptography(authority))
    return context
