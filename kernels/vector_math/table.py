"""The table of functions: what each emits, what it means in plain Python, and how far the two may differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.kernels.emit import Value

Emit = Callable[..., Value]
"""``emit(arithmetic, *operands)``: the result as a TIR value."""
Meaning = Callable[..., Any]
"""The same function over numpy arrays; given float64 it is the truth the emitted code is measured against."""


@dataclass(frozen=True)
class Function:
    """One function of float vectors.

    ``ulp`` bounds the error in units in the last place of the true float32 result (in subnormal results: of the smallest
    subnormal); ``absolute`` is an error that is allowed instead wherever it is larger. Both hold on ``domain``; outside it, where
    the function has values at all, see its docstring. Infinities, NaN, overflow and underflow follow ``meaning`` everywhere.
    """

    name: str
    emit: Emit
    meaning: Meaning
    ulp: float
    absolute: float
    domain: tuple[float, float]


FUNCTIONS: dict[str, Function] = {}
"""Every function by its name."""


def function(
    meaning: Meaning, ulp: float, absolute: float = 0.0, domain: tuple[float, float] = (-np.inf, np.inf)
) -> Callable[[Emit], Emit]:
    """Puts an emitter of float32 vectors into the table."""

    def register(emit: Emit) -> Emit:
        FUNCTIONS[emit.__name__] = Function(emit.__name__, emit, meaning, ulp, absolute, domain)
        return emit

    return register
