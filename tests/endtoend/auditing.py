"""
What the tests of the audit trail have in common: conversations of which it is
known word for word what was asked and answered, so that they can be held
against the trail.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any
from unittest import SkipTest

from attrs import define, field

from tests.endtoend.service import (
    PATIENCE,
    EndToEndTests,
    Record,
    RunningService,
    Visit,
    environment,
)
from tests.endtoend.witness import VARIABLE

WINDOW = 32
"""
How many requests are under way at any time.
"""

VERBS = ("ECHO", "ECHO", "ECHO", "DO", "ECHO", "LATER", "DO")

RECEIPT = re.compile(r"221 bye; record (\d+) ([0-9a-f]{64})")

_SCRIPTED = re.compile(r"[A-Z]+ \d+-\d+")

UNAVAILABLE = "421 AUDIT-UNAVAILABLE "

TOOL = (sys.executable, "-c", "from tcpsvc.cli import main; main()")
"""
The C{tcpsvc} command under test.
"""


@define
class Conversation:
    """
    What was said in one session, as its client knows it.

    @ivar number: What its script begins with.
    @ivar window: How many requests are under way at any time.
    @ivar verbs: The verbs of its requests, again and again.
    @ivar asked: How many requests were sent.
    @ivar replies: The replies that came whole, in order.
    @ivar farewell: The line with which the service ended it; empty if it did
        not.
    """

    number: int
    window: int = WINDOW
    verbs: Sequence[str] = VERBS
    asked: int = 0
    replies: list[str] = field(factory=list)
    farewell: str = ""

    def script(self) -> Iterator[tuple[str, str]]:
        """
        Its requests, without an end, each with its reply.
        """
        for n, verb in zip(count(), cycle(self.verbs), strict=False):
            word = f"{self.number}-{n}"
            reply = f"200 {word}" if verb == "ECHO" else f"200 did {word}"
            yield f"{verb} {word}", reply

    def hold(self, visit: Visit, enough: Callable[[], bool] = lambda: False) -> None:
        """
        Ask and read, with requests always under way, until the connection ends.

        @param enough: Whether to ask no more and to wait for the last replies.
        """
        requests = self.script()
        half = max(1, self.window // 2)
        got = b""
        try:
            while not self.farewell:
                over = enough()
                if over and self.asked == len(self.replies):
                    break
                if not over and self.asked - len(self.replies) <= self.window - half:
                    batch = [next(requests)[0] for _ in range(half)]
                    self.asked += len(batch)
                    visit.send("".join(f"{line}\n" for line in batch).encode())
                piece = visit.socket.recv(65536)
                if not piece:
                    break
                *whole, got = (got + piece).split(b"\r\n")
                for line in whole:
                    if line.startswith(b"421 "):
                        self.farewell = line.decode()
                    else:
                        self.replies.append(line.decode())
        except OSError:
            pass


class Load(threading.Thread):
    """
    A client that holds the service and asks and asks, until told to stop.

    @ivar talk: What was said.
    """

    def __init__(self, visit: Visit, talk: Conversation) -> None:
        super().__init__(daemon=True)
        self.talk = talk
        self._visit = visit
        self._over = threading.Event()

    def run(self) -> None:
        """
        Talk until it is over, or the connection is.
        """
        self.talk.hold(self._visit, self._over.is_set)

    def end(self) -> None:
        """
        Let it come to its end, and leave.
        """
        self._over.set()
        self.join(PATIENCE)
        self._visit.close()


class AuditTests(EndToEndTests):
    """
    Services whose commands leave traces, and whose trails are examined.
    """

    def setUp(self) -> None:
        """
        Make the file that shows what was done.
        """
        super().setUp()
        self.effects = self.directory / "effects"
        self.effects.touch()
        self.talks: list[Conversation] = []

    def witnessed(
        self, *options: str, variables: dict[str, str] | None = None, **settings: Any
    ) -> RunningService:
        """
        A service with the commands of L{tests.endtoend.witness}.
        """
        return self.service(
            *("--commands", "witness:do", "--commands", "witness:later"),
            *options,
            paths=[Path(__file__).parent],
            variables={VARIABLE: str(self.effects), **(variables or {})},
            **settings,
        )

    def converse(
        self, visit: Visit, window: int = WINDOW, verbs: Sequence[str] = VERBS
    ) -> Conversation:
        """
        Talk until the connection ends, or for long enough, and remember what was
        said.
        """
        talk = Conversation(len(self.talks), window, verbs)
        self.talks.append(talk)
        deadline = time.monotonic() + PATIENCE
        talk.hold(visit, lambda: time.monotonic() > deadline)
        visit.close()
        return talk

    def load(self, visit: Visit, verbs: Sequence[str] = VERBS) -> Load:
        """
        Begin a conversation that goes on beside the test, and remember it.
        """
        load = Load(visit, Conversation(len(self.talks), verbs=verbs))
        self.talks.append(load.talk)
        self.addCleanup(load.end)
        load.start()
        return load

    def assertRecorded(self, records: list[Record], cut: bool = True) -> None:
        """
        Every reply that a client saw is in the trail, with its request; every
        request in it was asked; everything that was done was asked for, in the
        trail too, and once only; and what was answered was done.

        @param cut: Whether connections were cut off. If not, the clients saw
            all replies that the trail has.
        """
        requests, replies = _bySession(records)
        remaining = {talk.number: talk for talk in self.talks}
        for session, asked in requests.items():
            talk = remaining.pop(int(asked[0].partition(" ")[2].partition("-")[0]))
            where = f"conversation {talk.number}, session {session}"
            due = list(islice(talk.script(), len(asked)))
            self.assertEqual(asked, [request for request, _ in due], where)
            self.assertLessEqual(len(asked), talk.asked)
            answered = replies.get(session, [])
            self.assertEqual(answered, [reply for _, reply in due][: len(answered)])
            if cut:
                answered = answered[: len(talk.replies)]
            self.assertEqual(answered, talk.replies, where)
        for talk in remaining.values():
            self.assertEqual(talk.replies, [], f"conversation {talk.number}")
        self.assertDone(requests, replies)

    def assertDone(
        self, requests: dict[str, list[str]], replies: dict[str, list[str]]
    ) -> None:
        """
        What was done lies between what was asked for and what was answered.
        """
        done = self.effects.read_text().splitlines()
        self.assertEqual(len(done), len(set(done)))
        asked = {
            one.partition(" ")[2]
            for session in requests.values()
            for one in session
            if not one.startswith("ECHO ")
        }
        self.assertLessEqual(set(done), asked)
        prefix = "200 did "
        answered = {
            one.removeprefix(prefix)
            for session in replies.values()
            for one in session
            if one.startswith(prefix)
        }
        self.assertLessEqual(answered, set(done))

    def assertSessionsEnd(self, records: list[Record]) -> None:
        """
        Each session in the trail begins once and ends once, with the number of
        its requests, and has no record behind its end.
        """
        open_: dict[str, int] = {}
        for record in records:
            session = record.get("session", "")
            if record["event"] == "session.opened":
                self.assertNotIn(session, open_)
                open_[session] = 0
            elif record["event"] == "request":
                open_[session] += 1
                self.assertEqual(record["n"], open_[session])
            elif record["event"] == "session.closed":
                asked = open_.pop(session)
                if record["reason"] == "crash":
                    self.assertEqual(record["requests"], asked)
            elif record["event"] == "reply":
                self.assertIn(session, open_)
        self.assertEqual(open_, {})

    # The tools.

    def tcpsvc(
        self, *arguments: str, patience: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """
        Run C{tcpsvc} to its end.
        """
        return subprocess.run(
            [*TOOL, *arguments],
            env={**environment(), "TCPSVC_KEYS": str(self.keys.path)},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )

    def verify(
        self, service: RunningService, *options: str
    ) -> subprocess.CompletedProcess[str]:
        """
        Run C{tcpsvc audit verify} on all files of a service's trail.
        """
        return self.tcpsvc("audit", "verify", *options, *map(str, service.trailFiles()))

    def assertVerifies(self, service: RunningService, *options: str) -> None:
        """
        C{tcpsvc audit verify} finds nothing wrong with a service's trail.
        """
        verified = self.verify(service, *options)
        self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)


def _bySession(
    records: Sequence[Record],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """
    The requests and the replies of each session that follows a script, in order.
    """
    requests: dict[str, list[str]] = {}
    replies: dict[str, list[str]] = {}
    for record in records:
        session = record.get("session", "")
        if record["event"] == "request":
            if session in requests or _SCRIPTED.fullmatch(record["request"]):
                requests.setdefault(session, []).append(record["request"])
        elif record["event"] == "reply" and session in requests:
            replies.setdefault(session, []).append(record["reply"])
    return requests, replies


def cannot(why: str) -> Exception:
    """
    What to raise when this machine lacks something that a test needs: in CI,
    where everything has to be there, a failure.
    """
    if os.environ.get("CI"):
        return AssertionError(f"CI has to allow it: {why}")
    return SkipTest(why)
