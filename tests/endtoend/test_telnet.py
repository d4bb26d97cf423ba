"""
telnet as the client, on a plaintext listener of the loopback interface.
"""

from __future__ import annotations

import pexpect  # type: ignore[import-untyped]  # it has no types

from tests.endtoend.service import PATIENCE, EndToEndTests
from tests.support import requireProgram


class TelnetTests(EndToEndTests):
    """
    A person with GNU inetutils' telnet.
    """

    def setUp(self) -> None:
        """
        Start a service with a door for telnet, and go there.
        """
        telnet = requireProgram("telnet")
        super().setUp()
        self.running = self.service(plaintext=["tcp:0:interface=127.0.0.1"])
        self.terminal = pexpect.spawn(
            telnet,
            ["127.0.0.1", str(self.running.plaintextPort)],
            encoding="utf-8",
            timeout=PATIENCE,
        )
        self.addCleanup(self.terminal.close, force=True)

    def test_conversation(self) -> None:
        """
        Whoever comes without TLS is anonymous, and is answered line by line.
        """
        self.terminal.expect("you are anonymous\r")
        self.terminal.sendline("ECHO hello")
        self.terminal.expect("200 hello\r")
        self.terminal.sendline("who")
        self.terminal.expect(r"200 anonymous 127\.0\.0\.1:\d+ since ")
        self.terminal.sendline("ECHO grüß dich")
        self.terminal.expect("200 grüß dich\r")
        self.terminal.sendline("QUIT")
        self.terminal.expect("221 bye")
        self.terminal.expect(pexpect.EOF)
        self.assertEqual(
            [record["request"] for record in self.running.records("request")],
            ["ECHO hello", "who", "ECHO grüß dich", "QUIT"],
        )

    def test_interrupt(self) -> None:
        """
        After Ctrl-C, for which telnet sends IAC IP and IAC DO TIMING-MARK and
        then shows nothing until that is answered, the session goes on.
        """
        self.terminal.expect("you are anonymous\r")
        for number in range(3):
            self.terminal.sendintr()
            self.terminal.sendline(f"ECHO after {number}")
            self.terminal.expect(f"200 after {number}\r")
        self.terminal.sendline("QUIT")
        self.terminal.expect("221 bye")
        self.assertEqual(
            [record["request"] for record in self.running.records("request")],
            ["ECHO after 0", "ECHO after 1", "ECHO after 2", "QUIT"],
        )

    def test_busy(self) -> None:
        """
        While telnet holds the service, a client over TLS is told so: there is
        one slot however many listeners lead to it.
        """
        self.terminal.expect("you are anonymous\r")
        refused = self.visit(self.running, "bob")
        self.assertRegex(refused.first, r"\A421 BUSY held by anonymous since ")
        self.assertEqual(refused.line(), "")
        self.terminal.sendline("ECHO mine")
        self.terminal.expect("200 mine\r")
