"""
Much data, such as firmware: all of it arrives, at no cost in memory, and is on
record.

The sizes are those of an ordinary run. 256 MiB with their whole payload on
record, which need 1 GiB of disk: C{TCPSVC_BULK=256 python -m twisted.trial
tests.endtoend.test_gateway_bulk}.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from random import Random

from tests.endtoend.gateways import GatewayTests, carried, memoryOf, tcpsvc
from tests.endtoend.service import Record, RunningService, environment

MIB = 1024 * 1024

FULL = int(os.environ.get("TCPSVC_BULK", "64"))
"""
How many MiB go each way with all of them on record.
"""

DIGEST = int(os.environ.get("TCPSVC_BULK", "256"))
"""
How many MiB go each way with only their digests on record.
"""

STALL = 10.0
"""
For how long nothing is read, in seconds.
"""

ALLOWANCE = 24 * MIB
"""
By how much a process may grow meanwhile, in octets.
"""

OVERALL = 300.0
"""
How long it may take, in seconds.
"""


class Octets:
    """
    Random octets, the same for the same seed, read as from a file.
    """

    def __init__(self, mebibytes: int) -> None:
        self._random = Random(mebibytes)
        self._blocks = mebibytes
        self._rest = b""
        self.size = mebibytes * MIB

    def read(self, most: int) -> bytes:
        """
        @return: As many as are wanted, or all that are left; none at the end.
        """
        while len(self._rest) < most and self._blocks:
            self._blocks -= 1
            self._rest += self._random.randbytes(MIB)
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken


class BulkTests(GatewayTests):
    """
    C{cat} behind the gateway says all that it is told.
    """

    def exchange(
        self,
        connection: socket.socket,
        mebibytes: int,
        watch: Callable[[], object],
        stall: float = 0.0,
    ) -> None:
        """
        Send random octets and read them back; they are the same.

        @param watch: Called now and then.
        @param stall: For how long to read nothing in the middle, in seconds.
        """
        octets, digest, said = Octets(mebibytes), sha256(), sha256()
        connection.setblocking(False)
        got, waiting, stalled = 0, memoryview(b""), 0.0
        deadline = time.monotonic() + OVERALL
        while got < octets.size:
            now = time.monotonic()
            self.assertLess(now, deadline, f"{got} of {octets.size} octets came back")
            if not waiting:
                waiting = memoryview(octets.read(MIB))
                said.update(waiting)
            idle = True
            if waiting:
                try:
                    waiting = waiting[connection.send(waiting[:65536]) :]
                    idle = False
                except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                    pass
            if not stalled and got > octets.size // 3:
                stalled = now
            if not stalled or now - stalled > stall:
                try:
                    piece = connection.recv(262144)
                except (ssl.SSLWantReadError, BlockingIOError):
                    pass
                else:
                    self.assertNotEqual(piece, b"", "the connection was closed")
                    digest.update(piece)
                    got += len(piece)
                    idle = False
            if idle:
                select.select([connection], [], [], 0.01)
                watch()
        self.assertEqual((got, digest.digest()), (octets.size, said.digest()))
        watch()

    def recordsOf(self, service: RunningService) -> Iterator[Record]:
        """
        The records of a trail, one at a time.
        """
        with service.trail.open("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def test_full(self) -> None:
        """
        Straight over TLS: what comes back is what was sent, the service does not
        grow, and the trail has the same octets and replays them.
        """
        service = self.gateway("exec:cat")
        self.addCleanup(service.trail.unlink)
        connection = self.come(service)
        before, highest = service.memory(), 0

        def watch() -> None:
            nonlocal highest
            highest = max(highest, service.memory())

        self.exchange(connection, FULL, watch)
        self.assertLess(highest - before, ALLOWANCE)
        connection.close()
        closed = service.waitForRecord("session.closed")
        self.assertEqual(closed["bytes_in"], FULL * MIB)
        self.assertEqual(closed["bytes_out"], FULL * MIB)
        octets, wanted = Octets(FULL), sha256()
        while block := octets.read(MIB):
            wanted.update(block)
        for direction in ("in", "out"):
            found = sha256()
            for chunk in carried(self.recordsOf(service), direction):
                found.update(chunk)
            self.assertEqual(found.digest(), wanted.digest(), direction)
        self.assertReplays(service, wanted.digest())

    def assertReplays(self, service: RunningService, wanted: bytes) -> None:
        """
        C{tcpsvc audit replay} says what the device has said.
        """
        replay = self.process(
            tcpsvc(
                *("audit", "replay", "--raw", "--no-typed", "--speed", "inf"),
                str(service.trail),
            ),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert replay.stdout is not None
        found = sha256()
        while piece := replay.stdout.read(MIB):
            found.update(piece)
        self.assertEqual(replay.wait(OVERALL), 0)
        self.assertEqual(found.digest(), wanted)

    def test_digest(self) -> None:
        """
        Through the forwarder, with C{--audit-payload digest}: the same, a reader
        that stalls for 10 s loses nothing, neither the service nor the forwarder
        grows, and of each chunk its length and SHA-256 are on record.
        """
        service = self.gateway("exec:cat", "--audit-payload", "digest")
        forwarder = self.forwarder(service)
        connection = socket.create_connection(("127.0.0.1", forwarder.port))
        self.addCleanup(connection.close)
        processes = (service.process.pid, forwarder.process.pid)
        before = [memoryOf(process) for process in processes]
        highest = list(before)

        def watch() -> None:
            for number, process in enumerate(processes):
                highest[number] = max(highest[number], memoryOf(process))

        self.exchange(connection, DIGEST, watch, STALL)
        for most, least in zip(highest, before, strict=True):
            self.assertLess(most - least, ALLOWANCE)
        connection.close()
        service.waitForRecord("session.closed", patience=OVERALL)
        ways = {"in": Octets(DIGEST), "out": Octets(DIGEST)}
        for record in self.recordsOf(service):
            if record["event"] == "gateway.data":
                self.assertEqual({"data", "data_b64"} & set(record), set())
                chunk = ways[record["direction"]].read(record["octets"])
                self.assertEqual(len(chunk), record["octets"])
                self.assertEqual(sha256(chunk).hexdigest(), record["sha256"])
        for way in ways.values():
            self.assertEqual(way.read(1), b"", "all of it is on record")
        self.assertEqual(forwarder.said(), [])
