"""Plans over units: what to do, how far it is, and how it runs."""

from wkdask.plan.drive import run
from wkdask.plan.estimate import Cost, Estimate, Probe, estimate
from wkdask.plan.journal import Journal, unfinished_jobs
from wkdask.plan.memory import default_limit, parse_bytes
from wkdask.plan.plan import Plan
from wkdask.plan.pool import LeasePool, Pool, ThreadPool
from wkdask.plan.receipt import FileRecord, Receipt, Report, format_bytes
from wkdask.plan.stage import Batch, Milestone, Operation, Setup, Stage, stop_if_asked

__all__ = [
    "Batch",
    "Cost",
    "Estimate",
    "FileRecord",
    "Journal",
    "LeasePool",
    "Milestone",
    "Operation",
    "Plan",
    "Pool",
    "Probe",
    "Receipt",
    "Report",
    "Setup",
    "Stage",
    "ThreadPool",
    "default_limit",
    "estimate",
    "format_bytes",
    "parse_bytes",
    "run",
    "stop_if_asked",
    "unfinished_jobs",
]
