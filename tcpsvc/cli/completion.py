# -*- test-case-name: tests.test_cli_console -*-

"""
What Tab completes at the console.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

_HELP = re.compile("HELP ", re.IGNORECASE)
_ARGUMENT = re.compile(r" \S")


class VerbCompleter(Completer):
    """
    Completes the verb of a request, and the one that C{HELP} is asked of. A
    blank is added to a verb that has an argument.
    """

    def __init__(self, verbs: dict[str, str]) -> None:
        """
        @param verbs: The verbs, each with the rest of its line in C{HELP}.
        """
        self._verbs = verbs

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """
        @see: L{Completer.get_completions}
        """
        typed = document.text_before_cursor
        asked = _HELP.match(typed)
        begun = typed[asked.end() :] if asked else typed
        for verb, rest in self._verbs.items():
            if verb.startswith(begun.upper()):
                blank = " " if _ARGUMENT.match(rest) and not asked else ""
                yield Completion(
                    verb + blank,
                    start_position=-len(begun),
                    display=verb,
                    display_meta=" ".join(rest.split()),
                )
