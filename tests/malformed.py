"""
Certificates that no honest tool makes: hand-built DER (X.690), signed properly.

OpenSSL takes them in a handshake. L{cryptography} fails, or warns, when it loads
them or when their parts are first read::

    odd = forged(subject=commonName(b"alice@example.com", PRINTABLE))
    for oddity, pair in malformed().items(): ...
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, X509, load_certificate

from tcpsvc.keyfiles import PrivateKey
from tests.certificates import DAY, NOW, Authority, authority, privatePEM, writePair

INTEGER, BIT_STRING, OCTET_STRING, OID = 0x02, 0x03, 0x04, 0x06
UTF8, PRINTABLE, T61, IA5, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1E
UTC_TIME, SEQUENCE, SET = 0x17, 0x30, 0x31

COMMON_NAME = bytes.fromhex("550403")
COUNTRY = bytes.fromhex("550406")
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("551d11")
_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")
_NAME_CONSTRAINTS = bytes.fromhex("551d1e")
_CLIENT_AUTH = bytes.fromhex("2b06010505070302")
_SERVER_AUTH = bytes.fromhex("2b06010505070301")
_EC_KEY = bytes.fromhex("2a8648ce3d0201")
_P256 = bytes.fromhex("2a8648ce3d030107")
_ECDSA_WITH_SHA256 = bytes.fromhex("2a8648ce3d040302")


def der(tag: int, *contents: bytes) -> bytes:
    """
    One element of DER: its tag, the length, and the contents one after another.
    """
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def attribute(kind: bytes, value: bytes) -> bytes:
    """
    One relative distinguished name of one attribute.

    @param kind: The contents of its object identifier.
    @param value: Its value, an element of DER.
    """
    return der(SET, der(SEQUENCE, der(OID, kind), value))


def name(*attributes: bytes) -> bytes:
    """
    A name of these attributes.
    """
    return der(SEQUENCE, *attributes)


def commonName(value: bytes, tag: int = UTF8) -> bytes:
    """
    A name of one common name.

    @param tag: Which kind of string it claims to be.
    """
    return name(attribute(COMMON_NAME, der(tag, value)))


def extension(kind: bytes, value: bytes) -> bytes:
    """
    An extension that is not critical.
    """
    return der(SEQUENCE, der(OID, kind), der(OCTET_STRING, value))


def alternativeNames(*names: bytes) -> bytes:
    """
    The extension of subject alternative names.
    """
    return extension(_SUBJECT_ALTERNATIVE_NAME, der(SEQUENCE, *names))


def usage(*purposes: bytes) -> bytes:
    """
    The extension of extended key usages.
    """
    purposes = purposes or (_CLIENT_AUTH, _SERVER_AUTH)
    return extension(
        _EXTENDED_KEY_USAGE,
        der(SEQUENCE, *(der(OID, purpose) for purpose in purposes)),
    )


LOCALHOST = alternativeNames(
    der(0x82, b"localhost"), der(0x87, bytes([127, 0, 0, 1])), der(0x82, b"server")
)


@frozen
class Forged:
    """
    A pair whose certificate L{cryptography} may be unable to load.

    @ivar encoded: The certificate, in DER.
    """

    encoded: bytes
    key: PrivateKey

    @property
    def certificatePEM(self) -> bytes:
        """The certificate in PEM format."""
        return ssl.DER_cert_to_PEM_cert(self.encoded).encode("ascii")

    @property
    def keyPEM(self) -> bytes:
        """The private key in PEM format, without a passphrase."""
        return privatePEM(self.key)

    @property
    def openSSL(self) -> X509:
        """The certificate as OpenSSL holds it."""
        return load_certificate(FILETYPE_ASN1, self.encoded)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate in lower-case hex."""
        return sha256(self.encoded).hexdigest()

    def showIn(self, context: SSL.Context) -> None:
        """
        Have a context show this pair, without asking L{cryptography}.
        """
        with TemporaryDirectory() as directory:
            certificate, key = Path(directory, "pair.pem"), Path(directory, "key.pem")
            writePair(certificate, key, self)
            context.use_certificate_file(str(certificate))
            context.use_privatekey_file(str(key))


def forged(
    *,
    subject: bytes | None = None,
    extensions: Sequence[bytes] | None = None,
    serial: bytes = b"\x0b\xad",
    notBefore: bytes = b"",
    notAfter: bytes = b"",
    key: PrivateKey | None = None,
    keyInfo: bytes = b"",
    signedWith: bytes = _ECDSA_WITH_SHA256,
    by: Authority | None = None,
    selfSigned: bool = False,
) -> Forged:
    """
    A certificate with these parts, each an element of DER unless said otherwise.

    @param subject: Its subject; the common name C{alice} if L{None}.
    @param extensions: Its extensions; those of a client and server if L{None}.
    @param serial: The contents of its serial number.
    @param notBefore: When it begins to be valid; an hour ago if empty.
    @param notAfter: When it ends to be valid; in a year if empty.
    @param keyInfo: The public key; that of C{key} if empty.
    @param signedWith: The object identifier of the algorithm that it claims to be
        signed with, its contents only.
    @param by: The authority that signs; L{authority} if L{None}.
    @param selfSigned: Whether it signs itself instead.
    """
    by = by or authority()
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = commonName(b"alice") if subject is None else subject
    issuer = subject if selfSigned else by.certificate.subject.public_bytes()
    signer = key if selfSigned else by.key
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    algorithm = der(SEQUENCE, der(OID, signedWith))
    if extensions is None:
        extensions = (usage(), LOCALHOST)
    signed = der(
        SEQUENCE,
        der(0xA0, der(INTEGER, b"\x02")),
        der(INTEGER, serial),
        algorithm,
        issuer,
        der(
            SEQUENCE,
            notBefore or utcTime(NOW - DAY / 24),
            notAfter or utcTime(NOW + 365 * DAY),
        ),
        subject,
        keyInfo
        or key.public_key().public_bytes(
            serialization.Encoding.DER,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        ),
        der(0xA3, der(SEQUENCE, *extensions)),
    )
    signature = signer.sign(signed, ec.ECDSA(hashes.SHA256()))
    return Forged(
        der(SEQUENCE, signed, algorithm, der(BIT_STRING, b"\0", signature)), key
    )


def utcTime(moment: datetime) -> bytes:
    """
    A moment as a UTCTime.
    """
    return der(UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode("ascii"))


@cache
def malformed() -> dict[str, Forged]:
    """
    Certificates of L{authority} that L{cryptography} cannot read in full, or not
    without a warning, by what is odd about them.
    """
    names = LOCALHOST, usage()
    x400Address = der(0xA3, der(SEQUENCE))
    return {
        "a PrintableString with @": forged(
            subject=commonName(b"alice@example.com", PRINTABLE)
        ),
        "a T61String": forged(subject=commonName(b"al\xe9ice", T61)),
        "an IA5String that is not ASCII": forged(subject=commonName(b"al\xe9", IA5)),
        "a country of three letters": forged(
            subject=name(
                attribute(COUNTRY, der(PRINTABLE, b"USA")),
                attribute(COMMON_NAME, der(UTF8, b"alice")),
            )
        ),
        "an x400Address": forged(extensions=(usage(), alternativeNames(x400Address))),
        "an ediPartyName": forged(
            extensions=(usage(), alternativeNames(der(0xA5, der(0x81, b"party"))))
        ),
        "an unknown alternative name": forged(
            extensions=(usage(), alternativeNames(der(0x8F, b"what")))
        ),
        "an IP address of three bytes": forged(
            extensions=(usage(), alternativeNames(der(0x87, b"\x7f\0\1")))
        ),
        "a DNS name that is not ASCII": forged(
            extensions=(usage(), alternativeNames(der(0x82, b"b\xfccher.example")))
        ),
        "garbage as alternative names": forged(
            extensions=(usage(), extension(_SUBJECT_ALTERNATIVE_NAME, b"\xde\xad\xbe"))
        ),
        "garbage as key usages": forged(
            extensions=(LOCALHOST, extension(_EXTENDED_KEY_USAGE, b"\xde\xad"))
        ),
        "an extension twice": forged(extensions=(*names, usage())),
        "alternative names twice": forged(extensions=(*names, LOCALHOST)),
        "garbage as an extension": forged(
            extensions=(*names, extension(_NAME_CONSTRAINTS, b"\xff\xff"))
        ),
        "an invalid date": forged(notAfter=der(UTC_TIME, b"991399999999Z")),
        "a serial number below zero": forged(serial=b"\xf4\x01"),
        "a serial number of 1000 bytes": forged(serial=b"\x7b" * 1000),
        "an unknown signature algorithm": forged(signedWith=bytes.fromhex("2a0304")),
    }


@cache
def withUnknownKeys() -> dict[str, Forged]:
    """
    Certificates of keys that OpenSSL does not know either. It shows them to nobody.
    """
    return {
        "an unknown kind of key": forged(
            keyInfo=der(
                SEQUENCE,
                der(SEQUENCE, der(OID, bytes.fromhex("2a0304"))),
                der(BIT_STRING, b"\0what"),
            )
        ),
        "a key that is no point of its curve": forged(
            keyInfo=der(
                SEQUENCE,
                der(SEQUENCE, der(OID, _EC_KEY), der(OID, _P256)),
                der(BIT_STRING, b"\0\4", b"\x11" * 64),
            )
        ),
    }
