"""
Makes the endpoint strings C{exec:}, C{serial:} and C{mtls:}.

What parses them is imported when one of them is used.
"""

from importlib import import_module
from typing import Any

from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


class _Parser:
    """
    One prefix, and where the function is that parses what follows it.

    @ivar _bound: Whether the function has a parameter for each argument; if not, it
        gets the arguments as they come.
    """

    def __init__(
        self, prefix: str, module: str, function: str, bound: bool = True
    ) -> None:
        self.prefix = prefix
        self._module = module
        self._function = function
        self._bound = bound

    def parse(  # type: ignore[override]  # the interfaces leave out self
        self, reactor: Any, /, *arguments: object, **named: object
    ) -> Any:
        """
        Parse what follows the prefix.
        """
        module = import_module(f"tcpsvc.endpoints.{self._module}")
        function = getattr(module, self._function)
        if not self._bound:
            return function(reactor, *arguments, **named)
        shape = import_module("tcpsvc.endpoints.arguments")
        options = shape.optionsOf(function)
        return function(reactor, **shape.bound(self.prefix, options, arguments, named))


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


execClient = _ClientParser("exec", "program", "parseProgram", bound=False)
serialClient = _ClientParser("serial", "serialline", "parseSerial")
mtlsClient = _ClientParser("mtls", "mutual", "parseMutualClient")
mtlsServer = _ServerParser("mtls", "mutual", "parseMutualServer")
