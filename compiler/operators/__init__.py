"""The operator table: one entry an operator, ONNX's names, attributes and semantics at one opset.

An entry is a torch function. Its signature *is* the operator's signature, its body is the float semantics, and types are
inferred by running it on meta tensors, so there is nothing to keep in step::

    @operator("Conv", macs=conv_macs)
    def conv(x: Tensor, w: Tensor, b: Tensor | None = None, *, pads: Ints | None = None, group: int = 1, ...) -> Tensor: ...

Positional parameters are operands (``= None``: may be omitted; ``*xs``: any number; annotated ``Static``: must be a constant
and is given as a numpy array), keyword parameters are attributes with their defaults (no default: required) and the kind their
annotation names. A few entries are younger than the opset (Gelu, for one); they say so.
"""

from tapdot.compiler.operators.table import OPSET, Ints, Operator, Static, infer, lookup, operator, registered

# Importing a module of entries puts them into the table.
from tapdot.compiler.operators import (  # noqa: F401 isort: skip
    elementwise,
    fused,
    integer,
    sparse,
    physical,
    indexing,
    linear,
    movement,
    normalization,
    pooling,
    quantization,
    reduction,
    resize,
    shapes,
    spatial,
)

__all__ = ["OPSET", "Ints", "Operator", "Static", "infer", "lookup", "operator", "registered"]
