"""Layouts: blocks and halos by what kernels read and write, copies only where two cannot agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.passes.before_and_after import answers
from tests.passes.before_and_after import graph as parse
from tests.passes.physical_graphs import FOUR_LANES, SIXTEEN_LANES, convolution, network, physical
from tests.random_graphs import graphs

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Phase, relative_error, run
from tapdot.compiler.workloads import VIEWS, workload_of
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.registry import select
from tapdot.kernels.target import find_target
from tapdot.passes.assign_layouts import AssignLayouts, is_channel_concat
from tapdot.passes.compress_weights import CompressWeights
from tapdot.passes.plan_memory import plan_memory
from tapdot.passes.recipes import recipe

quick = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
INPUT = "input %x: float32[1,16,8,8]"


def copies(model: Graph) -> list[str]:
    return [node.name for node in model.nodes if node.op == "Relayout"]


def test_the_border_of_a_reader_is_part_of_the_writers_buffer() -> None:
    model = physical(network(INPUT, convolution("a", "x", (16, 16), 8), convolution("b", "a", (16, 16), 8), "return %b"))
    layout = model.type("a").layout
    assert layout is not None
    assert layout.channel_block == 16
    assert layout.halo.covers(Halo(1, 1, 0, 0))
    assert not [name for name in copies(model) if name.startswith("a.")]


def test_what_the_caller_gives_and_takes_is_row_major() -> None:
    model = physical(network(INPUT, convolution("a", "x", (16, 16), 8), "return %a"))
    assert model.type("x").layout is None
    (result,) = model.outputs
    layout = model.type(result).layout
    assert layout is None or layout.is_dense_order(model.type(result).shape)


def test_readers_that_want_the_same_share_one_copy() -> None:
    model = physical(
        network(
            INPUT,
            convolution("a", "x", (16, 16), 8),
            convolution("b", "x", (16, 16), 8),
            "%s: float32[1,16,8,8] = Add(%a, %b)",
            "return %s",
        )
    )
    assert len([name for name in copies(model) if name.startswith("x.")]) == 1


def test_every_copy_is_a_remark() -> None:
    model = parse(network(INPUT, convolution("a", "x", (16, 16), 8), "return %a"))
    layout = Phase("layout", (AssignLayouts(find_target(SIXTEEN_LANES)),))
    outcome = run(model, (*recipe("float"), layout))
    assert len(outcome.notes) == len(copies(outcome.graph)) == 2
    assert "'x' is copied from row-major" in outcome.notes[0]


@pytest.mark.parametrize(("channels", "shared"), [((16, 32, 8), True), ((8, 16, 16), False)])
def test_branches_of_whole_blocks_share_the_layout_of_their_concatenation(channels: tuple[int, ...], shared: bool) -> None:
    total = sum(channels)
    branches = [convolution(f"b{index}", "x", (16, count), 8) for index, count in enumerate(channels)]
    names = ", ".join(f"%b{index}" for index in range(len(channels)))
    model = physical(
        network(
            INPUT,
            *branches,
            f"%all: float32[1,{total},8,8] = Concat({names}) {{axis=1}}",
            convolution("y", "all", (total, 16), 8),
            "return %y",
        )
    )
    (concat,) = [node for node in model.nodes if node.op == "Concat"]
    layouts = {model.type(name).layout for name in (*concat.inputs, concat.output)}
    assert (len(layouts) == 1 and layouts != {None}) == shared


def test_a_view_reads_row_major_and_dense_order_counts_as_such() -> None:
    model = physical(
        network(
            INPUT,
            convolution("a", "x", (16, 16), 8),
            "%g: float32[1,16,1,1] = GlobalAveragePool(%a)",
            "%f: float32[1,16] = Flatten(%g) {axis=1}",
            "return %f",
        )
    )
    assert not [name for name in copies(model) if name.startswith("g.")]
    spread = physical(
        network(INPUT, convolution("a", "x", (16, 16), 8), "%f: float32[1,1024] = Flatten(%a) {axis=1}", "return %f")
    )
    layout = spread.type("a").layout
    assert layout is None or [name for name in copies(spread) if name.startswith("a.")]


def test_each_output_is_a_buffer_of_its_own() -> None:
    model = physical("input %x: float32[1,4]\n%y: float32[1,4] = Relu(%x)\nreturn %y, %y, %x")
    assert len(set(model.outputs)) == 3
    assert not set(model.outputs) & set(model.inputs)


@quick
@given(graphs())
@pytest.mark.parametrize("target", [FOUR_LANES, SIXTEEN_LANES])
def test_every_kernel_reads_what_it_can_and_the_answer_stays(target: str, graph: Graph) -> None:
    model = physical(graph, target).verify()
    for expected, found in zip(answers(graph), answers(model), strict=True):
        assert relative_error(expected, found) <= 1e-4
    processor = find_target(target)
    for node in model.nodes:
        if node.op in VIEWS:
            assert all(_dense(model, name) for name in (node.inputs[0], node.output))
        elif not (is_channel_concat(model, node) and model.type(node.output).layout is not None):
            ports = select(workload_of(model, node), processor).ports(workload_of(model, node), processor)
            for name, port in zip(node.inputs, ports.inputs, strict=False):
                if name and name not in model.constants and port is not None:
                    layout = model.type(name).layout
                    if port.blocks:
                        assert (layout or Layout()).channel_block in port.blocks
                        assert (layout or Layout()).halo.covers(port.halo)
                    else:
                        assert _dense(model, name)
    assert all(_dense(model, name) for name in (*model.inputs, *model.outputs))


def _dense(model: Graph, name: str) -> bool:
    kind = model.type(name)
    return kind.layout is None or kind.layout.is_dense_order(kind.shape)


# -- codes -------------------------------------------------------------------------------------------------------------------


def integer_convolution(value: str, source: str, channels: tuple[int, int], size: int, zero_point: int = 0, pad: int = 1) -> str:
    """Lines for a convolution of uint8 codes."""
    kernel = 2 * pad + 1
    epilogue = "Narrow(Dyadic(acc, multiplier=1500000000, shift=40), zero_point=0, low=0, high=255, dtype='uint8')"
    return (
        f"constant %{value}.w: int8[{channels[1]},{channels[0]},{kernel},{kernel}]\n"
        f"%{value}: uint8[1,{channels[1]},{size},{size}] = QConv(%{source}, %{value}.w) {{dilations=[1, 1], "
        f'epilogue="{epilogue}", pads=[{pad}, {pad}, {pad}, {pad}], strides=[1, 1], zero_point={zero_point}}}\n'
    )


CODES = "input %x: uint8[1,16,8,8]"
SIGNED = "cortex-a76"


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of codes that reads and writes blocks of 16, whatever kernels there are by now."""
    from tapdot.kernels.fallback import Fallback
    from tapdot.kernels.family import Port, Ports
    from tapdot.passes import sides

    class Blocks(Fallback):
        def ports(self, workload, target):  # type: ignore[no-untyped-def]
            pads = workload["pads"]
            return Ports((Port((16,), Halo(*pads)), None), (Port((16,)),))

    def choose(workload, target):  # type: ignore[no-untyped-def]
        return Blocks() if workload.op == "QConv" else select(workload, target)

    monkeypatch.setattr(sides, "select", choose)


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize(("target", "offset"), [(SIXTEEN_LANES, 0), (SIGNED, -128)])
def test_codes_are_stored_with_the_sign_of_the_targets_dot_product(target: str, offset: int) -> None:
    model = physical(
        network(CODES, integer_convolution("a", "x", (16, 16), 8), integer_convolution("b", "a", (16, 16), 8, 7), "return %b"),
        target,
    )
    assert model.type("a").layout == Layout(16, Halo(1, 1, 1, 1), zero=7 + offset, code_offset=offset)
    (copy,) = [name for name in copies(model) if name.startswith("x.")]
    assert model.type(copy).layout == Layout(16, Halo(1, 1, 1, 1), zero=offset, code_offset=offset)
    (result,) = model.outputs
    assert model.type(result).layout is None  # (1)


@pytest.mark.usefixtures("in_blocks")
def test_readers_of_a_halo_agree_on_the_code_of_zero_or_get_a_copy() -> None:
    model = physical(
        network(
            CODES,
            integer_convolution("a", "x", (16, 16), 8),
            integer_convolution("b", "a", (16, 16), 8, 7),
            integer_convolution("c", "a", (16, 16), 8, 9),
            integer_convolution("d", "a", (16, 16), 8, 200, pad=0),
            "return %b, %c, %d",
        )
    )
    layouts = [model.type(name).layout for name in ("a", *(name for name in copies(model) if name.startswith("a.")))]
    assert sorted(layout.zero for layout in layouts if layout) == [7, 9]  # a reader without a halo takes either


@pytest.mark.usefixtures("in_blocks")
def test_codes_that_only_views_read_are_not_shifted() -> None:
    """A signed target, and nothing that would want signed codes."""
    pooled = (
        '%g: uint8[1,16,1,1] = QGlobalSum(%a) {epilogue="Narrow(Dyadic(acc, multiplier=1500000000, shift=38), zero_point=0, '
        "low=0, high=255, dtype='uint8')\", zero_point=0}"
    )
    model = physical(
        network(
            CODES,
            integer_convolution("a", "x", (16, 16), 8),
            pooled,
            "%f: uint8[1,16] = Flatten(%g) {axis=1}",
            "return %f",
        ),
        SIGNED,
    )
    layout = model.type("g").layout
    assert layout is None or layout.code_offset == 0
    assert not [name for name in copies(model) if name.startswith("g.")]


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("target", [SIXTEEN_LANES, FOUR_LANES])
@pytest.mark.parametrize(("channels", "shared"), [((16, 32, 8), True), ((8, 16, 16), False)])
def test_branches_of_codes_share_blocks_of_sixteen_everywhere(target: str, channels: tuple[int, ...], shared: bool) -> None:
    total = sum(channels)
    branches = [integer_convolution(f"b{index}", "x", (16, count), 8) for index, count in enumerate(channels)]
    names = ", ".join(f"%b{index}" for index in range(len(channels)))
    lines = (
        *branches,
        f"%all: uint8[1,{total},8,8] = Concat({names}) {{axis=1}}",
        integer_convolution("y", "all", (total, 16), 8, 5),
    )
    model = physical(network(CODES, *lines, "return %y"), target)
    (concat,) = [node for node in model.nodes if node.op == "Concat"]
    assert (len({model.type(name).layout for name in (*concat.inputs, concat.output)}) == 1) == shared
    vanished = plan_memory(model).vanished
    assert ("all" in vanished) == shared


def test_quantize_writes_what_its_reader_wants() -> None:
    """The image's copy, its border and its interleaving are part of the edge."""
    text = (
        'input %i: float32[1,3,8,8]\n%x: uint8[1,3,8,8] = Quantize(%i) {dtype="uint8", high=255, low=0, scale=0.1}\n'
        "%y: float32[1,3,8,8] = Dequantize(%x) {scale=0.1}\nreturn %y"
    )
    model = physical(text)
    assert not copies(model)
    assert model.type("x").layout == Layout(4)


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("target", [SIXTEEN_LANES, FOUR_LANES])
def test_codes_joined_with_themselves_lie_in_blocks_that_the_kernel_copies(target: str) -> None:
    """An image in quads could be a slice, but one given twice is none, and the copying kernel knows blocks of sixteen."""
    lines = (
        "input %x: float32[1,4,8,8]",
        '%q: uint8[1,4,8,8] = Quantize(%x) {scale=0.02, zero_point=0, low=0, high=255, dtype="uint8"}',
        "%all: uint8[1,8,8,8] = Concat(%q, %q) {axis=1}",
        integer_convolution("y", "all", (8, 16), 8, 5),
    )
    model = physical(network(*lines, "return %y"), target)
    (concat,) = [node for node in model.nodes if node.op == "Concat"]
    kernel = select(workload_of(model, concat, layouts=False), find_target(target))
    blocks = kernel.ports(workload_of(model, concat, layouts=False), find_target(target)).outputs[0].blocks
    assert concat.name not in plan_memory(model).vanished
    for name in (*concat.inputs, concat.output):
        layout = model.type(name).layout
        assert (1 if layout is None else layout.channel_block) in blocks


# -- planar rows -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse convolutions read and write planar rows, a little behind their end too; pools take either side, all alike."""
    from tapdot.kernels.fallback import Fallback
    from tapdot.kernels.family import Port, Ports
    from tapdot.passes import sides

    class Planes(Fallback):
        def ports(self, workload, target):  # type: ignore[no-untyped-def]
            own = [None if x is None or x.constant else Port((1,)) for x in workload.inputs]
            own[0] = Port((1,), Halo(*workload["pads"]), behind=True)
            return Ports(tuple(own), (Port((1,)),))

    class Either(Fallback):
        def ports(self, workload, target):  # type: ignore[no-untyped-def]
            return Ports((Port((16, 1)),), (Port((16, 1)),), uniform=True)

    class Blocks(Fallback):
        def ports(self, workload, target):  # type: ignore[no-untyped-def]
            return Ports((Port((16,), Halo(*workload["pads"])), None), (Port((16,)),))

    families = {"QSparseConv": Planes(), "SparseConv": Planes(), "MaxPool": Either(), "QConv": Blocks()}
    monkeypatch.setattr(sides, "select", lambda workload, target: families.get(workload.op) or select(workload, target))


def codes_network(*lines: str, sparse: str = "", target: str = SIXTEEN_LANES, given: str = CODES) -> Graph:
    """A graph of codes with layouts, the convolutions named in ``sparse`` pruned and compressed."""
    model = parse(network(given, *lines))
    constants = dict(model.constants)
    for name in sparse.split():
        weight = constants[f"{name}.w"].copy()
        weight[...] = 0
        weight.reshape(*weight.shape[:2], -1)[:, ::2, weight.shape[2] * weight.shape[3] // 2] = 3
        constants[f"{name}.w"] = weight
    compressed = CompressWeights(None)(model.replace(constants=constants))
    return AssignLayouts(find_target(target))(compressed).verify()


POOL = "%p: uint8[1,16,4,4] = MaxPool(%a) {kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]}"


@pytest.mark.usefixtures("in_planes")
@pytest.mark.parametrize(("target", "offset"), [(SIXTEEN_LANES, 0), (SIGNED, -128)])
def test_planar_codes_have_the_sign_that_sparse_kernels_want(target: str, offset: int) -> None:
    """Rule 5, and the border of rule 6 with it."""
    model = codes_network(
        integer_convolution("a", "x", (16, 16), 8),
        integer_convolution("b", "a", (16, 16), 8, 7),
        "return %b",
        sparse="a b",
        target=target,
    )
    assert model.type("a").layout == Layout(1, Halo(1, 1, 1, 1), zero=7 + offset, code_offset=offset)
    assert model.type(model.outputs[0]).layout is None
    assert [node.op for node in model.nodes] == ["Relayout", "QSparseConv", "QSparseConv"]


@pytest.mark.usefixtures("in_planes")
def test_what_takes_either_side_follows_its_neighbours() -> None:
    """Rule 7: a pool between sparse layers is in planes, one between dense layers in blocks; bytes decide between two."""
    lines = (integer_convolution("a", "x", (16, 16), 8), POOL, integer_convolution("b", "p", (16, 16), 4), "return %b")

    def blocks(sparse: str) -> tuple[int, int, int]:
        model = codes_network(*lines, sparse=sparse)
        within = [node for node in model.nodes if node.op == "Relayout" and node.output not in model.outputs]
        layouts = [model.type(name).layout for name in ("a", "p")]
        sides = [1 if layout is None else layout.channel_block for layout in layouts]
        return (*sides, sum("x" not in node.inputs for node in within))  # type: ignore[return-value]

    assert blocks("a b") == (1, 1, 0)
    assert blocks("") == (16, 16, 0)
    assert blocks("a") == (1, 1, 1), "the smaller result is copied, not the larger operand"
    assert blocks("b") == (16, 16, 1)


@pytest.mark.usefixtures("in_planes")
def test_the_callers_tensor_is_never_read_behind_its_end() -> None:
    """Rule 8: a 1x1 layer could read row-major floats as planar rows; of the caller they are copied all the same."""
    text = network(
        "input %x: float32[1,16,8,8]",
        convolution("a", "x", (16, 16), 8, 1),
        convolution("b", "a", (16, 16), 8, 1),
        "return %b, %a",
    )
    model = run(parse(text), recipe("float")).graph
    constants = {name: np.where(np.arange(16)[:, None, None] % 8 < 4, array, 0) for name, array in model.constants.items()}
    made = AssignLayouts(find_target(SIXTEEN_LANES))(CompressWeights(None)(model.replace(constants=constants))).verify()
    for node in made.nodes:
        if node.op == "SparseConv":
            producer = made.producer(node.inputs[0])
            assert producer is not None and producer.op == "Relayout"
            assert node.inputs[0] not in (*made.inputs, *made.outputs)
    assert len(copies(made)) == 2


@pytest.mark.usefixtures("in_planes")
def test_one_copy_serves_a_reader_with_a_border_and_one_without() -> None:
    model = codes_network(
        integer_convolution("a", "x", (16, 16), 8),
        integer_convolution("b", "a", (16, 16), 8, 7),
        integer_convolution("c", "a", (16, 16), 8, 9, pad=0),
        "return %b, %c",
        sparse="b c",
    )
    copied = [name for name in copies(model) if name.startswith("a.")]
    assert [model.type(name).layout for name in copied] == [Layout(1, Halo(1, 1, 1, 1), zero=7)]


@pytest.mark.usefixtures("in_planes")
def test_branches_in_planar_rows_share_the_layout_of_their_concatenation() -> None:
    """Channels of planar rows lie one after the other, however many a branch has."""
    model = codes_network(
        integer_convolution("a", "x", (16, 24), 8),
        integer_convolution("b", "x", (16, 8), 8),
        "%all: uint8[1,32,8,8] = Concat(%a, %b) {axis=1}",
        integer_convolution("y", "all", (32, 16), 8, 5),
        "return %y",
        sparse="a b y",
    )
    (concat,) = [node for node in model.nodes if node.op == "Concat"]
    layouts = {model.type(name).layout for name in (*concat.inputs, concat.output)}
    assert layouts == {Layout(1, Halo(1, 1, 1, 1), zero=5)}
