"""What a dataset offers that needs a WEBKNOSSOS server."""

# ruff: noqa: ARG002, ARG003, ARG004 - parameters are spelled out for editors and for what is to come

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from wkdask.errors import ServerNotSupportedError
from wkdask.geometry import MagLike, NDBoundingBox

if TYPE_CHECKING:
    from wkdask.dataset.dataset import Dataset
    from wkdask.dataset.remote_dataset import RemoteDataset

PathLike = str | os.PathLike[str]


def refuse(what: str, instead: str) -> NoReturn:
    """Raise the error of everything that needs a server."""
    raise ServerNotSupportedError(f"{what} needs a WEBKNOSSOS server, which wkdask does not talk to yet. {instead}")


class ServerVerbs:
    """The verbs of a dataset that talk to a WEBKNOSSOS server; a part of `wkdask.Dataset`.

    None of them is built yet: each raises `ServerNotSupportedError`, which says what can be done instead.
    """

    @classmethod
    def open_remote(
        cls,
        dataset_name_or_url: str | None = None,
        organization_id: str | None = None,
        sharing_token: str | None = None,
        webknossos_url: str | None = None,
        *,
        dataset_id: str | None = None,
        annotation_id: str | None = None,
        access_mode: Any = None,
        read_only: bool = False,
        use_zarr_streaming: bool | None = None,
    ) -> RemoteDataset:
        """Open a dataset of a server.

        Parameters
        ----------
        dataset_name_or_url, dataset_id, annotation_id
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
        refuse("Dataset.open_remote", "Open the dataset's own folder or URL with Dataset.open.")

    @classmethod
    def download(
        cls,
        dataset_name_or_url: str,
        organization_id: str | None = None,
        sharing_token: str | None = None,
        webknossos_url: str | None = None,
        bbox: NDBoundingBox | None = None,
        layers: Sequence[str] | str | None = None,
        mags: Sequence[MagLike] | None = None,
        path: PathLike | None = None,
        exist_ok: bool = False,
    ) -> Dataset:
        """Download a dataset of a server.

        Parameters
        ----------
        dataset_name_or_url, organization_id, sharing_token, webknossos_url
            As in `open_remote`.
        bbox, layers, mags
            Which voxels: a box in mag-1 voxels, names, magnifications; default: all.
        path, exist_ok
            Where the copy is to lie, and whether it may be there.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("Dataset.download", "Copy the dataset's own folder or URL with Dataset.copy_dataset.")

    @staticmethod
    def get_remote_datasets(
        organization_id: str | None = None,
        tags: str | Sequence[str] | None = None,
        *,
        name: str | None = None,
        folder_id: Any = None,
    ) -> Mapping[str, RemoteDataset]:
        """Return the datasets of a server by name: of an organization, with these tags, of a name, in a folder.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("Dataset.get_remote_datasets", "Look at the server's dashboard.")

    @classmethod
    def trigger_reload_in_datastore(
        cls,
        dataset_name: str | None = None,
        organization: str | None = None,
        token: str | None = None,
        *,
        dataset_name_or_url: str | None = None,
        organization_id: str | None = None,
        webknossos_url: str | None = None,
        dataset_id: str | None = None,
        datastore_url: str | None = None,
    ) -> None:
        """Let a server look at a dataset's files again.

        Parameters
        ----------
        dataset_name, dataset_name_or_url, dataset_id
            The dataset: its name, the address of its page, or its id.
        organization, organization_id, webknossos_url, datastore_url
            Where it is.
        token
            What gives the right to do so.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("Dataset.trigger_reload_in_datastore", "Use the button of the dataset in the server's dashboard.")

    @classmethod
    def trigger_dataset_import(cls, directory_name: str, organization: str, token: str | None = None) -> None:
        """Let a server take in a dataset that was put into its folder.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("Dataset.trigger_dataset_import", "Use the button of the dataset in the server's dashboard.")

    @classmethod
    def announce_manual_upload(
        cls,
        dataset_name: str,
        organization: str,
        initial_team_ids: Sequence[str],
        folder_id: str,
        token: str | None = None,
    ) -> None:
        """Tell a server of a dataset whose files are put into its folder by other means.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("Dataset.announce_manual_upload", "Put the files into the server's folder; it looks there by itself.")

    def upload(
        self,
        new_dataset_name: str | None = None,
        layers_to_link: Sequence[Any] | None = None,
        jobs: int | None = None,
        *,
        initial_team_ids: Sequence[str] | None = None,
        folder: Any = None,
        require_unique_name: bool = False,
        transfer_mode: Any = None,
        common_storage_path_prefix: str | None = None,
        folder_id: Any = None,
    ) -> RemoteDataset:
        """Upload the dataset to a server.

        Parameters
        ----------
        new_dataset_name, require_unique_name
            Its name there, and whether no other may have it.
        layers_to_link
            Layers that are on the server already: `LayerToLink`, or layers.
        jobs
            Transfers at once.
        initial_team_ids, folder, folder_id
            Who may see it, and where it appears.
        transfer_mode, common_storage_path_prefix
            How bytes get there.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("Dataset.upload", "Upload the folder in the server's web page, or with the webknossos library.")

    def publish_to_preliminary_dataset(
        self, dataset_id: str, *, path_prefix: str | None = None, transfer_mode: Any = None
    ) -> RemoteDataset:
        """Make the dataset what a server has announced, but not got.

        Parameters
        ----------
        dataset_id
            Of the server's dataset.
        path_prefix, transfer_mode
            Where bytes are put, and how they get there.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse("Dataset.publish_to_preliminary_dataset", "Upload the folder with the webknossos library.")
