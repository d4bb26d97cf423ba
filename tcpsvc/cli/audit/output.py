# -*- test-case-name: tests.test_cli_audit -*-

"""
What the commands that read a trail write to standard output, and how it looks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

_LOOKS: dict[str, dict[str, Any]] = {
    "": {},
    "head": {"bold": True},
    "time": {"dim": True},
    "asked": {"fg": "cyan"},
    "error": {"fg": "red"},
    "warning": {"fg": "yellow"},
    "aside": {"dim": True},
}
_GATHERED = 64 * 1024


class Output:
    """
    Standard output, written to in large pieces.
    """

    def __init__(self) -> None:
        self._gathered: list[bytes] = []
        self._octets = 0

    def add(self, line: bytes) -> None:
        """
        Write a line, now or later.
        """
        self._gathered.append(line)
        self._octets += len(line)
        if self._octets >= _GATHERED:
            self.flush()

    def flush(self) -> None:
        """
        Write all lines now.
        """
        if self._gathered:
            self._gathered.append(b"")
            stdout = sys.stdout.buffer
            stdout.write(b"\n".join(self._gathered))
            stdout.flush()
            self._gathered.clear()
            self._octets = 0


def isColoured() -> bool:
    """
    Whether standard output is a terminal that may be coloured
    (https://no-color.org).
    """
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def style(coloured: bool) -> Callable[[str, str], str]:
    """
    What gives texts their looks.
    """
    if not coloured:
        return lambda text, look: text
    return lambda text, look: (
        click.style(text, **_LOOKS[look]) if _LOOKS[look] and text else text
    )
