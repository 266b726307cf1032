"""Where plans run: threads, processes, a Dask cluster of this machine or of Slurm, or one that is there already."""

from wkdask.clusters.launch import cluster
from wkdask.clusters.pools import STRATEGIES, open_pool

__all__ = ["STRATEGIES", "cluster", "open_pool"]
