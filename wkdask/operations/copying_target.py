"""What copies are written to: a new layer, or further magnifications of one, with all that the source's JSON says."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from wkdask.errors import InputError, LayerExistsError
from wkdask.formats import ArrayHandle
from wkdask.metadata import LayerProperties, MagProperties, PathKind, Properties, load_json, mag_name
from wkdask.operations.target import LayerTarget, MoreMags, NewLayer, mag_properties
from wkdask.plan import Journal
from wkdask.storage import WORK_FOLDER, Location, update_document

RESTART = "--restart, in Python running=Running(restart=True)"
LISTS = ("meshes", "agglomerates", "connectomes")
SINGLES = ("segment_index", "segment_statistics", "cumsum")
KEYS = {"segment_index": "segmentIndex", "segment_statistics": "segmentStatistics"}
"""What the JSON, and folders, call a kind where that differs."""


@dataclass(frozen=True)
class _Copied(LayerTarget):
    """Magnifications that keep what the source's JSON says of them: ``copied`` has it in the order of the levels."""

    def _with_level(self, old: bytes | None, number: int, low: float | None, high: float | None) -> bytes:
        properties, layer = self._listed(old, low, high)
        said = MagProperties.from_dict(load_json(self._said[number], "mag"), "mag")
        mag = copied_mag(self.journal.target, self.levels[number].array, self.mags[number], str(layer.data_format), said)
        return properties.with_layer(layer.with_mag(mag)).to_json()

    @property
    @abstractmethod
    def _said(self) -> tuple[bytes, ...]: ...


@dataclass(frozen=True)
class CopiedLayer(_Copied, NewLayer):
    """A new layer, in a dataset that is there or is to be made of what `dataset` says."""

    copied: tuple[bytes, ...] = ()
    dataset: bytes = b""

    @property
    def _said(self) -> tuple[bytes, ...]:
        return self.copied

    @property
    def restart_by(self) -> str:
        """How users give up an unfinished copy."""
        return RESTART

    def _check_document(self, found: Properties, is_begun: bool) -> None:
        target, name = self.journal.target, self.journal.key
        if name in found.layer_names and not is_begun:
            raise LayerExistsError(
                f"Layer '{name}' in {target} exists. Pass exists_ok=True, or --exists-ok, to copy the magnifications that it "
                "lacks, or choose another name."
            )
        if found.voxel_size != self.voxel_size:
            raise InputError(
                f"{target} has voxels of {found.voxel_size}, the layer has {self.voxel_size}. Layers of one dataset share "
                "their voxel size; copy into another dataset, or correct one of them."
            )

    def _listed(self, old: bytes | None, low: float | None, high: float | None) -> tuple[Properties, LayerProperties]:  # noqa: ARG002
        """Return the layer without its attachments, which are listed last."""
        properties = Properties.from_json(old or self.dataset, str(self.document))
        name = self.journal.key
        there = name in properties.layer_names
        return properties, properties.layer(name) if there else self.properties.updated(attachments=None)

    def list_rest(self) -> None:
        """List the layer, where it has no magnification that did, and its attachments."""

        def listed(old: bytes | None) -> bytes:
            properties, layer = self._listed(old, None, None)
            return properties.with_layer(layer.updated(attachments=self.properties.attachments)).to_json()

        update_document(self.document, listed)


@dataclass(frozen=True)
class CopiedMags(_Copied, MoreMags):
    """Further magnifications of a layer that is there."""

    copied: tuple[bytes, ...] = ()

    @property
    def _said(self) -> tuple[bytes, ...]:
        return self.copied

    @property
    def restart_by(self) -> str:
        """How users give up an unfinished copy."""
        return RESTART

    @property
    def _superseded(self) -> frozenset[tuple[int, int, int]]:
        """The magnifications that the superseded run was to make and has not listed."""
        settings = (self.journal.document() or {}).get("settings") if self.journal.superseding else None
        if not isinstance(settings, dict) or settings.get("job") != "copy" or not isinstance(settings.get("mags"), list):
            return frozenset()
        return frozenset(mag for mag in self.mags if mag_name(mag) in settings["mags"])


@dataclass(frozen=True, slots=True)
class CommitRest:
    """Lists what is left of a layer when all its magnifications are; see `wkdask.plan.Milestone`."""

    target: CopiedLayer
    stage: int

    @property
    def name(self) -> str:
        """The layer."""
        return self.target.journal.key

    def commit(self, low: float | None, high: float | None) -> None:  # noqa: ARG002
        """List it."""
        self.target.list_rest()

    def check(self) -> None:
        """Refuse nothing: the magnifications have looked at what they are made of."""


def copied_mag(
    target: Location, array: ArrayHandle, mag: tuple[int, int, int], data_format: str, said: MagProperties
) -> MagProperties:
    """Return what a dataset's JSON says of a magnification in it, with all else that is said of its original."""
    new = mag_properties(target, array, mag, data_format)
    return said.updated(mag=new.mag, path=new.path, axis_order=new.axis_order, cube_length=new.cube_length, channel_index=None)


def moved_attachments(
    source: Location, layer: LayerProperties, name: str
) -> tuple[dict[str, Any] | None, tuple[tuple[Location, str], ...]]:
    """Return what the JSON of a copied layer says of attachments, and from where to where, below the dataset, they are copied.

    Those that lie in the layer's folder keep their places in it, others get one; members that are not known are dropped, as
    what they lead to is not copied.
    """
    if layer.attachments is None:
        return None, ()
    mags = {mag.name for mag in layer.mags}
    said: dict[str, Any] = {}
    trees: dict[str, Location] = {}
    for kind in (*LISTS, *SINGLES):
        found = getattr(layer.attachments, kind)
        moved = []
        for one in found if kind in LISTS else [found] if found else []:
            inside = ""
            if one.path_kind is PathKind.RELATIVE:
                path = one.relative_path()
                place = source / path
                inside = path.removeprefix(f"{layer.name}/") if path.startswith(f"{layer.name}/") else ""
            else:
                place = source.linked(one.path)
            if not inside or inside.split("/")[0] in mags or "/" not in inside:
                inside = f"{KEYS.get(kind, kind)}/{place.name}"
            while trees.get(f"{name}/{inside}", place) != place:
                inside += "_"
            trees[f"{name}/{inside}"] = place
            moved.append(one.updated(path=f"./{name}/{inside}"))
        if moved:
            said[KEYS.get(kind, kind)] = moved if kind in LISTS else moved[0]
    return said, tuple((place, path) for path, place in trees.items())


def made_by(target: Location, layer: LayerProperties) -> set[str | None]:
    """Return the fingerprints of the plans that made the magnifications of a layer, as their receipts tell."""
    found: set[str | None] = set()
    for mag in layer.mags:
        place = target / WORK_FOLDER / "receipts" / f"{layer.name}/{mag.name}.json"
        try:
            found.add(str(json.loads(place.read_bytes())["plan"]) if place.is_file() else None)
        except (ValueError, KeyError, TypeError):
            found.add(None)
    return found


def under_way(journal: Journal) -> dict[str, Any]:
    """Return the settings of the copy that is unfinished, or nothing."""
    settings = None if journal.instead_of else (journal.document() or {}).get("settings")
    return settings if isinstance(settings, dict) and settings.get("job") == "copy" else {}
