"""
Tests for L{tcpsvc.cli.failing}.
"""

from __future__ import annotations

import click
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.cli.failing import Failed, FailingGroup


class FailingGroupTests(SynchronousTestCase):
    """
    Tests for L{FailingGroup}.
    """

    def run_(self, error: Exception) -> None:
        """
        Run a command that raises this.
        """

        @click.group(
            name="audit", cls=FailingGroup, failures={KeyError: 66, LookupError: 65}
        )
        def group() -> None:
            """Do nothing."""

        @group.command()
        def fail() -> None:
            """Fail."""
            raise error

        group.main(["fail"], standalone_mode=False)

    def ended(self, error: Exception) -> tuple[str, int]:
        """
        @return: What is said of this, and the exit status.
        """
        said: list[tuple[str, bool]] = []
        self.patch(click, "echo", lambda text, file, err: said.append((text, err)))
        failed = self.assertRaises(Failed, self.run_, error)
        failed.show()
        ((text, isError),) = said
        self.assertTrue(isError)
        return text, failed.exit_code

    def test_failed(self) -> None:
        """
        What a command fails with is a line that names the group, and has the
        status that it was given; by default 1.
        """
        self.assertEqual(("tcpsvc audit: bad", 1), self.ended(Failed("bad")))
        self.assertEqual(("tcpsvc audit: bad", 78), self.ended(Failed("bad", 78)))

    def test_failures(self) -> None:
        """
        So are exceptions that are meant for people, each with its own status.
        """
        self.assertEqual(("tcpsvc audit: 'a'", 66), self.ended(KeyError("a")))
        self.assertEqual(("tcpsvc audit: b", 65), self.ended(IndexError("b")))

    def test_others(self) -> None:
        """
        Any other is a fault of the program's.
        """
        self.assertRaises(ZeroDivisionError, self.run_, ZeroDivisionError())
