"""From a graph with layouts and a memory plan to machine code: kernels by family, an entry function, one shared library."""

from tapdot.compiler.lower.lowering import Lowered, lower

__all__ = ["Lowered", "lower"]
