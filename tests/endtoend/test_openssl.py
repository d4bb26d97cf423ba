"""
C{openssl s_client} as the client, and every certificate that is not good enough.
"""

from __future__ import annotations

import pexpect  # type: ignore[import-untyped]  # it has no types

import tcpsvc
from tcpsvc.identity import fingerprintOf
from tcpsvc.keys.advice import opensslLine
from tests.certificates import (
    Pair,
    authority,
    otherAuthority,
    writePair,
    writeRevocationList,
)
from tests.endtoend.service import (
    PATIENCE,
    EndToEndTests,
    RunningService,
    run,
    waitUntil,
)
from tests.support import requireProgram

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


class OpenSSLTests(EndToEndTests):
    """
    A person who pastes the line that C{tcpsvc keys} prints.
    """

    def setUp(self) -> None:
        """
        Need openssl.
        """
        requireProgram("openssl")
        super().setUp()

    def terminal(self, service: RunningService, name: str) -> pexpect.spawn:
        """
        A terminal into which the line was pasted.
        """
        line = opensslLine(service.keys, name, "localhost", service.port)
        terminal = pexpect.spawn(
            "/bin/sh", ["-c", line], encoding="utf-8", timeout=PATIENCE, echo=False
        )
        self.addCleanup(terminal.close, force=True)
        return terminal

    def test_conversation(self) -> None:
        """
        The line that was printed gives a greeting, an echo, who one is, and a
        good bye; then C{openssl} ends by itself.
        """
        service = self.service()
        terminal = self.terminal(service, "alice")
        terminal.expect(r"220 \S+ tcpsvc (\S+); you are alice\r")
        self.assertEqual(terminal.match[1], tcpsvc.__version__)
        terminal.sendline("ECHO hello")
        terminal.expect("200 hello\r")
        terminal.sendline("WHO")
        terminal.expect(rf"200 alice 127\.0\.0\.1:\d+ since {TIME} idle 0 s\r")
        terminal.sendline("QUIT")
        terminal.expect("221 bye")
        terminal.expect(pexpect.EOF)
        terminal.wait()
        self.assertEqual(terminal.exitstatus, 0)
        service.waitForRecord("session.closed", reason="quit", requests=3)

    def test_secondClient(self) -> None:
        """
        While one holds the service, another is told by whom it is held and is
        shut out; the holder notices nothing, and the other gets in afterwards.
        """
        service = self.service()
        first = self.terminal(service, "alice")
        first.expect("you are alice\r")
        second = self.terminal(service, "bob")
        second.expect(rf"421 BUSY held by alice since {TIME}, idle \d+ s\r")
        second.expect(pexpect.EOF)
        first.sendline("ECHO still here")
        first.expect_exact("200 still here\r")
        self.assertEqual(
            first.before.replace("\r", "").strip(), "", "nothing came in between"
        )
        first.sendline("QUIT")
        first.expect(pexpect.EOF)
        service.waitUntilFree()
        service.admitted("bob").close()
        (refused,) = service.records("session.refused")
        self.assertEqual(refused["reason"], "busy")
        self.assertEqual(refused["holder"], "alice")
        self.assertEqual(refused["identity"]["name"], "bob")

    def test_control(self) -> None:
        """
        A client that offers the control protocol asks while another holds the
        service, and takes nothing away from it.
        """
        service = self.service()
        holder = self.visit(service)
        asking = run(
            service.openssl("bob", "-alpn", "tcpsvc-control/1"), b"WHO\nECHO no\nQUIT\n"
        )
        greeting, who, unknown, bye = asking.stdout.decode().splitlines()
        self.assertRegex(greeting, r"\A220 \S+ tcpsvc \S+ control; you are bob\Z")
        self.assertRegex(who, r"\A200 alice ")
        self.assertRegex(unknown, r"\A500 UNKNOWN-COMMAND ")
        self.assertRegex(bye, r"\A221 ")
        self.assertEqual(holder.ask("ECHO mine"), "200 mine")

    def test_minimumVersion(self) -> None:
        """
        TLS 1.2 is refused unless it was allowed; then only with ECDHE and an
        AEAD cipher.
        """
        strict, lenient = self.service(), self.service("--tls-minimum", "1.2")
        old = strict.openssl("alice", "-tls1_2")
        refused = run(old, b"QUIT\n")
        self.assertEqual(refused.stdout, b"")
        strict.waitForRecord(
            "handshake.failed", reason="a version of TLS that is not allowed"
        )
        for ciphers, greeted in (
            ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
            ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
            ("ECDHE-ECDSA-AES128-SHA256", False),
            ("ECDHE-ECDSA-AES256-SHA", False),
        ):
            client = run(
                lenient.openssl("alice", "-tls1_2", "-cipher", ciphers), b"QUIT\n"
            )
            self.assertEqual(client.stdout.startswith(b"220 "), greeted, ciphers)
            lenient.waitUntilFree()
        versions = {
            (record["tls"]["version"], record["tls"]["cipher"])
            for record in lenient.records("session.opened")
        }
        self.assertEqual(
            versions,
            {
                ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
                ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
            },
        )


class RefusedCertificateTests(EndToEndTests):
    """
    Clients whose certificates are not good enough. All is asserted on the
    server's side: in TLS 1.3 a refused client believes its handshake complete.
    """

    def setUp(self) -> None:
        """
        Need openssl, and a service that bob's certificate was revoked for.
        """
        requireProgram("openssl")
        super().setUp()
        revoked = authority().client("bob")
        writePair(self.keys.client("bob"), self.keys.clientKey("bob"), revoked)
        writeRevocationList(self.keys, authority().revocationList(revoked.certificate))
        self.revoked = revoked
        self.running = self.service()

    def assertRefused(self, pair: Pair | None, reason: str) -> None:
        """
        A client that shows this pair is never greeted, the slot is untouched,
        and log and trail say why it was refused; while nobody holds the
        service, and while someone does.
        """
        service = self.running
        name = None
        if pair is not None:
            name = "mallory"
            writePair(self.keys.client(name), self.keys.clientKey(name), pair)

        def attempt() -> None:
            before = len(service.records("handshake.failed"))
            client = run(service.openssl(name), b"WHO\nQUIT\n")
            self.assertEqual(client.stdout, b"", "not a word to it")
            self.assertNotEqual(client.returncode, 0)
            # One that follows within a second is told after that second.
            waitUntil(
                lambda: len(service.records("handshake.failed")) > before,
                "the failure is recorded",
            )
            failures = service.records("handshake.failed")[before:]
            self.assertEqual([one["reason"] for one in failures], [reason])
            self.assertRegex(failures[0]["address"], r"\A127\.0\.0\.1:\d+\Z")
            line = f"refused {failures[0]['address']} in the handshake: {reason}"
            if pair is None:
                self.assertNotIn("certificate", failures[0])
            else:
                shown = failures[0]["certificate"]
                self.assertEqual(shown["fingerprint"], fingerprintOf(pair.certificate))
                self.assertEqual(
                    shown["serial"], format(pair.certificate.serial_number, "x")
                )
                line += f" ({pair.certificate.subject.rfc4514_string()})"
            self.assertIn(line, service.log)

        attempt()
        self.assertEqual(service.records("session.opened"), [])
        holder = self.visit(service)
        self.assertTrue(holder.first.startswith("220 "), holder.first)
        attempt()
        self.assertRegex(holder.ask("WHO"), r"\A200 alice ")
        self.assertEqual(len(service.records("session.opened")), 1)
        self.assertEqual(service.records("session.refused"), [])
        self.assertNotIn("Traceback", service.log)
        self.verifiedRecords(service)

    def test_none(self) -> None:
        """
        No certificate at all.
        """
        self.assertRefused(None, "no certificate")

    def test_otherAuthority(self) -> None:
        """
        A certificate of another CA, which has the same name as ours.
        """
        self.assertRefused(otherAuthority().client("alice"), "unknown CA")

    def test_expired(self) -> None:
        """
        A certificate that was good until yesterday.
        """
        self.assertRefused(authority().expired("alice"), "expired")

    def test_notYetValid(self) -> None:
        """
        A certificate that will be good tomorrow.
        """
        self.assertRefused(authority().notYetValid("alice"), "not yet valid")

    def test_revoked(self) -> None:
        """
        A certificate that was good until it was revoked.
        """
        self.assertRefused(self.revoked, "revoked")

    def test_wrongPurpose(self) -> None:
        """
        A certificate for servers.
        """
        self.assertRefused(authority().wrongPurpose("alice"), "wrong purpose")

    def test_noPurpose(self) -> None:
        """
        A certificate without extended key usage, which OpenSSL would accept.
        """
        self.assertRefused(authority().noPurpose("alice"), "wrong purpose")
