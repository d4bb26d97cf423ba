"""
Commands whose effects outlive the service: each adds a line to the file that the
environment names.
"""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tcpsvc.commands import command
from tcpsvc.wire import Request

VARIABLE = "TCPSVC_WITNESS"
"""
The variable of the environment that names the file.
"""


@command("DO", argument="WORD")
def do(request: Request) -> str:
    """adds WORD to the file"""
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{request.argument}\n".encode())
    os.close(descriptor)
    return f"did {request.argument}"


@command("LATER", argument="WORD")
async def later(request: Request) -> str:
    """adds WORD to the file after a millisecond, and answers after another"""
    await deferLater(reactor, 0.001)
    done = do(request)
    await deferLater(reactor, 0.001)
    return done


@command("WAIT")
async def wait(request: Request) -> str:
    """answers after a second, and at some length"""
    await deferLater(reactor, 1.0)
    return f"{request.verb} is over. " * 100


@command("FAIL")
def fail(request: Request) -> str:
    """raises"""
    raise OSError(f"{request.verb}: the cable is out")
