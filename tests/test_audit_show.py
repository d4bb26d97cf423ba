"""
Tests for L{tcpsvc.audit.show}.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit import show
from tcpsvc.audit.show import (
    Selection,
    Sessions,
    Teller,
    duration,
    escaped,
    escapedOctets,
    momentOf,
    payloadOf,
)
from tests.support import EPOCH
from tests.trails import ALICE, BOB, MadeTrail, conversation


def told(trail: MadeTrail, mark: str = "") -> list[str]:
    """
    The lines that tell a trail, each text with its look before it if there is a
    mark to set it apart.
    """
    sessions = Sessions()
    teller = Teller(
        sessions, lambda text, look: f"{look}{mark}{text}" if mark else text
    )
    lines: list[str] = []
    for line in trail.lines:
        fields = json.loads(line)
        sessions.follow(fields)
        lines += teller.tell(fields)
        sessions.leave(fields)
    return lines


ADDRESS = "192.0.2.1:49152"
DAY = "2027-01-15T08:00"
STARTED = "tcpsvc 0.1.0 started: commands, audit trail synced: everysec"
QUIT = "quit (1 request, 500 ms, 9 octets in, 8 octets out)"

_NAMES = (
    *("time", "session", "n", "request", "request_b64", "reply", "reply_b64"),
    *("data", "data_b64", "code", "duration_us", "address", "identity", "reason"),
    *("holder", "certificate", "count", "tls", "listeners", "version"),
    *("requests", "bytes_in", "duration_s", "direction", "octets", "sha256", "signal"),
)


class TellerTests(SynchronousTestCase):
    """
    Tests for L{Teller}.
    """

    def setUp(self) -> None:
        """
        Begin a trail.
        """
        self.trail = MadeTrail()

    def test_conversation(self) -> None:
        """
        A session is a conversation between its beginning and its end, with
        whatever else happened in its place.
        """
        self.assertEqual(
            [
                "2027-01-15",
                f"08:00:00.000  {STARTED}",
                "              0.0.0.0:4433, mutual TLS 1.3 or later",
                "",
                f"08:00:00.125  alice from 192.0.2.1:49152 (TLSv1.3), session {ALICE}",
                "08:00:00.250  > ECHO hello",
                "08:00:00.375  turned away: bob from 192.0.2.2:5: busy, held by alice",
                "              < 200 hello  (3.4 ms)",
                f"08:00:00.625  alice, session aaaaaaaa ended: {QUIT}",
                "08:00:00.875  tcpsvc 0.1.0 stopped",
            ],
            told(conversation()),
        )

    def test_looks(self) -> None:
        """
        Each part of a line has a look of its own.
        """
        lines = told(conversation(), mark="|")
        self.assertEqual("head|2027-01-15", lines[0])
        self.assertEqual("time|08:00:00.250  asked|> ECHO hello", lines[5])
        self.assertTrue(lines[6].startswith("time|08:00:00.375  warning|turned away"))
        self.assertTrue(lines[7].endswith("|< 200 helloaside|  (3.4 ms)"))

    def test_error(self) -> None:
        """
        A reply that is an error looks like one.
        """
        self.trail.exchange(1, "DANCE", "500 UNKNOWN-COMMAND DANCE", code=500)
        self.assertIn(
            "error|< 500 UNKNOWN-COMMAND DANCE", told(self.trail, mark="|")[-1]
        )

    def test_severalLines(self) -> None:
        """
        A reply of several lines is shown as such, its duration at the end.
        """
        self.trail.exchange(1, "STATUS", "211-a: 1\r\n211 b: 2", code=211)
        self.assertEqual(
            ["              < 211-a: 1", "              < 211 b: 2  (34 us)"],
            told(self.trail)[-2:],
        )

    def test_interleaved(self) -> None:
        """
        When another session goes on than before, it is said whose it is.
        """
        self.trail.open()
        self.trail.open(BOB, "bob", control=True)
        self.trail.exchange(1, "NOOP", "200 ok")
        self.trail.exchange(2, "NOOP", "200 ok")
        self.trail.exchange(1, "WHO", "200 alice", session=BOB)
        heads = [line[14:] for line in told(self.trail) if "session" in line]
        self.assertEqual(
            [
                f"alice from 192.0.2.1:49152 (TLSv1.3), session {ALICE}",
                f"bob from 192.0.2.1:49152 (TLSv1.3, control), session {BOB}",
                f"alice from {ADDRESS}, session {ALICE}, since {DAY}:00.000000Z",
                f"bob from {ADDRESS}, session {BOB}, since {DAY}:00.125000Z",
            ],
            heads,
        )

    def test_unknownBeginning(self) -> None:
        """
        Of a session whose beginning was not read, the name is not known.
        """
        self.trail.exchange(1, "NOOP", "200 ok")
        self.trail.close()
        lines = told(self.trail)
        self.assertEqual(f"08:00:00.000  session {ALICE}", lines[1])
        self.assertIn("  session aaaaaaaa ended: quit", lines[-1])

    def test_plaintext(self) -> None:
        """
        It is said if a session had no TLS.
        """
        self.trail.add(
            "session.opened",
            session=ALICE,
            address="127.0.0.1:5",
            identity={"name": "anonymous"},
            tls=None,
        )
        self.assertIn("anonymous from 127.0.0.1:5 (plaintext)", told(self.trail)[-1])

    def test_handshake(self) -> None:
        """
        A failed handshake is one line, with what the certificate said, and with
        how many there were.
        """
        self.trail.add(
            "handshake.failed",
            address="192.0.2.7:9",
            reason="late",
            certificate={"subject": "CN=eve"},
            count=99,
        )
        self.trail.add(
            "handshake.failed", address="192.0.2.7:9", reason="none shown", count=1
        )
        self.trail.add(
            "handshake.failed", address="192.0.2.7:9", reason="r", detail="d\x07"
        )
        self.assertEqual(
            [
                (
                    "handshake failed: 192.0.2.7:9 (CN=eve): late "
                    "(the last of 99 within a second)"
                ),
                "handshake failed: 192.0.2.7:9: none shown",
                "handshake failed: 192.0.2.7:9: r (d\\x07)",
            ],
            [line[14:] for line in told(self.trail)[1:]],
        )

    def test_crash(self) -> None:
        """
        A start without a stop before it is said to follow a crash.
        """
        self.trail.start()
        self.trail.start()
        self.trail.stop()
        self.trail.start()
        crashes = [n for n, line in enumerate(told(self.trail)) if "crashed" in line]
        self.assertEqual([3], crashes)

    def test_days(self) -> None:
        """
        Each day begins with its date.
        """
        self.trail.start()
        self.trail.now += 86400
        self.trail.stop()
        dates = [line for line in told(self.trail) if line.startswith("2027")]
        self.assertEqual(["2027-01-15", "2027-01-16"], dates)

    def test_secret(self) -> None:
        """
        Of what is secret the length is shown.
        """
        self.trail.add(
            "request", session=ALICE, n=1, request="LOGIN", argument_octets=8
        )
        self.trail.add(
            "reply",
            session=ALICE,
            n=1,
            reply="200",
            reply_octets=12,
            code=200,
            duration_us=9,
        )
        self.assertEqual(
            [
                "> LOGIN  (an argument of 8 octets, which is secret)",
                "< 200  (12 octets, which are secret, 9 us)",
            ],
            [line[14:] for line in told(self.trail)[-2:]],
        )

    def test_tooLong(self) -> None:
        """
        Of a request that was too long it is shown how long it was.
        """
        self.trail.add("request", session=ALICE, n=1, request="A", octets=5000)
        self.assertTrue(told(self.trail)[-1].endswith("> A  (5000 octets in all)"))

    def test_notUTF8(self) -> None:
        """
        What is not UTF-8 is shown with escapes.
        """
        packed = b64encode(b"caf\xe9 \x1b[2J \\ ok").decode()
        self.trail.add("request", session=ALICE, n=1, request_b64=packed)
        self.trail.add(
            "reply", session=ALICE, n=1, reply_b64=packed, code=200, duration_us=9
        )
        shown = "caf\\xe9 \\x1b[2J \\\\ ok"
        self.assertEqual(
            [f"> {shown}", f"< {shown}  (9 us)"],
            [line[14:] for line in told(self.trail)[-2:]],
        )

    def test_gateway(self) -> None:
        """
        What went through a gateway is shown with its direction, line by line.
        """
        for fields in (
            {"direction": "in", "data": "*IDN?\r\n"},
            {"direction": "out", "data": "ACME\r\nmodel 7\n"},
            {"direction": "out", "data_b64": b64encode(b"\x00\xff").decode()},
            {"direction": "out", "octets": 512, "sha256": "ab" * 32},
            {"direction": "in", "data": ""},
        ):
            self.trail.add("gateway.data", session=ALICE, **fields)
        self.assertEqual(
            [
                "> *IDN?",
                "< ACME",
                "< model 7",
                "< \\x00\\xff",
                f"< 512 octets, SHA-256 {'ab' * 32}",
                "> ",
            ],
            [line[14:] for line in told(self.trail)[2:]],
        )

    def endOf(self, **more: object) -> str:
        """
        What is told of the end of alice's session without requests.
        """
        self.trail.add(
            "session.closed",
            session=ALICE,
            reason="client-closed",
            requests=0,
            bytes_in=1,
            bytes_out=8,
            duration_s=0.5,
            **more,
        )
        return told(self.trail)[-1].partition("(")[2]

    def test_gatewayEnd(self) -> None:
        """
        At the end of a gateway's session no requests are counted, even if its
        service's start was not read; and it is said how a program has ended.
        """
        account = "500 ms, 1 octet in, 8 octets out"
        self.trail.start(backend="exec:cat")
        self.trail.open()
        self.assertEqual(f"{account})", self.endOf())
        self.trail = MadeTrail()
        self.trail.open()
        self.trail.add("gateway.data", session=ALICE, direction="in", data="x")
        self.assertEqual(f"{account})", self.endOf())
        self.trail = MadeTrail()
        self.assertEqual(f"{account}, exit status 1)", self.endOf(exit_status=1))
        self.assertEqual(f"{account}, signal 9, SIGKILL)", self.endOf(signal=9))

    def test_cutOff(self) -> None:
        """
        Of a session that a crash has cut off only that is said, and the requests
        that are in the trail.
        """
        for backend, requests, account in (
            ("exec:cat", 0, "ended: crash"),
            ("commands", 2, "ended: crash (2 requests)"),
        ):
            self.trail = MadeTrail()
            self.trail.start(backend=backend)
            self.trail.open()
            self.trail.start(backend=backend)
            self.trail.add(
                "session.closed",
                session=ALICE,
                reason="crash",
                requests=requests,
                bytes_in=None,
                bytes_out=None,
                duration_s=None,
            )
            said = told(self.trail)[-1]
            self.assertTrue(said.endswith(account), said)

    def test_noRequests(self) -> None:
        """
        Where there might have been requests, it is said that there were none: with
        the commands, and on a control connection to a gateway.
        """
        self.trail.start()
        self.trail.open()
        self.assertEqual("0 requests", self.endOf().partition(",")[0])
        self.trail.start(backend="exec:cat")
        self.trail.open(control=True)
        self.assertEqual("0 requests", self.endOf().partition(",")[0])

    def test_unknownEvent(self) -> None:
        """
        An event of a later version is shown with its fields.
        """
        self.trail.add("resource.moved", to="bench\n8", n=3)
        self.assertEqual(
            "08:00:00.000  resource.moved to=bench\\n8 n=3", told(self.trail)[-1]
        )

    @given(
        st.sampled_from([*show._TOLD, "checkpoint", "other"]),
        st.dictionaries(
            st.sampled_from(_NAMES),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(st.characters())
            | st.dictionaries(st.sampled_from(["name", "subject"]), st.text()),
        ),
    )
    def test_anything(self, event: str, fields: dict[str, Any]) -> None:
        """
        Whatever a record says, it is shown, and nothing in it acts upon a
        terminal.
        """
        sessions = Sessions()
        teller = Teller(sessions, lambda text, look: text)
        record = {"event": event, **fields}
        sessions.follow(record)
        for line in teller.tell(record):
            self.assertTrue(line.isprintable(), repr(line))


class SessionsTests(SynchronousTestCase):
    """
    Tests for L{Sessions}.
    """

    def test_bounded(self) -> None:
        """
        However many sessions never end, only some are kept, the latest.
        """
        sessions = Sessions()
        for number in range(show.MAX_SESSIONS + 10):
            sessions.follow(
                {"event": "session.opened", "session": str(number), "time": "then"}
            )
        self.assertEqual("", sessions.find("9").opened)
        self.assertEqual("then", sessions.find("10").opened)


class SelectionTests(SynchronousTestCase):
    """
    Tests for L{Selection}.
    """

    def setUp(self) -> None:
        """
        Make a trail of two sessions.
        """
        self.trail = MadeTrail()
        self.trail.start()
        self.trail.open()
        self.trail.open(BOB, "bob")
        self.trail.exchange(1, "ONE", "200 one")
        self.trail.exchange(1, "TWO", "200 two", session=BOB)
        for name, certificate in (("bob", None), ("", {"subject": "O=x,CN=bob"})):
            fields = (
                {"identity": {"name": name}} if name else {"certificate": certificate}
            )
            self.trail.add("handshake.failed", address="a", reason="r", **fields)
        self.trail.close()
        self.trail.close(BOB)
        self.trail.sign()

    def selected(self, **options: str) -> list[int]:
        """
        The numbers of the selected records.
        """
        selection, sessions, found = Selection(**options), Sessions(), []
        for line in self.trail.lines:
            fields = json.loads(line)
            sessions.follow(fields)
            if selection.takes(fields, sessions):
                found.append(fields["seq"])
            sessions.leave(fields)
        return found

    def test_all(self) -> None:
        """
        Without any wish, all records are selected.
        """
        self.assertEqual(list(range(1, 13)), self.selected())

    def test_session(self) -> None:
        """
        All records of a session are selected, and by a prefix of its
        identifier too.
        """
        self.assertEqual([2, 4, 5, 10], self.selected(session=ALICE))
        self.assertEqual([2, 4, 5, 10], self.selected(session="aaa"))
        self.assertEqual([], self.selected(session="c"))

    def test_identity(self) -> None:
        """
        All records of somebody are selected: of sessions, of refusals, and of
        handshakes that failed with a certificate of that name.
        """
        self.assertEqual([2, 4, 5, 10], self.selected(identity="alice"))
        self.assertEqual([3, 6, 7, 8, 9, 11], self.selected(identity="bob"))
        self.assertEqual([], self.selected(identity="bo"))

    def test_since(self) -> None:
        """
        Only what is not older is selected; whose it is, is known from before.
        """
        since = "2027-01-15T08:00:00.500000Z"
        self.assertEqual(list(range(5, 13)), self.selected(since=since))
        self.assertEqual([5, 10], self.selected(since=since, identity="alice"))

    def test_escapedName(self) -> None:
        """
        A common name that has a comma in it is one name.
        """
        self.trail = MadeTrail()
        self.trail.add("handshake.failed", certificate={"subject": "CN=a\\,b,O=x"})
        self.assertEqual([1], self.selected(identity="a,b"))
        self.assertEqual([], self.selected(identity="x"))


class MomentTests(SynchronousTestCase):
    """
    Tests for L{momentOf}.
    """

    def test_moments(self) -> None:
        """
        Dates and times are in UTC unless they say otherwise; durations are
        counted back from now.
        """
        for text, moment in (
            ("2026-11-23", "2026-11-23T00:00:00.000000Z"),
            ("2026-11-23T01:02", "2026-11-23T01:02:00.000000Z"),
            ("2026-11-23 01:02:03", "2026-11-23T01:02:03.000000Z"),
            ("2026-11-23T01:02:03Z", "2026-11-23T01:02:03.000000Z"),
            ("2026-11-23T01:02:03.456789Z", "2026-11-23T01:02:03.456789Z"),
            ("2026-11-23T01:02:03+02:00", "2026-11-22T23:02:03.000000Z"),
            ("90s", "2027-01-15T07:58:30.000000Z"),
            ("15m", "2027-01-15T07:45:00.000000Z"),
            ("2h", "2027-01-15T06:00:00.000000Z"),
            ("3d", "2027-01-12T08:00:00.000000Z"),
            ("1w", "2027-01-08T08:00:00.000000Z"),
            ("99999999w", "1970-01-01T00:00:00.000000Z"),
        ):
            self.assertEqual(moment, momentOf(text, EPOCH), text)

    def test_wrong(self) -> None:
        """
        Anything else is refused.
        """
        for text in (
            "",
            "soon",
            "3",
            "3y",
            "-3d",
            "2026-13-01",
            "0001-01-01T00:00+02:00",
        ):
            self.assertRaises(ValueError, momentOf, text, EPOCH)


class TextTests(SynchronousTestCase):
    """
    Texts for people.
    """

    def test_escaped(self) -> None:
        """
        What is printable stays; all else, and the backslash, is escaped.
        """
        for text, shown in (
            ("Zo\u00eb \U0001f50c", "Zo\u00eb \U0001f50c"),
            ("\x1b[31m\r\n\x00\x9b", "\\x1b[31m\\r\\n\\x00\\x9b"),
            ("a\\nb", "a\\\\nb"),
            ("\u202egnp.exe", "\\u202egnp.exe"),
            ("\ud800", "\\ud800"),
        ):
            self.assertEqual(shown, escaped(text))

    @given(st.binary())
    def test_escapedOctets(self, octets: bytes) -> None:
        """
        Any octets come out printable, and no two the same.
        """
        shown = escapedOctets(octets)
        self.assertTrue(shown.isprintable())
        self.assertNotEqual(shown, escapedOctets(octets + b"\x00"))

    def test_duration(self) -> None:
        """
        Durations are said in the unit that suits them.
        """
        for seconds, text in (
            (0, "0 us"),
            (0.000034, "34 us"),
            (0.0034, "3.4 ms"),
            (0.5, "500 ms"),
            (12.345, "12.3 s"),
            (75, "1 min 15 s"),
            (3600 * 5 + 61, "5 h 1 min"),
        ):
            self.assertEqual(text, duration(seconds))

    def test_payload(self) -> None:
        """
        What a record has of a payload comes back as octets, if it has it.
        """
        self.assertEqual(b"\xc3\xa9", payloadOf({"data": "\xe9"}, "data"))
        self.assertEqual(b"\xff", payloadOf({"data_b64": "/w=="}, "data"))
        for fields in ({}, {"data_b64": "?"}, {"data_b64": "\xe9"}, {"data": 1}):
            self.assertIsNone(payloadOf(dict[str, object](fields), "data"))
