"""Datasets of a WEBKNOSSOS server."""

# ruff: noqa: ARG001, ARG002, ARG003 - parameters are spelled out for editors and for what is to come

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wkdask.dataset.dataset import Dataset
from wkdask.dataset.deprecations import one_of, warn_parameters
from wkdask.dataset.server_names import refuse
from wkdask.geometry import MagLike, NDBoundingBox, Vec3IntLike
from wkdask.metadata import DataFormat
from wkdask.operations import SamplingModes

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer

PathLike = str | os.PathLike[str]
_INSTEAD = "Open the dataset's own folder or URL with Dataset.open."


def _of_server(name: str, says: str, *, writable: bool = True, deletable: bool = False) -> Any:
    """Return a property that only a server knows."""

    def get(self: RemoteDataset) -> Any:
        refuse(f"RemoteDataset.{name}", _INSTEAD)

    def put(self: RemoteDataset, value: Any) -> None:
        refuse(f"RemoteDataset.{name}", _INSTEAD)

    return property(get, put if writable else None, get if deletable else None, says)


class RemoteDataset(Dataset):
    """A dataset of a WEBKNOSSOS server, from `Dataset.open_remote`.

    Talking to servers is not built yet: all that makes one raises `ServerNotSupportedError`.

    Examples
    --------
    >>> RemoteDataset.open("https://webknossos.org/datasets/scalable_minds/l4_sample")
    Traceback (most recent call last):
    ...
    wkdask.errors.ServerNotSupportedError: RemoteDataset.open needs a WEBKNOSSOS server, which wkdask does not talk to yet. ...
    """

    def __init__(self, *_arguments: Any) -> None:
        refuse("A RemoteDataset", _INSTEAD)

    @classmethod
    def open(  # type: ignore[override]
        cls,
        dataset_name_or_url: str | None = None,
        organization_id: str | None = None,
        sharing_token: str | None = None,
        webknossos_url: str | None = None,
        *,
        dataset_id: str | None = None,
        annotation_id_or_url: str | None = None,
        access_mode: Any = None,
        read_only: bool = False,
        use_zarr_streaming: bool | None = None,
    ) -> RemoteDataset:
        """Open a dataset of a server.

        Parameters
        ----------
        dataset_name_or_url, dataset_id, annotation_id_or_url
            Its name, the address of its page, its id, or an annotation of it: one of these.
        organization_id, sharing_token, webknossos_url
            Where it is, and what gives the right to see it; not beside an address.
        access_mode, use_zarr_streaming
            How voxels are fetched; the second is the older name.
        read_only
            Whether every change is refused.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.open", _INSTEAD)

    @classmethod
    def list(
        cls,
        organization_id: str | None = None,
        tags: str | Sequence[str] | None = None,
        name: str | None = None,
        folder: Any = None,
        folder_id: Any = None,
    ) -> Mapping[str, RemoteDataset]:
        """Return datasets of a server, by name and by id: of an organization, with tags, of a name, in a folder.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.list", "Look at the server's dashboard.")

    @classmethod
    def explore_and_add_remote(
        cls,
        dataset_uri: PathLike,
        dataset_name: str,
        folder_path: str | None = None,
        *,
        folder: Any = None,
        credentials: Any = None,
    ) -> RemoteDataset:
        """Let a server look at a place, and make a dataset of the volumes that it finds there.

        Parameters
        ----------
        dataset_uri, credentials
            The place, and what gives the right to see it.
        dataset_name
            Of the new dataset.
        folder, folder_path
            Where it appears; the second is the older name.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        warn_parameters(folder_path=folder_path)
        one_of(folder=folder, folder_path=folder_path)
        refuse("RemoteDataset.explore_and_add_remote", "Convert the volumes with Dataset.from_images.")

    @classmethod
    def from_images(  # type: ignore[override]
        cls,
        input_path: Any,
        voxel_size: Any = None,
        name: str | None = None,
        *,
        map_filepath_to_layer_name: Any = None,
        z_slices_sort_key: Any = None,
        voxel_size_with_unit: Any = None,
        layer_name: str | None = None,
        layer_category: str | None = None,
        data_format: str | DataFormat = DataFormat.Zarr3,
        chunk_shape: Vec3IntLike | int | None = None,
        shard_shape: Vec3IntLike | int | None = None,
        chunks_per_shard: Vec3IntLike | int | None = None,
        compress: Any = True,
        swap_xy: bool = False,
        flip_x: bool = False,
        flip_y: bool = False,
        flip_z: bool = False,
        max_layers: int = 20,
        batch_size: int | None = None,
        executor: object = None,
        url: str | None = None,
        token: str | None = None,
        folder: Any = None,
    ) -> RemoteDataset:
        """Convert images into a dataset on a server: ``url``, ``token``, ``folder``; all else as in `Dataset.from_images`.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.from_images", "Convert them with Dataset.from_images, and upload the folder.")

    def download(  # type: ignore[override]
        self,
        *,
        sharing_token: str | None = None,
        bounding_box: NDBoundingBox | None = None,
        bbox: NDBoundingBox | None = None,
        layers: Sequence[str] | str | None = None,
        mags: Sequence[MagLike] | None = None,
        data_format: str | DataFormat | None = None,
        path: PathLike | None = None,
        exist_ok: bool = False,
    ) -> Dataset:
        """Download the dataset.

        Parameters
        ----------
        sharing_token
            What gives the right to see it.
        bounding_box, bbox, layers, mags
            Which voxels: a box in mag-1 voxels, by either name; layers; magnifications. Default: all.
        data_format
            How the copy is stored.
        path, exist_ok
            Where the copy is to lie, and whether it may be there.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.download", "Copy the dataset's own folder or URL with Dataset.copy_dataset.")

    def download_mesh(
        self,
        segment_id: int,
        output_dir: PathLike,
        *,
        layer_name: str | None = None,
        mesh_file_name: str | None = None,
        datastore_url: str | None = None,
        lod: int = 0,
        mapping_name: str | None = None,
        mapping_type: str | None = None,
        mag: MagLike | None = None,
        seed_position: Vec3IntLike | None = None,
        token: str | None = None,
        sharing_token: str | None = None,
    ) -> PathLike:
        """Download the mesh of a segment as an STL file.

        Parameters
        ----------
        segment_id, layer_name
            The segment, and its layer.
        output_dir
            Folder of the file.
        mesh_file_name, lod
            A mesh that is stored, and its level of detail.
        mapping_name, mapping_type, mag, seed_position
            For a mesh that is made at once: the mapping, the magnification, and a voxel of the segment.
        datastore_url, token, sharing_token
            Where voxels are, and what gives the right to see them.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.download_mesh", "Read the meshes from the layer's attachments.")

    def add_layer_as_copy(  # type: ignore[override]
        self,
        foreign_layer: Any,
        new_layer_name: str | None = None,
        *,
        data_format: str | DataFormat | None = None,
        exists_ok: bool = False,
        transfer_mode: Any = None,
        common_storage_path_prefix: str | None = None,
        overwrite_pending: bool = True,
        with_attachments: bool = True,
    ) -> Layer:
        """Copy a layer to the server.

        Parameters
        ----------
        foreign_layer, new_layer_name, data_format, exists_ok, with_attachments
            As in `Dataset.add_layer_as_copy`.
        transfer_mode, common_storage_path_prefix, overwrite_pending
            How bytes get there, and whether an earlier attempt is given up.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.add_layer_as_copy", _INSTEAD)

    def downsample(
        self,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        coarsest_mag: MagLike | None = None,
        executor: object = None,
        *,
        interpolation_mode: str = "default",
        compress: Any = True,
        transfer_mode: Any = None,
        common_storage_path_prefix: str | None = None,
        overwrite_pending: bool = True,
    ) -> None:
        """Make the pyramids of all layers on the server; parameters as in `Dataset.downsample` and `add_layer_as_copy`.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.downsample", _INSTEAD)

    def delete(self) -> None:
        """Delete the dataset from the server.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.delete", "Use the server's dashboard.")

    def generate_url(self, position: Vec3IntLike | None = None) -> str:
        """Return the address of its page, at a mag-1 voxel.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.generate_url", "Copy the address from the server's page.")

    def reopen(self, *, access_mode: Any) -> RemoteDataset:
        """Open the dataset again, with voxels fetched in another way.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.reopen", _INSTEAD)

    def with_access_mode(self, access_mode: Any) -> RemoteDataset:
        """Return the dataset with voxels fetched in another way.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("RemoteDataset.with_access_mode", _INSTEAD)

    url = _of_server("url", "The address of its page.", writable=False)
    sharing_token = _of_server("sharing_token", "What gives others the right to see it; a fresh one each time.", writable=False)
    metadata = _of_server("metadata", "What users have noted of it: text, numbers, lists of text, by name.")
    display_name = _of_server("display_name", "The name that the server shows.", deletable=True)
    description = _of_server("description", "What the server says of it.", deletable=True)
    tags = _of_server("tags", "Words by which it is found.")
    is_public = _of_server("is_public", "Whether everybody may see it.")
    allowed_teams = _of_server("allowed_teams", "Who may see it; none: its owners alone.")
    folder = _of_server("folder", "The server's folder that it appears in.")
    dataset_id = _of_server("dataset_id", "By which the server knows it.", writable=False)
    annotation_id = _of_server("annotation_id", "Of the annotation that it was opened by.", writable=False)
    created = _of_server("created", "When it was made.", writable=False)
    used_storage_bytes = _of_server("used_storage_bytes", "What it takes on the server's disks.", writable=False)
    access_mode = _of_server("access_mode", "How voxels are fetched.", writable=False)
    zarr_streaming_path = _of_server("zarr_streaming_path", "Where the server offers its voxels as Zarr.", writable=False)
