# -*- test-case-name: tests.test_session -*-

"""
The session of one client with the commands: requests in, replies out.

A chunk is taken apart at once. The requests in it are answered in order, one
at a time. Requests for pure commands that stand together are recorded in one
write and answered in one; each other request is recorded before it is acted
upon, and each reply before it leaves.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from typing import Callable

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.commands import BadArgument, Command, Commands
from tcpsvc.events import SessionJournal
from tcpsvc.identity import Client
from tcpsvc.interfaces import AuditUnavailable, IBackend, ISession
from tcpsvc.wire import (
    BadRequest,
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

MAX_GATHERED_OCTETS = 65536
"""
How many octets of replies are gathered before they are sent.
"""


@implementer(ISession)
class CommandSession(LineReceiver):
    """
    One client's conversation with the commands.

    @ivar paused: Whether the client does not read its replies as fast as it
        sends requests: then it is not read from either.
    """

    MAX_LENGTH = 4096

    def __init__(
        self,
        client: Client,
        commands: Commands,
        greeting: Reply,
        journal: SessionJournal,
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
        self._greeting = greeting
        self._journal = journal
        self._end = end
        self._parser = RequestParser(client)
        self._waiting: deque[Event] = deque()
        self._waitingOctets = 0
        self._reading = True
        self._inputEnded = False
        self._stopped = False
        # What the next request waits for: a late answer, or the disk.
        self._late: Deferred[None] | None = None

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

    def inputEnded(self) -> None:
        """
        @see: L{ISession.inputEnded}
        """
        self._inputEnded = True
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
        reading = not self.paused and self._waitingOctets <= MAX_WAITING_OCTETS
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # Answers.

    def _answer(self) -> None:
        """
        Answer what waits, until something has to be waited for.
        """
        try:
            while self._waiting and self._late is None and not self.paused:
                if self._stopped:
                    return
                if not self._answerPure():
                    self._answerOne(self._waiting.popleft())
        except AuditUnavailable as error:
            self._cannotRecord(Failure(error))
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
        waiting = self._waiting
        gathered: list[bytes] = []
        octets = 0
        reason = ""
        while waiting and octets < MAX_GATHERED_OCTETS and not reason:
            event = waiting[0]
            if type(event) is Request:
                command = self._commands.find(event.verb)
                if command is not None and not command.pure:
                    break
                since = self._recordRequest({"request": event.line})
                answer = self._called(command, event)
                reply = answer if isinstance(answer, Reply) else self._tooLate(answer, event)
            elif type(event) is BadRequest:
                since = self._recordRequest(_asRecord(event))
                reply = event.reply
            else:
                assert type(event) is Negotiation
                waiting.popleft()
                gathered.append(event.answer)
                octets += len(event.answer)
                continue
            waiting.popleft()
            text = str(reply)
            self._journal.reply(self.requests, text, reply.code, since)
            gathered.append(f"{text}\r\n".encode("utf-8", "backslashreplace"))
            octets += len(gathered[-1])
            if reply.closes:
                reason = "quit" if type(event) is Request else "line-too-long"
        if gathered:
            self._whenRecorded(self._send, b"".join(gathered), reason)
        return bool(gathered)

    def _answerOne(self, event: Event) -> None:
        """
        Record a request, act on it, and answer.
        """
        assert type(event) is Request
        command = self._commands.find(event.verb)
        since = self._recordRequest({"request": event.line})
        self._whenRecorded(self._act, command, event, since)

    def _act(self, command: Command, request: Request, since: float) -> None:
        """
        Call a command whose request is recorded.
        """
        answer = self._called(command, request)
        if isinstance(answer, Reply):
            self._finish(request, since, answer)
            return
        self._late = late = answer
        late.addErrback(self._failed, request)
        late.addCallback(self._cameLate, request, since)

    def _cameLate(self, answer: object, request: Request, since: float) -> None:
        """
        A command's late answer is here, or it has given up.
        """
        self._late = None
        if self._stopped:
            return
        self._client.lastRequest = self._journal.seconds()
        try:
            self._finish(request, since, self._asReply(answer, request))
        except AuditUnavailable as error:
            self._cannotRecord(Failure(error))
        self._answer()

    def _finish(self, request: Request, since: float, reply: Reply) -> None:
        """
        Record a reply and then send it.
        """
        self._journal.reply(self.requests, str(reply), reply.code, since)
        reason = "quit" if reply.closes else ""
        self._whenRecorded(self._send, reply.encode(), reason)

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

    # Commands.

    def _called(
        self, command: Command | None, request: Request
    ) -> Reply | Deferred[object]:
        """
        Call a command.

        @return: Its reply, or a Deferred of an answer that comes late.
        """
        if command is None:
            return Reply(
                500, f"UNKNOWN-COMMAND {request.verb[:64]}: HELP lists the commands"
            )
        if request.argument and not command.argument:
            return Reply(501, f"BAD-ARGUMENT {command.verb} takes no argument")
        try:
            answer = command.function(request)
        except Exception:
            return self._failed(Failure(), request)
        if isinstance(answer, (str, Reply)):
            return self._asReply(answer, request)
        if hasattr(answer, "__await__") and not isinstance(answer, Deferred):
            answer = ensureDeferred(answer)
        if not isinstance(answer, Deferred):
            return self._asReply(answer, request)
        return answer

    def _tooLate(self, answer: Deferred[object], request: Request) -> Reply:
        """
        The reply of a command that was said to be pure and answers late.
        """
        answer.addErrback(lambda failure: None)
        answer.cancel()
        error = TypeError("a pure command has to answer at once")
        return self._failed(Failure(error), request)

    def _asReply(self, answer: object, request: Request) -> Reply:
        """
        The reply that a command's answer makes.
        """
        if isinstance(answer, Reply):
            return answer
        if isinstance(answer, str):
            return Reply(200, answer)
        kind = type(answer).__name__
        return self._failed(
            Failure(TypeError(f"a command returned {kind}; text is wanted")), request
        )

    def _failed(self, failure: Failure, request: Request) -> Reply:
        """
        The reply to a request whose command raised: what it raised is for
        the log only.
        """
        if failure.check(BadArgument):
            return Reply(501, f"BAD-ARGUMENT {' '.join(str(failure.value).split())}")
        if not (self._stopped and failure.check(CancelledError)):
            self._journal.log.failure(
                "the command {verb} failed in session {session}",
                failure,
                verb=request.verb,
                session=self._client.session,
            )
        return Reply(
            451, f"COMMAND-FAILED {request.verb} failed; the service's log says why"
        )

    # Records.

    def _recordRequest(self, fields: dict[str, object]) -> float:
        """
        Tell the journal of the next request.

        @return: When that was, in seconds since the epoch.
        """
        self.requests += 1
        now = self._journal.request(self.requests, fields)
        self._client.lastRequest = now
        return now

    def _whenRecorded(self, then: Callable[..., None], *arguments: object) -> None:
        """
        Call C{then} when all that was told is recorded: at once, or when the
        disk has it.
        """
        committed = self._journal.commit()
        if committed is None:
            then(*arguments)
            return

        def recorded(ignored: None) -> None:
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
        if not self._stopped:
            self._journal.log.error("{error}", error=str(failure.value))
            self._end("audit-unavailable")

    # The end.

    def stop(self) -> Deferred[None]:
        """
        @see: L{ISession.stop}
        """
        self._stopped = True
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


def _asRecord(bad: BadRequest) -> dict[str, object]:
    """
    The fields of a record of a line that is no request.
    """
    fields: dict[str, object]
    try:
        fields = {"request": bad.head.decode("utf-8")}
    except UnicodeDecodeError:
        fields = {"request_b64": b64encode(bad.head).decode("ascii")}
    if bad.octets > len(bad.head):
        fields["octets"] = bad.octets
    return fields


@implementer(IBackend)
class CommandBackend:
    """
    Answers clients by commands.
    """

    transparent = False

    def __init__(
        self, commands: Commands, greeting: Callable[[Client], Reply], description: str
    ) -> None:
        """
        @param greeting: What each client is greeted with.
        """
        self.description = description
        self._commands = commands
        self._greeting = greeting

    def openSession(
        self, client: Client, journal: SessionJournal, end: Callable[[str], None]
    ) -> ISession:
        """
        @see: L{IBackend.openSession}
        """
        session: ISession = CommandSession(
            client, self._commands, self._greeting(client), journal, end
        )
        return session
