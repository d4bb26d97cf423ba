"""
Tests for L{tcpsvc.endpoints.mutual}, and for the plugins by which any program
under Twisted finds it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from attrs import frozen
from OpenSSL import SSL
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IHandshakeListener,
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpsvc.client.errors import CertificateRefused, ProtocolViolation
from tcpsvc.endpoints.mutual import MutualServerEndpoint
from tcpsvc.identity import identityFrom
from tcpsvc.keyfiles import KeyDirectory
from tests.certificates import (
    authority,
    otherAuthority,
    writeKeys,
    writePair,
)
from tests.malformed import malformed
from tests.peers import clientContext
from twisted.plugins import tcpsvc_endpoints

reactor: Any = globalReactor

PATIENCE = 10.0
"""
Seconds that a test waits for what ought to happen soon.
"""

ROOT = Path(__file__).resolve().parent.parent


@implementer(IHandshakeListener)
class Talker(Protocol):
    """
    Says a word and keeps what it hears.

    @ivar calls: What it was told, in order.
    """

    transport: Any
    word = b""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.got = bytearray()
        self.lost: Deferred[BaseException | None] = Deferred()
        self.heard: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """Begin."""
        self.calls.append("connectionMade")
        self.transport.write(self.word)

    def handshakeCompleted(self) -> None:
        """The other side was verified."""
        self.calls.append("handshakeCompleted")

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.got += data
        if not self.heard.called:
            self.heard.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.lost.callback(reason.value)


class Answerer(Talker):
    """
    The server's side.
    """

    word = b"hello"


class Talkers(Factory):
    """
    Builds talkers and keeps them.
    """

    noisy = False

    def __init__(self, kind: type[Talker] = Talker) -> None:
        self.kind = kind
        self.made: list[Talker] = []
        self.next: Deferred[Talker] = Deferred()

    def buildProtocol(self, address: object) -> Talker:
        """Build one."""
        talker = self.kind()
        self.made.append(talker)
        if not self.next.called:
            self.next.callback(talker)
        return talker


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
@frozen
class Contextual:
    """
    Makes either side of TLS out of a context, and judges nobody.
    """

    context: SSL.Context

    def serverConnectionForTLS(self, _: object) -> SSL.Connection:
        """Make the server's side of a connection."""
        return SSL.Connection(self.context, None)

    clientConnectionForTLS = serverConnectionForTLS


class ParseTests(SynchronousTestCase):
    """
    C{mtls:} for servers and clients.
    """

    def setUp(self) -> None:
        """
        Make keys.
        """
        self.keys = writeKeys(Path(self.mktemp()).absolute())
        self.here = Path(self.mktemp()).absolute()
        self.here.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.here)

    def test_defaults(self) -> None:
        """
        Port 4433 and the directory C{keys}, for both; TLS 1.3, all IPv4 addresses
        and the only identity there is.
        """
        writeKeys(Path("keys"))
        server: Any = serverFromString(reactor, "mtls:4433")
        verifyObject(IStreamServerEndpoint, server)
        self.assertEqual(4433, server.endpoint._port)
        client: Any = clientFromString(reactor, "mtls:localhost")
        verifyObject(IStreamClientEndpoint, client)
        self.assertEqual(4433, client.address.port)
        self.assertEqual("alice", client.material.identity)

    def test_all(self) -> None:
        """
        Each option, by name; IPv6 addresses with backslashes.
        """
        directory = f"keys={self.keys.path}"
        server: Any = serverFromString(
            reactor, rf"mtls:port=1234:{directory}:interface=\:\:1:minimum=1.2"
        )
        self.assertIsInstance(server.endpoint, TCP6ServerEndpoint)
        self.assertEqual("::1", server.endpoint._interface)
        writePair(
            self.keys.client("bob"),
            self.keys.clientKey("bob"),
            authority().client("bob"),
        )
        client: Any = clientFromString(
            reactor, rf"mtls:host=\:\:1:port=1234:{directory}:identity=bob"
        )
        self.assertEqual(("::1", 1234), (client.address.host, client.address.port))
        self.assertEqual("bob", client.material.identity)

    def assertError(self, parse: Any, description: str, *words: str) -> None:
        """
        A string is wrong: one line says so.
        """
        error = self.assertRaises(ValueError, parse, reactor, description)
        line = str(error)
        self.assertEqual(1, len(line.splitlines()), line)
        self.assertTrue(line.startswith("mtls: "), line)
        for word in words:
            self.assertIn(word, line)

    def test_badServer(self) -> None:
        """
        What is wrong with a server's string, or its keys, is one line.
        """
        directory = f"keys={self.keys.path}"
        for description, word in (
            (f"mtls:x:{directory}", "x: a port is wanted"),
            (f"mtls:65536:{directory}", "65536: a port is wanted"),
            (f"mtls:1:{directory}:minimum=1.1", "minimum=1.1: one of 1.3, 1.2"),
            (f"mtls:1:{directory}:key=x", "no option 'key', only port, keys"),
            ("mtls:1:keys=/nosuchdir", "/nosuchdir/server.pem: there is no such file"),
        ):
            self.assertError(serverFromString, description, word)
        writePair(self.keys.server, self.keys.serverKey, authority().client("alice"))
        self.assertError(serverFromString, f"mtls:1:{directory}", "server.pem")
        self.keys.serverKey.chmod(0o644)
        self.assertError(serverFromString, f"mtls:1:{directory}", "server-key.pem")

    def test_badClient(self) -> None:
        """
        The same for clients.
        """
        directory = f"keys={self.keys.path}"
        for description, word in (
            (f"mtls:h:x:{directory}", "a port is a number from 1 to 65535"),
            (f"mtls:h:0:{directory}", "a port is a number from 1 to 65535"),
            (f"mtls:a b:1:{directory}", "HOST or HOST:PORT is wanted"),
            (rf"mtls:a\:b:1:{directory}", "no IPv6 address"),
            ("mtls", "mtls: HOST is missing: mtls:HOST is wanted"),
            ("mtls::4433", "mtls: HOST is missing: mtls:HOST is wanted"),
            (f"mtls:h:1:{directory}:name=x", "no option 'name', only host, port"),
            (f"mtls:h:1:{directory}:identity=eve", "there is no identity 'eve'"),
            ("mtls:h:1:keys=/nosuchdir", "/nosuchdir/ca.pem: there is no such file"),
        ):
            self.assertError(clientFromString, description, word)

    def test_advice(self) -> None:
        """
        What is to be done is said in the words of an endpoint string, not in those
        of a command line.
        """
        directory = f"keys={self.keys.path}"
        pair = authority().client("bob")
        writePair(self.keys.client("bob"), self.keys.clientKey("bob"), pair)
        several = f"mtls:h:1:{directory}"
        self.assertError(clientFromString, several, "alice, bob; choose with identity=")
        for name in ("alice", "bob"):
            self.keys.clientKey(name).unlink()
        for description in (several, "mtls:h:1:keys=/nosuchdir"):
            self.assertError(clientFromString, description, "keys=DIR ")
            error = self.assertRaises(
                ValueError, clientFromString, reactor, description
            )
            self.assertNotIn("--", str(error))

    def test_badClientKeys(self) -> None:
        """
        So is a client's key that does not go with its certificate.
        """
        directory = f"keys={self.keys.path}"
        writePair(
            self.keys.client("alice"),
            self.keys.clientKey("alice"),
            authority().client("alice"),
        )
        other = authority().client("alice")
        self.keys.client("alice").write_bytes(other.certificatePEM)
        self.assertError(
            clientFromString, f"mtls:h:1:{directory}", "do not belong together"
        )


class HandshakeTests(TestCase):
    """
    Real connections.
    """

    def setUp(self) -> None:
        """
        Listen.
        """
        self.keys = writeKeys(Path(self.mktemp()).absolute())
        self.servers = Talkers(Answerer)
        self.clients = Talkers()

    async def listen(self, keys: KeyDirectory | None = None, more: str = "") -> int:
        """
        Listen on a port.
        """
        path = (keys or self.keys).path
        endpoint = serverFromString(
            reactor, f"mtls:0:keys={path}:interface=127.0.0.1{more}"
        )
        port: IListeningPort = await endpoint.listen(self.servers)
        self.addCleanup(port.stopListening)
        host: Any = port.getHost()
        number: int = host.port
        return number

    def connect(
        self, port: int, keys: KeyDirectory | None = None, host: str = "127.0.0.1"
    ) -> Deferred[Any]:
        """
        Connect to it.
        """
        path = (keys or self.keys).path
        endpoint: Any = clientFromString(reactor, f"mtls:{host}:{port}:keys={path}")
        connecting: Deferred[Any] = endpoint.connect(self.clients)
        return connecting.addTimeout(PATIENCE, reactor)

    async def test_bothVerified(self) -> None:
        """
        Both sides are verified, each can see who the other is, and octets flow
        both ways.
        """
        port = await self.listen()
        client = await self.connect(port)
        self.assertIs(self.clients.made[0], client)
        client.transport.write(b"hi")
        server = await self.servers.next
        self.assertEqual(b"hi", await server.heard.addTimeout(PATIENCE, reactor))
        self.assertEqual(b"hello", await client.heard.addTimeout(PATIENCE, reactor))
        self.assertEqual(["connectionMade", "handshakeCompleted"], client.calls)
        self.assertEqual(["connectionMade", "handshakeCompleted"], server.calls)
        shown = server.transport.getHandle().get_peer_certificate(as_cryptography=True)
        self.assertEqual("alice", identityFrom(shown).name)
        client.transport.loseConnection()
        await client.lost
        await server.lost

    async def test_connectedWhenVerified(self) -> None:
        """
        The client's protocol is told nothing, and nobody is told of it, before the
        server was verified.
        """
        writePair(self.keys.server, self.keys.serverKey, otherAuthority().server())
        port = await self.listen()
        error = await self.assertFailure(self.connect(port), CertificateRefused)
        self.assertIn("was not signed by the CA in ca.pem", str(error))
        self.assertEqual([], self.clients.made[0].calls)
        server = await self.servers.next
        await server.lost
        self.assertEqual(b"", server.got)

    async def test_wrongName(self) -> None:
        """
        The server's certificate has to name the host that was asked for.
        """
        writePair(
            self.keys.server, self.keys.serverKey, authority().server("other.example")
        )
        port = await self.listen()
        error = await self.assertFailure(self.connect(port), CertificateRefused)
        self.assertIn("does not name 127.0.0.1, but DNS:other.example", str(error))
        await (await self.servers.next).lost

    async def test_malformedServer(self) -> None:
        """
        A server whose certificate cannot be read is refused, and the error says so.
        """
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        malformed()["a PrintableString with @"].showIn(context)

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await MutualServerEndpoint(endpoint, Contextual(context)).listen(
            self.servers
        )
        self.addCleanup(port.stopListening)
        host: Any = port.getHost()
        error = await self.assertFailure(self.connect(host.port), CertificateRefused)
        self.assertIn("the server's certificate cannot be read (", str(error))
        self.assertEqual([], self.clients.made[0].calls)
        await (await self.servers.next).lost

    async def test_otherProtocols(self) -> None:
        """
        A server of another protocol than ours is not chosen one of ours, and refuses
        nobody for what they offer.
        """
        port = await self.listen()
        context = clientContext(authority().client(), alpn=[b"h2", b"tcpsvc/1"])
        factory = TLSMemoryBIOFactory(Contextual(context), True, self.clients)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        await endpoint.connect(factory)
        server = await self.servers.next
        (client,) = self.clients.made
        client.transport.write(b"hi")
        self.assertEqual(b"hi", await server.heard.addTimeout(PATIENCE, reactor))
        self.assertIsNone(client.transport.negotiatedProtocol)
        client.transport.loseConnection()
        await client.lost
        await server.lost

    async def test_clientRefused(self) -> None:
        """
        A client whose certificate is not good reaches nobody: not one octet of it
        is delivered, nor does it hear one.
        """
        for pair in (
            otherAuthority().client("alice"),
            authority().expired("alice"),
            authority().wrongPurpose("alice"),
            authority().noPurpose("alice"),
        ):
            self.setUp()
            port = await self.listen()
            writePair(self.keys.client("alice"), self.keys.clientKey("alice"), pair)
            client = await self.connect(port)
            client.transport.write(b"let me in")
            reason = await client.lost.addTimeout(PATIENCE, reactor)
            self.assertIsInstance(reason, SSL.Error)
            server = await self.servers.next
            await server.lost
            self.assertEqual((b"", b""), (server.got, client.got))
            self.assertEqual(["connectionMade"], server.calls)

    async def test_noCertificate(self) -> None:
        """
        Nor does one that shows none.
        """
        port = await self.listen()
        client = subprocess.Popen(
            [
                *("openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}"),
                *("-CAfile", str(self.keys.ca)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(client.kill)
        server = await self.servers.next.addTimeout(PATIENCE, reactor)
        reason = await server.lost.addTimeout(PATIENCE, reactor)
        self.assertIn("did not return a certificate", str(reason))
        out, _ = client.communicate(timeout=PATIENCE)
        self.assertEqual(b"", out)

    async def test_revoked(self) -> None:
        """
        Nor does one that the server's C{crl.pem} lists.
        """
        keys = writeKeys(Path(self.mktemp()).absolute(), revoked=("alice",))
        port = await self.listen(keys)
        client = await self.connect(port, keys)
        reason = await client.lost.addTimeout(PATIENCE, reactor)
        self.assertIn("revoked", str(reason))
        await (await self.servers.next).lost

    async def test_lastLinesAndEnd(self) -> None:
        """
        What is answered to octets that arrive together with the end of the stream
        reaches the client.
        """
        port = await self.listen()
        client = await self.connect(port)
        await client.heard
        server = self.servers.made[0]

        def answer(data: bytes) -> None:
            Talker.dataReceived(server, data)
            server.transport.write(b"answer to " + data)

        server.dataReceived = answer  # type: ignore[method-assign]
        client.transport.write(b"last")
        client.transport._shutdownTLS()
        client.transport._flushSendBIO()
        await server.lost
        await client.lost
        self.assertEqual(b"helloanswer to last", client.got)

    async def test_notTLS(self) -> None:
        """
        A server that speaks no TLS is not what was wanted.
        """
        factory = Factory.forProtocol(Plain)
        factory.noisy = False
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        port: Any = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        error = await self.assertFailure(
            self.connect(port.getHost().port), ProtocolViolation
        )
        self.assertIn("does not speak TLS", str(error))

    async def test_nobodyThere(self) -> None:
        """
        If nobody is there, that is what connecting fails with.
        """
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        port: Any = await endpoint.listen(Factory.forProtocol(Protocol))
        number = port.getHost().port
        await port.stopListening()
        await self.assertFailure(self.connect(number), ConnectError)

    async def test_cancel(self) -> None:
        """
        Connecting can be given up, before there is a connection and while hands
        are shaken; nothing is left of it.
        """
        connecting = self.connect(await self.listen())
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)

        arrived: Deferred[Silent] = Deferred()
        factory = Factory.forProtocol(lambda: Silent(arrived))
        factory.noisy = False
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        port: Any = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        connecting = self.connect(port.getHost().port)
        silent = await arrived
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        await silent.lost.addTimeout(PATIENCE, reactor)
        self.assertEqual([], self.clients.made[0].calls)

    async def test_noProtocol(self) -> None:
        """
        A factory that wants no protocol leads to no connection that stays.
        """
        port = await self.listen()
        factory: Any = Factory()
        factory.buildProtocol = lambda address: None
        path = self.keys.path
        endpoint = clientFromString(reactor, f"mtls:127.0.0.1:{port}:keys={path}")
        connecting = endpoint.connect(factory).addTimeout(PATIENCE, reactor)
        await (await self.servers.next).lost.addTimeout(PATIENCE, reactor)
        await self.assertFailure(connecting, Exception)


class Plain(Protocol):
    """
    Says something that is no TLS.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        self.transport.write(b"220 hello, this is no TLS\r\n")


class Silent(Protocol):
    """
    Says nothing.
    """

    def __init__(self, arrived: Deferred[Silent]) -> None:
        self._arrived = arrived
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Somebody begins TLS."""
        if not self._arrived.called:
            self._arrived.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.lost.callback(None)


class PluginTests(SynchronousTestCase):
    """
    How Twisted finds all three.
    """

    def python(self, code: str, *arguments: str) -> str:
        """
        What a program prints that is started in another directory.
        """
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.mktempDirectory(),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        ).stdout.decode()

    def mktempDirectory(self) -> str:
        """
        A directory that has nothing in it.
        """
        path = Path(self.mktemp())
        path.mkdir()
        return str(path)

    def test_interfaces(self) -> None:
        """
        Each plugin parses what it says it does.
        """
        for plugin in (
            tcpsvc_endpoints.execClient,
            tcpsvc_endpoints.serialClient,
            tcpsvc_endpoints.mtlsClient,
        ):
            verifyObject(IStreamClientEndpointStringParserWithReactor, plugin)
        verifyObject(IStreamServerEndpointStringParser, tcpsvc_endpoints.mtlsServer)

    def test_argumentNames(self) -> None:
        """
        No option that a user may think of collides with a name of ours.
        """
        for name in ("reactor", "self", "prefix"):
            error = self.assertRaises(
                ValueError, clientFromString, reactor, f"serial:/dev/x:{name}=1"
            )
            self.assertTrue(str(error).startswith("serial: "), str(error))

    def test_found(self) -> None:
        """
        A program that knows nothing of tcpsvc can use all three, from any
        directory.
        """
        keys = writeKeys(Path(self.mktemp()).absolute())
        said = self.python(
            "import sys\n"
            "from twisted.internet import reactor\n"
            "from twisted.internet.endpoints import *\n"
            "for text in sys.argv[1:]:\n"
            "    print(type(clientFromString(reactor, text)).__name__)\n"
            "text = 'mtls:0:' + sys.argv[3].rpartition(':')[2]\n"
            "print(type(serverFromString(reactor, text)).__name__)\n",
            *("exec:cat", "serial:/dev/x", f"mtls:localhost:1:keys={keys.path}"),
        )
        self.assertEqual(
            [
                *("ProgramEndpoint", "SerialEndpoint", "MutualClientEndpoint"),
                MutualServerEndpoint.__name__,
            ],
            said.split(),
        )

    def test_importsNothing(self) -> None:
        """
        Whoever only looks at the plugins, as C{twistd --help} does, imports
        nothing of tcpsvc; nor does one who uses another endpoint string.
        """
        said = self.python(
            "import contextlib, io, sys\n"
            "from twisted.scripts.twistd import ServerOptions\n"
            "help = io.StringIO()\n"
            "with contextlib.redirect_stdout(help):\n"
            "    try: ServerOptions().parseOptions(['--help'])\n"
            "    except SystemExit: pass\n"
            "from twisted.internet import reactor\n"
            "from twisted.internet.endpoints import clientFromString\n"
            "clientFromString(reactor, 'tcp:localhost:1')\n"
            "try: clientFromString(reactor, 'nosuch:x')\n"
            "except ValueError: pass\n"
            "print('tcpsvc ' in help.getvalue())\n"
            "print('twisted.plugins.tcpsvc_endpoints' in sys.modules)\n"
            "print([n for n in sys.modules if n.split('.')[0] in\n"
            "       ('tcpsvc', 'serial', 'cryptography', 'OpenSSL')\n"
            "       and n.startswith('tcpsvc')])\n"
        )
        self.assertEqual(["True", "True", "[]"], said.split())

    def test_serialOnlyWhenUsed(self) -> None:
        """
        C{exec:} wants no pyserial.
        """
        said = self.python(
            "import sys\n"
            "from twisted.internet import reactor\n"
            "from twisted.internet.endpoints import clientFromString\n"
            "clientFromString(reactor, 'exec:cat')\n"
            "print('serial' in sys.modules)\n"
        )
        self.assertEqual("False", said.strip())
