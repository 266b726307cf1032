"""A small piece of made-up tissue: what an electron microscope might show of it, and which cell each voxel belongs to.

Cells are capsules (segments with a radius) that share the space between them: each voxel belongs to the nearest one, and
where two are about as near there is a membrane. Mitochondria are small capsules within cells, and the widest cell has a
nucleus. The same size always gives the same voxels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

Array = np.ndarray[Any, Any]
Size = tuple[int, int, int]

VOXEL_NM = (8.0, 8.0, 30.0)
SLAB = 4
"""Slices that are made at once."""
TILE = 16
"""Edge of the squares in which only near cells are looked at."""
MEMBRANE_NM = 16.0
"""Voxels whose two nearest cells differ by less belong to none: they are membrane, label 0."""


@dataclass(frozen=True)
class Capsules:
    """Segments with a radius, in nanometers (z, y, x)."""

    middle: Array
    half: Array
    radius: Array

    def distance(self, points: Array, which: Array) -> Array:
        """Return the distances of points, shape (n, 3), to the surfaces of some capsules: shape (capsules, n)."""
        origin = points.mean(axis=0)  # squares of numbers near the origin lose less
        points, middle, half = points - origin, self.middle[which] - origin, self.half[which]
        square = np.einsum("kd,kd->k", half, half)[:, None]
        along = half @ points.T - np.einsum("kd,kd->k", middle, half)[:, None]
        share = np.clip(along / square, -1, 1)
        apart = -2 * middle @ points.T
        apart += np.einsum("kd,kd->k", middle, middle)[:, None]
        apart += np.einsum("nd,nd->n", points, points)
        apart += share * (share * square - 2 * along)
        return np.sqrt(np.maximum(apart, 0, out=apart), out=apart) - self.radius[which][:, None]


class Tissue:
    """Makes the volume slab by slab.

    Parameters
    ----------
    size
        Voxels along x, y, z.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self._random = np.random.default_rng(8830)
        extent = np.array([n * edge for n, edge in zip(size[::-1], VOXEL_NM[::-1], strict=True)], np.float32)
        self._cells = self._make_cells(extent)
        self._mitochondria, self._owner = self._make_mitochondria()
        self._brightness = self._random.normal(0, 9, len(self._cells.radius)).astype(np.float32)
        self._waves = [
            (self._random.normal(0, 1 / 330, 3).astype(np.float32), *self._random.uniform(0, 2 * np.pi, 3)) for _ in range(4)
        ]

    def _make_cells(self, extent: Array) -> Capsules:
        random, margin = self._random, 300.0
        count = max(6, round(float(np.prod((extent + 2 * margin) / 1000.0)) * 4.2))
        middle = random.uniform(-margin, extent + margin, (count, 3))
        direction = random.normal(0, 1, (count, 3))
        direction /= np.linalg.norm(direction, axis=1)[:, None]
        half = direction * random.gamma(3, 170, (count, 1))
        radius = random.gamma(4, 34, count)
        middle[0] = extent * (0.5, 0.36, 0.30)  # the widest cell, with a nucleus
        half[0], radius[0] = (40, 160, 120), min(620.0, 0.26 * float(extent[1:].min()))
        return Capsules(*(a.astype(np.float32) for a in (middle, half, radius)))

    def _make_mitochondria(self) -> tuple[Capsules, Array]:
        random, cells = self._random, self._cells
        owner = np.repeat(np.arange(1, len(cells.radius)), 2)
        length = np.linalg.norm(cells.half[owner], axis=1)
        owner = owner[(length > 330) & (random.random(len(owner)) < 0.75)]
        around = np.zeros(9, int)  # those of the widest cell lie around its nucleus
        owner = np.concatenate([owner, around])
        along, count = cells.half[owner], len(owner)
        middle = cells.middle[owner] + random.uniform(-0.8, 0.8, (count, 1)) * along + random.normal(0, 25, (count, 3))
        half = along / np.linalg.norm(along, axis=1)[:, None] * random.uniform(110, 330, (count, 1))
        turn = random.normal(0, 1, (len(around), 3))
        turn /= np.linalg.norm(turn, axis=1)[:, None]
        middle[-len(around) :] = cells.middle[0] + turn * (cells.radius[0] - 60)
        half[-len(around) :] = np.cross(turn, random.normal(0, 1, turn.shape)) * 130
        radius = random.uniform(70, 120, len(owner))
        return Capsules(*(a.astype(np.float32) for a in (middle, half, radius))), owner

    def slabs(self) -> Iterator[tuple[Array, Array]]:
        """Yield raw voxels (uint8) and labels (uint32), each (z, y, x), slab by slab."""
        width, height, depth = self.size
        detector = np.random.default_rng(417)
        fine = coarse = np.zeros((height, width), np.float32)
        for start in range(0, depth, SLAB):
            shape = (min(SLAB, depth - start), height, width)
            owner, near, gap, organelle = self._fields(start, shape)
            raw = np.empty(shape, np.uint8)
            for z in range(shape[0]):
                fine = 0.35 * fine + 0.94 * _smooth(detector, (height, width), 1.6)
                coarse = 0.8 * coarse + 0.6 * _smooth(detector, (height, width), 9)
                grey = self._grey(owner[z], near[z], gap[z], organelle[z], fine, coarse)
                grey += detector.normal(detector.normal(0, 1.5), 7, grey.shape)
                raw[z] = np.clip(grey, 0, 255)
            labels = np.where(gap < MEMBRANE_NM, 0, owner + 1).astype(np.uint32)
            yield raw, labels

    def _fields(self, start: int, shape: tuple[int, int, int]) -> tuple[Array, Array, Array, Array]:
        """Return for each voxel of a slab: its cell, how far it is, how much farther the next one, how far a mitochondrion."""
        owner = np.zeros(shape, np.int32)
        near, gap, organelle = (np.full(shape, 1e4, np.float32) for _ in range(3))
        corners = list(itertools.product(range(0, shape[1], TILE), range(0, shape[2], TILE)))
        tiles = [np.s_[:, y : y + TILE, x : x + TILE] for y, x in corners]
        bent = self._bent(start, shape)
        places = [bent[tile].reshape(-1, 3) for tile in tiles]
        centres = np.stack([points.mean(axis=0) for points in places])
        cells = self._cells.distance(centres, np.arange(len(self._cells.radius))).T
        mitochondria = self._mitochondria.distance(centres, np.arange(len(self._owner))).T
        for tile, points, centre, to_cell, to_mitochondrion in zip(tiles, places, centres, cells, mitochondria, strict=True):
            reach = float(np.linalg.norm(points - centre, axis=1).max())
            which = np.flatnonzero(to_cell <= np.partition(to_cell, 1)[1] + 2 * reach)  # no other can be first or second
            distance = self._cells.distance(points, which)
            first = distance.argmin(axis=0)
            at = np.arange(len(points))
            nearest = distance[first, at]
            distance[first, at] = np.inf
            inside = owner[tile].shape
            owner[tile] = which[first].reshape(inside)
            near[tile], gap[tile] = nearest.reshape(inside), (distance.min(axis=0) - nearest).reshape(inside)
            which = np.flatnonzero(to_mitochondrion <= reach + 60)
            if len(which):
                distance = self._mitochondria.distance(points, which)
                distance[self._owner[which][:, None] != owner[tile].reshape(-1)] = 1e4
                organelle[tile] = distance.min(axis=0).reshape(inside)
        return owner, near, gap, organelle

    def _bent(self, start: int, shape: tuple[int, int, int]) -> Array:
        """Return where the voxels of a slab lie, in nanometers (z, y, x), bent so that no border is straight."""
        corner = (start, 0, 0)
        axes = [(np.arange(n, dtype=np.float32) + c + 0.5) * e for n, c, e in zip(shape, corner, VOXEL_NM[::-1], strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)
        bent = points.copy()
        for wave, *phases in self._waves:
            angle = points @ wave
            for axis, phase in enumerate(phases):
                bent[..., axis] += 34 * np.sin(angle + np.float32(phase))
        return bent

    def _grey(self, owner: Array, near: Array, gap: Array, organelle: Array, fine: Array, coarse: Array) -> Array:
        """Return the brightness of one slice: bright plasm, dark membranes, grey organelles."""
        grey = 172 + self._brightness[owner] + 8 * fine + 5 * coarse
        inside = gap > 1.6 * MEMBRANE_NM
        body = inside & (organelle < 0)
        cristae = 16 * np.sin(organelle / 9 + 2.2 * coarse)
        grey = np.where(body, 118 + cristae + 7 * fine, grey)
        grey -= np.where(inside, 74 * np.exp(-((organelle / 13) ** 2)), 0)
        nucleus = near + 190 + 18 * coarse
        within = (owner == 0) & (nucleus < 0)
        chromatin = 11 * np.tanh(1.6 * (coarse + 0.8 * fine - 0.5)) + 5 * fine + 30 * np.exp(nucleus / 45)
        grey = np.where(within, 164 - chromatin, grey)
        grey -= np.where(owner == 0, 66 * np.exp(-((nucleus / 14) ** 2)), 0)
        grey -= 112 * np.exp(-((gap / 30) ** 2)) * (1 + 0.12 * coarse)
        return grey


def _smooth(random: np.random.Generator, shape: tuple[int, int], length: float) -> Array:
    """Return a plane of noise, smooth over some voxels, of standard deviation 1."""
    noise = random.standard_normal(shape, np.float32)
    along = [np.exp(-2 * (math.pi * length * f) ** 2) for f in (np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1]))]
    plane = np.fft.irfft2(np.fft.rfft2(noise) * along[0][:, None] * along[1], s=shape).astype(np.float32)
    return (plane - plane.mean()) / max(float(plane.std()), 1e-6)


def write_stacks(size: Size, raw: Path, segmentation: Path) -> None:
    """Write the raw images as a folder of TIFF files, and their segmentation as one TIFF file of as many pages."""
    raw.mkdir(parents=True)
    segmentation.parent.mkdir(parents=True, exist_ok=True)
    z = 0
    with tifffile.TiffWriter(segmentation) as pages:
        for grey, labels in Tissue(size).slabs():
            for plane, cells in zip(grey, labels, strict=True):
                tifffile.imwrite(raw / f"slice_{z:03d}.tif", plane)
                pages.write(cells, compression="zlib", contiguous=False, metadata=None)
                z += 1
