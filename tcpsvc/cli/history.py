# -*- test-case-name: tests.test_cli_console -*-

"""
What was typed at the console before, in a file for its owner alone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

MAX_OCTETS = 256 * 1024
"""
The file is cut to half of this when the console begins and it is longer.
"""

_ENTRY = b"\n# "


class OwnHistory(FileHistory):
    """
    A history in a file. That it cannot be written is no reason to stop.
    """

    def store_string(self, string: str) -> None:
        """
        Keep one line.
        """
        with suppress(OSError):
            super().store_string(string)


def historyPath() -> Path:
    """
    Where the history is (XDG Base Directory Specification).
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path.home() / ".local" / "state"
    return state / "tcpsvc" / "history"


def openHistory(path: Path) -> History:
    """
    @return: The history in a file, or none to begin with if that cannot be used.
    """
    try:
        _prepare(path)
    except OSError:
        return InMemoryHistory()
    return OwnHistory(str(path))


def _prepare(path: Path) -> None:
    """
    See that the file is there, is its owner's alone, and not too long.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        os.fchmod(descriptor, 0o600)
        if os.fstat(descriptor).st_size > MAX_OCTETS:
            file.seek(-MAX_OCTETS // 2, os.SEEK_END)
            kept = file.read()
            kept = kept[max(0, kept.find(_ENTRY)) :]
            file.seek(0)
            file.write(kept)
            file.truncate()
