"""
Trails for the benchmarks: a trail as the service has it, and a long one made fast.

C{python -m bench.trail FILE KEYS RECORDS} writes one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tcpsvc.audit.disk import Disk
from tcpsvc.audit.trail import Trail, openTrail
from tcpsvc.keyfiles import KeyDirectory, readPrivateKey

SESSION = "beb4e01e-d3c1-4068-9742-11427f5f3974"
IN_A_CHUNK = 100


def auditKey(keys: Path) -> Ed25519PrivateKey:
    """
    The key that signs checkpoints.
    """
    key = readPrivateKey(KeyDirectory(keys).auditKey)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def opened(path: Path, key: Ed25519PrivateKey, reactor: Any, sync: str) -> Trail:
    """
    A trail as the service has it.
    """

    def die(why: str) -> None:
        raise SystemExit(f"the disk has failed: {why}")

    return openTrail(path, key, reactor, Disk(deferToThread, die), sync)[0]


def exchange(trail: Trail, n: int) -> Iterator[None]:
    """
    The two records of one exchange; after each it is to be committed.
    """
    now = time.time()
    trail.append(
        now, "request", {"session": SESSION, "n": n, "request": "MEASURE:VOLTAGE? 1"}
    )
    yield
    trail.append(
        now,
        "reply",
        {
            "session": SESSION,
            "n": n,
            "reply": "200 4.99871 V",
            "code": 200,
            "duration_us": 48,
        },
    )
    yield


async def writeRecords(trail: Trail, exchanges: int, chunk: int, reactor: Any) -> None:
    """
    Write exchanges, in chunks that are committed at once; a chunk of none is
    two commits an exchange.
    """
    done = 0
    while done < exchanges:
        for n in range(done, min(exchanges, done + IN_A_CHUNK)):
            for _ in exchange(trail, n):
                if not chunk:
                    trail.commit()
        trail.commit()
        done += IN_A_CHUNK
        if done % (100 * IN_A_CHUNK) == 0:
            await task.deferLater(reactor, 0)


async def longTrail(
    path: Path, key: Ed25519PrivateKey, records: int, reactor: Any
) -> None:
    """
    Write a trail of so many records, and some checkpoints more.
    """
    trail = opened(path, key, reactor, "no")
    trail.append(
        time.time(),
        "session.opened",
        {
            "session": SESSION,
            "address": "192.0.2.1:55710",
            "identity": {
                "name": "alice",
                "serial": "1",
                "fingerprint": "",
                "names": [],
            },
            "tls": None,
        },
    )
    await writeRecords(trail, records // 2, IN_A_CHUNK, reactor)
    trail.close()


def main() -> None:
    """
    Write a long trail.
    """
    path, keys, records = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    key = auditKey(keys)
    task.react(
        lambda reactor: Deferred.fromCoroutine(longTrail(path, key, records, reactor))
    )


if __name__ == "__main__":
    main()
