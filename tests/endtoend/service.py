"""
A service in a process of its own, and what the tests here do to it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

import tcpsvc
from tcpsvc.keyfiles import KeyDirectory
from tests.certificates import writeKeys

PATIENCE = 20.0
"""
Seconds that a test waits for what ought to be there at once.
"""

SECURE = "tcp:0:interface=127.0.0.1"
"""
A listener on a free port that only this machine can reach.
"""

PACKAGES = Path(tcpsvc.__file__).parent.parent
"""
Where the C{tcpsvc} under test was imported from: a checkout, or an installation.
"""

_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
_LISTENING = re.compile(r"listening on (?:\S+:)?(\d+), (mutual TLS|plaintext)")

Record = dict[str, Any]
_T = TypeVar("_T")


def waitUntil(condition: Callable[[], _T], what: str, patience: float = PATIENCE) -> _T:
    """
    Wait until a condition is true.

    @param what: What is waited for, for people.
    @param patience: How long it may take, in seconds.
    @return: What made the condition true.
    @raise AssertionError: If it has not become true by then.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.01)
    raise AssertionError(f"not within {patience:g} s: {what}")


def environment(*paths: Path) -> dict[str, str]:
    """
    The environment of a process that imports the C{tcpsvc} under test, and that
    looks no more into the current directory than the C{twistd} script does.

    @param paths: Further directories to import from.
    """
    found = os.pathsep.join(map(str, (PACKAGES, *paths)))
    return {
        **os.environ,
        "PYTHONPATH": found,
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def contentsOf(path: Path) -> bytes:
    """
    What is in a file of a trail, which may have been compressed.
    """
    if path.suffix == ".gz":
        with gzip.open(path) as packed:
            return packed.read()
    return path.read_bytes()


def firstLineOf(path: Path) -> bytes:
    """
    The first line of a file of a trail.
    """
    if path.suffix == ".gz":
        with gzip.open(path) as packed:
            return packed.readline()
    with path.open("rb") as plain:
        return plain.readline()


def run(
    arguments: Sequence[str], data: bytes = b"", patience: float = PATIENCE
) -> subprocess.CompletedProcess[bytes]:
    """
    Run a client to its end.

    @param data: What it has on standard input, of which the end follows.
    @raise subprocess.TimeoutExpired: If it does not end within C{patience}.
    """
    return subprocess.run(
        arguments, input=data, capture_output=True, timeout=patience, check=False
    )


class RunningService:
    """
    One C{twistd -n tcpsvc}, started again as often as a test likes.

    @ivar directory: Where it runs, and has its log.
    @ivar trail: The file that its trail is written to.
    @ivar before: A command that becomes the service when it is started.
    @ivar port: Its port for TLS.
    @ivar plaintextPort: Its port for plaintext, if it has one.
    """

    process: subprocess.Popen[bytes]
    port: int
    plaintextPort: int

    def __init__(
        self,
        directory: Path,
        keys: KeyDirectory,
        options: Sequence[str],
        *,
        listen: Sequence[str] = (SECURE,),
        plaintext: Sequence[str] = (),
        before: Sequence[str] = (),
        trail: Path | None = None,
        environment: dict[str, str],
    ) -> None:
        """
        @param options: What follows the listeners, the keys and the trail.
        @param before: A command that becomes the service, such as C{nice}.
        @param trail: Where its trail is; in C{directory} if L{None}.
        """
        self.directory = directory
        self.keys = keys
        self.trail = trail or directory / "audit.jsonl"
        self._logFile = directory / "service.log"
        self._environment = environment
        self._listeners = len(listen) + len(plaintext)
        self.before = list(before)
        self._arguments = [*_TWISTD, "-n", "--pidfile=", "tcpsvc"]
        self._arguments += ["--keys", str(keys.path), "--audit", str(self.trail)]
        for description in listen:
            self._arguments += ["--listen", description]
        for description in plaintext:
            self._arguments += ["--listen-plaintext", description]
        self._arguments += options

    def start(self, *options: str) -> None:
        """
        Start it, and wait until all its listeners are open.

        @param options: Further options, for this time only.
        """
        begin = self._logFile.stat().st_size if self._logFile.exists() else 0
        with self._logFile.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, *self._arguments, *options],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def listening() -> list[tuple[str, str]]:
            text = self._logFile.read_bytes()[begin:].decode()
            if self.process.poll() is not None:
                raise AssertionError(f"the service did not start:\n{text}")
            found = _LISTENING.findall(text)
            return found if len(found) == self._listeners else []

        for port, how in waitUntil(listening, "the service listens"):
            if how == "plaintext":
                self.plaintextPort = int(port)
            else:
                self.port = int(port)

    def stop(self) -> None:
        """
        Stop it as a system does.
        """
        self.process.terminate()
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        """
        Stop it so that it notices nothing.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def hangUp(self) -> None:
        """
        Tell it that its trail was renamed.
        """
        self.process.send_signal(signal.SIGHUP)

    # What it leaves behind.

    @property
    def log(self) -> str:
        """
        All that it has said on standard output and standard error.
        """
        return self._logFile.read_text()

    def trailFiles(self) -> list[Path]:
        """
        All files of its trail, the oldest first.
        """
        found = {
            path: firstLineOf(path)
            for path in self.trail.parent.glob(f"{self.trail.name}*")
            if not path.name.startswith(f"{self.trail.name}.torn-")
        }
        return sorted(
            (path for path, line in found.items() if line),
            key=lambda path: int(json.loads(found[path])["seq"]),
        )

    def records(self, event: str = "", **fields: object) -> list[Record]:
        """
        The records in the newest file of its trail that have this event and
        these fields. The chain is not looked at: L{verifiedRecords} does that.
        """
        whole = self.trail.read_bytes().rpartition(b"\n")[0].splitlines()
        return [
            record
            for record in map(json.loads, whole)
            if event in ("", record["event"])
            and all(record.get(name) == value for name, value in fields.items())
        ]

    def waitForRecord(
        self, event: str, patience: float = PATIENCE, **fields: object
    ) -> Record:
        """
        Wait for a record that has this event and these fields. If it does not
        come, the service's log says what did.
        """
        try:
            found = waitUntil(
                lambda: self.records(event, **fields), f"{event} {fields}", patience
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None
        return found[-1]

    def waitUntilFree(self, patience: float = PATIENCE) -> None:
        """
        Wait until each session of the trail's newest file has ended. That is recorded
        before the slot is free again, so L{Visit.admitted} is what comes next.
        """
        waitUntil(
            lambda: (
                {one["session"] for one in self.records("session.opened")}
                <= {one["session"] for one in self.records("session.closed")}
            ),
            "all sessions have ended",
            patience,
        )

    # What the system knows of it.

    def descriptors(self) -> int:
        """
        @return: How many file descriptors it has.
        """
        return len(self.openFiles())

    def openFiles(self) -> list[str]:
        """
        @return: What its file descriptors lead to.
        """
        found = []
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found.append(str(entry.readlink()))
            except OSError:
                found.append("closed meanwhile")
        return found

    def memory(self) -> int:
        """
        @return: Its resident memory in octets.
        """
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    # Those who come to it.

    def openssl(
        self, name: str | None = "alice", *options: str, host: str = "127.0.0.1"
    ) -> list[str]:
        """
        The command line of an C{openssl s_client} that comes to it.

        @param name: Whose certificate it shows; none if L{None}.
        @param host: Where it listens.
        """
        pair = self.keys.pair(name or "")
        shown = ["-cert", str(pair.certificate), "-key", str(pair.key)] if name else []
        return [
            *("openssl", "s_client", "-connect", f"{host}:{self.port}"),
            *("-CAfile", str(self.keys.ca), "-verify_ip", "127.0.0.1"),
            *("-quiet", "-verify_quiet", "-verify_return_error"),
            *shown,
            *options,
        ]

    def context(self, name: str = "alice") -> ssl.SSLContext:
        """
        What Python's own TLS clients need to come to it as someone.
        """
        context = ssl.create_default_context(cafile=str(self.keys.ca))
        pair = self.keys.pair(name)
        context.load_cert_chain(pair.certificate, pair.key)
        return context

    def visit(self, name: str = "alice", *protocols: str) -> Visit:
        """
        Come to it over TLS.

        @param protocols: What to offer by ALPN.
        """
        context = self.context(name)
        if protocols:
            context.set_alpn_protocols(protocols)
        bare = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        try:
            return Visit(context.wrap_socket(bare, server_hostname="127.0.0.1"))
        except BaseException:
            bare.close()
            raise

    def visitInPlaintext(self) -> Visit:
        """
        Come to it without TLS.
        """
        return Visit(
            socket.create_connection(("127.0.0.1", self.plaintextPort), PATIENCE)
        )

    def admitted(self, name: str = "alice") -> Visit:
        """
        Come to it over TLS, again and again until it lets us in.

        @return: The visit, with the greeting in C{first}.
        """

        def tryOnce() -> Visit | None:
            visit = self.visit(name)
            if visit.first.startswith("220 "):
                return visit
            visit.close()
            return None

        visit = waitUntil(tryOnce, f"{name} is admitted")
        assert visit is not None
        return visit


class Visit:
    """
    A plain client: it sends lines and reads lines, and blocks meanwhile.

    @ivar first: The first line that the service said; empty if it closed.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._lines = connection.makefile("rb")
        try:
            self.first = self.line()
        except BaseException:
            self.close()
            raise

    def line(self) -> str:
        """
        @return: The next line without its ending; empty if there is none.
        """
        line = self._lines.readline()
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")

    def send(self, data: bytes) -> None:
        """
        Send octets.
        """
        self.socket.sendall(data)

    def ask(self, request: str) -> str:
        """
        Send one request and read a reply of one line.
        """
        self.send(request.encode("utf-8") + b"\n")
        return self.line()

    def rest(self) -> bytes:
        """
        @return: All that still comes until the connection ends, however it does.
        """
        got = bytearray()
        try:
            while piece := self._lines.read1(65536):
                got += piece
        except OSError:
            pass
        return bytes(got)

    def close(self) -> None:
        """
        Go away.
        """
        self._lines.close()
        self.socket.close()


class EndToEndTests(SynchronousTestCase):
    """
    What all these tests have: keys for alice and bob, and services that end
    with the test.
    """

    def setUp(self) -> None:
        """
        Make the keys.
        """
        self.directory = Path(self.mktemp()).resolve()
        self.keys = writeKeys(self.directory / "keys", clients=("alice", "bob"))

    def service(
        self,
        *options: str,
        listen: Sequence[str] = (SECURE,),
        plaintext: Sequence[str] = (),
        before: Sequence[str] = (),
        paths: Sequence[Path] = (),
        variables: dict[str, str] | None = None,
        trail: Path | None = None,
    ) -> RunningService:
        """
        A service that runs.

        @param options: Further options of C{twistd tcpsvc}.
        @param before: A command that becomes the service.
        @param paths: Further directories that it imports from.
        @param variables: Further variables of its environment.
        @param trail: Where its trail is, if not beside its log.
        """
        number = len(list(self.directory.glob("service*")))
        directory = self.directory / f"service{number}"
        directory.mkdir()
        running = RunningService(
            directory,
            self.keys,
            options,
            listen=listen,
            plaintext=plaintext,
            before=before,
            trail=trail,
            environment={**environment(*paths), **(variables or {})},
        )
        try:
            running.start()
        finally:
            self.addCleanup(running.kill)
        return running

    def visit(self, service: RunningService, *arguments: str) -> Visit:
        """
        A visit that ends with the test at the latest.
        """
        visit = service.visit(*arguments)
        self.addCleanup(visit.close)
        return visit

    def process(
        self, arguments: Sequence[str], **settings: Any
    ) -> subprocess.Popen[bytes]:
        """
        A process that ends with the test at the latest.
        """
        process = subprocess.Popen(arguments, **settings)

        def end() -> None:
            process.kill()
            process.wait(PATIENCE)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

        self.addCleanup(end)
        return process

    def verifiedRecords(self, service: RunningService) -> list[Record]:
        """
        All records of a service's trail, from its first file to its last, after
        the promises of the format and the chain were checked, with nothing of
        tcpsvc's own.
        """
        lines: list[bytes] = []
        for path in service.trailFiles():
            self.assertEqual(path.stat().st_mode & 0o7777, 0o600, path)
            contents = contentsOf(path)
            self.assertEqual(contents[-1:], b"\n", f"the last line of {path} is whole")
            self.assertTrue(contents.isascii())
            lines += contents[:-1].split(b"\n")
        records = []
        previous = "0" * 64
        for number, line in enumerate(lines, start=1):
            record = json.loads(line)
            names = list(record)
            self.assertEqual(record["seq"], number)
            self.assertEqual(record["prev"], previous, f"the link of line {number}")
            self.assertEqual((names[:3], names[-1]), (["seq", "time", "event"], "prev"))
            self.assertRegex(
                record["time"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z"
            )
            previous = sha256(line).hexdigest()
            records.append(record)
        return records
