# -*- test-case-name: tests.test_client -*-

"""
Where a service is, as people write it.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

import idna
from attrs import frozen

from tcpsvc.client.errors import BadAddress

DEFAULT_PORT = 4433
"""
The TCP port of a service that nobody has named another for.
"""

_FORM = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:\s@]+))(?::([0-9]{1,5}))?", re.ASCII)
_PREFIX = re.compile(r"(?:[a-z]+://|(?:tcp|tls|ssl|mtls):)([^/]+)/?")
_PORTS = "a port is a number from 1 to 65535"


@frozen
class Address:
    """
    Where a service is.

    @ivar host: A host name in ASCII (RFC 5890), or an IP address.
    @ivar port: The TCP port.
    """

    host: str
    port: int

    @property
    def isIP(self) -> bool:
        """Whether the host is an IP address."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def name(self) -> str:
        """What the server's certificate has to name: the host without a zone."""
        return self.host.partition("%")[0]

    def __str__(self) -> str:
        """
        The address as L{parseAddress} takes it.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parseAddress(text: str) -> Address:
    """
    @param text: C{HOST} or C{HOST:PORT}. The host is a name or an IP address;
        one of IPv6 stands in brackets.
    @raise BadAddress: If it is something else.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise BadAddress(f"{text!r}: {_adviceOn(text)}")
    inBrackets, host, digits = match.groups()
    port = int(digits) if digits else DEFAULT_PORT
    if not 0 < port < 65536:
        raise BadAddress(f"{text!r}: {_PORTS}")
    if inBrackets is not None:
        return Address(_checkedIPv6(inBrackets, text), port)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise BadAddress(f"{text!r}: this cannot be the name of a host") from None
    return Address(host, port)


def _adviceOn(text: str) -> str:
    """
    What to write instead of what is no address.
    """
    prefixed = _PREFIX.fullmatch(text)
    if prefixed is not None and _FORM.fullmatch(prefixed[1]):
        return f"did you mean {prefixed[1]!r}?"
    name, _, host = text.partition("@")
    if name and _FORM.fullmatch(host):
        return f"did you mean {host!r}, as identity {name!r} (--identity)?"
    host, colon, port = text.rpartition(":")
    if _isIPv6(text) or _isIPv6(host):
        return "an IPv6 address goes in brackets: [::1] or [::1]:4433"
    if colon and _FORM.fullmatch(host):
        return _PORTS if port else "there is no port behind the colon"
    if colon and not host:
        return "there is no host before the colon"
    return "HOST or HOST:PORT is wanted"


def _isIPv6(text: str) -> bool:
    """
    Whether this is an IPv6 address.
    """
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _checkedIPv6(host: str, text: str) -> str:
    """
    What stood in brackets, if it is an IPv6 address.
    """
    if not _isIPv6(host):
        raise BadAddress(f"{text!r}: there is no IPv6 address in the brackets")
    return host
