"""``wk.cluster``: a Dask cluster while a block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wkdask.clusters.launcher import Launcher, Started
from wkdask.clusters.settings import Choice, resolved, section
from wkdask.errors import InputError, PlanError
from wkdask.plan import parse_bytes

if TYPE_CHECKING:
    from distributed import Client

CLUSTERS = ("local", "slurm", "slurm+batching", "tcp://HOST:PORT")


def default_jobs() -> int:
    """Return how many processors this process may use, of the machine, its control group and its affinity."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def launcher_of(choice: Choice, memory_limit: int | None = None, settings: Mapping[str, Any] | None = None) -> Launcher | None:
    """Return what starts the cluster of a name; None where there is none of this name. Nothing is started.

    Raises
    ------
    InputError
        Where the choice is not usable.
    """
    choice, given = resolved(choice), settings or {}
    name = choice.strategy
    if name in ("slurm", "slurm+batching"):
        from wkdask.clusters.slurm import Slurm

        return Slurm(section("slurm", given), choice.jobs, choice.job_resources, batching=name.endswith("+batching"))
    if name == "local":
        from wkdask.clusters.local import Local

        return Local(choice.jobs or default_jobs(), memory_limit, int(section("local", given)["threads-per-process"]))
    if given:
        raise InputError(f"The strategy {name} has no settings such as {', '.join(given)}. Leave them out.")
    if "://" in name:
        from wkdask.clusters.connected import Connected

        return Connected(name)
    return None


@contextmanager
def cluster(
    strategy: str = "local",
    *,
    jobs: int | None = None,
    memory_limit: int | str | None = None,
    job_resources: str | Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Client]:
    """Give a `distributed.Client`, the default one while the block lasts; what was started for it ends with the block.

    Parameters
    ----------
    strategy
        ``local``: processes of this machine. ``slurm``: each worker a job; ``slurm+batching``: several workers a job.
        ``tcp://HOST:PORT``: a scheduler that is there already. Or the name of a profile in dask's configuration.
    jobs
        Of ``local``: tasks at once; default: as many as there are cores. Of Slurm: workers.
    memory_limit
        Bytes for all tasks of a local cluster.
    job_resources
        What a job of Slurm asks for, by long options of sbatch: ``"mem=10G,time=02:00:00,partition=long"``, or a mapping.
        Other strategies have no use for it.
    **settings
        Other settings of ``wkdask.yaml`` for this cluster, such as ``adaptive=True`` or ``log_directory="logs"``.

    Raises
    ------
    InputError
        Where there is no such cluster, or Slurm refuses a job; nothing is left running.
    PlanError
        At the end, where no job ever came to life.

    Examples
    --------
    >>> import wkdask as wk
    >>> with wk.cluster("local", jobs=1) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    limit = parse_bytes(memory_limit) if memory_limit is not None else None
    launcher = launcher_of(Choice(strategy, jobs, job_resources), limit, settings)
    if launcher is None:
        raise InputError(f"There is no cluster {strategy!r}. Use one of {', '.join(CLUSTERS)}.")
    import dask

    with Started(launcher) as started, started.client.as_current(), dask.config.set(scheduler="dask.distributed"):
        try:
            yield started.client
        except Exception as error:
            if started.failure:
                raise PlanError(started.failure) from error
            raise
