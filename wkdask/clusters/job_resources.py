"""What a job asks for, in the words of sbatch: ``mem=10G,time=02:00:00,partition=long``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from wkdask.errors import InputError

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MOST_TEXT = 10_000


def parse_job_resources(given: str | Mapping[str, Any] | None) -> dict[str, str]:
    """Read what jobs ask for.

    Parameters
    ----------
    given
        ``name=value`` pairs with commas between, a JSON object, or a mapping; names are long options of sbatch without
        the hyphens. Values with commas need JSON. A name alone is an option without value.

    Raises
    ------
    InputError
        Where it is neither, or a value has no place in a job script.

    Examples
    --------
    >>> parse_job_resources("mem=10G,cpus-per-task=4,exclusive")
    {'mem': '10G', 'cpus-per-task': '4', 'exclusive': ''}
    >>> parse_job_resources('{"mem": "10G", "nodelist": "node1,node2"}')
    {'mem': '10G', 'nodelist': 'node1,node2'}
    """
    if given is None:
        return {}
    if isinstance(given, str):
        given = _of_text(given[:_MOST_TEXT].strip())
    resources = {}
    for name, value in given.items():
        key = str(name).strip().lstrip("-").replace("_", "-")
        text = "" if value is None or value is True else str(value).strip()
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not re.fullmatch(r"[ -~]*", text) or '"' in text:
            raise InputError(
                f"{name!r}={value!r} is no resource of a job. Write long options of sbatch, such as mem=10G,time=02:00:00."
            )
        if value is not False:
            resources[key] = text
    return resources


def _of_text(text: str) -> dict[str, Any]:
    if not text.startswith("{"):
        return {name: value for name, _, value in (part.partition("=") for part in text.split(",") if part.strip())}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The job resources {text!r} are no JSON: {error}. Write them like mem=10G,time=02:00:00.") from error
    return dict(found)


def slurm_bytes(text: str) -> int:
    """Read an amount of memory as Slurm does: in MiB, or with K, M, G or T, powers of 1024.

    Examples
    --------
    >>> slurm_bytes("10G") == 10 * 2**30, slurm_bytes("512") == 512 * 2**20
    (True, True)
    """
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found or float(found[1]) <= 0:
        raise InputError(f"{text!r} is no amount of memory for a job. Write it like 10G or 512M.")
    return int(float(found[1]) * _UNITS[found[2].upper() or "M"])


def slurm_seconds(text: str) -> int:
    """Read a time limit as Slurm does: minutes, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``.

    Examples
    --------
    >>> slurm_seconds("90"), slurm_seconds("1:30"), slurm_seconds("02:00:00"), slurm_seconds("1-12")
    (5400, 90, 7200, 129600)
    """
    days, dash, rest = text.strip().rpartition("-")
    parts = rest.split(":")
    if len(parts) > 3 or not all(re.fullmatch("[0-9]{1,6}", part) for part in [*parts, *([days] if dash else [])]):
        raise InputError(f"{text!r} is no time limit of a job. Write it like 02:00:00, or 1-12:00:00 for a day and a half.")
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:
        hours, minutes, seconds = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if not 0 < total < math.inf:
        raise InputError(f"The time limit {text!r} is no time at all. Write it like 02:00:00.")
    return total
