# -*- test-case-name: tests.test_recorded -*-

"""
What of requests and replies goes into the audit trail: all of it, save what
is secret.
"""

from __future__ import annotations

from tcpsvc.commands import Command, Commands
from tcpsvc.jsontext import packed, quoted
from tcpsvc.wire import BadRequest, Reply, Request

_OUR_WORDS = ("BAD-ARGUMENT", "COMMAND-FAILED", "LINE-TOO-LONG", "NOT-UTF-8")
"""
The words of errors that the service itself has chosen, not a command.
"""


class Recorded:
    """
    Makes the members of records, in JSON.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def request(self, event: Request | BadRequest, command: Command | None) -> str:
        """
        @param command: The command that a request is for, if there is one.
        @return: What says what was asked.
        """
        if command is None:
            command = self._meant(event)
        if command is not None and command.secret:
            return (
                f'"request":{quoted(command.verb)},'
                f'"argument_octets":{_argumentOctets(event)}'
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
        if command is None:
            command = self._meant(event)
        if command is None or not (
            command.secretReply or (command.secret and reply.isError)
        ):
            return f'"reply":{quoted(text)}'
        word = reply.word if reply.word in _OUR_WORDS else ""
        said = f"{reply.code} {word}".rstrip()
        return f'"reply":{quoted(said)},"reply_octets":{len(text.encode())}'

    def _meant(self, event: Request | BadRequest) -> Command | None:
        """
        The command that a line names which is for none: as it is too long, or begins
        in a way in which no request does.
        """
        if isinstance(event, Request):
            words = event.line.split(maxsplit=1)
        else:
            words = event.head.decode("utf-8", "replace").split(maxsplit=1)
        return self._commands.find(words[0].upper()) if words else None


def _argumentOctets(event: Request | BadRequest) -> int:
    """
    How long the argument of a line is, in octets.
    """
    if isinstance(event, Request) and event.argument:
        return len(event.argument.encode())
    if isinstance(event, Request):
        return len("".join(event.line.split(maxsplit=1)[1:]).encode())
    verb = event.head.partition(b" ")[0]
    return max(0, event.octets - len(verb) - len(b" "))
