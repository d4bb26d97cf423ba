# -*- test-case-name: tests.test_client -*-

"""
The connection under a session: requests out, replies in.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tcpsvc.client.errors import (
    FAREWELLS,
    CannotReach,
    ClientError,
    ProtocolViolation,
    SessionEnded,
)
from tcpsvc.duplex import DuplexTLS
from tcpsvc.wire import ProtocolError, Reply, ReplyParser

CLOSE_PATIENCE = 2.0
"""
Seconds that the service has to say good bye, and as long again to close.
"""


class Conversation(Protocol):
    """
    One connection to a service, from behind its greeting on.
    """

    transport: DuplexTLS

    def __init__(self, clock: IReactorTime) -> None:
        self.closed: Deferred[Reply | None] = Deferred()
        self._clock = clock
        self._parser = ReplyParser()
        self._awaited: deque[Deferred[Reply]] = deque()
        self._closers: list[Deferred[Reply | None]] = []
        self._lastReply: Reply | None = None
        self._end: ClientError | None = None
        self._closing = False
        self._lost = False
        self._lostInOrder = False
        self._cutOff: IDelayedCall | None = None

    def send(self, octets: bytes) -> Deferred[Reply]:
        """
        @see: L{tcpsvc.client.Session.send}
        """
        if self._end is not None:
            return fail(self._end)
        if self._closing:
            return fail(CannotReach("the session was closed"))
        return self._sent(octets)

    def _sent(self, octets: bytes) -> Deferred[Reply]:
        """
        Send a request. An octet 255 would be taken for a telnet command, and
        has to be sent twice (RFC 854); there is none in UTF-8.
        """
        self.transport.write(octets.replace(b"\xff", b"\xff\xff") + b"\r\n")
        reply: Deferred[Reply] = Deferred()
        self._awaited.append(reply)
        return reply

    def dataReceived(self, data: bytes) -> None:
        """
        Replies, one for each request in its turn. A 421 is the service's
        last word, whatever was asked (RFC 5321, section 4.2.2).
        """
        if self._end is not None:
            return
        problem = ""
        try:
            replies = self._parser.feed(data)
        except ProtocolError as error:
            replies, problem = error.replies, f"the service sent {error}"
        for reply in replies:
            if not self._took(reply):
                return
        if problem:
            self._violated(problem)

    def _took(self, reply: Reply) -> bool:
        """
        Take one reply.

        @return: Whether there may be more.
        """
        if self._end is None:
            self._lastReply = reply
            if reply.code == 421:
                self._finish(SessionEnded(reply))
                self._leave()
            elif self._awaited:
                self._awaited.popleft().callback(reply)
            else:
                self._violated(f"the service sent a reply to no request: {reply.code}")
        return self._end is None

    def close(self) -> Deferred[Reply | None]:
        """
        @see: L{tcpsvc.client.Session.close}
        """
        if self._lost:
            return succeed(self._lastWords)
        closer: Deferred[Reply | None] = Deferred()
        self._closers.append(closer)
        if not self._closing and self._end is None:
            self._closing = True
            if self._lastWords is None:
                self._cutOff = self._clock.callLater(CLOSE_PATIENCE, self.abort)
                self._sent(b"QUIT").addCallbacks(
                    lambda _: self._leave(), lambda failure: None
                )
            else:
                self._leave()
        return closer

    def abort(self) -> None:
        """
        @see: L{tcpsvc.client.Session.abort}
        """
        self._finish(CannotReach("the connection was cut"))
        if not self._lost:
            self.transport.abortConnection()

    def _leave(self) -> None:
        """
        Close, which over TLS waits for the service to close too; but not for
        ever.
        """
        self._stopTimer()
        if not self._lost:
            self._cutOff = self._clock.callLater(
                CLOSE_PATIENCE, self.transport.abortConnection
            )
            self.transport.loseConnection()

    def _violated(self, how: str) -> None:
        """
        The service does not keep to the protocol.
        """
        self._finish(ProtocolViolation(how))
        self.transport.abortConnection()

    def _finish(self, why: ClientError) -> None:
        """
        Nothing more will be answered.
        """
        if self._end is None:
            self._end = why
        awaited, self._awaited = self._awaited, deque()
        for deferred in awaited:
            deferred.errback(self._end)

    def _stopTimer(self) -> None:
        """
        The connection need not be cut any more.
        """
        if self._cutOff is not None and self._cutOff.active():
            self._cutOff.cancel()

    @property
    def _lastWords(self) -> Reply | None:
        """
        The reply that ended the session, if one did: any may, if the service
        closes the connection in good order behind it.
        """
        last = self._lastReply
        ended = last is not None and (last.code in FAREWELLS or self._lostInOrder)
        return last if ended else None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone, and whoever waits for it is told.
        """
        self._lost = True
        self._stopTimer()
        self._lostInOrder = (
            self._end is None
            and not self._parser.midway
            and reason.check(ConnectionDone) is not None
        )
        words = self._lastWords
        if words is not None:
            # A QUIT of ours is no request of the user's.
            unanswered = max(0, len(self._awaited) - self._closing)
            self._finish(SessionEnded(words, unanswered))
        elif reason.check(ConnectionDone):
            self._finish(
                ProtocolViolation("the service closed the connection without a reply")
            )
        else:
            self._finish(CannotReach("the connection to the service was lost"))
        for waiting in (*self._closers, self.closed):
            waiting.callback(words)
