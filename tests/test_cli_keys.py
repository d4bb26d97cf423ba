"""
Tests for L{tcpsvc.cli.keys}.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import pkcs12
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.cli import keys as cliKeys
from tcpsvc.keyfiles import KeyDirectory, readCertificate, readCRL
from tcpsvc.keys.advice import opensslLine
from tests.certificates import DAY, NOW, authority, writePair


class CommandTests(SynchronousTestCase):
    """
    Tests for C{tcpsvc keys}.
    """

    def setUp(self) -> None:
        """
        Make an authority for C{localhost}.
        """
        self.directory = KeyDirectory(Path(self.mktemp()))
        self.at(NOW)
        self.run_("init", "localhost", "::1")

    def at(self, now: datetime) -> None:
        """
        Let it be C{now}.
        """
        self.patch(cliKeys, "utcNow", lambda: now)

    def run_(
        self, *words: object, status: int = 0, typed: str | bytes | None = None
    ) -> str:
        """
        Run a command, which ends with C{status}.

        @return: What it said; on standard error if it failed for a reason.
        """
        name, *arguments = map(str, words)
        result = CliRunner().invoke(
            cliKeys.keysGroup,
            [name, "--keys", str(self.directory.path), *arguments],
            input=typed,
        )
        self.assertEqual(status, result.exit_code, result.output)
        self.assertNotIn("PRIVATE KEY", result.output)
        if status in (64, 78):
            self.assertEqual("", result.stdout)
            self.assertTrue(result.stderr.startswith("tcpsvc keys: "), result.stderr)
            self.assertEqual(1, len(result.stderr.splitlines()))
            return result.stderr
        return result.stdout

    def test_init(self) -> None:
        """
        It says for whom the server's certificate is, and what comes next.
        """
        self.directory = KeyDirectory(Path(self.mktemp()))
        out = self.run_("init", "a.example").splitlines()
        self.assertIn("server.pem: for a.example, until ", out[1])
        path = self.directory.path
        self.assertEqual(f"next: tcpsvc keys client --keys {path} NAME", out[-1])

    def test_ownHosts(self) -> None:
        """
        Without hosts it is this machine's names, if they can be some.
        """
        for name, hosts in (("bench7", ["bench7"]), ("bench_7", [])):
            self.patch(socket, "gethostname", lambda name=name: name)
            own = ["localhost", "127.0.0.1", "::1", *hosts]
            out = self.run_("server", "--force")
            self.assertIn(f"for {', '.join(own)}, until", out)

    def test_notOverwritten(self) -> None:
        """
        What is there stays there without force: exit 78.
        """
        self.run_("client", "alice")
        for words in (["init"], ["server"], ["client", "alice"]):
            out = self.run_(*words, status=78)
            self.assertIn("already there; --force replaces it", out)
            self.run_(*words, "--force")

    def test_client(self) -> None:
        """
        The last line is the one to paste, with the server's first host or the
        one that is given.
        """
        out = self.run_("client", "alice").splitlines()
        self.assertEqual(opensslLine(self.directory, "alice", "localhost"), out[-1])
        out = self.run_("client", "bob", "--host", "b.lab", "--port", 9).splitlines()
        self.assertEqual(opensslLine(self.directory, "bob", "b.lab", 9), out[-1])
        self.run_("server", "--force", "*.lab.example", "c.example")
        self.assertIn("-connect c.example:4433", self.run_("client", "dave"))
        self.directory.server.unlink()
        self.assertIn("-connect HOST:4433", self.run_("client", "carol"))

    def test_badArguments(self) -> None:
        """
        What cannot be is refused with exit 64, and nothing is made.
        """
        for words in (
            ("client", "a/b"),
            ("client", "alice", "--host", "a b"),
            ("server", "--force", "a b"),
            ("request", "ca"),
            ("renew", "ca"),
            ("revoke", "--serial", "xyz"),
            ("revoke", "--serial", "0"),
            ("check", "--host", "a:1"),
        ):
            self.run_(*words, status=64)
        self.assertEqual([], self.directory.clientNames())

    def test_missing(self) -> None:
        """
        What is not there is named: exit 78. A client's name leads to the list
        of all, and a path to itself.
        """
        names = f"see tcpsvc keys list --keys {self.directory.path}"
        for words in (
            ("show", "bob"),
            ("renew", "bob"),
            ("revoke", "bob"),
            ("export", "bob"),
        ):
            said = self.run_(*words, status=78)
            self.assertIn(f"bob.pem: there is no client bob; {names}\n", said)
        for words in (("sign", "bob.csr"), ("show", "bobs.pem")):
            said = self.run_(*words, status=78)
            self.assertIn(f"{words[1]}: there is no such file; is the path", said)
        self.directory.server.unlink()
        said = self.run_("show", "server", status=78)
        self.assertIn("server.pem: there is no such file; `tcpsvc keys init`", said)

    def test_longNames(self) -> None:
        """
        A name that is too long in octets is refused as any other, and leaves no
        key behind.
        """
        for words in (("client", "é" * 40), ("request", "é" * 40)):
            self.assertIn("1 to 64 octets", self.run_(*words, status=64))
        self.assertFalse(self.directory.clients.exists())

    def test_requestAndSign(self) -> None:
        """
        What one directory requests another signs.
        """
        signer, self.directory = self.directory, KeyDirectory(Path(self.mktemp()))
        self.assertIn("tcpsvc keys sign FILE", self.run_("request", "bob"))
        out = self.run_("request", "--server", "a.example", "::1")
        self.assertIn("tcpsvc keys sign --server FILE", out)
        directory = self.directory
        back = f"{directory.server}, {directory.ca} and {directory.crl}\n"
        self.assertTrue(out.endswith(f"put what comes back into {back}"))
        owner, self.directory = self.directory, signer
        out = self.run_("sign", owner.pair("bob").request)
        self.assertIn("clients/bob.pem: client, until", out)
        out = self.run_("sign", "--server", owner.pair("server").request)
        self.assertIn(f"{owner.server}: server, until", out)
        more = f"with {self.directory.ca} and {self.directory.crl}\n"
        self.assertTrue(out.endswith(f"send it to its owner, {more}"))
        request = owner.pair("bob").request
        self.run_("sign", request, status=78)
        self.run_("sign", request, "b.example", status=2)
        self.run_("request", "a", "b", status=2)

    def test_list(self) -> None:
        """
        There is a line for each certificate, after one with the headings.
        """
        self.run_("client", "alice")
        head, *lines = self.run_("list").splitlines()
        self.assertEqual(["NAME", "ROLE", "STATUS", "EXPIRES", "SHA-256"], head.split())
        self.assertEqual(
            [["ca", "ca"], ["server", "server"], ["alice", "client"]],
            [line.split()[:2] for line in lines],
        )

    def test_listJSON(self) -> None:
        """
        As JSON it is one array of records.
        """
        records = json.loads(self.run_("list", "--json"))
        self.assertEqual(["ca", "server"], [record["name"] for record in records])

    def test_expiring(self) -> None:
        """
        Only what is due is listed, and then the exit is 1; an empty list is
        empty, and the exit 0.
        """
        self.assertEqual("", self.run_("list", "--expiring", 364))
        self.assertEqual("[]\n", self.run_("list", "--expiring", 364, "--json"))
        out = self.run_("list", "--expiring", 366, status=1)
        self.assertEqual(["NAME", "server"], [row.split()[0] for row in _rows(out)])
        self.at(NOW + 400 * DAY)
        out = self.run_("list", "--expiring", 0, "--json", status=1)
        self.assertEqual("expired", json.loads(out)[0]["status"])

    def test_revokedNotDue(self) -> None:
        """
        What was revoked needs no renewal.
        """
        self.run_("revoke", "server")
        self.assertEqual("", self.run_("list", "--expiring", 366))

    def test_show(self) -> None:
        """
        A certificate is shown by its name or its file.
        """
        self.run_("client", "alice")
        path = self.directory.client("alice")
        out = self.run_("show", "alice")
        self.assertEqual(out, self.run_("show", path))
        certificate = readCertificate(path)
        for part in ("alice", f"{certificate.serial_number:x}", "DNS:alice", "valid"):
            self.assertIn(part, out)
        self.assertIn("ca.pem", self.run_("show", "ca"))
        self.assertIn("DNS:localhost, IP:::1", self.run_("show", "server"))

    def test_void(self) -> None:
        """
        What another authority signed is void and due, and it is shown why.
        """
        self.run_("client", "alice")
        self.assertEqual("", self.run_("list", "--expiring", 0))
        self.run_("init", "--force", "localhost")
        out = self.run_("list", "--expiring", 0, status=1)
        (row,) = _rows(out)[1:]
        self.assertEqual(["alice", "client", "void"], row.split()[:3])
        reason = "void: another authority signed it"
        self.assertIn(reason, self.run_("show", "alice"))
        self.assertIn(reason, self.run_("show", self.directory.client("alice")))

    def test_showLine(self) -> None:
        """
        The line by which a client talks can be shown alone, and again.
        """
        *_, line = self.run_("client", "alice").splitlines()
        self.assertEqual(self.run_("show", "--line", "alice"), f"{line}\n")

    def test_renew(self) -> None:
        """
        A renewed certificate has a year again; a new key comes with the command
        that ends the former one.
        """
        self.run_("client", "alice")
        former = readCertificate(self.directory.client("alice"))
        self.at(NOW + 300 * DAY)
        out = self.run_("renew", "alice")
        self.assertIn(f"until {NOW + 665 * DAY:%Y-%m-%d}", out)
        former = readCertificate(self.directory.client("alice"))
        out = self.run_("renew", "alice", "--new-key")
        self.assertIn(f"revoke --keys {self.directory.path} --serial", out)
        self.assertIn(f"{former.serial_number:x}", out)
        self.assertIn("must be restarted", self.run_("renew", "server"))
        self.assertNotIn("owner", self.run_("renew", "alice"))
        self.directory.clientKey("alice").unlink()
        self.assertIn("send it to its owner", self.run_("renew", "alice"))

    def test_revoke(self) -> None:
        """
        A certificate is revoked by its name, its file or its number, with the
        former ones of the name; that a service must be restarted is said.
        """
        self.run_("client", "alice")
        self.run_("renew", "alice")
        out = self.run_("revoke", "alice")
        self.assertEqual(2, out.count(": revoked"))
        self.assertIn("must be restarted", out)
        self.assertEqual(2, self.run_("revoke", "alice").count(": already revoked"))
        self.run_("client", "bob")
        self.run_("revoke", self.directory.client("bob"))
        self.run_("revoke", "--serial", "AB:cd")
        self.run_("revoke")
        crl = readCRL(self.directory.crl)
        self.assertEqual(4, len(crl))
        self.assertIsNotNone(crl.get_revoked_certificate_by_serial_number(0xABCD))
        self.run_("revoke", "bob", "--serial", "1", status=2)
        self.assertIn("not signed by", self.run_("revoke", "ca", status=78))

    def test_export(self) -> None:
        """
        The passphrase comes from a pipe, twice, and goes nowhere else.
        """
        self.run_("client", "alice")
        out = self.run_("export", "alice", typed="s3cret\ns3cret\n")
        self.assertNotIn("s3cret", out)
        bundle = self.directory.pair("alice").bundle
        pkcs12.load_key_and_certificates(bundle.read_bytes(), b"s3cret")
        other = Path(self.mktemp())
        self.run_("export", "alice", "--out", other, typed="x\nx\n")
        self.assertTrue(other.exists())
        for typed in ("", "x\n", "x\ny\n"):
            said = self.run_("export", "server", typed=typed, status=64)
            self.assertIn("two equal lines are wanted", said)
        self.assertFalse(self.directory.pair("server").bundle.exists())
        self.run_("export", "server", typed="x\r\nx")
        bundle = self.directory.pair("server").bundle
        pkcs12.load_key_and_certificates(bundle.read_bytes(), b"x")

    def test_exportEmpty(self) -> None:
        """
        An empty passphrase is refused, and so is one that is no text.
        """
        said = self.run_("export", "server", typed="\n\n", status=64)
        self.assertIn("an empty passphrase", said)
        said = self.run_("export", "server", typed=b"\xff\n\xff\n", status=64)
        self.assertIn("not UTF-8", said)

    def test_check(self) -> None:
        """
        It says how much it looked at; what does not work makes the exit 1, what
        soon will not does not.
        """
        self.assertEqual("7 files checked, nothing wrong\n", self.run_("check"))
        self.assertIn("7 files checked", self.run_("check", "--host", "::1"))
        self.assertIn("not for b.lab", self.run_("check", "--host", "b.lab", status=1))
        self.at(NOW + 350 * DAY)
        self.assertIn("warning: expires", self.run_("check"))
        self.at(NOW + 370 * DAY)
        self.assertIn("server.pem: expired", self.run_("check", status=1))

    def test_environment(self) -> None:
        """
        The directory may come from the environment.
        """
        result = CliRunner().invoke(
            cliKeys.keysGroup, ["list"], env={"TCPSVC_KEYS": str(self.directory.path)}
        )
        self.assertEqual(0, result.exit_code)

    def test_oneLine(self) -> None:
        """
        What is wrong with a file is one line, without a traceback: exit 78.
        """
        writePair(self.directory.ca, self.directory.caKey, authority().client())
        self.assertIn("ca.pem: not an", self.run_("client", "alice", status=78))

    def test_documented(self) -> None:
        """
        Every sub-command and every option is in the reference, and has a help
        text of its own.
        """
        source = Path(__file__).parent.parent / "docs" / "reference" / "keys.rst"
        text = source.read_text()
        for name, command in cliKeys.keysGroup.commands.items():
            self.assertIn(f"tcpsvc keys {name}", text)
            self.assertTrue(command.help, name)
            for parameter in command.params:
                for option in parameter.opts:
                    if option.startswith("--"):
                        self.assertIn(option, text)


class ImportTests(SynchronousTestCase):
    """
    Tests for what the command costs.
    """

    def test_light(self) -> None:
        """
        Neither the reactor nor pyOpenSSL is imported for it.
        """
        program = (
            "import sys, tcpsvc.cli.keys; "
            "print([name for name in ('twisted.internet', 'OpenSSL') "
            "if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        self.assertEqual("[]\n", done.stdout)

    def test_clock(self) -> None:
        """
        The clock is the real one, in UTC.
        """
        self.assertEqual(timedelta(), cliKeys.utcNow().utcoffset())


def _rows(table: str) -> list[str]:
    """
    The lines of a table.
    """
    return table.splitlines()
