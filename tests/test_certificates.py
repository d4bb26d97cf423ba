"""
Tests for L{tcpsvc.certificates}.
"""

from __future__ import annotations

import warnings

from OpenSSL.crypto import X509
from twisted.trial.unittest import SynchronousTestCase

import tcpsvc.certificates
from tcpsvc.certificates import Description, describe, reading, verificationError
from tcpsvc.identity import UnacceptableCertificate, fingerprintOf
from tests.certificates import authority
from tests.malformed import (
    alternativeNames,
    commonName,
    der,
    forged,
    malformed,
    usage,
    withUnknownKeys,
)


class DescriptionTests(SynchronousTestCase):
    """
    Tests for L{describe}.
    """

    def test_good(self) -> None:
        """
        A certificate that is as it should be is described in full.
        """
        certificate = authority().client("alice").certificate
        description = describe(X509.from_cryptography(certificate))
        self.assertEqual(
            Description(
                "CN=alice",
                format(certificate.serial_number, "x"),
                fingerprintOf(certificate),
                ("DNS:alice",),
                "",
            ),
            description,
        )
        self.assertEqual("CN=alice", str(description))

    def test_malformed(self) -> None:
        """
        Of every other one there are the fingerprint and the serial number, and what
        can be read of the rest. Nothing is raised, and nothing is warned of.
        """
        for oddity, pair in {**malformed(), **withUnknownKeys()}.items():
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                description = describe(pair.openSSL)
            self.assertEqual([], warned, oddity)
            self.assertEqual(pair.fingerprint, description.fingerprint, oddity)
            self.assertNotEqual("", description.serial, oddity)
            whole = description.subject != "" and description.names != ()
            self.assertEqual(whole, description.problem == "", oddity)
            self.assertNotEqual("", str(description), oddity)

    def test_partly(self) -> None:
        """
        What is malformed takes nothing else with it.
        """
        description = describe(malformed()["an x400Address"].openSSL)
        self.assertEqual(("CN=alice", "bad"), (description.subject, description.serial))
        self.assertEqual((), description.names)
        self.assertIn("x400Address", description.problem)

    def test_negative(self) -> None:
        """
        A serial number below zero is shown as that.
        """
        description = describe(malformed()["a serial number below zero"].openSSL)
        self.assertEqual("-bff", description.serial)

    def test_large(self) -> None:
        """
        Each field is shortened, and says how much was left out.
        """
        names = [der(0x82, b"n%05d.example" % n) for n in range(5000)]
        description = describe(
            forged(
                subject=commonName("\u00fc".encode() * 40_000),
                serial=b"\x7b" * 5000,
                extensions=(usage(), alternativeNames(*names)),
            ).openSSL
        )
        self.assertTrue(
            description.subject.endswith("\u00fc\u2026 (80003 bytes, 255 shown)"),
            description.subject,
        )
        self.assertTrue(description.serial.endswith("b\u2026 (10000 bytes, 256 shown)"))
        (name,) = description.names
        self.assertRegex(
            name, r"\A\u2026 \(not read: the certificate has \d{6} bytes\)"
        )

    def test_manyNames(self) -> None:
        """
        Of many names the first are shown.
        """
        names = [der(0x82, b"n%05d.example" % n) for n in range(500)]
        description = describe(
            forged(extensions=(usage(), alternativeNames(*names))).openSSL
        )
        self.assertEqual(9, len(description.names))
        self.assertEqual("\u2026 (500 names, 8 shown)", description.names[-1])

    def test_panic(self) -> None:
        """
        Not even what is no L{Exception} is raised.
        """

        class Panic(BaseException):
            """What is no L{Exception}."""

        def panic(_: object) -> tuple[str, ...]:
            raise Panic("in Rust")

        self.patch(tcpsvc.certificates, "alternativeNames", panic)
        description = describe(X509.from_cryptography(authority().certificate))
        self.assertEqual("Panic: in Rust", description.problem)
        self.assertEqual("CN=tcpsvc test CA", description.subject)


class ReadingTests(SynchronousTestCase):
    """
    Tests for L{reading}.
    """

    def raised(self, error: BaseException) -> BaseException:
        """
        What comes of an error while a certificate is read.
        """

        def read() -> None:
            with reading():
                raise error

        try:
            read()
        except BaseException as raised:
            return raised
        raise AssertionError("nothing was raised")

    def test_refusals(self) -> None:
        """
        A refusal stays what it is.
        """
        refusal = UnacceptableCertificate("no common name")
        self.assertIs(refusal, self.raised(refusal))

    def test_others(self) -> None:
        """
        Everything else becomes one, with a detail that is small.
        """
        refusal = self.raised(ValueError("n" * 1000))
        assert isinstance(refusal, UnacceptableCertificate)
        self.assertEqual("a certificate that cannot be read", str(refusal))
        self.assertTrue(refusal.detail.startswith("ValueError: nnn"))
        self.assertTrue(refusal.detail.endswith("(1012 bytes, 256 shown)"))

    def test_interrupted(self) -> None:
        """
        A person who stops the program is not a reason to refuse somebody.
        """
        for error in (KeyboardInterrupt(), SystemExit()):
            self.assertIs(error, self.raised(error))


class VerificationErrorTests(SynchronousTestCase):
    """
    Tests for L{verificationError}.
    """

    def test_words(self) -> None:
        """
        OpenSSL has words for each of its numbers, and for all others.
        """
        self.assertEqual("unhandled critical extension", verificationError(34))
        self.assertEqual(
            "unknown certificate verification error", verificationError(9999)
        )
