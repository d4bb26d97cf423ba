"""
Tests for L{tcpsvc.localpeer}.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tcpsvc.localpeer import isClosed


@implementer(ISystemHandle)
@frozen
class Over:
    """
    A transport over a socket.
    """

    _socket: socket.socket

    def getHandle(self) -> socket.socket:
        """That socket."""
        return self._socket


class NoNetlink(socket.socket):
    """
    Sockets in a container that forbids C{AF_NETLINK}.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        raise OSError(97, "Address family not supported by protocol")


class Unanswered(socket.socket):
    """
    Sockets of a kernel that does not know any TCP socket, as one without C{tcp_diag}.
    """

    def recv(self, *_: Any) -> bytes:
        """Not found."""
        return struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -2)


class IsClosedTests(SynchronousTestCase):
    """
    Tests for L{isClosed}, with real sockets.
    """

    def pairs(self) -> list[tuple[socket.socket, socket.socket]]:
        """
        Connected sockets of each family: the local program's, and ours.
        """
        found = [socket.socketpair()]
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.create_server((host, 0), family=family) as listener:
                theirs = socket.create_connection(listener.getsockname()[:2])
                found.append((theirs, listener.accept()[0]))
        for pair in found:
            for each in pair:
                self.addCleanup(each.close)
        return found

    def test_closed(self) -> None:
        """
        A socket that its program has closed is closed, whether or not it had closed
        one direction before.
        """
        for halfFirst in (False, True):
            for theirs, ours in self.pairs():
                if halfFirst:
                    theirs.shutdown(socket.SHUT_WR)
                theirs.close()
                self.assertIs(True, isClosed(Over(ours)), (ours, halfFirst))

    def test_shutDown(self) -> None:
        """
        One that its program has shut down in both directions is closed as well,
        although it is still there: nothing can be read from it.
        """
        for theirs, ours in self.pairs():
            theirs.shutdown(socket.SHUT_RDWR)
            self.assertIs(True, isClosed(Over(ours)), ours)

    def test_open(self) -> None:
        """
        A socket that is open is not, nor one that is closed for writing only.
        """
        for theirs, ours in self.pairs():
            self.assertIs(False, isClosed(Over(ours)), ours)
            theirs.shutdown(socket.SHUT_WR)
            self.assertEqual(b"", ours.recv(1))
            self.assertIs(False, isClosed(Over(ours)), ours)

    def test_shared(self) -> None:
        """
        Nor is one that another process still has open.
        """
        for theirs, ours in self.pairs():
            other = os.dup(theirs.fileno())
            self.addCleanup(os.close, other)
            theirs.shutdown(socket.SHUT_WR)
            theirs.close()
            self.assertIs(False, isClosed(Over(ours)), ours)

    def test_unknown(self) -> None:
        """
        Where the kernel does not say, it is not known: without netlink, or if it does
        not find our own socket either.
        """
        unix, *overTCP = self.pairs()
        for kind in (NoNetlink, Unanswered):
            self.patch(socket, "socket", kind)
            for theirs, ours in overTCP:
                theirs.close()
                self.assertIsNone(isClosed(Over(ours)), (kind, ours))
        self.assertIs(False, isClosed(Over(unix[1])))

    def test_noSocket(self) -> None:
        """
        Nothing is known of a transport in memory, and of a socket that is closed.
        """
        self.assertIsNone(isClosed(StringTransport()))
        _, (theirs, ours), *_rest = self.pairs()
        ours.close()
        self.assertIsNone(isClosed(Over(ours)))
        theirs.close()
