"""
Power cuts: the trail's promises against every state that a disk could be in.

A trail does its work on a real directory, while each system call and each
acknowledgement is noted. Then, for each moment of that, every state is made in
which a disk could be found afterwards, and a trail is started on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.chain import body
from tcpsvc.audit.disk import Disk
from tcpsvc.audit.trail import Trail, openTrail
from tests.support import EPOCH, Beside, auditKey, clockAtEpoch, verifiedRecords

NAME = "audit.jsonl"


@define
class Contents:
    """
    A file, by whatever name.

    @ivar octets: What was written.
    @ivar safe: How many of them are on the disk for certain.
    """

    octets: bytes = b""
    safe: int = 0


@define
class State:
    """
    What there is at one moment.

    @ivar files: All files there have ever been, by number.
    @ivar names: The directory, as programs see it: numbers by names.
    @ivar history: The directory as it was on the disk for certain, and after each
        change since.
    @ivar acknowledged: The records of which somebody was told that they are
        recorded.
    @ivar moment: What the clock says.
    """

    files: dict[int, Contents] = field(factory=dict)
    names: dict[str, int] = field(factory=dict)
    history: list[dict[str, int]] = field(factory=lambda: [{}])
    acknowledged: tuple[int, ...] = ()
    moment: float = EPOCH

    def copy(self) -> State:
        """
        @return: The same, that will not change.
        """
        return State(
            {number: evolve(one) for number, one in self.files.items()},
            dict(self.names),
            [dict(names) for names in self.history],
            self.acknowledged,
            self.moment,
        )


class Witness:
    """
    Stands between a trail and the system, and notes what is done.

    @ivar states: What there was after each call.
    @ivar calls: What was called, for messages.
    """

    def __init__(self, case: SynchronousTestCase, directory: Path) -> None:
        self.state = State()
        self.states: list[State] = []
        self.calls: list[str] = []
        self._directory = directory
        self._open: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        for name in ("open", "close", "write", "ftruncate", "fdatasync", "fsync"):
            self._between(case, name, getattr(self, name))
        self._between(case, "rename", self.rename)

    def _between(
        self, case: SynchronousTestCase, name: str, note: Callable[..., None]
    ) -> None:
        """
        Note each call of a function of L{os}.
        """
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            note(result, *arguments)
            return result

        case.patch(os, name, call)

    def _happened(self, what: str) -> None:
        """
        Keep the state as it is now.
        """
        self.calls.append(what)
        self.states.append(self.state.copy())

    def open(self, descriptor: int, path: Any, *_: Any) -> None:
        """A file was opened, or made."""
        if Path(path) == self._directory:
            self._open[descriptor] = -1
        elif Path(path).parent == self._directory:
            inode = os.fstat(descriptor).st_ino
            if inode not in self._numbers:
                number = self._numbers[inode] = len(self._numbers)
                self.state.files[number] = Contents()
                self.state.names[Path(path).name] = number
                self.state.history.append(dict(self.state.names))
                self._happened("create")
            self._open[descriptor] = self._numbers[inode]

    def close(self, _: None, descriptor: int) -> None:
        """A file was closed."""
        self._open.pop(descriptor, None)

    def write(self, count: int, descriptor: int, octets: bytes) -> None:
        """Something was written."""
        if descriptor in self._open:
            self.state.files[self._open[descriptor]].octets += bytes(octets[:count])
            self._happened("write")

    def ftruncate(self, _: None, descriptor: int, size: int) -> None:
        """A file was cut."""
        if descriptor in self._open:
            file = self.state.files[self._open[descriptor]]
            file.octets = file.octets[:size]
            file.safe = min(file.safe, size)
            self._happened("truncate")

    def fdatasync(self, _: None, descriptor: int) -> None:
        """A file was forced to the disk."""
        file = self.state.files[self._open[descriptor]]
        file.safe = len(file.octets)
        self._happened("fdatasync")

    def fsync(self, _: None, descriptor: int) -> None:
        """The directory was forced to the disk."""
        assert self._open[descriptor] == -1
        del self.state.history[:-1]
        self._happened("fsync")

    def rename(self, _: None, old: Any, new: Any) -> None:
        """A file was renamed."""
        names = self.state.names
        names[Path(new).name] = names.pop(Path(old).name)
        self.state.history.append(dict(names))
        self._happened("rename")

    def acknowledge(self, number: int, committed: Deferred[None] | None) -> None:
        """Note when somebody is told that a record is recorded."""

        def told(_: None) -> None:
            self.state.acknowledged += (number,)
            self._happened("acknowledge")

        if committed is None:
            told(None)
        else:
            committed.addCallback(told)


def firstNumber(path: Path) -> int:
    """
    The number of a file's first record: the order of a trail's files.
    """
    with path.open("rb") as file:
        found = re.match(rb'{"seq":([0-9]+),', file.readline())
    return int(found[1]) if found else 0


def afterPowerCut(state: State, every: bool) -> Iterator[dict[str, bytes]]:
    """
    All states that a disk can be in, if the power is cut now: of each file, any
    beginning of what may not be there yet; in its place nothing, or zeros, as
    when the size is on the disk and the octets are not; of the directory, any
    state since it was forced to the disk.

    @param every: Whether to cut at every octet; else at some.
    """
    for names in state.history:
        present = {number: name for name, number in names.items()}
        whole = {number: state.files[number].octets for number in present}
        unsafe = [n for n in present if state.files[n].safe < len(whole[n])]
        yield {present[n]: octets for n, octets in whole.items()}
        least = {n: whole[n][: state.files[n].safe] for n in present}
        yield {present[n]: octets for n, octets in least.items()}
        for torn in unsafe:
            octets, safe = whole[torn], state.files[torn].safe
            size = len(octets)
            newlines = {
                n + d for n in range(safe, size) for d in (0, 1) if octets[n] == 10
            }
            cuts = {*range(safe, size, 1 if every else 97), *newlines, size - 1, size}
            for cut in cuts:
                for others in (whole, least):
                    for filled in (octets[:cut], octets[:cut] + b"\0" * (size - cut)):
                        yield {
                            present[n]: filled if n == torn else others[n]
                            for n in present
                        }


def afterKill(state: State) -> Iterator[dict[str, bytes]]:
    """
    The one state of the disk if only the process is killed.
    """
    yield {name: state.files[number].octets for name, number in state.names.items()}


class PowerCutTests(SynchronousTestCase):
    """
    A trail, a witness, and what can be found afterwards.
    """

    def setUp(self) -> None:
        """
        Begin.
        """
        self.clock = clockAtEpoch()
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.beside = Beside()
        self.number = 0
        self.witness = Witness(self, self.directory)

    def open(self, sync: str, maxOctets: int = 0) -> Trail:
        """
        Open the trail.
        """
        return openTrail(
            self.directory / NAME,
            auditKey(),
            self.clock,
            Disk(self.beside, self.fail),
            sync,
            maxOctets,
        )[0]

    def record(self, trail: Trail, event: str = "request", octets: int = 9) -> None:
        """
        Record something, and note when it is acknowledged.
        """
        self.number += 1
        fields: dict[str, object] = {
            "session": "s",
            "n": self.number,
            "id": self.number,
        }
        fields["x"] = "x" * octets
        moment = self.clock.seconds()
        if event == "request":
            trail.extend("s", self.number, [body(moment, event, fields)])
        else:
            trail.append(moment, event, fields)
        self.witness.state.moment = self.clock.seconds()
        self.witness.acknowledge(self.number, trail.commit())

    def wait(self, seconds: float) -> None:
        """
        Let time go by.
        """
        self.clock.advance(seconds)
        self.witness.state.moment = self.clock.seconds()

    def assertSurvives(
        self,
        states: Callable[[State], Iterator[dict[str, bytes]]],
        expected: Callable[[State], set[int]],
    ) -> int:
        """
        Whatever state the disk is in afterwards: the next start succeeds, the
        chain goes on without a break over all files, and what was to be recorded
        is.

        @param states: The states of the disk.
        @param expected: The records that have to be there.
        @return: How many states there were.
        """
        for name in ("fsync", "fdatasync"):
            self.patch(os, name, lambda _: None)
        seen: set[tuple[tuple[str, bytes], ...]] = set()
        place = self.directory.with_name("found")
        place.mkdir()
        for moment, state in enumerate(self.witness.states):
            wanted = expected(state)
            for found in states(state):
                key = (*sorted(found.items()), ("", repr(sorted(wanted)).encode()))
                if key in seen:
                    continue
                seen.add(key)
                where = f"after {self.witness.calls[: moment + 1]}: {found}"
                for name, octets in found.items():
                    (place / name).write_bytes(octets)
                self.assertGoesOn(place, wanted, where)
                for path in place.iterdir():
                    path.unlink()
        return len(seen)

    def assertGoesOn(self, place: Path, wanted: set[int], where: str) -> None:
        """
        A service starts and stops with what is found.
        """
        clock = clockAtEpoch()
        trail, ending = openTrail(
            place / NAME, auditKey(), clock, Disk(self.beside, self.fail), "no"
        )
        trail.append(EPOCH, "after", {})
        trail.commit()
        trail.close()
        files = [
            path
            for path in sorted(place.iterdir(), key=firstNumber)
            if ".torn-" not in path.name
        ]
        records = verifiedRecords(*files)
        ids = [record["id"] for record in records if "id" in record]
        self.assertEqual(sorted(ids), ids, where)
        self.assertEqual(set(), wanted - set(ids), where)
        self.assertEqual("after", records[-2]["event"], where)
        began, ended = (
            sum(record["event"] == event for record in records)
            for event in ("session.opened", "session.closed")
        )
        self.assertEqual(began - ended, len(ending.left), where)

    def acknowledged(self, state: State) -> set[int]:
        """
        What was acknowledged.
        """
        return set(state.acknowledged)

    def test_always(self) -> None:
        """
        Under C{always}, whatever was acknowledged is recorded.
        """
        trail = self.open("always")
        self.record(trail, "session.opened")
        self.beside.workAll()
        self.record(trail)
        self.record(trail, octets=200)
        self.beside.work()
        self.record(trail)
        self.beside.work()
        self.record(trail, "session.closed")
        self.beside.workAll()
        self.record(trail, "session.refused")
        trail.close()
        self.assertEqual(5, len(self.witness.state.acknowledged))
        states = self.assertSurvives(
            lambda state: afterPowerCut(state, True), self.acknowledged
        )
        self.assertGreater(states, 1000)

    def test_alwaysRenamed(self) -> None:
        """
        So it is over a renaming, at each step of it.
        """
        trail = self.open("always")
        self.record(trail, "session.opened")
        self.beside.workAll()
        self.record(trail)
        (self.directory / NAME).rename(self.directory / f"{NAME}.1")
        self.record(trail)
        trail.reopen()
        self.record(trail)
        self.beside.work()
        self.record(trail)
        self.beside.work()
        self.record(trail)
        self.beside.workAll()
        trail.close()
        self.assertEqual(6, len(self.witness.state.acknowledged))
        states = self.assertSurvives(
            lambda state: afterPowerCut(state, False), self.acknowledged
        )
        self.assertGreater(states, 100)

    def test_alwaysBySize(self) -> None:
        """
        So it is over several files that have reached their size.
        """
        trail = self.open("always", 700)
        self.record(trail, "session.opened")
        for _ in range(7):
            self.record(trail, octets=250)
            self.beside.work()
        self.beside.workAll()
        trail.close()
        self.assertGreater(len(self.witness.state.names), 2)
        self.assertEqual(8, len(self.witness.state.acknowledged))
        self.assertSurvives(
            lambda state: afterPowerCut(state, False), self.acknowledged
        )

    def test_everysec(self) -> None:
        """
        Under C{everysec} nothing is lost that is older than about a second, also
        over a new file.
        """
        trail = self.open("everysec", 2000)
        times: dict[int, float] = {}
        self.record(trail, "session.opened")
        for number in range(40):
            self.record(trail, octets=150)
            times[self.number] = self.clock.seconds()
            self.wait(0.3)
            if number % 2:
                self.beside.workAll()
        trail.close()
        self.assertGreater(len(self.witness.state.names), 2)

        def old(state: State) -> set[int]:
            # A second, and what the disk takes: here up to 0.6 s.
            return {n for n, time in times.items() if time <= state.moment - 2}

        self.assertSurvives(lambda state: afterPowerCut(state, False), old)

    def kill(self, sync: str) -> None:
        """
        Kill the process at whatever step: of writing, of a renaming, of a new file.
        """
        trail = self.open(sync, 700)
        self.record(trail, "session.opened")
        for number in range(9):
            self.record(trail, octets=250)
            if self.beside.waiting:
                self.beside.work()
            self.wait(0.3)
            if number == 4 and (self.directory / NAME).exists():
                (self.directory / NAME).rename(self.directory / f"{NAME}.2027")
                trail.reopen()
        self.beside.workAll()
        trail.close()
        self.assertEqual(10, len(self.witness.state.acknowledged))
        self.assertIn(f"{NAME}.2027", self.witness.state.names)
        self.assertGreater(len(self.witness.state.names), 3)
        self.assertSurvives(afterKill, self.acknowledged)

    def test_killNo(self) -> None:
        """
        If only the process is killed, nothing that was acknowledged is lost, even
        under C{no}.
        """
        self.kill("no")

    def test_killEverysec(self) -> None:
        """
        So it is under C{everysec}.
        """
        self.kill("everysec")

    def test_killAlways(self) -> None:
        """
        So it is under C{always}.
        """
        self.kill("always")

    def test_wouldBeSeen(self) -> None:
        """
        These tests would see a trail that acknowledges too early.
        """
        trail = self.open("no")
        self.record(trail)
        self.assertRaises(
            self.failureException,
            self.assertSurvives,
            lambda state: afterPowerCut(state, True),
            self.acknowledged,
        )
        trail.close()
