"""Progress in a notebook: one line of HTML that is drawn anew, with nothing but IPython."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

from wkdask.plan.plan import Plan
from wkdask.plan.receipt import Receipt, Report, format_bytes

DRAW_SECONDS = 0.5


class NotebookProgress:
    """Draws a bar below the cell that runs; give it to a run as ``progress``.

    Parameters
    ----------
    display
        As ``IPython.display.display``.
    """

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None
        self._drawn = 0.0

    def __call__(self, plan: Plan, report: Report, receipt: Receipt | None) -> None:
        """Draw how far a run is, twice a second at most, and when it is complete."""
        now, complete = time.monotonic(), report.done + report.kept == plan.tasks
        if receipt is not None and now - self._drawn < DRAW_SECONDS and not complete:
            return
        self._drawn = now
        data = {"text/html": _html(plan, report), "text/plain": _text(plan, report)}
        if receipt is None or self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def notebook_progress() -> NotebookProgress | None:
    """Return what draws progress in the notebook that this process is the kernel of; None anywhere else.

    Examples
    --------
    >>> notebook_progress() is None
    True
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return NotebookProgress(display)


def _text(plan: Plan, report: Report) -> str:
    done, total = min(report.bytes_kept + report.bytes_in, plan.bytes_in), plan.bytes_in
    failed = f", {report.failed} failed" if report.failed else ""
    tasks = f"{report.done + report.kept} of {plan.tasks} tasks{failed}"
    return f"{plan.name}: {tasks}, {format_bytes(done)} of {format_bytes(total)}"


def _html(plan: Plan, report: Report) -> str:
    done = report.done + report.kept
    return f'<progress value="{done}" max="{max(1, plan.tasks)}"></progress> {escape(_text(plan, report))}'
