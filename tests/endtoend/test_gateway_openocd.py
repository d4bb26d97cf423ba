"""
OpenOCD behind a gateway: a telnet service that negotiates with IAC and sends
NUL octets, of which not one may be touched.
"""

from __future__ import annotations

import re
import socket

import pexpect  # type: ignore[import-untyped]  # it has no types

from tests.endtoend.gateways import GatewayTests, freePort
from tests.endtoend.service import PATIENCE
from tests.support import requireProgram

NEGOTIATION = bytes([255, 251, 3, 255, 251, 1, 255, 253, 3, 255, 254, 1])
"""
What OpenOCD begins with: IAC WILL SUPPRESS-GO-AHEAD, IAC WILL ECHO, IAC DO
SUPPRESS-GO-AHEAD, IAC DON'T ECHO.
"""

ANSWER = bytes([255, 253, 3, 255, 253, 1, 255, 251, 3, 255, 252, 1])
"""
How a telnet client answers that.
"""

SAID = (
    b"version\r\0",
    b"\xff\xfd\x03echo\xff\xfe\x01 middle\r\0",
    b"adapter name\r\0",
    b"exit\r\0",
)
PROMPT = b"\r> "


class OpenOCDTests(GatewayTests):
    """
    OpenOCD with its dummy adapter.
    """

    def setUp(self) -> None:
        """
        Start OpenOCD, and a gateway that leads to its telnet port.
        """
        openocd = requireProgram("openocd")
        super().setUp()
        self.port = freePort()
        self.listening(
            [
                *(openocd, "-c", f"telnet_port {self.port}"),
                *("-c", "gdb_port disabled", "-c", "tcl_port disabled"),
                *("-c", "adapter driver dummy", "-c", "transport select jtag"),
            ],
            self.port,
        )
        self.running = self.gateway(f"tcp:127.0.0.1:{self.port}")

    def converse(self, connection: socket.socket) -> bytes:
        """
        What OpenOCD says in one session, to lines that end with CR NUL and that
        telnet's negotiations are in the middle of.
        """
        connection.settimeout(PATIENCE)
        got = bytearray()
        self.readUntil(connection, got, PROMPT)
        connection.sendall(ANSWER)
        for said in SAID[:-1]:
            connection.sendall(said)
            self.readUntil(connection, got, PROMPT)
        connection.sendall(SAID[-1])
        while piece := connection.recv(65536):
            got += piece
        return bytes(got)

    def readUntil(self, connection: socket.socket, got: bytearray, end: bytes) -> None:
        """
        Read on until something new ends with a prompt.
        """
        before = len(got)
        while not got[before:].endswith(end):
            piece = connection.recv(65536)
            self.assertNotEqual(piece, b"", bytes(got))
            got += piece

    def test_octets(self) -> None:
        """
        The conversation through the gateway is octet for octet the one without
        it, and so are the octets in the trail.
        """
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as bare:
            direct = self.converse(bare)
        through = self.converse(self.come(self.running))
        self.assertTrue(direct.startswith(NEGOTIATION), direct)
        self.assertIn(b"version\r\n\0Open On-Chip Debugger ", direct)
        self.assertIn(b"\0middle\r\n", direct)
        self.assertEqual(through, direct)
        self.running.waitForRecord("session.closed")
        self.assertCarried(self.running, ANSWER + b"".join(SAID), direct)

    def test_telnet(self) -> None:
        """
        telnet itself, through the forwarder: OpenOCD's negotiation reaches it.
        """
        telnet = requireProgram("telnet")
        forwarder = self.forwarder(self.running)
        terminal = pexpect.spawn(
            telnet,
            ["127.0.0.1", str(forwarder.port)],
            encoding="latin-1",
            timeout=PATIENCE,
        )
        self.addCleanup(terminal.close, force=True)
        terminal.expect("Open On-Chip Debugger")
        terminal.expect("> ")
        terminal.send("adapter name\r")
        terminal.expect(re.escape("dummy"))
        terminal.send("exit\r")
        terminal.expect(pexpect.EOF)
        closed = self.running.waitForRecord("session.closed")
        self.assertEqual(closed["reason"], "backend-closed")
