"""Hardware as data: what an instruction set offers to kernels, as rows of a table."""

from tapdot.kernels.isa.base import ISAS, Isa

__all__ = ["ISAS", "Isa"]
