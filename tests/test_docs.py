"""
Tests for the documentation: what it shows is what happens.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from unittest import SkipTest

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

import tcpsvc
from tcpsvc import tls
from tcpsvc.cli import SUBCOMMANDS
from tcpsvc.cli.keys import keysGroup
from tcpsvc.client import errors
from tcpsvc.tap import DEFAULT_LISTEN, Options
from tests.endtoend.gateways import freePort, requireModules, requireScript
from tests.support import requireProgram

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PACKAGE = Path(tcpsvc.__file__).resolve().parent

PATIENCE = 20.0
"""
Seconds that a test waits for what ought to be there at once.
"""

SHOWN_PORT = "4433"
"""
The port that the tutorials show; the tests take a free one.
"""

FURTHER_PORTS = ("5025", "5026")
"""
Further ones: of an instrument, and of a forwarder.
"""

FILES = ("python", "yaml", "c")
"""
What files are written in, whose names are in their captions.
"""

LASTING = (
    *("twistd ", "openssl s_client ", "tcpsvc connect ", "tcpsvc forward "),
    *("sinstruments-server ", "socat ", "gdb "),
)
"""
What goes on until it is ended, unless C{echo} is to come behind it.
"""

GDB_PROMPT = "(gdb) "

_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: *(?P<language>\S*)\n"
    r"(?P<options>(?:(?P=indent) {3,4}:.*\n)*)"
    r"\n*(?P<body>(?:(?P=indent) {3}.*\n|\n)+)",
    re.MULTILINE,
)

# What differs from run to run, and what it looks like. Of those with a name,
# the same text in the documentation stands for the same text in the run.
_VARIABLE = re.compile(
    "|".join(
        f"(?P<{name}>{pattern})"
        for name, pattern in (
            ("moment", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?(?:Z|\+0000)"),
            ("clock", r"\b\d\d:\d\d:\d\d\.\d{3}\b"),
            ("day", r"\b\d{4}-\d\d-\d\d\b"),
            ("uuid", r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),
            ("sha256", r"\b[0-9a-f]{64}\b"),
            ("address", r"\b127\.0\.0\.1:\d{5}\b"),
            ("idle", r"idle \d+ s"),
            ("greeting", r"(?<=^220 )\S+ tcpsvc \S+(?=;)"),
            ("version", r"\btcpsvc \d+\.\d+\.\d+\b"),
            ("anything", r"\.\.\."),
        )
    )
)
_PATTERNS = {
    "moment": r"[0-9]{4}-[0-9-]{5}T[0-9:.]+(?:Z|[+-][0-9]{4})",
    "clock": r"[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}",
    "day": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "sha256": r"[0-9a-f]{64}",
    "address": r"127\.0\.0\.1:[0-9]+",
    "idle": r"idle [0-9]+ s",
    "greeting": rf"\S+ tcpsvc {re.escape(tcpsvc.__version__)}",
    "version": rf"tcpsvc {re.escape(tcpsvc.__version__)}",
    "anything": r"[^\r\n]*",
}
_BOUND = ("uuid", "sha256", "address")


@frozen
class Block:
    """
    One sample in the documentation.

    @ivar place: Where it stands, for people.
    @ivar language: What it is written in.
    @ivar caption: What stands above it.
    @ivar typed: The numbers of the lines that are highlighted, from 1: those
        that a reader types. If there are none, they are known by their looks.
    """

    place: str
    language: str
    caption: str
    text: str
    typed: frozenset[int] = frozenset()

    def lines(self) -> list[str]:
        """
        Its lines.
        """
        return [
            Typed(line) if number in self.typed else line
            for number, line in enumerate(self.text.splitlines(), start=1)
        ]


class Typed(str):
    """
    A line that a reader types.
    """

    __slots__ = ()


def pages() -> list[Path]:
    """
    All pages, and the README.
    """
    found = [path for path in DOCS.rglob("*.rst") if "_build" not in path.parts]
    return [ROOT / "README.rst", *sorted(found)]


def blocksOf(path: Path) -> Iterator[Block]:
    """
    The samples of one page, in order.
    """
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text += "\n"
    for match in _BLOCK.finditer(text):
        caption = re.search(r":caption: (.*)", match["options"])
        typed = re.search(r":emphasize-lines: (.*)", match["options"])
        line = text.count("\n", 0, match.start()) + 1
        yield Block(
            f"{path.relative_to(ROOT)}:{line}",
            match["language"],
            caption[1].strip() if caption else "",
            dedent(match["body"]).strip("\n") + "\n",
            frozenset(map(int, typed[1].split(","))) if typed else frozenset(),
        )


class Expectations:
    """
    Holds the lines of a page against those of a run.
    """

    def __init__(self, port: int) -> None:
        """
        @param port: What takes the place of L{SHOWN_PORT}.
        """
        self._port = port
        self._further = {shown: str(freePort()) for shown in FURTHER_PORTS}
        self._bound: dict[str, str] = {}

    def pattern(self, line: str) -> str:
        """
        @return: A regular expression for one line of a page. What has been
            seen before has to be the same again.
        """
        parts, at, names = [], 0, 0
        for match in _VARIABLE.finditer(line):
            parts.append(re.escape(line[at : match.start()]))
            kind = match.lastgroup or ""
            if match[0] in self._bound:
                parts.append(re.escape(self._bound[match[0]]))
            elif kind in _BOUND:
                parts.append(f"(?P<v{names}>{_PATTERNS[kind]})")
                names += 1
            else:
                parts.append(_PATTERNS[kind])
            at = match.end()
        parts.append(re.escape(line[at:]))
        return "".join(parts)

    def bind(self, line: str, match: re.Match[str]) -> None:
        """
        Remember what the variable parts of a line were.
        """
        shown = [
            part[0]
            for part in _VARIABLE.finditer(line)
            if part.lastgroup in _BOUND and part[0] not in self._bound
        ]
        for number, text in enumerate(shown):
            self._bound[text] = match[f"v{number}"]

    def command(self, line: str) -> str:
        """
        A command line of a page as it is run here.
        """
        port = str(self._port)
        line = self.further(line)
        if line.startswith("twistd "):
            return f"exec {line} --listen tcp:{port}:interface=127.0.0.1"
        if line.startswith("tcpsvc keys "):
            return line
        line = re.sub(r"^(tcpsvc .*?)\blocalhost\b(?!:)", rf"\1localhost:{port}", line)
        return line.replace(f":{SHOWN_PORT}", f":{port}")

    def output(self, line: str) -> str:
        """
        A line of a service's log as it is here.
        """
        line = line.replace(f"0.0.0.0:{SHOWN_PORT}", f"127.0.0.1:{self._port}")
        line = line.replace(f"localhost:{SHOWN_PORT}", f"localhost:{self._port}")
        return self.further(line)

    def further(self, text: str) -> str:
        """
        A text with the other ports as they are here.
        """
        for shown, port in self._further.items():
            text = re.sub(rf"\b{shown}\b", port, text)
        return text


class Tutorial:
    """
    Follows a tutorial as a reader does, in one directory.

    A block belongs to the terminal in its caption. A line after C{$} is a
    command. Those of L{LASTING} go on until they are ended; what follows them
    is expected, but for lines that are highlighted or come after gdb's prompt,
    which are typed. What follows C{openssl s_client} is typed unless it begins
    with three digits. Other commands run to their ends.
    """

    _TYPED = re.compile(r"(?![0-9]{3}[ -])(?!\.\.\.)")

    def __init__(self, test: SynchronousTestCase, directory: Path) -> None:
        self._test = test
        self._directory = directory
        self._expected = Expectations(freePort())
        self._terminals: dict[str, Any] = {}
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join(
                (
                    str(self._programs()),
                    str(Path(sys.executable).parent),
                    os.environ["PATH"],
                )
            ),
            "PYTHONUNBUFFERED": "1",
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "TZ": "UTC",
        }
        for name in ("TCPSVC_KEYS", "TCPSVC_IDENTITY"):
            self._environment.pop(name, None)

    def _programs(self) -> Path:
        """
        Make a directory with the C{tcpsvc} and C{twistd} under test.
        """
        programs = self._directory.parent / "bin"
        programs.mkdir(parents=True)
        for name, line in (
            ("tcpsvc", "from tcpsvc.cli import main; main()"),
            ("twistd", "from twisted.scripts.twistd import run; run()"),
            ("python3", ""),
        ):
            path = programs / name
            start = f"-c '{line}'" if line else ""
            path.write_text(
                f"#!/bin/sh\nPYTHONPATH='{PACKAGE.parent}'; export PYTHONPATH\n"
                f"exec '{sys.executable}' {start} \"$@\"\n"
            )
            path.chmod(0o755)
        return programs

    def follow(self, block: Block) -> None:
        """
        Do what one block shows.
        """
        if block.language in FILES and "." in block.caption:
            text = self._expected.further(block.text)
            (self._directory / block.caption).write_text(text, encoding="utf-8")
        elif block.language == "console":
            lines = block.lines()
            if not lines[0].startswith("$ "):
                self._goOn(block, lines)
                return
            for command, shown in _commandsIn(lines):
                if command.startswith(LASTING) and "; echo" not in command[-24:]:
                    self._begin(block, command, shown)
                else:
                    self._run(block, command, shown)

    def _run(self, block: Block, command: str, shown: list[str]) -> None:
        """
        Run a command to its end, and look at what it says.
        """
        done = subprocess.run(
            ["/bin/bash", "-c", self._expected.command(command)],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        said = done.stdout.decode().splitlines()
        where = f"{block.place}: {command}\n" + "\n".join(said)
        self._test.assertEqual(len(said), len(shown), where)
        for line, got in zip(shown, said, strict=True):
            match = re.fullmatch(self._expected.pattern(line), got)
            self._test.assertIsNotNone(match, f"{where}\n\nwanted: {line}")
            assert match is not None
            self._expected.bind(line, match)

    def _begin(self, block: Block, command: str, shown: list[str]) -> None:
        """
        Begin a command that goes on.
        """
        import pexpect  # type: ignore[import-untyped]  # it has no types

        program = pexpect.spawn(
            "/bin/sh",
            ["-c", self._expected.command(command)],
            cwd=self._directory,
            env=self._environment,
            encoding="utf-8",
            timeout=PATIENCE,
            echo=False,
        )
        self._test.addCleanup(_end, program)
        self._terminals[block.caption] = program
        self._goOn(block, shown)

    def _goOn(self, block: Block, lines: list[str]) -> None:
        """
        Go on with a command that has begun.
        """
        import pexpect

        program = self._terminals[block.caption]
        guesses = "openssl s_client" in " ".join(map(str, program.args))
        for line in lines:
            if line == "^C":
                program.sendintr()
            elif line.startswith(GDB_PROMPT):
                program.expect_exact(GDB_PROMPT)
                program.sendline(self._expected.command(line[len(GDB_PROMPT) :]))
            elif not isinstance(line, Typed) and not (
                guesses and self._TYPED.match(line)
            ):
                if line == "...":
                    continue
                shown = self._expected.output(line)
                try:
                    program.expect(self._expected.pattern(shown) + "\r+\n")
                except (pexpect.TIMEOUT, pexpect.EOF):
                    raise AssertionError(
                        f"{block.place}: no {shown!r} in {program.before!r}"
                    ) from None
                self._expected.bind(shown, program.match)
            else:
                program.sendline(line)
        if lines and (
            "^C" in lines
            or lines[-1].startswith(("221 ", "421 "))
            or lines[-1] == f"{GDB_PROMPT}quit"
        ):
            program.expect(pexpect.EOF)


def _end(program: Any) -> None:
    """
    End a program that a tutorial has left behind.
    """
    with contextlib.suppress(ProcessLookupError):
        program.kill(signal.SIGTERM)
    program.close(force=True)


def _commandsIn(lines: list[str]) -> list[tuple[str, list[str]]]:
    """
    The commands of a block, each with the lines that follow it.
    """
    commands: list[tuple[str, list[str]]] = []
    continued = False
    for line in lines:
        if continued:
            command, shown = commands[-1]
            commands[-1] = (command.removesuffix("\\") + line.lstrip("> "), shown)
            continued = line.endswith("\\")
        elif line.startswith("$ "):
            commands.append((line.removeprefix("$ "), []))
            continued = line.endswith("\\")
        else:
            commands[-1][1].append(line)
    return commands


class TutorialTests(SynchronousTestCase):
    """
    The tutorials, from the first command to the last.
    """

    def setUp(self) -> None:
        """
        Need what a reader needs.
        """
        for name in ("bash", "openssl", "sed", "grep", "tr", "sha256sum"):
            requireProgram(name)
        if not DOCS.is_dir():
            raise SkipTest("the documentation is not here")
        self.directory = Path(self.mktemp()).resolve() / "here"
        self.directory.mkdir(parents=True)

    def follow(self, *names: str) -> None:
        """
        Follow tutorials, one after the other.
        """
        tutorial = Tutorial(self, self.directory)
        followed = 0
        for name in names:
            for block in blocksOf(DOCS / "tutorial" / f"{name}.rst"):
                tutorial.follow(block)
                followed += 1
        self.assertGreater(followed, 5)

    def test_firstSession(self) -> None:
        """
        Keys, a service, a session, a refusal, and the trail, as shown.
        """
        self.follow("first-session")

    def test_ownCommand(self) -> None:
        """
        A first command module, as shown, after the first tutorial.
        """
        self.follow("first-session", "own-command")

    def test_instrument(self) -> None:
        """
        A simulated instrument behind a gateway, by hand and from PyVISA.
        """
        requireScript("sinstruments-server")
        requireModules("gepace", "yaml", "pyvisa", "pyvisa_py")
        self.follow("instrument")

    def test_serialConsole(self) -> None:
        """
        A serial console that socat makes.
        """
        requireProgram("socat")
        requireModules("serial")
        self.follow("serial-console")

    def test_debugger(self) -> None:
        """
        gdb, and gdbserver behind a gateway.
        """
        for name in ("gcc", "gdb", "gdbserver"):
            requireProgram(name)
        self.follow("debugger")


class SampleTests(SynchronousTestCase):
    """
    All samples, on every page.
    """

    def setUp(self) -> None:
        """
        Need the pages.
        """
        if not DOCS.is_dir():
            raise SkipTest("the documentation is not here")

    def test_python(self) -> None:
        """
        Each sample in Python compiles.
        """
        number = 0
        for path in pages():
            for block in blocksOf(path):
                if block.language == "python":
                    compile(block.text, block.place, "exec", dont_inherit=True)
                    number += 1
        self.assertGreater(number, 3)

    def test_commands(self) -> None:
        """
        Each sub-command of C{tcpsvc} that a page names is there.
        """
        named = re.compile(
            r"(?:``|^ *\$ (?:.*[|;] *)?|\()(?<!twistd )tcpsvc ([a-z]+)(?: ([a-z]+))?",
            re.MULTILINE,
        )
        found = set()
        for path in pages():
            for match in named.finditer(path.read_text(encoding="utf-8")):
                name, second = match.groups()
                where = f"{path.relative_to(ROOT)}: {match[0]}"
                self.assertIn(name, SUBCOMMANDS, where)
                found.add(name)
                if name == "keys" and second:
                    self.assertIn(second, keysGroup.commands, where)
        self.assertEqual(found, set(SUBCOMMANDS), "each has its place in the docs")

    def test_machine(self) -> None:
        """
        No page has a path of the machine that it was written on.
        """
        for path in pages():
            text = path.read_text(encoding="utf-8")
            self.assertNotRegex(text, r"/(?:root|work|tmp)/", str(path))

    def test_readme(self) -> None:
        """
        The README is plain reStructuredText, as package indexes show it.
        """
        if importlib.util.find_spec("docutils") is None:
            raise SkipTest("docutils is not installed")
        checked = subprocess.run(
            [sys.executable, "-m", "docutils", "--strict", str(ROOT / "README.rst")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))


class ReferenceTests(SynchronousTestCase):
    """
    The reference against the code.
    """

    def page(self, name: str) -> str:
        """
        The text of one page.
        """
        path = DOCS / name
        if not path.exists():
            raise SkipTest("the documentation is not here")
        return path.read_text(encoding="utf-8")

    def test_options(self) -> None:
        """
        Each option of C{twistd tcpsvc} is there with its default, and no other.
        """
        sections = re.split(
            r"^\.\. option:: --([a-z-]+)",
            self.page("reference/options.rst"),
            flags=re.M,
        )
        documented = dict(zip(sections[1::2], sections[2::2], strict=True))
        defaults: dict[str, str] = {
            str(row[0]): str(row[2]) for row in Options.optParameters
        }
        defaults |= {str(row[0]): "off" for row in Options.optFlags}
        defaults |= {
            "listen": DEFAULT_LISTEN,
            "listen-plaintext": "none",
            "commands": "none",
            "gateway": "none",
            "on-open": "none",
            "on-close": "none",
        }
        own = {
            name.removeprefix("opt_").replace("_", "-")
            for name in vars(Options)
            if name.startswith("opt_")
        }
        self.assertEqual(own - set(defaults), set(), "all are compared")
        self.assertEqual(set(documented), set(defaults))
        for name, default in defaults.items():
            self.assertRegex(
                documented[name], rf"Default:\s+(``)?{re.escape(default)}\b", name
            )

    def test_words(self) -> None:
        """
        Each symbolic word of an error is in the table of replies with its code,
        and no other is.
        """
        documented = set(
            re.findall(
                r"``([45]\d\d) ([A-Z0-9-]+)", self.page("reference/protocol.rst")
            )
        )
        self.assertEqual(documented, set(errorsInCode()))

    def test_codes(self) -> None:
        """
        Each code of a reply is in the table.
        """
        page = self.page("reference/protocol.rst")
        for code in {code for code, _ in repliesInCode()}:
            self.assertRegex(page, rf"``{code}\b", str(code))

    def test_reasons(self) -> None:
        """
        Each reason for which a handshake fails is explained.
        """
        page = " ".join(self.page("howto/troubleshooting.rst").split())
        reasons = {*tls._REASONS.values(), *tls._HANDSHAKE_REASONS.values()}
        for reason in reasons:
            self.assertIn(f"``{reason}``", page)

    def test_exitStatuses(self) -> None:
        """
        Each exit status of the client is explained.
        """
        page = self.page("howto/troubleshooting.rst")
        for kind in vars(errors).values():
            if isinstance(kind, type) and issubclass(kind, errors.ClientError):
                self.assertRegex(page, rf"(?m)^{kind.exitStatus}\b", kind.__name__)


def repliesInCode() -> Iterator[tuple[str, str]]:
    """
    Code and beginning of the text of each reply that the service makes.
    """
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Reply"
                and len(node.args) >= 2
                and isinstance(node.args[0], ast.Constant)
            ):
                continue
            code, text = node.args[:2]
            assert isinstance(code, ast.Constant)
            if isinstance(text, ast.JoinedStr) and text.values:
                text = text.values[0]
            beginning = text.value if isinstance(text, ast.Constant) else ""
            yield str(code.value), str(beginning)


def errorsInCode() -> Iterator[tuple[str, str]]:
    """
    Code and symbolic word of each error that the service replies with.
    """
    for code, text in repliesInCode():
        if code[0] in "45":
            yield code, text.partition(" ")[0]
