"""
The tests. Run them by C{python -m twisted.trial tests}.
"""

from hypothesis import settings

# On a loaded machine an example may take long without anything being wrong.
settings.register_profile("tcpsvc", deadline=None)
settings.load_profile("tcpsvc")
