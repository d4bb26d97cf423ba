# -*- test-case-name: tests.test_client -*-

"""
What can go wrong between a program and the service.

The message of each error is one line for people. Its C{exitStatus} is what a
command should exit with (sysexits.h, and tcpsvc's own documentation).
"""

from __future__ import annotations

import os

from tcpsvc.wire import Reply

FAREWELLS = (221, 421)
"""
The codes of the replies that say of themselves that the session ends.
"""


class ClientError(Exception):
    """
    Something went wrong; the subclasses say what.

    @cvar exitStatus: What a command that gives up because of it exits with.
    """

    exitStatus = 1


class BadAddress(ClientError):
    """
    Where the service is was not written as C{HOST} or C{HOST:PORT}.
    """

    exitStatus = os.EX_USAGE


class ConfigurationError(ClientError):
    """
    The keys are missing or useless, or it is not clear whose to take.
    """

    exitStatus = os.EX_CONFIG


class CannotReach(ClientError):
    """
    There is no connection to the service, or there is none any more.
    """

    exitStatus = os.EX_UNAVAILABLE


class Unavailable(CannotReach):
    """
    The service was reached, and admits nobody now.

    @ivar reply: What it said.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(self._words(reply))
        self.reply = reply

    def _words(self, reply: Reply) -> str:
        """
        @return: One line for people.
        """
        return f"the service admits nobody now: {reply.text}"


class BackendDown(Unavailable):
    """
    The service was reached, and the device behind its gateway was not.
    """

    def _words(self, reply: Reply) -> str:
        """
        @return: One line for people.
        """
        return (
            "not connected: the resource behind the service cannot be reached; its log "
            "says why"
        )


class Busy(ClientError):
    """
    Somebody else has the service.

    @ivar reply: What the service said: who has it, and since when.
    """

    exitStatus = os.EX_TEMPFAIL

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text.removeprefix("BUSY ") or "busy")
        self.reply = reply


class ProtocolViolation(ClientError):
    """
    What is there does not speak tcpsvc's protocol.
    """

    exitStatus = os.EX_PROTOCOL


class IsGateway(ProtocolViolation):
    """
    The service is no service of commands: it joins its clients to a device, which
    would get each request. None was sent; but what the service says to the device at
    the begin and end of a session was.
    """

    def __init__(self, host: str) -> None:
        """
        @param host: The service, as the user has written it.
        """
        super().__init__(
            f"the service at {host} is a gateway to its device: use `tcpsvc connect "
            f"{host}` or `tcpsvc forward LOCAL {host}`"
        )


class CertificateRefused(ClientError):
    """
    One side refused the other's certificate. The message says which, why, and
    what to do.
    """

    exitStatus = os.EX_NOPERM


class SessionEnded(ClientError):
    """
    The service ended the session before it answered a request.

    @ivar reply: The reply that it ended the session with: a 421, the 221 to a
        C{QUIT}, or any other that it closed the connection behind.
    """

    def __init__(self, reply: Reply, unanswered: int = 0) -> None:
        """
        @param unanswered: How many requests have no reply.
        """
        words = "the service ended the session"
        if reply.code in FAREWELLS:
            words += f": {reply.text}"
        elif unanswered == 1:
            words += "; 1 request has no reply"
        elif unanswered:
            words += f"; {unanswered} requests have no reply"
        super().__init__(words)
        self.reply = reply
