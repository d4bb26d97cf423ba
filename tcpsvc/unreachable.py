# -*- test-case-name: tests.test_unreachable -*-

"""
Why there is no connection, in a few words: what Twisted says of that is meant for a
programmer.
"""

from __future__ import annotations

import os

from twisted.internet import error as errors

_WORDS = (
    (errors.DNSLookupError, "name not known"),
    (errors.UnknownHostError, "name not known"),
    (errors.ConnectionRefusedError, "connection refused"),
    (errors.NoRouteError, "no route to this host"),
    (errors.TimeoutError, "timed out"),
    (errors.ConnectionDone, "it closed the connection"),
    (errors.ConnectionClosed, "the connection was lost"),
)


def whyUnreachable(error: BaseException) -> str:
    """
    Why there is no connection: if that is nothing known, what the error says itself.
    """
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, errors.ConnectError):
        number = error.osError
        words = os.strerror(number) if isinstance(number, int) else number
        return str(words or error.args[0] or "no connection")
    return str(error).strip(". ") or type(error).__name__
