"""
A client that sends and sends, and never reads a reply.
"""

from __future__ import annotations

import time

from tests.endtoend.service import PATIENCE, EndToEndTests, RunningService, Visit

QUIET = 0.5
"""
Seconds after which a client that cannot send any more believes that it is not
read from.
"""

ALLOWANCE = 16 * 1024 * 1024
"""
How much the memory of the service may grow, in octets.
"""

FLOOD = 256 * 1024 * 1024
"""
How much a client would send at most, in octets: were it read from all the
time, the replies would fill many times L{ALLOWANCE}.
"""

IDLE = 2.0
"""
The idle timeout of these services, in seconds.
"""

CUT_OFF = 2.0
"""
Seconds after which a client that does not answer a close is cut off.
"""

MARGIN = 1.5
"""
How much later than promised a thing may happen on a busy machine, in seconds.
"""


class SlowReaderTests(EndToEndTests):
    """
    Memory stays bounded whatever a client does.
    """

    def assertBounded(self, service: RunningService, visit: Visit) -> None:
        """
        A client that does not read is soon not read from either; its
        session ends by the idle timeout, and another client is admitted.
        """
        before = service.memory()
        highest = before
        chunk = (b"ECHO " + b"x" * 4000 + b"\n") * 16
        visit.socket.settimeout(QUIET)
        sent = 0
        begun = time.monotonic()
        try:
            while sent < FLOOD:
                visit.socket.sendall(chunk)
                sent += len(chunk)
                highest = max(highest, service.memory())
        except TimeoutError:
            pass
        self.assertLess(sent, FLOOD, "the service stopped reading")
        service.waitForRecord("session.closed", reason="idle-timeout")
        highest = max(highest, service.memory())
        self.assertLess(highest - before, ALLOWANCE)
        self.assertGreaterEqual(time.monotonic() - begun, IDLE)
        after = service.admitted("bob")
        self.addCleanup(after.close)
        self.assertEqual(after.ask("ECHO next"), "200 next")
        self.assertNotIn("Traceback", service.log)
        self.verifiedRecords(service)

    def test_TLS(self) -> None:
        """
        Over TLS.
        """
        service = self.service("--idle-timeout", str(IDLE))
        self.assertBounded(service, self.visit(service))

    def test_plaintext(self) -> None:
        """
        In plaintext.
        """
        service = self.service(
            "--idle-timeout", str(IDLE), plaintext=["tcp:0:interface=127.0.0.1"]
        )
        visit = service.visitInPlaintext()
        self.addCleanup(visit.close)
        self.assertBounded(service, visit)

    def test_endlessLine(self) -> None:
        """
        A client that sends one line without an end is told so at once, is cut
        off when it does not answer the close, and costs no memory.
        """
        service = self.service()
        before = service.memory()
        visit = self.visit(service)
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < PATIENCE:
                visit.send(b"x" * 65536)
            self.fail("the connection was not cut")
        except OSError:
            pass
        self.assertLess(time.monotonic() - begun, CUT_OFF + MARGIN)
        service.waitForRecord("session.closed", reason="line-too-long")
        self.assertLess(service.memory() - before, ALLOWANCE)
        (reply,) = service.records("reply")
        self.assertRegex(reply["reply"], r"\A500 LINE-TOO-LONG ")
        after = service.admitted("bob")
        self.addCleanup(after.close)
        self.assertEqual(after.ask("ECHO next"), "200 next")
