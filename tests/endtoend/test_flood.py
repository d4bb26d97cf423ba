"""
Connections that come in numbers and mean nothing.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial

from tests.endtoend.service import (
    PATIENCE,
    EndToEndTests,
    RunningService,
    Visit,
    waitUntil,
)

EACH = 20
"""
How many silent connections there are, and how many that stall.
"""

HANDSHAKE_TIMEOUT = 3.0
"""
Seconds for the handshake, in these tests.
"""

MARGIN = 1.5
"""
How much later than promised a thing may happen on a busy machine, in seconds.
"""

BURST = 2000
"""
How many connections come in a burst.
"""

WAVE = 40
"""
How many of them come at once, where each is to be accepted: fewer than the
system lets wait for that.
"""

MAX_PENDING = 16
"""
How many connections may be in handshake.
"""

ELSEWHERE = "127.0.0.2"
"""
Where a burst comes from.
"""

SETTLING = 1.0
"""
Seconds within which a connection is closed whose session has ended.
"""

NOT_KEPT_OUT = 5.0
"""
Seconds within which two clients are served in the midst of a burst. The system
may drop a first SYN then, and sends it again a second later.
"""


def clientHello() -> bytes:
    """
    @return: The first message of a handshake that will not go on.
    """
    arrived, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(arrived, leaving, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return leaving.read()


def isGone(connection: socket.socket) -> bool:
    """
    Whether the other end has closed or reset a non-blocking connection; what it
    still said before that is read and dropped.
    """
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class StalledTests(EndToEndTests):
    """
    Twenty connections that say nothing, and twenty that stall in the handshake.
    """

    def stalled(self, service: RunningService) -> list[socket.socket]:
        """
        Forty of them: half are silent; of the others, half have sent all of
        the first message, and half only its beginning.
        """
        hello = clientHello()
        connections = []
        for number in range(2 * EACH):
            connection = socket.create_connection(("127.0.0.1", service.port), PATIENCE)
            self.addCleanup(connection.close)
            connection.setblocking(False)
            connections.append(connection)
            if number % 4 == 1:
                connection.sendall(hello)
            elif number % 4 == 3:
                connection.sendall(hello[:50])
        return connections

    def test_roomForAll(self) -> None:
        """
        Where they all may be pending, an authenticated client is admitted
        meanwhile, and each of them is gone at the handshake timeout, not before;
        log and trail say so.
        """
        service = self.service(
            *("--handshake-timeout", str(HANDSHAKE_TIMEOUT)),
            *("--max-pending", str(4 * EACH)),
        )
        before = service.descriptors()
        begun = time.monotonic()
        connections = self.stalled(service)
        visit = self.visit(service)
        self.assertTrue(visit.first.startswith("220 "), visit.first)
        admittedAfter = time.monotonic() - begun
        self.assertLess(admittedAfter, HANDSHAKE_TIMEOUT)
        self.assertFalse(any(map(isGone, connections)), "they are pending yet")
        waitUntil(
            lambda: all(map(isGone, connections)),
            "the stalled are gone",
            HANDSHAKE_TIMEOUT + MARGIN,
        )
        goneAfter = time.monotonic() - begun
        self.assertGreaterEqual(goneAfter, HANDSHAKE_TIMEOUT)
        self.assertLess(goneAfter, HANDSHAKE_TIMEOUT + MARGIN)
        self.assertEqual(visit.ask("ECHO still here"), "200 still here")
        waitUntil(
            lambda: service.descriptors() == before + 1, "their descriptors are closed"
        )
        self.assertIn(
            f"no handshake within {HANDSHAKE_TIMEOUT:g} s",
            service.records("handshake.failed")[-1]["reason"],
        )
        self.assertIn(f"no handshake within {HANDSHAKE_TIMEOUT:g} s", service.log)
        self.assertNotIn("Traceback", service.log)

    def test_displaced(self) -> None:
        """
        Where fewer may be pending, the oldest of them are displaced by the others,
        and an authenticated client from the same address is admitted all the same.
        """
        service = self.service(
            *("--handshake-timeout", str(HANDSHAKE_TIMEOUT)),
            *("--max-pending", str(MAX_PENDING)),
        )
        begun = time.monotonic()
        connections = self.stalled(service)
        visit = self.visit(service)
        self.assertTrue(visit.first.startswith("220 "), visit.first)
        waitUntil(
            lambda: sum(map(isGone, connections)) >= 2 * EACH - MAX_PENDING,
            "some are gone",
        )
        self.assertLess(time.monotonic() - begun, HANDSHAKE_TIMEOUT)
        waitUntil(lambda: all(map(isGone, connections)), "all are gone")
        self.assertLess(time.monotonic() - begun, HANDSHAKE_TIMEOUT + MARGIN)
        self.assertEqual(visit.ask("ECHO still here"), "200 still here")
        self.assertIn("displaced by a newer connection", service.log)
        self.assertNotIn("Traceback", service.log)


class BurstTests(EndToEndTests):
    """
    Two thousand connections at once.
    """

    def setUp(self) -> None:
        """
        Allow this process as many descriptors as that takes.
        """
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertGreater(hard, BURST + 100, "descriptors for the burst")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, BURST + 100), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def knock(self, service: RunningService, number: int) -> list[socket.socket]:
        """
        Open so many connections from one address, which is not that of the
        clients: theirs would displace theirs too. No one is waited for.
        """
        connections = []
        for _ in range(number):
            connection = socket.socket()
            self.addCleanup(connection.close)
            connection.setblocking(False)
            connection.bind((ELSEWHERE, 0))
            connection.connect_ex(("127.0.0.1", service.port))
            connections.append(connection)
        return connections

    def displaced(self, wave: list[socket.socket]) -> bool:
        """
        Whether all of a wave were accepted: none but the last can be pending.
        """
        return sum(map(isGone, wave)) >= len(wave) - MAX_PENDING

    def assertUnmoved(
        self,
        service: RunningService,
        flood: Callable[[Callable[[], None]], list[socket.socket]],
    ) -> None:
        """
        A flood ends no session and keeps no client out; and when it is over,
        the service has as many descriptors as before.

        @param flood: Makes the flood, calls its argument in the midst of it, and
            returns its connections.
        """
        # What is opened once and for ever, such as /dev/urandom, is open then.
        service.admitted().close()
        service.waitUntilFree()
        # The end of a session is recorded before its connection is closed.
        time.sleep(SETTLING)
        before = service.descriptors()
        holder = self.visit(service)
        talk = Talk(holder)
        talk.start()
        self.addCleanup(talk.join)
        self.addCleanup(talk.over.set)
        visits: list[Visit] = []

        def others() -> None:
            begun = time.monotonic()
            refused = self.visit(service, "bob")
            self.assertRegex(refused.first, r"\A421 BUSY held by alice ")
            asking = self.visit(service, "bob", "tcpsvc-control/1")
            self.assertRegex(asking.first, r"\A220 .* control; you are bob\Z")
            self.assertLess(time.monotonic() - begun, NOT_KEPT_OUT)
            visits.extend((refused, asking))

        connections = flood(others)
        talk.over.set()
        talk.join(PATIENCE)
        self.assertFalse(talk.is_alive())
        self.assertEqual(talk.wrong, [])
        self.assertGreater(talk.answered, 10)
        self.assertLess(talk.longest, 1.0, "the longest wait for a reply")
        holder.close()
        after = service.admitted("bob")
        self.assertEqual(after.ask("ECHO next"), "200 next")
        for visit in (*visits, after):
            visit.close()
        for connection in connections:
            connection.close()
        try:
            waitUntil(
                lambda: service.descriptors() == before,
                f"the service has {before} descriptors again",
            )
        except AssertionError as error:
            there = service.openFiles()
            raise AssertionError(f"{error}: {there}\n{service.log}") from None
        reasons = {one["reason"] for one in service.records("session.closed")}
        self.assertLessEqual(reasons, {"client-closed", "connection-lost"})
        self.assertNotIn("Traceback", service.log)

    def test_allAtOnce(self) -> None:
        """
        All at once, more than the system lets wait to be accepted.
        """
        service = self.service("--max-pending", str(MAX_PENDING))

        def flood(others: Callable[[], None]) -> list[socket.socket]:
            connections = self.knock(service, BURST)
            others()
            return connections

        self.assertUnmoved(service, flood)

    def test_allAccepted(self) -> None:
        """
        In waves that follow each other as soon as the service has turned away
        one, so that it accepts each connection of them.
        """
        service = self.service("--max-pending", str(MAX_PENDING))

        def flood(others: Callable[[], None]) -> list[socket.socket]:
            connections: list[socket.socket] = []
            for number in range(BURST // WAVE):
                wave = self.knock(service, WAVE)
                connections += wave
                if number == BURST // WAVE // 2:
                    others()
                waitUntil(
                    partial(self.displaced, wave), "the oldest of a wave are displaced"
                )
            self.assertGreaterEqual(sum(map(isGone, connections)), BURST - MAX_PENDING)
            return connections

        self.assertUnmoved(service, flood)


class Talk(threading.Thread):
    """
    A holder that asks and asks.

    @ivar over: Set when it shall stop.
    @ivar answered: How many replies were right.
    @ivar wrong: What came in place of a right one.
    @ivar longest: The longest wait for a reply, in seconds.
    """

    def __init__(self, visit: Visit) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.answered = 0
        self.wrong: list[str] = []
        self.longest = 0.0
        self._visit = visit

    def run(self) -> None:
        """
        Ask until it is over, or something is wrong.
        """
        while not self.over.is_set() and not self.wrong:
            asked = time.monotonic()
            try:
                reply = self._visit.ask(f"ECHO {self.answered}")
            except OSError as error:
                reply = str(error)
            self.longest = max(self.longest, time.monotonic() - asked)
            if reply == f"200 {self.answered}":
                self.answered += 1
            else:
                self.wrong.append(reply)
