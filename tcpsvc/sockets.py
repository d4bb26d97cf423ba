# -*- test-case-name: tests.test_sockets -*-

"""
What is done to the sockets under the connections.
"""

from __future__ import annotations

import select
import socket
import sys
from array import array
from collections.abc import Callable
from fcntl import ioctl
from ipaddress import IPv6Address as IPv6Host
from ipaddress import ip_address
from termios import TIOCOUTQ
from typing import Protocol as TypingProtocol
from typing import cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IPushProducer,
    IReactorTime,
    ISystemHandle,
    ITCPTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.internet.tcp import Connection, Port
from twisted.protocols.policies import ProtocolWrapper

from tcpsvc.escapes import printable

KEEPALIVE_IDLE = 15
"""
Seconds of silence before the first keepalive probe.
"""

KEEPALIVE_INTERVAL = 5
"""
Seconds between two keepalive probes.
"""

KEEPALIVE_PROBES = 3
"""
How many probes may go unanswered.
"""

USER_TIMEOUT = 30
"""
Seconds that sent data may stay unacknowledged (RFC 5482). Keepalive finds no
dead peer while data is in flight, and this finds none while all is quiet.
"""

PULSE_PERIOD = 5.0
"""
Seconds between two looks whether a connection is still there.
"""

MAX_READ = 65536
"""
Bytes that are read at once from the holder of the slot.
"""

MAX_OTHER_READ = 4096
"""
The same of everybody else before and after their sessions: what is kept of a
connection until its turn comes.
"""

MAX_CONTROL_READ = 256
"""
The same of a control connection, in which the same bytes can ask for more work.
"""

ACCEPTS_A_TURN = 1
"""
How many connections are accepted in one turn of the reactor.
"""


def tune(transport: Transport) -> None:
    """
    Find dead peers soon, and send small writes at once.

    A transport without TCP under it is left as it is. A connection whose socket takes
    no options any more is aborted.
    """
    if not ISystemHandle.providedBy(transport):
        return  # A transport in memory.
    if not ITCPTransport.providedBy(transport) or IUNIXTransport.providedBy(transport):
        return  # Twisted's UNIX sockets say that they are TCP too.
    tcp = cast(ITCPTransport, transport)
    handle = cast(socket.socket, cast(ISystemHandle, transport).getHandle())
    try:
        tcp.setTcpNoDelay(True)
        tcp.setTcpKeepAlive(True)
        for option, value in (
            (socket.TCP_KEEPIDLE, KEEPALIVE_IDLE),
            (socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL),
            (socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
            (socket.TCP_USER_TIMEOUT, USER_TIMEOUT * 1000),
        ):
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError:
        transport.abortConnection()


def readAtMost(transport: object, amount: int) -> None:
    """
    Bound what one turn of the reactor reads from a connection.

    @param amount: Bytes at a time.
    """
    inner = beneath(transport)
    if isinstance(inner, Connection):
        inner.bufferSize = amount


def undelivered(transport: object) -> int:
    """
    @return: How many octets that were given to the system have not arrived at
        the peer's; 0 if there is no socket. Twisted keeps none for itself while
        this is 0.
    """
    handle = _socketUnder(transport)
    if handle is None:
        return 0
    try:
        return array("i", ioctl(handle, TIOCOUTQ, b"\0\0\0\0"))[0]
    except (OSError, TypeError, ValueError):
        return 0  # It is closed, or only looks like a socket.


_BYTES_ACKED = 120  # Where struct tcp_info of linux/tcp.h has tcpi_bytes_acked.


def acknowledged(transport: object) -> int:
    """
    @return: How many bytes of the connection the peer's system has acknowledged so
        far; 0 if that is not known, as of a UNIX socket.
    """
    handle = _socketUnder(transport)
    if handle is None:
        return 0
    try:
        info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except (AttributeError, OSError):
        return 0
    if len(info) < _BYTES_ACKED + 8:
        return 0
    return int.from_bytes(info[_BYTES_ACKED : _BYTES_ACKED + 8], sys.byteorder)


def beneath(transport: object) -> object:
    """
    The transport under the TLS around it, if there is some.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def _socketUnder(transport: object) -> socket.socket | None:
    """
    The socket under a transport and the TLS around it, if there is one.
    """
    inner = beneath(transport)
    if not ISystemHandle.providedBy(inner):
        return None
    return cast(socket.socket, inner.getHandle())


def holdAcceptsDown(port: IListeningPort) -> None:
    """
    Let a listening port accept few connections a turn of the reactor.

    Left alone, it takes ever larger bursts of a flood, and the session in
    progress waits behind each burst.
    """
    if not isinstance(port, Port):
        return
    doRead: Callable[[], None] = port.doRead

    def heldDown() -> None:
        port.numberAccepts = ACCEPTS_A_TURN
        doRead()

    port.doRead = heldDown  # type: ignore[method-assign]  # Twisted has no setting


def written(address: object) -> str:
    """
    @return: An address as people write it: C{192.0.2.1:49152},
        C{[2001:db8::1]:49152}, C{unix}, or C{unknown} if it is of another kind. An
        IPv4 address that an IPv6 socket shows (RFC 4291, section 2.5.5.2) is
        written as IPv4.
    """
    if address is None or isinstance(address, UNIXAddress):
        return "unix"
    if not isinstance(address, (IPv4Address, IPv6Address)):
        return "unknown"
    try:
        host = ip_address(address.host)
    except ValueError:  # A proxy has sent it.
        return f"[{printable(address.host)}]:{address.port}"
    if isinstance(host, IPv6Host):
        host = host.ipv4_mapped or host
    six = isinstance(host, IPv6Host)
    return f"[{host}]:{address.port}" if six else f"{host}:{address.port}"


class Transport(TypingProtocol):
    """
    What Twisted's TCP, UNIX and TLS transports have in common.
    """

    def write(self, data: bytes) -> None:
        """Send octets."""

    def getPeer(self) -> IAddress:
        """Where the other end is."""

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Tell the producer when to pause and when to go on."""

    def unregisterProducer(self) -> None:
        """Tell it no more; only then can the transport be closed."""

    def pauseProducing(self) -> None:
        """Read no more."""

    def resumeProducing(self) -> None:
        """Read again."""

    def loseConnection(self) -> None:
        """Close when all is written; over TLS, when the peer answers."""

    def abortConnection(self) -> None:
        """Close at once."""


class Pulse:
    """
    Feels whether a connection is still there, as long as it is in use.

    A reactor looks only at sockets that it reads from or writes to. While
    a client is not read from, because it has sent too much at once, and nothing
    is written to it, nobody else would notice that it is gone.
    """

    def __init__(self, clock: IReactorTime, protocol: Protocol) -> None:
        self._protocol = protocol
        self._loop = LoopingCall(self._feel)
        self._loop.clock = clock

    def start(self) -> None:
        """
        Feel it now and then.
        """
        self._loop.start(PULSE_PERIOD, now=False)

    def stop(self) -> None:
        """
        Feel it no more.
        """
        if self._loop.running:
            self._loop.stop()

    def _feel(self) -> None:
        """
        Cut the connection if its socket has failed.
        """
        transport = cast(Transport, self._protocol.transport)
        if hasFailed(transport):
            transport.abortConnection()


def hasFailed(transport: Transport) -> bool:
    """
    Whether the socket under a transport was reset, or found dead by the kernel.
    """
    return bool(_eventsOf(transport) & (select.POLLERR | select.POLLHUP))


def hasHungUp(transport: Transport) -> bool:
    """
    Whether the peer has closed its half of the socket under a transport, even if not
    all that it has sent before was read.
    """
    return bool(_eventsOf(transport) & select.POLLRDHUP)


def _eventsOf(transport: Transport) -> int:
    """
    What poll(2) says of the socket under a transport.
    """
    handle = _socketUnder(transport)
    if handle is None or handle.fileno() < 0:
        return 0
    poll = select.poll()
    poll.register(handle.fileno(), select.POLLRDHUP)
    return next((events for _, events in poll.poll(0)), 0)
