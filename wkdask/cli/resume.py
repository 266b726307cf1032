"""``wkdask resume``: goes on with what is unfinished in a dataset, by the commands that began it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wkdask.cli import options as o

if TYPE_CHECKING:
    from wkdask.storage import Location

IMPORTS = ("convert", "convert-raw", "convert-zarr")
RESUMABLE = frozenset({*IMPORTS, "compress", "copy-dataset", "downsample", "rechunk", "upsample"})
"""Commands that write datasets by plans."""

BEGIN_ANEW = {command: {"--restart", "--overwrite-existing"} for command in IMPORTS}
"""Options that give up what is unfinished; of other commands it is just ``--restart``."""

CALLS = {
    "append": "Layer.append_images",
    "convert": "Dataset.from_images or add_layer_from_images",
    "copy": "copy_dataset, add_copy_layer or the like",
    "downsample": "Layer.downsample or redownsample",
    "merge": "Dataset.merge_layers",
    "rechunk": "rechunk or compress",
    "store": "store",
    "upsample": "Layer.upsample",
}
"""What may have begun a job in Python, by the first word of its name."""


def resume(
    target: Annotated[str, typer.Argument(help="Folder or URL of a dataset.")],
    layer_name: Annotated[list[str] | None, typer.Option(help="Only this layer; may be given several times.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all that is done, and redo what has not the checksum that was recorded.")
    ] = False,
    jobs: o.Jobs = None,
    distribution_strategy: Annotated[str | None, typer.Option(help="Where tasks run. Default: as the command said.")] = None,
    job_resources: o.JobResources = None,
    memory_limit: o.MemoryLimit = None,
    as_json: o.AsJson = False,
    progress: o.Progress = o.Show.auto,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Go on with what is unfinished in a dataset: run again the commands that began it, in the folders where they were typed.

    What they said of threads and memory is replaced by what is given here.
    """
    from wkdask.cli.output import emit
    from wkdask.plan import unfinished_jobs
    from wkdask.storage import Location

    place = Location.of(target)
    require_there(place)
    left = {key: job for key, job in unfinished_jobs(place).items() if not layer_name or key in layer_name}
    given = {"--jobs": jobs, "--distribution-strategy": distribution_strategy, "--memory-limit": memory_limit}
    words = spoken(given | {"--job-resources": job_resources})
    words += spoken({"--progress": progress.value}, {"--json": as_json, "--verbose": verbose, "--quiet": quiet})
    commands = list(commands_of(place, left))
    for command, folder in commands:
        run_again(command, folder, words, verify=verify)
    if not commands and not quiet:
        emit({"layers": []} if as_json else "Nothing to do.", "resume", as_json)


def spoken(given: Mapping[str, object], said: Mapping[str, bool] | None = None) -> list[str]:
    """Return options with their values, where these are not None, and those that are just said, as words.

    Examples
    --------
    >>> spoken({"--jobs": 2, "--memory-limit": None}, {"--json": True, "--quiet": False})
    ['--jobs', '2', '--json']
    """
    words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    return words + [word for word, is_said in (said or {}).items() if is_said]


def require_there(place: Location) -> None:
    """Refuse a folder that does not exist."""
    from wkdask.errors import DatasetNotFoundError
    from wkdask.metadata import FILE_NAME

    if not ((place / FILE_NAME).is_file() or place.is_folder()):
        raise DatasetNotFoundError(f"{place} does not exist. Give the folder of a dataset.")


def commands_of(place: Location, jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the words of each command without the program's name, and the folder where it was typed; each once.

    Raises
    ------
    InputError
        Where a job was not begun by a command, or by none that writes this very dataset.
    """
    found = [_command(place, key, job) for key, job in sorted(jobs.items())]  # all, before any runs
    yield from dict.fromkeys(found)


def _command(place: Location, key: str, job: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    from wkdask.errors import InputError

    command, folder, name = (str(job.get(what) or "") for what in ("command", "folder", "name"))
    about = f"{place} holds an unfinished run for layer '{key}' ({name or 'of no name'})"
    if not command:
        call = CALLS.get(name.partition(" ")[0], "the same call")
        raise InputError(f"{about} that was begun in Python. Run {call} again with the same arguments there, to go on.")
    try:
        program, *words = shlex.split(command)
    except ValueError:
        program, words = "", []
    if Path(program).name not in ("wkdask", "wkdask.exe") or not words or words[0] not in RESUMABLE:
        raise InputError(f"{about} that was begun by {command!r}, which is no command of wkdask that goes on. Run it yourself.")
    if folder and not os.path.isdir(folder):
        raise InputError(f"{about} that was begun by {command!r} in {folder}, which is gone. Run it yourself.")
    anew = BEGIN_ANEW.get(words[0], {"--restart"})
    words = [word for word in words if word not in anew]
    _require_same_target(place, words, folder, about)
    return tuple(words), folder


def _require_same_target(place: Location, words: Sequence[str], folder: str, about: str) -> None:
    """Refuse a command that would write another dataset: this one was moved, or its journal comes from elsewhere."""
    from wkdask.cli.app import app
    from wkdask.errors import InputError
    from wkdask.operations.existing import resolved
    from wkdask.storage import Location

    here, command = resolved(place), typer.main.get_command(app)
    with chdir(folder or os.curdir):
        parsed = command.commands[words[0]].make_context(words[0], list(words[1:]))  # type: ignore[attr-defined]
        written = Location.of(str(parsed.params["target"]))
        if resolved(written) != here:
            raise InputError(
                f"{about} that was begun by {shlex.join(['wkdask', *words])!r}, which writes {written}. "
                "Move the dataset back, or run the command yourself with the new place."
            )


def run_again(words: Sequence[str], folder: str, more: Sequence[str], *, verify: bool = False, joins: bool = False) -> None:
    """Run a command of `commands_of` with further options; see `Again`."""
    from wkdask.cli.again import Again, again
    from wkdask.cli.app import app

    token = again.set(Again(shlex.join(["wkdask", *words]), verify, joins))
    try:
        with chdir(folder or os.curdir):
            code = app([*words, *more], standalone_mode=False, prog_name="wkdask")
    finally:
        again.reset(token)
    if code:  # such as 130, typer's word for KeyboardInterrupt
        raise typer.Exit(code)
