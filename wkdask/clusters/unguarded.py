"""Processes that begin without running the user's script again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

_one_at_a_time = threading.RLock()


@contextmanager
def without_main() -> Iterator[None]:
    """Let processes that are spawned in the block leave alone the script that this process runs.

    Else each would run it from its beginning, so that scripts without ``if __name__ == "__main__"`` would start processes
    without end. What such processes get must not refer to the script: cloudpickle takes along by value what is of it.
    """
    main = sys.modules["__main__"]
    with _one_at_a_time:
        hidden = {name: value for name in ("__spec__", "__file__") if (value := getattr(main, name, None)) is not None}
        main.__spec__ = None
        if "__file__" in hidden:
            del main.__file__
        try:
            yield
        finally:
            for name, value in hidden.items():
                setattr(main, name, value)


class UnguardedPool(ProcessPoolExecutor):
    """Processes for dask's scheduler of that name, which sends functions by cloudpickle."""

    def __init__(self, count: int) -> None:
        from dask.multiprocessing import get_context, initialize_worker_process

        super().__init__(count, get_context(), initialize_worker_process)

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        """Start a call; the first ones start the processes."""
        with without_main():
            return super().submit(function, *arguments, **named)
