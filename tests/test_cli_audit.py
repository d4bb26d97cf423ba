"""
Tests for L{tcpsvc.cli.audit}.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc import cli
from tcpsvc.cli.audit.replay import MAX_CANDIDATES
from tcpsvc.cli.audit.verify import LONG
from tests.clientside import COMMAND, commandEnvironment
from tests.trails import ALICE, BOB, MadeTrail, conversation, write


class AuditTestCase(SynchronousTestCase):
    """
    The command in this process, on files in a directory.
    """

    def setUp(self) -> None:
        """
        Make a directory with a trail in it, and its key.
        """
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        self.trail = conversation()
        self.lines = self.trail.lines
        self.file = write(self.path / "audit.jsonl", self.lines)
        self.keys = self.path / "keys"
        self.keys.mkdir()
        self.key = self.trail.writePublicKey(self.keys / "audit.pem")
        self.patch(os, "environ", {"TCPSVC_KEYS": str(self.keys)})

    def run_(self, *words: object) -> tuple[int, str, str]:
        """
        Run C{tcpsvc audit}.

        @return: The exit status, and what it wrote to standard output and
            standard error.
        """
        output, errors = (
            io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2)
        )
        self.patch(sys, "stdout", output)
        self.patch(sys, "stderr", errors)
        status = cli._run(["audit", *map(str, words)])
        said = []
        for stream in (output, errors):
            stream.flush()
            assert isinstance(stream.buffer, io.BytesIO)
            said.append(stream.buffer.getvalue().decode())
        self.patch(sys, "stdout", sys.__stdout__)
        self.patch(sys, "stderr", sys.__stderr__)
        return status, said[0], said[1]

    def good(self, *words: object) -> str:
        """
        What the command says, and nothing else, when all is well.
        """
        status, output, errors = self.run_(*words)
        self.assertEqual((0, ""), (status, errors))
        return output

    def fails(self, status: int, *words: object) -> str:
        """
        What the command says in one line when it fails.
        """
        found, output, errors = self.run_(*words)
        self.assertEqual((status, ""), (found, output), errors)
        self.assertEqual(1, len(errors.splitlines()), errors)
        self.assertTrue(errors.startswith("tcpsvc audit"), errors)
        return errors


class VerifyTests(AuditTestCase):
    """
    C{tcpsvc audit verify}.
    """

    def test_good(self) -> None:
        """
        It is said how many records and checkpoints are good, from when to when,
        and what a receipt for the last one is.
        """
        self.assertEqual(
            f"9 records, 2 checkpoints good (file {self.file})\n"
            "from record 1, 2027-01-15T08:00:00.000000Z, "
            "to record 9, 2027-01-15T08:00:01.000000Z\n"
            "0 records since the last checkpoint\n"
            f"receipt: {self.trail.receipt}\n",
            self.good("verify", self.file),
        )

    def test_empty(self) -> None:
        """
        A trail without records is good, and said to be empty: it may have been
        emptied.
        """
        write(self.file, [])
        self.assertEqual(
            f"0 records: empty (file {self.file}); if there were any, only a receipt "
            "(--expect) tells\n",
            self.good("verify", self.file),
        )
        said = self.fails(1, "verify", "--expect", self.trail.receipt, self.file)
        self.assertIn("it was cut off or written anew", said)

    def test_unsigned(self) -> None:
        """
        That there is no checkpoint at all is said in words.
        """
        write(self.file, self.lines[:6])
        said = self.good("verify", self.file)
        self.assertIn("6 records, 0 checkpoints good", said)
        self.assertIn("\nthere is no checkpoint: none of it is signed\n", said)
        self.assertNotIn("since the last checkpoint", said)

    def test_blank(self) -> None:
        """
        A blank line is no record, also at the end, and is called what it is.
        """
        write(self.file, [*self.lines, b""])
        said = self.fails(1, "verify", self.file)
        self.assertIn("line 10: it is blank, and no record", said)
        status, _, errors = self.run_("show", self.file)
        self.assertEqual(1, status)
        self.assertIn("line 10: it is blank, and no record", errors)

    def test_copy(self) -> None:
        """
        A file and its compressed copy, which C{gzip} may be just making, are one.
        """
        copy = self.path / "audit.jsonl.gz"
        packed = gzip.compress(self.file.read_bytes())
        for octets in (packed, packed[:12], packed[:3]):
            copy.write_bytes(octets)
            for files in ((copy, self.file), (self.file, copy)):
                status, output, errors = self.run_("verify", *files)
                self.assertEqual(0, status, errors)
                self.assertIn("9 records", output)
                self.assertEqual(
                    f"tcpsvc audit: {copy}: passed over: the file that it is of is "
                    "given\n",
                    errors,
                )

    def test_sameName(self) -> None:
        """
        A compressed file of other records is a part of the trail like others.
        """
        former = write(self.path / "audit.jsonl.gz", self.lines[:6])
        former.write_bytes(gzip.compress(former.read_bytes()))
        write(self.file, self.lines[6:])
        self.assertIn("9 records", self.good("verify", self.file, former))

    def test_rotated(self) -> None:
        """
        The files of a rotated trail are one, in whatever order they are named;
        one may be compressed.
        """
        write(self.file, self.lines[6:])
        first = write(self.path / "audit.jsonl.1", self.lines[:3])
        first.write_bytes(gzip.compress(first.read_bytes()))
        second = write(self.path / "audit.jsonl.2", self.lines[3:6])
        said = self.good("verify", self.file, second, first)
        files = f"(files {first}, {second}, {self.file})"
        self.assertIn(f"9 records, 2 checkpoints good {files}", said)
        words = f"{self.file}: line 1: it is record 7, where record 4 belongs"
        self.assertIn(words, self.fails(1, "verify", self.file, first))

    def test_bad(self) -> None:
        """
        The file and the number of the first bad line are said, and the exit
        status is 1.
        """
        self.lines[4] = self.lines[4].replace(b"hello", b"jello")
        write(self.file, self.lines)
        self.assertEqual(
            f"tcpsvc audit: {self.file}: line 5: it was changed: record 6 has another "
            "hash of it\n",
            self.fails(1, "verify", self.file),
        )

    def test_begins(self) -> None:
        """
        If the beginning is missing that is an error, unless the file that ends
        there is beside it, C{--partial} says so, or a receipt does.
        """
        write(self.file, self.lines[5:])
        words = "line 1: it is record 6, and records 1 to 5 are in none of these files"
        self.assertIn(words, self.fails(1, "verify", self.file))
        status, output, errors = self.run_("verify", "--partial", self.file)
        self.assertEqual(0, status)
        self.assertIn("4 records, 2 checkpoints good", output)
        self.assertIn("begins at record 6", errors)
        receipt = f"5:{sha256(self.lines[4]).hexdigest()}"
        self.good("verify", "--expect", receipt, self.file)
        former = write(self.path / "audit.jsonl.1", self.lines[:5])
        status, output, errors = self.run_("verify", self.file)
        self.assertEqual(0, status)
        self.assertIn(f"begins at record 6, which continues {former}", errors)

    def test_torn(self) -> None:
        """
        A last line that is not whole is told, and is no fault.
        """
        with self.file.open("ab") as file:
            file.write(b'{"seq":10,"ti')
        status, output, errors = self.run_("verify", self.file)
        self.assertEqual(0, status)
        self.assertIn("9 records", output)
        self.assertIn(f"{self.file}: the last line is not whole", errors)

    def test_receipts(self) -> None:
        """
        A receipt, or the reply that has it, has to be of a record of the
        trail.
        """
        head = sha256(self.lines[8]).hexdigest()
        self.good(
            "verify",
            *("--expect", f"1:{sha256(self.lines[0]).hexdigest()}"),
            *("--expect", f"221 bye; record 9 {head}"),
            self.file,
        )
        said = self.fails(1, "verify", "--expect", f"8:{head}", self.file)
        self.assertIn("line 8: record 8 is not the one of the receipt", said)
        write(self.file, self.lines[:8])
        said = self.fails(1, "verify", "--expect", f"9:{head}", self.file)
        self.assertIn("it was cut off", said)

    def test_checkpoints(self) -> None:
        """
        If checkpoints are expected, they have to be by the key.
        """
        self.good("verify", "--expect-checkpoints", self.file)
        other = MadeTrail().writePublicKey(self.path / "other.pem")
        words = ("verify", "--expect-checkpoints", "--public-key", other)
        said = self.fails(1, *words, self.file)
        self.assertIn("line 7: this checkpoint is signed by another key", said)
        self.good(*words, "--public-key", self.key, self.file)
        write(self.file, self.lines[:6])
        said = self.fails(1, "verify", "--expect-checkpoints", self.file)
        self.assertIn("there is no checkpoint", said)

    def test_withoutKey(self) -> None:
        """
        Without a key it is said how many signatures were not checked; to expect
        checkpoints is then wrong usage.
        """
        self.patch(os, "environ", {"TCPSVC_KEYS": str(self.path)})
        status, output, errors = self.run_("verify", self.file)
        self.assertEqual(0, status)
        self.assertIn("9 records, 0 checkpoints good", output)
        self.assertIn("2 signatures not checked: no public key is at hand", errors)
        said = self.fails(64, "verify", "--expect-checkpoints", self.file)
        self.assertIn("--public-key", said)

    def test_namedKeys(self) -> None:
        """
        A directory that is named on the command line has to have the key, unless
        that is named itself.
        """
        nowhere = ("--keys", self.path)
        for more in ((), ("--expect-checkpoints",)):
            said = self.fails(78, "verify", *nowhere, *more, self.file)
            self.assertIn(f"{self.path / 'audit.pem'}: it is not there", said)
        self.good("verify", *nowhere, "--public-key", self.key, self.file)

    def test_quick(self) -> None:
        """
        Quickly, only what comes after the last checkpoint is looked at; fully,
        which is the default, all is.
        """
        self.lines[1] = b"nothing"
        write(self.file, self.lines)
        said = self.good("verify", "--quick", self.file)
        self.assertIn("1 record, 1 checkpoint good", said)
        for words in ((), ("--full",)):
            said = self.fails(1, "verify", *words, self.file)
            self.assertIn("line 2: it is not JSON", said)

    def test_quickFiles(self) -> None:
        """
        Which records and files were not looked at is said, also as JSON.
        """
        former = write(self.path / "audit.jsonl.1", self.lines[:8])
        write(self.file, self.lines[8:])
        words = ("verify", "--quick", former, self.file)
        said = self.good(*words)
        self.assertIn(f"1 record, 1 checkpoint good (file {self.file})\n", said)
        self.assertIn(
            f"\nnot verified: what is before record 9 (file {former}: not read)\n", said
        )
        report = json.loads(self.good(*words, "--json"))
        self.assertEqual((True, [str(former)]), (report["quick"], report["unread"]))
        write(former, self.lines[:3])
        write(self.file, self.lines[3:])
        said = self.good(*words)
        self.assertIn(f"before record 9 (file {former}: not read)\n", said)
        write(self.file, self.lines)
        said = self.good("verify", "--quick", self.file)
        self.assertIn("\nnot verified: what is before record 9\n", said)
        self.assertNotIn("not verified", self.good("verify", self.file))

    def test_json(self) -> None:
        """
        As JSON, all that was found is one object.
        """
        self.assertEqual(
            {
                "good": True,
                "files": [str(self.file)],
                "records": 9,
                "first": 1,
                "last": 9,
                "head": sha256(self.lines[8]).hexdigest(),
                "since": "2027-01-15T08:00:00.000000Z",
                "until": "2027-01-15T08:00:01.000000Z",
                "checkpoints": 2,
                "unchecked": 0,
                "unsigned": 0,
                "torn": [],
                "notes": [],
                "quick": False,
                "unread": [],
            },
            json.loads(self.good("verify", "--json", self.file)),
        )

    def test_trail(self) -> None:
        """
        The id of the trail is told if the records have one, in words and as JSON;
        files of two trails are an error.
        """
        trail = conversation(trail="one")
        trail.writePublicKey(self.key)
        write(self.file, trail.lines)
        self.assertIn("\ntrail one\n", self.good("verify", self.file))
        report = json.loads(self.good("verify", "--json", self.file))
        self.assertEqual("one", report["trail"])
        other = write(self.path / "psu-2", conversation(trail="two").lines)
        said = self.fails(1, "verify", self.file, other)
        self.assertIn(f"{other}: line 1: it is of the trail 'two'", said)

    def test_badJSON(self) -> None:
        """
        So is what is wrong.
        """
        self.lines[4] = b"nothing"
        write(self.file, self.lines)
        status, output, errors = self.run_("verify", "--json", self.file)
        self.assertEqual((1, ""), (status, errors))
        self.assertEqual(
            {
                "good": False,
                "files": [str(self.file)],
                "notes": [],
                "quick": False,
                "unread": [],
                "problem": {
                    "file": str(self.file),
                    "line": 5,
                    "what": "it is not JSON",
                },
            },
            json.loads(output),
        )

    def test_tornFile(self) -> None:
        """
        A file of torn lines is passed over with a word, as a pattern of the
        shell's names it too.
        """
        torn = self.path / "audit.jsonl.torn-20261123T005603.000000Z"
        torn.write_bytes(b'{"se')
        status, output, errors = self.run_("verify", self.file, torn)
        self.assertEqual(0, status)
        self.assertIn("9 records", output)
        self.assertIn(f"{torn}: passed over", errors)

    def test_cannotRead(self) -> None:
        """
        A file that is not there is exit status 66, for the key too.
        """
        nowhere = self.path / "nowhere"
        for words in (
            ("verify", nowhere),
            ("verify", self.path),
            ("show", nowhere),
            ("replay", nowhere),
            ("verify", "--public-key", nowhere, self.file),
        ):
            self.assertIn("cannot be opened", self.fails(66, *words))

    def test_badKey(self) -> None:
        """
        A file without such a key is exit status 78.
        """
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        for octets in (
            b"nothing",
            key.public_bytes(
                serialization.Encoding.PEM,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            ),
        ):
            self.key.write_bytes(octets)
            said = self.fails(78, "verify", self.file)
            self.assertIn(f"{self.key}: there is no public Ed25519 key", said)

    def test_usage(self) -> None:
        """
        Wrong usage is exit status 64, in one line.
        """
        for words in (
            ("dance",),
            ("verify",),
            ("verify", "--expect", "12", self.file),
            ("show",),
            ("show", "--since", "soon", self.file),
            ("replay", "--speed", "0", self.file),
            ("replay", "--speed", "nan", self.file),
            ("replay", "--max-wait", "-1", self.file),
        ):
            self.fails(64, *words)


class ShowTests(AuditTestCase):
    """
    C{tcpsvc audit show}.
    """

    def test_conversation(self) -> None:
        """
        The trail is told, without colours where there is no terminal.
        """
        said = self.good("show", self.file)
        self.assertIn("08:00:00.250  > ECHO hello\n", said)
        self.assertIn("              < 200 hello  (3.4 ms)\n", said)
        self.assertNotIn("\x1b", said)

    def test_json(self) -> None:
        """
        As JSON, the records are what they are in the file, to the octet.
        """
        said = self.good("show", "--json", self.file)
        self.assertEqual(self.file.read_text(), said)

    def test_filters(self) -> None:
        """
        Records are selected by session, identity and time.
        """
        for words, numbers in (
            (("--session", "AAAA"), [2, 3, 5, 6]),
            (("--identity", "bob"), [4]),
            (("--since", "2027-01-15T08:00:00.75"), [7, 8, 9]),
            (("--since", "2027-01-16"), []),
            (("--identity", "alice", "--since", "2027-01-15 08:00:00.5Z"), [5, 6]),
        ):
            said = self.good("show", "--json", *words, self.file)
            found = [json.loads(line)["seq"] for line in said.splitlines()]
            self.assertEqual(numbers, found, words)

    def test_noSession(self) -> None:
        """
        That there is no such session is said, and is exit status 1. One that is
        there, and has nothing that is asked for, is not.
        """
        for words in ((), ("--json",)):
            said = self.fails(1, "show", "--session", "zzz", *words, self.file)
            self.assertEqual(
                "tcpsvc audit: there is no session zzz in these files\n", said
            )
        later = ("--session", "aaaa", "--since", "2027-01-16")
        self.assertEqual("", self.good("show", *later, self.file))

    def test_ago(self) -> None:
        """
        How long ago is counted from now.
        """
        self.trail.now = time.time() - 3600
        self.trail.start()
        write(self.file, self.lines)
        for ago, number in (("59m", 0), ("2h", 1)):
            said = self.good("show", "--json", "--since", ago, self.file)
            # Those of the conversation are of a day that is still to come.
            found = [line for line in said.splitlines() if '"seq":10,' in line]
            self.assertEqual(number, len(found))

    def test_damaged(self) -> None:
        """
        A line that is damaged is told of, and the others are shown.
        """
        self.lines[2] = b"nothing\x1b[2J"
        write(self.file, self.lines)
        for words in ((), ("--json",)):
            status, output, errors = self.run_("show", *words, self.file)
            self.assertEqual(1, status)
            self.assertIn("200 hello", output)
            where = f"tcpsvc audit: {self.file}: line 3: it is not JSON\n"
            self.assertEqual(where, errors)

    def test_damagedGzip(self) -> None:
        """
        Of a compressed file that is cut off the beginning is shown.
        """
        packed = gzip.compress(self.file.read_bytes() * 100, mtime=0)
        self.file.write_bytes(packed[:-9])
        status, _, errors = self.run_("show", self.file)
        self.assertEqual(1, status)
        self.assertIn(f"{self.file}: the compressed file is damaged", errors)

    def test_torn(self) -> None:
        """
        A last line that is not whole is told of.
        """
        with self.file.open("ab") as file:
            file.write(b'{"seq":10,"ti')
        status, _, errors = self.run_("show", self.file)
        self.assertEqual(0, status)
        self.assertIn("the last line is not whole, and not shown", errors)

    def test_follow(self) -> None:
        """
        What is added is shown when it is, also in the next file.
        """
        former = write(self.path / "audit.jsonl.1", self.lines[:2])
        write(self.file, self.lines[2:4])
        shown: list[bytes] = []

        def sleep(_: float) -> None:
            buffer = sys.stdout.buffer
            assert isinstance(buffer, io.BytesIO)
            shown.append(buffer.getvalue())
            if len(shown) == 1:
                with self.file.open("ab") as file:
                    file.write(self.lines[4] + b"\n")
            elif len(shown) == 2:
                self.file.rename(self.path / "audit.jsonl.2")
                write(self.file, self.lines[5:])
            elif len(shown) == 3:
                raise KeyboardInterrupt

        self.patch(time, "sleep", sleep)
        self.patch(cli, "_discardOutput", lambda: None)
        status, _, _ = self.run_(
            "show", "--json", "--follow", "--identity", "alice", former, self.file
        )
        self.assertEqual(130, status)
        numbers = [
            [json.loads(line)["seq"] for line in octets.splitlines()]
            for octets in shown
        ]
        self.assertEqual([[2, 3], [2, 3, 5], [2, 3, 5, 6]], numbers)

    def test_followPacked(self) -> None:
        """
        A compressed file does not grow.
        """
        self.file.write_bytes(gzip.compress(self.file.read_bytes()))
        said = self.fails(64, "show", "--follow", self.file)
        self.assertIn("nothing is ever added to it", said)


class ReplayTests(AuditTestCase):
    """
    C{tcpsvc audit replay}.
    """

    def setUp(self) -> None:
        """
        Let no time pass.
        """
        super().setUp()
        self.slept: list[float] = []
        self.patch(time, "sleep", self.slept.append)
        self.patch(time, "monotonic", lambda: sum(self.slept))

    def test_onlySession(self) -> None:
        """
        The only session is shown, each line when it was its time.
        """
        status, output, errors = self.run_("replay", self.file)
        self.assertEqual((0, "ECHO hello\n200 hello\n"), (status, output))
        self.assertEqual([0.125, 0.25], self.slept)
        title = f"{ALICE}: alice, 2027-01-15T08:00:00Z"
        self.assertEqual(f"tcpsvc audit: {title}\n", errors)

    def test_faster(self) -> None:
        """
        It can be shown faster, or at once.
        """
        self.run_("replay", "--speed", "2", "--max-wait", "0.1", self.file)
        self.assertEqual([0.0625, 0.1], [round(seconds, 6) for seconds in self.slept])
        self.slept.clear()
        self.run_("replay", "--speed", "inf", self.file)
        self.assertEqual([], self.slept)

    def test_which(self) -> None:
        """
        If there are several, it has to be said which; control sessions count
        only if they are named.
        """
        self.trail.open(BOB, "bob", control=True)
        self.trail.exchange(1, "WHO", "200 alice", session=BOB)
        write(self.file, self.lines)
        self.assertIn("ECHO hello", self.run_("replay", self.file)[1])
        for session in ("b", BOB, BOB.upper()):
            words = ("replay", "--session", session, self.file)
            self.assertEqual("WHO\n200 alice\n", self.run_(*words)[1])
        other = ALICE.replace("1", "2")
        self.trail.open(other, "carol")
        write(self.file, self.lines)
        for prefix in ("", "a"):
            found, output, errors = self.run_("replay", "--session", prefix, self.file)
            self.assertEqual((64, ""), (found, output))
            first, *listed = errors.splitlines()
            self.assertEqual("tcpsvc audit: which --session?", first)
            self.assertEqual(
                [
                    f"  {ALICE}: alice, 2027-01-15T08:00:00Z",
                    f"  {other}: carol, 2027-01-15T08:00:01Z",
                ],
                listed,
            )

    def test_tooMany(self) -> None:
        """
        Not more than a few are listed.
        """
        for number in range(MAX_CANDIDATES + 5):
            self.trail.open(f"{number:08}", "carol")
        write(self.file, self.lines)
        _, _, errors = self.run_("replay", self.file)
        lines = errors.splitlines()
        self.assertEqual(1 + MAX_CANDIDATES + 1, len(lines))
        self.assertEqual("  ...", lines[-1])

    def test_none(self) -> None:
        """
        If there is no such session, that is exit status 1.
        """
        said = self.fails(1, "replay", "--session", "c", self.file)
        self.assertIn("there is no session c in these files", said)
        write(self.file, [])
        self.assertIn("there is no session in", self.fails(1, "replay", self.file))

    def test_acrossFiles(self) -> None:
        """
        A session may begin in one file and end in the next.
        """
        write(self.file, self.lines[3:])
        former = write(self.path / "audit.jsonl.1", self.lines[:3])
        _, output, _ = self.run_("replay", self.file, former)
        self.assertEqual("ECHO hello\n200 hello\n", output)

    def gateway(self) -> None:
        """
        Write a trail of a session with a gateway.
        """
        self.trail = MadeTrail()
        self.trail.open()
        for direction, data in (("in", "ls\r"), ("out", "\x1b[1mx\x1b[m\r\n")):
            self.trail.add(
                "gateway.data", session=ALICE, direction=direction, data=data
            )
        write(self.file, self.trail.lines)

    def test_gateway(self) -> None:
        """
        What a device sent acts upon the terminal only if that is wanted; what
        was typed can be left out.
        """
        self.gateway()
        for words, wanted in (
            ((), "ls\r\\x1b[1mx\\x1b[m\n"),
            (("--raw",), "ls\r\x1b[1mx\x1b[m\r\n"),
            (("--raw", "--no-typed"), "\x1b[1mx\x1b[m\r\n"),
        ):
            self.assertEqual(wanted, self.run_("replay", *words, self.file)[1])

    def test_asciicast(self) -> None:
        """
        The recording goes to standard output, at once and with nothing beside
        it.
        """
        for words in (
            (self.file, "--asciicast"),
            (self.file, "--asciicast", "-"),
            ("--asciicast", "-", self.file),
        ):
            header, *events = map(json.loads, self.good("replay", *words).splitlines())
            self.assertEqual(2, header["version"])
            self.assertEqual(
                [[0.125, "o", "ECHO hello\r\n"], [0.375, "o", "200 hello\r\n"]], events
            )
        self.assertEqual([], self.slept)

    def test_asciicastFile(self) -> None:
        """
        Or to a file, which nobody else can read, and which was not there: not
        even by a slip is a trail overwritten.
        """
        path = self.path / "x.cast"
        self.assertEqual("", self.good("replay", self.file, "--asciicast", path))
        self.assertEqual(3, len(path.read_text().splitlines()))
        self.assertEqual(0o600, path.stat().st_mode & 0o777)
        before = self.file.read_bytes()
        for words in (
            (self.file, "--asciicast", path),
            ("--asciicast", self.file, self.file),
        ):
            self.assertIn("it is there already", self.fails(64, "replay", *words))
        self.assertEqual(before, self.file.read_bytes())
        lost = self.path / "nowhere" / "x.cast"
        said = self.fails(64, "replay", self.file, "--asciicast", lost)
        self.assertIn("cannot be made", said)


class ProcessTests(AuditTestCase):
    """
    The command as a process of its own.
    """

    def process(self, *words: object, before: str = "") -> subprocess.Popen[bytes]:
        """
        Begin the command.
        """
        return subprocess.Popen(
            [sys.executable, "-c", before + COMMAND[1], "audit", *map(str, words)],
            env=commandEnvironment(TCPSVC_KEYS=str(self.keys)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def test_light(self) -> None:
        """
        No sub-command imports Twisted, and only C{verify} imports cryptography.
        """
        report = (
            "import atexit, sys; atexit.register(lambda: print(*("
            "name for name in ('twisted', 'cryptography') "
            "if name in sys.modules), file=sys.stderr));"
        )
        for words, imported in (
            (("show", self.file), b"\n"),
            (("replay", "--asciicast", "-", self.file), b"\n"),
            (("verify", self.file), b"cryptography\n"),
        ):
            process = self.process(*words, before=report)
            _, errors = process.communicate(timeout=30)
            self.assertEqual((0, imported), (process.returncode, errors))

    def test_brokenPipe(self) -> None:
        """
        When nobody reads any more, the command ends without a word.
        """
        write(self.file, self.lines * 2000)
        for words in (("show",), ("show", "--json")):
            process = self.process(*words, self.file)
            assert process.stdout is not None and process.stderr is not None
            process.stdout.read(10)
            process.stdout.close()
            self.assertEqual(b"", process.stderr.read())
            process.stderr.close()
            self.assertEqual(141, process.wait(30))

    def piped(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """
        Run the command with the trail coming through a pipe.
        """
        reader, writer = os.pipe()
        os.write(writer, self.file.read_bytes())
        os.close(writer)
        process = subprocess.run(
            [sys.executable, *COMMAND, "audit", *words],
            env=commandEnvironment(TCPSVC_KEYS=str(self.keys)),
            stdin=reader,
            capture_output=True,
            timeout=30,
            check=False,
        )
        os.close(reader)
        return process

    def test_pipe(self) -> None:
        """
        A trail can come through a pipe.
        """
        for name in ("/dev/stdin", "-"):
            said = self.piped("verify", name).stdout
            self.assertIn(b"9 records, 2 checkpoints good", said)

    def test_quickPipe(self) -> None:
        """
        But it cannot be verified quickly then: one line says so.
        """
        process = self.piped("verify", "--quick", "-")
        self.assertEqual((64, b""), (process.returncode, process.stdout))
        self.assertRegex(
            process.stderr, rb"\Atcpsvc audit.*: /dev/stdin: --quick reads .*\n\Z"
        )

    def onTerminal(self, *words: object, before: str = "", **environment: str) -> str:
        """
        What the command shows on a terminal.
        """
        import pexpect  # type: ignore[import-untyped]

        child = pexpect.spawn(
            sys.executable,
            ["-c", before + COMMAND[1], "audit", *map(str, words)],
            env=commandEnvironment(
                TCPSVC_KEYS=str(self.keys), **{"TERM": "xterm", **environment}
            ),
            encoding="utf-8",
            timeout=30,
        )
        child.expect(pexpect.EOF)
        child.close()
        return str(child.before)

    def test_colours(self) -> None:
        """
        On a terminal there are colours, unless NO_COLOR is set or the terminal
        is dumb.
        """
        self.assertIn("\x1b[36m> ECHO hello\x1b[0m", self.onTerminal("show", self.file))
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            said = self.onTerminal("show", self.file, **environment)
            self.assertIn("> ECHO hello", said)
            self.assertNotIn("\x1b", said)

    def test_progress(self) -> None:
        """
        On a terminal there is a progress bar for a long trail, and none for a
        short one.
        """
        self.assertGreater(LONG, 1_000_000)
        self.assertNotIn("verifying", self.onTerminal("verify", self.file))
        before = "import tcpsvc.cli.audit.verify as v; v.LONG = 100;"
        said = self.onTerminal("verify", self.file, before=before)
        self.assertIn("verifying", said)
        self.assertIn("100%", said)
        self.assertIn("9 records, 2 checkpoints good", said)
