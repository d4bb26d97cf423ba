"""
Tests for L{tcpsvc.commands}.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.commands import (
    BadArgument,
    Command,
    Commands,
    CommandsError,
    command,
    commandsOf,
    installedCommands,
    namedCommands,
)
from tcpsvc.wire import Request
from tests.support import clientNamed

REQUEST = Request("VOLT 5", "VOLT", "5", clientNamed())


@command("volt", argument="VOLTS", aliases=("v", "U"))
def volt(request: Request) -> str:
    """
    sets the output

    VOLTS is a number.

    It is checked.
    """
    return f"volt {request.argument}"


@command("STATE", pure=True)
def state(_: Request) -> str:
    """answers the state"""
    return "state"


class Supply:
    """
    An object with commands.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @command("ON")
    def on(self, request: Request) -> str:
        return f"{self.name} on"

    def helper(self) -> str:
        """No command."""
        raise AssertionError("never called")

    @property
    def danger(self) -> str:
        """A property that must not be read in the search."""
        raise AssertionError("never read")

    @command("OFF")
    def off(self, request: Request) -> str:
        return f"{self.name} off"

    @staticmethod
    @command("MODEL")
    def model(_: Request) -> str:
        return "model"

    @classmethod
    @command("KIND")
    def kind(cls, _: Request) -> str:
        return cls.__name__


class BetterSupply(Supply):
    """
    An object with its own commands and those of another.
    """

    @command("RAMP")
    def ramp(self, request: Request) -> str:
        return f"{self.name} ramp"

    @command("ON")
    def on(self, request: Request) -> str:
        return f"{self.name} on, better"

    def off(self, request: Request) -> str:
        """Overridden, and no command any more."""
        raise AssertionError("never called")


def verbs(source: object) -> list[str]:
    """
    @return: The verbs of a source's commands, in order.
    """
    return [one.verb for one in commandsOf(source)]


def answers(source: object) -> list[object]:
    """
    @return: What a source's commands answer, in order.
    """
    return [one.function(REQUEST) for one in commandsOf(source)]


class DecoratorTests(SynchronousTestCase):
    """
    Tests for L{command}.
    """

    def test_command(self) -> None:
        """
        A decorated function is a command with its verb in upper case, and HELP
        from its docstring.
        """
        self.assertEqual(
            commandsOf(volt),
            [
                Command(
                    verb="VOLT",
                    function=volt,
                    argument="VOLTS",
                    summary="sets the output",
                    details="VOLTS is a number.\n\nIt is checked.",
                    aliases=("V", "U"),
                    pure=False,
                )
            ],
        )

    def test_staysWhatItIs(self) -> None:
        """
        A decorated function can be called as before.
        """
        self.assertEqual(volt(REQUEST), "volt 5")
        self.assertEqual(Supply("a").on(REQUEST), "a on")

    def test_usage(self) -> None:
        """
        HELP shows the verb with its argument, if it has one.
        """
        (first,), (second,) = commandsOf(volt), commandsOf(state)
        self.assertEqual(first.usage, "VOLT VOLTS")
        self.assertEqual(second.usage, "STATE")

    def test_defaults(self) -> None:
        """
        Without more words a command takes no argument, has no other verbs,
        is not pure and needs no docstring.
        """

        @command("x")
        def x(_: Request) -> str:
            return ""

        self.assertEqual(commandsOf(x), [Command("X", x)])
        self.assertTrue(commandsOf(state)[0].pure)

    def test_hides(self) -> None:
        """
        A command that has anything secret says so.
        """
        for secret in (False, True):
            for secretReply in (False, True):
                hides = secret or secretReply
                one = Command("X", state, secret=secret, secretReply=secretReply)
                self.assertIs(one.hides, hides)

                @command("Y", secret=secret, secretReply=secretReply)
                def y(_: Request) -> str:
                    return ""

                self.assertIs(commandsOf(y)[0].hides, hides)

    def test_badVerbs(self) -> None:
        """
        A verb that no request could have is refused at once, as an alias too.
        """
        for verb in ("", "TWO WORDS", " A", "A\n", "A\tB", "\u00c4", "A\0", "\x7f"):
            self.assertRaises(CommandsError, command(verb), lambda request: "")
            self.assertRaises(
                CommandsError, command("GOOD", aliases=(verb,)), lambda request: ""
            )

    def test_punctuation(self) -> None:
        """
        Verbs may have what instruments' languages have in them.
        """
        for verb in ("*IDN?", "MEAS:VOLT?", "SET-UP", "1"):
            self.assertEqual(verbs(command(verb)(lambda request: "")), [verb])


class CommandsOfTests(SynchronousTestCase):
    """
    Tests for L{commandsOf}.
    """

    def test_function(self) -> None:
        """
        A decorated function is one command.
        """
        self.assertEqual(answers(state), ["state"])

    def test_boundMethod(self) -> None:
        """
        A bound method is one command, of the object that it is bound to.
        """
        self.assertEqual(answers(Supply("a").on), ["a on"])

    def test_object(self) -> None:
        """
        An object has the commands of its decorated methods, static methods
        and class methods, bound to it and in the order of their definition.
        """
        source = Supply("a")
        self.assertEqual(verbs(source), ["ON", "OFF", "MODEL", "KIND"])
        self.assertEqual(answers(source), ["a on", "a off", "model", "Supply"])

    def test_inherited(self) -> None:
        """
        Inherited commands come first; one that is overridden is answered by
        what overrides it, and is none if that is none.
        """
        source = BetterSupply("b")
        self.assertEqual(verbs(source), ["ON", "MODEL", "KIND", "RAMP"])
        self.assertEqual(
            answers(source), ["b on, better", "model", "BetterSupply", "b ramp"]
        )

    def test_attributes(self) -> None:
        """
        A decorated function that an object has as an attribute counts too.
        """
        source = Supply("a")
        source.__dict__["further"] = state
        self.assertEqual(verbs(source), ["ON", "OFF", "MODEL", "KIND", "STATE"])

    def test_iterables(self) -> None:
        """
        Lists, tuples and other iterables of sources have the commands of all.
        """
        self.assertEqual(verbs([volt, Supply("a").off]), ["VOLT", "OFF"])
        self.assertEqual(
            answers([(Supply("a").on, [Supply("b").on])]), ["a on", "b on"]
        )
        self.assertEqual(verbs(each for each in (state, volt)), ["STATE", "VOLT"])

    def test_module(self) -> None:
        """
        A module has those of its decorated functions, in order.
        """
        module = ModuleType("module")
        module.__dict__.update(b=volt, other=1, a=state, Supply=Supply)
        self.assertEqual(verbs(module), ["VOLT", "STATE"])

    def test_class(self) -> None:
        """
        A class is no object: its methods have nothing to work on.
        """
        error = self.assertRaises(CommandsError, commandsOf, Supply)
        self.assertEqual(str(error), "Supply is a class; name an object of it")

    def test_none(self) -> None:
        """
        What has no commands has none.
        """
        for source in (None, "text", b"octets", 1, [], object(), len, ["text"]):
            self.assertEqual(commandsOf(source), [])


class CommandsTests(SynchronousTestCase):
    """
    Tests for L{Commands}.
    """

    def test_find(self) -> None:
        """
        A command is found by each of its verbs, in upper case.
        """
        commands = Commands(commandsOf([volt, state]))
        for verb in ("VOLT", "V", "U"):
            found = commands.find(verb)
            assert found is not None
            self.assertEqual(found.verb, "VOLT")
        for verb in ("volt", "VOL", ""):
            self.assertIsNone(commands.find(verb))

    def test_order(self) -> None:
        """
        They come in the order in which they were added, each once.
        """
        commands = Commands(commandsOf(volt))
        commands.add(commandsOf(state)[0])
        self.assertEqual([one.verb for one in commands], ["VOLT", "STATE"])

    def test_duplicates(self) -> None:
        """
        A verb that is taken, as such or as an alias, is refused and named, and
        nothing of the second command is there.
        """
        for verb, aliases, taken in (
            ("volt", (), "VOLT"),
            ("u", (), "U"),
            ("NEW", ("NEWER", "V"), "V"),
        ):
            commands = Commands(commandsOf(volt))
            second = Command(
                verb.upper(), lambda request: "", aliases=aliases, summary="second"
            )
            error = self.assertRaises(CommandsError, commands.add, second)
            self.assertIn(f"two commands for the verb {taken}: ", str(error))
            self.assertEqual([one.verb for one in commands], ["VOLT"])
            self.assertIsNone(commands.find("NEW"))
            self.assertIsNone(commands.find("NEWER"))

    def test_badArgument(self) -> None:
        """
        L{BadArgument} is a L{ValueError}, as its users expect.
        """
        self.assertTrue(issubclass(BadArgument, ValueError))


class NamedCommandsTests(SynchronousTestCase):
    """
    Tests for L{namedCommands} and L{installedCommands}, with real modules.
    """

    def setUp(self) -> None:
        """
        Make a directory that modules are imported from.
        """
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        sys.path.insert(0, str(self.directory))
        self.addCleanup(sys.path.remove, str(self.directory))
        before = set(sys.modules)

        def forget() -> None:
            for name in set(sys.modules) - before:
                if name.startswith("t1_"):
                    del sys.modules[name]

        self.addCleanup(forget)

    def module(self, name: str, *lines: str) -> None:
        """
        Write a module.
        """
        (self.directory / f"{name}.py").write_text("\n".join(lines) + "\n")
        importlib.invalidate_caches()

    def good(self, name: str, verb: str = "GOOD") -> None:
        """
        Write a module with a command.
        """
        self.module(
            name,
            "from tcpsvc.commands import command",
            f"@command({verb!r})",
            "def answer(request):",
            "    return 'good'",
            "class Inner:",
            "    commands = [answer]",
            "    none = 5",
        )

    def problem(self, name: str) -> str:
        """
        @return: Why C{name} cannot be used: one line, that begins with it.
        """
        message = str(self.assertRaises(CommandsError, namedCommands, name))
        self.assertEqual(len(message.splitlines()), 1, message)
        start, mark, rest = message.partition(f"{name}: ")
        self.assertEqual((start, mark), ("", f"{name}: "))
        return rest

    def test_named(self) -> None:
        """
        C{MODULE:OBJECT} may name a function, or a list inside of something.
        """
        self.good("t1_named")
        for name in ("t1_named:answer", "t1_named:Inner.commands"):
            (one,) = namedCommands(name)
            self.assertEqual(one.verb, "GOOD")
            self.assertEqual(one.function(REQUEST), "good")

    def test_form(self) -> None:
        """
        Without both a module and an object the right form is told.
        """
        for name in ("", ":", "t1_module", "t1_module:", ":object"):
            self.assertEqual(self.problem(name), "MODULE:OBJECT is wanted")

    def test_noModule(self) -> None:
        """
        A module that is not there, or has no such name, is told of.
        """
        for name in ("t1_missing:x", "t1_missing.inner:x", "t1_missing..x:x", ".x:x"):
            self.assertIn("the module cannot be imported: ", self.problem(name))

    def test_brokenModule(self) -> None:
        """
        A module that raises when it is imported is told of in one line,
        whatever it says.
        """
        self.module("t1_broken", r"raise RuntimeError('first\nsecond\r\n third')")
        self.assertEqual(
            self.problem("t1_broken:x"),
            "the module cannot be imported: RuntimeError: first second third",
        )
        self.module("t1_syntax", "def (")
        self.assertIn("SyntaxError", self.problem("t1_syntax:x"))
        self.module(
            "t1_verb",
            "from tcpsvc.commands import command",
            "command('two words')(print)",
        )
        self.assertIn("'two words' is no verb", self.problem("t1_verb:x"))

    def test_noObject(self) -> None:
        """
        An object that the module does not have is told of.
        """
        self.good("t1_object")
        for name in ("nothing", "Inner.nothing", "answer.nothing", "Inner..x"):
            self.assertEqual(
                self.problem(f"t1_object:{name}"), f"the module has no {name}"
            )

    def test_noCommands(self) -> None:
        """
        An object without commands is told of, with what to do.
        """
        self.good("t1_none")
        self.assertEqual(
            self.problem("t1_none:Inner.none"),
            "there is no command; decorate one with @command",
        )

    def install(self, distribution: str, *lines: str) -> None:
        """
        Install a distribution with these entry points of C{tcpsvc.commands}.
        """
        directory = self.directory / f"{distribution}-1.0.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (directory / "entry_points.txt").write_text(
            "\n".join(("[tcpsvc.commands]", *lines, "[tcpsvc.other]", "x = t1_not:x"))
            + "\n"
        )
        importlib.invalidate_caches()

    def installed(self) -> list[str]:
        """
        @return: The verbs of the commands of the distributions of this test.
        """
        return [one.verb for one in installedCommands() if one.verb.startswith("T1")]

    def test_installed(self) -> None:
        """
        The commands of all entry points of the group C{tcpsvc.commands} are
        there, in the order of their names.
        """
        for name in ("one", "two", "three"):
            self.good(f"t1_{name}", f"T1-{name}")
        self.install(
            "t1_first", "t1_c = t1_three:answer", "t1_a = t1_one:Inner.commands"
        )
        self.install("t1_second", "t1_b = t1_two:answer")
        self.assertEqual(self.installed(), ["T1-ONE", "T1-TWO", "T1-THREE"])

    def test_noneInstalled(self) -> None:
        """
        Entry points of other groups are not looked at.
        """
        self.install("t1_third")
        self.assertEqual(self.installed(), [])

    def test_brokenEntryPoint(self) -> None:
        """
        An entry point that has no commands is an error that names it.
        """
        self.install("t1_fourth", "t1_a = t1_missing:x")
        error = self.assertRaises(CommandsError, installedCommands)
        self.assertIn("t1_missing:x: the module cannot be imported", str(error))
