# -*- test-case-name: tests.test_cli_keys -*-

"""
C{tcpsvc keys}: the certificate authority of a small lab, on the command line.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import click
from cryptography import x509

from tcpsvc.cli.failing import FailingGroup
from tcpsvc.identity import alternativeNames
from tcpsvc.keyfiles import KeyDirectory, KeyFileError, NoSuchKeyFile, readCertificate
from tcpsvc.keys import authority, listing, making
from tcpsvc.keys import check as checking
from tcpsvc.keys.advice import DEFAULT_KEYS, command, opensslLine
from tcpsvc.keys.issuing import Bearer
from tcpsvc.keys.names import BadArgument, commonNameOf, hostAlternativeName, hostsOf
from tcpsvc.keys.rules import Role

_keys = click.option(
    "--keys",
    "directory",
    type=click.Path(path_type=Path),
    callback=lambda context, option, path: KeyDirectory(path),
    envvar="TCPSVC_KEYS",
    default=str(DEFAULT_KEYS),
    show_default=True,
    show_envvar=True,
    help="Where the keys are.",
)
_force = click.option("--force", is_flag=True, help="Replace what is there.")
_host = click.option("--host", help="What clients call the server.")
_port = click.option(
    "--port", type=click.IntRange(1, 65535), default=4433, show_default=True
)
_hosts = click.argument("hosts", nargs=-1, metavar="[HOST]...")


def utcNow() -> datetime:
    """
    @return: The time, for all commands; tests put another in its place.
    """
    return datetime.now(timezone.utc)


@click.group(
    name="keys",
    cls=FailingGroup,
    failures={BadArgument: os.EX_USAGE, KeyFileError: os.EX_CONFIG},
)
def keysGroup() -> None:
    """Make, sign, list, renew, revoke and check keys and certificates."""


@keysGroup.command()
@_hosts
@click.option(
    "--force", is_flag=True, help="Replace what is there: all certificates are void."
)
@_keys
def init(hosts: tuple[str, ...], force: bool, directory: KeyDirectory) -> None:
    """Make an authority and the server's pair.

    HOST are the names and addresses by which clients call the server; by
    default localhost, its addresses, and this machine's name.
    """
    making.initialise(directory, hosts or _ownHosts(), utcNow(), force=force)
    click.echo(f"{directory.caKey}: keep it safe; whoever has it lets anybody in")
    _tellServer(directory)
    click.echo(f"next: {command(directory, 'client', 'NAME')}")


@keysGroup.command()
@click.argument("name")
@_host
@_port
@_force
@_keys
def client(
    name: str, host: str | None, port: int, force: bool, directory: KeyDirectory
) -> None:
    """Make a client's pair, and print the line that talks to the service."""
    line = opensslLine(directory, name, host or _serverHost(directory), port)
    pair = making.makeClient(directory, name, utcNow(), force=force)
    click.echo(f"{pair.certificate}: {_until(pair.certificate)}")
    click.echo(line)


@keysGroup.command()
@_hosts
@_force
@_keys
def server(hosts: tuple[str, ...], force: bool, directory: KeyDirectory) -> None:
    """Make the server's pair from the authority that is there."""
    making.makeServer(directory, hosts or _ownHosts(), utcNow(), force=force)
    _tellServer(directory)


@keysGroup.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME | --server HOST...")
@click.option("--server", "isServer", is_flag=True, help="For a server of these hosts.")
@_force
@_keys
def request(
    names: tuple[str, ...], isServer: bool, force: bool, directory: KeyDirectory
) -> None:
    """Make a key that stays here, and a request to have signed elsewhere."""
    if not isServer and len(names) > 1:
        raise click.UsageError("A client has one NAME; --server takes many.")
    bearer = Bearer.server(names) if isServer else Bearer.client(names[0])
    pair = making.request(directory, bearer, force=force)
    sign = "sign --server" if isServer else "sign"
    click.echo(f"{pair.request}: send it to the authority: tcpsvc keys {sign} FILE")
    brought = f"{pair.certificate} and {directory.ca}"
    if isServer:
        brought = f"{pair.certificate}, {directory.ca} and {directory.crl}"
    click.echo(f"put what comes back into {brought}")


@keysGroup.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="CSR")
@_hosts
@click.option("--server", "isServer", is_flag=True, help="Sign it for a server.")
@_force
@_keys
def sign(
    path: Path,
    hosts: tuple[str, ...],
    isServer: bool,
    force: bool,
    directory: KeyDirectory,
) -> None:
    """Sign a request.

    Only its key and its common name count or, for a server, the hosts that it
    asks for; HOST takes their place.
    """
    if hosts and not isServer:
        raise click.UsageError("HOST goes with --server.")
    role = Role.SERVER if isServer else Role.CLIENT
    signed = making.sign(directory, path, role, utcNow(), hosts=hosts, force=force)
    click.echo(f"{signed.certificate}: {role.value}, {_until(signed.certificate)}")
    more = f" and {directory.crl}" if isServer else ""
    click.echo(f"send it to its owner, with {directory.ca}{more}")


@keysGroup.command(name="list")
@click.option("--json", "asJSON", is_flag=True, help="As a JSON array.")
@click.option(
    "--expiring",
    type=click.IntRange(0, 36500),
    metavar="DAYS",
    help="Only what expires within DAYS or has expired; exit 1 if anything does.",
)
@_keys
@click.pass_context
def list_(
    context: click.Context, asJSON: bool, expiring: int | None, directory: KeyDirectory
) -> None:
    """List the certificates that are here."""
    if expiring is None:
        found = listing.entries(directory, utcNow())
    else:
        within = timedelta(days=expiring)
        listed = listing.entries(directory, utcNow(), within)
        found = [entry for entry in listed if entry.status.isDue]
    if asJSON:
        click.echo(json.dumps([entry.asRecord() for entry in found], indent=2))
    elif found:
        click.echo(_table(found))
    if found and expiring is not None:
        context.exit(1)


@keysGroup.command()
@click.argument("what", metavar="NAME|ca|server|FILE")
@click.option(
    "--line", is_flag=True, help="Show only the line by which client NAME talks."
)
@_host
@_port
@_keys
def show(
    what: str, line: bool, host: str | None, port: int, directory: KeyDirectory
) -> None:
    """Show a certificate."""
    path, name = _certificate(directory, what)
    if line:
        if name in (None, "ca", "server"):
            raise BadArgument(f"{what}: --line is for the name of a client")
        host = host or _serverHost(directory)
        click.echo(opensslLine(directory, what, host, port))
        return
    entry = listing.entryOf(directory, name, path, utcNow())
    certificate, status = entry.certificate, entry.status.value
    lines = {
        "common name": commonNameOf(certificate.subject),
        "names": ", ".join(alternativeNames(certificate)) or "none",
        "serial": entry.serial,
        "SHA-256": entry.fingerprint,
        "signed by": commonNameOf(certificate.issuer),
        "valid": f"{entry.begins} to {entry.expires}",
        "status": f"{status}: {entry.reason}" if entry.reason else status,
    }
    click.echo(path)
    for label, text in lines.items():
        click.echo(f"  {label:<12} {text}")


@keysGroup.command()
@click.argument("name", metavar="NAME|server")
@click.option("--new-key", "newKeyToo", is_flag=True, help="Make a new key too.")
@_keys
def renew(name: str, newKeyToo: bool, directory: KeyDirectory) -> None:
    """Make a new certificate in place of one; that is kept in former/."""
    former = _named(directory, name)
    pair = making.renew(directory, name, utcNow(), newKeyToo=newKeyToo)
    click.echo(f"{pair.certificate}: {_until(pair.certificate)}")
    if newKeyToo:
        serial = f"{former.serial_number:x}"
        end = command(directory, "revoke", "--serial", serial)
        click.echo(f"if somebody else may have the former key: {end}")
    if not pair.key.exists():
        click.echo("send it to its owner")
    if name == "server":
        click.echo("a running service must be restarted to show it")


@keysGroup.command()
@click.argument("what", required=False, metavar="[NAME|server|FILE]")
@click.option("--serial", metavar="HEX", help="Revoke the certificate of this number.")
@_keys
def revoke(what: str | None, serial: str | None, directory: KeyDirectory) -> None:
    """Revoke a certificate, and the former ones of its name.

    Without either, the revocation list is only signed anew.
    """
    if what and serial:
        raise click.UsageError("Either a certificate or --serial.")
    serials = []
    if serial:
        serials = [_serialFrom(serial)]
    elif what:
        serials = authority.serialsOf(directory, *_certificate(directory, what))
    added = authority.revoke(directory, serials, utcNow())
    for number in serials:
        already = "" if number in added else " already"
        click.echo(f"{number:x}:{already} revoked")
    click.echo(f"{directory.crl}: a running service must be restarted to read it")


@keysGroup.command()
@click.argument("name", metavar="NAME|server")
@click.option("--out", type=click.Path(path_type=Path), help="By default NAME.p12.")
@_force
@_keys
def export(name: str, out: Path | None, force: bool, directory: KeyDirectory) -> None:
    """Put a pair into one file with a passphrase (PKCS #12)."""
    _named(directory, name)
    path = out or directory.pair(name).bundle
    making.export(directory, name, _passphrase, path, force=force)
    click.echo(f"{path}: {name} and the authority's certificate, encrypted")


@keysGroup.command()
@_host
@_keys
@click.pass_context
def check(context: click.Context, host: str | None, directory: KeyDirectory) -> None:
    """Say what is wrong, and how to mend it; exit 1 if anything does not work."""
    findings = checking.check(directory, utcNow(), host)
    for finding in findings:
        click.echo(finding.asLine())
    if not findings:
        number = len(checking.filesIn(directory))
        click.echo(f"{number} files checked, nothing wrong")
    if any(finding.isError for finding in findings):
        context.exit(1)


def _ownHosts() -> list[str]:
    """
    What a server on this machine is called, if nobody says.
    """
    hosts = ["localhost", "127.0.0.1", "::1"]
    try:
        hostAlternativeName(socket.gethostname())
    except BadArgument:
        return hosts
    return [*hosts, socket.gethostname()]


def _serverHost(directory: KeyDirectory) -> str:
    """
    The first host that the server's certificate names, or C{"HOST"}.
    """
    try:
        hosts = hostsOf(readCertificate(directory.server))
    except NoSuchKeyFile:
        hosts = []
    return next((host for host in hosts if not host.startswith("*")), "HOST")


def _tellServer(directory: KeyDirectory) -> None:
    """
    Say for whom the server's certificate is.
    """
    hosts = ", ".join(hostsOf(readCertificate(directory.server)))
    click.echo(f"{directory.server}: for {hosts}, {_until(directory.server)}")


def _until(path: Path) -> str:
    """
    How long a certificate is good.
    """
    return f"until {readCertificate(path).not_valid_after_utc:%Y-%m-%d}"


def _certificate(directory: KeyDirectory, what: str) -> tuple[Path, str | None]:
    """
    The file of a certificate, and whose it is unless a file was named.
    """
    if "/" in what or what.endswith(".pem"):
        return Path(what), None
    _named(directory, what)
    return directory.pair(what).certificate, what


def _named(directory: KeyDirectory, name: str) -> x509.Certificate:
    """
    The certificate of C{"ca"}, C{"server"} or a client.

    @raise KeyFileError: If there is none; a client's name may be mistyped.
    """
    try:
        return readCertificate(directory.pair(name).certificate)
    except NoSuchKeyFile as error:
        if name in ("ca", "server"):
            raise
        raise NoSuchKeyFile(
            error.path,
            f"there is no client {name}",
            f"see {command(directory, 'list')}",
        ) from None


def _serialFrom(text: str) -> int:
    """
    A serial number (RFC 5280, section 4.1.2.2) out of hex digits, with or
    without the colons of OpenSSL.

    @raise BadArgument: If it is none.
    """
    try:
        serial = int(text.replace(":", ""), 16)
    except ValueError:
        serial = 0
    if not 0 < serial <= authority.MAX_SERIAL:
        raise BadArgument(f"{text!r}: not a serial number in hex")
    return serial


def _passphrase() -> str:
    """
    Ask twice without an echo, or read two lines from a pipe.

    @raise BadArgument: If these differ.
    """
    if not sys.stdin.isatty():
        return _pipedPassphrase()
    passphrase: str = click.prompt(
        "Passphrase",
        default="",
        show_default=False,
        hide_input=True,
        confirmation_prompt=True,
        err=True,
    )
    return passphrase


def _pipedPassphrase() -> str:
    """
    Two equal lines of standard input, as one.

    @raise BadArgument: If they are none.
    """
    stream = sys.stdin.buffer
    first, second = stream.readline(), stream.readline()
    passphrase = first.rstrip(b"\r\n")
    if not first or second.rstrip(b"\r\n") != passphrase:
        raise BadArgument("the passphrase from the pipe: two equal lines are wanted")
    try:
        return passphrase.decode()
    except UnicodeDecodeError:
        raise BadArgument("the passphrase from the pipe: not UTF-8") from None


def _table(found: Sequence[listing.Entry]) -> str:
    """
    Entries as a table.
    """
    rows = [("NAME", "ROLE", "STATUS", "EXPIRES", "SHA-256")]
    for entry in found:
        status = entry.status.value
        rows.append((entry.name, entry.role, status, entry.expires, entry.fingerprint))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
