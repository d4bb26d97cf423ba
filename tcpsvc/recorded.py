# -*- test-case-name: tests.test_recorded -*-

"""
What of requests and replies goes into the audit trail: all of it, save what
is secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from unicodedata import normalize

from tcpsvc.commands import Command, Commands
from tcpsvc.jsontext import packed, quoted
from tcpsvc.wire import BadRequest, Reply, Request

_OUR_WORDS = (
    "BAD-ARGUMENT",
    "COMMAND-FAILED",
    "LINE-TOO-LONG",
    "NOT-OUR-PROTOCOL",
    "NOT-UTF-8",
)
"""
The words of errors that the service itself has chosen, not a command.
"""


_NOT_TYPED = re.compile(r"[^ -~]+")
"""
What no verb contains: all but printable ASCII.
"""


class Recorded:
    """
    Makes the members of records, in JSON.

    A request for a known command that is not secret is recorded in full. Any
    other line that contains the verb of a secret command is recorded as a request
    for that command, without its argument: the client may have meant it.
    """

    def __init__(self, commands: Commands, others: Iterable[Command] = ()) -> None:
        """
        @param commands: The commands that answer this client.
        @param others: Commands that only other clients of the service can use. A
            client may still send the argument of a secret one.
        """
        self._find = commands.find
        self._secret: dict[str, Command] = {
            verb: one
            for one in (*commands, *others)
            if one.secret
            for verb in (one.verb, *one.aliases)
        }

    def request(self, event: Request | BadRequest, command: Command | None) -> str:
        """
        @param command: The command that a request is for, if there is one.
        @return: What says what was asked.
        """
        command = self._meant(event, command)
        if command is not None and command.secret:
            return (
                f'"request":{quoted(command.verb)},'
                f'"argument_octets":{_argumentOctets(event, command)}'
            )
        if isinstance(event, Request):
            return f'"request":{quoted(event.line)}'
        try:
            asked = f'"request":{quoted(event.head.decode("utf-8"))}'
        except UnicodeDecodeError:
            asked = f'"request_b64":{packed(event.head)}'
        if event.octets > len(event.head):
            asked += f',"octets":{event.octets}'
        return asked

    def reply(
        self,
        event: Request | BadRequest,
        command: Command | None,
        reply: Reply,
        text: str,
    ) -> str:
        """
        @param command: The command that a request is for, if there is one.
        @param text: The reply as it is sent.
        @return: What says what was answered. What a command with a secret argument
            has to complain of may repeat it.
        """
        command = self._meant(event, command)
        if command is None or not (
            command.secretReply or (command.secret and reply.isError)
        ):
            return f'"reply":{quoted(text)}'
        word = reply.word if reply.word in _OUR_WORDS else ""
        said = f"{reply.code} {word}".rstrip()
        return f'"reply":{quoted(said)},"reply_octets":{len(text.encode())}'

    def _meant(
        self, event: Request | BadRequest, command: Command | None
    ) -> Command | None:
        """
        @param command: The command that answers the line, if there is one.
        @return: The secret command whose argument may be in the line, or else
            C{command}.
        """
        if not self._secret:
            return command
        if command is None:
            line = event.line if isinstance(event, Request) else _text(event.head)
        elif command.verb == "HELP" and isinstance(event, Request):
            # HELP takes one verb. What follows it may be that verb's argument.
            line = event.argument
            verb = line.strip().upper()
            if verb in self._secret or self._find(verb) is not None:
                return command
        else:
            return command
        for typed in {_typed(line), _typed(_corrected(line))}:
            for verb, secret in self._secret.items():
                # A telnet negotiation in front takes one character of the line. So
                # does the byte order mark of UTF-16, which looks like one.
                if verb in typed or (len(verb) > 2 and typed.startswith(verb[1:])):
                    return secret
        return command


def _text(octets: bytes) -> str:
    """
    The bytes as text, as far as they are UTF-8.
    """
    return octets.decode("utf-8", "ignore")


def _corrected(line: str) -> str:
    """
    The line without what was erased by BS or DEL, as a terminal sends them that does
    not edit its own lines.
    """
    left: list[str] = []
    for character in line:
        if character not in "\b\x7f":
            left.append(character)
        elif left:
            left.pop()
    return "".join(left)


def _typed(line: str) -> str:
    """
    The line in upper-case ASCII, without all that is not a printable character.
    Letters of other forms, such as U+017F or U+FF21, count as the ASCII letters
    that Unicode maps them to.
    """
    return _NOT_TYPED.sub("", normalize("NFKD", line).upper())


def _argumentOctets(event: Request | BadRequest, command: Command) -> int:
    """
    @return: The length of the argument in a line, in bytes. If the line does not
        show where the argument begins, the length of all that is not the verb.
    """
    if isinstance(event, Request):
        octets, head = len(event.line.encode()), event.line.encode()
    else:
        octets, head = event.octets, event.head
    verb, space, _ = head.partition(b" ")
    if space and _text(verb).upper() in (command.verb, *command.aliases):
        return max(0, octets - len(verb) - len(b" "))
    return max(0, octets - len(command.verb))
