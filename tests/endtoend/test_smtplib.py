"""
Clients of Python's standard library, which take three-digit replies as those
of their own protocols.
"""

from __future__ import annotations

from ftplib import FTP_TLS, error_perm, error_temp
from smtplib import SMTP_SSL, SMTPConnectError
from socket import create_connection

from tests.endtoend.service import PATIENCE, EndToEndTests, RunningService


class ImplicitFTP(FTP_TLS):
    """
    FTP's control connection with TLS from the first octet.
    """

    def connect(  # type: ignore[override]  # takes just what is needed here
        self, host: str, port: int, timeout: float
    ) -> str:
        """
        Connect, and read the greeting.
        """
        bare = create_connection((host, port), timeout)
        self.sock = self.context.wrap_socket(bare, server_hostname=host)
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome


class SMTPTests(EndToEndTests):
    """
    L{smtplib.SMTP_SSL}, unmodified.
    """

    def smtp(self, service: RunningService, name: str) -> SMTP_SSL:
        """
        A client that has been greeted.
        """
        client = SMTP_SSL(
            "127.0.0.1",
            service.port,
            context=service.context(name),
            timeout=PATIENCE,
        )
        self.addCleanup(client.close)
        return client

    def test_who(self) -> None:
        """
        C{docmd("WHO")} answers with code and text.
        """
        client = self.smtp(self.service(), "alice")
        code, text = client.docmd("WHO")
        self.assertEqual(code, 200)
        self.assertRegex(text, rb"\Aalice 127\.0\.0\.1:\d+ since \S+Z idle 0 s\Z")

    def test_severalLines(self) -> None:
        """
        A reply of several lines is read as one.
        """
        client = self.smtp(self.service(), "alice")
        code, text = client.docmd("STATUS")
        self.assertEqual(code, 211)
        self.assertIn(b"holder: alice", text.split(b"\n"))
        self.assertEqual(client.quit()[0], 221)

    def test_busy(self) -> None:
        """
        Whoever comes second gets L{SMTPConnectError} with 421, and the first
        goes on.
        """
        service = self.service()
        holder = self.smtp(service, "alice")
        error = self.assertRaises(SMTPConnectError, self.smtp, service, "bob")
        self.assertEqual(error.smtp_code, 421)
        self.assertRegex(error.smtp_error, rb"\ABUSY held by alice since ")
        self.assertEqual(holder.noop()[0], 200)


class FTPTests(EndToEndTests):
    """
    L{ftplib.FTP_TLS} with TLS from the first octet.
    """

    def ftp(self, service: RunningService, name: str) -> ImplicitFTP:
        """
        A client that has been greeted.
        """
        client = ImplicitFTP(context=service.context(name), encoding="utf-8")
        self.addCleanup(client.close)
        client.connect("127.0.0.1", service.port, PATIENCE)
        return client

    def test_replies(self) -> None:
        """
        Replies of one line and of several are read, and errors raise what FTP's
        would.
        """
        client = self.ftp(self.service(), "alice")
        self.assertRegex(client.welcome or "", r"\A220 .*; you are alice\Z")
        self.assertEqual(client.sendcmd("ECHO grüß dich"), "200 grüß dich")
        status = client.sendcmd("STATUS").split("\n")
        self.assertIn("211-holder: alice", status)
        self.assertRegex(status[-1], r"\A211 audit_state: open\Z")
        error = self.assertRaises(error_perm, client.sendcmd, "PASV")
        self.assertRegex(str(error), r"\A500 UNKNOWN-COMMAND ")
        self.assertRegex(client.quit(), r"\A221 bye; record \d+ [0-9a-f]{64}\Z")

    def test_busy(self) -> None:
        """
        Whoever comes second gets C{error_temp} with the 421.
        """
        service = self.service()
        self.ftp(service, "alice")
        error = self.assertRaises(error_temp, self.ftp, service, "bob")
        self.assertRegex(str(error), r"\A421 BUSY held by alice since ")
