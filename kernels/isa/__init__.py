"""Hardware as data: what an instruction set offers to kernels, and small emitters with their meaning in plain Python beside them."""

from tapdot.kernels.isa.base import ISAS, Isa

__all__ = ["ISAS", "Isa"]
