"""What a layer offers to take in further sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.images import Selection, find_layers
from wkdask.operations import Orientation, Running, Sampling, ValueMap, plan_append
from wkdask.operations.volume_source import source_of
from wkdask.plan import Plan

PathLike = str | Path


class AppendVerbs:
    """The verbs of a layer that add sections; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    if TYPE_CHECKING:  # of the class that this is a part of

        def require_writable(self) -> None:
            """Refuse where nothing may be changed."""

    def plan_append_images(
        self,
        images: PathLike | Sequence[PathLike],
        *,
        selection: Selection = Selection(),
        orientation: Orientation = Orientation(),
        values: ValueMap | None = None,
        interpolation_mode: str = "default",
        allow_overwrite: bool = False,
        running: Running = Running(),
    ) -> Plan:
        """Plan what `append_images` does; nothing is written until ``plan.run()`` or ``plan.compute()``."""
        self.require_writable()
        found = find_layers(images, replace(selection, merge=True, layer_name=self._name))
        if len(found) != 1:
            raise InputError(
                f"The images have {len(found)} channels that would be layers, expected one. Choose one: channel=0."
            )
        sections = source_of(found[0].stack, orientation, values=values)
        sampling = Sampling(interpolation=interpolation_mode)
        return plan_append(
            self._store.location, self._name, sections, sampling=sampling, running=running, overwrite=allow_overwrite
        )

    def append_images(
        self,
        images: PathLike | Sequence[PathLike],
        *,
        selection: Selection = Selection(),
        orientation: Orientation = Orientation(),
        values: ValueMap | None = None,
        interpolation_mode: str = "default",
        allow_overwrite: bool = False,
    ) -> None:
        """Add sections behind the last one, in all magnifications.

        Only the units that hold the layer's end, or lie behind it, are written. The layer's box grows when all is complete.
        Stopped or killed at any moment, the same call goes on where it was.

        Parameters
        ----------
        images
            A file, a folder, a zip of images, a pattern, or a list of files: sections of the layer's finest magnification, as
            wide and high as the layer, of its dtype and channels.
        selection
            Which of them, in which order.
        orientation, values
            As the layer's own images were treated.
        interpolation_mode
            By which the pyramid was made, as in `downsample`.
        allow_overwrite
            Whether to begin anew where a call with other images or settings was stopped in the middle; what that one added
            is replaced. Sections that are in the layer's box are not.

        Raises
        ------
        InputError
            Where the sections do not fit the layer; nothing is written.
        PlanRefusedError
            Where another call was stopped and is to be finished first.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> depth = layer.bounding_box.size.z
        >>> layer.append_images("em/")
        >>> layer.bounding_box.size.z == 2 * depth
        True
        """
        self.plan_append_images(
            images,
            selection=selection,
            orientation=orientation,
            values=values,
            interpolation_mode=interpolation_mode,
            allow_overwrite=allow_overwrite,
        ).run()
