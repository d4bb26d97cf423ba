"""
The endpoint string C{mtls:} in Twisted programs that have nothing else of
tcpsvc, with C{openssl} as their peer.
"""

from __future__ import annotations

import subprocess
import sys
import time

from tcpsvc.gateway import QUIET_PATIENCE
from tests.certificates import authority, otherAuthority, writeKeys, writePair
from tests.endtoend.gateways import GatewayTests, freePort
from tests.endtoend.service import PATIENCE, environment, run
from tests.support import requireProgram

SERVER = """\
import sys
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.internet.defer import Deferred
from twisted.protocols.wire import Echo

async def main(reactor):
    endpoint = serverFromString(reactor, sys.argv[1])
    port = await endpoint.listen(Factory.forProtocol(Echo))
    print(port.getHost().port, flush=True)
    await Deferred()

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""

CLIENT = """\
import sys
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import react
from twisted.internet.defer import Deferred

class Ask(Protocol):
    def connectionMade(self):
        self.answered = Deferred()
        self.transport.write(b"ECHO hello\\n")

    def dataReceived(self, data):
        if data.endswith(b"hello\\r\\n"):
            print(data.decode().splitlines()[-1])
            self.transport.loseConnection()

    def connectionLost(self, reason):
        self.answered.callback(None)

async def main(reactor):
    protocol = await connectProtocol(clientFromString(reactor, sys.argv[1]), Ask())
    await protocol.answered

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


class EndpointTests(GatewayTests):
    """
    Small programs that take an endpoint string.
    """

    def test_server(self) -> None:
        """
        C{serverFromString("mtls:...")} lets in who has a certificate, and
        nobody else.
        """
        requireProgram("openssl")
        program = self.process(
            [
                *(sys.executable, "-c", SERVER),
                f"mtls:0:keys={self.keys.path}:interface=127.0.0.1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        assert program.stdout is not None
        port = int(program.stdout.readline())
        line = [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet"),
            *("-verify_quiet", "-verify_return_error", "-no_ign_eof", "-nocommands"),
            *("-CAfile", str(self.keys.ca), "-verify_ip", "127.0.0.1"),
        ]
        pair = self.keys.pair("alice")
        shown = ["-cert", str(pair.certificate), "-key", str(pair.key)]
        for certificate, answer in ((shown, b"hello\n"), ([], b"")):
            client = self.process(
                [*line, *certificate],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"hello\n")
            # That of the second ends because the server closes the connection.
            self.assertEqual(client.stdout.readline(), answer)

    def test_client(self) -> None:
        """
        C{clientFromString("mtls:...")} talks to a service as somebody.
        """
        service = self.service()
        done = self.ask(f"mtls:localhost:{service.port}", "bob")
        self.assertEqual(done.stdout, b"200 hello\n", done.stderr)
        opened = service.waitForRecord("session.opened")
        self.assertEqual(opened["identity"]["name"], "bob")

    def test_unknownServer(self) -> None:
        """
        A server that another CA has signed is not talked to.
        """
        requireProgram("openssl")
        other = writeKeys(
            self.directory / "other", clients=("alice",), by=otherAuthority()
        )
        port = freePort()
        self.listening(
            [
                *("openssl", "s_server", "-accept", f"127.0.0.1:{port}"),
                *("-cert", str(other.path / "server.pem"), "-tls1_3", "-rev"),
                *("-key", str(other.path / "server-key.pem")),
            ],
            port,
        )
        done = self.ask(f"mtls:localhost:{port}", "alice")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"CertificateRefused", done.stderr)
        self.assertEqual(done.stdout, b"")

    def test_gateway(self) -> None:
        """
        A gateway that leads to another machine's service by C{mtls:}: what that
        one says goes to the client as it is.
        """
        far = self.service()
        near = self.gateway(
            f"mtls:localhost:{far.port}:keys={self.keys.path}:identity=bob"
        )
        client = self.come(near, "alice")
        client.settimeout(PATIENCE)
        lines = client.makefile("rb")
        self.addCleanup(lines.close)
        self.assertRegex(lines.readline(), rb"\A220 \S+ tcpsvc \S+; you are bob\r\n\Z")
        client.sendall(b"QUIT\n")
        self.assertRegex(lines.readline(), rb"\A221 bye")
        self.assertEqual(lines.readline(), b"")
        near.waitForRecord("session.closed", reason="backend-closed")

    def test_gatewayRefused(self) -> None:
        """
        If the other service refuses the gateway's certificate, the log says why.
        """
        far = self.service()
        keys = writeKeys(self.directory / "other", clients=("bob",))
        writePair(keys.client("bob"), keys.clientKey("bob"), authority().expired("bob"))
        near = self.gateway(f"mtls:localhost:{far.port}:keys={keys.path}")
        client = self.come(near, "alice")
        client.settimeout(PATIENCE)
        self.assertEqual(b"", client.recv(1))
        near.waitForRecord("session.closed", reason="backend-closed")
        self.assertIn("it refuses this certificate: certificate expired", near.log)

    def secureDevice(self, *options: str) -> int:
        """
        A device that speaks TLS, by C{openssl s_server}, with the service's own
        certificate: it sends back what it gets.

        @return: The port.
        """
        port = freePort()
        self.listening(
            [
                *(requireProgram("openssl"), "s_server", "-rev", "-quiet"),
                *("-accept", f"127.0.0.1:{port}", *options),
                *("-cert", str(self.keys.path / "server.pem")),
                *("-key", str(self.keys.path / "server-key.pem")),
            ],
            port,
        )
        return port

    def firstLine(self, endpoint: str) -> tuple[bytes, str]:
        """
        @return: What a client of a gateway that asks for it is told first, and the
            gateway's log.
        """
        service = self.gateway(endpoint)
        client = self.come(service, "alice", "tcpsvc/1")
        client.settimeout(PATIENCE)
        told = client.recv(4096)
        if told.startswith(b"220"):
            client.sendall(b"hello\n")
            self.assertEqual(client.recv(4096), b"olleh\n")
        client.close()
        return told, service.log

    def test_gatewayTLS(self) -> None:
        """
        A device by Twisted's C{tls:} or C{ssl:} is there when its handshake has
        completed.
        """
        roots = self.directory / "roots"
        roots.mkdir()
        (roots / "ca.pem").write_bytes(self.keys.ca.read_bytes())
        for endpoint in (
            f"tls:localhost:{self.secureDevice()}:trustRoots={roots}",
            f"ssl:localhost:{self.secureDevice()}",
        ):
            told, _ = self.firstLine(endpoint)
            self.assertRegex(told, rb"\A220 .*; you are alice\r\n\Z")

    def test_gatewayTLSFails(self) -> None:
        """
        If the handshake fails, whoever may be told is told, instead of greeted, and
        the log says why.
        """
        roots = self.directory / "roots"
        roots.mkdir()
        (roots / "ca.pem").write_bytes(self.keys.ca.read_bytes())
        trusted = f"trustRoots={roots}"
        plain = freePort()
        socat = requireProgram("socat")
        place = f"TCP-LISTEN:{plain},bind=127.0.0.1,reuseaddr,fork"
        self.listening([socat, place, "SYSTEM:echo SSH-2.0; cat >/dev/null"], plain)
        other = self.secureDevice()
        beside = rf"endpoint=tcp\:127.0.0.1\:{other}"
        demanding = self.secureDevice("-Verify", "1", "-tls1_2")
        for endpoint, why in (
            (f"tls:localhost:{self.secureDevice()}", "its certificate is not trusted"),
            (
                f"tls:other.example:1:{beside}:{trusted}",
                "its certificate does not name other.example",
            ),
            (f"tls:localhost:{plain}:{trusted}", "it does not speak TLS"),
            (f"ssl:localhost:{plain}", "it does not speak TLS"),
            (f"tls:localhost:{demanding}:{trusted}", "alert handshake failure"),
        ):
            told, log = self.firstLine(endpoint)
            self.assertRegex(told, rb"\A451 BACKEND-DOWN ", endpoint)
            self.assertIn("cannot be reached: ", log)
            self.assertIn(why, log)
            self.assertNotIn("Traceback", log)

    def test_gatewayTLSSilent(self) -> None:
        """
        A device that does not answer the handshake is waited for as long as for a
        connection.
        """
        silent = self.silentPort()
        told, log = self.firstLine(f"tls:localhost:{silent.getsockname()[1]}")
        self.assertRegex(told, rb"\A451 BACKEND-DOWN ")
        self.assertIn("no TLS handshake within 5 s", log)

    def test_gatewayHalfClose(self) -> None:
        """
        A half-close goes through two gateways with TLS between them: a program behind
        the second gets the end of its input, and all that it then says arrives.
        """
        far = self.gateway("exec:sort")
        near = self.service(
            "--gateway",
            f"mtls:localhost:{far.port}:keys={self.keys.path}:identity=bob",
            plaintext=["tcp:0:interface=127.0.0.1"],
        )
        begun = time.monotonic()
        line = [requireProgram("nc"), "-N", "127.0.0.1", str(near.plaintextPort)]
        self.assertEqual(run(line, b"pear\napple\n").stdout, b"apple\npear\n")
        self.assertLess(time.monotonic() - begun, QUIET_PATIENCE)
        near.waitForRecord("session.closed", reason="backend-closed")
        far.waitForRecord("session.closed", reason="backend-closed", exit_status=0)

    def ask(self, endpoint: str, name: str) -> subprocess.CompletedProcess[bytes]:
        """
        Run the client.
        """
        return subprocess.run(
            [
                *(sys.executable, "-c", CLIENT),
                f"{endpoint}:keys={self.keys.path}:identity={name}",
            ],
            capture_output=True,
            timeout=PATIENCE,
            env=environment(),
            check=False,
        )
