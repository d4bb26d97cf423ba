"""
Tests for L{tcpsvc.unreachable}.
"""

from __future__ import annotations

from twisted.internet import error as errors
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.unreachable import whyUnreachable


class WhyUnreachableTests(SynchronousTestCase):
    """
    Tests for L{whyUnreachable}.
    """

    def test_known(self) -> None:
        """
        What happens to connections is said in a few words.
        """
        for error, words in (
            (errors.ConnectionRefusedError(111, "refused"), "connection refused"),
            (errors.DNSLookupError("bench"), "name not known"),
            (errors.UnknownHostError(), "name not known"),
            (errors.NoRouteError(113, "no route"), "no route to this host"),
            (errors.TimeoutError(), "timed out"),
            (errors.ConnectError(2, "what"), "No such file or directory"),
            (errors.ConnectError(string="line: gone"), "line: gone"),
            (errors.ConnectionDone(), "it closed the connection"),
            (errors.ConnectionLost("what"), "the connection was lost"),
        ):
            self.assertEqual(words, whyUnreachable(error))

    def test_others(self) -> None:
        """
        All else has words of its own, or at least a name.
        """
        self.assertEqual("it is broken", whyUnreachable(ValueError("it is broken.")))
        self.assertEqual("KeyError", whyUnreachable(KeyError()))
        self.assertEqual("no connection", whyUnreachable(errors.ConnectError()))
