# -*- test-case-name: tests.test_paced -*-

"""
Sessions in which only so many requests a second are answered: those of control
connections, which must cost the holder of the slot next to nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tcpsvc.bucket import TokenBucket
from tcpsvc.session import CommandSession
from tcpsvc.wire import Event

RATE = 20.0
"""
How many requests a second are answered.
"""

BURST = 8.0
"""
How many are answered at once after a pause.
"""


class PacedSession(CommandSession):
    """
    A session whose requests wait until there is a token for each. While any wait,
    nothing more is read.
    """

    def __init__(self, clock: IReactorTime, *arguments: Any) -> None:
        """
        @param arguments: Those of L{CommandSession}.
        """
        super().__init__(*arguments)
        self._clock = clock
        self._bucket = TokenBucket(clock, RATE, BURST)
        self._backlog: deque[Event] = deque()
        self._timer: IDelayedCall | None = None
        self._endsLater = False

    def dataReceived(self, data: bytes) -> None:
        """
        Take a chunk apart, and answer as much of it as may be.
        """
        self.bytesIn += len(data)
        self._backlog.extend(self._parser.feed(data))
        self._release()

    def inputEnded(self, leaving: bool = False, truncated: bool = False) -> None:
        """
        @see: L{ISession.inputEnded}
        """
        self._endsLater = bool(self._backlog)
        if not self._endsLater:
            super().inputEnded(leaving, truncated)

    def stop(self) -> Deferred[None]:
        """
        @see: L{ISession.stop}
        """
        self._backlog.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return super().stop()

    def _release(self) -> None:
        """
        Let as many requests be answered as there are tokens.
        """
        while self._backlog and not self._bucket.wait():
            self._bucket.take()
            self._waiting.append(self._backlog.popleft())
        if self._backlog and (self._timer is None or not self._timer.active()):
            self._timer = self._clock.callLater(self._bucket.wait(), self._release)
        self._answer()
        if self._endsLater and not self._backlog:
            super().inputEnded()

    def _hasRoom(self) -> bool:
        """
        Nothing is read while anything waits for a token.
        """
        return not self._backlog
