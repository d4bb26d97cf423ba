"""
The endpoint string C{mtls:} in Twisted programs that have nothing else of
tcpsvc, with C{openssl} as their peer.
"""

from __future__ import annotations

import subprocess
import sys

from tests.certificates import authority, otherAuthority, writeKeys, writePair
from tests.endtoend.gateways import GatewayTests, freePort
from tests.endtoend.service import PATIENCE, environment
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
