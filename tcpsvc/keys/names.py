# -*- test-case-name: tests.test_keys_names -*-

"""
What clients and servers may be called, and how a certificate says it.

Pure: works on text and L{cryptography.x509} objects.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import quote

from cryptography import x509
from cryptography.x509.oid import NameOID

from tcpsvc.identity import (
    ANONYMOUS,
    MAX_NAME_LENGTH,
    isForClients,
    isForServers,
)

RESERVED_NAMES = ("ca", "server", ANONYMOUS.name)
"""
What no client may be called, because commands or the trail mean others by it.
"""


class BadArgument(ValueError):
    """
    What was asked for cannot be. The message is one line for people.
    """


def clientName(name: str) -> str:
    """
    Check the name of a client, which becomes its common name and its files'.

    @raise BadArgument: If it cannot be one.
    """
    problem = None
    if not name.isprintable() or name != name.strip():
        problem = "is printable, without blanks around it"
    elif not 1 <= len(name.encode()) <= MAX_NAME_LENGTH:
        problem = f"has 1 to {MAX_NAME_LENGTH} octets in UTF-8"
    elif "/" in name or name.startswith("."):
        problem = "has no '/' in it and no '.' before it"
    elif name.endswith(("-key", ".pem")):
        problem = "does not end in '-key' or '.pem', as files here do"
    elif name.lower() in RESERVED_NAMES:
        problem = f"is none of {', '.join(RESERVED_NAMES)}"
    if problem:
        raise BadArgument(f"{name!r}: a client's name {problem}")
    return name


def clientAlternativeName(name: str) -> x509.GeneralName:
    """
    A client's name as a subject alternative name of the right type (RFC 5280,
    section 4.2.1.6).

    @param name: A name that L{clientName} let pass.

    @return: An C{rfc822Name} for C{a@b}, an C{iPAddress} or C{dNSName} for what
        is one, otherwise the URI C{urn:tcpsvc:NAME} with the name
        percent-encoded.
    """
    user, _, domain = name.rpartition("@")
    if _USER.fullmatch(user) and _isHostName(domain):
        return x509.RFC822Name(name)
    try:
        return hostAlternativeName(name)
    except BadArgument:
        return x509.UniformResourceIdentifier(f"urn:tcpsvc:{quote(name)}")


def hostAlternativeName(host: str) -> x509.GeneralName:
    """
    A host name or IP address as a subject alternative name.

    @raise BadArgument: If it is neither.
    """
    if "%" not in host:
        try:
            return x509.IPAddress(ip_address(host))
        except ValueError:
            pass
    if not _isHostName(host):
        raise BadArgument(
            f"{host!r}: neither a host name (in ASCII, xn--… if need be) nor an "
            "IP address"
        )
    return x509.DNSName(host)


def serverAlternativeName(host: str) -> x509.GeneralName:
    """
    What a server is called as a subject alternative name: as
    L{hostAlternativeName}, and C{*.} may stand for the first label (RFC 9525,
    section 6.3). At least two more labels follow: clients refuse a certificate
    altogether that is for all of C{*.lab}.

    @raise BadArgument: If it is none of these.
    """
    domain = host.removeprefix("*.")
    if domain == host:
        return hostAlternativeName(host)
    if "." not in domain or not _isHostName(domain):
        raise BadArgument(f"{host!r}: no client takes that; write *.lab.example")
    return x509.DNSName(host)


def hostsOf(
    certificate: x509.Certificate | x509.CertificateSigningRequest,
) -> list[str]:
    """
    @return: The host names and IP addresses among its subject alternative names.
    """
    try:
        names = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        return []
    return [
        str(name.value)
        for name in names
        if isinstance(name, (x509.DNSName, x509.IPAddress))
    ]


def serverHosts(certificate: x509.Certificate) -> list[str]:
    """
    The hosts of a server's certificate. The names in a client's are no hosts.
    """
    if isForClients(certificate) and not isForServers(certificate):
        return []
    return hostsOf(certificate)


def commonNameOf(subject: x509.Name) -> str:
    """
    @return: The first common name, or an empty string.
    """
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


_USER = re.compile(r"[A-Za-z0-9.!#$%&'*+=?^_`{|}~-]+")
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
# RFC 1123, section 2.1; a last label of digits would look like an IP address.
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!\d+$){_LABEL}")


def _isHostName(text: str) -> bool:
    """
    Whether C{text} is a host name: at most 253 octets.
    """
    return len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None
