"""
tcpsvc: one client at a time, authenticated, recorded.
"""

__version__ = "0.1.0"
