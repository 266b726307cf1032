"""Count what shards of some shapes cost on an object store: objects, requests, index, and money. Nothing is read or written.

By the layout alone: a cut-out that lies anywhere touches 1 + (edge - 1) / shard units along an axis on average, each by a
request for its index and one for chunks at least. Objects above 32 MiB go in parts, which are requests of their own. Prices
are those of a million requests, by default the list prices of a large store, in dollars.

    python benchmarks/shards.py --voxels 1e12 --edge 128
"""

from __future__ import annotations

import argparse
from math import ceil, prod

from data import parse_size

from wkdask.storage.uploads import SPOOL_BYTES

SHARDS = ["128,128,128", "256,256,256", "512,512,512", "1024,1024,1024", "4096,4096,32"]
ENTRY = 16
"""Bytes of a chunk in a shard's index."""


def row(shard: tuple[int, ...], options: argparse.Namespace) -> list[str]:
    """Return the cells of one shape."""
    size = prod(shard) * options.ratio
    parts = 1 if size <= SPOOL_BYTES else ceil(size / SPOOL_BYTES) + 3  # with a note, a beginning and an end
    objects = options.voxels / prod(shard)
    touched = prod(1 + (options.edge - 1) / edge for edge in shard)
    index = ENTRY * prod(ceil(edge / options.chunk) for edge in shard)
    return [
        " × ".join(map(str, shard)),
        f"{objects:,.0f}",
        f"{size / 1e6:,.1f} MB",
        f"{objects * parts:,.0f}",
        f"${objects * parts * options.put / 1e6:,.2f}",
        f"{index / 1024:,.0f} KiB",
        f"{2 * touched:.1f}",
        f"${2 * touched * options.get:,.2f}",
    ]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="*", default=SHARDS, help="shapes such as 1024,1024,1024")
    parser.add_argument("--voxels", type=float, default=1e12, help="of the volume")
    parser.add_argument("--ratio", type=float, default=0.7, help="stored bytes for each voxel")
    parser.add_argument("--edge", type=int, default=128, help="of a cut-out, in voxels")
    parser.add_argument("--chunk", type=int, default=32, help="edge of a chunk")
    parser.add_argument("--put", type=float, default=5.0, help="price of a million requests that write")
    parser.add_argument("--get", type=float, default=0.4, help="price of a million requests that read")
    options = parser.parse_args()
    head = [
        "shard",
        "objects",
        "of",
        "requests that write",
        "cost",
        "index",
        "requests of a cut-out, at least",
        "cost of a million",
    ]
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *(row(parse_size(shard), options) for shard in options.shards)]
    for cells in lines:
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
