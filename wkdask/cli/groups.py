"""Groups of options that several commands have: one parameter of a function stands for all options of a group.

Commands are decorated with `with_groups`, so that typer sees each option.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from wkdask.cli import options as o

if TYPE_CHECKING:
    from wkdask.cli.running import Telling
    from wkdask.operations import Running, Sampling, Storage
    from wkdask.plan import Pool


@dataclass(frozen=True)
class Layout:
    """How voxels lie on disk, as typed."""

    chunk_shape: o.ChunkShape = None
    shard_shape: o.ShardShape = None
    chunks_per_shard: o.ChunksPerShard = None
    compress: o.Compress = True
    codec: o.CodecName = None

    def storage(self, data_format: str) -> Storage:
        """Return how voxels are to lie on disk in a format."""
        from wkdask.cli.running import storage_of

        shapes = self.chunk_shape, self.shard_shape, self.chunks_per_shard
        return storage_of(data_format, *shapes, self.compress, self.codec)


@dataclass(frozen=True)
class Pyramid:
    """Which coarser magnifications are made, as typed."""

    downsample: o.Downsample = True
    max_mag: o.MaxMag = None
    sampling_mode: o.SamplingMode = "anisotropic"
    interpolation_mode: o.Interpolation = "default"

    def sampling(self) -> Sampling:
        """Return how coarser magnifications are made."""
        from wkdask.geometry import Mag
        from wkdask.operations import Sampling, SamplingModes

        coarsest = Mag(self.max_mag) if self.max_mag else None
        return Sampling(self.downsample, coarsest, SamplingModes.parse(self.sampling_mode), self.interpolation_mode)


@dataclass(frozen=True)
class Means:
    """Where tasks run, and with what, as typed."""

    jobs: o.Jobs = None
    distribution_strategy: o.Strategy = "threads"
    job_resources: o.JobResources = None
    memory_limit: o.MemoryLimit = None
    scratch: o.Scratch = None

    def pool(self) -> tuple[Pool, int | None]:
        """Return where tasks run, and how much memory they may take; None where this machine's decides."""
        from wkdask.cli.running import pool_of

        return pool_of(self.distribution_strategy, self.jobs, self.memory_limit, self.job_resources)

    def running(self, pool: Pool, limit: int | None, *, batch_size: int = 0, restart: bool = False) -> Running:
        """Return what plans are to know of these."""
        from wkdask.cli.output import typed_command
        from wkdask.operations import Running

        return Running(pool.slots, limit or 0, typed_command(), batch_size, str(self.scratch or ""), restart)


@dataclass(frozen=True)
class Output:
    """What is printed, and whether anything is done, as typed."""

    dry_run: o.DryRun = False
    probe: o.Probe = None
    as_json: o.AsJson = False
    progress: o.Progress = o.Show.auto
    verbose: o.Verbose = False
    quiet: o.Quiet = False

    def telling(self, command: str, *, replaces: bool = False) -> Telling:
        """Return it for a command, which may replace what is at its target."""
        from wkdask.cli.running import Telling

        shown = self.as_json, self.progress, self.verbose, self.quiet
        return Telling(command, self.dry_run, *shown, self.probe, replaces)


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the options of its groups one by one, where these stand.

    Examples
    --------
    >>> def tell(target: str, output: Output, all: bool = False) -> None:
    ...     print(target, output.quiet, all)
    >>> with_groups(tell)(target="here", quiet=True, all=False)
    here True False
    >>> list(inspect.signature(with_groups(tell)).parameters)[:3]
    ['target', 'dry_run', 'probe']
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups = {name: _options(kind) for name, found in own.items() if is_dataclass(kind := found.annotation)}
    flat: list[inspect.Parameter] = []
    for name, parameter in own.items():
        flat += groups.get(name, [parameter])

    @functools.wraps(command)
    def flattened(**given: Any) -> None:
        for name, options in groups.items():
            values = {option.name: given.pop(option.name) for option in options if option.name in given}
            given[name] = own[name].annotation(**values)
        command(**given)

    flattened.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in flat]
    flattened.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flattened


def _options(group: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(group, eval_str=True).parameters.values())
