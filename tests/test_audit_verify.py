"""
Tests for L{tcpsvc.audit.verify}.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.chain import BrokenRecord, Chain
from tcpsvc.audit.checkpoint import RECORDS_BETWEEN
from tcpsvc.audit.reading import openFiles
from tcpsvc.audit.verify import (
    MAX_UNSIGNED,
    BadTrail,
    Findings,
    Receipt,
    Walk,
    examine,
)
from tests.trails import ALICE, MadeTrail, conversation, write

RECORDS = 10_000
"""
How many records the long chain has.
"""


@cache
def longChain() -> list[bytes]:
    """
    A chain of L{RECORDS} records, all kinds among them.
    """
    trail = MadeTrail()
    trail.start()
    trail.open()
    while (n := trail.chain.records) < RECORDS - 3:
        if n % 1000 == 999:
            trail.sign()
        elif n % 2:
            trail.add("request", session=ALICE, n=n, request=f"VOLT {n} \u00e9 \\")
        else:
            reply = f"200 {n} \U0001f50c"
            trail.add("reply", session=ALICE, n=n, reply=reply, code=200, duration_us=9)
    trail.close()
    trail.add("service.stopped", version="0.1.0")
    trail.sign()
    assert len(trail.lines) == RECORDS
    return trail.lines


def walked(*files: Sequence[bytes], torn: bytes = b"", **options: Any) -> Findings:
    """
    What is found of files with these lines, called 1, 2 and so on.
    """
    walk = Walk(**options)
    for number, lines in enumerate(files, 1):
        walk.begin(str(number))
        walk.follow(lines)
        walk.end(torn if number == len(files) else b"")
    return walk.finish()


def anyBeginning(*begins: object) -> bool:
    """
    A trail may begin anywhere.
    """
    return bool(begins)


class GoodTests(SynchronousTestCase):
    """
    Trails that are what was written.
    """

    def test_findings(self) -> None:
        """
        Records and checkpoints are counted, and the ends are named.
        """
        trail = conversation()
        found = walked(trail.lines, keys=[trail.key.public_key()])
        self.assertEqual((9, 1, 9), (found.records, found.first, found.last))
        self.assertEqual(
            (2, 0, 0), (found.checkpoints, found.unchecked, found.unsigned)
        )
        self.assertEqual(trail.chain.head, found.head)
        self.assertEqual("2027-01-15T08:00:00.000000Z", found.since)
        self.assertEqual("2027-01-15T08:00:01.000000Z", found.until)
        self.assertEqual((), found.torn)

    def test_empty(self) -> None:
        """
        A trail without records is good, and has none.
        """
        found = walked([])
        self.assertEqual((0, 0, 0), (found.records, found.first, found.last))

    def test_anyCuts(self) -> None:
        """
        However a trail is cut into files, and those into blocks, the same is
        found.
        """
        trail = conversation()
        whole = walked(trail.lines, keys=[trail.key.public_key()])
        for cut in range(len(trail.lines) + 1):
            files = trail.lines[:cut], trail.lines[cut:]
            self.assertEqual(whole, walked(*files, keys=[trail.key.public_key()]))
            walk = Walk(keys=[trail.key.public_key()])
            walk.begin("1")
            for block in files:
                walk.follow(block)
            self.assertEqual(whole, walk.finish())

    def test_loneSurrogate(self) -> None:
        """
        A record with a lone surrogate is good, though not every JSON parser
        takes it.
        """
        trail = MadeTrail()
        trail.start()
        trail.add("\ud800", x="\udfff")
        trail.stop()
        self.assertEqual(3, walked(trail.lines[:1], trail.lines[1:]).records)

    def test_otherKeys(self) -> None:
        """
        A checkpoint by a key that is not at hand is counted apart, and the key
        named.
        """
        found = walked(conversation().lines)
        self.assertEqual(
            (0, 2, 1), (found.checkpoints, found.unchecked, len(found.strangers))
        )

    def test_severalKeys(self) -> None:
        """
        A trail may be signed by one key first and then by another.
        """
        trail = conversation()
        former, trail.key = trail.key, Ed25519PrivateKey.generate()
        trail.start()
        trail.sign()
        keys = [former.public_key(), trail.key.public_key()]
        found = walked(trail.lines, keys=keys, expectCheckpoints=True)
        self.assertEqual((3, 0), (found.checkpoints, found.unchecked))

    def test_torn(self) -> None:
        """
        What may be the beginning of the next record is told, and no fault: a
        service may be writing it.
        """
        trail = conversation()
        begun = trail.add("request", session=ALICE, n=1)
        for cut in range(1, len(begun) + 1):
            found = walked(trail.lines[:-1], torn=begun[:cut])
            self.assertEqual((9, ("1",)), (found.records, found.torn))

    def test_tornZeros(self) -> None:
        """
        So are NUL bytes up to the end of the file, which a power cut leaves, alone
        or behind the beginning of the next record.
        """
        trail = conversation()
        begun = trail.add("request", session=ALICE, n=1)
        for torn in (bytes(1), bytes(9000), begun[:20] + bytes(9)):
            found = walked(trail.lines[:-1], torn=torn)
            self.assertEqual((9, ("1",)), (found.records, found.torn))

    def test_trail(self) -> None:
        """
        The id of the trail is found, however its files are cut; that of a trail
        which has one only from some record on too.
        """
        trail = conversation(trail="one")
        for cut in range(len(trail.lines)):
            found = walked(trail.lines[:cut], trail.lines[cut:])
            self.assertEqual("one", found.trail)
        trail = conversation()
        self.assertEqual("", walked(trail.lines).trail)
        trail.ids = {"trail": "one"}
        trail.start()
        self.assertEqual("one", walked(trail.lines).trail)

    def test_tornBetween(self) -> None:
        """
        A torn line before another file is no fault if the chain goes on there.
        """
        trail = conversation()
        walk = Walk()
        walk.begin("1")
        walk.follow(trail.lines[:4])
        walk.end(b'{"seq":5,"ti')
        walk.begin("2")
        walk.follow(trail.lines[4:])
        self.assertEqual(9, walk.finish().records)


class BadTrailCase(SynchronousTestCase):
    """
    Trails that are not what was written.
    """

    def assertBad(
        self, line: int | None, words: str, *files: Sequence[bytes], **options: Any
    ) -> None:
        """
        The trail is found to be bad, at this line of its last file.
        """
        bad = self.assertRaises(BadTrail, walked, *files, **options)
        self.assertEqual((str(len(files)), line), (bad.file, bad.line), bad)
        self.assertIn(words, bad.what)
        place = f"{bad.file}:" + (f" line {line}:" if line else "")
        self.assertEqual(f"{place} {bad.what}", str(bad))


class MutationTests(BadTrailCase):
    """
    A chain of 10 000 records, in which each thing is changed that can be.
    """

    def test_longChain(self) -> None:
        """
        The chain is good as it was made.
        """
        self.assertEqual(RECORDS, walked(longChain()).records)

    def test_everyByte(self) -> None:
        """
        A change of any single byte before the last line is found, both by the
        quick look at a whole block and by the one line by line.

        A line is accepted by L{Walk} only if one of the two accepts it and its
        successor; they are asked alone, as there are millions of bytes.
        """
        lines = longChain()
        head, walk, tried = "0" * 64, Walk(), 0
        chain = Chain()
        for records, line in enumerate(lines[:-1]):
            after = lines[records + 1]
            walk._chain = Chain(records, head)
            self.assertIsNotNone(walk._marked((line, after)))
            for at, byte in enumerate(line):
                changed = b"%b%c%b" % (line[:at], byte ^ 1, line[at + 1 :])
                if walk._marked((changed, after)) is not None:
                    self.fail(f"byte {at} of line {records + 1} in a block")
                chain.records, chain.head = records, head
                try:
                    chain.follow(changed)
                    chain.follow(after)
                except BrokenRecord:
                    tried += 1
                else:
                    self.fail(f"byte {at} of line {records + 1}")
            head = sha256(line).hexdigest()
        self.assertEqual(sum(map(len, lines[:-1])), tried)

    def test_rightLine(self) -> None:
        """
        In each line before the last one some byte is changed to some other,
        also to a newline: the line is named that was changed.
        """
        lines = longChain()
        choose = random.Random(20261123)
        for number in range(1, RECORDS - 1):
            at = choose.randrange(len(lines[number]))
            line = bytearray(lines[number])
            line[at] = choose.choice(
                [octet for octet in (10, 34, 48, 120, 255) if octet != line[at]]
            )
            near = [
                *lines[number - 1 : number],
                *bytes(line).split(b"\n"),
                *lines[number + 1 : number + 3],
            ]
            bad = self.assertRaises(BadTrail, walked, near, mayBegin=anyBeginning)
            self.assertEqual(2, bad.line, f"{at} in {line!r}: {bad}")

    def test_firstLine(self) -> None:
        """
        The first line is named if any byte of it is changed.
        """
        lines = longChain()[:3]
        for at, byte in enumerate(lines[0]):
            line = b"%b%c%b" % (lines[0][:at], byte ^ 1, lines[0][at + 1 :])
            self.assertBad(1, "", [line, *lines[1:]])

    def test_everyNewline(self) -> None:
        """
        Two lines made one are found, and the first of them is named.
        """
        lines = longChain()
        for number in range(1, RECORDS - 2):
            for between in (b" ", b"\x0b", b"", b"\r"):
                near = [
                    lines[number - 1],
                    lines[number] + between + lines[number + 1],
                    *lines[number + 2 : number + 3],
                ]
                bad = self.assertRaises(BadTrail, walked, near, mayBegin=anyBeginning)
                self.assertEqual(2, bad.line)

    def test_everyRemovedLine(self) -> None:
        """
        Each line that is removed is found, and the one named in its place.
        """
        lines = longChain()
        for number in range(1, RECORDS - 1):
            near = [lines[number - 1], *lines[number + 1 : number + 3]]
            bad = self.assertRaises(BadTrail, walked, near, mayBegin=anyBeginning)
            self.assertEqual(2, bad.line)
        self.assertBad(1, "record 1 is in none of these", lines[1:])

    def test_everyDoubledLine(self) -> None:
        """
        Each line that is there twice is found, and the second named.
        """
        lines = longChain()
        for number in range(RECORDS):
            near = [lines[number], *lines[number : number + 3]]
            bad = self.assertRaises(BadTrail, walked, near, mayBegin=anyBeginning)
            self.assertEqual(2, bad.line)
            self.assertIn(f"record {number + 1}", bad.what)

    def test_everySwap(self) -> None:
        """
        Any two lines that have changed places are found, and the first named.
        """
        lines = longChain()
        for number in range(1, RECORDS - 1):
            near = [
                lines[number - 1],
                lines[number + 1],
                lines[number],
                *lines[number + 2 : number + 4],
            ]
            bad = self.assertRaises(BadTrail, walked, near, mayBegin=anyBeginning)
            self.assertEqual(2, bad.line)
        self.assertBad(1, "it is record 2", [lines[1], lines[0], *lines[2:]])

    def test_farSwap(self) -> None:
        """
        So are two that were far from each other, in a whole trail.
        """
        lines = list(longChain())
        lines[100], lines[9000] = lines[9000], lines[100]
        self.assertBad(101, "it is record 9001, where record 101 belongs", lines)

    def test_lastLine(self) -> None:
        """
        Any change of the last line is found with a receipt for it, and so is
        its removal.
        """
        lines = longChain()
        last = lines[-1]
        receipts = [Receipt(RECORDS, sha256(last).hexdigest())]
        near = lines[-2:]
        options: dict[str, Any] = {"mayBegin": anyBeginning, "receipts": receipts}
        self.assertEqual(2, walked(near, **options).records)
        for at, byte in enumerate(last):
            changed = b"%b%c%b" % (last[:at], byte ^ 1, last[at + 1 :])
            bad = self.assertRaises(BadTrail, walked, [near[0], changed], **options)
            self.assertEqual(2, bad.line, bad)
        self.assertBad(None, "it was cut off", near[:1], **options)
        self.assertBad(None, "it was cut off", near[:1], torn=last, **options)

    @given(st.data())
    def test_anything(self, data: st.DataObject) -> None:
        """
        Whatever stretch of a trail before its last line is put in place of
        any other, it is found.
        """
        lines = conversation().lines
        whole = b"".join(line + b"\n" for line in lines)
        end = len(whole) - len(lines[-1]) - 1
        cuts = data.draw(st.lists(st.integers(0, end), min_size=4, max_size=4))
        (a, b), (c, d) = sorted(cuts[:2]), sorted(cuts[2:])
        other = whole[:a] + whole[c:d] + whole[b:]
        if other == whole:
            return
        self.assertRaises(BadTrail, walked, other.split(b"\n")[:-1])


class BlameTests(BadTrailCase):
    """
    What is said to be wrong, and of which line.
    """

    def setUp(self) -> None:
        """
        Make a trail.
        """
        self.trail = conversation()
        self.lines = self.trail.lines

    def test_acrossFiles(self) -> None:
        """
        The last line of a file is named if the next file shows that it was
        changed.
        """
        changed = self.lines[3].replace(b"busy", b"gone")
        files = [*self.lines[:3], changed], self.lines[4:]
        bad = self.assertRaises(BadTrail, walked, *files)
        self.assertEqual(("1", 4), (bad.file, bad.line))
        self.assertIn("record 5 has another hash", bad.what)

    def test_missingFile(self) -> None:
        """
        A file that is missing between two is told by the numbers.
        """
        words = "it is record 7, where record 4 belongs"
        self.assertBad(1, words, self.lines[:3], self.lines[6:])

    def test_inserted(self) -> None:
        """
        A line that somebody put in, as if it was the next, is named itself.
        """
        chain = Chain(3, sha256(self.lines[2]).hexdigest())
        forged = chain.link(0.0, "request", {"request": "never asked"})
        lines = [*self.lines[:3], forged, *self.lines[3:]]
        self.assertBad(4, "it is not the record 4 that the others link to", lines)

    def test_blank(self) -> None:
        """
        A blank line is no record.
        """
        lines = [*self.lines[:3], b"", *self.lines[3:]]
        self.assertBad(4, "it is blank, and no record", lines)

    def test_changedBeforeCheckpoint(self) -> None:
        """
        The last line but one is named if the last is a checkpoint: that has its
        hash twice.
        """
        changed = self.lines[7].replace(b"0.1.0", b"0.1.1")
        lines = [*self.lines[:7], changed, self.lines[8]]
        self.assertBad(8, "it was changed: record 9 has another hash of it", lines)

    def test_changedBeforeLast(self) -> None:
        """
        If the last is another record, it cannot be told which of the two was
        changed; the first is named.
        """
        changed = self.lines[2].replace(b"hello", b"jello")
        lines = [*self.lines[:2], changed, self.lines[3]]
        self.assertBad(3, "it, or what the last record has for its hash", lines)

    def test_twoChanged(self) -> None:
        """
        If two lines that stand together were changed, the second is named, and
        that it may be the first.
        """
        lines = list(self.lines)
        lines[2] = lines[2].replace(b"hello", b"jello")
        lines[3] = lines[3].replace(b"busy", b"gone")
        self.assertBad(4, "or the record before it", lines)

    def test_form(self) -> None:
        """
        A record that is valid and chained, and not as the service writes it,
        is not taken for one.
        """
        for line in (
            self.lines[3].replace(b'"seq":4,', b'"seq": 4,'),
            self.lines[3] + b" ",
            self.lines[3].replace(b"busy", b'bu"sy'),
            self.lines[3].replace(b"busy", "büsy".encode()),
            self.lines[3].replace(b'"seq":4,', b'"seq":5,'),
        ):
            chain = Chain(4, sha256(line).hexdigest())
            more = [chain.link(0.0, "x", {}) for _ in range(2)]
            self.assertBad(4, "it ", [*self.lines[:3], line, *more])
            self.assertBad(1, "it ", self.lines[:3], [line, *more])

    def test_notAScalar(self) -> None:
        """
        Garbage is one bad line, whatever it is.
        """
        for garbage in (
            b"\x00",
            b"\xff\xfe",
            b"[]",
            b"1",
            b"[" * 100_000,
            b'{"seq":1}',
        ):
            self.assertBad(1, "it ", [garbage])

    def test_tornGarbage(self) -> None:
        """
        What stands behind the last line and is not of the next record is not
        passed over.
        """
        for torn in (b"hello", b'{"seq":9,', b'{"seq":10.', b"{ "):
            self.assertBad(10, "not of the next", self.lines, torn=torn)
        self.assertBad(1, "not JSON", [], torn=b"hello")

    def test_tornNul(self) -> None:
        """
        A NUL byte that has others behind it is not from a power cut.
        """
        begun = b'{"seq":10,"time":'
        for torn in (begun + b"\0" + begun, b"\0" + begun):
            self.assertBad(10, "NUL byte", self.lines, torn=torn)

    def test_otherTrail(self) -> None:
        """
        A file of another trail is found by the id in its first record that has
        one, and called what it is; so is a record that was written with another
        id, though the chain is whole.
        """
        one, other = conversation(trail="one"), conversation(trail="two")
        words = "it is of the trail 'two', and the records before it are of the trail"
        self.assertBad(1, f"{words} 'one'", one.lines, other.lines)
        for add in (MadeTrail.start, MadeTrail.sign):
            one = conversation(trail="one")
            one.ids = {"trail": "two"}
            add(one)
            self.assertBad(10, f"{words} 'one'", one.lines)
            self.assertBad(1, f"{words} 'one'", one.lines[:9], one.lines[9:])

    def test_beginning(self) -> None:
        """
        A trail that does not begin with record 1 is bad, unless that is
        allowed.
        """
        self.assertBad(
            1, "it is record 4, and records 1 to 3 are in none", self.lines[3:]
        )
        asked = []

        def mayBegin(first: int, prev: str) -> bool:
            asked.append((first, prev))
            return True

        found = walked(self.lines[3:], mayBegin=mayBegin)
        self.assertEqual([(4, sha256(self.lines[2]).hexdigest())], asked)
        self.assertEqual((6, 4, 9), (found.records, found.first, found.last))

    def test_severedBeginning(self) -> None:
        """
        A record that says it is the first one cannot have one before it, nor
        the other way round.
        """
        first = Chain(0, "a" * 64).link(0.0, "x", {})
        second = Chain(1).link(0.0, "x", {})
        for line in (first, second):
            self.assertBad(1, "do not agree", [line], mayBegin=anyBeginning)


class ReceiptTests(BadTrailCase):
    """
    Receipts.
    """

    def setUp(self) -> None:
        """
        Make a trail.
        """
        self.lines = conversation().lines

    def receipt(self, seq: int) -> Receipt:
        """
        The receipt for a record.
        """
        return Receipt(seq, sha256(self.lines[seq - 1]).hexdigest())

    def test_forms(self) -> None:
        """
        A receipt is C{SEQ:HASH}, or the reply that a client has got.
        """
        wanted = Receipt(12, "ab" * 32)
        for text in (
            "12:" + "ab" * 32,
            "12:" + "AB" * 32,
            " 12 " + "ab" * 32,
            "221 bye; record 12 " + "ab" * 32,
            "221 bye; record 12 " + "ab" * 32 + "\r\n",
        ):
            self.assertEqual(wanted, Receipt.of(text))
        self.assertEqual(wanted, Receipt.of(str(wanted)))

    def test_wrongForms(self) -> None:
        """
        Nothing else is.
        """
        for text in ("", "12", "0:" + "ab" * 32, "12:" + "ab" * 31, "x:" + "ab" * 32):
            self.assertRaises(ValueError, Receipt.of, text)

    def test_good(self) -> None:
        """
        The trail has each record for which there is a receipt.
        """
        receipts = [self.receipt(seq) for seq in range(9, 0, -1)]
        for cut in range(10):
            walked(self.lines[:cut], self.lines[cut:], receipts=receipts)

    def test_rewritten(self) -> None:
        """
        A trail that was written anew has other records than the receipts say,
        and the line is named.
        """
        receipts = [self.receipt(3)]
        other = MadeTrail()
        for _ in range(4):
            other.start()
        self.assertBad(
            3, "is not the one of the receipt", other.lines, receipts=receipts
        )
        files = other.lines[:2], other.lines[2:]
        self.assertBad(1, "is not the one of the receipt", *files, receipts=receipts)

    def test_cutOff(self) -> None:
        """
        A trail that ends before the record of a receipt was cut off.
        """
        receipts = [self.receipt(9)]
        words = "the trail ends with record 8, and the receipt is for record 9"
        self.assertBad(None, words, self.lines[:8], receipts=receipts)
        self.assertBad(None, "ends with record 0", [], receipts=receipts)

    def test_before(self) -> None:
        """
        A receipt for the record before the first one shows that the trail
        goes on where it should, and no other does.
        """
        walked(self.lines[3:], receipts=[self.receipt(3)])
        wrong = Receipt(3, "ab" * 32)
        words = "it does not continue record 3 of the receipt"
        self.assertBad(1, words, self.lines[3:], receipts=[wrong])
        self.assertBad(
            None,
            "the trail begins with record 4 here",
            self.lines[3:],
            receipts=[self.receipt(2)],
            mayBegin=anyBeginning,
        )


class CheckpointTests(BadTrailCase):
    """
    Checkpoints.
    """

    def setUp(self) -> None:
        """
        Make a trail.
        """
        self.trail = MadeTrail()
        self.trail.start()
        self.keys = [self.trail.key.public_key()]

    def forge(self, **changes: object) -> None:
        """
        Add a checkpoint in which something is not right, but the chain is.
        """
        fields = json.loads(self.trail.sign())
        self.trail.lines.pop()
        del fields["seq"], fields["time"], fields["event"]
        self.trail.chain = Chain(fields["count"], fields.pop("prev"))
        self.trail.add("checkpoint", **(fields | changes))
        self.trail.stop()

    def test_wrong(self) -> None:
        """
        A checkpoint whose signature, count or head is not right is named, with
        the key at hand.
        """
        for changes, words in (
            ({"signature": "AAAA"}, "the signature of this checkpoint is wrong"),
            ({"signature": None}, "the signature of this checkpoint is wrong"),
            ({"signature": "\xe9"}, "the signature of this checkpoint is wrong"),
            ({"count": 7}, "this checkpoint is not of the record before it"),
            ({"head": "ab" * 32}, "this checkpoint is not of the record before it"),
        ):
            self.setUp()
            self.forge(**changes)
            self.assertBad(2, words, self.trail.lines, keys=self.keys)
            self.assertBad(
                1, words, self.trail.lines[:1], self.trail.lines[1:], keys=self.keys
            )

    def test_withoutKey(self) -> None:
        """
        Without the key a signature is not checked; count and head are.
        """
        self.forge(signature="AAAA")
        self.assertEqual(1, walked(self.trail.lines).unchecked)
        self.setUp()
        self.forge(count=7)
        self.assertBad(2, "not of the record before it", self.trail.lines)

    def test_transplanted(self) -> None:
        """
        A signature of another checkpoint is wrong.
        """
        other = MadeTrail(self.trail.key)
        other.open()
        signature = json.loads(other.sign())["signature"]
        self.forge(signature=signature)
        self.assertBad(2, "signature", self.trail.lines, keys=self.keys)

    def test_expectedNone(self) -> None:
        """
        If checkpoints are expected, a trail without any is bad.
        """
        options: dict[str, Any] = {"keys": self.keys, "expectCheckpoints": True}
        self.assertBad(None, "there is no checkpoint", self.trail.lines, **options)
        self.assertBad(None, "there is no checkpoint", [], **options)

    def test_expectedOther(self) -> None:
        """
        A trail that was wholly written anew, and signed by another key, is bad
        if checkpoints are expected.
        """
        self.trail.sign()
        keys = [Ed25519PrivateKey.generate().public_key()]
        options: dict[str, Any] = {"keys": keys, "expectCheckpoints": True}
        self.assertBad(2, "is signed by another key", self.trail.lines, **options)

    def test_expectedNearTheEnd(self) -> None:
        """
        No more records may follow the last checkpoint than a service leaves
        without one.
        """
        self.assertLess(RECORDS_BETWEEN, MAX_UNSIGNED)
        self.trail.sign()
        while self.trail.chain.records < MAX_UNSIGNED + 2:
            self.trail.add("request", n=1)
        options: dict[str, Any] = {"keys": self.keys, "expectCheckpoints": True}
        found = walked(self.trail.lines, **options)
        self.assertEqual(MAX_UNSIGNED, found.unsigned)
        self.trail.add("request", n=1)
        words = f"{MAX_UNSIGNED + 1} records follow the last checkpoint"
        self.assertBad(None, words, self.trail.lines, **options)

    def test_quoted(self) -> None:
        """
        A request that looks like a checkpoint is none.
        """
        self.trail.add(
            "request", request='"event":"checkpoint"', checkpoint={"event": 1}
        )
        found = walked(self.trail.lines, keys=self.keys)
        self.assertEqual(
            (0, 0, 2), (found.checkpoints, found.unchecked, found.unsigned)
        )


class ExamineTests(SynchronousTestCase):
    """
    Tests for L{examine}.
    """

    def examine(self, *files: bytes, quickly: bool = False, **options: Any) -> Findings:
        """
        What is found of files with these octets.
        """
        directory = Path(self.mktemp())
        directory.mkdir()
        paths = [directory / f"f{number}" for number in range(len(files))]
        for path, octets in zip(paths, files, strict=True):
            path.write_bytes(octets)
        trail = openFiles(paths)
        self.addCleanup(trail.close)
        return examine(trail.parts, Walk(**options), quickly=quickly)

    def octets(self, lines: Sequence[bytes]) -> bytes:
        """
        Lines as they are in a file.
        """
        return b"".join(line + b"\n" for line in lines)

    def test_whole(self) -> None:
        """
        The files are walked along in the order of their records.
        """
        lines = longChain()
        found = self.examine(
            self.octets(lines[7000:]),
            self.octets(lines[:3000]),
            self.octets(lines[3000:7000]),
        )
        self.assertEqual(RECORDS, found.records)

    def test_quick(self) -> None:
        """
        Quickly, only the last checkpoint and what follows it is read, in
        whichever file that is.
        """
        trail = conversation()
        trail.start()
        keys = [trail.key.public_key()]
        for files in (
            [self.octets(trail.lines)],
            [self.octets(trail.lines[:9]), self.octets(trail.lines[9:])],
        ):
            found = self.examine(*files, quickly=True, keys=keys, mayBegin=anyBeginning)
            self.assertEqual((9, 10, 1), (found.first, found.last, found.checkpoints))

    def test_quickBad(self) -> None:
        """
        A bad line behind the last checkpoint has its number in the file, and
        one before it is not looked at.
        """
        trail = conversation()
        for _ in range(3):
            trail.start()
        lines = list(trail.lines)
        lines[1] = b"nothing"
        options: dict[str, Any] = {"quickly": True, "mayBegin": anyBeginning}
        self.examine(self.octets(lines), **options)
        lines[10] = b"nothing"
        bad = self.assertRaises(BadTrail, self.examine, self.octets(lines), **options)
        self.assertEqual(11, bad.line)

    def test_quickWithoutCheckpoint(self) -> None:
        """
        Without a checkpoint all is read.
        """
        lines = conversation().lines[:5]
        found = self.examine(self.octets(lines), quickly=True)
        self.assertEqual(5, found.records)

    def test_damagedGzip(self) -> None:
        """
        A compressed file that is cut off is bad, behind the last line that could
        be read.
        """
        import gzip

        packed = gzip.compress(self.octets(longChain()))
        bad = self.assertRaises(BadTrail, self.examine, packed[:-100])
        self.assertIn("damaged or cut off", bad.what)
        self.assertGreater(bad.line or 0, 100)

    def test_written(self) -> None:
        """
        What L{write} of the tests writes is what is read.
        """
        path = write(Path(self.mktemp()), conversation().lines)
        self.assertEqual(9, self.examine(path.read_bytes()).records)
