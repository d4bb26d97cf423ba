"""
The service as its users have it: real processes, real sockets, real time, and
peers that no one here wrote.
"""
