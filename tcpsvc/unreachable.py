# -*- test-case-name: tests.test_unreachable -*-

"""
Why there is no connection, in a few words: what Twisted and OpenSSL say of that is
meant for a programmer.
"""

from __future__ import annotations

import os
import re

from OpenSSL import SSL
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

_ALERT = re.compile(r".* alert (unknown ca|.*certificate.*)")


def whyUnreachable(error: BaseException) -> str:
    """
    Why there is no connection: if that is nothing known, what the error says itself.
    """
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, SSL.Error):
        return _whyNoTLS(error)
    if isinstance(error, errors.ConnectError):
        number = error.osError
        words = os.strerror(number) if isinstance(number, int) else number
        return str(words or error.args[0] or "no connection")
    return str(error).strip(". ") or type(error).__name__


def _whyNoTLS(error: SSL.Error) -> str:
    """
    Why TLS has ended. A client's certificate is refused by an alert (RFC 8446,
    section 6.2), which comes when the client believes its handshake complete.
    """
    details = error.args[0] if error.args else None
    words = str(details[-1][2]) if details and isinstance(details, list) else ""
    alert = _ALERT.fullmatch(words)
    if alert is not None:
        return f"it refuses this certificate: {alert[1]}"
    return f"TLS failed: {words or 'OpenSSL does not say why'}"
