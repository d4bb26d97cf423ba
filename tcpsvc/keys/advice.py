# -*- test-case-name: tests.test_keys_advice -*-

"""
What people are told to type: command lines that can be pasted into a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from tcpsvc.keyfiles import KeyDirectory
from tcpsvc.keys.names import hostAlternativeName

DEFAULT_KEYS = Path("keys")
"""
The directory that C{tcpsvc keys} takes unless it is told another.
"""


def command(directory: KeyDirectory, *words: str) -> str:
    """
    A C{tcpsvc keys} command line.

    @param words: The sub-command and its arguments.
    """
    if directory.path != DEFAULT_KEYS:
        words = (words[0], "--keys", str(directory.path), *words[1:])
    return shlex.join(("tcpsvc", "keys", *words))


def remake(directory: KeyDirectory, name: str, hosts: Sequence[str] = ()) -> str:
    """
    What makes a pair anew, as a phrase: a command line, where the authority's
    key is; elsewhere a request is made.

    @param name: C{"ca"}, C{"server"}, or a client's name.
    @param hosts: The server's host names and IP addresses, if they are known.
    """
    if name == "ca":
        isHere = directory.caKey.exists()
        return command(directory, "init", "--force", *hosts) if isHere else _ASK
    if directory.caKey.exists():
        if name == "server":
            return command(directory, "server", "--force", *hosts)
        return command(directory, "client", "--force", "--", name)
    bearer = ("--server", *(hosts or ["HOST"])) if name == "server" else ("--", name)
    asking = command(directory, "request", "--force", *bearer)
    return f"{asking}, and have it signed"


def relist(directory: KeyDirectory) -> str:
    """
    What makes the revocation list anew, as a phrase.
    """
    return command(directory, "revoke") if directory.caKey.exists() else _ASK


def renewal(directory: KeyDirectory, name: str) -> str:
    """
    What renews a certificate, as a phrase.

    @param name: C{"server"} or a client's name.
    """
    if directory.caKey.exists():
        return command(directory, "renew", "--", name)
    request = directory.pair(name).request
    if request.exists():
        return f"have {request} signed again"
    return "ask the authority for a renewed one"


_ASK = "ask for the authority's"


def opensslLine(directory: KeyDirectory, name: str, host: str, port: int = 4433) -> str:
    """
    The command line that talks to the service through C{openssl s_client}, which
    verifies the server only if it is told its name.

    @param name: The client's name.
    @param host: The server's host name or IP address.
    @param port: Its TCP port.

    @raise tcpsvc.keys.names.BadArgument: If C{host} is neither.
    """
    if isinstance(hostAlternativeName(host), x509.IPAddress):
        address = f"[{host}]" if ":" in host else host
        verify = ["-verify_ip", host]
    else:
        address = host
        verify = ["-servername", host, "-verify_hostname", host]
    pair = directory.pair(name)
    return shlex.join(
        [
            "openssl",
            "s_client",
            "-connect",
            f"{address}:{port}",
            *verify,
            "-quiet",
            "-verify_quiet",
            "-verify_return_error",
            "-CAfile",
            str(directory.ca),
            "-cert",
            str(pair.certificate),
            "-key",
            str(pair.key),
        ]
    )
