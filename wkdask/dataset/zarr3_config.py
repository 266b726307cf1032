"""Zarr 3 arrays whose codecs, or whose names of files, are given as the specification spells them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wkdask.errors import DatasetExistsError, InputError, MetadataError
from wkdask.formats.spec import ArraySpec
from wkdask.formats.zarr3 import DOCUMENT, Zarr3, Zarr3Array
from wkdask.formats.zarr3_codecs_document import chain_document, own_chain
from wkdask.formats.zarr3_document import build_document, parse_document
from wkdask.storage import Location


@dataclass(frozen=True)
class Zarr3Config:
    """How a Zarr 3 array is stored in detail, for `Layer.add_mag`.

    Parameters
    ----------
    codecs
        All codecs of a chunk in order, as ``zarr.json`` has them, usually ``transpose``, ``bytes`` and a compressor. Where the
        array has shards, those of the chunks within. Default: what is usual.
    chunk_key_encoding
        Names of files, as ``zarr.json`` has it. Default: ``{"name": "default"}``, that is ``c/0/1/2``.

    Examples
    --------
    >>> from wkdask import BoundingBox, Dataset
    >>> layer = Dataset("memory://zarr3-config", (4, 4, 35)).add_layer("em", "color")
    >>> bytes_only = ({"name": "bytes"}, {"name": "gzip", "configuration": {"level": 5}})
    >>> mag = layer.add_mag(1, compress=Zarr3Config(bytes_only, {"name": "v2", "configuration": {"separator": "."}}))
    >>> str(mag.spec.codec)
    'gzip:5'
    """

    codecs: Sequence[Mapping[str, Any] | str] | None = None
    chunk_key_encoding: Mapping[str, Any] | str | None = None

    def document(self, spec: ArraySpec) -> bytes:
        """Return the ``zarr.json`` of an array.

        Raises
        ------
        InputError
            Where this is no valid configuration, or has codecs that are only read.
        """
        document = json.loads(build_document(spec))
        inner = document["codecs"]
        if spec.chunk != spec.unit:
            inner = inner[0]["configuration"]["codecs"]
        inner[:] = chain_document(own_chain(spec)) if self.codecs is None else list(self.codecs)
        if self.chunk_key_encoding is not None:
            document["chunk_key_encoding"] = self.chunk_key_encoding
        try:
            return json.dumps(document, indent=4).encode()
        except (TypeError, ValueError) as error:
            raise InputError(f"{self} can not be said in JSON: {error}. Give codecs as zarr.json has them.") from None

    def at(self, location: Location, spec: ArraySpec) -> Zarr3Array:
        """Return the handle of an array that is not there yet; nothing is written. Errors are those of `document`."""
        Zarr3().at(location, spec)  # refuses dtypes and offsets
        try:
            found, layout = parse_document(self.document(spec), "zarr.json")
        except MetadataError as error:
            raise InputError(f"{self} is no configuration of an array. {error}") from None
        if layout.chain is None:
            raise InputError(f"{self} has {layout.foreign}, which wkdask only reads. Use other codecs.")
        return Zarr3Array(location, found, layout)

    def create(self, location: Location, spec: ArraySpec) -> Zarr3Array:
        """Create an array without any unit.

        Raises
        ------
        DatasetExistsError
            Where something lies here already.
        """
        array = self.at(location, spec)
        if (location / DOCUMENT).is_file():
            raise DatasetExistsError(f"{location} exists already. Choose another place, or delete it first.")
        (location / DOCUMENT).write_bytes(self.document(spec), array.scratch)
        return array
