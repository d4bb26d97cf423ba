"""
The machine: its cores, its disk, its compiler, and what is installed on it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import ssl
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class BenchError(Exception):
    """
    Something cannot be measured; the message says what to do.
    """


def cores() -> tuple[int, int]:
    """
    The core for what is measured, and the core for the load. They are the same
    if there is only one.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def pinned(core: int, arguments: list[str]) -> list[str]:
    """
    A command that runs on one core.
    """
    return ["taskset", "--cpu-list", str(core), *arguments]


def compiled(source: str, directory: Path, *libraries: str) -> Path:
    """
    Compile a C file of this directory.

    @return: The program.
    @raise BenchError: If there is no compiler, or no OpenSSL to compile with.
    """
    program = directory / Path(source).stem
    command = ["cc", "-O2", "-std=gnu11", "-pthread", "-o", str(program)]
    try:
        done = subprocess.run(
            [*command, str(HERE / source), *libraries],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise BenchError(
            "no C compiler: on Debian, apt install gcc libc6-dev libssl-dev"
        ) from None
    if "openssl/" in done.stderr and "No such file" in done.stderr:
        raise BenchError("OpenSSL's headers are not here: apt install libssl-dev")
    if done.returncode:
        raise BenchError(f"{source} does not compile:\n{done.stderr}")
    return program


@contextmanager
def onCore(core: int) -> Iterator[None]:
    """
    Run on one core for a while.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def syncTime(directory: Path, times: int = 400, pause: float = 0.0002) -> float:
    """
    The median of what an append of 300 octets with its C{fdatasync} takes, on the
    core of what is measured.

    @param pause: Seconds between one and the next, as there are in a service. A disk
        that is asked again at once is quicker.
    @return: Seconds.
    """
    took = []
    path = directory / "sync"
    with onCore(cores()[0]), path.open("ab", buffering=0) as file:
        for _ in range(times):
            time.sleep(pause)
            begun = time.perf_counter()
            file.write(b"x" * 300)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begun)
    path.unlink()
    return statistics.median(took)


def about(directory: Path, runs: int) -> list[str]:
    """
    What it is measured on, a line each.

    @param directory: On the disk that is written to.
    @param runs: How often each figure is taken.
    """
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    server, load = cores()
    where = (
        "server and load on a core each"
        if server != load
        else "only one core: server and load share it, and the ratios say little"
    )
    packages = ("Twisted", "pyOpenSSL", "cryptography", "msgspec")
    return [
        time.strftime(f"measured on %Y-%m-%d, {runs} runs by turns", time.gmtime()),
        f"{os.cpu_count()} x {model or platform.processor()}, {memory:.0f} GiB",
        where,
        f"{platform.system()} {platform.release()}, file system "
        + _said("stat", "-f", "-c", "%T", str(directory)),
        f"Python {platform.python_version()} ({ssl.OPENSSL_VERSION}), "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages),
        "; ".join(
            filter(
                None,
                (
                    _said("openssl", "version").partition(" (")[0],
                    _debian("socat"),
                    _debian("stunnel4"),
                    _debian("ser2net"),
                ),
            )
        ),
    ]


def _debian(package: str) -> str:
    """
    A package and its version; empty if it or C{dpkg-query} is not here.
    """
    version = _said("dpkg-query", "--show", "--showformat=${Version}", package)
    return version and f"{package} {version}"


def _said(*command: str) -> str:
    """
    What a command prints; empty if it cannot.
    """
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
