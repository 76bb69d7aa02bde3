"""The six networks of the zoo and the miniature ones in int8: byte for byte the reference, on every instruction table.

Most run on images smaller than a network was made for, which leaves its layers as they are and ends a plane in the middle of a
tile. Weights are drawn from two seeds; statistics and ranges are those of seeded images of that size.
"""

from __future__ import annotations

from collections.abc import Iterator

import networkx
import numpy as np
import onnx
import pytest
import torch
from benchmarks import zoo
from benchmarks.miniatures.networks import MiniatureMobileNetV2, MiniatureResNet, MiniatureVGG
from benchmarks.zoo.seeding import seed_weights
from tests import light_models
from tests.test_differential import available_or_skip
from torch import nn

import tapdot
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.package import Package
from tapdot.runtime.devices.base import Session
from tapdot.runtime.verify import verify

SIDES = {"vgg16": 224, "resnet18": 71, "resnet50": 64, "mobilenet_v2": 72, "inception_v3": 91, "squeezenet": 66}
"""Of the images; VGG-16's average pool before its first linear layer is only an identity at full size."""

MINIATURES = {"miniature_resnet": MiniatureResNet, "miniature_mobilenet_v2": MiniatureMobileNetV2, "miniature_vgg": MiniatureVGG}
MINIATURE_SIDE, MINIATURE_CLASSES, MINIATURE_BATCH = 32, 46, 3

SEEDS = (0, 1)
ON_HOST = ("host", "host:avx512", "host:avx2", "host:generic")
ON_PHONES = ("cortex-a76", "cortex-a76:neon", "cortex-x2")

SHORT = {
    ("resnet18", "host", 0),
    ("squeezenet", "host", 0),
    ("miniature_mobilenet_v2", "host", 0),
    ("miniature_vgg", "host", 1),
    ("miniature_vgg", "host:avx512", 1),
    ("miniature_mobilenet_v2", "host:avx2", 1),
    ("miniature_resnet", "host:generic", 1),
    ("miniature_mobilenet_v2", "cortex-a76", 1),
    ("miniature_mobilenet_v2", "cortex-a76:neon", 0),
    ("miniature_resnet", "cortex-x2", 1),
}
"""Network, target and seed of the usual run; ``--soak`` runs all of them."""

CONVERSIONS = frozenset({"Quantize", "Dequantize", "Relayout"})

ENDS = {
    "vgg16": ["quantize", "relayout"],
    "squeezenet": ["quantize", "relayout", "dequantize"],
    "miniature_vgg": ["quantize", "relayout"],
}
"""Kernels that only convert, by network: a map that is flattened, an average of codes as the answer. The others only quantize."""


ISLANDS = {
    "bvlc_alexnet": ["LRN", "LRN", "Softmax"],
    "densenet121": [],
    "inception_v1": ["LRN", "LRN", "Softmax"],
    "zfnet512": ["LRN", "LRN", "Softmax"],
}
"""What stays float in the networks that ship inside the onnx package; in those not listed, the softmax at the end."""


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    with tapdot.connect("host").open() as session:
        yield session


@pytest.fixture(scope="module")
def phone() -> Iterator[Session]:
    with tapdot.connect("emulated").open() as session:
        yield session


@pytest.fixture(scope="module")
def phone_with_everything() -> Iterator[Session]:
    with tapdot.connect("emulated:max").open() as session:
        yield session


def side(name: str) -> int:
    return SIDES.get(name, MINIATURE_SIDE)


def network(name: str, seed: int) -> nn.Module:
    """With seeded weights and the statistics of images of this size."""
    module = MINIATURES[name](MINIATURE_CLASSES) if name in MINIATURES else zoo.skeleton(name).to_empty(device="cpu")
    seed_weights(module, side(name), seed)
    return module


def images(name: str, seed: int) -> torch.Tensor:
    return zoo.seeded_images(MINIATURE_BATCH if name in MINIATURES else 1, side(name), seed=seed)


def compiled(name: str, target: str, seed: int) -> Package:
    samples = np.asarray(torch.cat([images(name, 5), images(name, 6)]))
    return tapdot.compile(network(name, seed), (images(name, 3),), target=target, recipe="int8", data=samples)


def between_integer_convolutions(graph: Graph) -> list[str]:
    """Conversions that are reached from one convolution of codes and reach another."""
    flow = networkx.DiGraph()
    for node in graph.nodes:
        flow.add_node(node.name)
        flow.add_edges_from((producer.name, node.name) for name in node.inputs if name and (producer := graph.producer(name)))
    sums = [node.name for node in graph.nodes if node.op in ("QConv", "QGemm")]
    after = set().union(*(networkx.descendants(flow, name) for name in sums))
    before = set().union(*(networkx.ancestors(flow, name) for name in sums if graph_node(graph, name).op == "QConv"))
    return [node.name for node in graph.nodes if node.op in CONVERSIONS and node.name in after & before]


def graph_node(graph: Graph, name: str) -> Node:
    (node,) = (node for node in graph.nodes if node.name == name)
    return node


def check(session: Session, name: str, target: str, seed: int) -> None:
    package = compiled(name, target, seed)
    calls = package.program.calls
    assert [call.node for call in calls if not call.fast] == [], "every kernel is a fast one"
    assert package.coverage.islands == (), "nothing is computed in floats"
    assert between_integer_convolutions(package.graph) == []
    assert [call.family for call in calls if call.workload.op in CONVERSIONS] == ENDS.get(name, ["quantize"])
    assert not [call.node for call in calls if call.workload.op == "Concat"]
    report = verify(session, package, {package.program.inputs[0].name: np.asarray(images(name, 4))})
    assert report.passed, str(report)
    assert report.bit_exact


def cases(targets: tuple[str, ...]) -> list[object]:
    """Every network, target and seed, those of the usual run first."""
    every = [(name, target, seed) for target in targets for name in (*MINIATURES, *SIDES) for seed in SEEDS]
    every.sort(key=lambda case: case not in SHORT)
    return [pytest.param(*case, id="-".join(map(str, case))) for case in every]


def usual_or_skip(request: pytest.FixtureRequest, *case: object) -> None:
    if case not in SHORT and not request.config.getoption("--soak"):
        pytest.skip("runs with --soak")


@pytest.mark.parametrize(("name", "target", "seed"), cases(ON_HOST))
def test_on_host(name: str, target: str, seed: int, host: Session, request: pytest.FixtureRequest) -> None:
    usual_or_skip(request, name, target, seed)
    available_or_skip(target)
    check(host, name, target, seed)


@pytest.mark.emulated
@pytest.mark.parametrize(("name", "target", "seed"), cases(ON_PHONES))
def test_on_phones(
    name: str, target: str, seed: int, phone: Session, phone_with_everything: Session, request: pytest.FixtureRequest
) -> None:
    usual_or_skip(request, name, target, seed)
    check(phone_with_everything if target == "cortex-x2" else phone, name, target, seed)


@pytest.mark.parametrize("name", light_models.NAMES)
def test_the_networks_of_the_onnx_package(name: str, host: Session, request: pytest.FixtureRequest) -> None:
    """As shipped, every weight of a layer is the same number: ranges are as odd as they come."""
    if name != "squeezenet" and not request.config.getoption("--soak"):
        pytest.skip("runs with --soak")
    model = onnx.load(light_models.path(name))
    image = light_models.shipped_input(model)
    noise = np.random.default_rng(0).random((2, *image.shape[1:]), np.float32)
    package = tapdot.compile(light_models.path(name), recipe="int8", data=(image + noise) / 2)
    kept = [graph_node(package.graph, node).op for island in package.coverage.islands for node in island.nodes]
    assert kept == ISLANDS.get(name, ["Softmax"])
    assert all(f"{op} has no integer form" in island.reason for op, island in zip(kept, package.coverage.islands, strict=True))
    report = verify(host, package, {light_models.input_name(model): image})
    assert report.passed, str(report)
    assert list(report.islands) == [island.nodes[0] for island in package.coverage.islands]
