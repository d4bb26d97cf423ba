# -*- test-case-name: tests.test_flow -*-

"""
One direction of a gateway's session: octets are recorded, and then they go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import sha256

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpsvc.interfaces import AuditUnavailable
from tcpsvc.jsontext import packed, quotedLong
from tcpsvc.sockets import Transport

MAX_WAITING_OCTETS = 256 * 1024
"""
How many octets of one direction may wait to be recorded before no more are read.
"""

PAYLOADS = ("full", "digest")
"""
What of each chunk is recorded.
"""


def payload(data: bytes, kind: str) -> str:
    """
    The members of a record that say what was carried, in JSON.

    @param kind: One of L{PAYLOADS}.
    """
    if kind == "digest":
        return f'"octets":{len(data)},"sha256":"{sha256(data).hexdigest()}"'
    try:
        return f'"data":{quotedLong(data)}'
    except UnicodeDecodeError:
        return f'"data_b64":{packed(data)}'


@define(eq=False)
class _Chunk:
    """
    Octets that wait.

    @ivar recorded: Whether they may go on, as soon as they are the oldest.
    """

    data: bytes
    recorded: bool


@implementer(IPushProducer)
@define(eq=False)
class Flow:
    """
    What comes from one transport is recorded and then written to the other.

    It is the producer of the transport that it writes to: what that cannot
    take is not read. Octets that wait to be recorded are bounded likewise.

    @ivar octets: How many went on.
    """

    _tell: Callable[[bytes], None]
    _commit: Callable[[], Deferred[None] | None]
    _failed: Callable[[Failure], None]
    _source: Transport
    _sink: Transport
    octets: int = field(default=0, init=False)
    _waiting: deque[_Chunk] = field(factory=deque, init=False)
    _waitingOctets: int = field(default=0, init=False)
    _full: bool = field(default=False, init=False)
    _reading: bool = field(default=True, init=False)
    _stopped: bool = field(default=False, init=False)
    _then: Callable[[], object] | None = field(default=None, init=False)
    _toBeTaken: bool = field(default=False, init=False)

    @property
    def reading(self) -> bool:
        """
        Whether the source is read.
        """
        return self._reading

    def start(self) -> None:
        """
        Follow the pace at which the sink takes what is written.
        """
        self._sink.registerProducer(self, True)

    def carry(self, data: bytes) -> None:
        """
        Record a chunk and then pass it on.
        """
        if self._stopped or not data:
            return
        try:
            self._tell(data)
            committed = self._commit()
        except AuditUnavailable:
            self._fail(Failure())
            return
        if committed is None and not self._waiting:
            self._write(data)
            return
        chunk = _Chunk(data, committed is None)
        self._waiting.append(chunk)
        self._waitingOctets += len(data)
        self._adjust()
        if committed is not None:
            committed.addCallback(lambda _: self._recorded(chunk))
            committed.addErrback(self._fail)

    def _recorded(self, chunk: _Chunk) -> None:
        """
        A chunk may go on, and so may those that wait for it.
        """
        chunk.recorded = True
        while self._waiting and self._waiting[0].recorded:
            data = self._waiting.popleft().data
            self._waitingOctets -= len(data)
            self._write(data)
        self._adjust()

    def _write(self, data: bytes) -> None:
        """
        Pass octets on that are recorded.
        """
        self.octets += len(data)
        self._sink.write(data)

    def _fail(self, failure: Failure) -> None:
        """
        A chunk could not be recorded: neither it goes on nor what is behind it.
        """
        self._clear()
        self._failed(failure)

    def whenPassedOn(self, then: Callable[[], object]) -> None:
        """
        Call C{then}, instead of what was to be called before, when all has been
        written to the sink.
        """
        self._then, self._toBeTaken = then, False
        self._adjust()

    def whenTaken(self, then: Callable[[], object]) -> None:
        """
        The same when the sink has taken it too, but for what it always can.
        """
        self._then, self._toBeTaken = then, True
        self._adjust()

    def stop(self) -> None:
        """
        Carry nothing more; what waits is discarded.
        """
        self._stopped = True
        self._then = None
        self._clear()

    def _clear(self) -> None:
        """
        Discard what waits.
        """
        self._waiting.clear()
        self._waitingOctets = 0

    def _adjust(self) -> None:
        """
        Read only what can be written; and see whether all is done.
        """
        reading = not self._full and self._waitingOctets <= MAX_WAITING_OCTETS
        if reading is not self._reading and not self._stopped:
            self._reading = reading
            if reading:
                self._source.resumeProducing()
            else:
                self._source.pauseProducing()
        if self._waiting or (self._toBeTaken and self._full):
            return
        then, self._then = self._then, None
        if then is not None:
            then()

    def pauseProducing(self) -> None:
        """
        The sink is full.
        """
        self._full = True
        self._adjust()

    def resumeProducing(self) -> None:
        """
        The sink has room.
        """
        self._full = False
        self._adjust()

    def stopProducing(self) -> None:
        """
        The sink takes nothing any more, and so it is never full again. The
        source is read on, lest its own end go unnoticed.
        """
        self.resumeProducing()
