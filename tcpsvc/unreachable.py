# -*- test-case-name: tests.test_unreachable -*-

"""
Why there is no connection, in a few words: what Twisted and OpenSSL say of that is
meant for a programmer.
"""

from __future__ import annotations

import os
import re

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
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

_REFUSED = re.compile(r".* alert (unknown ca|.*certificate.*)")

_NOT_TLS = ("wrong version number", "packet length too long", "http request")

_CLOSED = "unexpected eof while reading"


def whyUnreachable(error: BaseException) -> str:
    """
    Why there is no connection: if that is nothing known, what the error says itself.
    """
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, SSL.Error):
        return _whyNoTLS(error)
    if isinstance(error, VerificationError):
        return _whyNotNamed(error)
    if isinstance(error, CertificateError):
        return f"its certificate cannot be used: {error}"
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
    refused = _REFUSED.fullmatch(words)
    if refused is not None:
        return f"it refuses this certificate: {refused[1]}"
    if words == "certificate verify failed":
        return "its certificate is not trusted: it is not valid, or its CA is unknown"
    if words in _NOT_TLS:
        return f"TLS failed: {words}: it does not speak TLS"
    if words == _CLOSED:
        return "TLS failed: it closed the connection without close_notify"
    return f"TLS failed: {words or 'OpenSSL does not say why'}"


def _whyNotNamed(error: VerificationError) -> str:
    """
    Which name was expected in a certificate.
    """
    names = []
    for mismatch in error.errors:
        wanted = mismatch.mismatched_id
        name = getattr(wanted, "hostname", None) or getattr(wanted, "ip", None)
        names.append(name.decode() if isinstance(name, bytes) else str(name))
    return f"its certificate does not name {', '.join(names)}"
