"""The networks of the zoo as onnxruntime's static quantizer writes them: no float node is left, and answers agree.

Kernel by kernel, on onnxruntime's own codes, within one code. End to end, where networks of drawn weights let single codes grow,
no further from the floats than onnxruntime is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import zoo
from benchmarks.zoo.export import write_onnx
from benchmarks.zoo.seeding import seed_weights
from tests.quantized_elsewhere import answer, compare_kernels, integer, own_answer, quantize
from tests.test_zoo_integers import SIDES, between_integer_convolutions

import tapdot
from tapdot.compiler.precision import float_islands
from tapdot.runtime.devices.base import Session
from tapdot.runtime.verify import verify

FORMS: dict[str, dict[str, Any]] = {"default": {}, "by channel": {"per_channel": True}}

SHORT = {("resnet18", "by channel"), ("squeezenet", "default")}
"""What the usual run imports; ``--soak`` imports all, and compiles them too."""

FLOATS = {"squeezenet": ["QGlobalSum", "Flatten"]}
"""What makes floats, by network: an average of codes is a float without being rounded to a code. In the others the logits."""


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    with tapdot.connect("host").open() as session:
        yield session


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Root of the mean square of the differences."""
    return float(np.sqrt(np.square(a - b, dtype=np.float64).mean()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SIDES)
def test_as_onnxruntime_quantizes_it(name: str, form: str, host: Session, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    soak = bool(request.config.getoption("--soak"))
    if (name, form) not in SHORT and not soak:
        pytest.skip("runs with --soak")
    side = SIDES[name]
    module = zoo.skeleton(name).to_empty(device="cpu")
    seed_weights(module, side, 0)
    source = write_onnx(module, (1, 3, side, side), tmp_path / "float.onnx")
    images = [zoo.seeded_images(1, side, seed=seed).numpy() for seed in (5, 6, 7)]
    path = quantize(source, tmp_path / "quantized.onnx", images[:2], **FORMS[form])

    made = integer(path)
    assert not float_islands(made)
    assert [node.op for node in made.nodes if made.type(node.output).dtype == "float32"] == FLOATS.get(name, ["Dequantize"])
    assert sum(node.op == "Quantize" for node in made.nodes) == 1
    assert between_integer_convolutions(made) == []

    compared = compare_kernels(path, made, images[2])
    assert len(compared) > 0.7 * len([node for node in made.nodes if node.op in ("QConv", "QGemm")])
    for kernel in compared:
        # A sum that was fused rounds its convolution to codes of a larger scale first, as onnxruntime does.
        assert kernel.largest <= max(1, kernel.steps), kernel
    elements = sum(sum(kernel.differences.values()) for kernel in compared)
    equal = sum(kernel.differences.get(0, 0) for kernel in compared)
    # A branch of a Concat is rounded once here, twice in onnxruntime; elsewhere only ties differ.
    assert equal / elements > (0.97 if name in ("inception_v3", "squeezenet") else 0.9999)

    found, wanted, real = own_answer(made, images[2]), answer(path, images[2]), answer(source, images[2])
    assert distance(found, real) <= 1.5 * distance(wanted, real)

    if soak:
        package = tapdot.compile(path, recipe="int8", target="host")
        assert [call.node for call in package.program.calls if not call.fast] == []
        report = verify(host, package, {package.program.inputs[0].name: images[2]})
        assert report.passed and report.bit_exact, str(report)
