"""
Tests for L{tcpsvc.keys.rules}.
"""

from __future__ import annotations

from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.identity import isSignedBy
from tcpsvc.keyfiles import PrivateKey
from tcpsvc.keys.rules import (
    EXPIRING,
    Role,
    Status,
    isListOf,
    isRevoked,
    leafProblems,
    statusOf,
    whyApart,
    whyForeign,
    whyMisnamed,
    whyNoAuthority,
    whyNotFor,
    whyNotNow,
    whyVoid,
    whyWeak,
    whyWrongPurpose,
)
from tests.certificates import (
    CLIENT_AUTH,
    NOW,
    SERVER_AUTH,
    Authority,
    authority,
    keyUsage,
    newAuthority,
    otherAuthority,
)

SECOND = timedelta(seconds=1)


class StatusTests(SynchronousTestCase):
    """
    Tests for L{statusOf} and L{whyNotNow}.
    """

    def test_ends(self) -> None:
        """
        A certificate is valid from its first second to its last, and expiring
        in the last thirty days of these.
        """
        certificate = authority().client().certificate
        begin = certificate.not_valid_before_utc
        end = certificate.not_valid_after_utc
        for now, status in [
            (begin - SECOND, Status.NOT_YET_VALID),
            (begin, Status.VALID),
            (end - EXPIRING, Status.VALID),
            (end - EXPIRING + SECOND, Status.EXPIRING),
            (end, Status.EXPIRING),
            (end + SECOND, Status.EXPIRED),
        ]:
            self.assertIs(status, statusOf(certificate, now))
        self.assertIs(
            Status.EXPIRING, statusOf(certificate, begin, within=timedelta(days=999))
        )

    def test_revoked(self) -> None:
        """
        A revoked certificate is revoked whatever the time; another is not.
        """
        certificate = authority().expired().certificate
        crl = authority().revocationList(certificate)
        self.assertIs(Status.REVOKED, statusOf(certificate, NOW, crl))
        self.assertFalse(isRevoked(authority().client().certificate, crl))
        self.assertFalse(isRevoked(certificate, None))

    def test_due(self) -> None:
        """
        What expires, has expired or is void is due, and what is revoked is not.
        """
        due = {status for status in Status if status.isDue}
        self.assertEqual({Status.EXPIRING, Status.EXPIRED, Status.VOID}, due)

    def test_notNow(self) -> None:
        """
        The reason names the moment, and the clock's time where that may be what
        is wrong.
        """
        self.assertIsNone(whyNotNow(authority().client().certificate, NOW))
        late = whyNotNow(authority().expired().certificate, NOW)
        self.assertRegex(str(late), r"^expired \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        early = whyNotNow(authority().notYetValid().certificate, NOW)
        self.assertRegex(str(early), r"^not valid before .*Z, and it is .*Z$")


class SignatureTests(SynchronousTestCase):
    """
    Tests for L{isSignedBy}, L{isListOf} and L{whyApart}.
    """

    def test_certificates(self) -> None:
        """
        The issuer's name is not enough: its key must have signed.
        """
        certificate = authority().client().certificate
        self.assertTrue(isSignedBy(certificate, authority().certificate))
        self.assertEqual(
            authority().certificate.subject, otherAuthority().certificate.subject
        )
        self.assertFalse(isSignedBy(certificate, otherAuthority().certificate))
        self.assertFalse(isSignedBy(certificate, newAuthority("else").certificate))

    def test_lists(self) -> None:
        """
        The same for revocation lists.
        """
        crl = authority().revocationList()
        self.assertTrue(isListOf(crl, authority().certificate))
        self.assertFalse(isListOf(crl, otherAuthority().certificate))
        self.assertFalse(isListOf(crl, newAuthority("else").certificate))
        namesake = Authority(newAuthority("else").certificate, authority().key)
        crl = namesake.revocationList()
        self.assertFalse(isListOf(crl, authority().certificate))

    def test_apart(self) -> None:
        """
        A key belongs to the certificate that has its public half.
        """
        alice, bob = authority().client(), authority().client()
        self.assertIsNone(whyApart(alice.certificate, alice.key))
        self.assertIsNotNone(whyApart(alice.certificate, bob.key))


class LeafTests(SynchronousTestCase):
    """
    Tests for L{leafProblems} and the rules in it.
    """

    def test_purpose(self) -> None:
        """
        A certificate has one purpose, which is its role's.
        """
        for usages, problem in [
            ((CLIENT_AUTH,), None),
            ((SERVER_AUTH,), "not for clients (extended key usage without clientAuth)"),
            (
                (CLIENT_AUTH, SERVER_AUTH),
                "for more than clients (extended key usage beside clientAuth)",
            ),
            ((), "says nothing of its purpose (no extended key usage)"),
        ]:
            certificate = authority().client(usages=usages).certificate
            self.assertEqual(problem, whyWrongPurpose(certificate, Role.CLIENT))
        self.assertIn(
            "not for servers",
            str(whyWrongPurpose(authority().client().certificate, Role.SERVER)),
        )

    def test_names(self) -> None:
        """
        A client's certificate has its name; a server's names hosts.
        """
        alice = authority().client("alice").certificate
        self.assertIsNone(whyMisnamed(alice, Role.CLIENT, "alice"))
        problem = whyMisnamed(alice, Role.CLIENT, "bob")
        self.assertEqual("names 'alice' and not 'bob'", problem)
        nobody = authority().withoutCommonName().certificate
        self.assertEqual("no common name", whyMisnamed(nobody, Role.CLIENT, "alice"))
        bare = authority().server(names=()).certificate
        self.assertIn("names no host", str(whyMisnamed(bare, Role.SERVER, "server")))

    def test_weak(self) -> None:
        """
        Keys that TLS 1.3 signs with are good, RSA from 2048 bits.
        """
        good: list[PrivateKey] = [
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
            rsa.generate_private_key(65537, 2048),
        ]
        self.assertEqual([None] * 4, [whyWeak(key.public_key()) for key in good])
        bad: list[PrivateKey | x25519.X25519PrivateKey] = [
            ec.generate_private_key(ec.SECP256K1()),
            rsa.generate_private_key(65537, 1024),
            x25519.X25519PrivateKey.generate(),
        ]
        self.assertNotIn(None, [whyWeak(key.public_key()) for key in bad])

    def test_all(self) -> None:
        """
        A good certificate has no problems, and one that is wrong in every way
        has all of them.
        """
        ca = [otherAuthority().certificate, authority().certificate]
        for pair, name in (
            (authority().client("alice"), "alice"),
            (authority().server("a"), "server"),
        ):
            self.assertEqual([], list(leafProblems(pair.certificate, name, ca)))
        weak = rsa.generate_private_key(65537, 1024)
        wrong = newAuthority().client("bob", usages=(), key=weak).certificate
        self.assertEqual(4, len(list(leafProblems(wrong, "alice", ca))))

    def test_void(self) -> None:
        """
        Void is what the other side is sure to refuse, and not what it lets in
        although something is wrong with it.
        """
        ca, client, server = [authority().certificate], Role.CLIENT, Role.SERVER
        for pair, role, why in [
            (authority().client("bob"), client, None),
            (authority().expired(), client, None),
            (authority().client(usages=(CLIENT_AUTH, SERVER_AUTH)), client, None),
            (authority().server("a"), server, None),
            (otherAuthority().client(), client, "another authority signed it"),
            (authority().client(usages=()), client, "says nothing of its purpose"),
            (authority().server("a"), client, "not for clients"),
            (authority().client(), server, "not for servers"),
            (authority().withoutCommonName(), client, "no common name"),
            (authority().server(names=()), server, "names no host"),
        ]:
            reason = whyVoid(pair.certificate, role, ca)
            if why is None:
                self.assertIsNone(reason)
            else:
                self.assertIn(why, str(reason))

    def test_foreignList(self) -> None:
        """
        A client whom one authority signed is refused by the list of another; a
        client holds a server against no list.
        """
        both = [authority().certificate, otherAuthority().certificate]
        crl = otherAuthority().revocationList()
        alice, server = authority().client(), authority().server()
        why = whyForeign(alice.certificate, Role.CLIENT, both, crl)
        self.assertIn("the revocation list is not of", str(why))
        self.assertIsNone(whyForeign(server.certificate, Role.SERVER, both, crl))
        own = authority().revocationList()
        self.assertIsNone(whyForeign(alice.certificate, Role.CLIENT, both, own))

    def test_host(self) -> None:
        """
        A server's certificate is for the hosts it names, and for no others.
        """
        certificate = authority().server("a.example", "*.b.lab", "::1").certificate
        for host in ("a.example", "A.example", "a.b.lab", "::1", "0:0::1"):
            self.assertIsNone(whyNotFor(certificate, host), host)
        for host in ("b.example", "b.lab", "a.a.b.lab", "127.0.0.1"):
            self.assertIn(f"not for {host}", str(whyNotFor(certificate, host)))
        for broken in (
            authority().server(names=()),
            authority().server("a.example", "*.lab"),
        ):
            problem = str(whyNotFor(broken.certificate, "a.example"))
            self.assertIn("for nobody's use", problem)


class AuthorityTests(SynchronousTestCase):
    """
    Tests for L{whyNoAuthority}.
    """

    def test_good(self) -> None:
        """
        A root that may sign certificates and lists is an authority.
        """
        self.assertIsNone(whyNoAuthority(authority().certificate))

    def test_below(self) -> None:
        """
        One that another has signed is an authority if that is trusted too.
        """
        below = newAuthority("below", by=authority()).certificate
        others = [otherAuthority().certificate, below]
        self.assertIn("not a root", str(whyNoAuthority(below, others)))
        self.assertIsNone(whyNoAuthority(below, [*others, authority().certificate]))

    def test_bad(self) -> None:
        """
        A certificate that does not say all of this is none.
        """
        only = {"signsLeaves": False, "signsLists": False, "signs": True}
        for wrong, why in [
            (newAuthority(isAuthority=None), "no basicConstraints"),
            (newAuthority(isAuthority=False), "without CA"),
            (newAuthority(usage=keyUsage(**only)), "keyCertSign"),
            (newAuthority(usage=keyUsage(**only | {"signsLists": True})), "keyCertS"),
            (newAuthority(usage=keyUsage(**only | {"signsLeaves": True})), "cRLSign"),
            (authority().client(), "without CA"),
            (newAuthority("below", by=authority()), "not a root"),
        ]:
            self.assertIn(why, str(whyNoAuthority(wrong.certificate)))
