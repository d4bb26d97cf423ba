"""
Tests for L{tcpsvc.flow}.
"""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tcpsvc.flow import MAX_WAITING_OCTETS, Flow, payload
from tcpsvc.interfaces import AuditUnavailable
from tests.gatewayside import FULL, DeviceSocket, History, PacedSocket


def carried(data: bytes, kind: str) -> dict[str, object]:
    """
    What a record has of a chunk, read back from its members.
    """
    members = payload(data, kind)
    assert members.isascii()
    fields = json.loads(f"{{{members}}}")
    assert isinstance(fields, dict)
    return fields


class PayloadTests(SynchronousTestCase):
    """
    What a record has of a chunk.
    """

    @given(st.binary(max_size=200))
    def test_full(self, data: bytes) -> None:
        """
        All octets come back: from C{data} if they are UTF-8, else from
        C{data_b64}.
        """
        fields = carried(data, "full")
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            self.assertEqual(["data_b64"], list(fields))
            self.assertEqual(data, b64decode(str(fields["data_b64"]), validate=True))
        else:
            self.assertEqual(["data"], list(fields))
            self.assertEqual(data, str(fields["data"]).encode())

    def test_kinds(self) -> None:
        """
        NUL is UTF-8; a lone octet of the upper half and an encoded surrogate are
        not.
        """
        self.assertEqual({"data": "a\0\xe9"}, carried(b"a\0\xc3\xa9", "full"))
        self.assertEqual({"data_b64": "/w=="}, carried(b"\xff", "full"))
        self.assertEqual({"data_b64": "7aCA"}, carried(b"\xed\xa0\x80", "full"))

    def test_digest(self) -> None:
        """
        A digest is the length and the SHA-256 in hex, and nothing of the octets.
        """
        self.assertEqual(
            {"octets": 3, "sha256": sha256(b"abc").hexdigest()},
            carried(b"abc", "digest"),
        )


class FlowTestCase(SynchronousTestCase):
    """
    A flow between two sockets, with a disk that the test controls.
    """

    def setUp(self) -> None:
        """
        Build it.
        """
        self.history: History = []
        self.late = False
        self.broken = ""
        self.commits: list[Deferred[None]] = []
        self.failures: list[Failure] = []
        self.done: list[str] = []
        self.source = DeviceSocket([])
        self.sink = DeviceSocket(self.history)
        self.flow = Flow(
            lambda data: self.history.append(("record", data)),
            self.commit,
            self.failures.append,
            self.source,
            self.sink,
        )
        self.flow.start()

    def commit(self) -> Deferred[None] | None:
        """
        As a trail does.
        """
        if self.broken:
            raise AuditUnavailable(self.broken)
        if not self.late:
            return None
        self.commits.append(Deferred())
        return self.commits[-1]

    def written(self) -> list[bytes]:
        """
        What has come out of the flow.
        """
        return [data for who, data in self.history if who == "device"]


class CarryTests(FlowTestCase):
    """
    First recorded, then passed on.
    """

    def test_interface(self) -> None:
        """
        A flow is a push producer, that of its sink.
        """
        verifyObject(IPushProducer, self.flow)
        self.assertIs(self.flow, self.sink.producer)

    def test_atOnce(self) -> None:
        """
        What is recorded at once goes on at once, and not before.
        """
        self.flow.carry(b"a")
        self.flow.carry(b"b")
        self.assertEqual(
            [("record", b"a"), ("device", b"a"), ("record", b"b"), ("device", b"b")],
            self.history,
        )
        self.assertEqual(2, self.flow.octets)

    def test_nothing(self) -> None:
        """
        No octets make no record.
        """
        self.flow.carry(b"")
        self.assertEqual([], self.history)

    def test_late(self) -> None:
        """
        What the disk has yet to take waits for it, and counts only then.
        """
        self.late = True
        self.flow.carry(b"a")
        self.flow.carry(b"bc")
        self.assertEqual([], self.written())
        self.assertEqual(0, self.flow.octets)
        self.commits[0].callback(None)
        self.assertEqual([b"a"], self.written())
        self.assertEqual(1, self.flow.octets)
        self.commits[1].callback(None)
        self.assertEqual([b"a", b"bc"], self.written())

    def test_outOfOrder(self) -> None:
        """
        A chunk that is recorded earlier than those before it waits for them, and
        none leaves for another's record.
        """
        self.late = True
        for data in (b"a", b"b", b"c"):
            self.flow.carry(data)
        self.commits[1].callback(None)
        self.assertEqual([], self.written())
        self.commits[0].callback(None)
        self.assertEqual([b"a", b"b"], self.written())
        self.commits[2].callback(None)
        self.assertEqual([b"a", b"b", b"c"], self.written())

    def test_recordedAtOnceBehindLate(self) -> None:
        """
        A chunk that is recorded at once does not overtake one that waits.
        """
        self.late = True
        self.flow.carry(b"a")
        self.late = False
        self.flow.carry(b"b")
        self.assertEqual([], self.written())
        self.commits[0].callback(None)
        self.assertEqual([b"a", b"b"], self.written())

    def test_cannotRecord(self) -> None:
        """
        A chunk that cannot be recorded goes nowhere, and that is told.
        """
        self.broken = "disk full"
        self.flow.carry(b"a")
        self.assertEqual([], self.written())
        self.assertEqual("disk full", str(self.failures[0].value))

    def test_cannotRecordLate(self) -> None:
        """
        When the disk does not take a chunk, neither it goes on nor those behind
        it, not even when they are recorded.
        """
        self.late = True
        for data in (b"a", b"b", b"c"):
            self.flow.carry(data)
        self.commits[0].callback(None)
        self.commits[1].errback(AuditUnavailable("disk full"))
        self.commits[2].callback(None)
        self.assertEqual([b"a"], self.written())
        self.assertEqual("disk full", str(self.failures[0].value))

    def test_afterFailure(self) -> None:
        """
        What comes after a failure goes on if it is recorded: the unrecorded chunk
        is not sent in its place.
        """
        self.late = True
        self.flow.carry(b"lost")
        self.commits[0].errback(AuditUnavailable("disk full"))
        self.flow.carry(b"last words")
        self.commits[1].callback(None)
        self.assertEqual([b"last words"], self.written())

    def test_stop(self) -> None:
        """
        A stopped flow records nothing and passes nothing on, even what waited.
        """
        self.late = True
        self.flow.carry(b"a")
        self.flow.stop()
        self.flow.carry(b"b")
        self.commits[0].callback(None)
        self.assertEqual([("record", b"a")], self.history)

    @given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.booleans())))
    def test_anyOrder(self, chunks: list[tuple[bytes, bool]]) -> None:
        """
        Whatever is recorded at once and whatever late: all octets come out in
        order.
        """
        self.setUp()
        for data, late in chunks:
            self.late = late
            self.flow.carry(data)
        for commit in reversed(self.commits):
            commit.callback(None)
        whole = b"".join(data for data, _ in chunks)
        self.assertEqual(whole, b"".join(self.written()))
        self.assertEqual(len(whole), self.flow.octets)


class PaceTests(FlowTestCase):
    """
    Bounded memory.
    """

    def test_full(self) -> None:
        """
        While the sink is full the source is not read.
        """
        self.flow.carry(b"x" * (FULL + 1))
        self.assertTrue(self.source.paused)
        self.sink.take()
        self.assertFalse(self.source.paused)

    def test_waiting(self) -> None:
        """
        While too much waits for the disk the source is not read.
        """
        self.late = True
        chunk = b"x" * (MAX_WAITING_OCTETS // 4)
        for _ in range(4):
            self.flow.carry(chunk)
            self.assertFalse(self.source.paused)
        self.flow.carry(b"x")
        self.assertTrue(self.source.paused)
        self.commits[0].callback(None)
        self.sink.take()
        self.assertFalse(self.source.paused)

    def test_fullAndWaiting(self) -> None:
        """
        The source is read again only when neither holds any more.
        """
        self.late = True
        self.flow.carry(b"x" * (MAX_WAITING_OCTETS + 1))
        self.flow.pauseProducing()
        self.commits[0].callback(None)
        self.assertTrue(self.source.paused)
        self.sink.take()
        self.assertFalse(self.source.paused)

    def test_sinkGone(self) -> None:
        """
        When the sink will take nothing any more the source is read on: its own
        end would not be noticed otherwise.
        """
        self.flow.pauseProducing()
        self.assertTrue(self.source.paused)
        self.flow.stopProducing()
        self.assertFalse(self.source.paused)

    def test_stopped(self) -> None:
        """
        A stopped flow leaves its source alone.
        """
        self.flow.stop()
        self.flow.pauseProducing()
        self.assertFalse(self.source.paused)


class WhenTests(FlowTestCase):
    """
    When all is done.
    """

    def test_atOnce(self) -> None:
        """
        If nothing waits, it is.
        """
        self.flow.whenPassedOn(lambda: self.done.append("passed on"))
        self.flow.whenTaken(lambda: self.done.append("taken"))
        self.assertEqual(["passed on", "taken"], self.done)

    def test_passedOn(self) -> None:
        """
        All is passed on when the last record is on the disk, be the sink full or
        not; and that is told once.
        """
        self.late = True
        self.flow.carry(b"a")
        self.flow.pauseProducing()
        self.flow.whenPassedOn(lambda: self.done.append("passed on"))
        self.assertEqual([], self.done)
        self.commits[0].callback(None)
        self.assertEqual(["passed on"], self.done)
        self.flow.resumeProducing()
        self.assertEqual(["passed on"], self.done)

    def test_taken(self) -> None:
        """
        All is taken when it is passed on and the sink is not full.
        """
        self.late = True
        self.flow.carry(b"x" * (FULL + 1))
        self.flow.whenTaken(lambda: self.done.append("taken"))
        self.commits[0].callback(None)
        self.assertEqual([], self.done)
        self.sink.take()
        self.assertEqual(["taken"], self.done)

    def test_takenByNobody(self) -> None:
        """
        A sink that is gone keeps nobody waiting.
        """
        self.flow.pauseProducing()
        self.flow.whenTaken(lambda: self.done.append("taken"))
        self.flow.stopProducing()
        self.assertEqual(["taken"], self.done)

    def test_lastCounts(self) -> None:
        """
        Of two things to do the later one counts.
        """
        self.late = True
        self.flow.carry(b"a")
        self.flow.whenTaken(lambda: self.done.append("first"))
        self.flow.whenPassedOn(lambda: self.done.append("second"))
        self.commits[0].callback(None)
        self.assertEqual(["second"], self.done)

    def test_stopped(self) -> None:
        """
        A stopped flow tells nothing any more.
        """
        self.late = True
        self.flow.carry(b"a")
        self.flow.whenPassedOn(lambda: self.done.append("passed on"))
        self.flow.stop()
        self.commits[0].callback(None)
        self.assertEqual([], self.done)


class BothWaysTests(SynchronousTestCase):
    """
    Two flows between two sockets, both flooded.
    """

    def test_flood(self) -> None:
        """
        However much both sides want to say, no more waits anywhere than a
        buffer and a chunk, and nothing is lost.
        """
        ends = PacedSocket(DeviceSocket([]).address), DeviceSocket([])
        chunk = bytes(range(256)) * 256
        flows: list[Flow] = [
            Flow(lambda data: None, lambda: None, self.fail, *pair)
            for pair in (ends, ends[::-1])
        ]
        sent, got = [0, 0], [bytearray(), bytearray()]
        for flow in flows:
            flow.start()
        for _ in range(40):
            for number, flow in enumerate(flows):
                source: Any = ends[number]
                while not source.paused and sent[number] < 2_000_000:
                    flow.carry(chunk)
                    sent[number] += len(chunk)
                self.assertLessEqual(len(ends[1 - number].outgoing), FULL + len(chunk))
            for number in (0, 1):
                got[number] += ends[1 - number].take()
        for number in (0, 1):
            self.assertGreaterEqual(sent[number], 2_000_000)
            self.assertEqual(chunk * (sent[number] // len(chunk)), got[number])
