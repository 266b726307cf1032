"""``--storage-options``, which every command has that takes URLs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

NAME = "--storage-options"
SECRET = (NAME, "--token")
"""Options whose values journals must not keep."""

HELP = (
    "Credentials, endpoint and the like of URLs, such as endpoint_url=https://host:9000 or anon=true; may be given several "
    "times. Each goes to the URLs whose kind of store knows it; with a URL in front, as in 's3://raw anon=true', to what lies "
    "there. Others can see what is typed, so give secrets by the environment, such as AWS_SECRET_ACCESS_KEY."
)


def _use(context: typer.Context, words: list[str] | None) -> None:
    from wkdask.storage import parse_options, storage_options

    if words:
        context.with_resource(storage_options(parse_options(words)))


def _options(
    storage_options: Annotated[
        list[str] | None, typer.Option(NAME, metavar="KEY=VALUE", help=HELP, callback=_use, expose_value=False)
    ] = None,
) -> None:
    """Have the option that commands get."""


class StoresCommand(TyperCommand):
    """A command with ``--storage-options KEY=VALUE``, which hold for all URLs that it opens."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shared = typer.Typer(add_completion=False)
        shared.command()(_options)
        at = next((i for i, one in enumerate(self.params) if one.name in ("as_json", "verbose")), len(self.params))
        self.params.insert(at, typer.main.get_command(shared).params[0])


USER = re.compile(r"^([^/]*://)[^/]*@")
"""User and password of a URL."""


def without_options(words: Sequence[str]) -> list[str]:
    """Return a command's words without storage options and tokens, which may be secrets.

    Examples
    --------
    >>> without_options(["wkdask", "info", "s3://b/ds", "--storage-options", "key=me", "--storage-options=secret=s3cret", "-v"])
    ['wkdask', 'info', 's3://b/ds', '-v']
    >>> without_options(["convert", "https://me:secret@lab/em.zip", "a@b"])
    ['convert', 'https://lab/em.zip', 'a@b']
    """
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word.startswith(tuple(f"{name}=" for name in SECRET)):
            skip = False
        elif word in SECRET:
            skip = True
        else:
            kept.append(USER.sub(r"\1", word))
    return kept
