# -*- test-case-name: tests.test_keyfiles -*-

"""
Where keys and certificates lie, and how they are read from there.

Whatever is wrong with a file becomes a L{KeyFileError}, whose message is one
line that says what happened, to which file, and what to do.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Callable, TypeVar

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
"""
The kinds of private keys that TLS 1.3 signs with.
"""

MAX_FILE_SIZE = 16 * 1024 * 1024
"""
The most octets that are read of a key, certificate or revocation list.
"""

_T = TypeVar("_T")


class KeyFileError(Exception):
    """
    A key, certificate or revocation list cannot be used as it is.
    """


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
        names = {path.name[: -len(".pem")] for path in self.clients.glob("*.pem")}
        return sorted(
            name for name in names if not self._isKeyOfAnother(name, names)
        )

    @staticmethod
    def _isKeyOfAnother(name: str, names: set[str]) -> bool:
        """
        Whether C{name.pem} is the key of another client, not a certificate.
        """
        return name.endswith("-key") and name[: -len("-key")] in names


def readCertificate(path: Path) -> x509.Certificate:
    """
    Read the first certificate of a PEM file.

    @raise KeyFileError: If there is none that can be read.
    """
    return _parsed(path, _contents(path), "certificate", x509.load_pem_x509_certificate)


def readCRL(path: Path) -> x509.CertificateRevocationList:
    """
    Read a certificate revocation list from a PEM file.

    @raise KeyFileError: If there is none that can be read.
    """
    return _parsed(
        path, _contents(path), "certificate revocation list", x509.load_pem_x509_crl
    )


def readPrivateKey(path: Path) -> PrivateKey:
    """
    Read a private key from a PEM file that nobody but its owner can read.

    @raise KeyFileError: If there is none, if others can read it, or if it has
        a passphrase.
    """
    contents = _contents(path)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        raise KeyFileError(
            f"{path}: this private key can be read by others (mode {mode:04o}); "
            f"run: chmod 600 {path}"
        )
    try:
        key = _parsed(
            path, contents, "private key", lambda pem: load_pem_private_key(pem, None)
        )
    except TypeError:
        raise KeyFileError(
            f"{path}: this private key has a passphrase; a service starts without "
            f"one: openssl pkey -in {path} -out NEW"
        ) from None
    if not isinstance(key, PrivateKey):
        raise KeyFileError(
            f"{path}: a {type(key).__name__} cannot sign for TLS; use P-256"
        )
    return key


def _contents(path: Path) -> bytes:
    """
    The octets of a file, L{MAX_FILE_SIZE} at most.
    """
    try:
        with path.open("rb") as file:
            contents = file.read(MAX_FILE_SIZE + 1)
    except FileNotFoundError:
        raise KeyFileError(
            f"{path}: there is no such file; `tcpsvc keys init` makes one"
        ) from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    if len(contents) > MAX_FILE_SIZE:
        raise KeyFileError(f"{path}: more than {MAX_FILE_SIZE} octets; not a PEM file")
    return contents


def _parsed(path: Path, contents: bytes, what: str, load: Callable[[bytes], _T]) -> _T:
    """
    What C{load} makes of the contents.

    @raise KeyFileError: If C{load} raises a L{ValueError}.
    """
    try:
        return load(contents)
    except ValueError:
        raise KeyFileError(
            f"{path}: there is no {what} in PEM format in it"
        ) from None
