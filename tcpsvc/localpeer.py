# -*- test-case-name: tests.test_localpeer -*-

"""
Whether a program on this machine has closed its end of a connection in both directions.

The end of a TCP stream looks the same whether a program has closed its socket or only
one direction of it. Within one machine the kernel knows more.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from contextlib import suppress
from typing import Any, cast

from twisted.internet.interfaces import ISystemHandle

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
"""
From C{linux/netlink.h} and C{linux/sock_diag.h}.
"""

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port.
_QUERY = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, …, states.
_PORTS = struct.Struct("!HH")
_ANY_SOCKET = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # Interface, cookie.
_INODE = _HEADER.size + 68  # Where inet_diag_msg has idiag_inode, its last field.
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type.
_SHUTDOWN = 8  # INET_DIAG_SHUTDOWN
_RECEIVING = 1  # RCV_SHUTDOWN of net/sock.h
_ERROR = 2  # NLMSG_ERROR
_REQUEST = 1  # NLM_F_REQUEST


def isClosed(transport: object) -> bool | None:
    """
    Ask the kernel about the other end of a connection within this machine, after it
    has ended its stream.

    @param transport: A transport of Twisted's over TCP or a UNIX socket.
    @return: C{True} if no program can read from the other end any more, C{False} if
        one can, and L{None} if that is not known: without a socket, or where
        C{sock_diag(7)} is not available, as in some containers.
    """
    if not ISystemHandle.providedBy(transport):
        return None
    handle = cast(socket.socket, transport.getHandle())
    with suppress(OSError):
        if handle.family == socket.AF_UNIX:
            return _hungUp(handle)
        here, there = handle.getsockname(), handle.getpeername()
        canRead = _canRead(handle.family, there, here)
        if canRead is None and _canRead(handle.family, here, there) is None:
            return None  # Not even our own socket is found.
        return not canRead
    return None


def _hungUp(handle: socket.socket) -> bool:
    """
    Whether the other end of a UNIX socket is closed in both directions.
    """
    poll = select.poll()
    poll.register(handle, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _canRead(family: int, source: Any, destination: Any) -> bool | None:
    """
    Look up a TCP socket of this machine (C{sock_diag(7)}).

    @param source: Its own address, as C{getsockname} has it.
    @param destination: The address that it is connected to.
    @return: Whether a program has it open and has not shut it down for reading;
        L{None} if there is no such socket.
    @raise OSError: If the kernel cannot be asked.
    """
    addresses = b"".join(
        socket.inet_pton(family, each[0]).ljust(16, b"\0")
        for each in (source, destination)
    )
    query = (
        _QUERY.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
        + _PORTS.pack(source[1], destination[1])
        + addresses
        + _ANY_SOCKET
    )
    header = _HEADER.pack(
        _HEADER.size + len(query), SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0
    )
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG
    ) as netlink:
        netlink.send(header + query)
        # The kernel has answered before send() returns.
        answer = netlink.recv(4096, socket.MSG_DONTWAIT)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _ERROR:
        number = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if number == errno.ENOENT:
            return None
        raise OSError(number, "sock_diag")
    isOpen = any(answer[_INODE : _INODE + 4])
    return isOpen and not _attribute(answer, _SHUTDOWN) & _RECEIVING


def _attribute(answer: bytes, kind: int) -> int:
    """
    The first byte of an attribute; 0 if it is not there.
    """
    at = _INODE + 4
    while at + _ATTRIBUTE.size < len(answer):
        length, found = _ATTRIBUTE.unpack_from(answer, at)
        if found == kind:
            return answer[at + _ATTRIBUTE.size]
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return 0
