# -*- test-case-name: tests.test_cli_send -*-

"""
Many requests to one session, and its replies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tcpsvc.client import CannotReach, Session, SessionEnded
from tcpsvc.client.errors import FAREWELLS
from tcpsvc.wire import Reply

MAX_AWAITED = 64
"""
How many requests may be without a reply.
"""

MAX_AWAITED_OCTETS = 65536
"""
How many octets of requests may be without a reply, save a single request.
"""


class Exchange:
    """
    Sends requests, ahead of the replies but not far, and shows each reply.

    @ivar failed: Whether a reply was an error, or the service ended the
        session.
    """

    def __init__(self, session: Session, show: Callable[[Reply], None]) -> None:
        """
        @param show: Called with each reply as it comes. What it raises ends
            the exchange.
        """
        self.failed = False
        self._session = session
        self._show = show
        self._awaited = 0
        self._octets = 0
        self._over = False
        self._trouble: Failure | None = None
        self._progress: Deferred[None] | None = None
        self._reading: Deferred[Sequence[bytes] | None] | None = None

    async def run(self, batches: AsyncIterator[Sequence[bytes]]) -> None:
        """
        Send all requests, until they or the session end; then close.

        @param batches: The requests, as they come.
        @raise Exception: What C{batches} or C{show} raised, or a
            L{ClientError} if the session does not end in good order, or
            before all is answered.
        """
        self._session.closed.addCallback(self._closed)
        try:
            await self._feed(batches)
        except BaseException:
            self._session.abort()
            raise
        words = await self._session.close()
        saysSo = words is not None and words.code in FAREWELLS
        if self._trouble is not None and not (
            saysSo and self._trouble.check(SessionEnded)
        ):
            self._trouble.raiseException()
        if words is not None and words.code == 421:
            self.failed = True
            self._show(words)

    async def _feed(self, batches: AsyncIterator[Sequence[bytes]]) -> None:
        """
        Send the requests, and wait for the last reply.
        """
        while (batch := await self._next(batches)) is not None:
            for request in batch:
                while not (self._over or self._hasRoomFor(request)):
                    await self._progressed()
                if self._over:
                    return
                self._send(request)
        while self._awaited and not self._over:
            await self._progressed()
        self._over = True

    async def _next(
        self, batches: AsyncIterator[Sequence[bytes]]
    ) -> Sequence[bytes] | None:
        """
        The next requests, or L{None} if there are none or it is over.
        """

        async def reading() -> Sequence[bytes] | None:
            return await anext(batches, None)

        if self._over:
            return None
        self._reading = Deferred.fromCoroutine(reading())
        try:
            return await self._reading
        except CancelledError:
            return None
        finally:
            self._reading = None

    def _hasRoomFor(self, request: bytes) -> bool:
        """
        Whether one more request would not be too far ahead of the replies.
        """
        return not self._awaited or (
            self._awaited < MAX_AWAITED
            and self._octets + len(request) <= MAX_AWAITED_OCTETS
        )

    def _send(self, request: bytes) -> None:
        """
        Send one request.
        """
        self._awaited += 1
        self._octets += len(request)
        reply = self._session.send(request)
        reply.addCallback(self._replied, len(request))
        reply.addErrback(self._stop)

    def _replied(self, reply: Reply, octets: int) -> None:
        """
        A reply is here.
        """
        self._awaited -= 1
        self._octets -= octets
        self.failed = self.failed or reply.isError
        self._show(reply)
        self._wake()

    def _closed(self, words: Reply | None) -> Reply | None:
        """
        The session has ended, perhaps before we wanted it to.
        """
        if not self._over:
            lost = CannotReach("the connection to the service was lost")
            self._stop(Failure(lost if words is None else SessionEnded(words)))
        return words

    def _stop(self, trouble: Failure) -> None:
        """
        Send no more: there was no reply, or it could not be shown.
        """
        if self._trouble is None:
            self._trouble = trouble
        self._over = True
        if self._reading is not None:
            self._reading.cancel()
        self._wake()

    def _progressed(self) -> Deferred[None]:
        """
        Fires at the next reply, or at trouble.
        """
        self._progress = Deferred()
        return self._progress

    def _wake(self) -> None:
        """
        Go on, if we wait.
        """
        progress, self._progress = self._progress, None
        if progress is not None:
            progress.callback(None)
