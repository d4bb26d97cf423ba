# -*- test-case-name: tests.test_keys_check -*-

"""
What is wrong in a directory of keys, and how to mend it.

Pure data out of files that are only read: nothing is printed or changed here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from attrs import define, field, frozen
from cryptography import x509

from tcpsvc.keyfiles import (
    BrokenKeyFile,
    KeyDirectory,
    PairFiles,
    readCertificate,
    readCertificates,
    readCRL,
    readPrivateKey,
    readPublicKey,
)
from tcpsvc.keys.advice import command, relist, remake, renewal
from tcpsvc.keys.authority import readRevoked
from tcpsvc.keys.names import hostAlternativeName, serverHosts
from tcpsvc.keys.rules import (
    Role,
    Status,
    isListOf,
    leafProblems,
    statusOf,
    vouchedFor,
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
    authorities: list[x509.Certificate] = field(factory=list)
    crl: x509.CertificateRevocationList | None = None

    def authority(self) -> None:
        """
        Look at the authorities and the revocation list. The first is the one
        that signs; more are trusted while one takes the place of another.
        """
        pair = self.directory.pair("ca")
        if not os.path.lexists(pair.certificate):
            self._note(pair.certificate, "there is no such file", self._authorityAnew())
            return
        self.authorities = self._read(readCertificates, pair.certificate) or []
        for number, certificate in enumerate(self.authorities):
            anew = f"take number {number + 1} out of it"
            if number == 0:
                anew = remake(self.directory, "ca")
                self._key(pair, certificate)
            problem = whyNoAuthority(certificate, self.authorities)
            self._note(pair.certificate, problem, anew)
            self._time(pair.certificate, certificate, anew)
        if os.path.lexists(self.directory.crl):
            self._revocationList()
        elif self.directory.server.exists() or self.directory.caKey.exists():
            self._note(
                self.directory.crl,
                "there is no such file, so nobody is revoked",
                f"bring it back from a copy, or {relist(self.directory)}",
                isError=False,
            )

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
        hosts = serverHosts(certificate)
        anew = remake(self.directory, pair.name, hosts)
        if self.authorities:
            between = (self._read(readCertificates, pair.certificate) or [])[1:]
            signers = vouchedFor(between, self.authorities)
            for problem in leafProblems(certificate, pair.name, signers, self.crl):
                self._note(pair.certificate, problem, anew)
        if Role.of(pair.name) is Role.SERVER and self.host and hosts:
            wanted = remake(self.directory, pair.name, [*hosts, self.host])
            self._note(pair.certificate, whyNotFor(certificate, self.host), wanted)
        self._time(pair.certificate, certificate, renewal(self.directory, pair.name))
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
            same = readPublicKey(public) == key.public_key()
        except BrokenKeyFile:
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
        if not self.authorities:
            self._read(readCRL, path)
            return
        crl = self._read(lambda _: readRevoked(self.directory, *self.authorities), path)
        if crl is None:
            return
        self.crl, anew = crl, relist(self.directory)
        end = crl.next_update_utc
        ca = next(each for each in self.authorities if isListOf(crl, each))
        if end is None or end < self.now:
            self._note(path, "the revocation list has expired", anew)
        elif end < ca.not_valid_after_utc:
            expires = toSeconds(end.timestamp())
            problem = f"expires {expires}, before the authority"
            self._note(path, problem, anew, isError=False)
        if crl.last_update_utc > self.now:
            begins = toSeconds(crl.last_update_utc.timestamp())
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

    def _authorityAnew(self) -> str:
        """
        What brings the authority's certificate here.
        """
        if not filesIn(self.directory):
            return command(self.directory, "init")
        anew = remake(self.directory, "ca")
        if self.directory.caKey.exists():
            return f"bring it back from a copy; if there is none, {anew}"
        return anew

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
            if not filesIn(self.directory):
                anew = command(self.directory, "init")
            self._note(pair.certificate, "there is no such file", anew)

    def _key(self, pair: PairFiles, certificate: x509.Certificate) -> None:
        """
        Look at a certificate's key. Only the server's has to be here.
        """
        anew = remake(self.directory, pair.name, serverHosts(certificate))
        if not pair.key.exists():
            if pair.name == "server":
                self._note(pair.key, "there is no such file", anew)
            return
        key = self._read(readPrivateKey, pair.key)
        if key:
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
