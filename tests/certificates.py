"""
Certificates for tests: the right ones, and every wrong one.

Built on L{cryptography} and not on L{tcpsvc.keys}, which would refuse to make
most of the wrong ones, and which must not be tested by itself.

In memory::

    alice = authority().client("alice")          # a Pair
    server = authority().server("localhost", "127.0.0.1")
    late = authority().expired("alice")

On the disk::

    directory = writeKeys(Path(self.mktemp()), clients=("alice", "bob"))
    writePair(directory.client("eve"), directory.clientKey("eve"),
              otherAuthority().client("eve"))
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tcpsvc.keyfiles import KeyDirectory, PrivateKey

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH

NOW = datetime.now(timezone.utc).replace(microsecond=0)
"""
The moment at which all of these were made. Real, because OpenSSL asks the
real clock.
"""

DAY = timedelta(days=1)
SERVER_NAMES = ("localhost", "127.0.0.1", "::1")


@frozen
class Pair:
    """
    A certificate and the private key that belongs to it.
    """

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def certificatePEM(self) -> bytes:
        """The certificate in PEM format."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def keyPEM(self) -> bytes:
        """The private key in PEM format, without a passphrase."""
        return privatePEM(self.key)


class InPEM(Protocol):
    """
    What can be written to the files of a pair.
    """

    @property
    def certificatePEM(self) -> bytes:
        """The certificate in PEM format."""

    @property
    def keyPEM(self) -> bytes:
        """The private key in PEM format, without a passphrase."""


@frozen
class Authority(Pair):
    """
    A certificate authority that signs whatever it is asked to.

    All times are aware; C{notBefore} is an hour ago and C{notAfter} thirty-one
    days and more ahead, unless given.
    """

    def client(
        self,
        name: str | None = "alice",
        *,
        notBefore: datetime = NOW - DAY / 24,
        notAfter: datetime = NOW + 365 * DAY,
        usages: Sequence[x509.ObjectIdentifier] = (CLIENT_AUTH,),
        names: Sequence[x509.GeneralName] | None = None,
        isAuthority: bool = False,
        key: PrivateKey | None = None,
    ) -> Pair:
        """
        A client's pair.

        @param name: The common name; none at all if L{None}.
        @param usages: The extended key usages; no such extension if empty.
        @param names: The subject alternative names; C{DNS:NAME} if L{None} and
            the name is ASCII, no such extension if empty.
        @param isAuthority: What its basic constraints claim.
        @param key: Its key; a new one if L{None}.
        """
        if names is None:
            names = [x509.DNSName(name)] if name and name.isascii() else []
        return self._leaf(name, notBefore, notAfter, usages, names, isAuthority, key)

    def server(
        self,
        *hosts: str,
        notBefore: datetime = NOW - DAY / 24,
        notAfter: datetime = NOW + 365 * DAY,
        usages: Sequence[x509.ObjectIdentifier] = (SERVER_AUTH,),
        names: Sequence[x509.GeneralName] | None = None,
        key: PrivateKey | None = None,
    ) -> Pair:
        """
        A server's pair.

        @param hosts: Host names and IP addresses; L{SERVER_NAMES} if none.
        @param names: The subject alternative names instead of those of
            C{hosts}; no such extension if empty.
        """
        hosts = hosts or SERVER_NAMES
        if names is None:
            names = [hostName(host) for host in hosts]
        return self._leaf(hosts[0], notBefore, notAfter, usages, names, False, key)

    def expired(self, name: str = "alice") -> Pair:
        """A client's pair that was good until yesterday."""
        return self.client(name, notBefore=NOW - 30 * DAY, notAfter=NOW - DAY)

    def notYetValid(self, name: str = "alice") -> Pair:
        """A client's pair that is good from tomorrow."""
        return self.client(name, notBefore=NOW + DAY)

    def wrongPurpose(self, name: str = "alice") -> Pair:
        """A client's pair that is for servers only."""
        return self.client(name, usages=(SERVER_AUTH,))

    def noPurpose(self, name: str = "alice") -> Pair:
        """A client's pair without extended key usage."""
        return self.client(name, usages=())

    def withoutCommonName(self) -> Pair:
        """A client's pair that names nobody."""
        return self.client(None, names=[x509.DNSName("nobody")])

    def revocationList(
        self,
        *revoked: x509.Certificate,
        lastUpdate: datetime = NOW - DAY / 24,
        nextUpdate: datetime | None = None,
        number: int = 1,
    ) -> x509.CertificateRevocationList:
        """
        The list of these revoked certificates.

        @param nextUpdate: When it expires; with the authority if L{None}.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(lastUpdate)
            .next_update(nextUpdate or self.certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_keyIdentifierOf(self), critical=False)
        )
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(lastUpdate)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256())

    def _leaf(
        self,
        name: str | None,
        notBefore: datetime,
        notAfter: datetime,
        usages: Sequence[x509.ObjectIdentifier],
        names: Sequence[x509.GeneralName],
        isAuthority: bool,
        key: PrivateKey | None,
    ) -> Pair:
        """
        A pair signed by this authority.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = (
            _template(_subject(name), notBefore, notAfter, key)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(isAuthority, None), critical=True)
            .add_extension(_SIGNING, critical=True)
            .add_extension(_keyIdentifierOf(self), critical=False)
        )
        if usages:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage(usages), critical=False
            )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(names), critical=name is None
            )
        return Pair(builder.sign(self.key, hashes.SHA256()), key)


def newAuthority(
    name: str = "tcpsvc test CA",
    *,
    notBefore: datetime = NOW - 2 * DAY,
    notAfter: datetime = NOW + 3650 * DAY,
    isAuthority: bool | None = True,
    usage: x509.KeyUsage | None = None,
    by: Authority | None = None,
) -> Authority:
    """
    A new authority.

    @param isAuthority: What its basic constraints claim; no such extension if
        L{None}.
    @param usage: Its key usage; L{CERTIFICATE_SIGNING} if L{None}.
    @param by: Another authority, which signs it; it is a root if L{None}.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = (
        _template(subject, notBefore, notAfter, key)
        .issuer_name(by.certificate.subject if by else subject)
        .add_extension(usage or CERTIFICATE_SIGNING, critical=True)
    )
    if isAuthority is not None:
        builder = builder.add_extension(
            x509.BasicConstraints(isAuthority, 0 if isAuthority else None),
            critical=True,
        )
    signer = by.key if by else key
    return Authority(builder.sign(signer, hashes.SHA256()), key)


@cache
def authority() -> Authority:
    """
    The authority of all tests of this process.
    """
    return newAuthority()


@cache
def otherAuthority() -> Authority:
    """
    An authority that nobody trusts, of the same name as L{authority}.
    """
    return newAuthority()


def writeKeys(
    path: Path,
    *,
    clients: Sequence[str] = ("alice",),
    revoked: Sequence[str] = (),
    hosts: Sequence[str] = SERVER_NAMES,
    by: Authority | None = None,
) -> KeyDirectory:
    """
    Write a complete directory of keys.

    @param path: The directory; made if it is not there.
    @param clients: The names of the clients that get a pair.
    @param revoked: Those of them whose certificates C{crl.pem} lists.
    @param hosts: The names in the server's certificate.
    @param by: The authority that signs; L{authority} if L{None}.
    """
    by = by or authority()
    directory = KeyDirectory(path)
    writePair(path / "ca.pem", path / "ca-key.pem", by)
    writePair(path / "server.pem", path / "server-key.pem", by.server(*hosts))
    pairs = {name: by.client(name) for name in clients}
    for name, pair in pairs.items():
        writePair(directory.client(name), directory.clientKey(name), pair)
    writeRevocationList(
        directory, by.revocationList(*(pairs[name].certificate for name in revoked))
    )
    auditKey = ed25519.Ed25519PrivateKey.generate()
    writePrivate(path / "audit-key.pem", Pair(by.certificate, auditKey).keyPEM)
    (path / "audit.pem").write_bytes(
        auditKey.public_key().public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
    )
    return directory


def privatePEM(key: PrivateKey) -> bytes:
    """
    A private key in PEM format, without a passphrase.
    """
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def writePair(certificatePath: Path, keyPath: Path, pair: InPEM) -> None:
    """
    Write a pair, in place of whatever is there.
    """
    certificatePath.parent.mkdir(parents=True, exist_ok=True)
    writePrivate(keyPath, pair.keyPEM)
    certificatePath.write_bytes(pair.certificatePEM)


def writeRevocationList(
    directory: KeyDirectory, crl: x509.CertificateRevocationList
) -> None:
    """
    Write C{crl.pem}, in place of whatever is there.
    """
    directory.crl.write_bytes(crl.public_bytes(serialization.Encoding.PEM))


def writePrivate(path: Path, contents: bytes) -> None:
    """
    Write a file that its owner alone can read.
    """
    path.touch(0o600)
    path.chmod(0o600)
    path.write_bytes(contents)


def hostName(host: str) -> x509.GeneralName:
    """
    @return: An IP address or a host name as a subject alternative name.
    """
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def keyUsage(*, signsLeaves: bool, signsLists: bool, signs: bool) -> x509.KeyUsage:
    """
    @return: A key usage of these alone: keyCertSign, cRLSign, digitalSignature.
    """
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signsLeaves,
        crl_sign=signsLists,
        encipher_only=False,
        decipher_only=False,
    )


CERTIFICATE_SIGNING = keyUsage(signsLeaves=True, signsLists=True, signs=False)
_SIGNING = keyUsage(signsLeaves=False, signsLists=False, signs=True)


def _subject(name: str | None) -> x509.Name:
    """
    A subject of one common name, or of nothing.
    """
    if name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _template(
    subject: x509.Name, notBefore: datetime, notAfter: datetime, key: PrivateKey
) -> x509.CertificateBuilder:
    """
    What every certificate has.
    """
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .not_valid_before(notBefore)
        .not_valid_after(notAfter)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            critical=False,
        )
    )


def _keyIdentifierOf(issuer: Pair) -> x509.AuthorityKeyIdentifier:
    """
    The extension that points at the issuer's key.
    """
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        issuer.certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        ).value
    )
