# -*- test-case-name: tests.test_tap -*-

"""
The options of C{twistd tcpsvc}, and the service that they make.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.threads import deferToThreadPool
from twisted.python import usage
from twisted.python.threadpool import ThreadPool

from tcpsvc.audit.trail import SYNC_POLICIES
from tcpsvc.builtin import builtInVerbs
from tcpsvc.clock import useMonotonicClock
from tcpsvc.commands import Command, CommandsError, installedCommands, namedCommands
from tcpsvc.descriptors import allowDescriptors
from tcpsvc.endpointstrings import checkClient, checkServer, isLocal
from tcpsvc.escapes import octetsOf
from tcpsvc.flow import PAYLOADS
from tcpsvc.gateway import GatewaySettings
from tcpsvc.keyfiles import KeyDirectory, KeyFileError, readPrivateKey
from tcpsvc.listening import inheritedAddress, inheritedDescriptor
from tcpsvc.service import ExclusiveService, Reactor, Settings
from tcpsvc.tls import VERSIONS, ServerMaterial, loadServerMaterial

DEFAULT_LISTEN = "tcp:4433"


class Options(usage.Options):
    """
    Options, all checked before anything is opened.
    """

    synopsis = "[tcpsvc options]"

    longdesc = """\
tcpsvc serves one client at a time over mutual TLS, answers its commands, and
records each request and reply. Keys are made by: tcpsvc keys init"""

    optFlags: ClassVar = [
        ["unsafe-plaintext", None, "Let --listen-plaintext leave this machine."],
    ]

    optParameters: ClassVar = [
        ["keys", None, "keys", "The directory of ca.pem, server.pem, server-key.pem."],
        [
            "audit-payload",
            None,
            "full",
            "With a gateway, what is recorded: " + ", ".join(PAYLOADS) + ".",
        ],
        ["audit", None, "audit.jsonl", "The file of the audit trail."],
        [
            "audit-sync",
            None,
            "everysec",
            "When records are forced to the disk: " + ", ".join(SYNC_POLICIES) + ".",
        ],
        [
            "audit-max-size",
            None,
            "0",
            "Begin a new file of the trail at this size in MiB; 0 is never.",
        ],
        ["idle-timeout", None, "900", "Seconds without a request; 0 is off."],
        ["max-session", None, "28800", "Seconds a session may last; 0 is off."],
        ["handshake-timeout", None, "10", "Seconds for the TLS handshake."],
        ["tls-minimum", None, "1.3", "The lowest version of TLS: 1.3 or 1.2."],
        [
            "reconnect-rate",
            None,
            "10",
            "How many refused connections a second are answered at once; 0: all.",
        ],
        [
            "max-pending",
            None,
            "256",
            "Connections that may be in handshake at once.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["gateway"] = None
        self["on-open"] = []
        self["on-close"] = []
        self["listen"] = []
        self["listen-plaintext"] = []
        self["commands"] = []

    def opt_listen(self, endpoint: str) -> None:
        """
        A server endpoint to serve with mutual TLS (default: tcp:4433);
        may be given several times.
        """
        self["listen"].append(endpoint)

    def opt_listen_plaintext(self, endpoint: str) -> None:
        """
        The same without TLS or authentication, on loopback or unix: only;
        may be given several times.
        """
        self["listen-plaintext"].append(endpoint)

    def opt_commands(self, name: str) -> None:
        """
        MODULE:OBJECT of further commands; may be given several times.
        """
        self["commands"].append(name)

    def opt_gateway(self, endpoint: str) -> None:
        """
        A client endpoint to join clients to, in place of the commands.
        """
        if self["gateway"] is not None:
            raise usage.UsageError("--gateway: only one can be served")
        self["gateway"] = endpoint

    def opt_on_open(self, text: str) -> None:
        """
        With a gateway: what the device is sent when a session begins, with
        escapes as in Python; may be given several times.
        """
        self["on-open"].append(text)

    def opt_on_close(self, text: str) -> None:
        """
        The same when a session ends.
        """
        self["on-close"].append(text)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse and check the command line.

        @raise SystemExit: If something is wrong with it: one line on standard
            error, and status 1. (C{twistd} itself would print the whole help
            on standard output before a L{UsageError}.)
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            line = " ".join(str(error).splitlines())
            raise SystemExit(f"tcpsvc: {line}") from None

    def postOptions(self) -> None:
        """
        Check all, and make the L{Settings}.

        @raise UsageError: If something is wrong.
        """
        listen = tuple(self["listen"] or [DEFAULT_LISTEN])
        plaintext = tuple(self["listen-plaintext"])
        inherited: list[int | None] = []
        for description in listen:
            endpoint = _checkListener("--listen", description)
            inherited.append(inheritedDescriptor(endpoint))
        for description in plaintext:
            endpoint = _checkListener("--listen-plaintext", description)
            inherited.append(inheritedDescriptor(endpoint))
            if not self["unsafe-plaintext"]:
                _checkLocal(description, inherited[-1])
        for descriptor in inherited:
            if descriptor is not None and inherited.count(descriptor) > 1:
                raise usage.UsageError(
                    "two listeners have the same inherited socket, descriptor "
                    f"{descriptor}; expected one listener for each"
                )
        for name, allowed in (
            ("audit-sync", SYNC_POLICIES),
            ("audit-payload", PAYLOADS),
            ("tls-minimum", tuple(VERSIONS)),
        ):
            if self[name] not in allowed:
                raise usage.UsageError(
                    f"--{name} {self[name]}: one of {', '.join(allowed)} is wanted"
                )
        self.settings = Settings(
            listen=listen,
            listenPlaintext=plaintext,
            tlsMinimum=self["tls-minimum"],
            auditSync=self["audit-sync"],
            idleTimeout=self._seconds("idle-timeout"),
            maxSession=self._seconds("max-session"),
            handshakeTimeout=self._seconds("handshake-timeout", above=0),
            maxPending=self._count("max-pending"),
            reconnectRate=self._seconds("reconnect-rate", what="a rate per second"),
            auditMaxOctets=self._count("audit-max-size", least=0) * 1024 * 1024,
            gateway=self._gateway(),
            audit=self._audit(),
            auditKey=self._auditKey(),
            commands=self._commands(),
            material=self._material(),
        )
        try:
            allowDescriptors(self.settings.maxPending, len(listen) + len(plaintext))
        except ValueError as error:
            raise usage.UsageError(str(error)) from None

    def _seconds(
        self,
        name: str,
        above: float | None = None,
        what: str = "a number of seconds",
    ) -> float:
        """
        The value of an option that is a duration, or another number.
        """
        try:
            seconds = float(self[name])
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds) or seconds < 0 or seconds == above:
            least = "0 or more" if above is None else f"more than {above:g}"
            raise usage.UsageError(
                f"--{name} {self[name]!r}: {what} is wanted, {least}"
            )
        return seconds

    def _count(self, name: str, least: int = 1) -> int:
        """
        The value of an option that is a number of things.
        """
        value = str(self[name])
        if not re.fullmatch("[0-9]{1,9}", value) or int(value) < least:
            raise usage.UsageError(
                f"--{name} {value!r}: a whole number from {least} to 999999999 is "
                "wanted"
            )
        return int(value)

    def _material(self) -> ServerMaterial:
        """
        The keys, read and checked.
        """
        try:
            return loadServerMaterial(KeyDirectory(Path(self["keys"])), time.time())
        except KeyFileError as error:
            raise usage.UsageError(str(error)) from None

    def _auditKey(self) -> Ed25519PrivateKey:
        """
        The key that signs the trail's checkpoints.
        """
        path = KeyDirectory(Path(self["keys"])).auditKey
        try:
            key = readPrivateKey(path)
        except KeyFileError as error:
            raise usage.UsageError(str(error)) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise usage.UsageError(f"{path}: not an Ed25519 key")
        return key

    def _gateway(self) -> GatewaySettings | None:
        """
        What clients are joined to, if anything.
        """
        from twisted.internet import reactor

        description = self["gateway"]
        if description is None:
            for name in ("on-open", "on-close"):
                if self[name]:
                    raise usage.UsageError(f"--{name} goes with --gateway")
            if self["audit-payload"] != "full":
                raise usage.UsageError("--audit-payload goes with --gateway")
            return None
        if self["commands"]:
            raise usage.UsageError("--gateway and --commands: only one can be served")
        try:
            checkClient(reactor, description)
        except ValueError as error:
            raise usage.UsageError(f"--gateway '{description}': {error}") from None
        return GatewaySettings(
            description,
            self._unescaped("on-open"),
            self._unescaped("on-close"),
            self["audit-payload"],
        )

    def _unescaped(self, name: str) -> tuple[bytes, ...]:
        """
        The values of an option, with their escapes resolved.
        """
        try:
            return tuple(octetsOf(text) for text in self[name])
        except ValueError as error:
            raise usage.UsageError(f"--{name}: {error}") from None

    def _commands(self) -> tuple[Command, ...]:
        """
        The commands of all modules, found and checked.
        """
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        try:
            commands = installedCommands()
            for name in self["commands"]:
                commands += namedCommands(name)
            table = builtInVerbs()
            for one in commands:
                table.add(one)
            return tuple(commands)
        except CommandsError as error:
            raise usage.UsageError(f"--commands {error}") from None

    def _audit(self) -> Path:
        """
        The file of the trail, which need not exist; its directory must.
        """
        path = Path(self["audit"])
        if path.is_dir():
            raise usage.UsageError(f"--audit {path}: this is a directory, and no file")
        if not path.parent.is_dir():
            raise usage.UsageError(
                f"--audit {path}: {path.parent}: there is no such directory"
            )
        return path


def _checkListener(option: str, description: str) -> IStreamServerEndpoint:
    """
    See that a server's endpoint string can be listened on.

    @raise UsageError: If it cannot.
    """
    from twisted.internet import reactor

    kinds = [part.lower() for part in description.split(":")]
    kind = next((each for each in kinds if each != "haproxy"), "")
    if kind in ("ssl", "tls", "mtls"):
        kind = description.split(":")[kinds.index(kind)]
        raise usage.UsageError(
            f"{option} {description}: TLS is done here; write tcp: in place of {kind}:"
        )
    if kinds[0] == "haproxy" and option == "--listen-plaintext":
        raise usage.UsageError(
            f"{option} {description}: a PROXY header is only read on TLS listeners; "
            f"expected {description.partition(':')[2]}"
        )
    try:
        return checkServer(reactor, description)
    except ValueError as error:
        raise usage.UsageError(f"{option} '{description}': {error}") from None


def _checkLocal(description: str, descriptor: int | None) -> None:
    """
    See that only this machine can reach a listener without TLS.

    @param descriptor: That of an inherited socket, if it is one.
    @raise UsageError: If others can.
    """
    if descriptor is not None:
        place, local = inheritedAddress(descriptor)
        which = f"the socket listens on {place}; bind it to 127.0.0.1"
    else:
        local = isLocal(description)
        which = "add interface=127.0.0.1"
    if not local:
        raise usage.UsageError(
            f"--listen-plaintext {description}: anybody on the network could use it; "
            f"{which} or give --unsafe-plaintext"
        )


def makeService(options: Options, reactor: Reactor | None = None) -> ExclusiveService:
    """
    Make the service that the options describe.

    @param reactor: Listens, and is the clock; the global one if L{None}.
    """
    if reactor is None:
        from twisted.internet import reactor as globalReactor

        reactor = cast(Reactor, globalReactor)
        useMonotonicClock(reactor)
        now = time.time
    else:
        now = reactor.seconds
    return ExclusiveService(
        options.settings, reactor, partial(_inThread, reactor), now=now
    )


def _inThread(reactor: Reactor, work: Callable[[], None]) -> Deferred[None]:
    """
    Run a blocking call in the reactor's thread pool, as soon as that is started:
    before, it would keep the call, and lose it if no thread can be started then.

    @return: Fails with L{RuntimeError}, and the call is not made, if no thread can
        be started.
    """
    threads: Any = reactor
    pool: ThreadPool = threads.getThreadPool()
    started: Deferred[None] = Deferred()
    if pool.started:
        started.callback(None)
    else:
        reactor.callWhenRunning(started.callback, None)
    return started.addCallback(lambda _: _inPool(threads, pool, work))


def _inPool(threads: Any, pool: ThreadPool, work: Callable[[], None]) -> Deferred[None]:
    """
    Run a blocking call in a thread pool.

    @raise RuntimeError: If no thread can be started.
    """
    try:
        return deferToThreadPool(threads, pool, work)
    except RuntimeError:
        # The pool keeps a thread that could not be started, and fails to stop by it.
        pool.threads[:] = [one for one in pool.threads if one.ident is not None]
        raise
