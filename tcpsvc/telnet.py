# -*- test-case-name: tests.test_telnet -*-

"""
Telnet's commands, told apart from text (RFC 854). Knows no network.
"""

from __future__ import annotations

from enum import Enum


class _State(Enum):
    """
    What the next octet of a L{TelnetFilter} is.
    """

    TEXT = 0
    COMMAND = 1
    OPTION = 2
    SUBNEGOTIATION = 3
    SUBNEGOTIATION_COMMAND = 4


_IAC = 255
_WILL, _WONT, _DO, _DONT = 251, 252, 253, 254
_SB, _SE = 250, 240
_FIRST_COMMAND = 236  # EOF of RFC 1184; RFC 854 has those from 240 on.


class TelnetFilter:
    """
    Takes telnet's commands out of a stream of text (RFC 854), and refuses
    each option that the peer asks for or offers: DO gets WONT, WILL gets DONT.

    WONT and DONT are no news, as no option is ever on, and get no answer
    (RFC 854, rule against loops). The other commands ask for nothing that
    a line protocol has: they are dropped. An octet 255 before what is no command
    is text.
    """

    def __init__(self) -> None:
        self._state = _State.TEXT
        self._wish = 0

    def concerns(self, data: bytes) -> bool:
        """
        Whether C{data} cannot be taken for text as it stands.
        """
        return b"\xff" in data or self._state is not _State.TEXT

    def strip(self, data: bytes) -> tuple[bytes, bytes]:
        """
        Part one chunk into text and what has to be answered.

        @return: The text, and the answers: no longer than C{data}.
        """
        text, answers = bytearray(), bytearray()
        at = 0
        while at < len(data):
            if self._state in (_State.TEXT, _State.SUBNEGOTIATION):
                end = data.find(_IAC, at)
                end = len(data) if end < 0 else end
                if self._state is _State.TEXT:
                    text += data[at:end]
                if end < len(data):
                    self._state = _State(self._state.value + 1)
                at = end + 1
            else:
                self._command(data[at], text, answers)
                at += 1
        return bytes(text), bytes(answers)

    def _command(self, octet: int, text: bytearray, answers: bytearray) -> None:
        """
        Take one octet behind an IAC.
        """
        state, self._state = self._state, _State.TEXT
        if state is _State.OPTION:
            if self._wish in (_DO, _WILL):
                refusal = _WONT if self._wish == _DO else _DONT
                answers += bytes((_IAC, refusal, octet))
        elif state is _State.SUBNEGOTIATION_COMMAND:
            if octet != _SE:
                self._state = _State.SUBNEGOTIATION
        elif octet == _IAC:
            text.append(_IAC)
        elif octet in (_WILL, _WONT, _DO, _DONT):
            self._wish = octet
            self._state = _State.OPTION
        elif octet == _SB:
            self._state = _State.SUBNEGOTIATION
        elif octet < _FIRST_COMMAND:
            text += bytes((_IAC, octet))
