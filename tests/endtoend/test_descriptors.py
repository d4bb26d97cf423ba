"""
The limit of file descriptors, and what a service uses of it.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from tcpsvc.descriptors import descriptorsNeeded
from tests.endtoend.service import SECURE, EndToEndTests, RunningService, waitUntil

MAX_PENDING = 20


class LimitTests(EndToEndTests):
    """
    A service with a low limit.
    """

    def limited(self, *limits: str) -> RunningService:
        """
        A service whose shell has set these limits, with C{ulimit}.
        """
        script = "; ".join((*(f"ulimit {each}" for each in limits), 'exec "$@"'))
        return self.service(
            *("--max-pending", str(MAX_PENDING)),
            listen=[SECURE],
            before=["sh", "-c", script, "sh"],
        )

    def test_raised(self) -> None:
        """
        The soft limit is raised to what is needed.
        """
        running = self.limited("-S -n 40")
        limits = Path(f"/proc/{running.process.pid}/limits").read_text()
        needed = descriptorsNeeded(MAX_PENDING, 1)
        self.assertRegex(limits, rf"Max open files +{needed} ")

    def test_refused(self) -> None:
        """
        If the hard limit is lower, the service does not start, and one line says
        what to change.
        """
        error = self.assertRaises(AssertionError, self.limited, "-n 214")
        line = str(error).splitlines()[1]
        self.assertRegex(line, r"^tcpsvc: \d+ file descriptors are needed, but .* 214;")
        lower = re.search(r"lower --max-pending to (\d+)", line)
        assert lower is not None
        self.assertEqual(descriptorsNeeded(int(lower[1]), 1), 214)

    def test_enough(self) -> None:
        """
        What is needed is enough: the holder, control connections, refused clients
        that do not answer the close, and more silent connections than may be
        pending leave descriptors to spare.
        """
        needed = descriptorsNeeded(MAX_PENDING, 1)
        running = self.limited(f"-n {needed}")
        holder = running.admitted()
        self.addCleanup(holder.close)
        for _ in range(8):
            self.visit(running, "bob", "tcpsvc-control/1")
        for _ in range(30):
            refused = running.visit("bob")
            self.addCleanup(refused.close)
        for _ in range(3 * MAX_PENDING):
            silent = socket.create_connection(("127.0.0.1", running.port))
            self.addCleanup(silent.close)
        waitUntil(
            lambda: running.records("handshake.failed"), "silent ones are displaced"
        )
        self.assertLess(running.descriptors(), needed - 32)
        self.assertEqual(holder.ask("ECHO hello"), "200 hello")
        self.assertNotIn("EMFILE", running.log)
