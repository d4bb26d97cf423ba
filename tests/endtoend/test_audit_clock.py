"""
A clock that is set while the service runs.
"""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from socket import create_connection

from tests.certificates import (
    NOW,
    newAuthority,
    writeKeys,
    writePair,
    writeRevocationList,
)
from tests.endtoend.auditing import AuditTests, Load, cannot
from tests.endtoend.service import PATIENCE, RunningService, waitUntil

YEAR = timedelta(days=365)

TOLD_WITHIN = 3.0
"""
Seconds within which what is counted for a second is told.
"""

LIBRARIES = (
    *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
    *Path("/usr/lib").glob("faketime/libfaketimeMT.so.1"),
)
"""
Where libfaketime is, if it is.
"""


class ClockTests(AuditTests):
    """
    libfaketime sets it.
    """

    def setUp(self) -> None:
        """
        Need libfaketime, and make keys that are good at any time of it.
        """
        super().setUp()
        if not LIBRARIES:
            raise cannot("libfaketime is not installed")
        before, after = NOW - YEAR, NOW + 3 * YEAR
        by = newAuthority(notBefore=before)
        self.keys = writeKeys(self.directory / "lasting", by=by)
        for certificate, key, pair in (
            (
                self.keys.server,
                self.keys.serverKey,
                by.server(notBefore=before, notAfter=after),
            ),
            (
                self.keys.client("alice"),
                self.keys.clientKey("alice"),
                by.client("alice", notBefore=before, notAfter=after),
            ),
        ):
            writePair(certificate, key, pair)
        writeRevocationList(self.keys, by.revocationList(lastUpdate=before))

    def variables(self) -> dict[str, str]:
        """
        The environment of a service whose wall clock is set through C{offset}.
        """
        self.offset = self.directory / "offset"
        self.offset.write_text("+0\n")
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def test_timeouts(self) -> None:
        """
        Timeouts do not notice: set forward, the clock ends no session early; set back,
        an idle session and a silent handshake still end when they should.
        """
        service = self.service(
            *("--idle-timeout", "2", "--handshake-timeout", "2"),
            variables=self.variables(),
        )
        visit = service.admitted()
        self.addCleanup(visit.close)
        self.offset.write_text("+20m\n")
        for _ in range(5):
            self.assertEqual("200 OK", visit.ask("NOOP"))
            time.sleep(0.1)
        self.offset.write_text("-60m\n")
        begun = time.monotonic()
        with create_connection(("127.0.0.1", service.port), PATIENCE) as silent:
            self.assertEqual("421 IDLE-TIMEOUT", visit.line()[:16])
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(b"", silent.recv(1))
        took = time.monotonic() - begun
        self.assertGreater(took, 1.5)
        self.assertLess(took, 10)
        (closed,) = service.records("session.closed")
        self.assertLess(closed["duration_s"], 10)

    def test_set(self) -> None:
        """
        Set back three days, forward a year and back again: the session in
        progress goes on, others are admitted, the records tell the clock's
        time, what is counted is told in time, and the chain is whole.
        """
        service = self.witnessed(
            *("--max-session", "0", "--idle-timeout", "0"), variables=self.variables()
        )
        days = [0]
        for setting in (-3, 365, 0):
            load = self.load(service.admitted(), ("ECHO", "DO", "LATER"))
            self.assertGoesOn(load)
            # The first is told at once, and begins a second of counting.
            self.knock(service)
            self.knock(service)
            self.offset.write_text(f"{setting:+d}d\n")
            days.append(setting)
            self.assertGoesOn(load)
            told = len(service.records("handshake.failed"))
            self.knock(service)
            waitUntil(
                lambda before=told: len(service.records("handshake.failed")) > before,  # type: ignore[misc]
                "they are counted",
                TOLD_WITHIN,
            )
            load.end()
            self.assertEqual(load.talk.farewell, "")
        service.stop()
        records = self.verifiedRecords(service)
        self.assertRecorded(records, cut=False)
        self.assertSessionsEnd(records)
        seen = [
            (datetime.fromisoformat(one["time"][:10]).date() - NOW.date()).days
            for one in records
            if one["event"] == "reply"
        ]
        self.assertEqual([day for day, _ in groupby(seen)], days)
        self.assertNotIn("Traceback", service.log)
        self.assertVerifies(service)

    def assertGoesOn(self, load: Load) -> None:
        """
        Requests are answered that come from now on.
        """
        asked = load.talk.asked
        waitUntil(lambda: len(load.talk.replies) > asked, "requests are answered")

    def knock(self, service: RunningService) -> None:
        """
        Come without TLS, and wait until that was noticed.
        """
        with create_connection(("127.0.0.1", service.port), PATIENCE) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while connection.recv(4096):
                pass
