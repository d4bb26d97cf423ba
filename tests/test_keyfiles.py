"""
Tests for L{tcpsvc.keyfiles}.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc import pemfiles
from tcpsvc.keyfiles import (
    BrokenKeyFile,
    KeyDirectory,
    KeyFileError,
    NoSuchKeyFile,
    readCertificate,
    readCertificates,
    readCRL,
    readPrivateKey,
    readPublicKey,
    readRequest,
)
from tests.certificates import Pair, authority, writeKeys, writePrivate
from tests.malformed import malformed

LOST_LIST = (
    "bring it back from a copy; if there is none, move it away and revoke "
    "everybody again"
)

READERS: list[Callable[[Path], Any]] = [
    readCertificate,
    readCertificates,
    readCRL,
    readPrivateKey,
    readPublicKey,
    readRequest,
]


class DirectoryTests(SynchronousTestCase):
    """
    Tests for L{KeyDirectory}.
    """

    def test_names(self) -> None:
        """
        The files have the names that the contract promises.
        """
        directory = KeyDirectory(Path("k"))
        self.assertEqual(
            [
                "ca.pem",
                "ca-key.pem",
                "server.pem",
                "server-key.pem",
                "crl.pem",
                "audit-key.pem",
                "audit.pem",
                "clients/al.pem",
                "clients/al-key.pem",
            ],
            [
                str(path.relative_to("k"))
                for path in (
                    directory.ca,
                    directory.caKey,
                    directory.server,
                    directory.serverKey,
                    directory.crl,
                    directory.auditKey,
                    directory.audit,
                    directory.client("al"),
                    directory.clientKey("al"),
                )
            ],
        )

    def test_pair(self) -> None:
        """
        A name leads to its two files, and to those that may lie beside them.
        """
        directory = KeyDirectory(Path("k"))
        self.assertEqual(directory.caKey, directory.pair("ca").key)
        self.assertEqual(directory.server, directory.pair("server").certificate)
        pair = directory.pair("a.b")
        self.assertEqual(Path("k/clients/a.b.pem"), pair.certificate)
        self.assertEqual(Path("k/clients/a.b-key.pem"), pair.key)
        self.assertEqual(Path("k/clients/a.b.csr"), pair.request)
        self.assertEqual(Path("k/clients/a.b.p12"), pair.bundle)

    def test_clientNames(self) -> None:
        """
        The clients are those who have a certificate, sorted; a key alone, as a
        request leaves it, is not a client.
        """
        directory = writeKeys(Path(self.mktemp()), clients=("bob", "alice"))
        writePrivate(directory.clientKey("carol"), authority().keyPEM)
        self.assertEqual(["alice", "bob"], directory.clientNames())

    def test_noDirectory(self) -> None:
        """
        A directory that is not there has nobody and nothing.
        """
        directory = KeyDirectory(Path("nowhere"))
        self.assertEqual([], directory.clientNames())
        self.assertEqual([], directory.pairs())
        self.assertEqual([], directory.formerOf("alice"))

    def test_pairs(self) -> None:
        """
        The pairs are those whose certificates are there: the authority's, the
        server's, and the clients'.
        """
        directory = writeKeys(Path(self.mktemp()))
        directory.server.unlink()
        self.assertEqual(["ca", "alice"], [pair.name for pair in directory.pairs()])

    def test_formerOf(self) -> None:
        """
        The former certificates of a name are its own, not those of a name that
        begins alike.
        """
        directory = KeyDirectory(Path(self.mktemp()))
        directory.former.mkdir(parents=True)
        for name in ("a-1.pem", "a-2.pem", "a-b-3.pem", "ab-4.pem"):
            (directory.former / name).touch()
        former = [path.name for path in directory.formerOf("a")]
        self.assertEqual(["a-1.pem", "a-2.pem"], former)


class ReadingTests(SynchronousTestCase):
    """
    Tests for the functions that read files.
    """

    def setUp(self) -> None:
        """
        Write a directory of keys.
        """
        self.directory = writeKeys(Path(self.mktemp()))

    def test_good(self) -> None:
        """
        What is right is read.
        """
        ca = authority().certificate
        self.assertEqual(ca, readCertificate(self.directory.ca))
        self.assertEqual([ca], readCertificates(self.directory.ca))
        self.assertEqual(ca.subject, readCRL(self.directory.crl).issuer)
        key = readPrivateKey(self.directory.caKey)
        self.assertEqual(ca.public_key(), key.public_key())
        self.assertIsInstance(
            readPrivateKey(self.directory.auditKey), ed25519.Ed25519PrivateKey
        )

    def test_severalLists(self) -> None:
        """
        Of several revocation lists none is silently left out: that is an error.
        """
        self.directory.crl.write_bytes(self.directory.crl.read_bytes() * 2)
        error = self.assertRaises(BrokenKeyFile, readCRL, self.directory.crl)
        self.assertEqual(
            f"{self.directory.crl}: more than one certificate revocation list in it; "
            "leave that of the authority that signs the clients",
            str(error),
        )

    def test_missing(self) -> None:
        """
        A file that is not there is named, with the command that makes one, if
        there is such a command.
        """
        init, client = (
            f"`tcpsvc keys {maker}` makes one" for maker in ("init", "client NAME")
        )
        for read, name, mend in [
            (readCertificate, "server.pem", init),
            (readCertificates, "ca.pem", init),
            (readPrivateKey, "server-key.pem", init),
            (readPublicKey, "audit.pem", init),
            (readCertificate, "clients/x.pem", client),
            (readPrivateKey, "clients/x-key.pem", client),
            (readCertificate, "x.pem", "is the path right?"),
            (readRequest, "x.csr", "is the path right?"),
            (readRequest, "clients/x.csr", "is the path right?"),
            (readCRL, "crl.pem", LOST_LIST),
        ]:
            path = self.directory.path / "none" / name
            error = self.assertRaises(NoSuchKeyFile, read, path)
            self.assertEqual(f"{path}: there is no such file; {mend}", str(error))

    def test_malformed(self) -> None:
        """
        A file that is PEM, and cannot be read all the same, is called that, whatever
        cryptography raises; also if that is no L{Exception}. Of its warnings nobody
        hears.
        """

        class Panic(BaseException):
            """What is no L{Exception}."""

        path = self.directory.path / "alice.pem"
        path.write_bytes(malformed()["a serial number below zero"].certificatePEM)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            error = self.assertRaises(BrokenKeyFile, readCertificate, path)
        self.assertEqual([], warned)
        self.assertEqual(
            "there is no certificate in PEM format in it that can be read (ValueError: "
            "the serial number is not positive)",
            error.problem,
        )
        for kind in (Panic, OverflowError):

            def fail(_: bytes, kind: type[BaseException] = kind) -> object:
                raise kind("line\n" * 200)

            self.patch(x509, "load_pem_x509_csr", fail)
            error = self.assertRaises(BrokenKeyFile, readRequest, path)
            self.assertIn(f"({kind.__name__}: line\\nline", error.problem)
            self.assertEqual(1, len(str(error).splitlines()))
            self.assertLess(len(str(error)), 800)

    def test_broken(self) -> None:
        """
        What to do about a file that is no PEM depends on whose it is: nobody is
        told to make anew what others hold, or what they only named.
        """
        for read, name, mend in [
            (readCertificate, "server.pem", "make it anew"),
            (readPrivateKey, "server-key.pem", "make it anew"),
            (readCertificate, "clients/x.pem", "make it anew"),
            (readCertificates, "ca.pem", "bring it back from a copy"),
            (readCRL, "crl.pem", LOST_LIST),
            (readCertificate, "crl.pem", "is it the right file?"),
            (readCertificate, "passwd", "is it the right file?"),
            (readRequest, "server.pem", "is it the right file?"),
        ]:
            path = self.directory.path / name
            writePrivate(path, b"root:x:0:0::/root:/bin/sh\n")
            error = self.assertRaises(BrokenKeyFile, read, path)
            self.assertIn("in PEM format", error.problem)
            self.assertEqual(mend, error.mend)

    def test_fifo(self) -> None:
        """
        A FIFO is refused at once; in a process of its own, because otherwise
        nothing would end the wait for somebody who writes into it.
        """
        for read in READERS:
            path = self.directory.path / f"{read.__name__}.pem"
            os.mkfifo(path, 0o600)
            program = (
                "import sys; from pathlib import Path; from tcpsvc import keyfiles\n"
                "try: getattr(keyfiles, sys.argv[1])(Path(sys.argv[2]))\n"
                "except keyfiles.BrokenKeyFile as error: print(error.problem)"
            )
            done = subprocess.run(
                [sys.executable, "-c", program, read.__name__, str(path.absolute())],
                capture_output=True,
                check=True,
                text=True,
                timeout=20,
                cwd=Path(__file__).parent.parent,
            )
            self.assertEqual("not a regular file\n", done.stdout)

    def test_lazyParts(self) -> None:
        """
        A certificate is read with all its parts: none fails only when somebody
        asks for it.
        """
        der = bytearray(authority().certificate.public_bytes(Encoding.DER))
        place = der.index(bytes.fromhex("0603551d13")) + 4
        der[place] = 0x0F  # basicConstraints become a second keyUsage
        broken = x509.load_der_x509_certificate(bytes(der))
        self.directory.ca.write_bytes(broken.public_bytes(Encoding.PEM))
        for read in (readCertificate, readCertificates):
            self.assertRaises(BrokenKeyFile, read, self.directory.ca)

    def test_unreadable(self) -> None:
        """
        What is no file at all is named, with the system's reason.
        """
        for read in READERS:
            error = self.assertRaises(BrokenKeyFile, read, self.directory.clients)
            self.assertIn("cannot be read: Is a directory", str(error))

    @given(st.binary(max_size=200), st.booleans())
    def test_rubbish(self, rubbish: bytes, armoured: bool) -> None:
        """
        Whatever is in a file, it is read or refused in one line.
        """
        path = self.directory.path / "rubbish"
        if armoured:
            pem = authority().certificatePEM
            rubbish = pem[:60] + rubbish + pem[60 + len(rubbish) :]
        writePrivate(path, rubbish)
        for read in READERS:
            try:
                read(path)
            except KeyFileError as error:
                self.assertEqual(1, len(str(error).splitlines()))

    def test_tooLarge(self) -> None:
        """
        A file that no key or certificate could fill is not read to its end.
        """
        self.patch(pemfiles, "MAX_FILE_SIZE", 100)
        error = self.assertRaises(KeyFileError, readCertificate, self.directory.ca)
        self.assertIn("more than 100 octets", str(error))

    def test_modes(self) -> None:
        """
        A private key that anybody else could use is refused, with the command
        that mends it; one for its owner alone is not.
        """
        path = self.directory.serverKey
        for bit in (0o040, 0o020, 0o010, 0o004, 0o002, 0o001):
            path.chmod(0o600 | bit)
            error = self.assertRaises(BrokenKeyFile, readPrivateKey, path)
            self.assertIn(f"(mode {0o600 | bit:04o}); chmod 600 {path}", str(error))
        path.chmod(0o400)
        readPrivateKey(path)

    def test_passphrase(self) -> None:
        """
        A private key with a passphrase is refused, with the command that takes
        it off.
        """
        pem = authority().key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
        self._refusedKey(pem, "has a passphrase")

    def test_kinds(self) -> None:
        """
        A private key that cannot sign is refused; one of RSA is read.
        """
        pem = x25519.X25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        self._refusedKey(pem, "cannot sign for TLS")
        key = rsa.generate_private_key(65537, 2048)
        writePrivate(
            self.directory.serverKey, Pair(authority().certificate, key).keyPEM
        )
        self.assertEqual(
            key.public_key(), readPrivateKey(self.directory.serverKey).public_key()
        )

    def test_noSecret(self) -> None:
        """
        A refusal of a private key has nothing of it.
        """
        pem = authority().keyPEM
        writePrivate(self.directory.serverKey, pem.replace(b"PRIVATE KEY", b"X"))
        error = self.assertRaises(
            KeyFileError, readPrivateKey, self.directory.serverKey
        )
        self.assertNotIn(pem.decode().splitlines()[1][:8], str(error))

    def _refusedKey(self, pem: bytes, why: str) -> None:
        """
        A private key is refused, and C{why} is in the message.
        """
        writePrivate(self.directory.serverKey, pem)
        error = self.assertRaises(
            BrokenKeyFile, readPrivateKey, self.directory.serverKey
        )
        self.assertIn(why, str(error))
