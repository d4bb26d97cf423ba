"""
Tests for L{tcpsvc.keys.check}.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.keyfiles import KeyDirectory
from tcpsvc.keys import making
from tcpsvc.keys.check import Finding, check, filesIn
from tcpsvc.keys.issuing import Bearer
from tcpsvc.keys.names import BadArgument
from tests.certificates import (
    CLIENT_AUTH,
    DAY,
    NOW,
    SERVER_AUTH,
    Authority,
    Pair,
    authority,
    newAuthority,
    otherAuthority,
    writeKeys,
    writePair,
    writePrivate,
    writeRevocationList,
)


class CheckTests(SynchronousTestCase):
    """
    Tests for L{check}.
    """

    def setUp(self) -> None:
        """
        Write a directory in which nothing is wrong.
        """
        self.directory = writeKeys(Path(self.mktemp()))
        self.before = self.contents()

    def contents(self) -> dict[Path, bytes]:
        """
        All files and what is in them.
        """
        paths = self.directory.path.rglob("*")
        return {path: path.read_bytes() for path in paths if path.is_file()}

    def found(
        self,
        name: str,
        problem: str,
        mend: str,
        *,
        isError: bool = True,
        now: datetime = NOW,
        host: str | None = None,
    ) -> None:
        """
        Assert that one thing is found and no other.

        @param name: The file's name in the directory.
        @param problem: What is said to be wrong, or a part of it.
        @param mend: What mends it, or a part of it.
        """
        (finding,) = check(self.directory, now, host)
        self.assertEqual(self.directory.path / name, finding.path)
        self.assertIn(problem, finding.problem)
        self.assertIn(mend, finding.mend)
        self.assertIs(isError, finding.isError)
        self.assertEqual(1, len(finding.asLine().splitlines()))

    def alice(self, pair: Pair) -> None:
        """
        Give alice this pair.
        """
        writePair(
            self.directory.client("alice"), self.directory.clientKey("alice"), pair
        )

    def server(self, pair: Pair) -> None:
        """
        Give the server this pair.
        """
        writePair(self.directory.server, self.directory.serverKey, pair)

    def authority(self, by: Authority) -> None:
        """
        Write the directory anew, by this authority.
        """
        self.directory = writeKeys(Path(self.mktemp()), by=by)

    def test_nothing(self) -> None:
        """
        Nothing is found where nothing is wrong, nor is anything changed.
        """
        self.assertEqual([], check(self.directory, NOW))
        self.assertEqual(set(self.before), set(filesIn(self.directory)))
        self.assertEqual(self.before, self.contents())

    def test_authorityBetween(self) -> None:
        """
        An authority that one in C{ca.pem} has signed may stand there too, in either
        place, and sign certificates.
        """
        middle = newAuthority("middle", by=authority())
        self.server(middle.server())
        self.alice(middle.client("alice"))
        writeRevocationList(self.directory, middle.revocationList())
        root = self.directory.ca.read_bytes()
        self.directory.ca.write_bytes(root + middle.certificatePEM)
        self.assertEqual([], check(self.directory, NOW))
        self.directory.caKey.unlink()
        self.directory.ca.write_bytes(middle.certificatePEM + root)
        self.assertEqual([], check(self.directory, NOW))

    def test_authorityBehind(self) -> None:
        """
        It may also stand behind the certificate that it has signed, if one in
        C{ca.pem} vouches for it.
        """
        middle = newAuthority("middle", by=authority())
        for behind, problems in (
            (middle, []),
            (newAuthority("middle"), ["another authority signed it"]),
            (None, ["another authority signed it"]),
        ):
            self.server(middle.server())
            if behind:
                with self.directory.server.open("ab") as file:
                    file.write(behind.certificatePEM)
            found = [finding.problem for finding in check(self.directory, NOW)]
            self.assertEqual(problems, found)

    def test_ownWork(self) -> None:
        """
        Nothing is wrong with what L{tcpsvc.keys} makes, in any of its ways.
        """
        directory = KeyDirectory(Path(self.mktemp()))
        making.initialise(directory, ["localhost"], NOW)
        making.makeClient(directory, "Ünï cö", NOW)
        making.renew(directory, "Ünï cö", NOW)
        making.renew(directory, "server", NOW, newKeyToo=True)
        self.assertEqual([], check(directory, NOW, "localhost"))

    def test_modes(self) -> None:
        """
        Each private key that others can read is found.
        """
        for name in (
            "ca-key.pem",
            "server-key.pem",
            "clients/alice-key.pem",
            "audit-key.pem",
        ):
            path = self.directory.path / name
            path.chmod(0o640)
            self.found(name, "can be read by others (mode 0640)", f"chmod 600 {path}")
            path.chmod(0o600)

    def test_apart(self) -> None:
        """
        A key that does not belong to its certificate is found.
        """
        for name, mend in [
            ("ca", "init --force"),
            ("server", "server --force"),
            ("clients/alice", "client --force"),
        ]:
            path = self.directory.path / f"{name}-key.pem"
            key = path.read_bytes()
            writePrivate(path, otherAuthority().keyPEM)
            command = f"tcpsvc keys {mend.split()[0]} --keys {self.directory.path}"
            self.found(f"{name}.pem", "do not belong together", command)
            writePrivate(path, key)

    def test_wrongAuthority(self) -> None:
        """
        What another authority of the same name signed is found.
        """
        self.alice(otherAuthority().client())
        self.found("clients/alice.pem", "another authority", "keys client")
        self.alice(authority().client())
        self.server(otherAuthority().server("a.example"))
        self.found("server.pem", "another authority", "a.example")

    def test_time(self) -> None:
        """
        What has expired, expires soon or is not yet valid is found; for the
        last it may be the clock that is wrong.
        """
        self.alice(authority().expired())
        self.found("clients/alice.pem", "expired 20", "renew")
        self.alice(authority().notYetValid())
        self.found("clients/alice.pem", "not valid before", "look at the clock")
        self.alice(authority().client(notAfter=NOW + 29 * DAY))
        self.found("clients/alice.pem", "expires 20", "renew", isError=False)
        self.alice(authority().client(notAfter=NOW + 31 * DAY))
        self.assertEqual([], check(self.directory, NOW))
        self.server(authority().server(notAfter=NOW - DAY / 48))
        self.found("server.pem", "expired 20", "renew")

    def test_purpose(self) -> None:
        """
        A purpose that is missing, wrong or one too many is found.
        """
        for usages, problem in [
            ((), "says nothing of its purpose"),
            ((SERVER_AUTH,), "not for clients"),
            ((CLIENT_AUTH, SERVER_AUTH), "for more than clients"),
        ]:
            self.alice(authority().client(usages=usages))
            self.found("clients/alice.pem", problem, "keys client")
        self.alice(authority().client())
        self.server(authority().server(usages=(CLIENT_AUTH,)))
        self.found("server.pem", "not for servers", "keys server")

    def test_names(self) -> None:
        """
        A certificate without a name, or with another's, is found.
        """
        self.alice(authority().withoutCommonName())
        self.found("clients/alice.pem", "no common name", "keys client")
        self.alice(authority().client("bob"))
        self.found("clients/alice.pem", "names 'bob' and not 'alice'", "keys client")
        self.alice(authority().client())
        self.server(authority().server(names=()))
        self.found("server.pem", "names no host", "keys server")

    def test_host(self) -> None:
        """
        If the server is not called by a name that it has, it is found, and
        mended by a name more.
        """
        self.found(
            "server.pem",
            "not for b.example: it names localhost",
            "127.0.0.1 ::1 b.example",
            host="b.example",
        )
        for host in ("localhost", "::1"):
            self.assertEqual([], check(self.directory, NOW, host))
        for directory in (self.directory, KeyDirectory(Path("nowhere"))):
            self.assertRaises(BadArgument, check, directory, NOW, "a b")

    def test_revoked(self) -> None:
        """
        A revoked certificate is found.
        """
        pair = authority().client()
        self.alice(pair)
        crl = authority().revocationList(pair.certificate)
        writeRevocationList(self.directory, crl)
        self.found("clients/alice.pem", "revoked", "remove it")

    def test_revocationList(self) -> None:
        """
        A list that is not the authority's, or not of now, or that will not last
        as long as the authority, is found.
        """
        by = authority()
        for crl, problem, mend, isError in [
            (otherAuthority().revocationList(), "not signed by", "move it", True),
            (by.revocationList(nextUpdate=NOW - DAY / 48), "has expired", "rev", True),
            (by.revocationList(nextUpdate=NOW + DAY), "before the auth", "rev", False),
            (by.revocationList(lastUpdate=NOW + DAY), "not valid", "the clock", True),
        ]:
            writeRevocationList(self.directory, crl)
            self.found("crl.pem", problem, mend, isError=isError)
        self.directory.crl.write_text("rubbish")
        self.found("crl.pem", "there is no certificate revocation list", "a copy")

    def test_noList(self) -> None:
        """
        Without a list nobody is revoked, which is a warning where there is a
        service or the authority; a link to nothing is an error.
        """
        self.directory.crl.unlink()
        nobody = "so nobody is revoked"
        revoke = f"tcpsvc keys revoke --keys {self.directory.path}"
        self.found("crl.pem", nobody, f"a copy, or {revoke}", isError=False)
        self.directory.caKey.unlink()
        self.found("crl.pem", nobody, "the authority's", isError=False)
        self.directory.crl.symlink_to("gone.pem")
        self.found("crl.pem", "there is no such file", "bring it back")

    def test_authorities(self) -> None:
        """
        Each authority in the file is trusted, and looked at.
        """
        with self.directory.ca.open("ab") as file:
            file.write(otherAuthority().certificatePEM)
        self.server(otherAuthority().server())
        self.assertEqual([], check(self.directory, NOW))
        self.alice(otherAuthority().client())
        problem = "the revocation list is not of the authority that signed it"
        self.found("clients/alice.pem", problem, "keys client")
        writeRevocationList(self.directory, otherAuthority().revocationList())
        self.assertEqual([], check(self.directory, NOW))
        with self.directory.ca.open("ab") as file:
            file.write(newAuthority(notAfter=NOW - DAY).certificatePEM)
            file.write(authority().client().certificatePEM)
        findings = check(self.directory, NOW)
        self.assertEqual({self.directory.ca}, {each.path for each in findings})
        self.assertEqual(
            ["take number 3 out of it", "take number 4 out of it"],
            [each.mend for each in findings],
        )

    def test_authority(self) -> None:
        """
        An authority that is none, or is not of now, is found.
        """
        self.authority(newAuthority(isAuthority=False))
        self.found("ca.pem", "not an authority's certificate", "init")
        self.authority(newAuthority(notAfter=NOW - DAY / 48))
        problems = {finding.problem for finding in check(self.directory, NOW)}
        self.assertTrue(any(problem.startswith("expired") for problem in problems))

    def test_missing(self) -> None:
        """
        Of the authority's certificate and the server's pair each is missed.
        """
        for name in ("ca.pem", "server.pem", "server-key.pem"):
            path = self.directory.path / name
            contents = path.read_bytes()
            path.unlink()
            self.found(name, "there is no such file", "tcpsvc keys ")
            self.found(name, "there is no such file", "--force")
            writePrivate(path, contents)
        self.directory.client("alice").unlink()
        self.found("clients/alice.pem", "there is no such file", "keys client")

    def test_empty(self) -> None:
        """
        Where there is nothing, both are missed, and one command makes them.
        """
        findings = check(KeyDirectory(Path("nowhere")), NOW)
        names = [finding.path.name for finding in findings]
        self.assertEqual(["ca.pem", "server.pem"], names)
        mends = {finding.mend for finding in findings}
        self.assertEqual({"tcpsvc keys init --keys nowhere"}, mends)

    def test_serversHost(self) -> None:
        """
        Where the authority's key is not, nothing is recommended that needs it.
        """
        self.directory.caKey.unlink()
        self.server(otherAuthority().server("a.example"))
        request = f"tcpsvc keys request --keys {self.directory.path} --force"
        mend = f"{request} --server a.example, and have it signed"
        self.found("server.pem", "another authority", mend)
        self.server(authority().server(notAfter=NOW - DAY / 48))
        self.found("server.pem", "expired 20", "ask the authority")
        self.server(authority().server())
        self.directory.serverKey.unlink()
        self.found("server-key.pem", "no such file", f"{request} --server localhost")

    def test_clientsAsServers(self) -> None:
        """
        A client's pair in the server's place: its name is no host to make the
        server's pair for.
        """
        self.server(authority().client("alice"))
        (finding,) = check(self.directory, NOW)
        mend = f"tcpsvc keys server --keys {self.directory.path} --force"
        self.assertEqual(mend, finding.mend)

    def test_elsewhere(self) -> None:
        """
        The authority's key may be kept elsewhere, and so may a client's whose
        request was signed.
        """
        self.directory.caKey.unlink()
        self.directory.clientKey("alice").unlink()
        self.assertEqual([], check(self.directory, NOW))

    def test_clients(self) -> None:
        """
        In a client's directory nobody misses the server's pair, unless its name
        is to be checked.
        """
        for path in (
            self.directory.caKey,
            self.directory.server,
            self.directory.serverKey,
            self.directory.crl,
            self.directory.auditKey,
            self.directory.audit,
        ):
            path.unlink()
        self.assertEqual([], check(self.directory, NOW))
        self.found("server.pem", "no such file", "--server HOST", host="localhost")
        writePrivate(self.directory.serverKey, authority().keyPEM)
        self.found("server.pem", "no such file", "--server HOST")
        self.directory.serverKey.unlink()
        self.directory.ca.unlink()
        self.found("ca.pem", "no such file", "ask for the authority's")

    def test_waiting(self) -> None:
        """
        A key whose certificate has been requested is no error.
        """
        making.request(self.directory, Bearer.client("bob"))
        self.found(
            "clients/bob-key.pem", "waits", "clients/bob.csr signed", isError=False
        )

    def test_rubbish(self) -> None:
        """
        Files in which there is nothing of use are each found.
        """
        for path in filesIn(self.directory):
            contents = path.read_bytes()
            writePrivate(path, b"rubbish")
            paths = [finding.path for finding in check(self.directory, NOW)]
            wrong = self.directory.audit if path == self.directory.audit else path
            self.assertIn(wrong, paths)
            writePrivate(path, contents)

    def test_audit(self) -> None:
        """
        The public half of the trail's key must be of that key.
        """
        for contents in (b"", otherAuthority().certificatePEM):
            self.directory.audit.write_bytes(contents)
            self.found("audit.pem", "not the public half", "openssl pkey -in ")
        self.directory.audit.unlink()
        self.found("audit.pem", "not the public half", "openssl pkey -in ")


class FindingTests(SynchronousTestCase):
    """
    Tests for L{Finding}.
    """

    def test_line(self) -> None:
        """
        A line has the file, the problem, and what mends it; a warning says that
        it is one.
        """
        path = Path("keys/x.pem")
        self.assertEqual(
            "keys/x.pem: bad; mend: do", Finding(path, "bad", "do").asLine()
        )
        self.assertEqual(
            "keys/x.pem: warning: bad; mend: do",
            Finding(path, "bad", "do", False).asLine(),
        )
