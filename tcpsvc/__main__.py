# -*- test-case-name: tests.test_cli -*-

"""
C{python -m tcpsvc}: the same as C{tcpsvc}.
"""

from __future__ import annotations

if __name__ == "__main__":
    from tcpsvc.cli import main

    main()
