"""
gdb, and gdbserver behind a gateway.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from tests.endtoend.gateways import GatewayTests, alive
from tests.endtoend.service import PATIENCE, RunningService, environment, run, waitUntil
from tests.support import requireProgram

PROGRAM = """\
#include <stdlib.h>

static int twice(int number)
{
    return 2 * number;
}

int main(void)
{
    exit(twice(21));
}
"""

GDB = (
    *("gdb", "--nx", "--batch", "--quiet"),
    *("-ex", "set confirm off", "-ex", "set sysroot /"),
)

REMOTE = (
    *("-ex", "break twice", "-ex", "continue", "-ex", "backtrace"),
    *("-ex", "print number", "-ex", "continue"),
)
"""
What gdb does when it is there.
"""


class DebuggerTests(GatewayTests):
    """
    A small program, and gdbserver started for each session.
    """

    def setUp(self) -> None:
        """
        Compile the program, and start a gateway that leads to a gdbserver.
        """
        compiler = requireProgram("gcc")
        for name in ("gdb", "gdbserver"):
            requireProgram(name)
        super().setUp()
        self.program = self.directory / "twice"
        source = self.program.with_suffix(".c")
        source.write_text(PROGRAM)
        built = run([compiler, "-g", "-O0", "-o", str(self.program), str(source)])
        self.assertEqual(built.returncode, 0, built.stderr)
        self.running = self.gateway(f"exec:gdbserver --once stdio {self.program}")

    def assertDebugs(self, service: RunningService, target: str) -> None:
        """
        gdb stops the program at a function, shows how it came there, and lets
        it run to its end; that ends the session with gdbserver's exit status.
        """
        done = subprocess.run(
            [*GDB, str(self.program), "-ex", f"target remote {target}", *REMOTE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE * 2,
            env=environment(),
            check=False,
        )
        said = done.stdout.decode()
        where = f"{said}\n{done.stderr.decode()}"
        self.assertEqual(done.returncode, 0, where)
        self.assertRegex(said, r"Breakpoint 1, twice \(number=21\) at ", where)
        self.assertRegex(said, r"#0 +twice \(number=21\) at .*twice\.c:5\n", where)
        self.assertRegex(said, r"#1 +0x\S+ in main \(\) at .*twice\.c:10\n", where)
        self.assertIn("$1 = 21\n", said, where)
        # gdb writes the status in octal.
        self.assertRegex(said, r"\[Inferior 1 .* exited with code 052\]", where)
        self.assertNotIn("the service closed the session", where)
        closed = service.waitForRecord("session.closed")
        self.assertEqual(closed["exit_status"], 0)
        self.assertIn("gdbserver says: Process ", service.log)

    def test_connect(self) -> None:
        """
        C{target remote | tcpsvc connect HOST}.
        """
        command = shlex.join(self.connectCommand(self.running))
        self.assertDebugs(self.running, f"| {command}")

    def test_openssl(self) -> None:
        """
        C{target remote | openssl s_client -quiet -no_ign_eof ...}: openssl ends
        when gdb has done with it.
        """
        requireProgram("openssl")
        command = shlex.join(self.running.openssl("alice", "-no_ign_eof"))
        self.assertDebugs(self.running, f"| {command}")

    def test_forwarder(self) -> None:
        """
        C{target remote HOST:PORT} at the forwarder; and a second gdb meanwhile
        is reset, and its forwarder says why.
        """
        forwarder = self.forwarder(self.running)
        holder = self.come(self.running, "bob")
        self.running.waitForRecord("session.opened")
        place = f"target remote 127.0.0.1:{forwarder.port}"
        refused = run([*GDB, str(self.program), "-ex", place, "-ex", "info threads"])
        self.assertNotIn(b"Breakpoint", refused.stdout)
        self.assertIn(b"No threads.", refused.stdout)
        (reason,) = forwarder.said()
        self.assertIn("turned away: held by bob since ", reason)
        holder.close()
        self.running.waitUntilFree()
        waitUntil(
            lambda: run(
                [*GDB, str(self.program), "-ex", place, "-ex", "info threads"]
            ).stdout.count(b"_start"),
            "gdb is admitted",
        )

    def test_forwarded(self) -> None:
        """
        C{target remote HOST:PORT} at the forwarder, to the end.
        """
        forwarder = self.forwarder(self.running)
        self.assertDebugs(self.running, f"127.0.0.1:{forwarder.port}")
        self.assertEqual(forwarder.said(), [])

    def test_abandoned(self) -> None:
        """
        A gdb that is killed in the middle leaves neither gdbserver nor the
        program behind, and the next one debugs it from the beginning.
        """
        forwarder = self.forwarder(self.running)
        gdb = self.process(
            [
                *GDB[:1],
                *("--nx", "--quiet", str(self.program)),
                *("-ex", f"target remote 127.0.0.1:{forwarder.port}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        debugged = waitUntil(self.debugged, "the program is debugged")
        self.running.waitForRecord("gateway.data", direction="out")
        gdb.kill()
        self.running.waitForRecord("session.closed")
        self.assertFalse(alive(debugged))
        self.assertEqual(self.debugged(), 0)
        command = shlex.join(self.connectCommand(self.running, "bob", "--wait", "9"))
        self.assertDebugs(self.running, f"| {command}")

    def debugged(self) -> int:
        """
        The process of the program that is debugged, or 0.
        """
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if (entry / "exe").resolve() == self.program:
                        return int(entry.name)
                except OSError:
                    continue
        return 0
