# -*- test-case-name: tests.test_keys_writing -*-

"""
How keys and certificates are written: whole or not at all, never over another
unless that is asked for, and private keys for their owner alone.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tcpsvc.keyfiles import BrokenKeyFile, PrivateKey


class KeyFileExists(BrokenKeyFile):
    """
    A file is there already, and was not to be replaced.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "already there", "--force replaces it")


class HasPEM(Protocol):
    """
    A certificate, a request or a revocation list.
    """

    def public_bytes(self, encoding: Encoding) -> bytes:
        """It, encoded."""


def writePrivateKey(path: Path, key: PrivateKey, *, replace: bool = False) -> None:
    """
    Write a private key, which from the first moment its owner alone can read.

    @raise KeyFileError: If C{path} exists and is not to be replaced, or cannot
        be written.
    """
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    writeFile(path, pem, mode=0o600, replace=replace)


def writePublicKey(path: Path, key: PrivateKey, *, replace: bool = False) -> None:
    """
    Write the public half of a private key.

    @raise KeyFileError: As L{writePrivateKey}.
    """
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    writeFile(path, pem, replace=replace)


def writePEM(path: Path, what: HasPEM, *, replace: bool = False) -> None:
    """
    Write a certificate, a request or a revocation list.

    @raise KeyFileError: As L{writePrivateKey}.
    """
    writeFile(path, what.public_bytes(Encoding.PEM), replace=replace)


def writeFile(
    path: Path, contents: bytes, *, mode: int = 0o644, replace: bool = False
) -> None:
    """
    Write a file whole or not at all: a crash leaves no half of it.

    Its directory is made, for its owner alone, if it is not there.

    @param mode: The file's permissions before the umask.
    @param replace: Whether it takes the place of a file of this name.

    @raise KeyFileError: If C{path} exists and is not to be replaced, or cannot
        be written.
    """
    # Not from the file's name, which may be as long as names can be.
    draft = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(contents)
                file.flush()
                os.fsync(descriptor)
            if replace:
                draft.replace(path)
            else:
                _linkNew(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise BrokenKeyFile(
            path, f"cannot be written: {error.strerror}", "look at the directory"
        ) from None


def removeFile(path: Path) -> None:
    """
    Remove a file, if it is there.

    @raise KeyFileError: If it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BrokenKeyFile(
            path, f"cannot be removed: {error.strerror}", "look at the directory"
        ) from None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """
    Wait until no other process holds the lock of a directory, and hold it.

    @raise KeyFileError: If there is no such directory.
    """
    try:
        descriptor = os.open(directory, _DIRECTORY)
    except OSError as error:
        raise BrokenKeyFile(
            directory, f"cannot be opened: {error.strerror}", "look at --keys"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _linkNew(draft: Path, path: Path) -> None:
    """
    Give C{draft} the name C{path} too, which a rename would take from another.

    @raise KeyFileExists: If there is a file of that name.
    """
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise KeyFileExists(path) from None


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def _sync(directory: Path) -> None:
    """
    Force a directory's names to the disk.
    """
    descriptor = os.open(directory, _DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
