"""
Tests for L{tcpsvc.descriptors}.
"""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.descriptors import allowDescriptors, descriptorsNeeded


class LimitTests(SynchronousTestCase):
    """
    Tests for L{allowDescriptors}.
    """

    def limit(self, soft: int, hard: int) -> None:
        """
        Give the process a limit, in memory.
        """
        self.limits = (soft, hard)
        self.patch(resource, "getrlimit", lambda which: self.limits)
        self.patch(resource, "setrlimit", self.set)

    def set(self, which: int, limits: tuple[int, int]) -> None:
        """
        Set it.
        """
        self.assertEqual(resource.RLIMIT_NOFILE, which)
        self.limits = limits

    def test_needed(self) -> None:
        """
        Each connection that may be there at once needs one, and each listener.
        """
        self.assertEqual(256 + 1 + 64 + 64 + 8 + 2 + 3 + 64, descriptorsNeeded(256, 3))

    def test_enough(self) -> None:
        """
        A soft limit that is high enough stays.
        """
        for limits in ((1024, 4096), (1024, -1), (-1, -1)):
            self.limit(*limits)
            allowDescriptors(256, 1)
            self.assertEqual(limits, self.limits)

    def test_raised(self) -> None:
        """
        One that is too low is raised to what is needed.
        """
        needed = descriptorsNeeded(5000, 1)
        for hard in (needed, 100_000, -1):
            self.limit(1024, hard)
            allowDescriptors(5000, 1)
            self.assertEqual((needed, hard), self.limits)

    def test_tooLow(self) -> None:
        """
        If the hard limit is too low, one line says what to lower and what to raise;
        what it says is enough.
        """
        self.limit(256, 300)
        line = str(self.assertRaises(ValueError, allowDescriptors, 256, 1))
        self.assertEqual((256, 300), self.limits)
        self.assertEqual(
            "460 file descriptors are needed, but the limit is 300; to fix: lower "
            "--max-pending to 96, or raise the limit (LimitNOFILE= in systemd, "
            "ulimit -Hn in a shell)",
            line,
        )
        allowDescriptors(96, 1)
        self.assertEqual((300, 300), self.limits)

    def test_muchTooLow(self) -> None:
        """
        Where no number would be low enough, only the limit is named.
        """
        self.limit(64, 100)
        line = str(self.assertRaises(ValueError, allowDescriptors, 256, 1))
        self.assertNotIn("--max-pending", line)
        self.assertIn("to fix: raise the limit", line)
