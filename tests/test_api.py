"""The public functions, as a program uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.small_networks import INPUT_SHAPE, small_network, small_onnx

import tapdot
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.options import describe
from tapdot.passes.recipes import recipe


class Module(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.head = torch.nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.convolution(x)).mean((2, 3)))


def test_from_a_module_to_an_answer_and_a_latency(tmp_path: Path) -> None:
    module, x = Module().eval(), torch.randn(INPUT_SHAPE)
    path = tapdot.compile(module, (x,)).save(tmp_path / "net.tapdot")
    package = tapdot.load(path)
    device = tapdot.connect("host")
    (found,) = device.run(package, {package.program.inputs[0].name: x.numpy()}).values()
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert device.verify(package).passed
    assert device.measure(package, runs=3).median > 0


@pytest.mark.parametrize("form", ["path", "text", "onnx", "graph", "pt2", "exported"])
def test_every_form_of_a_model(tmp_path: Path, form: str) -> None:
    if form in ("pt2", "exported"):
        exported = torch.export.export(Module().eval(), (torch.zeros(INPUT_SHAPE),))
        torch.export.save(exported, tmp_path / "m.pt2")
        model = exported if form == "exported" else tmp_path / "m.pt2"
    elif form == "graph":
        model = small_network()
    else:
        path = small_onnx(tmp_path / "m.onnx")
        model = {"path": path, "text": str(path), "onnx": onnx.load(path)}[form]
    assert tapdot.connect("host").verify(tapdot.compile(model, target="host:generic")).passed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"target": "cortex-a67"}, "Unknown target 'cortex-a67'.*Did you mean cortex-a"),
        ({"target": "host:mmx"}, "Unknown instruction table 'mmx'"),
        ({"target": "cortex-a76:avx2"}, "lacks avx2"),
        ({"recipe": "flaot"}, "There is no recipe 'flaot'. Did you mean 'float'"),
        ({"settings": ["fuze.max_operators=8"]}, "no pass 'fuze'. Did you mean 'fuse'"),
        ({"settings": ["fuse.maximum=8"]}, "'fuse' has no option 'maximum'"),
        ({"settings": ["fuse.max_operators=many"]}, "Expected a whole number for fuse.max_operators, found 'many'"),
        ({"settings": ["fuse"]}, "Expected an option such as fuse.max_operators=8"),
        ({"settings": ["assign_layouts.target=host"]}, "'assign_layouts' has no option 'target'"),
    ],
)
def test_wrong_choices_are_sentences(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(TapdotError, match=sentence):
        tapdot.compile(small_network(), **arguments)  # type: ignore[arg-type]


def test_wrong_choices_are_found_before_the_model_is_read() -> None:
    with pytest.raises(TapdotError, match="There is no recipe"):
        tapdot.compile("missing.onnx", recipe="none")


def test_settings_reach_the_passes() -> None:
    assert "fuse.max_operators=8" in "\n".join(describe(recipe("float", ["fuse.max_operators=8"])))
    fused = tapdot.compile(small_network(), target="host:generic")
    apart = tapdot.compile(small_network(), target="host:generic", settings=["fuse.max_operators=0"])
    assert len(apart.program.calls) > len(fused.program.calls)


IMAGES = np.random.default_rng(0).standard_normal((4, *INPUT_SHAPE[1:])).astype(np.float32)


@pytest.mark.parametrize("form", ["array", "batches", "loader", "npz", "images and classes"])
def test_every_form_of_data(tmp_path: Path, form: str) -> None:
    np.savez(tmp_path / "x.npz", x=IMAGES)
    data = {
        "array": IMAGES,
        "batches": iter([IMAGES[:3], IMAGES[3:]]),
        "loader": [(torch.from_numpy(IMAGES), torch.zeros(4, dtype=torch.int64))],
        "npz": tmp_path / "x.npz",
        "images and classes": (IMAGES, np.zeros(4, np.int64)),
    }[form]
    package = tapdot.compile(small_network(), target="host:generic", recipe="int8", data=data)
    (note,) = (note for note in package.notes if "have scales from" in note)
    assert "from 4 samples" in note
    assert package.numeric_gap == tapdot.compile(small_network(), target="host:generic", recipe="int8", data=IMAGES).numeric_gap


def test_integers_compute_what_the_reference_does() -> None:
    package = tapdot.compile(small_network(), target="host:generic", recipe="int8", data=IMAGES)
    device = tapdot.connect("host")
    assert device.verify(package).bit_exact
    (found,) = device.run(package, {"image": IMAGES[:1]}).values()
    (exact,) = device.run(tapdot.compile(small_network(), target="host:generic"), {"image": IMAGES[:1]}).values()
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


def test_zero_shot_and_its_progress() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()).eval()
    lines: list[str] = []
    package = tapdot.compile(
        *(module, (torch.zeros(INPUT_SHAPE),)),
        target="host:generic",
        recipe="int8",
        zero_shot=True,
        settings=["distill_samples.count=2", "distill_samples.steps=3"],
        progress=lines.append,
    )
    assert lines and lines[-1].startswith("step 3 of 3: loss ")
    assert any(note.startswith("Distilled 2 samples in 3 steps") for note in package.notes)
    assert package.numeric_gap


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"recipe": "int8"}, "'small' does not say them.*--data.*--zero-shot"),
        ({"recipe": "int8", "data": IMAGES, "zero_shot": True}, "choose one"),
        ({"data": IMAGES}, "The recipe 'float' takes no data"),
        ({"recipe": "int8", "data": []}, "holds no samples"),
        ({"recipe": "int8", "data": 3}, "Expected data as an .npz file.*found int"),
    ],
)
def test_wrong_calibration_is_a_sentence(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(TapdotError, match=sentence):
        tapdot.compile(small_network(), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"method": "hessian", "activations": "own"}, "measured by kl or prediction.*found the sensitivity 'hessian'"),
        ({"device": None, "kinds": ["latency"]}, r"layers have \(size, bops\), found 'latency'"),
        ({"kinds": ["instructions"]}, r"on the device host \(size, bops, latency\), found 'instructions'"),
        ({"target": "cortex-a67"}, "Unknown target 'cortex-a67'"),
    ],
)
def test_wrong_choices_of_bits_are_found_before_the_model_is_read(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(TapdotError, match=sentence):
        tapdot.bit_choices("missing.onnx", data=IMAGES, **arguments)  # type: ignore[arg-type]


def test_dump_and_check(tmp_path: Path) -> None:
    tapdot.compile(small_network(), target="host:generic", dump=tmp_path / "graphs", check=True)
    names = sorted(path.name for path in (tmp_path / "graphs").iterdir())
    assert names[0] == "00-import.txt"
    assert any("assign_layouts" in name for name in names)


def test_importing_is_cheap() -> None:
    """``tapdot --help`` waits for neither torch nor TVM."""
    code = "import sys, tapdot, tapdot.cli; print([m for m in ('torch', 'tvm', 'onnx', 'networkx') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_unknown_names_of_the_package_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compiel'"):
        _ = tapdot.compiel
    assert tapdot.__version__
