# -*- test-case-name: tests.test_endpoints_serialline -*-

"""
C{serial:}: a serial line as a connection.
"""

from __future__ import annotations

import errno
import fcntl
import os
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionAborted
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.serialport import SerialPort

DRAIN_PERIOD = 0.01
"""
Seconds between two looks at a line that is to be closed.
"""

SILENCE = 0.1
"""
Seconds of silence after which a line that has sent all is closed: a device that is
still answering would otherwise be heard by whoever opens the line next.
"""

SILENCE_PATIENCE = 2.0
"""
Seconds that a line which has sent all may go on speaking before it is closed.
"""


def parseSerial(
    reactor: Any,
    device: str,
    baudrate: str = "115200",
    bytesize: str = "8",
    parity: str = "N",
    stopbits: str = "1",
    xonxoff: str = "0",
    rtscts: str = "0",
) -> SerialEndpoint:
    """
    The endpoint of C{serial:DEVICE:baudrate=115200:bytesize=8:parity=N:...}.

    @raise ValueError: If a value is none that a serial line can have, or
        pyserial is not installed.
    """
    try:
        import serial  # noqa: F401 - an extra, which may be missing
    except ImportError:
        raise ValueError(
            "serial: pyserial is not installed: pip install 'tcpsvc[serial]'"
        ) from None
    return SerialEndpoint(
        reactor,
        device,
        baudrate=_number("baudrate", baudrate),
        bytesize=_among("bytesize", bytesize, {"5": 5, "6": 6, "7": 7, "8": 8}),
        parity=_among("parity", parity, {one: one for one in "NEOMS"}),
        stopbits=_among("stopbits", stopbits, {"1": 1, "1.5": 1.5, "2": 2}),
        xonxoff=_among("xonxoff", xonxoff, {"0": False, "1": True}),
        rtscts=_among("rtscts", rtscts, {"0": False, "1": True}),
    )


def _number(name: str, value: str) -> int:
    """
    The value of an option that is a number above 0.
    """
    if not value.isdecimal() or int(value) == 0:
        raise ValueError(f"serial: {name}={value}: a number above 0 is wanted")
    return int(value)


def _among(name: str, value: str, allowed: dict[str, Any]) -> Any:
    """
    The value of an option that has few, in capitals or not.
    """
    if value.upper() not in allowed:
        raise ValueError(
            f"serial: {name}={value}: one of {', '.join(allowed)} is wanted"
        )
    return allowed[value.upper()]


@implementer(IStreamClientEndpoint)
@frozen
class SerialEndpoint:
    """
    Opens a serial line for each connection, so that nobody else has it open.

    @ivar device: The path of the device.
    @ivar baudrate: In bits a second.
    """

    reactor: Any
    device: str
    baudrate: int = 115200
    bytesize: int = 8
    parity: str = "N"
    stopbits: float = 1
    xonxoff: bool = False
    rtscts: bool = False

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        protocol = factory.buildProtocol(UNIXAddress(self.device.encode()))
        if protocol is None:
            return fail(ConnectError("no protocol for the serial line"))
        try:
            _serialLine()(
                protocol,
                self.device,
                self.reactor,
                baudrate=self.baudrate,
                bytesize=self.bytesize,
                parity=self.parity,
                stopbits=self.stopbits,
                xonxoff=self.xonxoff,
                rtscts=self.rtscts,
            )
        except (OSError, ValueError, termios.error) as error:
            # pyserial's SerialException is an OSError.
            return fail(ConnectError(string=f"{self.device}: {_why(error)}"))
        return succeed(protocol)


def _why(error: Exception) -> str:
    """
    Why a line could not be opened, in words.
    """
    number = error.errno if isinstance(error, OSError) else None
    for each in (error, error.__context__):
        if isinstance(each, termios.error):
            number = each.args[0]
    if number == errno.ENOTTY:
        return "this is no serial line"
    if number in (errno.EAGAIN, errno.EBUSY):
        return "another program has it open"
    return os.strerror(number) if number else str(error)


def _serialLine() -> type[SerialPort]:
    """
    The class of a serial line's transport; made when pyserial is needed.
    """
    import serial
    from twisted.internet.serialport import SerialPort

    def opened(*arguments: Any, **named: Any) -> Any:
        """
        Open a line so that nobody else can: neither those who ask for pyserial's
        lock nor, unless they are root, those who do not.
        """
        line = serial.Serial(*arguments, exclusive=True, **named)
        fcntl.ioctl(line.fd, termios.TIOCEXCL)
        return line

    class SerialLine(SerialPort):
        """
        A serial line of our own, whose driver's buffers are emptied when it is
        opened and when it is closed.
        """

        _serialFactory = staticmethod(opened)
        _drain: IDelayedCall | None = None
        _sent: float | None = None  # When all was sent, by the reactor's clock.
        _heard = 0.0
        # A line is slow: what waits for it waits with who has sent it.
        bufferSize = 256

        def getPeer(self) -> IAddress:
            """
            @see: L{twisted.internet.interfaces.ITransport.getPeer}
            """
            return UNIXAddress(self._serial.port.encode())

        getHost = getPeer

        def _postLoseConnection(self) -> Any:
            """
            All is written: close the line when the driver has sent it, and the device
            is silent.
            """
            sent = self._sent is not None or not self._unsent()
            if sent and self._isSilent():
                return super()._postLoseConnection()
            clock: Any = self.reactor
            self._drain = clock.callLater(DRAIN_PERIOD, self.startWriting)
            return None

        def _isSilent(self) -> bool:
            """
            Discard what the device still says.

            @return: Whether it is silent, or has had its time.
            """
            clock: Any = self.reactor
            now: float = clock.seconds()
            if self._sent is None:
                self._sent = self._heard = now
            try:
                if self._serial.in_waiting:
                    self._serial.reset_input_buffer()
                    self._heard = now
            except (OSError, termios.error):
                return True
            return now - self._heard >= SILENCE or now - self._sent >= SILENCE_PATIENCE

        def _unsent(self) -> int:
            """
            How many octets the driver has not sent yet.
            """
            try:
                return int(self._serial.out_waiting)
            except (OSError, termios.error):
                return 0

        def abortConnection(self) -> None:
            """
            Close the line at once: what was not sent yet is not sent.
            """
            if self.connected:
                with suppress(OSError, termios.error):
                    self._serial.reset_output_buffer()
                self.stopReading()
                self.stopWriting()
                self.connectionLost(Failure(ConnectionAborted()))

        def connectionLost(self, reason: Any) -> None:
            """
            The line is closed, and nothing that it has said waits in its buffers.
            """
            if self._drain is not None and self._drain.active():
                self._drain.cancel()
            # If the device is gone, its buffers are too.
            try:
                with suppress(OSError, termios.error):
                    fcntl.ioctl(self._serial.fd, termios.TIOCNXCL)
                    self._serial.reset_input_buffer()
            finally:
                super().connectionLost(reason)

    return SerialLine
