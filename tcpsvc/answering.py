# -*- test-case-name: tests.test_answering -*-

"""
From a request to its reply: the command is found and called, and whatever
it returns or raises becomes a reply.
"""

from __future__ import annotations

from inspect import iscoroutine

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tcpsvc.commands import BadArgument, Command, Commands
from tcpsvc.wire import Reply, Request

MAX_SHOWN_VERB = 64
"""
How many characters of an unknown verb a reply repeats.
"""


_CODES = range(200, 600)


class Answering:
    """
    Answers requests by a table of commands.

    What a command raises is for the log only; of it the client learns just
    that there was something.

    @ivar find: Finds the command that a verb names, if there is one.
    @ivar over: Whether the session is over, so that late answers are given up.
    """

    over = False

    def __init__(self, commands: Commands, log: Logger) -> None:
        self.find = commands.find
        self._log = log

    def call(
        self, request: Request, command: Command | None
    ) -> str | Reply | Deferred[Reply]:
        """
        Call the command that a request is for.

        @param command: That command, if there is one.
        @return: The text of a 200 reply, another reply, or a Deferred of one that
            comes late. It never fails, and can be cancelled.
        """
        if command is None:
            verb = request.verb[:MAX_SHOWN_VERB] or "a line begins with its verb"
            return Reply(500, f"UNKNOWN-COMMAND {verb}: HELP lists the commands")
        if request.argument and not command.argument:
            return Reply(501, f"BAD-ARGUMENT {command.verb} takes no argument")
        try:
            answer = command.function(request)
        except BaseException:  # argparse exits; and SIGINT is the reactor's
            return self._failed(Failure(), request)
        if type(answer) is str:
            return answer
        if iscoroutine(answer):
            answer = Deferred.fromCoroutine(answer)
        if not isinstance(answer, Deferred):
            return self._asReply(answer, request)
        return answer.addCallbacks(
            self._asReply, self._failed, callbackArgs=(request,), errbackArgs=(request,)
        )

    def answer(
        self, request: Request, command: Command | None
    ) -> Reply | Deferred[Reply]:
        """
        Answer a request, now or later; see L{call}.
        """
        answer = self.call(request, command)
        return Reply(200, answer) if isinstance(answer, str) else answer

    def settled(self, answer: str | Reply | Deferred[Reply], request: Request) -> Reply:
        """
        What L{call} has given for a pure command, or for none, as a reply.
        """
        if isinstance(answer, str):
            return Reply(200, answer)
        if isinstance(answer, Reply):
            return answer
        over, self.over = self.over, True
        answer.cancel()
        self.over = over
        return self._failed(
            Failure(TypeError("a pure command has to answer at once")), request
        )

    def _asReply(self, answer: object, request: Request) -> Reply:
        """
        The reply that a command's answer makes.
        """
        if isinstance(answer, str):
            return Reply(200, answer)
        if isinstance(answer, Reply):
            if answer.code in _CODES and isinstance(answer.text, str):
                if answer.code == 421:
                    # Nothing may follow it (RFC 5321, section 4.2.2).
                    return answer._replace(closes=True)
                return answer
            problem = f"a command returned {answer!r}: no code and text"
        else:
            problem = f"a command returned {type(answer).__name__}; text is wanted"
        return self._failed(Failure(TypeError(problem)), request)

    def _failed(self, failure: Failure, request: Request) -> Reply:
        """
        The reply to a request whose command raised something.
        """
        verb = request.verb
        if failure.check(BadArgument):
            why = " ".join(str(failure.value).split()) or "HELP says what it should be"
            return Reply(501, f"BAD-ARGUMENT {why}")
        if self.over and failure.check(CancelledError):
            self._log.warn("the command {verb} was given up", verb=verb)
        elif self._isSecret(verb):
            self._log.error(
                "the secret command {verb} failed in session {session}: {kind}",
                verb=verb,
                session=request.client.session,
                kind=type(failure.value).__name__,
            )
        else:
            self._log.failure(
                "the command {verb} failed in session {session}",
                failure,
                verb=verb,
                session=request.client.session,
            )
        return Reply(451, f"COMMAND-FAILED {verb} failed; the service's log says why")

    def _isSecret(self, verb: str) -> bool:
        """
        Whether an exception may have in it what nobody is to read.
        """
        command = self.find(verb)
        return command is not None and command.hides
