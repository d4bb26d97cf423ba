"""
Tests for L{tcpsvc.outcomes}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.outcomes import accountOf, outcomeOf


class OutcomeTests(SynchronousTestCase):
    """
    Tests for L{outcomeOf} and L{accountOf}.
    """

    def test_outcome(self) -> None:
        """
        A program has ended with a status or by a signal, which has a name if it is
        one of this machine's.
        """
        for fields, words in (
            ({"exit_status": 0}, "exit status 0"),
            ({"exit_status": 127}, "exit status 127"),
            ({"signal": 9}, "signal 9, SIGKILL"),
            ({"signal": 4711}, "signal 4711"),
            ({"signal": "x"}, "signal x"),
            ({}, ""),
        ):
            self.assertEqual(words, outcomeOf(fields))

    def test_commands(self) -> None:
        """
        A session with the commands came to so many requests.
        """
        fields: dict[str, object] = {"bytes_in": 7, "bytes_out": 8}
        for number, words in ((0, "0 requests"), (1, "1 request"), (2, "2 requests")):
            self.assertEqual(words, accountOf({"requests": number, **fields}, False))

    def test_gateway(self) -> None:
        """
        One with a gateway came to so many octets, and to the end of the program if
        there was one.
        """
        fields: dict[str, object] = {"requests": 0, "bytes_in": 1, "bytes_out": 8}
        self.assertEqual("1 octet in, 8 octets out", accountOf(fields, True))
        self.assertEqual(
            "1 octet in, 8 octets out, exit status 3",
            accountOf({**fields, "exit_status": 3}, True),
        )
