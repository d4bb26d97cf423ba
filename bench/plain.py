"""
A peer: the LineReceiver of Twisted's manual over TLS, with the client's certificate
demanded and each line sent back. What a service costs before it does anything else.

C{python -m bench.plain PORT CA CERTIFICATE KEY}
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet import reactor, ssl
from twisted.internet.interfaces import IReactorSSL
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver


class Echo(LineReceiver):
    """
    Sends each line back.
    """

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        """
        Send it back.
        """
        self.sendLine(line)


def serve(port: int, ca: Path, certificate: Path, key: Path) -> None:
    """
    Listen on a loopback port, and run until told to stop.
    """
    own = ssl.PrivateCertificate.loadPEM(certificate.read_bytes() + key.read_bytes())
    options = own.options(ssl.Certificate.loadPEM(ca.read_bytes()))
    IReactorSSL(reactor).listenSSL(
        port, Factory.forProtocol(Echo), options, interface="127.0.0.1"
    )
    reactor.run()  # type: ignore[attr-defined]  # the reactor is a module to mypy


if __name__ == "__main__":
    serve(int(sys.argv[1]), *(Path(name) for name in sys.argv[2:]))
