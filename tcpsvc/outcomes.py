# -*- test-case-name: tests.test_outcomes -*-

"""
What a session came to, in words.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping


def outcomeOf(fields: Mapping[str, object]) -> str:
    """
    How the program behind a gateway has ended.

    @param fields: Those of a C{session.closed}.
    @return: Such as C{exit status 1} or C{signal 9, SIGKILL}; empty if there was
        none.
    """
    number = fields.get("signal")
    if number is None:
        status = fields.get("exit_status")
        return "" if status is None else f"exit status {status}"
    names = {int(one): f", {one.name}" for one in signal.Signals}
    return f"signal {number}{names.get(number, '') if isinstance(number, int) else ''}"


def counted(number: object, one: str) -> str:
    """
    So many of a thing.

    @param one: What one of them is called.
    """
    return f"{number} {one}{'' if number == 1 else 's'}"


def accountOf(fields: Mapping[str, object], gateway: bool) -> str:
    """
    What went on in a session: its requests, or, as a gateway knows of none, its
    octets and how the program has ended.

    @param fields: Those of a C{session.closed}.
    """
    if not gateway:
        return counted(fields["requests"], "request")
    parts = [
        counted(fields[name], "octet") + direction
        for name, direction in (("bytes_in", " in"), ("bytes_out", " out"))
    ]
    if outcome := outcomeOf(fields):
        parts.append(outcome)
    return ", ".join(parts)
