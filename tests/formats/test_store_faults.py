"""What stores that fail do to reading: errors, never zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.formats.served import Handler, Served
from tests.formats.test_ranges import KINDS, opened, write
from wkdask.errors import StorageError
from wkdask.geometry.grid import Box
from wkdask.storage import Location

pytestmark = pytest.mark.usefixtures("fresh")


def truncated(handler: Handler, body: bytes) -> bool:
    if not body:
        return False
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Content-Range", handler.told)
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True
    return True


def reset(handler: Handler, _: bytes) -> bool:
    handler.close_connection = True
    return True


def with_status(status: int) -> Any:
    def answer(handler: Handler, _: bytes) -> bool:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return answer


FAULTS = {"truncated": truncated, "reset": reset, "500": with_status(500), "503": with_status(503), "403": with_status(403)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_failures_are_never_zeros(folder: Path, server: Served, kind: str, fault: str, known: bool) -> None:
    path, _ = write(folder, kind)
    array, box = opened(Location(f"{server.url}/{path}"), kind), Box((0,) * 4, (1, 32, 32, 32))
    if known:
        array.read(box)
    server.fault = FAULTS[fault]
    with pytest.raises(StorageError):
        array.read(box)
