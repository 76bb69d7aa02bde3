"""Budgets: how much a network may cost, as a user writes it and as figures.

``size=50%`` is a share: ``low + 0.5 * (high - low)``, where ``low`` is the cost with every listed layer at its fewest bits and
``high`` with every one at its most (the formulation of HAWQ-V3's experiments). ``size=2.5MB``, ``latency=3.1ms`` and
``bops=12G`` are amounts; without a unit a size is in MiB, a latency in ms, BOPs in G.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Context

from tapdot.compiler.errors import TapdotError
from tapdot.passes.bit_table import KINDS, LARGEST, BitTable

_DECIMAL = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS: Mapping[str, Mapping[str, float]] = {
    "size": {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    "bops": _DECIMAL,
    "latency": {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0},
    "instructions": _DECIMAL,
}
BARE: Mapping[str, float] = {"size": 2.0**20, "bops": 1e9, "latency": 1e-3, "instructions": 1.0}
"""What a number without a unit is counted in."""
TOLERANCE = 1e-9
"""A budget is met up to this part of the span of its kind: sums of floats that are equal on paper differ in their last
digits."""


class BudgetError(TapdotError):
    """A budget cannot be read, or the table has no such cost, or no choice meets it."""


@dataclass(frozen=True)
class Budget:
    """What a kind of cost may come to: either a share or an amount."""

    kind: str
    share: float | None = None
    """0 for ``low`` to 1 for ``high``."""
    amount: float | None = None
    """In the unit of :data:`tapdot.passes.bit_table.KINDS`."""
    text: str = field(default="", compare=False)
    """As the user wrote it."""

    def limit(self, table: BitTable) -> float:
        """The amount, for this table; raises BudgetError where the table has no such cost."""
        if self.kind not in table.kinds:
            has = ", ".join(table.kinds) if table.kinds else "none"
            raise BudgetError(
                f"The table has no cost of the kind {self.kind!r} to keep a budget of; its kinds of cost are: {has}."
            )
        if self.amount is not None:
            return self.amount
        low, high = table.limits(self.kind)
        return low + (self.share or 0.0) * (high - low)

    def __str__(self) -> str:
        if self.text:
            return self.text
        if self.share is not None:
            return f"{self.kind}={100 * self.share:.6g}%"
        return amount_budget(self.kind, self.amount or 0.0)


def parse_budget(text: str) -> Budget:
    """``"size=50%"``, ``"latency=3.1ms"``; raises BudgetError for other text."""
    kind, equals, value = (part.strip() for part in text.partition("="))
    if not equals or kind not in KINDS:
        raise BudgetError(
            f"Expected a budget such as size=50%, size=2.5MB, latency=3.1ms or bops=12G (kinds: {', '.join(KINDS)}), found "
            f"{text!r}."
        )
    match = re.fullmatch(r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)\s*(%|[A-Za-zµ]*)", value)
    number = float(match[1]) if match else math.inf
    unit = match[2] if match else ""
    if kind == "bops" and unit.lower().endswith("bops"):
        unit = unit[:-4] or "1"
    unit = {"µs": "us", "KB": "kB", "bytes": "B"}.get(unit, unit)
    factors = {"": BARE[kind], "1": 1.0, **UNITS[kind]}
    if not math.isfinite(number) or (unit != "%" and unit not in factors):
        raise BudgetError(
            f"Expected a number and a unit for {kind} ({', '.join(UNITS[kind])}, or % for a share), found {value!r} in {text!r}."
        )
    if unit != "%":
        amount = number * factors[unit]
        if amount > LARGEST:
            raise BudgetError(f"Expected a budget of at most {LARGEST:g} {KINDS[kind]}, found {text!r}.")
        return Budget(kind, amount=amount, text=text.strip())
    if number > 100:
        raise BudgetError(f"Expected a share from 0% (every layer at its fewest bits) to 100% (at its most), found {text!r}.")
    return Budget(kind, share=number / 100, text=text.strip())


def parse_budgets(lines: Iterable[str]) -> tuple[Budget, ...]:
    """Several, of different kinds; raises BudgetError where one cannot be read, or where two are of one kind."""
    budgets = tuple(map(parse_budget, lines))
    for place, budget in enumerate(budgets):
        if budget.kind in (earlier.kind for earlier in budgets[:place]):
            raise BudgetError(f"Expected one budget of each kind, found two of {budget.kind}; give the tighter one alone.")
    return budgets


def amount_text(kind: str, amount: float) -> str:
    """``"2.77 MiB"``, ``"3.10 ms"``, ``"12.4 GBOPs"``: three digits and a unit."""
    unit, factor = _unit(kind, amount)
    value = amount / factor
    return f"{value:,.0f} {unit}" if 1000 <= value < 1e9 else f"{value:.3g} {unit}"


def amount_budget(kind: str, amount: float) -> str:
    """The budget of this amount as text that :func:`parse_budget` takes, rounded up in its sixth digit, so that the amount
    meets it."""
    unit, factor = _unit(kind, amount)
    value = amount / factor
    rounded = Context(prec=6, rounding=ROUND_CEILING).create_decimal(value)
    return f"{kind}={rounded}{unit.replace('instructions', '').strip()}"


def _unit(kind: str, amount: float) -> tuple[str, float]:
    """The unit a person would use."""
    if kind == "size":
        ladder = [("B", 1.0), ("KiB", 2.0**10), ("MiB", 2.0**20)]
    elif kind == "latency":
        ladder = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]
    else:
        suffix = "BOPs" if kind == "bops" else " instructions"
        ladder = [(suffix.strip(), 1.0)] + [(f"{prefix}{suffix}", factor) for prefix, factor in _DECIMAL.items()]
    return max((one for one in ladder if one[1] <= amount), key=lambda one: one[1], default=ladder[0])
