"""python -m pycontain, and what the installed `pycontain` command calls."""

from __future__ import annotations

from pycontain.cli.entry import main

if __name__ == "__main__":
    main()
