# -*- test-case-name: tests.test_endpoints_program -*-

"""
The processes that a program has started.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

MAX_ROUNDS = 5
"""
How often is looked for processes that were started while others were ended.
"""


def signalSession(leader: int, number: signal.Signals) -> bool:
    """
    Signal all processes of a session (setsid(2)): its leader's group at once,
    and then those that have made groups of their own in it, as a shell's jobs do.

    @return: Whether there were any in the leader's group.
    """
    try:
        os.killpg(leader, number)
        found = True
    except ProcessLookupError:
        found = False
    except PermissionError:
        found = True  # All that are left are another user's.
    for _ in range(MAX_ROUNDS if number == signal.SIGKILL else 1):
        others = _others(leader)
        for pid in others:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if not others:
            break
    return found


def _others(leader: int) -> list[int]:
    """
    The living processes of a session that are not in its leader's group.
    """
    others: list[int] = []
    try:
        entries = list(Path("/proc").iterdir())
    except OSError:
        return others  # No descriptor is left to look with.
    for entry in entries:
        if entry.name.isdecimal():
            pid = int(entry.name)
            with suppress(OSError):
                if os.getsid(pid) == leader != os.getpgid(pid) and not _isDead(entry):
                    others.append(pid)
    return others


def _isDead(entry: Path) -> bool:
    """
    Whether a process has ended and only waits for its parent to learn of it.
    """
    status = (entry / "stat").read_text("ascii", "replace")
    return status.rpartition(")")[2].split()[0] in "ZX"
