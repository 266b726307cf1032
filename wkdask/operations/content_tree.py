"""The tree of hashes over a dataset's voxels: its value, its file, and where two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wkdask.operations.cell_hash import CELL, DIGEST, Cells, Digests, root_hash

Triple = tuple[int, int, int]


def document_hash(document: Mapping[str, Any]) -> str:
    """Return the hash of a JSON document: keys sorted, no blanks, all but ASCII escaped.

    Examples
    --------
    >>> document_hash({"b": 1, "a": [2, "3"]})
    '2df41f6186cd6dc6a9629af6f37bbab3'
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=DIGEST, person=b"wkdask-json-1").hexdigest()


@dataclass(frozen=True)
class VolumeTree:
    """The cells of one channel, at one position along each further axis.

    Parameters
    ----------
    at
        Names and positions: c, counted from the layer's first channel, and further axes, sorted by name.
    cells, digests
        Coordinates x, y, z and hashes of the cells that are not zero, sorted: z first, then y, then x.
    """

    at: tuple[tuple[str, int], ...]
    cells: Cells = field(repr=False, compare=False)
    digests: Digests = field(repr=False, compare=False)
    root: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", root_hash(self.cells, self.digests).hex())


@dataclass(frozen=True)
class MagTree:
    """One magnification.

    Parameters
    ----------
    layer, mag
        Names.
    about
        What holds of all its voxels: ``mag``, ``dtype``, ``channels``, ``box`` and further ``axes``, as `content_hash` has it.
    volumes
        Those that have a voxel other than 0, sorted.
    """

    layer: str
    mag: str
    about: Mapping[str, Any]
    volumes: tuple[VolumeTree, ...]

    @property
    def hash(self) -> str:
        """Of the magnification: voxels, dtype, channels, and its box in voxels of the magnification."""
        return document_hash({**self.about, "volumes": [[dict(v.at), v.root] for v in self.volumes]})


@dataclass(frozen=True)
class LayerTree:
    """One layer: its name, its box in mag-1 voxels, and its magnifications."""

    name: str
    box: tuple[Triple, Triple]
    mags: tuple[MagTree, ...]

    @property
    def hash(self) -> str:
        """Of the layer: its box and all its magnifications, but not its name."""
        return document_hash({"box": self.box, "mags": {mag.mag: mag.hash for mag in self.mags}})


@dataclass(frozen=True)
class ContentTree:
    """The hashes of a dataset, or of what was chosen of it.

    Parameters
    ----------
    path
        Of the dataset.
    voxel_size, unit
        Edges of a mag-1 voxel along x, y, z.
    layers
        Its layers, in the order of the dataset's JSON.
    """

    path: str
    voxel_size: tuple[float, float, float]
    unit: str
    layers: tuple[LayerTree, ...]

    @property
    def hash(self) -> str:
        """Of all: the layers by their names, and the size of a voxel."""
        size = [*map(float, self.voxel_size)]
        return document_hash({"layers": {x.name: x.hash for x in self.layers}, "unit": self.unit, "voxel_size": size})

    @property
    def content(self) -> str:
        """The hash of the voxels alone: the layers whatever their names, voxels whatever their size."""
        return document_hash({"layers": sorted(layer.hash for layer in self.layers)})

    def only(self, layers: Sequence[str], mags: Sequence[str]) -> ContentTree:
        """Return the tree of some layers and magnifications, by their names; all where none is named."""
        kept = (layer for layer in self.layers if layer.name in layers or not layers)
        return replace(
            self,
            layers=tuple(replace(x, mags=tuple(m for m in x.mags if m.mag in mags or not mags)) for x in kept),
        )

    @property
    def cells(self) -> int:
        """Cells that are not zero."""
        return sum(len(v.cells) for layer in self.layers for mag in layer.mags for v in mag.volumes)

    def to_dict(self, content_only: bool = False) -> dict[str, Any]:
        """Return all but the cells as JSON."""
        layers = [
            {"name": x.name, "hash": x.hash, "mags": [{"mag": m.mag, "hash": m.hash, **_counts(m)} for m in x.mags]}
            for x in self.layers
        ]
        return {"path": self.path, "hash": self.content if content_only else self.hash, "layers": layers}

    def told(self, content_only: bool = False) -> str:
        """Return the hashes for people: a line for each magnification and layer, the whole first."""
        lines = [f"{self.content if content_only else self.hash}  {self.path}"]
        for layer in self.layers:
            lines.append(f"{layer.hash}  {layer.name}")
            lines += [f"{mag.hash}  {layer.name}/{mag.mag}" for mag in layer.mags]
        return "\n".join(lines)


def _counts(mag: MagTree) -> dict[str, int]:
    return {"volumes": len(mag.volumes), "cells": sum(len(v.cells) for v in mag.volumes)}


@dataclass(frozen=True, slots=True)
class Differing:
    """Something that two trees have not in common.

    Parameters
    ----------
    layer, mag
        Names; empty where it is the dataset's or the layer's.
    reason
        What differs, where it is no cell.
    at
        Channel and positions along further axes of a cell.
    start, stop
        Its voxels x, y, z in the magnification, and in mag-1 voxels.
    """

    layer: str
    mag: str
    reason: str = ""
    at: tuple[tuple[str, int], ...] = ()
    start: Triple | None = None
    stop: Triple | None = None
    factor: Triple = (1, 1, 1)

    def _in_mag_1(self, voxel: Triple) -> Triple:
        x, y, z = (n * f for n, f in zip(voxel, self.factor, strict=True))
        return x, y, z

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        found: dict[str, Any] = {"layer": self.layer, "mag": self.mag, "reason": self.reason, "at": dict(self.at)}
        for name, corner in (("start", self.start), ("stop", self.stop)):
            found[name] = corner
            found[f"{name}_mag1"] = None if corner is None else self._in_mag_1(corner)
        return found

    def __str__(self) -> str:
        name = "/".join(filter(None, (self.layer, self.mag))) or "dataset"
        if self.start is None or self.stop is None:
            return f"{name}: {self.reason}"
        at = ", ".join(f"{axis}={n}" for axis, n in self.at)
        one = f"; in mag 1 {self._in_mag_1(self.start)} to {self._in_mag_1(self.stop)}" if self.factor != (1, 1, 1) else ""
        return f"{name}: {at}, voxels {self.start} to {self.stop}{one}"


def differences(a: ContentTree, b: ContentTree) -> Iterator[Differing]:
    """Yield where two trees differ: by what describes them, then cell by cell.

    Layers, magnifications and volumes with the same hash are passed over.
    """
    if (a.voxel_size, a.unit) != (b.voxel_size, b.unit):
        yield Differing("", "", f"voxels of {a.voxel_size} {a.unit} and {b.voxel_size} {b.unit}")
    layers = {x.name: x for x in a.layers}, {x.name: x for x in b.layers}
    for name in dict.fromkeys([*layers[0], *layers[1]]):
        left, right = layers[0].get(name), layers[1].get(name)
        if left is None or right is None:
            yield Differing(name, "", f"only in the {'first' if left else 'second'}")
        elif left.hash != right.hash:
            yield from _in_layer(left, right)


def _in_layer(a: LayerTree, b: LayerTree) -> Iterator[Differing]:
    if a.box != b.box:
        yield Differing(a.name, "", f"the box is {told_box(a.box)} and {told_box(b.box)}")
    mags = {x.mag: x for x in a.mags}, {x.mag: x for x in b.mags}
    for name in dict.fromkeys([*mags[0], *mags[1]]):
        left, right = mags[0].get(name), mags[1].get(name)
        if left is None or right is None:
            yield Differing(a.name, name, f"only in the {'first' if left else 'second'}")
        elif left.hash != right.hash:
            yield from _in_mag(left, right)


def told_box(box: tuple[Triple, Triple]) -> str:
    """Return a box for people.

    Examples
    --------
    >>> told_box(((0, 0, 0), (64, 48, 20)))
    '(0, 0, 0) to (64, 48, 20)'
    """
    return f"{box[0]} to {box[1]}"


def _in_mag(a: MagTree, b: MagTree) -> Iterator[Differing]:
    for key in sorted({*a.about} | {*b.about}):
        if a.about.get(key) != b.about.get(key):
            yield Differing(a.layer, a.mag, f"{key} is {a.about.get(key)} and {b.about.get(key)}")
    x, y, z = a.about["mag"]
    volumes = {v.at: v for v in a.volumes}, {v.at: v for v in b.volumes}
    for at in sorted({*volumes[0], *volumes[1]}):
        left, right = volumes[0].get(at), volumes[1].get(at)
        if left is None or right is None or left.root != right.root:
            for cell in _cells(left, right):
                start = int(cell[0]) * CELL, int(cell[1]) * CELL, int(cell[2]) * CELL
                stop = start[0] + CELL, start[1] + CELL, start[2] + CELL
                yield Differing(a.layer, a.mag, "", at, start, stop, (x, y, z))


def _cells(a: VolumeTree | None, b: VolumeTree | None) -> Cells:
    """Return the cells that are not the same in two volumes, sorted."""
    there = [volume for volume in (a, b) if volume is not None]
    cells = np.concatenate([volume.cells for volume in there])
    digests = np.concatenate([volume.digests for volume in there])
    order = np.lexsort((*digests.T, *cells.T))
    cells, digests = cells[order], digests[order]
    same = (cells[1:] == cells[:-1]).all(axis=1) & (digests[1:] == digests[:-1]).all(axis=1)
    alone = np.ones(len(cells), bool)
    alone[1:] &= ~same
    alone[:-1] &= ~same
    left = cells[alone]
    first = np.ones(len(left), bool)
    first[1:] = (left[1:] != left[:-1]).any(axis=1)
    return left[first]
