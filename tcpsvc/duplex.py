# -*- test-case-name: tests.test_duplex -*-

"""
TLS whose two directions end one at a time, as those of TCP do.

A C{close_notify} ends only the direction of its sender (RFC 8446, section 6.1).
Twisted closes the connection at the peer's, so replies that are not ready yet would be
lost. Both classes below belong together.
"""

from __future__ import annotations

from typing import cast

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from tcpsvc.sockets import Transport

MAX_RECORD = 2**15
"""
The most bytes that are taken at once from what OpenSSL has to send.
"""


class DuplexTLS(TLSMemoryBIOProtocol):
    """
    The TLS layer of a connection, for a L{DuplexConnection}.

    The protocol above is told of the peer's C{close_notify}, and again of the end of
    TCP's stream, by C{readConnectionLost} if it provides L{IHalfCloseableProtocol}, and
    goes on writing. Without that interface the connection is closed, as by Twisted.

    @ivar inputEnded: Whether the peer's direction has ended.
    @ivar streamEnded: Whether the peer has closed TCP's direction too. A peer that
        waits for answers seldom does.
    @ivar leaves: Whether we have ended both TLS and TCP's stream, and the peer had not.
    @ivar truncated: Whether it has done so without a C{close_notify}: then the end
        may be the work of a third party.
    """

    inputEnded = False
    streamEnded = False
    leaves = False
    truncated = False
    transport: Transport  # type: ignore[assignment]  # never None while in use
    _discards = False

    def dataReceived(self, data: bytes) -> None:
        """
        Decrypt what came, unless it is discarded.
        """
        if not self._discards:
            super().dataReceived(data)

    def readConnectionLost(self) -> None:
        """
        TCP's stream has ended at the peer's.
        """
        if self._discards or self.leaves:
            self.transport.loseConnection()
        elif not self.streamEnded:
            self.streamEnded = True
            self.truncated = not self.inputEnded
            self.inputEnded = True
            self._tellEnd()

    def closeNotified(self) -> None:
        """
        The peer has sent its C{close_notify}. It may be reported repeatedly.
        """
        if not self.inputEnded:
            self.inputEnded = True
            self._tellEnd()

    def _tellEnd(self) -> None:
        """
        Tell the protocol above that nothing more will come.
        """
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            cast(IHalfCloseableProtocol, self.wrappedProtocol).readConnectionLost()
        else:
            self.loseConnection()

    def loseWriteConnection(self) -> None:
        """
        Send C{close_notify} behind all that was written: nothing may be written any
        more. The peer can still be heard. No producer may be registered.
        """
        handle = self.getHandle()
        if handle is None or self.disconnecting:
            return
        if handle.get_shutdown() & SSL.SENT_SHUTDOWN:
            return
        try:
            handle.shutdown()
            self.transport.write(handle.bio_read(MAX_RECORD))
        except SSL.Error:
            # The handshake has not ended, or TLS has failed: nothing can be said.
            self.abortConnection()

    def loseConnection(self) -> None:
        """
        @see: L{twisted.internet.interfaces.ITransport.loseConnection}
        """
        super().loseConnection()
        self._endStream()

    def unregisterProducer(self) -> None:
        """
        @see: L{twisted.internet.interfaces.IConsumer.unregisterProducer}
        """
        super().unregisterProducer()
        self._endStream()

    def _endStream(self) -> None:
        """
        End TCP's stream behind our C{close_notify}: to a peer that knows half-closes,
        only that says that we leave. One that has done so itself cannot answer, and
        is not waited for.
        """
        handle = self.getHandle()
        if self._aborted or not self.disconnecting or handle is None:
            return
        if not handle.get_shutdown() & SSL.SENT_SHUTDOWN:
            return  # Something is still to be written.
        if self.streamEnded:
            self.transport.loseConnection()
        elif not self.leaves and not self.inputEnded:
            self.leaves = True
            if ITCPTransport.providedBy(self.transport):
                cast(ITCPTransport, self.transport).loseWriteConnection()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """
        TLS has ended, by an error perhaps: nothing that is written leaves any more. A
        producer that is still registered would keep TCP from closing.
        """
        super()._tlsShutdownFinished(reason)
        producer = self._producer
        if producer is not None:
            self.unregisterProducer()
            producer.stopProducing()

    def closeUnheard(self) -> None:
        """
        Send C{close_notify} and the end of TCP's stream, and discard what still comes
        without decrypting it, until the peer closes too. A peer that floods costs
        no cryptography this way, and nothing that was written is lost to a reset.
        """
        if self._discards:
            return
        self.loseWriteConnection()
        self._discards = True
        if ITCPTransport.providedBy(self.transport):
            cast(ITCPTransport, self.transport).loseWriteConnection()
        else:
            self.transport.loseConnection()


class DuplexConnection(SSL.Connection):
    """
    OpenSSL's side of a L{DuplexTLS}.
    """

    def __init__(self, context: SSL.Context, protocol: TLSMemoryBIOProtocol) -> None:
        super().__init__(context, None)
        self._protocol = protocol

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """
        @raise SSL.WantReadError: Also at the peer's C{close_notify}, of which the
            protocol has been told.
        """
        try:
            return super().recv(bufsiz, flags)
        except SSL.ZeroReturnError:
            protocol = self._protocol
            if not isinstance(protocol, DuplexTLS):
                raise
            if protocol.leaves:
                # The end of TCP's stream follows, and closes the connection.
                raise SSL.WantReadError from None
            if protocol.disconnecting or not IHalfCloseableProtocol.providedBy(
                protocol.wrappedProtocol
            ):
                raise
            protocol.closeNotified()
            raise SSL.WantReadError from None
