"""The command line and the recipe int8: what is printed, and sentences for what a user can get wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from tests.command_line import Tapdot, failed, names
from tests.conftest import HEARS_CONTROL_C
from tests.small_networks import small_onnx

from tapdot.compiler.package import Package

SHAPE = (3, 8, 8)
IMAGES = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
INT8 = ("--recipe", "int8")


def write_model(path: Path, nodes: Sequence[NodeProto], constants: dict[str, np.ndarray], result: str) -> Path:
    """An ``.onnx`` file from ``image`` float32[1, 3, 8, 8] to ``result``."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *SHAPE])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def residual_with_softmax(path: Path, middle: str = "Relu") -> Path:
    """Two convolutions with ``middle`` between them, and a Softmax over channels at the end."""
    numbers = np.random.default_rng(0)
    constants = {
        "first.weight": numbers.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "second.weight": numbers.standard_normal((4, 8, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "first.weight"], ["planes"], "first", pads=[1, 1, 1, 1]),
        helper.make_node(middle, ["planes"], ["active"], "middle", **({"axis": 1} if middle == "Softmax" else {})),
        helper.make_node("Conv", ["active", "second.weight"], ["logits"], "second"),
        helper.make_node("Softmax", ["logits"], ["answer"], "head", axis=1),
    ]
    return write_model(path, nodes, constants, "answer")


class WithBatchNorm(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, samples, and an integer package with a float head."""
    import tapdot

    folder = tmp_path_factory.mktemp("int8")
    small_onnx(folder / "small.onnx")
    np.savez(folder / "x.npz", x=IMAGES)
    residual_with_softmax(folder / "residual.onnx")
    torch.export.save(torch.export.export(WithBatchNorm().eval(), (torch.zeros(1, *SHAPE),)), folder / "norm.pt2")
    model = folder / "residual.onnx"
    tapdot.compile(model, target="host:generic", recipe="int8", data=IMAGES).save(folder / "residual.tapdot")
    return folder


# -- what works --------------------------------------------------------------------------------------------------------------


def test_compile_with_data_says_what_became_of_precision(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "r.tapdot"
    outcome = tapdot(
        *("compile", folder / "residual.onnx", "-o", output, "--target", "host:generic", *INT8, "--data", folder / "x.npz"),
        *("--set", "calibrate.method=minmax"),
    )
    assert (outcome.status, outcome.out) == (0, "")
    assert "2 operators compute on integers (100.00% of multiply-accumulates), 1 in float" in outcome.sentence
    assert "Stays float: head (after the integers): Softmax has no integer form." in outcome.sentence
    assert "image.codes.quantize (Quantize, float32 to int8), in the epilogue of second (uint8 to float32)" in outcome.sentence
    assert re.search(r"Numeric gap: the 2 integer tensors .* tensor +made by +dB .*first \(QConv\) +\d\d\.\d", outcome.sentence)
    package = Package.load(output)
    assert package.recipe == "int8"
    assert any("4 samples (method minmax)" in note for note in package.notes)
    assert [gap.value for gap in package.numeric_gap] == ["active", "image.codes"]


def test_inspect_shows_all_of_it(tapdot: Tapdot, folder: Path) -> None:
    lines = tapdot("inspect", folder / "residual.tapdot", "--no-graph").out.splitlines()
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in lines if re.match(r"[a-z][a-z ]+  +\S", line))
    assert facts["on integers"] == "2 (QConv 2): 100.00% of multiply-accumulates"
    assert facts["in float"] == "1 (Softmax 1)"
    assert facts["islands"] == "head (after the integers): Softmax has no integer form"
    assert facts["weights by type"].startswith("int8 248 bytes, ")
    assert any(line.startswith("Numeric gap: the 2 integer tensors") for line in lines)
    document = tapdot("inspect", folder / "residual.tapdot", "--json").json()
    assert document["coverage"]["integer_share"] == 1
    assert document["coverage"]["islands"][0]["nodes"] == ["head"]
    assert ("second", "QConv") in {(found["node"], found["op"]) for found in document["coverage"]["conversions"]}
    worst, second = (gap["decibels"] for gap in document["numeric_gap"])
    assert 20 < worst < second < 70


def test_no_float_island_is_said(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.tapdot"
    arguments = ("compile", folder / "norm.pt2", "-o", output, "--target", "host:generic", *INT8, "--zero-shot")
    outcome = tapdot(*arguments, "--set", "distill_samples.count=2", "--set", "distill_samples.steps=8")
    assert outcome.status == 0, outcome
    assert "none in float" in outcome.sentence and "no float island." in outcome.sentence
    shown = tapdot("inspect", output, "--no-graph").out
    assert re.search(r"^islands +no float island$", shown, re.MULTILINE)
    assert re.search(r"^- Distilled 2 samples in \d steps: their batch norm loss is .* Gaussian input", shown, re.MULTILINE)


def test_verify_is_bit_exact_up_to_the_island(tapdot: Tapdot, folder: Path) -> None:
    outcome = tapdot("verify", folder / "residual.tapdot")
    assert outcome.status == 0
    assert re.match(r"verified on host: bit-exact: \d kernels gave ", outcome.out)
    assert "1 float island ('head')" in outcome.out
    document = tapdot("verify", folder / "residual.tapdot", "--json").json()
    assert document["passed"] and document["islands"] == ["head"]


def test_run_takes_and_gives_floats(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=IMAGES[:1])
    assert tapdot("run", folder / "residual.tapdot", "--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz").status == 0
    with np.load(tmp_path / "y.npz", allow_pickle=False) as answers:
        assert answers["answer"].dtype == np.float32
        np.testing.assert_allclose(answers["answer"].sum(1), 1, atol=1e-5)


def test_bench_quantizes_too(tapdot: Tapdot, folder: Path) -> None:
    arguments = ("bench", folder / "residual.onnx", "--target", "host:generic", "--runs", "3", *INT8)
    outcome = tapdot(*arguments, "--data", folder / "x.npz")
    assert outcome.status == 0, outcome
    assert outcome.out.startswith("verified on host: bit-exact")


def two_inputs(path: Path) -> Path:
    """The sum of a convolution of ``image`` and one of ``other``."""
    weight = np.random.default_rng(1).standard_normal((3, 3, 1, 1)).astype(np.float32)
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *SHAPE]) for name in ("image", "other", "sum")]
    nodes = [helper.make_node("Conv", [name, "weight"], [f"{name}.planes"], name) for name in ("image", "other")]
    nodes.append(helper.make_node("Add", ["image.planes", "other.planes"], ["sum"], "add"))
    graph = helper.make_graph(nodes, "two", kinds[:2], kinds[2:], [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_several_inputs_take_an_array_each(tapdot: Tapdot, tmp_path: Path) -> None:
    model, output = two_inputs(tmp_path / "two.onnx"), tmp_path / "two.tapdot"
    np.savez(tmp_path / "d.npz", image=IMAGES, other=2 * IMAGES)
    arguments = ("compile", model, "-o", output, "--target", "host:generic", *INT8, "--data")
    assert tapdot(*arguments, tmp_path / "d.npz").status == 0
    types = Package.load(output).graph.types
    scales = [types[f"{name}.codes"].quant.scale[0] for name in ("image", "other")]  # type: ignore[union-attr]
    assert scales[1] == pytest.approx(2 * scales[0], rel=0.01)
    np.savez(tmp_path / "one.npz", x=IMAGES)
    failed(
        tapdot(*arguments, tmp_path / "one.npz"), "image, other are missing; it holds x", "numpy.savez(path, **{'image': array"
    )
    np.savez(tmp_path / "in.npz", image=IMAGES[:1], others=IMAGES[:1])
    failed(tapdot("run", output, "--input", tmp_path / "in.npz", "-o", tmp_path / "out.npz"), "takes 'image', 'other'")
    np.savez(tmp_path / "in.npz", image=IMAGES[:1], other=IMAGES[:1])
    assert tapdot("run", output, "--input", tmp_path / "in.npz", "-o", tmp_path / "out.npz").status == 0


def test_images_are_normalised_as_told(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    picture = pytest.importorskip("PIL.Image")
    (tmp_path / "images" / "bee").mkdir(parents=True)
    picture.fromarray(np.resize(np.arange(256, dtype=np.uint8), (32, 32, 3))).save(tmp_path / "images" / "bee" / "0.png")
    output, setting = tmp_path / "r.tapdot", ("--set", "calibrate.method=minmax")
    arguments = ("compile", folder / "residual.onnx", "-o", output, "--target", "host:generic", *INT8, *setting)
    data = ("--data", tmp_path / "images")

    def scale() -> float:
        quant = Package.load(output).graph.types["image.codes"].quant
        assert quant is not None
        return quant.scale[0]

    assert tapdot(*arguments, *data, "--image-deviation", "1,1,1", "--image-mean", "0.5,0.5,0.5").status == 0
    plain = scale()
    assert tapdot(*arguments, *data, "--image-deviation", "0.25,0.25,0.25", "--image-mean", "0.5,0.5,0.5").status == 0
    assert scale() == pytest.approx(4 * plain, rel=0.01)
    failed(tapdot(*arguments, *data, "--image-mean", "0.5", "--image-deviation", "1"), "takes 3 channels", "has 1 means")
    for given, words in (
        ((*data, "--image-mean", "0.5,half"), "expected numbers with commas between them, found '0.5,half'"),
        ((*data, "--image-mean", "0.5,0.5"), "one mean and one deviation above 0 for each channel"),
        ((*data, "--image-deviation", "0,0,0"), "one mean and one deviation above 0 for each channel"),
        (("--data", folder / "x.npz", "--image-mean", "0,0,0"), "it is for folders of images"),
        (("--zero-shot", "--image-mean", "0,0,0"), "there is no --data"),
    ):
        outcome = tapdot(*arguments, *given)
        assert outcome.status == 2 and words in re.sub(r"[│ ]+", " ", outcome.sentence), outcome


def test_recipes_lists_the_options_of_calibration(tapdot: Tapdot) -> None:
    lines = tapdot("recipes").out.splitlines()
    for option in (
        "int8.bias_correction=false",
        "calibrate.method=mse",
        "distill_samples.gaussian=false",
        "requantize.first_layer=int8",
    ):
        assert f"  --set {option}" in lines


def test_distillation_tells_how_far_it_is_on_stderr(
    tapdot: Tapdot, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tapdot.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    output = tmp_path / "s.tapdot"
    arguments = ("compile", folder / "norm.pt2", "-o", output, "--target", "host:generic", *INT8, "--zero-shot")
    outcome = tapdot(*arguments, "--set", "distill_samples.count=2", "--set", "distill_samples.steps=3")
    assert re.search(r"step 3 of 3: loss [0-9.]+, [0-9.]+% of Gaussian input's", outcome.err)


# -- wrong usage: status 2 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*INT8, "--data", "x.npz", "--zero-shot"), ("--data", "--zero-shot", "choose one")),
        (("--data", "x.npz"), ("The recipe 'float' takes no data", "--recipe int8")),
        (("--zero-shot",), ("The recipe 'float' takes no zero-shot calibration", "--recipe int8")),
        ((*INT8, "--data"), ("requires an argument",)),
    ],
)
@pytest.mark.parametrize("command", ["compile", "bench"])
def test_contradictions(tapdot: Tapdot, folder: Path, command: str, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    output = ("-o", folder / "never.tapdot") if command == "compile" else ()
    outcome = tapdot(command, folder / "small.onnx", *output, *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    for word in words:
        assert word in outcome.sentence
    assert not (folder / "never.tapdot").exists()


# -- what a user can get wrong: status 1 -------------------------------------------------------------------------------------


def test_integers_need_samples_or_batch_norms(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    arguments = ("compile", folder / "small.onnx", "-o", tmp_path / "x.tapdot", *INT8)
    failed(tapdot(*arguments), "'small' does not say them", "--data", "--zero-shot")
    failed(tapdot(*arguments, "--set", "calibrate.method=entropy"), "'calibrate.method=entropy'", "--data", "--zero-shot")
    failed(tapdot(*arguments, "--zero-shot"), "'small' has no batch norm", ".pt2", "--data", "distill_samples.gaussian=true")
    assert not list(tmp_path.iterdir())


def test_gaussian_input_only_where_asked(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    arguments = ("compile", folder / "small.onnx", "-o", tmp_path / "x.tapdot", "--target", "host:generic", *INT8, "--zero-shot")
    assert tapdot(*arguments, "--set", "distill_samples.gaussian=true").status == 0
    assert any("Gaussian noise" in note for note in Package.load(tmp_path / "x.tapdot").notes)


def spoiled(value: float) -> np.ndarray:
    images = IMAGES.copy()
    images[2, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": spoiled(np.nan)}, ("Sample 2 of", "NaN", "must be finite")),
        ({"x": spoiled(np.inf)}, ("Sample 2 of", "infinity")),
        ({"x": IMAGES[:, :, :4]}, ("Expected samples of [3, 8, 8]", "found [3, 4, 8]")),
        ({"x": IMAGES.transpose(0, 2, 3, 1)}, ("channels are last", "transpose(0, 3, 1, 2)")),
        ({"x": IMAGES[:0]}, ("no samples",)),
        ({"images": IMAGES}, ("x",)),
        ({"x": np.zeros_like(IMAGES)}, ("'image', an input of the model,", "zero everywhere", "4 samples")),
    ],
)
def test_samples_that_do_not_fit(
    tapdot: Tapdot, folder: Path, tmp_path: Path, arrays: dict[str, np.ndarray], words: tuple[str, ...]
) -> None:
    data, output = tmp_path / "data.npz", tmp_path / "x.tapdot"
    np.savez(data, **arrays)  # type: ignore[arg-type]
    failed(tapdot("compile", folder / "small.onnx", "-o", output, *INT8, "--data", data), *words)
    assert names(tmp_path) == ["data.npz"]


def test_data_that_is_none(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "empty").mkdir()
    arguments = ("compile", folder / "small.onnx", "-o", tmp_path / "x.tapdot", *INT8, "--data")
    failed(tapdot(*arguments, tmp_path / "missing.npz"), "There is no data at")
    failed(tapdot(*arguments, tmp_path / "text.npz"), "not a readable .npz file")
    failed(tapdot(*arguments, tmp_path / "empty"), "empty")
    assert names(tmp_path) == ["empty", "text.npz"]


def test_a_tensor_that_is_zero_for_all_samples(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    constants = {"weight": -np.ones((4, 3, 1, 1), np.float32), "second": np.ones((4, 4, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["planes"], "first"),
        helper.make_node("Relu", ["planes"], ["active"], "dead"),
        helper.make_node("Conv", ["active", "second"], ["answer"], "last"),
    ]
    model = write_model(tmp_path / "m.onnx", nodes, constants, "answer")
    np.savez(tmp_path / "x.npz", x=np.abs(IMAGES))
    outcome = tapdot("compile", model, "-o", tmp_path / "m.tapdot", *INT8, "--data", tmp_path / "x.npz")
    failed(outcome, "'active' of Relu node 'dead'", "zero everywhere")


def test_a_scale_ratio_out_of_reach(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    constants = {
        "weight": np.ones((4, 3, 1, 1), np.float32),
        "second": np.ones((4, 4, 1, 1), np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(1e-20, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["planes"], "first"),
        helper.make_node("Clip", ["planes", "low", "high"], ["active"], "narrow"),
        helper.make_node("Conv", ["active", "second"], ["answer"], "last"),
    ]
    model = write_model(tmp_path / "m.onnx", nodes, constants, "answer")
    failed(tapdot("compile", model, "-o", tmp_path / "m.tapdot", *INT8, "--data", folder / "x.npz"), "'first'", "scale")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("calibrate.bits=9", ("calibrate.bits between 2 and 8", "found 9")),
        ("requantize.weight_bits=1", ("2 to 8 bits", "found 1")),
        ("calibrate.method=average", ("calibrate.method", "minmax", "entropy", "found 'average'")),
        ("calibrate.percentile=20", ("calibrate.percentile", "found 20")),
        ("calibrate.samples=0", ("calibrate.samples", "found 0")),
        ("requantize.keep_float=frist", ("'frist'", "requantize.keep_float")),
        ("int8.bias_corection=true", ("int8.bias_correction=true", "'int8.bias_corection=true'")),
        ("distill_samples.count=4", ("no pass 'distill_samples'",)),
    ],
)
def test_options_that_cannot_be(tapdot: Tapdot, folder: Path, tmp_path: Path, setting: str, words: tuple[str, ...]) -> None:
    arguments = ("compile", folder / "small.onnx", "-o", tmp_path / "x.tapdot", *INT8, "--data", folder / "x.npz")
    failed(tapdot(*arguments, "--set", setting), *words)
    assert not list(tmp_path.iterdir())


def test_a_model_with_nothing_to_quantize(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    nodes = [helper.make_node("Softmax", ["image"], ["answer"], "head", axis=1)]
    model = write_model(tmp_path / "m.onnx", nodes, {}, "answer")
    arguments = ("compile", model, "-o", tmp_path / "m.tapdot", *INT8, "--data", folder / "x.npz")
    failed(tapdot(*arguments), "nothing to quantize", "1 Softmax", "recipe float")
    assert names(tmp_path) == ["m.onnx"]


def test_an_island_between_integers_is_named_with_its_reason(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    model = residual_with_softmax(tmp_path / "m.onnx", middle="Softmax")
    arguments = ("compile", model, "-o", tmp_path / "m.tapdot", "--target", "host:generic", *INT8, "--data", folder / "x.npz")
    outcome = tapdot(*arguments)
    assert outcome.status == 0, outcome
    assert "middle (between integers): Softmax has no integer form" in outcome.sentence


def test_an_interruption_while_samples_are_distilled_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", HEARS_CONTROL_C + "from tapdot.cli import main; main()"),
            *("compile", str(folder / "norm.pt2"), "-o", str(tmp_path / "x.tapdot"), *INT8, "--zero-shot"),
            *("--set", "distill_samples.count=4096", "--set", "distill_samples.steps=1000"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "step" in first, first + process.stderr.read()
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 60
    out, err = process.communicate(timeout=deadline - time.monotonic())
    assert (process.returncode, out) == (1, ""), err
    assert "Interrupted; nothing was left half-written." in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
