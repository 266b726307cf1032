"""Whether storage options are those that a store's client knows, told before it is asked for anything."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Set
from difflib import get_close_matches
from typing import Any

from wkdask.errors import InputError

TEXTS = frozenset({"key", "secret", "endpoint_url", "region_name", "profile", "username", "password", "project"})
FLAGS = frozenset({"anon", "use_ssl"})
GROUPS = frozenset({"client_kwargs", "config_kwargs", "s3_additional_kwargs", "headers", "cookies"})
"""Options that hold others."""

NUMBERS = frozenset({"connect_timeout", "read_timeout", "max_pool_connections"})
"""Numbers among the ``config_kwargs`` of S3, which come as text from the command line."""


def names_of(*calls: Callable[..., Any]) -> set[str]:
    """Return the names of what calls take; of a class, with those that its bases take.

    Examples
    --------
    >>> sorted(names_of(lambda a, *, b=1, **more: None))
    ['a', 'b']
    """
    return {
        name
        for call in calls
        for one in (_starts(call) if isinstance(call, type) else [call])
        for name, parameter in inspect.signature(one).parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def _starts(kind: type) -> Iterator[Callable[..., Any]]:
    return (base.__init__ for base in kind.__mro__ if "__init__" in vars(base) and base is not object)  # type: ignore[misc]


def check_options(given: Mapping[str, Any], known: Set[str], protocol: str, group: str = "") -> None:
    """Raise `InputError` where an option is not known, or a value can not be one; values are not shown.

    Parameters
    ----------
    given
        By name.
    known
        Names that there are.
    protocol
        Of the URLs that they are for.
    group
        The option that they are part of.

    Examples
    --------
    >>> check_options({"sekret": "s3cret"}, {"key", "secret"}, "s3")
    Traceback (most recent call last):
    wkdask.errors.InputError: sekret is no storage option of s3://. Did you mean secret?
    """
    for name, value in given.items():
        shown = f"{group}.{name}" if group else name
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            usual = ", ".join(sorted(known & (TEXTS | FLAGS | GROUPS | {"token"}))) or "others"
            remedy = f"Did you mean {near[0]}?" if near else f"There are {usual}."
            raise InputError(f"{shown} is no storage option of {protocol}://. {remedy}")
        expected = _expected(name, value)
        if value is not None and expected:
            found = type(value).__name__
            raise InputError(
                f"The storage option {shown} of {protocol}:// is of type {found}, expected {expected}. Correct it."
            )


def _expected(name: str, value: Any) -> str:
    """Return what a value should be and is not."""
    if name in TEXTS and not isinstance(value, str):
        return "text"
    if name in FLAGS and not isinstance(value, bool):
        return "true or false"
    return "a group of options" if name in GROUPS and not isinstance(value, Mapping) else ""


def numbers_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of botocore's configuration, with numbers where the command line has their text.

    Examples
    --------
    >>> numbers_of({"connect_timeout": "2.5", "max_pool_connections": "8"})
    {'connect_timeout': 2.5, 'max_pool_connections': 8}
    """
    return {name: _number(name, value) if name in NUMBERS else value for name, value in config.items()}


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    found = seconds_of(value, f"config_kwargs.{name}")
    return int(found) if name == "max_pool_connections" else found


def seconds_of(value: Any, name: str = "timeout") -> float:
    """Return a number that may have come as text.

    Examples
    --------
    >>> seconds_of("2.5")
    2.5
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"The storage option {name} is no number. Correct it.") from None
