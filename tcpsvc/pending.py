# -*- test-case-name: tests.test_pending -*-

"""
Connections of which nobody knows yet who they are.
"""

from __future__ import annotations

import secrets
from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import cast

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.admission import Admission
from tcpsvc.bucket import TokenBucket
from tcpsvc.closing import Closing
from tcpsvc.doorway import Doorway
from tcpsvc.duplex import DuplexTLS
from tcpsvc.events import HANDSHAKE_FAILED
from tcpsvc.flood import Flood
from tcpsvc.sockets import MAX_OTHER_READ, Transport, readAtMost, tune, written
from tcpsvc.tls import INTERNAL_ERROR, Judgement, ServerTLS, whyFailed
from tcpsvc.turns import Turns

READ_RATE = 50.0
"""
How many times a second something is read from a connection that does not hold the
slot.
"""

READ_BURST = 50.0
"""
The same at once after a pause: more than a handshake takes.
"""


MAX_BEGUN = 128
"""
How many handshakes may be under way, of the connections that are pending: each takes
about 60 KiB.
"""

MAX_BYTES = 4 * 1024 * 1024
"""
Bytes of all handshakes under way, together: OpenSSL keeps certificates of up to 100 KiB
until they are complete.
"""

DISPLACED = "displaced by a newer connection"


@lru_cache(maxsize=1024)
def groupOf(host: str) -> str:
    """
    @return: What the address of a host counts as: an IPv4 address, or the /64 of IPv6,
        which one network has as a whole.
    """
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(ip, IPv6Address):
        return host
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Address(int(ip) >> 64 << 64))


class PendingLimit(Factory):
    """
    Wraps the doorway of a listener in TLS, and bounds how many connections
    may be in handshake, and for how long.

    Past the limit a newcomer displaces a pending connection: of the address (IPv6: of
    the /64) that has most of them, itself counted, one that has sent nothing if there
    is any; at random among equals. So junk displaces junk.

    @ivar turns: The share of the reactor's time that all have but the holder.
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
        admission: Admission,
    ) -> None:
        """
        @param doorways: Builds the L{Doorway} of each connection.
        @param limit: How many connections may be in handshake.
        @param patience: How long a handshake may take, in seconds.
        @param admission: Knows the holder, who comes first, and who comes too often.
        """
        self.flood = flood
        self.closing = closing
        self.clock = clock
        self.patience = patience
        self.tls = tls
        self._wrapping = TLSMemoryBIOFactory(tls, False, doorways, clock)
        # Unbuffered: the default loses replies to lines that arrive together
        # with the end of the stream.
        self._wrapping.protocol = DuplexTLS
        self._limit = limit
        self._pending: dict[Knock, None] = {}
        self._bytes = 0
        self.reconnections = admission.reconnections
        self.turns = Turns(clock, admission.quiet)

    def buildProtocol(  # type: ignore[override]  # never None
        self, address: IAddress | None
    ) -> Knock:
        """
        A connection was accepted; no TLS of it is worked on yet.
        """
        return Knock(self, address)

    def wrapInTLS(self, address: IAddress | None) -> DuplexTLS:
        """
        Build the TLS of one connection, with a doorway in it.
        """
        return cast(DuplexTLS, self._wrapping.buildProtocol(address))

    def enter(self, knock: Knock) -> None:
        """
        Count a connection in, and displace another if there are too many.
        """
        self._pending[knock] = None
        if len(self._pending) > self._limit:
            # Never the newcomer, which could not have sent anything yet.
            self._displace([one for one in self._pending if one is not knock], knock)

    def begin(self, knock: Knock) -> None:
        """
        Begin the handshake of a connection, and displace another if there are too many.
        """
        begun = [one for one in self._pending if one.hasBegun]
        if len(begun) >= MAX_BEGUN:
            self._displace(begun, knock)

    def received(self, knock: Knock, number: int) -> None:
        """
        Count bytes of a handshake, and displace the largest if there are too many.
        """
        if knock not in self._pending:
            return
        knock.received += number
        self._bytes += number
        if self._bytes > MAX_BYTES:
            max(self._pending, key=lambda one: one.received).giveUp(DISPLACED)

    def leave(self, knock: Knock) -> None:
        """
        A connection is no longer pending. It need not have been.
        """
        if knock in self._pending:
            del self._pending[knock]
            self._bytes -= knock.received

    def stop(self) -> None:
        """
        Give up all that are pending, and tell of it while that can be told.
        """
        for knock in list(self._pending):
            knock.giveUp("the service is stopping")

    def _displace(self, among: list[Knock], newcomer: Knock) -> None:
        """
        Displace one of these connections: of the address that has most of them, one
        that has sent nothing if there is any.
        """
        counts = Counter([newcomer.group, *(knock.group for knock in among)])
        most = max(counts[knock.group] for knock in among)
        equals = [knock for knock in among if counts[knock.group] == most]
        silent = [knock for knock in equals if knock.isSilent]
        secrets.choice(silent or equals).giveUp(DISPLACED)


@implementer(IHalfCloseableProtocol)
class Knock(Protocol):
    """
    One connection under its TLS, which begins with the first bytes that come.

    Bytes of the holder of the slot go straight to TLS. Those of all others wait for
    their share of the reactor's time, and only so many times a second: whatever they
    are, what they cost the holder is bounded.

    @ivar received: How many bytes have come before the handshake has ended.
    """

    factory: PendingLimit
    transport: Transport  # type: ignore[assignment]  # never None while in use

    def __init__(self, factory: PendingLimit, address: IAddress | None) -> None:
        self.factory = factory
        self._address = address
        self._tls: DuplexTLS | None = None
        self._judgement = Judgement()
        self._failure = ""
        self._held = b""
        self.received = 0
        self._isHolder = False
        self._reads = TokenBucket(factory.clock, READ_RATE, READ_BURST)
        self._later: IDelayedCall | None = None
        self._gone = False
        self._handshakeDone = False

    @property
    def group(self) -> str:
        """The address that it counts for. A proxy tells it some time (C{haproxy:})."""
        return groupOf(getattr(self.transport.getPeer(), "host", "unix"))

    @property
    def isSilent(self) -> bool:
        """Whether the peer has sent nothing yet."""
        return not self.received

    @property
    def hasBegun(self) -> bool:
        """Whether the handshake has begun."""
        return self._tls is not None

    def connectionMade(self) -> None:
        """
        Wait for the handshake, but not for ever.
        """
        tune(self.transport)
        readAtMost(self.transport, MAX_OTHER_READ)
        self._timer = self.factory.clock.callLater(
            self.factory.patience,
            self.giveUp,
            f"no handshake within {self.factory.patience:g} s",
        )
        self.factory.enter(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Give bytes to TLS, when it is their turn.
        """
        if self._isHolder and self._tls is not None and not self._held:
            self._tls.dataReceived(data)
            return
        self.factory.received(self, len(data))
        if self._failure:
            return
        isNext = not self._held
        self._held += data
        if not isNext:
            self.transport.pauseProducing()
            return
        delay = self._reads.take()
        if self._tls is None:
            delay = max(delay, self.factory.reconnections.delay(self.group))
        if delay:
            self.transport.pauseProducing()
            self._later = self.factory.clock.callLater(delay, self._waitForTurn)
        else:
            self._waitForTurn()

    def _waitForTurn(self) -> None:
        """
        Work on what is held, now or later.
        """
        self._later = None
        # Handshakes never wait behind all that others of the same address send later.
        group = f"{self.group}, later" if self._handshakeDone else self.group
        if not self.factory.turns.do(group, self._work):
            self.transport.pauseProducing()

    def _work(self) -> bool:
        """
        Work on what is held, of which the first begins TLS.

        @return: Whether there is still somebody to do it with.
        """
        if self._failure or self._gone:
            return False
        data, self._held = self._held, b""
        # Before TLS, above which somebody may want to read nothing more.
        self.transport.resumeProducing()
        try:
            self._decrypt(data)
        except Exception:
            # An error of this program: the client must not wait for a timeout.
            self.factory.flood.tellFailure(Failure())
            if self._timer.active():
                self.giveUp(INTERNAL_ERROR)
            else:
                self.transport.abortConnection()
        return True

    def _decrypt(self, data: bytes) -> None:
        """
        Give bytes to TLS, which the first ones begin.
        """
        if self._tls is None:
            self.factory.begin(self)
            self._tls = self.factory.wrapInTLS(self._address)
            doorway = self._tls.wrappedProtocol
            assert isinstance(doorway, Doorway)
            doorway.handshakeEnded = self._handshakeEnded
            doorway.preferred = self._setHolder
            self._tls.makeConnection(self.transport)
            self._judgement = self._tls.getHandle().judgement
        self._tls.dataReceived(data)

    def _setHolder(self, isHolder: bool) -> None:
        """
        The client holds the slot, or does not any more.
        """
        self._isHolder = isHolder

    def giveUp(self, why: str) -> None:
        """
        Reset the connection.

        @param why: In words, for log and trail.
        """
        self._failure = why
        try:
            self._settle()
            self._tell(why)
        finally:
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """
        The peer has ended TCP's stream. In the handshake that is the end of it all,
        but for what has been written.
        """
        if self._tls is not None and self._handshakeDone:
            self._tls.readConnectionLost()
        else:
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
        if self._later is not None:
            self._later.cancel()
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
        self._handshakeDone = failure is None
        if failure is not None and not self._failure:
            self._tell(whyFailed(self._judgement, failure.value))
            if self._tls is not None:
                # It has cost more than a connection.
                self.factory.reconnections.came(self.group)

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
        self.factory.flood.tell(HANDSHAKE_FAILED, record, details=judgement.account)
