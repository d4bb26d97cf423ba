"""
A trail in several files: renamed by logrotate or by size, while clients talk, and
while the service is killed.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from random import Random
from signal import SIGKILL
from textwrap import dedent

from tests.endtoend.auditing import AuditTests
from tests.endtoend.service import PATIENCE, RunningService, contentsOf, waitUntil
from tests.support import requireProgram

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto" / "rotate-the-trail.rst"

BUSY = ("ECHO",) * 29 + ("DO",)
"""
Verbs that fill a trail fast.
"""

MIB = 1024 * 1024


class RotationTests(AuditTests):
    """
    What these tests have in common.
    """

    def assertWhole(self, service: RunningService, cut: bool = False) -> None:
        """
        All files together are one chain, in which nothing that a client saw is
        missing; the tool says so too.
        """
        service.stop()
        records = self.verifiedRecords(service)
        self.assertRecorded(records, cut)
        self.assertSessionsEnd(records)
        for path in service.trailFiles()[:-1]:
            last = contentsOf(path)[:-1].rpartition(b"\n")[2]
            self.assertIn(b'"event":"checkpoint"', last, path)
        self.assertNotIn("Traceback", service.log)
        self.assertVerifies(service)


class LogrotateTests(RotationTests):
    """
    The real logrotate, with the configuration that the documentation gives.
    """

    def configuration(self, service: RunningService) -> Path:
        """
        That configuration, for this service.
        """
        block = re.search(
            r":caption: /etc/logrotate.d/tcpsvc\n\n((?:   .*\n|\n)+)", HOWTO.read_text()
        )
        assert block is not None
        text, named = re.subn(
            r"^/var/lib/tcpsvc/audit\.jsonl(?= )",
            str(service.trail),
            dedent(block[1]),
            flags=re.MULTILINE,
        )
        text, told = re.subn(
            r"systemctl kill --signal=HUP --kill-whom=main tcpsvc\.service",
            f"kill -HUP {service.process.pid}",
            text,
        )
        self.assertEqual((named, told), (1, 1))
        path = self.directory / "logrotate.conf"
        path.write_text(text)
        path.chmod(0o644)
        return path

    def test_underLoad(self) -> None:
        """
        Rotated again and again in the midst of requests: no record is lost, the
        files are one chain, and all but the last two are compressed.
        """
        logrotate = requireProgram("logrotate")
        service = self.witnessed()
        configuration = self.configuration(service)
        load = self.load(service.visit())
        for number in range(1, 4):
            second = int(time.time())
            waitUntil(lambda now=second: int(time.time()) > now, "the next second")  # type: ignore[misc]
            answered = len(load.talk.replies)
            waitUntil(
                lambda least=answered + 50: len(load.talk.replies) > least,  # type: ignore[misc]
                "requests are answered",
            )
            rotated = subprocess.run(
                [logrotate, "--force", "-s", self.directory / "state", configuration],
                capture_output=True,
                check=False,
                timeout=PATIENCE,
            )
            self.assertEqual((rotated.returncode, rotated.stderr), (0, b""))
            waitUntil(
                lambda due=number: service.log.count(": begun") == due,  # type: ignore[misc]
                "a new file is begun",
            )
        load.end()
        self.assertEqual(load.talk.farewell, "")
        self.assertGreater(len(load.talk.replies), 300)
        names = [path.suffix for path in service.trailFiles()]
        self.assertEqual([name == ".gz" for name in names], [True, True, False, False])
        self.assertWhole(service)

    def test_often(self) -> None:
        """
        Renamed twenty times a second, with a signal each time.
        """
        service = self.witnessed("--audit-sync", "always")
        load = self.load(service.visit())
        for number in range(20):
            service.trail.rename(service.trail.with_name(f"audit.jsonl.{number}"))
            service.hangUp()
            waitUntil(service.trail.exists, "a new file is begun")
            answered = len(load.talk.replies)
            waitUntil(
                lambda least=answered: len(load.talk.replies) > least,  # type: ignore[misc]
                "requests are answered",
            )
        load.end()
        self.assertEqual(len(service.trailFiles()), 21)
        self.assertWhole(service)

    def test_killed(self) -> None:
        """
        Killed soon after it was renamed, with or without a signal, whatever has
        been done of it by then: a start goes on with the chain.
        """
        service = self.witnessed()
        random = Random(3)
        for number in range(8):
            load = self.load(service.admitted())
            waitUntil(lambda one=load: one.talk.replies, "requests are answered")  # type: ignore[misc]
            service.trail.rename(service.trail.with_name(f"audit.jsonl.{number}"))
            if number % 4:
                service.hangUp()
                time.sleep(random.uniform(0, 0.01))
            service.kill()
            load.end()
            service.start()
        self.assertGreater(len(service.trailFiles()), 8)
        service.stop()
        records = self.verifiedRecords(service)
        self.assertRecorded(records)
        self.assertSessionsEnd(records)
        self.assertVerifies(service)


class SizeTests(RotationTests):
    """
    C{--audit-max-size 1}.
    """

    def test_underLoad(self) -> None:
        """
        A new file begins at each MiB, in the midst of requests.
        """
        service = self.witnessed("--audit-max-size", "1")
        load = self.load(service.visit(), BUSY)
        waitUntil(lambda: service.log.count(": begun") >= 4, "files are begun")
        load.end()
        *full, _ = service.trailFiles()
        self.assertGreaterEqual(len(full), 4)
        for path in full:
            self.assertRegex(path.name, r"\Aaudit\.jsonl\.\d{8}T\d{6}\.\d{6}Z\Z")
            self.assertGreaterEqual(path.stat().st_size, MIB)
            self.assertLess(path.stat().st_size, MIB * 1.1)
        self.assertWhole(service)

    def test_killed(self) -> None:
        """
        Killed at each step of it: before the file is renamed, before the new one
        is there, and before it is locked. A start goes on with the chain.
        """
        strace = requireProgram("strace")
        service = self.witnessed("--audit-max-size", "1")
        for step, files, isThere in (
            ("rename:signal=KILL:when=1", 1, True),
            ("openat:signal=KILL:when=2", 2, False),
            ("flock:signal=KILL:when=2", 2, True),
        ):
            service.stop()
            before = len(service.trailFiles())
            call = step.partition(":")[0]
            service.before = [
                *(strace, "-D", "-f", "-o", "/dev/null", "-P", str(service.trail)),
                *("-e", f"trace={call}", "-e", f"inject={step}"),
            ]
            service.start()
            load = self.load(service.admitted(), BUSY)
            self.assertEqual(service.process.wait(PATIENCE), -SIGKILL, step)
            load.end()
            self.assertEqual(service.trail.exists(), isThere, step)
            renamed = list(service.trail.parent.glob("audit.jsonl.2*"))
            self.assertEqual(len(renamed), before + files - 2, step)
            service.before = []
            service.start()
        self.assertWhole(service, cut=True)
