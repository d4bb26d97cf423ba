"""
Tests for L{tcpsvc.endpoints.serialline}: on real pseudo-terminals.
"""

from __future__ import annotations

import array
import fcntl
import os
import subprocess
import sys
import termios
import tty
from pathlib import Path
from typing import Any, cast

import serial
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tcpsvc.device import CLOSE_PATIENCE
from tcpsvc.endpoints import serialline
from tcpsvc.endpoints.serialline import SILENCE, SILENCE_PATIENCE, SerialEndpoint

reactor: Any = globalReactor

PATIENCE = 10.0
"""
Seconds that a test waits for what ought to happen soon.
"""


FAR_BUFFER = 4096
"""
How many octets a pseudo-terminal's far end holds: they have arrived.
"""


class Listener(Protocol):
    """
    Keeps what comes over the line.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = bytearray()
        self.lost: Deferred[BaseException | None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.lost.callback(reason.value)


class ParseTests(SynchronousTestCase):
    """
    C{serial:} and its options.
    """

    def parsed(self, description: str) -> SerialEndpoint:
        """
        What a string means.
        """
        endpoint = clientFromString(reactor, description)
        assert isinstance(endpoint, SerialEndpoint)
        return endpoint

    def test_defaults(self) -> None:
        """
        115200 8N1 without flow control.
        """
        self.assertEqual(
            SerialEndpoint(reactor, "/dev/ttyUSB0", 115200, 8, "N", 1, False, False),
            self.parsed("serial:/dev/ttyUSB0"),
        )

    def test_all(self) -> None:
        """
        Each option, by name; and the baud rate as the second part.
        """
        self.assertEqual(
            SerialEndpoint(reactor, "/dev/x:1", 9600, 7, "E", 2, True, True),
            self.parsed(
                r"serial:/dev/x\:1:baudrate=9600:bytesize=7:parity=e:stopbits=2"
                ":xonxoff=1:rtscts=1"
            ),
        )
        self.assertEqual(9600, self.parsed("serial:/dev/x:9600").baudrate)
        self.assertEqual(1.5, self.parsed("serial:/dev/x:stopbits=1.5").stopbits)

    def test_bad(self) -> None:
        """
        What a line cannot have is one line that names option and value.
        """
        for option, why in (
            ("baudrate=fast", "a number above 0 is wanted"),
            ("baudrate=0", "a number above 0 is wanted"),
            ("baudrate=-9600", "a number above 0 is wanted"),
            ("bytesize=9", "one of 5, 6, 7, 8 is wanted"),
            ("parity=odd", "one of N, E, O, M, S is wanted"),
            ("stopbits=3", "one of 1, 1.5, 2 is wanted"),
            ("xonxoff=yes", "one of 0, 1 is wanted"),
            ("rtscts=2", "one of 0, 1 is wanted"),
        ):
            error = self.assertRaises(
                ValueError, self.parsed, f"serial:/dev/x:{option}"
            )
            self.assertEqual(f"serial: {option}: {why}", str(error))

    def test_badOptions(self) -> None:
        """
        So are options that there are not, and a device that is missing.
        """
        for description, why in (
            (
                "serial:/dev/x:baud=9600",
                "serial: there is no option 'baud', only device, baudrate, bytesize",
            ),
            *(
                (text, "serial: DEVICE is missing: serial:DEVICE is wanted")
                for text in ("serial", "serial:", "serial:baudrate=9600")
            ),
            ("serial:a:1:2:3:4:5:6:7:8", "too many parts: serial:DEVICE is wanted"),
        ):
            error = self.assertRaises(ValueError, self.parsed, description)
            self.assertTrue(str(error).startswith("serial: "), str(error))
            self.assertIn(why, str(error))

    def test_noPyserial(self) -> None:
        """
        Without pyserial the error says how to install it.
        """
        modules: dict[str, Any] = sys.modules
        self.addCleanup(modules.__setitem__, "serial", modules["serial"])
        modules["serial"] = None
        error = self.assertRaises(ValueError, self.parsed, "serial:/dev/x")
        self.assertEqual(
            "serial: pyserial is not installed: pip install 'tcpsvc[serial]'",
            str(error),
        )

    def test_importsLate(self) -> None:
        """
        To read the string opens nothing, and needs no device.
        """
        self.assertFalse(Path("/dev/nosuchline").exists())
        self.parsed("serial:/dev/nosuchline")


class LineTestCase(TestCase):
    """
    A pseudo-terminal: the line's other end is C{self.far}.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.far, near = os.openpty()
        tty.setraw(self.far)
        # Held open, so that the settings and what is on the line outlive a close.
        self.near = near
        self.device = os.ttyname(near)
        os.set_blocking(self.far, False)
        self.addCleanup(os.close, near)
        self.addCleanup(self.closeFar)

    def closeFar(self) -> None:
        """
        The other end is gone.
        """
        if self.far >= 0:
            os.close(self.far)
            self.far = -1

    async def open(self, **options: Any) -> Listener:
        """
        Open the line.
        """
        factory = Factory.forProtocol(Listener)
        factory.noisy = False
        endpoint = SerialEndpoint(reactor, self.device, **options)
        listener = cast(Listener, await endpoint.connect(factory))
        self.addCleanup(self._close, listener)
        return listener

    def _close(self, listener: Listener) -> None:
        """
        Leave nothing open.
        """
        if not listener.lost.called:
            listener.transport.abortConnection()

    async def until(self, test: Any) -> None:
        """
        Wait for something.
        """
        for _ in range(int(PATIENCE / 0.01)):
            if test():
                return
            await deferLater(reactor, 0.01)
        self.fail("it has not happened")

    async def lost(self, listener: Listener) -> BaseException | None:
        """
        Why the line was closed.
        """
        return await listener.lost.addTimeout(PATIENCE, reactor)

    def atFar(self) -> bytes:
        """
        What has arrived at the other end.
        """
        got = b""
        try:
            while True:
                data = os.read(self.far, 65536)
                if not data:
                    return got
                got += data
        except BlockingIOError:
            return got

    def waiting(self) -> int:
        """
        How many octets wait at our end of the line.
        """
        count = array.array("i", [0])
        fcntl.ioctl(self.near, termios.FIONREAD, count)
        return count[0]


class StreamTests(LineTestCase):
    """
    Octets both ways.
    """

    async def test_interfaces(self) -> None:
        """
        The line is a transport, which Twisted's own is not quite: it knows where
        it is.
        """
        listener = await self.open()
        verifyObject(ITransport, listener.transport)
        verifyObject(IAddress, listener.transport.getPeer())
        self.assertEqual(self.device.encode(), listener.transport.getHost().name)

    async def test_everyOctet(self) -> None:
        """
        All octets pass, both ways.
        """
        octets = bytes(range(256)) * 8
        listener = await self.open()
        listener.transport.write(octets)
        got = bytearray()

        def arrived() -> bool:
            got.extend(self.atFar())
            return len(got) >= len(octets)

        await self.until(arrived)
        self.assertEqual(octets, got)
        os.write(self.far, octets[::-1])
        await self.until(lambda: len(listener.got) >= len(octets))
        self.assertEqual(octets[::-1], listener.got)

    async def test_options(self) -> None:
        """
        The options reach the driver.
        """
        await self.open(baudrate=9600, bytesize=8, stopbits=2, xonxoff=True)
        iflag, _, cflag, _, ispeed, ospeed, _ = termios.tcgetattr(self.near)
        self.assertEqual((termios.B9600, termios.B9600), (ispeed, ospeed))
        self.assertTrue(cflag & termios.CSTOPB)
        self.assertFalse(cflag & termios.CRTSCTS)
        self.assertTrue(iflag & termios.IXON and iflag & termios.IXOFF)

    async def test_pace(self) -> None:
        """
        A producer has to wait as soon as the driver takes no more: a line is
        slow.
        """
        calls: list[str] = []

        class Producer:
            def pauseProducing(self) -> None:
                calls.append("pause")

            def resumeProducing(self) -> None:
                calls.append("resume")

            def stopProducing(self) -> None:
                calls.append("stop")

        listener = await self.open()
        listener.transport.registerProducer(Producer(), True)
        listener.transport.write(b"x" * 257)
        self.assertEqual(["pause"], calls)
        await self.until(lambda: calls == ["pause", "resume"])
        listener.transport.unregisterProducer()


class OpenTests(LineTestCase):
    """
    Who may have the line.
    """

    async def refusal(self, device: str = "") -> str:
        """
        Why a line cannot be opened.
        """
        factory = Factory.forProtocol(Listener)
        factory.noisy = False
        endpoint = SerialEndpoint(reactor, device or self.device)
        error = await self.assertFailure(endpoint.connect(factory), ConnectError)
        return str(error)

    async def test_exclusive(self) -> None:
        """
        A line that is open here cannot be opened again, in words; once closed it
        can.
        """
        first = await self.open()
        self.assertIn(
            f"{self.device}: another program has it open", await self.refusal()
        )
        first.transport.loseConnection()
        await self.lost(first)
        await self.open()

    async def test_others(self) -> None:
        """
        Nor by another program, whether it asks for pyserial's lock or not; after
        the close nothing keeps it away.
        """
        first = await self.open()
        self.assertRaises(
            serial.SerialException, serial.Serial, self.device, exclusive=True
        )
        # Root may open it all the same; nobody else may.
        code = (
            "import os, sys\n"
            "if os.getuid() == 0: os.setuid(65534)\n"
            "try: os.close(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY))\n"
            "except OSError as error: print(error.errno)\n"
            "else: print(0)\n"
        )
        Path(self.device).chmod(0o666)

        def tried() -> int:
            return int(
                subprocess.run(
                    [sys.executable, "-ISEc", code, self.device],
                    stdout=subprocess.PIPE,
                    check=True,
                    timeout=PATIENCE,
                ).stdout
            )

        self.assertEqual(16, tried())  # EBUSY
        first.transport.loseConnection()
        await self.lost(first)
        self.assertEqual(0, tried())

    async def test_lockedByOther(self) -> None:
        """
        A line that another program has locked is not opened.
        """
        with serial.Serial(self.device, exclusive=True):
            self.assertIn("another program has it open", await self.refusal())

    async def test_words(self) -> None:
        """
        What else keeps a line from being opened is said in words.
        """
        self.assertIn(
            "/dev/nosuchline: No such file or directory",
            await self.refusal("/dev/nosuchline"),
        )
        plain = Path(self.mktemp())
        plain.touch()
        for path in (str(plain), "/dev/null"):
            self.assertIn(f"{path}: this is no serial line", await self.refusal(path))

    async def test_noProtocol(self) -> None:
        """
        A factory that wants no protocol gets none, and the line stays free.
        """
        factory: Any = Factory()
        factory.buildProtocol = lambda address: None
        endpoint = SerialEndpoint(reactor, self.device)
        await self.assertFailure(endpoint.connect(factory), ConnectError)
        await self.open()


class DrainTests(LineTestCase):
    """
    What is left of one session never reaches another.
    """

    async def test_before(self) -> None:
        """
        What has arrived before the line is opened is not seen.
        """
        tty.setraw(self.near)
        os.write(self.far, b"old")
        await self.until(lambda: self.waiting() == 3)
        listener = await self.open()
        os.write(self.far, b"new")
        await self.until(lambda: listener.got)
        self.assertEqual(b"new", listener.got)

    async def test_after(self) -> None:
        """
        Nor does anything that has arrived stay there when it is closed.
        """
        listener = await self.open()
        listener.transport.pauseProducing()
        os.write(self.far, b"late")
        await self.until(lambda: self.waiting() == 4)
        listener.transport.loseConnection()
        await self.lost(listener)
        self.assertEqual(0, self.waiting())

    async def test_lastWords(self) -> None:
        """
        What was written before a close is still sent, all of it.
        """
        for _ in range(20):
            listener = await self.open()
            listener.transport.write(b"last words")
            listener.transport.loseConnection()
            reason = await self.lost(listener)
            self.assertIsInstance(reason, ConnectionDone)
            got = bytearray()

            def arrived(got: bytearray = got) -> bool:
                got.extend(self.atFar())
                return got == b"last words"

            await self.until(arrived)

    async def test_waitsForDriver(self) -> None:
        """
        A line is closed only when its driver has sent all.
        """
        listener = await self.open()
        unsent = [3, 2, 1]
        looks: list[int] = []

        class Line:
            """A line whose driver takes its time."""

            def __init__(self, line: serial.Serial) -> None:
                self._line = line

            @property
            def out_waiting(self) -> int:
                looks.append(unsent[0] if unsent else 0)
                return unsent.pop(0) if unsent else 0

            def __getattr__(self, name: str) -> Any:
                return getattr(self._line, name)

        listener.transport._serial = Line(listener.transport._serial)
        listener.transport.loseConnection()
        reason = await self.lost(listener)
        self.assertIsInstance(reason, ConnectionDone)
        self.assertEqual([3, 2, 1, 0], looks)

    async def test_stillAnswering(self) -> None:
        """
        A device that is still answering is listened to until it is silent: nothing of
        its answer waits for the next opening.
        """
        listener = await self.open()
        listener.transport.loseConnection()
        for _ in range(3):
            await deferLater(reactor, SILENCE / 2)
            self.assertNoResult(listener.lost)
            os.write(self.far, b"late")
        reason = await self.lost(listener)
        self.assertIsInstance(reason, ConnectionDone)
        self.assertEqual(b"", listener.got)
        self.assertEqual(0, self.waiting())

    async def test_neverSilent(self) -> None:
        """
        One that never stops is not waited for for ever.
        """
        self.patch(serialline, "SILENCE_PATIENCE", SILENCE * 3)
        self.assertLess(SILENCE_PATIENCE, CLOSE_PATIENCE)
        listener = await self.open()
        listener.transport.loseConnection()
        begun = reactor.seconds()
        while not listener.lost.called:
            os.write(self.far, b"x")
            await deferLater(reactor, SILENCE / 10)
            self.assertLess(reactor.seconds() - begun, SILENCE_PATIENCE)
        self.assertGreaterEqual(reactor.seconds() - begun, SILENCE * 3)

    async def test_abort(self) -> None:
        """
        An abort waits for nobody: not for a driver that takes nothing, even when
        a close was asked for before; and what was not sent is not sent later.
        """
        for closing in (False, True):
            listener = await self.open()
            listener.transport.write(b"x" * 1_000_000)
            await deferLater(reactor, 0.1)
            if closing:
                listener.transport.loseConnection()
                await deferLater(reactor, 0.1)
            self.assertNoResult(listener.lost)
            listener.transport.abortConnection()
            reason = self.successResultOf(listener.lost)
            self.assertIsInstance(reason, ConnectionAborted)
            # What the far end has already got is sent.
            arrived = len(self.atFar())
            await deferLater(reactor, 0.05)
            arrived += len(self.atFar())
            self.assertLessEqual(arrived, FAR_BUFFER)
            again = await self.open()
            again.transport.write(b"next")
            await deferLater(reactor, 0.1)
            self.assertEqual(b"next", self.atFar())
            again.transport.abortConnection()
            again.transport.abortConnection()

    async def test_abortWhileDraining(self) -> None:
        """
        An abort while the driver is waited for leaves no timer.
        """
        listener = await self.open()
        listener.transport._unsent = lambda: 1
        listener.transport.loseConnection()
        await deferLater(reactor, 0.05)
        self.assertNoResult(listener.lost)
        listener.transport.abortConnection()
        self.successResultOf(listener.lost)
        # trial finds what is left in the reactor.

    async def test_unplugged(self) -> None:
        """
        A device that is pulled out closes the line, and that is all.
        """
        listener = await self.open()
        self.closeFar()
        await self.lost(listener)
        listener.transport.abortConnection()
