"""
Tests for L{tcpsvc.endpoints.arguments}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.endpoints.arguments import Option, bound, number, optionsOf

OPTIONS = (
    Option("host", required=True),
    Option("port", required=True, check=number(1, 9)),
    Option("speed"),
    Option("colour", onlyByName=True),
)


class BoundTests(SynchronousTestCase):
    """
    Tests for L{bound}.
    """

    def bad(self, *arguments: str, **named: str) -> str:
        """
        What is said of arguments that are wrong.
        """
        return str(
            self.assertRaises(ValueError, bound, "thing", OPTIONS, arguments, named)
        )

    def test_given(self) -> None:
        """
        Arguments with names go by them, and the others to what is left, in order.
        """
        whole = {"host": "a", "port": "1"}
        for arguments, named in (
            (("a", "1"), {}),
            (("a",), {"port": "1"}),
            (("1",), {"host": "a"}),
            ((), whole),
        ):
            self.assertEqual(whole, bound("thing", OPTIONS, arguments, named))
        self.assertEqual(
            {**whole, "speed": "", "colour": "red"},
            bound("thing", OPTIONS, ("a", "1", ""), {"colour": "red"}),
        )

    def test_missing(self) -> None:
        """
        What is required has to be there, and not empty.
        """
        host = "thing: HOST is missing: thing:HOST:PORT is wanted"
        port = "thing: PORT is missing: thing:HOST:PORT is wanted"
        self.assertEqual(host, self.bad())
        self.assertEqual(host, self.bad("", "1"))
        self.assertEqual(port, self.bad("a"))
        self.assertEqual(port, self.bad("a", port=""))

    def test_surplus(self) -> None:
        """
        There may not be more, nor a name that there is not.
        """
        self.assertIn("too many parts", self.bad("a", "1", "2", "red"))
        self.assertEqual(
            "thing: there is no option 'x', only host, port, speed, colour",
            self.bad("a", "1", x="y"),
        )

    def test_value(self) -> None:
        """
        A value that is not right is said with its name.
        """
        for value in ("0", "10", "x", "-1", "1.5", "\u0663", " 1"):
            self.assertEqual(
                f"thing: port {value!r}: a number from 1 to 9 is wanted",
                self.bad("a", value),
            )


class OptionsOfTests(SynchronousTestCase):
    """
    Tests for L{optionsOf}.
    """

    def test_options(self) -> None:
        """
        Parameters are options, but for the reactor; those without a default are
        required.
        """

        def parse(reactor: object, device: str, speed: str = "1") -> None:
            raise AssertionError((reactor, device, speed))

        self.assertEqual(
            (Option("device", required=True), Option("speed")), optionsOf(parse)
        )
