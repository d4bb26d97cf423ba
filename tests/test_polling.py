"""
Tests for L{tcpsvc.polling}.
"""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.events import SESSION_CLOSED, SESSION_OPENED, SessionJournal
from tcpsvc.identity import Client, Identity
from tcpsvc.polling import MAX_POLLERS, MAX_RECORDED, WINDOW, Polling
from tests.support import clientNamed, clockAtEpoch, journalInMemory

CLOSED: dict[str, object] = {
    "reason": "quit",
    "requests": 1,
    "bytes_in": 1,
    "bytes_out": 1,
    "duration_s": 0.1,
}


class PollingTests(SynchronousTestCase):
    """
    Tests for L{Polling} and the journals that it makes.
    """

    def setUp(self) -> None:
        """
        Nobody has asked yet.
        """
        self.clock = clockAtEpoch()
        self.journal, self.trail, self.log = journalInMemory(self.clock)
        self.polling = Polling(self.journal)
        self.count = 0

    def client(self, name: str = "alice") -> Client:
        """
        A client with a session of its own.
        """
        self.count += 1
        return clientNamed(name, f"session-{self.count}")

    def open(self, client: Client) -> SessionJournal:
        """
        Open a control session.
        """
        journal = self.polling.ofSession(client)
        record: dict[str, object] = {
            "address": client.address,
            "identity": client.identity.asRecord(),
            "tls": None,
            "control": True,
        }
        journal.note(SESSION_OPENED, record)
        journal.commit()
        journal.say(SESSION_OPENED, record, kind="control session")
        return journal

    def ask(self, journal: SessionJournal, n: int = 1, pure: bool = False) -> None:
        """
        Ask something.
        """
        since = journal.seconds()
        if pure:
            journal.exchanges(n, since, [("WHO", "200 nobody", since)])
        else:
            journal.request(n, '"request":"STATUS"', since)
            journal.commit()
            journal.reply(n, '"reply":"211 x"', 211, since)
        journal.commit()

    def poll(self, client: Client) -> None:
        """
        A session with one request.
        """
        journal = self.open(client)
        self.ask(journal)
        journal.tell(SESSION_CLOSED, CLOSED, account="1 request")
        journal.commit()

    def test_first(self) -> None:
        """
        A single session is recorded and logged like any other, and nothing follows.
        """
        self.poll(self.client())
        self.assertEqual(
            ["session.opened", "request", "reply", "session.closed"],
            self.trail.events(),
        )
        self.assertEqual(2, len(self.log.texts()))
        self.clock.advance(WINDOW)
        self.assertEqual(4, len(self.trail.kept))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_further(self) -> None:
        """
        Further sessions within a minute are counted, and told in one record.
        """
        for _ in range(60):
            self.poll(self.client())
        self.assertEqual(4, len(self.trail.kept))
        self.clock.advance(WINDOW)
        self.assertEqual("control.polled", self.trail.events()[-1])
        (polled,) = self.trail.of("control.polled")
        self.assertEqual((59, 59), (polled["sessions"], polled["requests"]))
        self.assertEqual("192.0.2.1:49152", polled["address"])
        self.assertEqual(
            "alice from 192.0.2.1:49152 keeps asking: 59 further control sessions, "
            "59 further requests",
            self.log.texts()[-1],
        )
        self.assertEqual(60, self.journal.counts["request"])

    def test_goesOn(self) -> None:
        """
        As long as an identity keeps asking there is one record a minute; afterwards
        its next session is recorded again.
        """
        for _ in range(10 * int(WINDOW)):
            self.poll(self.client())
            self.clock.advance(1)
        self.assertEqual(4 + 10, len(self.trail.kept))
        self.assertEqual(
            599, sum(int(str(r["sessions"])) for r in self.trail.of("control.polled"))
        )
        self.clock.advance(2 * WINDOW)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.poll(self.client())
        self.assertEqual(2, len(self.trail.of("session.opened")))

    def test_requests(self) -> None:
        """
        In one session so many requests are recorded, with their replies, and further
        ones are counted; its end is recorded.
        """
        for pure in (False, True):
            with self.subTest(pure=pure):
                journal = self.open(self.client(f"client {pure}"))
                before = len(self.trail.of("request"))
                for n in range(1, 101):
                    self.ask(journal, n, pure)
                self.assertEqual(before + MAX_RECORDED, len(self.trail.of("request")))
                self.assertEqual(before + MAX_RECORDED, len(self.trail.of("reply")))
                journal.tell(SESSION_CLOSED, CLOSED, account="")
                self.clock.advance(WINDOW)
                polled = self.trail.of("control.polled")[-1]
                self.assertEqual(100 - MAX_RECORDED, polled["requests"])
                self.assertEqual(0, polled["sessions"])

    def test_apart(self) -> None:
        """
        Identities are counted apart, but only so many.
        """
        for number in range(MAX_POLLERS):
            self.poll(self.client(f"client {number}"))
        self.assertEqual(MAX_POLLERS, len(self.trail.of("session.opened")))
        for number in range(1000):
            client = self.client()
            self.poll(evolve(client, identity=Identity(f"other {number}")))
        self.assertEqual(MAX_POLLERS + 1, len(self.trail.of("session.opened")))
        self.assertLessEqual(len(self.clock.getDelayedCalls()), MAX_POLLERS + 1)
        self.clock.advance(WINDOW)
        (polled,) = self.trail.of("control.polled")
        self.assertEqual(999, polled["sessions"])

    def test_stop(self) -> None:
        """
        When the service stops, what was counted is told, and no timer stays.
        """
        for _ in range(3):
            self.poll(self.client())
        self.polling.tellAll()
        self.assertEqual(2, self.trail.of("control.polled")[0]["sessions"])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cannotBeWritten(self) -> None:
        """
        If the record cannot be written, the log says so.
        """
        for _ in range(3):
            self.poll(self.client())
        self.trail.broken = "disk full"
        self.clock.advance(WINDOW)
        self.assertEqual("disk full", self.log.texts()[-1])
