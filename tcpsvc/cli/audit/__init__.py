# -*- test-case-name: tests.test_cli_audit -*-

"""
C{tcpsvc audit}: an audit trail verified, shown and replayed.

Nothing here imports Twisted, and only C{verify} imports cryptography.
"""

from __future__ import annotations

import os

import click

from tcpsvc.audit import reading
from tcpsvc.cli.audit import replay, show, verify
from tcpsvc.cli.failing import FailingGroup


@click.group(
    name="audit",
    cls=FailingGroup,
    failures={reading.CannotRead: os.EX_NOINPUT, reading.DamagedFile: 1},
)
def auditGroup() -> None:
    """Verify and read an audit trail.

    FILE are the files of one trail, in any order; those that end in .gz too.

    Exit status: 0; 1 the trail is not what was written; 64 wrong usage; 66 a file
    cannot be read; 78 something is wrong with the key.
    """


for _command in (verify.verify, show.show, replay.replay):
    auditGroup.add_command(_command)
