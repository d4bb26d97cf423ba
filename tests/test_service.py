"""
Tests for L{tcpsvc.service}.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, evolve
from twisted.application.service import IService
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpsvc.audit.trail import Trail
from tcpsvc.commands import command, commandsOf
from tcpsvc.identity import fingerprintOf
from tcpsvc.service import ExclusiveService, Settings, StartError
from tcpsvc.wire import Request
from tests.certificates import authority
from tests.peers import Peer, clientContext, namedPair, serverMaterial
from tests.support import EPOCH, LogLines


@implementer(IListeningPort)
@define(eq=False)
class _Port:
    """
    A listening port in memory.

    @ivar stopping: What its end waits for, if it takes time.
    """

    address: IPv4Address | UNIXAddress
    factory: Factory
    stopped: bool = False
    stopping: Deferred[None] | None = None

    def startListening(self) -> None:
        """Listen."""

    def stopListening(self) -> Deferred[None]:
        """Listen no more."""
        self.stopped = True
        return self.stopping or succeed(None)

    def getHost(self) -> IPv4Address | UNIXAddress:
        """Where it listens."""
        return self.address


class _Reactor(MemoryReactorClock):
    """
    A reactor in memory, some of whose ports are taken.

    @ivar taken: What listening on a port fails with.
    @ivar ports: The ports that were opened, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[int, Exception] = {}
        self.ports: list[_Port] = []
        self.advance(EPOCH)

    def listenTCP(
        self, port: int, factory: Factory, backlog: int = 50, interface: str = ""
    ) -> _Port:
        if port in self.taken:
            raise self.taken[port]
        address = IPv4Address("TCP", interface or "0.0.0.0", port)
        self.ports.append(_Port(address, factory))
        return self.ports[-1]

    def listenUNIX(
        self, address: str, factory: Factory, *arguments: object, **options: object
    ) -> _Port:
        self.ports.append(_Port(UNIXAddress(address.encode()), factory))
        return self.ports[-1]


def _atOnce(work: Callable[[], None]) -> Deferred[None]:
    """
    Run a blocking call here and now.
    """
    work()
    return succeed(None)


class _Fruit:
    """
    A command of somebody's.
    """

    @command("FRUIT")
    def fruit(self, request: Request) -> str:
        """names one"""
        return "plum"


class ServiceTestCase(SynchronousTestCase):
    """
    A service in memory, save for its trail.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.reactor = _Reactor()
        self.lines = LogLines()
        self.path = Path(self.mktemp())
        self.patch(sys, "excepthook", sys.excepthook)
        self.service = self.make()

    def make(self, **changes: Any) -> ExclusiveService:
        """
        Make a service.

        @param changes: What is different in its settings.
        """
        settings = Settings(
            listen=("tcp:4433",),
            listenPlaintext=("tcp:4434:interface=127.0.0.1",),
            material=serverMaterial(),
            tlsMinimum="1.3",
            commands=(),
            audit=self.path,
            auditSync="no",
            idleTimeout=900.0,
            maxSession=28800.0,
            handshakeTimeout=10.0,
            maxPending=16,
        )
        return ExclusiveService(
            evolve(settings, **changes), self.reactor, _atOnce, self.lines
        )

    def start(self, service: ExclusiveService | None = None) -> ExclusiveService:
        """
        Start it as C{twistd} does.
        """
        service = service or self.service
        service.privilegedStartService()
        service.startService()
        self.addCleanup(self.end, service)
        return service

    def end(self, service: ExclusiveService) -> None:
        """
        Stop it, if it runs.
        """
        if service.running:
            service.stopService()
            self.reactor.advance(30)

    def visit(
        self, name: str = "alice", port: int = 0, alpn: Sequence[bytes] = ()
    ) -> Peer:
        """
        A client of a TLS listener.
        """
        context = clientContext(namedPair(name), alpn=alpn)
        return Peer(self.reactor.ports[port].factory, context).shakeHands()

    def records(self) -> list[dict[str, Any]]:
        """
        What is in the trail.
        """
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def events(self) -> list[str]:
        """
        The names of the records in the trail.
        """
        return [record["event"] for record in self.records()]

    def assertTrailFree(self) -> None:
        """
        Another service could write the trail.
        """
        Trail(self.path, "no", self.reactor, _atOnce).close()


class StartTests(ServiceTestCase):
    """
    How the service starts.
    """

    def test_interface(self) -> None:
        """
        It is a Twisted service.
        """
        self.assertTrue(verifyObject(IService, self.service))

    def test_nothingBefore(self) -> None:
        """
        Nothing is opened before it is started.
        """
        self.assertFalse(self.path.exists())
        self.assertEqual([], self.reactor.ports)

    def test_privileged(self) -> None:
        """
        Everything is opened while privileges are there, and only once.
        """
        self.service.privilegedStartService()
        self.assertEqual(2, len(self.reactor.ports))
        self.service.startService()
        self.addCleanup(self.end, self.service)
        self.assertEqual(2, len(self.reactor.ports))
        self.assertEqual(["service.started"], self.events())

    def test_unprivileged(self) -> None:
        """
        C{twist} only starts it: that is enough.
        """
        self.service.startService()
        self.addCleanup(self.end, self.service)
        self.assertEqual(2, len(self.reactor.ports))
        self.assertEqual(["service.started"], self.events())

    def test_record(self) -> None:
        """
        The trail's first record has version, listeners, backend, sync and the
        fingerprint of the certificate.
        """
        self.start()
        [record] = self.records()
        self.assertEqual(
            {
                "seq": 1,
                "time": "2027-01-15T08:00:00.000000Z",
                "event": "service.started",
                "version": "0.1.0",
                "listeners": [
                    "0.0.0.0:4433, mutual TLS 1.3 or later",
                    "127.0.0.1:4434, plaintext, anonymous",
                ],
                "backend": "commands",
                "sync": "no",
                "certificate": fingerprintOf(serverMaterial().certificate),
                "prev": "0" * 64,
            },
            record,
        )

    def test_log(self) -> None:
        """
        The log has a line for the service, and one for each listener that says
        where it listens and how.
        """
        self.start(
            self.make(
                listen=("tcp:4433", "unix:/run/tcpsvc"),
                tlsMinimum="1.2",
                listenPlaintext=("unix:/run/plain",),
            )
        )
        self.assertEqual(
            [
                "tcpsvc 0.1.0 serves commands; audit trail synced: no",
                "listening on 0.0.0.0:4433, mutual TLS 1.2 or later",
                "listening on unix:/run/tcpsvc, mutual TLS 1.2 or later",
                "listening on unix:/run/plain, plaintext, anonymous",
                "there is no revocation list: nobody is revoked",
            ],
            self.lines.texts(),
        )

    def test_secure(self) -> None:
        """
        Clients of its TLS listeners are served, by certificate.
        """
        self.start()
        alice = self.visit()
        self.assertIn("you are alice", alice.lines[0])
        self.assertTrue(self.visit("bob").lines[0].startswith("421 BUSY"))

    def test_plaintext(self) -> None:
        """
        Clients of its plaintext listeners are served as nobody in particular;
        all listeners lead to one slot.
        """
        self.start()
        guest = Peer(self.reactor.ports[1].factory)
        guest.pump()
        self.assertIn("you are anonymous", guest.lines[0])
        self.assertTrue(self.visit().lines[0].startswith("421 BUSY held by anonymous"))

    def test_commands(self) -> None:
        """
        The commands of the settings are served beside its own.
        """
        self.start(self.make(commands=tuple(commandsOf(_Fruit()))))
        alice = self.visit()
        alice.send(b"FRUIT\r\nVERSION\r\n")
        self.assertEqual(["200 plum", "200 tcpsvc 0.1.0"], alice.lines[1:])

    def test_settings(self) -> None:
        """
        Each of the limits is what the settings say.
        """
        self.start(
            self.make(
                idleTimeout=30.0,
                maxSession=70.0,
                handshakeTimeout=3.0,
                maxPending=1,
            )
        )
        silent = Peer(self.reactor.ports[0].factory, clientContext())
        alice = self.visit()
        silent.pump()
        self.assertEqual("reset", silent.ending)
        silent = Peer(self.reactor.ports[0].factory, clientContext())
        self.reactor.advance(3)
        silent.pump()
        self.assertEqual("reset", silent.ending)
        self.assertEqual(
            ["displaced by a newer connection", "no handshake within 3 s"],
            [r["reason"] for r in self.records() if r["event"] == "handshake.failed"],
        )
        self.reactor.advance(27)
        alice.pump()
        self.assertTrue(alice.lines[-1].startswith("421 IDLE-TIMEOUT"))
        alice = self.visit()
        for _ in range(7):
            alice.send(b"NOOP\r\n")
            self.reactor.advance(10)
        alice.pump()
        self.assertTrue(alice.lines[-1].startswith("421 SESSION-LIMIT"))

    def test_pendingTogether(self) -> None:
        """
        All TLS listeners share one limit of pending connections.
        """
        self.start(self.make(listen=("tcp:4433", "tcp:4435"), maxPending=1))
        first = Peer(self.reactor.ports[0].factory, clientContext())
        Peer(self.reactor.ports[1].factory, clientContext())
        first.pump()
        self.assertEqual("reset", first.ending)

    def test_status(self) -> None:
        """
        STATUS tells of this service.
        """
        self.start()
        self.reactor.advance(61)
        alice = self.visit()
        alice.send(b"STATUS\r\n")
        status = dict(line[4:].split(": ", 1) for line in alice.lines[1:])
        expires = serverMaterial().certificate.not_valid_after_utc
        self.assertEqual(
            ("2027-01-15T08:00:00Z", "61", "alice", f"{expires:%Y-%m-%dT%H:%M:%SZ}"),
            (
                status["started"],
                status["uptime_s"],
                status["holder"],
                status["certificate_expires"],
            ),
        )


class CannotStartTests(ServiceTestCase):
    """
    What keeps the service from starting: one line each, and nothing is left
    open.
    """

    def assertCannotStart(self, line: str, **changes: Any) -> None:
        """
        A service cannot start, and says why in this line, to who started it
        and to the log; nothing is left open.
        """
        service = self.make(**changes)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        error = self.assertRaises(StartError, service.privilegedStartService)
        self.assertEqual(line, str(error))
        self.assertEqual(f"cannot start: {line}", self.lines.texts()[-1])
        self.assertIs(LogLevel.error, self.lines.events[-1]["log_level"])
        self.assertEqual([True] * len(self.reactor.ports), self.stopped())
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        self.assertEqual([], self.reactor.getDelayedCalls())

    def stopped(self) -> list[bool]:
        """
        Which of the ports were closed.
        """
        return [port.stopped for port in self.reactor.ports]

    def test_trailInUse(self) -> None:
        """
        A trail that another service writes.
        """
        other = Trail(self.path, "no", self.reactor, _atOnce)
        self.addCleanup(other.close)
        self.assertCannotStart(
            f"{self.path}: another service writes this audit trail; name another "
            "file with --audit"
        )
        self.assertEqual([], self.reactor.ports)

    def test_trailDamaged(self) -> None:
        """
        A trail whose last line is no record.
        """
        self.path.write_bytes(b"rubbish\n")
        self.assertCannotStart(
            f"{self.path}: the last line is no record: it is not JSON"
        )

    def test_trailBroken(self) -> None:
        """
        A trail that cannot be written.
        """

        def full(descriptor: int, octets: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), descriptor, octets)

        self.patch(os, "write", full)
        self.assertCannotStart(
            f"{self.path}: cannot be written: No space left on device"
        )
        self.assertEqual(b"", self.path.read_bytes())

    def test_portInUse(self) -> None:
        """
        A port that is in use: the listeners that were opened before are closed
        again, and the trail too.
        """
        taken = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.reactor.taken[4435] = CannotListenError("", 4435, taken)
        self.assertCannotStart(
            "cannot listen on tcp:4435: Address already in use",
            listen=("tcp:4433", "tcp:4435"),
        )
        self.assertEqual(1, len(self.reactor.ports))
        self.assertTrailFree()
        self.assertEqual([], self.records())

    def test_portImpossible(self) -> None:
        """
        A port that there is not, which nobody notices before it is opened.
        """
        error = OverflowError("bind(): port must be 0-65535.")
        self.reactor.taken[99999] = error
        self.assertCannotStart(
            "cannot listen on tcp:99999: bind(): port must be 0-65535.",
            listen=("tcp:99999",),
        )
        self.assertTrailFree()

    def test_commandTwice(self) -> None:
        """
        Two commands for one verb.
        """
        fruit = tuple(commandsOf(_Fruit()))
        self.assertCannotStart(
            "two commands for the verb FRUIT: "
            "tests.test_service._Fruit.fruit and tests.test_service._Fruit.fruit",
            commands=fruit + fruit,
        )
        self.assertTrailFree()

    def test_endpointLate(self) -> None:
        """
        An endpoint that cannot say at once whether it listens is refused.
        """

        class _Late:
            def listen(self, factory: object) -> Deferred[IListeningPort]:
                return Deferred()

        self.patch(
            sys.modules["tcpsvc.service"],
            "serverFromString",
            lambda reactor, description: _Late(),
        )
        error = self.assertRaises(StartError, self.service.privilegedStartService)
        self.assertIn("tcp:4433", str(error))
        self.assertEqual(1, len(str(error).splitlines()))

    def test_hook(self) -> None:
        """
        If the error ends the process, standard error has that one line and no
        traceback; other errors are shown as ever.
        """
        self.test_trailDamaged()
        shown = LogLines()
        self.patch(sys, "__excepthook__", lambda *seen: shown.events.append(seen[1]))
        out = self.path.with_suffix(".err")
        with out.open("w") as file:
            self.patch(sys, "__stderr__", file)
            sys.excepthook(StartError, StartError("no port"), None)
            error = ValueError("other")
            sys.excepthook(ValueError, error, None)
        self.assertEqual("tcpsvc: no port\n", out.read_text())
        self.assertEqual([error], shown.events)


class StopTests(ServiceTestCase):
    """
    How the service stops.
    """

    def test_neverStarted(self) -> None:
        """
        A service that never started stops at once.
        """
        self.assertIsNone(self.successResultOf(self.service.stopService()))
        self.assertFalse(self.path.exists())

    def test_failedStart(self) -> None:
        """
        A service that could not start can be stopped.
        """
        self.path.write_bytes(b"rubbish\n")
        self.assertRaises(StartError, self.service.privilegedStartService)
        self.assertIsNone(self.successResultOf(self.service.stopService()))

    def test_quiet(self) -> None:
        """
        Without any client it stops at once: the doors are closed, the last
        record is written, and the trail closed.
        """
        self.start()
        self.assertIsNone(self.successResultOf(self.service.stopService()))
        self.assertEqual([True, True], [port.stopped for port in self.reactor.ports])
        self.assertEqual(["service.started", "service.stopped"], self.events())
        started, stopped = self.records()
        for name in ("version", "listeners", "backend", "sync", "certificate"):
            self.assertEqual(started[name], stopped[name])
        self.assertTrailFree()
        self.assertEqual("tcpsvc 0.1.0 has stopped", self.lines.texts()[-1])
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_order(self) -> None:
        """
        The doors are closed first; then the sessions end, with 421 SHUTDOWN;
        their ends are recorded before the service's.
        """
        self.start()
        alice = self.visit()
        closing: Deferred[None] = Deferred()
        self.reactor.ports[0].stopping = closing
        stopped = self.service.stopService()
        alice.pump()
        self.assertEqual(1, len(alice.lines))
        closing.callback(None)
        self.assertNoResult(stopped)
        self.assertNotIn("service.stopped", self.events())
        alice.pump()
        self.assertEqual(
            "421 SHUTDOWN the service is stopping; good bye", alice.lines[-1]
        )
        self.assertEqual("closed", alice.ending)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(
            ["service.started", "session.opened", "session.closed", "service.stopped"],
            self.events(),
        )
        self.assertEqual("shutdown", self.records()[2]["reason"])
        self.assertTrailFree()

    def test_stubbornClient(self) -> None:
        """
        A client that does not answer the close is waited for 2 s.
        """
        self.start()
        alice = self.visit()
        alice.answersClose = False
        stopped = self.service.stopService()
        alice.pump()
        self.reactor.advance(1.9)
        self.assertNoResult(stopped)
        self.reactor.advance(0.1)
        alice.pump()
        self.successResultOf(stopped)
        self.assertEqual("service.stopped", self.events()[-1])

    def test_pending(self) -> None:
        """
        Connections in handshake are reset, and that is recorded before the
        service's end.
        """
        self.start()
        silent = Peer(self.reactor.ports[0].factory, clientContext())
        slow = Peer(self.reactor.ports[0].factory, clientContext())
        slow.reads = False
        slow.shakeHands()
        self.successResultOf(self.service.stopService())
        silent.pump()
        slow.pump()
        self.assertEqual(["reset", "reset"], [silent.ending, slow.ending])
        self.assertEqual(
            [
                "service.started",
                "handshake.failed",
                "handshake.failed",
                "service.stopped",
            ],
            self.events(),
        )
        self.assertEqual("the service is stopping", self.records()[1]["reason"])
        self.assertEqual([], self.errors())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def errors(self) -> list[str]:
        """
        The lines of the log that are errors.
        """
        return [
            line
            for line, event in zip(self.lines.texts(), self.lines.events, strict=True)
            if event["log_level"] >= LogLevel.error
        ]

    def test_trailBroken(self) -> None:
        """
        A trail that cannot be written keeps it from nothing; the log says so.
        """
        self.start()
        alice = self.visit()

        def full(descriptor: int, octets: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), descriptor, octets)

        self.patch(os, "write", full)
        stopped = self.service.stopService()
        alice.pump()
        self.successResultOf(stopped)
        self.assertEqual(["service.started", "session.opened"], self.events())
        self.assertEqual(
            [f"{self.path}: cannot be written: No space left on device"] * 2,
            self.errors(),
        )
        self.assertTrailFree()

    def test_doorStuck(self) -> None:
        """
        A door that cannot be closed in good order keeps neither the sessions
        nor the trail from their end.
        """
        self.start()
        alice = self.visit()
        stuck: Deferred[None] = Deferred()
        self.reactor.ports[0].stopping = stuck
        stopped = self.service.stopService()
        stuck.errback(RuntimeError("stuck"))
        alice.pump()
        self.successResultOf(stopped)
        self.assertEqual("service.stopped", self.events()[-1])
        self.assertTrailFree()

    def test_again(self) -> None:
        """
        The next service goes on with the same trail.
        """
        self.start()
        self.successResultOf(self.service.stopService())
        again = self.start(self.make())
        self.successResultOf(again.stopService())
        records = self.records()
        self.assertEqual([1, 2, 3, 4], [record["seq"] for record in records])
        self.assertEqual("service.stopped", records[3]["event"])

    def test_certificate(self) -> None:
        """
        The fingerprint in the records is the certificate's that is shown.
        """
        self.start()
        alice = self.visit()
        assert alice.tls is not None
        shown = alice.tls.get_peer_certificate(as_cryptography=True)
        assert shown is not None
        self.assertEqual(fingerprintOf(shown), self.records()[0]["certificate"])
        self.assertEqual(authority().certificate.subject, shown.issuer)
