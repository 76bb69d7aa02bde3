"""One choice a group at the least sum under limits, by HiGHS (scipy.optimize.milp).

HiGHS counts in tolerances that are absolute: 1e-6 between the best found and the best possible, and 1e-6 on every row. So
objective and rows come scaled to spans of :data:`SCALE`, by which both mean 1e-10 of the span, less than the 1e-9 that is
promised.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE = 1e4
_ONE_AT_A_TIME = threading.Lock()  # two threads that move stdout at once would not bring it back
ROOMY = 2.0
"""A limit that no choice comes near: spans are 1."""
CHATTER = b"HighsMipSolverData::"
"""Begins lines that HiGHS prints whatever it is told."""


@dataclass(frozen=True)
class Row:
    """``sum of coefficients of what is chosen - excess * slack <= limit``; coefficients from 0 on, their span 1."""

    coefficients: NDArray[np.float64]
    """``[v]``"""
    limit: float


@dataclass(frozen=True)
class Solution:
    """What was found."""

    chosen: NDArray[np.int64]
    """``[groups]``: a variable of each."""
    gap: float
    """At most so much of the span above the least possible; 0 where that is proved."""


def solve(
    objective: NDArray[np.float64], starts: NDArray[np.int64], rows: Sequence[Row], time_limit: float | None = None
) -> Solution | None:
    """The choice of least objective under the rows, or None where the rows allow none.

    ``objective`` (``[v]``) is from 0 on with a span of 1, ``starts`` (``[groups + 1]``) says whose the variables are. Raises
    TimeoutError where ``time_limit`` (seconds) ends before any choice is found.
    """
    return _solve(objective, starts, rows, time_limit, slack=False)


def least_excess(starts: NDArray[np.int64], rows: Sequence[Row], time_limit: float | None = None) -> NDArray[np.int64]:
    """``[groups]``: the choice that exceeds the limits by the least; what counts is the row that is exceeded most."""
    # Sums are 0 at least, so every choice exceeds the limits by this much; without it, no number is too great for HiGHS.
    sure = max([0.0, *(-row.limit for row in rows)])
    shifted = [Row(row.coefficients, row.limit + sure) for row in rows]
    found = _solve(np.zeros(int(starts[-1])), starts, shifted, time_limit, slack=True)
    if found is None:  # any choice does, with enough slack
        raise AssertionError("a program without limits has no solution")
    return found.chosen


def _solve(
    objective: NDArray[np.float64], starts: NDArray[np.int64], rows: Sequence[Row], time_limit: float | None, slack: bool
) -> Solution | None:
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    count = len(objective)
    groups = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    one_each = sparse.csr_array((np.ones(count), (groups, np.arange(count))), shape=(len(starts) - 1, count + slack))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for row in rows:
        coefficients = np.append(row.coefficients, -np.ones(int(slack))) * SCALE
        constraints.append(
            LinearConstraint(sparse.csr_array(coefficients.reshape(1, -1)), -np.inf, min(row.limit, ROOMY) * SCALE)
        )
    bounds = np.ones(count + slack)
    integrality = np.ones(count + slack)
    if slack:
        bounds[-1], integrality[-1] = np.inf, 0
    options: dict[str, Any] = {"mip_rel_gap": 0.0}
    if time_limit is not None:
        options["time_limit"] = time_limit
    with _without_chatter():
        result = milp(
            np.append(objective, np.ones(int(slack))) * SCALE,
            constraints=constraints,
            integrality=integrality,
            bounds=Bounds(0, bounds),
            options=options,
        )
    if result.x is None:
        if result.status == 1:
            raise TimeoutError
        if result.status == 2:
            return None
        raise AssertionError(f"HiGHS: {result.message}")
    chosen = [int(first + result.x[first:end].argmax()) for first, end in pairwise(starts)]
    proved = result.status == 0
    return Solution(np.array(chosen), 0.0 if proved else max(0.0, (result.fun - result.mip_dual_bound) / SCALE))


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keeps HiGHS's own lines off stdout, which belongs to the command; whatever else is written there meanwhile comes
    after."""
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as held:
        try:
            stdout = os.dup(1)
        except OSError:  # there is none
            yield
            return
        library = ctypes.CDLL(None)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
            library.fflush(None)
            os.dup2(held.fileno(), 1)
            yield
        finally:
            library.fflush(None)
            os.dup2(stdout, 1)
            os.close(stdout)
            held.seek(0)
            for line in held:
                if not line.startswith(CHATTER):
                    os.write(1, line)
