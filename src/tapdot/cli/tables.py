"""Tables and summaries the commands print."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tapdot.cli.precision import precision_summary
from tapdot.cli.sparsity import sparsity_facts
from tapdot.compiler.units import bytes_text, macs_text

if TYPE_CHECKING:
    from tapdot.compiler.package import Package
    from tapdot.runtime.doctor import Step


@dataclass(frozen=True)
class Rows:
    """A table as plain data."""

    rows: list[dict[str, Any]]

    def rich(self) -> Table:
        """The same for a terminal; columns are the keys of the first row."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in self.rows[0] if self.rows else ():
            table.add_column(column.replace("_", " "), overflow="fold")
        for row in self.rows:
            table.add_row(*map(_show, row.values()))
        return table


def _show(value: Any) -> str:
    if value is None:
        return "not known"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def package_summary(package: Package, path: Path) -> str:
    """A line about a package just written, one for what has no fast kernel, and some on the precision of an integer one."""
    program = package.program
    lines = [
        f"Wrote {path} ({bytes_text(path.stat().st_size)}): {package.name} for {package.target.name}, {len(program.calls)} "
        f"kernels, {macs_text(sum(call.macs for call in program.calls))}, arena {bytes_text(program.arena_bytes)}."
    ]
    slow = [call.node for call in program.calls if not call.fast]
    if slow:
        shown = ", ".join(slow[:5]) + (", ..." if len(slow) > 5 else "")
        lines.append(f"{len(slow)} of them have no kernel of tapdot's own and run through TVM's operators: {shown}.")
    facts = sparsity_facts(package.sparsity)
    if facts:
        lines.append(f"Sparse: {facts['sparse_layers']}; weights {facts['sparse_weights']}.")
    return "\n".join(lines + precision_summary(package))


def device_table() -> Rows:
    """Every device and whether it can be used from here."""
    from tapdot.runtime.devices import list_devices

    return Rows([dataclasses.asdict(device) for device in list_devices()])


def target_table() -> Rows:
    """Every target and what its kernels are written over."""
    from tapdot.kernels.target import find_target, target_names

    targets = [find_target(name) for name in target_names()]
    return Rows(
        [
            {
                "target": target.name,
                "processor": target.cpu,
                "instructions": target.isa.name,
                "features": " ".join(target.features),
            }
            for target in targets
        ]
    )


def recipe_rows() -> list[dict[str, Any]]:
    """Every recipe, what it is for, and the lines that would set its options to what they are."""
    from tapdot.passes.recipes import RECIPES, options

    return [
        {"recipe": name, "meaning": (make.__doc__ or "").partition("\n")[0], "options": options(name)}
        for name, make in RECIPES.items()
    ]


def print_steps(steps: Sequence[Step], console: Console) -> None:
    """Steps of an examination, a line each; the one that failed is the last, and its line says what to do."""
    for step in steps:
        console.print(f"{'ok    ' if step.passed else 'FAILED'}  {step.name}: {step.detail}", markup=False, soft_wrap=True)


def steps_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [dataclasses.asdict(step) for step in steps]
