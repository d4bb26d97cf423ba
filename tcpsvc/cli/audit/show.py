# -*- test-case-name: tests.test_cli_audit -*-

"""
C{tcpsvc audit show}: a trail for a person.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click

from tcpsvc.audit import reading
from tcpsvc.audit.show import Selection, Sessions, Teller, momentOf
from tcpsvc.cli.audit.files import aside, filesArgument
from tcpsvc.cli.audit.output import Output, isColoured, style
from tcpsvc.cli.failing import Failed


def _moment(_context: click.Context, _option: click.Parameter, text: str) -> str:
    """
    The value of an option that is a moment.
    """
    if not text:
        return ""
    try:
        return momentOf(text, time.time())
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: a date or a time (ISO 8601, UTC), or 90s, 15m, 2h, 3d, 1w."
        ) from None


@click.command(name="show")
@filesArgument
@click.option(
    "--session", default="", metavar="ID", help="One session; a prefix will do."
)
@click.option("--identity", default="", metavar="NAME", help="One person or program.")
@click.option(
    "--since", default="", metavar="TIME", callback=_moment, help="From then on."
)
@click.option("--follow", "follows", is_flag=True, help="Go on as records are added.")
@click.option("--json", "asJSON", is_flag=True, help="The records as they are.")
@click.pass_context
def show(
    context: click.Context,
    files: tuple[Path, ...],
    session: str,
    identity: str,
    since: str,
    follows: bool,
    asJSON: bool,
) -> None:
    """Print a trail for a person.

    TIME is a date or a time (ISO 8601, in UTC unless it says otherwise), or how long
    ago: 90s, 15m, 2h, 3d, 1w.
    """
    selection = Selection(session.lower(), identity, since)
    sessions = Sessions()
    teller = Teller(sessions, style(isColoured()))
    output = Output()
    bad = False
    found = not session
    trail = reading.openFiles(files)
    for note in trail.notes:
        aside(note)
    with closing(trail):
        for entry in _followed(trail) if follows else trail.entries():
            if entry is None:
                output.flush()
                continue
            fields = entry.fields
            if fields is None:
                bad = True
                output.flush()
                what = "not JSON" if entry.line.strip() else "blank, and no record"
                aside(f"{entry.part.name}: line {entry.number}: it is {what}")
                continue
            found = found or str(fields.get("session", "")).startswith(session.lower())
            sessions.follow(fields)
            if selection.takes(fields, sessions):
                if asJSON:
                    output.add(entry.line)
                else:
                    for line in teller.tell(fields):
                        output.add(line.encode("utf-8", "backslashreplace"))
            sessions.leave(fields)
        output.flush()
        _noteTorn(trail)
    if not found:
        raise Failed(f"there is no session {session} in these files")
    if bad:
        context.exit(1)


def _followed(trail: reading.TrailFiles) -> Iterator[reading.Entry | None]:
    """
    All lines of the files, and then what is added to the last of them.
    """
    *former, last = trail.parts
    if last.packed or not last.regular:
        raise click.UsageError(f"{last.name}: nothing is ever added to it.")
    seen = (last.first or 1) - 1
    for part in former:
        yield from reading.TrailFiles([part], []).entries()
    yield from reading.follow(last.path, time.sleep, seen)


def _noteTorn(trail: reading.TrailFiles) -> None:
    """
    Say which files end in the middle of a line.
    """
    for part in trail.parts:
        if part.torn:
            aside(f"{part.name}: the last line is not whole, and not shown")
