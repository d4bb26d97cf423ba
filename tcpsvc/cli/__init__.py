# -*- test-case-name: tests.test_cli -*-

"""
The C{tcpsvc} command.

Its sub-commands are imported when they are used, and not for the list of them.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn, cast

import click

import tcpsvc

EXIT_INTERRUPTED = 130
"""
The exit status after Ctrl-C, as shells have it: 128 and SIGINT.
"""

EXIT_BROKEN_PIPE = 141
"""
The exit status when nobody reads the output any more: 128 and SIGPIPE.
"""

SUBCOMMANDS = {
    "send": ("tcpsvc.cli.send:send", "Send requests, and print the replies."),
    "console": ("tcpsvc.cli.console:console", "Talk to a service by hand."),
    "connect": (
        "tcpsvc.cli.connect:connect",
        "Join standard input and output to a service.",
    ),
    "forward": (
        "tcpsvc.cli.forward:forward",
        "Lead local connections to a service, for programs that know no TLS.",
    ),
    "who": ("tcpsvc.cli.inquire:who", "Say who holds a service."),
    "status": ("tcpsvc.cli.inquire:status", "Say how a service is."),
    "keys": (
        "tcpsvc.cli.keys:keysGroup",
        "Make, sign, list, renew, revoke and check keys and certificates.",
    ),
    "audit": ("tcpsvc.cli.audit:auditGroup", "Verify and read an audit trail."),
}
"""
Where each sub-command is, and its help in one line.
"""


class QuietEnd(Exception):
    """
    The command ends without a word.

    @ivar status: The exit status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class LazyGroup(click.Group):
    """
    A group that imports a sub-command when it is used.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """
        Run the sub-command.

        @raise QuietEnd: For Ctrl-C and for a broken pipe, of which click would
            make an empty line and the exit status of a 5xx reply.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise QuietEnd(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            raise QuietEnd(EXIT_BROKEN_PIPE) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """
        @see: L{click.Group.list_commands}
        """
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """
        @see: L{click.Group.get_command}
        """
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _, attribute = SUBCOMMANDS[cmd_name][0].partition(":")
        return cast(click.Command, getattr(import_module(module), attribute))

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """
        @see: L{click.Group.format_commands}
        """
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUBCOMMANDS[name][1]) for name in SUBCOMMANDS])


@click.group(name="tcpsvc", cls=LazyGroup)
@click.version_option(tcpsvc.__version__, message="%(prog)s %(version)s")
def program() -> None:
    """Talk to services that one client at a time may use.

    HOST means HOST:4433. Exit status: 0; 1 after a reply of 4xx or 5xx; 64 wrong
    usage; 69 cannot reach the service; 75 it is busy; 76 it breaks the protocol;
    77 a certificate was refused; 78 something is wrong with the keys.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """
    Run the command, and exit.

    @param arguments: Those of the command line, by default.
    """
    occupyStandardDescriptors()
    status = _run(arguments)
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            # It would fail again at exit, and make another status of it.
            _discardOutput(descriptor)
    sys.exit(status)


def occupyStandardDescriptors() -> None:
    """
    See that descriptors 0 to 2 are open. If one was closed, the connection
    would get its number, and what is meant for standard output with it.

    What was closed still cannot be used: reading or writing fails.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # This takes the lowest number that is free.
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)


def _run(arguments: list[str] | None) -> int:
    """
    Run the command.

    @return: The exit status.
    """
    try:
        status = program.main(arguments, prog_name="tcpsvc", standalone_mode=False)
        # What click has not written yet should fail here and not at exit.
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except QuietEnd as error:
        _discardOutput()
        return error.status
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        with suppress(OSError):
            error.show()
        return os.EX_USAGE
    except click.UsageError as error:
        _complain(_oneLine(error), error.ctx)
        return os.EX_USAGE
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except BrokenPipeError:
        _discardOutput()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
        return os.EX_IOERR
    except Exception as error:
        status = _statusOf(error)
        if status is None:
            raise
        _complain(str(error))
        return status


def _statusOf(error: Exception) -> int | None:
    """
    The exit status for an error that is meant for people, if it is one.
    """
    from tcpsvc.keyfiles import KeyFileError

    if isinstance(error, KeyFileError):
        return os.EX_CONFIG
    status: Any = getattr(error, "exitStatus", None)
    return status if isinstance(status, int) else None


def _oneLine(error: click.UsageError) -> str:
    """
    What is wrong with the usage, and where to read about it.
    """
    message = " ".join(error.format_message().split())
    path = error.ctx.command_path if error.ctx is not None else "tcpsvc"
    return f"{message} Try: {path} --help"


def _complain(message: str, context: click.Context | None = None) -> None:
    """
    Say on standard error why the command fails. That it cannot be said does
    not change the exit status.
    """
    path = context.command_path if context is not None else "tcpsvc"
    with suppress(OSError):
        click.echo(f"{path}: {message}", err=True)


def _discardOutput(descriptor: int = 1) -> None:
    """
    Let nothing more be written to a standard output, or error, that is of no use.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
