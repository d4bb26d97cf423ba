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
        self.now = 0.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def seconds(self) -> float:
        """The time."""
        return self.now

    def callLater(self, delay: float, call: Callable[[], None]) -> None:
        """Call it in a later turn."""
        self.calls.append((self.now + delay, call))

    def turn(self, after: float = 0) -> None:
        """Another turn, some seconds after the one before."""
        self.now += after
        calls, self.calls = self.calls, []
        for moment, call in calls:
            if moment <= self.now:
                call()
            else:
                self.calls.append((moment, call))


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
        While somebody is at work the first piece is done at once, and each one
        after it a while later.
        """
        self.atWork = True
        self.assertTrue(self.turns.do(self.work("a")))
        self.reactor.turn()
        self.assertFalse(self.turns.do(self.work("b")))
        self.assertFalse(self.turns.do(self.work("c")))
        for due in ("ab", "abc"):
            self.reactor.turn(SPACING * 0.4)
            self.reactor.turn(SPACING * 0.4)
            self.assertEqual(list(due[:-1]), self.done)
            self.reactor.turn(SPACING * 0.3)
            self.assertEqual(list(due), self.done)
        self.reactor.turn(SPACING)
        self.assertEqual([], self.reactor.calls)
        self.assertTrue(self.turns.do(self.work("d")))

    def test_workIsOver(self) -> None:
        """
        When nobody is at work any more nothing is to be waited for.
        """
        self.atWork = True
        self.turns.do(self.work("a"))
        self.reactor.turn()
        self.atWork = False
        self.assertTrue(self.turns.do(self.work("b")))

    def test_workIsOverMeanwhile(self) -> None:
        """
        What waits for its time then is done when that has come, all of it, and
        what comes meanwhile stays behind it.
        """
        self.atWork = True
        for name in "abc":
            self.turns.do(self.work(name))
        self.reactor.turn()
        self.atWork = False
        self.assertFalse(self.turns.do(self.work("d")))
        self.reactor.turn(SPACING)
        self.reactor.turn()
        self.reactor.turn()
        self.assertEqual(["a", "b", "c", "d"], self.done)

    def test_clockBack(self) -> None:
        """
        A clock that was set back makes nobody wait until it was caught up.
        """
        self.atWork = True
        self.turns.do(self.work("a"))
        self.reactor.turn()
        self.reactor.now -= 3600
        self.assertTrue(self.turns.do(self.work("b")))

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
        self.turns.do(fail)
        self.turns.do(self.work("b"))
        self.assertRaises(RuntimeError, self.reactor.turn)
        self.reactor.turn()
        self.assertEqual(["a", "b"], self.done)
