"""What commands say of precision: who computes on integers, what stays float and why, conversions, bytes, and the numeric gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tapdot.compiler.coverage import COPIES, FLOAT, INTEGER, Coverage
from tapdot.compiler.units import bytes_text

if TYPE_CHECKING:
    from tapdot.compiler.package import Package, TensorGap

NO_ISLAND = "no float island"
SUMMARY_ROWS = 5
"""Of the numeric gap, in the summary of a compilation."""
SUMMARY_NAMES = 3
"""Of islands and conversions there."""


def precision_facts(coverage: Coverage) -> dict[str, str]:
    """Facts of an integer package, each a line."""
    return {
        "on_integers": f"{_operators(coverage, INTEGER)}: {coverage.integer_share:.2%} of multiply-accumulates",
        "in_float": _operators(coverage, FLOAT),
        "islands": "; ".join(map(str, coverage.islands)) or NO_ISLAND,
        "conversions": ", ".join(_conversions(coverage)) or "none",
        "weights_by_type": _bytes(coverage.weight_bytes),
        "activations_by_type": _bytes(coverage.activation_bytes),
    }


def precision_json(package: Package) -> dict[str, Any]:
    """All of it as plain data."""
    if package.coverage is None:
        return {}
    return {
        "coverage": {**package.coverage.json(), "integer_share": package.coverage.integer_share},
        "numeric_gap": package.manifest.get("numeric_gap", []),
    }


def precision_summary(package: Package) -> list[str]:
    """Of an integer package just compiled: a line on operators, one on islands, one on conversions."""
    coverage = package.coverage
    if coverage is None or not coverage.is_integer:
        return []
    floats = coverage.count(FLOAT)
    lines = [
        f"{coverage.count(INTEGER)} operators compute on integers ({coverage.integer_share:.2%} of multiply-accumulates), "
        f"{floats or 'none'} in float; weights: {_bytes(coverage.weight_bytes)}."
    ]
    if coverage.islands:
        lines.append(f"Stays float: {_shortened('; ', list(map(str, coverage.islands)))}.")
    else:
        lines[0] = lines[0][:-1] + f"; {NO_ISLAND}."
    lines.append(f"Conversions: {_shortened(', ', _conversions(coverage)) or 'none'}.")
    return lines


def gap_title(gaps: Sequence[TensorGap], rows: int | None = None) -> str:
    """What the table of the numeric gap shows."""
    which = f"worst {rows} of {len(gaps)}" if rows is not None and rows < len(gaps) else f"{len(gaps)}"
    return f"Numeric gap: the {which} integer tensors against the float network, in dB of signal to noise (6 dB are a bit):"


def gap_table(gaps: Sequence[TensorGap], rows: int | None = None) -> Table:
    """The worst tensors first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (("tensor", "left"), ("made by", "left"), ("dB", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for gap in gaps[:rows]:
        table.add_row(gap.value, f"{gap.node} ({gap.op})", "exact" if gap.decibels is None else f"{gap.decibels:.1f}")
    return table


def _operators(coverage: Coverage, precision: str) -> str:
    counts = coverage.operators.get(precision, {})
    return f"{sum(counts.values())} ({', '.join(f'{op} {count}' for op, count in counts.items())})" if counts else "none"


def _conversions(coverage: Coverage) -> list[str]:
    """Between floats and codes; copies have a line of their own."""
    return [str(conversion) for conversion in coverage.conversions if conversion.op not in COPIES]


def _bytes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{dtype} {bytes_text(size)}" for dtype, size in sizes.items()) or "none"


def _shortened(joint: str, items: Sequence[str]) -> str:
    more = f"{joint}and {len(items) - SUMMARY_NAMES} more (tapdot inspect)" if len(items) > SUMMARY_NAMES else ""
    return joint.join(items[:SUMMARY_NAMES]) + more
