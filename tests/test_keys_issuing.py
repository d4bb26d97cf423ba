"""
Tests for L{tcpsvc.keys.issuing}.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.verification import PolicyBuilder, Store
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.keys.issuing import (
    AUTHORITY_LIFETIME,
    Authority,
    Bearer,
    newKey,
    requestFor,
)
from tcpsvc.keys.names import BadArgument
from tests.certificates import CLIENT_AUTH, NOW, SERVER_AUTH

_E = TypeVar("_E", bound=x509.ExtensionType)
TEN_MINUTES = timedelta(minutes=10)


def extension(
    thing: x509.Certificate | x509.CertificateRevocationList,
    kind: type[_E],
    critical: bool,
) -> _E:
    """
    @return: An extension, which is critical as it should be.
    """
    found = thing.extensions.get_extension_for_class(kind)
    assert found.critical is critical, found
    return found.value


class ProfileTests(SynchronousTestCase):
    """
    Tests for what L{Authority} signs.
    """

    def setUp(self) -> None:
        """
        Make an authority, a client's and a server's certificate.
        """
        self.authority = Authority.create(NOW)
        self.ca = self.authority.certificate
        self.client = self._issue(Bearer.client("alice"))
        self.server = self._issue(Bearer.server(["a.example", "::1", "a.example"]))

    def _issue(self, bearer: Bearer, now: datetime = NOW) -> x509.Certificate:
        """
        Sign a new key for C{bearer}.
        """
        return self.authority.issue(bearer, newKey().public_key(), now)

    def test_algorithms(self) -> None:
        """
        Keys are on P-256, signatures of ECDSA and SHA-256.
        """
        for certificate in (self.ca, self.client, self.server):
            key = certificate.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            self.assertIsInstance(key.curve, ec.SECP256R1)
            self.assertIsInstance(certificate.signature_hash_algorithm, hashes.SHA256)

    def test_authority(self) -> None:
        """
        The authority signs leaves and revocation lists, and nothing else.
        """
        constraints = extension(self.ca, x509.BasicConstraints, True)
        self.assertEqual((True, 0), (constraints.ca, constraints.path_length))
        usage = extension(self.ca, x509.KeyUsage, True)
        self.assertTrue(usage.key_cert_sign and usage.crl_sign)
        self.assertFalse(usage.digital_signature)

    def test_leaves(self) -> None:
        """
        A leaf signs handshakes for one purpose, and no certificates.
        """
        for leaf, purpose in ((self.client, CLIENT_AUTH), (self.server, SERVER_AUTH)):
            self.assertFalse(extension(leaf, x509.BasicConstraints, True).ca)
            usage = extension(leaf, x509.KeyUsage, True)
            self.assertTrue(usage.digital_signature)
            self.assertFalse(usage.key_cert_sign or usage.crl_sign)
            self.assertFalse(usage.key_encipherment or usage.key_agreement)
            purposes = list(extension(leaf, x509.ExtendedKeyUsage, False))
            self.assertEqual([purpose], purposes)

    def test_names(self) -> None:
        """
        Common name and alternative names are the bearer's, each once.
        """
        self.assertEqual("CN=alice", self.client.subject.rfc4514_string())
        names = extension(self.client, x509.SubjectAlternativeName, False)
        self.assertEqual([x509.DNSName("alice")], list(names))
        self.assertEqual("CN=a.example", self.server.subject.rfc4514_string())
        names = extension(self.server, x509.SubjectAlternativeName, False)
        self.assertEqual(["a.example", "::1"], [str(name.value) for name in names])

    def test_longHost(self) -> None:
        """
        A host's name may be longer than a common name may.
        """
        host = ".".join(["x" * 60] * 4)
        certificate = self._issue(Bearer.server([host]))
        names = extension(certificate, x509.SubjectAlternativeName, False)
        self.assertEqual([x509.DNSName(host)], list(names))

    def test_noHost(self) -> None:
        """
        There is no server's certificate without a host.
        """
        self.assertRaises(BadArgument, Bearer.server, [])

    def test_identifiers(self) -> None:
        """
        Each certificate and list points at the key that signed it.
        """
        own = extension(self.ca, x509.SubjectKeyIdentifier, False)
        for thing in (
            self.client,
            self.server,
            self.authority.listRevoked(None, (), NOW),
        ):
            issuer = extension(thing, x509.AuthorityKeyIdentifier, False)
            self.assertEqual(own.digest, issuer.key_identifier)
        self.assertNotEqual(
            own, extension(self.client, x509.SubjectKeyIdentifier, False)
        )

    def test_times(self) -> None:
        """
        Everything begins ten minutes ago; the authority lasts ten years, leaves
        one.
        """
        for certificate in (self.ca, self.client, self.server):
            self.assertEqual(NOW - TEN_MINUTES, certificate.not_valid_before_utc)
        years = (self.ca.not_valid_after_utc - NOW).days / 365.25
        self.assertAlmostEqual(10, years, 2)
        self.assertEqual(NOW + timedelta(days=365), self.client.not_valid_after_utc)

    def test_notBeyondTheAuthority(self) -> None:
        """
        A leaf ends with the authority at the latest.
        """
        late = NOW + AUTHORITY_LIFETIME - timedelta(days=3)
        leaf = self._issue(Bearer.client("alice"), late)
        self.assertEqual(self.ca.not_valid_after_utc, leaf.not_valid_after_utc)

    def test_distinct(self) -> None:
        """
        Two authorities have different names, two certificates different
        numbers.
        """
        self.assertNotEqual(self.ca.subject, Authority.create(NOW).certificate.subject)
        again = self._issue(Bearer.client("alice"))
        self.assertNotEqual(self.client.serial_number, again.serial_number)

    def test_verified(self) -> None:
        """
        Another implementation of RFC 5280 accepts both.
        """
        builder = PolicyBuilder().store(Store([self.ca])).time(NOW)
        builder.build_client_verifier().verify(self.client, [])
        subject = x509.DNSName("a.example")
        builder.build_server_verifier(subject).verify(self.server, [])

    def test_ed25519(self) -> None:
        """
        An authority that somebody brought may have a key of another kind.
        """
        other = Authority(self.ca, ed25519.Ed25519PrivateKey.generate())
        bearer = Bearer.client("alice")
        leaf = other.issue(bearer, newKey().public_key(), NOW)
        self.assertIsNone(leaf.signature_hash_algorithm)


class RevocationListTests(SynchronousTestCase):
    """
    Tests for L{Authority.listRevoked}.
    """

    def test_empty(self) -> None:
        """
        The first list has no entries and number 1, and is valid from ten
        minutes ago until the authority ends.
        """
        authority = Authority.create(NOW)
        crl = authority.listRevoked(None, (), NOW)
        self.assertEqual(0, len(crl))
        self.assertEqual(1, extension(crl, x509.CRLNumber, False).crl_number)
        self.assertEqual(NOW - TEN_MINUTES, crl.last_update_utc)
        end = authority.certificate.not_valid_after_utc
        self.assertEqual(end, crl.next_update_utc)

    def test_next(self) -> None:
        """
        A later list keeps the entries with their dates, and has a higher number.
        """
        authority = Authority.create(NOW)
        first = authority.listRevoked(None, [5], NOW)
        second = authority.listRevoked(first, [6], NOW + timedelta(days=1))
        entries = {entry.serial_number: entry.revocation_date_utc for entry in second}
        self.assertEqual({5: NOW, 6: NOW + timedelta(days=1)}, entries)
        self.assertEqual(2, extension(second, x509.CRLNumber, False).crl_number)


class RequestTests(SynchronousTestCase):
    """
    Tests for L{requestFor}.
    """

    def test_request(self) -> None:
        """
        A request has the bearer's names and is signed with its key.
        """
        key = newKey()
        asked = requestFor(Bearer.client("alice"), key)
        self.assertTrue(asked.is_signature_valid)
        self.assertEqual(key.public_key(), asked.public_key())
        self.assertEqual("CN=alice", asked.subject.rfc4514_string())
