# -*- test-case-name: tests.test_audit_disk -*-

"""
What was written, forced to the disk, while the reactor goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tcpsvc.audit.file import TrailFile, syncDirectory

InThread = Callable[[Callable[[], None]], "Deferred[None]"]
"""
Runs a blocking call beside the reactor.
"""


class Disk:
    """
    Forces files to the disk, beside the reactor.

    One C{fdatasync} serves all that waits when it begins (group commit).
    """

    def __init__(self, inThread: InThread, die: Callable[[str], None]) -> None:
        """
        @param die: Called with the reason when the disk fails. It is not asked
            again: a later call may succeed although the data is lost.
        """
        self._inThread = inThread
        self._die = die
        self._files: dict[TrailFile, int] = {}
        self._directories: list[Path] = []
        self._waiting: list[Deferred[None]] = []
        self._busy = False

    def force(self, file: TrailFile, directory: Path | None = None) -> Deferred[None]:
        """
        Force a file to the disk.

        @param directory: A directory whose names are forced too.
        @return: Fires when all that was written to the file by now is there. It
            never does if the disk fails.
        """
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if file not in self._files:
            self._files[file] = file.twin()
        if directory is not None:
            self._directories.append(directory)
        if not self._busy:
            self._begin()
        return done

    def forceNow(self, file: TrailFile) -> None:
        """
        Force a file to the disk, and wait for it.
        """
        try:
            os.fdatasync(file.descriptor)
        except OSError as error:
            self._die(error.strerror or str(error))

    def _begin(self) -> None:
        """
        Force all that waits, and after that what has come meanwhile.
        """
        descriptors, self._files = list(self._files.values()), {}
        directories, self._directories = self._directories, []
        waiting, self._waiting = self._waiting, []
        self._busy = True

        def work() -> None:
            for descriptor in descriptors:
                os.fdatasync(descriptor)
            for directory in directories:
                syncDirectory(directory)

        def done(result: Failure | None) -> None:
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(result, Failure):
                error = result.value
                self._die(getattr(error, "strerror", None) or str(error))
                return
            self._busy = False
            if self._waiting:
                self._begin()
            for one in waiting:
                one.callback(None)

        self._inThread(work).addBoth(done)
