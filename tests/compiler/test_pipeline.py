"""Running passes: order, dumps, checks that name the pass, and properties that are held to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tapdot.compiler.errors import GraphError, TapdotError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.pipeline import Notes, Pass, Phase, Property, relative_error, run, seeded_inputs, summary
from tapdot.compiler.rewrite import op, rewrite, rule, values
from tapdot.compiler.text import parse_graph
from tapdot.compiler.types import TensorType

x = values("x")


@dataclass(frozen=True)
class ReluToAbs(Pass):
    """Wrong on purpose: differs where ``x`` is negative."""

    def run(self, graph: Graph, notes: Notes) -> Graph:
        notes.add("Every Relu is an Abs now.")
        return rewrite(graph, (rule(op.Relu(x), lambda new, x: new.Abs(x)),))


@dataclass(frozen=True)
class ReluToAbsOnPurpose(ReluToAbs):
    """The same, declared."""

    tolerance = None


@dataclass(frozen=True)
class DoubleNegation(Pass):
    """``Neg(Neg(x))`` is ``x``."""

    tolerance = 0.0

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return rewrite(graph, (rule(op.Neg(op.Neg(x)), lambda x: x),))


@dataclass(frozen=True)
class Forth(Pass):
    """Undoes ``Back``."""

    tolerance = None

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return graph.map_nodes(lambda node: replace(node, op="Neg"))


@dataclass(frozen=True)
class Broken(Pass):
    """Forgets a node others need."""

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return graph.replace(nodes=graph.nodes[1:])


def chain(*ops: str) -> Graph:
    """Operators one after the other."""
    builder = GraphBuilder("chain")
    value = builder.input("x", TensorType((2, 8), "float32"))
    for index, name in enumerate(ops):
        (value,) = builder.add(name, [value], name=f"n{index}")
    return builder.build([value])


def test_records_say_what_happened() -> None:
    graph = chain("Neg", "Neg", "Relu")
    outcome = run(graph, (Phase("tidy", (DoubleNegation(),)), Phase("spoil", (ReluToAbs(),))))
    assert [node.op for node in outcome.graph.nodes] == ["Abs"]
    first, second = outcome.records
    assert (first.phase, first.name) == ("tidy", "double_negation")
    assert (first.nodes_before, first.nodes_after, first.changed) == (3, 1, True)
    assert (second.name, second.error) == ("relu_to_abs", None)
    assert outcome.notes == ("Every Relu is an Abs now.",)
    assert outcome.seconds == pytest.approx(sum(summary(outcome.records).values())) and outcome.seconds > 0


def test_check_names_the_pass_that_changed_the_answer() -> None:
    recipe = (Phase("tidy", (DoubleNegation(),)), Phase("spoil", (ReluToAbs(),)))
    with pytest.raises(TapdotError, match="'relu_to_abs' in the phase 'spoil' changed the answer: output 'n2' differs by"):
        run(chain("Neg", "Neg", "Relu"), recipe, check=True)


def test_check_lets_declared_changes_through_and_compares_afterwards() -> None:
    recipe = (Phase("all", (ReluToAbsOnPurpose(), DoubleNegation())),)
    outcome = run(chain("Relu", "Neg", "Neg", "Exp"), recipe, check=True)
    assert [record.error for record in outcome.records] == [None, 0.0]


def test_a_broken_graph_names_the_pass() -> None:
    with pytest.raises(GraphError, match="'broken' in the phase 'oops' made a broken graph"):
        run(chain("Neg", "Relu"), (Phase("oops", (Broken(),)),))


def test_a_phase_repeats_until_it_is_stable() -> None:
    graph = chain(*["Neg"] * 6)
    stable = run(graph, (Phase("tidy", (DoubleNegation(),), until_stable=True),))
    assert [record.changed for record in stable.records] == [True, False]


def test_a_phase_that_never_settles_is_found_out() -> None:
    with pytest.raises(GraphError, match="'restless' to settle within"):
        run(chain("Neg"), (Phase("restless", (Forth(),), until_stable=True),))


def test_properties_are_held_to() -> None:
    no_relu = Property("no Relu", lambda graph: next((f"{node.name} is one" for node in graph.nodes if node.op == "Relu"), None))

    @dataclass(frozen=True)
    class Picky(DoubleNegation):
        requires = (no_relu,)

    @dataclass(frozen=True)
    class Promising(DoubleNegation):
        ensures = (no_relu,)

    with pytest.raises(GraphError, match="'picky' requires no Relu, but n0 is one"):
        run(chain("Relu"), (Phase("all", (Picky(),)),))
    with pytest.raises(GraphError, match="'promising' promised no Relu, but n0 is one"):
        run(chain("Relu"), (Phase("all", (Promising(),)),))
    run(chain("Relu"), (Phase("all", (ReluToAbs(), Picky(), Promising())),))


def test_dump_writes_every_graph_in_order(tmp_path: Path) -> None:
    graph = chain("Neg", "Neg", "Relu")
    recipe = (Phase("tidy up", (DoubleNegation(),), until_stable=True), Phase("spoil", (ReluToAbs(),)))
    outcome = run(graph, recipe, dump=tmp_path / "dump")
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert names == [
        "00-import.txt",
        "01-tidy-up.double_negation.txt",
        "02-tidy-up.txt",
        "03-spoil.relu_to_abs.txt",
        "04-spoil.txt",
    ]
    assert str(parse_graph((tmp_path / "dump" / names[0]).read_text())) == str(graph)
    assert (tmp_path / "dump" / names[-1]).read_text() == str(outcome.graph)


def test_dump_into_a_file_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(TapdotError, match="taken"):
        run(chain("Relu"), (), dump=tmp_path / "taken")


def test_check_finds_indices_that_exist() -> None:
    builder = GraphBuilder("gather")
    table, index = builder.input("table", TensorType((1, 4), "float32")), builder.input("index", TensorType((3,), "int64"))
    (row,) = builder.add("Gather", [table, index], {"axis": 0})
    graph = builder.build([builder.add("Relu", [row])[0]])
    assert run(graph, (Phase("all", (ReluToAbsOnPurpose(), DoubleNegation())),), check=True).graph.nodes[1].op == "Abs"


def test_check_says_when_made_up_inputs_do_not_fit() -> None:
    builder = GraphBuilder("division")
    left, right = (builder.input(name, TensorType((64,), "int32")) for name in ("left", "right"))
    graph = builder.build(builder.add("Div", [left, right]))
    with pytest.raises(TapdotError, match="cannot run 'division' on made-up inputs"):
        run(graph, (), check=True)


def test_seeded_inputs_depend_on_the_seed_only() -> None:
    builder = GraphBuilder("inputs")
    for name, kind in {"f": "float32", "i": "int64", "b": "bool"}.items():
        builder.input(name, TensorType((64,), kind))
    graph = builder.build([])
    one, same, other = seeded_inputs(graph, 1), seeded_inputs(graph, 1), seeded_inputs(graph, 2)
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["f"], other["f"])
    assert {name: array.dtype.name for name, array in one.items()} == {"f": "float32", "i": "int64", "b": "bool"}
    assert one["i"].min() >= 0


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, -2.0], [1.0, -1.5], 0.25),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan, 1.0], [np.nan, 2.0], 1.0),
        ([np.inf, 1.0], [np.inf, 1.5], 0.5),
        ([1.0, 1.0], [np.nan, 1.0], np.inf),
        ([1.0, 1.0], [np.inf, 1.0], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([0.0], [0.0], 0.0),
    ],
)
def test_relative_error(expected: list[float], found: list[float], error: float) -> None:
    assert relative_error(np.asarray(expected), np.asarray(found)) == error
