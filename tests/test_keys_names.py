"""
Tests for L{tcpsvc.keys.names}.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import unquote

from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.keys.names import (
    BadArgument,
    clientAlternativeName,
    clientName,
    commonNameOf,
    hostAlternativeName,
    hostsOf,
    serverAlternativeName,
    serverHosts,
)
from tests.certificates import authority


class ClientNameTests(SynchronousTestCase):
    """
    Tests for L{clientName}.
    """

    def test_good(self) -> None:
        """
        Printable names of 1 to 64 octets are good.
        """
        for name in (
            *("a", "x" * 64, "é" * 32),
            *("a@b.example", "Ünï cö", "a.b", "-a", "key"),
        ):
            self.assertEqual(name, clientName(name))

    def test_bad(self) -> None:
        """
        Names are refused, in one line that shows them, if they are too long or
        empty, would not stand on a line, would lead out of the directory or to
        other files, or mean somebody else.
        """
        for name in (
            *("", "x" * 65, "é" * 40),
            *("a\nb", "a\x1b", "\udc80", "  ", " a", "a ", "a\u202eb"),
            *("a/b", "/", "..", ".a", "a-key", "a.pem"),
            *("ca", "server", "Server", "anonymous"),
        ):
            error = self.assertRaises(BadArgument, clientName, name)
            self.assertTrue(str(error).startswith(repr(name)))
            self.assertEqual(1, len(str(error).splitlines()))


class AlternativeNameTests(SynchronousTestCase):
    """
    Tests for the functions that make alternative names.
    """

    def test_clients(self) -> None:
        """
        A client's name becomes an alternative name of the right type.
        """
        for name, expected in [
            ("alice", x509.DNSName("alice")),
            ("bench7.example", x509.DNSName("bench7.example")),
            ("a.b@lab.example", x509.RFC822Name("a.b@lab.example")),
            ("10.0.0.1", x509.IPAddress(ip_address("10.0.0.1"))),
            ("a b", _uri("urn:tcpsvc:a%20b")),
            ("a_b", _uri("urn:tcpsvc:a_b")),
            ("é@b", _uri("urn:tcpsvc:%C3%A9%40b")),
            ("a@b c", _uri("urn:tcpsvc:a%40b%20c")),
            ("42", _uri("urn:tcpsvc:42")),
            ("-a", _uri("urn:tcpsvc:-a")),
            ("*.a", _uri("urn:tcpsvc:%2A.a")),
        ]:
            self.assertEqual(expected, clientAlternativeName(name))

    @given(st.text(min_size=1, max_size=64))
    def test_anyClient(self, name: str) -> None:
        """
        Every good name has an alternative name, from which it can be read.
        """
        try:
            clientName(name)
        except BadArgument:
            return
        value = str(clientAlternativeName(name).value)
        value = unquote(value.removeprefix("urn:tcpsvc:"))
        if isinstance(clientAlternativeName(name), x509.IPAddress):
            self.assertEqual(ip_address(name), ip_address(value))
        else:
            self.assertEqual(name, value)

    def test_hosts(self) -> None:
        """
        A host name and an IP address become what they are.
        """
        for host, expected in [
            ("localhost", x509.DNSName("localhost")),
            ("a-b.example", x509.DNSName("a-b.example")),
            ("3com.example", x509.DNSName("3com.example")),
            ("127.0.0.1", x509.IPAddress(ip_address("127.0.0.1"))),
            ("2001:db8::1", x509.IPAddress(ip_address("2001:db8::1"))),
        ]:
            self.assertEqual(expected, hostAlternativeName(host))

    def test_badHosts(self) -> None:
        """
        What is neither a host name nor an IP address is refused.
        """
        for host in (
            *("", "-a", "a-", "a..b", "a.", "a_b", "é", "a b", "a:4433", "[::1]"),
            *("fe80::1%eth0", "300.1.1.1", "1.2", "x" * 64, "a." * 127 + "a", "a\n"),
            *("*", "*.", "*.lab", "*.10.1", "a.*", "*.*.a", "*a.b"),
        ):
            self.assertRaises(BadArgument, hostAlternativeName, host)
            self.assertRaises(BadArgument, serverAlternativeName, host)

    def test_wildcard(self) -> None:
        """
        A server's certificate may be for all hosts of a domain; a client calls
        one of them.
        """
        host = "*.lab.example"
        self.assertEqual(x509.DNSName(host), serverAlternativeName(host))
        self.assertRaises(BadArgument, hostAlternativeName, host)


class ReadingTests(SynchronousTestCase):
    """
    Tests for L{hostsOf}, L{serverHosts} and L{commonNameOf}.
    """

    def test_hostsOf(self) -> None:
        """
        The hosts are the names of the types that hosts have.
        """
        names = [x509.DNSName("a"), _uri("urn:x"), x509.IPAddress(ip_address("::1"))]
        certificate = authority().server(names=names).certificate
        self.assertEqual(["a", "::1"], hostsOf(certificate))
        self.assertEqual([], hostsOf(authority().server(names=()).certificate))

    def test_serverHosts(self) -> None:
        """
        The name of a client is not taken for a host.
        """
        self.assertEqual(["a"], serverHosts(authority().server("a").certificate))
        bare = authority().server("a", usages=()).certificate
        self.assertEqual(["a"], serverHosts(bare))
        self.assertEqual([], serverHosts(authority().client().certificate))

    def test_commonNameOf(self) -> None:
        """
        Without a common name there is an empty one.
        """
        subject = authority().client("alice").certificate.subject
        self.assertEqual("alice", commonNameOf(subject))
        self.assertEqual("", commonNameOf(x509.Name([])))


def _uri(text: str) -> x509.UniformResourceIdentifier:
    """
    A URI as an alternative name.
    """
    return x509.UniformResourceIdentifier(text)
