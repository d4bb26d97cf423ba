"""
Makes C{twistd tcpsvc} and C{twist tcpsvc}.
"""

from twisted.application.service import ServiceMaker

serviceMaker = ServiceMaker(
    "tcpsvc",
    "tcpsvc.tap",
    "One client at a time, authenticated, recorded.",
    "tcpsvc",
)
