"""What the ``verify`` verbs of datasets, layers and magnifications come down to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wkdask.clusters import open_pool
from wkdask.operations.verify import Selected, verify
from wkdask.plan import parse_bytes
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.operations.verify_report import Verification


def verified(
    location: Location,
    selected: Selected,
    jobs: int | None = None,
    distribution_strategy: str = "threads",
    memory_limit: str | int | None = None,
) -> Verification:
    """Verify what is selected of the dataset at a location; see `wkdask.operations.verify.verify`."""
    limit = parse_bytes(memory_limit) if memory_limit is not None else None
    return verify(location, selected, pool=open_pool(distribution_strategy, jobs, limit), memory_limit=limit)
