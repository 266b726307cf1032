"""Deleting what lies on disk of a layer or a dataset, and nothing that is anybody else's."""

from __future__ import annotations

from wkdask.errors import DatasetExistsError, MetadataError
from wkdask.formats import FORMATS
from wkdask.metadata import FILE_NAME, Properties, validate_layer_name
from wkdask.operations.existing import attachment_places, places, resolved
from wkdask.plan import Journal, unfinished_jobs
from wkdask.storage import WORK_FOLDER, Location


def delete_layer_files(target: Location, name: str, left: Properties) -> None:
    """Delete the folder of a layer that the dataset's JSON lists no more, and what was noted of it.

    Links are removed and never followed, and magnifications and attachments of other layers that lie in the folder stay.

    Parameters
    ----------
    target
        The dataset.
    name
        Of the layer.
    left
        What the JSON says now.

    Raises
    ------
    LayerNameError
        Where no layer can have this name, so that its folder may be any.
    """
    folder = target / validate_layer_name(name)
    _delete(folder, {*attachment_places(target, left), *(place for _, place in places(target, left))})
    (target / WORK_FOLDER / "receipts" / name).delete()
    Journal(target, name).remove()


def _delete(place: Location, used: set[str]) -> None:
    """Delete a file, a link, or a folder but for what is used in it."""
    real = resolved(place)
    is_link = real != f"{resolved(place.parent)}/{place.name}"
    if is_link or not any(other == real or other.startswith(f"{real}/") for other in used):
        place.delete()
    elif real not in used:
        for name in place.names():
            _delete(place / name, used)


def check_overwritable(target: Location) -> None:
    """Refuse to overwrite what is neither a dataset nor an unfinished one of ours."""
    if target.is_file():
        raise DatasetExistsError(f"{target} is a file, so it is kept. Delete it yourself, or give another target.")
    ours = {WORK_FOLDER, *unfinished_jobs(target)}.union(*(form.documents for form in FORMATS.values()))
    foreign = [name for name in target.names() if name not in ours]
    if foreign and not (target / FILE_NAME).is_file():
        found = ", ".join(foreign[:3])
        raise DatasetExistsError(
            f"{target} is no dataset but holds {found}, so it is kept. Delete it yourself, or give another target."
        )
    if (target / FILE_NAME).is_file():
        try:
            Properties.from_json((target / FILE_NAME).read_bytes(), str(target / FILE_NAME))
        except MetadataError as error:
            raise DatasetExistsError(f"{error} So {target} is kept. Delete it yourself, or give another target.") from error
