"""Where plans run: threads, processes, a local Dask cluster, or one that is there already."""

from wkdask.clusters.pools import STRATEGIES, open_pool

__all__ = ["STRATEGIES", "open_pool"]
