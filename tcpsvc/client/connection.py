# -*- test-case-name: tests.test_client -*-

"""
A session with a service, seen from the client.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorTime

from tcpsvc.client.address import parseAddress
from tcpsvc.client.arrival import Arrival, arrive, isOfGateway
from tcpsvc.client.conversation import Conversation
from tcpsvc.client.errors import IsGateway
from tcpsvc.client.material import loadClientMaterial
from tcpsvc.client.tls import ClientTLS
from tcpsvc.client.waiting import untilAdmitted
from tcpsvc.identity import Identity
from tcpsvc.keyfiles import KeyDirectory
from tcpsvc.tls import ALPN_CONTROL, ALPN_SESSION
from tcpsvc.wire import Reply

DEFAULT_TIMEOUT = 10.0
"""
Seconds until the service must have said its first words.
"""


class Session:
    """
    A session with a service; made by L{connect}.

    @ivar greeting: The service's first words.
    @ivar peer: Who the server's certificate says it is; if it has no common
        name, its C{name} is the host.
    @ivar closed: Fires once when the connection is lost, with the reply that
        the service ended the session with (421, 221 after a C{QUIT}, or any
        other that it closed behind), or with L{None}. It does not fail.
    """

    def __init__(self, arrival: Arrival, clock: IReactorTime) -> None:
        self.greeting = arrival.greeting
        self.peer: Identity = arrival.server
        self._conversation = Conversation(clock)
        self.closed: Deferred[Reply | None] = self._conversation.closed
        arrival.handOver(self._conversation)

    def send(self, request: str | bytes) -> Deferred[Reply]:
        """
        Send one request. Requests need not wait for each other's replies:
        those come in the same order.

        @param request: One line without its ending. Octets are sent as they
            are, and text as UTF-8.
        @return: Fires with the reply, whatever its code is; fails with a
            L{ClientError} if the session ends before there is one. Cancelling
            it does not take the request back.
        @raise ValueError: If C{request} is not one line, or empty: there
            would be no reply to that.
        """
        octets = (
            request.encode("utf-8", "surrogateescape")
            if isinstance(request, str)
            else request
        )
        if not octets.strip(b"\0") or b"\n" in octets or b"\r" in octets:
            raise ValueError("a request is one line, and not an empty one")
        return self._conversation.send(octets)

    def close(self) -> Deferred[Reply | None]:
        """
        End the session in good order: say C{QUIT}, and close when the service
        has said good bye. If it does not within L{CLOSE_PATIENCE}, the
        connection is cut.

        @return: Fires when the connection is lost, with the service's last
            words, if there were any. It does not fail, and may be called again.
        """
        return self._conversation.close()

    def abort(self) -> None:
        """
        Cut the connection at once.
        """
        self._conversation.abort()


async def reach(
    reactor: IReactorTime,
    host: str,
    *,
    keys: KeyDirectory,
    identity: str | None = None,
    control: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    wait: float | None = None,
) -> Arrival:
    """
    Go to a service and be admitted. What comes after the greeting is for
    whomever the arrival is handed over to.

    The parameters and errors are those of L{connect}.
    """
    address = parseAddress(host)
    material = loadClientMaterial(keys, identity)
    protocol = ALPN_CONTROL if control else ALPN_SESSION

    async def attempt() -> Arrival:
        tls = ClientTLS(material, address, protocol)
        endpoint = HostnameEndpoint(
            reactor, address.host, address.port, timeout=timeout
        )
        return await arrive(endpoint, address, tls, protocol, reactor, timeout)

    return await untilAdmitted(attempt, wait or 0, reactor)


async def connect(
    reactor: IReactorTime,
    host: str,
    *,
    keys: KeyDirectory,
    identity: str | None = None,
    control: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    wait: float | None = None,
) -> Session:
    """
    Open a session with a service of commands. That of a gateway is for
    L{openStream <tcpsvc.client.openStream>}.

    @param reactor: Connects, and is the clock.
    @param host: C{HOST} or C{HOST:PORT}; an IPv6 address stands in brackets.
        The server's certificate has to name the host.
    @param keys: Where C{ca.pem} and the client's pair are.
    @param identity: The client's name; if L{None}, the only one in C{keys}.
    @param control: Whether to only ask about the service, by the control
        protocol, which never takes the slot.
    @param timeout: Seconds until the service must have said its first words;
        of each try, if there are several.
    @param wait: If the service is busy, for how many seconds to try again;
        may be infinite. L{None} or 0 is one try.

    @raise BadAddress: If C{host} is written wrong.
    @raise ConfigurationError: If the keys are missing or useless.
    @raise CannotReach: If there is no connection, or if the service admits
        nobody now (L{Unavailable}).
    @raise Busy: If somebody else has the service.
    @raise CertificateRefused: If one side refused the other's certificate.
    @raise ProtocolViolation: If what is there is no tcpsvc service, or if it is
        a gateway (L{IsGateway}), to whose device nothing was sent then.
    """
    arrival = await reach(
        reactor,
        host,
        keys=keys,
        identity=identity,
        control=control,
        timeout=timeout,
        wait=wait,
    )
    if isOfGateway(arrival.greeting):
        await arrival.leave(reactor)
        raise IsGateway(host)
    return Session(arrival, reactor)
