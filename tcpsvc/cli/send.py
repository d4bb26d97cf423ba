# -*- test-case-name: tests.test_cli_send -*-

"""
C{tcpsvc send}: requests from the command line or from standard input.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import click

from tcpsvc.cli.exchange import Exchange
from tcpsvc.cli.options import Target, WaitingCommand, targetOptions
from tcpsvc.cli.running import connectTo, run
from tcpsvc.cli.standard import Input, Lines, Output

STANDARD_INPUT = "-"


@click.command(cls=WaitingCommand)
@targetOptions
@click.argument("requests", nargs=-1, metavar="[REQUEST]...")
def send(requests: tuple[str, ...], **target: Any) -> int:
    """Send requests, and print the replies.

    Each REQUEST is one line, sent in turn. For `-`, and if there is none, the
    lines of standard input are sent. Exit status 1 says that a reply was 4xx or
    5xx, or that the service ended the session.
    """
    for request in requests:
        if not request or "\n" in request or "\r" in request:
            raise click.BadArgumentUsage(
                f"{request!r}: a request is one line, and not an empty one."
            )
    return run(
        lambda reactor: sendAll(
            Target(**target), requests or (STANDARD_INPUT,), reactor
        )
    )


async def sendAll(
    target: Target,
    requests: Sequence[str],
    reactor: Any,
    source: Input | None = None,
    output: Output | None = None,
) -> int:
    """
    Send requests to a service, and print its replies.

    @param requests: One line each; C{-} stands for the lines of C{source}.
    @param source: By default standard input.
    @param output: By default standard output.
    @return: The exit status.
    """
    source = source or Input(reactor)
    output = output or Output()
    session = await connectTo(target, reactor)
    exchange = Exchange(session, output.show)
    await exchange.run(_batches(requests, source))
    return 1 if exchange.failed else 0


async def _batches(
    requests: Sequence[str], source: Input
) -> AsyncIterator[Sequence[bytes]]:
    """
    The requests as they are sent.
    """
    for request in requests:
        if request == STANDARD_INPUT:
            async for lines in linesOf(source):
                yield lines
        else:
            yield (os.fsencode(request),)


async def linesOf(source: Input) -> AsyncIterator[Sequence[bytes]]:
    """
    The lines of an input that are not empty, without their endings, as many at
    once as come.
    """
    lines = Lines()
    while octets := await source.read():
        yield lines.feed(octets)
    yield lines.end()
