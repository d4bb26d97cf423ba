# -*- test-case-name: tests.test_cli_audit -*-

"""
C{tcpsvc audit}: an audit trail verified, shown and replayed.

Nothing here imports Twisted, and only C{verify} imports cryptography.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from tcpsvc.audit import reading, replay, show
from tcpsvc.cli.failing import Failed, FailingGroup

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from tcpsvc.audit.verify import Findings, Receipt

LONG = 64 * 1024 * 1024
"""
From how many octets on a progress bar is shown.
"""

MAX_CANDIDATES = 10
"""
How many sessions are listed when it is not clear which one is meant.
"""

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

_files = click.argument(
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


def _moment(_context: click.Context, _option: click.Parameter, text: str) -> str:
    """
    The value of an option that is a moment.
    """
    if not text:
        return ""
    try:
        return show.momentOf(text, time.time())
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: a date or a time (ISO 8601, UTC), or 90s, 15m, 2h, 3d, 1w."
        ) from None


def _receipts(
    _context: click.Context, _option: click.Parameter, texts: tuple[str, ...]
) -> list[Receipt]:
    """
    The values of an option that are receipts.
    """
    from tcpsvc.audit.verify import Receipt

    receipts = []
    for text in texts:
        try:
            receipts.append(Receipt.of(text))
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: {error}.") from None
    return receipts


def _factor(
    _context: click.Context, _option: click.Parameter, value: float | None
) -> float | None:
    """
    The value of an option that is more than nothing.
    """
    if value is not None and not value > 0:
        raise click.BadParameter(f"{value:g}: more than 0 is wanted.")
    return value


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


@auditGroup.command()
@_files
@click.option(
    "--expect",
    "receipts",
    metavar="SEQ:HASH",
    callback=_receipts,
    multiple=True,
    help="A receipt, or the reply that has it: the trail must have that record. "
    "Repeatable.",
)
@click.option(
    "--expect-checkpoints",
    "expectCheckpoints",
    is_flag=True,
    help="There must be checkpoints, all good, and one near the end.",
)
@click.option(
    "--public-key",
    "publicKeys",
    type=click.Path(path_type=Path),
    metavar="PEM",
    multiple=True,
    help="The key that signs the trail; by default DIR/audit.pem. Repeatable.",
)
@click.option(
    "--keys",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    envvar="TCPSVC_KEYS",
    default="keys",
    show_default=True,
    show_envvar=True,
    help="Where audit.pem is, if it is there.",
)
@click.option(
    "--partial",
    is_flag=True,
    help="The files may begin in the middle of the trail.",
)
@click.option(
    "--quick/--full",
    "quickly",
    default=False,
    help="From the last checkpoint on, or all of it, as by default.",
)
@click.option("--json", "asJSON", is_flag=True, help="As a JSON object.")
@click.pass_context
def verify(
    context: click.Context,
    files: tuple[Path, ...],
    receipts: list[Receipt],
    expectCheckpoints: bool,
    publicKeys: tuple[Path, ...],
    directory: Path,
    partial: bool,
    quickly: bool,
    asJSON: bool,
) -> None:
    """Say whether a trail is what was written.

    All of it is read, and each record held against the one after it. The last
    record has none after it: only a receipt (--expect) or a checkpoint vouches for it.
    """
    from tcpsvc.audit.verify import BadTrail, Walk, examine

    source = context.get_parameter_source("directory")
    keys = _publicKeys(publicKeys, directory, source is ParameterSource.COMMANDLINE)
    if expectCheckpoints and not keys:
        raise click.UsageError(
            f"--expect-checkpoints needs the public key: {directory / 'audit.pem'} is "
            "not there; name it with --public-key."
        )
    trail = reading.openFiles(files)
    with closing(trail):
        notes = trail.notes
        for part in trail.parts:
            if quickly and not part.regular:
                raise click.UsageError(
                    f"{part.name}: --quick reads from the end, and a pipe has none."
                )

        def mayBegin(first: int, prev: str) -> bool:
            """Whether the files may begin with this record."""
            if quickly:
                return True
            former = reading.predecessorOf(trail.parts[0], prev)
            if former is not None:
                notes.append(f"begins at record {first}, which continues {former}")
            elif partial:
                notes.append(
                    f"begins at record {first}; those before are in none of these files"
                )
            return partial or former is not None

        walk = Walk(keys, receipts, expectCheckpoints, mayBegin)
        findings = problem = None
        try:
            with _progress(trail):
                findings = examine(trail.parts, walk, quickly=quickly)
        except BadTrail as bad:
            problem = bad
        names = [part.name for part in trail.parts]
        unread = [name for name in names if name not in walk.files]
    if findings is not None:
        notes += _notesOn(findings, keys)
    if asJSON:
        report = _asJSON(findings, names, notes)
        report |= {"quick": quickly, "unread": unread}
        if problem is not None:
            place = {"file": problem.file, "line": problem.line, "what": problem.what}
            report["problem"] = place
        click.echo(json.dumps(report, indent=2))
    else:
        for note in notes:
            _note(note)
        if findings is not None:
            _tell(findings, names, unread, quickly)
        if problem is not None:
            raise Failed(str(problem))
    if problem is not None:
        context.exit(1)


def _publicKeys(
    paths: Iterable[Path], directory: Path, isNamed: bool
) -> list[Ed25519PublicKey]:
    """
    The keys by which checkpoints are verified; none if none was named and there
    is none in the directory.

    @param isNamed: Whether the directory was named here, and so has to have one.
    """
    paths = list(paths)
    if not paths:
        default = directory / "audit.pem"
        if not default.exists():
            if isNamed:
                raise Failed(
                    f"{default}: it is not there: no signature can be checked",
                    os.EX_CONFIG,
                )
            return []
        paths = [default]
    return [_publicKey(path) for path in paths]


def _publicKey(path: Path) -> Ed25519PublicKey:
    """
    The key in a PEM file.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        octets = path.read_bytes()
    except OSError as error:
        raise reading.CannotRead(
            f"{path}: cannot be opened: {error.strerror}"
        ) from None
    try:
        key = load_pem_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Failed(
            f"{path}: there is no public Ed25519 key in PEM format in it", os.EX_CONFIG
        )
    return key


def _progress(trail: reading.TrailFiles) -> Any:
    """
    A progress bar for a long trail, if somebody looks.
    """
    if trail.size < LONG or not sys.stderr.isatty():
        return nullcontext()
    bar: Any = click.progressbar(length=trail.size, label="verifying", file=sys.stderr)
    for part in trail.parts:
        part.passed = bar.update
    return bar


def _notesOn(findings: Findings, keys: list[Ed25519PublicKey]) -> Iterator[str]:
    """
    What people should know of a trail that is good.
    """
    for name in findings.torn:
        yield (
            f"{name}: the last line is not whole: it is being written, or a crash has "
            "cut it off"
        )
    if findings.unchecked:
        why = "by other keys" if keys else "no public key is at hand"
        yield f"{_number(findings.unchecked, 'signature')} not checked: {why}"


def _number(number: int, what: str) -> str:
    """
    So many of something.
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def _tell(
    findings: Findings, names: list[str], unread: list[str], quickly: bool
) -> None:
    """
    Say what a good trail is.
    """
    read = _filesAs([name for name in names if name not in unread])
    if not findings.records:
        click.echo(
            f"0 records: empty ({read}); if there were any, only a receipt "
            "(--expect) tells"
        )
        return
    click.echo(
        f"{_number(findings.records, 'record')}, "
        f"{_number(findings.checkpoints, 'checkpoint')} good "
        f"({read})"
    )
    click.echo(
        f"from record {findings.first}, {show.escaped(findings.since)}, "
        f"to record {findings.last}, {show.escaped(findings.until)}"
    )
    if quickly and findings.first > 1:
        among = f" ({_filesAs(unread)}: not read)" if unread else ""
        click.echo(f"not verified: what is before record {findings.first}{among}")
    if findings.checkpoints or findings.unchecked:
        click.echo(f"{_number(findings.unsigned, 'record')} since the last checkpoint")
    else:
        click.echo("there is no checkpoint: none of it is signed")
    click.echo(f"receipt: {findings.last}:{findings.head}")


def _filesAs(names: list[str]) -> str:
    """
    Some files, for people.
    """
    return f"{'file' if len(names) == 1 else 'files'} {', '.join(names)}"


def _asJSON(
    findings: Findings | None, names: list[str], notes: list[str]
) -> dict[str, object]:
    """
    What was found, for programs.
    """
    report: dict[str, object] = {"good": findings is not None, "files": names}
    if findings is not None:
        report |= {
            "records": findings.records,
            "first": findings.first,
            "last": findings.last,
            "head": findings.head,
            "since": findings.since,
            "until": findings.until,
            "checkpoints": findings.checkpoints,
            "unchecked": findings.unchecked,
            "unsigned": findings.unsigned,
            "torn": list(findings.torn),
        }
    return report | {"notes": notes}


def _note(text: str) -> None:
    """
    Say something beside the matter.
    """
    click.echo(f"tcpsvc audit: {text}", err=True)


class _Output:
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


def _isColoured() -> bool:
    """
    Whether standard output is a terminal that may be coloured
    (https://no-color.org).
    """
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def _style(coloured: bool) -> Callable[[str, str], str]:
    """
    What gives texts their looks.
    """
    if not coloured:
        return lambda text, look: text
    return lambda text, look: (
        click.style(text, **_LOOKS[look]) if _LOOKS[look] and text else text
    )


@auditGroup.command(name="show")
@_files
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
def show_(
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
    selection = show.Selection(session.lower(), identity, since)
    sessions = show.Sessions()
    teller = show.Teller(sessions, _style(_isColoured()))
    output = _Output()
    bad = False
    found = not session
    trail = reading.openFiles(files)
    for note in trail.notes:
        _note(note)
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
                _note(f"{entry.part.name}: line {entry.number}: it is {what}")
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
            _note(f"{part.name}: the last line is not whole, and not shown")


@auditGroup.command(name="replay")
@_files
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
def replay_(
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
        moments = replay.momentsOf(_recordsOf(trail, chosen), speed, maxWait)
        if recording is not None:
            lines = replay.asciicast(moments, replay.timeOf(opened), title, typed)
            _writeRecording(lines, recording)
            return
        _note(title)
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
    return show.escaped(f"{session}: {name}, {when}Z")


def _recordsOf(trail: reading.TrailFiles, session: str) -> Iterator[dict[str, object]]:
    """
    The records of a session.
    """
    for entry in trail.entries():
        if entry.fields is not None and entry.fields.get("session") == session:
            yield entry.fields
            if entry.fields.get("event") == "session.closed":
                return


def _play(moments: Iterator[replay.Moment], typed: bool, raw: bool) -> None:
    """
    Show a session on standard output.
    """
    plainly = {True: replay.Plainly(), False: replay.Plainly()}
    style = _style(_isColoured())
    stdout = sys.stdout.buffer

    def write(moment: replay.Moment) -> None:
        """Write what is seen next."""
        if moment.typed and not typed:
            return
        octets = moment.octets
        if not raw:
            text = plainly[moment.typed](octets)
            if moment.typed:
                text = style(text, "asked")
            octets = text.encode("utf-8", "backslashreplace")
        stdout.write(octets)
        stdout.flush()

    replay.play(moments, write, time.monotonic, time.sleep)


def _writeRecording(lines: Iterator[str], where: str) -> None:
    """
    Write a recording.

    @param where: The file, which is not replaced, or C{-}.
    """
    if where == "-":
        output = _Output()
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
