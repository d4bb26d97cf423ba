# -*- test-case-name: tests.test_descriptors -*-

"""
The file descriptors that a service needs, and the limit of its process.
"""

from __future__ import annotations

import resource

from tcpsvc.admission import MAX_CONTROLS, MAX_DELAYED
from tcpsvc.closing import MAX_CLOSING

OTHER_DESCRIPTORS = 64
"""
File descriptors for all that is not a connection or a listener: about 10 of the
interpreter and the reactor, up to 4 of the audit trail, up to 8 of a gateway's device
and the program behind it, and the rest for name lookups and for commands.
"""


def descriptorsNeeded(maxPending: int, listeners: int) -> int:
    """
    How many file descriptors a service uses at most: connections in handshake and
    the newcomer that displaces one of them, connections that are being closed or
    come too often,
    control connections, the holder and the one that is refused beside them, the
    listeners, and L{OTHER_DESCRIPTORS}.
    """
    connections = maxPending + 1 + MAX_CLOSING + MAX_DELAYED + MAX_CONTROLS + 2
    return connections + listeners + OTHER_DESCRIPTORS


def allowDescriptors(maxPending: int, listeners: int) -> None:
    """
    Raise the soft limit of file descriptors (C{RLIMIT_NOFILE}) to what is needed.

    @raise ValueError: If the hard limit is lower. One line says what to change.
    """
    needed = descriptorsNeeded(maxPending, listeners)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        most = hard - (needed - maxPending)
        lower = f"lower --max-pending to {most}, or " if most > 0 else ""
        raise ValueError(
            f"{needed} file descriptors are needed, but the limit is {hard}; to fix: "
            f"{lower}raise the limit (LimitNOFILE= in systemd, ulimit -Hn in a shell)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
