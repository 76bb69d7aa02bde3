"""The sparse benchmarks from end to end on tiny layers, and their arithmetic on times made up here."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import numpy as np
import pytest
from benchmarks import sparsity
from benchmarks.sparse.ablation import configurations, measure_ablation, smallest
from benchmarks.sparse.accuracy import Accuracies
from benchmarks.sparse.layers import Form, Kernel, Shape
from benchmarks.sparse.networks import Contender, NetworkResult, Pruned, Rates, contenders
from benchmarks.sparse.sweep import break_even, forms, measure_layer
from benchmarks.sparse.tables import ablation_table, break_even_line, draw_layers, layers_table, networks_table
from benchmarks.sparse.timing import Series, interleave, repeated

from tapdot.kernels.target import find_target

TINY = Shape(16, 16, 9)


def limit() -> tuple[object, int]:
    return (lambda: sum(range(100))), 10**6


@pytest.mark.parametrize("precision", ["int8", "float"])
def test_a_layer_from_end_to_end(precision: str, tmp_path: Path) -> None:
    chosen = forms(TINY, (2.25, 6.0), (2,))
    result = measure_layer(TINY, chosen, precision, find_target("host"), 2, limit())
    assert [point.kernel.form.title for point in result.points] == ["dense", "2.25x, share 2", "6x, share 2"]
    assert [point.kernel.family.name for point in result.points[1:]] == [
        {"int8": "pattern_convolution", "float": "sparse_convolution"}[precision]
    ] * 2
    assert result.points[0].speedup == 1 and all(point.share_of_limit > 0 for point in result.points)
    document = result.json()
    assert set(document["break_even"]) == {"2"} and len(document["points"]) == 3
    text = layers_table([result], Accuracies(()))
    assert "| 6x, share 2 |" in text and "benchmarks.miniatures sparsity" in text
    pytest.importorskip("matplotlib")
    assert all(path.stat().st_size > 1000 for path in draw_layers([result], tmp_path))


def test_only_useful_work_counts() -> None:
    """Kernels that are stored, at positions that exist: not the halo, nor lanes that no filter needs."""
    kernel = Kernel.of(Shape(32, 16, 10, stride=2), Form(4.5, 2), "int8", find_target("host"))
    assert kernel.workload.output.shape[2:] == (5, 5)
    assert kernel.macs == 16 * 32 // 2 * 4 * 25 and kernel.rate == 4.5
    kept = np.diff(kernel.constants[2].astype(int))
    assert len(set(kept.tolist())) > 1, "filters keep different numbers of kernels"
    assert kernel.workload.output.layout is not None and kernel.workload.output.layout.halo, "as the next layer wants it"


def test_a_wrong_answer_is_never_timed() -> None:
    kernel = Kernel.of(TINY, Form(4.5, 2), "int8", find_target("host"))
    prepared = kernel.prepare()
    kernel.check(prepared)
    kernel.expected[0, 3, 2, 1] += 1
    with pytest.raises(ValueError, match="is not the reference's"):
        kernel.check(prepared)


def test_every_step_of_an_ablation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.sparse.ablation.MOST_CONFIGURATIONS", 2)
    steps = measure_ablation(TINY, 6.0, (1, 2), "int8", find_target("host"), 1, limit())
    titles = ["none", "+ reorder", "+ redundancy elimination", "+ share 2", "+ tuned configuration"]
    assert [step.title for step in steps] == titles
    assert [step.kernel.form.reorder for step in steps] == [False, True, True, True, True]
    assert steps[0].json(steps[0])["gain"] == 1
    assert "| + share 2 |" in ablation_table({"tiny": steps}, "int8", 6.0)


def test_configurations_are_the_default_and_others_of_the_space() -> None:
    kernel = Kernel.of(TINY, Form(6.0, 1), "int8", find_target("host"))
    found = list(configurations(kernel, most=6))
    assert found[0] == dict(kernel.config) and len(found) == 6
    assert smallest(kernel)["blocks"] == 1


def test_where_pruning_begins_to_pay() -> None:
    assert break_even([]) is None
    assert break_even([(2.25, 1.1), (4, 2)]) == 2.25
    assert break_even([(2.25, 0.5), (4, 0.9)]) == inf
    assert break_even([(2, 0.5), (8, 2.0)]) == pytest.approx(4), "half way between the logarithms"
    result = measure_layer(TINY, forms(TINY, (2.25,), (1,)), "int8", find_target("host"), 1, limit())
    assert "share 1: " in break_even_line(result)


def test_turns_are_interleaved_and_ratios_paired() -> None:
    order: list[str] = []
    series = [Series(name, lambda number, name=name: lambda: order.append(name) or 1.0) for name in ("a", "b")]
    interleave(series, 2)
    assert order[4:] == ["a", "b", "b", "a"]
    slow, fast = Series("slow", repeated(int), [4.0, 2.0, 8.0]), Series("fast", repeated(int), [2.0, 1.0, 4.0])
    assert slow.ratio_to(fast) == 2


def test_accuracies_are_those_of_the_same_rate_and_share(tmp_path: Path) -> None:
    rows = [
        {"network": "resnet", "rate": 8.0, "share": 2, "way": "ADMM", "from_dense": {"mean": -1.25, "low": -2, "high": 0}},
        {"network": "resnet", "rate": 1.0, "share": 1, "way": "dense"},
        {"network": "vgg", "rate": 8.0, "share": 4, "way": "ADMM", "from_dense": {"mean": 0.5, "low": 0, "high": 1}},
    ]
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps(rows))
    accuracies = Accuracies.read(path)
    assert accuracies.text(8.1, 2) == "resnet -1.2" and accuracies.text(4.0, 2) == "-"
    assert accuracies.json(8.1, 4) == {"vgg": 0.5}
    path.write_text("{")
    with pytest.raises(ValueError, match="is not what"):
        Accuracies.read(path)


def test_contenders_of_a_network() -> None:
    found = contenders(("tapdot", "ncnn"), ("int8",), ("int8", "float"), Rates(8.1, 2.0), (1, 2))
    assert [one.title for one in found] == [
        "ncnn, int8",
        "ncnn, float",
        "tapdot, int8",
        "tapdot, int8, pruned, share 1",
        "tapdot, int8, pruned, share 2",
        "tapdot, int8, pruned, dense kernels, share 2",
    ]
    assert found[-1].pruned == Pruned(8.1, 2.0, 2, dense=True)
    result = NetworkResult("vgg16", "VGG-16", Rates(8.1), {}, {Contender("ncnn", "int8"): "has no int8 adapter here"})
    assert "- ncnn, int8: has no int8 adapter here" in networks_table([result], Accuracies(()))


def test_a_network_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.machine.pin", lambda cores: None)  # this process goes on with other tests
    monkeypatch.setattr("benchmarks.sparse.networks.contenders", lambda *asked: [contenders(*asked)[1]])
    options = ["--models", "squeezenet", "--engines", "", "--precision", "float", "--share", "2", "--rate", "4.5", "--json"]
    sparsity.main(["networks", *options, "--rounds", "1", "--folder", str(tmp_path)])
    (network,) = json.loads(capsys.readouterr().out)["networks"]
    (row,) = network["contenders"]
    assert row["pruned"] == {"rate": 4.5, "quad_rate": 1.0, "share": 2, "dense": False, "allocation": "uniform"}
    assert row["milliseconds"] > 0 and row["largest_error"] < 1e-3, "from the reference's logits of the pruned weights"


def test_the_command_line_says_what_it_expects(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.machine.pin", lambda cores: None)
    for arguments in (["layers", "--share", "0"], ["layers", "--rounds", "0"], ["networks", "--rate", "much"], []):
        with pytest.raises(SystemExit, match="2"):
            sparsity.parse(arguments)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        sparsity.main(["networks", "--models", "vgg99"])
    assert "Expected names out of" in capsys.readouterr().err
    with pytest.raises(ValueError, match="channels x size"):
        sparsity.shapes(["64by56"])
