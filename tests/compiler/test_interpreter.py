"""Running graphs in torch: by name, freed on the way, differentiable, trainable."""

from __future__ import annotations

import copy
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_graphs import graphs
from torch import nn

from tapdot.compiler import interpreter
from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.interpreter import GraphModule, evaluate_node, interpret, mangled, unmangled
from tapdot.compiler.types import TensorType


def network() -> tuple[Graph, nn.Module]:
    """A small network as a graph and as the torch module it should equal."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    state = {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}
    builder = GraphBuilder("network")
    x = builder.input("x", TensorType((2, 3, 6, 6), "float32"))
    weight = {name: builder.constant(array, name) for name, array in state.items() if array.ndim}
    (y,) = builder.add("Conv", [x, weight["0.weight"], weight["0.bias"]], {"pads": (1, 1, 1, 1)})
    statistics = [weight[f"1.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    (y,) = builder.add("BatchNormalization", [y, *statistics])
    (y,) = builder.add("Relu", [y], name="relu")
    (y,) = builder.add("Dropout", [y, builder.constant(np.array(0.5, np.float32), "ratio")])
    (y,) = builder.add("Flatten", builder.add("GlobalAveragePool", [y]))
    (y,) = builder.add("Gemm", [y, weight["6.weight"], weight["6.bias"]], {"transB": 1})
    return builder.build([y]), module.eval()


X = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32))


def test_interpret_gives_outputs_and_kept_values() -> None:
    graph, module = network()
    found = interpret(graph, {"x": X}, keep=["relu", "0.bias", "x"])
    assert set(found) == {*graph.outputs, "relu", "0.bias", "x"}
    torch.testing.assert_close(found[graph.outputs[0]], module(X))
    torch.testing.assert_close(found["relu"], module[:3](X))  # type: ignore[index]


def test_outputs_may_be_inputs_constants_and_repeated() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((2,), "float32"))
    c = builder.constant(np.ones(2, np.float32), "c")
    (y,) = builder.add("Add", [x, c], outputs=["y"])
    graph = builder.build([x, c, y, y])
    one = torch.ones(2)
    assert {name: value.tolist() for name, value in interpret(graph, {"x": one}).items()} == {
        "x": [1, 1],
        "c": [1, 1],
        "y": [2, 2],
    }
    assert [value.tolist() for value in graph.to_torch()(one)] == [[1, 1], [1, 1], [2, 2], [2, 2]]


def test_dead_values_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = GraphBuilder("chain")
    value = builder.input("x", TensorType((4,), "float32"))
    for _ in range(6):
        (value,) = builder.add("Exp", [value])
    graph = builder.build([value])
    made: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    lookup = interpreter.lookup

    class Watched:
        def __init__(self, op: str) -> None:
            self.entry = lookup(op)

        def is_static(self, index: int) -> bool:
            return self.entry.is_static(index)

        def apply(self, *arguments: object) -> tuple[torch.Tensor, ...]:
            results = self.entry.apply(*arguments)  # type: ignore[arg-type]
            made.extend(weakref.ref(result) for result in results)
            alive.append(sum(reference() is not None for reference in made))
            return results

    monkeypatch.setattr(interpreter, "lookup", Watched)
    interpret(graph, {"x": torch.zeros(4)})
    assert max(alive) == 2, "a node's operand and its result"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "found none for 'x'"),
        ({"x": X[:1]}, r"'x' to be float32\[2, 3, 6, 6\], found float32\[1, 3, 6, 6\]"),
        ({"x": X.double()}, "found float64"),
        ({"x": X, "y": X}, "Unknown input 'y'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        interpret(network()[0], inputs)


def test_unknown_values_to_keep_are_refused() -> None:
    with pytest.raises(InputError, match="to keep, found 'nothing'"):
        interpret(network()[0], {"x": X}, keep=["nothing"])


def test_evaluate_node_folds_constants() -> None:
    builder = GraphBuilder("g")
    x = builder.constant(np.arange(6), "x")
    shape = builder.constant(np.array([2, 3]), "shape")
    builder.add("Reshape", [x, shape])
    builder.add("TopK", [x, builder.constant(np.array([2]), "k")], outputs=["values"])
    reshape, top = builder.nodes
    (found,) = evaluate_node(reshape, [builder.constants[name] for name in reshape.inputs])
    assert isinstance(found, np.ndarray) and found.tolist() == [[0, 1, 2], [3, 4, 5]] and found.dtype == np.int64
    (values,) = evaluate_node(top, [builder.constants[name] for name in top.inputs])
    assert values.tolist() == [5, 4]


def test_evaluate_node_does_not_write_into_or_alias_frozen_arrays() -> None:
    frozen = np.ones(3, np.float32)
    frozen.flags.writeable = False
    builder = GraphBuilder("g")
    builder.add("Identity", [builder.constant(frozen, "x")])
    (found,) = evaluate_node(builder.nodes[0], [frozen])
    found[:] = 2
    assert frozen.tolist() == [1, 1, 1]


# -- the module ---------------------------------------------------------------------------------------------------------------


def test_module_equals_interpreter_and_gradients_equal_torchs() -> None:
    graph, module = network()
    ours = graph.to_torch().eval()
    x, other = X.clone().requires_grad_(), X.clone().requires_grad_()
    y = ours(x)
    torch.testing.assert_close(y, module(other))
    y.square().sum().backward()
    module(other).square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)
    theirs = dict(module.named_parameters())
    found = {unmangled(name): parameter for name, parameter in ours.named_parameters()}
    assert set(found) == set(theirs)
    for name, parameter in found.items():
        torch.testing.assert_close(parameter.grad, theirs[name].grad)


def test_training_uses_and_updates_batch_statistics() -> None:
    graph, module = network()
    ours = graph.to_torch().train()
    module.train()
    y = ours.values(X, keep=["relu"])["relu"]
    torch.testing.assert_close(y, module[:3](X))  # type: ignore[index]
    weights = ours.weights()
    state = module.state_dict()
    np.testing.assert_allclose(weights["1.running_mean"], state["1.running_mean"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights["1.running_var"], state["1.running_var"], rtol=1e-5)
    assert graph.constants["1.running_mean"].tolist() != weights["1.running_mean"].tolist()


def test_dropout_drops_only_while_training() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((1000,), "float32"))
    y, mask = builder.add("Dropout", [x, builder.constant(np.array(0.25, np.float32))], outputs=2)
    module = builder.build([y, mask]).to_torch()
    kept, mask_value = module.train()(torch.ones(1000))
    assert 600 < mask_value.sum() < 900
    torch.testing.assert_close(kept, mask_value / 0.75)
    kept, mask_value = module.eval()(torch.ones(1000))
    assert kept.equal(torch.ones(1000)) and mask_value.all()


def test_a_training_step_comes_back_as_a_graph() -> None:
    graph, _ = network()
    before = {name: array.copy() for name, array in graph.constants.items()}
    module = graph.to_torch()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(X).square().sum().backward()
    optimizer.step()
    trained = module.to_graph()
    trained.verify()
    torch.testing.assert_close(interpret(trained, {"x": X})[graph.outputs[0]], module.eval()(X))
    for name, array in graph.constants.items():
        np.testing.assert_array_equal(array, before[name], "the graph itself never changes")
    assert not np.array_equal(trained.constants["0.weight"], before["0.weight"])


def test_statistics_and_integers_are_buffers_and_static_operands_neither() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((2, 3), "float32"))
    scale = [builder.constant(np.ones(3, np.float32), f"bn.{part}") for part in ("w", "b", "m", "v")]
    (y,) = builder.add("BatchNormalization", [x, *scale])
    (y,) = builder.add("Gather", [y, builder.constant(np.array([1, 0]), "picked")])
    (y,) = builder.add("Clip", [y, builder.constant(np.array(0, np.float32), "low")])
    module = builder.build([y]).to_torch()
    assert {unmangled(name) for name, _ in module.named_parameters()} == {"bn.w", "bn.b"}
    assert {unmangled(name) for name, _ in module.named_buffers()} == {"bn.m", "bn.v", "picked"}


def test_modules_copy_and_load_state() -> None:
    graph, _ = network()
    module = graph.to_torch().eval()
    twin = copy.deepcopy(module)
    assert twin.graph is module.graph
    with torch.no_grad():
        twin.constant("0.weight").zero_()
    assert not torch.equal(twin(X), module(X))
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin(X), module(X))


def test_the_wrong_number_of_inputs_is_refused() -> None:
    with pytest.raises(InputError, match="Expected 1 input tensors, found 2"):
        network()[0].to_torch()(X, X)


@pytest.mark.parametrize("name", ["layer1.0.weight", "/model/conv", "training", "graph", "forward", "a%2Eb", "é x", "_places"])
def test_any_name_can_be_a_parameter(name: str) -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((2,), "float32"))
    graph = builder.build(builder.add("Add", [x, builder.constant(np.full(2, 3, np.float32), name)]))
    module = graph.to_torch()
    assert module(torch.zeros(2)).tolist() == [3, 3]
    ((held, _),) = module.named_parameters()
    assert "." not in held and unmangled(held) == name
    assert list(module.weights()) == [name]


@given(st.lists(st.sampled_from(["a", ".", "/", "%", "2E", "_", " "]), min_size=1, max_size=5).map("".join))
def test_mangling_can_be_undone(name: str) -> None:
    assert unmangled(mangled(name)) == name
    assert unmangled(mangled(name, str.isidentifier)) == name


@given(graphs())
@settings(max_examples=15, deadline=None)
def test_random_graphs_run_as_modules_with_the_types_they_were_given(graph: Graph) -> None:
    inputs = {name: torch.randn(graph.type(name).shape) for name in graph.inputs}
    values = interpret(graph, inputs, keep=[name for node in graph.nodes for name in node.outputs])
    for name, value in values.items():
        assert tuple(value.shape) == graph.type(name).shape
    outputs = GraphModule(graph).eval()(*inputs.values())
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for name, value in zip(graph.outputs, outputs, strict=True):
        torch.testing.assert_close(value, values[name], equal_nan=True)
