# -*- test-case-name: tests.test_endpoints_serialline -*-

"""
C{serial:}: a serial line as a connection.
"""

from __future__ import annotations

import termios
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.serialport import SerialPort


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
        parity=_among("parity", parity.upper(), {one: one for one in "NEOMS"}),
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
    The value of an option that has few.
    """
    if value not in allowed:
        raise ValueError(
            f"serial: {name}={value}: one of {', '.join(allowed)} is wanted"
        )
    return allowed[value]


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
            return fail(ConnectError(string=f"{self.device}: {error}"))
        return succeed(protocol)


def _serialLine() -> type[SerialPort]:
    """
    The class of a serial line's transport; made when pyserial is needed.
    """
    import serial
    from twisted.internet.serialport import SerialPort

    class SerialLine(SerialPort):
        """
        A serial line with an exclusive lock, whose drivers' buffers are emptied
        when it is opened, and when it is closed.
        """

        _serialFactory = staticmethod(partial(serial.Serial, exclusive=True))

        def getPeer(self) -> IAddress:
            """
            @see: L{twisted.internet.interfaces.ITransport.getPeer}
            """
            return UNIXAddress(self._serial.port.encode())

        getHost = getPeer

        def abortConnection(self) -> None:
            """
            Close the line at once: what was not sent yet is not sent.
            """
            self.unregisterProducer()
            self._tempDataBuffer.clear()
            self.dataBuffer = b""
            self.loseConnection()

        def connectionLost(self, reason: Any) -> None:
            """
            The line is closed, and nothing waits in its buffers.
            """
            try:
                self._serial.reset_input_buffer()
                self._serial.reset_output_buffer()
            except (OSError, termios.error):
                pass  # The device is gone, and its buffers with it.
            super().connectionLost(reason)

    return SerialLine
