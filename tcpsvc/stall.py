# -*- test-case-name: tests.test_stall -*-

"""
Notices a device that takes nothing of what waits for it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from tcpsvc.sockets import Transport, acknowledged, beneath, undelivered

STALL_PERIOD = 1.0
"""
Seconds between two looks at a device.
"""


def unwritten(transport: object) -> int:
    """
    @return: How many bytes wait in the process because the system takes no more for
        this transport, with those that TLS adds.
    """
    inner = beneath(transport)
    if isinstance(inner, FileDescriptor):
        # Twisted says nothing of the part that it has not joined to the rest yet.
        return len(inner.dataBuffer) - inner.offset + inner._tempDataLen
    return int(getattr(inner, "unwritten", 0))


class StallWatch:
    """
    Looks at the device of a session now and then.

    A slow device does not stall: one byte taken, or said, in time is enough.
    """

    def __init__(
        self,
        clock: IReactorTime,
        device: Transport,
        said: Callable[[], int],
        patience: Callable[[], float | None],
        stalled: Callable[[], object],
    ) -> None:
        """
        @param device: The transport of the device.
        @param said: How many bytes the device has said so far.
        @param patience: For how many seconds the device may take nothing, as
            things are now; L{None} if that time does not count.
        @param stalled: Called once, when it has taken nothing for longer.
        """
        self._clock = clock
        self._device = device
        self._said = said
        self._patience = patience
        self._stalled = stalled
        self._since = 0.0
        self._before: tuple[int, ...] = ()
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """
        Look every L{STALL_PERIOD}.
        """
        self._loop.start(STALL_PERIOD, now=False)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        """
        Compare what waits with what did before. What one of the numbers does not
        show, as the system's queue that is always full, another one does.
        """
        device = self._device
        waiting, now = unwritten(device), self._clock.seconds()
        state = waiting, undelivered(device), acknowledged(device), self._said()
        patience = self._patience() if waiting else None
        if patience is None or state != self._before:
            self._before, self._since = state, now
        elif now - self._since >= patience:
            self.stop()
            self._stalled()
