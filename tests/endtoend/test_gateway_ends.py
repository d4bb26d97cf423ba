"""
Every way in which a session with a gateway ends: what its client sees, what is
on record, that the next one is served, and that nothing is left behind.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import threading
import time
import tty
from pathlib import Path

from tcpsvc.closing import CLOSE_PATIENCE
from tcpsvc.device import CLOSE_PATIENCE as DEVICE_PATIENCE
from tests.endtoend.gateways import (
    SETTLED,
    GatewayTests,
    accepts,
    alive,
    carried,
    freePort,
)
from tests.endtoend.service import PATIENCE, RunningService, run, waitUntil
from tests.support import requireProgram

TOLD = "tcpsvc/1"

ALLOWANCE = 24 * 1024 * 1024
"""
By how much the service may grow, in octets.
"""

LINES = 100_000
"""
What the buffers between service and client take, so that the program can end
before the client has read any of it.
"""

STALLING = 220_000
"""
What a pipe, the service and its socket take together, and more than the first two, in
bytes.
"""

CONNECTING = 5.0
"""
Seconds that a device has to be there.
"""


def children(service: RunningService) -> list[int]:
    """
    The processes that a service has started.
    """
    pid = service.process.pid
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in listed.split()]


class EndsTests(GatewayTests):
    """
    What all these tests look at.
    """

    def assertEchoes(self, client: socket.socket, text: bytes = b"hello\n") -> None:
        """
        The device echoes.
        """
        client.settimeout(PATIENCE)
        client.sendall(text)
        got = b""
        while len(got) < len(text):
            piece = client.recv(4096)
            self.assertNotEqual(piece, b"")
            got += piece
        self.assertEqual(got, text)

    def assertClosed(self, client: socket.socket, said: bytes = b"") -> None:
        """
        The client is told this much, and is closed in good order: with TLS's
        own good-bye, without which C{recv} would raise.
        """
        client.settimeout(PATIENCE)
        got = b""
        while piece := client.recv(4096):
            got += piece
        self.assertEqual(got, said)

    def assertEnded(
        self, service: RunningService, reason: str, **fields: object
    ) -> None:
        """
        The session's end is on record, and no process of it is left.
        """
        closed = service.waitForRecord("session.closed", reason=reason)
        self.assertEqual({name: closed.get(name) for name in fields}, fields)
        waitUntil(lambda: not children(service), "its processes are gone")
        self.assertNotIn("Traceback", service.log)


class BackendTests(EndsTests):
    """
    The backend's doing.
    """

    def echoServer(self, port: int) -> None:
        """
        A TCP service that echoes, by socat.
        """
        self.listening(
            [
                requireProgram("socat"),
                *(f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", "EXEC:cat"),
            ],
            port,
        )

    def test_refuses(self) -> None:
        """
        Nobody listens: who offers ALPN is told C{451 BACKEND-DOWN}, who does not
        is closed without a word, and when the device is back it is served.
        """
        port = freePort()
        service = self.gateway(f"tcp:127.0.0.1:{port}")
        told = self.come(service, "alice", TOLD)
        told.settimeout(PATIENCE)
        line = told.makefile("rb").readline()
        self.assertRegex(line, rb"\A451 BACKEND-DOWN .*\r\n\Z")
        self.assertClosed(told)
        service.waitForRecord("session.closed", reason="backend-down")
        silent = self.come(service)
        self.assertClosed(silent)
        self.assertEnded(service, "backend-down", bytes_out=0)
        self.assertIn("cannot be reached", service.log)
        self.echoServer(port)
        self.assertServes(service, b"hello\n", b"hello\n")

    def test_doesNotAnswer(self) -> None:
        """
        A device that does not even refuse is given up after a while; meanwhile
        a second client is told who waits.
        """
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(listener.close)
        address = listener.getsockname()
        crowd = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            self.addCleanup(one.close)
            crowd.append(one)
        service = self.gateway(f"tcp:127.0.0.1:{address[1]}")
        begun = time.monotonic()
        told = self.come(service, "alice", TOLD)
        told.settimeout(CONNECTING * 2)
        service.waitForRecord("session.opened")
        other = self.come(service, "bob", TOLD)
        self.assertRegex(other.recv(4096), rb"\A421 BUSY held by alice since ")
        self.assertRegex(told.recv(4096), rb"\A451 BACKEND-DOWN ")
        self.assertClosed(told)
        self.assertGreater(time.monotonic() - begun, CONNECTING * 0.9)
        self.assertEnded(service, "backend-down")
        self.assertIn("cannot be reached: no connection within 5 s", service.log)

    def test_programDies(self) -> None:
        """
        The program is killed: the client is closed in good order, with its signal
        on record.
        """
        service = self.gateway("exec:cat")
        client = self.come(service)
        self.assertEchoes(client)
        (program,) = children(service)
        os.kill(program, signal.SIGKILL)
        self.assertClosed(client)
        self.assertEnded(service, "backend-closed", signal=int(signal.SIGKILL))
        self.assertServes(service, b"hello\n", b"hello\n")

    def test_programEnds(self) -> None:
        """
        The program says its last words and ends: the client has them all, although
        it is slow to read, and the exit status is on record.
        """
        service = self.gateway(f"exec:sh -c 'seq {LINES}; exit 3'")
        client = self.come(service)
        wanted = "".join(f"{number}\n" for number in range(1, LINES + 1)).encode()
        service.waitForRecord("gateway.data")
        time.sleep(CLOSE_PATIENCE * 1.5)
        self.assertClosed(client, wanted)
        self.assertEnded(service, "backend-closed", exit_status=3)
        self.assertServes(service, b"", b"1\n2\n")

    def test_serverDies(self) -> None:
        """
        A TCP device is killed in the middle of a session.
        """
        port = freePort()
        socat = self.process(
            [
                requireProgram("socat"),
                *(f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr", "PIPE"),
            ],
        )
        waitUntil(lambda: accepts(port), "socat listens")
        service = self.gateway(f"tcp:127.0.0.1:{port}")
        client = self.come(service)
        self.assertEchoes(client)
        socat.kill()
        self.assertClosed(client)
        self.assertEnded(service, "backend-closed")
        self.echoServer(port)
        self.assertServes(service, b"hello\n", b"hello\n")

    def test_hangs(self) -> None:
        """
        A program that is stopped, and so hears no signal but one: the client can
        leave, the program is gone soon after, and the next one has a fresh one.
        """
        service = self.gateway("exec:cat")
        client = self.come(service)
        self.assertEchoes(client)
        (program,) = children(service)
        os.kill(program, signal.SIGSTOP)
        client.sendall(b"not heard\n")
        service.waitForRecord("gateway.data", data="not heard\n")
        # Its close_notify is for the program, which cannot answer.
        client.settimeout(SETTLED)
        self.assertRaises(TimeoutError, client.unwrap)
        client.close()
        self.assertEnded(service, "client-closed")
        self.assertFalse(alive(program))
        self.assertServes(service, b"hello\n", b"hello\n")

    def test_floods(self) -> None:
        """
        A program that never stops: while nobody reads it is not read either, and
        the service does not grow. The client leaves in the middle, and nothing
        of the flood reaches the next one.
        """
        service = self.gateway("exec:sh -c 'read word; yes $word'")
        client = self.come(service)
        before = service.memory()
        client.sendall(b"alice\n")
        size = waitUntil(lambda: self.steady(service.trail), "it is not read any more")
        self.assertLess(size, ALLOWANCE)
        self.assertLess(service.memory() - before, ALLOWANCE)
        client.settimeout(PATIENCE)
        got = bytearray()
        while len(got) < ALLOWANCE:
            got += client.recv(262144)
        self.assertEqual(got, (b"alice\n" * (len(got) // 6 + 1))[: len(got)])
        self.assertLess(service.memory() - before, ALLOWANCE)
        client.close()
        service.waitForRecord("session.closed")
        self.assertEqual(children(service), [])
        self.assertServes(service, b"bob\n", b"bob\nbob\n")

    def steady(self, trail: Path) -> int:
        """
        The size of a file, or 0 if it still grows.
        """
        before = trail.stat().st_size
        time.sleep(SETTLED)
        return before if before == trail.stat().st_size else 0


class ClientTests(EndsTests):
    """
    The client's doing.
    """

    def test_resets(self) -> None:
        """
        A client that resets its connection ends its session and its program.
        """
        service = self.gateway("exec:cat")
        client = self.come(service)
        self.assertEchoes(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.assertEnded(service, "connection-lost")
        self.assertServes(service, b"hello\n", b"hello\n")

    def test_leaves(self) -> None:
        """
        A client that closes as TLS wants it: the program is told that its input has
        ended, ends, and the close is answered.
        """
        service = self.gateway("exec:cat")
        client = self.come(service)
        self.assertEchoes(client)
        client.unwrap()
        client.close()
        self.assertEnded(
            service, "backend-closed", bytes_in=6, bytes_out=6, exit_status=0
        )
        self.assertServes(service, b"hello\n", b"hello\n")

    def test_halfCloses(self) -> None:
        """
        On a plaintext listener C{nc -N} closes its half at the end of its input:
        C{sort}, which has to wait for that, gets all and answers all.
        """
        nc = requireProgram("nc")
        service = self.service(
            *("--gateway", "exec:sort"), plaintext=["tcp:0:interface=127.0.0.1"]
        )
        for words in (b"pear\napple\n", b"fig\ndate\n"):
            line = [nc, "-N", "127.0.0.1", str(service.plaintextPort)]
            done = run(line, words)
            wanted = b"".join(sorted(words.splitlines(keepends=True)))
            self.assertEqual(done.stdout, wanted)
            service.waitUntilFree()
        self.assertEnded(service, "backend-closed", exit_status=0)

    def test_halfClosesToServer(self) -> None:
        """
        The same with a device on TCP, which gets the end of the input too.
        """
        nc = requireProgram("nc")
        port = freePort()
        self.listening(
            [
                requireProgram("socat"),
                f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork",
                "EXEC:sort",
            ],
            port,
        )
        service = self.service(
            *("--gateway", f"tcp:127.0.0.1:{port}"),
            plaintext=["tcp:0:interface=127.0.0.1"],
        )
        line = [nc, "-N", "127.0.0.1", str(service.plaintextPort)]
        self.assertEqual(run(line, b"pear\napple\n").stdout, b"apple\npear\n")
        self.assertEnded(service, "backend-closed")

    def test_halfClosesToLine(self) -> None:
        """
        A serial line has no half-close: all answers arrive, one by one, until the
        device has been silent for a while.
        """
        nc = requireProgram("nc")
        far, near = os.openpty()
        for end in (far, near):
            self.addCleanup(os.close, end)
        tty.setraw(far)

        def answer() -> None:
            for _ in range(8):
                line = b""
                while not line.endswith(b"\n"):
                    line += os.read(far, 1)
                time.sleep(0.1)
                os.write(far, line.upper())

        device = threading.Thread(target=answer, daemon=True)
        device.start()
        self.addCleanup(device.join, PATIENCE)
        service = self.service(
            *("--gateway", f"serial:{os.ttyname(near)}"),
            plaintext=["tcp:0:interface=127.0.0.1"],
        )
        line = [nc, "-N", "127.0.0.1", str(service.plaintextPort)]
        self.assertEqual(run(line, b"line\n" * 8).stdout, b"LINE\n" * 8)
        self.assertEnded(service, "client-closed", bytes_out=40)

    def test_killedAtStalledDevice(self) -> None:
        """
        A client is killed while its program reads nothing, and so the service reads
        nothing of it: the slot is free a few seconds later.
        """
        service = self.gateway("exec:sleep 1000")
        client = self.come(service)
        # Unread tickets would make a reset of the close.
        client.settimeout(SETTLED)
        self.assertRaises(TimeoutError, client.recv, 1)
        client.settimeout(PATIENCE)
        client.sendall(b"x" * STALLING)
        service.waitForRecord("gateway.data")
        time.sleep(SETTLED)
        # As the system closes the socket of a process that is killed.
        client.close()
        closed = service.waitForRecord("session.closed", reason="backend-stalled")
        self.assertLess(closed["duration_s"], 3 * DEVICE_PATIENCE)
        self.assertEnded(service, "backend-stalled", signal=int(signal.SIGTERM))
        self.assertIn("takes nothing of what waits for it", service.log)

    def test_silent(self) -> None:
        """
        A client that says nothing for too long is closed without a word, and the
        device has no trace of it.
        """
        service = self.gateway("exec:cat", "--idle-timeout", "1")
        client = self.come(service)
        self.assertEchoes(client)
        self.assertClosed(client)
        self.assertEnded(service, "idle-timeout")
        self.assertServes(service, b"hello\n", b"hello\n")

    def test_second(self) -> None:
        """
        A second client is closed without a word, unless it offers ALPN; the
        holder notices nothing.
        """
        service = self.gateway("exec:cat")
        holder = self.come(service)
        self.assertEchoes(holder)
        self.assertClosed(self.come(service, "bob"))
        told = self.come(service, "bob", TOLD)
        told.settimeout(PATIENCE)
        self.assertRegex(told.recv(4096), rb"\A421 BUSY held by alice since ")
        self.assertClosed(told)
        self.assertEchoes(holder, b"still here\n")
        refused = service.records("session.refused", reason="busy", holder="alice")
        self.assertEqual(refused[0]["identity"]["name"], "bob")

    def test_words(self) -> None:
        """
        The device gets what was to be said at the beginning and at the end of
        each session, however it ends, and that is on record.
        """
        service = self.gateway(
            "exec:cat", "--on-open", r"hello\n", "--on-close", r"\x03bye\n"
        )
        client = self.come(service)
        client.settimeout(PATIENCE)
        self.assertEqual(client.recv(4096), b"hello\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.assertEnded(service, "connection-lost")
        sent = b"".join(carried(service.records("gateway.data"), "in"))
        self.assertEqual(sent, b"hello\n\x03bye\n")
        self.assertServes(service, b"", b"hello\n")


class ChildrenTests(EndsTests):
    """
    What a program has started ends with its session.
    """

    PROGRAM = (
        "sh -c \"sleep 1000 & echo $!; (trap '' TERM HUP INT; sleep 1001) & echo $!;"
        ' nohup sleep 1002 >/dev/null 2>&1 & echo $!; echo done; cat"'
    )

    def begin(self, service: RunningService) -> tuple[socket.socket, list[int]]:
        """
        A session whose program has started others.
        """
        client = self.come(service)
        client.settimeout(PATIENCE)
        said = b""
        while not said.endswith(b"done\n"):
            said += client.recv(4096)
        processes = [int(pid) for pid in re.findall(rb"\d+", said)]
        self.assertEqual(len(processes), 3)
        self.assertTrue(all(map(alive, processes)))
        return client, [*processes, *children(service)]

    def assertGone(self, processes: list[int]) -> None:
        """
        They are not there any more.
        """
        waitUntil(lambda: not any(map(alive, processes)), "the children are gone")

    def test_clientLeaves(self) -> None:
        """
        The client leaves: all are gone when its session's end is recorded.
        """
        service = self.gateway(f"exec:{self.PROGRAM}")
        client, processes = self.begin(service)
        client.close()
        service.waitForRecord("session.closed")
        self.assertGone(processes)

    def test_programDies(self) -> None:
        """
        The program dies: those that it has started do too.
        """
        service = self.gateway(f"exec:{self.PROGRAM}")
        client, processes = self.begin(service)
        run(["kill", "-KILL", str(processes[-1])])
        self.assertClosed(client)
        self.assertGone(processes)
        self.assertEnded(service, "backend-closed", signal=int(signal.SIGKILL))

    def test_serviceStops(self) -> None:
        """
        The service is stopped: they are gone before it is.
        """
        service = self.gateway(f"exec:{self.PROGRAM}")
        client, processes = self.begin(service)
        service.stop()
        self.assertFalse(any(map(alive, processes)))
        self.assertClosed(client)
        service.waitForRecord("session.closed", reason="shutdown")
        service.waitForRecord("service.stopped")
