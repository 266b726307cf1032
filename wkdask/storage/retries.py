"""Trying again what a busy store or a broken connection refused."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from wkdask.errors import InputError
from wkdask.storage.events import notify
from wkdask.storage.faults import chain, forget_outer, may_pass

T = TypeVar("T")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
RETRY_SECONDS = 60.0

FORGOTTEN_SECONDS = 60.0
"""After which a failure says nothing of the next request any more."""

_lock = threading.Lock()
_failing: dict[str, tuple[float, float]] = {}
"""Stores of which no request has succeeded since a first failure: when that was, and the last one."""
_once: ContextVar[bool] = ContextVar("without_retries", default=False)
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


@contextmanager
def without_retries() -> Iterator[None]:
    """Let requests of this thread be made once while the ``with`` block runs, where another try could do something else."""
    token = _once.set(True)
    try:
        yield
    finally:
        _once.reset(token)


def persistently(call: Callable[[], T], url: str) -> T:
    """Return what a call returns, after trying again for a limited time where that may help.

    The time counts for the store: where nothing has come from it for so long, whoever asks next has waited already.

    Examples
    --------
    >>> persistently(lambda: 7, "s3://bucket/a")
    7
    """
    store = "/".join(url.split("/", 3)[:3])
    begun, pause, outer = time.monotonic(), FIRST_PAUSE, sys.exception()
    while True:
        _counted("request")
        try:
            found = call()
        except Exception as error:
            forget_outer(error, outer)
            wait = max(pause * random.uniform(0.5, 1.0), _asked_pause(error))
            if not may_pass(error):
                _failing.pop(store, None)  # this is no busy store
                raise
            if _once.get() or time.monotonic() - min(begun, _failed(store)) + wait > retry_seconds():
                raise
        else:
            if _failing:
                _failing.pop(store, None)
            return found
        _counted("retry")
        notify("retry", url)
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


def _failed(store: str) -> float:
    """Note a failure of a store; return when the first one was that no success came after."""
    now = time.monotonic()
    with _lock:
        first, last = _failing.get(store, (now, now))
        first = first if now - last < FORGOTTEN_SECONDS else now
        _failing[store] = first, now
    return first


def _asked_pause(error: BaseException) -> float:
    """Return how long a store asked us to wait: at most as long as we ever do."""
    for one in chain(error):
        response: Any = getattr(one, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        headers: Any = getattr(one, "headers", None) or metadata.get("HTTPHeaders") or {}
        text = str(headers.get("retry-after", headers.get("Retry-After", ""))) if hasattr(headers, "get") else ""
        if text.isdecimal():
            return min(float(text), LONGEST_PAUSE)
        with suppress(ValueError):
            return min(max(0.0, parsedate_to_datetime(text).timestamp() - time.time()), LONGEST_PAUSE)
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
