"""
Tests for L{tcpsvc.unreachable}.
"""

from __future__ import annotations

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.exceptions import Mismatch
from service_identity.hazmat import DNS_ID, IPAddress_ID
from twisted.internet import error as errors
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.unreachable import whyUnreachable


class WhyUnreachableTests(SynchronousTestCase):
    """
    Tests for L{whyUnreachable}.
    """

    def test_known(self) -> None:
        """
        What happens to connections is said in a few words.
        """
        for error, words in (
            (errors.ConnectionRefusedError(111, "refused"), "connection refused"),
            (errors.DNSLookupError("bench"), "name not known"),
            (errors.UnknownHostError(), "name not known"),
            (errors.NoRouteError(113, "no route"), "no route to this host"),
            (errors.TimeoutError(), "timed out"),
            (errors.ConnectError(2, "what"), "No such file or directory"),
            (errors.ConnectError(string="line: gone"), "line: gone"),
            (errors.ConnectionDone(), "it closed the connection"),
            (errors.ConnectionLost("what"), "the connection was lost"),
        ):
            self.assertEqual(words, whyUnreachable(error))

    def test_tls(self) -> None:
        """
        An alert about our certificate is a refusal of it; all else of TLS is said
        in OpenSSL's words.
        """
        for details, words in (
            (
                "ssl/tls alert certificate expired",
                "it refuses this certificate: certificate expired",
            ),
            ("tlsv1 alert unknown ca", "it refuses this certificate: unknown ca"),
            ("tlsv1 alert protocol version", "TLS failed: tlsv1 alert protocol"),
            ("wrong version number", "TLS failed: wrong version number"),
        ):
            error = SSL.Error([("SSL routines", "", details)])
            self.assertTrue(whyUnreachable(error).startswith(words))
        self.assertIn("does not say", whyUnreachable(SSL.Error()))

    def test_handshake(self) -> None:
        """
        What is wrong with a device's certificate is said in words, and that there is
        no TLS where it is expected.
        """
        for details, words in (
            (
                "certificate verify failed",
                "its certificate is not trusted: it is not valid, or its CA is unknown",
            ),
            (
                "wrong version number",
                "TLS failed: wrong version number: it does not speak TLS",
            ),
            (
                "unexpected eof while reading",
                "TLS failed: it closed the connection without close_notify",
            ),
        ):
            error = SSL.Error([("SSL routines", "", details)])
            self.assertEqual(words, whyUnreachable(error))
        for wanted, name in (
            (DNS_ID("bench.example"), "bench.example"),
            (IPAddress_ID("192.0.2.1"), "192.0.2.1"),
        ):
            self.assertEqual(
                f"its certificate does not name {name}",
                whyUnreachable(VerificationError([Mismatch(wanted)])),
            )
        self.assertEqual(
            "its certificate cannot be used: no names",
            whyUnreachable(CertificateError("no names")),
        )

    def test_others(self) -> None:
        """
        All else has words of its own, or at least a name.
        """
        self.assertEqual("it is broken", whyUnreachable(ValueError("it is broken.")))
        self.assertEqual("KeyError", whyUnreachable(KeyError()))
        self.assertEqual("no connection", whyUnreachable(errors.ConnectError()))
