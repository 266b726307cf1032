"""What workers are told, wherever they run."""

from __future__ import annotations

THREADS_PER_PROCESS = 4

NO_SPILL = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.95,
    "distributed.worker.memory.terminate": 0.98,
    "distributed.comm.timeouts.connect": "15s",
}
"""No task leaves voxels in a worker's memory, so there is nothing to spill."""

WORKER_ENVIRONMENT = {
    "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value)
    for name, value in NO_SPILL.items()
    if ".worker." in name
} | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""The same for workers that are started by a script; tasks are what runs at once."""
