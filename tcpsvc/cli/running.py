# -*- test-case-name: tests.test_cli -*-

"""
A sub-command under the reactor.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import click
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tcpsvc.cli import QuietEnd
from tcpsvc.cli.options import Target
from tcpsvc.client import KeyDirectory, Session, connect
from tcpsvc.clock import useMonotonicClock

Main = Callable[[Any], Coroutine[Deferred[Any], Any, int]]
"""
What runs: takes the reactor, and comes to an exit status.
"""


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""
The signals that ask a process to end.
"""


class Interruption:
    """
    What Ctrl-C does, and the other signals that ask for an end.

    @ivar answer: Called for it. By default the process exits at once, also
        if it waits for somebody to read its output.
    @ivar number: The signal that is being answered.
    """

    def __init__(self) -> None:
        self.answer: Callable[[], None] = self.exit
        self.number: int = signal.SIGINT
        self._began = False

    def exit(self) -> None:
        """
        Leave no trace but the exit status.
        """
        self._die()
        os._exit(128 + self.number)

    def end(self) -> NoReturn:
        """
        End the command when all is in order.

        @raise QuietEnd: With the exit status for the signal.
        """
        self._die()
        raise QuietEnd(128 + self.number)

    def _die(self) -> None:
        """
        Unless it was Ctrl-C, end by the signal: whoever has sent it finds that it
        did what it always does.
        """
        if self.number != signal.SIGINT:
            signal.signal(self.number, signal.SIG_DFL)
            os.kill(os.getpid(), self.number)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """
        A signal came. Only Ctrl-C is meant when it is said again: a terminal that
        hangs up, and whoever started us, send one each of the others together.
        """
        if self._began and number != signal.SIGINT:
            return
        self._began = True
        self.number = number
        self.answer()


def runToItsEnd(main: Main, interruption: Interruption) -> int:
    """
    The same as L{run} for what ends in good order by any of the L{ENDING} signals,
    except those that whoever started us has ignored, as shells do with Ctrl-C for
    what they start in the background.
    """
    return run(
        main,
        interruption,
        [each for each in ENDING if signal.getsignal(each) is not signal.SIG_IGN],
    )


def run(
    main: Main,
    interruption: Interruption | None = None,
    signals: Iterable[int] = (signal.SIGINT,),
) -> int:
    """
    Run a sub-command under the global reactor, until it ends.

    @param interruption: What Ctrl-C does.
    @param signals: What else does the same, and Ctrl-C.
    @return: Its exit status.
    @raise Exception: What it ended with.
    """
    # Imported when it is known which reactor it should be.
    from twisted.internet import reactor

    core = cast(Any, reactor)
    useMonotonicClock(core)
    results: list[int | Failure] = []

    def begin() -> None:
        running = Deferred.fromCoroutine(main(core))
        running.addBoth(results.append)
        running.addCallback(lambda _: core.stop())

    answering = interruption or Interruption()
    for number in signals:
        signal.signal(number, answering)
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
