"""
Tests for L{tcpsvc.audit.trail}.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tcpsvc.audit import trail as trailModule
from tcpsvc.audit.chain import NOTHING_BEFORE, body
from tcpsvc.audit.checkpoint import isSignedBy
from tcpsvc.audit.disk import Disk, InThread
from tcpsvc.audit.file import TrailFile
from tcpsvc.audit.recovery import Ending
from tcpsvc.audit.trail import (
    MAX_KEPT,
    MAX_UNSIGNED_OCTETS,
    SYNC_POLICIES,
    Trail,
    openTrail,
)
from tcpsvc.interfaces import AuditUnavailable, ITrail
from tcpsvc.keyfiles import readPrivateKey
from tcpsvc.times import toSeconds
from tests.certificates import writeKeys
from tests.support import (
    EPOCH,
    Beside,
    LogLines,
    atOnce,
    auditKey,
    clockAtEpoch,
    verifiedRecords,
)
from tests.test_audit_chain import FIELDS

DAY = 86400.0


class Faults:
    """
    Stands between a trail and C{os.write}, and fails as it is told to.

    @ivar coming: For each write to come, how many octets of it succeed, or the
        negative number of the error that it fails with.
    @ivar always: The error that all others fail with; 0 is none.
    @ivar writes: How many there were.
    """

    def __init__(self) -> None:
        self.coming: list[int] = []
        self.always = 0
        self.writes = 0
        self._write = os.write

    def write(self, descriptor: int, octets: bytes | memoryview) -> int:
        """Write, or do not."""
        self.writes += 1
        fault = self.coming.pop(0) if self.coming else -self.always or len(octets)
        if fault < 0:
            raise OSError(-fault, os.strerror(-fault))
        return self._write(descriptor, octets[:fault])


class TrailTestCase(SynchronousTestCase):
    """
    A trail in a directory of its own.

    @ivar forced: The names of the files that were forced to the disk.
    """

    def setUp(self) -> None:
        """
        Make the directory; nothing in it has to survive the machine.
        """
        self.clock = clockAtEpoch()
        self.now: Callable[[], float] = self.clock.seconds
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "audit.jsonl"
        self.forced: list[str] = []
        self.deaths: list[str] = []
        self.patch(os, "fdatasync", self.fdatasync)
        self.patch(os, "fsync", lambda descriptor: None)
        self.log: list[str] = []
        self.ending = Ending()

    def fdatasync(self, descriptor: int) -> None:
        """Force a file to the disk."""
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        self.forced.append(path.name)

    def open(
        self, sync: str = "no", inThread: InThread = atOnce, maxOctets: int = 0
    ) -> Trail:
        """
        Open the trail; it is closed at the end if it is not before.
        """
        disk = Disk(inThread, self.deaths.append)
        trail, self.ending = openTrail(
            self.path, auditKey(), self.clock, disk, sync, maxOctets, self.now
        )
        self.addCleanup(trail.close)
        return trail

    def faults(self) -> Faults:
        """
        From now on, writes fail as the result is told to.
        """
        faults = Faults()
        self.patch(os, "write", faults.write)
        return faults

    def files(self) -> list[Path]:
        """
        The files of the trail, in order.
        """
        return sorted(
            (path for path in self.directory.iterdir() if path.stat().st_size),
            key=lambda path: int(json.loads(path.read_bytes().split(b"\n")[0])["seq"]),
        )

    def records(self) -> list[dict[str, Any]]:
        """
        All records of the trail; each link is checked.
        """
        return verifiedRecords(*self.files())

    def events(self) -> list[str]:
        """
        The names of all records but the checkpoints.
        """
        names = [str(record["event"]) for record in self.records()]
        return [name for name in names if name != "checkpoint"]


def write(trail: Trail, event: str = "e", **fields: object) -> Deferred[None] | None:
    """
    Record something.
    """
    trail.append(EPOCH, event, fields)
    return trail.commit()


def bodies(count: int, session: str = "s", first: int = 1, text: str = "") -> list[str]:
    """
    So many records of requests, without their links.
    """
    return [
        body(EPOCH, "request", {"session": session, "n": n, "request": text})
        for n in range(first, first + count)
    ]


def extend(trail: Trail, session: str, n: int, count: int) -> Deferred[None] | None:
    """
    Record so many requests of a session, the last of which is the C{n}-th.
    """
    trail.extend(session, n, bodies(count, session, n + 1 - count))
    return trail.commit()


class RecordTests(TrailTestCase):
    """
    What is written.
    """

    def test_interface(self) -> None:
        """
        A L{Trail} provides L{ITrail}.
        """
        self.assertTrue(verifyObject(ITrail, self.open()))

    def test_committed(self) -> None:
        """
        Records are in the file when they are committed or written, and not
        before.
        """
        trail = self.open()
        trail.append(EPOCH, "one", {"n": 1})
        self.assertEqual(b"", self.path.read_bytes())
        self.assertIsNone(trail.commit())
        self.assertEqual(["one"], self.events())
        trail.append(EPOCH, "two", {"n": 1})
        trail.write()
        self.assertEqual(["one", "two"], self.events())

    def test_counts(self) -> None:
        """
        The trail knows how many records it has, and the last one's hash.
        """
        trail = self.open()
        self.assertEqual((0, NOTHING_BEFORE), (trail.records, trail.head))
        for number in range(1, 4):
            write(trail)
            line = self.path.read_bytes().splitlines()[-1]
            self.assertEqual(
                (number, sha256(line).hexdigest()), (trail.records, trail.head)
            )

    def test_oneWrite(self) -> None:
        """
        All records of a commit go into one write; a commit without any
        writes nothing.
        """
        faults = self.faults()
        trail = self.open()
        for _ in range(100):
            trail.append(EPOCH, "e", {"text": "x" * 1000})
        trail.commit()
        trail.commit()
        trail.write()
        self.assertEqual(1, faults.writes)

    @given(st.lists(st.lists(FIELDS, max_size=3), max_size=3))
    def test_anything(self, commits: list[list[dict[str, object]]]) -> None:
        """
        Whatever is in the fields, each record is one line of ASCII that reads
        back equal, linked to the one before; and a new start goes on from it.
        """
        with TemporaryDirectory() as directory:
            path = Path(directory) / "audit.jsonl"
            expected: list[dict[str, object]] = []
            for records in commits:
                disk = Disk(atOnce, self.deaths.append)
                trail, _ = openTrail(path, auditKey(), self.clock, disk, "no")
                for fields in records:
                    trail.append(0.0, "e", fields)
                    expected.append(fields)
                trail.commit()
                trail.close()
            found = verifiedRecords(path) if commits else []
            found = [record for record in found if record["event"] == "e"]
            for record in found:
                for name in ("seq", "time", "event", "prev"):
                    del record[name]
            self.assertEqual(expected, found)

    def test_extended(self) -> None:
        """
        Records of a session are in the file as they were given, in order with all
        others, in the one write of the commit, and not before.
        """
        trail = self.open()
        faults = self.faults()
        trail.append(EPOCH, "one", {})
        trail.extend("s", 2, bodies(2, text="\u00df"))
        trail.append(EPOCH, "two", {})
        trail.extend("t", 0, [])
        trail.extend("t", 1, bodies(1, "t"))
        self.assertEqual(b"", self.path.read_bytes())
        self.assertEqual(5, trail.records)
        trail.commit()
        self.assertEqual(1, faults.writes)
        self.assertEqual(["one", "request", "request", "two", "request"], self.events())
        _, first, *_, last = self.path.read_bytes().splitlines()
        self.assertIn(f",{bodies(1, text=chr(0xDF))[0]},".encode(), first)
        self.assertEqual(sha256(last).hexdigest(), trail.head)

    def test_impossible(self) -> None:
        """
        A record that cannot be made leaves no gap in the chain, and does not come
        back later.
        """
        trail = self.open()
        write(trail)
        self.assertRaises(
            TypeError, trail.append, EPOCH, "session.closed", {"session": object()}
        )
        faults = self.faults()
        faults.always = errno.ENOSPC
        self.assertRaises(AuditUnavailable, write, trail)
        faults.always = 0
        self.clock.advance(1)
        write(trail)
        self.assertEqual(["e", "e"], self.events())

    def test_clock(self) -> None:
        """
        If the wall clock is set back three days and forward a year, the chain goes on,
        and what is due in a second or minute is due then, once.
        """
        set_ = 0.0
        self.now = lambda: self.clock.seconds() + set_
        trail = self.open("everysec")
        total = 0
        for change in (0.0, -3 * DAY, 365 * DAY, -DAY, 0.0):
            set_ += change
            for _ in range(5):
                trail.append(self.now(), "e", {})
                trail.commit()
                total += 1
            self.forced.clear()
            self.assertLessEqual(len(self.clock.getDelayedCalls()), 3)
            self.clock.advance(1)
            self.assertEqual(["audit.jsonl"], self.forced)
            trail.append(self.now(), "e", {})
            trail.commit()
            total += 1
            signed = self.signatures()
            self.clock.advance(60)
            self.assertEqual(signed + 1, self.signatures())
            last = self.records()[-1]
            self.assertEqual("checkpoint", last["event"])
            self.assertEqual(toSeconds(self.now())[:16], last["time"][:16])
            self.clock.advance(600)
            self.assertEqual(signed + 1, self.signatures())
        self.assertEqual(["e"] * total, self.events())

    def signatures(self) -> int:
        """
        How many checkpoints there are.
        """
        return self.path.read_bytes().count(b'"event":"checkpoint"')


class CheckpointTests(TrailTestCase):
    """
    When the trail is signed.
    """

    def kinds(self) -> str:
        """
        All records: C{c} for a checkpoint, C{.} for any other.
        """
        return "".join(
            "c" if record["event"] == "checkpoint" else "." for record in self.records()
        )

    def test_records(self) -> None:
        """
        A checkpoint follows after a thousand records, however they are written.
        """
        for together in (1, 7, 2500):
            trail = self.open()
            for n in range(2500):
                trail.append(EPOCH, "request", {"session": "s", "n": n})
                if n % together == 0:
                    trail.commit()
            trail.commit()
            self.assertEqual(
                "." * 1000 + "c" + "." * 1000 + "c" + "." * 500, self.kinds()
            )
            trail.close()
            self.path.unlink()

    def test_recordsOfSession(self) -> None:
        """
        So it is with the records of a session, however many come at once: it
        follows after each thousand, not after all.
        """
        for together in (1, 3, 999, 1000, 1001, 5000):
            trail = self.open()
            for n in range(0, 5000, together):
                count = min(together, 5000 - n)
                extend(trail, "s", n + count, count)
            self.assertEqual(("." * 1000 + "c") * 5, self.kinds())
            numbers = [r["n"] for r in self.records() if "n" in r]
            self.assertEqual([*range(1, 5001)], numbers)
            trail.close()
            self.path.unlink()

    def test_recordsOfAll(self) -> None:
        """
        Records of all kinds count together.
        """
        trail = self.open()
        for _ in range(10):
            trail.append(EPOCH, "e", {})
        trail.extend("s", 2500, bodies(2500))
        trail.append(EPOCH, "e", {})
        trail.commit()
        self.assertEqual("." * 1000 + "c" + "." * 1000 + "c" + "." * 511, self.kinds())

    def test_octets(self) -> None:
        """
        One follows after sixteen MiB of records at the latest, for a start has to
        read what stands behind it; then it is counted from nothing again.
        """
        self.patch(trailModule, "MAX_UNSIGNED_OCTETS", 10_000)
        text = "x" * 900
        trail = self.open()
        for n in range(1, 36):
            trail.extend("s", n, bodies(1, first=n, text=text))
            trail.commit()
        self.assertEqual(("." * 10 + "c") * 3 + "." * 5, self.kinds())
        trail.close()
        self.path.unlink()
        trail = self.open()
        for _ in range(35):
            write(trail, text=text)
        kinds = self.kinds()
        self.assertEqual(kinds[:11] + kinds[:11] + kinds[:11], kinds[:33])
        self.assertEqual("." * 10 + "c", kinds[:11])
        self.assertEqual(16 * 1024 * 1024, MAX_UNSIGNED_OCTETS)

    def test_octetsTogether(self) -> None:
        """
        Records that come at once are too many together: then it follows them.
        """
        self.patch(trailModule, "MAX_UNSIGNED_OCTETS", 10_000)
        trail = self.open()
        trail.extend("s", 100, bodies(100, text="x" * 900))
        trail.extend("s", 101, bodies(1, first=101))
        trail.commit()
        self.assertEqual("." * 100 + "c" + ".", self.kinds())

    def test_octetsForgotten(self) -> None:
        """
        Records that could not be written do not count.
        """
        self.patch(trailModule, "MAX_UNSIGNED_OCTETS", 10_000)
        trail = self.open()
        extend(trail, "s", 1, 1)
        faults = self.faults()
        for _ in range(5):
            faults.always = errno.ENOSPC
            self.assertRaises(AuditUnavailable, extend, trail, "s", 2000, 1999)
            faults.always = 0
            self.clock.advance(1)
        kinds = self.kinds()
        extend(trail, "s", 2, 1)
        self.assertEqual(kinds + ".", self.kinds())

    def test_time(self) -> None:
        """
        One follows after 60 s if there are new records, and none if there are
        none.
        """
        trail = self.open()
        self.clock.advance(600)
        self.assertEqual("", self.kinds())
        write(trail)
        self.clock.advance(59.9)
        write(trail)
        self.assertEqual("..", self.kinds())
        self.clock.advance(0.1)
        self.assertEqual("..c", self.kinds())
        self.clock.advance(600)
        self.assertEqual("..c", self.kinds())
        write(trail)
        self.clock.advance(60)
        self.assertEqual("..c.c", self.kinds())

    def test_afterStart(self) -> None:
        """
        What a crash has left without one gets one too.
        """
        trail = self.open()
        for _ in range(998):
            trail.append(EPOCH, "e", {})
        trail.write()
        contents = self.path.read_bytes()
        trail.close()
        self.path.write_bytes(contents)
        trail = self.open()
        write(trail)
        self.assertEqual("." * 999, self.kinds())
        write(trail)
        self.assertEqual("." * 1000 + "c", self.kinds())

    def test_sessionEnds(self) -> None:
        """
        One follows at the end of a session, in the same write.
        """
        trail = self.open()
        faults = self.faults()
        write(trail, "session.opened", session="s")
        write(trail, "session.closed", session="s")
        self.assertEqual("..c", self.kinds())
        self.assertEqual(2, faults.writes)

    def test_close(self) -> None:
        """
        One is the last record of a service, unless it is that already.
        """
        trail = self.open()
        trail.close()
        self.assertEqual("", self.kinds())
        trail = self.open()
        write(trail)
        trail.close()
        self.assertEqual(".c", self.kinds())
        self.open().close()
        self.assertEqual(".c", self.kinds())

    def test_rotation(self) -> None:
        """
        One is the last record of a file.
        """
        trail = self.open()
        write(trail)
        former = self.directory / "audit.jsonl.1"
        self.path.rename(former)
        trail.reopen()
        self.assertEqual(
            ["e", "checkpoint"], [record["event"] for record in verifiedRecords(former)]
        )

    def test_signed(self) -> None:
        """
        With the key that C{tcpsvc keys} has made, each is good by C{audit.pem}:
        its count and head are those of the records before it.
        """
        keys = writeKeys(self.directory / "keys")
        key: Any = readPrivateKey(keys.auditKey)
        disk = Disk(atOnce, self.deaths.append)
        trail, _ = openTrail(self.path, key, self.clock, disk, "no")
        for n in range(2100):
            write(trail, "request", session="s", n=n)
        trail.close()
        public: Any = load_pem_public_key((keys.path / "audit.pem").read_bytes())
        records = verifiedRecords(self.path)
        signed = [one for one in records if one["event"] == "checkpoint"]
        self.assertEqual(3, len(signed))
        for one in signed:
            self.assertEqual((one["seq"] - 1, one["prev"]), (one["count"], one["head"]))
            self.assertTrue(isSignedBy(one, public))
            self.assertFalse(isSignedBy(one, auditKey().public_key()))

    def test_sessions(self) -> None:
        """
        Each says which sessions are open, with their requests so far.
        """
        trail = self.open()
        write(trail, "session.opened", session="a")
        extend(trail, "a", 1, 1)
        write(trail, "session.opened", session="b", control=True)
        write(trail, "session.opened", session="c")
        extend(trail, "a", 6, 5)
        write(trail, "session.closed", session="b")
        self.assertEqual({"a": 6, "c": 0}, self.records()[-1]["sessions"])

    def test_sessionsBetween(self) -> None:
        """
        It says how many requests came before it, not how many came with those that
        stand behind it; whatever these say.
        """
        for together in (1, 7, 5000):
            trail = self.open()
            write(trail, "session.opened", session="a")
            made = []
            for n in range(1, 2501):
                fields: dict[str, object] = {"session": "a", "n": n}
                asked = {**fields, "request": '"event":"request"'}
                made.append(body(EPOCH, "request", asked))
                said = {**fields, "reply": '"event":"request"'}
                made.append(body(EPOCH, "reply", said))
            for at in range(0, 5000, together):
                some = made[at : at + together]
                trail.extend("a", (at + len(some) + 1) // 2, some)
                trail.commit()
            requests = 0
            for record in self.records():
                requests += record["event"] == "request"
                if record["event"] == "checkpoint":
                    self.assertEqual({"a": requests}, record["sessions"])
            self.assertEqual(2500, requests)
            trail.close()
            self.path.unlink()

    def test_timeBetween(self) -> None:
        """
        Between records that came together it has the time of the one before it:
        time never goes back.
        """
        trail = self.open()
        write(trail, "session.opened", session="a")
        made = [
            body(EPOCH + n / 1000, "request", {"session": "a", "n": n})
            for n in range(1, 2501)
        ]
        self.clock.advance(30)
        trail.extend("a", 2500, made)
        trail.commit()
        records = self.records()
        times = [str(record["time"]) for record in records]
        self.assertEqual(sorted(times), times)
        for number, record in enumerate(records):
            if record["event"] == "checkpoint":
                self.assertEqual(times[number - 1], times[number])
        self.assertEqual(2, [one["event"] for one in records].count("checkpoint"))

    def test_endedSession(self) -> None:
        """
        One that has ended does not come back, whatever is recorded of it late.
        """
        trail = self.open()
        write(trail, "session.opened", session="a")
        write(trail, "session.closed", session="a")
        extend(trail, "a", 1, 1)
        trail.close()
        self.assertEqual({}, self.records()[-1]["sessions"])


class SyncTests(TrailTestCase):
    """
    When records are forced to the disk.
    """

    def test_policies(self) -> None:
        """
        There are the contract's policies.
        """
        self.assertEqual({"always", "everysec", "no"}, set(SYNC_POLICIES))

    def test_everysec(self) -> None:
        """
        C{everysec} forces records to the disk once, a second after the first
        of them; and not again while nothing is written.
        """
        trail = self.open("everysec")
        self.clock.advance(5)
        self.assertEqual([], self.forced)
        self.assertIsNone(write(trail))
        self.clock.advance(0.9)
        write(trail)
        self.assertEqual([], self.forced)
        self.clock.advance(0.1)
        self.assertEqual(1, len(self.forced))
        self.clock.advance(10)
        self.assertEqual(1, len(self.forced))
        write(trail)
        self.clock.advance(1)
        self.assertEqual(2, len(self.forced))

    def test_everysecBeside(self) -> None:
        """
        It never blocks the reactor, and what is written while the disk is busy
        is forced in its turn.
        """
        beside = Beside()
        trail = self.open("everysec", beside)
        write(trail)
        self.clock.advance(1)
        self.assertEqual([], self.forced)
        self.assertIsNone(write(trail))
        self.clock.advance(1)
        beside.workAll()
        self.assertEqual(2, len(self.forced))

    def test_always(self) -> None:
        """
        Under C{always} records are committed when they are on the disk, and the
        reactor goes on meanwhile; one C{fdatasync} is for all who wait.
        """
        beside = Beside()
        trail = self.open("always", beside)
        commits = [write(trail, session="s") for _ in range(20)]
        self.assertEqual(20, len(self.events()))
        for one in commits:
            assert one is not None
            self.assertNoResult(one)
        self.assertEqual([], self.forced)
        beside.work()
        first, *others = commits
        assert first is not None
        self.assertIsNone(self.successResultOf(first))
        gone = others.pop(4)
        assert gone is not None
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        beside.work()
        for one in others:
            assert one is not None
            self.assertIsNone(self.successResultOf(one))
        self.assertEqual(2, len(self.forced))

    def test_alwaysWithoutCommit(self) -> None:
        """
        What is only written costs no C{fdatasync} of its own, but waits for no
        more than a second.
        """
        trail = self.open("always")
        for _ in range(100):
            trail.append(EPOCH, "handshake.failed", {})
            trail.write()
        self.assertEqual([], self.forced)
        self.clock.advance(1)
        self.assertEqual(1, len(self.forced))

    def test_no(self) -> None:
        """
        C{no} forces nothing, not even at the end.
        """
        trail = self.open("no")
        self.assertIsNone(write(trail))
        self.clock.advance(100)
        trail.close()
        self.assertEqual([], self.forced)

    def test_close(self) -> None:
        """
        The other policies force all to the disk at the end, and wait for it; then
        nothing is left to do.
        """
        for sync in ("everysec", "always"):
            self.forced.clear()
            beside = Beside()
            trail = self.open(sync, beside)
            write(trail)
            trail.close()
            self.assertEqual(["audit.jsonl"], self.forced)
            self.assertEqual([], self.clock.getDelayedCalls())
            beside.workAll()
            trail.close()

    def test_dead(self) -> None:
        """
        If the disk fails, nothing that waits for it is ever acknowledged, it is
        told once, and it is not tried again, not even at the end.
        """
        calls: list[int] = []

        def fail(descriptor: int) -> None:
            calls.append(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        broken = self.patch(os, "fdatasync", fail)
        trail = self.open("always")
        waiting = [write(trail)]
        broken.restore()
        waiting += [write(trail), write(trail)]
        self.clock.advance(10)
        trail.close()
        for one in waiting:
            assert one is not None
            self.assertNoResult(one)
        self.assertEqual(["Input/output error"], self.deaths)
        self.assertEqual(1, len(calls))
        self.assertEqual([], self.forced)

    def test_noThread(self) -> None:
        """
        A thread that cannot be started once changes nothing of what is promised:
        under C{everysec} the file is on the disk within a second all the same,
        then and later; under C{always} a record counts when it is.
        """
        beside = Beside()
        trail = self.open("everysec", beside)
        beside.refusing = 1
        for number in range(1, 4):
            write(trail)
            self.clock.advance(1)
            beside.workAll()
            self.assertEqual(number, len(self.forced))
        trail.close()
        trail = self.open("always", beside)
        self.forced.clear()
        beside.refusing = 1
        done = write(trail)
        assert done is not None
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(1, len(self.forced))
        done = write(trail)
        assert done is not None
        self.assertNoResult(done)
        beside.workAll()
        self.assertIsNone(self.successResultOf(done))


class BlockedTests(TrailTestCase):
    """
    A trail that cannot be written.
    """

    def setUp(self) -> None:
        """
        A trail with an open session, and writes that fail on request.
        """
        super().setUp()
        self.trail = self.open()
        write(self.trail, "session.opened", session="s")
        self.disk = self.faults()

    def assertRefused(self, words: str = "No space left on device") -> None:
        """
        Nothing can be recorded, and the trail says why; file and chain are as
        they were.
        """
        before = self.path.read_bytes(), self.trail.records, self.trail.head
        message = f"{self.path}: cannot be written: {words}"
        for call in (self.trail.commit, self.trail.write):
            self.trail.append(EPOCH, "lost", {"text": "x" * 500})
            self.trail.extend("s", 1, bodies(1))
            error = self.assertRaises(AuditUnavailable, call)
            self.assertEqual(message, str(error))
            self.assertEqual(message, self.trail.blocked)
        self.assertRaises(AuditUnavailable, self.trail.commit)
        self.trail.write()
        self.assertEqual(
            before, (self.path.read_bytes(), self.trail.records, self.trail.head)
        )

    def assertWorks(self) -> None:
        """
        After a second the trail can be written again; what was refused did not
        come back.
        """
        self.clock.advance(1)
        self.assertEqual("", self.trail.blocked)
        write(self.trail, "next")
        self.assertEqual(["session.opened", "next"], self.events())

    def test_everyWrite(self) -> None:
        """
        Whichever write fails, at once or behind some octets and with whatever
        error: it is undone, refused, and works again by itself.
        """
        for number in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG):
            for taken in ([], [1], [200], [100, 50, 3]):
                self.disk.coming = [*taken, -number]
                self.assertRefused(os.strerror(number))
                self.clock.advance(1)
                self.assertEqual("", self.trail.blocked)
        write(self.trail, "next")
        self.assertEqual(["session.opened", "next"], self.events())

    def test_nthWrite(self) -> None:
        """
        Of twenty records, each committed by itself, let the n-th and all behind it
        fail: what was acknowledged is in the file, and nothing else.
        """
        for n in range(20):
            self.path.unlink()
            self.trail.close()
            self.trail = self.open()
            self.disk.coming = [1 << 30] * n
            self.disk.always = errno.ENOSPC
            acknowledged = []
            for number in range(20):
                try:
                    write(self.trail, "e", number=number)
                except AuditUnavailable:
                    continue
                acknowledged.append(number)
            self.assertEqual([*range(n)], acknowledged)
            self.assertEqual(acknowledged, [r["number"] for r in self.records()])
            self.disk.always = 0

    def test_notTriedMeanwhile(self) -> None:
        """
        While it is blocked nothing is tried but once a second.
        """
        self.disk.always = errno.ENOSPC
        self.assertRefused()
        before = self.disk.writes
        for _ in range(100):
            self.assertRaises(AuditUnavailable, write, self.trail)
        self.assertEqual(before, self.disk.writes)
        self.clock.pump([0.25] * 40)
        self.assertEqual(before + 10, self.disk.writes)
        self.disk.always = 0
        self.assertWorks()

    def test_reallyTried(self) -> None:
        """
        It does not work again before something could really be written, even if
        there is nothing new to be recorded.
        """
        self.trail.append(EPOCH, "session.closed", {"session": "s"})
        self.trail.write()
        self.disk.always = errno.ENOSPC
        self.assertRaises(AuditUnavailable, write, self.trail)
        self.clock.advance(1)
        self.assertNotEqual("", self.trail.blocked)
        self.disk.always = 0
        self.clock.advance(1)
        self.assertEqual("", self.trail.blocked)
        self.assertEqual(["session.opened", "session.closed"], self.events())

    def test_cannotBeUndone(self) -> None:
        """
        If a torn write cannot be taken back either, nothing is recorded behind it
        until it can.
        """

        def fail(*_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        broken = self.patch(os, "ftruncate", fail)
        self.disk.coming = [50, -errno.ENOSPC]
        self.assertRaises(AuditUnavailable, write, self.trail)
        self.clock.advance(5)
        self.assertNotEqual("", self.trail.blocked)
        broken.restore()
        self.assertWorks()

    def test_extended(self) -> None:
        """
        Records of a session that cannot be written are taken back, many or few, with
        the checkpoints between them; the chain goes on as if they had never been.
        """
        self.disk.coming = [70_000, -errno.ENOSPC]
        before = self.path.read_bytes(), self.trail.records, self.trail.head
        for count in (2500, 1):
            self.disk.always = errno.ENOSPC
            self.assertRaises(AuditUnavailable, extend, self.trail, "s", count, count)
            self.assertEqual(
                before, (self.path.read_bytes(), self.trail.records, self.trail.head)
            )
        self.disk.always = 0
        self.assertWorks()
        extend(self.trail, "s", 1, 1)
        self.assertEqual(["session.opened", "next", "request"], self.events())

    def test_kept(self) -> None:
        """
        What happens all the same is kept: refusals, failed handshakes, and the
        ends of sessions and service; in order, with their times; requests,
        replies and beginnings are not.
        """
        self.disk.always = errno.ENOSPC
        happened: tuple[tuple[str, dict[str, object]], ...] = (
            ("handshake.failed", {"reason": "r"}),
            ("session.opened", {"session": "t"}),
            ("request", {"session": "s", "n": 1}),
            ("session.closed", {"session": "s"}),
            ("reply", {"session": "s", "n": 1}),
            ("session.refused", {"reason": "busy"}),
            ("service.started", {}),
            ("service.stopped", {}),
        )
        for second, (event, fields) in enumerate(happened):
            moment = EPOCH + second
            if event in ("request", "reply"):
                self.trail.extend("s", 1, [body(moment, event, fields)])
            else:
                self.trail.append(moment, event, dict(fields))
            self.assertRaises(AuditUnavailable, self.trail.write)
        self.disk.always = 0
        self.clock.advance(1)
        records = self.records()
        self.assertEqual(
            [
                ("session.opened", "2027-01-15T08:00:00.000000Z"),
                ("handshake.failed", "2027-01-15T08:00:00.000000Z"),
                ("session.closed", "2027-01-15T08:00:03.000000Z"),
                ("session.refused", "2027-01-15T08:00:05.000000Z"),
                ("service.stopped", "2027-01-15T08:00:07.000000Z"),
            ],
            [(record["event"], record["time"]) for record in records[:-1]],
        )
        self.assertEqual("checkpoint", records[-1]["event"])
        self.assertEqual({}, records[-1]["sessions"])

    def test_keptOnce(self) -> None:
        """
        What was kept is written once, however often that was tried.
        """
        self.disk.always = errno.ENOSPC
        self.assertRaises(AuditUnavailable, write, self.trail, "session.refused")
        self.clock.advance(1)
        self.clock.advance(1)
        self.disk.coming = [9]
        self.clock.advance(1)
        self.disk.always = 0
        self.clock.advance(1)
        self.assertEqual(["session.opened", "session.refused"], self.events())
        self.disk.always = errno.ENOSPC
        self.assertRaises(AuditUnavailable, write, self.trail)
        self.disk.always = 0
        self.clock.advance(1)
        self.assertEqual(["session.opened", "session.refused"], self.events())

    def test_bounded(self) -> None:
        """
        Of what strangers do only so much is kept; the end of a session always is.
        """
        self.disk.always = errno.ENOSPC
        for n in range(10 * MAX_KEPT):
            self.assertRaises(
                AuditUnavailable, write, self.trail, "handshake.failed", number=n
            )
        self.assertRaises(
            AuditUnavailable, write, self.trail, "session.closed", session="s"
        )
        self.disk.always = 0
        self.clock.advance(1)
        events = self.events()
        self.assertEqual(MAX_KEPT, events.count("handshake.failed"))
        self.assertEqual("session.closed", events[-1])

    def test_sessionsOfOthers(self) -> None:
        """
        A session that nothing happened to is still open afterwards; one that
        could not begin never was.
        """
        self.disk.always = errno.ENOSPC
        self.assertRaises(
            AuditUnavailable, write, self.trail, "session.opened", session="t"
        )
        self.disk.always = 0
        self.clock.advance(1)
        self.assertEqual({"s": 0}, self.records()[-1]["sessions"])

    def test_close(self) -> None:
        """
        What is kept is tried once more at the end: it may be written by then, or
        is lost.
        """
        self.disk.always = errno.ENOSPC
        self.assertRaises(
            AuditUnavailable, write, self.trail, "session.closed", session="s"
        )
        self.disk.always = 0
        self.trail.close()
        self.assertEqual(["session.opened", "session.closed"], self.events())
        self.assertEqual([], self.clock.getDelayedCalls())
        self.trail = self.open()
        write(self.trail)
        self.disk.always = errno.ENOSPC
        self.assertRaises(AuditUnavailable, write, self.trail, "service.stopped")
        self.trail.close()
        self.assertEqual("e", self.events()[-1])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_closed(self) -> None:
        """
        After the trail was closed nothing can be recorded, and its descriptor,
        which may be another file's by then, is not touched.
        """
        self.trail.close()
        contents = self.path.read_bytes()
        other = self.directory / "other"
        with other.open("wb"):
            self.assertRaises(AuditUnavailable, write, self.trail, "late")
            self.trail.reopen()
            self.trail.close()
            self.clock.advance(100)
        self.assertEqual(b"", other.read_bytes())
        self.assertEqual(contents, self.path.read_bytes())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_rename(self) -> None:
        """
        A trail whose file must not grow any more can be helped by renaming it:
        the new file has first what was kept, and continues the chain.
        """
        self.disk.coming = [9, -errno.EFBIG]
        self.assertRaises(AuditUnavailable, write, self.trail, "session.refused")
        self.path.rename(self.directory / "audit.jsonl.1")
        self.trail.reopen()
        self.assertEqual("", self.trail.blocked)
        write(self.trail, "next")
        self.assertEqual(
            ["session.refused", "checkpoint", "next"],
            [json.loads(line)["event"] for line in self.path.read_bytes().splitlines()],
        )
        self.assertEqual(["session.opened", "session.refused", "next"], self.events())

    def test_always(self) -> None:
        """
        What was written before is acknowledged when it is on the disk, also if
        nothing more can be written by then.
        """
        self.trail.close()
        beside = Beside()
        self.trail = self.open("always", beside)
        waiting = write(self.trail)
        self.disk.always = errno.ENOSPC
        self.assertRaises(AuditUnavailable, write, self.trail)
        beside.workAll()
        assert waiting is not None
        self.assertIsNone(self.successResultOf(waiting))

    @settings(max_examples=60)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["request", "session.closed", "handshake.failed", "e", "wait"]
                ),
                st.sampled_from([0, 0, errno.ENOSPC, errno.EIO]),
                st.integers(0, 300),
            ),
            max_size=40,
        )
    )
    def test_noGaps(self, steps: list[tuple[str, int, int]]) -> None:
        """
        Whatever fails when: numbers have no gap, links no break, all that was
        acknowledged is there, and nothing that was refused but what is kept.
        """
        for path in self.directory.iterdir():
            path.unlink()
        self.disk.always, self.disk.coming = 0, []
        self.clock.advance(5)
        self.trail.close()
        self.path.unlink(missing_ok=True)
        self.trail = self.open()
        acknowledged, refused = [], []
        for number, (event, error, octets) in enumerate(steps):
            self.disk.always = error
            self.disk.coming = [octets] if error and octets else []
            if event == "wait":
                self.clock.advance(1)
                continue
            try:
                if event == "request":
                    fields = {"session": "s", "n": 0, "number": number}
                    self.trail.extend("s", 0, [body(EPOCH, event, fields)])
                    self.trail.commit()
                else:
                    write(self.trail, event, session="s", number=number)
            except AuditUnavailable:
                refused.append((event, number))
            else:
                acknowledged.append(number)
        self.disk.always, self.disk.coming = 0, []
        self.clock.advance(1)
        self.assertEqual("", self.trail.blocked)
        kept = [
            n for event, n in refused if event in ("session.closed", "handshake.failed")
        ]
        numbers = [r["number"] for r in self.records() if r["event"] != "checkpoint"]
        self.assertEqual(sorted(acknowledged + kept), sorted(numbers))


class RemovedTests(TrailTestCase):
    """
    A trail whose file is taken away while it is written.
    """

    def test_removed(self) -> None:
        """
        It is noticed within a second, and a new file begins, which continues the
        chain.
        """
        lines = LogLines()
        self.patch(Trail, "_log", Logger(namespace="tcpsvc", observer=lines))
        self.trail = self.open()
        write(self.trail, "lost")
        head = self.trail.head
        self.path.unlink()
        self.clock.advance(1)
        self.assertEqual("", self.trail.blocked)
        self.assertIn(f'"prev":"{head}"', self.path.read_text())
        write(self.trail, "next")
        self.assertIn('"event":"next"', self.path.read_text())
        self.assertIn("was removed", lines.texts()[0])

    def test_truncated(self) -> None:
        """
        A file that somebody has cut off is put aside, and the trail goes on in a
        new one.
        """
        self.trail = self.open()
        write(self.trail, "lost")
        head = self.trail.head
        os.truncate(self.path, 0)
        self.clock.advance(1)
        self.assertIn(
            f'"prev":"{head}"', "".join(path.read_text() for path in self.files())
        )
        write(self.trail, "next")
        self.assertIn('"event":"next"', self.path.read_text())

    def test_replaced(self) -> None:
        """
        Where an editor has put a copy in the file's place nothing is recorded
        until that has gone.
        """
        self.trail = self.open()
        write(self.trail, "lost")
        copy = self.path.with_name("copy")
        copy.write_bytes(self.path.read_bytes())
        copy.rename(self.path)
        self.clock.advance(1)
        self.assertIn("replaced", self.trail.blocked)
        self.assertRaises(AuditUnavailable, write, self.trail)
        for _ in range(3):
            self.clock.advance(1)
        self.assertIn("replaced", self.trail.blocked)
        self.path.rename(copy)
        self.clock.advance(1)
        self.assertEqual("", self.trail.blocked)
        self.assertEqual(
            "from 2027-01-15T08:00:01Z to 2027-01-15T08:00:05Z", self.trail.lastBlocked
        )


class RotationTests(TrailTestCase):
    """
    A new file.
    """

    def rename(self) -> Path:
        """
        Rename the file, as logrotate does.
        """
        former = self.directory / f"audit.jsonl.{len(self.files())}"
        self.path.rename(former)
        return former

    def test_renamed(self) -> None:
        """
        After a renaming the former file is written on, until the trail is asked
        to begin a new one: its first record continues the chain.
        """
        trail = self.open()
        write(trail, "one")
        former = self.rename()
        write(trail, "two")
        self.assertFalse(self.path.exists())
        trail.reopen()
        write(trail, "three")
        self.assertEqual([former, self.path], self.files())
        self.assertEqual(
            ["one", "two", "checkpoint", "three"],
            [record["event"] for record in self.records()],
        )
        self.assertEqual(0o600, self.path.stat().st_mode & 0o777)

    def test_notRenamed(self) -> None:
        """
        If it was not renamed, nothing happens.
        """
        trail = self.open()
        write(trail, "one")
        trail.reopen()
        write(trail, "two")
        self.assertEqual([self.path], self.files())
        self.assertEqual(["one", "two"], [r["event"] for r in self.records()])

    def test_created(self) -> None:
        """
        logrotate may have made the new file: if it is empty it is taken, in the
        mode that it has.
        """
        trail = self.open()
        write(trail, "one")
        former = self.rename()
        self.path.touch()
        self.path.chmod(0o640)
        trail.reopen()
        write(trail, "two")
        self.assertEqual([former, self.path], self.files())
        self.assertEqual(["one", "two"], self.events())
        self.assertEqual(0o640, self.path.stat().st_mode & 0o777)

    def test_inTheWay(self) -> None:
        """
        A file that is in the way, because it is not empty, is a link, a directory,
        or another's: the former goes on, nothing is lost, and as soon as it is out
        of the way the new one can begin.
        """

        def lock() -> None:
            other = openTrail(
                self.path, auditKey(), self.clock, Disk(atOnce, print), "no"
            )[0]
            self.addCleanup(other.close)

        ways: list[Callable[[], object]] = [
            lambda: self.path.write_bytes(b"mine\n"),
            lambda: self.path.symlink_to("elsewhere"),
            self.path.mkdir,
        ]
        trail = self.open()
        write(trail, "one")
        former = self.rename()
        for way in ways:
            way()
            trail.reopen()
            write(trail, "on")
            self.assertEqual(
                "on", json.loads(former.read_bytes().splitlines()[-1])["event"]
            )
            if self.path.is_dir():
                self.path.rmdir()
            else:
                self.path.unlink()
        trail.reopen()
        write(trail, "two")
        self.assertEqual(["one", "on", "on", "on", "two"], self.events())

    def test_size(self) -> None:
        """
        When a file has reached its size a new one begins; the former is named by
        the time, each by another name, even if all have the same time.
        """
        trail = self.open(maxOctets=2000)
        for n in range(30):
            write(trail, "e", number=n, text="x" * 300)
        files = self.files()
        self.assertGreater(len(files), 5)
        self.assertIn("audit.jsonl.20270115T080000.000000Z", [f.name for f in files])
        for file in files[:-1]:
            self.assertGreaterEqual(file.stat().st_size, 2000)
            self.assertLess(file.stat().st_size, 2000 + 1500)
        self.assertEqual(
            [*range(30)],
            [r["number"] for r in self.records() if r["event"] == "e"],
        )

    def test_sizeAtStart(self) -> None:
        """
        A file that is large enough when it is opened ends with its next record.
        """
        trail = self.open()
        write(trail, "e", text="x" * 3000)
        trail.close()
        trail = self.open(maxOctets=2000)
        write(trail, "next")
        self.assertEqual(1, len(self.files()))
        write(trail, "new")
        self.assertEqual(2, len(self.files()))
        self.assertEqual(["e", "next", "new"], self.events())

    def test_cannotRename(self) -> None:
        """
        If the file cannot be renamed it goes on, and that is tried again when it
        has grown as much again, not with every record.
        """
        calls: list[object] = []

        def fail(*arguments: object, **_: object) -> None:
            calls.append(arguments)
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        broken = self.patch(os, "rename", fail)
        trail = self.open(maxOctets=2000)
        for _ in range(30):
            write(trail, "e", text="x" * 300)
        self.assertEqual([self.path], self.files())
        self.assertLess(len(calls), 12)
        self.assertGreater(len(calls), 2)
        broken.restore()
        for _ in range(10):
            write(trail, "e", text="x" * 300)
        self.assertGreater(len(self.files()), 1)
        self.assertEqual(["e"] * 40, self.events())

    def test_cannotOpen(self) -> None:
        """
        If the new file cannot be made, the former goes on under its new name; a
        later try begins the new one.
        """
        trail = self.open(maxOctets=2000)
        real = os.open

        def fail(path: Any, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(path, flags, mode)

        broken = self.patch(os, "open", fail)
        for _ in range(10):
            write(trail, "e", text="x" * 300)
        self.assertFalse(self.path.exists())
        broken.restore()
        for _ in range(10):
            write(trail, "e", text="x" * 300)
        self.assertTrue(self.path.exists())
        self.assertEqual(["e"] * 20, self.events())

    def test_diskFull(self) -> None:
        """
        If the former file's end cannot be written, the trail is blocked like by
        any other record, and the new file begins when it can be written: nothing
        is lost, and the first thing in it is a checkpoint.
        """
        trail = self.open()
        write(trail, "one")
        self.rename()
        disk = self.faults()
        disk.coming = [20]
        disk.always = errno.ENOSPC
        trail.reopen()
        self.assertIn("No space left on device", trail.blocked)
        self.assertRaises(AuditUnavailable, write, trail, "session.refused")
        disk.always = 0
        self.clock.advance(1)
        self.assertEqual("", trail.blocked)
        write(trail, "two")
        self.assertEqual(
            ["one", "session.refused", "checkpoint", "two"],
            [record["event"] for record in self.records()],
        )
        self.assertEqual(1, len(verifiedRecords(self.files()[0])))

    def test_everysec(self) -> None:
        """
        Under C{everysec} the former file is forced to the disk, beside the
        reactor, before anything is written to the new one: else a power cut could
        leave the new without the end of the former. Until then records wait.
        """
        beside = Beside()
        trail = self.open("everysec", beside)
        write(trail, "one")
        former = self.rename()
        trail.reopen()
        waiting = write(trail, "two")
        trail.append(EPOCH, "three", {})
        trail.write()
        assert waiting is not None
        self.assertNoResult(waiting)
        self.assertFalse(self.path.exists())
        self.assertEqual([], self.forced)
        beside.work()
        self.assertEqual([former.name], self.forced)
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(["one", "two", "three"], self.events())
        self.assertIsNone(write(trail, "four"))
        beside.workAll()
        self.assertEqual("audit.jsonl", self.forced[-1])
        self.clock.advance(1)
        beside.workAll()
        self.assertEqual({"audit.jsonl"}, set(self.forced[1:]))

    def test_always(self) -> None:
        """
        Under C{always} a commit during which the file ended waits for that file,
        and later ones for both.
        """
        beside = Beside()
        trail = self.open("always", beside, maxOctets=400)
        first = write(trail, "e", text="x" * 400)
        second = write(trail, "e", text="y")
        third = write(trail, "e", text="z")
        assert first is not None and second is not None and third is not None
        beside.work()
        self.assertNoResult(first)
        self.assertNoResult(second)
        beside.work()
        self.assertIsNone(self.successResultOf(first))
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.assertNoResult(second)
        beside.workAll()
        self.assertIsNone(self.successResultOf(second))
        self.assertEqual("audit.jsonl", self.forced[-1])
        self.assertEqual(["e"] * 3, self.events())

    def test_fullThen(self) -> None:
        """
        If what has waited for a new file cannot be written to it, all who wait
        are told that it is not recorded.
        """
        beside = Beside()
        trail = self.open("always", beside)
        write(trail, "one")
        beside.workAll()
        self.rename()
        trail.reopen()
        waiting = [write(trail, "two"), write(trail, "three")]
        disk = self.faults()
        disk.always = errno.ENOSPC
        beside.workAll()
        for one in waiting:
            assert one is not None
            self.failureResultOf(one, AuditUnavailable)
        disk.always = 0
        self.clock.advance(1)
        beside.workAll()
        four = write(trail, "four")
        beside.workAll()
        assert four is not None
        self.assertIsNone(self.successResultOf(four))
        self.assertEqual(["one", "four"], self.events())

    def test_noThread(self) -> None:
        """
        If no thread can be started then, the new file begins all the same, after
        the former is on the disk, and who waits is told.
        """
        for sync in ("always", "everysec"):
            beside = Beside()
            trail = self.open(sync, beside)
            write(trail, "one")
            beside.workAll()
            former = self.rename()
            self.forced.clear()
            beside.refusing = 1
            trail.reopen()
            self.assertEqual([former.name], self.forced)
            two = write(trail, "two")
            beside.workAll()
            if two is not None:
                self.assertIsNone(self.successResultOf(two))
            self.assertIn('"event":"two"', self.path.read_text())
            trail.close()
        self.assertEqual([], self.deaths)

    def test_formerNotClosed(self) -> None:
        """
        If the former file cannot be closed, the new one is written to all the
        same.
        """
        trail = self.open()
        write(trail, "one")
        self.rename()
        real = os.close

        def fail(descriptor: int) -> None:
            real(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        broken = self.patch(os, "close", fail)
        self.assertRaises(OSError, trail.reopen)
        broken.restore()
        write(trail, "two")
        self.assertIn('"event":"two"', self.path.read_text())
        self.assertEqual(["one", "two"], self.events())

    def test_closedThen(self) -> None:
        """
        If the service ends while a new file waits for the former, the former is
        on the disk first all the same.
        """
        for sync in ("always", "everysec"):
            self.forced.clear()
            beside = Beside()
            trail = self.open(sync, beside)
            write(trail, "one")
            former = self.rename()
            trail.reopen()
            waiting = write(trail, "two")
            trail.close()
            self.assertEqual([former.name, "audit.jsonl"], self.forced[:2])
            beside.workAll()
            assert waiting is not None
            self.assertIsNone(self.successResultOf(waiting))
            self.assertEqual([], self.clock.getDelayedCalls())
            self.open().close()
        self.assertEqual(["one", "two"] * 2, self.events())

    def test_closedThenFails(self) -> None:
        """
        If that fails, no timer is left, and another service can write the trail.
        """
        beside = Beside()
        trail = self.open("everysec", beside)
        write(trail, "one")
        self.rename()
        trail.reopen()

        def fail(_: object) -> bool:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        broken = self.patch(TrailFile, "settle", fail)
        again = self.patch(TrailFile, "isNowhere", fail)
        self.assertRaises(OSError, trail.close)
        broken.restore()
        again.restore()
        self.assertEqual([], self.clock.getDelayedCalls())
        beside.workAll()
        self.open().close()

    def test_twice(self) -> None:
        """
        Being asked twice, also while it waits, begins one new file.
        """
        beside = Beside()
        trail = self.open("everysec", beside)
        write(trail, "one")
        self.rename()
        trail.reopen()
        trail.reopen()
        beside.workAll()
        trail.reopen()
        write(trail, "two")
        self.assertEqual(2, len(self.files()))
        self.assertEqual(["one", "two"], self.events())

    def test_locks(self) -> None:
        """
        Nobody else can write the new file, or the former while it is needed; the
        former is free when it is on the disk. No descriptor is left.
        """
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        trail = self.open("always")
        opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(5):
            write(trail, "e")
            self.rename()
            trail.reopen()
        self.assertEqual(opened, len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        trail.close()
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))  # noqa: PTH208
