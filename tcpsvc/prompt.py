# -*- test-case-name: tests.test_prompt -*-

"""
A TCP transport that sends at once, and reads on.

Twisted's own keeps what it is given until the reactor's next turn, and asks the
system twice for that: each reply would wait as long again as it takes to make.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IListeningPort
from twisted.internet.tcp import Port, Server

from tcpsvc.expecting import Expecting
from tcpsvc.sockets import beneath

MAX_TURN = 0.001
"""
Seconds after which the reactor gets its turn, however quickly octets come.
"""

MAX_SINGLE_OCTETS = 4608
"""
How many octets the reply to a request may have, with TLS around them. Whoever is sent
more at once asks without waiting for replies: nothing is gained by waiting for that.
"""


class PromptServer(Server):
    """
    The server's end of a connection. What is written is sent before C{write}
    returns, as far as the system takes it; the rest is queued as ever, and while
    anything is queued all that follows is.

    Where more is expected after a reply was sent, it is waited for a moment, and
    read in the same turn of the reactor.
    """

    _queues = False
    _reads = False
    _sent = False
    _more: Expecting | None = None

    def expect(self, more: Expecting) -> None:
        """
        Wait for more whenever a reply was sent.
        """
        self._more = more

    def startReading(self) -> None:
        """
        Octets are taken.
        """
        self._reads = True
        super().startReading()

    def stopReading(self) -> None:
        """
        No octets are taken, for now or for ever.
        """
        self._reads = False
        super().stopReading()

    def doRead(  # type: ignore[override]  # a mixin of Twisted's says less
        self,
    ) -> ConnectionLost | ConnectionDone | None:
        """
        @see: L{twisted.internet.interfaces.IReadDescriptor.doRead}
        """
        self._sent = False
        lost = super().doRead()
        if self._more is None or not self._sent:
            return lost
        until = perf_counter() + MAX_TURN
        while (
            self._sent
            and self._reads
            and not self._queues
            and perf_counter() < until
            and self._more.come()
        ):
            self._sent = False
            lost = super().doRead()
        return lost

    def startWriting(self) -> None:
        """
        Something is queued, or the connection is to be closed.
        """
        self._queues = True
        super().startWriting()

    def stopWriting(self) -> None:
        """
        Nothing is queued any more.
        """
        self._queues = False
        super().stopWriting()

    def abortConnection(self) -> None:
        """
        Close at once: what is written from now on is not to be sent.
        """
        super().abortConnection()
        self._queues = True

    def write(self, data: bytes) -> None:
        """
        @see: L{twisted.internet.interfaces.ITransport.write}
        """
        if self._queues or self.TLS or not self.connected or not data:
            super().write(data)
            return
        self._sent = len(data) <= MAX_SINGLE_OCTETS
        sent = self.writeSomeData(data)
        if not isinstance(sent, int):
            sent = 0  # It has failed, and will again: the reactor has to see that.
        if sent < len(data):
            super().write(data[sent:])


def sendAtOnce(port: IListeningPort) -> None:
    """
    Let the connections of a listening port send at once, if they are TCP's.
    """
    if isinstance(port, Port) and port.transport is Server:
        port.transport = PromptServer


def expectMore(transport: object, mayWait: Callable[[], bool]) -> None:
    """
    Let a connection expect more whenever a reply was sent, if it sends at once.

    @param mayWait: Whether nobody else has to wait for that.
    """
    inner = beneath(transport)
    if isinstance(inner, PromptServer):
        inner.expect(Expecting.of(inner.fileno(), mayWait))
