"""
Tests for L{tcpsvc.audit.checkpoint}.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.audit.chain import Chain
from tcpsvc.audit.checkpoint import (
    CHECKPOINT_MARK,
    RECORDS_BETWEEN,
    SECONDS_BETWEEN,
    Signer,
    isSignedBy,
    nameOf,
    signedOctets,
)

SECRET = bytes(range(32))
HEAD = "ab" * 32


class CheckpointTests(SynchronousTestCase):
    """
    What is signed, and how that is verified.
    """

    def setUp(self) -> None:
        """
        A key, and a checkpoint by it.
        """
        self.key = Ed25519PrivateKey.from_private_bytes(SECRET)
        self.public = self.key.public_key()
        self.fields = Signer.of(self.key).sign(7, HEAD, {"s": 3})

    def test_when(self) -> None:
        """
        The contract's numbers.
        """
        self.assertEqual((1000, 60.0), (RECORDS_BETWEEN, SECONDS_BETWEEN))

    def test_octets(self) -> None:
        """
        The signature is of a text that anybody can write.
        """
        self.assertEqual(
            f"tcpsvc checkpoint 7 {HEAD}".encode(), signedOctets(7, HEAD, {})
        )
        self.assertEqual(
            f"tcpsvc checkpoint 7 {HEAD} s=3 t=0".encode(),
            signedOctets(7, HEAD, {"s": 3, "t": 0}),
        )

    def test_fields(self) -> None:
        """
        A checkpoint says what it is of and by which key, and has an Ed25519
        signature in base64 that others can verify.
        """
        self.assertEqual(
            ["count", "head", "key", "signature", "sessions"], list(self.fields)
        )
        self.assertEqual((7, HEAD), (self.fields["count"], self.fields["head"]))
        self.assertEqual(
            sha256(self.public.public_bytes_raw()).hexdigest(), self.fields["key"]
        )
        self.assertEqual(nameOf(self.public), self.fields["key"])
        public = Ed25519PublicKey.from_public_bytes(self.public.public_bytes_raw())
        signature = b64decode(str(self.fields["signature"]), validate=True)
        self.assertIsNone(
            public.verify(signature, f"tcpsvc checkpoint 7 {HEAD} s=3".encode())
        )

    def test_verified(self) -> None:
        """
        A checkpoint is good by its own key, and by no other.
        """
        self.assertTrue(isSignedBy(self.fields, self.public))
        other = Ed25519PrivateKey.generate().public_key()
        self.assertFalse(isSignedBy(self.fields, other))

    def test_changed(self) -> None:
        """
        Whatever of it is changed, missing or of another type: it is not good, and
        that is no exception.
        """
        signature = bytearray(b64decode(str(self.fields["signature"])))
        signature[5] ^= 1
        several: tuple[dict[str, object], ...] = (
            {"count": 8},
            {"head": "ac" * 32},
            {"signature": b64encode(signature).decode()},
            {"signature": "rubbish"},
            {"signature": "!" * 88},
            {"signature": "\u00fc"},
            {"signature": ""},
            {"signature": None},
            {"count": "7"},
            {"count": None},
            {"head": None},
            {"sessions": {}},
            {"sessions": {"s": 4}},
            {"sessions": {"s": 3, "t": 0}},
            {"sessions": None},
        )
        for changes in several:
            changed: dict[str, object] = {**self.fields, **changes}
            self.assertFalse(isSignedBy(changed, self.public), changes)
        for name in ("count", "head", "signature", "sessions"):
            fields = dict(self.fields)
            del fields[name]
            self.assertFalse(isSignedBy(fields, self.public), name)

    def test_mark(self) -> None:
        """
        A checkpoint's line has the mark, and no other's has it, even if a client
        has sent one.
        """
        line = Chain().link(0.0, "checkpoint", self.fields)
        self.assertIn(CHECKPOINT_MARK, line)
        for text in (line.decode(), CHECKPOINT_MARK.decode()):
            for value in (text, [text], {text: text}):
                line = Chain().link(0.0, "request", {"request": value})
                self.assertNotIn(CHECKPOINT_MARK, line)
