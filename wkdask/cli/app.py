"""The commands, and what all of them share: exit codes and the form of errors."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from wkdask.cli.cancel import cancel
from wkdask.cli.check_equality import check_equality
from wkdask.cli.clean import clean
from wkdask.cli.cluster import cluster
from wkdask.cli.compress import compress, rechunk
from wkdask.cli.convert import convert
from wkdask.cli.convert_raw import convert_raw
from wkdask.cli.convert_zarr import convert_zarr
from wkdask.cli.copy_dataset import copy_dataset
from wkdask.cli.diff import diff
from wkdask.cli.downsample import downsample
from wkdask.cli.hash import content_hash
from wkdask.cli.info import info
from wkdask.cli.resume import resume
from wkdask.cli.server import ServerCommand, UploadCommand
from wkdask.cli.status import status
from wkdask.cli.stores import StoresCommand
from wkdask.cli.upsample import upsample
from wkdask.cli.verify import verify
from wkdask.cli.work import work

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
app.command(epilog=EPILOG, cls=StoresCommand)(cancel)
app.add_typer(cluster, epilog=EPILOG)
app.command("check-equality", epilog=EPILOG, cls=StoresCommand)(check_equality)
app.command(epilog=EPILOG, cls=StoresCommand)(clean)
app.command(epilog=EPILOG, cls=StoresCommand)(compress)
app.command(epilog=EPILOG, cls=UploadCommand)(convert)
app.command(epilog=EPILOG, cls=StoresCommand)(convert_raw)
app.command(epilog=EPILOG, cls=StoresCommand)(convert_zarr)
app.command(epilog=EPILOG, cls=StoresCommand)(copy_dataset)
app.command(epilog=EPILOG, cls=StoresCommand)(diff)
app.command(epilog=EPILOG, cls=ServerCommand)(downsample)
app.command("hash", epilog=EPILOG, cls=StoresCommand)(content_hash)
app.command(epilog=EPILOG, cls=StoresCommand)(info)
app.command(epilog=EPILOG, cls=StoresCommand)(rechunk)
app.command(epilog=EPILOG, cls=StoresCommand)(resume)
app.command(epilog=EPILOG, cls=StoresCommand)(status)
app.command(epilog=EPILOG, cls=ServerCommand)(upsample)
app.command(epilog=EPILOG, cls=StoresCommand)(verify)
app.command(epilog=EPILOG, cls=StoresCommand)(work)


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

        from wkdask.cli.output import JSON_VERSION

        document = {"wkdask": JSON_VERSION, "error": {"type": kind, "message": message, "exit_code": code}}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
