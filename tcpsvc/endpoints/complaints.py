# -*- test-case-name: tests.test_endpoints_program -*-

"""
What a program writes to its standard error, for the log.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tcpsvc.escapes import printable

MAX_LINE = 1024
"""
The longest line that is logged whole, in octets.
"""

MAX_LINES = 100
"""
How many lines are logged in one second; the others are counted.
"""


@define(eq=False)
class Complaints:
    """
    Takes standard error apart, and logs it line by line.

    @ivar name: The program.
    """

    _name: str
    _clock: IReactorTime
    _log: Logger
    _rest: bytearray = field(factory=bytearray, init=False)
    _cut: bool = field(default=False, init=False)
    _second: int = field(default=-1, init=False)
    _lines: int = field(default=0, init=False)
    _left: int = field(default=0, init=False)

    def feed(self, data: bytes) -> None:
        """
        Take a chunk. Of a line that is too long the beginning is logged.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            self._end()
        self._add(rest)

    def finish(self) -> None:
        """
        There will be no more.
        """
        if self._rest:
            self._end()
        self._tellLeft()

    def _add(self, data: bytes) -> None:
        """
        Go on with a line.
        """
        room = MAX_LINE - len(self._rest)
        self._rest += data[:room]
        self._cut = self._cut or len(data) > room

    def _end(self) -> None:
        """
        Log a line, with escapes for all that could end a line of the log or move
        a terminal's cursor.
        """
        line, self._rest = self._rest.removesuffix(b"\r"), bytearray()
        cut, self._cut = self._cut, False
        second = int(self._clock.seconds())
        if second != self._second:
            self._tellLeft()
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > MAX_LINES:
            self._left += 1
            return
        text = printable(line.decode("utf-8", "backslashreplace"))
        if cut:
            text += " [...]"
        self._log.info("{program} says: {line}", program=self._name, line=text)

    def _tellLeft(self) -> None:
        """
        Say how many lines were not logged.
        """
        left, self._left = self._left, 0
        if left:
            self._log.warn(
                "{program} has said {count} more lines, too many to log",
                program=self._name,
                count=left,
            )
