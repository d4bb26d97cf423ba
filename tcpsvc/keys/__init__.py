"""
The certificate authority of a small lab, on a directory of key files.

In the order of their layers: C{names} and C{rules} are pure, C{issuing} makes
certificates in memory, C{writing} puts files on the disk; C{authority},
C{making}, C{listing} and C{check} do what C{tcpsvc keys} offers, and C{advice}
has the command lines that they recommend.
"""
