"""
How sessions through C{tcpsvc connect} and C{tcpsvc forward} end, with programs that no
one here wrote on the local side.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from pathlib import Path
from statistics import median

from tests.endtoend.gateways import GatewayTests
from tests.endtoend.service import (
    PATIENCE,
    RunningService,
    environment,
    waitUntil,
)
from tests.support import requireProgram

SESSIONS = 20

TARGET = 0.05
"""
Seconds that a short session through the forwarder takes at most, on a quiet machine.
"""

SLACK = 8
"""
How much slower a busy machine may be.
"""

EARLY = "exec:sh -c 'head -c 5'"
"""
A program that ends before it has read all.
"""

UNDELIVERED = (
    rb"\Atcpsvc: the service closed the session before all input was sent "
    rb"\(about [0-9]+ bytes were not delivered\)\n\Z"
)


class ConnectEndsTests(GatewayTests):
    """
    The ends of C{tcpsvc connect}.
    """

    def run_(
        self, service: RunningService, shell: str, *options: str
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run a line of the shell, in which C{"$@"} is a C{tcpsvc connect}.
        """
        return subprocess.run(
            [
                *(requireProgram("bash"), "-c", f"set -o pipefail; {shell}", "bash"),
                *self.connectCommand(service, "alice", *options),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=PATIENCE,
            check=False,
        )

    def test_serviceCloses(self) -> None:
        """
        When the service closes while input keeps coming, what it has said is written,
        and the command ends with a line and an exit status that say that input was not
        delivered.
        """
        big = self.directory / "big"
        with big.open("wb") as sparse:
            sparse.truncate(300 << 20)
        service = self.gateway(EARLY)
        for shell in ('yes | "$@"', '"$@" </dev/zero', f'"$@" <{big}'):
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            done = self.run_(service, f"{shell}; exit ${{PIPESTATUS[-1]}}")
            self.assertEqual((1, 5), (done.returncode, len(done.stdout)), shell)
            self.assertRegex(done.stderr, UNDELIVERED, shell)
            used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
            self.assertLess(used, 5, shell)
            service.waitUntilFree()

    def test_allDelivered(self) -> None:
        """
        When all input was delivered, the exit status is 0, and nothing is said.
        """
        service = self.gateway(EARLY)
        done = self.run_(service, 'printf hello | "$@"')
        self.assertEqual(
            (0, b"hello", b""), (done.returncode, done.stdout, done.stderr)
        )

    def test_halfClose(self) -> None:
        """
        The end of the input reaches the service, which then ends the session by
        itself: nothing has to be waited for, however long the answer takes.
        """
        commands, sort = self.service(), self.gateway("exec:sort")
        for service, shell, answer in (
            (commands, 'printf "ECHO a\\nECHO b\\n"', b"200 a\r\n200 b\r\n"),
            (sort, 'printf "pear\\napple\\n"', b"apple\npear\n"),
        ):
            done = self.run_(service, f'{shell} | "$@"', "--linger", "inf")
            self.assertEqual((answer, b""), (done.stdout, done.stderr))
            self.assertEqual(0, done.returncode)

    def test_readerGone(self) -> None:
        """
        When nobody reads the output any more, the command ends, however much input
        there is.
        """
        service = self.gateway("exec:cat")
        for shell in ('yes | "$@" | head -n 1', '"$@" </dev/zero | head -c 1'):
            done = self.run_(service, f"{shell}; exit ${{PIPESTATUS[-2]}}")
            self.assertEqual((141, b""), (done.returncode, done.stderr), shell)
            service.waitUntilFree()


class ForwardEndsTests(GatewayTests):
    """
    The ends of sessions through C{tcpsvc forward}.
    """

    def test_oneAfterAnother(self) -> None:
        """
        Short sessions follow each other without a pause, and after the last one the
        service is free.
        """
        for service, request, answer in (
            (self.service(), b"TIME\n", rb"200 \S+\r\n"),
            (self.gateway("exec:cat"), b"*IDN?\n", rb"\*IDN\?\n"),
        ):
            forwarder = self.forwarder(service)
            durations = []
            for _ in range(SESSIONS):
                begun = time.monotonic()
                with socket.create_connection(
                    ("127.0.0.1", forwarder.port), PATIENCE
                ) as program:
                    program.sendall(request)
                    self.assertRegex(program.makefile("rb").readline(), answer)
                durations.append(time.monotonic() - begun)
            self.assertLess(median(durations), TARGET * SLACK, durations)
            self.assertEqual([], forwarder.said())
            service.waitUntilFree(patience=TARGET * SLACK)

    def test_halfClose(self) -> None:
        """
        A program that closes its half, as C{nc -N} does, has the end of its input
        passed on, and gets all that is answered.
        """
        nc = requireProgram("nc")
        service = self.gateway("exec:sort")
        forwarder = self.forwarder(service, "alice", "--linger", "inf")
        for words in (b"pear\napple\n", b"fig\ndate\n"):
            done = subprocess.run(
                [nc, "-N", "127.0.0.1", str(forwarder.port)],
                input=words,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual(
                b"".join(sorted(words.splitlines(keepends=True))), done.stdout
            )
        self.assertEqual([], forwarder.said())

    def test_closesWhileWaited(self) -> None:
        """
        A program that has closed its half, and then goes away while the device is
        silent, is not waited for.
        """
        service = self.gateway("exec:sh -c 'cat; sleep 60'")
        forwarder = self.forwarder(service, "alice", "--linger", "inf")
        with socket.create_connection(("127.0.0.1", forwarder.port)) as program:
            program.sendall(b"question\n")
            self.assertEqual(b"question\n", program.recv(100))
            program.shutdown(socket.SHUT_WR)
            time.sleep(0.3)
            self.assertEqual([], service.records("session.closed"))
        service.waitForRecord("session.closed", reason="client-closed", bytes_in=9)

    def test_serviceCloses(self) -> None:
        """
        A program that keeps sending after the service has closed gets what the service
        had said, and is closed within about 2 s, at no cost.
        """
        socat = requireProgram("socat")
        service = self.gateway(EARLY)
        forwarder = self.forwarder(service)
        sending = self.process(
            [
                *(requireProgram("bash"), "-c"),
                f"yes | {socat} -t 30 - TCP:127.0.0.1:{forwarder.port} 2>/dev/null",
            ],
            stdout=subprocess.PIPE,
        )
        said, _ = sending.communicate(timeout=PATIENCE)
        self.assertEqual(5, len(said))
        stat = Path(f"/proc/{forwarder.process.pid}/stat").read_text()
        ticks = stat.rpartition(")")[2].split()[11:13]
        self.assertLess(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), 3)
        waitUntil(lambda: service.records("session.closed"), "the session has ended")
