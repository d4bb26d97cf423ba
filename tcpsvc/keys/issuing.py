# -*- test-case-name: tests.test_keys_issuing -*-

"""
The certificate authority of a small lab: what the certificates, requests and
revocation lists that we make look like.

Pure: works on L{cryptography.x509} objects and opens no file. The profile is
that of RFC 5280, so that C{openssl verify -x509_strict} has nothing to say:
P-256 and SHA-256, each certificate for one purpose, and all of them from a root
that signs nothing but leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import cast

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PublicKeyTypes,
)
from cryptography.x509.oid import NameOID

from tcpsvc.identity import MAX_NAME_LENGTH
from tcpsvc.keyfiles import PrivateKey
from tcpsvc.keys.names import (
    BadArgument,
    clientAlternativeName,
    clientName,
    serverAlternativeName,
)
from tcpsvc.keys.rules import Role

CLOCK_SKEW = timedelta(minutes=10)
"""
How far a certificate's beginning lies back, for the sake of slow clocks.
"""

AUTHORITY_LIFETIME = timedelta(days=3652)
LEAF_LIFETIME = timedelta(days=365)


@frozen
class Bearer:
    """
    Who a certificate is for.

    @ivar role: What it may do.
    @ivar name: The subject's common name.
    @ivar names: The subject alternative names.
    """

    role: Role
    name: str
    names: tuple[x509.GeneralName, ...]

    @classmethod
    def client(cls, name: str) -> Bearer:
        """
        A client of this name.

        @raise BadArgument: If no client can be called that.
        """
        return cls(Role.CLIENT, clientName(name), (clientAlternativeName(name),))

    @classmethod
    def server(cls, hosts: Sequence[str]) -> Bearer:
        """
        A server that is called by these host names and IP addresses. The first
        is its common name too, as far as it fits, for people only: clients look
        at the alternative names (RFC 9525, section 2).

        @raise BadArgument: If there is none, or one is neither.
        """
        if not hosts:
            raise BadArgument("a server's certificate needs a host name or IP address")
        names = dict.fromkeys(serverAlternativeName(host) for host in hosts)
        return cls(Role.SERVER, hosts[0][:MAX_NAME_LENGTH], tuple(names))


@frozen
class Authority:
    """
    A certificate and its private key, with which others are signed.
    """

    certificate: x509.Certificate
    key: PrivateKey

    @classmethod
    def create(cls, now: datetime) -> Authority:
        """
        Make a new one, with a name unlike that of any other.
        """
        key = newKey()
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        name = _named(f"tcpsvc CA {identifier.digest.hex()[:8]}")
        certificate = (
            _template(key.public_key(), now, now + AUTHORITY_LIFETIME)
            .subject_name(name)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_keyUsage(signsCertificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def issue(
        self, bearer: Bearer, publicKey: PublicKeyTypes, now: datetime
    ) -> x509.Certificate:
        """
        Sign a certificate, which ends with the authority's own at the latest.

        @param publicKey: The key of the bearer, in which
            L{tcpsvc.keys.rules.whyWeak} finds nothing wrong.
        """
        end = min(now + LEAF_LIFETIME, self.certificate.not_valid_after_utc)
        return (
            _template(cast(CertificatePublicKeyTypes, publicKey), now, end)
            .subject_name(_named(bearer.name))
            .issuer_name(self.certificate.subject)
            .add_extension(
                x509.BasicConstraints(ca=False, path_length=None), critical=True
            )
            .add_extension(_keyUsage(signsCertificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([bearer.role.usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(bearer.names), critical=False)
            .add_extension(self._keyIdentifier(), critical=False)
            .sign(self.key, self._digest())
        )

    def listRevoked(
        self,
        former: x509.CertificateRevocationList | None,
        serials: Iterable[int],
        now: datetime,
    ) -> x509.CertificateRevocationList:
        """
        Sign a revocation list (RFC 5280, section 5), which does not expire
        before the authority: an expired one would turn everybody away.

        @param former: The list that this one takes the place of; its entries
            are kept.
        @param serials: The serial numbers that it does not have yet.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - CLOCK_SKEW)
            .next_update(self.certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(_numberOf(former) + 1), critical=False)
            .add_extension(self._keyIdentifier(), critical=False)
        )
        for entry in former or ():
            builder = builder.add_revoked_certificate(entry)
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(now)
                .build()
            )
        return builder.sign(self.key, self._digest())

    def _keyIdentifier(self) -> x509.AuthorityKeyIdentifier:
        """
        What points from a certificate to the key that signed it.
        """
        try:
            own = self.certificate.extensions.get_extension_for_class(
                x509.SubjectKeyIdentifier
            ).value
        except x509.ExtensionNotFound:
            own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)

    def _digest(self) -> hashes.SHA256 | None:
        """
        The digest to sign with; Ed25519 has its own (RFC 8410).
        """
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return None
        return hashes.SHA256()


def newKey() -> ec.EllipticCurvePrivateKey:
    """
    @return: A new private key on P-256.
    """
    return ec.generate_private_key(ec.SECP256R1())


def requestFor(
    bearer: Bearer, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateSigningRequest:
    """
    Ask for a certificate (RFC 2986).

    @param key: The bearer's private key.
    """
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_named(bearer.name))
        .add_extension(x509.SubjectAlternativeName(bearer.names), critical=False)
        .sign(key, hashes.SHA256())
    )


def _named(name: str) -> x509.Name:
    """
    A subject that is a common name and nothing else.
    """
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _template(
    key: CertificatePublicKeyTypes, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    """
    What every certificate has.
    """
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _keyUsage(*, signsCertificates: bool) -> x509.KeyUsage:
    """
    What the key of an authority, or that of a leaf, is for (RFC 5280, section
    4.2.1.3).
    """
    return x509.KeyUsage(
        digital_signature=not signsCertificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signsCertificates,
        crl_sign=signsCertificates,
        encipher_only=False,
        decipher_only=False,
    )


def _numberOf(crl: x509.CertificateRevocationList | None) -> int:
    """
    The number of a revocation list (RFC 5280, section 5.2.3), or 0.
    """
    if crl is None:
        return 0
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0
