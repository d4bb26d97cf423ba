"""
A holder whose network is cut: two network namespaces, and a cable between them.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from unittest import SkipTest

from tests.endtoend.service import (
    EndToEndTests,
    RunningService,
    run,
    waitUntil,
)
from tests.support import requireProgram

LIMIT = 35.0
"""
Seconds within which the slot is free.
"""

TOO_SOON = 10.0
"""
Seconds within which a network may come back, and nobody has noticed.
"""

ESTABLISHED = "01"
"""
A state of TCP connections, as C{/proc/net/tcp} has it.
"""

SERVER, CLIENT = "192.0.2.1", "192.0.2.2"
"""
The ends of the cable (RFC 5737).
"""


class Cable:
    """
    Two network namespaces with a cable between them.

    @ivar serverSide: The name of that of the service.
    @ivar clientSide: The name of that of its clients.
    """

    def __init__(self) -> None:
        self.serverSide = f"tcpsvc-{os.getpid()}-s"
        self.clientSide = f"tcpsvc-{os.getpid()}-c"

    def lay(self) -> None:
        """
        Make both, and join them.
        """
        for side in (self.serverSide, self.clientSide):
            self._ip("netns", "add", side)
        self._ip(
            *("link", "add", "cable", "netns", self.serverSide, "type", "veth"),
            *("peer", "name", "cable", "netns", self.clientSide),
        )
        for side, address in ((self.serverSide, SERVER), (self.clientSide, CLIENT)):
            self._ip("-n", side, "address", "add", f"{address}/24", "dev", "cable")
            self._ip("-n", side, "link", "set", "cable", "up")
            self._ip("-n", side, "link", "set", "lo", "up")

    def cut(self) -> None:
        """
        Pull it out at the clients' end.
        """
        self._ip("-n", self.clientSide, "link", "set", "cable", "down")

    def remove(self) -> None:
        """
        Leave nothing behind.
        """
        for side in (self.serverSide, self.clientSide):
            run(["ip", "netns", "delete", side])

    def _ip(self, *arguments: str) -> None:
        """
        @raise OSError: If that is not allowed here.
        """
        result = run(["ip", *arguments])
        if result.returncode:
            raise OSError(f"ip {' '.join(arguments)}: {result.stderr.decode().strip()}")


class DeadPeerTests(EndToEndTests):
    """
    Dead peers are found.
    """

    def setUp(self) -> None:
        """
        Lay the cable, which only root may do.
        """
        for program in ("ip", "nc", "openssl"):
            requireProgram(program)
        super().setUp()
        self.cable = Cable()
        self.addCleanup(self.cable.remove)
        try:
            self.cable.lay()
        except OSError as error:
            if os.environ.get("CI"):
                raise
            raise SkipTest(f"network namespaces cannot be made: {error}") from None

    def serve(self) -> RunningService:
        """
        A service at one end of the cable, with a second door at its own end.
        """
        return self.service(
            *("--commands", "witness:wait"),
            listen=[f"tcp:0:interface={SERVER}"],
            plaintext=["tcp:0:interface=127.0.0.1"],
            before=["ip", "netns", "exec", self.cable.serverSide],
            paths=[Path(__file__).parent],
        )

    def hold(self, service: RunningService, requests: bytes) -> None:
        """
        Hold a service from the other end of the cable. After the greeting,
        not much of what comes is read.

        @param requests: What the holder sends.
        """
        script = service.directory / "requests"
        script.write_bytes(requests)
        with script.open("rb") as source:
            # With -quiet it stays when its standard input ends.
            holder = self.process(
                [
                    *("ip", "netns", "exec", self.cable.clientSide),
                    *service.openssl(host=SERVER),
                ],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert holder.stdout is not None
        self.assertRegex(holder.stdout.readline(), rb"\A220 .*; you are alice\r\n\Z")

    def firstWord(self, service: RunningService) -> bytes:
        """
        What a client at the service's own end is told.
        """
        return run(
            [
                *("ip", "netns", "exec", self.cable.serverSide),
                *("nc", "-N", "127.0.0.1", str(service.plaintextPort)),
            ]
        ).stdout

    def inFlight(self, service: RunningService) -> int:
        """
        How many octets to the holder are not acknowledged.
        """
        table = Path(f"/proc/{service.process.pid}/net/tcp").read_text()
        local = f":{service.port:04X}"
        (queued,) = (
            int(fields[4].partition(":")[0], 16)
            for fields in map(str.split, table.splitlines()[1:])
            if fields[1].endswith(local) and fields[3] == ESTABLISHED
        )
        return queued

    def test_cut(self) -> None:
        """
        The slot is free within 35 s after the network was cut, whether the
        holder was idle, was waiting for an answer that is then in flight for
        ever, or had long stopped reading its replies.
        """
        idle, busy, choked = (self.serve() for _ in range(3))
        services = (idle, busy, choked)
        self.hold(idle, b"")
        self.hold(choked, (b"ECHO " + b"x" * 4000 + b"\n") * 4000)
        self.hold(busy, b"WAIT\n")
        waitUntil(lambda: self.inFlight(choked) > 0, "replies have piled up")
        busy.waitForRecord("request", request="WAIT")
        self.cable.cut()
        cut = time.monotonic()
        waitUntil(lambda: busy.records("reply"), "the late reply has left")
        waitUntil(lambda: self.inFlight(busy) > 0, "and is in flight")
        self.assertEqual(self.inFlight(idle), 0)
        for service in services:
            self.assertRegex(
                self.firstWord(service), rb"\A421 BUSY held by alice since "
            )
        ended: dict[RunningService, float] = {}

        def allEnded() -> bool:
            for service in services:
                if service not in ended and "has ended" in service.log:
                    ended[service] = time.monotonic() - cut
                    self.assertRegex(self.firstWord(service), rb"\A220 ")
            return len(ended) == len(services)

        waitUntil(allEnded, "each slot is free", LIMIT - (time.monotonic() - cut))
        for service in services:
            self.assertGreater(ended[service], TOO_SOON)
            self.assertEqual(
                service.records("session.closed")[0]["reason"], "connection-lost"
            )
            self.assertNotIn("Traceback", service.log)
