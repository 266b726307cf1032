"""The command line: thin commands; nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``wkdask``; ``--version`` is answered before anything is imported."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from wkdask._version import __version__

        sys.stdout.write(f"wkdask {__version__}\n")
        return
    try:
        from wkdask.cli.app import run

        code = run()
    except KeyboardInterrupt:  # while libraries were loading
        sys.stderr.write("error: Stopped. Run the same again to go on.\n")
        code = 130
    sys.exit(code)
