"""
Certificates that are malformed or large, and clients of other protocols: with
C{openssl} and C{curl} as the peers.
"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.certificates import newAuthority, writePair
from tests.clientside import COMMAND, commandEnvironment
from tests.endtoend.gateways import GatewayTests, freePort
from tests.endtoend.service import PATIENCE, EndToEndTests, RunningService, run
from tests.malformed import Forged, commonName, forged, malformed
from tests.support import requireProgram

UNREADABLE = (
    "a PrintableString with @",
    "a T61String",
    "an x400Address",
    "an IP address of three bytes",
)
"""
What OpenSSL accepts and cryptography does not, of which C{openssl} shows all.
"""


class ClientTests(EndToEndTests):
    """
    Clients that the service refuses.
    """

    def setUp(self) -> None:
        """
        Need openssl, and a service.
        """
        requireProgram("openssl")
        super().setUp()
        self.running = self.service()

    def show(self, pair: Forged) -> str:
        """
        Let C{openssl} show a certificate.

        @return: What it says on standard error.
        """
        writePair(self.keys.client("bob"), self.keys.clientKey("bob"), pair)
        client = run(self.running.openssl("bob"), b"WHO\nQUIT\n", patience=5)
        self.assertEqual(b"", client.stdout, "not a word to it")
        self.assertNotEqual(0, client.returncode)
        return client.stderr.decode(errors="replace")

    def test_unreadable(self) -> None:
        """
        A certificate that cannot be read is refused with an alert at once, while the
        service is free and while it is held; the log has no traceback, and the trail
        what is known.
        """

        def showAll() -> None:
            for oddity in UNREADABLE:
                said = self.show(malformed()[oddity])
                self.assertIn("alert internal error", said, oddity)

        showAll()
        holder = self.visit(self.running)
        showAll()
        self.assertRegex(holder.ask("WHO"), r"\A200 alice ")
        self.running.stop()
        records = self.running.records("handshake.failed")
        self.assertEqual(
            {"a certificate that cannot be read"}, {each["reason"] for each in records}
        )
        self.assertEqual(8, sum(each.get("count", 1) for each in records))
        self.assertEqual(
            malformed()[UNREADABLE[0]].fingerprint,
            records[0]["certificate"]["fingerprint"],
        )
        self.assertIn("PrintableString", records[0]["detail"])
        for word in ("Traceback", "Warning"):
            self.assertNotIn(word, self.running.log)
        self.verifiedRecords(self.running)

    def test_large(self) -> None:
        """
        A certificate of 95 KB makes a small record and a small line.
        """
        large = commonName(b"\x07" * 95_000)
        self.show(forged(subject=large, by=newAuthority("elsewhere")))
        record = self.running.waitForRecord("handshake.failed", reason="unknown CA")
        self.assertLess(len(json.dumps(record)), 2500)
        self.assertIn("(95003 bytes, 256 shown)", record["certificate"]["subject"])
        self.assertLess(max(map(len, self.running.log.splitlines())), 2500)

    def test_groups(self) -> None:
        """
        Only the groups of Mozilla's modern profile are there.
        """
        for group in ("X25519", "P-256", "P-384"):
            client = run(self.running.openssl("alice", "-groups", group), b"QUIT\n")
            self.assertRegex(client.stdout, rb"\A220 ", group)
            self.running.waitUntilFree()
        for group in ("X448", "P-521", "ffdhe2048", "ffdhe3072", "ffdhe8192"):
            client = run(self.running.openssl("alice", "-groups", group), b"QUIT\n")
            self.assertEqual(b"", client.stdout, group)
            self.assertIn(b"alert handshake failure", client.stderr, group)
        self.running.waitForRecord(
            "handshake.failed", reason="no key exchange group in common"
        )

    def test_curl(self) -> None:
        """
        An HTTPS client with a good certificate gets alert 120: it takes no slot, and
        nothing of it becomes a request.
        """
        requireProgram("curl")
        pair = self.keys.pair("alice")
        client = run(
            [
                *("curl", "--silent", "--show-error", "--max-time", "5"),
                *("--cacert", str(self.keys.ca), "--cert", str(pair.certificate)),
                *("--key", str(pair.key)),
                f"https://localhost:{self.running.port}/",
            ]
        )
        self.assertNotEqual(0, client.returncode)
        self.assertEqual(b"", client.stdout)
        self.assertIn(b"no application protocol", client.stderr)
        record = self.running.waitForRecord(
            "handshake.failed", reason="no application protocol in common"
        )
        self.assertRegex(record["detail"], r"\Aoffered: .*http/1\.1")
        self.assertEqual([], self.running.records("session.opened"))
        self.assertNotIn("Traceback", self.running.log)


class ServerTests(GatewayTests):
    """
    What the client and a gateway do with a server whose certificate is malformed.
    """

    def setUp(self) -> None:
        """
        A server whose certificate has an odd subject alternative name.
        """
        requireProgram("openssl")
        super().setUp()
        pair = malformed()["an x400Address"]
        files = self.keys.path / "odd.pem", self.keys.path / "odd-key.pem"
        writePair(*files, pair)
        self.port = freePort()
        self.listening(
            [
                *("openssl", "s_server", "-accept", f"127.0.0.1:{self.port}"),
                *("-cert", str(files[0]), "-key", str(files[1]), "-tls1_3", "-rev"),
            ],
            self.port,
        )

    def tcpsvc(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """
        Run C{tcpsvc send} as alice.
        """
        return subprocess.run(
            [sys.executable, *COMMAND, "send", *self.keysOf("alice"), *words],
            capture_output=True,
            timeout=PATIENCE,
            env=commandEnvironment(),
            check=False,
        )

    def test_client(self) -> None:
        """
        C{tcpsvc} says so in a line, and exits with 77.
        """
        done = self.tcpsvc(f"localhost:{self.port}", "NOOP")
        self.assertEqual(77, done.returncode, done.stderr)
        (line,) = done.stderr.decode().splitlines()
        self.assertIn("the server's certificate cannot be read (", line)
        self.assertIn("x400Address", line)

    def test_ownCertificate(self) -> None:
        """
        If it is one's own, the exit status is 78.
        """
        writePair(
            self.keys.client("alice"),
            self.keys.clientKey("alice"),
            malformed()["a PrintableString with @"],
        )
        done = self.tcpsvc(f"localhost:{self.port}", "NOOP")
        self.assertEqual(78, done.returncode, done.stderr)
        (line,) = done.stderr.decode().splitlines()
        self.assertIn("PrintableString", line)

    def test_gateway(self) -> None:
        """
        As the device of a gateway it cannot be reached, and the log says why.
        """
        near: RunningService = self.gateway(
            f"mtls:localhost:{self.port}:keys={self.keys.path}:identity=bob"
        )
        client = self.come(near, "alice", "tcpsvc/1")
        client.settimeout(PATIENCE)
        self.assertRegex(client.recv(100), rb"\A451 BACKEND-DOWN ")
        near.waitForRecord("session.closed", reason="backend-down")
        self.assertIn("the server's certificate cannot be read (", near.log)
        self.assertNotIn("Traceback", near.log)
