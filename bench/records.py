"""
What the records of bulk alone cost, in C: whoever is to keep them cannot do without.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

from bench.machine import cores, onCore
from tcpsvc.flow import payload


def recordSpeed(directory: Path, chunk: bytes, seconds: float) -> float:
    """
    How much a program could pass each way that does nothing but quote each chunk as
    JSON, take its SHA-256 and append it to a file, once for each direction.

    @param directory: On the disk that is written to.
    @param seconds: For how long that is measured.
    @return: MB/s.
    """
    path = directory / "records"
    chunks = 0
    with onCore(cores()[0]), path.open("ab", buffering=0) as file:
        begun = time.perf_counter()
        while time.perf_counter() < begun + seconds:
            for _ in range(100):
                record = payload(chunk, "full").encode("ascii")
                sha256(record).digest()
                os.write(file.fileno(), record)
            chunks += 100
        took = time.perf_counter() - begun
    path.unlink()
    return chunks * len(chunk) / 2 / took / 1e6
