# -*- test-case-name: tests.test_keyfiles -*-

"""
Where keys and certificates lie, and how they are read from there.

Whatever is wrong with a file becomes a L{KeyFileError}, whose message is one
line that says what happened, to which file, and what to do.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    PrivateKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from tcpsvc.pemfiles import (
    NAMED,
    BrokenKeyFile,
    KeyFileError,
    Mends,
    NoSuchKeyFile,
    contentsOf,
    mendsOf,
    parsed,
)

__all__ = [
    "BrokenKeyFile",
    "KeyDirectory",
    "KeyFileError",
    "NoSuchKeyFile",
    "PairFiles",
    "PrivateKey",
    "readCRL",
    "readCertificate",
    "readCertificates",
    "readPrivateKey",
    "readPublicKey",
    "readRequest",
]

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
"""
The kinds of private keys that TLS 1.3 signs with.
"""

_LOST_LIST = (
    "bring it back from a copy; if there is none, move it away and revoke "
    "everybody again"
)

_T = TypeVar("_T")


@frozen
class PairFiles:
    """
    The files of one certificate and its private key.

    @ivar name: C{"ca"}, C{"server"}, or the client's name.
    @ivar certificate: Where the certificate is.
    @ivar key: Where the private key is, which may be elsewhere altogether.
    """

    name: str
    certificate: Path
    key: Path

    @property
    def request(self) -> Path:
        """The request for a certificate (RFC 2986)."""
        return self.certificate.with_suffix(".csr")

    @property
    def bundle(self) -> Path:
        """Both in one file with a passphrase (PKCS #12, RFC 7292)."""
        return self.certificate.with_suffix(".p12")


@frozen
class KeyDirectory:
    """
    The names of the files in a directory of keys.

    @ivar path: The directory; it need not exist.
    """

    path: Path

    @property
    def ca(self) -> Path:
        """The certificate of the authority."""
        return self.path / "ca.pem"

    @property
    def caKey(self) -> Path:
        """The authority's private key."""
        return self.path / "ca-key.pem"

    @property
    def server(self) -> Path:
        """The server's certificate."""
        return self.path / "server.pem"

    @property
    def serverKey(self) -> Path:
        """The server's private key."""
        return self.path / "server-key.pem"

    @property
    def crl(self) -> Path:
        """The list of revoked certificates; there may be none."""
        return self.path / "crl.pem"

    @property
    def clients(self) -> Path:
        """The directory of the clients' pairs."""
        return self.path / "clients"

    @property
    def former(self) -> Path:
        """The directory of the certificates that others took the place of."""
        return self.path / "former"

    @property
    def auditKey(self) -> Path:
        """The private key that signs the audit trail."""
        return self.path / "audit-key.pem"

    @property
    def audit(self) -> Path:
        """The public half of L{auditKey}."""
        return self.path / "audit.pem"

    def client(self, name: str) -> Path:
        """The certificate of the client C{name}."""
        return self.clients / f"{name}.pem"

    def clientKey(self, name: str) -> Path:
        """The private key of the client C{name}."""
        return self.clients / f"{name}-key.pem"

    def clientNames(self) -> list[str]:
        """
        @return: The names of the clients whose certificates are here, sorted.
        """
        names = (path.name.removesuffix(".pem") for path in self.clients.glob("*.pem"))
        return sorted(name for name in names if not name.endswith("-key"))

    def pair(self, name: str) -> PairFiles:
        """
        @param name: C{"ca"}, C{"server"}, or a client's name.
        @return: The files of that name; they need not exist.
        """
        if name == "ca":
            return PairFiles(name, self.ca, self.caKey)
        if name == "server":
            return PairFiles(name, self.server, self.serverKey)
        return PairFiles(name, self.client(name), self.clientKey(name))

    def pairs(self) -> list[PairFiles]:
        """
        @return: The pairs whose certificates are here: the authority's, the
            server's, and the clients' sorted by name.
        """
        pairs = [self.pair(name) for name in ("ca", "server", *self.clientNames())]
        return [pair for pair in pairs if pair.certificate.exists()]

    def formerOf(self, name: str) -> list[Path]:
        """
        @param name: C{"ca"}, C{"server"}, or a client's name.
        @return: The certificates that C{name} had before, in no order that
            means anything.
        """
        return sorted(
            path
            for path in self.former.glob("*.pem")
            if path.name.rpartition("-")[0] == name
        )


def readCertificate(path: Path) -> x509.Certificate:
    """
    Read the first certificate of a PEM file.

    @raise KeyFileError: If there is none that can be read.
    """
    return _read(path, "certificate", _loadCertificate, mendsOf(path))


def readCertificates(path: Path) -> list[x509.Certificate]:
    """
    Read all certificates of a PEM file, in their order.

    @raise KeyFileError: If there is none that can be read.
    """
    return _read(path, "certificate", _loadCertificates, mendsOf(path))


def readCRL(path: Path) -> x509.CertificateRevocationList:
    """
    Read a certificate revocation list from a PEM file.

    @raise KeyFileError: If there is none that can be read, or more than one.
    """
    mends = Mends(_LOST_LIST, _LOST_LIST)
    contents, _ = contentsOf(path, mends)
    if contents.count(b"-----BEGIN X509 CRL-----") > 1:
        raise BrokenKeyFile(
            path,
            "more than one certificate revocation list in it",
            "leave that of the authority that signs the clients",
        )
    what = "certificate revocation list"
    return parsed(path, contents, what, x509.load_pem_x509_crl, mends)


def readRequest(path: Path) -> x509.CertificateSigningRequest:
    """
    Read a request for a certificate (RFC 2986) from a PEM file.

    @raise KeyFileError: If there is none that can be read.
    """
    return _read(path, "certificate request", _loadRequest, NAMED)


def readPrivateKey(path: Path) -> PrivateKey:
    """
    Read a private key from a PEM file that nobody but its owner can read.

    @raise KeyFileError: If there is none, if others can read it, or if it has
        a passphrase.
    """
    mends = mendsOf(path)
    contents, mode = contentsOf(path, mends)
    if mode & 0o077:
        raise BrokenKeyFile(
            path,
            f"this private key can be read by others (mode {mode:04o})",
            f"chmod 600 {shlex.quote(str(path))}",
        )

    def load(pem: bytes) -> PrivateKeyTypes:
        try:
            return load_pem_private_key(pem, None)
        except TypeError:
            raise BrokenKeyFile(
                path,
                "this private key has a passphrase",
                "a service starts without one: "
                f"openssl pkey -in {shlex.quote(str(path))} -out NEW",
            ) from None

    key = parsed(path, contents, "private key", load, mends)
    if not isinstance(key, PrivateKey):
        raise BrokenKeyFile(
            path, f"a {type(key).__name__} cannot sign for TLS", "use P-256"
        )
    return key


def readPublicKey(path: Path) -> PublicKeyTypes:
    """
    Read a public key from a PEM file.

    @raise KeyFileError: If there is none that can be read.
    """
    return _read(path, "public key", load_pem_public_key, mendsOf(path))


def _read(path: Path, what: str, load: Callable[[bytes], _T], mends: Mends) -> _T:
    """
    What C{load} makes of a file.

    @raise KeyFileError: If it is not there or C{load} does not understand it.
    """
    contents, _ = contentsOf(path, mends)
    return parsed(path, contents, what, load, mends)


def _loadCertificate(pem: bytes) -> x509.Certificate:
    """
    Load the first certificate with all its parts.
    """
    return _whole(x509.load_pem_x509_certificate(pem))


def _loadCertificates(pem: bytes) -> list[x509.Certificate]:
    """
    Load all certificates with all their parts.
    """
    return [_whole(each) for each in x509.load_pem_x509_certificates(pem)]


def _whole(certificate: x509.Certificate) -> x509.Certificate:
    """
    Have all parts parsed, which otherwise are when they are first asked for.

    @raise ValueError: If the serial number is not positive (RFC 5280, section
        4.1.2.2). No revocation list could name it.
    """
    if certificate.serial_number <= 0:
        raise ValueError("the serial number is not positive")
    certificate.subject, certificate.extensions, certificate.public_key()
    return certificate


def _loadRequest(pem: bytes) -> x509.CertificateSigningRequest:
    """
    Load a request with all its parts, as L{_whole}.
    """
    request = x509.load_pem_x509_csr(pem)
    request.subject, request.extensions, request.public_key()
    return request
