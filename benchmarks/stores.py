"""Count the requests, bytes and seconds of reading from a web server that answers 20 ms late.

wkdask       `MagView.read`
tensorstore  tensorstore's own HTTP client, one open array

Cut-outs lie anywhere, or begin at multiples of their edge; `cold` opens the array and its indexes, `warm` is the same again.

    python benchmarks/stores.py --cuts 20 --edge 128
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from data import parse_size
from measuring import machine, print_rows, timed

from wkdask import BoundingBox, Dataset

Corner = tuple[int, int, int]
Read = Callable[[Corner, int], Any]
DELAY = 0.02


class Counted:
    """A web server of a folder, late by some seconds, which counts."""

    def __init__(self, folder: Path, delay: float) -> None:
        self.folder, self.delay, self.requests, self.sent, self.url = folder, delay, 0, 0, ""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer with a file or a range of it."""
        await asyncio.sleep(self.delay)
        self.requests += 1
        path = self.folder / request.path.lstrip("/")
        if not path.is_file():
            raise web.HTTPNotFound
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        size, headers, status = path.stat().st_size, {"ETag": f'"{path.stat().st_mtime_ns}"'}, 200
        start, stop = 0, size
        if found and found[1]:
            start, stop = int(found[1]), min(size, int(found[2] or size) + 1)
        elif found:
            start = max(0, size - int(found[2]))
        if found:
            headers["Content-Range"], status = f"bytes {start}-{stop - 1}/{size}", 206
        with path.open("rb") as file:
            file.seek(start)
            body = file.read(stop - start)
        self.sent += len(body) * (request.method == "GET")
        return web.Response(status=status, body=body, headers=headers)

    @contextmanager
    def running(self) -> Iterator[Counted]:
        """Serve while the block runs, in a thread."""
        loop = asyncio.new_event_loop()
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        runner = web.AppRunner(app)

        async def begin() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

        loop.run_until_complete(begin())
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def make(folder: Path, size: Corner, shard: Corner, data_format: str) -> None:
    """Write a layer that compresses about as images from an electron microscope do."""
    layer = Dataset(str(folder / "brain"), voxel_size=(4, 4, 35)).add_layer(
        "color", "color", data_format=data_format, bounding_box=BoundingBox((0, 0, 0), size)
    )
    noise = np.random.default_rng(0).normal(128, 20, (size[0], size[1], 16)).clip(0, 255).astype("uint8")
    voxels = np.concatenate([np.roll(noise, 7 * n, axis=0) for n in range(-(-size[2] // 16))], axis=2)[:, :, : size[2]]
    layer.add_mag(1, chunk_shape=32, shard_shape=shard).write(voxels)


def readers(url: str, data_format: str) -> dict[str, Callable[[], Read]]:
    """Return the ways to read, each a function that opens the array anew."""

    def by_wkdask() -> Read:
        from wkdask.formats.kept import INDEXES, KEPT

        INDEXES.clear()
        KEPT.clear()
        mag = Dataset.open(f"{url}/brain").get_layer("color").get_mag(1)
        return lambda corner, edge: mag.read(absolute_offset=corner, size=(edge,) * 3)

    def by_tensorstore() -> Read:
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{url}/brain/color/1/"}}
        context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 64 << 20}})
        store = tensorstore.open(spec, open=True, read=True, context=context).result()
        return lambda corner, edge: store[(0, *(slice(a, a + edge) for a in corner))].read(order="F").result()[None]

    return {"wkdask": by_wkdask} | ({"tensorstore": by_tensorstore} if data_format == "zarr3" else {})


def measure(server: Counted, size: Corner, data_format: str, cuts: int, edge: int) -> Iterator[dict[str, Any]]:
    """Yield requests, bytes and seconds of each way and kind of cut-outs."""
    draw = random.Random(1)
    anywhere = [tuple(draw.randint(0, n - edge) for n in size) for _ in range(cuts)]
    aligned = [tuple(a // edge * edge for a in corner) for corner in anywhere]
    for where, corners in (("anywhere", anywhere), ("aligned", aligned)):
        sums = set()
        for way, opened in readers(server.url, data_format).items():
            read: list[Read] = []
            for state in ("cold", "warm"):
                requests, sent = server.requests, server.sent

                def run(read: list[Read] = read, opened: Callable[[], Read] = opened, corners: Any = corners) -> int:
                    read[:] = read or [opened()]
                    return sum(int(read[0](corner, edge)[..., ::8].sum(dtype="uint64")) for corner in corners)

                seconds, _, total = timed(run)
                sums.add(total)
                found = {"requests": (server.requests - requests) / cuts, "megabytes": (server.sent - sent) / cuts / 1e6}
                yield {"cut-outs": where, "way": way, "state": state, **found, "seconds": seconds / cuts}
        if len(sums) != 1:
            raise ValueError(f"the ways to read differ in what they read: {sums}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=(512, 512, 256), help="x,y,z voxels (default 512,512,256)")
    parser.add_argument("--shard", type=parse_size, default=(512, 512, 512), help="x,y,z voxels (default 512,512,512)")
    parser.add_argument("--format", default="zarr3", choices=["zarr3", "wkw"])
    parser.add_argument("--cuts", type=int, default=20, help="how many cut-outs (default 20)")
    parser.add_argument("--edge", type=int, default=128, help="voxels along each axis of a cut-out (default 128)")
    parser.add_argument("--delay", type=float, default=DELAY, help="seconds of each request (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.size, options.shard, options.format)
        with Counted(Path(folder), options.delay).running() as server:
            found = list(measure(server, options.size, options.format, options.cuts, options.edge))
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'x'.join(map(str, options.size))} uint8 in shards of {options.shard}, for each cut-out; {machine()}")
    print_rows([tuple(found[0]), *(tuple(f"{v:.2f}" if isinstance(v, float) else v for v in row.values()) for row in found)])


if __name__ == "__main__":
    main()
