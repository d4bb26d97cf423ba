# -*- test-case-name: tests.test_client_tls -*-

"""
The keys of a client, and whose to take.
"""

from __future__ import annotations

from attrs import frozen
from cryptography import x509

from tcpsvc.client.errors import ConfigurationError
from tcpsvc.keyfiles import (
    KeyDirectory,
    KeyFileError,
    NoSuchKeyFile,
    PrivateKey,
    readCertificates,
    readPrivateKey,
)


@frozen
class ClientMaterial:
    """
    What a client shows of itself and holds the server against.

    @ivar identity: The name by which the certificate was found.
    @ivar chain: The client's certificate, and those between it and its CA.
    @ivar key: The client's private key.
    @ivar authorities: Who may sign the server's certificate.
    """

    identity: str
    chain: list[x509.Certificate]
    key: PrivateKey
    authorities: list[x509.Certificate]


@frozen
class Spelling:
    """
    How a person says where the keys are and whose to take.
    """

    keys: str
    identity: str


COMMAND_LINE = Spelling("--keys", "--identity NAME")
ENDPOINT_STRING = Spelling("keys=DIR", "identity=NAME")


def loadClientMaterial(
    directory: KeyDirectory, identity: str | None, spelling: Spelling = COMMAND_LINE
) -> ClientMaterial:
    """
    Read what a client needs.

    @param identity: The client's name; if L{None}, the only one there is.
    @param spelling: What an error tells people to write.
    @raise ConfigurationError: If something is missing or useless, or if there
        are several identities and none was named.
    """
    try:
        authorities = readCertificates(directory.ca)
        name = _chosen(directory, identity, spelling)
        return ClientMaterial(
            identity=name,
            chain=readCertificates(directory.client(name)),
            key=readPrivateKey(directory.clientKey(name)),
            authorities=authorities,
        )
    except NoSuchKeyFile as error:
        raise ConfigurationError(
            f"{error.path}: {error.problem}; ask for it where the service's keys are "
            f"made, or say with {spelling.keys} where it is"
        ) from None
    except KeyFileError as error:
        raise ConfigurationError(str(error)) from None


def _chosen(directory: KeyDirectory, identity: str | None, spelling: Spelling) -> str:
    """
    The name of the client. Certificates without their keys, as an authority
    has them, do not count.
    """
    if identity and "/" in identity:
        raise ConfigurationError(f"{identity!r}: an identity is a name and not a path")
    names = [
        name for name in directory.clientNames() if directory.clientKey(name).exists()
    ]
    if identity is not None:
        if identity in names or not names or directory.client(identity).exists():
            return identity
        raise ConfigurationError(
            f"{directory.clients}: there is no identity {identity!r}, "
            f"only {', '.join(names)}"
        )
    if not names:
        raise ConfigurationError(
            f"{directory.clients}: there is no identity; "
            f"`tcpsvc keys client NAME` makes one, {spelling.keys} says where it is"
        )
    if len(names) > 1:
        raise ConfigurationError(
            f"{directory.clients}: there are several identities: {', '.join(names)}; "
            f"choose with {spelling.identity}"
        )
    return names[0]
