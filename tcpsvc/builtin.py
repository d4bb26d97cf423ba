# -*- test-case-name: tests.test_builtin -*-

"""
The commands that every service has.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attrs import Factory, define, field

import tcpsvc
from tcpsvc.commands import BadArgument, Command, Commands, command, commandsOf
from tcpsvc.events import Journal
from tcpsvc.identity import Client
from tcpsvc.interfaces import ISlot, ITrail
from tcpsvc.times import toSeconds
from tcpsvc.wire import Reply, Request


@define
class ServiceFacts:
    """
    What the service can say of itself.

    @ivar host: The name of the machine.
    @ivar slot: Who holds it is a fact too.
    @ivar started: When the service started, in seconds since the epoch.
    @ivar certificateExpires: When the server's certificate does; L{None} if
        it has none.
    @ivar begun: When the service started, by the clock of durations.
    """

    host: str
    slot: ISlot
    journal: Journal
    started: float
    certificateExpires: datetime | None
    begun: float = field(
        default=Factory(lambda self: self.journal.clock.seconds(), takes_self=True)
    )

    def now(self) -> float:
        """
        @return: The time in seconds since the epoch.
        """
        return self.journal.now()

    def seconds(self) -> float:
        """
        @return: The time by the clock of durations.
        """
        return self.journal.clock.seconds()

    def greeting(self, client: Client) -> Reply:
        """
        The first line to a client that was admitted.
        """
        return self._greeting("", client)

    def gatewayGreeting(self, client: Client) -> Reply:
        """
        The same where a gateway's octets follow it, and no replies.
        """
        return self._greeting(" gateway", client)

    def controlGreeting(self, client: Client) -> Reply:
        """
        The first line to a client that only asks.
        """
        return self._greeting(" control", client)

    def _greeting(self, kind: str, client: Client) -> Reply:
        """
        A greeting that says by a word what it leads to.
        """
        name = client.identity.name
        return Reply(
            220, f"{self.host} tcpsvc {tcpsvc.__version__}{kind}; you are {name}"
        )


class Conversation:
    """
    The verbs that are about the connection.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    @command("ECHO", argument="TEXT", pure=True)
    def echo(self, request: Request) -> str:
        """answers TEXT"""
        return request.argument

    @command("NOOP", pure=True)
    def noop(self, request: Request) -> str:
        """does nothing, and keeps the session from being idle"""
        return "OK"

    @command("TIME", pure=True)
    def time(self, request: Request) -> str:
        """answers the time of the service, in UTC"""
        return toSeconds(self._now())


class Inquiry:
    """
    The verbs that ask about the service; on control connections too.
    """

    def __init__(self, facts: ServiceFacts) -> None:
        self._facts = facts

    @command("WHO", pure=True)
    def who(self, request: Request) -> str:
        """answers who holds the service, from where and since when"""
        claim = self._facts.slot.current
        if claim is None:
            return "nobody"
        holder: Client = claim.holder
        return (
            f"{holder.identity.name} {holder.address} since {toSeconds(holder.since)} "
            f"idle {holder.idleSeconds(self._facts.seconds())} s"
        )

    @command("STATUS")
    def status(self, request: Request) -> Reply:
        """answers how the service is, a line each of name: value"""
        facts = self._facts
        claim, trail, counts = (
            facts.slot.current,
            facts.journal.trail,
            facts.journal.counts,
        )
        expires = facts.certificateExpires
        values: dict[str, object] = {
            "version": tcpsvc.__version__,
            "started": toSeconds(facts.started),
            "uptime_s": int(facts.seconds() - facts.begun),
            "holder": claim.holder.identity.name if claim is not None else "",
            "sessions": facts.slot.claims,
            "requests": counts["request"],
            "refusals": counts["session.refused"],
            "certificate_expires": toSeconds(expires.timestamp()) if expires else "",
            "audit_records": trail.records,
            "audit_head": trail.head,
            "audit_state": trail.blocked
            or f"open{trail.lastBlocked and f', was blocked {trail.lastBlocked}'}",
        }
        return Reply(211, "\n".join(f"{name}: {values[name]}" for name in values))

    @command("VERSION", pure=True)
    def version(self, request: Request) -> str:
        """answers the version of the service"""
        return f"tcpsvc {tcpsvc.__version__}"


class Farewell:
    """
    The verb that ends the session.
    """

    def __init__(self, trail: ITrail) -> None:
        self._trail = trail

    @command("QUIT", aliases=("EXIT", "BYE"))
    def quit(self, request: Request) -> Reply:
        """
        ends the session with a receipt (also: EXIT, BYE)

        The receipt names the last record before this reply and the SHA-256 of
        its line. Whoever keeps it can show later that the audit trail was not
        cut off before that record, nor written anew.
        """
        trail = self._trail
        return Reply(221, f"bye; record {trail.records} {trail.head}", closes=True)


class Help:
    """
    The verb that lists the others.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    @command("HELP", argument="[VERB]", pure=True)
    def help(self, request: Request) -> Reply:
        """lists the commands, or explains one"""
        if not request.argument:
            width = max(len(one.usage) for one in self._commands)
            lines = [_line(one, width) for one in self._commands]
            return Reply(214, "\n".join(lines))
        found = self._commands.find(request.argument.strip().upper())
        if found is None:
            raise BadArgument("there is no such command; HELP lists them")
        line = _line(found, len(found.usage))
        return Reply(214, f"{line}\n{found.details}".rstrip())


def _line(one: Command, width: int) -> str:
    """
    One command in one line.

    @param width: How many characters its usage takes.
    """
    return f"{one.usage:<{width}}  {one.summary}".rstrip()


def builtInVerbs() -> Commands:
    """
    @return: A table with the built-in commands, to see whether others fit in;
        they cannot be called.
    """
    kinds = (Help, Conversation, Inquiry, Farewell)
    return Commands(one for kind in kinds for one in commandsOf(vars(kind).values()))


def serviceCommands(facts: ServiceFacts) -> Commands:
    """
    The commands of a session, to which others may be added.
    """
    return _withHelp(
        Conversation(facts.now), Inquiry(facts), Farewell(facts.journal.trail)
    )


def controlCommands(facts: ServiceFacts) -> Commands:
    """
    The commands of a control connection.
    """
    return _withHelp(Inquiry(facts), Farewell(facts.journal.trail))


def _withHelp(*sources: object) -> Commands:
    """
    The commands of several objects, behind a HELP that lists them all.
    """
    commands = Commands()
    for one in commandsOf((Help(commands), *sources)):
        commands.add(one)
    return commands
