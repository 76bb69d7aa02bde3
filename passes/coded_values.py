"""Values of a graph that becomes an integer one: what has codes, what is float, and how one is made of the other on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tapdot.compiler.graph import Graph, GraphBuilder, unique_name
from tapdot.passes.codes import Codes, check_width
from tapdot.passes.integer_expressions import Inexpressible


@dataclass(eq=False)
class CodedValues:
    """The new graph as far as it is built, and what stands in it for each value of the old one.

    A value may have codes, be float, or both; a float one that was simulated waits to be quantized until somebody asks.
    """

    graph: Graph
    """The old one."""
    builder: GraphBuilder = field(init=False)
    codes: dict[str, tuple[str, Codes]] = field(default_factory=dict)
    """Values of the old graph that have codes: the new value, and what it means."""
    reals: dict[str, str] = field(default_factory=dict)
    """Values of the old graph that are float in the new one."""
    waiting: dict[str, Codes] = field(default_factory=dict)
    """Float values that somebody may want quantized so."""
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.builder = GraphBuilder(self.graph.name)

    def settle(self, value: str) -> None:
        """Called before a value is looked for: builds what was put off until it had a reader."""

    def real(self, value: str) -> str:
        """The new value that holds an old one in floats, dequantized where it has codes."""
        self.settle(value)
        if value not in self.reals and value in self.graph.constants:
            self.reals[value] = self.constant(self.graph.constants[value], value)
            self.builder.types[self.reals[value]] = self.graph.type(value)
        if value not in self.reals:
            name, codes = self.codes[value]
            self.reals[value] = self.dequantize(name, codes, value)
        return self.reals[value]

    def dequantize(self, name: str, codes: Codes, value: str) -> str:
        """A Dequantize of new codes of an old value."""
        result = self.own(value) if value in self.graph.outputs else self.fresh(f"{value}.real")
        given = {"scale": codes.scale, "zero_point": codes.zero_point}
        self.add("Dequantize", (name,), given, f"{name}.dequantize", result, None)
        self.remarks.append(f"Conversion: {value!r} from {codes.dtype} to float32.")
        return result

    def need_codes(self, value: str) -> tuple[str, Codes]:
        """The codes of an old value, quantized where they wait for it; raises Inexpressible where it has none."""
        self.settle(value)
        if value not in self.codes and value in self.waiting:
            codes = self.waiting[value]
            name = self.own(value) if self.reals[value] != value else self.fresh(f"{value}.codes")
            check_width(value, codes)
            self.add("Quantize", (self.reals[value],), codes.attributes, f"{value}.quantize", name, codes)
            self.remarks.append(f"Conversion: {value!r} from float32 to {codes.dtype}.")
            self.codes[value] = (name, codes)
        if value not in self.codes:
            raise Inexpressible(f"its operand {value!r} has no codes")
        return self.codes[value]

    def output(self, value: str) -> str:
        """An output of the graph under its own name."""
        name = self.real(value)
        if name != value:
            self.add("Identity", (name,), {}, f"{value}.output", value, None)
        return value

    # -- pieces ---------------------------------------------------------------------------------------------------------------

    def constant(self, array: np.ndarray, name: str, codes: Codes | None = None) -> str:
        """A new constant, which may have the name of the old one it stands for."""
        made = self.builder.constant(array, self.own(name) if name in self.graph.constants else self.fresh(name))
        if codes is not None:
            self.mean(made, codes)
        return made

    def add(
        self, op: str, operands: Sequence[str], attributes: Mapping[str, Any], node: str, result: str, codes: Codes | None
    ) -> None:
        """A node of one result."""
        inputs = list(operands)
        while inputs and not inputs[-1]:
            inputs.pop()
        self.builder.add(op, inputs, attributes, name=node, outputs=[result])
        if codes is not None:
            self.mean(result, codes)

    def mean(self, name: str, codes: Codes) -> None:
        """Writes into the type of new codes what they mean."""
        self.builder.types[name] = replace(self.builder.types[name], quant=codes.quant)

    def codes_name(self, value: str) -> str:
        """The name of the codes of an old value."""
        is_float_output = value in self.graph.outputs and self.graph.type(value).dtype == "float32"
        return self.fresh(f"{value}.codes") if is_float_output else self.own(value)

    def own(self, value: str) -> str:
        """An old value's name, or one like it where something else has it."""
        return value if value not in self.builder.types else self.fresh(value)

    def fresh(self, name: str) -> str:
        """A name that neither graph uses."""
        return unique_name(name, {**self.graph.types, **self.builder.types})
