"""Everything else runs: kernels of any operator, any rank and any element type, from the operator's definition."""

# Importing a module of operators puts them into the table.
from tapdot.kernels.fallback import (  # noqa: F401
    codes,
    elementwise,
    indexing,
    integer,
    linear,
    movement,
    normalization,
    pooling,
    quantization,
    reduction,
    resizing,
    sparse,
)
from tapdot.kernels.fallback.family import Fallback, reason
from tapdot.kernels.fallback.table import BUILDERS

__all__ = ["Fallback", "reason", "supported_operators"]


def supported_operators() -> frozenset[str]:
    """Operators of the table."""
    return frozenset(BUILDERS)
