"""
Tools that join standard input to a connection: nc, ncat and socat. What they
have in common is that they close soon after their last line.
"""

from __future__ import annotations

import socket
import ssl

from tests.endtoend.service import PATIENCE, EndToEndTests, RunningService, run
from tests.support import requireProgram

ROUNDS = 20
"""
How often a race that was once lost is run.
"""

REQUESTS = 50
"""
How many requests a script pipes in before it closes.
"""

SCRIPT = b"".join(b"ECHO line %d\n" % number for number in range(REQUESTS))
REPLIES = b"".join(b"200 line %d\r\n" % number for number in range(REQUESTS))


class PlaintextTests(EndToEndTests):
    """
    Tools on a plaintext listener.
    """

    def setUp(self) -> None:
        """
        Start a service with a plaintext door.
        """
        super().setUp()
        self.running = self.service(plaintext=["tcp:0:interface=127.0.0.1"])
        self.address = ("127.0.0.1", str(self.running.plaintextPort))

    def assertReplies(self, command: list[str], script: bytes, replies: bytes) -> None:
        """
        The tool gets the greeting and all replies, and the session ends.
        """
        result = run(command, script)
        greeting, _, rest = result.stdout.partition(b"\r\n")
        self.assertRegex(greeting, rb"\A220 \S+ tcpsvc \S+; you are anonymous\Z")
        self.assertEqual(rest, replies)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.running.waitUntilFree()
        self.assertEqual(
            self.running.records("session.closed")[-1]["reason"], "client-closed"
        )

    def test_endings(self) -> None:
        """
        A line ends with LF, CR LF, CR or CR NUL, whichever a tool sends.
        """
        nc = requireProgram("nc")
        for ending in (b"\n", b"\r\n", b"\r", b"\r\0"):
            self.assertReplies(
                [nc, "-N", *self.address],
                SCRIPT.replace(b"\n", ending) + b"\n\r\n" + b"ECHO mixed\r\n",
                REPLIES + b"200 mixed\r\n",
            )

    def test_endingsInTwo(self) -> None:
        """
        An ending of two octets that come apart, as from a terminal that sends
        each key by itself, is one ending: the reply comes with its first.
        """
        for ending in (b"\r\n", b"\r\0"):
            visit = self.running.visitInPlaintext()
            self.addCleanup(visit.close)
            begin = b""
            for number in range(3):
                visit.send(begin + b"ECHO %d" % number + ending[:1])
                self.assertEqual(visit.line(), f"200 {number}")
                begin = ending[1:]
            visit.close()
            self.running.waitUntilFree()

    def test_halfClose(self) -> None:
        """
        C{printf | nc -N} gets all replies, although its half of the connection
        is closed before they come.
        """
        nc = requireProgram("nc")
        for _ in range(ROUNDS):
            self.assertReplies([nc, "-N", *self.address], SCRIPT, REPLIES)

    def test_ncat(self) -> None:
        """
        So does C{printf | ncat}.
        """
        ncat = requireProgram("ncat")
        for _ in range(ROUNDS):
            self.assertReplies([ncat, *self.address], SCRIPT, REPLIES)

    def test_socat(self) -> None:
        """
        So does C{printf | socat}.
        """
        socat = requireProgram("socat")
        command = [socat, "-t", str(PATIENCE), "-", "TCP:" + ":".join(self.address)]
        for _ in range(ROUNDS):
            self.assertReplies(command, SCRIPT, REPLIES)

    def test_longLines(self) -> None:
        """
        A line of 4096 octets is a request; one of more is answered by an error
        and the session goes on; 65536 octets without an ending end it.
        """
        socat = requireProgram("socat")
        command = [socat, "-t", str(PATIENCE), "-", "TCP:" + ":".join(self.address)]
        longest = b"ECHO " + b"x" * 4091
        script = b"\n".join((longest, longest + b"x", b"NOOP", b"y" * 65537, b"NOOP"))
        result = run(command, script)
        lines = result.stdout.split(b"\r\n")[1:]
        self.assertEqual(lines[0], b"200 " + b"x" * 4091)
        self.assertRegex(lines[1], rb"\A500 LINE-TOO-LONG ")
        self.assertEqual(lines[2], b"200 OK")
        self.assertRegex(lines[3], rb"\A500 LINE-TOO-LONG ")
        self.assertEqual(lines[4:], [b""])
        self.running.waitForRecord("session.closed", reason="line-too-long")


class TLSTests(EndToEndTests):
    """
    Tools that speak TLS by themselves.
    """

    def assertReplies(self, service: RunningService, got: bytes) -> None:
        """
        A client got the greeting and all replies, and its session has ended.
        """
        greeting, _, rest = got.partition(b"\r\n")
        self.assertRegex(greeting, rb"\A220 \S+ tcpsvc \S+; you are alice\Z")
        self.assertEqual(rest, REPLIES)
        service.waitUntilFree()

    def test_socat(self) -> None:
        """
        C{printf | socat} with a close_notify right behind the lines gets all
        replies, every time.
        """
        socat = requireProgram("socat")
        service = self.service()
        pair = service.keys.pair("alice")
        address = ",".join(
            (
                f"OPENSSL:127.0.0.1:{service.port}",
                f"cert={pair.certificate}",
                f"key={pair.key}",
                f"cafile={service.keys.ca}",
            )
        )
        for _ in range(ROUNDS):
            result = run([socat, "-t", str(PATIENCE), "-", address], SCRIPT)
            self.assertReplies(service, result.stdout)

    def test_ncat(self) -> None:
        """
        C{printf | ncat --ssl} gets all replies. Ncat knows no IP addresses in
        certificates, and so has to be told a host name.
        """
        ncat = requireProgram("ncat")
        service = self.service()
        pair = service.keys.pair("alice")
        command = [
            *(ncat, "--ssl", "--ssl-verify", "--ssl-trustfile", str(service.keys.ca)),
            *("--ssl-cert", str(pair.certificate), "--ssl-key", str(pair.key)),
            *("-4", "localhost", str(service.port)),
        ]
        for _ in range(ROUNDS):
            self.assertReplies(service, run(command, SCRIPT).stdout)

    def test_bareFIN(self) -> None:
        """
        A client that closes its half of TCP behind the lines, without a
        close_notify, gets all replies too.
        """
        service = self.service()
        for _ in range(ROUNDS):
            self.assertReplies(service, self.bareFIN(service))

    def bareFIN(self, service: RunningService) -> bytes:
        """
        Send the script and a bare FIN in one go.

        @return: All that came back.
        """
        arrived, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = service.context().wrap_bio(arrived, leaving, server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as bare:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    bare.sendall(leaving.read())
                    arrived.write(bare.recv(65536))
            tls.write(SCRIPT)
            bare.sendall(leaving.read())
            bare.shutdown(socket.SHUT_WR)
            while piece := bare.recv(65536):
                arrived.write(piece)
        got = bytearray()
        try:
            while piece := tls.read(65536):
                got += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return bytes(got)
