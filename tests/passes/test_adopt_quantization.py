"""Models that onnxruntime's quantizer wrote: no float node is left, and kernels agree with onnxruntime within one code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnxruntime.quantization import QuantFormat, QuantType
from tests.passes.before_and_after import graph, nodes
from tests.quantized_elsewhere import answer, compare_kernels, integer, own_answer, quantize
from torch import nn

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends.onnx import import_onnx
from tapdot.compiler.pipeline import run
from tapdot.compiler.precision import float_islands
from tapdot.passes.adopt_quantization import AdoptQuantization
from tapdot.passes.recipes import recipe

HEADER = """
    input %x: float32[1,2,4,4]
    constant %s: float32[1] = [0.5]
    constant %z: uint8[1] = [3]
"""
T, C = "float32[1,2,4,4]", "uint8[1,2,4,4]"
GIVEN = 'scale=0.5, zero_point=3, low=0, high=255, dtype="uint8"'


def adopted(text: str) -> str:
    return nodes(AdoptQuantization()(graph(HEADER + text)).verify())


def test_a_pair_becomes_one_node() -> None:
    text = f"%q: {C} = QuantizeLinear(%x, %s, %z)\n%d: {T} = DequantizeLinear(%q, %s, %z)\n%y: {T} = Relu(%d)\nreturn %y"
    assert adopted(text) == nodes(f"%x.codes = FakeQuantize(%x) {{{GIVEN}}}\n%y = Relu(%x.codes)")


def test_codes_that_are_moved_are_floats_that_are_moved() -> None:
    pool = "{kernel_shape=[2, 2], strides=[2, 2]}"
    text = f"""
        %q: {C} = QuantizeLinear(%x, %s, %z)
        %p: uint8[1,2,2,2] = MaxPool(%q) {pool}
        %d: float32[1,2,2,2] = DequantizeLinear(%p, %s, %z)
        %e: uint8[1,2,2,2] = QuantizeLinear(%d, %s, %z)
        %f: float32[1,2,2,2] = DequantizeLinear(%e, %s, %z)
        %y: float32[1,2,2,2] = Relu(%f)
        return %y"""
    assert adopted(text) == nodes(f"""
        %x.codes = FakeQuantize(%x) {{{GIVEN}}}
        %p.reals = MaxPool(%x.codes) {pool}
        %y = Relu(%p.reals)""")


def test_codes_that_the_caller_gives_and_takes() -> None:
    text = f"""
        input %i: {C}
        %d: {T} = DequantizeLinear(%i, %s, %z)
        %a: {T} = Add(%d, %x)
        %q: {C} = QuantizeLinear(%a, %s, %z)
        return %q"""
    assert adopted(text) == nodes(f"""
        %d = Dequantize(%i) {{scale=0.5, zero_point=3}}
        %a = Add(%d, %x)
        %a.codes = FakeQuantize(%a) {{{GIVEN}}}
        %q = Quantize(%a.codes) {{{GIVEN}}}""")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"constant %t: float32[1] = [0.25]\n%q: {C} = QuantizeLinear(%x, %s, %z)\n%y: {T} = DequantizeLinear(%q, %t, %z)",
            r"DequantizeLinear node 'y' to use the scale 0\.5 and zero point 3 .*, found 0\.25 and 3",
        ),
        (
            "constant %t: float32[2] = [0.25, 0.5]\nconstant %u: uint8[2] = [0, 0]\n"
            f"%q: {C} = QuantizeLinear(%x, %t, %u)\n%y: {T} = DequantizeLinear(%q, %t, %u)",
            r"one constant scale and zero point for the activation at QuantizeLinear node 'q', found 2 by axis",
        ),
        (
            "constant %u: int16[1] = [0]\n%q: int16[1,2,4,4] = QuantizeLinear(%x, %s, %u)\n"
            f"%y: {T} = DequantizeLinear(%q, %s, %u)",
            r"codes of 8 bits \(int8, uint8\) at QuantizeLinear node 'q', found int16, which no kernel serves",
        ),
        (
            f"constant %t: float32[1] = [-1.0]\n%q: {C} = QuantizeLinear(%x, %t, %z)\n%y: {T} = DequantizeLinear(%q, %t, %z)",
            r"a positive scale at QuantizeLinear node 'q', found -1\.0",
        ),
        (
            f"constant %t: float32[1] = [1e-40]\n%q: {C} = QuantizeLinear(%x, %t, %z)\n%y: {T} = DequantizeLinear(%q, %t, %z)",
            r"a positive scale at QuantizeLinear node 'q', found 9\.99\d*e-41",
        ),
        (
            f"%q: {C} = QuantizeLinear(%x, %s, %z)\n%y: {C} = Add(%q, %q)",
            r"Add node 'y' computes with codes of type uint8 directly",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_said(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        adopted(f"{text}\nreturn %y")


# -- what onnxruntime's quantizer writes -----------------------------------------------------------------------------------------


class Block(nn.Module):
    """Convolutions with and without activation, depthwise, residual, concatenation, pools, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.left, self.right = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.point(nn.functional.relu6(self.depthwise(x))))
        x = self.pool(torch.cat([self.left(x), torch.relu(self.right(x))], 1))
        return self.head(x.mean((2, 3)))


IMAGES = np.random.default_rng(0).standard_normal((6, 1, 3, 16, 16)).astype(np.float32)


FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "by channel": {"per_channel": True},
    "operators": {"quant_format": QuantFormat.QOperator},
    "unsigned": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
    "symmetric": {"extra_options": {"ActivationSymmetric": True}},
}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("quantized")
    torch.manual_seed(0)
    path = folder / "float.onnx"
    torch.onnx.export(Block().eval(), (torch.from_numpy(IMAGES[0]),), path, input_names=["x"], output_names=["y"], dynamo=False)
    made = {}
    for name, options in FORMS.items():
        made[name] = folder / f"{name}.onnx"
        quantize(path, made[name], IMAGES, **options)
    return made


@pytest.mark.parametrize("form", FORMS)
def test_no_float_node_is_left(quantized: dict[str, Path], form: str) -> None:
    made = integer(quantized[form])
    assert not float_islands(made)
    floats = [node.op for node in made.nodes if made.type(node.output).dtype == "float32"]
    assert floats in (["Dequantize"], ["QGemm"])
    assert sum(node.op == "Quantize" for node in made.nodes) == 1
    assert any("the codes that the model came with" in line for line in run(import_onnx(quantized[form]), recipe("int8")).notes)


@pytest.mark.parametrize("form", FORMS)
def test_answers_agree_within_one_code(quantized: dict[str, Path], form: str) -> None:
    made, wanted = integer(quantized[form]), answer(quantized[form], IMAGES[0])
    found = own_answer(made, IMAGES[0])
    last = made.producers["y"]
    assert last.op == "Dequantize"
    step = float(last.attributes["scale"])  # type: ignore[arg-type]
    assert np.ptp(wanted) > 50 * step
    assert np.abs(wanted - found).max() <= 1.001 * step


def test_every_kernel_agrees_within_one_code(quantized: dict[str, Path]) -> None:
    """Each on onnxruntime's own codes, so that nothing adds up."""
    path = quantized["by channel"]
    compared = compare_kernels(path, integer(path), IMAGES[0])
    assert len(compared) >= 6
    assert all(kernel.largest <= 1 for kernel in compared)


def test_the_float_recipe_simulates_the_codes(quantized: dict[str, Path]) -> None:
    simulated = run(import_onnx(quantized["default"]), recipe("float")).graph
    assert {node.op for node in simulated.nodes} <= {"FusedConv", "FusedGemm", "Elementwise", "MaxPool", "Concat", "Flatten"} | {
        "GlobalAveragePool",
        "Reshape",
    }
    found = own_answer(simulated, IMAGES[0])
    np.testing.assert_allclose(found, answer(quantized["default"], IMAGES[0]), atol=0.02)
