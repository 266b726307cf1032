"""What gives a `distributed.Client`: the protocol, and the settings that hold while one lasts."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, Protocol

from wkdask.clusters.worker_settings import NO_SPILL

CLOSE_SECONDS = 10


class Launcher(Protocol):
    """Starts a cluster or finds one, gives a client of it, and ends what it has started."""

    client: Any
    """A `distributed.Client`, once started."""

    processes: int
    """Processes of this machine, or of its jobs, that run them or wait for them."""

    memory_limit: int | None
    """Bytes that all tasks may take, where this machine's memory says nothing about it."""

    replaces_workers: bool
    """Whether a worker that ends is followed by another one."""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        ...

    @property
    def failure(self) -> str:
        """Why no further task will ever run; empty while all is well."""
        ...

    def start(self) -> None:
        """Start it, and make `client`."""
        ...

    def close(self, *, at_once: bool) -> None:
        """End it; ``at_once`` where nobody waits for what still runs."""
        ...


def cancel_all(client: Any, *, asynchronous: bool | None = None) -> Any:
    """Let all who wait for results of a client know that there will be none."""
    from distributed import Future

    return client.cancel([Future(key, client) for key in list(client.futures)], asynchronous=asynchronous, force=True)


class Started:
    """A context in which a launcher's cluster is there, with the settings of dask that tasks of ours want."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def __enter__(self) -> Launcher:
        import dask
        import distributed  # noqa: F401 - before the settings, which else were all of its own

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong, receipts tell
        self._config = dask.config.set(NO_SPILL)
        self._config.__enter__()
        try:
            self._launcher.start()
        except BaseException:
            with suppress(Exception):  # it may have started, as where a Ctrl-C came at the end of that
                self._launcher.close(at_once=True)
            self._config.__exit__(None, None, None)
            raise
        return self._launcher

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._launcher.close(at_once=kind is not None)
        finally:
            self._config.__exit__(None, None, None)
