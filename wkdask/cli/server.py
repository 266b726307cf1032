"""Options for WEBKNOSSOS servers: taken as scripts give them, and refused where they would be needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import typer

from wkdask.cli.stores import StoresCommand

PAGE = re.compile(r"https?://[^/]+/(datasets|links)/.")
"""Addresses of datasets as servers show them."""


class TransferMode(StrEnum):
    """How files get to a server."""

    http = "http"
    move_and_symlink = "move+symlink"
    symlink = "symlink"
    copy = "copy"


class AccessMode(StrEnum):
    """How voxels of a server's dataset are read."""

    zarr_streaming = "zarr_streaming"
    direct_path = "direct_path"
    proxy_path = "proxy_path"


def _refuse_upload(upload: bool) -> None:
    if upload:
        _refuse("--upload", "Give a folder as TARGET, and upload that.")


def _refuse(what: str, instead: str) -> None:
    from wkdask.dataset.server_names import refuse

    refuse(what, instead)


Token = Annotated[
    str | None,
    typer.Option(envvar="WK_TOKEN", show_envvar=True, help="What a server knows its user by.", expose_value=False),
]
Transfer = Annotated[TransferMode, typer.Option(help="How files would get to a server.", expose_value=False)]


def _of_upload(
    upload: Annotated[
        bool,
        typer.Option(help="Upload to a server: not built yet.", is_eager=True, callback=_refuse_upload, expose_value=False),
    ] = False,
    webknossos_url: Annotated[str, typer.Option(envvar="WK_URL", help="Of the server.", expose_value=False)] = (
        "https://webknossos.org"
    ),
    token: Token = None,
    folder: Annotated[
        str | None, typer.Option(help="Folder of the server for the dataset, such as Datasets/mine.", expose_value=False)
    ] = None,
    transfer_mode: Transfer = TransferMode.http,
) -> None:
    """Have the options of commands that upload."""


def _of_server(
    token: Token = None,
    transfer_mode: Transfer = TransferMode.http,
    access_mode: Annotated[
        AccessMode | None, typer.Option(help="How voxels of a server would be read.", expose_value=False)
    ] = None,
) -> None:
    """Have the options of commands that change a dataset of a server."""


def _parameters(options: Callable[..., None]) -> list[Any]:
    shared = typer.Typer(add_completion=False)
    shared.command()(options)
    return [one for one in typer.main.get_command(shared).params if one.name != "help"]


class ServerCommand(StoresCommand):
    """A command whose TARGET might be a dataset of a server."""

    options: ClassVar[Callable[..., None]] = staticmethod(_of_server)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        at = next(i for i, one in enumerate(self.params) if one.name == "jobs")
        self.params[at:at] = _parameters(self.options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, but on no address of a server.

        Raises
        ------
        ServerNotSupportedError
            Where the target is one.
        """
        target = str(ctx.params["target"])
        if PAGE.match(target):
            _refuse(f"The dataset {target}", "Give the dataset's own folder.")
        return super().invoke(ctx)


class UploadCommand(ServerCommand):
    """A command that might upload what it makes."""

    options: ClassVar[Callable[..., None]] = staticmethod(_of_upload)
