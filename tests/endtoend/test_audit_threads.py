"""
A service whose system refuses a thread for a while.
"""

from __future__ import annotations

from textwrap import dedent

from tests.endtoend.auditing import AuditTests
from tests.endtoend.service import RunningService, waitUntil


class NoThreadTests(AuditTests):
    """
    Python cannot start a thread until a file is there.
    """

    def setUp(self) -> None:
        """
        Write the module that Python imports before anything else.
        """
        super().setUp()
        self.allowed = self.directory / "allowed"
        self.path = self.directory / "site"
        self.path.mkdir()
        module = f"""
            import os, threading
            real = threading.Thread.start
            def start(self):
                if not os.path.exists({str(self.allowed)!r}):
                    raise RuntimeError("can't start new thread")
                real(self)
            threading.Thread.start = start
            """
        (self.path / "sitecustomize.py").write_text(dedent(module))

    def rotate(self, service: RunningService, number: int) -> None:
        """
        Rename the trail, and wait until a new file has begun.
        """
        name = f"{service.trail.name}.{number}"
        service.trail.rename(service.trail.with_name(name))
        service.hangUp()
        waitUntil(service.trail.exists, "a new file begins")

    def test_served(self) -> None:
        """
        Replies come all the same, under C{always} too, and a new file begins;
        when a thread can be started again all goes on as before.
        """
        for sync in ("always", "everysec"):
            self.allowed.unlink(missing_ok=True)
            service = self.service("--audit-sync", sync, paths=[self.path])
            for number in (1, 2):
                visit = service.admitted()
                self.assertEqual("200 hello", visit.ask("ECHO hello"))
                visit.close()
                service.waitUntilFree()
                self.rotate(service, number)
                self.allowed.touch()
            service.stop()
            self.assertIn("cannot start a thread: can't start new thread", service.log)
            self.assertNotIn("Traceback", service.log)
            self.assertVerifies(service)
