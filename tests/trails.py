"""
Trails for the tests of what reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tcpsvc.audit.chain import Chain
from tcpsvc.audit.checkpoint import Signer
from tests.support import EPOCH

ALICE = "aaaaaaaa-0000-4000-8000-000000000001"
BOB = "bbbbbbbb-0000-4000-8000-000000000002"


@define
class MadeTrail:
    """
    Makes the lines of a trail, each an eighth of a second after the one before.

    @ivar lines: Without their newlines.
    @ivar now: When the next record is made, in seconds since the epoch.
    @ivar ids: The member C{trail} of the records that have it, if they do.
    """

    key: Ed25519PrivateKey = field(factory=Ed25519PrivateKey.generate)
    chain: Chain = field(factory=Chain)
    lines: list[bytes] = field(factory=list)
    now: float = EPOCH
    ids: dict[str, str] = field(factory=dict)

    def add(self, event: str, **fields: Any) -> bytes:
        """
        Add a record.
        """
        line = self.chain.link(self.now, event, fields)
        self.lines.append(line)
        self.now += 0.125
        return line

    def sign(self) -> bytes:
        """
        Add a checkpoint.
        """
        signer = Signer.of(self.key)
        fields = signer.sign(self.chain.records, self.chain.head, {})
        return self.add("checkpoint", **fields, **self.ids)

    def open(self, session: str = ALICE, name: str = "alice", **more: Any) -> None:
        """
        Add the beginning of a session.
        """
        identity = {"name": name, "serial": "1", "fingerprint": "2", "names": []}
        tls = {"version": "TLSv1.3", "cipher": "x", "exporter": "y"}
        self.add(
            "session.opened",
            session=session,
            address="192.0.2.1:49152",
            identity=identity,
            tls=tls,
            **more,
        )

    def exchange(
        self, n: int, request: str, reply: str, session: str = ALICE, code: int = 200
    ) -> None:
        """
        Add a request and its reply.
        """
        self.add("request", session=session, n=n, request=request)
        self.add("reply", session=session, n=n, reply=reply, code=code, duration_us=34)

    def close(self, session: str = ALICE, reason: str = "quit") -> None:
        """
        Add the end of a session.
        """
        self.add(
            "session.closed",
            session=session,
            reason=reason,
            requests=1,
            bytes_in=9,
            bytes_out=8,
            duration_s=0.5,
        )

    def start(self, backend: str = "commands") -> None:
        """
        Add the start of a service.
        """
        self.add("service.started", **{**_SERVICE, "backend": backend}, **self.ids)

    def stop(self) -> None:
        """
        Add the stop of a service.
        """
        self.add("service.stopped", **_SERVICE)

    @property
    def receipt(self) -> str:
        """The last record, as a receipt has it."""
        return f"{self.chain.records}:{self.chain.head}"

    def writePublicKey(self, path: Path) -> Path:
        """
        Write the public half of the key.
        """
        path.write_bytes(
            self.key.public_key().public_bytes(
                serialization.Encoding.PEM,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
        )
        return path


_SERVICE = {
    "version": "0.1.0",
    "listeners": ["0.0.0.0:4433, mutual TLS 1.3 or later"],
    "backend": "commands",
    "sync": "everysec",
    "certificate": "ab" * 32,
}


def conversation(**ids: str) -> MadeTrail:
    """
    A service that starts, alice's session with one exchange, bob turned away in
    the middle of it, and the stop: 9 records.

    @param ids: C{trail}, the id of the trail, if it has one.
    """
    trail = MadeTrail(ids=ids)
    trail.start()
    trail.open()
    trail.add("request", session=ALICE, n=1, request="ECHO hello")
    trail.add(
        "session.refused",
        address="192.0.2.2:5",
        identity={"name": "bob"},
        reason="busy",
        holder="alice",
    )
    trail.add(
        "reply", session=ALICE, n=1, reply="200 hello", code=200, duration_us=3400
    )
    trail.close()
    trail.sign()
    trail.stop()
    trail.sign()
    return trail


def write(path: Path, lines: Sequence[bytes]) -> Path:
    """
    Write lines to a file.
    """
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path
