"""
Tests for L{tcpsvc.keys.authority}.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.keyfiles import (
    BrokenKeyFile,
    KeyFileError,
    NoSuchKeyFile,
    readCertificate,
    readCRL,
    readPrivateKey,
)
from tcpsvc.keys import authority as module
from tcpsvc.keys.authority import (
    MAX_SERIAL,
    openAuthority,
    readRevoked,
    revoke,
    serialsOf,
    whyRevokedKey,
)
from tests.certificates import (
    DAY,
    NOW,
    Authority,
    authority,
    newAuthority,
    otherAuthority,
    writeKeys,
    writePair,
    writeRevocationList,
)
from tests.malformed import forged


class OpenTests(SynchronousTestCase):
    """
    Tests for L{openAuthority}.
    """

    def setUp(self) -> None:
        """
        Write a directory of keys.
        """
        self.directory = writeKeys(Path(self.mktemp()))

    def test_open(self) -> None:
        """
        The authority is its certificate and its key.
        """
        opened = openAuthority(self.directory, NOW)
        self.assertEqual(authority().certificate, opened.certificate)

    def test_elsewhere(self) -> None:
        """
        Where the authority's key is not, nobody is told to make another.
        """
        self.directory.caKey.unlink()
        error = self.assertRaises(NoSuchKeyFile, openAuthority, self.directory, NOW)
        self.assertEqual(
            f"{self.directory.caKey}: the authority's key is not here; "
            "do this where it is",
            str(error),
        )

    def test_unfit(self) -> None:
        """
        What could not sign anything of use is refused, and says why.
        """
        stranger = Authority(authority().certificate, otherAuthority().key)
        for wrong, why in [
            (newAuthority(notAfter=NOW - DAY), "expired"),
            (newAuthority(notBefore=NOW + DAY), "not valid before"),
            (newAuthority(isAuthority=False), "not an authority's certificate"),
            (stranger, "do not belong together"),
        ]:
            writePair(self.directory.ca, self.directory.caKey, wrong)
            error = self.assertRaises(BrokenKeyFile, openAuthority, self.directory, NOW)
            self.assertEqual(self.directory.ca, error.path)
            self.assertIn(why, error.problem)


class RevokingTests(SynchronousTestCase):
    """
    Tests for L{revoke}, L{readRevoked}, L{serialsOf} and L{whyRevokedKey}.
    """

    def setUp(self) -> None:
        """
        Write a directory of keys.
        """
        self.directory = writeKeys(Path(self.mktemp()), clients=("alice", "bob"))

    def listed(self) -> tuple[set[int], int]:
        """
        The serial numbers on the list, and the list's own number.
        """
        crl = readCRL(self.directory.crl)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value
        return {entry.serial_number for entry in crl}, number.crl_number

    def test_revoke(self) -> None:
        """
        Entries are added to those that are there; the list's number rises.
        """
        self.assertEqual([5], revoke(self.directory, [5], NOW))
        self.assertEqual([6], revoke(self.directory, [5, 6, 6], NOW))
        self.assertEqual(({5, 6}, 3), self.listed())

    def test_again(self) -> None:
        """
        Without anything to revoke the list is signed anew, and lasts as long as
        the authority.
        """
        writeRevocationList(
            self.directory, authority().revocationList(nextUpdate=NOW + DAY)
        )
        self.assertEqual([], revoke(self.directory, [], NOW))
        end = readCRL(self.directory.crl).next_update_utc
        self.assertEqual(authority().certificate.not_valid_after_utc, end)

    def test_noList(self) -> None:
        """
        The first revocation makes the list, if there is none.
        """
        self.directory.crl.unlink()
        self.assertIsNone(readRevoked(self.directory, authority().certificate))
        revoke(self.directory, [5], NOW)
        self.assertEqual(({5}, 1), self.listed())

    def test_foreignList(self) -> None:
        """
        A list that another authority signed is neither believed nor continued.
        """
        writeRevocationList(self.directory, otherAuthority().revocationList())
        before = self.directory.crl.read_bytes()
        error = self.assertRaises(KeyFileError, revoke, self.directory, [5], NOW)
        self.assertIn("crl.pem: not signed by this authority", str(error))
        self.assertEqual(before, self.directory.crl.read_bytes())

    def test_locked(self) -> None:
        """
        From reading the list to writing it nobody else can revoke anything,
        which would get lost.
        """
        other = os.open(self.directory.path, os.O_RDONLY)
        self.addCleanup(os.close, other)

        def assertLocked() -> None:
            self.assertRaises(
                BlockingIOError, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB
            )

        self.patch(module, "readRevoked", lambda *parts: assertLocked())
        self.patch(module, "writePEM", lambda *parts, replace: assertLocked())
        self.assertEqual([5], revoke(self.directory, [5], NOW))

    def test_brokenLink(self) -> None:
        """
        A list whose name leads nowhere is not taken for one of nobody, which
        would let all revoked ones in again.
        """
        self.directory.crl.rename(self.directory.path / "list.pem")
        self.directory.crl.symlink_to("gone.pem")
        error = self.assertRaises(
            NoSuchKeyFile, readRevoked, self.directory, authority().certificate
        )
        self.assertEqual(self.directory.crl, error.path)
        self.assertRaises(NoSuchKeyFile, revoke, self.directory, [5], NOW)
        self.assertTrue(self.directory.crl.is_symlink())

    def test_serialsOfName(self) -> None:
        """
        With a name's certificate go its former ones, as long as they are ours.
        """
        former, foreign = authority().client("alice"), otherAuthority().client("alice")
        for pair in (former, foreign):
            name = f"alice-{pair.certificate.serial_number:x}"
            directory = self.directory.former
            writePair(directory / f"{name}.pem", directory / f"{name}.k", pair)
        path = self.directory.client("alice")
        current, *others = serialsOf(self.directory, path, "alice")
        self.assertEqual([former.certificate.serial_number], others)
        self.assertEqual([current], serialsOf(self.directory, path, None))

    def test_longSerial(self) -> None:
        """
        A serial number that no revocation list can name is said to be that.
        """
        ca = readCertificate(self.directory.ca)
        path = self.directory.path / "long.pem"
        path.write_bytes(
            forged(
                serial=b"\x7b" * 21,
                by=Authority(ca, readPrivateKey(self.directory.caKey)),
            ).certificatePEM
        )
        error = self.assertRaises(KeyFileError, serialsOf, self.directory, path, None)
        self.assertIn("more than 20 bytes", str(error))
        revoke(self.directory, [MAX_SERIAL], NOW)

    def test_foreignCertificate(self) -> None:
        """
        Another authority's certificate cannot be revoked, nor the authority
        itself.
        """
        pair = self.directory.pair("alice")
        writePair(pair.certificate, pair.key, otherAuthority().client("alice"))
        for path in (pair.certificate, self.directory.ca):
            error = self.assertRaises(
                KeyFileError, serialsOf, self.directory, path, None
            )
            self.assertIn("not signed by this authority", str(error))

    def test_revokedKey(self) -> None:
        """
        The key of a revoked certificate is known; another's is not.
        """
        ca = authority().certificate
        path = self.directory.client("alice")
        revoke(self.directory, serialsOf(self.directory, path, "alice"), NOW)
        alice, bob = (
            x509.load_pem_x509_certificate(self.directory.client(name).read_bytes())
            for name in ("alice", "bob")
        )
        self.assertIsNotNone(whyRevokedKey(self.directory, ca, alice.public_key()))
        self.assertIsNone(whyRevokedKey(self.directory, ca, bob.public_key()))
