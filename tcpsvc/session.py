# -*- test-case-name: tests.test_session -*-

"""
The session of one client with the commands: requests in, replies out.

A chunk is taken apart at once. The requests in it are answered in order, one
at a time. Requests for pure commands that stand together are recorded in one
write and answered in one; each other request is recorded before it is acted
upon, and each reply before it leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.answering import Answering
from tcpsvc.batch import Batch
from tcpsvc.commands import Command, Commands
from tcpsvc.identity import ANONYMOUS, Client
from tcpsvc.interfaces import AuditUnavailable, IBackend, ISession, ISessionJournal
from tcpsvc.recorded import Recorded
from tcpsvc.sockets import Transport
from tcpsvc.wire import (
    MAX_REQUEST_OCTETS,
    Event,
    Negotiation,
    Reply,
    Request,
    RequestParser,
)

MAX_WAITING_OCTETS = 65536
"""
How many octets of requests may wait for their turn before no more are read.
"""


@implementer(ISession, IPushProducer)
class CommandSession(LineReceiver):
    """
    One client's conversation with the commands.

    @ivar paused: Whether the client does not read its replies as fast as it
        sends requests: then it is not read from either.
    """

    MAX_LENGTH = MAX_REQUEST_OCTETS
    mayBeTold = True
    outcome: ClassVar[dict[str, object]] = {}
    transport: Transport  # type: ignore[assignment]  # never None while in use

    def __init__(
        self,
        client: Client,
        commands: Answering,
        recorded: Recorded,
        greeting: Reply,
        journal: ISessionJournal,
        end: Callable[[str], None],
    ) -> None:
        """
        @param end: Called once with the reason when the session is over.
        """
        self.requests = 0
        self.bytesIn = 0
        self.bytesOut = 0
        self._client = client
        self._commands = commands
        self._find = commands.find
        self._recorded = recorded
        self._greeting = greeting
        self._journal = journal
        self._end = end
        self._parser = RequestParser(client, client.identity is ANONYMOUS)
        self._waiting: deque[Event] = deque()
        self._waitingOctets = 0
        self._reading = True
        self._inputEnded = False
        self._truncated = False
        self._isWorking = False  # Whether a command takes time.
        self._answering = False
        self._stopped = False
        # What the next request waits for: a late answer, or the disk.
        self._late: Deferred[Any] | None = None

    @property
    def busy(self) -> bool:
        """
        @see: L{ISession.busy}
        """
        return self._late is not None

    def connectionMade(self) -> None:
        """
        Greet the client, and follow the pace at which it reads.
        """
        self.transport.registerProducer(self, True)
        self._write(self._greeting.encode())

    # Requests in.

    def dataReceived(self, data: bytes) -> None:
        """
        Take a chunk apart, and answer what is in it.
        """
        self.bytesIn += len(data)
        self._waiting.extend(self._parser.feed(data))
        self._waitingOctets = self._waitingOctets + len(data) if self._waiting else 0
        self._answer()

    def inputEnded(self, leaving: bool = False, truncated: bool = False) -> None:
        """
        @see: L{ISession.inputEnded}
        """
        self._inputEnded = True
        self._truncated = truncated
        if truncated and self._isWorking:
            self._end("client-closed")
        else:
            self._answer()

    def pauseProducing(self) -> None:
        """
        The client does not read: answer nothing more for now.
        """
        self.paused = True
        self._adjustReading()

    def resumeProducing(self) -> None:
        """
        The client reads again.
        """
        self.paused = False
        self._answer()

    def stopProducing(self) -> None:
        """
        The transport is going away, and says so by C{connectionLost} too.
        """

    def _adjustReading(self) -> None:
        """
        Read from the client only as far as it can be answered.
        """
        if self._stopped:
            return
        reading = not self.paused and self._hasRoom()
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _hasRoom(self) -> bool:
        """
        Whether more requests may wait for their turn.
        """
        return self._waitingOctets <= MAX_WAITING_OCTETS

    # Answers.

    def _answer(self) -> None:
        """
        Answer what waits, until something has to be waited for.
        """
        if self._answering:
            return
        self._answering = True
        try:
            while self._waiting and self._late is None and not self.paused:
                if not self._answerPure():
                    self._answerOne(self._waiting.popleft())
        except AuditUnavailable as error:
            self._cannotRecord(Failure(error))
        finally:
            self._answering = False
        if not self._waiting:
            self._waitingOctets = 0
            if self._inputEnded and self._late is None and not self._stopped:
                self._end("client-closed")
        self._adjustReading()

    def _answerPure(self) -> bool:
        """
        Answer what can be answered without an effect, in one go.

        @return: Whether there was any.
        """
        batch = Batch(self._commands, self._recorded, self._journal, self.requests)
        batch.answer(self._waiting)
        if batch.requests == self.requests:
            return False
        self.requests = batch.requests
        self._client.lastRequest = batch.moment
        self._whenRecorded(self._send, batch.octets, batch.ends)
        return True

    def _answerOne(self, event: Event) -> None:
        """
        Record a request, act on it, and answer.
        """
        if isinstance(event, Negotiation):
            self._write(event.answer)
            return
        assert isinstance(event, Request)
        command = self._find(event.verb)
        self.requests += 1
        since = self._journal.seconds()
        asked = self._recorded.request(event, command)
        self._journal.request(self.requests, asked, since)
        self._client.lastRequest = since
        self._whenRecorded(self._act, event, command, since)

    def _act(self, request: Request, command: Command, since: float) -> None:
        """
        Act on a request that is recorded.
        """
        reply = self._commands.answer(request, command)
        if self._stopped:
            # The command itself has ended the session.
            if not isinstance(reply, Reply):
                reply.cancel()
        elif isinstance(reply, Reply):
            self._finish(reply, request, command, since)
        else:
            self._late = reply
            self._isWorking = True
            reply.addCallback(self._cameLate, request, command, since)
            if self._truncated:
                self._end("client-closed")

    def _cameLate(
        self, reply: Reply, request: Request, command: Command, since: float
    ) -> None:
        """
        A late reply is here, or its command has given up.
        """
        self._late = None
        self._isWorking = False
        if self._stopped:
            return
        self._client.lastRequest = self._journal.seconds()
        try:
            self._finish(reply, request, command, since)
        except AuditUnavailable as error:
            self._cannotRecord(Failure(error))
        self._answer()

    def _finish(
        self, reply: Reply, request: Request, command: Command, since: float
    ) -> None:
        """
        Record a reply and then send it.
        """
        text = str(reply)
        answered = self._recorded.reply(request, command, reply, text)
        self._journal.reply(self.requests, answered, reply.code, since)
        reason = "quit" if reply.closes else ""
        self._whenRecorded(self._send, f"{text}\r\n".encode(), reason)

    def _send(self, octets: bytes, reason: str) -> None:
        """
        Send replies that are recorded.

        @param reason: Why the session ends with them; empty if it does not.
        """
        self._write(octets)
        if reason:
            self._end(reason)

    def _write(self, octets: bytes) -> None:
        """
        Write to the client.
        """
        self.bytesOut += len(octets)
        self.transport.write(octets)

    # Records.

    def _whenRecorded(self, then: Callable[..., None], *arguments: object) -> None:
        """
        Call C{then} when all that was told is recorded: at once, or when the
        disk has it.
        """
        committed = self._journal.commit()
        if committed is None:
            then(*arguments)
            return

        def recorded(_: None) -> None:
            self._late = None
            if not self._stopped:
                then(*arguments)
                self._answer()

        self._late = committed
        committed.addCallback(recorded)
        committed.addErrback(self._cannotRecord)

    def _cannotRecord(self, failure: Failure) -> None:
        """
        A request or reply could not be recorded: nothing is done, and nothing
        leaves.
        """
        self._late = None
        if self._stopped:
            return
        if failure.check(AuditUnavailable):
            self._journal.log.error("{error}", error=str(failure.value))
        else:
            self._journal.log.failure("a record could not be written", failure)
        self._end("audit-unavailable")

    # The end.

    def stop(self) -> Deferred[None]:
        """
        @see: L{ISession.stop}
        """
        self._stopped = True
        self._commands.over = True
        self._waiting.clear()
        self._waitingOctets = 0
        stopped: Deferred[None] = Deferred()
        late = self._late
        if late is None:
            stopped.callback(None)
        else:
            late.addBoth(lambda result: stopped.callback(None))
            late.cancel()
        return stopped

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The transport is gone; L{stop} has been called before.
        """


@implementer(IBackend)
class CommandBackend:
    """
    Answers clients by commands.
    """

    transparent = False

    def __init__(
        self,
        commands: Commands,
        greeting: Callable[[Client], Reply],
        description: str,
        others: Iterable[Command] = (),
        session: Callable[..., CommandSession] = CommandSession,
    ) -> None:
        """
        @param greeting: What each client is greeted with.
        @param others: Commands of the service that do not answer here; their
            secrets are kept out of the records all the same.
        @param session: Makes a session, from what L{CommandSession} is made from.
        """
        self.description = description
        self._commands = commands
        self._greeting = greeting
        self._others = others
        self._session = session

    def openSession(
        self,
        client: Client,
        journal: ISessionJournal,
        end: Callable[[str], None],
        told: bool,
    ) -> ISession:
        """
        @see: L{IBackend.openSession}
        """
        session: ISession = self._session(
            client,
            Answering(self._commands, journal.log),
            Recorded(self._commands, self._others),
            self._greeting(client),
            journal,
            end,
        )
        return session
