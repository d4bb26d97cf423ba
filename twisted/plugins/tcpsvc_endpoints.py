"""
Makes the endpoint strings C{exec:}, C{serial:} and C{mtls:}.

What parses them is imported when one of them is used.
"""

from importlib import import_module

from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


class _Parser:
    """
    One prefix, and where the function is that parses what follows it.
    """

    def __init__(self, prefix, module, function):
        self.prefix = prefix
        self._module = module
        self._function = function

    def parse(self, reactor, *arguments, **named):
        """
        Parse what follows the prefix.
        """
        module = import_module(f"tcpsvc.endpoints.{self._module}")
        return getattr(module, self._function)(reactor, *arguments, **named)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class _ClientParser(_Parser):
    """
    Parses a client's endpoint string.
    """

    parseStreamClient = _Parser.parse


@implementer(IPlugin, IStreamServerEndpointStringParser)
class _ServerParser(_Parser):
    """
    Parses a server's endpoint string.
    """

    parseStreamServer = _Parser.parse


execClient = _ClientParser("exec", "program", "parseProgram")
serialClient = _ClientParser("serial", "serialline", "parseSerial")
mtlsClient = _ClientParser("mtls", "mutual", "parseMutualClient")
mtlsServer = _ServerParser("mtls", "mutual", "parseMutualServer")
