"""The four rows of `tapdot inspect --four-rows`: dense and sparse, float and int8, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tapdot.cli.progress import Lines, progress
from tapdot.compiler.units import bytes_text, macs_text

if TYPE_CHECKING:
    from tapdot.comparison import FormRow


def four_rows(model: Path, **choices: Any) -> tuple[FormRow, ...]:
    """``tapdot.comparison.compare`` with what it does shown on the terminal."""
    title = f"Comparing forms of {model.name}"
    with progress.status(title) as status:
        from tapdot.comparison import compare

        return compare(model, **choices, progress=Lines(lambda line: status.update(f"{title}: {line}")))


def rows_table(rows: Sequence[FormRow], device: str) -> Table:
    """Size, work, latency, and accuracy where labels were given; what a row could not be made for stands below."""
    counted = any(row.instructions is not None for row in rows)
    judged = any(row.accuracy is not None for row in rows)
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    columns = ["form", "weights", "MACs", f"million instructions, {device}" if counted else f"ms, {device}"]
    for column in columns + ["top-1"] * judged:
        table.add_column(column, justify="left" if column == "form" else "right", overflow="fold")
    for row in rows:
        if row.remark:
            table.add_row(row.form, "-", "-", "-", *["-"] * judged)
            continue
        accuracy = [f"{row.accuracy:.2%}" if row.accuracy is not None else "-"] if judged else []
        table.add_row(row.form, bytes_text(row.weights_bytes), macs_text(row.macs), _speed(row), *accuracy)
    return table


def remarks(rows: Sequence[FormRow]) -> list[str]:
    """Why rows are empty, and over how many samples accuracy was taken."""
    lines = [f"{row.form}: {row.remark}" for row in rows if row.remark]
    samples = {row.samples for row in rows if row.accuracy is not None}
    return lines + [f"Top-1 over {count} samples." for count in samples]


def _speed(row: FormRow) -> str:
    if row.instructions is not None:
        return f"{row.instructions / 1e6:.1f}"
    if row.seconds is None or row.spread is None:
        return "not counted"
    return f"{row.seconds * 1e3:.3f} ± {row.spread:.0%}"
