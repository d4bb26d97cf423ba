"""
Endpoint strings that Twisted lacks: C{exec:}, C{serial:} and C{mtls:}.

Any program under Twisted can use them; L{twisted.plugins} names them.
"""
