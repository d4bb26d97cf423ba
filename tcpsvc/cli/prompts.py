# -*- test-case-name: tests.test_cli_console -*-

"""
How the console asks for a line: with an editor, or without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred

from tcpsvc.cli.running import Interruption
from tcpsvc.cli.standard import Input, Lines, Output

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

PROMPT = "> "


class Prompt(Protocol):
    """
    Asks for lines.
    """

    async def ask(self) -> str | None:
        """
        Ask for a line.

        @return: The line; empty if it was abandoned; L{None} when there will
            be no more, or after L{dismiss}.
        """

    def dismiss(self) -> None:
        """
        Do not ask any more, and end the asking that goes on.
        """


def canEdit() -> bool:
    """
    Whether there is a line editor (prompt_toolkit).
    """
    return find_spec("prompt_toolkit") is not None


def installEditorsReactor() -> None:
    """
    Install the reactor that the line editor can run under. To be called
    before another one is.
    """
    from twisted.internet import asyncioreactor

    asyncioreactor.install(asyncio.SelectorEventLoop())


class EditedPrompt:
    """
    Asks with a line editor, which has a history and completes verbs. Needs a
    reactor on L{asyncio}.
    """

    def __init__(self, verbs: dict[str, str], interruption: Interruption) -> None:
        """
        @param verbs: The verbs that can be completed, each with the rest of its
            line in C{HELP}.
        @param interruption: What Ctrl-C does when no line is asked for.
        """
        from prompt_toolkit import PromptSession

        from tcpsvc.cli.completion import VerbCompleter
        from tcpsvc.cli.history import historyPath, openHistory

        self._session: PromptSession[str | None] = PromptSession(
            PROMPT,
            history=openHistory(historyPath()),
            completer=VerbCompleter(verbs),
            complete_while_typing=False,
        )
        self._dismissed = False
        self._interruption = interruption
        interruption.answer = self._interrupted

    async def ask(self) -> str | None:
        """
        @see: L{Prompt.ask}
        """
        if self._dismissed:
            return None
        return await Deferred.fromFuture(asyncio.ensure_future(self._edited()))

    async def _edited(self) -> str | None:
        """
        One line from the editor. In here, because L{asyncio} lets no task end
        with a L{KeyboardInterrupt}.
        """
        try:
            return await self._session.prompt_async(
                set_exception_handler=False, handle_sigint=False
            )
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None

    def _interrupted(self) -> None:
        """
        SIGINT came from elsewhere: the editor takes Ctrl-C for a key.
        """
        if self._session.app.is_running:
            asyncio.get_running_loop().call_soon_threadsafe(self._leave, "")
        else:
            self._interruption.exit()

    def dismiss(self) -> None:
        """
        @see: L{Prompt.dismiss}
        """
        self._dismissed = True
        self._leave(None)

    def _leave(self, line: str | None) -> None:
        """
        Leave the editor, if it is open.
        """
        if self._session.app.is_running:
            self._session.app.exit(result=line)


class PlainPrompt:
    """
    Asks with nothing but what the terminal itself can do.
    """

    def __init__(
        self, source: Input, output: Output, interruption: Interruption
    ) -> None:
        """
        @param interruption: What Ctrl-C does when no line is asked for.
        """
        self._source = source
        self._output = output
        self._interruption = interruption
        self._lines = Lines()
        self._typed: list[bytes] = []
        self._asking: Deferred[bytes] | None = None
        self._dismissed = False
        interruption.answer = self._interrupted

    async def ask(self) -> str | None:
        """
        @see: L{Prompt.ask}
        """
        while not self._typed:
            if self._dismissed:
                return None
            self._output.write(PROMPT)
            octets = await self._read()
            self._typed += self._lines.feed(octets) if octets else self._lines.end()
            if not octets:
                self._output.write("\n")
                self._dismissed = True
        return self._typed.pop(0).decode("utf-8", "surrogateescape")

    async def _read(self) -> bytes:
        """
        What is typed next; nothing at the end or after L{dismiss}.
        """
        self._asking = self._source.read()
        try:
            return await self._asking
        except CancelledError:
            return b""
        finally:
            self._asking = None

    def _interrupted(self) -> None:
        """
        The terminal has thrown away what stood on the line.
        """
        if self._asking is None:
            self._interruption.exit()
        else:
            self._output.write(f"\n{PROMPT}")

    def dismiss(self) -> None:
        """
        @see: L{Prompt.dismiss}
        """
        self._dismissed = True
        self._typed.clear()
        if self._asking is not None:
            self._asking.cancel()


MakePrompt = Callable[[Any, dict[str, str], Output, Interruption], Prompt]
