"""Patterns, captures, legality of inner nodes, and what the editor keeps in order."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.rewrite import Rule, constant, op, optional, rest, rewrite, rule, values
from tapdot.compiler.types import TensorType

x, y = values("x y")


class Sketch(GraphBuilder):
    """A builder with an input ``x`` and short ways to add nodes."""

    def __init__(self) -> None:
        super().__init__("test")
        self.x = self.input("x", TensorType((1, 2, 4, 4), "float32"))

    def node(self, kind: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        return self.add(kind, inputs, attributes, name=name, outputs=[name] if name else None)[0]  # type: ignore[arg-type]

    def number(self, value: float) -> str:
        return self.constant(np.asarray(value, np.float32), "number")


def operators(graph: Graph) -> list[str]:
    return [node.op for node in graph.verify().nodes]


def relu_to_tanh() -> Rule:
    return rule(op.Relu(x), lambda new, x: new.Tanh(x))


def test_nothing_to_do_returns_the_graph_itself() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Relu", "x")])
    assert rewrite(graph, (rule(op.Tanh(x), lambda x: x),)) is graph


def test_a_rule_replaces_every_match_and_leaves_the_old_graph_alone() -> None:
    sketch = Sketch()
    first = sketch.node("Relu", "x", name="first")
    graph = sketch.build([sketch.node("Relu", first, name="second")])
    after = rewrite(graph, (relu_to_tanh(),))
    assert operators(after) == ["Tanh", "Tanh"]
    assert operators(graph) == ["Relu", "Relu"]


def test_names_of_values_nodes_and_outputs_stay() -> None:
    sketch = Sketch()
    first = sketch.node("Relu", "x", name="first")
    graph = sketch.build([sketch.node("Relu", first, name="second"), first])
    after = rewrite(graph, (relu_to_tanh(),)).verify()
    assert after.outputs == ("second", "first")
    assert [node.name for node in after.nodes] == ["first", "second"]
    assert [node.output for node in after.nodes] == ["first", "second"]


def test_an_inner_result_read_elsewhere_blocks_the_match() -> None:
    sketch = Sketch()
    inner = sketch.node("Tanh", "x")
    graph = sketch.build([sketch.node("Relu", inner), sketch.node("Neg", inner)])
    row = (rule(op.Relu(op.Tanh(x)), lambda new, x: new.Abs(x)),)
    assert rewrite(graph, row) is graph
    shared = (rule(op.Relu(op.Tanh(x).shared()), lambda new, x: new.Abs(x)),)
    assert sorted(operators(rewrite(graph, shared))) == ["Abs", "Neg", "Tanh"]


def test_an_inner_result_that_is_an_output_blocks_the_match() -> None:
    sketch = Sketch()
    inner = sketch.node("Tanh", "x")
    graph = sketch.build([sketch.node("Relu", inner), inner])
    assert rewrite(graph, (rule(op.Relu(op.Tanh(x)), lambda new, x: new.Abs(x)),)) is graph


def test_one_inner_pattern_in_two_places_is_one_node() -> None:
    inner = op.Tanh(x)
    row = (rule(op.Mul(inner, op.Sigmoid(inner)), lambda new, x: new.Abs(x)),)
    sketch = Sketch()
    tanh = sketch.node("Tanh", "x")
    assert operators(rewrite(sketch.build([sketch.node("Mul", tanh, sketch.node("Sigmoid", tanh))]), row)) == ["Abs"]
    sketch = Sketch()
    two = sketch.node("Mul", sketch.node("Tanh", "x"), sketch.node("Sigmoid", sketch.node("Tanh", "x")))
    graph = sketch.build([two])
    assert rewrite(graph, row) is graph


def test_one_capture_in_two_places_is_one_value() -> None:
    row = (rule(op.Add(x, x), lambda new, x: new.Abs(x)),)
    sketch = Sketch()
    assert operators(rewrite(sketch.build([sketch.node("Add", "x", "x")]), row)) == ["Abs"]
    graph = sketch.build([sketch.node("Add", "x", sketch.node("Relu", "x"))])
    assert rewrite(graph, row) is graph


@pytest.mark.parametrize(("kind", "matches"), [("Add", True), ("Mul", True), ("Sub", False)])
@pytest.mark.parametrize("swapped", [False, True])
def test_commutative_operands_match_in_either_order(kind: str, matches: bool, swapped: bool) -> None:
    sketch = Sketch()
    operands = [sketch.node("Tanh", "x"), "x"]
    graph = sketch.build([sketch.node(kind, *(reversed(operands) if swapped else operands))])
    after = rewrite(graph, (rule(op[kind](op.Tanh(x), y), lambda new, y: new.Abs(y)),))
    assert (after is not graph) == (matches or not swapped)


def test_numbers_match_constants_of_one_element() -> None:
    sketch = Sketch()
    row = (rule(op.Add(x, 3.0), lambda new, x: new.Abs(x)),)
    three = sketch.constant(np.full((1, 1, 1), 3, np.float32))
    assert operators(rewrite(sketch.build([sketch.node("Add", "x", three)]), row)) == ["Abs"]
    graph = sketch.build([sketch.node("Add", "x", sketch.number(3.5))])
    assert rewrite(graph, row) is graph


def test_constant_captures_need_constants() -> None:
    sketch = Sketch()
    row = (rule(op.Mul(x, constant("c")), lambda new, x, c: new.Mul(x, c.array * 2) if c.array < 5 else None),)
    graph = sketch.build([sketch.node("Mul", "x", "x")])
    assert rewrite(graph, row) is graph
    after = rewrite(sketch.build([sketch.node("Mul", "x", sketch.number(1.5))]), row)
    assert [float(array) for array in after.constants.values()] == [6.0]


def test_optional_operands_and_rest() -> None:
    sketch = Sketch()
    w = sketch.constant(np.ones((2, 2, 1, 1), np.float32))
    b = sketch.constant(np.ones(2, np.float32))
    seen = []
    row = (rule(op.Conv(x, constant("w"), optional(constant("b"))), lambda b: seen.append(b and b.name)),)
    rewrite(sketch.build([sketch.node("Conv", "x", w), sketch.node("Conv", "x", w, b)]), row)
    assert seen == [None, b]
    without = (rule(op.Conv(x, constant("w")), lambda new, x: new.Abs(x)),)
    assert operators(rewrite(sketch.build([sketch.node("Conv", "x", w), sketch.node("Conv", "x", w, b)]), without)) == [
        "Abs",
        "Conv",
    ]
    tail = (rule(op.Concat(x, rest("others")), lambda new, others: others[0] if len(others) == 1 else None),)
    graph = sketch.build([sketch.node("Relu", sketch.node("Concat", "x", sketch.node("Tanh", "x"), axis=1))])
    with pytest.raises(GraphError, match=r"float32\[1,2,4,4\]"):
        rewrite(graph, tail)


def test_attributes_match_with_their_defaults() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Elu", "x"), sketch.node("Elu", "x", alpha=2.0)])
    after = rewrite(graph, (rule(op.Elu(x, alpha=1.0), lambda new, x: new.Abs(x)),))
    assert operators(after) == ["Abs", "Elu"]


def test_named_nodes_give_attributes_with_defaults() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Relu", sketch.node("Elu", "x"))])
    row = rule(op.Relu(op.Elu(x).named("elu")), lambda new, x, elu: new.Elu(x, alpha=elu.alpha + 1))
    assert rewrite(graph, (row,)).nodes[0].attributes == {"alpha": 2.0}


def test_the_first_row_that_fits_wins_and_declining_passes_on() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Relu", "x")])
    rows = (rule(op.Relu(x), lambda x: None), rule(op.Relu(x), lambda new, x: new.Abs(x)), relu_to_tanh())
    assert operators(rewrite(graph, rows)) == ["Abs"]


def test_what_a_declining_function_built_is_dropped() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Relu", "x")])
    assert rewrite(graph, (rule(op.Relu(x), lambda new, x: new.Neg(new.Abs(x)) and None),)) is graph


def test_a_rewrite_far_up_wakes_the_readers_below() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Abs", sketch.node("Sqrt", sketch.node("Neg", "x")))])
    rows = (
        rule(op.Neg(x), lambda new, x: new.Exp(x)),
        rule(op.Abs(op.Sqrt(op.Exp(x))), lambda new, x: new.Tanh(x)),
    )
    assert operators(rewrite(graph, rows)) == ["Tanh"]


def test_losing_a_reader_wakes_the_others() -> None:
    sketch = Sketch()
    tanh = sketch.node("Tanh", "x")
    graph = sketch.build([sketch.node("Relu", tanh), sketch.node("Neg", tanh)])
    rows = (
        rule(op.Relu(op.Tanh(x)), lambda new, x: new.Abs(x)),
        rule(op.Neg(op.Tanh(x).shared()), lambda new, x: new.Exp(x)),
    )
    assert sorted(operators(rewrite(graph, rows))) == ["Abs", "Exp"]


def test_an_output_that_is_an_input_keeps_an_identity() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Relu", "x", name="out")])
    after = rewrite(graph, (rule(op.Relu(x), lambda x: x), rule(op.Identity(x), lambda x: x)))
    assert operators(after) == ["Identity"] and after.outputs == ("out",)


def test_an_output_takes_its_name_along() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Identity", sketch.node("Relu", "x", name="inner"), name="out")])
    after = rewrite(graph, (rule(op.Identity(x), lambda x: x),)).verify()
    assert [(node.op, node.name, node.output) for node in after.nodes] == [("Relu", "inner", "out")]


def test_two_outputs_never_become_one() -> None:
    sketch = Sketch()
    relu = sketch.node("Relu", "x", name="a")
    graph = sketch.build([relu, sketch.node("Identity", relu, name="b")])
    after = rewrite(graph, (rule(op.Identity(x), lambda x: x),))
    assert after is graph


def test_several_results_are_replaced_together() -> None:
    sketch = Sketch()
    parts = sketch.add("Split", ["x"], {"axis": 1, "num_outputs": 2})
    graph = sketch.build([sketch.node("Relu", parts[1]), sketch.node("Tanh", parts[0])])

    def halves(new, x, root):  # type: ignore[no-untyped-def]
        return tuple(
            new.Slice(x, np.asarray([index]), np.asarray([index + 1]), np.asarray([1])) for index in range(len(root.results))
        )

    after = rewrite(graph, (rule(op.Split(x), halves),))
    assert operators(after) == ["Slice", "Slice", "Relu", "Tanh"]
    assert after.producers[after.nodes[2].inputs[0]].output == parts[1]


def test_order_is_topological_when_a_replacement_reads_later_values() -> None:
    sketch = Sketch()
    early = sketch.node("Relu", "x", name="early")
    late = sketch.node("Tanh", "x", name="late")
    graph = sketch.build([sketch.node("Add", early, late)])
    after = rewrite(graph, (rule(op.Relu(x), lambda new, x: new.Exp(new.value("late"))),))
    assert operators(after) == ["Tanh", "Exp", "Add"]


def test_another_type_is_refused() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Relu", "x")])
    with pytest.raises(GraphError, match="in the place of Relu node"):
        rewrite(graph, (rule(op.Relu(x), lambda new, x: new.Flatten(x)),))


def test_rules_that_undo_each_other_are_found_out() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Relu", "x", name="restless")])
    rows = (rule(op.Relu(x), lambda new, x: new.Abs(x)), rule(op.Abs(x), lambda new, x: new.Relu(x)))
    with pytest.raises(GraphError, match="restless"):
        rewrite(graph, rows)


def test_a_cycle_is_found_out() -> None:
    sketch = Sketch()
    graph = sketch.build([sketch.node("Tanh", sketch.node("Relu", "x"), name="after")])
    once = rule(op.Relu(values("x")), lambda new, root: new.Abs(new.value("after")))
    with pytest.raises(GraphError, match="cycle"):
        rewrite(graph, (once,))


def test_a_rule_names_only_what_its_pattern_captures() -> None:
    with pytest.raises(ValueError, match="found parameter 'w'"):
        rule(op.Relu(x), lambda w: w)


def test_dead_nodes_neither_match_nor_block() -> None:
    sketch = Sketch()
    tanh = sketch.node("Tanh", "x")
    dead = sketch.node("Neg", tanh)
    out = sketch.node("Relu", tanh)
    graph = Graph("test", ("x",), (out,), tuple(sketch.nodes), sketch.types, {})
    assert dead in graph.types
    after = rewrite(graph, (rule(op.Relu(op.Tanh(x)), lambda new, x: new.Abs(x)),))
    assert operators(after) == ["Abs"]


def test_work_grows_with_the_rewrites_only() -> None:
    """Counted in calls of functions, which are the same on a busy machine."""

    def calls(count: int) -> int:
        made = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        sketch = Sketch()
        value = sketch.x
        for _ in range(count):
            value = sketch.node("Relu", value)
        graph = sketch.build([value])
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            rewrite(graph, (relu_to_tanh(), rule(op.Tanh(op.Tanh(op.Neg(x))), lambda x: x)))
        finally:
            sys.setprofile(before)
        return made

    calls(10)
    assert calls(600) < 4.5 * calls(150)
