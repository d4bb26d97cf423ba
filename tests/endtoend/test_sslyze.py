"""
Mozilla's modern profile, by sslyze.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from unittest import SkipTest

from tests.certificates import DAY, NOW, authority, writePair
from tests.endtoend.service import EndToEndTests, run


def requireSSLyze() -> str:
    """
    The path of sslyze: from the environment that C{make test} makes for it beside its
    own, because both need another version of cryptography, or from anywhere.

    @raise SkipTest: If it is not installed, and this is not CI.
    """
    beside = Path(sys.prefix) / "sslyze" / "bin"
    path = shutil.which("sslyze", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        if os.environ.get("CI"):
            raise AssertionError("CI has to install sslyze: make test does")
        raise SkipTest("sslyze is not installed")
    return path


class ProfileTests(EndToEndTests):
    """
    A service that is started as documented.
    """

    def test_modern(self) -> None:
        """
        Everything is as the profile wants it: versions, ciphers, groups, and
        the certificate if it is made for less than 90 days.
        """
        sslyze = requireSSLyze()
        server = authority().server(notAfter=NOW + 80 * DAY)
        writePair(self.keys.server, self.keys.serverKey, server)
        service = self.service()
        pair = self.keys.pair("alice")
        checked = run(
            [
                *(sslyze, "--mozilla_config", "modern"),
                *("--cert", str(pair.certificate), "--key", str(pair.key)),
                *("--certinfo_ca_file", str(self.keys.ca)),
                f"localhost:{service.port}",
            ],
            patience=60,
        )
        said = checked.stdout.decode()
        self.assertIn("OK - Compliant", said)
        self.assertEqual(0, checked.returncode, said)
        self.assertRegex(said, r"Supported curves: +X25519, secp256r1, secp384r1\n")
        self.assertNotIn("Traceback", service.log)
