# -*- test-case-name: tests.test_cli_audit -*-

"""
C{tcpsvc audit verify}: is a trail what was written?
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tcpsvc.audit import reading
from tcpsvc.audit.show import escaped
from tcpsvc.cli.audit.files import aside, filesArgument
from tcpsvc.cli.failing import Failed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from tcpsvc.audit.verify import Findings, Receipt


LONG = 64 * 1024 * 1024
"""
From how many octets on a progress bar is shown.
"""


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


@click.command()
@filesArgument
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
            aside(note)
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
        f"from record {findings.first}, {escaped(findings.since)}, "
        f"to record {findings.last}, {escaped(findings.until)}"
    )
    if findings.trail:
        click.echo(f"trail {escaped(findings.trail)}")
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
        if findings.trail:
            report["trail"] = findings.trail
    return report | {"notes": notes}
