"""
Tests for L{tcpsvc.audit.names}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.names import baseOf, isRotated
from tcpsvc.times import toCompact
from tests.support import EPOCH

ROTATED = (
    ".1",
    ".12",
    ".1.gz",
    "-20270115",
    "-20270115.gz",
    "-20270115-1800000000",
    "-20270115-1800000000.gz",
    "-2027011508",
    "-2027-01-15",
    "_20270115",
    f".{toCompact(EPOCH)}",
    f".{toCompact(EPOCH)}.gz",
)
"""
What our own rotation and logrotate add to a name.
"""

OTHERS = (
    "",
    "-2",
    "2",
    "-test",
    ".bak",
    ".old",
    "~",
    ".gz",
    ".1.bak",
    "-2.1",
    "-2.20270115T080000.000000Z",
    "-20271399",
    ".torn-20270115T080000.000000Z",
    ".1.torn-20270115T080000.000000Z",
    ".1\n",
    "-20270115" + "00" * 100 + "x",
)
"""
What they do not.
"""


class NameTests(SynchronousTestCase):
    """
    Which files belong to a trail by their names.
    """

    def test_rotated(self) -> None:
        """
        The names that rotation gives are recognised, and lead back to that of the
        trail.
        """
        for base in ("psu", "audit.jsonl", "psu-2", "a+b"):
            for suffix in ROTATED:
                with self.subTest(base=base, suffix=suffix):
                    self.assertTrue(isRotated(base + suffix, base))
                    self.assertEqual(base, baseOf(base + suffix))

    def test_others(self) -> None:
        """
        No other name is, however similar: it is that of another trail, or of a
        copy.
        """
        for base in ("psu", "audit.jsonl"):
            for suffix in OTHERS:
                with self.subTest(base=base, suffix=suffix):
                    self.assertFalse(isRotated(base + suffix, base))
        self.assertFalse(isRotated("psu-2.1", "psu"))
        self.assertFalse(isRotated("my-psu.1", "psu"))
        self.assertEqual("psu-2", baseOf("psu-2"))
        self.assertEqual("psu.bak", baseOf("psu.bak"))
