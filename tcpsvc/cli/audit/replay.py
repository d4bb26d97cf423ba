# -*- test-case-name: tests.test_cli_audit -*-

"""
C{tcpsvc audit replay}: a session with its own timing.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import click

from tcpsvc.audit import reading
from tcpsvc.audit.replay import (
    Moment,
    Plainly,
    asciicast,
    momentsOf,
    play,
    timeOf,
)
from tcpsvc.audit.show import escaped
from tcpsvc.cli.audit.files import aside, filesArgument
from tcpsvc.cli.audit.output import Output, isColoured, style
from tcpsvc.cli.failing import Failed

MAX_CANDIDATES = 10
"""
How many sessions are listed when it is not clear which one is meant.
"""


def _factor(
    _context: click.Context, _option: click.Parameter, value: float | None
) -> float | None:
    """
    The value of an option that is more than nothing.
    """
    if value is not None and not value > 0:
        raise click.BadParameter(f"{value:g}: more than 0 is wanted.")
    return value


@click.command(name="replay")
@filesArgument
@click.option("--session", default="", metavar="ID", help="Which; a prefix will do.")
@click.option(
    "--speed",
    type=float,
    default=1.0,
    show_default=True,
    callback=_factor,
    metavar="X",
    help="How many times as fast.",
)
@click.option(
    "--max-wait",
    "maxWait",
    type=float,
    callback=_factor,
    metavar="SECONDS",
    help="The longest pause.",
)
@click.option(
    "--typed/--no-typed",
    default=True,
    help="Whether what the client sent is shown; not, if the device has echoed it.",
)
@click.option(
    "--raw", is_flag=True, help="Let the terminal obey what a gateway's device sent."
)
@click.option(
    "--asciicast",
    "recording",
    is_flag=False,
    flag_value="-",
    default=None,
    metavar="[FILE|-]",
    help="Write it for asciinema, to a new file or to standard output.",
)
def replay(
    files: tuple[Path, ...],
    session: str,
    speed: float,
    maxWait: float | None,
    typed: bool,
    raw: bool,
    recording: str | None,
) -> None:
    """Show a session as its client saw it, with its own timing."""
    if math.isinf(speed) and maxWait is None:
        maxWait = 0.0
    trail = reading.openFiles(files)
    with closing(trail):
        for part in trail.parts:
            if not part.regular:
                raise reading.CannotRead(
                    f"{part.name}: a session cannot be sought in a pipe"
                )
        chosen, opened = _choose(trail, session.lower())
        title = _title(chosen, opened)
        moments = momentsOf(_recordsOf(trail, chosen), speed, maxWait)
        if recording is not None:
            lines = asciicast(moments, timeOf(opened), title, typed)
            _writeRecording(lines, recording)
            return
        aside(title)
        _play(moments, typed, raw)


def _choose(trail: reading.TrailFiles, wanted: str) -> tuple[str, dict[str, object]]:
    """
    The session that is meant, and its first record.

    @param wanted: What its identifier begins with; empty for the only one.
    """
    found: dict[str, dict[str, object]] = {}
    control: dict[str, dict[str, object]] = {}
    for entry in trail.entries():
        session = entry.fields.get("session") if entry.fields is not None else None
        if not isinstance(session, str) or not session.startswith(wanted):
            continue
        fields = cast("dict[str, object]", entry.fields)
        if session == wanted:
            return session, fields
        if session in found or session in control:
            continue
        # Control sessions only ask, and are not what one looks for.
        aside = bool(fields.get("control")) and not wanted
        group = control if aside else found
        if len(group) <= MAX_CANDIDATES:
            group[session] = fields
    found = found or control
    if not found:
        raise Failed(f"there is no session {wanted}".rstrip() + " in these files")
    if len(found) > 1:
        lines = [_title(*each) for each in [*found.items()][:MAX_CANDIDATES]]
        if len(found) > MAX_CANDIDATES:
            lines.append("...")
        raise Failed("\n  ".join(["which --session?", *lines]), os.EX_USAGE)
    return next(iter(found.items()))


def _title(session: str, opened: dict[str, object]) -> str:
    """
    What a session is called.
    """
    identity = opened.get("identity")
    name = identity.get("name") if isinstance(identity, dict) else "somebody"
    when = str(opened.get("time", ""))[:19]
    return escaped(f"{session}: {name}, {when}Z")


def _recordsOf(trail: reading.TrailFiles, session: str) -> Iterator[dict[str, object]]:
    """
    The records of a session.
    """
    for entry in trail.entries():
        if entry.fields is not None and entry.fields.get("session") == session:
            yield entry.fields
            if entry.fields.get("event") == "session.closed":
                return


def _play(moments: Iterator[Moment], typed: bool, raw: bool) -> None:
    """
    Show a session on standard output.
    """
    plainly = {True: Plainly(), False: Plainly()}
    looks = style(isColoured())
    stdout = sys.stdout.buffer

    def write(moment: Moment) -> None:
        """Write what is seen next."""
        if moment.typed and not typed:
            return
        octets = moment.octets
        if not raw:
            text = plainly[moment.typed](octets)
            if moment.typed:
                text = looks(text, "asked")
            octets = text.encode("utf-8", "backslashreplace")
        stdout.write(octets)
        stdout.flush()

    play(moments, write, time.monotonic, time.sleep)


def _writeRecording(lines: Iterator[str], where: str) -> None:
    """
    Write a recording.

    @param where: The file, which is not replaced, or C{-}.
    """
    if where == "-":
        output = Output()
        for line in lines:
            output.add(line.encode())
        output.flush()
        return
    try:
        descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.UsageError(f"{where}: it is there already.") from None
    except OSError as error:
        raise click.UsageError(f"{where}: cannot be made: {error.strerror}.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(f"{line}\n")
