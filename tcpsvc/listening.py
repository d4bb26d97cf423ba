# -*- test-case-name: tests.test_listening -*-

"""
Listening sockets: those that another process has opened, those of UNIX paths, and
those behind a proxy.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from attrs import frozen
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

from tcpsvc.sockets import written

BACKLOG = 511
"""
How many connections may wait to be accepted (C{man 2 listen}). With Twisted's
default of 50, clients wait 1 to 3.5 s during a flood.
"""

LOCK_PATIENCE = 2.0
"""
Seconds to wait for another process that sets up a UNIX socket in the same directory.
"""

_FAMILIES: dict[int, str] = {
    socket.AF_INET: "IPv4",
    socket.AF_INET6: "IPv6",
    socket.AF_UNIX: "UNIX",
}
_TYPES: dict[int, str] = {
    socket.SOCK_STREAM: "stream",
    socket.SOCK_DGRAM: "datagram",
    socket.SOCK_SEQPACKET: "sequential packet",
}


# Inherited sockets.


def familyOf(descriptor: int) -> socket.AddressFamily:
    """
    Check that an inherited descriptor is a listening stream socket, of TCP or UNIX.

    @return: Its address family: C{AF_INET}, C{AF_INET6} or C{AF_UNIX}.
    @raise ValueError: If it is anything else. One line says what it is.
    """
    with _asked(descriptor) as asked:
        family = asked.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
        kind = asked.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        protocol = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
        accepts = asked.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    name = _FAMILIES.get(family)
    if (
        name is None
        or kind != socket.SOCK_STREAM
        or (family != socket.AF_UNIX and protocol != socket.IPPROTO_TCP)
    ):
        what = f"{name or f'family {family}'} {_TYPES.get(kind, f'type {kind}')}"
        raise ValueError(
            f"descriptor {descriptor} is a socket of another kind ({what}, protocol "
            f"{protocol}); expected TCP or UNIX stream; to fix: use ListenStream= in "
            "the socket unit"
        )
    if not accepts:
        raise ValueError(
            f"descriptor {descriptor} is a socket that does not listen; to fix: set "
            "Accept=no in the socket unit"
        )
    return socket.AddressFamily(family)


def _asked(descriptor: int) -> socket.socket:
    """
    @return: A socket with a descriptor of its own, to ask.
    @raise ValueError: If the descriptor is not a socket.
    """
    try:
        copy = os.dup(descriptor)
    except OSError:
        raise ValueError(f"descriptor {descriptor} is closed") from None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise ValueError(f"descriptor {descriptor} is not a socket") from None


def inheritedAddress(descriptor: int) -> tuple[str, bool]:
    """
    @return: Where an inherited socket listens, as people write it, and whether only
        this machine can connect to it.
    """
    with _asked(descriptor) as asked:
        name = asked.getsockname()
        if asked.family == socket.AF_UNIX:
            return _unixPlace(name), True
    host = ip_address(name[0].partition("%")[0])
    place = f"[{host}]" if host.version == 6 else str(host)
    return f"{place}:{name[1]}", host.is_loopback


class _InheritedPort(unix.Port):
    """
    A UNIX port whose socket another process has made. Its path, its mode and its
    backlog belong to that process: Twisted would set the mode to 666 and remove the
    path at the end.
    """

    def startListening(self) -> None:
        """
        Listen as a TCP port does that was adopted.
        """
        tcp.Port.startListening(self)

    def connectionLost(self, reason: Any) -> None:
        """
        Close the descriptor, and only that.
        """
        tcp.Port.connectionLost(self, reason)


@implementer(IStreamServerEndpoint)
@frozen
class InheritedUNIXEndpoint:
    """
    Listens on a UNIX socket that another process has made.
    """

    reactor: Any
    fileno: int

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @see: L{IStreamServerEndpoint.listen}
        """
        return execute(self._adopt, factory)

    def _adopt(self, factory: IProtocolFactory) -> IListeningPort:
        """
        Listen on it, and close the descriptor that was passed.
        """
        os.set_blocking(self.fileno, False)
        # Private, but it is what adoptStreamPort calls.
        port = _InheritedPort._fromListeningDescriptor(
            self.reactor, self.fileno, factory
        )
        port.startListening()
        os.close(self.fileno)
        return cast(IListeningPort, port)


# UNIX paths.


@contextmanager
def vacated(path: str) -> Iterator[None]:
    """
    Remove a UNIX socket that no process has open, and its lock. Meanwhile, and while
    the caller binds another socket to the path, no other tcpsvc does the same in
    that directory.

    The lock of Twisted only asks whether its process lives. In a container that may
    be the process that asks, so the lock would never be free.

    @raise OSError: If the path cannot be had: a process has the socket open, or it
        is not a socket.
    """
    directory = _locked(path)
    try:
        _removeStale(path)
        yield
    finally:
        if directory is not None:
            os.close(directory)


def _locked(path: str) -> int | None:
    """
    @return: A descriptor whose close gives up the lock of the directory that C{path}
        is in; L{None} if it cannot be locked: it cannot be read, or its file system
        has no locks. Then two services that start in the same moment could remove
        each other's socket.
    @raise OSError: If another process holds the lock, or there is no directory.
    """
    try:
        directory = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return None
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            flock(directory, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            os.close(directory)
            raise OSError(
                errno.EWOULDBLOCK, "another process has locked the directory"
            ) from None
        except OSError:
            os.close(directory)
            return None
        return directory


def _removeStale(path: str) -> None:
    """
    Remove a socket that no process has open, and the lock that is left of it.

    The socket that asks is of another kind. So a process that listens refuses it
    and does not notice: a connection would be a session.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "the file exists and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(path)
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        Path(path).unlink()
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
    lock = Path(f"{path}.lock")
    if lock.is_symlink() and str(lock.readlink()).isdecimal():
        lock.unlink()


@implementer(IStreamServerEndpoint)
@frozen
class VacatedUNIXEndpoint:
    """
    Listens on a UNIX path, also if a process that was killed has left it behind.
    """

    path: str
    endpoint: IStreamServerEndpoint

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @see: L{IStreamServerEndpoint.listen}
        """
        try:
            with vacated(self.path):
                return self.endpoint.listen(factory)
        except OSError as error:
            return fail(CannotListenError(None, self.path, error))


# PROXY headers.


@implementer(IHalfCloseableProtocol)
class _ProxiedConnection(HAProxyProtocolWrapper):
    """
    A connection that begins with a PROXY header. In addition to Twisted's, it tells
    the protocol within when the peer has closed its half.
    """

    def readConnectionLost(self) -> None:
        """
        The peer has closed its half.
        """
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            cast(IHalfCloseableProtocol, self.wrappedProtocol).readConnectionLost()
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Our half is closed.
        """
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            cast(IHalfCloseableProtocol, self.wrappedProtocol).writeConnectionLost()


class _ProxiedFactory(WrappingFactory):
    """
    Builds them.
    """

    noisy = False
    protocol = _ProxiedConnection


@implementer(IStreamServerEndpoint)
@frozen
class ProxiedEndpoint:
    """
    Listens for connections that begin with a PROXY header. Their C{getPeer} gives the
    client's address when the header has come, and the proxy's before.
    """

    endpoint: IStreamServerEndpoint

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @see: L{IStreamServerEndpoint.listen}
        """
        return self.endpoint.listen(_ProxiedFactory(factory))


def inheritedDescriptor(endpoint: IStreamServerEndpoint) -> int | None:
    """
    @return: The descriptor that an endpoint adopts; L{None} if it opens a socket of
        its own.
    """
    while isinstance(endpoint, ProxiedEndpoint):
        endpoint = endpoint.endpoint
    if isinstance(endpoint, (AdoptedStreamServerEndpoint, InheritedUNIXEndpoint)):
        return cast(int, endpoint.fileno)
    return None


# For people.


def placeOf(port: IListeningPort) -> str:
    """
    Where a port listens, as people write it.
    """
    host = port.getHost()
    name = getattr(host, "name", None)
    return written(host) if name is None else _unixPlace(name)


def _unixPlace(name: str | bytes) -> str:
    """
    The address of a UNIX socket, as people write it. An abstract one begins with
    C{@}.
    """
    text = os.fsdecode(name)
    return f"unix:{text.replace(chr(0), '@')}"


def whyNotListening(error: BaseException | None) -> str:
    """
    Why an endpoint cannot be listened on, without where.
    """
    cause = error.socketError if isinstance(error, CannotListenError) else error
    return getattr(cause, "strerror", None) or str(cause)
