"""
UNIX sockets that a service which was killed has left behind.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.endtoend.service import (
    PATIENCE,
    EndToEndTests,
    RunningService,
    Visit,
    environment,
)


class LeftBehindTests(EndToEndTests):
    """
    A service with a UNIX listener.
    """

    def setUp(self) -> None:
        """
        Choose the path.
        """
        super().setUp()
        # From here, as that of a UNIX socket has to be short.
        self.path = Path(os.path.relpath(self.directory)) / "s"
        self.lock = self.path.with_suffix(".lock")

    def made(self, name: str, *options: str) -> RunningService:
        """
        A service that is not yet started. Beside the UNIX listener it has one of
        TLS, by which it is known to listen.
        """
        directory = self.directory / name
        directory.mkdir()
        running = RunningService(
            directory,
            self.keys,
            ("--listen-plaintext", "unix:../s:mode=600", *options),
            environment=environment(),
        )

        def end() -> None:
            if hasattr(running, "process"):
                running.kill()

        self.addCleanup(end)
        return running

    def ask(self, request: str) -> str:
        """
        Ask the service that listens.
        """
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(str(self.path))
        visit = Visit(client)
        self.addCleanup(visit.close)
        return visit.ask(request)

    def test_sameProcess(self) -> None:
        """
        It is replaced although its lock names a process that lives, as in a
        container, where each start has the same process id.
        """
        running = self.made("one")
        running.start()
        running.kill()
        self.assertTrue(self.path.is_socket())
        self.lock.unlink()
        self.lock.symlink_to(str(os.getpid()))
        running.start()
        self.assertEqual(self.ask("ECHO hello"), "200 hello")
        running.stop()
        self.assertFalse(self.path.exists())
        self.assertFalse(self.lock.is_symlink())

    def test_withoutLock(self) -> None:
        """
        It is also replaced where there is no lock.
        """
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(self.path))
        self.made("one").start()
        self.assertEqual(self.ask("ECHO hello"), "200 hello")

    def assertRefused(self, running: RunningService, words: str) -> None:
        """
        A service does not start, and says why in one line.
        """
        error = self.assertRaises(AssertionError, running.start)
        self.assertIn(f"cannot listen on unix:../s:mode=600: {words}", str(error))
        self.assertNotIn("Traceback", str(error))
        self.assertNotEqual(running.process.wait(PATIENCE), 0)

    def test_inUse(self) -> None:
        """
        A second service on the same path is refused, and the first goes on.
        """
        self.made("one").start()
        self.assertRefused(self.made("two"), "Address already in use")
        self.assertEqual(self.ask("ECHO hello"), "200 hello")

    def test_noSocket(self) -> None:
        """
        A file that is not a socket is not removed.
        """
        self.path.write_text("precious")
        self.assertRefused(self.made("one"), "the file exists and is not a socket")
        self.assertEqual(self.path.read_text(), "precious")
