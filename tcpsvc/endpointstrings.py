# -*- test-case-name: tests.test_endpointstrings -*-

"""
Endpoint strings, checked before anything is opened: what would otherwise be found
out by the first client is said at the start, in words.

What Twisted says of a bad string is meant for a programmer, and much it does not say
at all; so the shapes of its own kinds stand here once more.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from attrs import frozen
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.interfaces import IStreamServerEndpoint

from tcpsvc.endpoints.arguments import Option, bound, number
from tcpsvc.listening import (
    BACKLOG,
    InheritedUNIXEndpoint,
    ProxiedEndpoint,
    VacatedUNIXEndpoint,
    familyOf,
)

MAX_SOCKET_PATH_OCTETS = 107
"""
How long the path of a UNIX socket may be (C{man 7 unix}).
"""

_PART = re.compile(r"(?s)(?:^|:)((?:\\.|[^:\\])*)")
_NAMED = re.compile(r"(?s)((?:\\.|[^=\\])*)=(.*)")
_LONE_BACKSLASH = re.compile(r"(?s)(?:[^\\]|\\.)*\\")
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]*)):([0-9]{1,5})")


def _parts(description: str) -> list[str]:
    """
    An endpoint string, parted by its colons, as it stands.
    """
    parts: list[str] = _PART.findall(description)
    return parts


def _unescaped(part: str) -> str:
    """
    A part of an endpoint string without its backslashes.
    """
    return re.sub(r"(?s)\\(.)", r"\1", part)


def _escaped(text: str) -> str:
    """
    A text as a part of an endpoint string.
    """
    return re.sub(r"([\\:=])", r"\\\1", text)


@frozen
class _Read:
    """
    An endpoint string, read as L{twisted.internet.endpoints} does: parts are parted
    by colons, a backslash keeps what is behind it from having a meaning, and of an
    argument given twice the last counts.
    """

    kind: str
    arguments: tuple[str, ...]
    named: Mapping[str, str]


def _read(description: str) -> _Read:
    """
    @raise ValueError: If the last backslash has nothing behind it.
    """
    if _LONE_BACKSLASH.fullmatch(description):
        raise ValueError("nothing follows the backslash at the end")
    kind, *parts = _parts(description)
    arguments = []
    named = {}
    for part in parts:
        if match := _NAMED.fullmatch(part):
            named[_unescaped(match[1])] = _unescaped(match[2])
        else:
            arguments.append(_unescaped(part))
    return _Read(_unescaped(kind), tuple(arguments), named)


def isLocal(description: str) -> bool:
    """
    Whether only this machine can reach a server's endpoint string.
    """
    try:
        read = _read(description)
    except ValueError:
        return False
    if read.kind == "unix":
        return True
    if read.kind not in ("tcp", "tcp6"):
        return False
    interface = read.named.get("interface", "")
    try:
        return interface == "localhost" or ip_address(interface).is_loopback
    except ValueError:
        return False


def _socketPath(value: str) -> None:
    """
    See that the path of a UNIX socket is not too long.
    """
    if len(os.fsencode(value)) > MAX_SOCKET_PATH_OCTETS:
        raise ValueError(f"at most {MAX_SOCKET_PATH_OCTETS} octets are possible")


def _host(value: str) -> None:
    """
    See that a value may be the name or the address of a host.
    """
    if any(each.isspace() for each in value):
        raise ValueError("there is a blank in it")


def _mode(value: str) -> None:
    """
    See that a value is the mode of a file.
    """
    if not re.fullmatch("[0-7]{1,4}", value):
        raise ValueError("an octal number is wanted, such as 660")


def _domain(value: str) -> None:
    """
    See that a value is a kind of sockets.
    """
    if value not in ("INET", "INET6", "UNIX"):
        raise ValueError("one of INET, INET6, UNIX is wanted")


def _wrapped(value: str) -> None:
    """
    See that a value is itself the string of a client's endpoint.
    """
    _checkShape(_CLIENTS, value)


_SECONDS = number(1)
_BACKLOG = Option("backlog", check=number(1))
_LOCKFILE = Option("lockfile", onlyByName=True, check=number(0, 1))
_REMOTE = (
    Option("host", required=True, check=_host),
    Option("port", required=True, check=number(1, 65535)),
)
_LISTENING = Option("port", required=True, check=number(0, 65535))


def _byName(*names: str) -> tuple[Option, ...]:
    """
    Options of which any value may be right.
    """
    return tuple(Option(name, onlyByName=True) for name in names)


_PROXIED = "haproxy:"
_CLIENTS = {
    "tcp": (
        *_REMOTE,
        Option("timeout", onlyByName=True, check=_SECONDS),
        *_byName("bindAddress"),
    ),
    "unix": (
        Option("path", required=True, check=_socketPath),
        Option("timeout", onlyByName=True, check=_SECONDS),
        _LOCKFILE,
    ),
    "tls": (
        *_REMOTE,
        Option("timeout", check=_SECONDS),
        *_byName("bindAddress", "certificate", "privateKey", "trustRoots"),
        Option("endpoint", onlyByName=True, check=_wrapped),
    ),
    "ssl": (
        *_REMOTE,
        Option("timeout", onlyByName=True, check=_SECONDS),
        *_byName("bindAddress", "certKey", "privateKey", "caCertsDir", "hostname"),
    ),
}
_SERVERS = {
    "tcp": (_LISTENING, Option("interface"), _BACKLOG),
    "tcp6": (_LISTENING, _BACKLOG, Option("interface")),
    "unix": (
        Option("address", required=True, check=_socketPath),
        Option("mode", check=_mode),
        _BACKLOG,
        _LOCKFILE,
    ),
    "systemd": (
        Option("domain", required=True, check=_domain),
        Option("index", check=number(0)),
        Option("name"),
    ),
}
"""
The kinds of Twisted, and what can be said in each.
"""


def _checkShape(kinds: Mapping[str, Sequence[Option]], description: str) -> None:
    """
    See that a string has the arguments that its kind wants.

    @raise ValueError: If it has not.
    """
    read = _read(description)
    kind = read.kind.lower()
    if kind in kinds:
        bound(kind, kinds[kind], read.arguments, read.named)


def checkClient(reactor: object, description: str) -> None:
    """
    See that a string leads to somewhere, without going there.

    @raise ValueError: If it cannot. One line says why.
    """
    kinds = "tcp:, unix:, tls:, exec:, serial: or mtls:"
    try:
        _checkShape(_CLIENTS, description)
        clientFromString(reactor, description)
    except Exception as error:
        raise ValueError(_whyNot(error, description, _clientMeant, kinds)) from None


def checkServer(reactor: object, description: str) -> IStreamServerEndpoint:
    """
    See that a string can be listened on, without doing so.

    @raise ValueError: If it cannot. One line says why.
    """
    kinds = "tcp:, tcp6:, unix: or systemd:"
    inner = description
    while inner.startswith(_PROXIED):
        inner = inner.removeprefix(_PROXIED)
    try:
        _checkShape(_SERVERS, inner)
        return serverEndpoint(reactor, description)
    except Exception as error:
        raise ValueError(_whyNot(error, inner, _serverMeant, kinds)) from None


def serverEndpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    Make the endpoint of a server's string, as Twisted does. In addition, connections
    that wait are L{BACKLOG} where the string does not say how many; a UNIX socket
    that was left behind is replaced; and an inherited socket is what the string
    says.

    @raise ValueError: If it is not. Other strings that cannot be listened on raise
        what Twisted raises.
    """
    if description.startswith(_PROXIED):
        inner = serverEndpoint(reactor, description.removeprefix(_PROXIED))
        return ProxiedEndpoint(inner)
    read = _read(description)
    named = dict(read.named)
    if read.kind in ("tcp", "tcp6", "unix"):
        places = [one.name for one in _SERVERS[read.kind] if one.name not in named]
        named |= zip(places, read.arguments, strict=False)
        if "backlog" not in named:
            description += f":backlog={BACKLOG}"
    endpoint = serverFromString(reactor, description)
    if read.kind == "unix":
        return VacatedUNIXEndpoint(named["address"], endpoint)
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        return _inherited(reactor, description, endpoint)
    return cast(IStreamServerEndpoint, endpoint)


def _inherited(
    reactor: object, description: str, endpoint: AdoptedStreamServerEndpoint
) -> IStreamServerEndpoint:
    """
    @return: What listens on a socket that another process has opened.
    @raise ValueError: If the socket is not what the string says.
    """
    family = familyOf(endpoint.fileno)
    if family != endpoint.addressFamily:
        told = socket.AddressFamily(endpoint.addressFamily).name.removeprefix("AF_")
        real = family.name.removeprefix("AF_")
        parts = [
            part.replace(told, real) if part in (told, f"domain={told}") else part
            for part in _parts(description)
        ]
        raise ValueError(
            f"descriptor {endpoint.fileno} is a socket of the domain {real}, not "
            f"{told}; to fix: write {':'.join(parts)}"
        )
    if family == socket.AF_UNIX:
        return InheritedUNIXEndpoint(reactor, endpoint.fileno)
    return cast(IStreamServerEndpoint, endpoint)


def _whyNot(
    error: Exception, description: str, meant: Callable[[str], str | None], kinds: str
) -> str:
    """
    What is wrong with a string, in words.

    @param meant: Knows what was meant by a string that is none.
    @param kinds: What a string may begin with.
    """
    guess = meant(description)
    if guess is not None:
        return f"did you mean {guess}?"
    kind = _parts(description)[0]
    if str(error).startswith("Unknown endpoint type"):
        return f"one that begins with {kinds} is wanted"
    if isinstance(error, TypeError):
        return f"its arguments are not those of {kind}:"
    if isinstance(error, (KeyError, IndexError)):
        names = os.environ.get("LISTEN_FDNAMES")
        return f"{kind}: there is no such socket among those that were passed on " + (
            f"(LISTEN_FDNAMES is {names})" if names else "(LISTEN_FDNAMES is not set)"
        )
    if isinstance(error, OSError):
        return f"{kind}: {error.filename}: {error.strerror}"
    return str(error) or f"{kind}: {type(error).__name__}"


def _clientMeant(description: str) -> str | None:
    """
    What was meant by a client's string that begins with no kind.
    """
    kind, *rest = _parts(description)
    if kind in ("tcp4", "tcp6"):
        return ":".join(("tcp", *rest))
    if "/" in kind:
        return _pathMeant(description)
    if kind.lower() in (*_CLIENTS, "exec", "serial", "mtls"):
        return None
    if match := _HOST_AND_PORT.fullmatch(description):
        six, name, port = match.groups()
        return f"tcp:{_escaped(six or name or 'localhost')}:{port}"
    if kind.strip() and shutil.which(kind.split()[0]):
        return _execOf(_withoutLastColon(description))
    return None


def _withoutLastColon(description: str) -> str:
    """
    A string without the colon at its end, which somebody has put there because
    kinds have one.
    """
    return re.sub(r"(?<!\\):\Z", "", description)


def _pathMeant(description: str) -> str | None:
    """
    The same where it begins with a path.
    """
    path, words = description, shlex.quote(description)
    mode = _modeOf(path)
    if mode:
        description = _escaped(description)
    else:
        description = words = _withoutLastColon(description)
        path = _parts(description)[0].split()[0]
        mode = _modeOf(path)
    if stat.S_ISSOCK(mode) or path.endswith((".sock", ".socket")):
        return f"unix:{description}"
    if stat.S_ISCHR(mode) or (not mode and path.startswith("/dev/")):
        return f"serial:{description}"
    return None if stat.S_ISDIR(mode) else _execOf(words)


def _modeOf(path: str) -> int:
    """
    What lies at a path: its mode; 0 if there is nothing, or nothing for us to see.
    """
    try:
        return Path(path).stat().st_mode
    except OSError:
        return 0


def _execOf(words: str) -> str:
    """
    The string of a command.
    """
    return "exec:" + re.sub(r"(?<!\\)=", r"\\=", words)


def _serverMeant(description: str) -> str | None:
    """
    What was meant by a server's string that begins with no kind, or has its
    interface before the port.
    """
    kind, *rest = _parts(description)
    if kind not in _SERVERS and kind.lower() in _SERVERS:
        return ":".join((kind.lower(), *rest))
    if kind.isascii() and kind.isdecimal():
        return f"tcp:{description}"
    if "/" in kind:
        return f"unix:{description}"
    if kind == "tcp":
        description = ":".join(rest)
    elif kind in _SERVERS:
        return None
    match = _HOST_AND_PORT.fullmatch(description)
    if match is None:
        return None
    six, name, port = match.groups()
    if six:
        return f"tcp6:{port}:interface={_escaped(six)}"
    return f"tcp:{port}:interface={name}" if name else f"tcp:{port}"
