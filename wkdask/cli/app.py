"""The commands, and what all of them share: exit codes and the form of errors."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from wkdask.cli.convert import convert
from wkdask.cli.downsample import downsample
from wkdask.cli.info import info

EPILOG = (
    "Exit codes: 0 done or nothing to do, 1 failed or not equal, 2 usage, 3 plan refused, 4 some units failed "
    "(run again to go on), 5 damage found, 6 locked by another run, 130 interrupted (run again to go on)."
)

app = typer.Typer(
    name="wkdask",
    help="Make, process and analyse WEBKNOSSOS datasets with Dask.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=EPILOG)(convert)
app.command(epilog=EPILOG)(downsample)
app.command(epilog=EPILOG)(info)


@app.callback()
def common(version: bool = typer.Option(False, "--version", "-V", help="Show the version and exit.")) -> None:
    """Answer ``--version`` among other options."""
    if version:
        from wkdask._version import __version__

        typer.echo(f"wkdask {__version__}")
        raise typer.Exit


def run() -> int:
    """Run the command line and return its exit code."""
    from wkdask.errors import InterruptedRunError, WkdaskError

    try:
        code = app(standalone_mode=False, prog_name="wkdask")
    except typer.Exit as ended:
        code = ended.exit_code
    except WkdaskError as error:
        return _failed(error, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has seen enough
        return 1
    except Exception as error:
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        return _misused(error)
    if code == 130:  # typer's word for KeyboardInterrupt
        return _failed(InterruptedRunError("Stopped. Run the same again to go on."), 130)
    return int(code or 0)


def _failed(error: Exception, code: int) -> int:
    _tell_json(type(error).__name__, str(error), code)
    sys.stderr.write(f"error: {error}\n")
    return code


def _misused(error: Any) -> int:
    """Show an error of usage, as typer words it."""
    _tell_json("UsageError", error.format_message(), error.exit_code)
    error.show()
    return int(error.exit_code)


def _tell_json(kind: str, message: str, code: int) -> None:
    if "--json" in sys.argv:
        import json

        document = {"wkdask": 1, "error": {"type": kind, "message": message, "exit_code": code}}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
