# -*- test-case-name: tests.test_polling -*-

"""
Control connections that ask again and again, summed up in the audit trail.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from tcpsvc.events import CONTROL_POLLED, Event, Journal, SessionJournal
from tcpsvc.identity import Client
from tcpsvc.interfaces import AuditUnavailable
from tcpsvc.windows import Windows

WINDOW = 60.0
"""
Seconds for which further sessions and requests of an identity are counted before they
are told.
"""

MAX_RECORDED = 16
"""
How many requests of an identity are recorded in that time.
"""

MAX_POLLERS = 64
"""
How many identities are counted apart; all others are counted together.
"""


@define(eq=False)
class Poller:
    """
    What an identity has asked since it was last told.

    @ivar client: Who it was, the last time.
    @ivar recorded: How many requests were recorded.
    @ivar sessions: How many further sessions there were.
    @ivar requests: How many further requests there were.
    """

    client: Client
    recorded: int = field(default=0, init=False)
    sessions: int = field(default=0, init=False)
    requests: int = field(default=0, init=False)


class Polling:
    """
    Makes the journals of control sessions.

    The first control session of an identity within a minute is recorded, and up to
    L{MAX_RECORDED} requests in it. Further sessions and requests are counted, and one
    record at the end of the minute says how many they were.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pollers: Windows[str, Poller] = Windows(journal.clock, WINDOW, self._tell)

    def ofSession(self, client: Client) -> SessionJournal:
        """
        @return: The journal of a control session that begins.
        """
        name = client.identity.name
        poller = self._pollers.find(name)
        if poller is None and len(self._pollers) >= MAX_POLLERS:
            name = ""
            poller = self._pollers.find(name)
        isFirst = poller is None
        if poller is None:
            poller = self._pollers.begin(name, Poller(client))
        else:
            poller.client = client
            poller.sessions += 1
        return PolledJournal(self._journal, client.session, poller, isFirst)

    def tellAll(self) -> None:
        """
        Tell what has been counted so far, as the service is stopping.
        """
        self._pollers.tellAll()

    def _tell(self, poller: Poller) -> bool:
        """
        One record for all that was counted.

        @return: Whether there was anything.
        """
        if not (poller.sessions or poller.requests):
            return False
        record: dict[str, object] = {
            "address": poller.client.address,
            "identity": poller.client.identity.asRecord(),
            "sessions": poller.sessions,
            "requests": poller.requests,
        }
        poller.sessions = poller.requests = poller.recorded = 0
        try:
            self._journal.tell(CONTROL_POLLED, record)
            self._journal.write()
        except AuditUnavailable as error:
            self._journal.log.error("{error}", error=str(error))
        return True


class PolledJournal(SessionJournal):
    """
    The journal of a control session.
    """

    def __init__(
        self, journal: Journal, session: str, poller: Poller, isRecorded: bool
    ) -> None:
        """
        @param isRecorded: Whether the session is recorded, not only counted.
        """
        super().__init__(journal, session)
        self._poller = poller
        self._isRecorded = isRecorded
        self._isCounted = False

    def tell(self, event: Event, record: dict[str, object], **forPeople: str) -> None:
        """
        @see: L{Journal.tell}
        """
        if self._isRecorded:
            super().tell(event, record, **forPeople)

    def note(self, event: Event, record: dict[str, object]) -> None:
        """
        @see: L{Journal.note}
        """
        if self._isRecorded:
            super().note(event, record)

    def say(self, event: Event, record: dict[str, object], **forPeople: str) -> None:
        """
        @see: L{Journal.say}
        """
        if self._isRecorded:
            super().say(event, record, **forPeople)

    def request(self, n: int, asked: str, moment: float) -> None:
        """
        @see: L{ISessionJournal.request}
        """
        self._isCounted = not self._takes()
        if not self._isCounted:
            super().request(n, asked, moment)

    def reply(self, n: int, answered: str, code: int, since: float) -> float:
        """
        @see: L{ISessionJournal.reply}
        """
        if self._isCounted:
            return self.seconds()
        return super().reply(n, answered, code, since)

    def exchanges(
        self, first: int, since: float, exchanges: Iterable[tuple[str, str, float]]
    ) -> None:
        """
        @see: L{ISessionJournal.exchanges}
        """
        recorded = [one for one in exchanges if self._takes()]
        if recorded:
            super().exchanges(first, since, recorded)

    def _takes(self) -> bool:
        """
        Whether another request is recorded; otherwise it is counted.
        """
        poller = self._poller
        if self._isRecorded and poller.recorded < MAX_RECORDED:
            poller.recorded += 1
            return True
        poller.requests += 1
        self._counts["request"] += 1
        return False
