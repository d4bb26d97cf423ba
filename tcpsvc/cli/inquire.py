# -*- test-case-name: tests.test_cli -*-

"""
C{tcpsvc who} and C{tcpsvc status}: questions that never take the slot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import click

from tcpsvc.cli.options import Target, WaitingCommand, targetOptions
from tcpsvc.cli.running import connectTo, run
from tcpsvc.client import ProtocolViolation
from tcpsvc.wire import Reply

_HOLDER = re.compile(r"(.+) (\S+) since (\S+) idle ([0-9]+) s")

_TEXTS = frozenset(
    ("version", "started", "holder", "certificate_expires", "audit_head")
)
"""
The values of a status that are no numbers, even if one looks like it.
"""

_json = click.option("--json", "asJSON", is_flag=True, help="As a JSON object.")


@click.command(cls=WaitingCommand)
@targetOptions
@_json
def who(asJSON: bool, **target: Any) -> int:
    """Say who holds a service.

    This never takes the service from anybody.
    """
    read = holderAsJSON if asJSON else holderAsText
    return run(lambda reactor: ask(Target(**target), "WHO", read, reactor))


@click.command(cls=WaitingCommand)
@targetOptions
@_json
def status(asJSON: bool, **target: Any) -> int:
    """Say how a service is.

    This never takes the service from anybody.
    """
    read = statusAsJSON if asJSON else statusAsText
    return run(lambda reactor: ask(Target(**target), "STATUS", read, reactor))


async def ask(
    target: Target, question: str, read: Callable[[Reply], str], reactor: Any
) -> int:
    """
    Ask a service something by its control protocol, and print the answer.

    @param read: Makes text of the reply.
    @return: The exit status.
    """
    session = await connectTo(target, reactor, control=True)
    try:
        reply = await session.send(question)
    finally:
        await session.close()
    if reply.isError:
        click.echo(f"tcpsvc: the service answered: {reply}", err=True)
        return 1
    click.echo(read(reply))
    return 0


def holderOf(reply: Reply) -> dict[str, object]:
    """
    What a reply to C{WHO} says, as JSON primitives.

    @raise ProtocolViolation: If it says something else.
    """
    if reply.text == "nobody":
        fields: tuple[str | None, ...] = (None, None, None, None)
    else:
        match = _HOLDER.fullmatch(reply.text)
        if match is None:
            raise ProtocolViolation(f"the service answered WHO with {str(reply)!r}")
        fields = match.groups()
    name, address, since, idle = fields
    return {
        "held": name is not None,
        "name": name,
        "address": address,
        "since": since,
        "idle_s": None if idle is None else int(idle),
    }


def holderAsJSON(reply: Reply) -> str:
    """
    @return: Who holds the service, as a JSON object.
    """
    return json.dumps(holderOf(reply))


def holderAsText(reply: Reply) -> str:
    """
    @return: Who holds the service, as a line for people.
    """
    holderOf(reply)
    return reply.text


def valuesOf(reply: Reply) -> dict[str, str]:
    """
    The values in a reply to C{STATUS} by their names.

    @raise ProtocolViolation: If it says something else.
    """
    values = {}
    for line in reply.lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ProtocolViolation(f"the service answered STATUS with {line!r}")
        values[name] = value.strip()
    return values


def statusAsJSON(reply: Reply) -> str:
    """
    @return: How the service is, as a JSON object: numbers are numbers, and
        what there is none of is null.
    """
    values: dict[str, object] = {}
    for name, value in valuesOf(reply).items():
        isNumber = name not in _TEXTS and value.isascii() and value.isdecimal()
        values[name] = int(value) if isNumber else value or None
    return json.dumps(values)


def statusAsText(reply: Reply) -> str:
    """
    @return: How the service is, a line for each value.
    """
    values = valuesOf(reply)
    width = max(map(len, values)) + 1
    return "\n".join(
        f"{name + ':':<{width}} {value}".rstrip() for name, value in values.items()
    )
