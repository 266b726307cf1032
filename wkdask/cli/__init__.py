"""The command line: thin commands; nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``wkdask``; ``--version`` is answered before anything is imported."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from wkdask._version import __version__

        sys.stdout.write(f"wkdask {__version__}\n")
        return
    from wkdask.cli import stopping

    try:
        stopping.listen()
        from wkdask.cli.app import run

        code = run()
    except BaseException:  # while libraries load, an interruption comes out as any error
        if not stopping.heard():
            raise
        sys.stderr.write(stopping.SAID)
        code = 130
    if code == 130:
        stopping.end()
    sys.exit(code)
