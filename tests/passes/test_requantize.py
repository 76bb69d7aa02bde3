"""From simulated to real integers: forms, islands, options, refusals, and that random networks compute what was simulated."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from tests.passes.before_and_after import graph, nodes
from tests.random_graphs import graphs

from tapdot.compiler.errors import GraphError, ModelError, TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.operators.fused import parsed
from tapdot.compiler.pipeline import Notes, Phase, run
from tapdot.compiler.precision import float_islands
from tapdot.compiler.types import Quant, TensorType
from tapdot.kernels import numerics
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.fold_constants import FoldConstants
from tapdot.passes.fuse import Fuse
from tapdot.passes.recipes import clean_up
from tapdot.passes.requantize import INTEGER, Requantize

quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

WINDOW = "strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1"
T = "float32[1,4,5,6]"
U = 'low=0, high=255, dtype="uint8"'
S = 'low=-128, high=127, dtype="int8"'
HEADER = """
    input %x: float32[1,4,5,6]
    constant %w: float32[4,4,3,3]
    constant %v: float32[4,4,3,3]
    constant %b: float32[4]
    %q: float32[1,4,5,6] = FakeQuantize(%x) {scale=0.02, zero_point=3, low=-128, high=127, dtype="int8"}
"""


PADS, NO_PADS = "pads=[1, 1, 1, 1]", "pads=[0, 0, 0, 0]"
BORDER = "constant %p: int64[8] = [0, 0, 1, 0, 0, 0, 1, 2]"
SUM_POOL = ["Quantize", "QSumPool"]


def fused(text: str) -> Graph:
    return Fuse()(graph(text))


def requantized(text: str, **options: object) -> tuple[Graph, list[str]]:
    """The integer graph, verified, and the notes; it is not touched again."""
    notes = Notes()
    made = Requantize(**options).run(fused(text), notes).verify()  # type: ignore[arg-type]
    assert INTEGER.violation(made) is None
    assert Requantize()(made) is made
    return made, notes.lines


def answers(model: Graph, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    inputs = {
        name: torch.from_numpy(generator.standard_normal(model.type(name).shape).astype(np.float32)) for name in model.inputs
    }
    with torch.no_grad():
        results = interpret(model, inputs)
    return [results[name].numpy() for name in model.outputs]


def on_grid(model: Graph) -> Graph:
    """Weights that 8-bit codes hold exactly, so that integers lose nothing that is not simulated."""
    constants = dict(model.constants)
    for node in model.nodes:
        if node.op in ("FusedConv", "FusedGemm"):
            axis = 0 if node.op == "FusedConv" else 1
            weight = constants[node.inputs[1]]
            scales = numerics.weight_scales(weight, 8, axis)
            shape = [1] * weight.ndim
            shape[axis] = -1
            codes = numerics.weight_codes(weight, scales, 8, axis)
            constants[node.inputs[1]] = (codes * scales.reshape(shape)).astype(np.float32)
    return model.replace(constants=constants)


def close(text: str, steps: float, **options: object) -> Graph:
    """The integer graph, whose answers are within ``steps`` of the last scale from those simulated."""
    simulated = on_grid(fused(text))
    made = Requantize(**options)(simulated)  # type: ignore[arg-type]
    for wanted, found in zip(answers(simulated), answers(made), strict=True):
        assert np.ptp(wanted) > 4 * steps, "the test must be able to fail"
        assert np.abs(wanted - found).max() <= steps * 1.001
    return made


# -- forms ---------------------------------------------------------------------------------------------------------------------

RESIDUAL = f"""{HEADER}
    %c: {T} = Conv(%q, %w, %b) {{{WINDOW}}}
    %r: {T} = Relu(%c)
    %f: {T} = FakeQuantize(%r) {{scale=0.05, {U}}}
    %d: {T} = Conv(%f, %v, %b) {{{WINDOW}}}
    %s: {T} = Add(%d, %q)
    %t: {T} = Relu(%s)
    %y: {T} = FakeQuantize(%t) {{scale=0.4, {U}}}
    return %y"""


def test_a_residual_block() -> None:
    made, notes = requantized(RESIDUAL)
    narrow = "dtype='uint8', high=255, low=0, zero_point=0"
    multiplier, shift = numerics.dyadic_parameters(0.02 / 0.4)
    first = f"Narrow(Dyadic(acc, r0, r1), {narrow})"
    second = (
        f"Narrow(Add(Dyadic(acc, r0, r1), Dyadic(Widen(r2, zero_point=3), multiplier={multiplier}, shift={shift})), {narrow})"
    )
    assert re.sub(r" !quant\([^)]*\)", "", nodes(made)) == nodes(f"""
        %q = Quantize(%x) {{scale=0.02, zero_point=3, low=-128, high=127, dtype="int8"}}
        %f = QConv(%q, %w, %b, %c.multiplier, %c.shift) {{{WINDOW}, zero_point=3, epilogue="{first}"}}
        %y.codes = QConv(%f, %v, %b_1, %d.multiplier, %d.shift, %q) {{{WINDOW}, zero_point=0, epilogue="{second}"}}
        %y = Dequantize(%y.codes) {{scale=0.4, zero_point=0}}""")
    assert notes == [
        "Quantized: 2 FusedConv; weights of 8 bits, one scale an output channel.",
        "Conversion: 'q' from float32 to int8.",
        "Conversion: 'y' from uint8 to float32.",
    ]
    assert made.type("q").quant == Quant(8, (0.02,), (3,))
    assert made.type("y.codes") == TensorType((1, 4, 5, 6), "uint8", Quant(8, (0.4,)))
    close(RESIDUAL, 0.4)


LOGITS = """
    input %x: float32[2,8]
    constant %w: float32[8,4]
    constant %b: float32[4]
    %q: float32[2,8] = FakeQuantize(%x) {scale=0.02, zero_point=0, low=-128, high=127, dtype="int8"}
    %y: float32[2,4] = Gemm(%q, %w, %b)
    return %y"""


def test_logits_are_one_multiply_of_the_sum() -> None:
    made, notes = requantized(LOGITS)
    assert nodes(made).splitlines()[1].endswith('epilogue="Reals(acc, r0)"}')
    assert [node.op for node in made.nodes] == ["Quantize", "QGemm"]
    assert notes[1:] == ["Conversion: 'q' from float32 to int8."]
    np.testing.assert_allclose(answers(on_grid(fused(LOGITS)))[0], answers(made)[0], rtol=0.03)


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("%p: float32[1,4,1,1] = GlobalAveragePool(%q)", ["Quantize", "QGlobalSum"]),
        (
            "%p: float32[1,4,2,3] = AveragePool(%q) {kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]}",
            ["Quantize", "QSumPool"],
        ),
        (
            "%p: float32[1,4,5,6] = AveragePool(%q) {kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]}",
            ["Quantize", "QSumPool"],
        ),
        (
            "%p: float32[1,4,5,6] = AveragePool(%q) "
            "{kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], count_include_pad=1}",
            ["Quantize", "QSumPool"],
        ),
    ],
)
@pytest.mark.parametrize("ending", ["codes", "other codes", "rectified", "reals"])
def test_average_pools(body: str, ops: list[str], ending: str) -> None:
    shape = re.search(r"float32\[[\d,]*\]", body)[0]  # type: ignore[index]
    text = {
        "codes": f'{body}\n%y: {shape} = FakeQuantize(%p) {{scale=0.02, zero_point=3, low=-128, high=127, dtype="int8"}}',
        "other codes": f"{body}\n%y: {shape} = FakeQuantize(%p) {{scale=0.004, zero_point=128, {U}}}",
        "rectified": f"{body}\n%z: {shape} = Relu(%p)\n%y: {shape} = FakeQuantize(%z) {{scale=0.004, {U}}}",
        "reals": f"{body}\n%y: {shape} = Identity(%p)",
    }[ending]
    made = close(f"{HEADER}{text}\nreturn %y", {"codes": 0.02, "reals": 1e-5}.get(ending, 0.004))
    last = ["Identity"] if ending == "reals" else ["Dequantize"]
    assert [node.op for node in made.nodes] == ops + last


def test_a_pool_nobody_scales_keeps_the_scale_of_its_input() -> None:
    made = close(
        f"""{HEADER}
        %p: float32[1,4,5,6] = AveragePool(%q) {{kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]}}
        %y: {T} = Conv(%p, %w, %b) {{{WINDOW}}}
        return %y""",
        0.9,
    )
    assert made.type("p").quant == made.type("q").quant


@pytest.mark.parametrize(
    "body",
    [
        f"%y: {T} = MaxPool(%q) {{kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1]}}",
        f"%y: {T} = Identity(%q)",
        "%y: float32[1,5,6,4] = Transpose(%q) {perm=[0, 2, 3, 1]}",
        f"{BORDER}\n%y: float32[1,4,7,8] = Pad(%q, %p)",
        f'{BORDER}\n%y: float32[1,4,7,8] = Pad(%q, %p) {{mode="reflect"}}',
        f"{BORDER}\nconstant %f: float32[] = [0.5]\n%y: float32[1,4,7,8] = Pad(%q, %p, %f)",
        "constant %f: float32[4] = [1.0, 1.0, 2.0, 2.0]\n%y: float32[1,4,10,12] = Resize(%q, _, %f)",
        "%y: float32[1,8,5,6] = Concat(%q, %q) {axis=1}",
    ],
)
def test_what_moves_elements_moves_codes(body: str) -> None:
    made = close(f"{HEADER}{body}\nreturn %y", 0.01)
    assert [node.op for node in made.nodes][::2] == ["Quantize", "Dequantize"]
    assert made.type(made.nodes[1].output).quant == Quant(8, (0.02,), (3,))


def test_a_curve_is_a_table_in_the_epilogue() -> None:
    made = close(
        f"""{HEADER}
        %c: {T} = Conv(%q, %w, %b) {{{WINDOW}}}
        %f: {T} = FakeQuantize(%c) {{scale=0.05, {S}}}
        %h: {T} = HardSwish(%f)
        %y: {T} = FakeQuantize(%h) {{scale=0.03, zero_point=10, {U}}}
        return %y""",
        0.05,
    )
    assert [node.op for node in made.nodes] == ["Quantize", "QConv", "Dequantize"]
    assert str(made.nodes[1].attributes["epilogue"]).startswith("Lookup(Narrow(Dyadic(acc, r0, r1)")
    assert made.type("c.table") == TensorType((256,), "uint8")


def test_a_gate_multiplies_codes() -> None:
    made = close(
        f"""{HEADER}
        %p: float32[1,4,1,1] = GlobalAveragePool(%q)
        %g: float32[1,4,1,1] = Sigmoid(%p)
        %f: float32[1,4,1,1] = FakeQuantize(%g) {{scale=0.004, {U}}}
        %m: {T} = Mul(%q, %f)
        %y: {T} = FakeQuantize(%m) {{scale=0.01, {S}}}
        return %y""",
        0.02,
    )
    # The sigmoid of a mean that nothing quantized: the mean keeps its input's scale, and the table does the rest.
    assert [node.op for node in made.nodes] == ["Quantize", "QGlobalSum", "Elementwise", "Elementwise", "Dequantize"]
    assert "Mul(Widen(" in str(made.nodes[3].attributes["expression"])


def test_a_batch_norm_on_its_own_is_an_affine_map_by_channel() -> None:
    made = close(
        f"""{HEADER}
        constant %f: float32[1,4,1,1] = [1.5, -0.25, 0.0, 3.0]
        constant %s: float32[1,4,1,1] = [0.1, 0.2, -0.3, 0.0]
        %p: {T} = MaxPool(%q) {{kernel_shape=[1, 1], strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1]}}
        %m: {T} = Mul(%p, %f)
        %a: {T} = Add(%m, %s)
        %r: {T} = Relu(%a)
        %y: {T} = FakeQuantize(%r) {{scale=0.05, {U}}}
        return %y""",
        0.05,
    )
    (chain,) = (node for node in made.nodes if node.op == "Elementwise")
    assert len(chain.inputs) == 3 and "Mul(Widen(acc, zero_point=3), r0)" in str(chain.attributes["expression"])


# -- islands and options --------------------------------------------------------------------------------------------------------

ISLAND = f"""{HEADER}
    %c: {T} = Conv(%q, %w, %b) {{{WINDOW}}}
    %s: {T} = Softmax(%c) {{axis=1}}
    %f: {T} = FakeQuantize(%s) {{scale=0.004, {U}}}
    %d: {T} = Conv(%f, %v, %b) {{{WINDOW}}}
    return %d"""


def test_an_island_is_named_with_its_reason() -> None:
    made, notes = requantized(ISLAND)
    assert [node.op for node in made.nodes] == ["Quantize", "QConv", "Softmax", "Quantize", "QConv"]
    assert [node.name for island in float_islands(made) for node in island] == ["s"]
    assert "'s' stays float: Softmax has no integer form." in notes


def test_a_curve_without_codes_before_it_is_an_island_behind_an_integer_convolution() -> None:
    body = f"""
        %c: {T} = Conv(%q, %w, %b) {{{WINDOW}}}
        %s: {T} = Sigmoid(%c)
        %y: {T} = FakeQuantize(%s) {{scale=0.004, {U}}}
        %d: {T} = Conv(%y, %v, %b) {{{WINDOW}}}
        return %d"""
    made, notes = requantized(HEADER + body)
    assert [node.op for node in made.nodes] == ["Quantize", "QConv", "Elementwise", "Quantize", "QConv"]
    assert [node.name for island in float_islands(made) for node in island] == ["c.activation"]
    assert "'c.activation' stays float: Sigmoid of values without codes has no integer form." in notes


def test_only_planes_are_convolved_in_integers() -> None:
    text = """
        input %x: float32[1,4,8]
        constant %w: float32[4,4,3]
        constant %g: float32[32,3]
        %q: float32[1,4,8] = FakeQuantize(%x) {scale=0.02, low=-128, high=127, dtype="int8"}
        %c: float32[1,4,8] = Conv(%q, %w) {strides=[1], pads=[1, 1], dilations=[1], group=1}
        %f: float32[1,4,8] = FakeQuantize(%c) {scale=0.2, low=-128, high=127, dtype="int8"}
        %s: float32[1,32] = Flatten(%f)
        %y: float32[1,3] = Gemm(%s, %g)
        return %y"""
    made, notes = requantized(text)
    assert [node.op for node in made.nodes] == ["FusedConv", "Quantize", "Flatten", "QGemm"]
    assert "'c' stays float: it is not over planes: its input has the shape [1, 4, 8]." in notes


@pytest.mark.parametrize(
    ("options", "ops"),
    [
        ({"first_layer": "float"}, ["FusedConv", "Quantize", "Quantize", "QConv", "Dequantize"]),
        ({"last_layer": "float"}, ["Quantize", "QConv", "Dequantize", "FusedConv"]),
        ({"keep_float": ("d",)}, ["Quantize", "QConv", "Dequantize", "FusedConv"]),
        ({"keep_float": ("f",)}, ["FusedConv", "Quantize", "Quantize", "QConv", "Dequantize"]),
    ],
)
def test_layers_stay_float_by_choice(options: dict[str, object], ops: list[str]) -> None:
    made, notes = requantized(RESIDUAL, **options)
    assert sorted(node.op for node in made.nodes) == sorted(ops)
    reason = "keep_float" if "keep_float" in options else f"{next(iter(options))}=float"
    assert any(line.endswith(f"stays float: {reason}.") for line in notes)
    largest = 255 * 0.4
    np.testing.assert_allclose(answers(fused(RESIDUAL))[0], np.minimum(answers(made)[0], largest), atol=2 * 0.4)


def test_what_the_caller_wants_in_floats_is_dequantized_for_it() -> None:
    made, _ = requantized(RESIDUAL.replace("return %y", "return %f, %y"))
    assert made.outputs == ("f", "y") and made.type("f").dtype == "float32"
    assert made.type("f.codes").quant == Quant(8, (0.05,))


def test_one_scale_for_depthwise_weights_is_warned_of() -> None:
    text = f"""{HEADER.replace("%w: float32[4,4,3,3]", "%w: float32[4,1,3,3]")}
        %y: {T} = Conv(%q, %w, %b) {{{WINDOW.replace("group=1", "group=4")}}}
        return %y"""
    assert not any("Warning" in line for line in requantized(text)[1])
    _, notes = requantized(text, per_channel=False)
    assert any(line.startswith("Warning: 1 depthwise convolutions ('y')") and "Krishnamoorthi, 2018" in line for line in notes)


@pytest.mark.parametrize("bits", [4, 2])
def test_fewer_bits_make_coarser_weights(bits: int) -> None:
    made, notes = requantized(RESIDUAL, weight_bits=bits)
    assert np.abs(made.constants["w"]).max() == 2 ** (bits - 1) - 1
    assert f"weights of {bits} bits" in notes[0]


# -- refusals -------------------------------------------------------------------------------------------------------------------


def test_a_sum_that_may_overflow_names_node_and_channel() -> None:
    text = """
        input %x: float32[1,70000]
        constant %w: float32[70000,2]
        %q: float32[1,70000] = FakeQuantize(%x) {scale=0.02, low=0, high=255, dtype="uint8"}
        %y: float32[1,2] = Gemm(%q, %w)
        return %y"""
    model = fused(text)
    weights = np.full((70000, 2), 1.0, np.float32)
    weights[:, 0] = np.linspace(-1, 1, 70000)
    with pytest.raises(ModelError, match=r"accumulator of node 'y' to fit 32 bits.*channel 1 may reach 2266950000"):
        Requantize()(model.replace(constants={**model.constants, model.nodes[1].inputs[1]: weights}))


def test_nothing_to_quantize() -> None:
    plain = "input %x: float32[1,4]\n%y: float32[1,4] = Softmax(%x)\nreturn %y"
    with pytest.raises(ModelError, match=r"Expected calibrated tensors in 'test', found none.*--data.*--zero-shot"):
        Requantize()(graph(plain))
    text = 'input %x: float32[1,4]\n%q: float32[1,4] = FakeQuantize(%x) {scale=1.0, low=0, high=9, dtype="uint8"}'
    with pytest.raises(ModelError, match=r"to quantize in 'test', found none that can be \('y': Softmax has no integer form\)"):
        Requantize()(fused(f"{text}\n%y: float32[1,4] = Softmax(%q)\nreturn %y"))


@pytest.mark.parametrize("bits", [1, 9, 16])
def test_bits_that_no_kernel_serves(bits: int) -> None:
    with pytest.raises(TapdotError, match=rf"2 to 8 bits for requantize.weight_bits, found {bits}"):
        Requantize(weight_bits=bits)(fused(RESIDUAL))


def test_codes_that_no_kernel_serves() -> None:
    with pytest.raises(ModelError, match=r"Expected codes within int8's -128 to 127 .* at node 'q', found codes -32768 to 32767"):
        Requantize()(fused(RESIDUAL.replace("low=-128, high=127", "low=-32768, high=32767")))


def test_scales_out_of_dyadic_reach() -> None:
    with pytest.raises(ModelError, match=r"The scales at node 'd', channel 0 are too far apart to requantize: .*keep_float=d"):
        Requantize()(fused(RESIDUAL.replace("scale=0.4", "scale=1e-30")))


def test_a_name_that_is_none() -> None:
    with pytest.raises(TapdotError, match=r"in requantize.keep_float, found 'dd'\. Did you mean 'd'"):
        Requantize(keep_float=("dd",))(fused(RESIDUAL))


def test_it_wants_the_fused_dialect() -> None:
    with pytest.raises(GraphError, match="requires a graph in the fused dialect"):
        run(graph(RESIDUAL), (Phase("requantize", (Requantize(),)),))


def test_the_property_sees_floats_among_integers() -> None:
    assert INTEGER.violation(fused(RESIDUAL)) == "node 'c' simulates codes in floats" or INTEGER.violation(fused(RESIDUAL))
    made, _ = requantized(RESIDUAL)
    assert INTEGER.violation(made) is None
    text = "input %q: uint8[1,4]\n%y: float32[1,4] = Cast(%q) {to=1}\nreturn %y"
    assert INTEGER.violation(graph(text)) == "node 'y' makes floats of codes without a Dequantize"


# -- whole networks -------------------------------------------------------------------------------------------------------------


@quick
@given(graphs())
def test_random_networks_compute_what_was_simulated(model: Graph) -> None:
    check_random(model, asymmetric=False)


@quick
@given(graphs())
def test_random_networks_with_zero_points(model: Graph) -> None:
    check_random(model, asymmetric=True)


def check_random(model: Graph, asymmetric: bool) -> None:
    folded = run(model, (clean_up(), Phase("fold", (FoldBatchNorm(), FoldConstants())))).graph
    name = folded.inputs[0]
    samples = np.random.default_rng(3).standard_normal((4, *folded.type(name).shape[1:])).astype(np.float32)
    try:
        simulated = on_grid(Fuse()(Calibrate(samples, asymmetric=asymmetric)(folded)))
        made = Requantize()(simulated).verify()
    except TapdotError as error:  # nothing to quantize, or a tensor that is zero
        assume("quantize" not in str(error) and "no scale" not in str(error))
        raise
    assert INTEGER.violation(made) is None
    assert [made.type(output) for output in made.outputs] == [folded.type(output) for output in folded.outputs]
    inputs = {name: torch.from_numpy(samples[: folded.type(name).shape[0]])}
    with torch.no_grad():
        wanted, found = interpret(simulated, inputs), interpret(made, inputs)
    for output in made.outputs:
        signal = float(wanted[output].double().square().sum())
        noise = float((wanted[output].double() - found[output].double()).square().sum())
        assert noise <= signal * 10**-2, "20 dB, far above what a wrong scale or zero point leaves"
    for node in made.nodes:
        text = node.attributes.get("epilogue", node.attributes.get("expression"))
        assert not isinstance(text, str) or parsed(text) is not None
