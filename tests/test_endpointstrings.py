"""
Tests for L{tcpsvc.endpointstrings}.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.endpointstrings import checkClient, checkServer, isLocal, serverEndpoint
from twisted.plugins import twisted_core


class CheckTestCase(SynchronousTestCase):
    """
    A directory in which endpoint strings are checked.
    """

    def setUp(self) -> None:
        """
        Go there.
        """
        here = Path(self.mktemp())
        here.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(here)

    def assertBad(
        self, check: Callable[[object, str], object], description: str, words: str
    ) -> None:
        """
        A string is refused in one line that has nothing of Python, and these words.
        """
        error = self.assertRaises(ValueError, check, MemoryReactorClock(), description)
        line = str(error)
        self.assertEqual(1, len(line.splitlines()), line)
        self.assertIn(words, line)
        for leak in ("__init__", "argument:", "invalid literal", "keyword", "object"):
            self.assertNotIn(leak, line)


class ClientTests(CheckTestCase):
    """
    Tests for L{checkClient}.
    """

    def test_good(self) -> None:
        """
        What leads somewhere is taken, Twisted's kinds and ours, and nothing is
        opened.
        """
        for description in (
            "tcp:host.example:5025",
            "tcp:host=host.example:5025",
            "tcp:host.example:port=1:timeout=5:bindAddress=192.0.2.1",
            r"tcp:\:\:1:65535",
            "TCP:host.example:5025",
            "unix:/run/thing.sock",
            "unix:path=/run/thing.sock:lockfile=0:timeout=9",
            "tls:host.example:443",
            r"tls:host.example:443:endpoint=unix\:/run/thing",
            "ssl:host.example:443:hostname=host.example",
            "exec:cat -u",
            "serial:/dev/nosuchline:baudrate=9600",
        ):
            checkClient(MemoryReactorClock(), description)

    def test_missing(self) -> None:
        """
        What is missing or empty is named, and what is wanted is shown.
        """
        for description, words in (
            ("serial:", "serial: DEVICE is missing: serial:DEVICE is wanted"),
            ("unix:", "unix: PATH is missing: unix:PATH is wanted"),
            ("unix", "unix: PATH is missing: unix:PATH is wanted"),
            ("tcp:host", "tcp: PORT is missing: tcp:HOST:PORT is wanted"),
            ("tcp:host:", "tcp: PORT is missing: tcp:HOST:PORT is wanted"),
            ("tcp::5025", "tcp: HOST is missing: tcp:HOST:PORT is wanted"),
            ("tcp:host=:5025", "tcp: HOST is missing: tcp:HOST:PORT is wanted"),
            ("tls:host", "tls: PORT is missing: tls:HOST:PORT is wanted"),
            ("mtls::4433", "mtls: HOST is missing: mtls:HOST is wanted"),
            ("exec:", "exec: a command is wanted"),
        ):
            self.assertBad(checkClient, description, words)

    def test_values(self) -> None:
        """
        A value that cannot be is named, and what is wanted is said.
        """
        port = "a number from 1 to 65535 is wanted"
        for description, words in (
            ("tcp:host:0", f"tcp: port '0': {port}"),
            ("tcp:host:65536", f"tcp: port '65536': {port}"),
            ("tcp:host:scpi", f"tcp: port 'scpi': {port}"),
            ("tcp:host:-1", f"tcp: port '-1': {port}"),
            ("tcp: localhost:1", "tcp: host ' localhost': there is a blank in it"),
            ("tls:local host:1", "tls: host 'local host': there is a blank in it"),
            ("tls:host:0", f"tls: port '0': {port}"),
            (r"tls:host:1:endpoint=tcp\:x\:y", f"tcp: port 'y': {port}"),
            ("tcp:host:1:timeout=x", "tcp: timeout 'x': a number from 1"),
            ("unix:/x:lockfile=y", "unix: lockfile 'y': a number from 0 to 1"),
            (f"unix:/{'x' * 107}", "at most 107 octets"),
            ("ssl:host:1:certKey=/nosuch", "ssl: /nosuch: No such file"),
            ("tcp:host:1\\", "nothing follows the backslash at the end"),
        ):
            self.assertBad(checkClient, description, words)

    def test_surplus(self) -> None:
        """
        So is an option that there is not; with too many parts, how options and
        colons are written.
        """
        self.assertBad(
            checkClient,
            "tcp:host:1:colour=red",
            "tcp: there is no option 'colour', only host, port, timeout, bindAddress",
        )
        for description in ("tcp:::1:5025", "tcp:host:1:5"):
            self.assertBad(
                checkClient,
                description,
                "tcp: too many parts: tcp:HOST:PORT is wanted; ",
            )

    def test_otherShape(self) -> None:
        """
        What a kind does not take although it might, is said without Python's words.
        """
        self.assertBad(
            checkClient, "tls:host=h:443", "its arguments are not those of tls:"
        )

    def test_unknown(self) -> None:
        """
        If nothing can be guessed, the kinds are listed.
        """
        for description in ("", "nosuch:x", "bench.example", "/", " "):
            self.assertBad(checkClient, description, "tcp:, unix:, tls:, exec:, serial")

    def test_meantNetwork(self) -> None:
        """
        A host and a port without a kind are of C{tcp:}.
        """
        for description, guess in (
            ("localhost:5025", "tcp:localhost:5025"),
            ("192.0.2.50:5025", "tcp:192.0.2.50:5025"),
            ("[::1]:5025", r"tcp:\:\:1:5025"),
            (":5025", "tcp:localhost:5025"),
            ("tcp6:host:5025", "tcp:host:5025"),
        ):
            self.assertBad(checkClient, description, f"did you mean {guess}?")

    def test_meantPath(self) -> None:
        """
        A path is of what lies there; if nothing does, of what it looks like.
        """
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("thing")
        Path("two words").write_text("")
        for description, guess in (
            ("./thing", "unix:./thing"),
            ("/nosuch/thing.sock", "unix:/nosuch/thing.sock"),
            ("/dev/null", "serial:/dev/null"),
            ("/dev/nosuch0", "serial:/dev/nosuch0"),
            ("/dev/nosuch0:baudrate=9600", "serial:/dev/nosuch0:baudrate=9600"),
            ("./prog", "exec:./prog"),
            ("./prog --level=5", r"exec:./prog --level\=5"),
            ("./two words", "exec:'./two words'"),
            (sys.executable, f"exec:{sys.executable}"),
            (f"./{'x' * 300}", f"exec:./{'x' * 300}"),
            ("cat -u", "exec:cat -u"),
            ("cat:", "exec:cat"),
            ("./prog:", "exec:./prog"),
            ("/dev/nosuch0:", "serial:/dev/nosuch0"),
            (r"cat a\:", r"exec:cat a\:"),
        ):
            self.assertBad(checkClient, description, f"did you mean {guess}?")


class ServerTests(CheckTestCase):
    """
    Tests for L{checkServer}.
    """

    def test_good(self) -> None:
        """
        What can be listened on is taken, and nothing is opened.
        """
        reactor = MemoryReactorClock()
        for description in (
            "tcp:0",
            "tcp:4433:interface=127.0.0.1:backlog=5",
            r"tcp6:4433:interface=\:\:1",
            "unix:/tmp/x:mode=600",
        ):
            checkServer(reactor, description)
        self.assertEqual([], reactor.tcpServers)

    def test_bad(self) -> None:
        """
        What is missing, wrong or too much is named, and what is wanted is said.
        """
        port = "a number from 0 to 65535 is wanted"
        for description, words in (
            ("tcp", "tcp: PORT is missing: tcp:PORT is wanted"),
            ("tcp:", "tcp: PORT is missing: tcp:PORT is wanted"),
            ("tcp:x", f"tcp: port 'x': {port}"),
            ("tcp:65536", f"tcp: port '65536': {port}"),
            ("tcp6:-1", f"tcp6: port '-1': {port}"),
            ("tcp:1:backlog=x", "tcp: backlog 'x': a number"),
            ("tcp:1:colour=red", "tcp: there is no option 'colour', only port"),
            ("unix:", "unix: ADDRESS is missing: unix:ADDRESS is wanted"),
            ("unix:/x:mode=rw", "unix: mode 'rw': an octal number is wanted"),
            ("systemd:domain=X:name=a", "systemd: domain 'X': one of INET, INET6"),
            ("systemd:domain=INET:name=a", "systemd: there is no such socket among"),
            ("systemd:domain=INET:index=0", "systemd: there is no such socket among"),
            ("systemd:domain=INET:index=x", "systemd: index 'x': a number"),
            ("", "tcp:, tcp6:, unix: or systemd:"),
            ("exec:cat", "tcp:, tcp6:, unix: or systemd:"),
        ):
            self.assertBad(checkServer, description, words)

    def test_meant(self) -> None:
        """
        What may have been meant by a string without a kind, or with host and port
        as a client has them.
        """
        for description, guess in (
            ("4433", "tcp:4433"),
            (":4433", "tcp:4433"),
            ("TCP:4433", "tcp:4433"),
            ("127.0.0.1:4433", "tcp:4433:interface=127.0.0.1"),
            ("tcp:localhost:4433", "tcp:4433:interface=localhost"),
            ("[::1]:4433", r"tcp6:4433:interface=\:\:1"),
            ("/run/x.sock", "unix:/run/x.sock"),
        ):
            self.assertBad(checkServer, description, f"did you mean {guess}?")

    def test_haproxy(self) -> None:
        """
        What is behind C{haproxy:} is checked in the same way.
        """
        reactor = MemoryReactorClock()
        checkServer(reactor, "haproxy:tcp:4433:interface=127.0.0.1")
        for description, words in (
            ("haproxy:tcp:x", "tcp: port 'x'"),
            ("haproxy:haproxy:tcp:x", "tcp: port 'x'"),
            ("haproxy:4433", "did you mean tcp:4433?"),
            ("haproxy:bogus", "tcp:, tcp6:, unix: or systemd:"),
            ("haproxy:systemd:domain=INET:name=a", "systemd: there is no such socket"),
            ("haproxy:", "tcp:, tcp6:, unix: or systemd:"),
        ):
            self.assertBad(checkServer, description, words)


class BacklogTests(SynchronousTestCase):
    """
    How many connections may wait to be accepted.
    """

    def test_backlog(self) -> None:
        """
        At least 511, unless the string says how many.
        """
        for description, backlog in (
            ("tcp:4433", 511),
            ("tcp:4433:interface=127.0.0.1", 511),
            ("tcp:4433:127.0.0.1", 511),
            ("tcp:4433:interface=127.0.0.1:backlog=5", 5),
            ("tcp:4433:127.0.0.1:5", 5),
            ("tcp:backlog=5:4433", 5),
            (r"tcp6:4433:interface=\:\:1", 511),
            ("tcp6:4433:5", 5),
            ("haproxy:tcp:4433", 511),
            ("haproxy:tcp:4433:backlog=5", 5),
        ):
            reactor = MemoryReactorClock()
            serverEndpoint(reactor, description).listen(Factory())
            self.assertEqual(
                [backlog], [server[2] for server in reactor.tcpServers], description
            )

    def test_unix(self) -> None:
        """
        So it is with UNIX sockets.
        """
        for options, backlog in (
            ("", 511),
            (":mode=600", 511),
            (":600", 511),
            (":lockfile=0", 511),
            (":backlog=5", 5),
            (":600:5", 5),
            (":600:5:lockfile=0", 5),
        ):
            reactor = MemoryReactorClock()
            path = self.mktemp()
            serverEndpoint(reactor, f"unix:{path}{options}").listen(Factory())
            self.assertEqual(
                [(path, backlog)],
                [(server[0], server[2]) for server in reactor.unixServers],
                options,
            )


class InheritedTests(CheckTestCase):
    """
    Sockets that another process has opened.
    """

    def inherit(self, *descriptors: int) -> None:
        """
        As if systemd had passed these, named a, b, c.
        """
        passed = ListenFDs(descriptors, "abc"[: len(descriptors)])
        self.patch(type(twisted_core.systemdEndpointParser), "_sddaemon", passed)

    def listener(
        self, family: socket.AddressFamily, address: Any
    ) -> tuple[socket.socket, int]:
        """
        A listening socket, and a descriptor of it to pass.
        """
        made = socket.socket(family)
        self.addCleanup(made.close)
        made.bind(address)
        made.listen()
        return made, made.fileno()

    def test_families(self) -> None:
        """
        The domain has to be that of the socket; the line says what to write instead.
        """
        addresses: dict[str, Any] = {
            "INET": ("127.0.0.1", 0),
            "INET6": ("::", 0),
            "UNIX": self.mktemp(),
        }
        for real, address in addresses.items():
            _, descriptor = self.listener(socket.AddressFamily[f"AF_{real}"], address)
            self.inherit(descriptor)
            for told in addresses:
                for form in (
                    "systemd:domain={}:name=a",
                    "systemd:name=a:domain={}",
                    "systemd:{}:0",
                    "systemd:{}:index=0",
                    "haproxy:systemd:{}:name=a",
                ):
                    description = form.format(told)
                    if told == real:
                        checkServer(MemoryReactorClock(), description)
                        continue
                    inner = form.format(real).removeprefix("haproxy:")
                    words = f"descriptor {descriptor} is a socket of the domain {real}"
                    self.assertBad(checkServer, description, f"{words}, not {told}")
                    self.assertBad(checkServer, description, f"to fix: write {inner}")

    def test_kinds(self) -> None:
        """
        It has to be a socket that listens; and there has to be one.
        """
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            read, write = os.pipe()
            os.close(write)
            self.addCleanup(os.close, read)
            self.inherit(datagrams.fileno(), read, write)
            for which, words in (
                ("name=a", "IPv4 datagram"),
                ("index=0", "IPv4 datagram"),
                ("name=b", "is not a socket"),
                ("name=c", "is closed"),
                ("name=d", "there is no such socket among"),
                ("index=3", "there is no such socket among"),
            ):
                self.assertBad(checkServer, f"systemd:domain=INET:{which}", words)

    def test_names(self) -> None:
        """
        If there is no such socket, the line says which names there are.
        """
        self.patch(os, "environ", {**os.environ, "LISTEN_FDNAMES": "line:other"})
        self.assertBad(
            checkServer,
            "systemd:domain=INET:name=x",
            "systemd: there is no such socket among those that were passed on "
            "(LISTEN_FDNAMES is line:other)",
        )

    def test_listen(self) -> None:
        """
        A UNIX socket is adopted without touching its path.
        """
        path = Path(self.mktemp())
        made, _ = self.listener(socket.AF_UNIX, str(path))
        path.chmod(0o640)
        self.inherit(os.dup(made.fileno()))
        endpoint = serverEndpoint(MemoryReactorClock(), "systemd:domain=UNIX:name=a")
        port = self.successResultOf(endpoint.listen(Factory()))
        self.assertEqual(0o640, path.stat().st_mode & 0o777)
        port.connectionLost(None)  # type: ignore[attr-defined]  # at the end
        self.assertTrue(path.is_socket())


class LocalTests(SynchronousTestCase):
    """
    Tests for L{isLocal}.
    """

    def test_local(self) -> None:
        """
        UNIX sockets and the loopback are local.
        """
        for value in (
            "unix:/run/x",
            r"unix:/run/with\:colon:mode=666",
            "tcp:1:interface=127.0.0.1",
            "tcp:1:interface=127.1.2.3",
            "tcp:1:backlog=5:interface=localhost",
            "tcp:port=1:interface=127.0.0.1",
            r"tcp:1:interface=\:\:1",
            r"tcp6:1:interface=\:\:1",
        ):
            self.assertTrue(isLocal(value), value)

    def test_notLocal(self) -> None:
        """
        Everything else is not, whatever it looks like.
        """
        for value in (
            "tcp:1",
            "tcp:1:interface=",
            "tcp:1:interface=0.0.0.0",
            "tcp:1:interface=192.0.2.1",
            r"tcp:1:interface=\:\:",
            "tcp6:1",
            "tcp:1:interface=127.0.0.1.example.org",
            "tcp:1:interface=localhost.example.org",
            "tcp:1:interface=bench.example",
            r"tcp:1:interface\=127.0.0.1",
            "tcp:1:backlog=interface=127.0.0.1",
            r"tcp:1:interface=127.0.0.1:interf\ace=0.0.0.0",
            "systemd:domain=INET:index=0",
            "fd:3",
            "haproxy:tcp:1:interface=127.0.0.1",
            "systemd:domain=INET:interface=localhost",
            "",
            "tcp:1:interface=127.0.0.1\\",
        ):
            self.assertFalse(isLocal(value), value)

    def test_lastWins(self) -> None:
        """
        Of an argument given twice Twisted takes the last, and so it is here.
        """
        local, everywhere = "interface=127.0.0.1", "interface=0.0.0.0"
        self.assertFalse(isLocal(f"tcp:1:{local}:{everywhere}"))
        self.assertTrue(isLocal(f"tcp:1:{everywhere}:{local}"))
