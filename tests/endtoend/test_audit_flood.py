"""
Ten thousand who are turned away cannot fill a disk.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from socket import create_connection

from tests.endtoend.auditing import AuditTests
from tests.endtoend.service import PATIENCE, Record, waitUntil

REFUSED = 10_000
"""
How many clients come while another holds the service.
"""

STRANGERS = 2_000
"""
How many come who do not speak TLS.
"""

AT_ONCE = 8
"""
How many come at once.
"""

SECOND = 0.99
"""
A second, less what a timer may be early.
"""


class FloodTests(AuditTests):
    """
    Refused connections by the thousand.
    """

    def come(self, port: int, said: bytes) -> bytes:
        """
        Come, say something, and go when it is over.

        @return: What the service said.
        """
        got = b""
        with create_connection(("127.0.0.1", port), PATIENCE) as connection:
            try:
                if said:
                    connection.sendall(said)
                while piece := connection.recv(4096):
                    got += piece
            except ConnectionError:
                pass
        return got

    def test_counted(self) -> None:
        """
        At most one record a second for a reason; the records together count
        every one of them, and each was told why.
        """
        service = self.service(
            "--reconnect-rate=0", plaintext=["tcp:0:interface=127.0.0.1"]
        )
        holder = self.visit(service)
        before = service.trail.stat().st_size
        begun = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as clients:
            busy = clients.map(
                lambda _: self.come(service.plaintextPort, b""), range(REFUSED)
            )
            told = sum(one.startswith(b"421 BUSY held by alice") for one in busy)
            strangers = clients.map(
                lambda _: self.come(service.port, b"GET / HTTP/1.1\r\n\r\n"),
                range(STRANGERS),
            )
            list(strangers)
        self.assertEqual(told, REFUSED)
        took = time.monotonic() - begun
        self.assertEqual(holder.ask("ECHO still here"), "200 still here")
        holder.close()
        waitUntil(
            lambda: (
                sum(one.get("count", 1) for one in service.records("handshake.failed"))
                >= STRANGERS
            ),
            "all are counted",
        )
        grown = service.trail.stat().st_size - before
        service.stop()
        records = self.verifiedRecords(service)
        self.assertAggregated(records, "session.refused", REFUSED)
        self.assertAggregated(records, "handshake.failed", STRANGERS)
        self.assertLess(grown, 2_000 * (took + 5))
        self.assertVerifies(service)

    def assertAggregated(self, records: list[Record], event: str, number: int) -> None:
        """
        The records of an event count so many, with a second between those that
        have one reason.
        """
        found = [one for one in records if one["event"] == event]
        self.assertEqual(sum(one.get("count", 1) for one in found), number)
        moments: dict[str, list[float]] = {}
        for one in found:
            moment = datetime.fromisoformat(one["time"].replace("Z", "+00:00"))
            moments.setdefault(one["reason"], []).append(moment.timestamp())
        for reason, times in moments.items():
            # The last of all may be told as the service stops.
            for former, later in pairwise(times[:-1]):
                self.assertGreater(later - former, SECOND, reason)
