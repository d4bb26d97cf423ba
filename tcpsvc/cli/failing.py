# -*- test-case-name: tests.test_cli_failing -*-

"""
Groups of commands that fail for people: with one line on standard error, and an
exit status that says of what kind it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


class Failed(click.ClickException):
    """
    A command of a L{FailingGroup} has failed.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        """
        @param message: One line.
        @param status: The exit status.
        """
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # click has one for each class
        self.group = ""

    def show(self, file: Any = None) -> None:
        """
        Print the line.
        """
        click.echo(f"tcpsvc {self.group}: {self.message}", file=file, err=True)


class FailingGroup(click.Group):
    """
    A group whose commands raise L{Failed}, or exceptions whose words are meant for
    people.
    """

    def __init__(
        self, *words: Any, failures: Mapping[type[Exception], int], **more: Any
    ) -> None:
        """
        @param failures: The exit status for each of those exceptions. The first
            that fits counts.
        """
        super().__init__(*words, **more)
        self._failures = failures

    def invoke(self, context: click.Context) -> Any:
        """
        Run the sub-command.

        @raise Failed: If it fails for people.
        """
        try:
            return super().invoke(context)
        except Failed as known:
            failed = known
        except tuple(self._failures) as error:
            failed = Failed(str(error), self._statusOf(error))
        failed.group = self.name or ""
        raise failed from None

    def _statusOf(self, error: Exception) -> int:
        """
        The exit status for one of the exceptions.
        """
        statuses = self._failures.items()
        return next(status for kind, status in statuses if isinstance(error, kind))
