"""
The client's side of tcpsvc, for programs under Twisted::

    session = await connect(reactor, "bench.example", keys=KeyDirectory(Path("keys")))
    reply = await session.send("ECHO hello")
    await session.close()

Importing this installs no reactor.
"""

from tcpsvc.client.address import DEFAULT_PORT, Address, parseAddress
from tcpsvc.client.connection import DEFAULT_TIMEOUT, Session, connect
from tcpsvc.client.errors import (
    BackendDown,
    BadAddress,
    Busy,
    CannotReach,
    CertificateRefused,
    ClientError,
    ConfigurationError,
    IsGateway,
    ProtocolViolation,
    SessionEnded,
    Unavailable,
)
from tcpsvc.client.relay import Relay
from tcpsvc.client.stream import Stream, openStream
from tcpsvc.keyfiles import KeyDirectory
from tcpsvc.wire import Reply

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_TIMEOUT",
    "Address",
    "BackendDown",
    "BadAddress",
    "Busy",
    "CannotReach",
    "CertificateRefused",
    "ClientError",
    "ConfigurationError",
    "IsGateway",
    "KeyDirectory",
    "ProtocolViolation",
    "Relay",
    "Reply",
    "Session",
    "SessionEnded",
    "Stream",
    "Unavailable",
    "connect",
    "openStream",
    "parseAddress",
]
