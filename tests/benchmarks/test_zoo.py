"""The zoo: published shapes, sizes and names, and weights that keep a network alive."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from benchmarks import zoo
from benchmarks.files import replace
from benchmarks.zoo import export
from benchmarks.zoo.macs import count_macs
from torch import nn

# Multiply-accumulates in units of 10^9 and parameters in units of 10^6, as published.
PUBLISHED = {
    "vgg16": (15.470, 138.358),
    "resnet18": (1.814, 11.690),
    "resnet50": (4.089, 25.557),
    "mobilenet_v2": (0.3008, 3.505),
    "inception_v3": (5.713, 27.161),
    "squeezenet": (0.349, 1.235),
}

# Tensors in the published state dicts, and some of their names with shapes.
STATE_DICTS: dict[str, tuple[int, dict[str, tuple[int, ...]]]] = {
    "vgg16": (32, {"features.28.weight": (512, 512, 3, 3), "classifier.6.bias": (1000,)}),
    "resnet18": (122, {"layer2.0.downsample.0.weight": (128, 64, 1, 1), "layer4.1.bn2.running_var": (512,)}),
    "resnet50": (320, {"layer1.0.downsample.1.weight": (256,), "layer4.2.conv3.weight": (2048, 512, 1, 1)}),
    "mobilenet_v2": (
        314,
        {
            "features.0.0.weight": (32, 3, 3, 3),
            "features.1.conv.1.weight": (16, 32, 1, 1),
            "features.17.conv.1.0.weight": (960, 1, 3, 3),
            "features.18.1.running_mean": (1280,),
            "classifier.1.weight": (1000, 1280),
        },
    ),
    "inception_v3": (
        580,
        {
            "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
            "Mixed_6c.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
            "Mixed_7c.branch3x3dbl_3b.bn.running_var": (384,),
            "AuxLogits.conv1.conv.weight": (768, 128, 5, 5),
            "fc.weight": (1000, 2048),
        },
    ),
    "squeezenet": (52, {"features.12.expand3x3.weight": (256, 64, 3, 3), "classifier.1.weight": (1000, 512, 1, 1)}),
}
SMALL = ("squeezenet", "mobilenet_v2", "resnet18")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def built() -> dict[str, nn.Module]:
    return {name: zoo.build(name) for name in SMALL}


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_macs_and_parameters_are_the_published_ones(name: str) -> None:
    skeleton = zoo.skeleton(name)
    macs, parameters = PUBLISHED[name]
    assert count_macs(skeleton, zoo.NETWORKS[name].input_shape) / 1e9 == pytest.approx(macs, rel=5e-4)
    assert sum(parameter.numel() for parameter in skeleton.parameters()) / 1e6 == pytest.approx(parameters, rel=5e-4)


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_published_state_dicts_would_load(name: str) -> None:
    state = zoo.skeleton(name).state_dict()
    count, tensors = STATE_DICTS[name]
    assert len(state) == count
    assert {key: tuple(state[key].shape) for key in tensors} == tensors


def test_macs_count_groups_and_linear_layers() -> None:
    module = nn.Sequential(nn.Conv2d(8, 16, (3, 1), groups=4, stride=2), nn.Flatten(), nn.LazyLinear(5))
    module(torch.zeros(1, 8, 9, 9))
    # The convolution gives 4 rows of 5: 16 * 20 outputs of 2 * 3 products each; then 320 inputs to 5 outputs.
    assert count_macs(module, (1, 8, 9, 9)) == 320 * 6 + 320 * 5


@pytest.mark.parametrize("name", SMALL)
def test_seeded_networks_are_alive(name: str, built: dict[str, nn.Module]) -> None:
    module, size = built[name], zoo.NETWORKS[name].input_size
    largest: list[float] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: largest.append(float(output.abs().max())))
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        logits = module(zoo.seeded_images(3, size, seed=5))
    for hook in hooks:
        hook.remove()
    assert not module.training and torch.isfinite(logits).all()
    assert min(largest) > 0.2 and max(largest) < 200
    assert logits.std(dim=1).min() > 0.1, "classes are told apart"
    assert logits.std(dim=0).mean() > 0.02, "images are told apart"


def test_seeds_decide_the_weights(built: dict[str, nn.Module]) -> None:
    before = torch.get_rng_state()
    again, other = zoo.build("squeezenet", seed=0).state_dict(), zoo.build("squeezenet", seed=1).state_dict()
    assert torch.equal(before, torch.get_rng_state()), "torch's own generator is left alone"
    for key, value in built["squeezenet"].state_dict().items():
        assert torch.equal(value, again[key])
    assert not torch.equal(again["features.0.weight"], other["features.0.weight"])


def test_official_files_load_strictly(tmp_path: Path, built: dict[str, nn.Module]) -> None:
    source = built["squeezenet"]
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    loaded = zoo.load_weights(zoo.build("squeezenet", seed=3), tmp_path / "weights.pth")
    assert torch.equal(loaded.state_dict()["features.0.weight"], source.state_dict()["features.0.weight"])
    with pytest.raises(ValueError, match="are not those of MobileNetV2"):
        zoo.load_weights(built["mobilenet_v2"], tmp_path / "weights.pth")


def test_files_that_run_code_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": print}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="without running code"):
        zoo.load_weights(zoo.skeleton("squeezenet"), tmp_path / "code.pth")
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match="without running code"):
        zoo.load_weights(zoo.skeleton("squeezenet"), tmp_path / "torn.pth")


def test_unknown_networks_are_named() -> None:
    with pytest.raises(ValueError, match=r"no network 'resnet19'; it has vgg16, resnet18"):
        zoo.build("resnet19")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fold", [True, False])
def test_onnx_files_agree_with_torch(tmp_path: Path, fold: bool, built: dict[str, nn.Module]) -> None:
    module, network = built["mobilenet_v2"], zoo.NETWORKS["mobilenet_v2"]
    path = export.write_onnx(module, network.input_shape, tmp_path / "net.onnx", fold=fold)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"], "one file, nothing left beside it"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = zoo.seeded_images(1, network.input_size, seed=9)
    with torch.no_grad():
        expected = module(image).numpy()
    (logits,) = session.run(["output"], {"input": image.numpy()})
    assert np.abs(logits - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.filterwarnings("ignore")
def test_pt2_files_keep_batch_norms(tmp_path: Path, built: dict[str, nn.Module]) -> None:
    module, network = built["mobilenet_v2"], zoo.NETWORKS["mobilenet_v2"]
    program = torch.export.load(export.write_pt2(module, network.input_shape, tmp_path / "net.pt2"))
    assert any("batch_norm" in str(node.target) for node in program.graph.nodes)
    image = zoo.seeded_images(1, network.input_size, seed=9)
    with torch.no_grad():
        assert torch.allclose(program.module()(image), module(image), atol=1e-5)


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "net.onnx").write_bytes(b"whole")
    with pytest.raises(OSError, match="disk full"):
        replace(tmp_path / "net.onnx", fail)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("net.onnx", b"whole")]
