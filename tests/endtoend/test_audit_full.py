"""
A trail that cannot be written: a full file system, a limit of size, and
failures that are made on purpose. What was acknowledged is what was recorded.
"""

from __future__ import annotations

import re
import subprocess
import time
from signal import SIGTERM

from tcpsvc.audit.trail import RETRY_PERIOD
from tests.endtoend.auditing import UNAVAILABLE, AuditTests, cannot
from tests.endtoend.service import PATIENCE, RunningService, run, waitUntil
from tests.support import requireProgram

BACK_WITHIN = 2.0
"""
Seconds within which a service goes on by itself when there is room again.
"""

MARGIN = 1.5
"""
How much later than promised a thing may happen on a busy machine, in seconds.
"""

IO_ERROR = 74
"""
The exit status when the disk has failed.
"""


class UnavailableTests(AuditTests):
    """
    What these tests have in common.

    @ivar turnedAway: How many clients were told that nothing can be recorded
        when they came.
    """

    turnedAway = 0

    def answerTo(self, service: RunningService, name: str, *protocols: str) -> str:
        """
        What a client is told that comes now, and when those before it have left.
        """

        def tryOnce() -> str:
            visit = service.visit(name, *protocols)
            visit.close()
            self.turnedAway += visit.first.startswith(UNAVAILABLE)
            return "" if visit.first.startswith("421 BUSY ") else visit.first

        return waitUntil(tryOnce, "nobody holds the service")

    def fillUp(self, service: RunningService) -> None:
        """
        Talk until the trail has no room for a whole record: first with many
        requests in one write, then with one at a time.
        """
        for window in (32, 1, 1):
            talk = self.converse(service.admitted(), window)
            self.assertTrue(talk.farewell.startswith(UNAVAILABLE), talk.farewell)
            # It goes on by itself for as long as small records have room.
            time.sleep(RETRY_PERIOD + 0.3)
            if self.answerTo(service, "alice").startswith(UNAVAILABLE):
                return
        self.fail("there is always room")

    def assertNobodyAdmitted(self, service: RunningService) -> None:
        """
        Nobody is admitted by any door, each is told why, and so is the log.
        """
        for answer in (
            self.answerTo(service, "alice"),
            self.answerTo(service, "bob"),
            self.answerTo(service, "bob", "tcpsvc-control/1"),
        ):
            self.assertTrue(answer.startswith(UNAVAILABLE), answer)
        self.assertIn("nobody is admitted", service.log)
        self.assertIsNone(service.process.poll())

    def assertGoesOn(self, service: RunningService, begun: float) -> None:
        """
        The service admits clients again, by itself, within about two seconds.

        @param begun: Since when it could, by the monotonic clock.
        """
        waitUntil(
            lambda: self.answerTo(service, "alice").startswith("220 "), "it goes on"
        )
        self.assertLess(time.monotonic() - begun, BACK_WITHIN + MARGIN)
        self.assertIn("can be written again", service.log)
        visit = service.admitted()
        visit.send(b"STATUS\n")
        status = [visit.line() for _ in range(11)]
        self.assertRegex(status[-1], "^211 audit_state: open, was blocked from ")
        visit.close()
        service.waitUntilFree()

    def assertAcknowledgedIsRecorded(self, service: RunningService) -> None:
        """
        What the clients saw, and what was done, is what the trail has, which is
        whole from end to end; and no start was needed to mend it.
        """
        service.stop()
        records = self.verifiedRecords(service)
        self.assertRecorded(records, cut=False)
        self.assertSessionsEnd(records)
        self.assertGreater(sum(len(talk.replies) for talk in self.talks), 20)
        reasons = [one["reason"] for one in records if one["event"] == "session.closed"]
        refused = [talk for talk in self.talks if talk.farewell]
        self.assertEqual(reasons.count("audit-unavailable"), len(refused))
        self.assertNotIn("crash", reasons)
        (started,) = (one for one in records if one["event"] == "service.started")
        self.assertEqual(started["seq"], 1)
        self.assertEqual(list(service.trail.parent.glob("*.torn-*")), [])
        self.assertNotIn("Traceback", service.log)
        self.assertVerifies(service)


class FullDiskTests(UnavailableTests):
    """
    A file system of 256 KiB.
    """

    def setUp(self) -> None:
        """
        Mount it.
        """
        super().setUp()
        self.disk = self.directory / "disk"
        self.disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tcpsvc-test", self.disk],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            raise cannot(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
        self.addCleanup(run, ["umount", "--lazy", str(self.disk)])

    def test_full(self) -> None:
        """
        It is filled up by requests. Each that was answered is recorded, and no
        other was; nobody is admitted meanwhile. When there is room, the
        service goes on by itself, and tells what happened meanwhile.
        """
        ballast = self.disk / "ballast"
        ballast.write_bytes(bytes(64 * 1024))
        service = self.witnessed(trail=self.disk / "audit.jsonl")
        self.fillUp(service)
        self.assertNobodyAdmitted(service)
        self.assertIn("cannot be written: No space left on device", service.log)
        before = len(service.records())
        ballast.unlink()
        self.assertGoesOn(service, time.monotonic())

        told = waitUntil(
            lambda: service.records()[before:], "what happened meanwhile is recorded"
        )
        self.assertEqual(
            (told[0]["event"], told[0]["reason"]),
            ("session.closed", "audit-unavailable"),
        )
        self.assertAcknowledgedIsRecorded(service)
        refused = [
            one.get("count", 1)
            for one in self.verifiedRecords(service)
            if one["event"] == "session.refused"
            and one["reason"] == "audit-unavailable"
        ]
        self.assertEqual(sum(refused), self.turnedAway)


class SizeLimitTests(UnavailableTests):
    """
    C{ulimit -f}: a file may not grow beyond a size.
    """

    def full(self) -> RunningService:
        """
        A service whose trail may grow no more.
        """
        limited = ("bash", "-c", 'ulimit -f 96 && exec "$@"', "bash")
        service = self.witnessed(before=limited)
        self.fillUp(service)
        self.assertNobodyAdmitted(service)
        self.assertIn("cannot be written: File too large", service.log)
        return service

    def test_limit(self) -> None:
        """
        The signal that the system sends then does not end the service, nothing
        is answered that is not recorded, and it can be stopped and started.
        """
        service = self.full()
        service.stop()
        self.assertEqual(service.process.returncode, -SIGTERM)
        recorded = self.verifiedRecords(service)
        self.assertNotEqual(recorded[-1]["event"], "service.stopped")
        service.before = []
        service.start()
        self.assertTrue(self.visit(service).first.startswith("220 "))
        service.stop()
        records = self.verifiedRecords(service)
        self.assertEqual(records[: len(recorded)], recorded)
        self.assertRecorded(records, cut=False)
        self.assertSessionsEnd(records)
        self.assertVerifies(service)

    def test_renamed(self) -> None:
        """
        A full file that is renamed makes room: after SIGHUP the service goes on
        in a new one.
        """
        service = self.full()
        service.trail.rename(service.trail.with_name("audit.jsonl.1"))
        service.hangUp()
        waitUntil(service.trail.exists, "a new file is begun")
        self.assertGoesOn(service, time.monotonic())
        self.assertEqual(len(service.trailFiles()), 2)
        self.assertAcknowledgedIsRecorded(service)


class InjectedTests(UnavailableTests):
    """
    Single system calls that fail.
    """

    def traced(
        self, calls: str, inject: str, *options: str, trailOnly: bool = False
    ) -> RunningService:
        """
        A service under strace.

        @param calls: The system calls that are written down.
        @param inject: What goes wrong.
        @param trailOnly: Whether only calls that concern the trail count.
        """
        strace = requireProgram("strace")
        self.trace = self.directory / "strace"
        trail = self.directory / "audit.jsonl"
        tracer = [strace, "-D", "-f", "-y", "-s", "65536", "-o", str(self.trace)]
        if trailOnly:
            tracer += ["-P", str(trail)]
        return self.witnessed(
            *options,
            before=[*tracer, "-e", f"trace={calls}", "-e", f"inject={inject}"],
            plaintext=["tcp:0:interface=127.0.0.1"],
            trail=trail,
        )

    def assertSurvives(self, error: str, why: str) -> None:
        """
        Some writes to the trail fail, and that is all.
        """
        service = self.traced(
            "write", f"write:error={error}:when=20+25", trailOnly=True
        )
        for _ in range(2):
            talk = self.converse(service.visit())
            self.assertTrue(talk.farewell.startswith(UNAVAILABLE), talk.farewell)
            self.assertGoesOn(service, time.monotonic())
        self.assertIn(f"cannot be written: {why}", service.log)
        self.assertGreaterEqual(self.trace.read_text().count("(INJECTED)"), 2)
        self.assertAcknowledgedIsRecorded(service)

    def test_noSpace(self) -> None:
        """
        ENOSPC on the n-th write.
        """
        self.assertSurvives("ENOSPC", "No space left on device")

    def test_inputOutput(self) -> None:
        """
        EIO on the n-th write.
        """
        self.assertSurvives("EIO", "Input/output error")

    def assertDies(self, policy: str, when: int) -> None:
        """
        A failed fdatasync ends the service with status 74 at once: it is not
        tried again.
        """
        service = self.traced(
            "write,fdatasync,sendto",
            f"fdatasync:error=EIO:when={when}+",
            *("--audit-sync", policy),
        )
        self.converse(service.visitInPlaintext())
        self.assertEqual(service.process.wait(PATIENCE), IO_ERROR)
        self.assertIn("cannot be forced to the disk: Input/output error", service.log)
        lines = self.trace.read_text().splitlines()
        (failed,) = (n for n, line in enumerate(lines) if "(INJECTED)" in line)
        after = [line for line in lines[failed + 1 :] if "fdatasync" in line]
        self.assertEqual(after, [], "it is not tried again")
        service.before = []
        service.start()
        self.assertTrue(self.visit(service).first.startswith("220 "))
        service.stop()
        records = self.verifiedRecords(service)
        self.assertRecorded(records)
        self.assertSessionsEnd(records)
        self.assertVerifies(service)

    def test_everySecond(self) -> None:
        """
        Where the disk is asked once a second.
        """
        self.assertDies("everysec", 2)

    def test_always(self) -> None:
        """
        Where the disk is asked before each answer. Each reply that was sent is
        on the disk: its record was written before an fdatasync that had ended
        well when the reply was sent.
        """
        self.assertDies("always", 20)
        written: dict[str, int] = {}
        begun = synced = sent = 0
        for number, line in enumerate(self.trace.read_text().splitlines(), start=1):
            call = line.split(maxsplit=1)[1]
            if call.startswith("write(") and "audit.jsonl>" in call:
                written |= dict.fromkeys(
                    re.findall(r'"reply\W+(200 [\w -]+)', call), number
                )
            elif call.startswith("fdatasync("):
                begun = number
            if "fdatasync" in call and call.endswith("= 0"):
                synced = begun
            if call.startswith("sendto("):
                for reply in re.findall(r"200 [\w -]+", call):
                    self.assertLess(written[reply], synced, reply)
                    sent += 1
        self.assertGreaterEqual(sent, len(self.talks[0].replies))
        self.assertGreater(sent, 10)

    def test_random(self) -> None:
        """
        libfiu's random failures: writes fail or are short, and so does cutting
        off what was written of a record.
        """
        fiu = requireProgram("fiu-run")
        control = self.directory / "fiu"
        service = self.witnessed(
            *("--audit-sync", "no"), before=[fiu, "-x", "-f", str(control)]
        )

        def tell(command: str) -> None:
            subprocess.run(
                ["fiu-ctrl", "-f", control, "-c", command, str(service.process.pid)],
                check=True,
                timeout=PATIENCE,
                capture_output=True,
            )

        for point, probability in (
            ("write", 0.02),
            ("write/reduce", 0.3),
            ("ftruncate", 0.5),
        ):
            tell(
                f"enable_random name=posix/io/rw/{point},probability={probability},"
                "failinfo=28"
            )
        for _ in range(4):
            # The other verbs write themselves.
            talk = self.converse(service.admitted(), verbs=["ECHO"])
            self.assertTrue(talk.farewell.startswith(UNAVAILABLE), talk.farewell)
        for point in ("write", "write/reduce", "ftruncate"):
            tell(f"disable name=posix/io/rw/{point}")
        self.assertGoesOn(service, time.monotonic())
        self.assertAcknowledgedIsRecorded(service)
