# -*- test-case-name: tests.test_pending -*-

"""
Connections of which nobody knows yet who they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.doorway import Doorway
from tcpsvc.escapes import printable
from tcpsvc.events import HANDSHAKE_FAILED
from tcpsvc.flood import Flood
from tcpsvc.sockets import Closing, Transport, tune, written
from tcpsvc.tls import Judgement, ServerTLS, whyFailed
from tcpsvc.turns import Turns


class PendingLimit(Factory):
    """
    Wraps the doorway of a listener in TLS, and bounds how many connections
    may be in handshake, and for how long.

    @ivar turns: Each turn of the reactor works on one handshake only.

    Past the limit a newcomer displaces the oldest pending connection of the
    address that has most of them, itself counted: whoever fills the
    table with junk pushes out junk.
    """

    noisy = False

    def __init__(
        self,
        doorways: Factory,
        tls: ServerTLS,
        flood: Flood,
        closing: Closing,
        clock: IReactorTime,
        limit: int,
        patience: float,
        atWork: Callable[[], bool],
    ) -> None:
        """
        @param doorways: Builds the L{Doorway} of each connection.
        @param limit: How many connections may be in handshake.
        @param patience: How long a handshake may take, in seconds.
        @param atWork: Whether somebody is at work in session, and comes first.
        """
        self.flood = flood
        self.closing = closing
        self.clock = clock
        self.patience = patience
        self.tls = tls
        self._wrapping = TLSMemoryBIOFactory(tls, False, doorways, clock)
        # Unbuffered: the default loses replies to lines that arrive together
        # with the end of the stream.
        self._wrapping.protocol = TLSMemoryBIOProtocol
        self._limit = limit
        self._pending: dict[Knock, str] = {}
        self.turns = Turns(clock, atWork)

    def buildProtocol(  # type: ignore[override]  # never None
        self, address: IAddress | None
    ) -> Knock:
        """
        A connection was accepted; no TLS of it is worked on yet.
        """
        return Knock(self, address)

    def wrapInTLS(self, address: IAddress | None) -> TLSMemoryBIOProtocol:
        """
        Build the TLS of one connection, with a doorway in it.
        """
        return self._wrapping.buildProtocol(address)

    def enter(self, knock: Knock) -> None:
        """
        Count a connection in, and displace another if there are too many.
        """
        self._pending[knock] = knock.host
        if len(self._pending) > self._limit:
            self._mostCommon().giveUp("displaced by a newer connection")

    def leave(self, knock: Knock) -> None:
        """
        A connection is no longer pending. It need not have been.
        """
        self._pending.pop(knock, None)

    def stop(self) -> None:
        """
        Give up all that are pending, and tell of it while that can be told.
        """
        for knock in list(self._pending):
            knock.giveUp("the service is stopping")

    def _mostCommon(self) -> Knock:
        """
        The oldest connection of the address that has most of them.
        """
        counts = Counter(self._pending.values())
        return max(self._pending, key=lambda knock: counts[knock.host])


@implementer(IHalfCloseableProtocol)
class Knock(Protocol):
    """
    One connection, until it is known who it is. TLS begins with the first
    octets that come; from then on they go straight to it.

    @ivar host: The address that it counts for.
    """

    factory: PendingLimit
    transport: Transport  # type: ignore[assignment]  # never None while in use

    def __init__(self, factory: PendingLimit, address: IAddress | None) -> None:
        self.factory = factory
        self.host: str = getattr(address, "host", "unix")
        self._address = address
        self._tls: TLSMemoryBIOProtocol | None = None
        self._judgement = Judgement()
        self._failure = ""
        self._waits = False
        self._gone = False

    def connectionMade(self) -> None:
        """
        Wait for the handshake, but not for ever.
        """
        tune(self.transport)
        self._timer = self.factory.clock.callLater(
            self.factory.patience,
            self.giveUp,
            f"no handshake within {self.factory.patience:g} s",
        )
        self.factory.enter(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the handshake: work on them, when it is their turn.
        """
        if self._failure:
            return
        if not self.factory.turns.do(lambda: self._shakeHands(data)):
            self._waits = True
            self.transport.pauseProducing()

    def _shakeHands(self, data: bytes) -> bool:
        """
        Work on octets of the handshake, of which the first begin TLS.

        @return: Whether there is still somebody to do it with.
        """
        if self._failure or self._gone:
            return False
        if self._waits:
            self._waits = False
            self.transport.resumeProducing()
        if self._tls is None:
            self._tls = self.factory.wrapInTLS(self._address)
            doorway = self._tls.wrappedProtocol
            assert isinstance(doorway, Doorway)
            doorway.handshakeEnded = self._handshakeEnded
            self._tls.makeConnection(self.transport)
            self._judgement = self.factory.tls.judgementOf(self._tls.getHandle())
        self._tls.dataReceived(data)
        return True

    def giveUp(self, why: str) -> None:
        """
        Reset the connection.

        @param why: In words, for log and trail.
        """
        self._failure = why
        self._settle()
        self._tell(why)
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """
        The peer closed TCP without a word of TLS: what has been written is
        still sent.
        """
        self.factory.closing.close(self.transport)

    def writeConnectionLost(self) -> None:
        """
        Never happens: nobody closes only our half.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell the inner layers, or the journal if there are none.
        """
        self._gone = True
        self.factory.closing.closed(self.transport)
        if self._tls is None:
            self._handshakeEnded(reason)
        else:
            self._tls.connectionLost(reason)

    def _settle(self) -> None:
        """
        Count the connection out.
        """
        self.factory.leave(self)
        if self._timer.active():
            self._timer.cancel()

    def _handshakeEnded(self, failure: Failure | None) -> None:
        """
        @param failure: Why the handshake failed, or L{None} if it did not.
        """
        self._settle()
        if self._tls is not None:
            # No detour from now on.
            self.dataReceived = self._tls.dataReceived  # type: ignore[method-assign]
        if failure is not None and not self._failure:
            self._tell(whyFailed(self._judgement, failure.value))

    def _tell(self, why: str) -> None:
        """
        Tell the journal of a handshake that failed.

        @param why: In words; what was found of the certificate says more.
        """
        judgement = self._judgement
        record: dict[str, object] = {
            "address": written(self.transport.getPeer()),
            "reason": judgement.refusal or why,
        }
        more = ""
        shown = judgement.shown
        if shown is not None:
            record["certificate"] = shown
            more = f" ({printable(str(shown['subject']))})"
        self.factory.flood.tell(HANDSHAKE_FAILED, record, more)
