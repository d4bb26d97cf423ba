"""
Tests for L{tcpsvc.audit.replay}.
"""

from __future__ import annotations

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.replay import (
    Moment,
    Plainly,
    asciicast,
    momentsOf,
    plain,
    play,
    timeOf,
)
from tests.trails import ALICE, MadeTrail


class MomentsTests(SynchronousTestCase):
    """
    Tests for L{momentsOf}.
    """

    def setUp(self) -> None:
        """
        Begin a session.
        """
        self.trail = MadeTrail()
        self.trail.open()

    def moments(
        self, speed: float = 1.0, maxWait: float | None = None
    ) -> list[tuple[float, bool, bytes]]:
        """
        What the session looked like.
        """
        records = (json.loads(line) for line in self.trail.lines)
        return [
            (moment.at, moment.typed, moment.octets)
            for moment in momentsOf(records, speed, maxWait)
        ]

    def test_session(self) -> None:
        """
        Requests are typed and replies are seen, each when it was recorded.
        """
        self.trail.exchange(1, "ECHO hi", "200 hi")
        self.trail.now += 10
        self.trail.exchange(2, "STATUS", "211-a: 1\r\n211 b: 2")
        self.trail.close()
        self.assertEqual(
            [
                (0.125, True, b"ECHO hi\r\n"),
                (0.25, False, b"200 hi\r\n"),
                (10.375, True, b"STATUS\r\n"),
                (10.5, False, b"211-a: 1\r\n211 b: 2\r\n"),
            ],
            self.moments(),
        )

    def test_speed(self) -> None:
        """
        Twice as fast, each pause is half as long; and the longest pause is
        bounded after that.
        """
        self.trail.exchange(1, "A", "200 a")
        self.trail.now += 10
        self.trail.exchange(2, "B", "200 b")
        ats = [at for at, _, _ in self.moments(2.0)]
        self.assertEqual([0.0625, 0.125, 5.1875, 5.25], ats)
        ats = [at for at, _, _ in self.moments(2.0, 1.0)]
        self.assertEqual([0.0625, 0.125, 1.125, 1.1875], ats)

    def test_clockSetBack(self) -> None:
        """
        A clock that was set back makes no pause, and none that is made up for.
        """
        self.trail.exchange(1, "A", "200 a")
        self.trail.now -= 3 * 86400
        self.trail.exchange(2, "B", "200 b")
        self.assertEqual(
            [0.125, 0.25, 0.25, 0.375], [at for at, _, _ in self.moments()]
        )

    def test_gateway(self) -> None:
        """
        What went through a gateway is seen as it was; of what is not recorded
        only the length.
        """
        for fields in (
            {"direction": "in", "data": "ls\n"},
            {"direction": "out", "data_b64": b64encode(b"\x1b[1m\xff").decode()},
            {"direction": "out", "octets": 12, "sha256": "ab" * 32},
        ):
            self.trail.add("gateway.data", session=ALICE, **fields)
        self.assertEqual(
            [(True, b"ls\n"), (False, b"\x1b[1m\xff"), (False, b"[12 octets]\r\n")],
            [moment[1:] for moment in self.moments()],
        )

    def test_secret(self) -> None:
        """
        A secret argument is not made up.
        """
        self.trail.add(
            "request", session=ALICE, n=1, request="LOGIN", argument_octets=8
        )
        self.assertEqual(b"LOGIN ...\r\n", self.moments()[0][2])

    def test_commandsAreSafe(self) -> None:
        """
        What requests and replies of commands have in them does not act upon a
        terminal.
        """
        self.trail.exchange(1, "\x1b[2J", "200 \x9b2J\ttab \\")
        typed, seen = self.moments()
        self.assertEqual(b"\\x1b[2J\r\n", typed[2])
        self.assertEqual(b"200 \\x9b2J\ttab \\\r\n", seen[2])

    def test_withoutTime(self) -> None:
        """
        A record without a time happens when the one before it did.
        """
        records: list[dict[str, object]] = [
            {"event": "request", "request": "A", "time": "2026-11-23T00:00:00.000000Z"},
            {"event": "reply", "reply": "B", "time": "soon"},
            {"event": "reply", "reply": "C"},
            {"event": "reply", "reply": "D", "time": "2026-11-23T00:00:02.000000Z"},
        ]
        self.assertEqual([0, 0, 0, 2], [moment.at for moment in momentsOf(records)])
        self.assertIsNone(timeOf({"time": 5}))


class PlayTests(SynchronousTestCase):
    """
    Tests for L{play}.
    """

    def test_timing(self) -> None:
        """
        Each moment is shown when it is time for it; what showing takes is no
        pause on top.
        """
        clock = Clock()
        shown: list[tuple[float, bytes]] = []

        def write(moment: Moment) -> None:
            shown.append((clock.seconds(), moment.octets))
            clock.advance(0.5)

        moments = [Moment(at, False, b"x") for at in (0.0, 1.0, 1.25, 4.0)]
        play(moments, write, clock.seconds, clock.advance)
        self.assertEqual([0.0, 1.0, 1.5, 4.0], [at for at, _ in shown])


class AsciicastTests(SynchronousTestCase):
    """
    Tests for L{asciicast}.
    """

    def test_format(self) -> None:
        """
        The first line is a header of version 2, and each other one an event.
        """
        moments = [Moment(0.5, True, b"A\r\n"), Moment(0.625, False, b"200 a\r\n")]
        began = timeOf({"time": "2026-11-23T00:00:00.500000Z"})
        header, *events = map(json.loads, asciicast(moments, began, "a title"))
        self.assertEqual(
            {
                "version": 2,
                "width": 80,
                "height": 24,
                "timestamp": 1795392000,
                "title": "a title",
            },
            header,
        )
        self.assertEqual([[0.5, "o", "A\r\n"], [0.625, "o", "200 a\r\n"]], events)

    def test_lines(self) -> None:
        """
        Each is one line of ASCII.
        """
        for line in asciicast([Moment(0, False, "é\n\u2028".encode())], None, "t\nü"):
            self.assertTrue(line.isascii())
            self.assertEqual(1, len(line.splitlines()))

    def test_notTyped(self) -> None:
        """
        What was typed is recorded as input if the device has echoed it.
        """
        moments = [Moment(0.5, True, b"l"), Moment(0.625, False, b"l")]
        _, *events = map(json.loads, asciicast(moments, None, "", typed=False))
        self.assertEqual(["i", "o"], [event[1] for event in events])

    def test_cutCharacter(self) -> None:
        """
        A character that comes in two pieces is one, and what is no UTF-8 is
        replaced.
        """
        octets = "é".encode()
        moments = [Moment(n, False, octets[n : n + 1]) for n in range(2)]
        moments.append(Moment(2, False, b"\xff"))
        _, *events = map(json.loads, asciicast(moments, None, ""))
        self.assertEqual([[1, "o", "é"], [2, "o", "\ufffd"]], events)


class PlainTests(SynchronousTestCase):
    """
    Tests for L{plain} and L{Plainly}.
    """

    @given(st.lists(st.binary()))
    def test_anything(self, chunks: list[bytes]) -> None:
        """
        Whatever comes, however it is cut, a terminal is left alone.
        """
        plainly = Plainly()
        text = "".join(map(plainly, chunks))
        for each in text:
            self.assertTrue(each.isprintable() or each in "\t\r\n")

    def test_kept(self) -> None:
        """
        Text with tabs and line ends stays as it is.
        """
        self.assertEqual("é\t\\\n", plain("é\t\\\n"))
        self.assertEqual("a\nb", Plainly()(b"a\r\nb"))
