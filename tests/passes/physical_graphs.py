"""Graphs with layouts assigned, as the memory planner and the lowering get them."""

from __future__ import annotations

from tests.passes.before_and_after import graph

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Phase, run
from tapdot.kernels.target import find_target
from tapdot.passes.assign_layouts import AssignLayouts
from tapdot.passes.recipes import recipe

SIXTEEN_LANES = "x86-64-v4"
FOUR_LANES = "cortex-a76"


def physical(model: Graph | str, target: str = SIXTEEN_LANES) -> Graph:
    """A graph after the float recipe and the assignment of layouts; of text, constants without a value are random."""
    model = graph(model) if isinstance(model, str) else model
    return run(model, (*recipe("float"), Phase("layout", (AssignLayouts(find_target(target)),)))).graph


def convolution(value: str, source: str, channels: tuple[int, int], size: int, kernel: int = 3) -> str:
    """Lines for a convolution of ``source`` that keeps the plane's size, with weights of its own."""
    pad = kernel // 2
    return (
        f"constant %{value}.w: float32[{channels[1]},{channels[0]},{kernel},{kernel}]\n"
        f"%{value}: float32[1,{channels[1]},{size},{size}] = Conv(%{source}, %{value}.w) {{pads=[{pad}, {pad}, {pad}, {pad}]}}\n"
    )


def network(*lines: str) -> str:
    """Text of a graph from its lines in any order: inputs and constants first, as the text form wants them."""
    flat = [line.strip() for block in lines for line in block.splitlines() if line.strip()]
    rank = {"input": 0, "constant": 1}
    return "\n".join(sorted(flat, key=lambda line: rank.get(line.split()[0], 2)))
