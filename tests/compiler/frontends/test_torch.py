"""torch import: every kind of operator, names, the zoo, and what bad input gets."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import zoo
from tests.compiler.frontends import torch_cases
from torch import nn
from torch.utils import _pytree as pytree

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends.onnx import import_onnx
from tapdot.compiler.frontends.torch import import_torch
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret

CASES = torch_cases.cases()


def run(graph: Graph, *inputs: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        results = interpret(graph, dict(zip(graph.inputs, inputs, strict=True)))
    return [results[name] for name in graph.outputs]


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    module, inputs = CASES[name]
    with torch.no_grad():
        expected = pytree.tree_leaves(module(*[value.clone() for value in inputs]))
    found = run(import_torch(module, [value.clone() for value in inputs]), *inputs)
    assert len(found) == len(expected)
    for result, wanted in zip(found, expected, strict=True):
        assert result.dtype == wanted.dtype
        torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-4)


# -- whole networks ------------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A residual block behind a stem, as exports meet them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        x = self.relu(self.relu(self.conv(x)) + x)
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


IMAGE = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)


def test_names_come_from_the_module(small: Small) -> None:
    graph = import_torch(small, IMAGE)
    assert graph.inputs == ("image",)
    assert graph.name == "Small"
    assert [node.name for node in graph.nodes] == [
        "stem.0",
        "stem.1",
        "stem.2",
        "conv",
        "relu",
        "add",
        "relu_1",
        "adaptive_avg_pool2d",
        "flatten",
        "head",
    ]
    assert "stem.1.running_mean" in graph.constants
    assert [node.op for node in graph.nodes][:3] == ["Conv", "BatchNormalization", "Relu"]


def test_the_graph_holds_copies_and_modes_stay(small: Small) -> None:
    small.stem.train()
    graph = import_torch(small, IMAGE)
    assert small.stem.training and small.stem[1].training and not small.conv.training
    before = graph.constants["conv.weight"].copy()
    with torch.no_grad():
        small.conv.weight.zero_()
    np.testing.assert_array_equal(graph.constants["conv.weight"], before)


def test_a_file_and_a_program_give_the_same_graph(small: Small, tmp_path: Path) -> None:
    program = torch.export.export(small, (IMAGE,))
    torch.export.save(program, tmp_path / "small.pt2")
    live, file, loaded = import_torch(small, IMAGE), import_torch(tmp_path / "small.pt2"), import_torch(program)
    assert [node.name for node in live.nodes] == [node.name for node in file.nodes] == [node.name for node in loaded.nodes]
    for graph in (live, file, loaded):
        torch.testing.assert_close(run(graph, IMAGE)[0], small(IMAGE))


def test_open_dimensions(small: Small) -> None:
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(small, (IMAGE.repeat(2, 1, 1, 1),), dynamic_shapes=({0: batch},))
    graph = import_torch(program)
    assert graph.type("image").shape == (1, 3, 8, 8)
    assert "open batch dimension" in graph.notes[0]
    graph = import_torch(program, shapes={"image": (5, 3, 8, 8)})
    many = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(run(graph, many)[0], small(many))
    assert "conv.weight" in graph.constants
    with pytest.raises(ModelError, match="does not fit its declared shape"):
        import_torch(program, shapes={"image": (5, 3, 9, 8)})


@pytest.mark.parametrize("name", ["resnet18", "squeezenet"])
def test_zoo_network(name: str, tmp_path: Path) -> None:
    """Module and both ONNX exports (folded and not) against torch."""
    from benchmarks.zoo.export import write_onnx

    module, network = zoo.build(name), zoo.NETWORKS[name]
    image = zoo.seeded_images(1, network.input_size, seed=3)
    with torch.no_grad():
        expected = module(image)
    span = float(expected.max() - expected.min())
    graphs = [import_torch(module, image)]
    graphs += [
        import_onnx(write_onnx(module, network.input_shape, tmp_path / f"{fold}.onnx", fold=fold)) for fold in (True, False)
    ]
    for graph in graphs:
        assert float((run(graph, image)[0] - expected).abs().max()) <= 1e-4 * span
    assert sum(node.op == "BatchNormalization" for node in graphs[0].nodes) == (20 if name == "resnet18" else 0)


# -- what is refused -----------------------------------------------------------------------------------------------------------


class Unsupported(nn.Module):
    """Two operators nobody has a row for."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch_cases.Function(lambda x: torch.special.bessel_j0(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i0(self.inner(x))


def test_all_unknown_operators_are_listed_with_their_place() -> None:
    with pytest.raises(ModelError) as caught:
        import_torch(Unsupported(), torch.ones(3))
    text = str(caught.value)
    assert "special_bessel_j0" in text and "in module 'inner'" in text
    assert "i0" in text and "test_torch.py:" in text and "return torch.special.i0" in text


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (nn.Linear(3, 4), None, "Expected example inputs to trace Linear with"),
        (nn.Linear(3, 4), torch.ones(2, 5), r"torch.export cannot trace Linear with inputs of shape \[2, 5\]"),
        (nn.AdaptiveAvgPool2d(3), torch.ones(1, 2, 8, 8), "windows differ in size"),
        (torch_cases.Function(lambda x: x if x.sum() > 0 else -x), torch.ones(3), "does not branch on tensor values"),
        (torch_cases.Function(lambda x: x.to(torch.complex64).abs()), torch.ones(3), "complex64"),
        (torch_cases.Function(lambda x: (x, 3)), torch.ones(3), "only tensors are supported"),
        (nn.Linear(3, 4), [[1.0, 2.0, 3.0]], "found list"),
    ],
)
def test_modules_that_cannot_be_imported(module: nn.Module, inputs: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_torch(module, inputs)


def test_a_program_exported_in_training_mode_is_refused(small: Small) -> None:
    program = torch.export.export(small.train(), (IMAGE,))
    with pytest.raises(ModelError, match=r"exported in training mode.*export module.eval\(\)"):
        import_torch(program)


def test_weights_that_are_not_finite(small: Small) -> None:
    with torch.no_grad():
        small.conv.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"weight 'conv.weight' holds 1 of 576 values that are NaN or infinite"):
        import_torch(small, IMAGE)


def test_damaged_files(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "small.pt2"
    torch.export.save(torch.export.export(small, (IMAGE,)), path)
    whole = path.read_bytes()
    for data in (b"", b"no archive at all", whole[: len(whole) // 2], whole[:-30], whole[100:]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"Expected a torch.export archive"):
            import_torch(path)
    with pytest.raises(ModelError, match="found nothing there"):
        import_torch(tmp_path / "missing.pt2")


class Trap:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.path, "sprung")


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None) -> Path:
    """A copy of an archive with members changed and added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        folder = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            new.writestr(name.replace(folder, target.stem, 1), change(name, old.read(name)))
        for name, data in (extra or {}).items():
            new.writestr(f"{target.stem}/{name}", data)
    return target


def test_files_that_would_run_code_are_refused(small: Small, tmp_path: Path) -> None:
    """None of these may leave ``sprung`` behind."""
    source, sprung = tmp_path / "source.pt2", tmp_path / "sprung"
    torch.export.save(torch.export.export(small, (IMAGE,)), source)
    trap = io.BytesIO()
    torch.save(Trap(sprung), trap)

    def sample_inputs(name: str, data: bytes) -> bytes:
        return trap.getvalue() if "sample_inputs" in name else data

    def pickled_weight(name: str, data: bytes) -> bytes:
        if name.endswith("model_weights_config.json"):
            config = json.loads(data)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config).encode()
        return trap.getvalue() if name.endswith("weight_0") else data

    def pickled_constant(name: str, data: bytes) -> bytes:
        if not name.endswith("model_constants_config.json"):
            return data
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        return json.dumps({"config": {"thing": entry}}).encode()

    def operator(name: str, data: bytes) -> bytes:
        return data.replace(b"torch.ops.aten.relu_.default", b"torch.os.system", 1) if name.endswith("model.json") else data

    def size(name: str, data: bytes) -> bytes:
        code = f"__import__('pathlib').Path({str(sprung)!r}).write_text('sprung')"
        return (
            data.replace(b'{"as_int": 8}', json.dumps({"as_expr": {"expr_str": code, "hint": None}}).encode())
            if name.endswith("model.json")
            else data
        )

    changes = {
        "sample_inputs": (sample_inputs, {}),
        "pickled_weight": (pickled_weight, {}),
        "pickled_constant": (pickled_constant, {"data/constants/opaque_obj_0": pickle.dumps(Trap(sprung))}),
        "legacy_weights": (lambda name, data: data, {"data/weights/model.pt": trap.getvalue()}),
        "operator": (operator, {}),
        "size": (size, {}),
        "compiled": (lambda name, data: data, {"data/aotinductor/model/code.so": b"\x7fELF"}),
    }
    for name, (change, extra) in changes.items():
        path = rewritten(source, tmp_path / f"{name}.pt2", change, extra)
        with pytest.raises(ModelError, match="Refusing to read"):
            import_torch(path)
        assert not sprung.exists(), name
    import_torch(rewritten(source, tmp_path / "unchanged.pt2", lambda name, data: data))
