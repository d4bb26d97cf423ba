# -*- test-case-name: tests.test_keyfiles -*-

"""
Files in PEM format (RFC 7468): how one is read, and what people are told if it
cannot be.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from tcpsvc.escapes import excerpt, printable

MAX_FILE_SIZE = 16 * 1024 * 1024
"""
The most octets that are read of a key, certificate or revocation list.
"""

_ARMOR = b"-----BEGIN "

_T = TypeVar("_T")


class KeyFileError(Exception):
    """
    A key, certificate or revocation list cannot be used as it is.
    """


class BrokenKeyFile(KeyFileError):
    """
    A file is not what it should be.

    @ivar path: The file.
    @ivar problem: What is wrong with it, as a phrase.
    @ivar mend: What to do about it, as a phrase or a command.
    """

    def __init__(self, path: Path, problem: str, mend: str) -> None:
        super().__init__(f"{path}: {problem}; {mend}")
        self.path = path
        self.problem = problem
        self.mend = mend


class NoSuchKeyFile(BrokenKeyFile):
    """
    A file is not there.
    """


@frozen
class Mends:
    """
    What to do about a file, as phrases.

    @ivar missing: If it is not there.
    @ivar broken: If it is not what it should be.
    """

    missing: str
    broken: str


NAMED = Mends("is the path right?", "is it the right file?")
_OF_INIT = Mends("`tcpsvc keys init` makes one", "make it anew")
_MENDS = {
    "ca.pem": Mends(_OF_INIT.missing, "bring it back from a copy"),
    "ca-key.pem": _OF_INIT,
    "server.pem": _OF_INIT,
    "server-key.pem": _OF_INIT,
    "audit.pem": _OF_INIT,
    "audit-key.pem": _OF_INIT,
}


def mendsOf(path: Path) -> Mends:
    """
    What to do about a key or certificate: one that has no name of ours was named
    by somebody.
    """
    if path.parent.name == "clients" and path.suffix == ".pem":
        return Mends("`tcpsvc keys client NAME` makes one", "make it anew")
    return _MENDS.get(path.name, NAMED)


def contentsOf(path: Path, mends: Mends) -> tuple[bytes, int]:
    """
    Read a file at once: nothing is waited for that a FIFO may bring.

    @return: Its octets, L{MAX_FILE_SIZE} at most, and its mode.

    @raise KeyFileError: If it is not there, or cannot be read.
    """
    try:
        with open(path, "rb", opener=_openAtOnce) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BrokenKeyFile(path, "not a regular file", mends.broken)
            contents = file.read(MAX_FILE_SIZE + 1)
    except FileNotFoundError:
        raise NoSuchKeyFile(path, "there is no such file", mends.missing) from None
    except OSError as error:
        raise BrokenKeyFile(
            path, f"cannot be read: {error.strerror}", "look at its owner and mode"
        ) from None
    if len(contents) > MAX_FILE_SIZE:
        raise BrokenKeyFile(
            path, f"more than {MAX_FILE_SIZE} octets; not a PEM file", mends.broken
        )
    return contents, stat.S_IMODE(status.st_mode)


def parsed(
    path: Path,
    contents: bytes,
    what: str,
    load: Callable[[bytes], _T],
    mends: Mends,
) -> _T:
    """
    What C{load} makes of the contents. Warnings of L{cryptography} are not shown.

    @raise KeyFileError: If C{load} finds nothing that it understands, or raises it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return load(contents)
        except (KeyFileError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # One of cryptography's is no Exception.
            problem = f"there is no {what} in PEM format in it"
            if _ARMOR in contents:
                why = printable(excerpt(f"{type(error).__name__}: {error}"))
                problem += f" that can be read ({why})"
            raise BrokenKeyFile(path, problem, mends.broken) from None


def _openAtOnce(path: str, flags: int) -> int:
    """
    Open a file without waiting until somebody writes into it.
    """
    return os.open(path, flags | os.O_NONBLOCK)
