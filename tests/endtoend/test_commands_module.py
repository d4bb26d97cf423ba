"""
A developer's own command module: C{examples/powersupply}, named by an option and
installed as a package.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

from tests.endtoend.service import EndToEndTests, Visit, run

EXAMPLE = Path(__file__).parents[2] / "examples" / "powersupply"

SETTLING = 0.25
"""
How long its output takes to settle, in seconds.
"""

RECEIPT = re.compile(r"\A221 bye; record \d+ [0-9a-f]{64}\Z")

HELP = (
    "*IDN?            answers what this is",
    "VOLTAGE [VOLTS]  sets the voltage, or answers what it is set to",
    "OUTPUT [ON|OFF]  switches the output, or answers whether it is on",
    "MEASURE          answers voltage and current at the output, once it has settled",
)


class ExampleTests(EndToEndTests):
    """
    The power supply, served.
    """

    def assertWorks(self, visit: Visit) -> None:
        """
        The conversation that its README shows.
        """
        readme = (EXAMPLE / "README.rst").read_text()
        session = readme.partition("A session::\n\n")[2].splitlines()
        greeting, *lines = (line.strip() for line in session if line.strip())
        self.assertRegex(greeting, r"\A220 bench tcpsvc \S+; you are alice\Z")
        self.assertRegex(visit.first, r"\A220 \S+ tcpsvc \S+; you are alice\Z")
        for request, reply in zip(lines[::2], lines[1::2], strict=True):
            said = visit.ask(request)
            if request == "QUIT":
                self.assertRegex(reply, RECEIPT)
                self.assertRegex(said, RECEIPT)
            else:
                self.assertEqual(said, reply)
        self.assertEqual(visit.line(), "")

    def test_option(self) -> None:
        """
        C{--commands powersupply:commands} serves it, and HELP lists its commands
        behind those that are built in.
        """
        service = self.service("--commands", "powersupply:commands", paths=[EXAMPLE])
        visit = self.visit(service)
        visit.send(b"HELP\nHELP voltage\n")
        lines = [visit.line() for _ in range(12)]
        self.assertEqual([line[4:] for line in lines[8:]], list(HELP))
        self.assertEqual(
            [visit.line(), visit.line()],
            [f"214-{HELP[1]}", "214 VOLTS is a number from 0 to 30."],
        )
        self.assertWorks(visit)

    def test_currentDirectory(self) -> None:
        """
        A module in the directory where the service is started is found, as the
        README has it.
        """
        service = self.service(
            *("--commands", "powersupply:commands"),
            before=["env", f"--chdir={EXAMPLE}"],
        )
        self.assertWorks(self.visit(service))

    def test_entryPoint(self) -> None:
        """
        Where the package is installed, its commands are there without an option.
        """
        if find_spec("setuptools") is None:
            if os.environ.get("CI"):
                self.fail("CI has to install setuptools")
            raise SkipTest("setuptools is not installed")
        package = self.directory / "powersupply"
        shutil.copytree(EXAMPLE, package)
        built = run(
            [
                *("env", f"--chdir={package}", sys.executable, "-c"),
                *("from setuptools import setup; setup()", "--quiet", "egg_info"),
            ]
        )
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertWorks(self.visit(self.service(paths=[package])))

    def test_late(self) -> None:
        """
        A command that answers late, being a coroutine, keeps its place: what was
        sent behind it is not even acted upon before it has answered.
        """
        service = self.service("--commands", "powersupply:commands", paths=[EXAMPLE])
        visit = self.visit(service)
        visit.send(b"VOLTAGE 12\nOUTPUT ON\nMEASURE\nOUTPUT OFF\nECHO last\n")
        replies = [visit.line() for _ in range(5)]
        self.assertEqual(
            replies,
            ["200 12.000 V", "200 ON", "200 12.000 V 1.500 A", "200 OFF", "200 last"],
        )
        (measured,) = service.records("reply", n=3)
        self.assertGreater(measured["duration_us"], SETTLING * 1e6 * 0.9)
        (behind,) = service.records("request", n=4)
        self.assertGreater(behind["seq"], measured["seq"])

    def test_givenUp(self) -> None:
        """
        A client that leaves while its command is at work takes it along: the
        slot is free, and the next client finds nothing of it.
        """
        service = self.service("--commands", "powersupply:commands", paths=[EXAMPLE])
        visit = self.visit(service)
        visit.send(b"OUTPUT ON\nMEASURE\n")
        self.assertEqual(visit.line(), "200 ON")
        service.waitForRecord("request", request="MEASURE")
        visit.close()
        after = service.admitted("bob")
        self.addCleanup(after.close)
        self.assertEqual(after.ask("ECHO mine"), "200 mine")
        self.assertEqual(service.records("reply", n=2), [])
        self.assertIn("the command MEASURE was given up", service.log)
        self.assertNotIn("Traceback", service.log)


class FailingCommandTests(EndToEndTests):
    """
    A command that raises.
    """

    def test_failure(self) -> None:
        """
        The client is told that there was something and no more, the traceback
        is in the log, and the session goes on.
        """
        service = self.service(
            "--commands", "witness:fail", paths=[Path(__file__).parent]
        )
        visit = self.visit(service)
        reply = visit.ask("FAIL")
        self.assertRegex(reply, r"\A451 COMMAND-FAILED ")
        self.assertNotIn("cable", reply)
        self.assertEqual(visit.ask("NOOP"), "200 OK")
        self.assertIn("Traceback", service.log)
        self.assertIn("the cable is out", service.log)
