"""What every importer asks of a weight."""

from __future__ import annotations

import numpy as np

from tapdot.compiler.frontends.problems import Problems


def check_finite(array: np.ndarray, where: str, problems: Problems) -> None:
    """Refuses what no trained weight is. A lone infinity is a bound, as of Clip or Pad, and no weight."""
    if array.dtype.kind != "f" or np.isfinite(array).all() or (array.size == 1 and not np.isnan(array).any()):
        return
    count = int(array.size - np.isfinite(array).sum())
    problems.add(
        f"The {where} holds {count} of {array.size} values that are NaN or infinite: its training diverged or the file is "
        "damaged; take another checkpoint."
    )
