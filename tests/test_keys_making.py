"""
Tests for L{tcpsvc.keys.making}.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tcpsvc.identity import alternativeNames, identityFrom, isForClients, isForServers
from tcpsvc.keyfiles import (
    KeyDirectory,
    KeyFileError,
    NoSuchKeyFile,
    PrivateKey,
    readCertificate,
    readCRL,
    readPrivateKey,
)
from tcpsvc.keys import making
from tcpsvc.keys.advice import opensslLine
from tcpsvc.keys.authority import revoke, serialsOf
from tcpsvc.keys.issuing import Bearer
from tcpsvc.keys.names import BadArgument
from tcpsvc.keys.rules import Role
from tcpsvc.keys.writing import KeyFileExists
from tests.certificates import (
    DAY,
    NOW,
    SERVER_AUTH,
    otherAuthority,
    writePair,
    writePrivate,
)

YEAR = 365 * DAY


class DirectoryTestCase(SynchronousTestCase):
    """
    A test with a directory of keys, made a day ago.
    """

    def setUp(self) -> None:
        """
        Make an authority, a server's pair and a client's.
        """
        self.directory = KeyDirectory(Path(self.mktemp()))
        making.initialise(self.directory, ["localhost", "127.0.0.1"], NOW - DAY)
        self.alice = making.makeClient(self.directory, "alice", NOW - DAY)

    def contents(self) -> dict[Path, bytes]:
        """
        All files and what is in them.
        """
        paths = self.directory.path.rglob("*")
        return {path: path.read_bytes() for path in paths if path.is_file()}

    def revokeAlice(self) -> None:
        """
        Revoke alice's certificate.
        """
        serials = serialsOf(self.directory, self.alice.certificate, "alice")
        revoke(self.directory, serials, NOW)


class InitTests(DirectoryTestCase):
    """
    Tests for L{making.initialise}.
    """

    def test_files(self) -> None:
        """
        There are an authority, a server's pair, an empty revocation list and
        the trail's key, and nothing else.
        """
        directory = KeyDirectory(Path(self.mktemp()))
        making.initialise(directory, ["localhost"], NOW)
        names = {path.name for path in directory.path.iterdir()}
        pairs = {"ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "crl.pem"}
        self.assertEqual(pairs | {"audit.pem", "audit-key.pem"}, names)
        self.assertEqual(0, len(readCRL(directory.crl)))
        server = readCertificate(directory.server)
        self.assertTrue(isForServers(server) and not isForClients(server))

    def test_modes(self) -> None:
        """
        Private keys are for their owner alone, and so are the directories.
        """
        self.addCleanup(os.umask, os.umask(0))
        directory = KeyDirectory(Path(self.mktemp()))
        making.initialise(directory, ["localhost"], NOW)
        making.makeClient(directory, "alice", NOW)
        secret = sorted(directory.path.rglob("*-key.pem"))
        self.assertEqual(4, len(secret))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in secret}
        self.assertEqual({0o600}, modes)
        for path in (directory.path, directory.clients):
            self.assertEqual(0o700, stat.S_IMODE(path.stat().st_mode))

    def test_partly(self) -> None:
        """
        If any of the files is there it is named, and nothing is changed.
        """
        for path in self.contents():
            if path.parent == self.directory.clients:
                continue
            directory = KeyDirectory(Path(self.mktemp()))
            directory.path.mkdir()
            there = directory.path / path.name
            there.touch()
            error = self.assertRaises(
                KeyFileExists, making.initialise, directory, ["localhost"], NOW
            )
            self.assertEqual(there, error.path)
            self.assertEqual([there], list(directory.path.iterdir()))
            there.unlink()
            there.symlink_to("nowhere")
            self.assertRaises(
                KeyFileExists, making.initialise, directory, ["localhost"], NOW
            )
            self.assertEqual([there], list(directory.path.iterdir()))

    def test_force(self) -> None:
        """
        With force all is made anew but the trail's key; the former certificates
        are kept.
        """
        before = self.contents()
        making.initialise(self.directory, ["localhost"], NOW, force=True)
        after = self.contents()
        same = {path.name for path in before if before[path] == after[path]}
        self.assertEqual(
            {"audit-key.pem", "audit.pem", "alice.pem", "alice-key.pem"}, same
        )
        former = [path.read_bytes() for path in self.directory.former.iterdir()]
        self.assertEqual(
            {before[self.directory.ca], before[self.directory.server]}, set(former)
        )

    def test_badHost(self) -> None:
        """
        A host that cannot be one is refused before anything is made.
        """
        directory = KeyDirectory(Path(self.mktemp()))
        self.assertRaises(BadArgument, making.initialise, directory, ["a b"], NOW)
        self.assertFalse(directory.path.exists())


class MakingTests(DirectoryTestCase):
    """
    Tests for L{making.makeClient} and L{making.makeServer}.
    """

    def test_client(self) -> None:
        """
        A client's certificate names it, belongs to its key, and is for clients
        only.
        """
        certificate = readCertificate(self.alice.certificate)
        self.assertEqual("alice", identityFrom(certificate).name)
        key = readPrivateKey(self.alice.key)
        self.assertEqual(key.public_key(), certificate.public_key())
        self.assertTrue(isForClients(certificate) and not isForServers(certificate))

    def test_exists(self) -> None:
        """
        Neither a certificate nor a key is replaced without force.
        """
        for gone in (None, self.alice.certificate):
            if gone:
                gone.unlink()
            before = self.contents()
            self.assertRaises(
                KeyFileExists, making.makeClient, self.directory, "alice", NOW
            )
            self.assertRaises(
                KeyFileExists, making.makeServer, self.directory, ["a"], NOW
            )
            self.assertEqual(before, self.contents())

    def test_force(self) -> None:
        """
        With force there is a new pair, and the former certificate is kept, so
        that it can be revoked.
        """
        former = readCertificate(self.alice.certificate)
        making.makeClient(self.directory, "alice", NOW, force=True)
        certificate = readCertificate(self.alice.certificate)
        self.assertNotEqual(former.public_key(), certificate.public_key())
        (kept,) = self.directory.formerOf("alice")
        self.assertEqual(former, readCertificate(kept))

    def test_badName(self) -> None:
        """
        A name that would lead elsewhere makes no file.
        """
        before = self.contents()
        self.assertRaises(BadArgument, making.makeClient, self.directory, "../eve", NOW)
        self.assertEqual(before, self.contents())

    def test_keyFirst(self) -> None:
        """
        A crash between the two files leaves a key without a certificate, never
        the other way round.
        """

        def crash(path: Path, *parts: object, **options: object) -> None:
            raise KeyboardInterrupt(path, parts, options)

        self.patch(making, "writePEM", crash)
        self.assertRaises(
            KeyboardInterrupt, making.makeClient, self.directory, "bob", NOW
        )
        self.assertTrue(self.directory.clientKey("bob").exists())
        self.assertFalse(self.directory.client("bob").exists())

    def test_server(self) -> None:
        """
        A new server's pair has its hosts.
        """
        making.makeServer(self.directory, ["b.example", "::1"], NOW, force=True)
        names = alternativeNames(readCertificate(self.directory.server))
        self.assertEqual(("DNS:b.example", "IP:::1"), names)


class SigningTests(DirectoryTestCase):
    """
    Tests for L{making.request} and L{making.sign}.
    """

    def setUp(self) -> None:
        """
        Have a second directory, of somebody who has no authority.
        """
        super().setUp()
        self.owners = KeyDirectory(Path(self.mktemp()))

    def sign(self, path: Path, role: Role = Role.CLIENT, force: bool = False) -> Path:
        """
        Sign a request, and return where the certificate is.
        """
        return making.sign(self.directory, path, role, NOW, force=force).certificate

    def csr(
        self,
        *names: str,
        key: PrivateKey | None = None,
        extensions: tuple[x509.ExtensionType, ...] = (),
    ) -> Path:
        """
        Write a request as anybody might make one.
        """
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n) for n in names])
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        asked = builder.sign(
            key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
        )
        path = Path(self.mktemp() + ".csr")
        path.write_bytes(asked.public_bytes(serialization.Encoding.PEM))
        return path

    def test_client(self) -> None:
        """
        The key stays with its owner; what is signed belongs to it.
        """
        pair = making.request(self.owners, Bearer.client("bob"))
        certificate = readCertificate(self.sign(pair.request))
        self.assertEqual("bob", identityFrom(certificate).name)
        key = readPrivateKey(pair.key)
        self.assertEqual(key.public_key(), certificate.public_key())
        self.assertFalse(self.directory.clientKey("bob").exists())

    def test_server(self) -> None:
        """
        A server gets the hosts that it asks for or those that are given
        instead, beside its request.
        """
        pair = making.request(self.owners, Bearer.server(["b.example", "10.0.0.1"]))
        path = self.sign(pair.request, Role.SERVER)
        self.assertEqual(self.owners.server, path)
        self.assertEqual(
            ("DNS:b.example", "IP:10.0.0.1"), alternativeNames(readCertificate(path))
        )
        making.sign(
            self.directory, pair.request, Role.SERVER, NOW, hosts=["c"], force=True
        )
        self.assertEqual(("DNS:c",), alternativeNames(readCertificate(path)))

    def test_requestExists(self) -> None:
        """
        A request replaces no key and no certificate without force.
        """
        bearer = Bearer.client("bob")
        pair = making.request(self.owners, bearer)
        key = pair.key.read_bytes()
        self.assertRaises(KeyFileExists, making.request, self.owners, bearer)
        self.assertEqual(key, pair.key.read_bytes())
        pair.key.unlink()
        self.assertRaises(KeyFileExists, making.request, self.owners, bearer)
        self.assertFalse(pair.key.exists())
        making.request(self.owners, bearer, force=True)
        self.assertNotEqual(key, pair.key.read_bytes())
        alice = Bearer.client("alice")
        self.assertRaises(KeyFileExists, making.request, self.directory, alice)

    def test_requestForce(self) -> None:
        """
        With force the certificate of the former key is put away, so that a
        client who was revoked needs no more than that.
        """
        former = self.alice.certificate.read_bytes()
        key = self.alice.key.read_bytes()
        making.request(self.directory, Bearer.client("alice"), force=True)
        self.assertNotEqual(key, self.alice.key.read_bytes())
        self.assertFalse(self.alice.certificate.exists())
        (kept,) = self.directory.formerOf("alice")
        self.assertEqual(former, kept.read_bytes())

    def test_requestAtOnce(self) -> None:
        """
        A request that cannot be made leaves no key behind, nor takes anything
        away.
        """

        def fail(*parts: object) -> None:
            raise ValueError(parts)

        self.patch(making, "requestFor", fail)
        before = self.contents()
        for name in ("alice", "bob"):
            self.assertRaises(
                ValueError,
                making.request,
                self.directory,
                Bearer.client(name),
                force=True,
            )
        self.assertEqual(before, self.contents())

    def test_longestName(self) -> None:
        """
        The longest names that are allowed can be requested and signed.
        """
        for name in ("x" * 64, "é" * 32, "😀" * 16):
            pair = making.request(self.owners, Bearer.client(name))
            certificate = readCertificate(self.sign(pair.request))
            self.assertEqual(name, identityFrom(certificate).name)

    def test_smuggling(self) -> None:
        """
        Nothing that a request asks for beyond its name comes into the
        certificate.
        """
        path = self.csr(
            "bob",
            extensions=(
                x509.BasicConstraints(True, None),
                x509.ExtendedKeyUsage([SERVER_AUTH]),
                x509.SubjectAlternativeName([x509.DNSName("alice")]),
            ),
        )
        certificate = readCertificate(self.sign(path))
        constraints = certificate.extensions.get_extension_for_class(
            x509.BasicConstraints
        )
        self.assertFalse(constraints.value.ca)
        self.assertTrue(isForClients(certificate) and not isForServers(certificate))
        self.assertEqual(("DNS:bob",), alternativeNames(certificate))

    def test_exists(self) -> None:
        """
        A request in the name of somebody who is there is refused without force.
        """
        before = self.contents()
        self.assertRaises(KeyFileExists, self.sign, self.csr("alice"))
        self.assertEqual(before, self.contents())
        self.sign(self.csr("alice"), force=True)

    def test_refused(self) -> None:
        """
        Weak keys and bad names are refused, and the request is named.
        """
        for path, why in [
            (self.csr("bob", key=rsa.generate_private_key(65537, 1024)), "1024 bits"),
            (
                self.csr("bob", key=ec.generate_private_key(ec.SECP256K1())),
                "the curve secp256k1",
            ),
            (self.csr("../eve"), "has no '/'"),
            (self.csr("server"), "is none of"),
            (self.csr(), "has 1 to 64 octets"),
        ]:
            error = self.assertRaises(KeyFileError, self.sign, path)
            self.assertTrue(str(error).startswith(f"{path}: "))
            self.assertIn(why, str(error))

    def test_badSignature(self) -> None:
        """
        A request that its own key did not sign is refused: somebody else's key
        may be in it.
        """
        path = self.csr("bob")
        asked = x509.load_pem_x509_csr(path.read_bytes())
        der = bytearray(asked.public_bytes(serialization.Encoding.DER))
        der[der.index(b"bob")] ^= 1
        forged = x509.load_der_x509_csr(bytes(der))
        path.write_bytes(forged.public_bytes(serialization.Encoding.PEM))
        error = self.assertRaises(KeyFileError, self.sign, path)
        self.assertIn("its signature is not by its own key", str(error))

    def test_revokedKey(self) -> None:
        """
        The key of a revoked certificate does not come back under another name.
        """
        key = readPrivateKey(self.alice.key)
        self.revokeAlice()
        error = self.assertRaises(KeyFileError, self.sign, self.csr("bob", key=key))
        self.assertIn("that of a revoked certificate", str(error))

    def test_serverWithoutHosts(self) -> None:
        """
        A server's request that asks for no host is refused, unless some are
        given.
        """
        path = self.csr("bob")
        self.assertRaises(KeyFileError, self.sign, path, Role.SERVER)
        self.assertRaises(
            BadArgument,
            making.sign,
            self.directory,
            path,
            Role.SERVER,
            NOW,
            hosts=["a b"],
        )

    def test_overTheRequest(self) -> None:
        """
        A server's certificate never takes the place of its own request.
        """
        path = self.csr("bob").rename(self.mktemp() + ".pem")
        self.assertRaises(BadArgument, self.sign, path, Role.SERVER, force=True)


class RenewalTests(DirectoryTestCase):
    """
    Tests for L{making.renew}.
    """

    def renewed(self, name: str = "alice", **more: bool) -> x509.Certificate:
        """
        The certificate of C{name} after its renewal.
        """
        return readCertificate(
            making.renew(self.directory, name, NOW, **more).certificate
        )

    def test_client(self) -> None:
        """
        The new certificate has the same key and name and a full year; the
        former one is kept.
        """
        former = readCertificate(self.alice.certificate)
        certificate = self.renewed()
        self.assertEqual(former.public_key(), certificate.public_key())
        self.assertEqual(former.subject, certificate.subject)
        self.assertEqual(NOW + YEAR, certificate.not_valid_after_utc)
        (kept,) = self.directory.formerOf("alice")
        self.assertEqual(former, readCertificate(kept))

    def test_server(self) -> None:
        """
        The server's hosts stay what they were.
        """
        names = alternativeNames(readCertificate(self.directory.server))
        certificate = self.renewed("server")
        self.assertEqual(names, alternativeNames(certificate))
        self.assertTrue(isForServers(certificate))

    def test_newKey(self) -> None:
        """
        With a new key both files are new, and belong together.
        """
        former = readCertificate(self.alice.certificate)
        certificate = self.renewed(newKeyToo=True)
        self.assertNotEqual(former.public_key(), certificate.public_key())
        key = readPrivateKey(self.alice.key)
        self.assertEqual(key.public_key(), certificate.public_key())

    def test_keyElsewhere(self) -> None:
        """
        A certificate can be renewed where its key is not; a new key is made
        only where the former one is.
        """
        self.alice.key.unlink()
        self.renewed()
        self.assertFalse(self.alice.key.exists())
        self.assertRaises(NoSuchKeyFile, self.renewed, newKeyToo=True)

    def test_revoked(self) -> None:
        """
        A revoked certificate comes back only with a new key.
        """
        self.revokeAlice()
        error = self.assertRaises(KeyFileError, self.renewed)
        self.assertIn("--new-key", str(error))
        self.renewed(newKeyToo=True)

    def test_formerRevoked(self) -> None:
        """
        Neither does a certificate whose former one, of the same key, was
        revoked.
        """
        former = readCertificate(self.alice.certificate)
        self.renewed()
        revoke(self.directory, [former.serial_number], NOW)
        self.assertRaises(KeyFileError, self.renewed)

    def test_notOurs(self) -> None:
        """
        What another authority signed, or what has another's name, is not
        renewed: nobody here knows whose key it is.
        """
        writePair(
            self.alice.certificate, self.alice.key, otherAuthority().client("alice")
        )
        error = self.assertRaises(KeyFileError, self.renewed)
        self.assertIn("another authority signed it; tcpsvc keys client", str(error))
        bob = making.makeClient(self.directory, "bob", NOW)
        shutil.copy(bob.certificate, self.alice.certificate)
        error = self.assertRaises(KeyFileError, self.renewed)
        self.assertIn("names 'bob' and not 'alice'", str(error))

    def test_apart(self) -> None:
        """
        A certificate whose key is another's is not renewed as it is.
        """
        writePrivate(self.alice.key, otherAuthority().keyPEM)
        error = self.assertRaises(KeyFileError, self.renewed)
        self.assertIn("do not belong together; --new-key", str(error))

    def test_authority(self) -> None:
        """
        The authority cannot be renewed.
        """
        self.assertRaises(BadArgument, self.renewed, "ca")

    def test_expired(self) -> None:
        """
        An expired certificate can be renewed.
        """
        late = NOW + 2 * YEAR
        certificate = readCertificate(
            making.renew(self.directory, "alice", late).certificate
        )
        self.assertEqual(late + YEAR, certificate.not_valid_after_utc)


class ExportTests(DirectoryTestCase):
    """
    Tests for L{making.export}.
    """

    def export(self, name: str = "alice", passphrase: str = "pässword") -> Path:
        """
        Export a pair.
        """
        path = self.directory.pair(name).bundle
        making.export(self.directory, name, lambda: passphrase, path)
        return path

    def test_export(self) -> None:
        """
        The passphrase opens a file, for its owner alone, with the key, its
        certificate and the authority's.
        """
        path = self.export()
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        key, certificate, others = pkcs12.load_key_and_certificates(
            path.read_bytes(), "pässword".encode()
        )
        assert key is not None
        assert certificate is not None
        self.assertEqual(certificate.public_key(), key.public_key())
        self.assertEqual(readCertificate(self.alice.certificate), certificate)
        self.assertEqual([readCertificate(self.directory.ca)], others)
        self.assertRaises(
            ValueError, pkcs12.load_key_and_certificates, path.read_bytes(), b"x"
        )

    def test_encryption(self) -> None:
        """
        It is encrypted with AES-256, not with what PKCS #12 began with.
        """
        out = openssl(
            "pkcs12",
            "-in",
            self.export(),
            "-info",
            "-noout",
            "-passin",
            "pass:pässword",
        )
        self.assertEqual(2, out.count("PBES2, PBKDF2, AES-256-CBC"))
        self.assertIn("MAC: sha256", out)

    def test_empty(self) -> None:
        """
        An empty passphrase is refused.
        """
        self.assertRaises(BadArgument, self.export, passphrase="")
        self.assertFalse(self.alice.bundle.exists())

    def test_refusedBeforeAsking(self) -> None:
        """
        Nobody is asked for a passphrase in vain.
        """
        self.export()
        for name, error in [
            ("alice", KeyFileExists),
            ("bob", NoSuchKeyFile),
            ("ca", BadArgument),
        ]:
            path = self.directory.pair(name).bundle
            self.assertRaises(
                error, making.export, self.directory, name, self.fail, path
            )


def openssl(*words: object) -> str:
    """
    Run the real C{openssl}.

    @return: What it said, on whichever stream.
    @raise SkipTest: If it is not installed, save where everything must be.
    """
    if shutil.which("openssl") is None and "CI" not in os.environ:
        raise SkipTest("openssl is not installed")
    done = subprocess.run(
        ["openssl", *map(str, words)],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class OpensslTests(DirectoryTestCase):
    """
    Tests with the real OpenSSL.
    """

    def verify(self, *words: object) -> str:
        """
        Verify strictly, with the revocation list.
        """
        ca, crl = self.directory.ca, self.directory.crl
        return openssl(
            *("verify", "-x509_strict", "-CAfile", ca, "-CRLfile", crl),
            *("-crl_check", *words),
        )

    def test_strict(self) -> None:
        """
        OpenSSL's strict verification accepts all names of clients and servers,
        renewed ones and those of requests too.
        """
        names = ["bob", "bob@lab.example", "Ünï cö", "10.0.0.7", "x" * 64]
        for name in names:
            making.makeClient(self.directory, name, NOW)
        making.renew(self.directory, "alice", NOW)
        pair = making.request(KeyDirectory(Path(self.mktemp())), Bearer.client("carl"))
        making.sign(self.directory, pair.request, Role.CLIENT, NOW)
        for name in ("alice", "carl", *names):
            path = self.directory.client(name)
            self.assertIn(": OK", self.verify("-purpose", "sslclient", path))
        making.makeServer(self.directory, ["a.example", "::1"], NOW, force=True)
        for check in (("-verify_hostname", "a.example"), ("-verify_ip", "::1")):
            path = self.directory.server
            self.assertIn(": OK", self.verify("-purpose", "sslserver", *check, path))

    def test_revoked(self) -> None:
        """
        OpenSSL refuses what was revoked.
        """
        self.revokeAlice()
        error = self.assertRaises(AssertionError, self.verify, self.alice.certificate)
        self.assertIn("certificate revoked", str(error))

    def test_opensslLine(self) -> None:
        """
        The line that can be pasted talks to the server, and to no other: not if
        it calls it by a name that the certificate does not have.
        """
        with self.serving() as port:
            for host in ("localhost", "127.0.0.1"):
                self.assertEqual(b"cba\n", self.talk(host, port))
        making.makeServer(self.directory, ["elsewhere.example"], NOW, force=True)
        with self.serving() as port:
            for host in ("localhost", "127.0.0.1"):
                self.assertEqual(b"", self.talk(host, port))

    def talk(self, host: str, port: int) -> bytes:
        """
        Paste the line for C{host}, type a line, and return the answer.
        """
        line = opensslLine(self.directory, "alice", host, port)
        client = subprocess.Popen(
            shlex.split(line),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            client.stdin.write(b"abc\n")
            client.stdin.flush()
            return client.stdout.readline()
        finally:
            client.kill()
            client.communicate()

    @contextmanager
    def serving(self) -> Iterator[int]:
        """
        A server that demands a client's certificate and reverses lines.
        """
        openssl("version")
        server = subprocess.Popen(
            [
                *("openssl", "s_server", "-accept", "localhost:0", "-rev", "-4"),
                *("-cert", str(self.directory.server)),
                *("-key", str(self.directory.serverKey)),
                *("-CAfile", str(self.directory.ca), "-Verify", "1"),
                "-verify_return_error",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if found := re.match(r"ACCEPT .*:(\d+)", line):
                    yield int(found[1])
                    break
        finally:
            server.kill()
            server.communicate()


class ClockTests(SynchronousTestCase):
    """
    Tests for the clock that is given.
    """

    def test_now(self) -> None:
        """
        Certificates are of the moment that is given, not of the real one.
        """
        directory = KeyDirectory(Path(self.mktemp()))
        then = NOW + timedelta(days=7000)
        making.initialise(directory, ["localhost"], then)
        self.assertEqual(
            then - timedelta(minutes=10),
            readCertificate(directory.server).not_valid_before_utc,
        )
