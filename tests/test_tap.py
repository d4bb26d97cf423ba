"""
Tests for L{tcpsvc.tap}.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.application.service import IService, IServiceMaker
from twisted.internet import reactor as globalReactor
from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage
from twisted.python.systemd import ListenFDs
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tcpsvc import tap
from tcpsvc.service import ExclusiveService, Settings
from tcpsvc.tap import Options, makeService
from tests.certificates import DAY, NOW, authority, writeKeys, writePair
from twisted.plugins import tcpsvc_plugin, twisted_core


class TapTestCase(SynchronousTestCase):
    """
    A directory with keys, in which the command line is parsed.
    """

    def setUp(self) -> None:
        """
        Go there.
        """
        here = Path(self.mktemp())
        here.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(here)
        self.patch(sys, "path", [*sys.path])
        self.patch(sys, "modules", sys.modules.copy())
        self.keys = writeKeys(Path("keys"))

    def parsed(self, *arguments: str) -> Settings:
        """
        What these arguments make.
        """
        options = Options()
        options.parseOptions(list(arguments))
        return options.settings

    def assertUsage(self, *arguments: str, words: tuple[str, ...] = ()) -> None:
        """
        These arguments are wrong: one line says so, names the last option, and
        has these words.
        """
        error = self.assertRaises(SystemExit, self.parsed, *arguments)
        self.assertIsInstance(error.__context__, usage.UsageError)
        line = str(error.code)
        self.assertTrue(line.startswith("tcpsvc: "), line)
        self.assertEqual(1, len(line.splitlines()), line)
        for word in words:
            self.assertIn(word, line)


class DefaultTests(TapTestCase):
    """
    What is not given.
    """

    def test_defaults(self) -> None:
        """
        Each option has the default of the contract.
        """
        settings = self.parsed()
        self.assertEqual(("tcp:4433",), settings.listen)
        self.assertEqual((), settings.listenPlaintext)
        self.assertEqual(authority().certificate, settings.material.authorities[0])
        self.assertEqual((), settings.commands)
        self.assertEqual(Path("audit.jsonl"), settings.audit)
        self.assertEqual("everysec", settings.auditSync)
        self.assertEqual(900.0, settings.idleTimeout)
        self.assertEqual(28800.0, settings.maxSession)
        self.assertEqual(10.0, settings.handshakeTimeout)
        self.assertEqual("1.3", settings.tlsMinimum)
        self.assertEqual(256, settings.maxPending)

    def test_nothingOpened(self) -> None:
        """
        To parse opens nothing: no file is made.
        """
        self.parsed()
        self.assertEqual(["keys"], [path.name for path in Path().iterdir()])

    def test_help(self) -> None:
        """
        Each option is in the help, with a line of what it is.
        """
        text = Options().getUsage()
        for name in (
            "listen",
            "listen-plaintext",
            "keys",
            "commands",
            "audit",
            "audit-sync",
            "idle-timeout",
            "max-session",
            "handshake-timeout",
            "tls-minimum",
            "max-pending",
            "unsafe-plaintext",
        ):
            self.assertRegex(text, rf"--{name}=?  +\w")


class ValueTests(TapTestCase):
    """
    What is given.
    """

    def test_repeated(self) -> None:
        """
        Listeners may be given several times; given ones replace the default.
        """
        settings = self.parsed(
            "--listen=tcp:1",
            "--listen=tcp:2",
            "--listen-plaintext=unix:a",
            "--listen-plaintext=unix:b",
        )
        self.assertEqual(("tcp:1", "tcp:2"), settings.listen)
        self.assertEqual(("unix:a", "unix:b"), settings.listenPlaintext)

    def test_values(self) -> None:
        """
        Each value arrives.
        """
        writeKeys(Path("other"), clients=())
        settings = self.parsed(
            "--keys=other",
            "--audit=keys/a.jsonl",
            "--audit-sync=no",
            "--idle-timeout=1.5",
            "--max-session=0",
            "--handshake-timeout=0.5",
            "--tls-minimum=1.2",
            "--max-pending=1",
        )
        self.assertEqual(Path("keys/a.jsonl"), settings.audit)
        self.assertEqual("no", settings.auditSync)
        self.assertEqual(1.5, settings.idleTimeout)
        self.assertEqual(0.0, settings.maxSession)
        self.assertEqual(0.5, settings.handshakeTimeout)
        self.assertEqual("1.2", settings.tlsMinimum)
        self.assertEqual(1, settings.maxPending)
        self.assertNotEqual(
            self.parsed().material.certificate, settings.material.certificate
        )

    def test_durations(self) -> None:
        """
        A duration is a number of seconds from 0; the handshake's is above 0.
        """
        for name in ("idle-timeout", "max-session", "handshake-timeout"):
            for value in ("", "x", "-1", "nan", "inf", "1e400", "10s", "1,5"):
                self.assertUsage(
                    f"--{name}={value}", words=(f"--{name}", "seconds is wanted")
                )
        self.assertUsage("--handshake-timeout=0", words=("more than 0",))
        self.assertEqual(0.0, self.parsed("--idle-timeout=0").idleTimeout)

    def test_count(self) -> None:
        """
        A number of connections is a whole number from 1.
        """
        for value in ("", "0", "-1", "1.5", "x", "1e3", "٣", "9999999999", " 1"):
            self.assertUsage(
                f"--max-pending={value}", words=("--max-pending", "from 1")
            )

    def test_choices(self) -> None:
        """
        A choice is one of those that there are, which the line lists.
        """
        for value in ("", "1.1", "1.0", "1.4", "TLSv1.3"):
            self.assertUsage(
                f"--tls-minimum={value}", words=("--tls-minimum", "1.3, 1.2")
            )
        for value in ("", "sometimes", "Always"):
            self.assertUsage(
                f"--audit-sync={value}", words=("--audit-sync", "everysec", "no")
            )

    def test_unknown(self) -> None:
        """
        Options that there are not, a value that is missing, and arguments
        beside the options are refused.
        """
        self.assertUsage("--colour=red", words=("colour",))
        self.assertUsage("--keys", words=("keys",))
        self.assertUsage("surplus")

    def test_audit(self) -> None:
        """
        The trail is a file in a directory that exists.
        """
        for value in ("keys", "."):
            self.assertUsage(
                f"--audit={value}", words=(f"--audit {value}: this is a directory",)
            )
        self.assertUsage("--audit=", words=("--audit .: this is a directory",))
        self.assertUsage(
            "--audit=no/audit.jsonl",
            words=("--audit no/audit.jsonl: no: there is no such directory",),
        )

    def test_lineBreaks(self) -> None:
        """
        Line breaks in a value do not make several lines of the message.
        """
        self.assertUsage("--idle-timeout=1\n2")
        self.assertUsage("--audit=no\nwhere/audit.jsonl")
        self.assertUsage("--listen=bo\ngus:1")
        self.assertUsage("--commands=a\nb:c")


class EndpointTests(TapTestCase):
    """
    Where to listen.
    """

    def test_unknown(self) -> None:
        """
        What is no server endpoint is refused, with the option and the value.
        """
        for option in ("--listen", "--listen-plaintext"):
            for value in (
                "",
                "bogus:1",
                "4433",
                "tcp",
                "tcp:",
                "tcp:x",
                "tcp:1:colour=red",
            ):
                self.assertUsage(option, value, words=(f"{option} '{value}': ",))

    def test_meant(self) -> None:
        """
        Who leaves out the kind is told what is probably wanted.
        """
        self.assertUsage(
            "--listen=127.0.0.1:4433",
            words=("did you mean tcp:4433:interface=127.0.0.1?",),
        )

    def test_otherTLS(self) -> None:
        """
        An endpoint with a TLS of its own is refused, and what to write instead
        said; in whatever case it is written.
        """
        for kind in ("ssl", "tls", "TLS"):
            self.assertUsage(
                f"--listen={kind}:4433:privateKey=x",
                words=("TLS is done here", f"tcp: in place of {kind}:"),
            )

    def test_known(self) -> None:
        """
        Twisted's server endpoints are taken as they are.
        """
        for value in (
            "tcp:0",
            "tcp:4433:interface=127.0.0.1:backlog=5",
            r"tcp6:4433:interface=\:\:1",
            "unix:/tmp/x:mode=600",
        ):
            self.assertEqual((value,), self.parsed("--listen", value).listen)

    def test_plaintext(self) -> None:
        """
        Without TLS, only this machine may reach an endpoint.
        """
        for value in ("tcp:1", "tcp:1:interface=0.0.0.0", r"tcp6:1:interface=\:\:"):
            self.assertUsage(
                "--listen-plaintext",
                value,
                words=(f"--listen-plaintext {value}:", "--unsafe-plaintext"),
            )
        for value in ("tcp:1:interface=127.0.0.1", "unix:x"):
            settings = self.parsed("--listen-plaintext", value)
            self.assertEqual((value,), settings.listenPlaintext)

    def test_plaintextInherited(self) -> None:
        """
        Where an inherited socket listens is asked of the socket.
        """
        for place, safe in (("127.0.0.1", True), ("0.0.0.0", False)):
            with socket.create_server((place, 0)) as made:
                passed = ListenFDs([made.fileno()], ["line"])
                self.patch(
                    type(twisted_core.systemdEndpointParser), "_sddaemon", passed
                )
                value = "systemd:domain=INET:name=line"
                if safe:
                    settings = self.parsed("--listen-plaintext", value)
                    self.assertEqual((value,), settings.listenPlaintext)
                    continue
                where = f"the socket listens on {place}:{made.getsockname()[1]}"
                self.assertUsage(
                    "--listen-plaintext", value, words=(where, "--unsafe-plaintext")
                )
                self.parsed("--listen-plaintext", value, "--unsafe-plaintext")

    def test_inheritedTwice(self) -> None:
        """
        An inherited socket can have one listener only.
        """
        with socket.create_server(("127.0.0.1", 0)) as made:
            passed = ListenFDs([made.fileno()], ["line"])
            self.patch(type(twisted_core.systemdEndpointParser), "_sddaemon", passed)
            listen = "--listen=systemd:domain=INET:name=line"
            for other in (
                "--listen=systemd:domain=INET:index=0",
                "--listen=haproxy:systemd:INET:0",
                "--listen-plaintext=systemd:INET:0",
            ):
                self.assertUsage(listen, other, words=("the same inherited socket",))
            self.parsed(listen, "--listen=tcp:0", "--listen=tcp:0")

    def test_plaintextProxied(self) -> None:
        """
        A plaintext listener has no PROXY headers, which it could not wait for.
        """
        self.assertUsage(
            "--unsafe-plaintext",
            "--listen-plaintext=haproxy:tcp:1:interface=127.0.0.1",
            words=("PROXY", "expected tcp:1:interface=127.0.0.1"),
        )

    def test_proxiedTLS(self) -> None:
        """
        Behind C{haproxy:} TLS is done here as well.
        """
        self.assertUsage(
            "--listen=haproxy:ssl:1", words=("TLS is done here", "in place of ssl:")
        )
        self.parsed("--listen=haproxy:tcp:1")

    def test_descriptors(self) -> None:
        """
        More connections than the process may have descriptors are refused.
        """
        self.patch(resource, "getrlimit", lambda which: (100, 400))
        self.assertUsage(words=("file descriptors", "--max-pending", "LimitNOFILE="))
        limits = []
        self.patch(resource, "setrlimit", lambda which, limit: limits.append(limit))
        self.parsed("--max-pending=100")
        self.assertEqual([(304, 400)], limits)

    def test_unsafePlaintext(self) -> None:
        """
        Unless that is asked for by name.
        """
        settings = self.parsed("--listen-plaintext=tcp:1", "--unsafe-plaintext")
        self.assertEqual(("tcp:1",), settings.listenPlaintext)
        self.assertUsage("--listen-plaintext=bogus:1", "--unsafe-plaintext")

    def test_plaintextBesideDefault(self) -> None:
        """
        A plaintext listener leaves the one with TLS where it is.
        """
        settings = self.parsed("--listen-plaintext=unix:x")
        self.assertEqual(("tcp:4433",), settings.listen)


class KeyTests(TapTestCase):
    """
    Keys that cannot be used.
    """

    def test_missing(self) -> None:
        """
        A directory that is not there, or has not all that is needed.
        """
        self.assertUsage("--keys=nowhere", words=("nowhere", "no such file"))
        self.keys.ca.unlink()
        self.assertUsage(words=("keys/ca.pem", "no such file"))

    def test_readableByOthers(self) -> None:
        """
        A private key that others can read.
        """
        self.keys.serverKey.chmod(0o644)
        self.assertUsage(words=("keys/server-key.pem", "0644", "chmod 600"))

    def test_expired(self) -> None:
        """
        A certificate that has expired.
        """
        pair = authority().server(notBefore=NOW - 9 * DAY, notAfter=NOW - DAY)
        writePair(self.keys.server, self.keys.serverKey, pair)
        self.assertUsage(words=("keys/server.pem", "expired"))


class CommandTests(TapTestCase):
    """
    Further commands.
    """

    MODULE = """
from tcpsvc.commands import command

@command("FRUIT")
def fruit(request):
    \"\"\"names one\"\"\"
    return "plum"

@command("ECHO", argument="TEXT")
def echo(request):
    \"\"\"is taken\"\"\"
    return ""

basket = [fruit]
nothing = 1
"""

    def write(self, name: str, source: str) -> None:
        """
        Write a module in the current directory.
        """
        Path(f"{name}.py").write_text(source)

    def test_found(self) -> None:
        """
        A module in the current directory is found, and the object in it.
        """
        self.write("t2_orchard", self.MODULE)
        for name in ("fruit", "basket"):
            [found] = self.parsed(f"--commands=t2_orchard:{name}").commands
            self.assertEqual("FRUIT", found.verb)

    def test_repeated(self) -> None:
        """
        The option may be given several times.
        """
        self.write("t2_garden", self.MODULE)
        self.write("t2_field", self.MODULE.replace("FRUIT", "CORN"))
        settings = self.parsed(
            "--commands=t2_garden:basket", "--commands=t2_field:basket"
        )
        self.assertEqual(["FRUIT", "CORN"], [one.verb for one in settings.commands])

    def test_wrong(self) -> None:
        """
        What has no commands, or cannot be imported, is refused.
        """
        self.write("t2_wrong", self.MODULE)
        self.write("t2_broken", "1/0")
        self.write("t2_syntax", "def")
        for value, words in (
            ("", "MODULE:OBJECT"),
            ("t2_wrong", "MODULE:OBJECT"),
            ("t2_wrong:", "MODULE:OBJECT"),
            ("t2_wrong:missing", "has no missing"),
            ("t2_wrong:nothing", "no command"),
            ("t2_absent:x", "cannot be imported"),
            ("t2_broken:x", "ZeroDivisionError"),
            ("t2_syntax:x", "SyntaxError"),
        ):
            self.assertUsage("--commands", value, words=("--commands", words))


class MakeServiceTests(TapTestCase):
    """
    Tests for L{makeService}, and the plugin that leads to it.
    """

    def make(self, *arguments: Any) -> ExclusiveService:
        """
        Make a service of no arguments.
        """
        options = Options()
        options.parseOptions([])
        return makeService(options, *arguments)

    def test_service(self) -> None:
        """
        It makes a service, and opens nothing.
        """
        reactor = MemoryReactorClock()
        self.assertTrue(verifyObject(IService, self.make(reactor)))
        self.assertEqual([], reactor.tcpServers)
        self.assertFalse(Path("audit.jsonl").exists())

    def test_reactor(self) -> None:
        """
        The service listens through the reactor that is given.
        """
        reactor = MemoryReactorClock()
        service = self.make(reactor)
        service.startService()
        self.assertEqual([4433], [server[0] for server in reactor.tcpServers])
        self.successResultOf(service.stopService())

    def test_globalReactor(self) -> None:
        """
        Without one it is the global reactor, which then measures durations by a clock
        that is never set; time stamps are of the wall clock.
        """
        reactor: Any = globalReactor
        self.patch(reactor, "seconds", reactor.seconds)
        self.patch(reactor, "getDelayedCalls", list)
        service = self.make()
        self.assertIs(globalReactor, service._reactor)
        self.assertIs(time.monotonic, reactor.seconds)
        self.assertIs(time.time, service._now)

    def test_noThreadsYet(self) -> None:
        """
        As long as the thread pool is not started, which loses its calls if no
        thread can be started then, none is given to it.
        """
        pool = ThreadPool(0, 1)
        reactor: Any = MemoryReactorClock()
        reactor.getThreadPool = lambda: pool
        reactor.callFromThread = lambda call, *arguments: call(*arguments)
        done: list[int] = []
        called = self.make(reactor)._inThread(lambda: done.append(1))
        self.assertNoResult(called)
        self.assertEqual(0, pool._queue.qsize())
        pool.start()
        for whenRunning, arguments, named in reactor.whenRunningHooks:
            whenRunning(*arguments, **named)
        pool.stop()
        self.assertIsNone(self.successResultOf(called))
        self.assertEqual([1], done)

    def test_noThread(self) -> None:
        """
        If a thread cannot be started then, it fails, and the call is not made. The
        pool can be stopped all the same.
        """
        pool = ThreadPool(0, 1)
        self.patch(Thread, "start", self.refuse)
        pool.start()
        self.addCleanup(pool.stop)
        reactor: Any = MemoryReactorClock()
        reactor.getThreadPool = lambda: pool
        done: list[int] = []
        called = self.make(reactor)._inThread(lambda: done.append(1))
        self.failureResultOf(called, RuntimeError)
        self.assertEqual([], done)
        self.assertEqual([], pool.threads)

    def refuse(self, *_: object, **__: object) -> None:
        """
        What C{Thread.start} does at the limit of processes.
        """
        raise RuntimeError("can't start new thread")

    def test_plugin(self) -> None:
        """
        The plugin leads to these options and to this service.
        """
        maker = tcpsvc_plugin.serviceMaker
        self.assertTrue(verifyObject(IServiceMaker, maker))
        self.assertEqual("tcpsvc", maker.tapname)
        self.assertIs(Options, maker.options)
        self.assertIs(tap.makeService, maker.makeService)
