# -*- test-case-name: tests.test_endpoints_program -*-

"""
C{exec:}: a program's standard input and output as a connection.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.address import _ProcessAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ProcessExitedAlready,
    ProcessTerminated,
)
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.endpoints.complaints import Complaints
from tcpsvc.endpoints.processes import signalSession
from tcpsvc.interfaces import IHalfCloseable
from tcpsvc.stall import unwritten

END_PATIENCE = 0.5
"""
Seconds that a program has to end by itself when its standard input has.
"""

KILL_PATIENCE = 2.0
"""
Seconds that a program has to end after SIGTERM.
"""


def parseProgram(reactor: Any, *parts: str, **named: str) -> ProgramEndpoint:
    """
    The endpoint of C{exec:COMMAND}. Words are quoted as in a shell, but there is
    no shell. As in all endpoint strings, a backslash keeps a colon or an equals
    sign from having a meaning.

    @raise ValueError: If there is no such program.
    """
    if named:
        name, value = next(iter(named.items()))
        raise ValueError(f"exec: write {name}\\={value} with that backslash")
    try:
        words = shlex.split(":".join(parts))
    except ValueError as error:
        raise ValueError(f"exec: {error}") from None
    if not words or not words[0]:
        raise ValueError("exec: a command is wanted")
    if os.sep in words[0]:
        # The directory may be another when it is started.
        words[0] = str(Path(words[0]).absolute())
    if shutil.which(words[0]) is None:
        raise ValueError(f"exec: there is no program {words[0]}")
    leader = shutil.which("setsid")
    if leader is None:
        raise ValueError("exec: there is no program setsid (package util-linux)")
    return ProgramEndpoint(reactor, leader, tuple(words))


@implementer(IStreamClientEndpoint)
@frozen
class ProgramEndpoint:
    """
    Starts a program for each connection.

    @ivar leader: The path of C{setsid}, by which the program becomes the leader
        of a process group of its own.
    @ivar words: The program and its arguments.
    """

    reactor: Any
    leader: str
    words: tuple[str, ...]

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        if shutil.which(self.words[0]) is None:
            return fail(ConnectError(string=f"there is no program {self.words[0]}"))
        protocol = factory.buildProtocol(_ProcessAddress())
        if protocol is None:
            return fail(ConnectError(string="no protocol for the program"))
        program = Program(self.reactor, protocol, self.words[0])
        try:
            self.reactor.spawnProcess(
                program, self.leader, ["setsid", *self.words], env=os.environ
            )
        except OSError as error:
            return fail(ConnectError(string=f"{self.words[0]}: {error.strerror}"))
        return succeed(protocol)


@implementer(ITransport, IPushProducer, IHalfCloseable)
class Program(ProcessProtocol):
    """
    A program, as the transport of a protocol.

    Its standard error goes to the log. When the connection is closed it is ended
    with all that it has started: by the end of its input, by SIGTERM, by SIGKILL,
    each after a while; and when it has ended, so are children that it left behind.

    @ivar outcome: How it ended: C{exit_status}, or C{signal}; empty before.
    """

    _log = Logger(namespace="tcpsvc")
    transport: Any

    def __init__(self, reactor: Any, protocol: IProtocol, name: str) -> None:
        self.outcome: dict[str, object] = {}
        self.disconnecting = False
        self._reactor = reactor
        self._protocol = protocol
        self._complaints = Complaints(name, reactor, self._log)
        self._kill: IDelayedCall | None = None
        self._session = 0

    # What the program does.

    def connectionMade(self) -> None:
        """
        The program runs.
        """
        self._session = self.transport.pid
        self._protocol.makeConnection(self)

    def outReceived(self, data: bytes) -> None:
        """
        The program has written to its standard output.
        """
        self._protocol.dataReceived(data)

    def errReceived(self, data: bytes) -> None:
        """
        The program has written to its standard error.
        """
        self._complaints.feed(data)

    def outConnectionLost(self) -> None:
        """
        The program has closed its standard output.
        """
        if not self.disconnecting and IHalfCloseableProtocol.providedBy(self._protocol):
            IHalfCloseableProtocol(self._protocol).readConnectionLost()

    def processExited(self, reason: Failure) -> None:
        """
        The program has ended: whatever it has started ends too.
        """
        try:
            self._signal(signal.SIGKILL)
        finally:
            # Its number may soon be another's.
            self._session = 0

    def processEnded(self, reason: Failure) -> None:
        """
        The program has ended and all that it wrote has been read.
        """
        if self._kill is not None and self._kill.active():
            self._kill.cancel()
        self.disconnecting = True
        self._complaints.finish()
        ended = reason.value
        if isinstance(ended, ProcessTerminated) and ended.signal:
            self.outcome = {"signal": ended.signal}
        else:
            self.outcome = {"exit_status": getattr(ended, "exitCode", 0) or 0}
        self._protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def unwritten(self) -> int:
        """
        How many bytes wait in the process because the pipe to the program is full.
        """
        return unwritten(self.transport.pipes.get(0))

    # What the protocol does.

    def write(self, data: bytes) -> None:
        """
        Write to the program's standard input.
        """
        self.transport.write(data)

    def writeSequence(self, data: Any) -> None:
        """
        @see: L{ITransport.writeSequence}
        """
        self.transport.writeSequence(data)

    def loseWriteConnection(self) -> None:
        """
        Close the program's standard input when all is written.
        """
        self.transport.closeStdin()

    def loseConnection(self) -> None:
        """
        End the program, after it could read what was written. What it still
        writes is read, lest it wait for that.
        """
        if self.disconnecting:
            return
        self.disconnecting = True
        self.transport.closeStdin()
        self.transport.resumeProducing()
        self._kill = self._reactor.callLater(END_PATIENCE, self._terminate)

    def _terminate(self) -> None:
        """
        Ask the program to end.
        """
        self._kill = self._reactor.callLater(KILL_PATIENCE, self.abortConnection)
        self._signal(signal.SIGTERM)

    def abortConnection(self) -> None:
        """
        End the program at once, and wait for nobody who still holds its output.
        """
        if self.outcome:
            return
        self.disconnecting = True
        try:
            self._signal(signal.SIGKILL)
        finally:
            self.transport.loseConnection()

    def _signal(self, number: signal.Signals) -> None:
        """
        Signal the program and all that it has started.
        """
        if self._session and not signalSession(self._session, number):
            # Nobody is left, or setsid has not come to make the group.
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(number)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """
        @see: L{twisted.internet.interfaces.IConsumer.registerProducer}
        """
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """
        @see: L{twisted.internet.interfaces.IConsumer.unregisterProducer}
        """
        self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """
        Read no more of what the program writes.
        """
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Read it again.
        """
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """
        @see: L{IPushProducer.stopProducing}
        """
        self.loseConnection()

    def getPeer(self) -> IAddress:
        """
        @see: L{ITransport.getPeer}
        """
        return _ProcessAddress()

    getHost = getPeer
