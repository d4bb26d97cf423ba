# -*- test-case-name: tests.test_recorded -*-

"""
What of requests and replies goes into the audit trail: all of it, save what
is secret.
"""

from __future__ import annotations

from base64 import b64encode

from tcpsvc.commands import Command, Commands
from tcpsvc.wire import BadRequest, Reply, Request

_OUR_WORDS = ("BAD-ARGUMENT", "COMMAND-FAILED", "LINE-TOO-LONG", "NOT-UTF-8")
"""
The words of errors that the service itself has chosen, not a command.
"""


class Recorded:
    """
    Makes the fields of records.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def request(self, event: Request | BadRequest) -> dict[str, object]:
        """
        @return: The fields that say what was asked.
        """
        command = self._commandOf(event)
        if command is not None and command.secret:
            return {"request": command.verb, "argument_octets": _argumentOctets(event)}
        if isinstance(event, Request):
            return {"request": event.line}
        fields: dict[str, object]
        try:
            fields = {"request": event.head.decode("utf-8")}
        except UnicodeDecodeError:
            fields = {"request_b64": b64encode(event.head).decode("ascii")}
        if event.octets > len(event.head):
            fields["octets"] = event.octets
        return fields

    def reply(self, event: Request | BadRequest, reply: Reply) -> dict[str, object]:
        """
        @return: The fields that say what was answered. What a command with a
            secret argument has to complain of may repeat it.
        """
        command = self._commandOf(event)
        if command is None or not (
            command.secretReply or (command.secret and reply.isError)
        ):
            return {"reply": str(reply)}
        word = reply.word if reply.word in _OUR_WORDS else ""
        return {
            "reply": f"{reply.code} {word}".rstrip(),
            "reply_octets": len(reply.encode()) - len("\r\n"),
        }

    def _commandOf(self, event: Request | BadRequest) -> Command | None:
        """
        The command that a line names; even one that is too long, or that begins
        in a way in which no request does.
        """
        if isinstance(event, Request):
            command = self._commands.find(event.verb)
            if command is not None:
                return command
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
