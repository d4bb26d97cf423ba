# -*- test-case-name: tests.test_keys_making -*-

"""
The certificate authority of a small lab, in a directory of keys.

What is made here goes to the disk key first, so that a certificate always finds
its key. Whatever takes the place of a certificate keeps that one in C{former/},
because its serial number is needed to revoke it; a key that is replaced is gone.

All functions take C{now}, an aware L{datetime}, where they need the time, and
raise L{KeyFileError} for what is wrong with files and L{BadArgument} for what
was wrong to ask for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from tcpsvc.keyfiles import (
    BrokenKeyFile,
    KeyDirectory,
    NoSuchKeyFile,
    PairFiles,
    PrivateKey,
    readCertificate,
    readPrivateKey,
    readRequest,
)
from tcpsvc.keys.advice import remake
from tcpsvc.keys.authority import openAuthority, whyRevokedKey
from tcpsvc.keys.issuing import Authority, Bearer, newKey, requestFor
from tcpsvc.keys.names import (
    BadArgument,
    clientName,
    commonNameOf,
    hostsOf,
    serverHosts,
)
from tcpsvc.keys.rules import Role, leafProblems, whyApart, whyWeak
from tcpsvc.keys.writing import (
    KeyFileExists,
    removeFile,
    writeFile,
    writePEM,
    writePrivateKey,
    writePublicKey,
)


def initialise(
    directory: KeyDirectory, hosts: Sequence[str], now: datetime, *, force: bool = False
) -> None:
    """
    Make an authority, a server's pair, an empty revocation list, and the key of
    the audit trail.

    @param hosts: The host names and IP addresses of the server.
    @param force: Whether to replace what is there. The key of the audit trail
        is kept even so, or nobody could verify the trail any more.
    """
    bearer = Bearer.server(hosts)
    if not force:
        _refuseExisting(
            directory.ca,
            directory.caKey,
            directory.server,
            directory.serverKey,
            directory.crl,
            directory.auditKey,
            directory.audit,
        )
    if not directory.auditKey.exists():
        writePrivateKey(directory.auditKey, ed25519.Ed25519PrivateKey.generate())
    writePublicKey(directory.audit, readPrivateKey(directory.auditKey), replace=force)
    authority = Authority.create(now)
    _write(directory, directory.pair("ca"), authority.certificate, authority.key, force)
    _makePair(directory, directory.pair("server"), bearer, authority, now, force)
    writePEM(directory.crl, authority.listRevoked(None, (), now), replace=force)


def makeServer(
    directory: KeyDirectory, hosts: Sequence[str], now: datetime, *, force: bool = False
) -> PairFiles:
    """
    Make a server's pair.

    @param hosts: Its host names and IP addresses.
    @param force: Whether to replace what is there.
    """
    pair, bearer = directory.pair("server"), Bearer.server(hosts)
    _makePair(directory, pair, bearer, openAuthority(directory, now), now, force)
    return pair


def makeClient(
    directory: KeyDirectory, name: str, now: datetime, *, force: bool = False
) -> PairFiles:
    """
    Make a client's pair.

    @param force: Whether to replace what is there.
    """
    bearer = Bearer.client(name)
    pair = directory.pair(name)
    _makePair(directory, pair, bearer, openAuthority(directory, now), now, force)
    return pair


def request(
    directory: KeyDirectory, bearer: Bearer, *, force: bool = False
) -> PairFiles:
    """
    Make a private key, and a request for the certificate that belongs to it, so
    that the key never leaves its owner. No authority is needed.

    @param force: Whether to replace a key and a request. A certificate of the
        former key is put away: it would be of no use beside the new one.
    """
    pair = directory.pair("server" if bearer.role is Role.SERVER else bearer.name)
    if not force:
        _refuseExisting(pair.certificate, pair.key, pair.request)
    key = newKey()
    asked = requestFor(bearer, key)
    if force:
        _keepFormer(directory, pair)
        removeFile(pair.certificate)
    writePrivateKey(pair.key, key, replace=force)
    writePEM(pair.request, asked, replace=force)
    return pair


def sign(
    directory: KeyDirectory,
    path: Path,
    role: Role,
    now: datetime,
    *,
    hosts: Sequence[str] = (),
    force: bool = False,
) -> PairFiles:
    """
    Sign a request.

    Nothing of it comes into the certificate but its public key and its common
    name or, for a server, its hosts. What else it asks for is ignored.

    @param path: The request. A client's certificate goes to the directory, a
        server's beside the request: there may be many servers.
    @param hosts: The server's host names and IP addresses; those that it asks
        for if there are none.
    @param force: Whether to replace a certificate.
    """
    authority = openAuthority(directory, now)
    asked = readRequest(path)
    if not asked.is_signature_valid:
        raise BrokenKeyFile(
            path, "its signature is not by its own key", "ask its owner for another"
        )
    key = asked.public_key()
    problem = whyWeak(key) or whyRevokedKey(directory, authority.certificate, key)
    if problem:
        raise BrokenKeyFile(path, problem, "ask its owner for another, of a new key")
    if path.suffix == ".pem":
        raise BadArgument(f"{path}: a request's name ends in .csr, as .pem follows it")
    try:
        if role is Role.SERVER:
            bearer = Bearer.server(hosts or hostsOf(asked))
        else:
            bearer = Bearer.client(commonNameOf(asked.subject))
    except BadArgument as error:
        if hosts:
            raise
        raise BrokenKeyFile(
            path, f"the name that it asks for: {error}", "ask its owner for another"
        ) from None
    if role is Role.SERVER:
        files = PairFiles("server", path.with_suffix(".pem"), path)
    else:
        files = directory.pair(bearer.name)
    _write(directory, files, authority.issue(bearer, key, now), None, force)
    return files


def renew(
    directory: KeyDirectory, name: str, now: datetime, *, newKeyToo: bool = False
) -> PairFiles:
    """
    Make a new certificate of the same names in place of one of ours.

    @param name: C{"server"} or a client's name.
    @param newKeyToo: Whether to make a new key. Otherwise the key need not even
        be here, but must not be that of a revoked certificate.
    """
    if name == "ca":
        raise BadArgument(
            "the authority cannot be renewed; `tcpsvc keys init --force` makes "
            "another, and then every certificate anew"
        )
    pair, authority = directory.pair(name), openAuthority(directory, now)
    former = readCertificate(pair.certificate)
    hosts = hostsOf(former)
    for problem in leafProblems(former, name, [authority.certificate]):
        anew = remake(directory, name, serverHosts(former))
        raise BrokenKeyFile(pair.certificate, problem, anew)
    bearer = (
        Bearer.server(hosts) if Role.of(name) is Role.SERVER else Bearer.client(name)
    )
    if newKeyToo:
        if not pair.key.exists():
            raise NoSuchKeyFile(
                pair.key, "the key is not here", "its owner requests another pair"
            )
        _makePair(directory, pair, bearer, authority, now, True)
        return pair
    key = former.public_key()
    unfit = whyRevokedKey(directory, authority.certificate, key)
    if not unfit and pair.key.exists():
        unfit = whyApart(former, readPrivateKey(pair.key))
    if unfit:
        raise BrokenKeyFile(pair.certificate, unfit, "--new-key makes another")
    _write(directory, pair, authority.issue(bearer, key, now), None, True)
    return pair


def export(
    directory: KeyDirectory,
    name: str,
    ask: Callable[[], str],
    path: Path,
    *,
    force: bool = False,
) -> None:
    """
    Write a pair and the authority's certificate into one file (PKCS #12, RFC
    7292), encrypted by PBES2 with AES-256.

    @param name: C{"server"} or a client's name.
    @param ask: Answers with the passphrase, which is all that protects the key;
        called when nothing else stands in the way.
    @param force: Whether to replace C{path}.
    """
    if Role.of(name) is Role.CLIENT:
        clientName(name)
    pair = directory.pair(name)
    certificate, key = readCertificate(pair.certificate), readPrivateKey(pair.key)
    authority = readCertificate(directory.ca)
    if problem := whyApart(certificate, key):
        anew = remake(directory, name, serverHosts(certificate))
        raise BrokenKeyFile(pair.certificate, problem, anew)
    if not force:
        _refuseExisting(path)
    passphrase = ask()
    if not passphrase:
        raise BadArgument("an empty passphrase protects nothing")
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(passphrase.encode())
    )
    bundle = pkcs12.serialize_key_and_certificates(
        name.encode(), key, certificate, [authority], encryption
    )
    writeFile(path, bundle, mode=0o600, replace=force)


def _makePair(
    directory: KeyDirectory,
    pair: PairFiles,
    bearer: Bearer,
    authority: Authority,
    now: datetime,
    force: bool,
) -> None:
    """
    Make a key and its certificate, and write them.
    """
    key = newKey()
    certificate = authority.issue(bearer, key.public_key(), now)
    _write(directory, pair, certificate, key, force)


def _write(
    directory: KeyDirectory,
    pair: PairFiles,
    certificate: x509.Certificate,
    key: PrivateKey | None,
    force: bool,
) -> None:
    """
    Write a pair, or a certificate whose key is elsewhere or stays as it is.
    """
    if force:
        _keepFormer(directory, pair)
    else:
        _refuseExisting(pair.certificate)
    if key:
        writePrivateKey(pair.key, key, replace=force)
    writePEM(pair.certificate, certificate, replace=force)


def _keepFormer(directory: KeyDirectory, pair: PairFiles) -> None:
    """
    Keep a certificate that is about to be replaced, if it is one.
    """
    try:
        former = readCertificate(pair.certificate)
    except BrokenKeyFile:
        return
    name = f"{pair.name}-{former.serial_number:x}.pem"
    writePEM(directory.former / name, former, replace=True)


def _refuseExisting(*paths: Path) -> None:
    """
    @raise KeyFileExists: If one of these is there.
    """
    for path in paths:
        if os.path.lexists(path):
            raise KeyFileExists(path)
