"""Published figures beside ours, on an ImageNet of four classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from benchmarks import papers
from benchmarks.zoo.export import write_onnx, write_pt2
from torch import nn

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
        for row in published.rows:
            low, high = (60, 80) if published.top == 1 else (90, 95)
            assert low < row.compressed < high and abs(row.compressed - row.baseline) < 0.5


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


def test_a_missing_folder_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        papers.main(["zeroq", "--imagenet", str(tmp_path / "none")])
    assert "There is no data at" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        papers.main(["adaround"])
