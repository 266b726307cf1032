"""Hashes of cells, and of the octree over them: numbers of voxels and nothing of how they are stored.

What is hashed is defined in ``docs/equality.md``, so that other programs can do the same.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

CELL = 32
"""Voxels along each edge of a cell."""
LEVELS = 27
"""Of the octree: its root covers cells from -2^26 to 2^26 along each axis."""
DIGEST = 16
"""Bytes of a hash."""
OF_CELL, OF_NODE = b"wkdask-cell-1", b"wkdask-node-1"

Array = np.ndarray[Any, Any]
Cells = np.ndarray[tuple[int, int], np.dtype[np.int64]]
"""Coordinates x, y, z of cells, one row each."""
Digests = np.ndarray[tuple[int, int], np.dtype[np.uint8]]
"""Hashes, one row each."""


def hash_cells(block: Array, start: tuple[int, int, int]) -> tuple[Cells, Digests]:
    """Hash the cells of a block of voxels; those that are zero in every bit have no hash.

    Parameters
    ----------
    block
        Voxels in the order z, y, x. What its cells have beside it counts as zero.
    start
        Of the block, along z, y, x, in voxels of its magnification from the dataset's origin.

    Returns
    -------
    cells, digests
        Coordinates x, y, z of the cells, in units of cells from the origin, and their hashes.

    Examples
    --------
    >>> cells, digests = hash_cells(np.ones((1, 1, 40), "uint8"), (0, 64, 0))
    >>> cells.tolist(), digests[1].tobytes().hex()
    ([[0, 2, 0], [1, 2, 0]], '0860d343684c8113c457bd6d0efdd032')
    """
    dtype = block.dtype.name.encode()
    first = [a // CELL for a in start]
    whole = _whole_cells(block.astype(block.dtype.newbyteorder("<"), copy=False), start)
    counts = tuple(n // CELL for n in whole.shape)
    split = whole.reshape(counts[0], CELL, counts[1], CELL, counts[2], CELL)
    cells, digests = [], []
    for k in range(counts[0]):  # a layer of cells after the other, as each is copied
        planes = np.ascontiguousarray(split[k].transpose(1, 3, 0, 2, 4)).view(np.uint8).reshape(counts[1] * counts[2], CELL, -1)
        used: np.ndarray[Any, np.dtype[np.bool_]] = np.any(planes.view(np.uint64), axis=2)
        for n in np.flatnonzero(used.any(axis=1)):
            among = np.flatnonzero(used[n])
            a, b = int(among[0]), int(among[-1]) + 1
            hashed = hashlib.blake2b(b"%s %d %d\n" % (dtype, a, b), digest_size=DIGEST, person=OF_CELL)
            hashed.update(planes[n, a:b].data)
            j, i = divmod(int(n), counts[2])
            cells.append((first[2] + i, first[1] + j, first[0] + k))
            digests.append(hashed.digest())
    return np.array(cells, np.int64).reshape(-1, 3), as_digests(b"".join(digests))


def as_digests(data: bytes) -> Digests:
    """Return hashes that lie one behind the other as rows."""
    return np.frombuffer(data, np.uint8).reshape(-1, DIGEST)


def _whole_cells(block: Array, start: tuple[int, int, int]) -> Array:
    """Return a block with zeros around it, so that it consists of whole cells: itself where it does."""
    around = [(a % CELL, -(a + n) % CELL) for a, n in zip(start, block.shape, strict=True)]
    if not any(a or b for a, b in around):
        return block
    whole = np.zeros([n + a + b for n, (a, b) in zip(block.shape, around, strict=True)], block.dtype)
    whole[tuple(slice(a, a + n) for n, (a, _) in zip(block.shape, around, strict=True))] = block
    return whole


def in_order(cells: Cells, digests: Digests) -> tuple[Cells, Digests]:
    """Return cells sorted: z first, then y, then x.

    Examples
    --------
    >>> in_order(np.array([[1, 0, 1], [0, 5, 0]]), np.zeros((2, 16), "uint8"))[0].tolist()
    [[0, 5, 0], [1, 0, 1]]
    """
    order = np.lexsort(cells.T)
    return cells[order], digests[order]


def root_hash(cells: Cells, digests: Digests) -> bytes:
    """Return the hash of the root of the octree over cells; sixteen zeros where there are none.

    Examples
    --------
    >>> root_hash(*hash_cells(np.zeros((4, 4, 4), "uint8"), (0, 0, 0))).hex()
    '00000000000000000000000000000000'
    >>> root_hash(*hash_cells(np.ones((4, 4, 4), "uint8"), (0, 0, 0))).hex()
    '679685f7349278ddf08e7a90e84a893c'
    """
    if not len(cells):
        return bytes(DIGEST)
    nodes = cells + (1 << LEVELS - 1)
    for _ in range(LEVELS):
        nodes, digests = _parents(nodes, digests)
    return bytes(digests[0])


def _parents(nodes: Cells, digests: Digests) -> tuple[Cells, Digests]:
    """Return the nodes of the next level: hashes of their eight children's, x fastest; zeros where there is none."""
    order = np.lexsort((nodes >> 1).T)
    nodes, digests = nodes[order], digests[order]
    above = nodes >> 1
    new = np.ones(len(nodes), bool)
    new[1:] = (above[1:] != above[:-1]).any(axis=1)
    children = np.zeros((int(new.sum()), 8, DIGEST), np.uint8)
    children[np.cumsum(new) - 1, (nodes & 1) @ (1, 2, 4)] = digests
    found = (hashlib.blake2b(eight.data, digest_size=DIGEST, person=OF_NODE).digest() for eight in children)
    return above[new], as_digests(b"".join(found))
