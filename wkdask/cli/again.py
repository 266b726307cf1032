"""Running a typed command again: the words, and how what was done before is checked."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Again:
    """A command that runs again.

    Parameters
    ----------
    command
        As it was typed, and as journals are to keep it.
    verify
        Whether all that is done is read and compared with its checksums before it is believed.
    joins
        Whether it only takes part in what is under way, and begins nothing.
    """

    command: str
    verify: bool = False
    joins: bool = False


again: ContextVar[Again | None] = ContextVar("again", default=None)
"""What runs again; None where the user typed the command that runs."""
