"""
Sockets that another process has opened and passed on, as systemd does.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from pathlib import Path

from tests.endtoend.service import (
    PATIENCE,
    EndToEndTests,
    RunningService,
    Visit,
    environment,
)
from tests.support import requireProgram

PASS = """
import os, socket, sys
what, address, *command = sys.argv[1:]
if what == "nothing":
    os.execvp(command[0], command)
if what == "file":
    passed = os.open(address, os.O_RDONLY | os.O_CREAT)
elif what == "pipe":
    passed = os.pipe()[0]
elif what == "epoll":
    import select
    made = select.epoll()
    passed = made.fileno()
elif what == "connected":
    made = socket.socketpair()
    passed = made[0].fileno()
elif what != "closed":
    family, kind = what.split()
    domain = getattr(socket, "AF_" + family)
    made = socket.socket(domain, getattr(socket, "SOCK_" + kind.split("-")[0]))
    if family == "INET6":
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind(address if family == "UNIX" else (address, 0))
    if family == "UNIX":
        os.chmod(address, 0o640)
    if kind == "STREAM":
        made.listen(4096)
    passed = made.fileno()
if what == "closed":
    try:
        os.close(3)
    except OSError:
        pass
else:
    if passed != 3:
        os.dup2(passed, 3)
    os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="line")
os.execvp(command[0], command)
"""


class InheritedTests(EndToEndTests):
    """
    A service that gets its listener from another process.
    """

    def passing(self, what: str, address: str = "127.0.0.1") -> list[str]:
        """
        The command that makes something and becomes a service that inherits it.
        """
        return [sys.executable, "-c", PASS, what, address]

    def refused(self, what: str, listen: str, address: str = "127.0.0.1") -> str:
        """
        A service does not start, and says why in one line.

        @return: That line.
        """
        result = subprocess.run(
            [
                *self.passing(what, address),
                *(
                    sys.executable,
                    "-c",
                    "from twisted.scripts.twistd import run; run()",
                ),
                *("-n", "--pidfile=", "tcpsvc", "--keys", str(self.keys.path)),
                *("--audit", str(self.directory / "refused.jsonl")),
                *listen.split(" "),
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(),
            check=False,
        )
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertFalse((self.directory / "refused.jsonl").exists())
        return result.stderr

    def test_refused(self) -> None:
        """
        What is not the listening socket that the option says is refused in one
        line, with status 1, before anything is opened.
        """
        path = str(self.directory / "s")
        for what, address, listen, words in (
            (
                "INET6 STREAM",
                "::",
                "INET:name=line",
                "write systemd:domain=INET6:name=line",
            ),
            (
                "INET6 STREAM",
                "::",
                "INET:index=0",
                "write systemd:domain=INET6:index=0",
            ),
            (
                "INET STREAM",
                "127.0.0.1",
                "UNIX:name=line",
                "write systemd:domain=INET:",
            ),
            ("UNIX STREAM", path, "INET:name=line", "write systemd:domain=UNIX:"),
            ("INET DGRAM", "127.0.0.1", "INET:name=line", "IPv4 datagram"),
            ("INET STREAM-silent", "127.0.0.1", "INET:name=line", "does not listen"),
            ("connected", "", "UNIX:name=line", "does not listen"),
            ("file", path + ".txt", "INET:name=line", "not a socket"),
            ("pipe", "", "INET:name=line", "not a socket"),
            ("epoll", "", "INET:name=line", "not a socket"),
            ("INET STREAM", "127.0.0.1", "INET:name=x", "LISTEN_FDNAMES is line"),
            ("INET STREAM", "127.0.0.1", "INET:index=1", "no such socket"),
            ("nothing", "", "INET:index=0", "LISTEN_FDNAMES is not set"),
        ):
            line = self.refused(
                what, f"--listen systemd:domain={listen}", address=address
            )
            self.assertIn(words, line)

    def test_closed(self) -> None:
        """
        So is a descriptor that was not passed on, whatever has its number by now.
        """
        line = self.refused("closed", "--listen systemd:domain=INET:name=line")
        self.assertIn("descriptor 3 is ", line)

    def test_plaintext(self) -> None:
        """
        So is a socket without TLS that others can reach.
        """
        listen = "--listen-plaintext systemd:domain=INET:name=line"
        line = self.refused("INET STREAM", listen, address="0.0.0.0")
        self.assertIn("the socket listens on 0.0.0.0:", line)
        line = self.refused(
            "INET6 STREAM", listen.replace("INET", "INET6"), address="::"
        )
        self.assertIn("the socket listens on [::]:", line)

    def test_bothFamilies(self) -> None:
        """
        On a socket for both families clients of IPv4 are served, and shown with
        their IPv4 addresses in trail, log and replies.
        """
        running = self.service(
            listen=["systemd:domain=INET6:name=line"],
            before=self.passing("INET6 STREAM", "::"),
        )
        visit = self.visit(running)
        self.assertTrue(visit.first.startswith("220 "), visit.first)
        here = f"127.0.0.1:{visit.socket.getsockname()[1]}"
        self.assertTrue(visit.ask("WHO").startswith(f"200 alice {here} since "))
        self.assertEqual(running.records("session.opened")[0]["address"], here)
        self.assertIn(f" from {here} ", running.log)
        stranger = socket.create_connection(("127.0.0.1", running.port))
        self.addCleanup(stranger.close)
        stranger.sendall(b"rubbish\n")
        there = f"127.0.0.1:{stranger.getsockname()[1]}"
        running.waitForRecord("handshake.failed", address=there)
        self.assertNotIn("::ffff", running.log + running.trail.read_text())

    def test_unix(self) -> None:
        """
        A UNIX socket keeps its mode and its path, also after the end: it is not the
        service's.
        """
        path = Path(self.mktemp()).absolute()
        running = RunningService(
            self.directory,
            self.keys,
            ("--listen-plaintext", "systemd:domain=UNIX:name=line"),
            before=self.passing("UNIX STREAM", str(path)),
            environment=environment(),
        )
        self.addCleanup(running.kill)
        running.start()
        self.assertIn(f"listening on unix:{path}, plaintext", running.log)
        self.assertEqual(path.stat().st_mode & 0o777, 0o640)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(str(path))
        visit = Visit(client)
        self.assertEqual(visit.ask("ECHO hello"), "200 hello")
        visit.close()
        running.stop()
        self.assertTrue(path.is_socket())

    def test_systemd(self) -> None:
        """
        C{systemd-socket-activate} passes a socket as systemd does.
        """
        activate = requireProgram("systemd-socket-activate")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = self.process(
            [
                *(activate, "--listen", f"127.0.0.1:{port}", "--fdname", "line"),
                *[f"--setenv={name}" for name in environment()],
                *(
                    sys.executable,
                    "-c",
                    "from twisted.scripts.twistd import run; run()",
                ),
                *("-n", "--pidfile=", "tcpsvc", "--keys", str(self.keys.path)),
                *("--audit", str(self.directory / "audit.jsonl")),
                *("--listen", "systemd:domain=INET:name=line"),
            ],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        self.assertIn(b"Listening on", process.stderr.readline())
        pair = self.keys.pair("alice")
        context = ssl.create_default_context(cafile=str(self.keys.ca))
        context.load_cert_chain(pair.certificate, pair.key)
        bare = socket.create_connection(("127.0.0.1", port), PATIENCE)
        visit = Visit(context.wrap_socket(bare, server_hostname="127.0.0.1"))
        self.addCleanup(visit.close)
        self.assertEqual(visit.ask("ECHO hello"), "200 hello")
