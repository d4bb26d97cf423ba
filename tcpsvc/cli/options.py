# -*- test-case-name: tests.test_cli -*-

"""
The options and arguments that the sub-commands of a client share.

Nothing here imports Twisted: a usage error should be quick.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click
from attrs import frozen

_F = TypeVar("_F", bound=Callable[..., Any])


@frozen
class Target:
    """
    What service to go to, as whom, and how patiently.

    @ivar host: C{HOST} or C{HOST:PORT}.
    @ivar keys: The directory of the keys.
    @ivar identity: Whose keys; if L{None}, the only ones there are.
    @ivar timeout: Seconds for a connection and the service's first words.
    @ivar wait: Seconds to try again while it is busy; may be infinite, or
        L{None}.
    """

    host: str
    keys: str
    identity: str | None
    timeout: float
    wait: float | None


class WaitingCommand(click.Command):
    """
    A command whose option C{--wait} takes the next word for its value only if
    that is a number. It would otherwise take the host.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """
        @see: L{click.Command.parse_args}
        """
        return super().parse_args(ctx, _withWaitJoined(args))


def _withWaitJoined(words: list[str]) -> list[str]:
    """
    The words of a command line with each C{--wait} and its value as one.
    """
    joined: list[str] = []
    at = 0
    while at < len(words) and words[at] != "--":
        word = words[at]
        at += 1
        if word == "--wait":
            word = "--wait=inf"
            if at < len(words) and _isNumber(words[at]):
                word = f"--wait={words[at]}"
                at += 1
        joined.append(word)
    return joined + words[at:]


def _isNumber(word: str) -> bool:
    """
    Whether a word can only be meant as a number.
    """
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _duration(
    _context: click.Context, _option: click.Parameter, seconds: float | None
) -> float | None:
    """
    The value of an option that is a duration, if it can be one.
    """
    if seconds is not None and not seconds >= 0:
        raise click.BadParameter(f"{seconds:g}: seconds are counted from 0.")
    return seconds


def _durationNotNone(
    context: click.Context, option: click.Parameter, seconds: float
) -> float:
    """
    The value of an option that is a duration, and not none at all.
    """
    _duration(context, option, seconds)
    if not seconds:
        raise click.BadParameter("0: in no time nothing can be done.")
    return seconds


def targetOptions(function: _F) -> _F:
    """
    Give a command the argument C{HOST} and the options that say how to get
    there. They come to the function in the parameters of L{Target}.
    """
    for decorate in reversed(
        (
            click.argument("host", metavar="HOST[:PORT]"),
            click.option(
                "--keys",
                metavar="DIR",
                envvar="TCPSVC_KEYS",
                default="keys",
                show_default=True,
                show_envvar=True,
                help="Where the keys are.",
            ),
            click.option(
                "--identity",
                metavar="NAME",
                envvar="TCPSVC_IDENTITY",
                show_envvar=True,
                help="Whose keys to use; by default, the only ones there are.",
            ),
            click.option(
                "--timeout",
                metavar="SECONDS",
                type=float,
                callback=_durationNotNone,
                default=10.0,
                show_default=True,
                help="How long the service may take to answer at first.",
            ),
            click.option(
                "--wait",
                metavar="[SECONDS]",
                type=float,
                callback=_duration,
                help="If it is busy, try again until admitted, or for SECONDS.",
            ),
        )
    ):
        function = decorate(function)
    return function


lingerOption = click.option(
    "--linger",
    metavar="SECONDS",
    type=float,
    callback=_duration,
    default=1.0,
    show_default=True,
    help="Seconds of silence after the end of the input until the session is closed.",
)
"""
How long a service is given to send the rest, if it does not close the session itself.
"""
