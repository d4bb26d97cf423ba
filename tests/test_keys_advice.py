"""
Tests for L{tcpsvc.keys.advice}.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.keyfiles import KeyDirectory
from tcpsvc.keys.advice import command, opensslLine, relist, remake, renewal
from tcpsvc.keys.names import BadArgument

KEYS = KeyDirectory(Path("keys"))


class CommandTests(SynchronousTestCase):
    """
    Tests for the functions that recommend commands.
    """

    def test_directory(self) -> None:
        """
        A command names the directory after the sub-command, unless it is the
        one that is taken anyhow.
        """
        self.assertEqual("tcpsvc keys renew alice", command(KEYS, "renew", "alice"))
        self.assertEqual(
            "tcpsvc keys renew --keys 'my keys' alice",
            command(KeyDirectory(Path("my keys")), "renew", "alice"),
        )

    def test_remake(self) -> None:
        """
        Each pair has a command that makes it anew; a name that looks like an
        option is not taken for one.
        """
        directory = KeyDirectory(Path(self.mktemp()))
        directory.path.mkdir()
        directory.caKey.touch()
        keys = f"--keys {directory.path}"
        for expected, advised in [
            (f"init {keys} --force", remake(directory, "ca")),
            (f"server {keys} --force a", remake(directory, "server", ["a"])),
            (f"client {keys} --force -- -x", remake(directory, "-x")),
            (f"renew {keys} -- -x", renewal(directory, "-x")),
            (f"revoke {keys}", relist(directory)),
        ]:
            self.assertEqual(f"tcpsvc keys {expected}", advised)

    def test_elsewhere(self) -> None:
        """
        Where the authority's key is not, no command is recommended that needs
        it.
        """
        directory = KeyDirectory(Path(self.mktemp()))
        asking = f"tcpsvc keys request --keys {directory.path} --force"
        for expected, advised in [
            ("ask for the authority's", remake(directory, "ca")),
            (f"{asking} --server a, ", remake(directory, "server", ["a"])),
            (f"{asking} --server HOST, ", remake(directory, "server")),
            (f"{asking} -- -x, and have it signed", remake(directory, "-x")),
            ("ask the authority", renewal(directory, "alice")),
            ("ask for the authority's", relist(directory)),
        ]:
            self.assertTrue(advised.startswith(expected), advised)
        request = directory.pair("alice").request
        request.parent.mkdir(parents=True)
        request.touch()
        again = f"have {request} signed again"
        self.assertEqual(again, renewal(directory, "alice"))


class OpensslLineTests(SynchronousTestCase):
    """
    Tests for L{opensslLine}.
    """

    def test_hostName(self) -> None:
        """
        The line verifies the server by the name that it calls.
        """
        self.assertEqual(
            "openssl s_client -connect bench.lab:4433 -servername bench.lab "
            "-verify_hostname bench.lab -quiet -verify_quiet -verify_return_error "
            "-CAfile keys/ca.pem -cert keys/clients/alice.pem "
            "-key keys/clients/alice-key.pem",
            opensslLine(KEYS, "alice", "bench.lab"),
        )

    def test_address(self) -> None:
        """
        The line verifies the server by its address if it has no name.
        """
        line = opensslLine(KEYS, "alice", "::1", 5000)
        words = shlex.split(line)
        self.assertEqual(
            ["-connect", "[::1]:5000", "-verify_ip", "::1", "-quiet"], words[2:7]
        )
        self.assertNotIn("-servername", words)
        self.assertIn("-connect 127.0.0.1:4433", opensslLine(KEYS, "a", "127.0.0.1"))

    def test_quoted(self) -> None:
        """
        What a shell would take apart is quoted.
        """
        line = opensslLine(KeyDirectory(Path("my keys")), "a;b'c $d", "h")
        words = shlex.split(line)
        self.assertIn("my keys/clients/a;b'c $d.pem", words)
        self.assertIn("my keys/ca.pem", words)

    def test_badHost(self) -> None:
        """
        What is no host is refused.
        """
        self.assertRaises(BadArgument, opensslLine, KEYS, "alice", "h:1")
