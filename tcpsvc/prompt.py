# -*- test-case-name: tests.test_prompt -*-

"""
A TCP transport that sends at once.

Twisted's own keeps what it is given until the reactor's next turn, and asks the
system twice for that: each reply would wait as long again as it takes to make.
"""

from __future__ import annotations

from twisted.internet.interfaces import IListeningPort
from twisted.internet.tcp import Port, Server


class PromptServer(Server):
    """
    The server's end of a connection. What is written is sent before C{write}
    returns, as far as the system takes it; the rest is queued as ever, and while
    anything is queued all that follows is.
    """

    _queues = False

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
