"""
The benchmark's load generator, against a peer that answers rightly and wrongly.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from unittest import SkipTest

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from bench.machine import BenchError
from bench.peers import PLAIN
from bench.stand import SHORT, stand
from tests.support import requireProgram


class LoadTests(SynchronousTestCase):
    """
    C{bench/load.c}, with the plain LineReceiver, which sends each line back.
    """

    def test_replies(self) -> None:
        """
        It counts replies that are right, and notices the first octet that is wrong, in
        lock-step as well as pipelined.
        """
        requireProgram("cc")
        requireProgram("taskset")
        directory = Path(self.mktemp())
        directory.mkdir()
        size = evolve(SHORT, seconds=0)
        stack = ExitStack()
        self.addCleanup(stack.close)
        try:
            place = stack.enter_context(stand(directory, size))
        except BenchError as error:
            raise SkipTest(str(error)) from None
        one = stack.enter_context(place.up(PLAIN))
        done = place.loaded(one, "lock-step", count=50)
        self.assertEqual(done["latency"]["number"], 50)
        done = place.loaded(one, "stream", count=5000)
        self.assertGreater(done["per_second"], 0)
        wrong = evolve(one, peer=PLAIN.saying("reversed"))
        for mode in ("lock-step", "stream"):
            with self.subTest(mode=mode), self.assertRaises(BenchError) as caught:
                place.loaded(wrong, mode, count=50)
            self.assertIn("octet 0 of the replies is", str(caught.exception))
