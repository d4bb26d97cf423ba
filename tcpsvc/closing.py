# -*- test-case-name: tests.test_closing -*-

"""
The connections that are being closed: all that was written is delivered first, and
none of them can linger.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport

from tcpsvc.duplex import DuplexTLS
from tcpsvc.sockets import Transport, acknowledged, undelivered

CLOSE_PATIENCE = 2.0
"""
Seconds that a peer has to answer a close, from when all that was written is delivered.
"""

STALL_PATIENCE = 10.0
"""
Seconds that a peer may take nothing of what was written before the close.
"""

DELIVERY_PATIENCE = 300.0
"""
Seconds that a peer may take for all of it, however steadily it reads.
"""

DELIVERY_PERIOD = 0.1
"""
Seconds between two looks at how much is delivered.
"""

MAX_CLOSING = 64
"""
How many connections may be closing at once.
"""


class Closing:
    """
    Closes connections.

    A peer that has been delivered everything and does not answer within
    L{CLOSE_PATIENCE} is cut off, as is one that takes nothing for L{STALL_PATIENCE};
    and if more than L{MAX_CLOSING} take their time, the oldest of them is.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timers: dict[Transport, IDelayedCall] = {}

    def close(self, transport: Transport, unheard: bool = False) -> None:
        """
        Close a transport, in good order if its peer lets us.

        @param unheard: Whether what the peer still sends is of no interest. Then
            only our half is closed at first: closing both with bytes unread would
            reset the connection, and what was written last would be lost with it.
        """
        if transport in self._timers:
            return
        if len(self._timers) == MAX_CLOSING:
            self._cutOff(next(iter(self._timers)))
        self._deliver(transport, (0, 0), self._clock.seconds(), STALL_PATIENCE)
        if unheard and isinstance(transport, DuplexTLS):
            transport.closeUnheard()
        elif unheard and ITCPTransport.providedBy(transport):
            cast(ITCPTransport, transport).loseWriteConnection()
        else:
            transport.loseConnection()

    def closed(self, transport: Transport) -> None:
        """
        A transport is closed. It need not have been told to here.
        """
        timer = self._timers.pop(transport, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _deliver(
        self,
        transport: Transport,
        taken: tuple[int, int],
        begun: float,
        patience: float,
    ) -> None:
        """
        Wait until everything is delivered, and then for the answer.

        @param taken: How many bytes the peer had taken at the last look, and how many
            were left to it.
        @param begun: When the close began, by the clock.
        @param patience: For how many seconds it may take nothing more.
        """
        left = undelivered(transport)
        now = (acknowledged(transport), left)
        if now != taken:
            patience = STALL_PATIENCE
        late = self._clock.seconds() >= begun + DELIVERY_PATIENCE
        if not left:
            timer = self._clock.callLater(CLOSE_PATIENCE, self._cutOff, transport)
        elif patience <= 0 or late:
            self._cutOff(transport)
            return
        else:
            timer = self._clock.callLater(
                DELIVERY_PERIOD,
                self._deliver,
                transport,
                now,
                begun,
                patience - DELIVERY_PERIOD,
            )
        self._timers[transport] = timer

    def _cutOff(self, transport: Transport) -> None:
        """
        Wait no longer for a peer.
        """
        self.closed(transport)
        transport.abortConnection()
