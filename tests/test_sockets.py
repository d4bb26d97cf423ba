"""
Tests for L{tcpsvc.sockets}.
"""

from __future__ import annotations

import socket
import struct
from typing import cast

from twisted.internet import tcp, unix
from twisted.internet.address import (
    HostnameAddress,
    IPv4Address,
    IPv6Address,
    UNIXAddress,
)
from twisted.internet.interfaces import IListeningPort, ISystemHandle
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tcpsvc.sockets import (
    ACCEPTS_A_TURN,
    Transport,
    hasFailed,
    hasHungUp,
    holdAcceptsDown,
    tune,
    written,
)
from tests.support import ProducerTransport


class TuneTests(SynchronousTestCase):
    """
    Tests for L{tune}, with real sockets that no reactor serves.
    """

    def accepted(self) -> tuple[socket.socket, socket.socket]:
        """
        @return: The service's and the client's end of a connection.
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        self.addCleanup(client.close)
        self.addCleanup(ours.close)
        ours.setblocking(False)
        return ours, client

    def test_tcp(self) -> None:
        """
        A TCP connection sends at once, and finds a dead peer by keepalive after
        15 s of silence and three probes 5 s apart, or after 30 s with data on
        its way.
        """
        ours, _ = self.accepted()
        transport = tcp.Server(
            ours,
            Protocol(),
            ours.getpeername(),
            cast(tcp.Port, None),
            0,
            MemoryReactorClock(),
        )
        tune(cast(Transport, transport))
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
        ):
            self.assertEqual(ours.getsockopt(level, option), value)

    def test_unix(self) -> None:
        """
        A UNIX socket has no such options, and is left as it is.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        transport = unix.Server(
            ours, Protocol(), UNIXAddress(None), None, 0, MemoryReactorClock()
        )
        tune(cast(Transport, transport))
        self.assertEqual(ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 0)

    def test_memory(self) -> None:
        """
        A transport without a socket is left as it is.
        """
        tune(cast(Transport, StringTransport()))


class HoldAcceptsDownTests(SynchronousTestCase):
    """
    Tests for L{holdAcceptsDown}.
    """

    def test_flood(self) -> None:
        """
        Of a flood of connections few are accepted a turn, however many turns
        there are, and all of them in the end.
        """
        accepted: list[object] = []

        class Counted(Factory):
            noisy = False

            def buildProtocol(self, address: object) -> None:
                accepted.append(address)

        port = tcp.Port(
            0, Counted(), interface="127.0.0.1", reactor=MemoryReactorClock()
        )
        port.startListening()
        self.addCleanup(port.connectionLost, None)
        holdAcceptsDown(port)
        place = ("127.0.0.1", port.getHost().port)
        for _ in range(3 * ACCEPTS_A_TURN):
            self.addCleanup(socket.create_connection(place).close)
        turns = []
        for _ in range(4):
            before = len(accepted)
            port.doRead()
            turns.append(len(accepted) - before)
        self.assertEqual(turns, [1, 1, 1, 0])

    def test_otherPorts(self) -> None:
        """
        A port that is none of Twisted's own is left as it is.
        """
        reactor = MemoryReactorClock()
        port = reactor.listenTCP(0, Factory())
        before = dict(vars(port))
        holdAcceptsDown(cast(IListeningPort, port))
        self.assertEqual(vars(port), before)


class WrittenTests(SynchronousTestCase):
    """
    Tests for L{written}.
    """

    def test_addresses(self) -> None:
        """
        Addresses are written as people write them.
        """
        for address, text in (
            (IPv4Address("TCP", "192.0.2.1", 49152), "192.0.2.1:49152"),
            (IPv6Address("TCP", "2001:db8::1", 5), "[2001:db8::1]:5"),
            (UNIXAddress("/run/x"), "unix"),
            (UNIXAddress(None), "unix"),
            (None, "unix"),
            (IPv6Address("TCP", "fe80::1%eth0", 5), "[fe80::1%eth0]:5"),
        ):
            self.assertEqual(written(address), text)

    def test_mapped(self) -> None:
        """
        An IPv4 address as an IPv6 socket shows it is written as IPv4.
        """
        for host in (
            "::ffff:192.0.2.1",
            "::FFFF:192.0.2.1",
            "0:0:0:0:0:ffff:c000:201",
        ):
            address = IPv6Address("TCP", host, 49152)
            self.assertEqual(written(address), "192.0.2.1:49152")
        other = IPv6Address("TCP", "2001:db8:0:0:0:0:0:1", 1)
        self.assertEqual(written(other), "[2001:db8::1]:1")

    def test_otherKinds(self) -> None:
        """
        An address of another kind is not taken for a UNIX socket.
        """
        self.assertEqual(written(HostnameAddress(b"bench.example", 1)), "unknown")

    def test_printable(self) -> None:
        """
        What a proxy says of an address cannot break a line of the log.
        """
        for make in (IPv4Address, IPv6Address):
            self.assertEqual(written(make("TCP", "a\nb\x1b", 1)), r"[a\nb\x1b]:1")


class PulseTests(SynchronousTestCase):
    """
    L{hasFailed} on real sockets.
    """

    def test_reset(self) -> None:
        """
        A connection that was reset has failed, though nobody reads from it; one
        that is well, or has only been closed by the peer, has not.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        self.addCleanup(server.close)
        transport = _OnSocket(server)
        client.sendall(b"unread")
        self.assertFalse(hasFailed(transport))
        client.shutdown(socket.SHUT_WR)
        self.assertFalse(hasFailed(transport))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.assertTrue(hasFailed(transport))

    def test_hungUp(self) -> None:
        """
        That the peer has closed its half shows although what it has sent before is
        unread.
        """
        server, client = socket.socketpair()
        for each in (server, client):
            self.addCleanup(each.close)
        client.sendall(b"unread")
        self.assertFalse(hasHungUp(_OnSocket(server)))
        client.shutdown(socket.SHUT_WR)
        self.assertTrue(hasHungUp(_OnSocket(server)))
        self.assertFalse(hasFailed(_OnSocket(server)))

    def test_inMemory(self) -> None:
        """
        A transport without a socket has not failed.
        """
        self.assertFalse(hasFailed(ProducerTransport()))
        self.assertFalse(hasHungUp(ProducerTransport()))


@implementer(ISystemHandle)
class _OnSocket(ProducerTransport):
    """
    A transport with a real socket under it.
    """

    def __init__(self, handle: socket.socket) -> None:
        super().__init__()
        self.handle = handle

    def getHandle(self) -> socket.socket:
        """The socket."""
        return self.handle
