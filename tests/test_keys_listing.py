"""
Tests for L{tcpsvc.keys.listing}.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.identity import identityFrom
from tcpsvc.keyfiles import KeyDirectory, KeyFileError, readCertificate
from tcpsvc.keys.listing import entries, entryOf
from tcpsvc.keys.rules import Status
from tests.certificates import (
    NOW,
    authority,
    newAuthority,
    otherAuthority,
    writeKeys,
    writePair,
    writeRevocationList,
)


class EntryTests(SynchronousTestCase):
    """
    Tests for L{entries} and L{entryOf}.
    """

    def setUp(self) -> None:
        """
        Write a directory with a certificate in each state.
        """
        self.directory = writeKeys(
            Path(self.mktemp()), clients=("alice", "bob"), revoked=("bob",)
        )
        for name, pair in [
            ("late", authority().expired("late")),
            ("early", authority().notYetValid("early")),
        ]:
            writePair(self.directory.client(name), self.directory.clientKey(name), pair)

    def test_entries(self) -> None:
        """
        Each certificate is there with its name, role and status.
        """
        self.assertEqual(
            [
                ("ca", "ca", "valid"),
                ("server", "server", "valid"),
                ("alice", "client", "valid"),
                ("bob", "client", "revoked"),
                ("early", "client", "not yet valid"),
                ("late", "client", "expired"),
            ],
            [
                (entry.name, entry.role, entry.status.value)
                for entry in entries(self.directory, NOW)
            ],
        )

    def test_within(self) -> None:
        """
        What counts as expiring is the caller's choice.
        """
        within = timedelta(days=400)
        expiring = [
            entry.name
            for entry in entries(self.directory, NOW, within)
            if entry.status is Status.EXPIRING
        ]
        self.assertEqual(["server", "alice"], expiring)

    def test_authorityBehind(self) -> None:
        """
        A certificate of an authority that stands behind it is valid, if that is of
        one that is trusted.
        """
        for by, status in ((authority(), "valid"), (otherAuthority(), "void")):
            middle = newAuthority("middle", by=by)
            pair = middle.server()
            writePair(self.directory.server, self.directory.serverKey, pair)
            with self.directory.server.open("ab") as file:
                file.write(middle.certificatePEM)
            entry = entryOf(self.directory, "server", self.directory.server, NOW)
            self.assertEqual(status, entry.status.value)

    def test_record(self) -> None:
        """
        A record is JSON primitives, with serial number and fingerprint as the
        audit trail has them and times in ISO 8601.
        """
        path = self.directory.client("alice")
        identity = identityFrom(readCertificate(path))
        record = entryOf(self.directory, "alice", path, NOW).asRecord()
        self.assertEqual(record, json.loads(json.dumps(record)))
        end = f"{NOW + timedelta(days=365):%Y-%m-%dT%H:%M:%SZ}"
        begin = f"{NOW - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
        self.assertEqual(
            {
                "name": "alice",
                "role": "client",
                "fingerprint": identity.fingerprint,
                "serial": identity.serial,
                "names": ["DNS:alice"],
                "begins": begin,
                "expires": end,
                "status": "valid",
                "path": str(path),
            },
            record,
        )

    def test_nowhere(self) -> None:
        """
        A directory without an authority is not taken for one in which nothing
        is due.
        """
        nowhere = KeyDirectory(Path("nowhere"))
        self.assertRaises(KeyFileError, entries, nowhere, NOW)

    def test_foreignList(self) -> None:
        """
        Nothing is listed by a revocation list that is not the authority's.
        """
        writeRevocationList(self.directory, otherAuthority().revocationList())
        self.assertRaises(KeyFileError, entries, self.directory, NOW)

    def test_brokenLink(self) -> None:
        """
        Nor by a revocation list that is a link to nothing.
        """
        self.directory.crl.unlink()
        self.directory.crl.symlink_to("gone.pem")
        self.assertRaises(KeyFileError, entries, self.directory, NOW)

    def test_void(self) -> None:
        """
        What nobody takes is void, with the reason, and due; a name that the
        trust in a second authority saves is not.
        """
        for name, pair in [
            ("alice", otherAuthority().client("alice")),
            ("early", authority().noPurpose("early")),
            ("late", newAuthority().expired("late")),
        ]:
            writePair(self.directory.client(name), self.directory.clientKey(name), pair)
        found = {entry.name: entry for entry in entries(self.directory, NOW)}
        for name in ("alice", "early", "late"):
            self.assertIs(Status.VOID, found[name].status)
            self.assertTrue(found[name].status.isDue)
        self.assertEqual("another authority signed it", found["alice"].reason)
        self.assertEqual("void", found["alice"].asRecord()["status"])
        self.assertIs(Status.REVOKED, found["bob"].status)
        with self.directory.ca.open("ab") as file:
            file.write(otherAuthority().certificatePEM)
        self.directory.crl.unlink()
        path = self.directory.client("alice")
        entry = entryOf(self.directory, "alice", path, NOW)
        self.assertEqual((Status.VALID, None), (entry.status, entry.reason))

    def test_file(self) -> None:
        """
        A file of which nobody knows whose it is, is not void if it serves a
        client or a server, or is the authority.
        """
        path = self.directory.path / "x.pem"
        for pair, status in [
            (authority().server("b.example"), Status.VALID),
            (authority().client(), Status.VALID),
            (authority(), Status.VALID),
            (authority().noPurpose(), Status.VOID),
            (otherAuthority().server(), Status.VOID),
        ]:
            path.write_bytes(pair.certificatePEM)
            self.assertIs(status, entryOf(self.directory, None, path, NOW).status)
