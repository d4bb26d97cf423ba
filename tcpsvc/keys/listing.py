# -*- test-case-name: tests.test_keys_listing -*-

"""
What certificates lie in a directory of keys, and how they stand.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from attrs import frozen
from cryptography import x509

from tcpsvc.identity import alternativeNames, fingerprintOf
from tcpsvc.keyfiles import KeyDirectory, readCertificate
from tcpsvc.keys.authority import readRevoked
from tcpsvc.keys.rules import EXPIRING, Role, Status, statusOf
from tcpsvc.times import toSeconds


@frozen
class Entry:
    """
    One certificate of a directory, as a list shows it.

    @ivar name: C{"ca"}, C{"server"}, or the client's name.
    @ivar path: Where it is.
    @ivar status: How it stands.
    """

    name: str
    path: Path
    certificate: x509.Certificate
    status: Status

    @property
    def role(self) -> str:
        """C{"ca"}, C{"server"} or C{"client"}."""
        return "ca" if self.name == "ca" else Role.of(self.name).value

    @property
    def expires(self) -> str:
        """When it ends: ISO 8601 in UTC."""
        return toSeconds(self.certificate.not_valid_after_utc.timestamp())

    @property
    def begins(self) -> str:
        """When it begins: ISO 8601 in UTC."""
        return toSeconds(self.certificate.not_valid_before_utc.timestamp())

    @property
    def fingerprint(self) -> str:
        """Its SHA-256 in lower-case hex, as in the audit trail."""
        return fingerprintOf(self.certificate)

    @property
    def serial(self) -> str:
        """Its serial number in lower-case hex, as in the audit trail."""
        return format(self.certificate.serial_number, "x")

    def asRecord(self) -> dict[str, object]:
        """
        @return: The entry as JSON primitives.
        """
        return {
            "name": self.name,
            "role": self.role,
            "fingerprint": self.fingerprint,
            "serial": self.serial,
            "names": list(alternativeNames(self.certificate)),
            "begins": self.begins,
            "expires": self.expires,
            "status": self.status.value,
            "path": str(self.path),
        }


def entries(
    directory: KeyDirectory, now: datetime, within: timedelta = EXPIRING
) -> list[Entry]:
    """
    The certificates that are here.

    @param within: How long before its end one is called expiring.

    @raise KeyFileError: If one cannot be read, or no authority is there.
    """
    crl = readRevoked(directory, readCertificate(directory.ca))
    return [
        _entry(pair.name, pair.certificate, now, crl, within)
        for pair in directory.pairs()
    ]


def entryOf(directory: KeyDirectory, name: str, path: Path, now: datetime) -> Entry:
    """
    One certificate, of the directory or from elsewhere.

    @raise KeyFileError: If it cannot be read.
    """
    crl = readRevoked(directory, readCertificate(directory.ca))
    return _entry(name, path, now, crl, EXPIRING)


def _entry(
    name: str,
    path: Path,
    now: datetime,
    crl: x509.CertificateRevocationList | None,
    within: timedelta,
) -> Entry:
    """
    The certificate in a file.
    """
    certificate = readCertificate(path)
    return Entry(name, path, certificate, statusOf(certificate, now, crl, within))
