"""
Tests for L{tcpsvc.audit.chain}.
"""

from __future__ import annotations

import json
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.chain import NOTHING_BEFORE, BrokenRecord, Chain, body, parsed

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=())).map(
    lambda text: text.encode("utf-16", "surrogatepass").decode(
        "utf-16", "surrogatepass"
    )
)
"""
Text with all that Python can have in it, lone surrogates too; but those that
make a pair are joined, for JSON cannot tell them from the character.
"""

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4)
    ),
    max_leaves=8,
)
"""
JSON values.
"""

FIELDS = st.dictionaries(
    ANY_TEXT.filter(lambda name: name not in ("seq", "time", "event", "prev")),
    VALUES,
    max_size=5,
)


class ChainTests(SynchronousTestCase):
    """
    Tests for L{Chain}.
    """

    def test_first(self) -> None:
        """
        The first record has the number 1, and 64 zeros for its link.
        """
        line = Chain().link(1_800_000_000.000001, "request", {"n": 1})
        self.assertEqual("0" * 64, NOTHING_BEFORE)
        self.assertEqual(
            b'{"seq":1,"time":"2027-01-15T08:00:00.000001Z","event":"request",'
            b'"n":1,"prev":"' + b"0" * 64 + b'"}',
            line,
        )

    def test_linked(self) -> None:
        """
        Each further record has the next number, and the SHA-256 of the line
        before it.
        """
        chain = Chain()
        lines = [chain.link(float(number), "e", {}) for number in range(5)]
        for number, line in enumerate(lines[1:], 1):
            record = json.loads(line)
            self.assertEqual(number + 1, record["seq"])
            self.assertEqual(sha256(lines[number - 1]).hexdigest(), record["prev"])
        self.assertEqual(5, chain.records)
        self.assertEqual(sha256(lines[-1]).hexdigest(), chain.head)

    def test_order(self) -> None:
        """
        A record's fields stand between C{event} and, last, C{prev}.
        """
        line = Chain().link(0.0, "e", {"b": 1, "a": 2})
        self.assertEqual(
            ["seq", "time", "event", "b", "a", "prev"], list(json.loads(line))
        )

    @given(st.lists(FIELDS, max_size=3))
    def test_anything(self, fields: list[dict[str, object]]) -> None:
        """
        Whatever is in its fields, a record is one line of ASCII that reads
        back equal, and the chain goes on from it.
        """
        chain = Chain()
        for number, one in enumerate(fields, 1):
            head = chain.head
            line = chain.link(0.0, "event", one)
            self.assertTrue(line.isascii())
            self.assertNotIn(b"\n", line)
            self.assertNotIn(b"\r", line)
            record = json.loads(line)
            self.assertEqual(
                {
                    "seq": number,
                    "time": "1970-01-01T00:00:00.000000Z",
                    "event": "event",
                    **one,
                    "prev": head,
                },
                record,
            )
            after = Chain(number - 1, head)
            after.follow(line)
            self.assertEqual((chain.records, chain.head), (after.records, after.head))

    def test_loneSurrogate(self) -> None:
        """
        Text that UTF-8 cannot say is escaped, and the chain goes on from it.
        """
        chain = Chain()
        line = chain.link(0.0, "reply", {"reply": "200 \ud800"})
        self.assertIn(rb'"reply":"200 \ud800"', line)
        self.assertEqual("200 \ud800", json.loads(line)["reply"])
        again = Chain()
        again.follow(line)
        self.assertEqual(chain.head, again.head)

    def test_notText(self) -> None:
        """
        A record that cannot be made leaves the chain as it was: no number is
        skipped.
        """
        chain = Chain()
        chain.link(0.0, "event", {})
        before = chain.records, chain.head
        self.assertRaises(TypeError, chain.link, 0.0, "event", {"x": object()})
        self.assertEqual(before, (chain.records, chain.head))

    def test_escaped(self) -> None:
        """
        What is not ASCII is escaped with u and four hexadecimal digits.
        """
        line = Chain().link(0.0, "e", {"name": "Zoë \U0001f52c"})
        self.assertIn(rb'"name":"Zo\u00eb \ud83d\udd2c"', line)


class ExtendTests(SynchronousTestCase):
    """
    Tests for L{Chain.extend} and L{body}.
    """

    def test_body(self) -> None:
        """
        A body is what stands in a record between its number and its link.
        """
        self.assertEqual(
            '"time":"2027-01-15T08:00:00.000001Z","event":"e","n":1,"x":"\\u00df"',
            body(1_800_000_000.000001, "e", {"n": 1, "x": "\u00df"}),
        )
        self.assertEqual(
            '"time":"1970-01-01T00:00:00.000000Z","event":"e"', body(0.0, "e", {})
        )

    def test_nothing(self) -> None:
        """
        Of nothing comes nothing.
        """
        chain = Chain(4, "ab" * 32)
        self.assertEqual(b"", chain.extend([]))
        self.assertEqual((4, "ab" * 32), (chain.records, chain.head))

    @given(st.lists(FIELDS, max_size=5), st.integers(0, 10**6))
    def test_same(self, fields: list[dict[str, object]], before: int) -> None:
        """
        Records that are made together are the same as one by one, each with its
        newline.
        """
        one, all_ = Chain(before, "ab" * 32), Chain(before, "ab" * 32)
        lines = [one.link(float(at), "e", given) for at, given in enumerate(fields)]
        self.assertEqual(
            b"".join(line + b"\n" for line in lines),
            all_.extend([body(float(at), "e", one) for at, one in enumerate(fields)]),
        )
        self.assertEqual((one.records, one.head), (all_.records, all_.head))

    def test_notASCII(self) -> None:
        """
        A body that is not ASCII is refused, and leaves the chain as it was.
        """
        chain = Chain()
        self.assertRaises(UnicodeEncodeError, chain.extend, ['"a":1', '"x":"\u00df"'])
        self.assertEqual((0, NOTHING_BEFORE), (chain.records, chain.head))


class FollowTests(SynchronousTestCase):
    """
    Tests for L{Chain.follow}.
    """

    def setUp(self) -> None:
        """
        Three records.
        """
        chain = Chain()
        self.lines = [chain.link(0.0, "e", {"n": n}) for n in range(3)]
        self.end = chain

    def test_continues(self) -> None:
        """
        A chain that has followed records goes on as if it had made them.
        """
        again = Chain()
        for line in self.lines:
            again.follow(line)
        self.assertEqual(
            self.end.link(1.0, "next", {"x": "\u00df"}),
            again.link(1.0, "next", {"x": "\u00df"}),
        )

    def assertNotFollowed(self, words: str, *lines: bytes) -> None:
        """
        The last of these lines does not continue the chain of the others, which
        stays as it was.
        """
        chain = Chain()
        for line in lines[:-1]:
            chain.follow(line)
        before = chain.records, chain.head
        error = self.assertRaises(BrokenRecord, chain.follow, lines[-1])
        self.assertIn(words, str(error))
        self.assertEqual(before, (chain.records, chain.head))

    def test_missing(self) -> None:
        """
        A record that is missing, doubled, or in another's place is noticed by
        the number.
        """
        one, two, three = self.lines
        self.assertNotFollowed("not record 2", one, three)
        self.assertNotFollowed("not record 2", one, one)
        self.assertNotFollowed("not record 1", two)

    def test_changed(self) -> None:
        """
        A record whose predecessor was changed is noticed by the hash, whatever
        the change.
        """
        one, two, _ = self.lines
        for place in range(len(b'{"seq":1,'), len(one) - len(NOTHING_BEFORE) - 11):
            changed = bytearray(one)
            changed[place] ^= 1
            self.assertNotFollowed("does not continue", bytes(changed), two)


class ParsedTests(SynchronousTestCase):
    """
    Tests for L{parsed}.
    """

    def test_record(self) -> None:
        """
        A record is read back with all its fields.
        """
        chain = Chain(4, "ab" * 32)
        record = parsed(chain.link(0.0, "e", {"x": "\u00df"}))
        self.assertEqual(
            (5, "ab" * 32, "e", "\u00df"),
            (record.seq, record.prev, record.event, record.fields["x"]),
        )

    def test_broken(self) -> None:
        """
        A line that is no record is refused, with what is wrong in a phrase.
        """
        zeros = b"0" * 64
        for line, words in (
            (b"", "blank"),
            (b" \r", "blank"),
            (b'{"seq":1', "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"[1]", "not a JSON object"),
            (b"{}", "no sequence number"),
            (b'{"seq":"1"}', "no sequence number"),
            (b'{"seq":null}', "no sequence number"),
            (b'{"seq":true}', "no sequence number"),
            (b'{"seq":0}', "no sequence number"),
            (b'{"seq":1.5}', "no sequence number"),
            (b'{"seq":1}', "no hash"),
            (b'{"seq":1,"prev":1}', "no hash"),
            (b'{"seq":1,"prev":"' + zeros[1:] + b'"}', "no hash"),
            (b'{"seq":1,"prev":"' + zeros + b'0"}', "no hash"),
            (b'{"seq":1,"prev":"' + zeros + b'"}', "no event"),
        ):
            error = self.assertRaises(BrokenRecord, parsed, line)
            self.assertIn(words, str(error))
            self.assertEqual(1, len(str(error).splitlines()))
