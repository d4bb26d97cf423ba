"""
A service behind a load balancer that sends PROXY headers (the protocol of HAProxy,
versions 1 and 2).
"""

from __future__ import annotations

import socket
import struct

from tests.endtoend.service import PATIENCE, SECURE, EndToEndTests, Visit

V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 50007 4433\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11"
    + struct.pack(">H", 12)
    + socket.inet_aton("192.0.2.8")
    + socket.inet_aton("192.0.2.1")
    + struct.pack(">HH", 50008, 4433)
)
V2_IPV6 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21"
    + struct.pack(">H", 36)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack(">HH", 50009, 4433)
)
V2_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"
HEADERS = (
    (V1, "192.0.2.7:50007"),
    (V2, "192.0.2.8:50008"),
    (V2_IPV6, "[2001:db8::9]:50009"),
)


class ProxiedTests(EndToEndTests):
    """
    A service that listens with C{haproxy:}.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        super().setUp()
        self.running = self.service(listen=[f"haproxy:{SECURE}"])

    def connected(self, header: bytes) -> socket.socket:
        """
        A connection from the proxy, after its header.
        """
        bare = socket.create_connection(("127.0.0.1", self.running.port), PATIENCE)
        self.addCleanup(bare.close)
        bare.sendall(header)
        return bare

    def client(self, header: bytes, name: str = "alice") -> Visit:
        """
        A client that the proxy has connected.
        """
        context = self.running.context(name)
        bare = self.connected(header)
        visit = Visit(context.wrap_socket(bare, server_hostname="127.0.0.1"))
        self.addCleanup(visit.close)
        return visit

    def test_failed(self) -> None:
        """
        The record of a failed handshake has the client's address, whether it failed
        or was never begun. So has the log.
        """
        for header, address in HEADERS:
            self.connected(header + b"rubbish\n")
            self.running.waitForRecord("handshake.failed", address=address)
            self.assertIn(f" {address} ", self.running.log)
            silent = self.connected(header.replace(b"50007", b"50017"))
            silent.close()
        left = "192.0.2.7:50017"
        self.running.waitForRecord("handshake.failed", address=left)

    def test_sessions(self) -> None:
        """
        So have those of sessions and refusals, and the reply to WHO.
        """
        for header, address in HEADERS:
            visit = self.client(header)
            while not visit.first.startswith("220 "):
                visit.close()
                visit = self.client(header)
            self.running.waitForRecord("session.opened", address=address)
            self.assertIn(f"200 alice {address} since", visit.ask("WHO"))
            refused = self.client(V1.replace(b"50007", b"50027"), "bob")
            self.assertTrue(refused.first.startswith("421 BUSY held by alice"))
            visit.close()
            self.running.waitUntilFree()
        self.running.waitForRecord("session.refused", address="192.0.2.7:50027")

    def test_ofItself(self) -> None:
        """
        What the proxy sends for itself, as to see whether the service lives, has
        the proxy's address.
        """
        bare = self.connected(V2_LOCAL + b"rubbish\n")
        here = f"127.0.0.1:{bare.getsockname()[1]}"
        self.running.waitForRecord("handshake.failed", address=here)
