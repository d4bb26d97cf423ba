"""
A service that is a gateway, and the programs that come to it.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

from attrs import frozen

from tests.endtoend.service import (
    PATIENCE,
    EndToEndTests,
    Record,
    RunningService,
    environment,
    waitUntil,
)
from tests.support import requireProgram

SETTLED = 0.2
"""
Seconds in which what must not happen would have happened.
"""


def tcpsvc(*arguments: str) -> list[str]:
    """
    The command line of the C{tcpsvc} under test.
    """
    return [
        *(sys.executable, "-c", "from tcpsvc.cli import main; main()"),
        *arguments,
    ]


def requireScript(name: str) -> str:
    """
    The path of a program of a Python package that no one here wrote: beside
    this Python, or anywhere.

    @raise SkipTest: If it is not installed, and this is not CI.
    """
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else requireProgram(name)


def requireModules(*names: str) -> None:
    """
    Need Python packages that no one here wrote.

    @raise SkipTest: If one is not installed, and this is not CI.
    """
    for name in names:
        if find_spec(name) is None:
            if os.environ.get("CI"):
                raise AssertionError(f"CI has to install {name}: the extra peers")
            raise SkipTest(f"{name} is not installed: the extra peers")


def freePort() -> int:
    """
    A port of this machine that nobody has now.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """
    Whether somebody listens on a port, found out without connecting to it: a
    connection would be a session.
    """
    listening = f"0100007F:{port:04X} 00000000:0000 0A"
    anywhere = f"00000000:{port:04X} 00000000:0000 0A"
    table = Path("/proc/net/tcp").read_text()
    return listening in table or anywhere in table


def memoryOf(pid: int) -> int:
    """
    The resident memory of a process, in octets.
    """
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def alive(pid: int) -> bool:
    """
    Whether there is such a process, and it has not ended.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def carried(records: Iterable[Record], direction: str) -> Iterator[bytes]:
    """
    The chunks that records of C{gateway.data} have.
    """
    for record in records:
        if record["event"] == "gateway.data" and record["direction"] == direction:
            if "data" in record:
                yield record["data"].encode()
            else:
                yield b64decode(record["data_b64"], validate=True)


@frozen
class Forwarder:
    """
    A C{tcpsvc forward} that runs.
    """

    process: subprocess.Popen[bytes]
    port: int
    _said: Path

    def said(self) -> list[str]:
        """
        The lines on its standard error, after the first.
        """
        return self._said.read_text().splitlines()[1:]


class GatewayTests(EndToEndTests):
    """
    What the tests of gateways have: things to lead to, and ways to come.
    """

    def gateway(self, endpoint: str, *options: str, **more: str) -> RunningService:
        """
        A service that leads to a device.

        @param more: Further variables of its environment.
        """
        return self.service("--gateway", endpoint, *options, variables=more)

    def keysOf(self, name: str) -> list[str]:
        """
        The options by which C{tcpsvc} comes as someone.
        """
        return ["--keys", str(self.keys.path), "--identity", name]

    def connectCommand(
        self, service: RunningService, name: str = "alice", *options: str
    ) -> list[str]:
        """
        The command line of a C{tcpsvc connect}.
        """
        return tcpsvc(
            "connect", *self.keysOf(name), *options, f"localhost:{service.port}"
        )

    def forwarder(
        self, service: RunningService, name: str = "alice", *options: str
    ) -> Forwarder:
        """
        A C{tcpsvc forward} that listens.
        """
        number = len(list(self.directory.glob("forward*")))
        said = self.directory / f"forward{number}"
        with said.open("wb") as errors:
            process = self.process(
                tcpsvc(
                    *("forward", *self.keysOf(name), *options),
                    *("0", f"localhost:{service.port}"),
                ),
                stdin=subprocess.DEVNULL,
                stderr=errors,
                env=environment(),
            )

        def port() -> int:
            first, _, _ = said.read_text().partition("\n")
            if process.poll() is not None:
                raise AssertionError(f"the forwarder has ended: {first}")
            place, _, _ = first.partition(" leads to ")
            return int(place.rpartition(":")[2]) if place != first else 0

        return Forwarder(process, waitUntil(port, "the forwarder listens"), said)

    def listening(self, arguments: list[str], port: int, **settings: object) -> None:
        """
        Start a program, and wait until it listens.
        """
        program = self.process(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **settings,
        )

        def listens() -> bool:
            if program.poll() is not None:
                raise AssertionError(f"{arguments[0]} has ended")
            return accepts(port)

        waitUntil(listens, f"{arguments[0]} listens on {port}")

    def tlsSocat(self, service: RunningService, name: str = "alice") -> int:
        """
        A C{socat} that leads a local port to a service by TLS.

        @return: The port.
        """
        port, pair = freePort(), self.keys.pair(name)
        self.listening(
            [
                requireProgram("socat"),
                f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork",
                (
                    f"OPENSSL:localhost:{service.port},cafile={self.keys.ca},"
                    f"cert={pair.certificate},key={pair.key}"
                ),
            ],
            port,
        )
        return port

    def stunnel(self, service: RunningService, name: str = "alice") -> int:
        """
        A C{stunnel} that leads a local port to a service by TLS.

        @return: The port.
        """
        port, pair = freePort(), self.keys.pair(name)
        settings = self.directory / "stunnel.conf"
        settings.write_text(
            "foreground = yes\n"
            "pid =\n"
            "[bench]\n"
            "client = yes\n"
            f"accept = 127.0.0.1:{port}\n"
            f"connect = 127.0.0.1:{service.port}\n"
            f"CAfile = {self.keys.ca}\n"
            f"cert = {pair.certificate}\n"
            f"key = {pair.key}\n"
            "verifyChain = yes\n"
            "checkHost = localhost\n"
        )
        self.listening([requireProgram("stunnel"), str(settings)], port)
        return port

    def come(
        self, service: RunningService, name: str = "alice", *protocols: str
    ) -> ssl.SSLSocket:
        """
        Come over TLS, and read nothing.

        @param protocols: What to offer by ALPN.
        """
        context = service.context(name)
        if protocols:
            context.set_alpn_protocols(protocols)
        bare = socket.create_connection(("127.0.0.1", service.port), PATIENCE)
        try:
            secured = context.wrap_socket(bare, server_hostname="localhost")
        except BaseException:
            bare.close()
            raise
        self.addCleanup(secured.close)
        return secured

    def assertServes(
        self,
        service: RunningService,
        asked: bytes,
        answer: bytes,
        name: str = "bob",
    ) -> None:
        """
        The next client is served: what it asks is answered, and with nothing
        that was another's.
        """

        def tryOnce() -> bytes:
            with self.come(service, name) as client:
                try:
                    client.sendall(asked)
                    got = bytearray()
                    while len(got) < len(answer):
                        piece = client.recv(65536)
                        if not piece:
                            break
                        got += piece
                except OSError:
                    return b""
                return bytes(got[: len(answer)])

        got = waitUntil(tryOnce, f"{name} is served")
        self.assertEqual(got, answer)

    # What is behind the gateway.

    def instrument(self, serial: Path | None = None) -> int:
        """
        A pressure controller, simulated by sinstruments.

        @param serial: Where it shall have a pseudo terminal instead.
        @return: The port that it listens on.
        """
        server = requireScript("sinstruments-server")
        requireModules("gepace", "yaml")
        port = 0 if serial else freePort()
        transport = {"type": "tcp", "url": f"127.0.0.1:{port}"}
        if serial:
            transport = {"type": "serial", "url": str(serial)}
        device = {
            "class": "Pace",
            "package": "gepace.simulator",
            "name": "pace",
            "transports": [transport],
        }
        settings = self.directory / "simulator.yml"
        # JSON is YAML too.
        settings.write_text(json.dumps({"devices": [device]}))
        command = [server, "-c", str(settings)]
        if serial is None:
            self.listening(command, port)
        else:
            self.process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            waitUntil(serial.exists, "the simulator has its terminal")
        return port

    def silentPort(self) -> socket.socket:
        """
        A listener that does as the test likes.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        self.addCleanup(listener.close)
        return listener

    # The trail.

    def audit(
        self, *arguments: str, status: int = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run a C{tcpsvc audit} to its end.
        """
        done = subprocess.run(
            tcpsvc("audit", *arguments),
            env=environment() | {"TCPSVC_KEYS": str(self.keys.path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE * 3,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def assertCarried(
        self, service: RunningService, sent: bytes, received: bytes, session: str = ""
    ) -> None:
        """
        The trail has just these octets, in one session or in all.
        """
        records = [
            record
            for record in service.records("gateway.data")
            if session in ("", record["session"])
        ]
        self.assertEqual(b"".join(carried(records, "in")), sent)
        self.assertEqual(b"".join(carried(records, "out")), received)
