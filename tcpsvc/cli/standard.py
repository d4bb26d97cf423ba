# -*- test-case-name: tests.test_cli_send -*-

"""
Standard input and output, as the sub-commands use them.

Neither descriptor is made non-blocking: they are shared with other programs,
a terminal is even both of them at once.
"""

from __future__ import annotations

import errno
import os
import re
import select
from queue import SimpleQueue
from threading import Thread

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads

from tcpsvc.wire import MAX_UNENDED_OCTETS, Reply

CHUNK = 65536
"""
How many octets are read at once.
"""

_ENDINGS = re.compile(rb"\r\n|\r\0|\n|\r")


class Output:
    """
    Where replies are printed, each as it comes, with LF for line ends.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def show(self, reply: Reply) -> None:
        """
        Print a reply.

        @raise OSError: If that is not possible.
        """
        self.write(f"{reply}\n".replace("\r\n", "\n"))

    def write(self, text: str) -> None:
        """
        Print text as it is.

        @raise OSError: If that is not possible.
        """
        octets = text.encode("utf-8", "backslashreplace")
        while octets:
            octets = octets[os.write(self._descriptor, octets) :]


class Input:
    """
    Reads a descriptor in a thread of its own, a chunk at a time and only when
    asked. The thread does not keep the process from exiting.
    """

    def __init__(self, reactor: IReactorFromThreads, descriptor: int = 0) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._asked: SimpleQueue[Deferred[bytes]] = SimpleQueue()
        self._thread: Thread | None = None

    def read(self) -> Deferred[bytes]:
        """
        @return: Fires with some octets, or with none at the end; fails with
            L{OSError}, also if no thread can be started: the next call tries again.
        """
        if self._thread is None:
            thread = Thread(target=self._work, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                return fail(OSError(errno.EAGAIN, str(error)))
            self._thread = thread
        answer: Deferred[bytes] = Deferred()
        self._asked.put(answer)
        return answer

    def _work(self) -> None:
        """
        Read whenever asked. In the thread.
        """
        while True:
            answer = self._asked.get()
            try:
                octets = _read(self._descriptor)
            except OSError as error:
                self._reactor.callFromThread(answer.errback, error)
            else:
                self._reactor.callFromThread(answer.callback, octets)


def _read(descriptor: int) -> bytes:
    """
    Read a chunk, also if somebody who has the descriptor too has made it
    non-blocking.

    @raise OSError: If that is not possible.
    """
    while True:
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:
            select.select((descriptor,), (), ())


class Lines:
    """
    Octets to lines, which end as requests do: with LF, CR LF, CR, or CR NUL.

    Empty lines, and those of NUL alone, are left out: the service has no reply
    to them. Of a line that is longer than any service takes only that much is kept.

    @ivar rest: The beginning of a line whose ending has not come.
    """

    def __init__(self) -> None:
        self.rest = b""
        self._afterCR = False

    def feed(self, octets: bytes) -> list[bytes]:
        """
        Take a chunk apart.

        @return: The lines that are complete now.
        """
        if self._afterCR and octets[:1] in (b"\n", b"\0"):
            octets = octets[1:]
            self._afterCR = False
        if octets:
            self._afterCR = octets.endswith(b"\r")
        first, *others = _ENDINGS.split(octets)
        lines = [self.rest + first, *others]
        self.rest = lines.pop()[: MAX_UNENDED_OCTETS + 1]
        return _requests([line[: MAX_UNENDED_OCTETS + 1] for line in lines])

    def end(self) -> list[bytes]:
        """
        @return: What stands behind the last line ending, if anything does.
        """
        rest, self.rest = self.rest, b""
        return _requests([rest])


def _requests(lines: list[bytes]) -> list[bytes]:
    """
    The lines that the service replies to.
    """
    return [line for line in lines if line.strip(b"\0")]
