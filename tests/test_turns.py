"""
Tests for L{tcpsvc.turns}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.turns import (
    ACTIVE,
    LOCK_STEP,
    LOCK_STEP_FACTOR,
    MAX_PAUSE,
    TURN_BUDGET,
    Turns,
)

COST = TURN_BUDGET * 2
"""
Seconds that a piece of work takes here: one a turn.
"""


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
        self.quiet = float("inf")
        self.spent = 0.0
        self.turns = Turns(
            cast(IReactorTime, self.reactor), lambda: self.quiet, lambda: self.spent
        )
        self.done: list[str] = []

    def work(
        self, name: str, wanted: bool = True, cost: float = COST
    ) -> Callable[[], bool]:
        """
        @return: Work that keeps its name, if it is still wanted.
        """

        def work() -> bool:
            if wanted:
                self.done.append(name)
                self.spent += cost
            return wanted

        return work

    def do(self, name: str, group: str = "", cost: float = COST) -> bool:
        """
        Bring a piece of work.
        """
        return self.turns.do(group, self.work(name, cost=cost))

    def test_first(self) -> None:
        """
        The first work of a turn is done at once.
        """
        self.assertTrue(self.do("a"))
        self.assertEqual(["a"], self.done)

    def test_oneATurn(self) -> None:
        """
        What comes after it waits, in order, for a turn of its own.
        """
        self.do("a")
        self.assertFalse(self.do("b"))
        self.assertFalse(self.do("c"))
        self.assertEqual(["a"], self.done)
        self.reactor.turn()
        self.assertEqual(["a", "b"], self.done)
        self.assertFalse(self.do("d"))
        self.reactor.turn()
        self.reactor.turn()
        self.assertEqual(["a", "b", "c", "d"], self.done)

    def test_nextTurn(self) -> None:
        """
        In the next turn the first work is done at once again, and nothing is left
        to be called when there is nothing to do.
        """
        self.do("a")
        self.reactor.turn()
        self.assertEqual([], self.reactor.calls)
        self.assertTrue(self.do("b"))
        self.assertEqual(["a", "b"], self.done)

    def test_budget(self) -> None:
        """
        Several short pieces are done in one turn, until they have taken long enough.
        """
        cost = TURN_BUDGET / 2.5
        for name in "abcde":
            self.do(name, cost=cost)
        self.assertEqual(["a", "b", "c"], self.done)
        self.reactor.turn()
        self.assertEqual(["a", "b", "c", "d", "e"], self.done)

    def test_groups(self) -> None:
        """
        Groups take turns, however much work one of them brings.
        """
        for name in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
            self.do(name, group=name[0])
        for _ in range(7):
            self.reactor.turn()
        self.assertEqual(["a1", "a2", "b1", "c1", "a3", "b2", "a4"], self.done)

    def test_lockStep(self) -> None:
        """
        While the holder is in lock-step the first piece is done at once, and each one
        after it when many times as long has passed as that took.
        """
        self.quiet = 0
        spacing = COST * LOCK_STEP_FACTOR
        self.assertTrue(self.do("a"))
        self.reactor.turn()
        self.assertFalse(self.do("b"))
        self.assertFalse(self.do("c"))
        for due in ("ab", "abc"):
            for _ in range(16):
                self.reactor.turn(spacing / 20)
            self.assertEqual(list(due[:-1]), self.done)
            for _ in range(6):
                self.reactor.turn(spacing / 20)
            self.assertEqual(list(due), self.done)
        for _ in range(22):
            self.reactor.turn(spacing / 20)
        self.assertEqual([], self.reactor.calls)
        self.assertTrue(self.do("d"))

    def test_notLockStep(self) -> None:
        """
        A holder that sends nothing for a while has half of the time.
        """
        self.quiet = LOCK_STEP
        self.do("a")
        self.reactor.turn()
        self.assertFalse(self.do("b"))
        self.reactor.turn(COST / 2)
        self.assertEqual(["a"], self.done)
        self.reactor.turn(COST / 2)
        self.assertEqual(["a", "b"], self.done)

    def test_notLockStepAnyMore(self) -> None:
        """
        That the holder is not in lock-step is noticed soon.
        """
        self.quiet = 0
        self.do("a", cost=1)
        self.reactor.turn()
        self.do("b")
        self.reactor.turn(0.0001)
        self.quiet = LOCK_STEP
        self.reactor.turn(MAX_PAUSE)
        self.assertEqual(["a", "b"], self.done)

    def test_longest(self) -> None:
        """
        Nothing waits longer than a tenth of a second for the holder.
        """
        self.quiet = 0
        self.do("a", cost=1)
        self.do("b")
        for _ in range(round(MAX_PAUSE / LOCK_STEP)):
            self.reactor.turn(LOCK_STEP)
        self.reactor.turn(LOCK_STEP)
        self.assertEqual(["a", "b"], self.done)

    def test_inactive(self) -> None:
        """
        Behind a holder that has sent nothing for longer nothing waits.
        """
        self.quiet = 0
        self.do("a")
        self.reactor.turn()
        self.quiet = ACTIVE
        self.assertTrue(self.do("b"))

    def test_empty(self) -> None:
        """
        It is known whether work waits.
        """
        self.do("a")
        self.assertTrue(self.turns.empty)
        self.do("b")
        self.assertFalse(self.turns.empty)
        self.reactor.turn()
        self.assertTrue(self.turns.empty)

    def test_unwanted(self) -> None:
        """
        Work that is not wanted any more takes nobody's turn.
        """
        self.do("a")
        for _ in range(1000):
            self.turns.do("", self.work("stale", wanted=False))
        self.do("b")
        self.reactor.turn()
        self.assertEqual(["a", "b"], self.done)
        self.reactor.turn()
        self.assertTrue(self.turns.do("", self.work("stale", wanted=False)))
        self.assertTrue(self.do("c"))

    def test_raises(self) -> None:
        """
        Work that fails does not stop the others.
        """

        def fail() -> bool:
            raise RuntimeError("no")

        self.assertRaises(RuntimeError, self.turns.do, "", fail)
        self.assertTrue(self.do("a"))
        self.turns.do("", fail)
        self.do("b")
        self.assertRaises(RuntimeError, self.reactor.turn)
        self.reactor.turn()
        self.assertEqual(["a", "b"], self.done)
