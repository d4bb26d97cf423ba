"""
Tests for L{tcpsvc.audit.recovery}.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit import recovery
from tcpsvc.audit.chain import Chain, body
from tcpsvc.audit.checkpoint import RECORDS_BETWEEN, Signer
from tcpsvc.audit.file import TrailError, TrailFile, TrailInUse
from tcpsvc.audit.recovery import Ending, recover
from tests.support import EPOCH, auditKey, clockAtEpoch, openedTrail, verifiedRecords

TORN = "torn-20270115T080000.000000Z"
"""
How the name of a torn line ends at L{EPOCH}.
"""


class RecoveryTestCase(SynchronousTestCase):
    """
    A trail in a directory of its own.
    """

    def setUp(self) -> None:
        """
        Make the directory; nothing in it has to survive the machine.
        """
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "audit.jsonl"
        self.torn = self.directory / f"audit.jsonl.{TORN}"
        for name in ("fsync", "fdatasync"):
            self.patch(os, name, lambda descriptor: None)

    def crashed(self, fill: Callable[[Any], None]) -> bytes:
        """
        Let a trail be filled, and what writes it be killed.

        @param fill: Is given the trail.
        @return: What is in the file then.
        """
        trail = openedTrail(self.path)
        fill(trail)
        trail.write()
        contents = self.path.read_bytes()
        trail.close()
        self.path.write_bytes(contents)
        return contents

    def recovered(self, path: Path | None = None) -> Ending:
        """
        Open the file, bring its end in order, and close it.
        """
        file = TrailFile(path or self.path)
        try:
            return recover(file, EPOCH, auditKey().public_key())
        finally:
            file.close()

    def assertGoesOn(self, *former: Path) -> None:
        """
        A trail that is opened now continues the chain of what is there.
        """
        trail = openedTrail(self.path)
        trail.append(EPOCH, "after", {})
        trail.close()
        self.assertEqual(
            ["after", "checkpoint"],
            [record["event"] for record in verifiedRecords(*former, self.path)[-2:]],
        )


def request(session: str, n: int) -> str:
    """
    A record of a request, without its link.
    """
    fields: dict[str, object] = {"session": session, "n": n, "request": "X"}
    return body(EPOCH, "request", fields)


def session(
    name: str, requests: int = 0, closed: bool = False
) -> Callable[[Any], None]:
    """
    Fills a trail with a session.
    """

    def fill(trail: Any) -> None:
        trail.append(EPOCH, "session.opened", {"session": name})
        for n in range(1, requests + 1):
            trail.extend(name, n, [request(name, n)])
        if closed:
            trail.append(EPOCH, "session.closed", {"session": name})

    return fill


class TornTests(RecoveryTestCase):
    """
    A trail that ends in the middle of a line.
    """

    def setUp(self) -> None:
        """
        A trail of some records, among them two checkpoints.
        """
        super().setUp()

        def fill(trail: Any) -> None:
            session("a", 2, closed=True)(trail)
            session("b", 3)(trail)

        self.contents = self.crashed(fill)
        self.lines = self.contents.splitlines(keepends=True)

    def test_whole(self) -> None:
        """
        A trail that ends with a record is left as it is.
        """
        ending = self.recovered()
        self.assertIsNone(ending.torn)
        self.assertEqual(self.contents, self.path.read_bytes())
        self.assertEqual([self.path], [*self.directory.iterdir()])
        self.assertEqual({"b": 3}, ending.left)
        self.assertEqual(4, ending.unsigned)

    def test_everyOctet(self) -> None:
        """
        Cut off behind whatever octet: what is left is all whole lines before, the
        octets behind them are kept in a file of their own that nobody else can
        read, and the chain goes on unbroken.
        """
        for size in range(len(self.contents)):
            self.torn.unlink(missing_ok=True)
            cut = self.contents[:size]
            self.path.write_bytes(cut)
            ending = self.recovered()
            whole = cut.rfind(b"\n") + 1
            self.assertEqual(cut[:whole], self.path.read_bytes())
            self.assertEqual(cut.count(b"\n"), ending.chain.records)
            if whole == size:
                self.assertIsNone(ending.torn)
                self.assertFalse(self.torn.exists())
            else:
                self.assertEqual(self.torn, ending.torn)
                self.assertEqual(cut[whole:], self.torn.read_bytes())
                self.assertEqual(0o600, self.torn.stat().st_mode & 0o777)
            if size % 29 == 0:
                self.assertGoesOn()

    def test_left(self) -> None:
        """
        Cut off behind whatever line: the sessions left open are those that have
        begun and not ended before, with the requests that are there.
        """
        expected: dict[str, int] = {}
        for number, line in enumerate(self.lines):
            self.path.write_bytes(b"".join(self.lines[:number]))
            self.assertEqual(expected, self.recovered().left, number)
            record = json.loads(line)
            if record["event"] == "session.opened":
                expected[record["session"]] = 0
            elif record["event"] == "request":
                expected[record["session"]] = record["n"]
            elif record["event"] == "session.closed":
                del expected[record["session"]]

    def test_large(self) -> None:
        """
        A torn line may be as long as it likes.
        """
        torn = b'{"seq":8,' + b"x" * 300_000
        self.path.write_bytes(self.contents + torn)
        self.assertEqual(self.torn, self.recovered().torn)
        self.assertEqual(torn, self.torn.read_bytes())
        self.assertEqual(self.contents, self.path.read_bytes())

    def test_zeros(self) -> None:
        """
        A power cut may leave zeros from some point on to the end of the file, in
        the middle of a record or behind it, within a block of the disk or over
        many: all from the line on in which they begin is torn.
        """
        for number in range(1, len(self.lines)):
            before = b"".join(self.lines[:number])
            line = self.lines[number]
            for zeros in (1, 40, len(line), 70_000):
                for text in (line[:-zeros], line[:-1], b""):
                    self.torn.unlink(missing_ok=True)
                    hollow = text + b"\0" * zeros
                    self.path.write_bytes(before + hollow)
                    self.recovered()
                    self.assertEqual(before, self.path.read_bytes())
                    self.assertEqual(hollow, self.torn.read_bytes())

    def test_onlyZeros(self) -> None:
        """
        So it is if nothing else is left.
        """
        self.path.write_bytes(b"\0" * 70_000)
        self.assertEqual(0, self.recovered().chain.records)
        self.assertEqual(b"", self.path.read_bytes())
        self.assertEqual(70_000, self.torn.stat().st_size)

    def test_cannotBeKept(self) -> None:
        """
        If the torn line cannot be kept, the start is refused and nothing is lost;
        no half of a copy is left.
        """
        cut = self.contents[:-9]
        self.path.write_bytes(cut)

        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", fail)
        error = self.assertRaises(TrailError, self.recovered)
        self.assertIn("No space left on device", str(error))
        self.assertIn(str(self.torn), str(error))
        self.assertEqual(cut, self.path.read_bytes())
        self.assertFalse(self.torn.exists())

    def test_neverOverwritten(self) -> None:
        """
        What was torn before is not overwritten.
        """
        self.torn.write_bytes(b"kept")
        self.path.write_bytes(self.contents[:-9])
        self.assertRaises(TrailError, self.recovered)
        self.assertEqual(b"kept", self.torn.read_bytes())
        self.assertEqual(self.contents[:-9], self.path.read_bytes())

    def test_order(self) -> None:
        """
        The copy is on the disk, name and all, before the file is cut.
        """
        calls: list[str] = []
        truncate = os.ftruncate

        def cut(descriptor: int, size: int) -> None:
            calls.append("cut")
            truncate(descriptor, size)

        self.patch(os, "ftruncate", cut)
        self.patch(os, "fsync", lambda descriptor: calls.append("force"))
        self.path.write_bytes(self.contents[:-9])
        self.recovered()
        self.assertEqual(["force", "force", "cut"], calls)


class DamageTests(RecoveryTestCase):
    """
    Damage further up.
    """

    def assertRefused(self, line: int, contents: bytes) -> None:
        """
        The start is refused with this line's number, and nothing is changed.
        """
        self.path.write_bytes(contents)
        error = self.assertRaises(TrailError, self.recovered)
        self.assertIn(f"{self.path}: line {line} is damaged: ", str(error))
        self.assertEqual(1, len(str(error).splitlines()))
        self.assertEqual(contents, self.path.read_bytes())
        self.assertEqual([self.path], [*self.directory.iterdir()])

    def test_everyOctet(self) -> None:
        """
        Whatever octet is changed between the last checkpoint and the last line,
        the start is refused with the right line's number: that of the line or,
        if it is still a record, of the one behind it.
        """

        def fill(trail: Any) -> None:
            session("a", 1, closed=True)(trail)
            session("b", 2)(trail)

        contents = self.crashed(fill)
        lines = contents.splitlines(keepends=True)
        first = len(b"".join(lines[:3]))
        number = 4
        self.assertIn(b'"event":"checkpoint"', lines[3])
        for place in range(first, len(contents) - len(lines[-1])):
            changed = bytearray(contents)
            changed[place] ^= 4
            where = number
            number += contents[place] == ord("\n")
            self.path.write_bytes(changed)
            error = self.assertRaises(TrailError, self.recovered)
            message = str(error)
            self.assertIn("is damaged", message)
            told = int(message.split(": line ")[1].split()[0])
            self.assertIn(told, (where, where + 1), message)
            self.assertEqual(bytes(changed), self.path.read_bytes())

    def test_lines(self) -> None:
        """
        A line that is missing, doubled or put elsewhere is found.
        """
        contents = self.crashed(session("a", 5))
        lines = contents.splitlines(keepends=True)
        self.assertRefused(3, b"".join(lines[:2] + lines[3:]))
        self.assertRefused(4, b"".join([*lines[:3], lines[2], *lines[3:]]))
        self.assertRefused(3, b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
        self.assertRefused(3, b"".join([*lines[:2], b"\n", *lines[2:]]))

    def test_notATrail(self) -> None:
        """
        A file of another kind is refused, and not one octet of it is moved, even
        if its last line has no end.
        """
        for contents in (b"rubbish\n", b"rubbish\nmore", b'{"seq":1}\n', b"\n"):
            self.assertRefused(1, contents)

    def test_noLines(self) -> None:
        """
        A large file without a single line is refused before long.
        """
        self.patch(recovery, "MAX_TAIL_OCTETS", 200_000)
        self.path.write_bytes(b"x" * 400_000)
        error = self.assertRaises(TrailError, self.recovered)
        self.assertIn("it has no lines", str(error))

    def test_noCheckpoint(self) -> None:
        """
        So is one that has no checkpoint far and wide.
        """
        self.patch(recovery, "MAX_TAIL_OCTETS", 200_000)
        self.path.write_bytes((b"x" * 999 + b"\n") * 400)
        error = self.assertRaises(TrailError, self.recovered)
        self.assertIn("no checkpoint in the last 200000 octets", str(error))

    def test_tornToo(self) -> None:
        """
        A torn line behind damage is not moved: nothing is changed.
        """
        contents = self.crashed(session("a", 3))
        lines = contents.splitlines(keepends=True)
        self.assertRefused(2, lines[0] + b"x" + b"".join(lines[1:]) + b'{"seq"')

    def test_nulByte(self) -> None:
        """
        A NUL byte in place of any other is damage, not a power cut, if anything
        but NUL bytes comes after it: no record behind it is moved, and no number
        is used twice. That goes for a line's end too, and for a line that is torn.
        """
        contents = self.crashed(session("a", 3))
        lines = contents.splitlines(keepends=True)
        for zeros in (1, 40, len(lines[1])):
            where, place = 0, len(contents) - zeros
            for number, line in enumerate(lines[:-1], 1):
                for place in (where, where + len(line) // 2, where + len(line) - 1):
                    changed = contents[:place] + bytes(zeros)
                    changed += contents[len(changed) :]
                    self.assertRefused(number, changed)
                where += len(line)
        torn = b'{"seq":5,"time"'
        far = torn + bytes(70_000) + b"x"
        for tail in (torn + b"\0" + torn, bytes(9) + torn, far):
            self.assertRefused(5, contents + tail)
        self.assertRefused(1, b"\0" + torn)

    def test_formerUnchanged(self) -> None:
        """
        If the new file is damaged, the former is not changed either.
        """
        former = self.crashed(session("a", 2)) + b'{"seq":'
        self.path.write_bytes(former[:-7])
        self.path.rename(self.directory / "audit.jsonl.1")
        lines = self.crashed(session("b", 3)).splitlines(keepends=True)
        path = self.directory / "audit.jsonl.1"
        path.write_bytes(former)
        for contents in (
            b"".join([lines[0], b"x", *lines[1:]]),
            b"".join(lines) + b"\0x",
            b"\0x",
        ):
            self.path.write_bytes(contents)
            self.assertRaises(TrailError, self.recovered)
            self.assertEqual(former, path.read_bytes())
            self.assertEqual({path, self.path}, {*self.directory.iterdir()})

    def test_signature(self) -> None:
        """
        A last checkpoint that our own key has not signed, or signed for another
        place, is damage.
        """
        contents = self.crashed(session("a", 1, closed=True))
        lines = contents.splitlines(keepends=True)
        last = json.loads(lines[-1])
        for changes in (
            {"signature": "A" * 86 + "=="},
            {"count": 2},
            {"head": "ab" * 32},
            Signer.of(auditKey()).sign(2, "ab" * 32, {}),
        ):
            line = json.dumps({**last, **changes}, separators=(",", ":")).encode()
            self.assertRefused(4, b"".join(lines[:3]) + line + b"\n")

    def test_otherKey(self) -> None:
        """
        A checkpoint of a former key is gone on from: it can be verified by whoever
        has that key's public half.
        """
        contents = self.crashed(session("a", 1, closed=True))
        file = TrailFile(self.path)
        self.addCleanup(file.close)
        other = Ed25519PrivateKey.generate().public_key()
        self.assertEqual(4, recover(file, EPOCH, other).chain.records)
        self.assertEqual(contents, self.path.read_bytes())


class CostTests(RecoveryTestCase):
    """
    What a start costs.
    """

    def test_constant(self) -> None:
        """
        It reads as little of a long trail as of a short one.
        """
        costs = []
        pread = os.pread
        for records in (3 * RECORDS_BETWEEN, 30 * RECORDS_BETWEEN):
            self.path.unlink(missing_ok=True)
            trail = openedTrail(self.path)
            for _ in range(records):
                trail.extend("s", 1, [request("s", 1)])
            trail.close()
            octets: list[int] = []

            def counted(
                descriptor: int, size: int, at: int, octets: list[int] = octets
            ) -> bytes:
                read = pread(descriptor, size, at)
                octets.append(len(read))
                return read

            patch = self.patch(os, "pread", counted)
            self.recovered()
            patch.restore()
            costs.append(sum(octets))
        self.assertEqual(costs[0], costs[1])
        self.assertLess(costs[0], 300_000)

    def test_largeRecords(self) -> None:
        """
        Large records have checkpoints between them sooner, so that there is one
        within reach, however few they are.
        """
        self.patch(recovery, "MAX_TAIL_OCTETS", 24 * 1024 * 1024)

        def fill(trail: Any) -> None:
            for n in range(60):
                trail.append(
                    EPOCH, "reply", {"session": "s", "n": n, "reply": "x" * 1_000_000}
                )
                trail.write()

        self.crashed(fill)
        self.assertGoesOn()


class FormerFileTests(RecoveryTestCase):
    """
    A trail that goes on in a new file.
    """

    def rename(self, name: str = "audit.jsonl.1") -> Path:
        """
        Rename the file, as logrotate does.
        """
        former = self.directory / name
        self.path.rename(former)
        return former

    def test_names(self) -> None:
        """
        A new file continues the chain of the one that was there before, by
        whatever name logrotate or tcpsvc has given it, if it is there or empty.
        """
        for name in (
            "audit.jsonl.1",
            "audit.jsonl-20270115",
            "audit.jsonl.20270115T080000.000000Z",
            "audit.jsonl-20270115-1800000000",
        ):
            self.path.unlink(missing_ok=True)
            self.crashed(session("a", 1, closed=True))
            former = self.rename(name)
            for create in (False, True):
                self.path.unlink(missing_ok=True)
                if create:
                    self.path.touch()
                self.assertGoesOn(former)
            former.unlink()

    def test_newest(self) -> None:
        """
        Of several former files, that counts which has the last record, whatever
        the names and times; torn lines and other files do not.
        """
        self.crashed(session("a", 1, closed=True))
        first = self.rename("audit.jsonl.9")
        self.crashed(session("b", 1, closed=True))
        second = self.rename("audit.jsonl.1")
        os.utime(second, (0, 0))
        (self.directory / f"audit.jsonl.{TORN}").write_bytes(b'{"seq":99')
        (self.directory / "audit.jsonl.2").write_bytes(b"rubbish\n")
        (self.directory / "audit.jsonl.3").touch()
        (self.directory / "audit.jsonl.4").mkdir()
        self.assertGoesOn(first, second)

    def test_otherNames(self) -> None:
        """
        A file whose name rotation does not produce is not of the trail, however
        similar: a new trail begins, and the other is left alone.
        """
        for name in (
            "audit.jsonl-2",
            "audit.jsonl-test",
            "audit.jsonl.bak",
            "audit.jsonl.old",
            "audit.jsonl-2.1",
            "audit.jsonl-2.20270115T080000.000000Z",
        ):
            self.path.unlink(missing_ok=True)
            contents = self.crashed(session("a", 1)) + b'{"seq":'
            other = self.rename(name)
            other.write_bytes(contents)
            self.assertEqual(0, self.recovered().chain.records, name)
            self.assertGoesOn()
            self.assertEqual(contents, other.read_bytes(), name)
            other.unlink()

    def test_sessions(self) -> None:
        """
        Sessions that were open when the former file ended are left over: with a
        checkpoint at its end, with records behind that, and with a torn line.
        """
        contents = self.crashed(session("a", 2))
        trail = openedTrail(self.path)
        trail.close()
        for behind in (b"", self.path.read_bytes()[len(contents) :]):
            for torn in (b"", b'{"seq":'):
                self.path.write_bytes(contents + behind + torn)
                former = self.rename()
                ending = self.recovered()
                self.assertEqual({"a": 2}, ending.left)
                self.assertEqual(contents + behind, former.read_bytes())
                if torn:
                    kept = former.with_name(f"{former.name}.{TORN}")
                    self.assertEqual(kept, ending.torn)
                    self.assertEqual(torn, kept.read_bytes())
                    kept.unlink()
                self.path.unlink()
                former.rename(self.path)

    def test_sessionsWithoutCheckpoint(self) -> None:
        """
        They are found as well when the new file has records, and no checkpoint
        yet; a former file that is gone is no reason not to start.
        """
        self.crashed(session("a", 2))
        former = self.rename()
        self.crashed(session("b", 1))
        self.assertEqual({"a": 2, "b": 1}, self.recovered().left)
        former.unlink()
        self.assertEqual({"b": 1}, self.recovered().left)

    def test_sessionsBeforeCheckpoint(self) -> None:
        """
        A session that began before the last checkpoint is left over too, with all
        its requests; so is one whose beginning is in a former file.
        """

        def fill(trail: Any) -> None:
            session("long", 2)(trail)
            session("short", 1, closed=True)(trail)
            trail.extend("long", 3, [request("long", 3)])

        self.crashed(fill)
        self.assertEqual({"long": 3}, self.recovered().left)
        former = self.rename()
        self.crashed(session("next", 1, closed=True))
        self.assertEqual({"long": 3}, self.recovered().left)
        self.assertGoesOn(former)

    def test_compressed(self) -> None:
        """
        A former file may be compressed; of several, only the newest is looked
        into.
        """
        self.crashed(session("a", 2))
        old = self.directory / "audit.jsonl.2.gz"
        old.write_bytes(b"not to be read")
        os.utime(old, (0, 0))
        packed = self.directory / "audit.jsonl.1.gz"
        contents = self.path.read_bytes()
        packed.write_bytes(gzip.compress(contents + b'{"seq":'))
        self.path.unlink()
        opened: list[Path] = []
        real = gzip.open

        def watch(path: Path, *arguments: Any) -> Any:
            opened.append(path)
            return real(path, *arguments)

        self.patch(gzip, "open", watch)
        ending = self.recovered()
        self.assertEqual([packed], opened)
        self.assertEqual({"a": 2}, ending.left)
        self.assertEqual(contents.count(b"\n"), ending.chain.records)
        packed.write_bytes(b"rubbish")
        self.assertEqual(0, self.recovered().chain.records)

    def test_movedAway(self) -> None:
        """
        A damaged trail that was moved away, as the message says, is no longer in
        the way: the chain goes on from its last record.
        """
        contents = self.crashed(session("a", 3))
        lines = contents.splitlines(keepends=True)
        self.path.write_bytes(b"".join(lines[:1] + lines[2:]))
        self.assertRaises(TrailError, self.recovered)
        self.rename()
        chain = self.recovered().chain
        expected = Chain()
        for line in lines:
            expected.follow(line[:-1])
        self.assertEqual((expected.records, expected.head), (chain.records, chain.head))

    def test_readOnly(self) -> None:
        """
        A former file that may only be read is gone on from all the same.
        """
        self.crashed(session("a", 1, closed=True))
        former = self.rename()
        real = os.open

        def opened(path: Any, flags: int, mode: int = 0o777) -> int:
            if Path(path).name == former.name and flags & os.O_RDWR:
                raise OSError(13, "Permission denied")
            return real(path, flags, mode)

        self.patch(os, "open", opened)
        self.assertGoesOn(former)

    def test_stillWritten(self) -> None:
        """
        A former file that another service still writes, because it could not
        begin the new one, is its trail: the start is refused.
        """
        trail = openedTrail(self.path)
        self.addCleanup(trail.close)
        trail.append(EPOCH, "e", {})
        trail.write()
        self.rename()
        error = self.assertRaises(TrailInUse, self.recovered)
        self.assertIn("another service writes", str(error))


class TrailIdTests(RecoveryTestCase):
    """
    The id that all files of a trail have in common.
    """

    def run_(self, *events: str) -> str:
        """
        Let a service start and stop.

        @return: The id of its trail.
        """
        trail = openedTrail(self.path)
        trail.append(EPOCH, "service.started", {"trail": trail.id})
        for event in events:
            trail.append(EPOCH, event, {})
        trail.write()
        trail.close()
        return trail.id

    def withoutId(self) -> bytes:
        """
        What an older tcpsvc would have written: the same without ids.
        """
        chain, lines = Chain(), []
        for line in self.path.read_bytes().splitlines():
            fields = json.loads(line)
            fields.pop("trail", None)
            for name in ("seq", "time", "prev"):
                del fields[name]
            event = fields.pop("event")
            if event == "checkpoint":
                fields = Signer.of(auditKey()).sign(chain.records, chain.head, {})
            lines.append(chain.link(EPOCH, event, fields) + b"\n")
        return b"".join(lines)

    def test_random(self) -> None:
        """
        Each trail has its own, a UUID.
        """
        found = set()
        for _ in range(3):
            found.add(str(UUID(self.run_())))
            self.path.unlink()
        self.assertEqual(3, len(found))

    def test_kept(self) -> None:
        """
        It is the same after each start, and in each file: from the last checkpoint
        or, where that is in a former file, from there; plain or compressed.
        """
        first = self.run_()
        self.assertEqual(first, self.run_("e"))
        self.assertEqual(first, self.recovered().trail)
        former = self.directory / "audit.jsonl.1"
        self.path.rename(former)
        self.assertEqual(first, self.recovered().trail)
        self.crashed(session("a", 1))
        self.assertEqual(first, self.recovered().trail)
        self.path.unlink()
        packed = self.directory / "audit.jsonl.1.gz"
        packed.write_bytes(gzip.compress(former.read_bytes()))
        former.unlink()
        self.assertEqual(first, self.run_())
        self.assertEqual(first, self.recovered().trail)

    def test_crashed(self) -> None:
        """
        It is known after a crash before the first checkpoint, of the one file or of
        the former, and of one that is damaged.
        """
        found: list[str] = []

        def fill(trail: Any) -> None:
            trail.append(EPOCH, "service.started", {"trail": trail.id})
            trail.append(EPOCH, "e", {})
            found.append(trail.id)

        contents = self.crashed(fill)
        self.assertEqual(found, [self.recovered().trail])
        former = self.directory / "audit.jsonl.1"
        for damaged in (contents + b'{"e', contents + contents):
            former.write_bytes(damaged)
            self.path.unlink(missing_ok=True)
            self.assertEqual(found, [self.recovered().trail])

    def test_older(self) -> None:
        """
        A trail without an id goes on, and has one from then on; so does one whose
        former file has none.
        """
        self.run_("e")
        self.path.write_bytes(self.withoutId())
        self.assertEqual("", self.recovered().trail)
        new = self.run_()
        self.assertEqual(new, self.recovered().trail)
        verifiedRecords(self.path)
        self.path.write_bytes(self.withoutId())
        former = self.path.rename(self.directory / "audit.jsonl.1")
        new = self.run_()
        self.assertEqual(new, self.recovered().trail)
        verifiedRecords(former, self.path)

    def test_severalTrails(self) -> None:
        """
        If the rotated files are of several trails, and there is none that says
        which is the right one, the start is refused, and nothing is changed.
        """
        self.run_()
        one = self.path.rename(self.directory / "audit.jsonl-20270115")
        other = self.directory / "audit.jsonl.1"
        kept = one.read_bytes()
        one.unlink()
        self.run_("e")
        self.path.rename(other)
        one.write_bytes(kept)
        error = self.assertRaises(TrailError, self.recovered)
        self.assertIn("several trails: audit.jsonl-20270115, audit.jsonl.1", str(error))
        self.assertEqual(1, len(str(error).splitlines()))
        self.assertEqual(kept, one.read_bytes())
        one.unlink()
        self.assertGoesOn(other)

    def test_otherTrail(self) -> None:
        """
        A record that names another trail than those before it is damage.
        """

        def fill(trail: Any) -> None:
            trail.append(EPOCH, "service.started", {"trail": trail.id})
            trail.append(EPOCH, "service.started", {"trail": "another"})

        self.crashed(fill)
        error = self.assertRaises(TrailError, self.recovered)
        self.assertIn("line 2 is damaged: it is of the trail 'another'", str(error))


class OpenTrailTests(RecoveryTestCase):
    """
    Tests for L{tcpsvc.audit.trail.openTrail}, as far as it recovers.
    """

    def test_unreadable(self) -> None:
        """
        A trail that cannot be read is refused in one line, and left unlocked.
        """
        self.crashed(session("a", 1))

        def fail(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        broken = self.patch(os, "pread", fail)
        error = self.assertRaises(TrailError, openedTrail, self.path)
        self.assertEqual(f"{self.path}: cannot be read: Input/output error", str(error))
        broken.restore()
        openedTrail(self.path, clockAtEpoch()).close()
