# -*- test-case-name: tests.test_keys_listing -*-

"""
What certificates lie in a directory of keys, and how they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from attrs import frozen
from cryptography import x509

from tcpsvc.identity import alternativeNames, fingerprintOf
from tcpsvc.keyfiles import KeyDirectory, readCertificates
from tcpsvc.keys.authority import readRevoked
from tcpsvc.keys.names import commonNameOf
from tcpsvc.keys.rules import EXPIRING, Role, Status, statusOf, vouchedFor, whyVoid
from tcpsvc.times import toSeconds


@frozen
class Entry:
    """
    One certificate of a directory, as a list shows it.

    @ivar name: C{"ca"}, C{"server"}, or the client's name.
    @ivar path: Where it is.
    @ivar status: How it stands.
    @ivar reason: Why it is void, if it is.
    """

    name: str
    path: Path
    certificate: x509.Certificate
    status: Status
    reason: str | None = None

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
    judge = _Judge.of(directory, now, within)
    return [
        judge.entry(pair.name, pair.certificate, [Role.of(pair.name)])
        for pair in directory.pairs()
    ]


def entryOf(
    directory: KeyDirectory, name: str | None, path: Path, now: datetime
) -> Entry:
    """
    One certificate, of the directory or from elsewhere.

    @param name: Whose it is: C{"ca"}, C{"server"} or a client's name; L{None} if
        nobody knows, when it is not void if it serves anybody.

    @raise KeyFileError: If it cannot be read.
    """
    roles = list(Role) if name is None else [Role.of(name)]
    return _Judge.of(directory, now, EXPIRING).entry(name, path, roles)


@frozen
class _Judge:
    """
    What certificates are held against.
    """

    authorities: Sequence[x509.Certificate]
    crl: x509.CertificateRevocationList | None
    now: datetime
    within: timedelta

    @classmethod
    def of(cls, directory: KeyDirectory, now: datetime, within: timedelta) -> _Judge:
        """
        Read the authorities and the revocation list of a directory.
        """
        authorities = readCertificates(directory.ca)
        return cls(authorities, readRevoked(directory, *authorities), now, within)

    def entry(self, name: str | None, path: Path, roles: Sequence[Role]) -> Entry:
        """
        The certificate in a file.
        """
        certificate, *between = readCertificates(path)
        status = statusOf(certificate, self.now, self.crl, self.within)
        reason = self._whyVoid(certificate, between, roles)
        if status is Status.REVOKED:
            reason = None
        elif reason:
            status = Status.VOID
        name = name or commonNameOf(certificate.subject)
        return Entry(name, path, certificate, status, reason)

    def _whyVoid(
        self,
        certificate: x509.Certificate,
        between: Sequence[x509.Certificate],
        roles: Sequence[Role],
    ) -> str | None:
        """
        Why a certificate serves none of these.
        """
        if certificate in self.authorities:
            return None
        signers = vouchedFor(between, self.authorities)
        reasons = [whyVoid(certificate, role, signers, self.crl) for role in roles]
        return None if None in reasons else reasons[0]
