"""
A peer: the LineReceiver of Twisted's manual over TLS, with the client's certificate
demanded and each line sent back. What a service costs before it does anything else.

C{python -m bench.plain PORT CA CERTIFICATE KEY}
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from twisted.internet import reactor as globalReactor
from twisted.internet import ssl
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import ServerFactory
from twisted.protocols.basic import LineReceiver


class Echo(LineReceiver):
    """
    Sends each line back.
    """

    delimiter = b"\n"

    def connectionMade(self) -> None:
        """
        Let no reply wait for an acknowledgement.
        """
        cast(ITCPTransport, self.transport).setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:
        """
        Send it back.
        """
        self.sendLine(line)


def serve(port: int, ca: Path, certificate: Path, key: Path) -> None:
    """
    Listen on a loopback port, and run until told to stop.
    """
    reactor = cast(PosixReactorBase, globalReactor)
    own = ssl.PrivateCertificate.loadPEM(certificate.read_bytes() + key.read_bytes())
    context = own.options(ssl.Certificate.loadPEM(ca.read_bytes()))
    factory = ServerFactory.forProtocol(Echo)
    reactor.listenSSL(port, factory, context, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    serve(int(sys.argv[1]), *(Path(name) for name in sys.argv[2:]))
