"""Trying again what a busy store or a broken connection refused."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from wkdask.errors import InputError
from wkdask.storage.events import notify
from wkdask.storage.faults import chain, may_pass

T = TypeVar("T")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
RETRY_SECONDS = 60.0

_lock = threading.Lock()
_counts = {"request": 0, "retry": 0}
"""Of this process, since each was asked for last."""


def retry_seconds() -> float:
    """Return how long one request may be tried: ``wkdask.storage.retry-seconds`` of dask's configuration."""
    import dask.config
    from dask.utils import parse_timedelta

    given = dask.config.get("wkdask.storage.retry-seconds", RETRY_SECONDS)
    try:
        return float(parse_timedelta(given, default="s"))
    except (ValueError, TypeError, KeyError):
        raise InputError(f"wkdask.storage.retry-seconds is {given!r} in dask's configuration, expected seconds.") from None


def persistently(call: Callable[[], T], url: str) -> T:
    """Return what a call returns, after trying again for a limited time where that may help.

    Examples
    --------
    >>> persistently(lambda: 7, "s3://bucket/a")
    7
    """
    begun, pause = time.monotonic(), FIRST_PAUSE
    while True:
        _counted("request")
        try:
            return call()
        except Exception as error:
            wait = max(pause * random.uniform(0.5, 1.0), _asked_pause(error))
            if not may_pass(error) or time.monotonic() - begun + wait > retry_seconds():
                raise
        _counted("retry")
        notify("retry", url)
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


def _asked_pause(error: BaseException) -> float:
    """Return how long a store asked us to wait: at most as long as we ever do."""
    for one in chain(error):
        response: Any = getattr(one, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        headers: Any = getattr(one, "headers", None) or metadata.get("HTTPHeaders") or {}
        text = str(headers.get("retry-after", headers.get("Retry-After", ""))) if hasattr(headers, "get") else ""
        if text.isdecimal():
            return min(float(text), LONGEST_PAUSE)
    return 0.0


def _counted(what: str) -> None:
    with _lock:
        _counts[what] += 1


def _taken(what: str) -> int:
    with _lock:
        found, _counts[what] = _counts[what], 0
    return found


def taken_requests() -> int:
    """Return how many requests to stores this process made, retries included, since this was asked last."""
    return _taken("request")


def taken_retries() -> int:
    """Return how many retries there were in this process since this was asked last."""
    return _taken("retry")
