"""The machinery of the operator table; the entries stand in the modules beside this one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Attribute, Node
from tapdot.compiler.types import TensorType
from tapdot.kernels.numerics import NARROW_BITS

OPSET = 18
"""The one ONNX opset whose names, attributes and semantics the table uses; importers convert to it."""

Static = np.ndarray
"""Annotation of an operand that must be a constant, because shapes follow from it."""

Stored = np.ndarray
"""Annotation of an operand that must be a constant because its array is a weight in a stored form: kernels pack it."""

Ints = tuple[int, ...]
Floats = tuple[float, ...]
Strings = tuple[str, ...]
Macs = Callable[[Sequence[TensorType | None], Sequence[TensorType], Mapping[str, Any]], int]

TORCH_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.uint16,
    "int32": torch.int32,
    "uint32": torch.uint32,
    "int64": torch.int64,
    "uint64": torch.uint64,
    "bool": torch.bool,
    **dict.fromkeys(NARROW_BITS, torch.int8),
}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items() if name not in NARROW_BITS}


def no_macs(inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]) -> int:
    """Of operators that multiply nothing that counts."""
    return 0


@dataclass(frozen=True)
class Operator:
    """One entry of the table."""

    name: str
    compute: Callable[..., Any]
    macs: Macs
    elementwise: bool
    """The result at a position depends on the operands at that (broadcast) position only."""
    outputs: int | Callable[[Mapping[str, Any]], int]
    tables: Callable[[Mapping[str, Any]], Sequence[int]]
    """Operands of an element-wise operator that are read whole and do not broadcast."""
    operands: tuple[inspect.Parameter, ...]
    variadic: bool
    attributes: Mapping[str, inspect.Parameter]

    def is_static(self, index: int) -> bool:
        """Whether that operand must be a constant."""
        return index < len(self.operands) and self.operands[index].annotation in (*_STATIC, "Stored")

    def is_stored(self, index: int) -> bool:
        """Whether that operand must be a constant that kernels pack; values of other static operands are part of their code."""
        return index < len(self.operands) and self.operands[index].annotation == "Stored"

    def output_count(self, attributes: Mapping[str, Any]) -> int:
        """How many results a node with these attributes has when it does not say."""
        return self.outputs if isinstance(self.outputs, int) else self.outputs(attributes)

    def defaults(self, attributes: Mapping[str, Attribute]) -> dict[str, Any]:
        """Attributes with defaults filled in."""
        missing = {name: parameter.default for name, parameter in self.attributes.items() if name not in attributes}
        return {**missing, **attributes}

    def check(self, node: Node) -> None:
        """Raises GraphError where the node's operands or attributes do not fit the signature."""
        required = sum(parameter.default is inspect.Parameter.empty for parameter in self.operands)
        most = None if self.variadic else len(self.operands)
        count = len(node.inputs)
        if count < required or (most is not None and count > most) or not all(node.inputs[:required]):
            expected = f"{required}" if most == required else f"{required} to {'any number' if most is None else most}"
            raise GraphError(f"Expected {expected} operands for {self.name}, found {count} at node {node.name!r}.")
        for name, parameter in self.attributes.items():
            if parameter.default is inspect.Parameter.empty and name not in node.attributes:
                raise GraphError(f"Expected attribute {name!r} on {self.name} node {node.name!r}, found none.")
        for name in node.attributes:
            if name not in self.attributes:
                known = ", ".join(sorted(self.attributes)) or "none"
                raise GraphError(
                    f"Unknown attribute {name!r} on {self.name} node {node.name!r}; {self.name} at opset {OPSET} takes: {known}."
                )
            kind, fits = _ATTRIBUTE_KINDS[self.attributes[name].annotation.removesuffix(" | None")]
            value = node.attributes[name]
            if not fits(value):
                raise GraphError(f"Expected attribute {name!r} of {self.name} node {node.name!r} to be {kind}, found {value!r}.")

    def apply(
        self, node: Node, operands: Sequence[torch.Tensor | None], constants: Mapping[str, np.ndarray]
    ) -> tuple[torch.Tensor, ...]:
        """Runs the semantics on torch tensors (real or meta); static operands are taken from ``constants``."""
        arguments: list[Any] = []
        for index, value in enumerate(operands):
            if self.is_static(index) and node.inputs[index]:
                if node.inputs[index] not in constants:
                    raise GraphError(
                        f"Expected operand {self.operands[index].name!r} of {self.name} node {node.name!r} to be a constant, "
                        "found a value computed at run time; fix the shapes when exporting the model."
                    )
                arguments.append(constants[node.inputs[index]])
            else:
                arguments.append(value)
        result = self.compute(*arguments, **node.attributes)
        return result if isinstance(result, tuple) else (result,)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_float(value: object) -> bool:
    return isinstance(value, float) or _is_int(value)


def _tuple_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, tuple) and all(map(fits, value))


_ATTRIBUTE_KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "int": ("an integer", _is_int),
    "float": ("a number", _is_float),
    "str": ("a string", lambda value: isinstance(value, str)),
    "Ints": ("a tuple of integers", _tuple_of(_is_int)),
    "Floats": ("a tuple of numbers", _tuple_of(_is_float)),
    "Strings": ("a tuple of strings", _tuple_of(lambda value: isinstance(value, str))),
}
"""What the annotation of a keyword parameter admits; modules of entries import annotations from the future, so it is text."""

_STATIC = (Static, Static | None, "Static", "Static | None")
_TABLE: dict[str, Operator] = {}


def operator(
    name: str,
    *,
    macs: Macs = no_macs,
    elementwise: bool = False,
    outputs: int | Callable[[Mapping[str, Any]], int] = 1,
    tables: Callable[[Mapping[str, Any]], Sequence[int]] = lambda attributes: (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Puts a torch function into the table under ``name``."""

    def register(compute: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(compute).parameters.values()
        _TABLE[name] = Operator(
            name,
            compute,
            macs,
            elementwise,
            outputs,
            tables,
            tuple(p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD),
            any(p.kind is p.VAR_POSITIONAL for p in parameters),
            {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY},
        )
        return compute

    return register


def registered() -> Mapping[str, Operator]:
    """The whole table."""
    return _TABLE


def lookup(name: str) -> Operator:
    """The entry of that name; raises GraphError that suggests the nearest one."""
    if name not in _TABLE:
        near = difflib.get_close_matches(name, _TABLE, 1)
        raise GraphError(f"Unknown operator {name!r}." + (f" Did you mean {near[0]}?" if near else ""))
    return _TABLE[name]


def infer(node: Node, inputs: Sequence[TensorType | None], constants: Mapping[str, np.ndarray]) -> tuple[TensorType, ...]:
    """Result types of a node, by running its semantics on meta tensors.

    Raises GraphError, naming the node and its operand types, where the operands do not fit.
    """
    entry = lookup(node.op)
    entry.check(node)
    try:
        if entry.elementwise:
            return _infer_elementwise(entry, node, inputs, constants)
        operands = [None if kind is None else meta(kind.shape, TORCH_DTYPES[kind.dtype]) for kind in inputs]
        results = entry.apply(node, operands, constants)
    except GraphError:
        raise
    except Exception as error:  # torch reports misfits by many exception types
        kinds = ", ".join(str(kind) if kind else "none" for kind in inputs)
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise GraphError(
            f"The operands of {node.op} node {node.name!r} do not fit: {reason}. Its operands are: {kinds}."
        ) from error
    if len(results) < len(node.outputs):
        raise GraphError(
            f"Expected at most {len(results)} results of {node.op} node {node.name!r}, found {len(node.outputs)} named; "
            "leave the others out."
        )
    return tuple(TensorType(tuple(result.shape), DTYPE_NAMES[result.dtype]) for result in results[: len(node.outputs)])


def meta(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of that type without elements.

    Hot entries return one themselves where their operand is on the meta device: torch's own rules for them import its whole
    compiler, a second that every start of the program would pay.
    """
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def _infer_elementwise(
    entry: Operator, node: Node, inputs: Sequence[TensorType | None], constants: Mapping[str, np.ndarray]
) -> tuple[TensorType, ...]:
    """The shape is what operands broadcast to; the element type is that of the result on one element."""
    whole = {index: kind for index in entry.tables(node.attributes) if (kind := inputs[index]) is not None}
    given = [kind for index, kind in enumerate(inputs) if kind is not None and index not in whole and not entry.is_static(index)]
    shape = np.broadcast_shapes(*(kind.shape for kind in given))
    ones = [None if kind is None else _ONE[kind.dtype] for kind in inputs]
    for index, kind in whole.items():
        ones[index] = torch.ones(kind.shape, dtype=TORCH_DTYPES[kind.dtype])
    (result,) = entry.apply(node, ones, constants)
    return (TensorType(tuple(shape), DTYPE_NAMES[result.dtype]),)


_ONE = {name: torch.ones(1, dtype=dtype) for name, dtype in TORCH_DTYPES.items()}
