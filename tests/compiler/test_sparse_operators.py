"""The sparse dialect: what its operators compute, count and infer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.passes.pruned_weights import pruned_kernels, pruned_quads

from tapdot.compiler.costs import node_macs
from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.types import TensorType
from tapdot.kernels.fkw import FKW, Structure


def layer(
    weight: np.ndarray, structure: Structure, op: str, x: np.ndarray, bias: np.ndarray | None, **attributes: object
) -> Graph:
    order = np.random.default_rng(0).permutation(len(structure.kept))
    builder = GraphBuilder("layer")
    value = builder.input("x", TensorType.of(x))
    arrays = [builder.constant(array, name) for name, array in FKW.compress(weight, structure, order).arrays.items()]
    (result,) = builder.add(op, [value, *arrays, "" if bias is None else builder.constant(bias, "b")], attributes, name="y")  # type: ignore[arg-type]
    return builder.build([result]).verify()


def run(graph: Graph, x: np.ndarray) -> np.ndarray:
    return interpret(graph, {"x": torch.from_numpy(x)})["y"].numpy()


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("kernel", [3, 1])
def test_convolutions(kernel: int, codes: bool) -> None:
    numbers = np.random.default_rng(1)
    x = numbers.standard_normal((2, 10, 7, 6)).astype(np.float32)
    weight, structure = pruned_kernels(0, 4, 2, 10, 6) if kernel == 3 else pruned_quads(0, 4, 2, 10)
    bias: np.ndarray = numbers.standard_normal(8).astype(np.float32)
    attributes = {"kernel_shape": (kernel, kernel), "strides": (2, 2), "pads": (1, 0, 0, 1)}
    zero = 0
    if codes:
        x, weight, bias, zero = (x * 40).astype(np.int8), (weight * 80).astype(np.int8), (bias * 1000).astype(np.int32), -5
    graph = layer(
        weight,
        structure,
        "QSparseConv" if codes else "SparseConv",
        x,
        bias,
        **attributes,
        **({"zero_point": zero} if codes else {}),
    )
    dense = torch.from_numpy(weight.astype(np.float64)).reshape(8, 10, kernel, kernel)
    padded = F.pad(torch.from_numpy(x.astype(np.float64) - zero), (0, 1, 1, 0))
    wanted = F.conv2d(padded, dense, torch.from_numpy(bias.astype(np.float64)), 2).numpy()
    found = run(graph, x)
    assert found.dtype == (np.int32 if codes else np.float32)
    assert np.array_equal(found, wanted) if codes else np.allclose(found, wanted, atol=1e-4)
    (node,) = graph.nodes
    assert node_macs(graph, node) == structure.counts.sum() * 2 * 4 * wanted[:, 0].size


@pytest.mark.parametrize("codes", [False, True])
def test_matrix_products(codes: bool) -> None:
    numbers = np.random.default_rng(1)
    weight, structure = pruned_quads(0, 4, 2, 30)
    x = numbers.standard_normal((3, 30)).astype(np.float32)
    if codes:
        x, weight = (x * 40).astype(np.int8), (weight * 80).astype(np.int8)
    found = run(layer(weight, structure, "QSparseGemm" if codes else "SparseGemm", x, None), x)
    wanted = x.astype(np.float64) @ weight.T.astype(np.float64)
    assert np.array_equal(found, wanted) if codes else np.allclose(found, wanted, atol=1e-4)


def test_arrays_are_constants() -> None:
    weight, structure = pruned_quads(0, 2, 2, 8)
    builder = GraphBuilder("layer")
    value = builder.input("x", TensorType((1, 8), "float32"))
    arrays = [builder.constant(array, name) for name, array in FKW.compress(weight, structure).arrays.items()]
    arrays[4] = builder.input("w", TensorType.of(np.zeros((2, 2, 4), np.float32)))
    with pytest.raises(GraphError, match=r"Expected operand 'weight' of SparseGemm node .* to be a constant"):
        builder.add("SparseGemm", [value, *arrays])
