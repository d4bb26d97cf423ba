# -*- test-case-name: tests.test_batch -*-

"""
Requests for pure commands that came together: they are answered in one go, and
recorded in one write before the replies leave in one.
"""

from __future__ import annotations

from collections import deque

from tcpsvc.answering import Answering
from tcpsvc.commands import Command
from tcpsvc.interfaces import ISessionJournal
from tcpsvc.recorded import Recorded
from tcpsvc.wire import BadRequest, Event, Reply, Request, written

MAX_GATHERED_OCTETS = 65536
"""
How many octets of replies are gathered before they are sent.
"""


class Batch:
    """
    Answers the first requests of those that wait, as far as they are pure.

    @ivar requests: The number of the last one in its session.
    @ivar moment: When that was answered, or the first one taken in hand, by the
        journal's C{seconds}.
    @ivar ends: Why the session ends with it; empty if it does not.
    """

    __slots__ = (
        *("requests", "moment", "ends"),
        *("_answering", "_recorded", "_journal", "_replies", "_plain"),
    )

    def __init__(
        self,
        answering: Answering,
        recorded: Recorded,
        journal: ISessionJournal,
        requests: int,
    ) -> None:
        """
        @param requests: The number of the last request before.
        """
        self.requests = requests
        self.moment = journal.seconds()
        self.ends = ""
        self._answering = answering
        self._recorded = recorded
        self._journal = journal
        self._replies: list[str] = []
        # Requests answered by a text, what was sent, when; not yet told.
        self._plain: list[tuple[str, str, float]] = []

    @property
    def octets(self) -> bytes:
        """The replies as they are sent."""
        return "\r\n".join((*self._replies, "")).encode()

    def answer(self, waiting: deque[Event]) -> None:
        """
        Answer requests, and tell of them.

        @param waiting: Loses what is answered.
        """
        find, call = self._answering.find, self._answering.call
        seconds, replies, plain = self._journal.seconds, self._replies, self._plain
        octets = 0
        while waiting and octets < MAX_GATHERED_OCTETS and not self.ends:
            event = waiting[0]
            if type(event) is Request:
                command = find(event.verb)
                if command is not None and not command.pure:
                    break
                waiting.popleft()
                answer = call(event, command)
                if type(answer) is str and command is not None and not command.hides:
                    text = written(200, answer)
                    plain.append((event.line, text, seconds()))
                else:
                    reply = self._answering.settled(answer, event)
                    text = self._tell(event, command, reply)
            elif type(event) is BadRequest:
                waiting.popleft()
                text = self._tell(event, None, event.reply)
            else:
                break
            replies.append(text)
            octets += len(text)
        self._tellPlain()

    def _tellPlain(self) -> None:
        """
        Tell of the requests that were answered by a text.
        """
        if self._plain:
            self._journal.exchanges(self.requests + 1, self.moment, self._plain)
            self.requests += len(self._plain)
            self.moment = self._plain[-1][2]
            self._plain.clear()

    def _tell(
        self, event: Request | BadRequest, command: Command | None, reply: Reply
    ) -> str:
        """
        Tell of a request that was answered in another way.

        @return: The reply as it is sent.
        """
        self._tellPlain()
        self.requests += 1
        text = str(reply)
        asked = self._recorded.request(event, command)
        answered = self._recorded.reply(event, command, reply, text)
        self._journal.request(self.requests, asked, self.moment)
        self.moment = self._journal.reply(
            self.requests, answered, reply.code, self.moment
        )
        if reply.closes:
            self.ends = "quit" if type(event) is Request else reply.word.lower()
        return text
