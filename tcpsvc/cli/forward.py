# -*- test-case-name: tests.test_cli_forward -*-

"""
C{tcpsvc forward}: a service for programs on this machine that know no TLS.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn, cast

import click
from attrs import evolve, frozen
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    ISystemHandle,
    ITCPTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from tcpsvc.cli.connect import streamTo
from tcpsvc.cli.options import Target, WaitingCommand, lingerOption, targetOptions
from tcpsvc.cli.running import Interruption, runToItsEnd, say
from tcpsvc.client import (
    BackendDown,
    Busy,
    CannotReach,
    ClientError,
    KeyDirectory,
    Relay,
    Unavailable,
    parseAddress,
)
from tcpsvc.client.material import loadClientMaterial
from tcpsvc.client.relay import LINGER
from tcpsvc.client.tls import ClientTLS
from tcpsvc.client.waiting import untilAdmitted
from tcpsvc.closing import CLOSE_PATIENCE
from tcpsvc.listening import vacated, whyNotListening
from tcpsvc.localpeer import isClosed
from tcpsvc.sockets import Transport, written
from tcpsvc.tls import ALPN_SESSION

SETTLING = 5.0
"""
Seconds after a session of ours for which the service may be cleaning up behind
it, and be busy with nobody else.
"""

SETTLING_DELAY = 0.02
"""
Seconds before it is asked for the second time in that time.
"""

_PATH = "unix:"
_PORTS = "a port is a number from 0 to 65535."
_FORM = re.compile(r"(?:(?:\[([^\[\]]*)\]|([^\[\]:\s]+)):)?([0-9]{1,5})", re.ASCII)


@frozen
class Local:
    """
    Where to listen for programs on this machine.

    @ivar host: An IP address of the loopback interface.
    @ivar port: The TCP port; 0 for any that is free.
    @ivar path: The path of a UNIX socket instead.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""


def parseLocal(text: str) -> Local:
    """
    @param text: C{PORT}, C{HOST:PORT} or C{unix:PATH}.
    @raise click.BadParameter: If it is something else, or leads out of this
        machine: whoever came in would act as us.
    """
    if text.startswith(_PATH):
        path = text.removeprefix(_PATH)
        if not path or "\0" in path:
            raise click.BadParameter(f"{text!r}: there is no path behind unix:")
        return Local(path=path)
    match = _FORM.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r}: {_adviceOn(text)}")
    if int(match[3]) > 65535:
        raise click.BadParameter(f"{text!r}: {_PORTS}")
    host = match[1] or match[2] or "127.0.0.1"
    if host == "tcp":
        raise click.BadParameter(f"{text!r}: did you mean {match[3]!r}?")
    if host.lower() == "localhost":
        host = "127.0.0.1"
    try:
        isLocal = ip_address(host).is_loopback
    except ValueError:
        isLocal = False
    if not isLocal:
        raise click.BadParameter(
            f"{text!r}: only 127.0.0.1, [::1], localhost or unix:PATH, because whoever "
            "connects acts as you."
        )
    return Local(host, int(match[3]))


def _adviceOn(text: str) -> str:
    """
    What to write instead of what is nowhere to listen.
    """
    if text.isdecimal():
        return _PORTS
    if "/" in text:
        return f"did you mean 'unix:{text}'?"
    port, _, rest = text.partition(":")
    if not port and _FORM.fullmatch(rest):
        return f"did you mean '127.0.0.1:{rest}'?"
    if port.isdecimal() and rest:
        return f"did you mean two words, '{port} {rest}'?"
    host, _, port = text.rpartition(":")
    if ":" in host and _FORM.fullmatch(bracketed := f"[{host}]:{port}"):
        return f"did you mean {bracketed!r}?"
    for name in ("127.0.0.1", "localhost", "[::1]"):
        if name in (text, host):
            return f"a port is wanted with it, as in '{name}:5025'."
    advice = "PORT, 127.0.0.1:PORT, [::1]:PORT or unix:PATH is wanted"
    if text and ":" not in text and not text.startswith("-"):
        return f"{advice}, and HOST behind it, as in '5025 {text}'."
    return f"{advice}."


def _local(_context: click.Context, _argument: click.Parameter, text: str) -> Local:
    """
    The value of the argument C{LOCAL}.
    """
    return parseLocal(text)


@click.command(cls=WaitingCommand)
@click.argument("local", metavar="LOCAL", callback=_local)
@targetOptions
@lingerOption
def forward(local: Local, linger: float, **words: Any) -> int:
    """Lead local connections to a service, for programs that know no TLS.

    LOCAL is PORT or 127.0.0.1:PORT, [::1]:PORT, or unix:PATH for a socket that only
    you can use. Each local connection is a session of its own, from its begin to
    its end; if the service turns it away, it is reset, and the reason is here.
    """
    target = Target(**words)
    logBugsOnly()
    interruption = Interruption()
    return runToItsEnd(
        lambda reactor: forwardUntilStopped(
            local, target, linger, reactor, interruption
        ),
        interruption,
    )


async def forwardUntilStopped(
    local: Local,
    target: Target,
    linger: float,
    reactor: Any,
    interruption: Interruption,
) -> NoReturn:
    """
    Listen until a signal comes, and then end all sessions in good order; the
    second Ctrl-C ends at once.

    @raise QuietEnd: When that is done.
    @raise ClientError: If the keys are not right, or nothing can listen there.
    """
    checkTarget(target)
    forwarder = Forwarder(target, linger, reactor, say)
    stopped: Deferred[None] = Deferred()

    def stop() -> None:
        interruption.answer = interruption.exit
        reactor.callFromThread(stopped.callback, None)

    port = listen(local, forwarder, reactor)
    interruption.answer = stop
    say(f"{whereOf(local, port)} leads to {parseAddress(target.host)}")
    await stopped
    await maybeDeferred(port.stopListening)
    await forwarder.stop()
    interruption.end()


def logBugsOnly() -> None:
    """
    Keep nothing of what Twisted logs, for this may run for months; and show what
    should not have happened.
    """
    bugs = LogLevelFilterPredicate(defaultLogLevel=LogLevel.critical)
    globalLogBeginner.beginLoggingTo(
        [FilteringLogObserver(textFileLogObserver(sys.stderr), [bugs])],
        discardBuffer=True,
        redirectStandardIO=False,
    )


def checkTarget(target: Target) -> None:
    """
    Look at what can be known before anybody connects.

    @raise ClientError: If the host is written wrong, or the keys are not right.
    """
    address = parseAddress(target.host)
    material = loadClientMaterial(KeyDirectory(Path(target.keys)), target.identity)
    ClientTLS(material, address, ALPN_SESSION)


def listen(local: Local, factory: Factory, reactor: Any) -> IListeningPort:
    """
    Listen for local connections.

    @raise CannotReach: If that is not possible.
    """
    try:
        if not local.path:
            return cast(
                IListeningPort,
                reactor.listenTCP(local.port, factory, interface=local.host),
            )
        with vacated(local.path):
            # Nobody else can connect, not even before its mode is set.
            before = os.umask(0o177)
            try:
                return cast(
                    IListeningPort, reactor.listenUNIX(local.path, factory, mode=0o600)
                )
            finally:
                os.umask(before)
    except (CannotListenError, OSError) as error:
        raise CannotReach(
            f"cannot listen on {whereOf(local)}: {whyNotListening(error)}"
        ) from None


def whereOf(local: Local, port: IListeningPort | None = None) -> str:
    """
    Where it listens, for people.
    """
    if local.path:
        return f"{_PATH}{local.path}"
    address = IPv4Address if ip_address(local.host).version == 4 else IPv6Address
    real = local.port if port is None else cast(Any, port.getHost()).port
    return written(address("TCP", local.host, real))


class Forwarder(Factory):
    """
    Leads each connection that it gets to a session of its own.
    """

    noisy = False

    def __init__(
        self,
        target: Target,
        linger: float,
        clock: IReactorTime,
        tell: Callable[[str], None],
    ) -> None:
        """
        @param linger: As L{Relay} takes it.
        @param tell: Called with what people should know, a line each.
        """
        self._target = target
        self._linger = linger
        self._clock = clock
        self._tell = tell
        self._relays: dict[Relay, Deferred[None]] = {}
        self._lastEnd: float | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Somebody connects.
        """
        relay = Relay(
            self._clock, self._linger, lambda: self._begin(relay, addr), isClosed
        )
        return relay.local

    def stop(self) -> Deferred[object]:
        """
        Reset the local connections, and end their sessions in good order.

        @return: Fires when all is over.
        """
        relays = list(self._relays)
        over = DeferredList([relay.whenLeft() for relay in relays])
        for relay in relays:
            relay.local.transport.abortConnection()
            relay.leave()
        return cast("Deferred[object]", over)

    def _begin(self, relay: Relay, address: IAddress | None) -> None:
        """
        A local connection is there: lead it to the service.
        """
        _quicken(relay.local.transport)
        name = _nameOf(address, relay.local.transport)
        leading = Deferred.fromCoroutine(self._lead(relay, name))
        self._relays[relay] = leading

        def over(_: object) -> None:
            del self._relays[relay]
            leading.cancel()
            if relay.problem is not None:
                self._tell(f"{name}: {relay.problem}")

        relay.finished.addCallback(over)

    async def _lead(self, relay: Relay, name: str) -> None:
        """
        Open a session for a local connection, or reset it.
        """
        watching = LoopingCall(_endIfGone, relay.local.transport)
        watching.clock = self._clock
        watching.start(1.0, now=False)
        try:
            await self._roomBehindOurs()
            if relay.localReason is None:
                await self._open(relay)
        except CancelledError:
            pass  # The local connection is gone.
        except Exception as error:
            self._tell(f"{name}: {_whyNot(error)}")
            relay.local.transport.abortConnection()
        else:
            relay.whenLeft().addCallback(self._left)
        finally:
            watching.stop()

    async def _open(self, relay: Relay) -> None:
        """
        Open a session. If one of ours has just ended and there is no other,
        what the service is busy with is cleaning up, most likely for milliseconds.
        """
        settling = 0.0
        if self._lastEnd is not None and not any(each.isOpen for each in self._relays):
            settling = self._lastEnd + SETTLING - self._clock.seconds()
        if settling > 0:
            once = evolve(self._target, wait=None)
            try:
                await untilAdmitted(
                    lambda: streamTo(once, relay.service, self._clock),
                    settling,
                    self._clock,
                    firstDelay=SETTLING_DELAY,
                )
                return
            except Busy:
                if not self._target.wait:
                    raise
        await streamTo(self._target, relay.service, self._clock)

    async def _roomBehindOurs(self) -> None:
        """
        Wait for those of our sessions whose local side has said that it is at
        its end: the next program should not be turned away because of them.
        """
        ending = [
            each.whenLeft()
            for each in self._relays
            if each.isOpen and (each.inputEnded or each.localReason is not None)
        ]
        # One that hears more than this is still in session; the service will say so.
        patience = min(self._linger, LINGER) + CLOSE_PATIENCE
        await DeferredList(ending, consumeErrors=True).addTimeout(patience, self._clock)

    def _left(self, _: object) -> None:
        """
        One of our sessions has ended.
        """
        self._lastEnd = self._clock.seconds()


def _whyNot(error: Exception) -> str:
    """
    Why a local connection was led nowhere. Turned away is whom the service could
    have admitted.
    """
    if isinstance(error, BackendDown):
        return str(error)
    if isinstance(error, (Busy, Unavailable)):
        return f"turned away: {error}"
    if isinstance(error, ClientError):
        return f"not connected: {error}"
    return f"not connected: {type(error).__name__}: {error}"


def _quicken(transport: Transport) -> None:
    """
    Send small writes at once. There is no limit on how long the local program
    may leave sent data alone, as the service's side has it
    (L{tcpsvc.sockets.tune}): it is no sign of death on one machine, but perhaps
    somebody who reads a page.
    """
    if ITCPTransport.providedBy(transport) and not IUNIXTransport.providedBy(transport):
        tcp = cast(ITCPTransport, transport)
        tcp.setTcpNoDelay(True)
        tcp.setTcpKeepAlive(True)


def _endIfGone(transport: Transport) -> None:
    """
    End a connection that waits, and from which nothing is read, if its program
    has gone without a word.
    """
    if not ISystemHandle.providedBy(transport):
        return
    handle = cast(socket.socket, cast(ISystemHandle, transport).getHandle())
    try:
        isThere = handle.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        isThere = True
    except OSError:
        isThere = False
    if not isThere:
        transport.abortConnection()


def _nameOf(address: IAddress | None, transport: Transport) -> str:
    """
    Whom people are told of: where it comes from, or, as that has no name on a UNIX
    socket, which one it has come to.
    """
    if not IUNIXTransport.providedBy(transport):
        return written(address)
    here = cast(UNIXAddress, cast(IUNIXTransport, transport).getHost())
    return f"{_PATH}{os.fsdecode(here.name or b'')}"
