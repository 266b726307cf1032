"""The document of a Zarr 3 array, ``zarr.json``: building it, and reading it with nothing taken on trust.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#array-metadata
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

import numpy as np

from wkdask.errors import MetadataError
from wkdask.formats.chunk_document import MAX_AXES
from wkdask.formats.shard import ShardIndex
from wkdask.formats.spec import ArraySpec
from wkdask.formats.zarr3_codecs import Chain
from wkdask.formats.zarr3_codecs_document import (
    CRC,
    UnknownCodecError,
    bytes_document,
    chain_document,
    own_chain,
    parse_chain,
    parse_codec_object,
    parse_index,
)
from wkdask.formats.zarr3_nested import Reader, parse_reader
from wkdask.geometry.grid import Index

DTYPES = frozenset(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)) | {"float32", "float64"}
STORED = DTYPES | {"bool"}
"""Data types of arrays that are read; bool as uint8."""
MAX_CHUNK_BYTES = 1 << 31
MAX_DEPTH = 8
"""Shards within shards."""
MAX_CODECS = 32
"""One after the other; a hundred thousand of them let tensorstore end the process."""


_NEEDED = ("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs")
FIELDS = frozenset((*_NEEDED, "dimension_names", "attributes", "storage_transformers"))
"""Members of a document whose meaning we know."""
BY_TENSORSTORE = frozenset(("transpose", "bytes", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed"))


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array's chunks lie in its files.

    Parameters
    ----------
    chain
        How chunks are encoded; None where that is not ours to do.
    index
        How a shard's index lies in its file; None where there are no shards, or only such as are not ours to take apart.
    prefix, separator
        Of the names of files: ``c/0/1`` or ``0.1``.
    foreign
        The codec for which there is no chain or index.
    reader
        What reads units where there is no chain.
    by_tensorstore
        Whether tensorstore reads the array where it is local.
    said
        What the document says of the codecs of chunks and the names of files, as JSON, for people; empty of arrays that were
        not opened.
    """

    chain: Chain | None
    index: ShardIndex | None = None
    prefix: str = "c/"
    separator: str = "/"
    foreign: str = ""
    reader: Reader | None = None
    by_tensorstore: bool = True
    said: str = field(default="", compare=False)

    @property
    def memory_order(self) -> Literal["C", "F"]:
        """The order in memory of what is read: the one on disk, or near it."""
        return "C" if self.chain and self.chain.order[-1] == len(self.chain.order) - 1 and len(self.chain.order) > 1 else "F"


def own_layout(spec: ArraySpec) -> Layout:
    """Return the layout that we write."""
    return Layout(own_chain(spec), ShardIndex() if spec.chunk != spec.unit else None)


def build_document(spec: ArraySpec) -> bytes:
    """Return the ``zarr.json`` of an array in WEBKNOSSOS's layout."""
    inner = chain_document(own_chain(spec))
    if spec.chunk != spec.unit:
        shard = {"chunk_shape": spec.chunk, "codecs": inner, "index_codecs": [bytes_document("<u8"), CRC]}
        inner = [{"name": "sharding_indexed", "configuration": shard}]
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": spec.shape,
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": spec.unit}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": _fill_document(spec.fill, spec.dtype),
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
        others = {parse_codec_object(codec)[0] for codec in _all_codecs(document["codecs"])} - BY_TENSORSTORE
        found = _parse(document)
    except MetadataError as error:
        raise MetadataError(f"{where}: {error} Restore the file, or write the array again.") from None
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{where} is no JSON: {str(error)[:200]}. Restore the file.") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        said = repr(error)[:200]
        raise MetadataError(f"{where} is no Zarr 3 array document: {said} is missing or of a wrong type. Restore it.") from None
    for name in sorted(others):
        from wkdask.formats.zarr3_general import require_registered

        require_registered(name, where)
    return found


def _parse(document: dict[str, Any]) -> tuple[ArraySpec, Layout]:
    for key, wanted in (("zarr_format", 3), ("node_type", "array")):
        if document[key] != wanted:
            raise MetadataError(f"{key} is {str(document[key])[:80]!r}, expected {wanted!r}.")
    _require_understood(document)
    data_type = _data_type(document["data_type"])
    if not isinstance(data_type, str) or data_type not in STORED:
        raise MetadataError(f"data_type is {str(data_type)[:80]!r}, expected one of {', '.join(sorted(STORED))}.")
    dtype = "uint8" if data_type == "bool" else data_type
    if document["shape"] == []:
        raise MetadataError("shape is [], that of a single value without axes; expected an array of at least one axis.")
    shape = _numbers("shape", document["shape"], least=0)
    if len(shape) > MAX_AXES:
        raise MetadataError(f"shape has {len(shape)} axes, expected {MAX_AXES} at most.")
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise MetadataError(f"chunk_grid is {str(grid['name'])[:80]!r}, expected 'regular'.")
    unit = _numbers("chunk_shape", grid["configuration"]["chunk_shape"])
    codecs = document["codecs"]
    name, shard = parse_codec_object(codecs[0])
    sharded = name == "sharding_indexed"
    chunk = _numbers("inner chunk_shape", shard["chunk_shape"]) if sharded else unit
    if not len(shape) == len(unit) == len(chunk):
        raise MetadataError(f"shape {shape}, chunk_shape {unit} and inner chunk_shape {chunk} differ in their number of axes.")
    if any(u % c for u, c in zip(unit, chunk, strict=True)):
        raise MetadataError(f"the inner chunk_shape {chunk} does not divide the shard's {unit}.")
    if math.prod(chunk) * np.dtype(dtype).itemsize > MAX_CHUNK_BYTES:
        raise MetadataError(f"a chunk of {chunk} {dtype} is above {MAX_CHUNK_BYTES} bytes.")
    said = _chain_and_index(codecs, shard if sharded else None, unit, data_type)
    chain: Chain | None = said["chain"]
    hidden_blosc = (
        chain.hidden_blosc if chain else any(parse_codec_object(codec)[0] == "blosc" for codec in _all_codecs(codecs))
    )
    spelled = isinstance(document["data_type"], str) and isinstance(document["chunk_key_encoding"], dict)
    if document.get("fill_value") is None or document.get("dimension_names", "") is None or hidden_blosc or not spelled:
        said["by_tensorstore"] = False
    prefix, separator = _names_of_files(document["chunk_key_encoding"])
    told = {"codecs": shard["codecs"] if sharded else codecs, "chunk_key_encoding": document["chunk_key_encoding"]}
    layout = Layout(**said, prefix=prefix, separator=separator, said=json.dumps(told))
    axes = _axes(document.get("dimension_names"), len(shape))
    codec = layout.chain.codec if layout.chain else None
    return ArraySpec(shape, dtype, axes, chunk, unit, codec, fill=_fill(document.get("fill_value"), data_type)), layout


def _require_understood(document: dict[str, Any]) -> None:
    """Refuse what changes the meaning of chunks in a way that we do not know."""
    if document.get("storage_transformers"):
        raise MetadataError(f"storage_transformers are {str(document['storage_transformers'])[:80]}, expected none.")
    for key, value in document.items():
        if key not in FIELDS and not (isinstance(value, dict) and value.get("must_understand") is False):
            raise MetadataError(f"it has the extension {key[:80]!r}, which must be understood and is not known here.")


def _chain_and_index(codecs: list[Any], shard: dict[str, Any] | None, unit: Index, data_type: str) -> dict[str, Any]:
    """Return what the codecs say of the layout."""
    local, axes = _plain(codecs), len(unit)
    try:
        if shard is None:
            return {"chain": parse_chain(codecs, axes, data_type), "by_tensorstore": local}
        index = parse_index(shard["index_codecs"], shard.get("index_location", "end"))
        if len(codecs) > 1:
            raise UnknownCodecError(f"{parse_codec_object(codecs[1])[0]} of whole shards")
        return {"chain": parse_chain(shard["codecs"], axes, data_type), "index": index, "by_tensorstore": local}
    except UnknownCodecError as error:
        reader = parse_reader(codecs, unit, data_type)
        return {"chain": None, "foreign": str(error), "reader": reader, "by_tensorstore": local}


def _all_codecs(codecs: list[Any], depth: int = 0) -> Iterator[Any]:
    """Yield all codecs of a chain, with those within shards."""
    if depth > MAX_DEPTH:
        raise MetadataError(f"sharding_indexed lies {depth} times within itself, expected {MAX_DEPTH} times at most.")
    if len(codecs) > MAX_CODECS:
        raise MetadataError(f"there are {len(codecs)} codecs one after the other, expected {MAX_CODECS} at most.")
    for codec in codecs:
        yield codec
        name, options = parse_codec_object(codec)
        if name == "sharding_indexed":
            yield from _all_codecs([*options["codecs"], *options["index_codecs"]], depth + 1)


def _plain(codecs: list[Any]) -> bool:
    """Whether tensorstore knows a chain as it is spelled."""
    found = [parse_codec_object(codec) for codec in codecs]
    within = [options for name, options in found if name == "sharding_indexed"]
    return (
        all(isinstance(codec, dict) for codec in codecs)
        and all(name in BY_TENSORSTORE and (name != "blosc" or "typesize" in options) for name, options in found)
        and all(name != "sharding_indexed" for name, _ in found[:-1])
        and all(_plain(options["codecs"]) and _plain(options["index_codecs"]) for options in within)
    )


def _fill(value: object, data_type: str) -> float:
    """Return the value of missing voxels: an int for integers, so that all 64 bits of it are right."""
    dtype = np.dtype(data_type)
    found: float | None = None
    if value is None:
        return 0
    if dtype.kind == "b":
        found = int(value) if isinstance(value, bool) else None
    elif dtype.kind == "f":
        found = _float_fill(value, dtype)
    elif _is_number(value) and value == value // 1:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        found = int(value) if low <= value <= high else None
    if found is None:
        raise MetadataError(f"fill_value is {str(value)[:80]!r}, expected a value of {data_type}.")
    return found


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) in (int, float)


def _float_fill(value: object, dtype: np.dtype[Any]) -> float | None:
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    if isinstance(value, str) and value in special:
        return special[value]
    if isinstance(value, str) and re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * dtype.itemsize}}}", value):
        return float(np.array([int(value, 16)], f"u{dtype.itemsize}").view(dtype)[0])
    if _is_number(value) and abs(value) <= float(np.finfo(dtype).max):
        return float(value)
    return None


def _fill_document(fill: float, dtype: str) -> object:
    if not dtype.startswith("float"):
        return int(fill)
    if math.isfinite(fill):
        return float(fill)
    return "NaN" if math.isnan(fill) else "Infinity" if fill > 0 else "-Infinity"


def _numbers(what: str, value: object, least: int = 1) -> Index:
    if not isinstance(value, list) or not all(type(n) is int and least <= n < 2**62 for n in value) or not value:
        raise MetadataError(f"{what} is {str(value)[:80]}, expected a list of whole numbers from {least} up.")
    return tuple(value)


def _data_type(found: Any) -> Any:
    """Return a data type's name; as an object it is the same as long as nothing configures it."""
    return found["name"] if isinstance(found, dict) and not found.get("configuration") else found


def _names_of_files(encoding: Any) -> tuple[str, str]:
    kind, options = parse_codec_object(encoding)  # which is spelled as codecs are
    if kind not in ("default", "v2"):
        raise MetadataError(f"chunk_key_encoding is {str(kind)[:80]!r}, expected 'default' or 'v2'.")
    separator = options.get("separator", "/" if kind == "default" else ".")
    if separator not in ("/", "."):
        raise MetadataError(f"the separator of chunk keys is {str(separator)[:80]!r}, expected '/' or '.'.")
    return (f"c{separator}" if kind == "default" else ""), separator


def _axes(names: object, count: int) -> tuple[str, ...]:
    if names is not None and not (isinstance(names, list) and len(names) == count):
        raise MetadataError(f"dimension_names is {str(names)[:80]}, expected a list of {count} names.")
    if names and len(set(map(str, names))) < len(names) and None not in names:
        raise MetadataError(f"dimension_names is {str(names)[:80]}, expected a name of its own for each axis.")
    if names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return {2: ("x", "y"), 3: ("x", "y", "z"), 4: ("c", "x", "y", "z")}.get(count) or tuple(f"dim{i}" for i in range(count))
