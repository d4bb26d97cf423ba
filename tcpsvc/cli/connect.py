# -*- test-case-name: tests.test_cli_connect -*-

"""
C{tcpsvc connect}: standard input and output joined to a service.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol

from tcpsvc.cli import EXIT_INTERRUPTED, QuietEnd
from tcpsvc.cli.options import Target, WaitingCommand, lingerOption, targetOptions
from tcpsvc.cli.running import Interruption, run
from tcpsvc.cli.stdio import StandardStreams
from tcpsvc.client import ClientError, KeyDirectory, Relay, Stream, openStream


@click.command(cls=WaitingCommand)
@targetOptions
@lingerOption
def connect(linger: float, **words: Any) -> int:
    """Join standard input and output to a service.

    Octets pass as they are, both ways. For `target remote | tcpsvc connect HOST`
    in gdb, and `EXEC:"tcpsvc connect HOST"` in socat.
    """
    interruption = interruptionOrNone()
    return run(
        lambda reactor: join(Target(**words), linger, reactor, interruption),
        interruption,
    )


async def join(
    target: Target,
    linger: float,
    reactor: Any,
    interruption: Interruption,
    standardInput: int = 0,
    standardOutput: int = 1,
) -> int:
    """
    Join two descriptors to a service, until one side ends it.

    @param linger: As L{Relay} takes it.
    @param interruption: Closes in good order, and the second time at once.
    @return: The exit status.
    @raise OSError: If the descriptors cannot be used, or nobody reads any more.
    @raise ClientError: If the service cannot be reached, or was lost.
    """
    relay = Relay(reactor, linger)
    ended: Deferred[None] = Deferred()
    interrupted = False

    def end(_: object) -> None:
        if not ended.called:
            ended.callback(None)

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        relay.leave()
        relay.whenLeft().addCallback(end)

    def answer() -> None:
        interruption.answer = interruption.exit
        reactor.callFromThread(interrupt)

    streams = StandardStreams(reactor, relay.local, standardInput, standardOutput)
    opening = Deferred.fromCoroutine(streamTo(target, relay.service, reactor))
    relay.finished.addCallback(lambda _: opening.cancel())
    try:
        await opening
    except CancelledError:
        pass  # Nobody reads the output any more.
    except ClientError:
        streams.loseConnection()
        raise
    else:
        if interruption.answer == interruption.exit:
            interruption.answer = answer
        relay.finished.addCallback(end)
        await ended
    if interrupted:
        raise QuietEnd(EXIT_INTERRUPTED)
    reason = relay.localReason
    if reason is not None and isinstance(reason.value, OSError):
        raise reason.value
    if relay.problem is not None:
        raise relay.problem
    return 0


def interruptionOrNone() -> Interruption:
    """
    What Ctrl-C does: nothing, if whoever started us has it ignored, as shells do
    for what they start in the background.
    """
    interruption = Interruption()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        interruption.answer = lambda: None
    return interruption


async def streamTo(target: Target, protocol: IProtocol, reactor: Any) -> Stream:
    """
    Join a protocol to a service as the command line says.

    @raise ClientError: If that fails.
    """
    return await openStream(
        reactor,
        target.host,
        protocol,
        keys=KeyDirectory(Path(target.keys)),
        identity=target.identity,
        timeout=target.timeout,
        wait=target.wait,
    )
