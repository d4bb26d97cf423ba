# -*- test-case-name: tests.test_keys_authority -*-

"""
The authority as it lies in a directory of keys: its certificate, its private
key, and the list of what it has revoked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from tcpsvc.identity import isSignedBy
from tcpsvc.keyfiles import (
    BrokenKeyFile,
    KeyDirectory,
    NoSuchKeyFile,
    readCertificate,
    readCRL,
    readPrivateKey,
)
from tcpsvc.keys.advice import command, relist
from tcpsvc.keys.issuing import Authority
from tcpsvc.keys.rules import (
    isListOf,
    isRevoked,
    whyApart,
    whyNoAuthority,
    whyNotNow,
)
from tcpsvc.keys.writing import locked, writePEM

MAX_SERIAL = (1 << 159) - 1
"""
The greatest serial number that a revocation list can name: 20 bytes with its sign
(RFC 5280, section 4.1.2.2).
"""


def openAuthority(directory: KeyDirectory, now: datetime) -> Authority:
    """
    Read the authority, to sign with it.

    @raise KeyFileError: If it is not here or not fit for that.
    """
    certificate = readCertificate(directory.ca)
    try:
        key = readPrivateKey(directory.caKey)
    except NoSuchKeyFile:
        raise NoSuchKeyFile(
            directory.caKey, "the authority's key is not here", "do this where it is"
        ) from None
    problem = (
        whyNoAuthority(certificate)
        or whyApart(certificate, key)
        or whyNotNow(certificate, now)
    )
    if problem:
        raise BrokenKeyFile(
            directory.ca, problem, f"{command(directory, 'check')} says what to do"
        )
    return Authority(certificate, key)


def readRevoked(
    directory: KeyDirectory, *authorities: x509.Certificate
) -> x509.CertificateRevocationList | None:
    """
    Read the revocation list, if there is one.

    @param authorities: Whose list it may be.

    @raise KeyFileError: If it is not, or if its name leads nowhere: what was
        revoked is not to come back for a link that broke.
    """
    if not os.path.lexists(directory.crl):
        return None
    crl = readCRL(directory.crl)
    if not any(isListOf(crl, authority) for authority in authorities):
        raise BrokenKeyFile(
            directory.crl,
            "not signed by this authority",
            f"move it away, then {relist(directory)}",
        )
    return crl


def revoke(directory: KeyDirectory, serials: Iterable[int], now: datetime) -> list[int]:
    """
    Revoke certificates, and sign the list anew in any case.

    @return: The serial numbers that the list did not have before.
    """
    with locked(directory.path):
        authority = openAuthority(directory, now)
        crl = readRevoked(directory, authority.certificate)
        former = {entry.serial_number for entry in crl or ()}
        added = [serial for serial in dict.fromkeys(serials) if serial not in former]
        writePEM(directory.crl, authority.listRevoked(crl, added, now), replace=True)
    return added


def serialsOf(directory: KeyDirectory, path: Path, name: str | None) -> list[int]:
    """
    What to revoke, so that nobody comes in any more with a certificate.

    @param path: The certificate.
    @param name: Whose it is; the former ones of this name go with it, because
        its key serves them as well.

    @raise KeyFileError: If it is not one of ours, or no list can name it.
    """
    ca = readCertificate(directory.ca)
    certificate = readCertificate(path)
    if certificate == ca or not isSignedBy(certificate, ca):
        raise BrokenKeyFile(
            path, "not signed by this authority", "only its own can be revoked"
        )
    former = (
        [readCertificate(each) for each in directory.formerOf(name)] if name else []
    )
    serials = [
        each.serial_number for each in (certificate, *former) if isSignedBy(each, ca)
    ]
    if max(serials) > MAX_SERIAL:
        raise BrokenKeyFile(
            path,
            "its serial number has more than 20 bytes, too many for a revocation list",
            "make the authority anew: `tcpsvc keys init --force`",
        )
    return serials


def whyRevokedKey(
    directory: KeyDirectory, authority: x509.Certificate, key: PublicKeyTypes
) -> str | None:
    """
    Why a key is not to be signed again: whoever got hold of it would come in.
    """
    crl = readRevoked(directory, authority)
    paths = [pair.certificate for pair in directory.pairs()]
    for path in (*paths, *directory.former.glob("*.pem")):
        certificate = readCertificate(path)
        if isRevoked(certificate, crl) and certificate.public_key() == key:
            return "its key is that of a revoked certificate"
    return None
