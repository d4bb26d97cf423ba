# -*- test-case-name: tests.test_keys_check -*-

"""
What is wrong in a directory of keys, and how to mend it.

Pure data out of files that are only read: nothing is printed or changed here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tcpsvc.keyfiles import (
    BrokenKeyFile,
    KeyDirectory,
    PairFiles,
    readCertificate,
    readCRL,
    readPrivateKey,
)
from tcpsvc.keys.advice import command, remake
from tcpsvc.keys.authority import readRevoked
from tcpsvc.keys.names import hostAlternativeName, hostsOf
from tcpsvc.keys.rules import (
    Role,
    Status,
    leafProblems,
    statusOf,
    whyApart,
    whyNoAuthority,
    whyNotFor,
    whyNotNow,
)
from tcpsvc.times import toSeconds

_T = TypeVar("_T")


@frozen
class Finding:
    """
    Something that is wrong.

    @ivar path: With which file.
    @ivar problem: What, as a phrase.
    @ivar mend: What to do, as a phrase or a command line.
    @ivar isError: Whether something does not work; otherwise it soon will not.
    """

    path: Path
    problem: str
    mend: str
    isError: bool = True

    def asLine(self) -> str:
        """
        @return: It all in one line for people.
        """
        warning = "" if self.isError else "warning: "
        return f"{self.path}: {warning}{self.problem}; mend: {self.mend}"


def check(
    directory: KeyDirectory, now: datetime, host: str | None = None
) -> list[Finding]:
    """
    Look at everything in a directory.

    It may be the authority's, a server's to which the authority's key never
    came, or a client's, where nobody misses the server's pair.

    @param host: What clients call the server, if its name is to be checked.

    @raise tcpsvc.keys.names.BadArgument: If C{host} is neither a host name nor an
        IP address.
    """
    if host is not None:
        hostAlternativeName(host)
    examination = _Examination(directory, now, host)
    examination.authority()
    for name in ("server", *_names(directory)):
        examination.pair(directory.pair(name))
    examination.audit()
    return examination.findings


def filesIn(directory: KeyDirectory) -> list[Path]:
    """
    @return: The files that L{check} looks at and that are there.
    """
    pairs = [directory.pair(name) for name in ("ca", "server", *_names(directory))]
    paths = [directory.crl, directory.auditKey, directory.audit]
    paths += [path for pair in pairs for path in (pair.certificate, pair.key)]
    return [path for path in paths if path.exists()]


def _names(directory: KeyDirectory) -> list[str]:
    """
    The clients who have a certificate here, or a key, or both.
    """
    keys = (path.name for path in directory.clients.glob("*-key.pem"))
    waiting = (name.removesuffix("-key.pem") for name in keys)
    return sorted({*directory.clientNames(), *waiting})


@define
class _Examination:
    """
    A look at a directory, file by file.
    """

    directory: KeyDirectory
    now: datetime
    host: str | None
    findings: list[Finding] = field(factory=list)
    ca: x509.Certificate | None = None
    crl: x509.CertificateRevocationList | None = None

    def authority(self) -> None:
        """
        Look at the authority and its revocation list.
        """
        pair = self.directory.pair("ca")
        if self._isOfClient() and not pair.certificate.exists():
            self._note(pair.certificate, "there is no such file", "ask for it")
            return
        self.ca = self._read(readCertificate, pair.certificate)
        if self.ca:
            anew = remake(self.directory, "ca")
            self._note(pair.certificate, whyNoAuthority(self.ca), anew)
            self._time(pair.certificate, self.ca, anew)
            self._key(pair, self.ca)
        if self.directory.crl.exists():
            self._revocationList()

    def pair(self, pair: PairFiles) -> None:
        """
        Look at a certificate and its key, if they should be here.
        """
        if not pair.certificate.exists():
            if self._isMissed(pair):
                self._lacksCertificate(pair)
            return
        certificate = self._read(readCertificate, pair.certificate)
        if certificate is None:
            return
        hosts = hostsOf(certificate)
        anew = remake(self.directory, pair.name, hosts)
        if self.ca:
            for problem in leafProblems(certificate, pair.name, self.ca):
                self._note(pair.certificate, problem, anew)
        if Role.of(pair.name) is Role.SERVER and self.host and hosts:
            wanted = remake(self.directory, pair.name, [*hosts, self.host])
            self._note(pair.certificate, whyNotFor(certificate, self.host), wanted)
        renewal = command(self.directory, "renew", pair.name)
        self._time(pair.certificate, certificate, renewal)
        if statusOf(certificate, self.now, self.crl) is Status.REVOKED:
            self._note(pair.certificate, "revoked", f"remove it, or {anew}")
        self._key(pair, certificate)

    def audit(self) -> None:
        """
        Look at the key of the audit trail and its public half.
        """
        path, public = self.directory.auditKey, self.directory.audit
        if not path.exists():
            return
        key = self._read(readPrivateKey, path)
        if key is None:
            return
        try:
            same = load_pem_public_key(public.read_bytes()) == key.public_key()
        except (OSError, ValueError):
            same = False
        if not same:
            self._note(
                public,
                "not the public half of audit-key.pem",
                f"openssl pkey -in {path} -pubout -out {public}",
            )

    def _revocationList(self) -> None:
        """
        Look at the revocation list; OpenSSL turns everybody away for a bad one.
        """
        path = self.directory.crl
        if self.ca is None:
            self._read(readCRL, path)
            return
        ca = self.ca
        self.crl = self._read(lambda _: readRevoked(self.directory, ca), path)
        if self.crl is None:
            return
        anew = command(self.directory, "revoke")
        end = self.crl.next_update_utc
        if end is None or end < self.now:
            self._note(path, "the revocation list has expired", anew)
        elif end < ca.not_valid_after_utc:
            expires = toSeconds(end.timestamp())
            problem = f"expires {expires}, before the authority"
            self._note(path, problem, anew, isError=False)
        if self.crl.last_update_utc > self.now:
            begins = toSeconds(self.crl.last_update_utc.timestamp())
            self._note(path, f"not valid before {begins}", "look at the clock")

    def _isMissed(self, pair: PairFiles) -> bool:
        """
        Whether a certificate that is not here ought to be.
        """
        if Role.of(pair.name) is Role.CLIENT or pair.key.exists() or self.host:
            return True
        return not self._isOfClient()

    def _isOfClient(self) -> bool:
        """
        Whether the directory has a client's pair, and no key of the authority.
        """
        return bool(_names(self.directory)) and not self.directory.caKey.exists()

    def _lacksCertificate(self, pair: PairFiles) -> None:
        """
        Note that a certificate is not here.
        """
        if pair.key.exists() and pair.request.exists():
            signing = f"have {pair.request} signed, and put the certificate here"
            problem = "still waits for its certificate"
            self._note(pair.key, problem, signing, isError=False)
            self._read(readPrivateKey, pair.key)
        else:
            anew = remake(self.directory, pair.name)
            self._note(pair.certificate, "there is no such file", anew)

    def _key(self, pair: PairFiles, certificate: x509.Certificate) -> None:
        """
        Look at a certificate's key. Only the server's has to be here.
        """
        if not pair.key.exists() and pair.name != "server":
            return
        key = self._read(readPrivateKey, pair.key)
        if key:
            anew = remake(self.directory, pair.name, hostsOf(certificate))
            self._note(pair.certificate, whyApart(certificate, key), anew)

    def _time(self, path: Path, certificate: x509.Certificate, renewal: str) -> None:
        """
        Look at a certificate's beginning and end.
        """
        status = statusOf(certificate, self.now)
        mend = "look at the clock" if status is Status.NOT_YET_VALID else renewal
        self._note(path, whyNotNow(certificate, self.now), mend)
        if status is Status.EXPIRING:
            expires = toSeconds(certificate.not_valid_after_utc.timestamp())
            self._note(path, f"expires {expires}", renewal, isError=False)

    def _read(self, read: Callable[[Path], _T], path: Path) -> _T | None:
        """
        What C{read} makes of a file; L{None}, and a note, if it cannot.
        """
        try:
            return read(path)
        except BrokenKeyFile as error:
            self._note(error.path, error.problem, error.mend)
            return None

    def _note(
        self, path: Path, problem: str | None, mend: str, isError: bool = True
    ) -> None:
        """
        Note a problem, if there is one.
        """
        if problem:
            self.findings.append(Finding(path, problem, mend, isError))
