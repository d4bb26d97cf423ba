"""
Tests for L{tcpsvc.identity}.
"""

from __future__ import annotations

import hashlib
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.identity import (
    ANONYMOUS,
    MAX_NAME_LENGTH,
    UnacceptableCertificate,
    alternativeNames,
    fingerprintOf,
    identityFrom,
    isForClients,
    isForServers,
)
from tests.certificates import CLIENT_AUTH, SERVER_AUTH, authority


class _Subject:
    """
    As much of a certificate as a common name needs: the real ones refuse what
    peers may well send.
    """

    serial_number = 1

    def __init__(self, *names: str) -> None:
        self.names = names

    @property
    def subject(self) -> _Subject:
        return self

    def get_attributes_for_oid(self, oid: object) -> list[_Subject]:
        assert oid == NameOID.COMMON_NAME
        return [_Subject(name) for name in self.names]

    @property
    def value(self) -> str:
        return self.names[0]


class IdentityTests(SynchronousTestCase):
    """
    Tests for L{identityFrom}.
    """

    def test_name(self) -> None:
        """
        The common name is the identity's name.
        """
        self.assertEqual("alice", identityFrom(authority().client().certificate).name)

    def test_serialAndFingerprint(self) -> None:
        """
        The serial number and the SHA-256 of the DER are in lower-case hex.
        """
        certificate = authority().client().certificate
        identity = identityFrom(certificate)
        self.assertEqual(certificate.serial_number, int(identity.serial, 16))
        self.assertEqual(identity.serial.lower(), identity.serial)
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        self.assertEqual(digest, identity.fingerprint)
        self.assertEqual(digest, fingerprintOf(certificate))

    def test_record(self) -> None:
        """
        A record has the identity as JSON primitives.
        """
        identity = identityFrom(authority().client().certificate)
        self.assertEqual(
            {
                "name": "alice",
                "serial": identity.serial,
                "fingerprint": identity.fingerprint,
                "names": ["DNS:alice"],
            },
            identity.asRecord(),
        )

    def test_anonymous(self) -> None:
        """
        Nobody in particular has a name and nothing else.
        """
        self.assertEqual(("anonymous", "", "", ()), _parts(ANONYMOUS))

    def test_noCommonName(self) -> None:
        """
        A certificate without a common name names nobody.
        """
        error = self.assertRaises(
            UnacceptableCertificate,
            identityFrom,
            authority().withoutCommonName().certificate,
        )
        self.assertEqual("no common name", str(error))

    def test_twoCommonNames(self) -> None:
        """
        A certificate with two common names could name either, so names nobody.
        """
        self._refused("more than one common name", "alice", "bob")

    def test_unprintable(self) -> None:
        """
        A common name that would not stay on one line is refused.
        """
        for name in ("a\nb", "a\r", "\x1b[2J", "\u202e", "\u2028", "   ", "\x00"):
            self._refused("a common name that is not printable", name)

    def test_length(self) -> None:
        """
        A common name of 64 octets is the longest, as the makers of
        certificates count them.
        """
        name = "x" * MAX_NAME_LENGTH
        self.assertEqual(
            name, identityFrom(authority().client(name, names=()).certificate).name
        )
        for long in (name + "x", "\xe9" * 33):
            self._refused("a common name of more than 64 octets", long)

    @given(st.text(max_size=80))
    def test_anyName(self, name: str) -> None:
        """
        Whatever a peer calls itself, it is refused or stands on one line.
        """
        try:
            identity = identityFrom(_Nameless(name))  # type: ignore[arg-type]
        except UnacceptableCertificate:
            return
        self.assertEqual([name], identity.name.splitlines())

    def _refused(self, message: str, *names: str) -> None:
        """
        A certificate of these common names is refused with C{message}.
        """
        error = self.assertRaises(
            UnacceptableCertificate, identityFrom, _Subject(*names)
        )
        self.assertEqual(message, str(error))


class AlternativeNameTests(SynchronousTestCase):
    """
    Tests for L{alternativeNames}.
    """

    def test_types(self) -> None:
        """
        Each name has its type before it, as OpenSSL writes them.
        """
        certificate = (
            authority()
            .client(
                names=[
                    x509.DNSName("bench.example"),
                    x509.IPAddress(ip_address("::1")),
                    x509.RFC822Name("a@b.example"),
                    x509.UniformResourceIdentifier("urn:tcpsvc:x"),
                    x509.RegisteredID(CLIENT_AUTH),
                ]
            )
            .certificate
        )
        names = alternativeNames(certificate)
        self.assertEqual(
            ("DNS:bench.example", "IP:::1", "email:a@b.example", "URI:urn:tcpsvc:x"),
            names[:4],
        )
        self.assertTrue(names[4].startswith("other:"))

    def test_none(self) -> None:
        """
        A certificate without the extension has no alternative names.
        """
        self.assertEqual((), alternativeNames(authority().client(names=()).certificate))


class PurposeTests(SynchronousTestCase):
    """
    Tests for L{isForClients} and L{isForServers}.
    """

    def test_purposes(self) -> None:
        """
        A certificate is for what its extended key usage names, and for nothing
        if it has none.
        """
        for usages, client, server in [
            ((CLIENT_AUTH,), True, False),
            ((SERVER_AUTH,), False, True),
            ((CLIENT_AUTH, SERVER_AUTH), True, True),
            ((), False, False),
        ]:
            certificate = authority().client(usages=usages).certificate
            self.assertEqual(client, isForClients(certificate))
            self.assertEqual(server, isForServers(certificate))


class _Nameless(_Subject):
    """
    A certificate that has a common name and is otherwise good.
    """

    extensions = authority().client().certificate.extensions

    def fingerprint(self, algorithm: object) -> bytes:
        return b""


def _parts(identity: object) -> tuple[object, ...]:
    """
    The four parts of an identity.
    """
    return tuple(
        getattr(identity, part) for part in ("name", "serial", "fingerprint", "names")
    )
