# -*- test-case-name: tests.test_cli_console -*-

"""
C{tcpsvc console}: an interactive session.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from tcpsvc.cli.options import Target, WaitingCommand, targetOptions
from tcpsvc.cli.prompts import (
    EditedPrompt,
    PlainPrompt,
    Prompt,
    canEdit,
    installEditorsReactor,
)
from tcpsvc.cli.running import Interruption, connectTo, run
from tcpsvc.cli.send import STANDARD_INPUT, sendAll
from tcpsvc.cli.standard import Input, Lines, Output
from tcpsvc.client import CannotReach, Session, SessionEnded
from tcpsvc.client.errors import FAREWELLS
from tcpsvc.wire import Reply

_HELP_LINE = re.compile(r"([A-Z][A-Z0-9_-]*)(.*)")


@click.command(cls=WaitingCommand)
@targetOptions
def console(**words: Any) -> int:
    """Talk to a service by hand.

    Tab completes a verb, Ctrl-C abandons the line, Ctrl-D ends the session. If
    input or output is no terminal, this is `tcpsvc send HOST -`.
    """
    target = Target(**words)
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        return run(lambda reactor: sendAll(target, (STANDARD_INPUT,), reactor))
    interruption = Interruption()
    if canEdit():
        installEditorsReactor()
        return run(lambda reactor: _edited(target, reactor, interruption), interruption)
    return run(lambda reactor: _plain(target, reactor, interruption), interruption)


async def _edited(target: Target, reactor: Any, interruption: Interruption) -> int:
    """
    The console with a line editor.
    """
    session, output = await connectTo(target, reactor), Output()
    output.show(session.greeting)
    try:
        verbs = verbsIn(await session.send("HELP"))
    except SessionEnded:
        verbs = {}
    return await converse(session, EditedPrompt(verbs, interruption), output)


async def _plain(target: Target, reactor: Any, interruption: Interruption) -> int:
    """
    The console without.
    """
    session, output = await connectTo(target, reactor), Output()
    output.show(session.greeting)
    prompt = PlainPrompt(Input(reactor), output, interruption)
    return await converse(session, prompt, output)


async def converse(session: Session, prompt: Prompt, output: Output) -> int:
    """
    Ask for requests, and show the replies, until somebody ends it.

    @return: The exit status.
    @raise ClientError: If the session does not end in good order.
    """
    failed = False
    shown: Reply | None = None
    early: SessionEnded | None = None

    def dismissed(words: Reply | None) -> Reply | None:
        prompt.dismiss()
        return words

    session.closed.addCallback(dismissed)
    try:
        while shown is None or shown.code != 221:
            line = await prompt.ask()
            if line is None:
                break
            for request in requestsIn(line):
                shown = await session.send(request)
                output.show(shown)
                failed = failed or shown.isError
    except SessionEnded as error:
        early = error
    except BaseException:
        session.abort()
        raise
    words = await session.close()
    if words is None:
        raise CannotReach("the connection to the service was lost")
    if words != shown:
        output.show(words)
    if words.code not in FAREWELLS:
        raise early or SessionEnded(words)
    return 1 if failed or words.isError else 0


def requestsIn(line: str) -> list[bytes]:
    """
    The requests in what was typed or pasted as one.
    """
    lines = Lines()
    octets = line.encode("utf-8", "surrogateescape")
    return lines.feed(octets) + lines.end()


def verbsIn(reply: Reply) -> dict[str, str]:
    """
    The verbs that a reply to C{HELP} lists, each with the rest of its line: a
    single blank and an argument, or more blanks, and what it does.
    """
    if reply.isError:
        return {}
    matches = (_HELP_LINE.match(line) for line in reply.lines)
    return {match[1]: match[2] for match in matches if match}
