# -*- test-case-name: tests.test_cli_connect -*-

"""
C{tcpsvc connect}: standard input and output joined to a service.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import deferLater

from tcpsvc.cli.options import Target, WaitingCommand, lingerOption, targetOptions
from tcpsvc.cli.running import Interruption, runToItsEnd, say
from tcpsvc.cli.stdio import StandardStreams, isHungUp
from tcpsvc.client import ClientError, KeyDirectory, Relay, Stream, openStream
from tcpsvc.client.arrival import isOfGateway

GRACE = 0.25
"""
Seconds after the service has closed in which the program behind standard input and
output may end too: gdb does, when the program that it debugs has come to its end.
"""


class InputUndelivered(ClientError):
    """
    The service closed the session in good order before all input was delivered.
    """

    def __init__(self, number: int) -> None:
        """
        @param number: About how many bytes were not, as far as that is known.
        """
        super().__init__(
            "the service closed the session before all input was sent "
            f"(about {number} bytes were not delivered)"
        )


@click.command(cls=WaitingCommand)
@targetOptions
@lingerOption
def connect(linger: float, **words: Any) -> int:
    """Join standard input and output to a service.

    Octets pass as they are, both ways. For `target remote | tcpsvc connect HOST`
    in gdb, and `EXEC:"tcpsvc connect HOST"` in socat.
    """
    interruption = Interruption()
    return runToItsEnd(
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
    tell: Callable[[str], None] = say,
) -> int:
    """
    Join two descriptors to a service, until one side ends it.

    @param linger: As L{Relay} takes it.
    @param interruption: Closes in good order, and the second time at once.
    @param tell: Called with a line that people should know of: that the service
        ended it, if it is a gateway. A service of commands has said so itself.
    @return: The exit status.
    @raise QuietEnd: If it was interrupted.
    @raise InputUndelivered: If the service closed the session before it had all
        input, and the output is still read.
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
        stream = await opening
    except CancelledError:
        stream = None  # Nobody reads the output any more.
    except ClientError:
        streams.loseConnection()
        raise
    else:
        interruption.answer = answer
        began = reactor.seconds()
        relay.finished.addCallback(end)
        await ended
    if interrupted:
        interruption.end()
    reason = relay.localReason
    if reason is not None and isinstance(reason.value, OSError):
        raise reason.value
    if relay.problem is not None:
        raise relay.problem
    if stream is None or not relay.serviceClosed:
        return 0
    isGateway = isOfGateway(stream.greeting)
    if relay.undelivered or streams.unread or isGateway:
        lasted = reactor.seconds() - began
        await deferLater(reactor, GRACE)
        if isHungUp(standardOutput):
            return 0
        if undelivered := relay.undelivered + streams.unread:
            raise InputUndelivered(undelivered)
        if relay.endedByService and not isHungUp(standardInput):
            tell(
                f"the service closed the session after {lasted:.0f} s: its device is "
                "gone, a limit was reached, or it was stopped; its log says which"
            )
    return 0


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
