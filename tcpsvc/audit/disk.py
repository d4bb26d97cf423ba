# -*- test-case-name: tests.test_audit_disk -*-

"""
What was written, forced to the disk, while the reactor goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tcpsvc.audit.file import TrailFile

InThread = Callable[[Callable[[], None]], "Deferred[None]"]
"""
Runs a blocking call beside the reactor. If no thread can be started, it raises or
its Deferred fails, and the call was not begun.
"""


class Disk:
    """
    Forces files to the disk, beside the reactor.

    One C{fdatasync} serves all that waits when it begins (group commit).

    If no thread can be started (a limit of processes was reached), the reactor
    itself forces the files: it blocks for as long as that takes, but what waits is
    neither lost nor reported early, and what a crash can lose stays bounded. The
    next call tries a thread again.
    """

    _log = Logger(namespace="tcpsvc")

    def __init__(self, inThread: InThread, die: Callable[[str], None]) -> None:
        """
        @param die: Called once, with the reason, when the disk fails. It is not
            asked again: a later call may succeed although the data is lost.
        """
        self._inThread = inThread
        self._die = die
        self._files: list[TrailFile] = []
        self._waiting: list[Deferred[None]] = []
        self._busy = False
        self._dead = False
        self._threadless = False

    def force(self, file: TrailFile) -> Deferred[None]:
        """
        Force a file to the disk, after those that were to be forced before.

        @return: Fires when all that was written to the file by now is there. It
            never does if the disk fails.
        """
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if file not in self._files:
            file.hold()
            self._files.append(file)
        if not self._busy:
            self._begin()
        return done

    def forceNow(self, file: TrailFile) -> None:
        """
        Force a file to the disk, and wait for it.
        """
        if self._dead:
            return
        try:
            file.sync()
        except OSError as error:
            self._fail(error)

    def _begin(self) -> None:
        """
        Force all that waits, and after that what has come meanwhile.
        """
        files, self._files = self._files, []
        waiting, self._waiting = self._waiting, []
        self._busy = True

        def work() -> None:
            for file in files:
                file.sync()

        def done(result: Failure | None) -> None:
            with ExitStack() as held:
                for file in files:
                    held.callback(file.close)
                if isinstance(result, Failure):
                    self._fail(result.value)
                else:
                    self._told(waiting)

        self._beside(work).addBoth(done)

    def _beside(self, work: Callable[[], None]) -> Deferred[None]:
        """
        Run a blocking call in a thread, or here if no thread can be started.
        """
        begun = False

        def beginning() -> None:
            nonlocal begun
            begun = True
            work()

        def done(_: None) -> None:
            self._threadless = False

        def failed(failure: Failure) -> Failure | None:
            if begun:
                return failure
            if not self._threadless:
                self._log.error(
                    "cannot start a thread: {why}; the service waits for each "
                    "fdatasync until one can be started",
                    why=failure.getErrorMessage(),
                )
            self._threadless = True
            work()
            return None

        return maybeDeferred(self._inThread, beginning).addCallbacks(done, failed)

    def _told(self, waiting: list[Deferred[None]]) -> None:
        """
        Files are on the disk: tell those who waited for them, unless the disk has
        failed meanwhile.
        """
        if self._dead:
            return
        self._busy = False
        if self._waiting:
            self._begin()
        for one in waiting:
            one.callback(None)

    def _fail(self, error: BaseException | None) -> None:
        """
        The disk has failed: nothing is forced any more, and nobody is told that
        anything was.
        """
        if not self._dead:
            self._dead = self._busy = True
            self._die(getattr(error, "strerror", None) or str(error))
