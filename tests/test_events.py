"""
Tests for L{tcpsvc.events}: that catalogue, code and documentation say the same.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

import tcpsvc
from tcpsvc import events
from tcpsvc.admission import MAX_CONTROLS_EACH
from tcpsvc.audit.chain import Chain, body
from tcpsvc.audit.chain import parsed as parsedRecord
from tcpsvc.commands import Command
from tcpsvc.events import (
    AUDITED,
    HANDSHAKE_FAILED,
    REPLY,
    REQUEST,
    SERVICE_STARTED,
    SESSION_CLOSED,
    Event,
)
from tcpsvc.flow import PAYLOADS, payload
from tcpsvc.interfaces import AuditUnavailable
from tcpsvc.outcomes import accountOf
from tcpsvc.service import ExclusiveService, Settings
from tcpsvc.tls import ALPN_CONTROL
from tests.certificates import otherAuthority
from tests.peers import House, Peer, Thing, clientContext, namedPair, serverMaterial
from tests.support import (
    EPOCH,
    BodiesTrail,
    LogLines,
    auditKey,
    clockAtEpoch,
    journalInMemory,
)
from tests.test_audit_chain import ANY_TEXT

PACKAGE = Path(tcpsvc.__file__).parent
REFERENCE = PACKAGE.parent / "docs" / "reference" / "events.rst"

EVE = "eve\r\n2027-01-15T08:00:00+0000 [tcpsvc#info] forged \x1b[2J \u2028 \u00fc"
"""
The name in a certificate that nobody has looked at: its bearer made it.
"""

LOG_METHODS = ("debug", "info", "warn", "error", "critical", "failure", "emit")
"""
The methods of L{twisted.logger.Logger} that take a format.
"""

NOOP = '"request":"NOOP"'
"""
What a record says of a request.
"""

OK = '"reply":"200 OK"'
"""
What a record says of a reply.
"""

COMMON = ["seq", "time", "event", "prev"]

TYPES: dict[str, Callable[[object], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "object or null": lambda value: value is None or isinstance(value, dict),
    "integer or null": lambda value: value is None or type(value) is int,
    "number or null": lambda value: value is None or type(value) in (int, float),
    "object of integers": lambda value: (
        isinstance(value, dict) and all(type(item) is int for item in value.values())
    ),
    "list of strings": lambda value: (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    ),
}
"""
What the types in the reference mean.
"""


@define
class Documented:
    """
    A section of the reference.

    @ivar fields: The rows of its table, as C{(field, type)}; the name of an
        optional one ends in C{?}.
    @ivar level: Its level, or C{none}; empty if it is no event.
    @ivar line: The example of its line in the log.
    @ivar example: The example of a record.
    """

    fields: list[tuple[str, str]]
    level: str
    line: str
    example: dict[str, object]

    @property
    def types(self) -> dict[str, str]:
        """The type of each field."""
        return {name.rstrip("?"): kind for name, kind in self.fields}


def documented(text: str) -> dict[str, Documented]:
    """
    @return: The sections of the reference by their titles.
    """
    found = {}
    titles = list(re.finditer(r"^(\S.*)\n([=~-])\2+$", text, re.MULTILINE))
    ends = [title.start() for title in titles[1:]] + [len(text)]
    for title, end in zip(titles, ends, strict=True):
        body = text[title.end() : end]
        rows = re.findall(
            r"^   \* - ``(\w+)``( \(optional\))?\n     - (.*)\n     -(?: .*)?\n"
            r"     - \S",
            body,
            re.MULTILINE,
        )
        level = re.search(r"^:Level: (\w+)", body, re.MULTILINE)
        line = re.search(r"^:Log line: ``(.*)``$", body, re.MULTILINE)
        example = re.search(r"^\.\. code-block:: json\n\n((?:   .*\n)+)", body, re.M)
        found[title[1]] = Documented(
            [(name + "?" * bool(optional), kind) for name, optional, kind in rows],
            level[1] if level else "",
            line[1] if line else "",
            json.loads(example[1]) if example else {},
        )
    return found


def parsed(path: Path) -> ast.Module:
    """
    @return: A module's source, parsed.
    """
    return ast.parse(path.read_text(), str(path))


def modules() -> Iterator[tuple[str, ast.Module]]:
    """
    @return: All modules of the package, parsed, by their paths in it.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), parsed(path)


def isLogger(node: ast.expr) -> bool:
    """
    Whether an expression is called like a logger.
    """
    last = ast.unparse(node).split("(")[0].rpartition(".")[2].strip("_")
    return last.lower() in ("log", "logger")


def formats(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    """
    @return: Each use of a logger's method, written out, with the format that it
        is called with; L{None} if that cannot be seen.
    """
    called = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called[node.func] = node
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in LOG_METHODS
            and isLogger(node.value)
        ):
            call = called.get(node)
            if call is None:
                yield ast.unparse(node), None
                continue
            place = 1 if node.attr == "emit" else 0
            given = {word.arg: word.value for word in call.keywords}
            found = call.args[place] if len(call.args) > place else given.get("format")
            yield ast.unparse(call), found


def notLiteral(tree: ast.Module) -> list[str]:
    """
    @return: The log calls of a module whose format is not a literal.
    """
    return [
        call
        for call, found in formats(tree)
        if not isinstance(found, ast.Constant) or not isinstance(found.value, str)
    ]


def eventsOf(tree: ast.Module) -> list[ast.Call]:
    """
    @return: The calls of L{Event} in a module.
    """
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] == "Event"
    ]


class ReferenceTests(SynchronousTestCase):
    """
    The catalogue against C{docs/reference/events.rst}.
    """

    def setUp(self) -> None:
        """
        Read the reference.
        """
        self.sections = documented(REFERENCE.read_text())

    def test_documented(self) -> None:
        """
        Each event of the catalogue has a section of its own, in the same order,
        and each section with a level is an event of the catalogue.
        """
        self.assertEqual(
            [title for title, section in self.sections.items() if section.level],
            [event.name for event in AUDITED],
        )

    def test_fields(self) -> None:
        """
        An event is documented with exactly its fields, in order, the optional
        ones marked.
        """
        for event in AUDITED:
            self.assertEqual(
                tuple(name for name, _ in self.sections[event.name].fields),
                event.fields,
                event.name,
            )

    def test_commonFields(self) -> None:
        """
        The fields of every record are documented at the top.
        """
        self.assertEqual([name for name, _ in self.sections["Events"].fields], COMMON)

    def test_types(self) -> None:
        """
        Each field has a type that is known here.
        """
        for title, section in self.sections.items():
            for name, kind in section.fields:
                self.assertIn(kind, TYPES, f"{title}, {name}")

    def test_levels(self) -> None:
        """
        An event is documented with its level and a line of the log if it has
        words for people, and as being in the trail only if it has none.
        """
        for event in AUDITED:
            section = self.sections[event.name]
            self.assertEqual(bool(section.line), bool(event.format), event.name)
            level = event.level.name if event.format else "none"
            self.assertEqual(section.level, level, event.name)

    def test_examples(self) -> None:
        """
        The example of an event has the fields in their order and with their
        types; only optional ones are missing.
        """
        for event in AUDITED:
            section = self.sections[event.name]
            names = [
                name.rstrip("?")
                for name in event.fields
                if not name.endswith("?") or name.rstrip("?") in section.example
            ]
            self.assertEqual(
                list(section.example), [*COMMON[:3], *names, COMMON[3]], event.name
            )
            self.assertEqual(section.example["event"], event.name)
            for name in names:
                self.assertTrue(
                    TYPES[section.types[name]](section.example[name]),
                    f"{event.name}, {name}",
                )
                if section.types[name].startswith("object") and name in self.sections:
                    self.assertObject(name, section.example[name])

    def assertObject(self, name: str, value: object) -> None:
        """
        Fail unless an object has the fields that are documented of it.
        """
        if value is None:
            return
        assert isinstance(value, dict)
        types = self.sections[name].types
        self.assertEqual(list(value), list(types), name)
        for key, kind in types.items():
            self.assertTrue(TYPES[kind](value[key]), f"{name}, {key}")

    def test_lines(self) -> None:
        """
        The line of the log in the reference is what the example's record makes.
        """
        for event in AUDITED:
            if not event.format:
                continue
            section = self.sections[event.name]
            example: dict[str, object] = dict(section.example)
            shown = example.get("certificate")
            more = f" ({shown['subject']})" if isinstance(shown, dict) else ""
            if "holder" in example:
                more = f" (held by {example['holder']})"
            self.assertEqual(
                formatEvent(
                    {**example, "more": more, "kind": "session"}
                    | {"account": accountOf({"requests": 0, **example}, False)}
                    | {"log_format": event.format}
                ),
                section.line,
            )


class CodeTests(SynchronousTestCase):
    """
    The catalogue against the code.
    """

    def test_used(self) -> None:
        """
        Each event of the catalogue is told somewhere.
        """
        used: set[object] = set()
        for path, tree in modules():
            for node in ast.walk(tree):
                if isinstance(node, ast.Name) and path != "events.py":
                    used.add(getattr(events, node.id, None))
                elif isinstance(node, ast.Call):
                    place = {"_afterTime": 0, "body": 1}.get(ast.unparse(node.func), 9)
                    for name in node.args[place : place + 1]:
                        if isinstance(name, ast.Constant):
                            used |= {one for one in AUDITED if one.name == name.value}
        self.assertEqual([event.name for event in AUDITED if event not in used], [])

    def test_complete(self) -> None:
        """
        Each event that the module defines is in the catalogue, under a name of
        its own.
        """
        defined = [value for value in vars(events).values() if isinstance(value, Event)]
        self.assertEqual(tuple(defined), AUDITED)
        self.assertEqual(len({event.name for event in AUDITED}), len(AUDITED))

    def test_definedHere(self) -> None:
        """
        Events are made in the catalogue alone, of literals.
        """
        for path, tree in modules():
            made = eventsOf(tree)
            if path != "events.py":
                self.assertEqual([ast.unparse(node) for node in made], [], path)
                continue
            self.assertEqual(len(made), len(AUDITED))
            for node in made:
                self.assertEqual(node.keywords, [])
                for part in node.args:
                    if not ast.unparse(part).startswith("LogLevel."):
                        ast.literal_eval(part)

    def test_literalFormats(self) -> None:
        """
        The format of each log call is a literal, save the one that takes it from
        the catalogue: what a peer sent is never one.
        """
        wrong = []
        count = 0
        for path, tree in modules():
            count += len(list(formats(tree)))
            wrong += [f"{path}: {call}" for call in notLiteral(tree)]
        self.assertEqual(len(wrong), 1, wrong)
        self.assertTrue(
            wrong[0].startswith(
                "events.py: self.log.emit(event.level, event.format, event=event.name"
            ),
            wrong,
        )
        self.assertGreater(count, 10)

    def test_literalFormatsAreLookedFor(self) -> None:
        """
        The search would find a format that is not a literal.
        """
        for call in (
            "self._log.info(text)",
            "self.log.warn(f'from {peer}')",
            "log.error('from ' + peer)",
            "journal.log.failure('%s' % peer, failure)",
            "Logger().critical(text)",
            "self._log.emit(LogLevel.info, text)",
            "self._log.info(format=text)",
            "self._log.info()",
            "say = self._log.info",
            "callLater(0, self._log.info, text)",
        ):
            self.assertEqual(len(notLiteral(ast.parse(call))), 1, call)
        for call in (
            "self._log.info('from {peer}', peer=peer)",
            "self._log.emit(LogLevel.info, 'text')",
            "math.log(text)",
        ):
            self.assertEqual(notLiteral(ast.parse(call)), [], call)

    def test_noOldLog(self) -> None:
        """
        Twisted's old log, whose formats cannot be told from texts, and the
        standard library's are not used.
        """
        for path, tree in modules():
            for node in ast.walk(tree):
                names: list[str] = []
                if isinstance(node, ast.ImportFrom):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                for name in names:
                    self.assertFalse(
                        name.startswith(("twisted.python.log", "logging")), path
                    )


def _recordsOfGateways() -> list[dict[str, object]]:
    """
    What sessions with a gateway record, which a service with commands does not.
    """
    thing = Thing()
    house = House(backend=thing)
    for outcome in ({"exit_status": 0}, {"signal": 9}):
        client = house.visit()
        thing.sessions[-1].outcome = dict(outcome)
        journal = house.journal.ofSession("session")
        for data in (b"*IDN?", b"\xff"):
            for kind in PAYLOADS:
                journal.data("in", payload(data, kind))
        journal.commit()
        client.close()
    return [
        {"seq": 0, "time": "", "event": event, **fields, "prev": ""}
        for _, event, fields in house.trail.kept
    ]


class EmittedTests(SynchronousTestCase):
    """
    The catalogue against what a whole service records and logs: all is real but
    the sockets and the clock.
    """

    def setUp(self) -> None:
        """
        Let a service do all that it does.
        """
        self.sections = documented(REFERENCE.read_text())
        self.log = LogLines()
        path = Path(self.mktemp())
        reactor: Any = MemoryReactorClock()
        reactor.advance(EPOCH)
        service = ExclusiveService(
            Settings(
                listen=("tcp:4433",),
                listenPlaintext=("tcp:4434:interface=127.0.0.1",),
                material=serverMaterial(),
                tlsMinimum="1.3",
                commands=(
                    Command("FAIL", lambda request: 1 / 0),
                    Command(
                        "LOGIN",
                        lambda request: "welcome",
                        argument="PASSWORD",
                        secret=True,
                        secretReply=True,
                    ),
                ),
                audit=path,
                auditSync="no",
                auditKey=auditKey(),
                auditMaxOctets=0,
                idleTimeout=900.0,
                maxSession=28800.0,
                handshakeTimeout=10.0,
                maxPending=16,
                reconnectRate=0,
            ),
            reactor,
            lambda work: succeed(None),
            self.log,
        )
        service.startService()
        factories = [cast(Factory, server[1]) for server in reactor.tcpServers]
        secure, plaintext = factories

        def knock(context: SSL.Context) -> Peer:
            peer = Peer(secure, context).shakeHands()
            for _ in range(2):
                reactor.advance(0)
                peer.pump()
            return peer

        def visit(name: str, *alpn: bytes) -> Peer:
            return knock(clientContext(namedPair(name), alpn=alpn))

        alice = visit("alice")
        alice.send(b"NOOP\n\x80\n" + b"x" * 5000 + b"\nFAIL\nHELP\nNOPE\nTIME x\n")
        alice.send(b"LOGIN hunter2\n")
        reactor.advance(1)
        for _ in range(3):
            visit("bob")
        controls = [visit("bob", ALPN_CONTROL) for _ in range(MAX_CONTROLS_EACH + 1)]
        controls[0].send(b"STATUS\nQUIT\n")
        knock(clientContext(otherAuthority().client(EVE)))
        visit("bob", b"h2")
        for _ in range(2):
            Peer(secure, clientContext()).sendRaw(b"GET / HTTP/1.0\r\n\r\n")
        reactor.advance(1.5)
        alice.send(b"QUIT\n")
        telnet = Peer(plaintext, None, IPv4Address("TCP", "127.0.0.1", 1))
        telnet.send("ECHO gr\u00fc\u00df\r\n".encode())
        stopped = service.stopService()
        for peer in (telnet, *controls):
            peer.pump()
        self.successResultOf(stopped)
        self.records: list[dict[str, object]] = [
            json.loads(line) for line in path.read_text("ascii").splitlines()
        ]
        self.records += _recordsOfGateways()

    def of(self, event: Event) -> list[dict[str, object]]:
        """
        @return: All records of an event.
        """
        return [record for record in self.records if record["event"] == event.name]

    def test_everyEvent(self) -> None:
        """
        Every event of the catalogue was recorded, and no other.
        """
        self.assertEqual(
            {record["event"] for record in self.records},
            {event.name for event in AUDITED},
        )

    def test_fields(self) -> None:
        """
        Each record has the fields of its event in their order: all that are
        not optional, and none that is not in the catalogue. Each optional one is
        seen, and missing, at least once.
        """
        for event in AUDITED:
            names = [name.rstrip("?") for name in event.fields]
            optional = {name[:-1] for name in event.fields if name.endswith("?")}
            seen: list[set[str]] = []
            for record in self.of(event):
                first, last, fields = list(record)[:3], list(record)[-1], {*record}
                self.assertEqual([*first, last], COMMON)
                wanted = [name for name in names if name in fields]
                self.assertEqual(list(record)[3:-1], wanted)
                self.assertEqual({*names} - fields - optional, set(), event.name)
                seen.append(fields & optional)
            self.assertEqual(set().union(*seen), optional, event.name)
            self.assertEqual(set.intersection(*seen), set(), event.name)

    def test_types(self) -> None:
        """
        Each field has the type that is documented, and so has each field of an
        object.
        """
        objects = set()
        for record in self.records:
            name = str(record["event"])
            types = self.sections["Events"].types | self.sections[name].types
            for key, value in record.items():
                self.assertTrue(TYPES[types[key]](value), f"{name}, {key}: {value!r}")
                if isinstance(value, dict) and types[key] != "object of integers":
                    objects.add(key)
                    inner = self.sections[key].types
                    self.assertEqual(list(value), list(inner), key)
                    for part, kind in inner.items():
                        self.assertTrue(TYPES[kind](value[part]), f"{key}, {part}")
        self.assertEqual(objects, {"identity", "tls", "certificate"})

    def test_requestAndBase64(self) -> None:
        """
        A request has either its text or its octets in base64, never both.
        """
        for record in self.of(REQUEST):
            self.assertEqual(("request" in record) + ("request_b64" in record), 1)
        self.assertEqual(len(self.of(REQUEST)), len(self.of(REPLY)))

    def test_reasons(self) -> None:
        """
        Each reason that was recorded is documented.
        """
        text = re.sub(r"\s+", " ", REFERENCE.read_text())
        reasons = {
            record["reason"] for record in self.records if "reason" in record
        } - {"not TLS: an HTTP request"}
        self.assertGreater(len(reasons), 3)
        for reason in reasons:
            self.assertIn(f"``{reason}``", text)

    def logged(self, event: Event) -> list[LogEvent]:
        """
        @return: The log's events of an event.
        """
        return [line for line in self.log.events if line.get("event") == event.name]

    def test_logged(self) -> None:
        """
        Each event with words for people is one line of the log, at its level
        and with all its fields as they are in the record; the others are none.
        """
        for event in AUDITED:
            logged = self.logged(event)
            records = [record for record in self.of(event) if record["seq"]]
            self.assertEqual(
                len(logged), len(records) if event.format else 0, event.name
            )
            for line, record in zip(logged, records, strict=False):
                self.assertIs(line["log_level"], event.level)
                self.assertEqual(line["log_namespace"], "tcpsvc")
                for name in {*record} - {*COMMON}:
                    self.assertEqual(line[name], record[name])

    def test_readable(self) -> None:
        """
        Each line of the log can be formatted, and is one line without control
        characters, whatever a peer has put into its certificate. The trail
        has that as it is.
        """
        self.assertGreater(len(self.log.events), 8)
        for line in self.log.events:
            text = formatEvent(line)
            self.assertTrue(text)
            self.assertNotIn("ormat", text)
            self.assertTrue(text.isprintable(), text)
        (failed, *_) = self.logged(HANDSHAKE_FAILED)
        self.assertIn("(CN=eve\\r\\n2027", formatEvent(failed))
        self.assertIn("\u00fc)", formatEvent(failed))
        shown = self.of(HANDSHAKE_FAILED)[0]["certificate"]
        assert isinstance(shown, dict)
        self.assertIn("eve\r\n2027", shown["subject"])


class JournalTests(SynchronousTestCase):
    """
    Tests for L{tcpsvc.events.Journal} and L{tcpsvc.events.SessionJournal}.
    """

    def setUp(self) -> None:
        """
        Make a journal in memory.
        """
        self.clock = clockAtEpoch()
        self.journal, self.trail, self.log = journalInMemory(self.clock)
        self.record: dict[str, object] = {"address": "192.0.2.1:1", "reason": "x"}

    def test_tell(self) -> None:
        """
        An event goes into the trail, with the time, and into the log, where it
        may have further fields.
        """
        self.clock.advance(1.5)
        self.journal.tell(HANDSHAKE_FAILED, self.record, more=" (CN=eve)")
        self.assertEqual(
            self.trail.taken, [(EPOCH + 1.5, "handshake.failed", self.record)]
        )
        (line,) = self.log.events
        self.assertEqual(
            formatEvent(line), "refused 192.0.2.1:1 in the handshake: x (CN=eve)"
        )
        self.assertIs(line["log_level"], LogLevel.warn)
        self.assertEqual(line["event"], "handshake.failed")

    def test_peersAreNoFormats(self) -> None:
        """
        What looks like a format in a field is shown as it is.
        """
        self.record["reason"] = "{log_logger} {0} {"
        self.journal.tell(HANDSHAKE_FAILED, self.record, more="{address}")
        (line,) = self.log.events
        self.assertEqual(
            formatEvent(line),
            "refused 192.0.2.1:1 in the handshake: {log_logger} {0} {{address}",
        )

    def test_notCommitted(self) -> None:
        """
        What was told is recorded only by a commit.
        """
        self.journal.tell(HANDSHAKE_FAILED, self.record, more="")
        self.assertEqual(self.trail.kept, [])
        self.assertIsNone(self.journal.commit())
        self.assertEqual(self.trail.events(), ["handshake.failed"])

    def test_broken(self) -> None:
        """
        A trail that cannot be written says so at the commit; the log has the
        event all the same.
        """
        self.trail.broken = "no space left"
        self.journal.tell(HANDSHAKE_FAILED, self.record, more="")
        self.assertRaises(AuditUnavailable, self.journal.commit)
        self.assertRaises(AuditUnavailable, self._brokenSession)
        self.assertEqual(len(self.log.events), 1)

    def _brokenSession(self) -> None:
        """
        Record a request that cannot be recorded.
        """
        session = self.journal.ofSession("s")
        session.request(1, NOOP, EPOCH)
        session.commit()

    def test_counts(self) -> None:
        """
        Events are counted by their names, from nothing, when they are told.
        """
        self.assertEqual(set(self.journal.counts.values()), {0})
        self.assertEqual(list(self.journal.counts), [event.name for event in AUDITED])
        session = self.journal.ofSession("s")
        session.request(1, NOOP, EPOCH)
        session.request(2, NOOP, EPOCH)
        session.reply(1, OK, 200, EPOCH)
        self.journal.tell(HANDSHAKE_FAILED, self.record, more="")
        self.assertEqual(
            {name: count for name, count in self.journal.counts.items() if count},
            {"request": 2, "reply": 1, "handshake.failed": 1},
        )
        session.commit()
        session.exchanges(3, EPOCH, [("NOOP", "200 OK", EPOCH)] * 5)
        session.data("in", '"data":"x"')
        self.journal.ofSession("t").exchanges(1, EPOCH, [("NOOP", "200 OK", EPOCH)])
        session.commit()
        self.assertEqual(
            {name: count for name, count in self.journal.counts.items() if count},
            {"request": 8, "reply": 7, "handshake.failed": 1, "gateway.data": 1},
        )

    def test_session(self) -> None:
        """
        The journal of a session names it first in each record and each line of
        the log.
        """
        session = self.journal.ofSession("s-1")
        session.tell(
            SESSION_CLOSED,
            {
                "reason": "quit",
                "requests": 1,
                "bytes_in": 2,
                "bytes_out": 3,
                "duration_s": 4.0,
            },
            account="1 request",
        )
        session.request(1, NOOP, EPOCH)
        session.reply(1, OK, 200, EPOCH)
        session.exchanges(2, EPOCH, [("NOOP", "200 OK", EPOCH)])
        session.data("in", '"data":"x"')
        session.commit()
        self.assertEqual(len(self.trail.kept), 6)
        for _, _, fields in self.trail.kept:
            self.assertEqual(next(iter(fields.items())), ("session", "s-1"))
        (line,) = self.log.events
        self.assertEqual(line["session"], "s-1")
        self.assertEqual(
            formatEvent(line), "session s-1 has ended: quit (1 request, 4.000 s)"
        )
        self.assertIs(session.log, self.journal.log)

    def test_gathered(self) -> None:
        """
        What happens in a session waits in its own journal, and is handed to the
        trail by its commit: in order, behind what the trail has taken by then, with
        the number of its last request.
        """
        one, other = self.journal.ofSession("one"), self.journal.ofSession("other")
        one.request(1, NOOP, EPOCH)
        one.reply(1, OK, 200, EPOCH)
        other.request(7, NOOP, EPOCH)
        self.assertEqual(self.trail.taken, [])
        self.journal.tell(HANDSHAKE_FAILED, self.record, more="")
        other.commit()
        self.assertEqual(self.trail.events(), ["handshake.failed", "request"])
        self.assertEqual(self.trail.requests, {"other": 7})
        one.exchanges(2, EPOCH, [("NOOP", "200 OK", EPOCH)] * 2)
        one.commit()
        self.assertEqual(self.trail.events()[2:], ["request", "reply"] * 3)
        self.assertEqual(self.trail.requests, {"one": 3, "other": 7})
        self.assertEqual(self.trail.commits, [2, 6])
        one.commit()
        self.assertEqual(self.trail.commits, [2, 6])

    def test_gatheredBefore(self) -> None:
        """
        What waits in the journal of a session comes before what is told or noted
        there later, without a commit.
        """
        for put in ("tell", "note"):
            session = self.journal.ofSession("s")
            session.request(1, NOOP, EPOCH)
            closed: dict[str, object] = {"reason": "quit", "duration_s": 0.0}
            if put == "tell":
                session.tell(SESSION_CLOSED, closed, account="")
            else:
                session.note(SESSION_CLOSED, closed)
            session.request(2, NOOP, EPOCH)
            self.journal.commit()
            self.assertEqual(self.trail.events(), ["request", "session.closed"])
            self.trail.kept.clear()

    def test_refusedOnce(self) -> None:
        """
        What could not be recorded does not come back with the next commit.
        """
        session = self.journal.ofSession("s")
        self.trail.broken = "no space left"
        session.request(1, NOOP, EPOCH)
        self.assertRaises(AuditUnavailable, session.commit)
        self.trail.broken = ""
        session.commit()
        self.assertEqual(self.trail.kept, [])

    def test_bodies(self) -> None:
        """
        The records of a session are the same, to the octet, as if they had been
        given to the trail by themselves.
        """
        trail = BodiesTrail()
        journal, _, _ = journalInMemory(self.clock, trail)
        session = journal.ofSession('s"\u00df')
        exchanges = [("ECHO \u00df\ud800", '200 "\r\n', EPOCH + 0.75)]
        session.request(1, NOOP, EPOCH + 0.5)
        self.clock.advance(1)
        session.reply(1, OK, 211, EPOCH + 0.5)
        session.exchanges(2, EPOCH + 0.25, exchanges)
        session.data("out", '"data":"x"')
        session.commit()
        named: dict[str, object] = {"session": 's"\u00df'}
        self.assertEqual(
            trail.bodies,
            [
                body(at, event, {**named, **fields})
                for at, event, fields in (
                    (EPOCH + 0.5, "request", {"n": 1, "request": "NOOP"}),
                    (
                        EPOCH + 1,
                        "reply",
                        {"n": 1, "reply": "200 OK", "code": 211, "duration_us": 500000},
                    ),
                    (EPOCH + 0.25, "request", {"n": 2, "request": exchanges[0][0]}),
                    (
                        EPOCH + 0.75,
                        "reply",
                        {
                            "n": 2,
                            "reply": exchanges[0][1],
                            "code": 200,
                            "duration_us": 500000,
                        },
                    ),
                    (EPOCH + 1, "gateway.data", {"direction": "out", "data": "x"}),
                )
            ],
        )

    def test_durations(self) -> None:
        """
        A reply took the time since its request, in whole microseconds, and
        never less than none, should the clock go back. When it was told is said.
        """
        session = self.journal.ofSession("s")
        session.request(1, NOOP, EPOCH)
        self.clock.advance(0.25)
        self.assertEqual(session.reply(1, OK, 200, EPOCH), EPOCH + 0.25)
        session.reply(2, OK, 200, EPOCH + 10)
        session.commit()
        self.assertEqual(
            [fields["duration_us"] for fields in self.trail.of("reply")], [250_000, 0]
        )

    def test_exchanges(self) -> None:
        """
        Of requests that followed each other, each was taken in hand when the one
        before it was answered; none took less than nothing.
        """
        session = self.journal.ofSession("s")
        moments = [EPOCH + 1, EPOCH + 1.5, EPOCH + 1.25, EPOCH + 3]
        session.exchanges(
            5,
            EPOCH + 0.25,
            ((f"ECHO {at}", f"200 {at}", at) for at in moments),
        )
        session.commit()
        begun = [EPOCH + 0.25, *moments]
        expected: list[tuple[float, str, dict[str, object]]] = []
        for n, (since, at) in enumerate(itertools.pairwise(begun)):
            fields: dict[str, object] = {"session": "s", "n": n + 5}
            expected.append((since, "request", {**fields, "request": f"ECHO {at}"}))
            took = max(0, round((at - since) * 1e6))
            expected.append(
                (
                    at,
                    "reply",
                    {**fields, "reply": f"200 {at}", "code": 200, "duration_us": took},
                )
            )
        self.assertEqual(self.trail.kept, expected)

    @given(
        st.lists(
            st.tuples(ANY_TEXT, ANY_TEXT, st.floats(0, 1e5, allow_nan=False)),
            max_size=5,
        )
    )
    def test_anything(self, exchanges: list[tuple[str, str, float]]) -> None:
        """
        Whatever text is asked and answered: each record is one line of ASCII, and
        it can be read back from that.
        """
        trail = BodiesTrail()
        journal, _, _ = journalInMemory(trail=trail)
        session = journal.ofSession("s")
        session.exchanges(
            1, EPOCH, [(asked, said, EPOCH + at) for asked, said, at in exchanges]
        )
        session.commit()
        lines = Chain().extend(trail.bodies).split(b"\n")
        self.assertEqual(len(lines), 2 * len(exchanges) + 1)
        records = [parsedRecord(line) for line in lines[:-1]]
        for line in lines:
            self.assertTrue(line.isascii())
            self.assertNotIn(b"\r", line)
        self.assertEqual(
            [(asked, said) for asked, said, _ in exchanges],
            [
                (asked.fields["request"], said.fields["reply"])
                for asked, said in zip(records[::2], records[1::2], strict=True)
            ],
        )

    def test_levels(self) -> None:
        """
        An event without words has no line, whatever its level.
        """
        self.journal.tell(REQUEST, {"session": "s", "n": 1, "request": "NOOP"})
        self.assertEqual(self.log.events, [])
        self.assertIs(SERVICE_STARTED.level, LogLevel.info)
