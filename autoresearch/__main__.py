"""`python -m autoresearch`."""

from __future__ import annotations

from autoresearch.cli import entry

if __name__ == "__main__":
    entry()
