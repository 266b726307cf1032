"""The document of a Zarr 3 array, ``zarr.json``: building it, and reading it with nothing taken on trust.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#array-metadata
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wkdask.errors import MetadataError
from wkdask.formats.spec import ArraySpec, Codec
from wkdask.geometry.grid import Index

DTYPES = frozenset(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)) | {"float32", "float64"}
MAX_CHUNK_BYTES = 1 << 31


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array's chunks lie in its files, as far as we know it.

    ``ours`` is false where codecs, index or axes differ from what we write: then tensorstore alone reads the array.
    """

    sharded: bool = True
    ours: bool = True
    prefix: str = "c/"
    separator: str = "/"


def _compressor(codec: Codec | None) -> list[dict[str, Any]]:
    if codec is None:
        return []
    if codec.name == "zstd":
        return [{"name": "zstd", "configuration": {"level": codec.level, "checksum": True}}]
    return [{"name": codec.name, "configuration": {"level": codec.level}}]


def build_document(spec: ArraySpec) -> bytes:
    """Return the ``zarr.json`` of an array in WEBKNOSSOS's layout."""
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    order = list(range(len(spec.shape)))[::-1]
    inner = [
        {"name": "transpose", "configuration": {"order": order}},
        little if spec.itemsize > 1 else {"name": "bytes"},
        *_compressor(spec.codec),
    ]
    if spec.chunk != spec.unit:
        shard = {"chunk_shape": spec.chunk, "codecs": inner, "index_codecs": [little, {"name": "crc32c"}]}
        inner = [{"name": "sharding_indexed", "configuration": shard}]
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": spec.shape,
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": spec.unit}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0.0 if spec.dtype.startswith("float") else 0,
        "codecs": inner,
        "dimension_names": spec.axes,
        "attributes": {},
    }
    return json.dumps(document, indent=4).encode()


def parse_document(data: bytes, where: str) -> tuple[ArraySpec, Layout]:
    """Return what a ``zarr.json`` says, after checking each thing that we rely on.

    Raises
    ------
    MetadataError
        Naming the document, what was found, and what was expected.
    """
    try:
        document = json.loads(data)
        return _parse(document)
    except MetadataError as error:
        raise MetadataError(f"{where}: {error} Restore the file, or write the array again.") from None
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{where} is no JSON: {str(error)[:200]}. Restore the file.") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        said = repr(error)[:200]
        raise MetadataError(f"{where} is no Zarr 3 array document: {said} is missing or of a wrong type. Restore it.") from None


def _parse(document: dict[str, Any]) -> tuple[ArraySpec, Layout]:
    for key, wanted in (("zarr_format", 3), ("node_type", "array")):
        if document[key] != wanted:
            raise MetadataError(f"{key} is {str(document[key])[:80]!r}, expected {wanted!r}.")
    if document["data_type"] not in DTYPES:
        raise MetadataError(f"data_type is {str(document['data_type'])[:80]!r}, expected one of {', '.join(sorted(DTYPES))}.")
    shape = _numbers("shape", document["shape"], least=0)
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise MetadataError(f"chunk_grid is {str(grid['name'])[:80]!r}, expected 'regular'.")
    unit = _numbers("chunk_shape", grid["configuration"]["chunk_shape"])
    codecs = document["codecs"]
    sharded = codecs[0]["name"] == "sharding_indexed"
    shard = codecs[0]["configuration"] if sharded else {}
    inner = shard["codecs"] if sharded else codecs
    chunk = _numbers("inner chunk_shape", shard["chunk_shape"]) if sharded else unit
    if not len(shape) == len(unit) == len(chunk):
        raise MetadataError(f"shape {shape}, chunk_shape {unit} and inner chunk_shape {chunk} differ in their number of axes.")
    if any(u % c for u, c in zip(unit, chunk, strict=True)):
        raise MetadataError(f"the inner chunk_shape {chunk} does not divide the shard's {unit}.")
    if math.prod(chunk) * np.dtype(document["data_type"]).itemsize > MAX_CHUNK_BYTES:
        raise MetadataError(f"a chunk of {chunk} {document['data_type']} is above {MAX_CHUNK_BYTES} bytes.")
    codec, ours = _known_codecs(inner, len(shape), np.dtype(document["data_type"]).itemsize)
    ours = ours and (not sharded or (len(codecs) == 1 and _known_index(shard))) and not document.get("fill_value")
    axes = _axes(document.get("dimension_names"), len(shape))
    return ArraySpec(shape, document["data_type"], axes, chunk, unit, codec), _layout(document, sharded, ours)


def _numbers(what: str, value: object, least: int = 1) -> Index:
    if not isinstance(value, list) or not all(type(n) is int and least <= n < 2**62 for n in value) or not value:
        raise MetadataError(f"{what} is {str(value)[:80]}, expected a list of whole numbers from {least} up.")
    return tuple(value)


def _layout(document: dict[str, Any], sharded: bool, ours: bool) -> Layout:
    encoding = document["chunk_key_encoding"]
    kind, options = encoding["name"], encoding.get("configuration") or {}
    if kind not in ("default", "v2"):
        raise MetadataError(f"chunk_key_encoding is {str(kind)[:80]!r}, expected 'default' or 'v2'.")
    separator = options.get("separator", "/" if kind == "default" else ".")
    if separator not in ("/", "."):
        raise MetadataError(f"the separator of chunk keys is {str(separator)[:80]!r}, expected '/' or '.'.")
    return Layout(sharded, ours, f"c{separator}" if kind == "default" else "", separator)


def _axes(names: object, count: int) -> tuple[str, ...]:
    if names is not None and not (isinstance(names, list) and len(names) == count):
        raise MetadataError(f"dimension_names is {str(names)[:80]}, expected a list of {count} names.")
    if names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return {2: ("x", "y"), 3: ("x", "y", "z"), 4: ("c", "x", "y", "z")}.get(count) or tuple(f"dim{i}" for i in range(count))


def _known_index(shard: dict[str, Any]) -> bool:
    codecs = [codec["name"] for codec in shard["index_codecs"]]
    options = shard["index_codecs"][0].get("configuration") or {}
    little = codecs == ["bytes", "crc32c"] and options.get("endian") == "little"
    return little and shard.get("index_location", "end") == "end"


def _level(codec: str, level: object) -> int:
    least, most = {"zstd": (-131072, 22)}.get(codec, (0, 9))
    if type(level) is not int or not least <= level <= most:
        raise MetadataError(f"the level of {codec} is {str(level)[:80]}, expected a whole number from {least} to {most}.")
    return level


def _known_codecs(codecs: list[dict[str, Any]], axes: int, itemsize: int) -> tuple[Codec | None, bool]:
    """Return the compressor, and whether the chain is one that we write."""
    names = [codec["name"] for codec in codecs]
    options = [codec.get("configuration") or {} for codec in codecs]
    used = ((n, o.get("clevel" if n == "blosc" else "level", 0)) for n, o in zip(names, options, strict=True))
    compressor = next((Codec(name, _level(name, level)) for name, level in used if name in ("zstd", "gzip", "blosc")), None)
    ours = (
        names[:2] == ["transpose", "bytes"]
        and (names[2:] in ([], ["zstd"], ["gzip"]))
        and options[0].get("order") == list(range(axes))[::-1]
        and (itemsize == 1 or options[1].get("endian") == "little")
    )
    return compressor, ours
