"""
Somebody who has the disk and the key: rewrites a whole trail, so that it says
something else and yet is whole, signed and linked from end to end.

With nothing of tcpsvc's own. Usage: C{forger.py TRAIL AUDIT-KEY FROM TO}: each
reply FROM becomes TO.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def forge(trail: Path, key: Ed25519PrivateKey, wanted: str, instead: str) -> None:
    """
    Write the trail anew.
    """
    head = "0" * 64
    lines = []
    for number, line in enumerate(trail.read_bytes().splitlines()):
        record = json.loads(line)
        if record.get("reply") == wanted:
            record["reply"] = instead
        if record["event"] == "checkpoint":
            record["head"] = head
            open_ = (f" {name}={n}" for name, n in record["sessions"].items())
            signed = f"tcpsvc checkpoint {number} {head}{''.join(open_)}".encode()
            record["signature"] = b64encode(key.sign(signed)).decode()
        record["prev"] = head
        new = json.dumps(record, separators=(",", ":")).encode()
        head = sha256(new).hexdigest()
        lines.append(new + b"\n")
    trail.write_bytes(b"".join(lines))


if __name__ == "__main__":
    loaded = load_pem_private_key(Path(sys.argv[2]).read_bytes(), None)
    assert isinstance(loaded, Ed25519PrivateKey)
    forge(Path(sys.argv[1]), loaded, sys.argv[3], sys.argv[4])
