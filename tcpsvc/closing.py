# -*- test-case-name: tests.test_closing -*-

"""
The connections that are being closed: all that was written is delivered first, and
none of them can linger.
"""

from __future__ import annotations

from typing import cast

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport

from tcpsvc.duplex import DuplexTLS
from tcpsvc.sockets import Transport, acknowledged, undelivered

CLOSE_PATIENCE = 2.0
"""
Seconds that a peer has to answer a close, from when all that was written is delivered.
"""

STALL_PATIENCE = 30.0
"""
Seconds that a peer may take nothing of what was written before the close. The system
gives up on a closed window after as long (L{tcpsvc.sockets.USER_TIMEOUT}).
"""

DELIVERY_PATIENCE = 300.0
"""
Seconds that a peer may take for all of it, however steadily it reads.
"""

SHORT_PATIENCE = 10.0
"""
The same where others wait: for a limit that was reached, or for the service's end.
"""

DELIVERY_PERIOD = 0.1
"""
Seconds between two looks at how much is delivered.
"""

MAX_CLOSING = 64
"""
How many connections that never had a session may be closing at once.
"""


@define(eq=False)
class _Close:
    """
    One connection that is being closed.

    @ivar until: When everything has to be delivered, by the clock.
    @ivar stallsAt: When something more has to be.
    @ivar taken: How many bytes the peer had taken at the last look, and how many were
        left to it.
    """

    until: float
    stallsAt: float
    taken: tuple[int, int] = (0, 0)
    timer: IDelayedCall | None = None


class Closing:
    """
    Closes connections.

    A peer that has been delivered everything and does not answer within
    L{CLOSE_PATIENCE} is cut off, as is one that takes nothing for L{STALL_PATIENCE}.
    If more than L{MAX_CLOSING} that never had a session take their time, the oldest of
    these is.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._closes: dict[Transport, _Close] = {}
        self._strangers: dict[Transport, None] = {}

    def close(
        self,
        transport: Transport,
        unheard: bool = False,
        hadSession: bool = False,
        patience: float = DELIVERY_PATIENCE,
    ) -> None:
        """
        Close a transport, in good order if its peer lets us.

        @param unheard: Whether what the peer still sends is of no interest. Then
            only our half is closed at first: closing both with bytes unread would
            reset the connection, and what was written last would be lost with it.
        @param hadSession: Whether it was a session's: then no other connection can
            displace it.
        @param patience: Seconds that delivery may take.
        """
        if transport in self._closes:
            return
        if not hadSession:
            if len(self._strangers) == MAX_CLOSING:
                self._cutOff(next(iter(self._strangers)))
            self._strangers[transport] = None
        now = self._clock.seconds()
        self._closes[transport] = _Close(now + patience, now + STALL_PATIENCE)
        self._deliver(transport)
        if unheard and isinstance(transport, DuplexTLS):
            transport.closeUnheard()
        elif unheard and ITCPTransport.providedBy(transport):
            cast(ITCPTransport, transport).loseWriteConnection()
        else:
            transport.loseConnection()

    def hurry(self) -> None:
        """
        The service is stopping: nobody has more than L{SHORT_PATIENCE} any longer.
        """
        until = self._clock.seconds() + SHORT_PATIENCE
        for close in self._closes.values():
            close.until = min(close.until, until)

    def closed(self, transport: Transport) -> None:
        """
        A transport is closed. It need not have been told to here.
        """
        self._strangers.pop(transport, None)
        close = self._closes.pop(transport, None)
        if close is not None and close.timer is not None and close.timer.active():
            close.timer.cancel()

    def _deliver(self, transport: Transport) -> None:
        """
        Wait until everything is delivered, and then for the answer.
        """
        close, now = self._closes[transport], self._clock.seconds()
        left = undelivered(transport)
        taken = (acknowledged(transport), left)
        if taken != close.taken:
            close.taken = taken
            close.stallsAt = now + STALL_PATIENCE
        if not left:
            close.timer = self._clock.callLater(CLOSE_PATIENCE, self._cutOff, transport)
        elif now >= min(close.until, close.stallsAt):
            self._cutOff(transport)
        else:
            close.timer = self._clock.callLater(
                DELIVERY_PERIOD, self._deliver, transport
            )

    def _cutOff(self, transport: Transport) -> None:
        """
        Wait no longer for a peer.
        """
        self.closed(transport)
        transport.abortConnection()
