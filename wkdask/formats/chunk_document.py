"""Documents of arrays whose chunks are files of their own, read with nothing taken on trust."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from wkdask.errors import InputError, MetadataError
from wkdask.formats.codecs import NAMES
from wkdask.formats.spec import ArraySpec
from wkdask.geometry.grid import Index
from wkdask.storage import Location

Parsed = TypeVar("Parsed")

MAX_CHUNK_BYTES = 1 << 31
MAX_AXES = 32
MAX_DOCUMENT_BYTES = 16 << 20

DTYPES = frozenset(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)) | {"float32", "float64"}
BLOSC = tuple(name for name in NAMES if name.startswith("blosc"))
"""Names of the compressors of blosc, as `wkdask.formats.parse_codec` reads them."""


def open_document(place: Location, parse: Callable[[dict[str, Any]], Parsed]) -> Parsed | None:
    """Return what is made of a JSON document, which must not be larger than any array's is; None where there is none.

    Raises
    ------
    MetadataError
        Naming the document and what is wrong.
    """
    data = read_document(place)
    return None if data is None else parsed(data, str(place), parse)


def read_document(place: Location) -> bytes | None:
    """Return a document by one request; None where there is none.

    Raises
    ------
    MetadataError
        Where it is larger than any array's is.
    """
    found = place.read_range(0, MAX_DOCUMENT_BYTES)
    if found and found.size > MAX_DOCUMENT_BYTES:
        raise MetadataError(f"{place} has {found.size} bytes, too many for the document of an array. Restore the file.")
    return found.data if found else None


def parsed(data: bytes, where: str, parse: Callable[[dict[str, Any]], Parsed]) -> Parsed:
    """Return what is made of a JSON object, with each thing that is wrong as a MetadataError that names the document."""
    try:
        document = json.loads(data)
        if not isinstance(document, dict):
            raise MetadataError("it holds no JSON object.")
        return parse(document)
    except (MetadataError, InputError) as error:
        raise MetadataError(f"{where}: {error} Restore the file, or write the array again.") from None
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{where} is no JSON: {str(error)[:200]}. Restore the file.") from None
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise MetadataError(f"{where}: {repr(error)[:200]} is missing or of a wrong type. Restore the file.") from None


def whole_numbers(what: str, value: object, least: int = 1) -> Index:
    """Return a list of whole numbers of a document, one for each axis."""
    good = isinstance(value, list) and 0 < len(value) <= MAX_AXES
    if not good or not all(type(n) is int and least <= n < 2**62 for n in value):  # type: ignore[attr-defined]
        raise MetadataError(f"{what} is {str(value)[:80]}, expected a list of whole numbers from {least} up.")
    return tuple(value)  # type: ignore[arg-type]


def check_grid(shape: Index, chunk: Index, dtype: str) -> None:
    """Refuse chunks of another number of axes than the array, or larger than can be held in memory."""
    if len(shape) != len(chunk):
        raise MetadataError(f"the shape {shape} and the chunks {chunk} differ in their number of axes.")
    if math.prod(chunk) * np.dtype(dtype).itemsize > MAX_CHUNK_BYTES:
        raise MetadataError(f"a chunk of {chunk} {dtype} is above {MAX_CHUNK_BYTES} bytes.")


def check_new(spec: ArraySpec, name: str, codecs: Sequence[str]) -> None:
    """Refuse to make an array that a format without shards and offsets can not hold."""
    if spec.dtype not in DTYPES:
        raise InputError(f"{spec.dtype} voxels can not be stored in {name}; use one of {', '.join(sorted(DTYPES))}.")
    if spec.codec and spec.codec.name not in codecs:
        raise InputError(f"{name} has no codec {spec.codec.name}; use one of {', '.join(codecs)}.")
    if spec.chunk != spec.unit:
        raise InputError(f"{name} has no shards, but the unit {spec.unit} is not the chunk {spec.chunk}. Leave the unit out.")
    if any(spec.offset):
        raise InputError(f"Arrays of {name} begin at the origin, not at {spec.offset}. Use an offset of 0.")
    if math.prod(spec.chunk) * spec.itemsize > MAX_CHUNK_BYTES:
        raise InputError(f"A chunk of {spec.chunk} {spec.dtype} is above {MAX_CHUNK_BYTES} bytes. Make it smaller.")


def axis_names(names: object, count: int) -> tuple[str, ...]:
    """Return the names of axes that a document gives, where it gives each axis its own; else those that are usual."""
    if (
        isinstance(names, list)
        and all(isinstance(name, str) and name for name in names)
        and len(set(names)) == count == len(names)
    ):
        return tuple(names)
    return {2: ("x", "y"), 3: ("x", "y", "z"), 4: ("c", "x", "y", "z")}.get(count) or tuple(f"dim{i}" for i in range(count))
