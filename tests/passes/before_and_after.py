"""Writing tests of passes as text: a graph before, the nodes after, and the reference's word that both compute the same."""

from __future__ import annotations

import re
from textwrap import dedent

import numpy as np
import torch

from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.pipeline import Pass, relative_error, seeded_inputs
from tapdot.compiler.text import fingerprint, parse_graph, print_node
from tapdot.compiler.types import TensorType

_BARE_CONSTANT = re.compile(r"constant %(\S+): (\w+\[[\d,]*\])$")


def graph(text: str) -> Graph:
    """A verified graph from text; a constant line without a value gets random numbers between 0.5 and 1.5."""
    generator = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {}
    lines = ['graph "test"']
    for line in map(str.strip, text.splitlines()):
        if (match := _BARE_CONSTANT.match(line)) is not None:
            kind = TensorType.parse(match[2])
            constants[match[1]] = generator.uniform(0.5, 1.5, kind.shape).astype(kind.dtype)
            if kind.elements <= 16:
                line = f"{line} = {constants[match[1]].reshape(-1).tolist()}"
            else:
                line = f"{line} = sha256:{fingerprint(constants[match[1]])}"
        lines.append(line)
    return parse_graph("\n".join(lines), constants).verify()


def nodes(text: Graph | str) -> str:
    """The node lines of a graph, without types and without the names of nodes; of a text, its lines without indentation."""
    if isinstance(text, str):
        return dedent(text).strip()
    lines = (re.sub(r": \w+\[[\d,]*\]", "", print_node(node, text.types)) for node in text.nodes)
    return "\n".join(re.sub(r"  # node .*", "", line) for line in lines)


def answers(model: Graph, seed: int = 0) -> list[np.ndarray]:
    """The reference's outputs on seeded inputs."""
    inputs = {name: torch.from_numpy(array) for name, array in seeded_inputs(model, seed).items()}
    with torch.no_grad():
        results = interpret(model, inputs)
    return [results[name].numpy() for name in model.outputs]


def assert_same_answers(before: Graph, after: Graph, tolerance: float = 1e-5) -> None:
    """Names, types and values of the outputs agree."""
    assert after.outputs == before.outputs
    assert after.inputs == before.inputs
    for old, new in zip(answers(before), answers(after), strict=True):
        assert relative_error(old, new) <= tolerance


def apply(step: Pass, before: Graph | str) -> Graph:
    """The graph after a pass, checked: it is well formed, answers the same, and a second application changes nothing."""
    model = graph(before) if isinstance(before, str) else before
    after = step(model)
    after.verify()
    assert_same_answers(model, after, step.tolerance or 1e-6)
    assert step(after) is after
    return after


def assert_rewrites(step: Pass, before: str, after: str) -> Graph:
    """The pass turns one text into the other."""
    result = apply(step, before)
    assert nodes(result) == nodes(after), f"found:\n{nodes(result)}"
    return result


def assert_unchanged(step: Pass, before: str) -> None:
    """The pass leaves the graph as it is."""
    model = graph(before)
    assert step(model) is model, nodes(step(model))
