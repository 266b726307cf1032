"""What notebooks show: pieces of HTML, and a plan made of them.

Names in documents may hold anything, so whatever is not `Markup` is escaped. There are no scripts and nothing is fetched;
lines are half transparent and text has no colour of its own, so that light and dark themes both work.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from wkdask.metadata import FILE_NAME, Properties
from wkdask.plan.receipt import Receipt, format_bytes

if TYPE_CHECKING:
    from wkdask.plan.plan import Plan

MAX_TEXT = 200
"""Characters of one text that are shown."""

MAX_JOURNAL_BYTES = 8 << 20
"""A longer journal is not read, as that would take long."""

LINE = "1px solid rgba(128,128,128,0.35)"
CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:top;border:0"


class Markup(str):
    """Text that is HTML already; all other text is escaped where it goes into HTML."""

    __slots__ = ()


def escape(value: object, limit: int = MAX_TEXT) -> Markup:
    """Return a value as HTML: shortened, control characters and lone surrogates replaced, unless it is HTML already.

    Examples
    --------
    >>> str(escape("<b> & co")), str(escape(Markup("<b>bold</b>")))
    ('&lt;b&gt; &amp; co', '<b>bold</b>')
    """
    if isinstance(value, Markup):
        return value
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return Markup(html.escape("".join(c if c.isprintable() else "\ufffd" for c in text)))


def join(*pieces: object) -> Markup:
    """Return several pieces as one."""
    return Markup("".join(map(escape, pieces)))


def panel(kind: str, name: object, *pieces: object) -> Markup:
    """Return what is shown of one object: what it is, its name, and pieces below each other."""
    body = "".join(f'<div style="margin-top:6px">{escape(piece)}</div>' for piece in pieces if piece)
    head = f'<div style="border-bottom:{LINE}">{escape(kind)} <b>{escape(name)}</b></div>'
    return Markup(f'<div style="font-size:13px;line-height:1.5">{head}{body}</div>')


def row(*pieces: object) -> Markup:
    """Return pieces beside each other, as far as there is room."""
    shown = "".join(f"<div>{escape(piece)}</div>" for piece in pieces if piece)
    return Markup(f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:28px">{shown}</div>')


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Return a table of names and values; those without a value are left out."""
    faint = f"{CELL};font-weight:normal;opacity:0.65"
    rows = (
        f'<tr><th style="{faint}">{escape(name)}</th><td style="{CELL}">{escape(value)}</td></tr>'
        for name, value in pairs
        if value not in ("", None)
    )
    return Markup(f'<table style="border-collapse:collapse;margin:0"><tbody>{"".join(rows)}</tbody></table>')


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """Return a table with a header."""
    head = "".join(f'<th style="{CELL};border-bottom:{LINE}">{escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{CELL}">{escape(value)}</td>' for value in values) + "</tr>" for values in rows
    )
    return Markup(
        f'<table style="border-collapse:collapse;margin:0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def never_raising(kind: str, build: Callable[[], Markup]) -> str:
    """Return what a function builds, or why it could not: notebooks call it unasked, so it must not fail."""
    try:
        return str(build())
    except Exception as error:  # noqa: BLE001 - whatever it is, the user has not asked for anything
        return str(panel(kind, "can not be shown", escape(error, 1000)))


def plan_html(plan: Plan) -> str:
    """Return what a notebook shows of a plan: its stages, what they read, write and need, and what is done already."""
    return never_raising("Plan", lambda: _plan(plan))


def _plan(plan: Plan) -> Markup:
    done, said = _progress(plan)
    listed = _listed(plan)
    made = [join(m.name, " (in the dataset)" if m.name in listed else "") for m in plan.milestones]
    pairs: list[tuple[str, object]] = [
        ("dataset", plan.target),
        ("makes", Markup(", ".join(made))),
        ("tasks", f"{plan.tasks:,}, {plan.workers} at once"),
        ("voxels in, out", f"{format_bytes(plan.bytes_in)}, {format_bytes(plan.bytes_out)}"),
        ("memory", f"{format_bytes(plan.predicted_bytes())} at most, {format_bytes(plan.bytes_needed)} for each task"),
        ("scratch on disk", f"{format_bytes(plan.scratch_needed)} at most"),
        ("done already", said),
        *(("note", note) for note in plan.notes),
    ]
    header = ["stage", "tasks", "done", "voxels in", "out", "memory each", "what"]
    rows = []
    for index, stage in enumerate(plan.stages):
        operation = stage.operation
        sizes = map(format_bytes, (operation.bytes_in, operation.bytes_out, operation.bytes_needed))
        count = "" if done is None else f"{done.get(index, 0):,}"
        rows.append((stage.name, f"{stage.count:,}", count, *sizes, operation.describe()))
    return panel("Plan", plan.name, facts(pairs), table(header, rows))


def _progress(plan: Plan) -> tuple[dict[int, int] | None, str]:
    """Return the tasks that the journal says are done, by stage, and that in words; None where it was not read."""
    if not plan.target.is_local:
        return None, ""
    document = plan.journal.document()
    if document is None:
        return None, ""
    if document.get("fingerprint") != plan.fingerprint:
        return None, "another run for the same layer is unfinished"
    if document.get("layout") != plan.document()["layout"]:
        return None, "begun in other tiles; make the plan anew"
    folder = plan.journal.folder / "journal"
    stats = [(folder / name).stat() for name in folder.names()]
    if sum(stat.size for stat in stats if stat) > MAX_JOURNAL_BYTES:
        return None, "begun; running it goes on"
    done = _counted(plan, plan.journal.read())
    return done, f"{sum(done.values()):,} tasks by the journal; running it goes on"


def _counted(plan: Plan, receipts: Iterable[Receipt]) -> dict[int, int]:
    keys = {(receipt.stage, receipt.number) for receipt in receipts}
    return {i: sum(at == i and 0 <= n < stage.count for at, n in keys) for i, stage in enumerate(plan.stages)}


def _listed(plan: Plan) -> set[str]:
    """Return the magnifications that the dataset lists now, as milestones name them."""
    document = plan.target / FILE_NAME
    if not (plan.target.is_local and document.is_file()):
        return set()
    properties = Properties.from_json(document.read_bytes(), str(document))
    return {f"{layer.name}/{mag.name}" for layer in properties.data_layers for mag in layer.mags}
