"""
Tests for L{tcpsvc.service}.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import define, evolve
from twisted.application.service import IService
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorFromThreads
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpsvc import service as serviceModule
from tcpsvc.commands import command, commandsOf
from tcpsvc.identity import fingerprintOf
from tcpsvc.service import ExclusiveService, Settings, StartError
from tcpsvc.tls import ALPN_CONTROL
from tcpsvc.turns import ACTIVE, LOCK_STEP_FACTOR, TURN_BUDGET, Turns
from tcpsvc.wire import Request
from tests.certificates import authority
from tests.peers import Peer, clientContext, namedPair, serverMaterial
from tests.support import (
    EPOCH,
    Beside,
    LogLines,
    atOnce,
    auditKey,
    openedTrail,
    verifiedRecords,
)

COMMON = ("seq", "time", "event", "prev")


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


@implementer(IReactorFromThreads)
class _Reactor(MemoryReactorClock):
    """
    A reactor in memory, some of whose ports are taken.

    @ivar taken: What listening on a port fails with.
    @ivar ports: The ports that were opened, in order.
    @ivar fromThreads: What threads and signals want to be called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[int, Exception] = {}
        self.ports: list[_Port] = []
        self.fromThreads: list[Callable[[], object]] = []
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

    def callFromThread(  # type: ignore[override]  # the interface's has no self
        self, call: Callable[[], object]
    ) -> None:
        """Call it in a later turn."""
        self.fromThreads.append(call)


class _Vault:
    """
    A command with a secret.
    """

    @command("UNLOCK", argument="PASSWORD", secret=True)
    def unlock(self, request: Request) -> str:
        """unlocks it"""
        return "unlocked"


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
        self.reactor: Any = _Reactor()
        self.lines = LogLines()
        self.left: list[int] = []
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
            auditKey=auditKey(),
            auditMaxOctets=0,
            idleTimeout=900.0,
            maxSession=28800.0,
            handshakeTimeout=10.0,
            maxPending=16,
            reconnectRate=0,
        )
        return ExclusiveService(
            evolve(settings, **changes),
            self.reactor,
            atOnce,
            self.lines,
            self.left.append,
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
        A client of a TLS listener. If somebody is at work it has to wait for its turn.
        """
        context = clientContext(namedPair(name), alpn=alpn)
        peer = Peer(self.reactor.ports[port].factory, context).shakeHands()
        for _ in range(2):
            if not peer.lines:
                self.reactor.advance(ACTIVE)
                peer.pump()
        return peer

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
        openedTrail(self.path).close()


class StartTests(ServiceTestCase):
    """
    How the service starts.
    """

    def test_interface(self) -> None:
        """
        It is a Twisted service.
        """
        self.assertTrue(verifyObject(IService, self.service))

    def test_secretOnControl(self) -> None:
        """
        The argument of a secret command is not recorded either where it is sent to
        a control connection, which does not have the command.
        """
        self.start(self.make(commands=tuple(commandsOf(_Vault()))))
        bob = self.visit("bob", alpn=[ALPN_CONTROL])
        bob.send(b"UNLOCK sesame\r\nunlock\tsesame\r\nHELP UNLOCK sesame\r\n")
        self.assertEqual(
            "500 UNKNOWN-COMMAND UNLOCK: HELP lists the commands", bob.lines[1]
        )
        records = self.records()
        self.assertEqual(
            ["UNLOCK"] * 3,
            [record["request"] for record in records if record["event"] == "request"],
        )
        self.assertNotIn("sesame", self.path.read_text().lower())

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
        The trail's first record has version, listeners, backend, sync, the
        fingerprint of the certificate, and the id of the trail.
        """
        self.start()
        [record] = self.records()
        UUID(record["trail"])
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
                "trail": record["trail"],
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

    def test_sendsAtOnce(self) -> None:
        """
        The ports of all its listeners are told to send at once.
        """
        told: list[object] = []
        self.patch(serviceModule, "sendAtOnce", told.append)
        self.start()
        self.assertEqual(told, self.reactor.ports)
        self.assertEqual(len(told), 2)

    def test_secure(self) -> None:
        """
        Clients of its TLS listeners are served, by certificate.
        """
        self.start()
        alice = self.visit()
        self.assertIn("you are alice", alice.lines[0])
        self.assertTrue(self.visit("bob").lines[0].startswith("421 BUSY"))

    def test_holderFirst(self) -> None:
        """
        While the holder is at work, others are shaken hands with step by step, with
        a while between the steps.
        """
        self.start()
        alice = self.visit()
        context = clientContext(namedPair("bob"))
        spent = iter(range(1_000_000))
        self.service._pending.turns = Turns(
            self.reactor,
            self.service._admission.quiet,
            lambda: next(spent) * TURN_BUDGET,
        )
        spacing = TURN_BUDGET * LOCK_STEP_FACTOR
        self.reactor.advance(2 * ACTIVE)
        for asks in (False, True):
            if asks:
                alice.send(b"NOOP\r\n")
            bob = Peer(self.reactor.ports[0].factory, context).shakeHands()
            self.reactor.advance(0)
            bob.pump()
            self.assertEqual(asks, bob.lines == [])
            for _ in range(10):
                if asks:
                    alice.send(b"NOOP\r\n")
                self.reactor.advance(spacing / 9)
            bob.pump()
            self.assertTrue(bob.lines[0].startswith("421 BUSY"))

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
        other = openedTrail(self.path)
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
            f"{self.path}: line 1 is damaged: it is not JSON; nothing is recorded "
            "behind it. Keep the file, and move it away to start anew"
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
            "serverEndpoint",
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
        self.assertEqual(
            ["service.started", "service.stopped", "checkpoint"], self.events()
        )
        started, stopped, _ = self.records()
        for name in ("version", "listeners", "backend", "sync", "certificate"):
            self.assertEqual(started[name], stopped[name])
        self.assertTrailFree()
        self.assertEqual("tcpsvc 0.1.0 has stopped", self.lines.texts()[-1])
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_stepFails(self) -> None:
        """
        Whatever step of it fails is logged; the last record is written and the
        trail closed all the same.
        """

        def fail(_: object) -> None:
            raise ZeroDivisionError

        for name in ("_pending", "_admission", "_flood"):
            self.setUp()
            self.start()
            step = "tellAll" if name == "_flood" else "stop"
            one = getattr(self.service, name)
            broken = self.patch(type(one), step, fail)
            self.assertIsNone(self.successResultOf(self.service.stopService()))
            broken.restore()
            self.assertTrailFree()
            self.assertIn("did not stop cleanly", "".join(self.lines.texts()))
            self.assertEqual("checkpoint", self.events()[-1])

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
            [
                "service.started",
                "session.opened",
                "session.closed",
                "checkpoint",
                "service.stopped",
                "checkpoint",
            ],
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
        self.assertEqual(["service.stopped", "checkpoint"], self.events()[-2:])

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
                "checkpoint",
            ],
            self.events(),
        )
        for record in self.records()[1:3]:
            self.assertEqual("the service is stopping", record["reason"])
        self.assertEqual(1, self.records()[2]["count"])
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
        self.assertEqual(["service.stopped", "checkpoint"], self.events()[-2:])
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
        self.assertEqual([*range(1, 7)], [record["seq"] for record in records])
        self.assertEqual("service.stopped", records[4]["event"])

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


class AuditTests(ServiceTestCase):
    """
    What becomes of the trail when things go wrong.
    """

    def verified(self) -> list[dict[str, Any]]:
        """
        The records of the trail; each link is checked.
        """
        return verifiedRecords(self.path)

    def kill(self, *peers: Peer) -> None:
        """
        Let the service be killed: nothing more is written.
        """
        contents = self.path.read_bytes()
        service, self.service = self.service, self.make()
        stopped = service.stopService()
        for peer in peers:
            peer.pump()
        self.successResultOf(stopped)
        self.path.write_bytes(contents)
        self.lines.events.clear()
        self.reactor.ports.clear()

    def test_crash(self) -> None:
        """
        Sessions that a crash has cut off, control sessions too, are closed by the
        next start, before it says that it has started, with what is known of them;
        the log says so.
        """
        self.start()
        alice = self.visit()
        alice.send(b"NOOP\r\nNOOP\r\n")
        bob = self.visit("bob", alpn=[ALPN_CONTROL])
        bob.send(b"WHO\r\n")
        opened = [
            r["session"] for r in self.verified() if r["event"] == "session.opened"
        ]
        before = len(self.verified())
        self.kill(alice, bob)
        self.start()
        events = [
            record
            for record in self.verified()[before:]
            if record["event"] != "checkpoint"
        ]
        unknown = {"bytes_in": None, "bytes_out": None, "duration_s": None}
        for record, session, requests in zip(events, opened, (2, 1), strict=False):
            self.assertEqual(
                {
                    "session": session,
                    "reason": "crash",
                    "requests": requests,
                    **unknown,
                },
                {k: v for k, v in record.items() if k not in COMMON},
            )
            self.assertIn(
                f"session {session} was cut off by a crash", self.lines.texts()
            )
        self.assertEqual(
            ["session.closed", "session.closed", "service.started"],
            [record["event"] for record in events],
        )
        before = len(self.verified())
        self.kill()
        self.start()
        self.assertEqual("service.started", self.verified()[before]["event"])

    def test_torn(self) -> None:
        """
        A torn line is kept, and the log says where.
        """
        self.start()
        self.kill()
        with self.path.open("ab") as file:
            file.write(b'{"seq":2,"ti')
        self.start()
        [torn] = self.path.parent.glob(f"{self.path.name}.torn-*")
        self.addCleanup(torn.unlink)
        self.assertEqual(b'{"seq":2,"ti', torn.read_bytes())
        self.assertIn(
            f"the trail's last line was torn; it is kept in {torn}", self.lines.texts()
        )
        self.assertEqual(2, len(self.verified()))

    def test_dies(self) -> None:
        """
        If the disk fails the process ends at once, with status 74, once; the log
        says why.
        """

        def fail(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.patch(os, "fdatasync", fail)
        self.start(self.make(auditSync="always"))
        self.assertEqual([74], self.left)
        self.assertIn(
            f"{self.path}: cannot be forced to the disk: Input/output error; "
            "exit status 74",
            self.lines.texts(),
        )
        alice = self.visit()
        self.assertEqual([], alice.lines)
        self.reactor.advance(100)
        self.assertEqual([74], self.left)

    def test_always(self) -> None:
        """
        Under C{always} it serves as under any other policy.
        """
        self.start(self.make(auditSync="always"))
        alice = self.visit()
        alice.send(b"ECHO one\r\nQUIT\r\n")
        self.assertEqual("200 one", alice.lines[1])

    def test_receipt(self) -> None:
        """
        A session's last reply names the last record before it and the SHA-256 of
        that record's line.
        """
        self.start()
        alice = self.visit()
        alice.send(b"ECHO one\r\nQUIT\r\n")
        bye, word, number, digest = alice.lines[-1].rsplit(" ", 3)
        self.assertEqual(("221 bye;", "record"), (bye, word))
        lines = self.path.read_bytes().splitlines()
        self.assertEqual(digest, sha256(lines[int(number) - 1]).hexdigest())
        self.assertEqual(
            ("request", "QUIT"),
            tuple(json.loads(lines[int(number) - 1])[k] for k in ("event", "request")),
        )
        self.assertEqual("reply", json.loads(lines[int(number)])["event"])

    def test_blocked(self) -> None:
        """
        If nothing can be recorded no reply leaves, the session ends with 421
        AUDIT-UNAVAILABLE, and nobody is admitted; then it goes on by itself, and
        the trail tells how the session ended and who was turned away.
        """
        self.start()
        alice = self.visit()
        alice.send(b"ECHO one\r\n")

        def full(descriptor: int, octets: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), descriptor, octets)

        broken = self.patch(os, "write", full)
        alice.send(b"ECHO two\r\n")
        self.assertEqual("200 one", alice.lines[-2])
        self.assertTrue(alice.lines[-1].startswith("421 AUDIT-UNAVAILABLE"))
        self.assertEqual("closed", alice.ending)
        for name, alpn in (("bob", []), ("bob", [ALPN_CONTROL])):
            bob = self.visit(name, alpn=alpn)
            self.assertTrue(bob.lines[0].startswith("421 AUDIT-UNAVAILABLE"))
        broken.restore()
        bob = self.visit("bob")
        self.assertTrue(bob.lines[0].startswith("421 AUDIT-UNAVAILABLE"))
        self.reactor.advance(1)
        bob = self.visit("bob")
        bob.send(b"STATUS\r\n")
        self.assertRegex(
            bob.lines[-1], "211 audit_state: open, was blocked from .* to "
        )
        events = [
            (record["event"], record.get("reason"), record.get("count"))
            for record in self.verified()
            if record["event"]
            in ("session.opened", "session.closed", "session.refused")
        ]
        self.assertEqual(
            [
                ("session.opened", None, None),
                ("session.closed", "audit-unavailable", None),
                ("session.refused", "audit-unavailable", None),
            ],
            events[:3],
        )
        self.assertEqual(
            [None, 2],
            [count for event, _, count in events if event == "session.refused"],
        )

    def test_hangUp(self) -> None:
        """
        At SIGHUP, in a later turn, a new file begins if the old one was renamed.
        """
        former = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, former)
        self.addCleanup(gc.unfreeze)
        self.start()
        for call, arguments, options in self.reactor.whenRunningHooks:
            call(*arguments, **options)
        other = self.path.with_name(f"{self.path.name}.1")
        self.path.rename(other)
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertFalse(self.path.exists())
        [call] = self.reactor.fromThreads
        call()
        self.visit()
        self.assertEqual(
            ["service.started", "checkpoint", "session.opened"],
            [record["event"] for record in verifiedRecords(other, self.path)],
        )

    def test_collector(self) -> None:
        """
        When it runs, the garbage collector is told to leave alone what is there,
        but for garbage.
        """
        former = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, former)
        told: list[str] = []
        self.patch(gc, "collect", lambda: told.append("collect"))
        self.patch(gc, "freeze", lambda: told.append("freeze"))
        self.start()
        self.assertEqual([], told)
        for call, arguments, options in self.reactor.whenRunningHooks:
            call(*arguments, **options)
        self.assertEqual(["collect", "freeze"], told)

    def test_size(self) -> None:
        """
        At the size of the settings a new file begins.
        """
        self.start(self.make(auditMaxOctets=3000))
        alice = self.visit()
        for _ in range(10):
            alice.send(b"ECHO " + b"x" * 300 + b"\r\n")
        former = sorted(self.path.parent.glob(f"{self.path.name}.2*"))
        self.assertGreater(len(former), 1)
        verifiedRecords(*former, self.path)

    def test_stoppedInNewFile(self) -> None:
        """
        A service that stops while a new file begins, and cannot write to it, says
        so in the log, and that is all.
        """
        beside = Beside()
        service = ExclusiveService(
            self.make(auditSync="always")._settings,
            self.reactor,
            beside,
            self.lines,
            self.left.append,
        )
        self.start(service)
        beside.workAll()
        self.path.rename(self.path.with_name(f"{self.path.name}.1"))
        service._trail.reopen()

        def full(descriptor: int, octets: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), descriptor, octets)

        self.patch(os, "write", full)
        self.successResultOf(service.stopService())
        self.assertEqual([], self.flushLoggedErrors())
        self.assertIn(
            f"{self.path}: cannot be written: No space left on device",
            self.lines.texts(),
        )
        self.assertEqual(b"", self.path.read_bytes())
