"""
Tests for L{tcpsvc.tls}.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL._util import lib
from OpenSSL.crypto import X509
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import tcpsvc.tls
from tcpsvc.identity import (
    Identity,
    UnacceptableCertificate,
    fingerprintOf,
    identityFrom,
)
from tcpsvc.keyfiles import KeyDirectory, KeyFileError
from tcpsvc.tls import (
    ALPN_CONTROL,
    ALPN_SESSION,
    Judgement,
    ServerMaterial,
    ServerTLS,
    describe,
    identityOfPeer,
    loadServerMaterial,
    whyFailed,
)
from tests.certificates import (
    CERTIFICATE_SIGNING,
    DAY,
    NOW,
    Authority,
    Pair,
    authority,
    newAuthority,
    otherAuthority,
    writeKeys,
    writePair,
    writePrivate,
    writeRevocationList,
)
from tests.malformed import (
    PRINTABLE,
    Forged,
    alternativeNames,
    commonName,
    der,
    forged,
    malformed,
    usage,
)
from tests.peers import clientContext, serverMaterial


class _Hands:
    """
    Both ends of one TLS connection, and what has become of it.

    @ivar error: What the service's end failed with.
    @ivar alert: What the client's end failed with, in OpenSSL's words.
    """

    def __init__(
        self,
        tls: ServerTLS,
        context: SSL.Context,
        session: SSL.Session | None = None,
    ) -> None:
        self.tls = tls
        self.server = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
        self.server.set_accept_state()
        self.client = SSL.Connection(context, None)
        self.client.set_connect_state()
        if session is not None:
            self.client.set_session(session)
        self.error: SSL.Error | None = None
        self.alert = ""
        self.received = b""
        self.echoed = b""

    def shake(self) -> _Hands:
        """
        Carry octets to and fro until nothing moves.
        """
        for _ in range(8):
            self._step(self.client, self._clientFailed)
            self._carry(self.client, self.server)
            self._step(self.server, self._serverFailed)
            self._carry(self.server, self.client)
        return self

    def _step(
        self, connection: SSL.Connection, failed: Callable[[SSL.Error], None]
    ) -> None:
        """
        Let one end go on.
        """
        try:
            connection.do_handshake()
            octets = connection.recv(65536)
            if connection is self.client:
                self.received += octets
            else:
                self.echoed += octets
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            failed(error)

    def _serverFailed(self, error: SSL.Error) -> None:
        # Asked again after that, OpenSSL has an error without words.
        if self.error is None:
            self.error = error

    def _clientFailed(self, error: SSL.Error) -> None:
        if not self.alert:
            self.alert = str(error.args[0][-1][2])

    def _carry(self, here: SSL.Connection, there: SSL.Connection) -> None:
        """
        Carry octets one way.
        """
        try:
            while True:
                there.bio_write(here.bio_read(65536))
        except SSL.WantReadError:
            pass

    @property
    def judgement(self) -> Judgement:
        """What was found of the client's certificate."""
        return self.server.judgement

    @property
    def reason(self) -> str:
        """Why it failed, in words; empty if it did not."""
        if self.error is None:
            return ""
        return whyFailed(self.judgement, self.error)


def _hands(
    pair: Pair | None,
    material: ServerMaterial | None = None,
    minimum: str = "1.3",
    **client: object,
) -> _Hands:
    """
    Shake hands between a service and a client.

    @param pair: What the client shows.
    @param client: As for L{clientContext}.
    """
    tls = ServerTLS(material or serverMaterial(), minimum)
    context = clientContext(pair, **client)  # type: ignore[arg-type]
    return _Hands(tls, context).shake()


@frozen
class _Tree:
    """
    An authority, one that it has signed, and a leaf of that one.
    """

    root: Authority
    middle: Authority

    @classmethod
    def grow(cls) -> _Tree:
        """
        Make them.
        """
        root = _signer("root", None, None)
        return cls(root, _signer("middle", root, 0))


def _signer(name: str, by: Authority | None, length: int | None) -> Authority:
    """
    An authority that another has signed, or it has itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(True, length), critical=True)
        .add_extension(CERTIFICATE_SIGNING, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .sign(by.key if by else key, hashes.SHA256())
    )
    return Authority(certificate, key)


class AcceptanceTests(SynchronousTestCase):
    """
    Tests for L{ServerTLS}, and clients that it accepts.
    """

    def test_interface(self) -> None:
        """
        L{ServerTLS} is what Twisted asks for the service's end of TLS.
        """
        tls = ServerTLS(serverMaterial(), "1.3")
        self.assertTrue(verifyObject(IOpenSSLServerConnectionCreator, tls))

    def test_accepted(self) -> None:
        """
        A client whose certificate the authority has signed for clients is
        accepted, and the certificate says who it is.
        """
        pair = authority().client("alice")
        hands = _hands(pair)
        self.assertEqual(("", ""), (hands.reason, hands.alert))
        self.assertEqual("", hands.judgement.refusal)
        identity = identityOfPeer(hands.server)
        self.assertEqual("alice", identity.name)
        self.assertEqual(fingerprintOf(pair.certificate), identity.fingerprint)

    def test_description(self) -> None:
        """
        A connection is described by version, cipher, and the SHA-256 of
        RFC 9266's tls-exporter, which the client has too.
        """
        hands = _hands(authority().client())
        exporter = hands.client.export_keying_material(
            b"EXPORTER-Channel-Binding", 32, b""
        )
        described = describe(hands.server)
        self.assertEqual(
            {
                "version": "TLSv1.3",
                "cipher": hands.client.get_cipher_name(),
                "exporter": sha256(exporter).hexdigest(),
            },
            described,
        )

    def test_exporterDiffers(self) -> None:
        """
        No two connections have the same channel binding.
        """
        pair = authority().client()
        first, second = _hands(pair), _hands(pair)
        self.assertNotEqual(
            describe(first.server)["exporter"], describe(second.server)["exporter"]
        )

    def test_nobodyYet(self) -> None:
        """
        Before a handshake there is no certificate to take an identity from.
        """
        hands = _Hands(ServerTLS(serverMaterial(), "1.3"), clientContext())
        error = self.assertRaises(UnacceptableCertificate, identityOfPeer, hands.server)
        self.assertEqual("no certificate", str(error))

    def test_severalAuthorities(self) -> None:
        """
        With several authorities in C{ca.pem}, clients of each are accepted.
        """
        other = newAuthority("second CA")
        material = serverMaterial(
            authorities=[authority().certificate, other.certificate]
        )
        for signer in (authority(), other):
            hands = _hands(signer.client(), material)
            self.assertEqual(("", ""), (hands.reason, hands.alert))

    def test_authoritiesSent(self) -> None:
        """
        The client is told the names of all authorities, to choose its
        certificate by.
        """
        other = newAuthority("second CA")
        material = serverMaterial(
            authorities=[authority().certificate, other.certificate]
        )
        hands = _hands(authority().client(), material)
        self.assertEqual(
            ["tcpsvc test CA", "second CA"],
            [name.CN for name in hands.client.get_client_ca_list()],
        )

    def test_clientThroughIntermediate(self) -> None:
        """
        A client that shows the authority between it and a trusted one is
        accepted; one that keeps it to itself is not.
        """
        tree = _Tree.grow()
        material = serverMaterial(authorities=[tree.root.certificate])
        pair = tree.middle.client()
        hands = _hands(pair, material, chain=[tree.middle.certificate])
        self.assertEqual(
            ("", "alice"), (hands.reason, identityOfPeer(hands.server).name)
        )
        self.assertEqual("unknown CA", _hands(pair, material).reason)

    def test_chainSent(self) -> None:
        """
        All certificates of C{server.pem} are sent, so that a client which
        trusts the root alone can verify the service.
        """
        tree = _Tree.grow()
        pair = tree.middle.server()
        material = ServerMaterial(
            chain=[pair.certificate, tree.middle.certificate],
            key=pair.key,
            authorities=[authority().certificate],
            crl=None,
        )
        context = clientContext(authority().client())
        context.set_verify(SSL.VERIFY_PEER)
        store = context.get_cert_store()
        assert store is not None
        store.add_cert(X509.from_cryptography(tree.root.certificate))
        hands = _Hands(ServerTLS(material, "1.3"), context).shake()
        self.assertEqual(("", ""), (hands.reason, hands.alert))
        chain = hands.client.get_peer_cert_chain(as_cryptography=True)
        self.assertEqual([pair.certificate, tree.middle.certificate], chain)

    def test_chainCompleted(self) -> None:
        """
        If C{server.pem} holds the service's certificate only, what stands between
        it and the root is sent from C{ca.pem}; the root is not.
        """
        tree = _Tree.grow()
        pair = tree.middle.server()
        material = ServerMaterial(
            chain=[pair.certificate],
            key=pair.key,
            authorities=[
                newAuthority("second CA").certificate,
                tree.root.certificate,
                tree.middle.certificate,
            ],
            crl=None,
        )
        hands = _Hands(ServerTLS(material, "1.3"), clientContext()).shake()
        chain = hands.client.get_peer_cert_chain(as_cryptography=True)
        self.assertEqual([pair.certificate, tree.middle.certificate], chain)

    def test_rootNotSent(self) -> None:
        """
        The service's certificate is sent alone if a root has signed it, which
        clients have.
        """
        hands = _hands(authority().client())
        chain = hands.client.get_peer_cert_chain(as_cryptography=True)
        self.assertEqual([serverMaterial().certificate], chain)

    def test_readOnce(self) -> None:
        """
        Whom a certificate names is read in the first handshake only, and every
        certificate is read by itself.
        """
        read: list[x509.Certificate] = []

        def reading(certificate: x509.Certificate) -> Identity:
            read.append(certificate)
            return identityFrom(certificate)

        self.patch(tcpsvc.tls, "identityFrom", reading)
        carol, dave = authority().client("carol"), authority().client("dave")
        names = [
            identityOfPeer(_hands(pair).server).name
            for pair in (carol, dave, carol, dave)
        ]
        self.assertEqual(["carol", "dave", "carol", "dave"], names)
        self.assertEqual([carol.certificate, dave.certificate], read)

    def test_revocationListOfOthers(self) -> None:
        """
        A revocation list refuses only whom it lists.
        """
        bob = authority().client("bob")
        material = serverMaterial(crl=authority().revocationList(bob.certificate))
        self.assertEqual("", _hands(authority().client("alice"), material).reason)
        self.assertEqual("revoked", _hands(bob, material).reason)


class RefusalTests(SynchronousTestCase):
    """
    Clients that L{ServerTLS} refuses: the service says why in words, and the
    client sees an alert.
    """

    def assertRefused(
        self,
        reason: str,
        alert: str,
        pair: Pair | None,
        material: ServerMaterial | None = None,
        **client: object,
    ) -> None:
        """
        A client is refused, under each version of TLS, for this reason and
        with this alert, and its certificate is described.
        """
        for highest in (SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION):
            hands = _hands(pair, material, "1.2", highest=highest, **client)
            self.assertEqual(reason, hands.reason)
            self.assertIn(alert, hands.alert)
            if pair is None:
                self.assertIsNone(hands.judgement.shown)
                continue
            certificate = pair.certificate
            self.assertEqual(
                {
                    "subject": certificate.subject.rfc4514_string(),
                    "serial": format(certificate.serial_number, "x"),
                    "fingerprint": fingerprintOf(certificate),
                    "names": ["DNS:alice"] if certificate.subject else ["DNS:nobody"],
                },
                hands.judgement.shown,
            )

    def test_noCertificate(self) -> None:
        """
        A client has to show a certificate.
        """
        for version, alert in (
            (SSL.TLS1_3_VERSION, "alert certificate required"),
            (SSL.TLS1_2_VERSION, "alert handshake failure"),
        ):
            hands = _hands(None, minimum="1.2", highest=version)
            self.assertEqual("no certificate", hands.reason)
            self.assertIn(alert, hands.alert)
            self.assertIsNone(hands.judgement.shown)

    def test_otherAuthority(self) -> None:
        """
        A certificate of another authority is refused, even of one of the same
        name.
        """
        self.assertRefused("unknown CA", "alert unknown ca", otherAuthority().client())

    def test_foreignAuthority(self) -> None:
        """
        A certificate of an authority of another name is refused.
        """
        pair = newAuthority("elsewhere").client()
        self.assertRefused("unknown CA", "alert unknown ca", pair)

    def test_selfSigned(self) -> None:
        """
        A certificate that nobody but its owner has signed is refused.
        """
        hands = _hands(newAuthority("alice", isAuthority=None))
        self.assertEqual("unknown CA", hands.reason)
        self.assertIn("alert unknown ca", hands.alert)

    def test_expired(self) -> None:
        """
        An expired certificate is refused.
        """
        self.assertRefused(
            "expired", "alert certificate expired", authority().expired()
        )

    def test_notYetValid(self) -> None:
        """
        A certificate that is not yet valid is refused.
        """
        self.assertRefused(
            "not yet valid", "alert bad certificate", authority().notYetValid()
        )

    def test_revoked(self) -> None:
        """
        A revoked certificate is refused.
        """
        pair = authority().client()
        crl = authority().revocationList(pair.certificate)
        self.assertRefused(
            "revoked", "alert certificate revoked", pair, serverMaterial(crl=crl)
        )

    def test_wrongPurpose(self) -> None:
        """
        A certificate that is for servers only is refused.
        """
        self.assertRefused(
            "wrong purpose",
            "alert unsupported certificate",
            authority().wrongPurpose(),
        )

    def test_noPurpose(self) -> None:
        """
        A certificate without extended key usage is refused, although OpenSSL
        finds nothing wrong with it. (That is why the alert says so little:
        pyOpenSSL has no way to give OpenSSL a reason.)
        """
        self.assertRefused(
            "wrong purpose", "alert internal error", authority().noPurpose()
        )

    def test_noCommonName(self) -> None:
        """
        A certificate that names nobody is refused.
        """
        self.assertRefused(
            "no common name", "alert internal error", authority().withoutCommonName()
        )

    def test_expiredRevocationList(self) -> None:
        """
        With a revocation list that has expired everybody is refused, and the
        words say that it is the list.
        """
        crl = authority().revocationList(lastUpdate=NOW - 2 * DAY, nextUpdate=NOW - DAY)
        hands = _hands(authority().client(), serverMaterial(crl=crl))
        self.assertEqual("the revocation list has expired: make it anew", hands.reason)

    def test_futureRevocationList(self) -> None:
        """
        With a revocation list that is not yet valid everybody is refused, and
        the words say that it is the list.
        """
        crl = authority().revocationList(lastUpdate=NOW + DAY)
        hands = _hands(authority().client(), serverMaterial(crl=crl))
        self.assertEqual(
            "the revocation list is not yet valid: make it anew", hands.reason
        )

    def test_noRevocationListOfItsAuthority(self) -> None:
        """
        With a revocation list, clients of an authority that has none are
        refused: nobody could say whether they are revoked.
        """
        other = newAuthority("second CA")
        material = serverMaterial(
            authorities=[authority().certificate, other.certificate],
            crl=authority().revocationList(),
        )
        self.assertEqual("", _hands(authority().client(), material).reason)
        self.assertEqual(
            "no revocation list of its CA", _hands(other.client(), material).reason
        )

    def test_chainShown(self) -> None:
        """
        A client that shows its own, unknown authority too is refused for that.
        """
        other = otherAuthority()
        hands = _hands(other.client(), chain=[other.certificate])
        self.assertEqual("unknown CA", hands.reason)
        assert hands.judgement.shown is not None

    def test_otherReasons(self) -> None:
        """
        What OpenSSL finds and no other test has is told in its words.
        """
        date = malformed()["an invalid date"]
        context = clientContext()
        date.showIn(context)
        hands = _Hands(ServerTLS(serverMaterial(), "1.3"), context).shake()
        self.assertEqual("format error in certificate's notAfter field", hands.reason)

    def test_expiredAuthority(self) -> None:
        """
        Clients of an authority that has expired are refused.
        """
        old = newAuthority("old", notBefore=NOW - 9 * DAY, notAfter=NOW - DAY)
        material = serverMaterial(authorities=[old.certificate])
        self.assertEqual("expired", _hands(old.client(), material).reason)


class VersionTests(SynchronousTestCase):
    """
    Versions and ciphers of TLS.
    """

    def test_oldVersion(self) -> None:
        """
        By default a client that has no TLS 1.3 is refused.
        """
        hands = _hands(authority().client(), highest=SSL.TLS1_2_VERSION)
        self.assertEqual("a version of TLS that is not allowed", hands.reason)
        self.assertIn("alert protocol version", hands.alert)

    def test_oldVersionOnRequest(self) -> None:
        """
        With a minimum of 1.2 such a client is accepted, with ECDHE and AEAD.
        """
        hands = _hands(authority().client(), None, "1.2", highest=SSL.TLS1_2_VERSION)
        self.assertEqual(("", ""), (hands.reason, hands.alert))
        described = describe(hands.server)
        self.assertEqual("TLSv1.2", described["version"])
        self.assertRegex(
            str(described["cipher"]), r"^ECDHE-ECDSA-(AES\d+-GCM|CHACHA20-POLY1305)"
        )

    def test_newVersionPreferred(self) -> None:
        """
        With a minimum of 1.2 a client that has TLS 1.3 uses that.
        """
        hands = _hands(authority().client(), None, "1.2")
        self.assertEqual("TLSv1.3", describe(hands.server)["version"])

    def test_ciphers(self) -> None:
        """
        Ciphers of TLS 1.2 without ECDHE or without AEAD are refused.
        """
        for cipher in (
            b"ECDHE-ECDSA-AES128-SHA256",
            b"ECDHE-ECDSA-AES256-SHA",
            b"AES128-GCM-SHA256",
            b"DHE-RSA-AES128-GCM-SHA256",
            b"ECDHE-ECDSA-AES128-CCM",
        ):
            hands = _hands(
                authority().client(),
                None,
                "1.2",
                highest=SSL.TLS1_2_VERSION,
                ciphers=cipher + b":@SECLEVEL=0",
            )
            self.assertEqual("no cipher in common", hands.reason, cipher)

    def test_allowedCiphers(self) -> None:
        """
        Each cipher with ECDHE, ECDSA and AES-GCM or ChaCha20 may be used.
        """
        for cipher in (
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ):
            hands = _hands(
                authority().client(),
                None,
                "1.2",
                highest=SSL.TLS1_2_VERSION,
                ciphers=cipher.encode(),
            )
            self.assertEqual("", hands.reason)
            self.assertEqual(cipher, describe(hands.server)["cipher"])


class ResumptionTests(SynchronousTestCase):
    """
    Nothing is resumed: each handshake shows the certificate, and has it judged.
    """

    def assertNotResumed(self, highest: int) -> None:
        """
        A client that has a session and would resume it has to show its
        certificate again, and is refused when that was revoked in between.
        """
        pair = authority().client()
        context = clientContext(pair, highest=highest)
        context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
        tls = ServerTLS(serverMaterial(), "1.2")
        first = _Hands(tls, context).shake()
        first.server.send(b"hello")
        first.shake()
        self.assertEqual(b"hello", first.received)
        session = first.client.get_session()
        assert session is not None
        again = _Hands(tls, context, session).shake()
        self.assertEqual("", again.reason)
        self.assertIsNotNone(again.judgement.shown)
        self.assertNotEqual(
            first.client.master_key(), again.client.master_key(), "resumed"
        )
        revoking = ServerTLS(
            serverMaterial(crl=authority().revocationList(pair.certificate)), "1.2"
        )
        self.assertEqual("revoked", _Hands(revoking, context, session).shake().reason)

    def test_tickets(self) -> None:
        """
        The tickets of TLS 1.3 resume nothing.
        """
        self.assertNotResumed(SSL.TLS1_3_VERSION)

    def test_sessionIDs(self) -> None:
        """
        The session IDs and tickets of TLS 1.2 resume nothing.
        """
        self.assertNotResumed(SSL.TLS1_2_VERSION)

    def test_renegotiation(self) -> None:
        """
        A client of TLS 1.2 cannot begin a second handshake in a connection.
        """
        hands = _hands(authority().client(), None, "1.2", highest=SSL.TLS1_2_VERSION)
        hands.client.send(b"before")
        hands.shake()
        self.assertEqual(b"before", hands.echoed)
        self.assertTrue(hands.client.renegotiate())
        hands.shake()
        self.assertIn("no renegotiation", hands.alert)
        self.assertEqual(0, hands.server.total_renegotiations())


class ProtocolTests(SynchronousTestCase):
    """
    Which application protocol is chosen (RFC 7301).
    """

    def chosen(self, *offered: bytes) -> bytes:
        """
        What both ends have agreed on.
        """
        hands = _hands(authority().client(), alpn=offered)
        self.assertEqual("", hands.reason)
        here = hands.server.get_alpn_proto_negotiated()
        self.assertEqual(here, hands.client.get_alpn_proto_negotiated())
        return bytes(here)

    def test_known(self) -> None:
        """
        Either of the known protocols is chosen when offered.
        """
        self.assertEqual(b"tcpsvc/1", ALPN_SESSION)
        self.assertEqual(b"tcpsvc-control/1", ALPN_CONTROL)
        self.assertEqual(ALPN_SESSION, self.chosen(ALPN_SESSION))
        self.assertEqual(ALPN_CONTROL, self.chosen(b"h2", ALPN_CONTROL))

    def test_firstOffered(self) -> None:
        """
        Of several known protocols it is the client's first.
        """
        self.assertEqual(ALPN_CONTROL, self.chosen(ALPN_CONTROL, ALPN_SESSION))
        self.assertEqual(ALPN_SESSION, self.chosen(ALPN_SESSION, ALPN_CONTROL))

    def test_none(self) -> None:
        """
        A client that offers no protocol is accepted without one.
        """
        self.assertEqual(b"", self.chosen())

    def test_unknown(self) -> None:
        """
        A client that offers only unknown protocols is refused with the alert 120
        (RFC 7301, section 3.2), before it shows its certificate.
        """
        hands = _hands(authority().client(), alpn=[b"h2", b"http/1.1"])
        self.assertEqual("no application protocol in common", hands.reason)
        self.assertIn("alert no application protocol", hands.alert)
        self.assertEqual(
            ({"detail": "offered: h2, http/1.1"}, " (offered: h2, http/1.1)"),
            hands.judgement.account(),
        )

    def test_hostile(self) -> None:
        """
        Long names of protocols, and bytes that are not ASCII, are shortened and
        escaped.
        """
        offered = [b"\r\n\xff" + bytes([65 + n]) * 250 for n in range(20)]
        hands = _hands(authority().client(), alpn=offered)
        record, more = hands.judgement.account()
        self.assertTrue(str(record["detail"]).endswith(" shown)"), record)
        self.assertLess(len(json.dumps(record)), 400)
        self.assertTrue(more.isprintable(), more)

    def test_ignored(self) -> None:
        """
        A service without protocols of its own takes no notice of what is offered.
        """
        tls = ServerTLS(serverMaterial(), "1.3", protocols=())
        context = clientContext(authority().client(), alpn=[b"h2", ALPN_SESSION])
        hands = _Hands(tls, context).shake()
        self.assertEqual(("", ""), (hands.reason, hands.alert))
        self.assertEqual(b"", hands.client.get_alpn_proto_negotiated())


class GroupTests(SynchronousTestCase):
    """
    The groups of key exchange: those of Mozilla's modern profile, and no others.
    """

    def shake(self, group: str) -> _Hands | None:
        """
        Shake hands with a client that has one group; L{None} if OpenSSL lacks it.
        """
        context = clientContext(authority().client())
        if lib.SSL_CTX_set1_curves_list(context._context, group.encode()) != 1:
            lib.ERR_clear_error()
            return None
        return _Hands(ServerTLS(serverMaterial(), "1.3"), context).shake()

    def test_allowed(self) -> None:
        """
        The groups of the profile are accepted.
        """
        for group in ("X25519MLKEM768", "X25519", "P-256", "P-384"):
            hands = self.shake(group)
            if hands is None:
                self.assertEqual("X25519MLKEM768", group)
                self.assertLess(SSL.OPENSSL_VERSION_NUMBER, 0x30500000)
                continue
            self.assertEqual(("", ""), (hands.reason, hands.alert), group)

    def test_others(self) -> None:
        """
        Every other group is refused, and the reason is in words.
        """
        refused = 0
        for group in (
            *("X448", "P-521", "ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144"),
            *("ffdhe8192", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "MLKEM768"),
            *("MLKEM512", "MLKEM1024", "brainpoolP256r1tls13"),
        ):
            hands = self.shake(group)
            if hands is not None:
                self.assertEqual("no key exchange group in common", hands.reason, group)
                self.assertIn("alert handshake failure", hands.alert)
                refused += 1
        self.assertGreater(refused, 2)

    def test_curves(self) -> None:
        """
        Under TLS 1.2 the groups also limit the keys of clients' certificates
        (RFC 8422, section 5.1); under TLS 1.3 they do not.
        """
        pair = authority().client(key=ec.generate_private_key(ec.SECP521R1()))
        self.assertEqual("", _hands(pair).reason)
        hands = _hands(pair, minimum="1.2", highest=SSL.TLS1_2_VERSION)
        self.assertEqual(
            "a certificate with a key on a curve that is not allowed", hands.reason
        )

    def test_unknownToOpenSSL(self) -> None:
        """
        A service does not start with groups that it has not chosen.
        """
        self.patch(tcpsvc.tls, "_GROUPS", b"no-such-group")
        error = self.assertRaises(RuntimeError, ServerTLS, serverMaterial(), "1.3")
        self.assertIn("no-such-group", str(error))


class MalformedTests(SynchronousTestCase):
    """
    Certificates that OpenSSL accepts, and that cannot be read or are large.
    """

    def shake(self, pair: Forged, minimum: str = "1.3") -> _Hands:
        """
        Shake hands with a client that shows this certificate. Whatever a callback
        raises fails the test.
        """
        context = clientContext()
        pair.showIn(context)
        if minimum == "1.2":
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
        hands = _Hands(ServerTLS(serverMaterial(), minimum), context)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            hands.shake()
        self.assertEqual([], warned)
        return hands

    def test_judged(self) -> None:
        """
        Each of them is accepted, or refused with an alert, a reason in words, and a
        description that has at least the fingerprint and the serial number.
        """
        unreadable = 0
        for oddity, pair in malformed().items():
            for minimum in ("1.3", "1.2"):
                hands = self.shake(pair, minimum)
                if hands.reason == "":
                    self.assertEqual("alice", identityOfPeer(hands.server).name, oddity)
                    continue
                self.assertIn("alert", hands.alert, oddity)
                if not hands.judgement.refusal:
                    continue
                record, more = hands.judgement.account()
                certificate = record["certificate"]
                assert isinstance(certificate, dict)
                self.assertEqual(pair.fingerprint, certificate["fingerprint"], oddity)
                self.assertNotEqual("", certificate["serial"], oddity)
                self.assertLess(len(json.dumps(record)), 2500, oddity)
                self.assertTrue(more.isprintable(), oddity)
                if hands.reason == "a certificate that cannot be read":
                    unreadable += 1
                    self.assertNotEqual("", record["detail"], oddity)
                    self.assertIn("alert internal error", hands.alert, oddity)
        self.assertGreaterEqual(unreadable, 12)

    def test_unreadableAndUnknown(self) -> None:
        """
        If OpenSSL refuses a certificate that cannot be read, its reason is the one;
        the detail says what cannot be read.
        """
        odd = commonName(b"alice@example.com", PRINTABLE)
        hands = self.shake(forged(subject=odd, selfSigned=True, serial=b"\x0b\xad"))
        self.assertEqual("unknown CA", hands.reason)
        self.assertIn("alert unknown ca", hands.alert)
        record, more = hands.judgement.account()
        self.assertIn("ValueError", str(record["detail"]))
        self.assertIn("SHA-256 fingerprint", more)
        self.assertIn("'serial': 'bad'", str(record["certificate"]))

    def test_large(self) -> None:
        """
        However large a certificate is, what is told of it stays small, and says how
        much was left out.
        """
        large = "\x07\u00fc".encode() * 31_000
        names = [der(0x82, b"n%05d.example" % n) for n in range(4000)]
        for pair in (
            forged(subject=commonName(large), by=otherAuthority()),
            forged(subject=commonName(large)),
            forged(extensions=(usage(), alternativeNames(*names)), by=otherAuthority()),
            forged(
                extensions=(usage(), alternativeNames(der(0x86, b"u" * 90_000))),
                by=otherAuthority(),
            ),
            forged(serial=b"\x7b" * 90_000, by=otherAuthority()),
        ):
            hands = self.shake(pair)
            self.assertNotEqual("", hands.reason)
            record, more = hands.judgement.account()
            text = json.dumps(record)
            self.assertLess(len(text), 4500)
            self.assertRegex(text, r" shown\)|\(not read: ")
            self.assertLess(len(more), 4500)

    def test_manyNames(self) -> None:
        """
        The identity of an accepted client is small too.
        """
        names = [der(0x82, b"n%05d.example" % n) for n in range(4000)]
        hands = self.shake(forged(extensions=(usage(), alternativeNames(*names))))
        self.assertEqual("", hands.reason)
        identity = identityOfPeer(hands.server)
        self.assertEqual("DNS:n00000.example", identity.names[0])
        self.assertEqual("\u2026 (4000 names, 8 shown)", identity.names[-1])

    def test_largeChain(self) -> None:
        """
        OpenSSL reads no chain of certificates of more than 100 KiB.
        """
        hands = self.shake(forged(subject=commonName(b"n" * 110_000)))
        self.assertEqual("a certificate chain of more than 100 KiB", hands.reason)
        self.assertIn("alert illegal parameter", hands.alert)

    def test_anyException(self) -> None:
        """
        Whatever fails while a certificate is judged refuses it, and its detail is
        told: also what is no L{Exception}, like a panic of cryptography's.
        """

        class Panic(BaseException):
            """What is no L{Exception}."""

        for kind in (Panic, RuntimeError, RecursionError, MemoryError):

            def fail(_: object, kind: type[BaseException] = kind) -> bool:
                raise kind("odd")

            self.patch(tcpsvc.tls, "isForClients", fail)
            hands = self.shake(forged())
            self.assertEqual("a certificate that cannot be read", hands.reason)
            self.assertIn("alert internal error", hands.alert)
            self.assertEqual(f"{kind.__name__}: odd", hands.judgement.detail)


class WordsTests(SynchronousTestCase):
    """
    Tests for L{whyFailed}.
    """

    def server(self, octets: bytes) -> str:
        """
        Why a handshake failed that began with these octets.
        """
        hands = _Hands(ServerTLS(serverMaterial(), "1.3"), clientContext())
        hands.server.bio_write(octets)
        error = self.assertRaises(SSL.Error, hands.server.do_handshake)
        return whyFailed(hands.judgement, error)

    def test_otherProtocols(self) -> None:
        """
        What is not TLS is called that.
        """
        self.assertEqual(
            "not TLS: an HTTP request", self.server(b"GET / HTTP/1.1\r\n\r\n")
        )
        self.assertEqual(
            "not TLS: an HTTP proxy request", self.server(b"CONNECT a:1 HTTP/1.1\r\n")
        )
        self.assertEqual("not TLS", self.server(b"SSH-2.0-OpenSSH_9.2\r\n"))

    def test_left(self) -> None:
        """
        A connection that ended without an error of TLS was left by the client.
        """
        for error in (None, ConnectionDone(), SSL.Error(), SSL.Error([])):
            self.assertEqual("the client left", whyFailed(Judgement(), error))

    def test_judgementComesFirst(self) -> None:
        """
        What was found of the certificate says more than OpenSSL's error.
        """
        error = SSL.Error([("SSL routines", "", "certificate verify failed")])
        self.assertEqual("revoked", whyFailed(Judgement("revoked"), error))
        self.assertEqual("certificate verify failed", whyFailed(Judgement(), error))

    def test_unknownWords(self) -> None:
        """
        An error that nobody here has heard of is told in OpenSSL's words.
        """
        error = SSL.Error([("SSL routines", "", "something new")])
        self.assertEqual("something new", whyFailed(Judgement(), error))

    def test_systemError(self) -> None:
        """
        An error of the system below is told in its words.
        """
        error = SSL.SysCallError(-1, "Unexpected EOF")
        self.assertEqual("Unexpected EOF", whyFailed(Judgement(), error))

    def test_encoding(self) -> None:
        """
        A certificate that OpenSSL cannot decode has the same reason as one that it
        can, and cryptography cannot.
        """
        error = SSL.Error([("SSL routines", "", "ASN1 lib")])
        self.assertEqual(
            "a certificate that cannot be read", whyFailed(Judgement(), error)
        )

    def test_errorOfOurs(self) -> None:
        """
        An error of this program is not taken for a client that left.
        """
        self.assertEqual(
            "internal error: the log has a traceback",
            whyFailed(Judgement(), RuntimeError()),
        )
        refusal = UnacceptableCertificate("no common name")
        self.assertEqual("no common name", whyFailed(Judgement(), refusal))

    def test_clientRefusesService(self) -> None:
        """
        A client that does not know the authority of the service, or finds
        something else wrong with its certificate, is told of in words.
        """
        expired = authority().server(notBefore=NOW - 9 * DAY, notAfter=NOW - DAY)
        future = authority().server(notBefore=NOW + DAY)
        for trusted, pair, reason in (
            (
                otherAuthority(),
                authority().server(),
                "the client does not know this service's CA",
            ),
            (
                authority(),
                expired,
                "the client finds this service's certificate expired",
            ),
            (authority(), future, "the client refuses this service's certificate"),
        ):
            context = clientContext(authority().client())
            context.set_verify(SSL.VERIFY_PEER)
            store = context.get_cert_store()
            assert store is not None
            store.add_cert(X509.from_cryptography(trusted.certificate))
            material = ServerMaterial(
                [pair.certificate], pair.key, [authority().certificate], None
            )
            hands = _Hands(ServerTLS(material, "1.3"), context).shake()
            self.assertEqual(reason, hands.reason)


class MaterialTests(SynchronousTestCase):
    """
    Tests for L{loadServerMaterial}.
    """

    def setUp(self) -> None:
        """
        Write all that is needed.
        """
        self.directory: KeyDirectory = writeKeys(Path(self.mktemp()))

    def assertUseless(self, *words: str, now: float = NOW.timestamp()) -> None:
        """
        The directory cannot be used: one line says why, to which file, and
        what to do.
        """
        error = self.assertRaises(KeyFileError, loadServerMaterial, self.directory, now)
        text = str(error)
        self.assertEqual(1, len(text.splitlines()))
        for word in words:
            self.assertIn(word, text)

    def test_complete(self) -> None:
        """
        The pair, the authorities and the revocation list are read.
        """
        material = loadServerMaterial(self.directory, NOW.timestamp())
        self.assertEqual([authority().certificate], material.authorities)
        self.assertEqual(material.chain[0], material.certificate)
        self.assertIsNotNone(material.crl)
        self.assertEqual(
            "", _hands(authority().client(), material).reason, "not usable"
        )

    def test_withoutRevocationList(self) -> None:
        """
        There need not be a revocation list.
        """
        self.directory.crl.unlink()
        self.assertIsNone(loadServerMaterial(self.directory, NOW.timestamp()).crl)

    def test_revocationListUsed(self) -> None:
        """
        A client that C{crl.pem} lists is refused.
        """
        pair = authority().client("bob")
        writeRevocationList(
            self.directory, authority().revocationList(pair.certificate)
        )
        material = loadServerMaterial(self.directory, NOW.timestamp())
        self.assertEqual("revoked", _hands(pair, material).reason)

    def test_missing(self) -> None:
        """
        Each of the three files has to be there.
        """
        for path in (
            self.directory.ca,
            self.directory.server,
            self.directory.serverKey,
        ):
            contents = path.read_bytes()
            path.unlink()
            self.assertUseless(str(path), "no such file", "tcpsvc keys init")
            writePrivate(path, contents)

    def test_garbage(self) -> None:
        """
        Each file, the revocation list too, has to be what it is called.
        """
        for path in (
            self.directory.ca,
            self.directory.server,
            self.directory.serverKey,
            self.directory.crl,
        ):
            contents = path.read_bytes()
            for garbage in (b"", b"\x00\xff garbage", b"-----BEGIN CERTIFICATE-----"):
                writePrivate(path, garbage)
                self.assertUseless(str(path), "PEM")
            writePrivate(path, contents)

    def test_readableByOthers(self) -> None:
        """
        A private key that others can read is refused, with its mode.
        """
        for mode in (0o644, 0o640, 0o604, 0o660):
            self.directory.serverKey.chmod(mode)
            self.assertUseless(
                str(self.directory.serverKey), f"mode {mode:04o}", "chmod 600"
            )

    def test_mismatch(self) -> None:
        """
        Certificate and key have to belong together.
        """
        writePrivate(self.directory.serverKey, authority().server().keyPEM)
        self.assertUseless(
            str(self.directory.server), "does not belong", str(self.directory.serverKey)
        )

    def write(self, pair: Pair) -> None:
        """
        Write another pair for the service.
        """
        writePair(self.directory.server, self.directory.serverKey, pair)

    def test_expired(self) -> None:
        """
        An expired certificate is refused, with the day of its end.
        """
        self.write(authority().server(notBefore=NOW - 9 * DAY, notAfter=NOW - DAY))
        day = f"{NOW - DAY:%Y-%m-%d}"
        self.assertUseless(str(self.directory.server), f"has expired on {day}")

    def test_timeGiven(self) -> None:
        """
        Whether a certificate has expired is a matter of the time that is
        given.
        """
        self.write(authority().server(notAfter=NOW + DAY))
        later = (NOW + 2 * DAY).timestamp()
        loadServerMaterial(self.directory, NOW.timestamp())
        self.assertUseless("has expired", now=later)
        earlier = (NOW - timedelta(hours=2)).timestamp()
        self.assertUseless("not yet valid", now=earlier)

    def test_notYetValid(self) -> None:
        """
        A certificate that is not yet valid is refused, and the clock suspected.
        """
        self.write(authority().server(notBefore=NOW + DAY))
        self.assertUseless(str(self.directory.server), "not yet valid", "clock")

    def test_wrongPurpose(self) -> None:
        """
        A certificate that is not for servers is refused.
        """
        self.write(authority().client())
        self.assertUseless(str(self.directory.server), "not for servers", "serverAuth")
        self.write(authority().noPurpose())
        self.assertUseless(str(self.directory.server), "not for servers")
