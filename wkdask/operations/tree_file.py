"""Files of trees of hashes: JSON lines, as ``docs/equality.md`` has them."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from wkdask.errors import DamagedError, DatasetExistsError, InputError, StorageError
from wkdask.metadata import FILE_NAME
from wkdask.operations.cell_hash import DIGEST, as_digests, in_order
from wkdask.operations.content_tree import ContentTree, LayerTree, MagTree, VolumeTree

VERSION = 1
LONGEST_LINE = 1 << 20


def save_tree(tree: ContentTree, path: Path) -> None:
    """Write a tree to a file, which is replaced when it is complete.

    Raises
    ------
    DatasetExistsError
        Where the file would lie in a dataset.
    StorageError
        Where it can not be written.
    """
    for folder in path.absolute().parents:
        if (folder / FILE_NAME).is_file():
            raise DatasetExistsError(f"{path} lies in the dataset {folder}, which is not written to. Save it elsewhere.")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("w", encoding="ascii") as file:
                file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in _lines(tree))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} can not be written: {error.strerror or error}. Save it elsewhere.") from error


def _lines(tree: ContentTree) -> Iterator[Any]:
    yield {
        "wkdask_tree": VERSION,
        "path": tree.path,
        "hash": tree.hash,
        "voxel_size": list(map(float, tree.voxel_size)),
        "unit": tree.unit,
    }
    for layer in tree.layers:
        yield {"layer": layer.name, "box": layer.box, "hash": layer.hash}
        for mag in layer.mags:
            yield {"magnification": mag.mag, "about": mag.about, "hash": mag.hash}
            for volume in mag.volumes:
                yield {"volume": dict(volume.at), "cells": len(volume.cells), "hash": volume.root}
                for cell, digest in zip(volume.cells, volume.digests, strict=True):
                    yield [*cell.tolist(), digest.tobytes().hex()]


def load_tree(path: Path) -> ContentTree:
    """Read a tree from a file; all hashes above the cells are made anew and compared.

    Raises
    ------
    InputError
        Where it is no such file.
    DamagedError
        Where it is one, but something in it is wrong.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file).tree()
    except OSError as error:
        raise StorageError(f"{path} can not be read: {error.strerror or error}. Check the path.") from error


Part = TypeVar("Part", ContentTree, LayerTree, MagTree)


class _Reader:
    """Reads a file line by line; whatever it says of counts is only compared."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file, self._number = path, file, 0
        self._line: Any = None

    def tree(self) -> ContentTree:
        try:
            self._next()
        except DamagedError:
            self._line = None
        head = self._line
        if not isinstance(head, dict) or head.get("wkdask_tree") != VERSION:
            raise InputError(
                f"{self._path} is no saved tree of hashes of version {VERSION}. "
                "Give a dataset, or what wkdask hash --save wrote."
            )
        try:
            return self._tree(head)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            if isinstance(error, DamagedError):
                raise
            raise self._damaged("is not as it should be") from error

    def _tree(self, head: dict[str, Any]) -> ContentTree:
        self._next()
        layers = []
        while self._is("layer"):
            layers.append(self._layer(self._line))
        if self._line is not None:
            raise self._damaged("is not as it should be")
        x, y, z = map(float, head["voxel_size"])
        return self._checked(ContentTree(str(head["path"]), (x, y, z), str(head["unit"]), tuple(layers)), head)

    def _layer(self, said: dict[str, Any]) -> LayerTree:
        self._next()
        mags = []
        while self._is("magnification"):
            mags.append(self._mag(said["layer"], self._line))
        (a, b, c), (d, e, f) = said["box"]
        return self._checked(LayerTree(str(said["layer"]), ((a, b, c), (d, e, f)), tuple(mags)), said)

    def _mag(self, layer: str, said: dict[str, Any]) -> MagTree:
        self._next()
        volumes = []
        while self._is("volume"):
            volumes.append(self._volume(self._line))
        x, y, z = said["about"]["mag"]
        about = {**said["about"], "mag": [int(x), int(y), int(z)]}
        return self._checked(MagTree(str(layer), str(said["magnification"]), about, tuple(volumes)), said)

    def _volume(self, said: dict[str, Any]) -> VolumeTree:
        cells, digests = array("q"), bytearray()
        self._next()
        while isinstance(self._line, list):
            x, y, z, digest = self._line
            if max(map(abs, (x, y, z))) >= 1 << 26 or len(digest) != 2 * DIGEST:
                raise self._damaged("is no cell")
            cells.extend((x, y, z))
            digests += bytes.fromhex(digest)
            self._next()
        rows = np.frombuffer(cells, np.int64).reshape(-1, 3)
        at = tuple((str(axis), int(n)) for axis, n in sorted(said["volume"].items()))
        volume = VolumeTree(at, *in_order(rows, as_digests(bytes(digests))))
        if volume.root != said["hash"]:
            raise self._damaged(f"ends cells whose root has the hash {volume.root}, not {said['hash']}")
        return volume

    def _checked(self, part: Part, said: dict[str, Any]) -> Part:
        if part.hash != said["hash"]:
            raise self._damaged(f"ends what has the hash {part.hash}, not {said['hash']}")
        return part

    def _is(self, kind: str) -> bool:
        return isinstance(self._line, dict) and kind in self._line

    def _next(self) -> None:
        line = self._file.readline(LONGEST_LINE)
        self._number += 1
        try:
            self._line = json.loads(line) if line else None
        except (ValueError, RecursionError) as error:
            raise self._damaged("is no JSON") from error

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{self._path}, line {self._number} {what}. Save the tree again with wkdask hash --save.")
