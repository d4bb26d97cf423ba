"""
The main job on real input: thousands of requests from C{tcpsvc send} and from
openssl, each reply held against the contract and against the trail.
"""

from __future__ import annotations

import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tests.endtoend.mainjob import Exchange, MainJob
from tests.endtoend.service import EndToEndTests, Record, RunningService, environment
from tests.support import requireProgram

NUMBER = 12_000
"""
How many lines there are: more than 10 000 requests beside the empty lines.
"""

SEED = 4433

LONG = 60.0
"""
Seconds that all of them may take.
"""

MAX_REQUEST = 4096

RECEIPT = re.compile(rb"221 bye; record \d+ [0-9a-f]{64}\r\n")

_REPLY = re.compile(rb"(?:\d{3}-[^\r\n]*\r\n)*\d{3} [^\r\n]*\r\n")


class MainJobTests(EndToEndTests):
    """
    One recorded file, and two clients that play it.
    """

    def recorded(self, job: MainJob, exchanges: Sequence[Exchange], end: bytes) -> Path:
        """
        The file that has all the requests, with all kinds of line endings.

        @param end: What stands at its end.
        """
        path = self.directory / "requests"
        path.write_bytes(b"".join(one.line + job.ending() for one in exchanges) + end)
        return path

    def play(
        self, command: Sequence[str], requests: Path
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run a client with the file as its standard input.
        """
        with requests.open("rb") as source:
            return subprocess.run(
                command,
                stdin=source,
                capture_output=True,
                timeout=LONG,
                check=False,
                env=environment(),
            )

    def assertKept(self, service: RunningService, exchanges: list[Exchange]) -> None:
        """
        The trail has each request and each reply, in order, and they are the
        right ones.
        """
        service.waitUntilFree()
        records = self.verifiedRecords(service)
        (opened,) = service.records("session.opened")
        talk = [one for one in records if one["event"] in ("request", "reply")]
        self.assertEqual(len(talk), 2 * len(exchanges))
        requests = [one for one in talk if one["event"] == "request"]
        replies = [one for one in talk if one["event"] == "reply"]
        for number, (exchange, request, reply) in enumerate(
            zip(exchanges, requests, replies, strict=True), start=1
        ):
            self.assertLess(request["seq"], reply["seq"])
            self.assertExchange(exchange, number, request, reply)
            self.assertEqual(request["session"], opened["session"])
            self.assertEqual(reply["session"], opened["session"])
        self.assertReceipt(service, records, talk[-1]["reply"])
        (closed,) = service.records("session.closed")
        self.assertEqual(closed["requests"], len(exchanges))
        self.assertEqual(closed["reason"], "quit")
        self.assertNotIn("Traceback", service.log)

    def assertReceipt(
        self, service: RunningService, records: list[Record], reply: str
    ) -> None:
        """
        The last reply names the request that it answers, which is the last record
        before it, and the hash of its line.
        """
        seq, head = reply.removeprefix("221 bye; record ").split()
        named = records[int(seq) - 1]
        self.assertEqual((named["event"], named["request"]), ("request", "QUIT"))
        line = service.trail.read_bytes().split(b"\n")[int(seq) - 1]
        self.assertEqual(sha256(line).hexdigest(), head)

    def assertExchange(
        self, exchange: Exchange, number: int, request: Record, reply: Record
    ) -> None:
        """
        Two records are those of one exchange.
        """
        self.assertEqual((request["event"], request["n"]), ("request", number))
        self.assertEqual((reply["event"], reply["n"]), ("reply", number))
        if "request_b64" in request:
            kept = b64decode(request["request_b64"], validate=True)
            self.assertRaises(UnicodeDecodeError, kept.decode)
        else:
            kept = request["request"].encode()
        self.assertEqual(kept, exchange.line[:MAX_REQUEST])
        if len(exchange.line) > MAX_REQUEST:
            self.assertEqual(request["octets"], len(exchange.line))
        sent = reply["reply"].encode() + b"\r\n"
        self.assertTrue(exchange.isAnsweredBy(sent), (exchange, sent))
        self.assertEqual(reply["code"], int(sent[:3]))
        status = dict(re.findall(r"211[- ](\w+): (.*)", reply["reply"]))
        if status:
            self.assertEqual(int(status["requests"]), number)

    def assertReplies(self, exchanges: list[Exchange], got: bytes) -> None:
        """
        Replies and nothing else came, each the right one.
        """
        replies = _REPLY.findall(got)
        self.assertEqual(b"".join(replies), got)
        for number, (one, reply) in enumerate(zip(exchanges, replies, strict=False)):
            self.assertTrue(
                one.isAnsweredBy(reply),
                f"{number}: {one.line!r} {one.reply!r} {reply!r}",
            )
        self.assertEqual(len(replies), len(exchanges))

    def test_openssl(self) -> None:
        """
        C{openssl s_client} pipelines all requests, with all kinds of line
        endings, and each of its replies is the promised one, byte for byte.
        """
        requireProgram("openssl")
        service = self.service()
        job = MainJob(SEED)
        exchanges = job.exchanges(NUMBER)
        requests = self.recorded(job, exchanges, b"QUIT\n")
        played = self.play(service.openssl(), requests)
        self.assertEqual(played.returncode, 0, played.stderr)
        greeting, _, rest = played.stdout.partition(b"\r\n")
        self.assertRegex(greeting, rb"\A220 \S+ tcpsvc \S+; you are alice\Z")
        answered = [one for one in exchanges if one.line]
        self.assertGreater(len(answered), 10_000)
        answered.append(Exchange(b"QUIT", RECEIPT))
        self.assertReplies(answered, rest)
        self.assertKept(service, answered)

    def test_send(self) -> None:
        """
        C{tcpsvc send} gets the same replies and prints each, with LF for line
        ends; its exit status says that some of them were errors.
        """
        service = self.service()
        job = MainJob(SEED)
        exchanges = job.exchanges(NUMBER)
        requests = self.recorded(job, exchanges, b"")
        played = self.play(
            [
                *(sys.executable, "-c", "from tcpsvc.cli import main; main()"),
                *("send", "--keys", str(self.keys.path), "--identity", "alice"),
                *(f"127.0.0.1:{service.port}", "-"),
            ],
            requests,
        )
        self.assertEqual((played.returncode, played.stderr), (1, b""))
        answered = [one for one in exchanges if one.line]
        self.assertGreater(len(answered), 10_000)
        self.assertNotIn(b"\r", played.stdout)
        self.assertReplies(answered, played.stdout.replace(b"\n", b"\r\n"))
        # It takes its leave by itself, in a way that it does not print.
        answered.append(Exchange(b"QUIT", RECEIPT))
        self.assertKept(service, answered)
