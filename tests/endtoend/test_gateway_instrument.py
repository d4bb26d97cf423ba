"""
An instrument behind a gateway, and the programs that a lab has: PyVISA and
pyserial, through the forwarder and through other people's TLS.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import termios
import time

from tests.endtoend.gateways import GatewayTests, requireModules
from tests.endtoend.service import PATIENCE, RunningService, environment, run, waitUntil

QUERIES = 1000

IDENTITY = "*IDN GE Druck,PACE5000,10388796,DK0367  v02.02.14"
"""
What the instrument answers to C{*IDN?}.
"""

VISA_TIMEOUT = 10.0
"""
After how long a PyVISA script gives up, in seconds.
"""

MEASURE = f"""\
import sys, time
import pyvisa

instrument = pyvisa.ResourceManager("@py").open_resource(
    f"TCPIP::127.0.0.1::{{sys.argv[1]}}::SOCKET",
    read_termination="\\n", write_termination="\\n", timeout={VISA_TIMEOUT * 1000},
)
for number in range({QUERIES}):
    if number == {QUERIES // 2}:
        print("half", flush=True)
        sys.stdin.readline()
    answer = instrument.query(f"SOUR1:SLEW {{number}}.5;SOUR1:SLEW?")
    assert answer == f"SOUR1:SLEW {{number}}.5", (number, answer)
print(instrument.query("*IDN?"))
instrument.close()
"""
"""
A script that sets and asks, with another right answer each time, and stops in
the middle until it gets a line.
"""

INTRUDE = f"""\
import sys, time
import pyvisa

instrument = pyvisa.ResourceManager("@py").open_resource(
    f"TCPIP::127.0.0.1::{{sys.argv[1]}}::SOCKET",
    read_termination="\\n", write_termination="\\n", timeout={VISA_TIMEOUT * 1000},
)
begun = time.monotonic()
try:
    print(instrument.query("*IDN?"))
except ConnectionError as error:
    print(type(error).__name__)
print(time.monotonic() - begun)
"""
"""
A script that comes meanwhile.
"""

SERIAL = """\
import sys
import serial

with serial.serial_for_url(f"socket://127.0.0.1:{sys.argv[1]}", timeout=10) as line:
    for number in range(100):
        line.write(f"SOUR1:SLEW {number}.25;SOUR1:SLEW?\\n".encode())
        answer = line.readline()
        assert answer == f"SOUR1:SLEW {number}.25\\n".encode(), (number, answer)
    line.write(b"*IDN?\\n")
    print(line.readline().decode().strip())
"""


class InstrumentTests(GatewayTests):
    """
    A simulated pressure controller on TCP.
    """

    def setUp(self) -> None:
        """
        Start the instrument, and a gateway that leads to it.
        """
        requireModules("pyvisa", "pyvisa_py", "serial")
        super().setUp()
        self.running = self.gateway(f"tcp:127.0.0.1:{self.instrument()}")

    def measure(self, port: int) -> subprocess.Popen[bytes]:
        """
        Begin to measure, as far as the middle.
        """
        script = self.process(
            [sys.executable, "-c", MEASURE, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert script.stdout is not None
        self.assertEqual(script.stdout.readline(), b"half\n")
        return script

    def assertMeasured(self, script: subprocess.Popen[bytes]) -> None:
        """
        All queries of a script had the right answers.
        """
        said, _ = script.communicate(b"go on\n", PATIENCE)
        self.assertEqual(script.returncode, 0)
        self.assertEqual(said.decode().strip(), IDENTITY)

    def assertRecorded(self, service: RunningService) -> None:
        """
        The trail has each command and each answer, in order.
        """
        sent, received = [], []
        for number in range(QUERIES):
            sent.append(f"SOUR1:SLEW {number}.5;SOUR1:SLEW?\n")
            received.append(f"SOUR1:SLEW {number}.5\n")
        self.assertCarried(
            service,
            "".join([*sent, "*IDN?\n"]).encode(),
            "".join([*received, f"{IDENTITY}\n"]).encode(),
        )

    def test_forwarder(self) -> None:
        """
        PyVISA through C{tcpsvc forward}: a thousand queries, the right answers,
        although a second script comes in the middle. That one is reset at once,
        and the reason is on its forwarder's standard error.
        """
        mine = self.forwarder(self.running)
        others = self.forwarder(self.running, "bob")
        script = self.measure(mine.port)
        intruder = run([sys.executable, "-c", INTRUDE, str(others.port)])
        outcome, seconds = intruder.stdout.decode().splitlines()
        self.assertEqual(outcome, "ConnectionResetError")
        self.assertLess(float(seconds), VISA_TIMEOUT / 4)
        (reason,) = others.said()
        self.assertRegex(
            reason,
            r"\Atcpsvc: 127\.0\.0\.1:\d+: turned away: held by alice since \S+Z, "
            r"idle \d+ s\Z",
        )
        self.assertMeasured(script)
        self.assertEqual(mine.said(), [])
        self.running.waitUntilFree()
        self.assertRecorded(self.running)
        (refused,) = self.running.records("session.refused")
        self.assertEqual(refused["identity"]["name"], "bob")
        self.assertEqual(refused["holder"], "alice")
        again = run([sys.executable, "-c", INTRUDE, str(others.port)])
        self.assertEqual(again.stdout.decode().splitlines()[0], IDENTITY)

    def test_socat(self) -> None:
        """
        PyVISA through socat's TLS.
        """
        self.assertMeasured(self.measure(self.tlsSocat(self.running)))
        self.running.waitUntilFree()
        self.assertRecorded(self.running)

    def test_stunnel(self) -> None:
        """
        PyVISA through stunnel's TLS.
        """
        self.assertMeasured(self.measure(self.stunnel(self.running)))
        self.running.waitUntilFree()
        self.assertRecorded(self.running)

    def test_pyserial(self) -> None:
        """
        pyserial's C{socket://} through the forwarder.
        """
        forwarder = self.forwarder(self.running)
        script = run([sys.executable, "-c", SERIAL, str(forwarder.port)])
        self.assertEqual(script.stdout.decode().strip(), IDENTITY, script.stderr)
        closed = self.running.waitForRecord("session.closed")
        # The instrument is told of the end too, and may be the first to close.
        self.assertIn(closed["reason"], ("client-closed", "backend-closed"))
        self.assertEqual(forwarder.said(), [])

    def test_record(self) -> None:
        """
        What was sent to the instrument, by whom and when, is read back with
        C{tcpsvc audit show}; and nothing in it was changed.
        """
        service = self.running
        begun = time.time()
        for name, said in (("alice", "SOUR1:SLEW 7.5"), ("bob", "SOUR1:SLEW?")):
            with self.come(service, name) as client:
                client.sendall(f"{said};*IDN?\n".encode())
                self.assertIn(b"PACE5000", client.recv(4096))
            service.waitUntilFree()
        service.stop()
        shown = self.audit("show", str(service.trail)).stdout.decode()
        opened = r"(?m)^\d\d:\d\d:\d\d\.\d{3}  %s from 127\.0\.0\.1:\d+ \(TLSv1\.3\)"
        for name, said in (("alice", "SOUR1:SLEW 7.5"), ("bob", "SOUR1:SLEW?")):
            shown = shown[self.positionOf(opened % name, shown) :]
            self.assertRegex(
                shown, rf"\A.*, session \S+\n\S+  > {said.replace('?', '[?]')};"
            )
            self.assertIn(
                f"< {'SOUR1:SLEW 7.5;' if name == 'bob' else ''}*IDN GE", shown
            )
        his = self.audit(
            *("show", "--json", "--identity", "bob", str(service.trail))
        ).stdout.decode()
        self.assertIn('"data":"SOUR1:SLEW?;*IDN?\\n"', his)
        self.assertNotIn("SOUR1:SLEW 7.5;*IDN?", his)
        self.audit("verify", "--expect-checkpoints", str(service.trail))
        day = time.strftime("%Y-%m-%d", time.gmtime(begun))
        self.assertIn(f'"time":"{day}', his)

    def positionOf(self, pattern: str, text: str) -> int:
        """
        Where a text has what is looked for.
        """
        found = re.search(pattern, text)
        self.assertIsNotNone(found, f"{pattern} in:\n{text}")
        assert found is not None
        return found.start()


class SerialInstrumentTests(GatewayTests):
    """
    The same instrument on a serial line: a pseudo terminal.
    """

    def setUp(self) -> None:
        """
        Start the instrument, and a gateway that leads to it.
        """
        requireModules("serial")
        super().setUp()
        self.line = self.directory / "lines" / "pace"
        self.instrument(self.line)
        self.running = self.gateway(f"serial:{self.line}:baudrate=9600")

    def test_queries(self) -> None:
        """
        pyserial through the forwarder: the right answers, one client after
        another; and nobody else can open the line meanwhile.
        """
        forwarder = self.forwarder(self.running)
        for _ in range(2):
            script = run([sys.executable, "-c", SERIAL, str(forwarder.port)])
            self.assertEqual(script.stdout.decode().strip(), IDENTITY, script.stderr)
        self.assertEqual(forwarder.said(), [])
        self.running.waitUntilFree()
        self.assertEqual(len(self.running.records("session.closed")), 2)

    def test_leftOver(self) -> None:
        """
        An answer for which nobody has waited, and that came when nobody was
        there, does not reach the next client.
        """
        service = self.running
        with self.come(service) as client:
            client.settimeout(PATIENCE)
            client.sendall(b"SOUR1:SLEW 66.5;SOUR1:SLEW?\n")
            self.assertEqual(client.recv(4096), b"SOUR1:SLEW 66.5\n")
        service.waitUntilFree()
        with self.line.open("r+b", buffering=0) as line:
            line.write(b"SOUR1:SLEW?\n")
            waitUntil(lambda: self.waiting(line.fileno()), "an answer waits")
            self.assertServes(service, b"*IDN?\n", f"{IDENTITY}\n".encode())

    def waiting(self, line: int) -> bool:
        """
        Whether octets wait on a line to be read.
        """
        number = fcntl.ioctl(line, termios.FIONREAD, bytes(4))
        return int.from_bytes(number, sys.byteorder) > 0

    def test_gone(self) -> None:
        """
        The line is not there: the client is told where it may be, and the slot
        is free again.
        """
        device = self.line.readlink()
        self.line.unlink()
        told = self.come(self.running, "alice", "tcpsvc/1")
        self.assertRegex(told.recv(4096), rb"\A451 BACKEND-DOWN ")
        self.assertEqual(told.recv(4096), b"")
        silent = self.come(self.running, "alice")
        self.assertEqual(silent.recv(4096), b"")
        self.line.symlink_to(device)
        self.assertServes(self.running, b"*IDN?\n", f"{IDENTITY}\n".encode())
