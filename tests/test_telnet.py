"""
Tests for L{tcpsvc.telnet}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.telnet import TelnetFilter

IAC = b"\xff"
WILL, WONT, DO, DONT = b"\xfb", b"\xfc", b"\xfd", b"\xfe"
SB, SE = b"\xfa", b"\xf0"

_PIECES = st.sampled_from(
    (IAC, WILL, WONT, DO, DONT, SB, SE, b"\xf4", b"\xf1", b"\x06", b"text", b"\n")
)
_STREAMS = st.lists(st.one_of(_PIECES, st.binary(max_size=4)), max_size=16).map(
    b"".join
)


class TelnetFilterTests(SynchronousTestCase):
    """
    Tests for L{TelnetFilter}.
    """

    def assertStripped(self, data: bytes, text: bytes, answers: bytes = b"") -> None:
        """
        Fail unless C{data} has this text and gets these answers, whether it
        comes at once or octet by octet.
        """
        self.assertEqual(TelnetFilter().strip(data), (text, answers))
        slowly = TelnetFilter()
        parts = [slowly.strip(bytes([octet])) for octet in data]
        self.assertEqual(b"".join(part for part, _ in parts), text)
        self.assertEqual(b"".join(answer for _, answer in parts), answers)

    def test_text(self) -> None:
        """
        Text stays as it is.
        """
        self.assertStripped(b"any \0\xfe\xfa text\r\n", b"any \0\xfe\xfa text\r\n")

    def test_doGetsWont(self) -> None:
        """
        Each option that the peer asks for is refused.
        """
        for option in range(256):
            octet = bytes([option])
            self.assertStripped(
                b"a" + IAC + DO + octet + b"b", b"ab", IAC + WONT + octet
            )

    def test_willGetsDont(self) -> None:
        """
        Each option that the peer offers is refused.
        """
        for option in range(256):
            octet = bytes([option])
            self.assertStripped(
                b"a" + IAC + WILL + octet + b"b", b"ab", IAC + DONT + octet
            )

    def test_refusalsGetNothing(self) -> None:
        """
        WONT and DONT are not answered, or two peers would refuse for ever
        (RFC 854).
        """
        self.assertStripped(IAC + WONT + b"\x01a" + IAC + DONT + b"\x01b", b"ab")

    def test_interrupt(self) -> None:
        """
        What inetutils telnet sends for Ctrl-C (IP, DO TIMING-MARK) is answered
        with WONT TIMING-MARK, without which it shows nothing more.
        """
        self.assertStripped(b"\xff\xf4\xff\xfd\x06", b"", b"\xff\xfc\x06")

    def test_commands(self) -> None:
        """
        Commands of one octet are dropped.
        """
        for command in (*range(0xEC, 0xFA),):
            self.assertStripped(b"a" + IAC + bytes([command]) + b"b", b"ab")

    def test_noCommand(self) -> None:
        """
        An octet 255 before what is no command is text, and so is that: the end of
        a line is never lost, or two requests would be one.
        """
        for octet in (0x00, 0x0A, 0x0D, 0x20, 0x41, 0xEB):
            text = b"a" + IAC + bytes([octet]) + b"b"
            self.assertStripped(text, text)

    def test_doubled(self) -> None:
        """
        IAC IAC is one octet of text, 255.
        """
        self.assertStripped(b"a" + IAC + IAC + b"b", b"a\xffb")

    def test_subnegotiation(self) -> None:
        """
        A subnegotiation is dropped to its IAC SE: line endings in it, doubled
        IACs and a lone SE are part of it.
        """
        inside = b"\x18\x01x\r\n" + IAC + IAC + SE + b"\n"
        self.assertStripped(b"a" + IAC + SB + inside + IAC + SE + b"b", b"ab")

    def test_subnegotiationAsksNothing(self) -> None:
        """
        What looks like a negotiation inside a subnegotiation is not answered.
        """
        self.assertStripped(IAC + SB + DO + b"\x06" + IAC + DO + b"\x06", b"")

    def test_concerns(self) -> None:
        """
        It is concerned by IAC, and by all that comes while one of its
        sequences is open.
        """
        telnet = TelnetFilter()
        self.assertFalse(telnet.concerns(b"text\xfd\xfe"))
        self.assertTrue(telnet.concerns(b"text\xff"))
        for chunk in (IAC, DO):
            telnet.strip(chunk)
            self.assertTrue(telnet.concerns(b"\x06"))
        telnet.strip(b"\x06")
        self.assertFalse(telnet.concerns(b"text"))
        for chunk in (IAC + SB, b"\x18", IAC):
            telnet.strip(chunk)
            self.assertTrue(telnet.concerns(b"text"))
        telnet.strip(SE)
        self.assertFalse(telnet.concerns(b"text"))

    @given(_STREAMS, st.integers(min_value=0))
    def test_anyChunks(self, stream: bytes, place: int) -> None:
        """
        However a stream is cut, the same text and answers come out.
        """
        whole = TelnetFilter().strip(stream)
        at = place % (len(stream) + 1)
        parted = TelnetFilter()
        parts = [parted.strip(stream[:at]), parted.strip(stream[at:])]
        self.assertEqual(parts[0][0] + parts[1][0], whole[0])
        self.assertEqual(parts[0][1] + parts[1][1], whole[1])

    @given(_STREAMS)
    def test_noLongerAnswers(self, stream: bytes) -> None:
        """
        Answers are refusals of three octets each, and no longer than what they
        answer: nobody can make us say more than they do.
        """
        text, answers = TelnetFilter().strip(stream)
        self.assertLessEqual(len(text) + len(answers), len(stream))
        for at in range(0, len(answers), 3):
            self.assertEqual(answers[at : at + 1], IAC)
            self.assertIn(answers[at + 1 : at + 2], (WONT, DONT))

    @given(st.binary())
    def test_escapedText(self, data: bytes) -> None:
        """
        Any octets come through if their IACs are doubled.
        """
        self.assertStripped(data.replace(IAC, IAC + IAC), data)
