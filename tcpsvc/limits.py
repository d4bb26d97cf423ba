# -*- test-case-name: tests.test_limits -*-

"""
How long a session may be idle, and how long it may last.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tcpsvc.identity import Client
from tcpsvc.interfaces import ISession


@define
class TimeLimits:
    """
    Ends a session that has reached a limit of time.

    No timer is touched by a request: it only leaves the time behind at which
    it came, and the one timer there is looks at that when it is due.

    @ivar idle: Seconds without a request; 0 is no limit. A session that is
        answering one is not idle.
    @ivar longest: Seconds that a session may last; 0 is no limit.
    """

    clock: IReactorTime
    idle: float
    longest: float
    client: Client
    session: ISession
    end: Callable[[str], None]
    _timer: IDelayedCall | None = field(default=None, init=False)

    def start(self) -> None:
        """
        Look again at the nearest moment that a limit could be reached.
        """
        now = self.clock.seconds()
        waits = []
        if self.idle:
            since = now if self.session.busy else self.client.lastRequest
            waits.append(since + self.idle - now)
        if self.longest:
            waits.append(self.client.opened + self.longest - now)
        if waits:
            self._timer = self.clock.callLater(max(0.0, min(waits)), self._look)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _look(self) -> None:
        """
        End the session if it has reached a limit.
        """
        now = self.clock.seconds()
        # Sums, as in start(): differences are rounded otherwise, and a moment
        # that is now for one would not be reached for the other.
        if self.longest and now >= self.client.opened + self.longest:
            self.end("session-limit")
        elif (
            self.idle
            and not self.session.busy
            and now >= self.client.lastRequest + self.idle
        ):
            self.end("idle-timeout")
        else:
            self.start()
