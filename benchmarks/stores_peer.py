"""Compare with the `webknossos` library on an S3 store (SeaweedFS) behind a proxy that answers 20 ms late.

open     a dataset is opened, and one magnification: requests
cuts     50 cut-outs of 128 x 128 x 128 voxels anywhere
convert  slices are converted straight to the store
copy     a local dataset is copied to the store

The same lines of Python run in each library's environment, one process a row; imports are not counted. What both read is the
same, or the row is an error. Ratios are theirs/ours: above 1, ours is better.

    python benchmarks/stores_peer.py --peer .oracles/webknossos/bin/python
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from data import em_slice, parse_size
from measuring import machine, print_rows

import wkdask as wk

HOME = Path(__file__).parents[1]
sys.path.insert(0, str(HOME))

from tests.services.stores import KEY, SECRET, Store, seaweedfs  # noqa: E402 - of the repository, not of the package

ROWS = ("open", "cuts", "convert", "copy")
DELAY = 0.02
LONGEST = 120
"""Seconds of a row; what takes longer is given up, and has no figures."""

PROGRAM = """
import importlib, json, random, sys, time
wk = importlib.import_module(sys.argv[1])
row, folder, url, local, images, cuts = sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5], sys.argv[6], int(sys.argv[7])
key, secret, endpoint = sys.argv[8:11]
import s3fs
if sys.argv[1] == "wkdask":
    wk.Dataset  # which is imported when it is first asked for
    options = {"storage_options": {"key": key, "secret": secret, "endpoint_url": endpoint}}
    place = lambda name: f"{url}/{name}"
else:
    from upath import UPath
    options = {}
    place = lambda name: UPath(f"{url}/{name}", key=key, secret=secret, endpoint_url=endpoint)
total, begin = 0, time.perf_counter()
if row in ("open", "cuts"):
    mag = wk.Dataset.open(place("there"), **options).get_layer("em").get_mag(1)
    size, draw = mag.bounding_box.size, random.Random(1)
    for _ in range(cuts if row == "cuts" else 0):
        edge = [min(int(n), 128) for n in size]
        at = tuple(draw.randint(0, int(n) - e) for n, e in zip(size, edge))
        total += int(mag.read(absolute_offset=at, size=tuple(edge))[..., ::16].sum(dtype="uint64"))
elif row == "convert":
    wk.Dataset.from_images(images, place(f"made-{sys.argv[1]}"), voxel_size=(4, 4, 35), layer_name="em", **options)
else:
    wk.Dataset.open(local).copy_dataset(place(f"copy-{sys.argv[1]}"), **options)
print(json.dumps([time.perf_counter() - begin, total]))
"""


METHODS = (b"GET /", b"PUT /", b"POST /", b"HEAD /", b"DELETE /")


class _Side(asyncio.Protocol):
    """One end of a connection: what comes from there goes to the other end."""

    def __init__(self) -> None:
        self.other: _Side | None = None
        self.waiting: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        for data in self.waiting:
            self.transport.write(data)
        self.waiting.clear()

    def send(self, data: bytes) -> None:
        """Write, or keep until there is a connection."""
        if self.transport is None:
            self.waiting.append(data)
        else:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.other:
            self.other.send(data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self.other and self.other.transport:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class Late:
    """A proxy that counts requests, and passes each on late.

    It passes bytes on, and looks at nothing but the first of them: what it does must not take the processor from those that are
    measured, who share it here, as they would not with a store elsewhere.
    """

    def __init__(self, endpoint: str, delay: float) -> None:
        self._upstream = str(urlsplit(endpoint).hostname), urlsplit(endpoint).port or 80
        self._delay, self.requests, self.endpoint = delay, 0, ""

    def _client(self) -> _Side:
        late, loop = self, asyncio.get_running_loop()

        class Client(_Side):
            """A connection of a client, of which one to the store is made."""

            held: list[bytes] | None = None

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                store = self.other = _Side()
                store.other = self
                self.task = loop.create_task(loop.create_connection(lambda: store, *late._upstream))

            def data_received(self, data: bytes) -> None:
                if self.held is not None:  # the rest of a request that waits
                    self.held.append(data)
                elif data.startswith(METHODS):
                    late.requests += 1
                    self.held = [data]
                    loop.call_later(late._delay, self.release)
                else:
                    super().data_received(data)

            def release(self) -> None:
                held, self.held = self.held or [], None
                for data in held:
                    super().data_received(data)

        return Client()

    @contextmanager
    def running(self) -> Iterator[Late]:
        """Serve while the block runs, in a thread."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(loop.create_server(self._client, "127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(server.close)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def make(work: Path, size: tuple[int, int, int], store: Store) -> None:
    """Write slices and a dataset of them to a disk, and the dataset to the store too."""
    from PIL import Image

    (work / "slices").mkdir()
    for z in range(size[2]):
        Image.fromarray(em_slice(z, (size[1], size[0]))).save(work / "slices" / f"{z:04d}.tif")
    local = wk.Dataset.from_images(work / "slices", work / "local", (4, 4, 35), layer_name="em")
    local.downsample()
    local.copy_dataset(f"{store.url}/there", storage_options=store.options)


def measure(row: str, python: str, module: str, late: Late, store: Store, work: Path, cuts: int) -> dict[str, Any] | None:
    """Return seconds, requests and the sum of what was read, of a row by one of both; None where it does not end."""
    before = late.requests
    places = [work, store.url, work / "local", work / "slices", cuts, KEY, SECRET, late.endpoint]
    command = [python, "-W", "ignore", "-c", PROGRAM, module, row, *map(str, places)]
    keys = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "1",
    }
    endpoints = dict.fromkeys(("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"), late.endpoint)
    environment = {**os.environ, **keys, **endpoints}
    home = HOME if module == "wkdask" else work
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=home, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise RuntimeError(f"{row} by {module} failed: {done.stderr[-2000:]}")
    seconds, total = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": seconds, "requests": late.requests - before, "total": total}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python of the environment of `webknossos`; default: ours alone")
    parser.add_argument("--size", type=parse_size, default=(512, 512, 256), help="x,y,z voxels (default 512,512,256)")
    parser.add_argument("--cuts", type=int, default=50, help="how many cut-outs (default 50)")
    parser.add_argument("--only", default=",".join(ROWS), help="rows (default %(default)s)")
    parser.add_argument("--delay", type=float, default=DELAY, help="seconds of each request (default %(default)s)")
    options = parser.parse_args()
    pythons = {"wkdask": sys.executable} | ({"webknossos": options.peer} if options.peer else {})
    rows: list[tuple[object, ...]] = [("row", "ours, s", "requests", "theirs, s", "requests", "ratio", "ratio of requests")]
    with tempfile.TemporaryDirectory(prefix="wkdask-stores-") as folder:
        data = Path(folder) / "store"
        data.mkdir()
        with seaweedfs(data) as found:
            store = replace(found, folder="lab")
            make(Path(folder), options.size, store)
            with Late(store.endpoint, options.delay).running() as late:
                for row in options.only.split(","):
                    got = {m: measure(row, p, m, late, store, Path(folder), options.cuts) for m, p in pythons.items()}
                    ours, theirs = got["wkdask"], got.get("webknossos")
                    if ours is None or (theirs and theirs["total"] != ours["total"]):
                        raise ValueError(f"{row}: ours did not end, or what was read differs: {got}")
                    words: list[object] = [row, f"{ours['seconds']:.2f}", ours["requests"]]
                    if theirs:
                        words += [f"{theirs['seconds']:.2f}", theirs["requests"]]
                        words += [f"{theirs[what] / ours[what]:.1f}" for what in ("seconds", "requests")]
                    rows.append(tuple(words))
    print(f"{'x'.join(map(str, options.size))} uint8, each request {options.delay} s late; {machine()}")
    print_rows([row + ("",) * (7 - len(row)) for row in rows])


if __name__ == "__main__":
    main()
