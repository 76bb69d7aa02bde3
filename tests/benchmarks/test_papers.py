"""Published figures beside ours, on an ImageNet of four classes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import papers
from benchmarks.zoo.export import write_onnx, write_pt2
from torch import nn

from tapdot.passes.bit_budgets import parse_budgets

COLOURS = {"n01": (250, 0, 0), "n02": (0, 250, 0), "n03": (0, 0, 250)}


class Strongest(nn.Module):
    """The class is the strongest colour."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, classes, bias=False)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.eye(classes, 3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.relu(image).mean((2, 3)))


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Two images a class, and one of the third class that looks like the second."""
    image = pytest.importorskip("PIL.Image")
    for name, colour in COLOURS.items():
        (tmp_path / "val" / name).mkdir(parents=True)
        for index in range(2):
            shown = COLOURS["n02"] if (name, index) == ("n03", 1) else colour
            image.new("RGB", (40, 30), shown).save(tmp_path / "val" / name / f"{index}.JPEG")
    return tmp_path / "val"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_pt2(Strongest(), (1, 3, 16, 16), tmp_path / "models" / "resnet18.pt2")
    write_onnx(Strongest(4), (1, 3, 16, 16), tmp_path / "models" / "mobilenet_v2.onnx")
    return tmp_path / "models"


def test_published_figures_are_complete() -> None:
    for published in papers.TABLES.values():
        assert published.source and published.paper
        mixed = published.choosing is not None
        for row in published.rows:
            low, high = (55 if mixed else 60, 80) if published.top == 1 else (90, 95)
            assert low < row.compressed < high and abs(row.compressed - row.baseline) < (7 if mixed else 0.5)
            assert bool(row.budget) == mixed
            parse_budgets([row.budget] if mixed else [])
        names = [(row.network, row.budget) for row in published.rows]
        assert len(set(names)) == len(names) and mixed == (published.recipe == "mixed")


def test_rows_are_measured_where_a_model_is_there(imagenet: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    papers.main(["zeroq", "--imagenet", str(imagenet), "--models", str(models), "--recipe", "float", "--json"])
    document = json.loads(capsys.readouterr().out)
    rows = {row["network"]: row for row in document["rows"]}
    ours = rows["resnet18"]["ours"]
    assert ours["images"] == 6 and ours["baseline"] == pytest.approx(100 * 5 / 6) == ours["compressed"]
    assert ours["difference"] == 0 and ours["interval"] == [0, 0]
    assert rows["resnet18"]["paper"] == {"baseline": 71.47, "compressed": 71.43}
    assert "tells 4 classes apart" in rows["mobilenet_v2"]["ours"]["reason"]
    assert "resnet50.pt2 or .onnx" in rows["resnet50"]["ours"]["reason"]


def test_tables_name_the_figures_source_and_what_was_not_measured(
    imagenet: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    papers.main(["hawq-v3", "--imagenet", str(imagenet), "--models", str(models), "--recipe", "float", "--images", "3"])
    out = capsys.readouterr().out
    assert "71.56" in out and "100.00" in out and "+0.00 ± 0.00" in out
    assert "Zhen-Dong/HAWQ" in out and "Not measured: ResNet-50." in out
    papers.main(["zeroq"])
    assert "with --imagenet" in capsys.readouterr().out


def test_pruned_rows_need_both_models_and_count_the_first_five(
    imagenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    write_onnx(Strongest(), (1, 3, 16, 16), models / "vgg16.onnx")
    for name in ("vgg16-pruned", "resnet50"):
        shutil.copy(models / "vgg16.onnx", models / f"{name}.onnx")
    options = ["--imagenet", str(imagenet), "--models", str(models), "--recipe", "float", "--json"]
    papers.main(["patdnn", *options])
    rows = {row["network"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["vgg16"]["paper"] == {"baseline": 91.7, "compressed": 91.6}
    assert rows["vgg16"]["ours"]["compressed"] == 100 == rows["vgg16"]["ours"]["baseline"], "one of three classes is among five"
    assert "A resnet50-pruned.pt2 or .onnx is needed" in rows["resnet50"]["ours"]["reason"]
    papers.main(["patdnn"])
    out = capsys.readouterr().out
    assert "PatDNN" in out and "Top-5" in out and "pruned" in out and "pattern-int8" in out


class Layers(nn.Module):
    """Three layers, the middle one between the ends that keep 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.classifier = nn.Linear(8, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).mean((2, 3)))


def test_bits_of_mixed_rows_are_chosen_within_the_rows_budget(
    imagenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pt2(Layers(), (1, 3, 16, 16), tmp_path / "models" / "resnet18.pt2")
    whole = papers.TABLES["hawq-v3-mixed"]
    rows = tuple(row for row in whole.rows if row.network == "resnet18" and row.budget in ("size=75%", "size=0%"))
    monkeypatch.setitem(papers.TABLES, "hawq-v3-mixed", replace(whole, rows=rows))
    options = ["--imagenet", str(imagenet), "--models", str(tmp_path / "models"), "--data", str(imagenet), "--json"]
    papers.main(["hawq-v3-mixed", *options])
    found = {row["budget"]: row["ours"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {budget: ours["bits"] for budget, ours in found.items()} == {"size=75%": "848", "size=0%": "848"}, "the ends stay"
    assert found["size=0%"]["images"] == 6

    with pytest.raises(SystemExit, match="1"):
        papers.main(["zeroq", *options, "--recipe", "mixed"])
    assert "hawq-v3-mixed, zeroq-mixed do" in capsys.readouterr().err


def test_tables_of_mixed_rows_say_budgets_and_what_was_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    papers.main(["hawq-v3-mixed"])
    out = " ".join(capsys.readouterr().out.split())
    assert "ResNet-50, latency=50%" in out and "74.95" in out and "model_zoo.md" in out
    papers.main(["zeroq-mixed"])
    out = " ".join(capsys.readouterr().out.split())
    assert "ResNet-50, size=12.17MiB" in out and "75.80" in out and "not checked in the paper" in out


def test_a_missing_folder_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        papers.main(["zeroq", "--imagenet", str(tmp_path / "none")])
    assert "There is no data at" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        papers.main(["adaround"])
