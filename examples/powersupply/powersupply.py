"""
A bench power supply, served by tcpsvc: a command module, at work.

The supply is simulated, so that the example runs anywhere; put the talk to a
real one in place of the attributes. Try it from this directory::

    twistd -n tcpsvc --commands powersupply:commands

and then, as a client::

    HELP
    VOLTAGE 5
    OUTPUT ON
    MEASURE
"""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tcpsvc.commands import BadArgument, command
from tcpsvc.wire import Reply, Request

HIGHEST = 30.0
"""
The highest voltage, in volts.
"""

LOAD = 8.0
"""
What is connected to the output, in ohms.
"""

SETTLING = 0.25
"""
How long the output takes to settle after a change, in seconds.
"""


@command("*IDN?", pure=True)
def identify(_: Request) -> str:
    """answers what this is

    The verb is that of SCPI: any word without spaces can be one.
    """
    return "tcpsvc,simulated power supply,0,1.0"


class PowerSupply:
    """
    One power supply. Whoever is in session has it alone, so that no two
    requests are ever at work on it at once.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """
        @param clock: By which the output settles.
        """
        self._clock = clock
        self._volts = 0.0
        self._on = False
        self._settled = clock.seconds()

    @command("VOLTAGE", argument="[VOLTS]")
    def voltage(self, request: Request) -> str:
        """sets the voltage, or answers what it is set to

        VOLTS is a number from 0 to 30.
        """
        if request.argument:
            self._volts = _voltsFrom(request.argument)
            self._changed()
        return f"{self._volts:.3f} V"

    @command("OUTPUT", argument="[ON|OFF]")
    def output(self, request: Request) -> str:
        """switches the output, or answers whether it is on"""
        wanted = request.argument.upper()
        if wanted:
            if wanted not in ("ON", "OFF"):
                raise BadArgument("ON or OFF is wanted")
            self._on = wanted == "ON"
            self._changed()
        return "ON" if self._on else "OFF"

    @command("MEASURE")
    async def measure(self, request: Request) -> str | Reply:
        """answers voltage and current at the output, once it has settled"""
        if not self._on:
            return Reply(450, "OUTPUT-OFF switch it on first: OUTPUT ON")
        wait = self._settled - self._clock.seconds()
        await deferLater(self._clock, max(0.0, wait))
        return f"{self._volts:.3f} V {self._volts / LOAD:.3f} A"

    def _changed(self) -> None:
        """
        The output takes a moment to follow.
        """
        self._settled = self._clock.seconds() + SETTLING


def _voltsFrom(text: str) -> float:
    """
    @raise BadArgument: If it is no voltage that this supply has.
    """
    try:
        volts = float(text)
    except ValueError:
        raise BadArgument("a number of volts is wanted") from None
    if not 0.0 <= volts <= HIGHEST:
        raise BadArgument(f"from 0 to {HIGHEST:g} V is possible")
    return volts


commands = (identify, PowerSupply(reactor))
"""
What C{--commands powersupply:commands} names; the entry point in setup.cfg
names it too.
"""
