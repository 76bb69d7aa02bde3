"""``trace`` chooses the frontend."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from tests import light_models
from torch import nn

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends import trace


def test_what_it_takes(tmp_path: Path) -> None:
    module, x = nn.Linear(3, 4).eval(), torch.ones(2, 3)
    program = torch.export.export(module, (x,))
    torch.export.save(program, tmp_path / "model.pt2")
    path = light_models.path("squeezenet")
    for model, example in ((module, x), (program, None), (tmp_path / "model.pt2", None), (str(tmp_path / "model.pt2"), None)):
        graph = trace(model, example)
        assert [node.op for node in graph.nodes] == ["Gemm"]
        assert trace(graph) is graph
    assert len(trace(path).nodes) == len(trace(str(path)).nodes) == len(trace(onnx.load(path)).nodes)
    assert trace(module, shapes={"input": (7, 3)}).type("input").shape == (7, 3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("net.pth", "pickles are never loaded"),
        ("net.tapdot", "which is a package"),
        ("net.tflite", "Expected a model as .onnx or .pt2"),
        ("net.onnx", "found nothing there"),
        ("net.pt2", "found nothing there"),
        (3, "found int"),
    ],
)
def test_what_it_refuses(model: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trace(model)  # type: ignore[arg-type]
