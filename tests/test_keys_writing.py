"""
Tests for L{tcpsvc.keys.writing}.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.keyfiles import BrokenKeyFile, readCertificate, readPrivateKey
from tcpsvc.keys import writing
from tcpsvc.keys.writing import (
    KeyFileExists,
    locked,
    removeFile,
    writeFile,
    writePEM,
    writePrivateKey,
    writePublicKey,
)
from tests.certificates import authority


def modeOf(path: Path) -> int:
    """
    @return: The permissions of a file.
    """
    return stat.S_IMODE(path.stat().st_mode)


class WritingTests(SynchronousTestCase):
    """
    Tests for L{writeFile} and those on top of it.
    """

    def setUp(self) -> None:
        """
        Name a file in a directory that is not there.
        """
        self.path = Path(self.mktemp()) / "clients" / "a.pem"

    def test_roundTrip(self) -> None:
        """
        What is written is read again.
        """
        key, certificate = authority().key, authority().certificate
        writePEM(self.path, certificate)
        self.assertEqual(certificate, readCertificate(self.path))
        secret = self.path.with_name("key.pem")
        writePrivateKey(secret, key)
        self.assertEqual(key.public_key(), readPrivateKey(secret).public_key())
        public = self.path.with_name("public.pem")
        writePublicKey(public, key)
        self.assertIn(b"BEGIN PUBLIC KEY", public.read_bytes())

    def test_exists(self) -> None:
        """
        A file that is there is left as it is, unless it is to be replaced.
        """
        writeFile(self.path, b"1")
        error = self.assertRaises(KeyFileExists, writeFile, self.path, b"2")
        self.assertEqual(f"{self.path}: already there; --force replaces it", str(error))
        self.assertEqual(b"1", self.path.read_bytes())
        writeFile(self.path, b"3", replace=True)
        self.assertEqual(b"3", self.path.read_bytes())

    def test_linkNotFollowed(self) -> None:
        """
        A name that leads elsewhere does not make that file be overwritten.
        """
        writeFile(self.path, b"1")
        link = self.path.with_name("link.pem")
        link.symlink_to("a.pem")
        self.assertRaises(KeyFileExists, writeFile, link, b"2")
        writeFile(link, b"3", replace=True)
        self.assertEqual(b"1", self.path.read_bytes())

    def test_modes(self) -> None:
        """
        A private key and the directory made for it are for their owner alone,
        whatever the umask allows others.
        """
        self.addCleanup(os.umask, os.umask(0))
        writePrivateKey(self.path, authority().key)
        self.assertEqual(0o600, modeOf(self.path))
        self.assertEqual(0o700, modeOf(self.path.parent))

    def test_modeFromTheFirstMoment(self) -> None:
        """
        A private key is in no file that others can read, not even before it has
        its name, and in none that somebody else could have put there.
        """
        opened = []

        class System:
            """
            The system's own, watched.
            """

            def __getattr__(self, name: str) -> object:
                return getattr(os, name)

            def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
                descriptor = os.open(path, flags, mode)
                made = stat.S_IMODE(os.fstat(descriptor).st_mode)
                opened.append((flags & os.O_EXCL, made))
                return descriptor

        self.addCleanup(os.umask, os.umask(0))
        self.patch(writing, "os", System())
        writePrivateKey(self.path, authority().key)
        self.assertEqual((os.O_EXCL, 0o600), opened[0])

    def test_wholeOrNothing(self) -> None:
        """
        If writing fails midway there is neither half a file nor a draft, and
        what was there before still is.
        """
        writeFile(self.path, b"1")

        class Full:
            """
            A system whose disk is full.
            """

            def __getattr__(self, name: str) -> object:
                return getattr(os, name)

            def fsync(self, descriptor: int) -> None:
                raise OSError(28, "No space left on device")

        self.patch(writing, "os", Full())
        error = self.assertRaises(
            BrokenKeyFile, writeFile, self.path, b"2", replace=True
        )
        self.assertIn("cannot be written: No space left on device", str(error))
        self.assertEqual([self.path], list(self.path.parent.iterdir()))
        self.assertEqual(b"1", self.path.read_bytes())

    def test_noDraftLeft(self) -> None:
        """
        Nothing but the file itself is left behind, also when it was refused.
        """
        writeFile(self.path, b"1")
        self.assertRaises(KeyFileExists, writeFile, self.path, b"2")
        self.assertEqual([self.path], list(self.path.parent.iterdir()))

    def test_notADirectory(self) -> None:
        """
        A file in the directory's place is not taken for the file to write.
        """
        writeFile(self.path, b"1")
        error = self.assertRaises(BrokenKeyFile, writeFile, self.path / "x", b"2")
        self.assertIn("cannot be written", str(error))


class RemovingTests(SynchronousTestCase):
    """
    Tests for L{removeFile}.
    """

    def test_remove(self) -> None:
        """
        A file is removed; one that is not there is no error, and one that cannot
        be removed is named.
        """
        path = Path(self.mktemp())
        path.touch()
        removeFile(path)
        self.assertFalse(path.exists())
        removeFile(path)
        path.mkdir()
        error = self.assertRaises(BrokenKeyFile, removeFile, path)
        self.assertEqual(path, error.path)


class LockTests(SynchronousTestCase):
    """
    Tests for L{locked}.
    """

    def test_locked(self) -> None:
        """
        While a directory is locked nobody else gets its lock; afterwards they
        do.
        """
        path = Path(self.mktemp())
        path.mkdir()
        other = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, other)
        with locked(path):
            self.assertRaises(
                BlockingIOError, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB
            )
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_noDirectory(self) -> None:
        """
        A directory that is not there is named.
        """
        error = self.assertRaises(BrokenKeyFile, locked(Path("nowhere")).__enter__)
        self.assertIn("nowhere: cannot be opened", str(error))
