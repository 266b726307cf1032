"""The document of an N5 array, ``attributes.json``: building it, and reading it with nothing taken on trust.

Specification: https://github.com/saalfeldlab/n5#file-system-specification
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from wkdask.errors import MetadataError
from wkdask.formats.chunk_codecs import BLOSC_NAMES, blosc_settings
from wkdask.formats.chunk_document import DTYPES, axis_names, check_grid, whole_numbers
from wkdask.formats.n5_lz4 import BLOCK_BYTES
from wkdask.formats.spec import ArraySpec, Codec

KINDS = {"raw": None, "gzip": "gzip", "bzip2": "bz2", "xz": "lzma", "lz4": "lz4", "blosc": "blosc", "zstd": "zstd"}
"""What N5 calls compressions, and what `wkdask.formats.chunk_codecs.unpack` does."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How blocks are compressed: one of `KINDS`, with the settings as JSON."""

    kind: str = "raw"
    settings: str = "{}"


def layout_of(codec: Codec | None, itemsize: int) -> Layout:
    """Return how blocks of a codec of ours are compressed."""
    if codec is None:
        return Layout("raw", '{"type": "raw"}')
    if codec.name.startswith("blosc"):
        return Layout("blosc", json.dumps({"type": "blosc", **blosc_settings(codec, itemsize)}))
    further: dict[str, dict[str, Any]] = {
        "gzip": {"level": codec.level, "useZlib": False},
        "zstd": {"level": codec.level},
        "lz4": {"blockSize": BLOCK_BYTES},
    }
    return Layout(codec.name, json.dumps({"type": codec.name, **further[codec.name]}))


def build_document(spec: ArraySpec, layout: Layout) -> bytes:
    """Return the ``attributes.json`` of an array."""
    document = {
        "dataType": spec.dtype,
        "dimensions": spec.shape,
        "blockSize": spec.chunk,
        "compression": json.loads(layout.settings),
        "axes": spec.axes,
    }
    return json.dumps(document, indent=4).encode()


def parse(document: dict[str, Any]) -> tuple[ArraySpec, Layout]:
    """Return what the ``attributes.json`` of an array says, after checking each thing that we rely on."""
    dtype = document["dataType"]
    if dtype not in DTYPES:
        raise MetadataError(f"dataType is {str(dtype)[:80]!r}, expected one of {', '.join(sorted(DTYPES))}.")
    shape = whole_numbers("dimensions", document["dimensions"], least=0)
    chunk = whole_numbers("blockSize", document["blockSize"])
    check_grid(shape, chunk, dtype)
    settings = document.get("compression")
    if settings is None:
        settings = {"type": document["compressionType"]}  # as it was before N5 2.0
    kind = settings["type"]
    if kind not in KINDS:
        raise MetadataError(f"the compression is {str(kind)[:80]!r}, expected one of {', '.join(KINDS)}.")
    spec = ArraySpec(shape, dtype, axis_names(document.get("axes"), len(shape)), chunk, chunk, _codec(settings))
    return spec, Layout(kind, json.dumps(settings))


def _codec(settings: dict[str, Any]) -> Codec | None:
    """Return the compression by our name for it, with its level where it has one."""
    name, level = settings["type"], settings.get("level")
    if name == "raw":
        return None
    if name == "blosc":
        cname, level = settings.get("cname", "blosclz"), settings.get("clevel", 6)
        if cname not in BLOSC_NAMES:
            raise MetadataError(f"the cname of blosc is {str(cname)[:80]!r}, expected one of {', '.join(BLOSC_NAMES)}.")
        name = f"blosc-{cname}"
    if level is not None and (type(level) is not int or not -131072 <= level <= 22):
        raise MetadataError(f"the level of {name} is {str(level)[:80]}, expected a whole number.")
    return Codec(name, level)
