"""
Clients as witnesses, and the tools, on a trail that a real service wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from threading import Timer

from tests.endtoend.auditing import RECEIPT, TOOL, AuditTests
from tests.endtoend.service import PATIENCE, environment, run
from tests.support import requireProgram

FORGER = Path(__file__).resolve().parent / "forger.py"


class ReceiptTests(AuditTests):
    """
    What a client was given as it left tells later whether the trail is still
    the one that was written.
    """

    def setUp(self) -> None:
        """
        Let two clients leave with a receipt, and a third without.
        """
        super().setUp()
        requireProgram("openssl")
        self.running = self.service()
        sent = self.send("VOLTAGE 5", "ECHO five", "QUIT")
        self.early = self.receipt(sent.stdout)
        self.running.waitUntilFree()
        asked = run(self.running.openssl("bob"), b"ECHO six\nQUIT\n")
        self.late = self.receipt(asked.stdout.decode())
        self.running.waitUntilFree()
        self.running.admitted().close()
        self.running.stop()

    def send(self, *requests: str) -> subprocess.CompletedProcess[str]:
        """
        Run C{tcpsvc send}.
        """
        return self.tcpsvc(
            *("send", "--identity", "alice", f"127.0.0.1:{self.running.port}"),
            *requests,
        )

    def receipt(self, said: str) -> str:
        """
        The receipt among the replies to a client, as C{--expect} wants it.
        """
        (found,) = RECEIPT.findall(said)
        return ":".join(found)

    def assertMissed(self, receipt: str) -> None:
        """
        With this receipt the trail is found wanting.
        """
        verified = self.verify(self.running, "--expect", receipt)
        self.assertEqual(verified.returncode, 1, verified.stdout + verified.stderr)
        self.assertNotIn("Traceback", verified.stderr)

    def forge(self, key: Path) -> None:
        """
        Let somebody rewrite the trail with a key.
        """
        subprocess.run(
            [
                *(sys.executable, FORGER, self.running.trail),
                *(key, "200 five", "200 fifty"),
            ],
            check=True,
            timeout=PATIENCE,
        )

    def cutTo(self, lines: int) -> None:
        """
        Cut the trail off behind so many lines.
        """
        whole = self.running.trail.read_bytes().splitlines(keepends=True)
        self.assertGreater(len(whole), lines)
        self.running.trail.write_bytes(b"".join(whole[:lines]))

    def test_untouched(self) -> None:
        """
        Both receipts are those of the trail as it is; a wrong one is not.
        """
        self.assertVerifies(
            self.running, *("--expect", self.early, "--expect", self.late)
        )
        self.assertVerifies(self.running, "--expect-checkpoints")
        seq, _, head = self.late.partition(":")
        self.assertMissed(f"{int(seq) - 1}:{head}")

    def test_head(self) -> None:
        """
        What a checkpoint says that was kept elsewhere is as good as a receipt.
        """
        kept = self.running.records("checkpoint")[0]
        head = f"{kept['count']}:{kept['head']}"
        self.assertVerifies(self.running, "--expect", head)
        self.forge(self.keys.auditKey)
        self.assertVerifies(self.running, "--expect-checkpoints")
        self.assertMissed(head)

    def test_cutOff(self) -> None:
        """
        Cut off before a receipt's record, the trail is whole in itself, and only
        whoever has that receipt can tell.
        """
        seq = int(self.late.partition(":")[0])
        self.cutTo(seq)
        self.assertVerifies(self.running, "--expect", self.late)
        self.cutTo(seq - 1)
        self.assertVerifies(self.running, "--expect", self.early)
        self.assertMissed(self.late)

    def test_forged(self) -> None:
        """
        Rewritten by somebody who has the key too, the trail is whole in itself,
        with all its checkpoints, and only whoever has a receipt can tell.
        """
        self.forge(self.keys.auditKey)
        self.assertEqual(len(self.running.records("reply", reply="200 fifty")), 1)
        self.verifiedRecords(self.running)
        self.assertVerifies(self.running, "--expect-checkpoints")
        self.assertMissed(self.early)
        self.assertMissed(self.late)

    def test_forgedWithoutKey(self) -> None:
        """
        Rewritten by somebody who has only the disk, it has no good checkpoint.
        """
        key = self.directory / "other.pem"
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "ed25519", "-out", key],
            check=True,
            capture_output=True,
        )
        self.forge(key)
        verified = self.verify(self.running, "--expect-checkpoints")
        self.assertEqual(verified.returncode, 1, verified.stdout)

    def test_edited(self) -> None:
        """
        Somebody with an editor is found without any receipt, at the line.
        """
        lines = self.running.trail.read_bytes().splitlines(keepends=True)
        (number,) = (n for n, line in enumerate(lines) if b'"200 five"' in line)
        lines[number] = lines[number].replace(b'"200 five"', b'"200 fifty"')
        self.running.trail.write_bytes(b"".join(lines))
        verified = self.verify(self.running)
        self.assertEqual(verified.returncode, 1)
        said = verified.stdout + verified.stderr
        self.assertRegex(said, rf"line ({number + 1}|{number + 2})\b")


class ToolTests(AuditTests):
    """
    The tools on the trail of a conversation, while the service goes on.
    """

    def setUp(self) -> None:
        """
        Let alice talk.
        """
        super().setUp()
        self.running = self.service()
        visit = self.running.visit()
        self.assertEqual(visit.ask("ECHO grüß dich"), "200 grüß dich")
        self.assertTrue(visit.ask("PASV").startswith("500 "))
        visit.close()
        self.running.waitUntilFree()
        self.opened = self.running.records("session.opened")[0]

    def tool(self, *arguments: str) -> str:
        """
        What C{tcpsvc audit} says of the trail.
        """
        done = self.tcpsvc("audit", *arguments, str(self.running.trail))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_verify(self) -> None:
        """
        C{verify} says how many records and checkpoints are good.
        """
        said = json.loads(self.tool("verify", "--json"))
        records = self.verifiedRecords(self.running)
        self.assertIn(len(records), said.values())
        self.assertEqual(
            self.tool("verify", "--quick").count("Traceback"), 0, "and from the end"
        )

    def test_show(self) -> None:
        """
        C{show} is a conversation for people, and with C{--json} the records.
        """
        shown = self.tool("show")
        for text in ("alice", "ECHO grüß dich", "200 grüß dich", "PASV"):
            self.assertIn(text, shown)
        self.assertEqual(self.tool("show", "--identity", "bob").count("PASV"), 0)
        lines = self.tool("show", "--json", "--session", self.opened["session"])
        events = [json.loads(line)["event"] for line in lines.splitlines()]
        talk = ["request", "reply"]
        self.assertEqual(events, ["session.opened", *talk, *talk, "session.closed"])

    def test_brokenPipe(self) -> None:
        """
        Whoever reads no further hears no complaint.
        """
        command = " ".join(["exec 2>&1;", f'"{TOOL[0]}"', "-c", f"'{TOOL[2]}'"])
        done = run(
            ["bash", "-c", f"({command} audit show --json {self.running.trail}) | true"]
        )
        self.assertEqual((done.stdout, done.stderr), (b"", b""))

    def test_replay(self) -> None:
        """
        C{replay} shows what the client saw, and writes it for asciinema.
        """
        session = self.opened["session"]
        shown = self.tool("replay", "--session", session)
        self.assertIn("200 grüß dich", shown)
        cast = self.tool("replay", "--session", session[:8], "--asciicast", "-")
        header, *events = (json.loads(line) for line in cast.splitlines())
        self.assertIn(header["version"], (2, 3))
        self.assertIn("200 grüß dich", "".join(text for _, _, text in events))

    def test_follow(self) -> None:
        """
        C{show --follow} goes on with what comes, in a new file too.
        """
        following = self.process(
            [*TOOL, "audit", "show", "--follow", str(self.running.trail)],
            stdout=subprocess.PIPE,
            env={**environment(), "TCPSVC_KEYS": str(self.keys.path)},
        )
        assert following.stdout is not None
        self.expect(following, b"200 gr")
        self.talk("first")
        self.expect(following, b"200 first")
        self.running.trail.rename(self.running.trail.with_name("audit.jsonl.1"))
        self.running.hangUp()
        self.talk("second")
        self.expect(following, b"200 second")

    def talk(self, word: str) -> None:
        """
        Say one thing.
        """
        visit = self.running.admitted()
        self.assertEqual(visit.ask(f"ECHO {word}"), f"200 {word}")
        visit.close()

    def expect(self, process: subprocess.Popen[bytes], text: bytes) -> None:
        """
        Read what a process says until it has said something.
        """
        assert process.stdout is not None
        patience = Timer(PATIENCE, process.kill)
        patience.start()
        try:
            self.assertTrue(
                any(text in line for line in process.stdout), f"{text!r} does not come"
            )
        finally:
            patience.cancel()
