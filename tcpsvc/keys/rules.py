# -*- test-case-name: tests.test_keys_rules -*-

"""
What is asked of keys and certificates: each rule once, for those who make them,
those who look for what is wrong, and those who list them.

Pure. A function C{why…} answers with a phrase that fits after a file's name and
a colon, or with L{None} if there is nothing wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from tcpsvc.identity import (
    UnacceptableCertificate,
    allows,
    identityFrom,
    isSignedBy,
)
from tcpsvc.keyfiles import PrivateKey
from tcpsvc.keys.names import hostAlternativeName, hostsOf
from tcpsvc.times import toSeconds

EXPIRING = timedelta(days=30)
"""
How long before its end a certificate is due to be renewed.
"""

MIN_RSA_BITS = 2048
"""
The shortest RSA key that is signed (NIST SP 800-131A).
"""

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
"""
The curves that TLS 1.3 can sign on (RFC 8446, section 4.2.3).
"""


class Role(Enum):
    """
    What a certificate is for.
    """

    CLIENT = "client"
    SERVER = "server"

    @classmethod
    def of(cls, name: str) -> Role:
        """
        The role of whoever has the files of this name in a directory of keys.

        @param name: C{"server"} or a client's name.
        """
        return cls.SERVER if name == "server" else cls.CLIENT

    @property
    def usage(self) -> x509.ObjectIdentifier:
        """The one extended key usage (RFC 5280, section 4.2.1.12) it has."""
        if self is Role.SERVER:
            return ExtendedKeyUsageOID.SERVER_AUTH
        return ExtendedKeyUsageOID.CLIENT_AUTH


class Status(Enum):
    """
    How a certificate stands at a moment.
    """

    VALID = "valid"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    REVOKED = "revoked"
    VOID = "void"

    @property
    def isDue(self) -> bool:
        """Whether to replace it. A revoked one is done with."""
        return self in (Status.EXPIRING, Status.EXPIRED, Status.VOID)


def statusOf(
    certificate: x509.Certificate,
    now: datetime,
    crl: x509.CertificateRevocationList | None = None,
    within: timedelta = EXPIRING,
) -> Status:
    """
    How a certificate stands at C{now}. Whether it is void, L{whyVoid} says.

    @param crl: The list of revoked certificates, if there is one.
    @param within: How long before its end it is called expiring.
    """
    if isRevoked(certificate, crl):
        return Status.REVOKED
    # RFC 5280, section 4.1.2.5: both ends belong to the time it is valid in.
    if now > certificate.not_valid_after_utc:
        return Status.EXPIRED
    if now < certificate.not_valid_before_utc:
        return Status.NOT_YET_VALID
    if now + within > certificate.not_valid_after_utc:
        return Status.EXPIRING
    return Status.VALID


def isRevoked(
    certificate: x509.Certificate, crl: x509.CertificateRevocationList | None
) -> bool:
    """
    Whether the list names the certificate.
    """
    serial = certificate.serial_number
    return (
        crl is not None
        and crl.get_revoked_certificate_by_serial_number(serial) is not None
    )


def isListOf(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """
    Whether the authority's name and signature are on the revocation list.
    """
    try:
        return crl.issuer == authority.subject and crl.is_signature_valid(
            authority.public_key()  # type: ignore[arg-type]  # else TypeError
        )
    except TypeError:
        return False


def leafProblems(
    certificate: x509.Certificate,
    name: str,
    authorities: Sequence[x509.Certificate],
    crl: x509.CertificateRevocationList | None = None,
) -> Iterator[str]:
    """
    Why a certificate does not serve C{name} as it should, whatever the time.

    @param name: C{"server"} or a client's name.
    @param authorities: One of these should have signed it.
    @param crl: The list of revoked certificates, if there is one.
    """
    role = Role.of(name)
    for problem in (
        whyForeign(certificate, role, authorities, crl),
        whyWrongPurpose(certificate, role),
        whyMisnamed(certificate, role, name),
        whyWeak(certificate.public_key()),
    ):
        if problem:
            yield problem


def whyVoid(
    certificate: x509.Certificate,
    role: Role,
    authorities: Sequence[x509.Certificate],
    crl: x509.CertificateRevocationList | None = None,
) -> str | None:
    """
    Why the other side is sure to refuse a certificate, whatever the time. What
    is wrong with one that comes in nevertheless is among L{leafProblems} alone.

    @param authorities: Those that the other side trusts.
    @param crl: The list of revoked certificates that it has, if any.
    """
    if problem := whyForeign(certificate, role, authorities, crl):
        return problem
    if not allows(certificate, role.usage):
        return whyWrongPurpose(certificate, role)
    return _whyNameless(certificate, role)


def whyForeign(
    certificate: x509.Certificate,
    role: Role,
    authorities: Sequence[x509.Certificate],
    crl: x509.CertificateRevocationList | None = None,
) -> str | None:
    """
    Why a certificate is not of a trusted authority. A service that has a
    revocation list wants one of the client's authority.
    """
    signers = [each for each in authorities if isSignedBy(certificate, each)]
    if not signers:
        return "another authority signed it"
    if role is Role.SERVER or crl is None:
        return None
    if not any(isListOf(crl, each) for each in signers):
        return "the revocation list is not of the authority that signed it"
    return None


def whyApart(certificate: x509.Certificate, key: PrivateKey) -> str | None:
    """
    Why a certificate and a private key are no pair.
    """
    if certificate.public_key() == key.public_key():
        return None
    return "the certificate and its key do not belong together"


def whyNotNow(certificate: x509.Certificate, now: datetime) -> str | None:
    """
    Why a certificate is not valid at C{now}.
    """
    status = statusOf(certificate, now)
    if status is Status.EXPIRED:
        return f"expired {toSeconds(certificate.not_valid_after_utc.timestamp())}"
    if status is Status.NOT_YET_VALID:
        since = toSeconds(certificate.not_valid_before_utc.timestamp())
        return f"not valid before {since}, and it is {toSeconds(now.timestamp())}"
    return None


def vouchedFor(
    between: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """
    The authorities, and those that they vouch for.

    @param between: What follows a certificate in its file: who has signed it, who has
        signed that, and so on (RFC 8446, section 4.4.2).
    """
    known = list(authorities)
    for one in reversed(between):
        if any(isSignedBy(one, each) for each in known):
            known.append(one)
    return known


def whyNoAuthority(
    certificate: x509.Certificate, others: Sequence[x509.Certificate] = ()
) -> str | None:
    """
    Why a certificate cannot be that of the authority.

    @param others: Trusted as well: one of these may have signed it.
    """
    extensions = certificate.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return "not an authority's certificate (no basicConstraints or no keyUsage)"
    if not constraints.ca:
        return "not an authority's certificate (basicConstraints without CA)"
    if not usage.key_cert_sign or not usage.crl_sign:
        return "not an authority's certificate (keyUsage without keyCertSign, cRLSign)"
    if not any(isSignedBy(certificate, each) for each in (certificate, *others)):
        return "not a root: another authority signed it"
    return whyWeak(certificate.public_key())


def whyWeak(key: PublicKeyTypes) -> str | None:
    """
    Why a public key is not good enough.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            return f"an RSA key of {key.key_size} bits, and {MIN_RSA_BITS} is the least"
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, CURVES):
            return f"a key on the curve {key.curve.name}, which TLS 1.3 does not know"
        return None
    return "a key of a kind that TLS 1.3 does not sign with"


def whyWrongPurpose(certificate: x509.Certificate, role: Role) -> str | None:
    """
    Why a certificate does not serve C{role}, and that alone.
    """
    try:
        usages = list(
            certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        )
    except x509.ExtensionNotFound:
        return "says nothing of its purpose (no extended key usage)"
    name = f"{role.value}Auth"
    if not allows(certificate, role.usage):
        return f"not for {role.value}s (extended key usage without {name})"
    if len(usages) > 1:
        return f"for more than {role.value}s (extended key usage beside {name})"
    return None


def whyMisnamed(certificate: x509.Certificate, role: Role, name: str) -> str | None:
    """
    Why a certificate does not name whom it should.

    @param name: The name of the client whose certificate it should be.
    """
    problem = _whyNameless(certificate, role)
    if problem or role is Role.SERVER:
        return problem
    actual = identityFrom(certificate).name
    return None if actual == name else f"names {actual!r} and not {name!r}"


def _whyNameless(certificate: x509.Certificate, role: Role) -> str | None:
    """
    Why a certificate names nobody.
    """
    if role is Role.SERVER:
        if not hostsOf(certificate):
            return "names no host (no subject alternative name of a right type)"
        return None
    try:
        identityFrom(certificate)
    except UnacceptableCertificate as error:
        return str(error)
    return None


def whyNotFor(certificate: x509.Certificate, host: str) -> str | None:
    """
    Why a client that calls the server C{host} would refuse the certificate (RFC
    9525).
    """
    # Here, because it costs all of pyOpenSSL, and few ask.
    from service_identity import CertificateError, VerificationError
    from service_identity.cryptography import (
        verify_certificate_hostname,
        verify_certificate_ip_address,
    )

    isAddress = isinstance(hostAlternativeName(host), x509.IPAddress)
    verify = verify_certificate_ip_address if isAddress else verify_certificate_hostname
    try:
        verify(certificate, host)
    except CertificateError as error:
        return f"for nobody's use: {error}"
    except VerificationError:
        names = ", ".join(hostsOf(certificate)) or "no host"
        return f"not for {host}: it names {names}"
    return None
