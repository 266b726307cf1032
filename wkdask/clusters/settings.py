"""Settings of clusters: ``wkdask.yaml``, what the user's dask configuration says instead, and profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from wkdask.errors import InputError


@dataclass(frozen=True)
class Choice:
    """What the user wants to run on.

    Parameters
    ----------
    strategy
        Where, such as ``slurm``.
    jobs
        How many; None for the default.
    job_resources
        Of each, as text or names and values.
    """

    strategy: str
    jobs: int | None = None
    job_resources: str | Mapping[str, Any] | None = None


@cache
def _shipped() -> Mapping[str, Any]:
    """Return what ``wkdask.yaml`` says."""
    import yaml

    found: Mapping[str, Any] = yaml.safe_load((files("wkdask") / "wkdask.yaml").read_text(encoding="utf-8"))
    return found


def setting(name: str) -> Any:
    """Return a setting below ``wkdask``.

    Examples
    --------
    >>> setting("slurm.failures")
    3
    """
    import dask

    # each time, as the configuration may have been read anew; what the user says there stays
    dask.config.update(dask.config.config, _shipped(), priority="old")
    return dask.config.get(f"wkdask.{name}")


def section(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a strategy, with those that a call gives instead.

    Raises
    ------
    InputError
        Where there is none of such a name.

    Examples
    --------
    >>> section("local", {"threads_per_process": 2})
    {'threads-per-process': 2}
    """
    settings = {key.replace("_", "-"): value for key, value in setting(name).items()}  # environment variables have no hyphen
    for word, value in given.items():
        key = word.replace("_", "-")
        if key not in settings:
            raise InputError(f"There is no setting {word!r} for {name}. Use one of {', '.join(sorted(settings))}.")
        settings[key] = value
    return settings


def resolved(choice: Choice) -> Choice:
    """Return a choice in which the name of a profile is replaced by what the profile says.

    Raises
    ------
    InputError
        Where the profile says no strategy, or something unknown.
    """
    profile = (setting("profiles") or {}).get(choice.strategy)
    if profile is None:
        return choice
    unknown = set(profile) - {"strategy", "jobs", "job-resources"} if isinstance(profile, Mapping) else {"no mapping"}
    if unknown or not profile.get("strategy"):
        raise InputError(
            f"The profile {choice.strategy!r} in dask's configuration is {profile!r}, expected strategy, jobs and "
            "job-resources. Change wkdask.profiles there."
        )
    return Choice(profile["strategy"], choice.jobs or profile.get("jobs"), choice.job_resources or profile.get("job-resources"))
