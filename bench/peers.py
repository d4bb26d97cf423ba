"""
Those that are measured: how each is started, and how it answers.

All have the same keys, demand a client's certificate, speak TLS 1.3, and are pinned
to one core with all that belongs to them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import evolve, frozen

from bench.machine import ROOT, BenchError, cores, pinned

PATIENCE = 20.0
TCPSVC = (sys.executable, "-c", "from tcpsvc.cli import main; main()")
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
CLIENT = "alice"
OTHERS = ("bob", "carol", "dave", "erin")


@frozen
class Keys:
    """
    The key files that all ends share.

    @ivar directory: As C{tcpsvc keys} makes it.
    """

    directory: Path

    @property
    def ca(self) -> str:
        """
        The authority.
        """
        return str(self.directory / "ca.pem")

    @property
    def server(self) -> tuple[str, str]:
        """
        The server's certificate and key.
        """
        return str(self.directory / "server.pem"), str(
            self.directory / "server-key.pem"
        )

    @property
    def client(self) -> tuple[str, str]:
        """
        The client's certificate and key.
        """
        clients = self.directory / "clients"
        return str(clients / f"{CLIENT}.pem"), str(clients / f"{CLIENT}-key.pem")

    @property
    def others(self) -> list[str]:
        """
        Further clients' certificates and keys, each as C{CERTIFICATE:KEY}.
        """
        clients = self.directory / "clients"
        return [f"{clients / name}.pem:{clients / name}-key.pem" for name in OTHERS]

    @classmethod
    def made(cls, directory: Path) -> Keys:
        """
        Make all of them with C{tcpsvc keys}.
        """
        where = ("--keys", str(directory))
        clients = [("client", *where, name) for name in (CLIENT, *OTHERS)]
        for arguments in (("init", *where, "localhost"), *clients):
            subprocess.run(
                [*TCPSVC, "keys", *arguments],
                env=environment(),
                stdout=subprocess.DEVNULL,
                check=True,
            )
        return cls(directory)


@frozen
class Place:
    """
    Where a peer runs, once.

    @ivar directory: Its own, empty when it starts.
    @ivar port: Where it listens.
    @ivar behind: Where the plain echo behind it listens, if it has one.
    @ivar keys: The keys.
    @ivar echo: The program of the plain echo.
    """

    directory: Path
    port: int
    behind: int
    keys: Keys
    echo: Path

    @property
    def trail(self) -> Path:
        """
        Where tcpsvc records.
        """
        return self.directory / "audit.jsonl"

    def plainEcho(self) -> list[str]:
        """
        The command of the plain echo.
        """
        return [str(self.echo), str(self.behind)]


@frozen
class Peer:
    """
    One that is measured.

    @ivar name: What it is called in tables.
    @ivar commands: Gives the commands to start, the one that listens for clients
        last.
    @ivar framing: How it answers, in the words of load.c.
    @ivar greeting: Whether it speaks first.
    @ivar busy: Whether it turns a second client away with a word.
    @ivar window: How many octets it may have under way; 0 is no limit.
    @ivar needs: The program that it is, if it has to be installed.
    """

    name: str
    commands: Callable[[Place], list[list[str]]]
    framing: str = "echoed"
    greeting: bool = False
    busy: bool = False
    window: int = 0
    needs: str = ""

    @property
    def here(self) -> bool:
        """
        Whether it can be run on this machine.
        """
        return not self.needs or _found(self.needs) is not None

    def saying(self, framing: str) -> Peer:
        """
        The same, with another framing: one that only passes octets on has many.
        """
        return evolve(self, framing=framing)


@frozen
class Running:
    """
    A peer that runs.

    @ivar peer: The peer.
    @ivar place: Where.
    @ivar pid: The process that listens.
    @ivar started: Seconds from its start until it listened.
    """

    peer: Peer
    place: Place
    pid: int
    started: float

    def memory(self) -> float:
        """
        The memory that it has, in MiB.
        """
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise BenchError(f"{self.peer.name} has ended")


def environment() -> dict[str, str]:
    """
    The environment of programs that import this C{tcpsvc}.
    """
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def freePort() -> int:
    """
    A loopback port that nobody uses now.
    """
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _found(program: str) -> str | None:
    """
    Where a program is; ser2net's is not on every user's path.
    """
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def _listens(port: int) -> bool:
    """
    Whether somebody listens on a loopback port; asked without connecting to it.
    """
    listening = f":{port:04X} 00000000:0000 0A "
    return listening in Path("/proc/net/tcp").read_text(encoding="ascii")


@contextmanager
def running(peer: Peer, place: Place) -> Iterator[Running]:
    """
    Start a peer, and end it.

    @raise BenchError: If it does not start.
    """
    started: list[subprocess.Popen[bytes]] = []
    log = place.directory / "log"
    try:
        with log.open("wb") as output:
            for command in peer.commands(place):
                begun = time.perf_counter()
                started.append(
                    subprocess.Popen(
                        pinned(cores()[0], command),
                        env=environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        cwd=place.directory,
                        start_new_session=True,
                    )
                )
        while not _listens(place.port):
            if started[-1].poll() is not None or time.perf_counter() > begun + PATIENCE:
                said = log.read_text(errors="replace")[-2000:]
                raise BenchError(f"{peer.name} does not start:\n{said}")
            time.sleep(0.002)
        yield Running(peer, place, started[-1].pid, time.perf_counter() - begun)
    finally:
        for process in reversed(started):
            _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> None:
    """
    End a program, and what is left of its children.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# The peers.


def _tcpsvc(place: Place, *more: str) -> list[str]:
    """
    The command of tcpsvc.
    """
    return [
        *(*TWISTD, "-n", "--pidfile=", "tcpsvc", "--keys", str(place.keys.directory)),
        *("--audit", str(place.trail)),
        *("--listen", f"tcp:{place.port}:interface=127.0.0.1", *more),
    ]


def tcpsvc(sync: str = "everysec", *options: str) -> Peer:
    """
    tcpsvc with its own commands.

    @param options: Further ones.
    """
    return Peer(
        "tcpsvc" if sync == "everysec" else f"tcpsvc, {sync}",
        lambda place: [_tcpsvc(place, "--audit-sync", sync, *options)],
        framing="command",
        greeting=True,
        busy=True,
    )


def tcpsvcBefore() -> list[Peer]:
    """
    tcpsvc as it is in another checkout, which C{BENCH_BEFORE} names, if it does.
    """
    before = os.environ.get("BENCH_BEFORE")
    if not before:
        return []
    return [
        Peer(
            "tcpsvc before",
            lambda place: [["env", f"PYTHONPATH={before}", *_tcpsvc(place)]],
            framing="command",
            greeting=True,
            busy=True,
        )
    ]


def gateway(payload: str = "full") -> Peer:
    """
    tcpsvc in front of the plain echo.
    """
    return Peer(
        "tcpsvc gateway" if payload == "full" else f"tcpsvc gateway, {payload}",
        lambda place: [
            place.plainEcho(),
            _tcpsvc(
                place,
                *("--gateway", f"tcp:127.0.0.1:{place.behind}"),
                *("--audit-payload", payload),
            ),
        ],
    )


def _sServer(place: Place) -> list[list[str]]:
    """
    The commands of s_server.
    """
    certificate, key = place.keys.server
    return [
        [
            *("openssl", "s_server", "-rev", "-quiet", "-tls1_3"),
            *("-Verify", "1", "-verify_return_error", "-CAfile", place.keys.ca),
            *("-cert", certificate, "-key", key),
            *("-accept", f"127.0.0.1:{place.port}"),
        ]
    ]


def _socat(place: Place) -> list[list[str]]:
    """
    The commands of socat.
    """
    certificate, key = place.keys.server
    options = (
        f"{place.port},bind=127.0.0.1,reuseaddr,fork,nodelay,verify=1",
        f"cafile={place.keys.ca},cert={certificate},key={key}",
        "openssl-min-proto-version=TLS1.3",
    )
    return [["socat", f"OPENSSL-LISTEN:{','.join(options)}", "EXEC:cat"]]


def _stunnel(place: Place) -> list[list[str]]:
    """
    The commands of stunnel.
    """
    certificate, key = place.keys.server
    configuration = place.directory / "stunnel.conf"
    configuration.write_text(
        f"""\
foreground = yes
pid =
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[echo]
accept = 127.0.0.1:{place.port}
connect = 127.0.0.1:{place.behind}
cert = {certificate}
key = {key}
CAfile = {place.keys.ca}
verifyChain = yes
requireCert = yes
sslVersionMin = TLSv1.3
""",
        encoding="utf-8",
    )
    return [place.plainEcho(), ["stunnel4", str(configuration)]]


def _ser2net(place: Place) -> list[list[str]]:
    """
    The commands of ser2net, with its own echo for a device. It looks for the
    authority of a client in a directory of that client's name.
    """
    certificate, key = place.keys.server
    allowed = place.directory / "auth" / CLIENT / "allowed_certs"
    allowed.mkdir(parents=True)
    shutil.copy(place.keys.ca, allowed)
    subprocess.run(["openssl", "rehash", str(allowed)], check=True)
    configuration = place.directory / "ser2net.yaml"
    configuration.write_text(
        f"""\
connection: &echo
  accepter: ssl(key={key},cert={certificate},clientauth),\
tcp(nodelay),127.0.0.1,{place.port}
  connector: echo
  options:
    authdir: {place.directory / "auth"}
""",
        encoding="utf-8",
    )
    return [[str(_found("ser2net")), "-d", "-n", "-u", "-c", str(configuration)]]


def _plain(place: Place) -> list[list[str]]:
    """
    The commands of the plain LineReceiver.
    """
    return [
        [
            *(sys.executable, "-m", "bench.plain", str(place.port)),
            *(place.keys.ca, *place.keys.server),
        ]
    ]


# No program: what is measured is said in records.py.
RECORDS = Peer("the records alone", lambda place: [])
S_SERVER = Peer("s_server", _sServer, framing="reversed", needs="openssl")
# With more under way, socat and its cat wait for each other without end.
SOCAT = Peer("socat", _socat, window=1 << 16, needs="socat")
STUNNEL = Peer("stunnel", _stunnel, needs="stunnel4")
SER2NET = Peer("ser2net", _ser2net, needs="ser2net")
PLAIN = Peer("Twisted LineReceiver", _plain)


# Clients, which are measured as whole programs.


def _tcpsvcSend(place: Place) -> list[list[str]]:
    """
    C{tcpsvc send} with few arguments.
    """
    keys = ("--keys", str(place.keys.directory), "--identity", CLIENT)
    return [[*TCPSVC, "send", *keys, f"localhost:{place.port}", "ECHO hello"]]


def _sClient(place: Place) -> list[list[str]]:
    """
    The same by OpenSSL's client.
    """
    certificate, key = place.keys.client
    return [
        [
            *("openssl", "s_client", "-quiet", "-verify_quiet", "-nocommands"),
            *("-connect", f"localhost:{place.port}"),
            *("-CAfile", place.keys.ca, "-cert", certificate, "-key", key),
        ]
    ]


TCPSVC_SEND = Peer("tcpsvc send", _tcpsvcSend)
S_CLIENT = Peer("openssl s_client", _sClient, needs="openssl")
