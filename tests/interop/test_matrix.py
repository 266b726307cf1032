"""Every array of the table in `matrix`, in both directions with each program that can."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from numcodecs import Blosc, GZip, Zstd
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import wkdask as wk
from tests.interop.matrix import CXYZ, PAGE, WAYS, Cell, cells, page, reason
from wkdask.formats import FORMATS, ArraySpec, open_array
from wkdask.geometry import NDBoundingBox
from wkdask.metadata import LayerProperties, MagProperties, Properties, VoxelSize
from wkdask.storage import Location
from wkdask.testing.strategies import codec_of

Array = np.ndarray[Any, Any]
TABLE = list(enumerate(cells()))
LIMIT = 10
"""Of arrays that differ, in a message."""

PEER = """
import json, sys, zlib
import numpy as np

def crc(voxels):
    return [list(voxels.shape), str(voxels.dtype), zlib.crc32(np.ascontiguousarray(voxels))]

def said(work):
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]

def read_wkw(job):
    import wkw
    return crc(wkw.Dataset.open(job["ours"]).read((0, 0, 0), job["shape"][1:]))

def write_wkw(job):
    import wkw
    voxels = np.load(job["voxels"])
    kind = {"none": 1, "lz4": 2, "lz4hc": 3}[job["codec"]]
    header = wkw.Header(voxels.dtype.type, len(voxels), block_len=4, file_len=2, block_type=kind)
    whole = np.zeros((len(voxels), 16, 16, 8), voxels.dtype, order="F")
    whole[:, :11, :9, :7] = voxels
    wkw.Dataset.create(job["theirs"], header).write((0, 0, 0), whole)
    return "written"

def read_webknossos(job):
    return crc(source.get_layer(job["layer"]).get_mag(1).read())

def write_webknossos(job):
    voxels = np.load(job["voxels"])
    layer = target.add_layer(
        job["layer"], "color", dtype_per_channel=str(voxels.dtype), num_channels=len(voxels), data_format=job["format"],
        bounding_box=webknossos.BoundingBox((0, 0, 0), voxels.shape[1:]),
    )
    mag = layer.add_mag(1, chunk_shape=4, shard_shape=8, compress=job["codec"] != "none")
    mag.write(voxels, absolute_offset=(0, 0, 0), allow_unaligned=True)
    return "written"

if __name__ == "__main__":
    import webknossos
    jobs = json.load(open(sys.argv[1]))
    source = webknossos.Dataset.open(jobs["source"])
    target = webknossos.Dataset(jobs["target"], voxel_size=(4, 4, 4))
    print(json.dumps([said(lambda: globals()[job["do"]](job)) for job in jobs["jobs"]]))
"""


def voxels_of(cell: Cell) -> Array:
    """Voxels of few values, some chunks of them zero, the dtype's ends among them."""
    found = np.random.default_rng(1).integers(0, 9, cell.shape).astype(cell.dtype)
    ends = np.finfo(cell.dtype) if np.dtype(cell.dtype).kind == "f" else np.iinfo(cell.dtype)
    found.flat[:2] = ends.min, ends.max
    found[..., 4:] = 0
    return found


def write_ours(place: Location, cell: Cell) -> None:
    spec = ArraySpec(cell.shape, cell.dtype, cell.axes, cell.chunk, cell.unit, codec_of(cell.codec))
    FORMATS[cell.format].create(place, spec).write(spec.grid.box, voxels_of(cell))


def read_by_us(place: Location, cell: Cell) -> Array:
    ends = dict(zip(cell.axes, cell.shape, strict=True))
    handle = open_array(place, cell.format, [ends[axis] for axis in "xyz"]).with_axes(cell.axes)
    box = handle.spec.grid.box
    return handle.read(box)[tuple(map(slice, cell.shape))]


# ------------------------------------------------------------------------------------------- libraries at hand


def tensorstore_spec(place: Location, cell: Cell) -> dict[str, Any]:
    if cell.format == "neuroglancerPrecomputed":
        return {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": f"{place.parent.url}/"},
            "scale_metadata": {"key": place.name},
        }
    return {"driver": cell.format, "kvstore": {"driver": "file", "path": f"{place.url}/"}}


def in_our_axes(found: Array, cell: Cell) -> Array:
    """Precomputed volumes have their channels last."""
    return found.transpose(3, 0, 1, 2) if cell.format == "neuroglancerPrecomputed" else found


def read_by_tensorstore(place: Location, cell: Cell) -> Array:
    store = tensorstore.open(tensorstore_spec(place, cell), open=True, read=True).result()
    return in_our_axes(np.asarray(store.read().result()), cell)


def compressor_of(cell: Cell) -> dict[str, Any] | None:
    """Return a codec as Zarr 2 and N5 write it, but for the key of its name."""
    if cell.codec == "none":
        return None
    if cell.codec.startswith("blosc-"):
        return {"name": "blosc", "cname": cell.codec.removeprefix("blosc-"), "clevel": 3, "shuffle": 1}
    return {"name": cell.codec, "level": 1}


def tensorstore_metadata(cell: Cell) -> dict[str, Any]:
    found = compressor_of(cell)
    name, options = (found.pop("name"), found) if found else ("", {})
    if cell.format == "zarr":
        compressor = {"id": name, **options} if name else None
        dtype = np.dtype(cell.dtype).newbyteorder("<").str
        return {"metadata": {"shape": cell.shape, "chunks": cell.chunk, "dtype": dtype, "compressor": compressor}}
    if cell.format == "n5":
        size = {"dimensions": cell.shape, "blockSize": cell.chunk, "dataType": cell.dtype}
        return {"metadata": {**size, "compression": {"type": name or "raw", **options}}}
    if cell.format == "zarr3":
        if name == "blosc":
            options = {**options, "shuffle": "shuffle", "typesize": np.dtype(cell.dtype).itemsize, "blocksize": 0}
        packed = [{"name": name, "configuration": options}] if name else []
        inner = [{"name": "bytes", "configuration": {"endian": "little"}}, *packed]
        shard = {"name": "sharding_indexed", "configuration": {"chunk_shape": cell.chunk, "codecs": inner}}
        grid = {"name": "regular", "configuration": {"chunk_shape": cell.unit}}
        return {"metadata": {"shape": cell.shape, "data_type": cell.dtype, "chunk_grid": grid, "codecs": [shard]}}
    scale = {"size": cell.shape[1:], "chunk_size": cell.chunk[1:], "resolution": [4, 4, 4], "encoding": "raw"}
    if cell.codec != "none":
        scale["encoding"] = cell.codec
    if cell.codec == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    volume = {"type": "image", "data_type": cell.dtype, "num_channels": cell.channels}
    return {"multiscale_metadata": volume, "scale_metadata": {"key": "1", **scale}}


def write_by_tensorstore(place: Location, cell: Cell) -> None:
    spec = tensorstore_spec(place, cell) | tensorstore_metadata(cell)
    store = tensorstore.open(spec, create=True).result()
    voxels = voxels_of(cell)
    store.write(voxels.transpose(1, 2, 3, 0) if cell.format == "neuroglancerPrecomputed" else voxels).result()


def read_by_zarr_python(place: Location, cell: Cell) -> Array:
    found = zarr.open_array(place.url, mode="r", zarr_format=3 if cell.format == "zarr3" else 2)
    return np.asarray(found[...])


def write_by_zarr_python(place: Location, cell: Cell) -> None:
    three, (name, _, inner) = cell.format == "zarr3", cell.codec.partition("-")
    codecs: dict[str, Callable[[], Any]] = {
        "none": lambda: None,
        "zstd": lambda: ZstdCodec(level=1) if three else Zstd(level=1),
        "gzip": lambda: GzipCodec(level=1) if three else GZip(level=1),
        "blosc": lambda: BloscCodec(cname=inner) if three else Blosc(cname=inner),
    }
    shape = {"shape": cell.shape, "chunks": cell.chunk, "shards": cell.unit if three else None, "dtype": cell.dtype}
    made = zarr.create_array(place.url, **shape, compressors=codecs[name](), zarr_format=3 if three else 2)
    made[...] = voxels_of(cell)


HERE: dict[str, tuple[Callable[[Location, Cell], Array], Callable[[Location, Cell], None]]] = {
    "tensorstore": (read_by_tensorstore, write_by_tensorstore),
    "zarr-python": (read_by_zarr_python, write_by_zarr_python),
}


def read_layer(dataset: wk.Dataset, name: str) -> Array:
    return dataset.get_layer(name).get_mag(1).read()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A dataset with a layer for each array of the table."""
    root = Location(str(tmp_path_factory.mktemp("ours")))
    properties = Properties.new("ours", VoxelSize((4, 4, 4)))
    for n, cell in TABLE:
        place = root / f"l{n}" / "1"
        write_ours(place, cell)
        places = {axis: i for i, axis in enumerate(cell.axes)}
        names = (*(axis for axis in cell.axes if axis not in CXYZ), "x", "y", "z")
        size = tuple(cell.shape[places[axis]] for axis in names)
        box = NDBoundingBox((0,) * len(names), size, names, tuple(places[axis] for axis in names))
        layer = LayerProperties.new(f"l{n}", "color", cell.dtype, cell.channels, cell.format, box)
        cube = cell.unit[1] if cell.format == "wkw" else None
        layer = layer.with_mag(MagProperties.new(1, path=f"./l{n}/1", axis_order=places, cube_length=cube))
        FORMATS[cell.format].write_groups(root, layer, properties.voxel_size)
        properties = properties.with_layer(layer)
    (root / "datasource-properties.json").write_bytes(properties.to_json())
    return root


def differing(found: dict[int, Array | str]) -> list[str]:
    """Return the arrays that are not what was written."""
    wrong = []
    for n, voxels in found.items():
        wanted = voxels_of(TABLE[n][1])
        if isinstance(voxels, str) or voxels.dtype != wanted.dtype or not np.array_equal(voxels, wanted):
            wrong.append(f"{n} {TABLE[n][1]}: {voxels if isinstance(voxels, str) else voxels.shape}"[:400])
    return wrong


def tried(work: Callable[..., Array], *arguments: Any) -> Array | str:
    try:
        return work(*arguments)
    except Exception as error:  # noqa: BLE001 - said of each array, not of the first
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("peer", HERE)
def test_libraries_read_what_we_write(peer: str, ours: Location) -> None:
    able = [(n, cell) for n, cell in TABLE if reason(peer, WAYS[0], cell) is None]
    wrong = differing({n: tried(HERE[peer][0], ours / f"l{n}" / "1", cell) for n, cell in able})
    assert not wrong, "\n".join(wrong[:LIMIT])


@pytest.mark.parametrize("peer", HERE)
def test_we_read_what_libraries_write(peer: str, tmp_path: Path) -> None:
    found: dict[int, Array | str] = {}
    for n, cell in TABLE:
        if reason(peer, WAYS[1], cell) is None:
            place = Location(str(tmp_path / f"l{n}" / "1"))
            HERE[peer][1](place, cell)
            found[n] = tried(read_by_us, place, cell)
    assert found and not (wrong := differing(found)), "\n".join(wrong[:LIMIT])


# ------------------------------------------------------------------------------------- programs of other licences


@pytest.mark.oracle("webknossos")
@pytest.mark.timeout(300)
def test_programs_and_we_read_each_other(webknossos_python: Path, ours: Location, tmp_path: Path) -> None:
    jobs: list[dict[str, Any]] = []
    for n, cell in TABLE:
        np.save(tmp_path / f"{n}.npy", voxels_of(cell))
        (tmp_path / f"wkw/l{n}").mkdir(parents=True)
        job = {"n": n, "codec": cell.codec, "format": cell.format, "shape": cell.shape, "layer": f"l{n}"}
        job |= {"ours": (ours / f"l{n}/1").url, "theirs": str(tmp_path / f"wkw/l{n}/1"), "voxels": str(tmp_path / f"{n}.npy")}
        for peer in ("wkw", "webknossos"):
            verbs = [verb for verb, way in zip(("read", "write"), WAYS, strict=True) if reason(peer, way, cell) is None]
            jobs += [job | {"do": f"{verb}_{peer}"} for verb in verbs]
    target = tmp_path / "webknossos"
    (tmp_path / "jobs.json").write_text(json.dumps({"source": ours.url, "target": str(target), "jobs": jobs}))
    (tmp_path / "peer.py").write_text(PEER)
    command = [str(webknossos_python), str(tmp_path / "peer.py"), str(tmp_path / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    wrong = []
    theirs = wk.Dataset.open(target)
    for job, answer in zip(jobs, json.loads(done.stdout.splitlines()[-1]), strict=True):
        cell, wanted = TABLE[job["n"]][1], voxels_of(TABLE[job["n"]][1])
        said = answer
        if job["do"] == "write_wkw" and answer == "written":
            said = tried(read_by_us, Location(job["theirs"]), cell)
        elif job["do"] == "write_webknossos" and answer == "written":
            said = tried(read_layer, theirs, job["layer"])
        if isinstance(said, np.ndarray):
            said = [list(said.shape), str(said.dtype), zlib.crc32(np.ascontiguousarray(said))]
        if said != [list(wanted.shape), str(wanted.dtype), zlib.crc32(np.ascontiguousarray(wanted))]:
            wrong.append(f"{job['do']} {cell}: {said}")
    shutil.rmtree(target)
    assert not wrong, f"{len(wrong)} of {len(jobs)}:\n" + "\n".join(wrong[:LIMIT])


def test_the_page_is_that_of_the_table() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.interop.matrix"
