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
from tcpsvc.events import Journal, SessionJournal
from tcpsvc.jsontext import quoted
from tcpsvc.keyfiles import KeyDirectory, readPrivateKey

SESSION = "beb4e01e-d3c1-4068-9742-11427f5f3974"
REQUEST = "MEASURE:VOLTAGE? 1"
REPLY = "200 4.99871 V"
IN_A_CHUNK = 100
"""
How many requests come together.
"""


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


def journalOf(trail: Trail, reactor: Any) -> SessionJournal:
    """
    Where a session of the service tells what happens in it.
    """
    return Journal(trail, reactor).ofSession(SESSION)


def exchange(journal: SessionJournal, n: int) -> Iterator[None]:
    """
    The two records of one exchange; after each it is to be committed.
    """
    since = journal.seconds()
    journal.request(n, f'"request":{quoted(REQUEST)}', since)
    yield
    journal.reply(n, f'"reply":{quoted(REPLY)}', 200, since)
    yield


async def writeRecords(
    trail: Trail, exchanges: int, together: bool, reactor: Any
) -> None:
    """
    Write exchanges.

    @param together: Whether L{IN_A_CHUNK} of them are committed at once, as
        pipelined requests are; else each has two commits.
    """
    journal = journalOf(trail, reactor)
    for done in range(0, exchanges, IN_A_CHUNK):
        if together:
            now = journal.seconds()
            journal.exchanges(done + 1, now, [(REQUEST, REPLY, now)] * IN_A_CHUNK)
            journal.commit()
        else:
            for n in range(done + 1, done + 1 + IN_A_CHUNK):
                for _ in exchange(journal, n):
                    journal.commit()
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
    await writeRecords(trail, records // 2, True, reactor)
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
