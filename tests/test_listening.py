"""
Tests for L{tcpsvc.listening}.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IListeningPort,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpsvc import listening
from tcpsvc.listening import (
    InheritedUNIXEndpoint,
    ProxiedEndpoint,
    VacatedUNIXEndpoint,
    familyOf,
    inheritedAddress,
    placeOf,
    vacated,
)
from tcpsvc.sockets import written


class SocketsTestCase(SynchronousTestCase):
    """
    Sockets that end with the test.
    """

    def listener(
        self, family: socket.AddressFamily, address: Any, listens: bool = True
    ) -> socket.socket:
        """
        A socket that is bound, and listens unless said otherwise.
        """
        made = socket.socket(family)
        self.addCleanup(made.close)
        made.bind(address)
        if listens:
            made.listen()
        return made


class FamilyTests(SocketsTestCase):
    """
    Tests for L{familyOf} and L{inheritedAddress}.
    """

    def test_family(self) -> None:
        """
        The family of a listening stream socket is that of the socket, and it stays
        open.
        """
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_INET6, ("::1", 0)),
            (socket.AF_UNIX, self.mktemp()),
        ):
            made = self.listener(family, address)
            self.assertEqual(family, familyOf(made.fileno()))
            made.getsockname()

    def assertRefused(self, descriptor: int, *words: str) -> None:
        """
        A descriptor cannot be listened on; one line with these words says why.
        """
        line = str(self.assertRaises(ValueError, familyOf, descriptor))
        self.assertEqual(1, len(line.splitlines()))
        for word in (f"descriptor {descriptor} is ", *words):
            self.assertIn(word, line)

    def test_otherKinds(self) -> None:
        """
        Sockets that have no connections to accept, or not of TCP.
        """
        make: list[tuple[Callable[[], socket.socket], str]] = [
            (lambda: socket.socket(type=socket.SOCK_DGRAM), "IPv4 datagram"),
            (
                lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
                "IPv6 datagram",
            ),
            (
                lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
                "UNIX datagram",
            ),
            (
                lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
                "UNIX sequential packet",
            ),
            (
                lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
                f"family {socket.AF_NETLINK} type {socket.SOCK_RAW}",
            ),
        ]
        for one, what in make:
            with one() as made:
                self.assertRefused(made.fileno(), what, "to fix: use ListenStream=")

    def test_otherProtocol(self) -> None:
        """
        A stream socket of a protocol that is not TCP.
        """
        mptcp = 262
        try:
            made = socket.socket(proto=mptcp)
        except OSError:
            self.skipTest("the kernel has no MPTCP")
        with made:
            self.assertRefused(made.fileno(), "IPv4 stream, protocol 262")

    def test_notListening(self) -> None:
        """
        A socket that does not listen, or is connected.
        """
        bound = self.listener(socket.AF_INET, ("127.0.0.1", 0), listens=False)
        self.assertRefused(bound.fileno(), "does not listen", "Accept=no")
        for one in socket.socketpair():
            with one:
                self.assertRefused(one.fileno(), "does not listen")

    def test_notSocket(self) -> None:
        """
        Files, pipes and closed descriptors.
        """
        for each in os.pipe():
            self.assertRefused(each, "not a socket")
            os.close(each)
            self.assertRefused(each, "closed")

    def test_nothingLeft(self) -> None:
        """
        To ask leaves no descriptor open.
        """
        count = len(list(Path("/proc/self/fd").iterdir()))
        self.test_notListening()
        self.test_notSocket()
        self.doCleanups()
        self.assertEqual(count, len(list(Path("/proc/self/fd").iterdir())))

    def test_address(self) -> None:
        """
        Where a socket listens, and whether only this machine reaches it.
        """
        path = self.mktemp()
        for family, address, place, local in (
            (socket.AF_INET, ("127.0.0.1", 0), "127.0.0.1:", True),
            (socket.AF_INET, ("127.9.9.9", 0), "127.9.9.9:", True),
            (socket.AF_INET, ("0.0.0.0", 0), "0.0.0.0:", False),
            (socket.AF_INET6, ("::1", 0), "[::1]:", True),
            (socket.AF_INET6, ("::", 0), "[::]:", False),
            (socket.AF_UNIX, path, f"unix:{path}", True),
        ):
            made = self.listener(family, address)
            number = "" if family == socket.AF_UNIX else made.getsockname()[1]
            self.assertEqual(
                (f"{place}{number}", local), inheritedAddress(made.fileno())
            )


class InheritedTests(SocketsTestCase):
    """
    Tests for L{InheritedUNIXEndpoint}.
    """

    def adopted(self, made: socket.socket) -> IListeningPort:
        """
        A port that has adopted a copy of a socket.
        """
        endpoint = InheritedUNIXEndpoint(MemoryReactorClock(), os.dup(made.fileno()))
        self.assertTrue(verifyObject(IStreamServerEndpoint, endpoint))
        port = self.successResultOf(endpoint.listen(Factory()))
        self.assertEqual(made.getsockname(), placeOf(port).removeprefix("unix:"))
        return port

    def test_untouched(self) -> None:
        """
        Mode and path stay what they were, and the process that has made the
        socket can go on listening after the service has stopped.
        """
        path = Path(self.mktemp())
        made = self.listener(socket.AF_UNIX, str(path))
        path.chmod(0o640)
        port = self.adopted(made)
        self.assertEqual(0o640, stat.S_IMODE(path.stat().st_mode))
        port.connectionLost(None)  # type: ignore[attr-defined]  # at the end
        self.assertTrue(path.is_socket())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            made.accept()[0].close()

    def test_abstract(self) -> None:
        """
        A socket without a path is shown as C{ss} shows it.
        """
        made = self.listener(socket.AF_UNIX, b"\0tcpsvc-test-%d" % os.getpid())
        self.assertEqual(
            f"unix:@tcpsvc-test-{os.getpid()}", inheritedAddress(made.fileno())[0]
        )


@implementer(IHalfCloseableProtocol)
class _HalfCloseable(Protocol):
    """
    Keeps what it is told.
    """

    def __init__(self) -> None:
        self.told: list[object] = []

    def dataReceived(self, data: bytes) -> None:
        """Data."""
        assert self.transport is not None
        self.told += [data, written(self.transport.getPeer())]

    def readConnectionLost(self) -> None:
        """The end of it."""
        self.told.append("half-closed")

    def writeConnectionLost(self) -> None:
        """Never happens here."""


class ProxiedTests(SynchronousTestCase):
    """
    Tests for L{ProxiedEndpoint}.
    """

    def connected(self, protocol: Protocol) -> tuple[Any, StringTransport]:
        """
        A connection to a listener, with a protocol within.
        """
        reactor: Any = MemoryReactorClock()
        inner = TCP4ServerEndpoint(reactor, 4433)
        self.successResultOf(
            ProxiedEndpoint(inner).listen(Factory.forProtocol(lambda: protocol))
        )
        connection = reactor.tcpServers[0][1].buildProtocol(None)
        transport = StringTransport()
        connection.makeConnection(transport)
        return connection, transport

    def test_halfClose(self) -> None:
        """
        The protocol within is told that the peer has closed its half, and is not
        disconnected by that: it may owe a reply.
        """
        protocol = _HalfCloseable()
        connection, transport = self.connected(protocol)
        self.assertTrue(IHalfCloseableProtocol.providedBy(connection))
        connection.dataReceived(b"PROXY TCP4 192.0.2.7 192.0.2.1 50007 4433\r\nhello")
        connection.readConnectionLost()
        self.assertEqual([b"hello", "192.0.2.7:50007", "half-closed"], protocol.told)
        self.assertFalse(transport.disconnecting)

    def test_other(self) -> None:
        """
        One that knows no halves is closed.
        """
        connection, transport = self.connected(Protocol())
        connection.readConnectionLost()
        self.assertTrue(transport.disconnecting)


RACE = """
import socket, sys
from tcpsvc.listening import vacated
sys.stdin.readline()
made = socket.socket(socket.AF_UNIX)
try:
    with vacated(sys.argv[1]):
        made.bind(sys.argv[1])
        made.listen()
except OSError as error:
    print(error.strerror, flush=True)
else:
    print("listens", flush=True)
    sys.stdin.readline()
"""


class VacatedTests(SocketsTestCase):
    """
    Tests for L{vacated} and L{VacatedUNIXEndpoint}.
    """

    def setUp(self) -> None:
        """
        Choose a path.
        """
        self.path = Path(self.mktemp())
        self.lock = Path(f"{self.path}.lock")

    def abandon(self, pid: int) -> None:
        """
        Leave behind what a killed service leaves: a socket, and a lock that
        names its process.
        """
        self.listener(socket.AF_UNIX, str(self.path)).close()
        self.lock.symlink_to(str(pid))

    def vacate(self) -> None:
        """
        Do nothing with the path.
        """
        with vacated(str(self.path)):
            pass

    def test_stale(self) -> None:
        """
        A socket that no process has open is removed with its lock, whatever process
        has now the number of the one that has made it.
        """
        for pid in (os.getpid(), os.getppid(), 1, 2**22 + 1):
            self.abandon(pid)
            self.vacate()
            self.assertFalse(self.path.exists())
            self.assertFalse(self.lock.is_symlink())

    def test_lockOnly(self) -> None:
        """
        A lock without its socket is removed too; another file of that name is not.
        """
        self.lock.symlink_to(str(os.getpid()))
        self.vacate()
        self.assertFalse(self.lock.is_symlink())
        self.lock.write_text("precious")
        self.vacate()
        self.assertEqual("precious", self.lock.read_text())

    def test_nothing(self) -> None:
        """
        Where there is nothing, nothing is made.
        """
        self.vacate()
        self.assertFalse(self.path.exists())

    def test_inUse(self) -> None:
        """
        A socket that a process has open is not touched, nor is its lock; and who
        listens does not see a connection.
        """
        self.lock.symlink_to(str(os.getpid()))
        for listens in (False, True):
            made = self.listener(socket.AF_UNIX, str(self.path), listens)
            made.setblocking(False)
            error = self.assertRaises(OSError, self.vacate)
            self.assertEqual(errno.EADDRINUSE, error.errno)
            self.assertTrue(self.path.is_socket())
            self.assertTrue(self.lock.is_symlink())
            if listens:
                self.assertRaises(BlockingIOError, made.accept)
            self.path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(self.path))
            self.assertRaises(OSError, self.vacate)

    def test_noSocket(self) -> None:
        """
        A file that is not a socket is not touched, nor is a symbolic link.
        """
        self.path.write_text("precious")
        error = self.assertRaises(FileExistsError, self.vacate)
        self.assertIn("not a socket", error.strerror)
        self.assertEqual("precious", self.path.read_text())
        self.path.unlink()
        self.path.symlink_to("nowhere")
        self.assertRaises(FileExistsError, self.vacate)
        self.assertTrue(self.path.is_symlink())

    def test_locked(self) -> None:
        """
        While another process sets up a socket in the same directory, nothing is
        removed.
        """
        self.patch(listening, "LOCK_PATIENCE", 0.05)
        self.abandon(os.getpid())
        other = os.open(self.path.parent, os.O_RDONLY)
        self.addCleanup(os.close, other)
        fcntl.flock(other, fcntl.LOCK_EX)
        error = self.assertRaises(OSError, self.vacate)
        self.assertIn("another process", error.strerror)
        self.assertTrue(self.path.is_socket())

    def test_noDirectory(self) -> None:
        """
        Without a directory the error says so.
        """
        self.path = self.path / "not" / "there"
        self.assertRaises(FileNotFoundError, self.vacate)

    def test_noLocks(self) -> None:
        """
        A file system without locks does not keep a service from starting.
        """

        def cannot(*_: object) -> None:
            raise OSError(errno.ENOLCK, "no locks")

        self.patch(listening, "flock", cannot)
        self.abandon(os.getpid())
        self.vacate()
        self.assertFalse(self.path.exists())

    def test_race(self) -> None:
        """
        Of several processes that start at once on a path that was left behind, one
        listens, and clients reach it.
        """
        self.abandon(os.getpid())
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACE, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for each in racers:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        said = []
        for each in racers:
            assert each.stdout is not None
            said.append(each.stdout.readline())
        self.assertEqual(["Address already in use\n"] * 3 + ["listens\n"], sorted(said))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
        for each in racers:
            each.communicate("\n")

    def test_endpoint(self) -> None:
        """
        The endpoint listens when the path is vacated, and fails in words if it
        cannot be.
        """

        class _Inner:
            def listen(self, factory: object) -> object:
                return listened

        listened = object()
        endpoint = VacatedUNIXEndpoint(str(self.path), _Inner())  # type: ignore[arg-type]  # a twin
        self.abandon(os.getpid())
        self.assertIs(listened, endpoint.listen(Factory()))
        self.assertFalse(self.path.exists())
        self.path.write_text("precious")
        failure = self.failureResultOf(endpoint.listen(Factory()), CannotListenError)
        self.assertIn("not a socket", str(failure.value.socketError))
