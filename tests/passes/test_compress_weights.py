"""Dense weights to FKW arrays and back, where a sparse kernel is worth it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
from tests.passes.before_and_after import assert_same_answers, graph
from tests.passes.pruned_weights import pruned_kernels, pruned_quads

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Phase, run
from tapdot.compiler.workloads import workload_of
from tapdot.kernels import estimates
from tapdot.kernels.fallback import Fallback
from tapdot.kernels.family import Family, Port, Ports
from tapdot.kernels.layout import Halo
from tapdot.kernels.registry import select
from tapdot.kernels.target import Target, find_target
from tapdot.kernels.workload import Workload
from tapdot.passes import compress_weights, sides, sparse_choice
from tapdot.passes.assign_layouts import AssignLayouts
from tapdot.passes.compress_weights import CompressWeights, decompressed, sparse_nodes
from tapdot.passes.fuse import Fuse
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.reorder_filters import arrays_of

EVERYWHERE = CompressWeights(None)
ONE = "strides=[1, 1], dilations=[1, 1], group=1"


def with_weights(text: str, weights: Mapping[str, np.ndarray]) -> Graph:
    """A graph from text, some of its constants replaced."""
    made = graph(text)
    return made.replace(constants={**made.constants, **weights}).verify()


def parts(model: Graph) -> list[tuple[object, ...]]:
    """What the nodes are, whatever the order of their attributes."""
    return [(node.op, node.inputs, node.outputs, dict(node.attributes), node.name) for node in model.nodes]


def network() -> Graph:
    """A 3x3 convolution, a 1x1 one with stride 2 that a residual joins, and a matrix product, all pruned."""
    kernels, _ = pruned_kernels(0, 8, 2, 6, 6)
    quads, _ = pruned_quads(1, 4, 4, 16)
    shortcut, _ = pruned_quads(2, 16, 1, 6)
    rows, _ = pruned_quads(3, 5, 2, 16)
    return Fuse()(
        with_weights(
            f"""
            input %x: float32[2,6,8,8]
            constant %w: float32[16,6,3,3]
            constant %v: float32[16,16,1,1]
            constant %u: float32[16,6,1,1]
            constant %m: float32[16,10]
            constant %b: float32[16]
            %a: float32[2,16,8,8] = Conv(%x, %w, %b) {{pads=[1, 1, 1, 1], {ONE}}}
            %r: float32[2,16,8,8] = Relu(%a)
            %c: float32[2,16,4,4] = Conv(%r, %v) {{pads=[0, 0, 0, 0], strides=[2, 2], dilations=[1, 1], group=1}}
            %s: float32[2,16,4,4] = Conv(%x, %u) {{pads=[0, 0, 0, 0], strides=[2, 2], dilations=[1, 1], group=1}}
            %t: float32[2,16,4,4] = Add(%c, %s)
            %g: float32[2,16,1,1] = GlobalAveragePool(%t)
            %f: float32[2,16] = Flatten(%g)
            %y: float32[2,10] = Gemm(%f, %m) {{alpha=1.0, beta=1.0, transA=0, transB=0}}
            return %y
            """,
            {
                "w": kernels,
                "v": quads.reshape(16, 16, 1, 1),
                "u": shortcut.reshape(16, 6, 1, 1),
                "m": np.ascontiguousarray(rows.T),
            },
        )
    )


def test_before_and_after() -> None:
    weight, _ = pruned_kernels(0, 2, 2, 3, 2)
    before = Fuse()(
        with_weights(
            f"""
            input %x: float32[1,3,4,4]
            constant %w: float32[4,3,3,3]
            constant %b: float32[4]
            %c: float32[1,4,4,4] = Conv(%x, %w, %b) {{pads=[1, 1, 1, 1], {ONE}}}
            %y: float32[1,4,4,4] = Relu(%c)
            return %y
            """,
            {"w": weight},
        )
    )
    after = EVERYWHERE(before).verify()
    (node,) = after.nodes
    assert node.op == "SparseConv"
    assert node.inputs == ("x", "w.reorder", "w.offset", "w.index", "w.stride", "w.weight", "w.patterns", "b")
    assert node.attributes == {"epilogue": "Relu(acc)", "kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (1, 1)}
    assert_same_answers(before, after)
    assert EVERYWHERE(after) is after


def test_all_forms_and_back() -> None:
    before = network()
    after = EVERYWHERE(before).verify()
    assert [node.op for node in after.nodes if "Global" not in node.op] == [
        "SparseConv",
        "SparseConv",
        "SparseConv",
        "Flatten",
        "SparseGemm",
    ]
    assert_same_answers(before, after)
    back = decompressed(after).verify()
    assert parts(back) == parts(before)
    assert set(back.constants) == set(before.constants)
    assert all(back.constants[name].tobytes() == array.tobytes() for name, array in before.constants.items())


def test_codes_and_their_zero_point() -> None:
    kernels, _ = pruned_kernels(0, 4, 4, 6, 6)
    rows, _ = pruned_quads(3, 5, 2, 16)
    narrow = "Narrow(Dyadic(acc, multiplier=1500000000, shift=40), zero_point=0, low=0, high=255, dtype='uint8')"
    before = with_weights(
        f"""
        input %x: uint8[1,6,5,5]
        constant %w: int8[16,6,3,3]
        constant %m: int8[16,10]
        %a: uint8[1,16,5,5] = QConv(%x, %w) {{pads=[1, 1, 1, 1], {ONE}, zero_point=7, epilogue="{narrow}"}}
        %g: uint8[1,16,1,1] = QGlobalSum(%a) {{epilogue="{narrow}"}}
        %f: uint8[1,16] = Flatten(%g)
        %y: uint8[1,10] = QGemm(%f, %m) {{zero_point=3, epilogue="{narrow}"}}
        return %y
        """,
        {"w": (kernels * 50).astype(np.int8), "m": np.ascontiguousarray((rows * 50).astype(np.int8).T)},
    )
    after = EVERYWHERE(before).verify()
    assert [node.op for node in sparse_nodes(after)] == ["QSparseConv", "QSparseGemm"]
    assert [node.attributes["zero_point"] for node in sparse_nodes(after)] == [7, 3]
    assert_same_answers(before, after, 0)
    assert parts(decompressed(after)) == parts(before)


def test_a_weight_that_two_layers_share() -> None:
    weight, _ = pruned_kernels(0, 4, 2, 8, 6)
    before = Fuse()(
        with_weights(
            f"""
            input %x: float32[1,8,4,4]
            constant %w: float32[8,8,3,3]
            %a: float32[1,8,4,4] = Conv(%x, %w) {{pads=[1, 1, 1, 1], {ONE}}}
            %y: float32[1,8,4,4] = Conv(%a, %w) {{pads=[1, 1, 1, 1], {ONE}}}
            return %y
            """,
            {"w": weight},
        )
    )
    after = EVERYWHERE(before).verify()
    assert len(sparse_nodes(after)) == 2
    assert_same_answers(before, after)


# -- whether it is worth it --------------------------------------------------------------------------------------------------


class Planar(Fallback):
    """A sparse kernel that works in planar rows and is as fast as the estimates say."""

    name = "planar"
    fast = True

    def serves(self, workload: Workload, target: Target) -> bool:
        return workload.op in ("SparseConv", "SparseGemm")

    def ports(self, workload: Workload, target: Target) -> Ports:
        own = [None if x is None or x.constant else Port((1,)) for x in workload.inputs]
        if workload.op == "SparseConv":
            own[0] = Port((1,), Halo(*workload["pads"]))
        return Ports(tuple(own), (Port((1,)),))

    def cost(self, workload: Workload, target: Target) -> float:
        return estimates.cycles(workload, target)


@pytest.fixture
def planar(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(workload: Workload, target: Target) -> Family:
        return Planar() if workload.op in ("SparseConv", "SparseGemm") else select(workload, target)

    for module in (compress_weights, sides, sparse_choice):
        monkeypatch.setattr(module, "select", choose)


def chain(*rates: float, channels: int = 64, size: int = 28) -> Graph:
    """3x3 convolutions one after the other, each with one in ``rate`` of its kernels; a rate of 0 leaves one as it is."""
    numbers = np.random.default_rng(0)
    lines, weights, value = [f"input %x: float32[1,{channels},{size},{size}]"], {}, "x"
    for place, rate in enumerate(rates):
        weight, _ = pruned_kernels(place, channels // 2, 2, channels, 8)
        weight[np.repeat(numbers.random((channels // 2, channels)) > 2.5 / max(rate, 1), 2, axis=0)] = 0
        if not rate:
            weight = numbers.standard_normal(weight.shape).astype(np.float32)
        weights[f"w{place}"] = weight
        lines.insert(1 + place, f"constant %w{place}: float32[{channels},{channels},3,3]")
        lines.append(f"%c{place}: float32[1,{channels},{size},{size}] = Conv(%{value}, %w{place}) {{pads=[1, 1, 1, 1], {ONE}}}")
        value = f"c{place}"
    return Fuse()(with_weights("\n".join([*lines, f"return %{value}"]), weights))


@pytest.mark.usefixtures("planar")
def test_layers_are_sparse_where_that_costs_less_and_notes_give_both_figures() -> None:
    notes = Notes()
    target = find_target("x86-64-v4")
    after = CompressWeights(target).run(chain(10, 10, 0, 10), notes).verify()
    assert [node.op for node in after.nodes] == ["SparseConv", "SparseConv", "FusedConv", "SparseConv"]
    lines = [line for line in notes.lines if "is computed" in line]
    assert len(lines) == 3 and all("computed sparse" in line and "kcycles sparse, " in line for line in lines)


@pytest.mark.usefixtures("planar")
def test_copies_decide_for_a_chain_and_not_for_each_layer() -> None:
    """Alone between dense layers the copies cost more than is won; several layers share them."""
    target = find_target("x86-64-v4")

    def forms(model: Graph, price: float) -> str:
        costs = sparse_choice.Estimated(target)
        dear = dataclasses.replace(costs)
        object.__setattr__(dear, "copy", lambda kind: price)
        whole = EVERYWHERE(model)
        names = frozenset(node.name for node in sparse_nodes(whole))
        layers = sparse_choice.figures(model, whole, names, target, dear)
        chosen = sparse_choice.cheapest(model, layers, target, dear)
        return "".join("s" if node.name in chosen else "d" for node in model.nodes)

    single, several = chain(0, 10, 0), chain(0, 10, 10, 10, 0)
    costs = sparse_choice.Estimated(target)
    (figure,) = sparse_choice.figures(single, EVERYWHERE(single), frozenset({"c1"}), target, costs).values()
    won = figure.dense - figure.sparse
    assert won > 0
    # A dense float convolution reads planar rows as well, so that one copy stands before each row of sparse layers.
    assert forms(single, won * 0.9) == "dsd" and forms(several, won * 0.9) == "dsssd"
    assert forms(single, won * 1.1) == "ddd" and forms(several, won * 1.1) == "dsssd"
    assert forms(several, won * 4) == "ddddd"


@pytest.mark.usefixtures("planar")
def test_a_value_is_copied_once_for_all_who_read_it() -> None:
    """Three sparse layers read one dense result: one copy serves them."""
    target = find_target("x86-64-v4")
    weight, _ = pruned_kernels(0, 16, 2, 32, 8)
    text = "input %x: float32[1,32,14,14]\nconstant %d: float32[32,32,3,3]\nconstant %w: float32[32,32,3,3]\n"
    text += f"%a: float32[1,32,14,14] = Conv(%x, %d) {{pads=[1, 1, 1, 1], {ONE}}}\n"
    for name in "pqr":
        text += f"%{name}: float32[1,32,14,14] = Conv(%a, %w) {{pads=[1, 1, 1, 1], {ONE}}}\n"
    model = Fuse()(with_weights(text + "return %p, %q, %r", {"w": weight}))
    costs = sparse_choice.Estimated(target)
    layers = sparse_choice.figures(model, EVERYWHERE(model), frozenset("pqr"), target, costs)
    won = min(figure.dense - figure.sparse for figure in layers.values())
    object.__setattr__(costs, "copy", lambda kind: 2 * won)
    assert sparse_choice.cheapest(model, layers, target, costs) == frozenset("pqr")


def test_without_a_tuned_kernel_a_layer_stays_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (compress_weights, sides, sparse_choice):
        monkeypatch.setattr(
            module, "select", lambda workload, target: Fallback() if "Sparse" in workload.op else select(workload, target)
        )
    model, target = network(), find_target("x86-64-v4")
    notes = Notes()
    assert CompressWeights(target).run(model, notes) is model
    assert notes.lines == ["'a', 'c', 's', 'y' stay dense: there is no tuned sparse kernel for them on x86-64-v4."]
    assert len(sparse_nodes(CompressWeights(target, choice="sparse")(model))) == 4
    assert CompressWeights(target, choice="dense")(model) is model


def test_the_workload_of_a_sparse_node_has_shapes_and_no_arrays() -> None:
    """Layers of one shape share a kernel, whatever their weights."""
    after = EVERYWHERE(network())
    node = sparse_nodes(after)[0]
    workload = workload_of(after, node)
    assert all(operand is not None and operand.constant for operand in workload.inputs[1:7])
    assert {name for name, _ in workload.attributes} == {"epilogue", "kernel_shape", "pads", "strides"}
    stored = arrays_of(after, node)
    assert workload.inputs[5].shape == (stored.kernels, 2, 4)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["pattern", "pattern-int8"])
def test_the_recipes_end_in_sparse_nodes(name: str) -> None:
    kernels, _ = pruned_kernels(0, 8, 2, 8, 6)
    model = with_weights(
        f"""
        input %x: float32[1,8,8,8]
        constant %w: float32[16,8,3,3]
        %a: float32[1,16,8,8] = Conv(%x, %w) {{pads=[1, 1, 1, 1], {ONE}}}
        %y: float32[1,16,8,8] = Relu(%a)
        return %y
        """,
        {"w": kernels},
    )
    data = np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)
    phases = recipe(name, (), Calibration(data) if "int8" in name else None)
    outcome = run(model, phases)
    assert [node.op for node in sparse_nodes(outcome.graph)] == ["QSparseConv" if "int8" in name else "SparseConv"]
    target = find_target("x86-64-v4")
    phases = recipe(name, ("compress_weights.choice=sparse",), Calibration(data) if "int8" in name else None, target=target)
    physical = run(model, (*phases, Phase("layout", (AssignLayouts(target),)))).graph
    assert len(sparse_nodes(physical)) == 1


def test_dilation_of_a_1x1_convolution_means_nothing() -> None:
    text = """
        input %x: float32[1,16,8,8]
        constant %w: float32[8,16,1,1]
        %y: float32[1,8,8,8] = Conv(%x, %w) {pads=[0, 0, 0, 0], strides=[1, 1], dilations=[2, 2], group=1}
        return %y
    """
    before = Fuse()(with_weights(text, {"w": pruned_quads(0, 4, 2, 16)[0].reshape(8, 16, 1, 1)}))
    after = EVERYWHERE(before)
    assert [node.op for node in after.nodes] == ["SparseConv"]
    assert_same_answers(before, after)
