"""
C{kill -9} in the midst of requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path
from random import Random
from threading import Timer

from tests.endtoend.service import EndToEndTests, Record, Visit
from tests.endtoend.witness import VARIABLE

ROUNDS = 100
"""
How often the service is killed.
"""

LONGEST_LIFE = 0.03
"""
How long a session lives at most before the service is killed, in seconds.
"""

WINDOW = 32
"""
How many requests are under way at any time.
"""

VERBS = ("ECHO", "ECHO", "ECHO", "DO", "ECHO", "LATER", "DO")


class KillTests(EndToEndTests):
    """
    A killed process loses no record of anything that a client saw or caused.
    """

    def test_kill(self) -> None:
        """
        After each kill, every reply that the client saw is in the trail, and
        everything that was done for it has its request there. The service
        starts again with the same trail, and the chain holds through all of it.
        """
        effects = self.directory / "effects"
        effects.touch()
        service = self.service(
            *("--commands", "witness:do", "--commands", "witness:later"),
            paths=[Path(__file__).parent],
            variables={VARIABLE: str(effects)},
        )
        random = Random(9)
        policies = cycle(("everysec", "no"))
        seen: list[list[str]] = []
        asked = 0
        for number in range(ROUNDS):
            visit = service.visit()
            self.assertTrue(visit.first.startswith("220 "), visit.first)
            killer = Timer(random.uniform(0, LONGEST_LIFE), service.process.kill)
            killer.start()
            requests, replies = converse(visit, number)
            visit.close()
            killer.join()
            service.kill()
            seen.append(replies)
            asked += requests
            service.start("--audit-sync", next(policies))
        # Only now is it sure that it runs, and not on its way there.
        service.admitted().close()
        service.stop()
        self.assertGreater(asked, sum(map(len, seen)), "some were left unanswered")
        self.assertGreater(sum(map(len, seen)), 10 * ROUNDS)
        records = self.verifiedRecords(service)
        self.assertEqual(
            len([one for one in records if one["event"] == "service.started"]),
            ROUNDS + 1,
        )
        self.assertEqual(records[-1]["event"], "service.stopped")
        self.assertSeen(records, seen)
        self.assertCaused(records, effects.read_text().splitlines())
        self.assertNotIn("Traceback", service.log)

    def assertSeen(self, records: list[Record], seen: list[list[str]]) -> None:
        """
        Every reply that a client saw is in the trail, with its request.

        @param seen: The replies of each session, as they came.
        """
        sessions = [
            one["session"] for one in records if one["event"] == "session.opened"
        ][:ROUNDS]
        self.assertEqual(len(set(sessions)), ROUNDS)
        requests: dict[str, list[str]] = {session: [] for session in sessions}
        replies: dict[str, list[str]] = {session: [] for session in sessions}
        for record in records:
            if record["event"] == "request":
                kept = requests[record["session"]]
                kept.append(record["request"])
                self.assertEqual(record["n"], len(kept))
            elif record["event"] == "reply":
                kept = replies[record["session"]]
                kept.append(record["reply"])
                self.assertEqual(record["n"], len(kept))
        for number, (session, got) in enumerate(zip(sessions, seen, strict=True)):
            self.assertEqual(replies[session][: len(got)], got, f"round {number}")
            due = [expected for _, expected in scripted(number, len(got))]
            self.assertEqual(got, due)
            lines = [line for line, _ in scripted(number, len(requests[session]))]
            self.assertEqual(requests[session], lines)

    def assertCaused(self, records: list[Record], effects: list[str]) -> None:
        """
        Everything that was done was asked for, in the trail too, and once only.
        """
        asked = {
            one["request"].partition(" ")[2]
            for one in records
            if one["event"] == "request" and not one["request"].startswith("ECHO ")
        }
        self.assertGreater(len(effects), ROUNDS)
        self.assertEqual(len(effects), len(set(effects)))
        self.assertLessEqual(set(effects), asked)


def script(number: int) -> Iterator[tuple[str, str]]:
    """
    The requests of one round, without an end, each with its reply.
    """
    for n, verb in zip(count(), cycle(VERBS), strict=False):
        word = f"{number}-{n}"
        reply = f"200 {word}" if verb == "ECHO" else f"200 did {word}"
        yield f"{verb} {word}", reply


def scripted(number: int, length: int) -> list[tuple[str, str]]:
    """
    The first requests of one round.
    """
    return [pair for pair, _ in zip(script(number), range(length), strict=False)]


def converse(visit: Visit, number: int) -> tuple[int, list[str]]:
    """
    Ask and read, with requests always under way, until the connection ends.

    @return: How many requests there were, and the replies that came whole.
    """
    requests = script(number)
    asked = 0
    replies: list[str] = []
    got = b""
    try:
        while True:
            if asked - len(replies) <= WINDOW // 2:
                batch = [next(requests)[0] for _ in range(WINDOW // 2)]
                asked += len(batch)
                visit.send("".join(f"{line}\n" for line in batch).encode())
            piece = visit.socket.recv(65536)
            if not piece:
                break
            *whole, got = (got + piece).split(b"\r\n")
            replies += [line.decode() for line in whole]
    except OSError:
        pass
    return asked, replies
