"""
Tests for L{tcpsvc.stall}.
"""

from __future__ import annotations

import os
import socket
from typing import Any, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.stall import STALL_PERIOD, StallWatch, unwritten
from tests.gatewayside import DeviceSocket

PATIENCE = 10.0
"""
Seconds that the device of these tests may take nothing.
"""


class Pipe(FileDescriptor):
    """
    Twisted's side of a pipe that nobody reads.
    """

    connected = 1

    def __init__(self, descriptor: int) -> None:
        super().__init__(cast(IReactorFDSet, MemoryReactorClock()))
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The pipe."""
        return self._descriptor

    def writeSomeData(self, data: bytes) -> int:
        """What fits is written."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0


class UnwrittenTests(SynchronousTestCase):
    """
    What waits in the process.
    """

    def pipe(self) -> tuple[int, Pipe]:
        """
        A pipe, and its writer.
        """
        reader, writer = os.pipe()
        for each in (reader, writer):
            self.addCleanup(os.close, each)
        os.set_blocking(writer, False)
        return reader, Pipe(writer)

    def test_descriptor(self) -> None:
        """
        It is what the system has not taken: none of what it has, but all that was
        written behind it, be a part of that exactly what the system had room for.
        """
        _, pipe = self.pipe()
        room = 65536
        for data, wanted in ((b"x" * room, 0), (b"y" * 1000, 1000), (b"z", 1001)):
            pipe.write(data)
            pipe.doWrite()
            self.assertEqual(wanted, unwritten(pipe))

    def test_layers(self) -> None:
        """
        It is that of the socket, if there are layers above.
        """
        _, pipe = self.pipe()
        wrapper: Any = ProtocolWrapper(WrappingFactory(cast(Any, None)), Protocol())
        wrapper.transport = pipe
        pipe.write(b"x")
        self.assertEqual(1, unwritten(wrapper))

    def test_others(self) -> None:
        """
        A transport that is no descriptor may say it itself; else nothing waits.
        """
        device = DeviceSocket([])
        device.write(b"abc")
        self.assertEqual(3, unwritten(device))
        self.assertEqual(0, unwritten(None))


class StallWatchTests(SynchronousTestCase):
    """
    Tests for L{StallWatch}.
    """

    def setUp(self) -> None:
        """
        Watch a device in memory.
        """
        self.device: Any = DeviceSocket([])
        self.watch(self.device)

    def watch(self, device: Any) -> None:
        """
        Watch a device.
        """
        self.clock = Clock()
        self.said = 0
        self.patience: float | None = PATIENCE
        self.stalls: list[float] = []
        clock: Any = self.clock
        self.watcher = StallWatch(
            clock,
            device,
            lambda: self.said,
            lambda: self.patience,
            lambda: self.stalls.append(self.clock.seconds()),
        )
        self.watcher.start()

    def wait(self, seconds: float) -> None:
        """
        Let time go by.
        """
        self.clock.pump([STALL_PERIOD] * round(seconds / STALL_PERIOD))

    def test_nothingWaits(self) -> None:
        """
        A device for which nothing waits does not stall.
        """
        self.wait(PATIENCE * 3)
        self.assertEqual([], self.stalls)
        self.watcher.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stalls(self) -> None:
        """
        One that takes nothing for so long does, and that is told once.
        """
        self.wait(PATIENCE)
        self.device.write(b"x")
        self.wait(PATIENCE)
        self.assertEqual([], self.stalls)
        self.wait(STALL_PERIOD * 2)
        self.assertEqual([PATIENCE * 2 + STALL_PERIOD], self.stalls)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_slow(self) -> None:
        """
        One that takes a byte now and then does not.
        """
        self.device.write(b"x" * 5)
        for _ in range(5):
            self.wait(PATIENCE - STALL_PERIOD)
            del self.device.outgoing[:1]
        self.assertEqual([], self.stalls)

    def test_speaks(self) -> None:
        """
        Nor does one that says something now and then.
        """
        self.device.write(b"x")
        for _ in range(5):
            self.wait(PATIENCE - STALL_PERIOD)
            self.said += 1
        self.assertEqual([], self.stalls)

    def test_timeThatDoesNotCount(self) -> None:
        """
        While nobody can expect the device to take anything its time does not run, and
        it begins anew afterwards.
        """
        self.device.write(b"x")
        self.wait(PATIENCE / 2)
        self.patience = None
        self.wait(PATIENCE * 3)
        self.patience = PATIENCE
        self.wait(PATIENCE - STALL_PERIOD)
        self.assertEqual([], self.stalls)
        self.wait(STALL_PERIOD * 2)
        self.assertEqual(1, len(self.stalls))

    def test_queue(self) -> None:
        """
        A device that takes something of what the system holds does not stall,
        although the process can write nothing yet.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        for each in (ours, theirs):
            self.addCleanup(each.close)
            each.setblocking(False)
        reactor: Any = MemoryReactorClock()
        port: Any = None
        transport = Server(ours, Protocol(), ("192.0.2.1", 1), port, 1, reactor)
        self.watch(transport)
        for _ in range(100):
            transport.write(b"x" * 10000)
            transport.doWrite()
        self.assertGreater(unwritten(transport), 0)
        for _ in range(3):
            self.wait(PATIENCE - STALL_PERIOD)
            theirs.recv(10000)
        self.assertEqual([], self.stalls)
        self.wait(PATIENCE + STALL_PERIOD)
        self.assertEqual(1, len(self.stalls))
