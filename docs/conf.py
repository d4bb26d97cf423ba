"""
How Sphinx builds the documentation.
"""

import sys
from pathlib import Path

# Of the checkout that the pages belong to, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tcpsvc

project = "tcpsvc"
copyright = "2026, the tcpsvc maintainers"
version = release = tcpsvc.__version__

extensions: list[str] = []
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"tcpsvc {version}"
html_copy_source = False
