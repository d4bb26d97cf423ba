# -*- test-case-name: tests.test_audit_checkpoint -*-

"""
Checkpoints: signatures over the trail as it is at a moment. Pure.

The signature is Ed25519 (RFC 8032) over the octets of L{signedOctets}. A
checkpoint is itself a record of the chain; C{count} and C{head} are of the
records before it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256

from attrs import frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

RECORDS_BETWEEN = 1000
"""
After how many records a checkpoint follows.
"""

SECONDS_BETWEEN = 60.0
"""
After how many seconds a checkpoint follows if there are records without one.
"""


CHECKPOINT_MARK = b'"event":"checkpoint"'
"""
What every checkpoint's line has in it. A request may quote it, but a quote of
it in JSON has backslashes.
"""


def signedOctets(count: int, head: str, sessions: Mapping[str, int]) -> bytes:
    """
    What a checkpoint's signature is of: words with a blank between them.

    @param count: How many records there were.
    @param head: The SHA-256 of the last one's line, in hex.
    @param sessions: The open sessions, each with its requests so far.
    """
    open_ = (f"{session}={requests}" for session, requests in sessions.items())
    words = ("tcpsvc", "checkpoint", str(count), head, *open_)
    return " ".join(words).encode("utf-8", "backslashreplace")


def nameOf(key: Ed25519PublicKey) -> str:
    """
    The name of a key in checkpoints: the SHA-256 of its 32 octets, in hex.
    """
    return sha256(key.public_bytes_raw()).hexdigest()


@frozen
class Signer:
    """
    Signs checkpoints.

    @ivar name: The name of its key.
    """

    _key: Ed25519PrivateKey
    name: str

    @classmethod
    def of(cls, key: Ed25519PrivateKey) -> Signer:
        """
        @return: A signer with this key.
        """
        return cls(key, nameOf(key.public_key()))

    def sign(
        self, count: int, head: str, sessions: Mapping[str, int]
    ) -> dict[str, object]:
        """
        @return: The fields of a checkpoint; for the parameters see L{signedOctets}.
        """
        signature = self._key.sign(signedOctets(count, head, sessions))
        return {
            "count": count,
            "head": head,
            "key": self.name,
            "signature": b64encode(signature).decode("ascii"),
            "sessions": dict(sessions),
        }


def isSignedBy(fields: dict[str, object], key: Ed25519PublicKey) -> bool:
    """
    Whether a checkpoint's signature is this key's.
    """
    count, head, signature = (fields.get(n) for n in ("count", "head", "signature"))
    sessions = fields.get("sessions")
    if not (
        isinstance(count, int) and isinstance(head, str) and isinstance(sessions, dict)
    ):
        return False
    try:
        signed = signedOctets(count, head, sessions)
        key.verify(b64decode(str(signature), validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True
