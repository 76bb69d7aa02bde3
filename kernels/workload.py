"""Workloads: what a kernel computes, as plain data. Kernels know nothing of graphs; a node becomes a workload first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tapdot.kernels.layout import Layout, elements, stored_dtype

Scalar = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True)
class Operand:
    """One tensor a kernel reads or writes.

    ``layout`` None is row-major, of any rank. A ``constant`` operand is known when compiling: the family packs it, the kernel's
    arguments are the packed arrays.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: Layout | None = None
    constant: bool = False

    @property
    def elements(self) -> int:
        """Elements of the physical buffer."""
        return elements(self.shape, self.layout)

    @property
    def stored_dtype(self) -> str:
        """The element type in memory; ``dtype`` is what the graph says."""
        return stored_dtype(self.dtype, self.layout)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        layout = None if self.layout is None else self.layout.json()
        return {"shape": list(self.shape), "dtype": self.dtype, "layout": layout, "constant": self.constant}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Operand:
        """The inverse of :meth:`json`."""
        layout = None if data["layout"] is None else Layout.from_json(data["layout"])
        return cls(tuple(data["shape"]), data["dtype"], layout, data["constant"])


@dataclass(frozen=True)
class Workload:
    """An operator on operands of known shape and place. Equal workloads share one kernel, whatever their weights."""

    op: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    attributes: tuple[tuple[str, Scalar], ...]

    def __getitem__(self, attribute: str) -> Any:
        """The value of an attribute; KeyError when there is none."""
        return self.options[attribute]

    @cached_property
    def options(self) -> Mapping[str, Scalar]:
        """Attributes as a mapping."""
        return dict(self.attributes)

    @property
    def output(self) -> Operand:
        """The only (or first) result."""
        return self.outputs[0]

    @property
    def variable_inputs(self) -> tuple[Operand, ...]:
        """Operands that are arguments of the kernel, in order."""
        return tuple(operand for operand in self.inputs if operand is not None and not operand.constant)

    def json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the inverse."""
        return {
            "op": self.op,
            "inputs": [None if operand is None else operand.json() for operand in self.inputs],
            "outputs": [operand.json() for operand in self.outputs],
            "attributes": {name: list(value) if isinstance(value, tuple) else value for name, value in self.attributes},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Workload:
        """The inverse of :meth:`json`."""
        attributes = {name: tuple(value) if isinstance(value, list) else value for name, value in data["attributes"].items()}
        return cls(
            data["op"],
            tuple(None if operand is None else Operand.from_json(operand) for operand in data["inputs"]),
            tuple(Operand.from_json(operand) for operand in data["outputs"]),
            tuple(sorted(attributes.items())),
        )

    @cached_property
    def key(self) -> str:
        """A short name of this very workload: the same on every machine."""
        text = json.dumps(self.json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
