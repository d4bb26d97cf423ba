"""
Whether what is installed is what was written: the plugin from a checkout, the
wheel, and an editable install, each seen by a process elsewhere.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from email import message_from_bytes
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from unittest import SkipTest
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

import tcpsvc

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300
"""
Seconds that a process has, which may have to fetch what builds a wheel.
"""

SCRIPTS = {
    "twistd": "from twisted.scripts.twistd import run; run()",
    "twist": "from twisted.application.twist._twist import Twist; Twist.main()",
}


def _run(
    *command: str, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run a process to its end.
    """
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }
    return subprocess.run(
        command,
        cwd=cwd,
        env={**inherited, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def _pip(*arguments: str) -> None:
    """
    Run pip.

    @raise SkipTest: If it cannot do what it should, for want of a network or
        of pip, and this is not CI.
    """
    here = Path(mkdtemp(prefix="tcpsvc-pip-"))
    run = _run(sys.executable, "-m", "pip", *arguments, cwd=here)
    shutil.rmtree(here)
    if run.returncode:
        if os.environ.get("CI"):
            raise AssertionError(run.stderr)
        raise SkipTest(f"pip cannot build here: {run.stderr.strip()[-300:]}")


@cache
def _copy() -> Path:
    """
    A copy of what a wheel is built from: to build leaves things behind.
    """
    copy = Path(mkdtemp(prefix="tcpsvc-copy-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
    for name in ("tcpsvc", "twisted"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in ("", ".cfg", ".toml", ".rst", ".in"):
            shutil.copy(path, copy)
    return copy


@cache
def _wheel() -> Path:
    """
    The wheel, built once for all tests.
    """
    _pip(
        "wheel", "--quiet", "--no-deps", "--wheel-dir", f"{_copy()}/dist", f"{_copy()}"
    )
    [wheel] = (_copy() / "dist").glob("*.whl")
    return wheel


class CheckoutTests(SynchronousTestCase):
    """
    A checkout on the path.
    """

    def test_noPackages(self) -> None:
        """
        The plugin lies in no package of ours: a C{__init__.py} would hide
        Twisted's own plugins, or Twisted itself.
        """
        self.assertFalse((ROOT / "twisted" / "__init__.py").exists())
        self.assertFalse((ROOT / "twisted" / "plugins" / "__init__.py").exists())

    def test_nothingElse(self) -> None:
        """
        There are two plugins and nothing beside them, and they import none of us:
        each C{twistd --help} imports it.
        """
        files = [
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "twisted").rglob("*")
            if path.is_file()
            and path.name != "dropin.cache"
            and path.parent.name != "__pycache__"
        ]
        self.assertEqual(
            [
                "twisted/plugins/tcpsvc_endpoints.py",
                "twisted/plugins/tcpsvc_plugin.py",
            ],
            sorted(files),
        )
        run = _run(
            sys.executable,
            "-c",
            "import sys, twisted.plugins.tcpsvc_plugin; "
            "print([name for name in sys.modules if name.startswith('tcpsvc')])",
            cwd=ROOT,
            environment={"PYTHONPATH": str(ROOT)},
        )
        self.assertEqual(("[]\n", ""), (run.stdout, run.stderr))

    def test_found(self) -> None:
        """
        From another directory, C{twistd} and C{twist} list it, beside Twisted's
        own.
        """
        elsewhere = Path(self.mktemp())
        elsewhere.mkdir()
        for name, script in SCRIPTS.items():
            run = _run(
                sys.executable,
                "-c",
                f"import sys; sys.argv[1:] = ['--help']; {script}",
                cwd=elsewhere,
                environment={"PYTHONPATH": str(ROOT)},
            )
            self.assertRegex(run.stdout, r"tcpsvc +One client at a time", name)
            self.assertRegex(run.stdout, r"\n +web ", name)
            self.assertEqual("", run.stderr)

    def test_version(self) -> None:
        """
        There is one version, in the package.
        """
        self.assertRegex(tcpsvc.__version__, r"^\d+\.\d+\.\d+")


class WheelTests(SynchronousTestCase):
    """
    The wheel.
    """

    def setUp(self) -> None:
        """
        Build it.
        """
        self.wheel = _wheel()
        self.information = f"tcpsvc-{tcpsvc.__version__}.dist-info"

    def test_contents(self) -> None:
        """
        It has each module of the package, the mark that it is typed, and the
        plugin; no tests, no keys, nothing else.
        """
        with ZipFile(self.wheel) as wheel:
            files = {
                name
                for name in wheel.namelist()
                if not name.startswith(self.information)
            }
        modules = {
            path.relative_to(_copy()).as_posix()
            for path in (_copy() / "tcpsvc").rglob("*.py")
        }
        self.assertEqual(
            modules
            | {"tcpsvc/py.typed", "twisted/plugins/tcpsvc_plugin.py"}
            | {"twisted/plugins/tcpsvc_endpoints.py"},
            files,
        )
        self.assertIn("tcpsvc/audit/trail.py", files)

    def test_metadata(self) -> None:
        """
        It says what it is called and needs, and it is pure Python.
        """
        self.assertEqual(
            f"tcpsvc-{tcpsvc.__version__}-py3-none-any.whl", self.wheel.name
        )
        with ZipFile(self.wheel) as wheel:
            metadata = message_from_bytes(wheel.read(f"{self.information}/METADATA"))
            points = wheel.read(f"{self.information}/entry_points.txt").decode()
        self.assertEqual(
            ("tcpsvc", tcpsvc.__version__), (metadata["Name"], metadata["Version"])
        )
        wanted = " ".join(metadata.get_all("Requires-Dist", []))
        for name in ("Twisted[tls]", "pyOpenSSL", "cryptography", "msgspec", "attrs"):
            self.assertIn(name, wanted)
        self.assertIn("tcpsvc = tcpsvc.cli:main", points)


class InstallTests(SynchronousTestCase):
    """
    Installed into an environment of its own, which borrows only what it depends
    on.
    """

    def environment(self) -> Path:
        """
        A fresh environment.

        @return: Its Python.
        """
        here = Path(self.mktemp()).absolute()
        venv.create(here, symlinks=True)
        python = here / "bin" / "python"
        [packages] = here.glob("lib/python*/site-packages")
        borrowed = sysconfig.get_path("purelib")
        (packages / "borrowed.pth").write_text(f"{borrowed}\n")
        return python

    def assertRuns(self, python: Path, where: Path) -> None:
        """
        Both scripts find the plugin and show its options; the package that
        they import lies in this directory.
        """
        elsewhere = Path(self.mktemp())
        elsewhere.mkdir()
        for name, script in SCRIPTS.items():
            run = _run(
                str(python),
                "-c",
                f"import sys; sys.argv[1:] = ['tcpsvc', '--help']; {script}",
                cwd=elsewhere,
            )
            self.assertIn("--listen-plaintext=", run.stdout, f"{name}: {run.stderr}")
            self.assertEqual("", run.stderr)
        run = _run(
            str(python), "-c", "import tcpsvc; print(tcpsvc.__file__)", cwd=elsewhere
        )
        self.assertIn(where.resolve(), Path(run.stdout.strip()).resolve().parents)

    def test_wheel(self) -> None:
        """
        The wheel makes C{twistd tcpsvc} and C{twist tcpsvc}.
        """
        wheel = _wheel()
        python = self.environment()
        _pip(
            *("--python", str(python)),
            *("install", "--quiet", "--no-deps", "--ignore-installed"),
            *("--no-index", str(wheel)),
        )
        self.assertRuns(python, python.parent.parent)
        self.assertTrue((python.parent / "tcpsvc").exists())

    def test_editable(self) -> None:
        """
        So does an editable install, and the checkout is what runs.
        """
        python = self.environment()
        _pip(
            *("--python", str(python)),
            *("install", "--quiet", "--no-deps", "--ignore-installed"),
            *("--editable", str(_copy())),
        )
        self.assertRuns(python, _copy())
