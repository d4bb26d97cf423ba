"""
C{kill -9} in the midst of requests.
"""

from __future__ import annotations

from itertools import cycle
from random import Random
from threading import Timer

from tests.endtoend.auditing import AuditTests

ROUNDS = 100
"""
How often the service is killed.
"""

LONGEST_LIFE = 0.03
"""
How long a session lives at most before the service is killed, in seconds.
"""


class KillTests(AuditTests):
    """
    A killed process loses no record of anything that a client saw or caused.

    After each kill, every reply that the client saw is in the trail, and
    everything that was done for it has its request there. The service starts
    again with the same trail, closes the session that was cut off, and the
    chain holds through all of it.
    """

    def assertHolds(self, seed: int, *policies: str) -> None:
        """
        Kill it a hundred times.

        @param policies: When records are forced to the disk, in turn.
        """
        random = Random(seed)
        sync = cycle(policies)
        service = self.witnessed("--audit-sync", next(sync))
        for _ in range(ROUNDS):
            visit = service.visit()
            self.assertTrue(visit.first.startswith("220 "), visit.first)
            killer = Timer(random.uniform(0, LONGEST_LIFE), service.process.kill)
            killer.start()
            self.converse(visit)
            killer.join()
            service.kill()
            service.start("--audit-sync", next(sync))
        # Only now is it sure that it runs, and not on its way there.
        service.admitted().close()
        service.stop()
        answered = sum(len(talk.replies) for talk in self.talks)
        self.assertGreater(sum(talk.asked for talk in self.talks), answered)
        # On a busy machine many are killed before their first reply.
        self.assertGreater(answered, 2 * ROUNDS)
        self.assertGreater(len(self.effects.read_text().splitlines()), ROUNDS // 2)
        records = self.verifiedRecords(service)
        self.assertRecorded(records)
        self.assertSessionsEnd(records)
        ends = [one["reason"] for one in records if one["event"] == "session.closed"]
        self.assertEqual(ends[:-1], ["crash"] * ROUNDS)
        self.assertEqual(
            [one["event"] for one in records[-2:]], ["service.stopped", "checkpoint"]
        )
        self.assertNotIn("Traceback", service.log)
        self.assertVerifies(service)

    def test_kill(self) -> None:
        """
        Where records are written, and forced to the disk later or never.
        """
        self.assertHolds(9, "everysec", "no")

    def test_always(self) -> None:
        """
        Where records are on the disk before anything depends on them.
        """
        self.assertHolds(10, "always")
