# -*- test-case-name: tests.test_identity -*-

"""
Who a certificate says its owner is.

Pure: works on L{cryptography.x509} objects and opens no file or socket.
"""

from __future__ import annotations

from attrs import Factory, define, field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tcpsvc.escapes import excerpt, excerpts

MAX_NAME_LENGTH = 64
"""
The longest common name, in octets of UTF-8. X.520 (ub-common-name) counts
characters; L{cryptography}, which makes our certificates, counts these.
"""


class UnacceptableCertificate(ValueError):
    """
    A certificate names nobody whom the service could let in.

    The message is a phrase for people, without anything that the peer has chosen.

    @ivar detail: What else is known, shortened; empty if that is nothing.
    """

    def __init__(self, problem: str, detail: str = "") -> None:
        super().__init__(problem)
        self.detail = detail


@frozen
class Identity:
    """
    Who is at the other end.

    @ivar name: The subject's common name: printable, at most
        L{MAX_NAME_LENGTH} octets.
    @ivar serial: The certificate's serial number in lower-case hex.
    @ivar fingerprint: The SHA-256 of the certificate (DER) in lower-case hex.
    @ivar names: The subject alternative names, each with its type before it,
        as in C{"DNS:bench.example"}, shortened by L{tcpsvc.escapes.excerpts}.
    """

    name: str
    serial: str = ""
    fingerprint: str = ""
    names: tuple[str, ...] = ()

    def asRecord(self) -> dict[str, object]:
        """
        @return: The identity as JSON primitives, for a record of the trail.
        """
        return {
            "name": self.name,
            "serial": self.serial,
            "fingerprint": self.fingerprint,
            "names": list(self.names),
        }


ANONYMOUS = Identity("anonymous")
"""
Whoever comes in through a plaintext listener.
"""


@define(eq=False)
class Client:
    """
    One client in session.

    @ivar identity: Who it is.
    @ivar address: Where it is, as people write it: C{192.0.2.1:49152}.
    @ivar session: The session's UUID.
    @ivar since: When it came, in seconds since the epoch.
    @ivar lastRequest: When it last asked for anything, by the clock of durations. The
        session keeps it up to date.
    @ivar leaving: Whether its session is over.
    @ivar opened: When it came, by the clock of durations.
    """

    identity: Identity
    address: str
    session: str
    since: float
    lastRequest: float
    leaving: bool = False
    opened: float = field(
        default=Factory(lambda self: self.lastRequest, takes_self=True)
    )

    def idleSeconds(self, now: float) -> int:
        """
        @param now: The time by the clock of durations.
        @return: How long it has asked for nothing, in whole seconds.
        """
        return max(0, int(now - self.lastRequest))


def identityFrom(certificate: x509.Certificate) -> Identity:
    """
    Read the identity out of a certificate.

    Nothing is verified here: the TLS layer does that before it asks.

    @raise UnacceptableCertificate: If it has no common name, more than one,
        or one that cannot stand on one line of a reply.
    """
    commonNames = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(commonNames) != 1:
        raise UnacceptableCertificate(
            "no common name" if not commonNames else "more than one common name"
        )
    name = commonNames[0].value
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UnacceptableCertificate("a common name that is not printable")
    if len(name.encode()) > MAX_NAME_LENGTH:
        raise UnacceptableCertificate(
            f"a common name of more than {MAX_NAME_LENGTH} octets"
        )
    return Identity(
        name=name,
        serial=excerpt(format(certificate.serial_number, "x")),
        fingerprint=fingerprintOf(certificate),
        names=excerpts(alternativeNames(certificate)),
    )


def fingerprintOf(certificate: x509.Certificate) -> str:
    """
    @return: The SHA-256 of the certificate (DER) in lower-case hex.
    """
    return certificate.fingerprint(hashes.SHA256()).hex()


def alternativeNames(certificate: x509.Certificate) -> tuple[str, ...]:
    """
    @return: The subject alternative names (RFC 5280, section 4.2.1.6), each
        with its type before it in OpenSSL's manner: C{DNS:}, C{IP:},
        C{email:}, C{URI:}, or C{other:}.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return ()
    return tuple(_written(name) for name in extension.value)


def allows(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    """
    Whether the extended key usage names C{usage}.

    A certificate without the extension is good for nothing here: RFC 5280,
    section 4.2.1.12, would let it serve for everything.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.ExtendedKeyUsage
        )
    except x509.ExtensionNotFound:
        return False
    return usage in extension.value


def isSignedBy(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """
    Whether the authority's name and signature are on the certificate.
    """
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, UnsupportedAlgorithm, ValueError):
        return False
    return True


def isForClients(certificate: x509.Certificate) -> bool:
    """
    Whether a client may show this certificate (id-kp-clientAuth).
    """
    return allows(certificate, ExtendedKeyUsageOID.CLIENT_AUTH)


def isForServers(certificate: x509.Certificate) -> bool:
    """
    Whether a server may show this certificate (id-kp-serverAuth).
    """
    return allows(certificate, ExtendedKeyUsageOID.SERVER_AUTH)


_PREFIXES: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.RFC822Name: "email",
    x509.UniformResourceIdentifier: "URI",
}


def _written(name: x509.GeneralName) -> str:
    """
    One alternative name as text.
    """
    return f"{_PREFIXES.get(type(name), 'other')}:{name.value}"
