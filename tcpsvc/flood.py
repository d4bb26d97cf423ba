# -*- test-case-name: tests.test_flood -*-

"""
What may happen by the thousand, told once a second.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.python.failure import Failure

from tcpsvc.events import Event, Journal
from tcpsvc.interfaces import AuditUnavailable
from tcpsvc.windows import Windows

WINDOW = 1.0
"""
For how long events of one reason are counted before they are told, in seconds.
"""

FAILURE_WINDOW = 60.0
"""
For how long the traceback of an error is not logged again, in seconds.
"""

MAX_REASONS = 64
"""
How many reasons are counted apart; what comes beyond is counted together.
"""


Details = Callable[[], tuple[dict[str, object], str]]
"""
Gives further fields of a record, and what a line of the log has of them. Called only
for what is recorded, not for what is counted: it may take time.
"""


def _noDetails() -> tuple[dict[str, object], str]:
    """
    There are none.
    """
    return {}, ""


@define
class _Counted:
    """
    What has happened since it was last told.

    @ivar count: How often.
    @ivar record: What it was the last time.
    @ivar more: What the log's line had beside that.
    @ivar details: Gives further fields and words.
    """

    event: Event
    count: int = 0
    record: dict[str, object] = field(factory=dict)
    more: str = ""
    details: Details = _noDetails


class Flood:
    """
    Tells the journal of events that strangers can cause as often as they like.

    The first of a reason is told at once. Those that follow within a second are
    counted, and one record, with the details of the last of them, says how
    many they were. So there is at most one record a second for a reason.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._counted: Windows[tuple[str, str], _Counted] = Windows(
            journal.clock, WINDOW, self._summarize
        )
        self._failures: dict[tuple[object, ...], float] = {}

    def tell(
        self,
        event: Event,
        record: dict[str, object],
        more: str = "",
        details: Details = _noDetails,
    ) -> None:
        """
        Tell of one event, at once or with others like it. Nobody waits for
        the trail: that it cannot be written is told by the trail itself.

        @param record: The record's fields, C{reason} among them.
        @param more: What the log's line says beside that.
        @param details: Gives more of both.
        """
        key = (event.name, str(record["reason"]))
        counted = self._counted.find(key)
        if counted is None and len(self._counted) >= MAX_REASONS:
            key = (event.name, "")
            counted = self._counted.find(key)
        if counted is None:
            self._counted.begin(key, _Counted(event))
            further, words = details()
            self._journal.tell(event, {**record, **further}, more=more + words)
            self._write()
        else:
            self._journal.counts[event.name] += 1
            counted.count += 1
            counted.record, counted.more, counted.details = record, more, details

    def tellFailure(self, failure: Failure) -> None:
        """
        Log the traceback of an error of this program that peers can cause: for each
        place where one occurs, once in L{FAILURE_WINDOW}.
        """
        place = (failure.type, *(failure.frames[-1][1:3] if failure.frames else ()))
        now = self._journal.clock.seconds()
        last = self._failures.get(place)
        if last is not None and 0 <= now - last < FAILURE_WINDOW:
            return
        if last is not None or len(self._failures) < MAX_REASONS:
            self._failures[place] = now
            self._journal.log.failure("a client was not admitted", failure)

    def tellAll(self) -> None:
        """
        Tell what has been counted so far, as the service is stopping.
        """
        self._counted.tellAll()

    def _summarize(self, counted: _Counted) -> bool:
        """
        One record for all that was counted.

        @return: Whether there was anything.
        """
        if not counted.count:
            return False
        further, words = counted.details()
        record = {**counted.record, **further, "count": counted.count}
        more = counted.more + words
        if counted.count > 1:
            more += f" ({counted.count} of them within a second)"
        self._journal.say(counted.event, record, more=more)
        self._journal.note(counted.event, record)
        counted.count = 0
        self._write()
        return True

    def _write(self) -> None:
        """
        Write what was told. A blocked trail keeps it, and has said that it is.
        """
        try:
            self._journal.write()
        except AuditUnavailable:
            self._journal.log.debug("not recorded yet")
