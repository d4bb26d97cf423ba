"""
Tests for L{tcpsvc.tap}: the options of a gateway, and the service they make.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from tcpsvc import service
from tcpsvc.gateway import GatewayBackend, GatewaySettings
from tcpsvc.tap import Options, makeService
from tests.support import clientNamed
from tests.test_tap import TapTestCase


class GatewayOptionsTestCase(TapTestCase):
    """
    A directory with keys, in which the command line of a gateway is parsed.
    """

    def gateway(self, *arguments: str) -> GatewaySettings:
        """
        The gateway that these arguments make.
        """
        gateway = self.parsed(*arguments).gateway
        assert gateway is not None
        return gateway


class OptionTests(GatewayOptionsTestCase):
    """
    What may be given.
    """

    def test_none(self) -> None:
        """
        Without C{--gateway} there is none.
        """
        self.assertIs(None, self.parsed().gateway)

    def test_defaults(self) -> None:
        """
        A gateway says nothing of its own and records all.
        """
        self.assertEqual(
            GatewaySettings("tcp:192.0.2.50:5025", (), (), "full"),
            self.gateway("--gateway", "tcp:192.0.2.50:5025"),
        )

    def test_kinds(self) -> None:
        """
        Any client endpoint will do, Twisted's and ours. None is opened.
        """
        for description in (
            "tcp:host.example:5025",
            "unix:/run/nosuch.sock",
            r"tls:host.example:5025",
            "exec:cat -u",
            "serial:/dev/nosuchline:baudrate=9600",
            "mtls:bench.example:keys=keys",
        ):
            self.assertEqual(
                description, self.gateway("--gateway", description).description
            )

    def test_texts(self) -> None:
        """
        What is sent at both ends, in order, with its escapes.
        """
        gateway = self.gateway(
            *("--gateway", "exec:cat"),
            *("--on-open", r"*RST\r\n", "--on-open", r"\x00\0\t\\"),
            *("--on-close", r"OUTP OFF\n", "--on-close", "caf\xe9"),
        )
        self.assertEqual((b"*RST\r\n", b"\0\0\t\\"), gateway.onOpen)
        self.assertEqual((b"OUTP OFF\n", b"caf\xc3\xa9"), gateway.onClose)

    def test_payload(self) -> None:
        """
        Either all is recorded or a digest.
        """
        for payload in ("full", "digest"):
            self.assertEqual(
                payload,
                self.gateway(
                    "--gateway", "exec:cat", "--audit-payload", payload
                ).payload,
            )

    def test_help(self) -> None:
        """
        Each option is in the help.
        """
        text = Options().getUsage()
        for name in ("gateway", "on-open", "on-close", "audit-payload"):
            self.assertIn(f"--{name}=", text)


class BadOptionTests(GatewayOptionsTestCase):
    """
    What may not be given.
    """

    def test_endpoint(self) -> None:
        """
        What is no client endpoint, or has a wrong value.
        """
        for description, words in (
            ("nosuch:x", "tcp:, unix:, tls:, exec:, serial: or mtls: is wanted"),
            ("localhost:5025", "did you mean tcp:localhost:5025?"),
            ("tcp:host", "tcp: PORT is missing: tcp:HOST:PORT is wanted"),
            ("tcp:host:port", "tcp: port 'port': a number from 1 to 65535 is wanted"),
            ("serial:", "serial: DEVICE is missing: serial:DEVICE is wanted"),
            ("unix:", "unix: PATH is missing: unix:PATH is wanted"),
            ("", "--gateway"),
            ("exec:nosuchprogram", "exec: there is no program nosuchprogram"),
            ("exec:cat 'x", "exec: No closing quotation"),
            ("exec:env A=1 cat", r"exec: write env A\=1 cat with that backslash"),
            ("serial:/dev/x:parity=Q", "serial: parity=Q: one of"),
            ("serial:/dev/x:speed=1", "serial: there is no option 'speed', only"),
            ("mtls:h:keys=/nosuchdir", "mtls: /nosuchdir/ca.pem: there is no such"),
        ):
            self.assertUsage("--gateway", description, words=(words,))
            self.assertUsage(
                "--gateway", description, words=(f"--gateway '{description}': ",)
            )

    def test_twice(self) -> None:
        """
        Two gateways.
        """
        self.assertUsage(
            *("--gateway", "exec:cat", "--gateway", "exec:cat"),
            words=("--gateway: only one can be served",),
        )

    def test_escape(self) -> None:
        """
        What is no escape.
        """
        for name in ("--on-open", "--on-close"):
            for text in (r"a\q", "a\\", r"\x1", r"\400", "\\\n"):
                self.assertUsage(
                    *("--gateway", "exec:cat", name, text),
                    words=(f"tcpsvc: {name}: '",),
                )

    def test_payload(self) -> None:
        """
        Another payload than the two.
        """
        self.assertUsage(
            *("--gateway", "exec:cat", "--audit-payload", "some"),
            words=("--audit-payload some: one of full, digest is wanted",),
        )

    def test_withoutGateway(self) -> None:
        """
        Options that do nothing without a gateway.
        """
        for name, value in (
            *(("--on-open", "x"), ("--on-close", "x")),
            ("--audit-payload", "digest"),
        ):
            self.assertUsage(name, value, words=(f"{name} goes with --gateway",))

    def test_commands(self) -> None:
        """
        Commands beside a gateway.
        """
        self.assertUsage(
            *("--gateway", "exec:cat", "--commands", "a:b"),
            words=("--gateway and --commands: only one can be served",),
        )

    def test_listenMutual(self) -> None:
        """
        A server endpoint that does TLS itself would do it twice.
        """
        told = "--listen mtls:4433: TLS is done here; write tcp: in place of mtls:"
        self.assertUsage("--listen", "mtls:4433", words=(told,))


class ServiceTests(GatewayOptionsTestCase):
    """
    What the options make.
    """

    def test_backend(self) -> None:
        """
        The service serves the gateway in place of the commands, through an
        endpoint on its own reactor, and says so.
        """
        made: list[object] = []

        @implementer(IStreamClientEndpoint)
        class Endpoint:
            def connect(self, factory: object) -> Any:
                raise AssertionError(f"nobody is admitted to {factory}")

        def clientFromString(reactor: object, description: str) -> Endpoint:
            made.extend((reactor, description))
            return Endpoint()

        self.patch(service, "clientFromString", clientFromString)
        options = Options()
        options.parseOptions(
            ["--listen", "tcp:4433", "--gateway", "exec:cat", "--on-close", "bye"]
        )
        reactor: Any = MemoryReactorClock()
        reactor.callWhenRunning = lambda *_: None
        exclusive: Any = makeService(options, reactor)
        exclusive.privilegedStartService()
        self.addCleanup(exclusive._trail.close)
        self.assertEqual([reactor, "exec:cat"], made)
        backend = exclusive._admission.backend
        self.assertIsInstance(backend, GatewayBackend)
        self.assertTrue(backend.transparent)
        self.assertEqual("exec:cat", backend.description)
        self.assertEqual((b"bye",), backend._settings.onClose)
        greeting = backend._greeting(clientNamed("bob")).text
        self.assertIn(" gateway; you are bob", greeting)
        self.assertIn('"backend":"exec:cat"', Path("audit.jsonl").read_text())
