"""The command line: thin commands; nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``wkdask``; ``--version`` is answered before anything is imported."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from wkdask._version import __version__

        sys.stdout.write(f"wkdask {__version__}\n")
        return
    from wkdask.cli.app import run

    sys.exit(run())
