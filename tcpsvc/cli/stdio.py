# -*- test-case-name: tests.test_cli_connect -*-

"""
Standard input and output as one transport, whatever they are: files, pipes,
sockets, terminals.

Both are used in threads and left blocking: they are shared with other programs,
and a regular file cannot be waited for by the reactor anyway.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from array import array
from collections.abc import Callable, Iterable
from fcntl import ioctl
from queue import SimpleQueue
from termios import FIONREAD
from threading import Thread
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.cli.standard import Input

MAX_UNWRITTEN_OCTETS = 256 * 1024
"""
How many octets may wait for standard output before no more are wanted.
"""

_HUNG_UP = frozenset((errno.EPIPE, errno.ECONNRESET, errno.EIO))
"""
What reading and writing fail with when the other end is gone.
"""


@implementer(IAddress)
class StandardAddress:
    """
    Where standard input comes from.
    """


class Writer:
    """
    Writes to a descriptor in a thread of its own. The thread does not keep the
    process from exiting.
    """

    def __init__(
        self,
        reactor: Any,
        descriptor: int,
        written: Callable[[int], None],
        failed: Callable[[OSError], None],
    ) -> None:
        """
        @param written: Called with a number of octets when they are written.
        @param failed: Called if something cannot be written, or no thread can be
            started to do so; nothing that comes later is written.
        """
        self._reactor = reactor
        self._descriptor = descriptor
        self._written = written
        self._failed = failed
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._thread: Thread | None = None

    def write(self, octets: bytes) -> None:
        """
        Write some octets, later.
        """
        if self._thread is None:
            thread = Thread(target=self._work, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                problem = OSError(errno.EAGAIN, str(error))
                self._reactor.callFromThread(self._failed, problem)
                return
            self._thread = thread
        self._queue.put(octets)

    def _work(self) -> None:
        """
        Write whatever there is. In the thread.
        """
        while True:
            pieces = [self._queue.get()]
            while not self._queue.empty():
                pieces.append(self._queue.get())
            octets = b"".join(pieces)
            try:
                _write(self._descriptor, octets)
            except OSError as error:
                self._reactor.callFromThread(self._failed, error)
                return
            self._reactor.callFromThread(self._written, len(octets))


def _write(descriptor: int, octets: bytes) -> None:
    """
    Write all, also if somebody who has the descriptor too has made it
    non-blocking.

    @raise OSError: If that is not possible.
    """
    left = memoryview(octets)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            select.select((), (descriptor,), ())


class StandardStreams:
    """
    Standard input and output as the transport of a protocol.

    Its C{connectionLost} gets L{ConnectionDone}, or the L{OSError} that ended
    it; L{BrokenPipeError} if nobody reads the output any more, which is noticed
    also when there is nothing to write. Input whose writer has gone with the
    output's reader is carried to its end before.
    """

    disconnecting = False

    def __init__(
        self,
        reactor: Any,
        protocol: Any,
        standardInput: int = 0,
        standardOutput: int = 1,
    ) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._descriptors = (standardInput, standardOutput)
        self._input = Input(reactor, standardInput)
        self._output = Writer(reactor, standardOutput, self._written, self._cannotWrite)
        self._producer: IPushProducer | None = None
        self._producerPaused = False
        self._begun = False
        self._reading = False
        self._asked = False
        self._inputEnded = False
        self._discarded = 0
        self._unwritten = 0
        self._problem: OSError | None = None
        self._gone = False
        self._orphaned = False
        self._lost = False
        # The watch ends when the second of these is closed.
        self._watchEnd, self._watching = os.pipe()
        protocol.makeConnection(self)
        Thread(target=self._watch, daemon=True).start()

    # The input.

    def resumeProducing(self) -> None:
        """
        Read on.
        """
        self._begun = self._reading = True
        self._read()

    def pauseProducing(self) -> None:
        """
        Read no more than the chunk that is being read.
        """
        self._reading = False

    def stopProducing(self) -> None:
        """
        Nobody wants the input any more.
        """
        self.loseConnection()

    def _read(self) -> None:
        """
        Ask for a chunk, unless there is no use for it.
        """
        if (
            self._reading
            and not self._asked
            and not self._inputEnded
            and not self.disconnecting
            and not self._lost
        ):
            self._asked = True
            self._input.read().addCallbacks(self._haveRead, self._cannotRead)

    def _haveRead(self, octets: bytes) -> None:
        """
        A chunk is here, or the end.
        """
        self._asked = False
        if self._lost or self.disconnecting:
            self._discarded += len(octets)
            return
        if octets:
            self._protocol.dataReceived(octets)
            self._read()
            return
        self._inputEnded = True
        if self._orphaned or isHungUp(self._descriptors[1]):
            self._readerGone()
        else:
            self._protocol.readConnectionLost()

    def _cannotRead(self, failure: Failure) -> None:
        """
        The input cannot be read. A terminal or socket that was hung up is at
        its end, and so is what was closed before we began.
        """
        error = failure.value
        if isinstance(error, OSError) and error.errno in (*_HUNG_UP, errno.EBADF):
            self._haveRead(b"")
            return
        self._asked = False
        if isinstance(error, OSError):
            error.filename = "standard input"
        self._loseNow(failure)

    @property
    def unread(self) -> int:
        """
        How many bytes of the input the protocol has not got, as far as that is known:
        what is left of a file, and what waits in a pipe or socket. Of a terminal it
        is 0: what was typed ahead is for the next program.
        """
        return self._discarded + _waiting(self._descriptors[0])

    # The output.

    def write(self, octets: bytes) -> None:
        """
        Write some octets.
        """
        if self._lost or self._problem is not None or not octets:
            return
        self._unwritten += len(octets)
        self._output.write(octets)
        self._adjust()

    def _written(self, number: int) -> None:
        """
        Some octets are written.
        """
        self._unwritten -= number
        self._adjust()
        if self._unwritten:
            return
        if self.disconnecting:
            self._loseNow(Failure(ConnectionDone()))
        elif self._gone:
            self._readerGone()

    def _adjust(self) -> None:
        """
        Let no more come than can be written.
        """
        if self._producer is None:
            return
        if not self._producerPaused and self._unwritten > MAX_UNWRITTEN_OCTETS:
            self._producerPaused = True
            self._producer.pauseProducing()
        elif self._producerPaused and self._unwritten <= MAX_UNWRITTEN_OCTETS // 2:
            self._producerPaused = False
            self._producer.resumeProducing()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """
        @see: L{twisted.internet.interfaces.IConsumer}
        """
        self._producer = producer
        self._producerPaused = False

    def unregisterProducer(self) -> None:
        """
        @see: L{twisted.internet.interfaces.IConsumer}
        """
        self._producer = None

    def _cannotWrite(self, error: OSError) -> None:
        """
        The output cannot be written to.
        """
        self._problem = error
        if error.errno in _HUNG_UP:
            self._readerGone()
        else:
            error.filename = "standard output"
            self._loseNow(Failure(error))

    def _watch(self) -> None:
        """
        Notice when nobody reads the output any more. In a thread.
        """
        found = _hungUp((self._descriptors[1], self._watchEnd), None)
        if self._watchEnd not in found:
            self._reactor.callFromThread(self._readerGone)
            _hungUp((self._watchEnd,), None)
        os.close(self._watchEnd)

    def _readerGone(self) -> None:
        """
        Nobody reads the output any more.
        """
        if self._lost or (self.disconnecting and not self._unwritten):
            return
        if self._unwritten and self._problem is None:
            # Whether it was still read will be known at once.
            self._gone = True
            return
        if self._begun and not self._inputEnded and isHungUp(self._descriptors[0]):
            # The writer of the input is gone as well: nothing keeps its last
            # words from being read to their end.
            self._orphaned = True
            self._read()
            return
        # One socket that was closed in good order has no reader to miss anything.
        inOrder = not self._unwritten and _areOneSocket(*self._descriptors)
        self._loseNow(Failure(ConnectionDone() if inOrder else BrokenPipeError()))

    # The end.

    def loseConnection(self) -> None:
        """
        End when all is written.
        """
        self.disconnecting = True
        if not self._unwritten:
            self._reactor.callLater(0, self._loseNow, Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        """
        The same: nothing can be taken back from a pipe.
        """
        self.loseConnection()

    def _loseNow(self, reason: Failure) -> None:
        """
        Tell the protocol, once.
        """
        if not self._lost:
            self._lost = True
            self._producer = None
            os.close(self._watching)
            self._protocol.connectionLost(reason)

    def getPeer(self) -> StandardAddress:
        """
        @see: L{twisted.internet.interfaces.ITransport}
        """
        return StandardAddress()

    def getHost(self) -> StandardAddress:
        """
        @see: L{twisted.internet.interfaces.ITransport}
        """
        return StandardAddress()


def _waiting(descriptor: int) -> int:
    """
    How many bytes can be read from a descriptor now; 0 for a terminal, and where that
    is not known.
    """
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return max(0, status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))
        if os.isatty(descriptor):
            return 0
        return array("i", ioctl(descriptor, FIONREAD, bytes(4)))[0]
    except OSError:
        return 0


def isHungUp(descriptor: int) -> bool:
    """
    Whether the other end of a pipe, a socket or a terminal is gone.
    """
    return bool(_hungUp((descriptor,), 0))


def _hungUp(descriptors: Iterable[int], patience: int | None) -> list[int]:
    """
    Those of some descriptors whose other end is gone.

    @param patience: Milliseconds to wait for one; L{None} is for ever.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, 0)
    return [descriptor for descriptor, _ in poll.poll(patience)]


def _areOneSocket(one: int, other: int) -> bool:
    """
    Whether two descriptors are the same socket.
    """
    found = os.fstat(one)
    return stat.S_ISSOCK(found.st_mode) and os.path.samestat(found, os.fstat(other))
