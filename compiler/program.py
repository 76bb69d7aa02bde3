"""A program: kernel calls in order, over one arena, one block of weights, and the caller's tensors. Plain data, for manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tapdot.kernels.workload import Workload

ENTRY = "main"
"""The function that runs the whole program: main(weights, arena, inputs..., outputs...)."""

WEIGHTS = "weights"


@dataclass(frozen=True)
class Argument:
    """One flat buffer a kernel gets: ``elements`` of ``dtype`` from byte ``offset`` of its space.

    ``space`` is weights, arena, input or output, and ``index`` says which of the inputs or outputs.
    """

    space: str
    index: int
    offset: int
    elements: int
    dtype: str

    def json(self) -> list[Any]:
        """Plain data."""
        return [self.space, self.index, self.offset, self.elements, self.dtype]


@dataclass(frozen=True)
class KernelCall:
    """One kernel on its buffers: packed arrays, then variable inputs, then outputs, in the order of ``arguments``.

    ``inputs`` and ``outputs`` are the values of the graph behind the variable arguments; ``packed`` counts the arrays in front.
    """

    node: str
    symbol: str
    family: str
    version: int
    """The family's version: how its packed arrays are laid out."""
    fast: bool
    workload: Workload
    config: Mapping[str, int]
    arguments: tuple[Argument, ...]
    packed: int
    constants: Mapping[int, str]
    """Names of the constants the family packed, by operand index."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int

    def json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the inverse."""
        return {
            "node": self.node,
            "symbol": self.symbol,
            "family": self.family,
            "version": self.version,
            "fast": self.fast,
            "workload": self.workload.json(),
            "config": dict(self.config),
            "arguments": [argument.json() for argument in self.arguments],
            "packed": self.packed,
            "constants": {str(index): name for index, name in self.constants.items()},
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "macs": self.macs,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> KernelCall:
        """The inverse of :meth:`json`."""
        return cls(
            data["node"],
            data["symbol"],
            data["family"],
            data["version"],
            data["fast"],
            Workload.from_json(data["workload"]),
            dict(data["config"]),
            tuple(Argument(*argument) for argument in data["arguments"]),
            data["packed"],
            {int(index): name for index, name in data["constants"].items()},
            tuple(data["inputs"]),
            tuple(data["outputs"]),
            data["macs"],
        )


@dataclass(frozen=True)
class Tensor:
    """An input or output of a program: its name in the model, row-major shape and element type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def json(self) -> list[Any]:
        """Plain data."""
        return [self.name, list(self.shape), self.dtype]

    @classmethod
    def from_json(cls, data: list[Any]) -> Tensor:
        """The inverse of :meth:`json`."""
        return cls(data[0], tuple(data[1]), data[2])


@dataclass(frozen=True)
class Program:
    """Everything about a compiled model but its machine code and its weights' bytes."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    calls: tuple[KernelCall, ...]
    arena_bytes: int
    arena_lower_bound: int
    weights_bytes: int

    def json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the inverse."""
        return {
            "inputs": [tensor.json() for tensor in self.inputs],
            "outputs": [tensor.json() for tensor in self.outputs],
            "calls": [call.json() for call in self.calls],
            "arena_bytes": self.arena_bytes,
            "arena_lower_bound": self.arena_lower_bound,
            "weights_bytes": self.weights_bytes,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Program:
        """The inverse of :meth:`json`."""
        return cls(
            tuple(Tensor.from_json(tensor) for tensor in data["inputs"]),
            tuple(Tensor.from_json(tensor) for tensor in data["outputs"]),
            tuple(KernelCall.from_json(call) for call in data["calls"]),
            data["arena_bytes"],
            data["arena_lower_bound"],
            data["weights_bytes"],
        )
