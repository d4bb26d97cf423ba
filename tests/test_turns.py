"""
Tests for L{tcpsvc.turns}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.turns import SPACING, Turns


class Reactor:
    """
    As a reactor, and unlike L{twisted.internet.task.Clock}: what is to be called
    later is called in a later turn, even if that is at once.
    """

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.delays: list[float] = []

    def callLater(self, delay: float, call: Callable[[], None]) -> None:
        """Call it in the next turn, and keep how long it should have waited."""
        self.delays.append(delay)
        self.calls.append(call)

    def turn(self) -> None:
        """Another turn."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class TurnsTests(SynchronousTestCase):
    """
    Tests for L{Turns}.
    """

    def setUp(self) -> None:
        """
        Nothing is done yet.
        """
        self.reactor = Reactor()
        self.atWork = False
        self.turns = Turns(cast(IReactorTime, self.reactor), lambda: self.atWork)
        self.done: list[str] = []

    def work(self, name: str, wanted: bool = True) -> Callable[[], bool]:
        """
        @return: Work that keeps its name, if it is still wanted.
        """

        def work() -> bool:
            if wanted:
                self.done.append(name)
            return wanted

        return work

    def test_first(self) -> None:
        """
        The first work of a turn is done at once.
        """
        self.assertTrue(self.turns.do(self.work("a")))
        self.assertEqual(["a"], self.done)

    def test_oneATurn(self) -> None:
        """
        What comes after it waits, in order, for a turn of its own.
        """
        self.turns.do(self.work("a"))
        self.assertFalse(self.turns.do(self.work("b")))
        self.assertFalse(self.turns.do(self.work("c")))
        self.assertEqual(["a"], self.done)
        self.reactor.turn()
        self.assertEqual(["a", "b"], self.done)
        self.assertFalse(self.turns.do(self.work("d")))
        self.reactor.turn()
        self.reactor.turn()
        self.assertEqual(["a", "b", "c", "d"], self.done)

    def test_nextTurn(self) -> None:
        """
        In the next turn the first work is done at once again, and nothing is left
        to be called when there is nothing to do.
        """
        self.turns.do(self.work("a"))
        self.reactor.turn()
        self.assertEqual([], self.reactor.calls)
        self.assertTrue(self.turns.do(self.work("b")))
        self.assertEqual(["a", "b"], self.done)

    def test_atWork(self) -> None:
        """
        A turn is over at once, but while somebody is at work the next one is a
        while away.
        """
        for self.atWork in (False, True, True, False):
            self.turns.do(self.work("a"))
            self.reactor.turn()
        self.assertEqual([0, SPACING, SPACING, 0], self.reactor.delays)

    def test_unwanted(self) -> None:
        """
        Work that is not wanted any more takes nobody's turn.
        """
        self.turns.do(self.work("a"))
        for _ in range(1000):
            self.turns.do(self.work("stale", wanted=False))
        self.turns.do(self.work("b"))
        self.reactor.turn()
        self.assertEqual(["a", "b"], self.done)
        self.reactor.turn()
        self.assertTrue(self.turns.do(self.work("stale", wanted=False)))
        self.assertTrue(self.turns.do(self.work("c")))

    def test_raises(self) -> None:
        """
        Work that fails does not stop the others.
        """

        def fail() -> bool:
            raise RuntimeError("no")

        self.assertRaises(RuntimeError, self.turns.do, fail)
        self.assertTrue(self.turns.do(self.work("a")))
        self.assertEqual(["a"], self.done)
