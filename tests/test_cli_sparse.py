"""The command line on a pruned model: compile, verify, inspect, and the four rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.command_line import Tapdot, failed
from tests.passes.pruned_weights import pruned_kernels

from tapdot.compiler.exporters.onnx import save_onnx
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.types import TensorType
from tapdot.runtime.devices.base import Device

WINDOW = {"pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1), "group": 1}


def classifier(pruned: bool) -> Graph:
    """Two 3x3 convolutions between planes, an average, and five classes."""
    numbers = np.random.default_rng(0)
    builder = GraphBuilder("classifier")
    value = builder.input("x", TensorType((1, 16, 12, 12), "float32"))
    for place in range(2):
        weight, _ = pruned_kernels(place, 8, 2, 16, 6)
        if not pruned:
            weight = numbers.standard_normal(weight.shape).astype(np.float32)
        (value,) = builder.add("Conv", [value, builder.constant(weight / 10, f"w{place}")], WINDOW, name=f"conv{place}")
        (value,) = builder.add("Relu", [value])
    (value,) = builder.add("GlobalAveragePool", [value])
    (value,) = builder.add("Flatten", [value])
    (value,) = builder.add("Gemm", [value, builder.constant(numbers.standard_normal((16, 5)).astype(np.float32), "m")])
    return builder.build([value])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_onnx(classifier(True), folder / "pruned.onnx")
    save_onnx(classifier(False), folder / "dense.onnx")
    numbers = np.random.default_rng(1)
    np.savez(folder / "data.npz", x=numbers.standard_normal((6, 16, 12, 12)).astype(np.float32), y=numbers.integers(0, 5, 6))
    return folder


def test_compile_verify_and_inspect(tapdot: Tapdot, models: Path, tmp_path: Path) -> None:
    package = tmp_path / "pruned.tapdot"
    settings = ("--set", "compress_weights.choice=sparse")
    outcome = tapdot(
        "compile", models / "pruned.onnx", "-o", package, "--recipe", "pattern-int8", "--data", models / "data.npz", *settings
    )
    assert "Sparse: 2, " in outcome.err
    assert "bit-exact" in tapdot("verify", package).out
    shown = tapdot("inspect", package, "--no-graph").out
    for part in (
        "sparse layers",
        "layer conv0: QSparseConv on host",
        "kernels kept",
        "2 filters",
        "reorder uint8[8]",
        "together",
    ):
        assert part in shown
    document = tapdot("inspect", package, "--json").json()
    layers = document["sparsity"]["layers"]
    assert [layer["node"] for layer in layers] == ["conv0", "conv1"]
    assert document["sparsity"]["storage"]["fkw_extra"] == sum(layer["storage"]["fkw_extra"] for layer in layers)
    assert document["coverage"]["operators"]["integer"]["QSparseConv"] == 2


def test_an_unpruned_model_is_told_how_to_prune(tapdot: Tapdot, models: Path, tmp_path: Path) -> None:
    outcome = tapdot("compile", models / "dense.onnx", "-o", tmp_path / "x.tapdot", "--recipe", "pattern")
    failed(outcome, "Expected pruned 3x3 kernels", "tapdot prune MODEL -o PRUNED.onnx")


def test_four_rows(tapdot: Tapdot, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_turns: list[object] = []
    compare = Device.compare
    monkeypatch.setattr(Device, "compare", lambda *arguments, **named: in_turns.append(named) or compare(*arguments, **named))
    outcome = tapdot(
        "inspect",
        models / "pruned.onnx",
        "--four-rows",
        "--dense",
        models / "dense.onnx",
        "--data",
        models / "data.npz",
        "--json",
    )
    rows = outcome.json()["rows"]
    assert [row["form"] for row in rows] == ["dense float", "dense int8", "sparse float", "sparse int8"]
    assert all(row["seconds"] > 0 and 0 <= row["accuracy"] <= 1 and row["samples"] == 6 and not row["remark"] for row in rows)
    assert in_turns == [{"labels": [row["form"] for row in rows], "runs": 50}]
    assert rows[3]["weights_bytes"] < rows[0]["weights_bytes"]
    assert rows[0]["macs"] == rows[1]["macs"] >= rows[2]["macs"]


def test_four_rows_without_data_leave_int8_out(tapdot: Tapdot, models: Path) -> None:
    shown = tapdot("inspect", models / "pruned.onnx", "--four-rows").out
    assert "dense int8: needs data or zero-shot calibration" in shown and "ms, host" in shown and "top-1" not in shown
    assert "sparse float: Expected pruned" in tapdot("inspect", models / "dense.onnx", "--four-rows").out


def test_options_of_four_rows_alone_are_wrong_usage(tapdot: Tapdot, models: Path) -> None:
    outcome = tapdot("inspect", models / "pruned.onnx", "--data", models / "data.npz")
    assert outcome.status == 2 and "--four-rows" in outcome.err


@pytest.mark.parametrize("option", ["compress_weights.choice=mesured", "adopt_sparsity.most_patterns=40"])
def test_wrong_options_are_sentences(tapdot: Tapdot, models: Path, tmp_path: Path, option: str) -> None:
    outcome = tapdot("compile", models / "pruned.onnx", "-o", tmp_path / "x.tapdot", "--recipe", "pattern", "--set", option)
    failed(outcome, "Expected", option.partition("=")[0])
