"""
How C{twistd tcpsvc} and C{twist tcpsvc} start, and how they do not: in
processes of their own, end to end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import DAY, NOW, authority, writeKeys, writePair
from tests.support import openedTrail

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30
"""
Seconds that a process has, on a machine that has much else to do.
"""

TWISTD = ("twistd", "--nodaemon", "--pidfile=")
TWIST = ("twist",)
DAEMON = ("twistd", "--pidfile=daemon.pid", "--logfile=daemon.log")
SCRIPTS = {
    "twistd": "from twisted.scripts.twistd import run; run()",
    "twist": "from twisted.application.twist._twist import Twist; Twist.main()",
}


@frozen
class _Run:
    """
    What became of a process.
    """

    status: int
    output: str
    errors: str


class StartTestCase(SynchronousTestCase):
    """
    A directory with keys, in which processes are started.
    """

    def setUp(self) -> None:
        """
        Write the keys.
        """
        self.here = Path(self.mktemp()).absolute()
        self.here.mkdir()
        self.keys = writeKeys(self.here / "keys")

    def begin(self, command: tuple[str, ...], *options: str) -> subprocess.Popen[str]:
        """
        Start a process, which is killed at the end if need be.
        """
        script, *arguments = command
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; sys.argv[0] = {script!r}; {SCRIPTS[script]}",
                *arguments,
                "tcpsvc",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.here,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def run_(self, commands: tuple[tuple[str, ...], ...], *options: str) -> list[_Run]:
        """
        Run a process for each command, all at once, to their ends.
        """
        processes = [self.begin(command, *options) for command in commands]
        runs = []
        for process in processes:
            output, errors = process.communicate(timeout=PATIENCE)
            runs.append(_Run(process.returncode, output, errors))
        return runs

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """
        Wait until a condition is met.
        """
        end = monotonic() + PATIENCE
        while not condition():
            self.assertLess(monotonic(), end, f"not met: {what}")
            sleep(0.02)

    def waitForText(self, path: Path, text: str) -> None:
        """
        Wait until a file has this text.
        """
        self.wait(
            lambda: path.exists() and text in path.read_text(), f"{text} in {path}"
        )


class BadOptionTests(StartTestCase):
    """
    What is found wrong before anything is opened: one line on standard error,
    no traceback, nothing on standard output, status not 0; as a daemon too.
    """

    def assertOneLine(self, line: str, *options: str) -> None:
        """
        Each way to start it ends with this one line.
        """
        for run in self.run_((TWISTD, TWIST, DAEMON), *options):
            self.assertEqual(f"tcpsvc: {line}\n", run.errors)
            self.assertEqual("", run.output)
            self.assertEqual(1, run.status)
        self.assertEqual(["keys"], [path.name for path in self.here.iterdir()])

    def test_value(self) -> None:
        """
        A bad value.
        """
        self.assertOneLine(
            "--idle-timeout 'soon': a number of seconds is wanted, 0 or more",
            "--idle-timeout=soon",
        )

    def test_option(self) -> None:
        """
        An option that there is not.
        """
        self.assertOneLine("option --colour not recognized", "--colour=red")

    def test_endpoint(self) -> None:
        """
        An endpoint that nobody knows.
        """
        self.assertOneLine(
            "--listen 'bogus:1': did you mean tcp:1:interface=bogus?",
            "--listen=bogus:1",
        )
        self.assertOneLine(
            "--listen 'tcp:99999': tcp: port '99999': a number from 0 to 65535 is "
            "wanted",
            "--listen=tcp:99999",
        )

    def test_plaintext(self) -> None:
        """
        A listener without TLS for the whole network.
        """
        self.assertOneLine(
            "--listen-plaintext tcp:2300: anybody on the network could use it; add "
            "interface=127.0.0.1 or give --unsafe-plaintext",
            "--listen-plaintext=tcp:2300",
        )

    def test_missingKey(self) -> None:
        """
        A private key that is not there.
        """
        self.keys.serverKey.unlink()
        self.assertOneLine(
            "keys/server-key.pem: there is no such file; `tcpsvc keys init` makes one"
        )

    def test_readableKey(self) -> None:
        """
        A private key that others can read.
        """
        self.keys.serverKey.chmod(0o644)
        self.assertOneLine(
            "keys/server-key.pem: this private key can be read by others (mode 0644); "
            "chmod 600 keys/server-key.pem"
        )

    def test_expired(self) -> None:
        """
        A certificate that has expired.
        """
        pair = authority().server(notBefore=NOW - 9 * DAY, notAfter=NOW - DAY)
        writePair(self.keys.server, self.keys.serverKey, pair)
        self.assertOneLine(
            f"keys/server.pem: this certificate has expired on {NOW - DAY:%Y-%m-%d}; "
            "`tcpsvc keys check` says how to mend it"
        )

    def test_commands(self) -> None:
        """
        A module of commands that cannot be imported.
        """
        self.assertOneLine(
            "--commands nothing:here: the module cannot be imported: "
            "ModuleNotFoundError: No module named 'nothing'",
            "--commands=nothing:here",
        )


class CannotStartTests(StartTestCase):
    """
    What is found wrong when it is opened: one line on standard error, no
    traceback, status not 0. Of a daemon C{twistd} itself says so, with as much
    of the line as it has room for; the log has all of it.
    """

    def assertOneLine(self, line: str, *options: str) -> None:
        """
        Each way to start it ends with this one line.
        """
        options = ("--listen=tcp:0:interface=127.0.0.1", *options)
        for command in (TWISTD, TWIST):
            [run] = self.run_((command,), *options)
            self.assertEqual(f"tcpsvc: {line}\n", run.errors)
            self.assertNotIn("Traceback", run.output)
            self.assertEqual(1, run.status)
        [run] = self.run_((DAEMON,), *options)
        self.assertIn("An error has occurred", run.errors)
        self.assertIn(line[:20], run.errors)
        self.assertNotIn("Traceback", run.errors)
        self.assertEqual(2, len(run.errors.splitlines()))
        self.assertEqual("", run.output)
        self.assertEqual(1, run.status)
        log = (self.here / "daemon.log").read_text()
        self.assertIn(f"cannot start: {line}\n", log)
        self.assertNotIn("Traceback", log)
        # Its starter knows before the daemon has cleared up.
        self.wait(lambda: not (self.here / "daemon.pid").exists(), "no daemon.pid")

    def test_portInUse(self) -> None:
        """
        A port that is in use.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            where = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            self.assertOneLine(
                f"cannot listen on {where}: Address already in use", f"--listen={where}"
            )

    def test_host(self) -> None:
        """
        An interface that this machine has not.
        """
        self.assertOneLine(
            "cannot listen on tcp:0:interface=192.0.2.1: Cannot assign requested "
            "address",
            "--listen=tcp:0:interface=192.0.2.1",
        )

    def test_unixNowhere(self) -> None:
        """
        A UNIX socket in a directory that is not there.
        """
        self.assertOneLine(
            "cannot listen on unix:nowhere/socket: No such file or directory",
            "--listen-plaintext=unix:nowhere/socket",
        )

    def test_trailInUse(self) -> None:
        """
        A trail that another service writes.
        """
        trail = openedTrail(self.here / "audit.jsonl")
        self.addCleanup(trail.close)
        self.assertOneLine(
            "audit.jsonl: another service writes this audit trail; name another file "
            "with --audit"
        )

    def test_trailLink(self) -> None:
        """
        A trail that is a symbolic link.
        """
        (self.here / "link.jsonl").symlink_to("elsewhere")
        self.assertOneLine(
            "link.jsonl: the audit trail cannot be opened: it is a symbolic link",
            "--audit=link.jsonl",
        )
        self.assertFalse((self.here / "elsewhere").exists())

    def test_trailUnwritable(self) -> None:
        """
        A trail that may not be written, as every file in C{/proc}, even by root.
        """
        self.assertOneLine(
            "/proc/audit.jsonl: the audit trail cannot be opened: No such file or "
            "directory",
            "--audit=/proc/audit.jsonl",
        )

    def test_trailDamaged(self) -> None:
        """
        A trail whose last line is no record.
        """
        (self.here / "audit.jsonl").write_text("rubbish\n")
        self.assertOneLine(
            "audit.jsonl: line 1 is damaged: it is not JSON; nothing is recorded "
            "behind it. Keep the file, and move it away to start anew"
        )


class RunTests(StartTestCase):
    """
    A service that starts.
    """

    OPTIONS = (
        "--listen=unix:secure",
        "--listen-plaintext=unix:plain",
    )

    def assertStopped(self) -> None:
        """
        The trail has the service's beginning and end.
        """
        lines = (self.here / "audit.jsonl").read_text().splitlines()
        events = [json.loads(line)["event"] for line in lines]
        self.assertEqual(
            ["service.started", "session.opened", "session.closed", "service.stopped"],
            [
                event
                for event in events
                if event not in ("request", "reply", "handshake.failed", "checkpoint")
            ],
        )

    def talk(self) -> None:
        """
        Talk to the service, through its UNIX socket.
        """
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(os.path.relpath(self.here / "plain"))
            client.sendall(b"ECHO hello\r\nQUIT\r\n")
            with client.makefile("rb") as replies:
                lines = replies.read().splitlines()
        self.assertEqual(b"200 hello", lines[1])
        self.assertRegex(lines[2], rb"\A221 bye; record [0-9]+ [0-9a-f]{64}\Z")

    def test_foreground(self) -> None:
        """
        With C{twistd -n} and C{twist} it runs in the foreground; standard output
        has the log; at SIGTERM it stops in order.
        """
        for command in (TWISTD, TWIST):
            (self.here / "audit.jsonl").unlink(missing_ok=True)
            process = self.begin(command, *self.OPTIONS)
            self.waitForText(self.here / "audit.jsonl", "service.started")
            self.talk()
            # A silent client in the handshake is no reason for a traceback.
            with socket.socket(socket.AF_UNIX) as silent:
                silent.connect(os.path.relpath(self.here / "secure"))
                process.send_signal(signal.SIGTERM)
                output, errors = process.communicate(timeout=PATIENCE)
            self.assertEqual("", errors)
            self.assertNotIn("Traceback", output)
            self.assertIn("mutual TLS 1.3 or later", output)
            self.assertIn("unix:plain, plaintext, anonymous", output)
            self.assertIn("has stopped", output)
            self.assertStopped()

    def test_daemon(self) -> None:
        """
        As a daemon it says nothing, and its starter ends with status 0 when it
        listens.
        """
        [run] = self.run_((DAEMON,), *self.OPTIONS)
        pid = int((self.here / "daemon.pid").read_text())
        try:
            self.assertEqual(_Run(0, "", ""), run)
            self.talk()
        finally:
            os.kill(pid, signal.SIGTERM)
        self.waitForText(self.here / "daemon.log", "Server Shut Down")
        self.assertStopped()
        self.assertNotIn("Traceback", (self.here / "daemon.log").read_text())
