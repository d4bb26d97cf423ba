"""
Tests for L{tcpsvc.flood}.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.disk import Disk
from tcpsvc.audit.trail import openTrail
from tcpsvc.events import HANDSHAKE_FAILED, SESSION_REFUSED, Journal
from tcpsvc.flood import FAILURE_WINDOW, MAX_REASONS, Flood
from tests.peers import House, clientContext
from tests.support import (
    EPOCH,
    Beside,
    LogLines,
    MemoryTrail,
    auditKey,
    clockAtEpoch,
    journalInMemory,
)


class FloodTests(SynchronousTestCase):
    """
    Many events, with a trail and a log in memory.
    """

    def setUp(self) -> None:
        """
        Make a flood.
        """
        self.clock = clockAtEpoch()
        self.journal, self.trail, self.log = journalInMemory(self.clock)
        self.flood = Flood(self.journal)

    def happen(self, number: int = 0, reason: str = "r") -> None:
        """
        Let a handshake fail.
        """
        record: dict[str, object] = {"address": f"a:{number}", "reason": reason}
        self.flood.tell(HANDSHAKE_FAILED, record, f" (m{number})")

    def total(self) -> int:
        """
        How many failures were recorded, one by one or together.
        """
        records = self.trail.of("handshake.failed")
        return sum(int(str(record.get("count", 1))) for record in records)

    def test_one(self) -> None:
        """
        One event is recorded and logged at once, as it is; nothing follows.
        """
        self.happen(1)
        self.assertEqual(
            [{"address": "a:1", "reason": "r"}], self.trail.of("handshake.failed")
        )
        self.assertEqual(["refused a:1 in the handshake: r (m1)"], self.log.texts())
        self.clock.advance(10)
        self.assertEqual(1, len(self.trail.kept))
        self.assertEqual(1, len(self.log.events))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_more(self) -> None:
        """
        Those that follow within a second are one record at its end, with their
        number and the details of the last.
        """
        for number in range(1, 5):
            self.happen(number)
        self.assertEqual(1, len(self.trail.kept))
        self.clock.advance(1)
        self.assertEqual(
            {"address": "a:4", "reason": "r", "count": 3},
            self.trail.of("handshake.failed")[1],
        )
        self.assertEqual(
            "refused a:4 in the handshake: r (m4) (3 of them within a second)",
            self.log.texts()[1],
        )

    def test_oneMore(self) -> None:
        """
        If only one follows, the log does not count.
        """
        self.happen(1)
        self.happen(2)
        self.clock.advance(1)
        self.assertEqual("refused a:2 in the handshake: r (m2)", self.log.texts()[1])

    def test_slow(self) -> None:
        """
        Events that come more slowly than one a second are recorded one by one.
        """
        for number in range(5):
            self.happen(number)
            self.clock.advance(1)
        self.assertEqual(
            [f"a:{n}" for n in range(5)],
            [record["address"] for record in self.trail.of("handshake.failed")],
        )

    def test_details(self) -> None:
        """
        Details are asked for only of what is recorded: of the first, and of the last of
        those that are counted.
        """
        asked: list[int] = []

        def details(number: int) -> tuple[dict[str, object], str]:
            asked.append(number)
            return {"detail": number}, f" (details of {number})"

        for number in range(100):
            record: dict[str, object] = {"address": "192.0.2.9:1", "reason": "x"}
            self.flood.tell(HANDSHAKE_FAILED, record, details=partial(details, number))
        self.clock.advance(1)
        self.assertEqual([0, 99], asked)
        self.assertEqual(
            [0, 99], [one["detail"] for one in self.trail.of(HANDSHAKE_FAILED.name)]
        )
        self.assertIn(
            "(details of 99) (99 of them within a second)", self.log.texts()[-1]
        )

    def test_failures(self) -> None:
        """
        The traceback of an error is logged once a minute for each place where it
        occurs.
        """

        def fail(kind: type[Exception]) -> None:
            try:
                raise kind("odd")
            except kind:
                self.flood.tellFailure(Failure())

        for _ in range(200):
            fail(ValueError)
        fail(KeyError)
        self.clock.advance(FAILURE_WINDOW)
        fail(ValueError)
        fail(ValueError)
        self.assertEqual(
            ["ValueError('odd')", "KeyError('odd')", "ValueError('odd')"],
            [repr(event["log_failure"].value) for event in self.log.events],
        )
        self.assertEqual([], self.trail.kept)

    def test_tenThousand(self) -> None:
        """
        Of ten thousand failures and ten thousand refusals, in bursts and
        trickles, at most one record and one line a second are made for each
        reason, and the counts add up exactly.
        """
        for number in range(10_000):
            self.happen(number, f"r{number % 3}")
            record: dict[str, object] = {
                "address": "a",
                "identity": {"name": "bob"},
                "reason": "busy",
            }
            self.flood.tell(SESSION_REFUSED, record, "")
            self.clock.advance((0.0, 0.0, 0.0001, 0.01)[number % 4])
            if number == 5000:
                self.clock.advance(3)
        self.flood.tellAll()
        self.assertEqual(10_000, self.total())
        refusals = self.trail.of("session.refused")
        self.assertEqual(10_000, sum(int(str(r.get("count", 1))) for r in refusals))
        moments: dict[object, list[float]] = {}
        for moment, event, fields in self.trail.kept[:-4]:
            moments.setdefault((event, fields["reason"]), []).append(moment)
        self.assertEqual(4, len(moments))
        for each in moments.values():
            for before, after in pairwise(each):
                self.assertGreaterEqual(round(after - before, 6), 1.0)
        self.assertEqual(len(self.trail.kept), len(self.log.events))
        self.assertLess(len(self.log.events), 4 * 32)

    def test_counts(self) -> None:
        """
        STATUS counts each of them.
        """
        for _ in range(7):
            self.happen()
        self.clock.advance(1)
        self.assertEqual(7, self.journal.counts["handshake.failed"])

    def test_stop(self) -> None:
        """
        At the end all that was counted is told, once; nothing is left to do.
        """
        for _ in range(9):
            self.happen()
        self.flood.tellAll()
        self.assertEqual(9, self.total())
        self.flood.tellAll()
        self.clock.advance(10)
        self.assertEqual(9, self.total())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_manyReasons(self) -> None:
        """
        However many reasons there are, memory is bounded and nothing gets lost.
        """
        for number in range(1000):
            self.happen(number, f"reason {number}")
        self.assertLessEqual(len(self.clock.getDelayedCalls()), MAX_REASONS + 2)
        self.assertLessEqual(len(self.trail.kept), MAX_REASONS + 2)
        self.clock.advance(1)
        self.assertEqual(1000, self.total())

    def test_unavailable(self) -> None:
        """
        That nothing can be recorded is no reason for an exception.
        """
        self.trail.broken = "disk full"
        for _ in range(3):
            self.happen()
        self.clock.advance(1)
        self.flood.tellAll()
        self.assertEqual([], self.trail.kept)

    def test_noSync(self) -> None:
        """
        They are written, and cost no C{fdatasync}: they wait for one that comes
        in a while.
        """
        beside = Beside()
        path = Path(self.mktemp())
        trail, _ = openTrail(
            path, auditKey(), self.clock, Disk(beside, print), "always"
        )
        self.addCleanup(trail.close)
        flood = Flood(Journal(trail, self.clock, LogLines()))
        for _ in range(1000):
            flood.tell(HANDSHAKE_FAILED, {"address": "a", "reason": "r"}, "")
        self.assertEqual(1, path.read_bytes().count(b"\n"))
        self.assertEqual([], beside.waiting)
        self.clock.advance(1)
        self.assertEqual(2, path.read_bytes().count(b"\n"))
        self.assertEqual(1, len(beside.waiting))


class StrangersTests(SynchronousTestCase):
    """
    What strangers can do to a whole house.
    """

    def test_refusals(self) -> None:
        """
        Clients that are turned away by the hundred are told so each, and
        recorded once a second.
        """
        house = House()
        house.visit("alice")
        for _ in range(150):
            bob = house.visit("bob")
            self.assertTrue(bob.lines[0].startswith("421 BUSY held by alice"))
            house.peers.pop()
        house.flood.tellAll()
        self.assertEqual(
            [None, 149], [r.get("count") for r in house.trail.of("session.refused")]
        )

    def test_handshakes(self) -> None:
        """
        So are handshakes that fail.
        """
        house = House()
        for _ in range(150):
            house.visit(context=clientContext())
            house.peers.pop()
        house.flood.tellAll()
        self.assertEqual(
            [("no certificate", None), ("no certificate", 149)],
            [
                (record["reason"], record.get("count"))
                for record in house.trail.of("handshake.failed")
            ],
        )

    def test_blocked(self) -> None:
        """
        While nothing can be recorded nobody is admitted, and everybody is told
        why; then it goes on by itself.
        """
        trail = MemoryTrail(broken="disk full")
        house = House(trail=trail)
        for _ in range(3):
            self.assertTrue(
                house.visit("alice").lines[0].startswith("421 AUDIT-UNAVAILABLE")
            )
        trail.broken = ""
        self.assertIn("you are alice", house.visit("alice").lines[0])
        self.assertEqual(EPOCH, house.clock.seconds())
