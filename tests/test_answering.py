"""
Tests for L{tcpsvc.answering}.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.answering import MAX_SHOWN_VERB, Answering
from tcpsvc.commands import BadArgument, Command, Commands, Function
from tcpsvc.wire import Reply, Request
from tests.support import LogLines, clientNamed

SECRET = "the password is swordfish"
FAILED = Reply(451, "COMMAND-FAILED DO failed; the service's log says why")


def request(verb: str = "DO", argument: str = "") -> Request:
    """
    @return: A request of alice's.
    """
    line = f"{verb} {argument}".rstrip()
    return Request(line, verb, argument, clientNamed(session="session-7"))


def answered(answering: Answering, request: Request) -> Reply | Deferred[Reply]:
    """
    @return: What a request is answered by the command that it is for.
    """
    return answering.answer(request, answering.find(request.verb))


def answeredNow(answering: Answering, request: Request) -> Reply:
    """
    @return: What a request for a pure command is answered.
    """
    called = answering.call(request, answering.find(request.verb))
    return answering.settled(called, request)


class _Awaitable:
    """
    What can be awaited and is no coroutine.
    """

    def __await__(self) -> Generator[Any, Any, str]:
        yield
        return "text"


class AnsweringTests(SynchronousTestCase):
    """
    Tests for L{Answering}.
    """

    def setUp(self) -> None:
        """
        Keep the log.
        """
        self.log = LogLines()

    def answering(
        self, function: Function, *, argument: str = "", pure: bool = False
    ) -> Answering:
        """
        @return: What answers by one command, C{DO}, of this function.
        """
        one = Command("DO", function, argument=argument, pure=pure, aliases=("ALSO",))
        return Answering(Commands([one]), Logger(namespace="tcpsvc", observer=self.log))

    def now(self, function: Function, argument: str = "") -> Reply:
        """
        @return: The reply to a request whose argument is C{argument}; it has to
            be there at once, without a Deferred.
        """
        reply = answered(
            self.answering(function, argument="TEXT"), request(argument=argument)
        )
        assert isinstance(reply, Reply)
        return reply

    def late(self, function: Function) -> Deferred[Reply]:
        """
        @return: The reply that comes as a Deferred.
        """
        reply = answered(self.answering(function), request())
        assert isinstance(reply, Deferred)
        return reply

    def assertLogged(self, kind: type[BaseException], text: str) -> None:
        """
        Fail unless the log has just one failure of this kind, with its
        traceback, the verb and the session.
        """
        (event,) = self.log.events
        self.assertEqual(event["log_level"], LogLevel.critical)
        failure = event["log_failure"]
        self.assertIsInstance(failure.value, kind)
        self.assertIn(text, failure.getTraceback())
        self.assertEqual(event["verb"], "DO")
        self.assertEqual(event["session"], "session-7")

    def test_text(self) -> None:
        """
        Text becomes a 200 reply.
        """
        self.assertEqual(self.now(lambda request: "done"), Reply(200, "done"))
        self.assertEqual(self.now(lambda request: ""), Reply(200, ""))

    def test_reply(self) -> None:
        """
        A reply stays as it is.
        """
        for reply in (Reply(221, "bye", closes=True), Reply(450, "TRY-LATER x")):
            self.assertIs(self.now(lambda request, reply=reply: reply), reply)  # type: ignore[misc]

    def test_request(self) -> None:
        """
        The function gets the request, with its line, argument and client.
        """
        got: list[Request] = []
        asked = request(argument="a b")

        def do(request: Request) -> str:
            got.append(request)
            return ""

        answered(self.answering(do, argument="TEXT"), asked)
        self.assertIs(got[0], asked)

    def test_alias(self) -> None:
        """
        A command answers to its other verbs too.
        """
        answering = self.answering(lambda request: request.verb)
        self.assertEqual(answered(answering, request("ALSO")), Reply(200, "ALSO"))

    def test_deferred(self) -> None:
        """
        A Deferred of text or of a reply becomes a Deferred of the reply, which
        fires when it does.
        """
        for answer, reply in (
            ("done", Reply(200, "done")),
            (Reply(202, "so"), Reply(202, "so")),
        ):
            waiting: Deferred[object] = Deferred()
            late = self.late(lambda request, waiting=waiting: waiting)  # type: ignore[misc]
            self.assertNoResult(late)
            waiting.callback(answer)
            self.assertEqual(self.successResultOf(late), reply)

    def test_firedDeferred(self) -> None:
        """
        A Deferred that has fired already is a reply all the same.
        """
        late = self.late(lambda request: succeed("done"))
        self.assertEqual(self.successResultOf(late), Reply(200, "done"))

    def test_coroutine(self) -> None:
        """
        A coroutine is run; it may await Deferreds.
        """
        waiting: Deferred[str] = Deferred()

        async def do(_: Request) -> Reply:
            return Reply(202, await waiting)

        late = self.late(do)
        self.assertNoResult(late)
        waiting.callback("at last")
        self.assertEqual(self.successResultOf(late), Reply(202, "at last"))

    def test_unknown(self) -> None:
        """
        An unknown verb gets 500 UNKNOWN-COMMAND, and is shown in part if long.
        """
        answering = self.answering(lambda request: "")
        self.assertEqual(
            answered(answering, request("NO")),
            Reply(500, "UNKNOWN-COMMAND NO: HELP lists the commands"),
        )
        reply = answered(answering, request("N" * 4000))
        assert isinstance(reply, Reply)
        self.assertIn(f" {'N' * MAX_SHOWN_VERB}:", reply.text)
        self.assertEqual(self.log.events, [])

    def test_noArgumentWanted(self) -> None:
        """
        A command that takes no argument is not called with one: 501
        BAD-ARGUMENT.
        """
        calls: list[Request] = []
        answering = self.answering(calls.append)
        self.assertEqual(
            answered(answering, request(argument="x")),
            Reply(501, "BAD-ARGUMENT DO takes no argument"),
        )
        self.assertEqual(calls, [])

    def test_badArgument(self) -> None:
        """
        The message of a L{BadArgument} is told, in one line, however it comes;
        the log has none of it.
        """

        def do(_: Request) -> str:
            raise BadArgument("volts\r\n221 are  wanted")

        async def doLate(request: Request) -> str:
            return do(request)

        wanted = Reply(501, "BAD-ARGUMENT volts 221 are wanted")
        self.assertEqual(self.now(do), wanted)
        for late in (
            self.late(doLate),
            self.late(lambda request: fail(BadArgument("volts\n221 are wanted"))),
        ):
            self.assertEqual(self.successResultOf(late), wanted)
        self.assertEqual(self.log.events, [])

    def test_raises(self) -> None:
        """
        Of what a command raises nothing reaches the client: 451
        COMMAND-FAILED. The log has the traceback.
        """
        for error in (
            ValueError(SECRET),
            KeyError(SECRET),
            SystemExit(SECRET),
            RecursionError(SECRET),
            UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET),
        ):

            def do(_: Request, error: BaseException = error) -> str:
                raise error

            self.assertEqual(self.now(do), FAILED)
            self.assertLogged(type(error), "in do")
            self.assertIn(SECRET, str(self.log.events[0]["log_failure"].value))
            self.log.events.clear()

    def test_raisesLate(self) -> None:
        """
        The same holds for a Deferred that fails and a coroutine that raises.
        """

        async def do(_: Request) -> str:
            await succeed(None)
            raise LookupError(SECRET)

        async def leave(_: Request) -> str:
            raise SystemExit(SECRET)

        for function, kind in (
            (do, LookupError),
            (leave, SystemExit),
            (lambda request: fail(LookupError(SECRET)), LookupError),
        ):
            late = self.late(function)
            self.assertEqual(self.successResultOf(late), FAILED)
            self.assertLogged(kind, SECRET)
            self.log.events.clear()

    def test_nothingUnhandled(self) -> None:
        """
        A failure that became a reply is not told a second time when its
        Deferred is collected.
        """
        late: Deferred[Reply] | None = self.late(lambda request: fail(KeyError("x")))
        self.assertEqual(len(self.log.events), 1)
        del late
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_wrongTypes(self) -> None:
        """
        What is neither text nor a reply is the command's failure, however it
        comes, and so is a reply without a code or a text.
        """
        for answer in (
            None,
            b"bytes",
            200,
            ["list"],
            _Awaitable(),
            Reply,
            Reply(200, None),  # type: ignore[arg-type]
            Reply("200", "text"),  # type: ignore[arg-type]
            Reply(99, "text"),
            Reply(600, "text"),
        ):

            def do(_: Request, answer: object = answer) -> object:
                return answer

            async def doLate(_: Request, answer: object = answer) -> object:
                return answer

            self.assertEqual(self.now(do), FAILED)
            self.assertLogged(TypeError, "a command returned ")
            self.log.events.clear()
            self.assertEqual(self.successResultOf(self.late(doLate)), FAILED)
            self.assertLogged(TypeError, "a command returned ")
            self.log.events.clear()

    def test_cancelled(self) -> None:
        """
        When the session is over, cancelling a late reply cancels what the command
        waits for; the log says that it was given up, without a traceback.
        """
        self.patch(Answering, "over", True)
        cancelled: list[object] = []

        async def do(_: Request) -> str:
            return await Deferred(cancelled.append)

        functions: tuple[Function, ...] = (
            do,
            lambda request: Deferred(cancelled.append),
        )
        for function in functions:
            late = self.late(function)
            late.cancel()
            self.assertEqual(self.successResultOf(late), FAILED)
            (event,) = self.log.events
            self.assertEqual(event["log_level"], LogLevel.warn)
            self.assertEqual(event["verb"], "DO")
            self.assertNotIn("log_failure", event)
            self.log.events.clear()
        self.assertEqual(len(cancelled), 2)

    def test_cancelledByItself(self) -> None:
        """
        A command that is cancelled while its session goes on has failed, and the
        log has the traceback.
        """
        late = self.late(lambda request: Deferred())
        late.cancel()
        self.assertEqual(self.successResultOf(late), FAILED)
        self.assertLogged(CancelledError, "")

    def test_lastWord(self) -> None:
        """
        A command that answers 421 ends the session: nothing may follow it.
        """
        reply = self.now(lambda request: Reply(421, "GONE for lunch"))
        self.assertEqual(reply, Reply(421, "GONE for lunch", closes=True))

    def test_anyException(self) -> None:
        """
        Whatever a command raises, the connection outlives it.
        """
        for kind in (KeyboardInterrupt, SystemExit, GeneratorExit):

            def do(_: Request, kind: type[BaseException] = kind) -> str:
                raise kind

            self.assertEqual(self.now(do), FAILED)
            self.log.events.clear()

    def test_noWords(self) -> None:
        """
        A BadArgument without words still gets some.
        """

        def do(_: Request) -> str:
            raise BadArgument

        self.assertEqual(
            self.now(do), Reply(501, "BAD-ARGUMENT HELP says what it should be")
        )

    def test_cleansUp(self) -> None:
        """
        A coroutine that is cancelled may still clean up, and even answer.
        """

        async def do(_: Request) -> str:
            try:
                await Deferred()
            except CancelledError:
                return "cleaned up"
            return "never"

        late = self.late(do)
        late.cancel()
        self.assertEqual(self.successResultOf(late), Reply(200, "cleaned up"))

    def test_find(self) -> None:
        """
        A command is found by each of its verbs, and says whether it is pure; for
        another verb there is none.
        """
        for pure in (True, False):
            answering = self.answering(lambda request: "", pure=pure)
            command = answering.find("DO")
            assert command is not None
            self.assertIs(command.pure, pure)
            self.assertIs(answering.find("ALSO"), command)
            self.assertIsNone(answering.find("UNKNOWN"))

    def test_call(self) -> None:
        """
        The text that a command returns is left as it is, for there is most of it;
        settled, it is the reply with code 200. So it is with text of a kind of its
        own.
        """

        class Text(str):
            """Text of a kind of its own."""

        answering = self.answering(lambda request: "done")
        self.assertEqual(answering.call(request(), answering.find("DO")), "done")
        self.assertEqual(answering.settled("done", request()), Reply(200, "done"))
        answering = self.answering(lambda request: Text("done"))
        self.assertEqual(answeredNow(answering, request()), Reply(200, "done"))
        self.assertEqual(answered(answering, request()), Reply(200, "done"))

    def test_answerNow(self) -> None:
        """
        A pure command's answer is there at once, and so is its failure.
        """
        answering = self.answering(lambda request: "done", pure=True)
        self.assertEqual(answeredNow(answering, request()), Reply(200, "done"))
        self.assertEqual(answeredNow(answering, request("NO")).word, "UNKNOWN-COMMAND")

        def do(_: Request) -> str:
            raise LookupError(SECRET)

        self.assertEqual(answeredNow(self.answering(do, pure=True), request()), FAILED)
        self.assertLogged(LookupError, SECRET)

    def test_latePure(self) -> None:
        """
        A command that called itself pure and answers late has failed: what it
        waits for is cancelled, and the log says why.
        """
        cancelled: list[object] = []
        answering = self.answering(
            lambda request: Deferred(cancelled.append), pure=True
        )
        self.assertEqual(answeredNow(answering, request()), FAILED)
        self.assertEqual(len(cancelled), 1)
        self.assertFalse(answering.over)
        failures = [event for event in self.log.events if "log_failure" in event]
        (event,) = failures
        failure = event["log_failure"]
        assert isinstance(failure, Failure)
        self.assertEqual(
            failure.getErrorMessage(), "a pure command has to answer at once"
        )
