"""
Clients of other protocols on a plaintext listener: what a web page can make a
browser send to loopback is not executed.
"""

from __future__ import annotations

from tests.endtoend.service import EndToEndTests, Visit, run, waitUntil
from tests.support import requireProgram

HEADERS = (
    b"Host: 127.0.0.1:4434\r\nOrigin: http://evil.example\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 22\r\n\r\n"
    b"ECHO executed\r\nQUIT\r\n"
)


class PlaintextTests(EndToEndTests):
    """
    A service with a plaintext listener.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        super().setUp()
        self.running = self.service(plaintext=["tcp:0:interface=127.0.0.1"])

    def assertNothingExecuted(self, answer: bytes, request: str) -> None:
        """
        The client gets the error and no other reply. The trail has its first line,
        that reply and the reason for which the session was closed.
        """
        greeting, error, rest = answer.split(b"\r\n")
        self.assertRegex(greeting, rb"\A220 ")
        self.assertRegex(error, rb"\A500 NOT-OUR-PROTOCOL ")
        self.assertEqual(rest, b"")
        self.running.waitUntilFree()
        closed = self.running.records("session.closed")[-1]
        self.assertEqual(closed["reason"], "not-our-protocol")
        self.assertEqual(closed["requests"], 1)
        records = self.running.records("request", session=closed["session"])
        self.assertEqual([record["request"] for record in records], [request])

    def answerTo(self, *pieces: bytes) -> bytes:
        """
        @return: All that the service says to a client that sends C{pieces}.
        """
        visit = self.admitted()
        for piece in pieces:
            visit.send(piece)
        answer = f"{visit.first}\r\n".encode() + visit.rest()
        visit.close()
        return answer

    def admitted(self) -> Visit:
        """
        Come in plaintext, again and again until the slot is free.
        """

        def tryOnce() -> Visit | None:
            visit = self.running.visitInPlaintext()
            if visit.first.startswith("220 "):
                self.addCleanup(visit.close)
                return visit
            visit.close()
            return None

        visit = waitUntil(tryOnce, "the slot is free")
        assert visit is not None
        return visit

    def test_browser(self) -> None:
        """
        The request of a browser closes the connection, however it arrives; so
        does one whose address is longer than a request may be.
        """
        self.assertNothingExecuted(
            self.answerTo(b"POST /x HTTP/1.1\r\n" + HEADERS), "POST /x HTTP/1.1"
        )
        self.assertNothingExecuted(
            self.answerTo(b"PO", b"ST / HTTP", b"/1.1\r", b"\n" + HEADERS),
            "POST / HTTP/1.1",
        )
        line = b"GET /" + b"x" * 9000 + b" HTTP/1.1"
        self.assertNothingExecuted(
            self.answerTo(line + b"\r\n" + HEADERS), line[:4096].decode()
        )

    def test_curl(self) -> None:
        """
        C{curl} in clear text and over TLS is told, and does not keep the slot.
        """
        curl = requireProgram("curl")
        address = f"127.0.0.1:{self.running.plaintextPort}"
        for options, request in (
            (["--http0.9"], "GET / HTTP/1.1"),
            (["--http0.9", "--http2-prior-knowledge"], "PRI * HTTP/2.0"),
        ):
            self.admitted().close()
            self.running.waitUntilFree()
            run([curl, "-s", *options, f"http://{address}/"])
            self.running.waitForRecord("request", request=request)
            self.running.waitForRecord("session.closed", reason="not-our-protocol")
            self.running.waitUntilFree()
        run([curl, "-sk", f"https://{address}/"])
        self.running.waitForRecord("request", request="\x16\x03")
        self.running.waitUntilFree()
        visit = self.admitted()
        self.assertEqual(visit.ask("ECHO GET / HTTP/1.1"), "200 GET / HTTP/1.1")
        self.assertIn("UNKNOWN-COMMAND", visit.ask("GET / HTTP/1.1"))
        self.assertEqual(visit.ask("NOOP"), "200 OK")

    def test_TLS(self) -> None:
        """
        Over TLS, where a browser would need a certificate, such a line is an unknown
        command like any other.
        """
        visit = self.visit(self.running)
        self.assertIn("UNKNOWN-COMMAND", visit.ask("GET / HTTP/1.1"))
        self.assertEqual(visit.ask("NOOP"), "200 OK")
