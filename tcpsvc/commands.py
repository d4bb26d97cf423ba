# -*- test-case-name: tests.test_commands -*-

"""
Commands: functions that answer requests, and the table that finds them.

A function becomes a command by the decorator L{command}::

    @command("VOLTAGE", argument="VOLTS")
    def voltage(request):
        \"\"\"sets the output\"\"\"
        try:
            volts = float(request.argument)
        except ValueError:
            raise BadArgument("a number of volts is wanted")
        return supply.set(volts)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import TypeVar

from attrs import evolve, field, frozen

from tcpsvc.wire import Reply, Request

Answer = str | Reply
"""
What a command returns: the text of a 200 reply, or a whole reply.
"""

Function = Callable[[Request], object]
"""
A command's function. It returns an L{Answer}, or a Deferred or coroutine of one.
"""

ENTRY_POINT_GROUP = "tcpsvc.commands"
"""
The group of entry points whose commands are always there.
"""

_F = TypeVar("_F", bound=Callable[..., object])
_ATTRIBUTE = "tcpsvcCommand"


class BadArgument(ValueError):
    """
    Raised by a command whose argument is not right. The client is told the
    message, in one line: C{501 BAD-ARGUMENT message}.
    """


class CommandsError(Exception):
    """
    Commands cannot be used. The message is one line for people.
    """


@frozen
class Command:
    """
    One verb and the function that answers it.

    @ivar verb: In upper case.
    @ivar function: What answers.
    @ivar argument: What the argument is, as HELP shows it; empty for none.
    @ivar summary: What the command does, in a line.
    @ivar details: What HELP says of this verb, in full.
    @ivar aliases: Other verbs for the same, in upper case.
    @ivar secret: Whether of its arguments only the length is recorded, and of
        what it raises only the kind is logged.
    @ivar secretReply: The same for its replies.
    @ivar hides: Whether either is so.
    @ivar pure: Whether it does nothing but answer. Requests for pure commands
        that come together are recorded together; each other one is recorded
        before its function is called.
    """

    verb: str
    function: Function
    argument: str = ""
    summary: str = ""
    details: str = ""
    aliases: tuple[str, ...] = ()
    pure: bool = False
    secret: bool = False
    secretReply: bool = False
    hides: bool = field(init=False)

    @hides.default
    def _hides(self) -> bool:
        return self.secret or self.secretReply

    @property
    def origin(self) -> str:
        """Where its function is, for people."""
        function = self.function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return f"{function.__module__}.{name}"

    @property
    def usage(self) -> str:
        """The verb with its argument, as HELP shows it."""
        return f"{self.verb} {self.argument}".rstrip()


def command(
    verb: str,
    *,
    argument: str = "",
    aliases: Iterable[str] = (),
    pure: bool = False,
    secret: bool = False,
    secretReply: bool = False,
) -> Callable[[_F], _F]:
    """
    Make a command of a function or method, which stays what it is.

    The function takes a L{Request} and returns text or a L{Reply}, or a
    Deferred or coroutine of one. The first line of its docstring is its
    summary in HELP. If it raises L{BadArgument}, the client is told so; of
    any other exception the client learns only that there was one.

    @param verb: ASCII without spaces; case does not matter.
    @param argument: What the argument is, for HELP; without one, a request
        that has an argument gets 501 BAD-ARGUMENT.
    @param pure: See L{Command}.
    @param secret: See L{Command}.
    @param secretReply: See L{Command}.
    """

    def decorate(function: _F) -> _F:
        if pure and inspect.iscoroutinefunction(function):
            raise CommandsError(f"{verb}: what answers late is not pure")
        summary, _, rest = (inspect.getdoc(function) or "").partition("\n")
        made = Command(
            verb=_checkedVerb(verb),
            function=function,
            argument=argument,
            summary=summary,
            details=rest.strip(),
            aliases=tuple(_checkedVerb(alias) for alias in aliases),
            pure=pure,
            secret=secret,
            secretReply=secretReply,
        )
        setattr(function, _ATTRIBUTE, made)
        return function

    return decorate


def _checkedVerb(verb: str) -> str:
    """
    The verb in upper case.

    @raise CommandsError: If no request could have it.
    """
    if not isinstance(verb, str):
        raise CommandsError('write @command("VERB")')
    if not verb or not verb.isascii() or not verb.isprintable() or " " in verb:
        raise CommandsError(f"{verb!r} is no verb: ASCII without spaces is wanted")
    return verb.upper()


def commandsOf(source: object) -> list[Command]:
    """
    The commands that an object has to offer.

    @param source: A decorated function or bound method; a list, tuple or
        other iterable of sources; or a module or any other object, whose
        decorated attributes are taken in the order of their definition.
    """
    made = getattr(source, _ATTRIBUTE, None)
    if isinstance(made, Command):
        assert callable(source)
        return [evolve(made, function=source)]
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        return [command for item in source for command in commandsOf(item)]
    if isinstance(source, type):
        raise CommandsError(f"{source.__qualname__} is a class; name an object of it")
    if isinstance(source, ModuleType):
        names = list(vars(source))
    else:
        kinds = reversed(type(source).__mro__)
        names = list(dict.fromkeys(name for kind in kinds for name in vars(kind)))
        names += [name for name in getattr(source, "__dict__", ()) if name not in names]
    found = []
    for name in names:
        attribute = inspect.getattr_static(source, name, None)
        if isinstance(attribute, (staticmethod, classmethod)):
            attribute = attribute.__func__
        if isinstance(getattr(attribute, _ATTRIBUTE, None), Command):
            found.extend(commandsOf(getattr(source, name)))
    return found


class Commands:
    """
    The table of all commands of a service, by verb.

    @ivar find: Finds the command of a verb, in upper case; L{None} if there is
        none.
    """

    def __init__(self, commands: Iterable[Command] = ()) -> None:
        self._inOrder: list[Command] = []
        self._byVerb: dict[str, Command] = {}
        self.find: Callable[[str], Command | None] = self._byVerb.get
        for one in commands:
            self.add(one)

    def add(self, command: Command) -> None:
        """
        @raise CommandsError: If one of its verbs is taken.
        """
        verbs = (command.verb, *command.aliases)
        for verb in verbs:
            if verb in self._byVerb:
                taken = self._byVerb[verb].origin
                raise CommandsError(
                    f"two commands for the verb {verb}: {taken} and {command.origin}"
                )
        self._inOrder.append(command)
        self._byVerb.update(dict.fromkeys(verbs, command))

    def __iter__(self) -> Iterator[Command]:
        """
        The commands in the order in which they were added.
        """
        return iter(self._inOrder)


def namedCommands(name: str) -> list[Command]:
    """
    The commands of C{MODULE:OBJECT}.

    @raise CommandsError: If there are none.
    """
    moduleName, colon, objectName = name.partition(":")
    if not moduleName or not colon or not objectName:
        raise CommandsError(f"{name}: MODULE:OBJECT is wanted")
    try:
        source: object = import_module(moduleName)
    except CommandsError as error:
        raise CommandsError(f"{name}: {error}") from None
    except (Exception, SystemExit) as error:
        raise CommandsError(
            f"{name}: the module cannot be imported: {type(error).__name__}: "
            + " ".join(str(error).split())
        ) from error
    for part in objectName.split("."):
        try:
            source = getattr(source, part)
        except AttributeError:
            raise CommandsError(f"{name}: the module has no {objectName}") from None
    try:
        found = commandsOf(source)
    except CommandsError as error:
        raise CommandsError(f"{name}: {error}") from None
    if not found:
        raise CommandsError(f"{name}: there is no command; decorate one with @command")
    return found


def installedCommands() -> list[Command]:
    """
    The commands of all entry points of the group C{tcpsvc.commands}.

    @raise CommandsError: If one of them has none.
    """
    return [
        command
        for point in sorted(
            entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name
        )
        for command in namedCommands(point.value)
    ]
