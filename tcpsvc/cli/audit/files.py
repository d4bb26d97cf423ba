# -*- test-case-name: tests.test_cli_audit -*-

"""
The files that the commands read a trail from, and what they say beside it.
"""

from __future__ import annotations

from pathlib import Path

import click

filesArgument = click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    callback=lambda context, argument, paths: [*map(_standardInput, paths)],
    type=click.Path(path_type=Path),
)


def _standardInput(path: Path) -> Path:
    """
    The file that is meant: C{-} is standard input.
    """
    return Path("/dev/stdin") if str(path) == "-" else path


def aside(text: str) -> None:
    """
    Say something beside the matter.
    """
    click.echo(f"tcpsvc audit: {text}", err=True)
