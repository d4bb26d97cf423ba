# -*- test-case-name: tests.test_cli -*-

"""
A sub-command under the reactor.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, cast

import click
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tcpsvc.cli import EXIT_INTERRUPTED
from tcpsvc.cli.options import Target
from tcpsvc.client import KeyDirectory, Session, connect

Main = Callable[[Any], Coroutine[Deferred[Any], Any, int]]
"""
What runs: takes the reactor, and comes to an exit status.
"""


class Interruption:
    """
    What Ctrl-C does.

    @ivar answer: Called for it. By default the process exits at once, also
        if it waits for somebody to read its output.
    """

    def __init__(self) -> None:
        self.answer: Callable[[], None] = self.exit

    def exit(self) -> None:
        """
        Leave no trace but the exit status.
        """
        os._exit(EXIT_INTERRUPTED)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """
        SIGINT came.
        """
        self.answer()


def run(main: Main, interruption: Interruption | None = None) -> int:
    """
    Run a sub-command under the global reactor, until it ends.

    @param interruption: What Ctrl-C does.
    @return: Its exit status.
    @raise Exception: What it ended with.
    """
    # Imported when it is known which reactor it should be.
    from twisted.internet import reactor

    core = cast(Any, reactor)
    results: list[int | Failure] = []

    def begin() -> None:
        running = Deferred.fromCoroutine(main(core))
        running.addBoth(results.append)
        running.addCallback(lambda _: core.stop())

    signal.signal(signal.SIGINT, interruption or Interruption())
    core.callWhenRunning(begin)
    core.run(installSignalHandlers=False)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def say(text: str) -> None:
    """
    Say something on standard error, if anybody is there.
    """
    with suppress(OSError):
        click.echo(f"tcpsvc: {text}", err=True)


async def connectTo(
    target: Target, reactor: IReactorTime, *, control: bool = False
) -> Session:
    """
    Open a session as the command line says.

    @param control: Whether it only asks about the service.
    @raise ClientError: If that fails.
    """
    return await connect(
        reactor,
        target.host,
        keys=KeyDirectory(Path(target.keys)),
        identity=target.identity,
        control=control,
        timeout=target.timeout,
        wait=target.wait,
    )
