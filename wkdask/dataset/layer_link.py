"""Layers on a server that a dataset is to show when it is uploaded, without their data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wkdask.errors import InputError

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer


@dataclass(frozen=True)
class LayerToLink:
    """A layer of a dataset on a server, to which an uploaded dataset links.

    Parameters
    ----------
    dataset_id, layer_name
        The dataset there, and its layer.
    new_layer_name
        Of the layer in the new dataset; default: the same.
    organization_id
        Of the dataset; default: that of the user.

    Examples
    --------
    >>> LayerToLink("59e9cfbdba632ac2ab8b23b5", "color", "em").new_layer_name
    'em'
    """

    dataset_id: str
    layer_name: str
    new_layer_name: str | None = None
    organization_id: str | None = None

    @classmethod
    def from_remote_layer(
        cls, remote_layer: Layer, new_layer_name: str | None = None, organization_id: str | None = None
    ) -> LayerToLink:
        """Return what links to a layer of a dataset on a server.

        Raises
        ------
        InputError
            Where the layer's dataset is not on a server.
        """
        dataset_id = getattr(remote_layer.dataset, "dataset_id", None)
        if not isinstance(dataset_id, str):
            raise InputError(
                f"Layer '{remote_layer.name}' of {remote_layer.path} is not on a server, so nothing can link to it there. "
                "Copy it, or give a layer of a RemoteDataset."
            )
        return cls(dataset_id, remote_layer.name, new_layer_name, organization_id)
