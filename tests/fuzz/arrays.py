"""Slots of arrays: small ones of every format, codec and way of reading, each with documents and files that can be damaged."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import numcodecs
import numpy as np
import tensorstore
import zarr

from tests.fuzz.damage import Finding, Slot
from wkdask.formats import ArrayHandle, ArraySpec, Codec, Format, find_format, parse_codec
from wkdask.formats.shard import checksum
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, VoxelSize
from wkdask.storage import Location

FEW_BYTES, FEW_CHUNKS = 1 << 20, 1 << 14
"""Of voxels that are all read, and of files that are asked for; of larger arrays, corners are."""
SEGMENTATION = "compressed_segmentation"
SHAPE, CHUNK, UNIT = (1, 16, 16, 16), (1, 8, 8, 8), (1, 16, 16, 16)

Array = np.ndarray[Any, Any]


def voxels(shape: tuple[int, ...], dtype: str) -> Array:
    """Return voxels that compressors find something in, no chunk of them all zero."""
    rng = np.random.default_rng(7)
    found = np.repeat(rng.integers(1, 9, shape[:-1])[..., None], shape[-1], axis=-1)
    found[..., : shape[-1] // 3] += rng.integers(0, 90, (*shape[:-1], shape[-1] // 3))
    return found.astype(dtype)


@dataclass(frozen=True)
class Reader:
    """Opens an array, and reads whatever there is of it.

    Parameters
    ----------
    form
        Its format.
    place
        Where it lies.
    units
        Those that were stored.
    truth
        The voxels, where only those, or an error, may come out.
    end
        The layer's end.
    """

    form: Format
    place: Location
    units: tuple[tuple[int, ...], ...]
    truth: Array | None = None
    end: tuple[int, int, int] | None = None

    def __call__(self, slot: Slot) -> None:
        """Read corners or all, inspect units, list them."""
        self.form.detect(self.place)
        handle: ArrayHandle | None = slot.attempt(lambda: self.form.open(self.place, self.end))
        if handle is None:
            return
        whole = handle.spec.grid.box
        for box in self._boxes(whole, handle.spec):
            found = slot.attempt(lambda box=box: handle.read(box))
            self._compare(found, box, handle)
        for unit in self.units:
            if len(unit) == len(whole.shape):
                slot.attempt(lambda unit=unit: handle.inspect(unit))
        for unit in slot.attempt(lambda: list(islice(handle.written_units(), 20))) or ():
            slot.attempt(lambda unit=unit: handle.unit_location(unit))

    def _boxes(self, whole: Box, spec: ArraySpec) -> Iterator[Box]:
        if not whole.size:
            return
        if whole.size * spec.itemsize <= FEW_BYTES and spec.grid.chunks().cells.size <= FEW_CHUNKS:
            yield whole
        for start in (whole.start, tuple(max(0, n - 2) for n in whole.stop), tuple(min(n - 1, 7) for n in whole.stop)):
            yield Box(start, tuple(min(a + 3, n) for a, n in zip(start, whole.stop, strict=True)))

    def _compare(self, found: Array | None, box: Box, handle: ArrayHandle) -> None:
        if found is None:
            return
        if found.shape != box.shape or found.dtype != handle.spec.dtype:
            raise Finding(f"{found.shape} {found.dtype} was read for {box} of {handle.spec}")
        if self.truth is not None and not np.array_equal(found, self.truth[box.slices]):
            raise Finding(f"wrong voxels were read for {box}")


def new_place(folder: Path, kind: str) -> Location:
    """Return where a dataset can lie."""
    name = uuid4().hex
    return Location(str(folder / name) if kind == "local" else f"memory://{name}")


def read_units(handle: ArrayHandle) -> tuple[tuple[int, ...], ...]:
    """Return the units that are stored."""
    return tuple(sorted(handle.written_units()))


def slots_of(
    form: Format, place: Location, label: str, documents: Iterable[str], *, sure: bool = False, index: int = 0
) -> Iterator[Slot]:
    """Yield the slots of an array that was made: its documents, and the file of its first unit.

    ``sure`` says that its files have checksums; ``index`` are the bytes of a shard's index, with its checksum behind it.
    """
    handle = form.open(place, SHAPE[1:])
    units, root = read_units(handle), place.parent
    truth = handle.read(handle.spec.grid.box)
    look = Reader(form, place, units, end=SHAPE[1:])
    for name in documents:
        document = (root / name.removeprefix("../")) if name.startswith("../") else place / name
        yield Slot(f"{label} {name}", document, document.read_bytes(), root, look)
    file = handle.unit_location(units[0])
    content = file.read_bytes()
    yield Slot(f"{label} unit", file, content, root, Reader(form, place, units, truth if sure else None, SHAPE[1:]))
    if index:
        yield Slot(f"{label} unit, index repaired", file, content, root, look, lambda data: with_checksum(data, index))


def with_checksum(data: bytes, size: int) -> bytes:
    """Return a shard's file with the right checksum of its index of ``size`` bytes."""
    index = data[-size - 4 : -4]
    return data[:-4] + struct.pack("<I", checksum(index)) if len(index) == size else data


def made(form: Format, place: Location, codec: str, dtype: str = "uint16", chunk: tuple[int, ...] = CHUNK) -> None:
    """Make an array by ourselves."""
    unit = UNIT if form.sharded else chunk
    array = form.create(place, ArraySpec(SHAPE, dtype, tuple("cxyz"), chunk, unit, parse_codec(codec)))
    array.write(array.spec.grid.box, voxels(SHAPE, dtype))


def copied(folder: Path, target: Location) -> Location:
    """Return a dataset in memory with the files of a local one."""
    for file in folder.rglob("*"):
        if file.is_file():
            (target / str(file.relative_to(folder))).write_bytes(file.read_bytes())
    return target


def both(folder: Path, local: Location) -> Iterator[Location]:
    """Yield a local array ``dataset/layer/1``, and a copy of it on a store."""
    yield local
    yield copied(Path(local.parent.parent.url), new_place(folder, "memory")) / "layer" / "1"


def wkw(folder: Path) -> Iterator[Slot]:
    """Headers, jump tables and blocks."""
    form = find_format("wkw")
    for kind in ("local", "memory"):
        for codec, dtype in (("lz4", "uint16"), ("lz4hc", "uint8"), ("none", "uint32")):
            place = new_place(folder, kind) / "layer" / "1"
            made(form, place, codec, dtype)
            yield from slots_of(form, place, f"wkw {kind} {codec}", ["header.wkw"])


def zarr3(folder: Path) -> Iterator[Slot]:
    """Our shards, read by tensorstore and by ourselves, with and without checksums."""
    form = find_format("zarr3")
    index = 16 * 8
    for kind in ("local", "memory"):
        for codec in ("zstd:1", "gzip:1", "none", "blosc-lz4:5", "blosc-zstd:1", "blosc-zlib:1", "blosc-blosclz:1"):
            place = new_place(folder, kind) / "layer" / "1"
            made(form, place, codec)
            sure = codec.startswith(("zstd", "gzip"))
            yield from slots_of(form, place, f"zarr3 {kind} {codec}", [], sure=sure, index=index)


def zarr3_documents(folder: Path) -> Iterator[Slot]:
    """``zarr.json`` of ours and of others."""
    form = find_format("zarr3")
    others: list[dict[str, Any]] = [
        {},
        {"shards": UNIT, "compressors": zarr.codecs.BloscCodec(cname="zstd", clevel=1)},
        {"filters": [zarr.codecs.TransposeCodec(order=(0, 3, 2, 1))], "compressors": [zarr.codecs.GzipCodec(level=1)]},
        {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": [zarr.codecs.Crc32cCodec()]},
        {"serializer": zarr.codecs.ShardingCodec(chunk_shape=(1, 4, 4, 4), index_location="start"), "compressors": []},
    ]
    for kind in ("local", "memory"):
        for codec in ("zstd:1", "blosc-lz4:5"):
            place = new_place(folder, kind) / "layer" / "1"
            made(form, place, codec)
            yield from slots_of(form, place, f"zarr3 {kind} {codec}", ["zarr.json"])
    for number, options in enumerate(others):
        local = new_place(folder, "local") / "layer" / "1"
        _by_zarr(local, 3, **options)
        for place in both(folder, local):
            yield from slots_of(form, place, f"zarr3 {'local' if place.is_local else 'memory'} other {number}", ["zarr.json"])


def _by_zarr(local: Location, version: int, **options: Any) -> None:
    usual = {"chunks": CHUNK, "dtype": "uint16", "fill_value": 0, **options}
    array = zarr.create_array(local.url, shape=SHAPE, zarr_format=version, **usual)  # type: ignore[arg-type]
    array[...] = voxels(SHAPE, "uint16")


def zarr2(folder: Path) -> Iterator[Slot]:
    """``.zarray`` and chunks of all compressors."""
    form = find_format("zarr")
    blosc = [numcodecs.Blosc(name, 1, shuffle) for name, shuffle in (("lz4", 1), ("zstd", 2), ("zlib", 1), ("blosclz", 0))]
    others = [numcodecs.Zlib(1), numcodecs.GZip(1), numcodecs.BZ2(1), numcodecs.LZMA(preset=0), numcodecs.LZ4()]
    for codec in (None, *blosc, *others, numcodecs.Zstd(1)):
        local = new_place(folder, "local") / "layer" / "1"
        filters = [numcodecs.Delta("<u2")] if codec == others[0] else None
        order = "F" if codec == others[1] else "C"
        _by_zarr(local, 2, compressors=codec, filters=filters, order=order)
        name = codec.codec_id + getattr(codec, "cname", "") if codec else "none"
        for place in both(folder, local):
            yield from slots_of(form, place, f"zarr {'local' if place.is_local else 'memory'} {name}", [".zarray"])


def n5(folder: Path) -> Iterator[Slot]:
    """``attributes.json`` and blocks of all compressions."""
    form = find_format("n5")
    for codec in ("none", "gzip:1", "zstd:1", "lz4", "blosc-lz4:1", "blosc-zstd:1", "bzip2", "xz", "zlib"):
        local = new_place(folder, "local") / "layer" / "1"
        if codec in ("bzip2", "xz", "zlib"):
            compression = {"type": "gzip", "useZlib": True, "level": 1} if codec == "zlib" else {"type": codec}
            metadata = {"dimensions": SHAPE, "blockSize": CHUNK, "dataType": "uint16", "compression": compression}
            store = {"driver": "file", "path": local.url + "/"}
            array = tensorstore.open({"driver": "n5", "kvstore": store, "metadata": metadata}, create=True).result()
            array.write(voxels(SHAPE, "uint16")).result()
        else:
            made(form, local, codec)
        for place in both(folder, local):
            yield from slots_of(form, place, f"n5 {'local' if place.is_local else 'memory'} {codec}", ["attributes.json"])


def precomputed(folder: Path) -> Iterator[Slot]:
    """``info`` and chunks of all encodings, and shards."""
    form = find_format("neuroglancerPrecomputed")
    for kind in ("local", "memory"):
        for codec, dtype in ((None, "uint16"), (SEGMENTATION, "uint64"), (SEGMENTATION, "uint32"), ("png", "uint8")):
            dataset = new_place(folder, kind)
            spec = ArraySpec(SHAPE, dtype, tuple("cxyz"), CHUNK, CHUNK, Codec(codec) if codec else None)
            array = form.create(dataset / "layer" / "1", spec)
            array.write(array.spec.grid.box, voxels(SHAPE, dtype))
            layer = LayerProperties.from_dict(
                {
                    "name": "layer", "category": "color", "elementClass": dtype, "dataFormat": form.name,
                    "boundingBox": {"topLeft": [0, 0, 0], "width": 16, "height": 16, "depth": 16},
                    "mags": [{"mag": [1, 1, 1], "path": "layer/1"}],
                }
            )  # fmt: skip
            form.write_groups(dataset, layer, VoxelSize((1, 1, 1)))
            yield from slots_of(form, dataset / "layer" / "1", f"precomputed {kind} {codec} {dtype}", ["../info", "scale.json"])
    yield from _sharded(folder, form)


def _sharded(folder: Path, form: Format) -> Iterator[Slot]:
    for encoding, index, data in (("raw", "raw", "raw"), (SEGMENTATION, "gzip", "gzip"), ("jpeg", "gzip", "raw")):
        local, dtype = new_place(folder, "local") / "layer" / "1", {"jpeg": "uint8", "raw": "uint16"}.get(encoding, "uint32")
        sharding = {
            "@type": "neuroglancer_uint64_sharded_v1", "hash": "identity", "preshift_bits": 1, "minishard_bits": 1,
            "shard_bits": 0, "minishard_index_encoding": index, "data_encoding": data,
        }  # fmt: skip
        scale = {"key": "1", "size": SHAPE[1:], "resolution": [1, 1, 1], "chunk_size": CHUNK[1:], "encoding": encoding}
        block = {"compressed_segmentation_block_size": [8, 8, 8]} if encoding == SEGMENTATION else {}
        store = tensorstore.open(
            {
                "driver": "neuroglancer_precomputed",
                "kvstore": {"driver": "file", "path": local.parent.url + "/"},
                "multiscale_metadata": {"type": "image", "data_type": dtype, "num_channels": 1},
                "scale_metadata": {**scale, **block, "sharding": sharding},
            },
            create=True,
        ).result()
        store.write(voxels(SHAPE, dtype).transpose(1, 2, 3, 0)).result()
        yield from slots_of(form, local, f"precomputed sharded {encoding}", ["../info"])
