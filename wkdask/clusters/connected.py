"""A Dask cluster that is there already."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from wkdask.clusters.launcher import CLOSE_SECONDS
from wkdask.errors import InputError

CONNECT_SECONDS = 15
COUNT_SECONDS = 2.0


class Connected:
    """A client of a scheduler that others have started, and will end.

    Parameters
    ----------
    address
        Such as ``tcp://10.0.0.1:8786``.
    security
        Certificates, as of `distributed.Client`.

    Raises
    ------
    InputError
        Where nobody listens at the address.
    """

    processes = 1
    replaces_workers = False
    memory_limit: int | None = None

    def __init__(self, address: str, security: Any = None) -> None:
        _require_listener(address)
        self._address, self._security = address, security
        self._slots, self._counted = 1, 0.0
        self.client: Any = None

    @property
    def slots(self) -> int:
        """Threads of all workers, counted now and then, as workers come and go."""
        if self.client is not None and not self.failure and time.monotonic() - self._counted > COUNT_SECONDS:
            self._counted = time.monotonic()
            workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
            self._slots = sum(worker["nthreads"] for worker in workers) or 1
        return self._slots

    @property
    def failure(self) -> str:
        """That the scheduler is gone, where it is."""
        if self.client is None or self.client.status == "running":
            return ""
        return f"The Dask scheduler at {self._address} is gone. Start one, and run the same again to go on."

    def start(self) -> None:
        """Connect."""
        from distributed import Client

        try:
            self.client = Client(self._address, timeout=CONNECT_SECONDS, security=self._security, set_as_default=False)
        except (OSError, ValueError) as error:
            raise _nobody(self._address, error) from error

    def close(self, *, at_once: bool) -> None:
        """Leave; the cluster stays."""
        with suppress(OSError, TimeoutError):
            self.client.close(timeout=1 if at_once or self.failure else CLOSE_SECONDS)


def _require_listener(address: str) -> None:
    """Refuse an address where nobody listens; dask itself would knock until its time is over."""
    try:
        place = urlsplit(address)
        if place.scheme in ("tcp", "tls"):
            if not place.hostname or not place.port:
                raise ValueError("it has no host and port, such as tcp://10.0.0.1:8786")
            socket.create_connection((place.hostname, place.port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _nobody(address, error) from error


def _nobody(address: str, error: Exception) -> InputError:
    said = str(error) or type(error).__name__
    return InputError(f"No Dask scheduler answers at {address}: {said}. Check the address.")
