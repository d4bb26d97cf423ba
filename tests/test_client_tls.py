"""
Tests for L{tcpsvc.client.tls}.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

import tcpsvc.client.tls
from tcpsvc.client import CertificateRefused, ConfigurationError, ProtocolViolation
from tcpsvc.client.address import parseAddress
from tcpsvc.client.material import loadClientMaterial
from tcpsvc.client.tls import ClientTLS
from tcpsvc.tls import ALPN_SESSION
from tests.certificates import (
    CLIENT_AUTH,
    DAY,
    NOW,
    InPEM,
    Pair,
    authority,
    newAuthority,
    otherAuthority,
    writeKeys,
    writePair,
)
from tests.clientside import Bench, NoALPN
from tests.malformed import (
    alternativeNames,
    der,
    forged,
    malformed,
    usage,
    withUnknownKeys,
)

ACCEPTABLE = (
    "a T61String",
    "an IA5String that is not ASCII",
    "a country of three letters",
    "a serial number below zero",
    "a serial number of 1000 bytes",
)
"""
What is odd about certificates that are good for a server: who that is does not depend
on its subject.
"""


class ClientMaterialTests(SynchronousTestCase):
    """
    Tests for L{loadClientMaterial}.
    """

    def setUp(self) -> None:
        """
        Write the keys of one client.
        """
        self.keys = writeKeys(Path(self.mktemp()))

    def refused(self, identity: str | None) -> str:
        """
        What is wrong with the keys.
        """
        error = self.assertRaises(
            ConfigurationError, loadClientMaterial, self.keys, identity
        )
        self.assertEqual(78, error.exitStatus)
        self.assertEqual(1, len(str(error).splitlines()))
        self.assertNotIn("PRIVATE", str(error))
        return str(error)

    def test_onlyOne(self) -> None:
        """
        Without a name the only identity there is is taken.
        """
        self.assertEqual("alice", loadClientMaterial(self.keys, None).identity)

    def test_several(self) -> None:
        """
        If there are several, they are named and none is taken.
        """
        pair = authority().client("bob")
        writePair(self.keys.client("bob"), self.keys.clientKey("bob"), pair)
        self.assertIn("alice, bob; choose with --identity", self.refused(None))
        self.assertEqual("bob", loadClientMaterial(self.keys, "bob").identity)

    def test_certificateWithoutKey(self) -> None:
        """
        A certificate without its key, as an authority keeps them, is no identity.
        """
        certificate = authority().client("bob").certificatePEM
        self.keys.client("bob").write_bytes(certificate)
        self.assertEqual("alice", loadClientMaterial(self.keys, None).identity)

    def test_none(self) -> None:
        """
        Without any identity it is said how one is made.
        """
        self.keys.clientKey("alice").unlink()
        self.assertIn("tcpsvc keys client NAME", self.refused(None))

    def test_unknown(self) -> None:
        """
        A name that is not there is refused, and those that are there are named.
        """
        self.assertIn("no identity 'bob', only alice", self.refused("bob"))

    def test_path(self) -> None:
        """
        An identity is a name and leads nowhere else.
        """
        self.assertIn("not a path", self.refused("../server"))

    def test_noAuthority(self) -> None:
        """
        Without C{ca.pem} it is said which file is missing.
        """
        self.keys.ca.unlink()
        self.assertIn(f"{self.keys.ca}: there is no such file", self.refused("alice"))

    def test_readableKey(self) -> None:
        """
        A private key that others can read is refused.
        """
        self.keys.clientKey("alice").chmod(0o640)
        self.assertIn("chmod 600", self.refused("alice"))

    def test_notAPair(self) -> None:
        """
        A key that is another certificate's is refused.
        """
        self.keys.clientKey("alice").write_bytes(authority().client("alice").keyPEM)
        error = self.assertRaises(
            ConfigurationError,
            ClientTLS,
            loadClientMaterial(self.keys, "alice"),
            parseAddress("localhost"),
            ALPN_SESSION,
        )
        self.assertIn("do not belong together", str(error))

    def test_malformed(self) -> None:
        """
        A certificate that cannot be read is called that, in one line, and nothing is
        warned of.
        """
        readable = 0
        for oddity, pair in {**malformed(), **withUnknownKeys()}.items():
            writePair(self.keys.client("alice"), self.keys.clientKey("alice"), pair)
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                try:
                    loadClientMaterial(self.keys, None)
                except ConfigurationError as error:
                    self.assertIn("that can be read (", str(error), oddity)
                    self.refused(None)
                else:
                    readable += 1
            self.assertEqual([], warned, oddity)
        self.assertEqual(3, readable)

    def test_intermediate(self) -> None:
        """
        All certificates in the file of the client's are shown.
        """
        between = newAuthority("between")
        path = self.keys.client("alice")
        path.write_bytes(path.read_bytes() + between.certificatePEM)
        bench = Bench(self.keys)
        connected = bench.connect()
        bench.accept()
        self.successResultOf(connected)
        chain = bench.pump.server.getHandle().get_peer_cert_chain(as_cryptography=True)
        self.assertIn(between.certificate, chain)


class ServerJudgedTests(SynchronousTestCase):
    """
    What the client thinks of the server's certificate, over real TLS in memory.
    """

    def refused(self, pair: InPEM, host: str = "127.0.0.1") -> str:
        """
        Why the client refuses a server with this pair.
        """
        keys = writeKeys(Path(self.mktemp()))
        writePair(keys.server, keys.serverKey, pair)
        bench = Bench(writeKeys(Path(self.mktemp())))
        bench.serverTLS = NoALPN(keys)
        connected = bench.connect(host)
        bench.accept()
        error = self.failureResultOf(connected, CertificateRefused).value
        self.assertEqual(77, error.exitStatus)
        self.assertFalse(bench.server.completed, "the server was believed")
        self.assertIsNotNone(bench.server.lost)
        return str(error)

    def test_unknownCA(self) -> None:
        """
        A server of another CA is refused, also if that has the same name.
        """
        for ca in (otherAuthority(), newAuthority("another")):
            self.assertIn("not signed by the CA in ca.pem", self.refused(ca.server()))

    def test_selfSigned(self) -> None:
        """
        A server that has signed its certificate itself is refused.
        """
        self.assertIn("not signed by", self.refused(newAuthority("localhost")))

    def test_expired(self) -> None:
        """
        An expired certificate is refused.
        """
        pair = authority().server(notBefore=NOW - 30 * DAY, notAfter=NOW - DAY)
        self.assertIn("has expired", self.refused(pair))

    def test_notYetValid(self) -> None:
        """
        A certificate from the future is refused.
        """
        self.assertIn(
            "not yet valid", self.refused(authority().server(notBefore=NOW + DAY))
        )

    def test_wrongPurpose(self) -> None:
        """
        A client's certificate is none for a server, nor is one without any
        purpose, which OpenSSL would let pass: no client can pose as the server.
        """
        for usages in ((CLIENT_AUTH,), ()):
            pair = authority().server(usages=usages)
            self.assertIn("not for servers", self.refused(pair))

    def test_wrongName(self) -> None:
        """
        A certificate for others is refused, and their names are said.
        """
        message = self.refused(authority().server("bench.example", "192.0.2.7"))
        self.assertIn("does not name 127.0.0.1, but", message)
        self.assertIn("DNS:bench.example, IP:192.0.2.7", message)

    def test_nameOfWrongType(self) -> None:
        """
        An address that is written as a DNS name does not count.
        """
        pair = authority().server(names=[x509.DNSName("127.0.0.1")])
        self.assertIn("but DNS:127.0.0.1", self.refused(pair))

    def test_onlyCommonName(self) -> None:
        """
        A common name is no name of a server (RFC 9525).
        """
        message = self.refused(authority().server("127.0.0.1", names=[]))
        self.assertIn("but nothing", message)

    def test_malformed(self) -> None:
        """
        A server whose certificate cannot be read is refused in one line that says
        what is malformed, without a warning.
        """
        unreadable = 0
        for oddity, pair in malformed().items():
            if oddity in ACCEPTABLE:
                continue
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                message = self.refused(pair)
            self.assertEqual([], warned, oddity)
            self.assertTrue(message.isprintable(), oddity)
            self.assertLess(len(message), 500, oddity)
            if "the server's certificate cannot be read (" in message:
                self.assertIn("to fix: ask the administrator", message)
                unreadable += 1
        self.assertGreaterEqual(unreadable, 4)

    def test_otherReasons(self) -> None:
        """
        What OpenSSL alone finds is told in its words.
        """
        message = self.refused(malformed()["an invalid date"])
        self.assertIn("format error in certificate's notAfter field", message)

    def test_manyNames(self) -> None:
        """
        Of very many names, the first few are said.
        """
        names = [der(0x82, b"n%05d.example" % n) for n in range(900)]
        message = self.refused(forged(extensions=(usage(), alternativeNames(*names))))
        self.assertIn("(900 names, 8 shown)", message)
        self.assertLess(len(message), 500)

    def test_anyException(self) -> None:
        """
        Whatever fails while the server is judged refuses it, also what is no
        L{Exception}.
        """

        class Panic(BaseException):
            """What is no L{Exception}."""

        for kind in (Panic, TypeError):

            def fail(_: object, kind: type[BaseException] = kind) -> bool:
                raise kind("odd")

            self.patch(tcpsvc.client.tls, "isForServers", fail)
            message = self.refused(authority().server())
            self.assertIn(f"cannot be read ({kind.__name__}: odd)", message)

    def test_acceptable(self) -> None:
        """
        A server whose certificate is only strange is talked to. If its subject cannot
        be read, the name that it was called by stands for that.
        """
        for oddity in ACCEPTABLE:
            keys = writeKeys(Path(self.mktemp()))
            bench = Bench(writeKeys(Path(self.mktemp())))
            writePair(keys.server, keys.serverKey, malformed()[oddity])
            bench.serverTLS = NoALPN(keys)
            bench.serverTLS._context.set_alpn_select_callback(lambda _, those: those[0])
            connected = bench.connect()
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                bench.accept()
            self.assertEqual([], warned, oddity)
            bench.server.say(b"220 bench tcpsvc 1; you are alice\r\n")
            bench.flush()
            session = self.successResultOf(connected)
            readable = "String" not in oddity
            self.assertEqual("alice" if readable else "127.0.0.1", session.peer.name)
            self.assertEqual(
                malformed()[oddity].fingerprint, session.peer.fingerprint, oddity
            )
            self.assertLess(len(session.peer.serial), 300)


class ClientJudgedTests(SynchronousTestCase):
    """
    What the service's alerts become, over real TLS in memory.
    """

    def refused(self, pair: Pair) -> str:
        """
        Why the service refuses a client with this pair.
        """
        keys = writeKeys(
            Path(self.mktemp()), clients=("alice", "bob"), revoked=("bob",)
        )
        bench = Bench(keys)
        if pair.certificate.subject != authority().client("bob").certificate.subject:
            writePair(keys.client("bob"), keys.clientKey("bob"), pair)
        connected = bench.connect(identity="bob")
        bench.accept()
        error = self.failureResultOf(connected, CertificateRefused).value
        self.assertEqual(77, error.exitStatus)
        self.assertFalse(bench.server.completed)
        message = str(error)
        prefix = "the service refused this certificate: "
        self.assertTrue(message.startswith(prefix), message)
        return message.removeprefix(prefix)

    def test_expired(self) -> None:
        """
        certificate_expired (45).
        """
        self.assertIn("has expired", self.refused(authority().expired()))

    def test_notYetValid(self) -> None:
        """
        bad_certificate (42).
        """
        self.assertIn("not yet valid", self.refused(authority().notYetValid()))

    def test_revoked(self) -> None:
        """
        certificate_revoked (44).
        """
        self.assertIn("was revoked", self.refused(authority().client("bob")))

    def test_wrongPurpose(self) -> None:
        """
        unsupported_certificate (43).
        """
        self.assertIn("it is not for clients", self.refused(authority().wrongPurpose()))

    def test_unknownCA(self) -> None:
        """
        unknown_ca (48).
        """
        pair = newAuthority("another").client()
        self.assertIn("another CA has signed it", self.refused(pair))

    def test_noPurpose(self) -> None:
        """
        internal_error (80), which OpenSSL sends if the service refuses what
        OpenSSL would have let pass.
        """
        for pair in (authority().noPurpose(), authority().withoutCommonName()):
            self.assertIn("does not say that it is for clients", self.refused(pair))


class ExplainTests(SynchronousTestCase):
    """
    Tests for L{ClientTLS.explain} of what the service here does not send.
    """

    def explain(self, words: str) -> Exception | None:
        """
        What OpenSSL's words mean.
        """
        keys = writeKeys(Path(self.mktemp()))
        tls = ClientTLS(
            loadClientMaterial(keys, None), parseAddress("localhost"), ALPN_SESSION
        )
        return tls.explain(SSL.Error([("SSL routines", "", words)]))

    def test_alerts(self) -> None:
        """
        Each alert about a certificate is a sentence, however this OpenSSL
        names the version of TLS before it.
        """
        for words, sentence in {
            "tlsv13 alert certificate required": "shown none",
            "tlsv1 alert access denied": "may not use",
            "sslv3 alert certificate unknown": "log says why",
            "ssl/tls alert certificate expired": "has expired",
            "tlsv1 alert internal error": "or it cannot be read",
        }.items():
            error = self.explain(words)
            self.assertIsInstance(error, CertificateRefused)
            self.assertIn(sentence, str(error))

    def test_otherProtocol(self) -> None:
        """
        What does not speak this protocol is called that.
        """
        error = self.explain("tlsv1 alert no application protocol")
        self.assertIsInstance(error, ProtocolViolation)
        self.assertIn("is it a tcpsvc service?", str(error))

    def test_others(self) -> None:
        """
        Any other trouble of TLS is a violation of the protocol.
        """
        for words in ("tlsv1 alert protocol version", "bad record type", ""):
            self.assertIsInstance(self.explain(words), ProtocolViolation)

    def test_notOpenSSL(self) -> None:
        """
        What is no error of OpenSSL's is not explained.
        """
        keys = writeKeys(Path(self.mktemp()))
        tls = ClientTLS(
            loadClientMaterial(keys, None), parseAddress("localhost"), ALPN_SESSION
        )
        self.assertIsNone(tls.explain(OSError()))


class NegotiationTests(SynchronousTestCase):
    """
    What is settled in the handshake beside the certificates.
    """

    def setUp(self) -> None:
        """
        Set up a server.
        """
        self.keys = writeKeys(Path(self.mktemp()))
        self.bench = Bench(self.keys)

    def test_version(self) -> None:
        """
        TLS 1.3 is used, and nothing older.
        """
        connected = self.bench.connect()
        self.bench.accept()
        self.successResultOf(connected)
        handle = self.bench.pump.server.getHandle()
        self.assertEqual("TLSv1.3", handle.get_protocol_version_name())
        self.bench.serverTLS = NoALPN(self.keys, SSL.TLS1_2_VERSION)
        connected = self.bench.connect()
        self.bench.accept()
        problem = self.failureResultOf(connected, ProtocolViolation).value
        self.assertIn("TLS failed", str(problem))

    def test_serverName(self) -> None:
        """
        A host name is sent (RFC 6066), an address is not.
        """
        for host, name in (("localhost", b"localhost"), ("127.0.0.1", None)):
            tls = ClientTLS(
                loadClientMaterial(self.keys, None), parseAddress(host), ALPN_SESSION
            )
            connection = tls.clientConnectionForTLS(None)  # type: ignore[arg-type]  # unused
            self.assertEqual(name, connection.get_servername())

    def test_noTLS(self) -> None:
        """
        A peer that speaks no TLS is recognized.
        """
        self.bench.plain = True
        self.bench.server.greeting = b""
        connected = self.bench.connect()
        self.bench.server.answer = None
        self.bench.accept()
        self.bench.server.say(b"220 plain and friendly\r\n")
        self.bench.flush()
        error = self.failureResultOf(connected, ProtocolViolation).value
        self.assertIn("does not speak TLS", str(error))

    def test_noDeprecatedCalls(self) -> None:
        """
        Nothing that pyOpenSSL or Twisted are going to remove is used.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            connected = self.bench.connect()
            self.bench.accept()
            self.successResultOf(connected)
