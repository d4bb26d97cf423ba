# -*- test-case-name: tests.test_certificates -*-

"""
What a peer's certificate says, however malformed or large it is.

OpenSSL accepts certificates that L{cryptography} cannot read. L{cryptography} parses
lazily: each part may fail when it is first read, with exceptions of many types (one
of them, a panic of its Rust code, is no L{Exception}), or may cause a warning. So
every certificate that a peer has sent is read here and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TypeVar

from attrs import frozen
from OpenSSL._util import ffi, lib
from OpenSSL.crypto import FILETYPE_ASN1, X509, dump_certificate

from tcpsvc.escapes import excerpt, excerpts
from tcpsvc.identity import UnacceptableCertificate, alternativeNames

UNREADABLE = "a certificate that cannot be read"
"""
Why a certificate is refused if reading it fails.
"""

_T = TypeVar("_T")


@contextmanager
def reading() -> Iterator[None]:
    """
    Read a certificate of a peer. Warnings of L{cryptography} are not shown.

    @raise UnacceptableCertificate: Whatever is raised inside; the detail says what
        it was.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (UnacceptableCertificate, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            detail = excerpt(f"{type(error).__name__}: {error}")
            raise UnacceptableCertificate(UNREADABLE, detail) from error


def encodedOf(shown: X509) -> bytes:
    """
    @return: The certificate in DER. OpenSSL has it even if it cannot be read.
    """
    return dump_certificate(FILETYPE_ASN1, shown)


def verificationError(number: int) -> str:
    """
    @param number: OpenSSL's number of what is wrong with a certificate (X509_V_ERR_*).
    @return: The same in OpenSSL's words.
    """
    words: bytes = ffi.string(lib.X509_verify_cert_error_string(number))
    return words.decode("ascii")


@frozen
class Description:
    """
    What a certificate says of itself. Every text is shortened by
    L{tcpsvc.escapes.excerpt}.

    @ivar subject: The subject (RFC 4514); empty if it cannot be read.
    @ivar serial: The serial number in lower-case hex.
    @ivar fingerprint: The SHA-256 of the certificate (DER) in lower-case hex.
    @ivar names: The subject alternative names, each with its type before it; empty
        if they cannot be read.
    @ivar problem: Why something cannot be read; empty if everything could be.
    """

    subject: str
    serial: str
    fingerprint: str
    names: tuple[str, ...]
    problem: str

    def asRecord(self) -> dict[str, object]:
        """
        @return: The description as JSON primitives, for a record of the trail.
        """
        return {
            "subject": self.subject,
            "serial": self.serial,
            "fingerprint": self.fingerprint,
            "names": list(self.names),
        }

    def __str__(self) -> str:
        """
        The subject, or the fingerprint if there is none.
        """
        return self.subject or f"SHA-256 fingerprint {self.fingerprint}"


MAX_READ = 16384
"""
Bytes of a certificate of which the alternative names are read: to read those of 95 KB
takes 40 ms.
"""


def describe(shown: X509) -> Description:
    """
    Describe any certificate. Nothing is verified and nothing is raised: what cannot
    be read is left empty.
    """
    problems: list[str] = []

    def attempt(read: Callable[[], _T], otherwise: _T) -> _T:
        try:
            with reading():
                return read()
        except UnacceptableCertificate as error:
            problems.append(error.detail)
            return otherwise

    encoded = attempt(lambda: encodedOf(shown), b"")
    fingerprint = sha256(encoded).hexdigest() if encoded else ""
    serial = attempt(lambda: excerpt(format(shown.get_serial_number(), "x")), "")
    subject, names = "", tuple[str, ...]()
    certificate = attempt(shown.to_cryptography, None)
    if certificate is not None:
        subject = attempt(lambda: excerpt(certificate.subject.rfc4514_string()), "")
        if len(encoded) > MAX_READ:
            names = (f"… (not read: the certificate has {len(encoded)} bytes)",)
        else:
            names = attempt(lambda: excerpts(alternativeNames(certificate)), ())
    return Description(
        subject, serial, fingerprint, names, problems[0] if problems else ""
    )
