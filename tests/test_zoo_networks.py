"""The six networks of the zoo, compiled: right, nothing through a general kernel, and no copy but those listed here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from benchmarks import zoo
from benchmarks.zoo import export

import tapdot
from tapdot.compiler.lower import lowering
from tapdot.compiler.package import Package
from tapdot.runtime.devices.base import Session
from tapdot.runtime.verify import verify

COPIES = {
    "vgg16": ["image", "features.30"],
    "resnet18": ["image"],
    "resnet50": ["image"],
    "mobilenet_v2": ["image"],
    "inception_v3": [],
    "squeezenet": ["classifier.3"],
}
"""Values that are copied into another layout, for AVX-512's vectors: an image whose first layer pads, a map that is flattened,
and logits that do not fill their last block. Parts of a concatenation never are."""

CONCATENATIONS = {"inception_v3": 11, "squeezenet": 8}
"""Every one of them is a name for memory that its branches were written to, and no kernel."""

FROM_ONNX = ("mobilenet_v2", "resnet18")
ON_A_PHONE = ("mobilenet_v2", "squeezenet", "resnet18")
LONG = (("resnet18", "a phone"), ("mobilenet_v2", "a phone"), ("resnet18", "an ONNX file"))
"""What ``--soak`` adds."""

LONG_TO_BUILD = ("inception_v3",)
"""Networks of many kernels: the usual run asks how they are lowered, ``--soak`` builds and runs the kernels."""


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    with tapdot.connect("host").open() as session:
        yield session


@pytest.fixture(scope="module")
def phone() -> Iterator[Session]:
    with tapdot.connect("emulated").open() as session:
        yield session


def image(name: str) -> np.ndarray:
    return np.asarray(zoo.seeded_images(1, zoo.NETWORKS[name].input_size, seed=3))


def compiled(name: str, target: str) -> Package:
    return tapdot.compile(zoo.build(name), (zoo.seeded_images(1, zoo.NETWORKS[name].input_size, seed=3),), target=target)


def usual_or_skip(request: pytest.FixtureRequest, *case: str) -> None:
    if case in LONG and not request.config.getoption("--soak"):
        pytest.skip("takes minutes; runs with --soak")


def check(session: Session, package: Package, name: str) -> None:
    report = verify(session, package, {package.program.inputs[0].name: image(name)})
    assert report.passed, str(report)


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_on_host(
    name: str, host: Session, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbuilt = name in LONG_TO_BUILD and not request.config.getoption("--soak")
    if unbuilt:
        (tmp_path / "nothing.so").touch()
        monkeypatch.setattr(lowering, "build_library", lambda *arguments: tmp_path / "nothing.so")
    package = compiled(name, "host")
    calls = package.program.calls
    assert [call.node for call in calls if not call.fast] == []
    assert not [call.node for call in calls if call.workload.op == "Concat"]
    concatenations = [node for node in package.graph.nodes if node.op == "Concat"]
    assert len(concatenations) == CONCATENATIONS.get(name, 0)
    copied = [call.inputs[0] for call in calls if call.family == "relayout"]
    if package.target.isa.name.startswith("avx512"):
        assert copied == COPIES[name]
    else:
        assert len(copied) <= max(2, len(COPIES[name]))
    if not unbuilt:
        check(host, package, name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FROM_ONNX)
def test_from_an_onnx_file(name: str, host: Session, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    usual_or_skip(request, name, "an ONNX file")
    path = export.write_onnx(zoo.build(name), zoo.NETWORKS[name].input_shape, tmp_path / f"{name}.onnx")
    package = tapdot.compile(path)
    assert [call.node for call in package.program.calls if not call.fast] == []
    check(host, package, name)


@pytest.mark.emulated
@pytest.mark.parametrize("name", ON_A_PHONE)
def test_on_a_phone(name: str, phone: Session, request: pytest.FixtureRequest) -> None:
    usual_or_skip(request, name, "a phone")
    package = compiled(name, "cortex-a76")
    assert [call.node for call in package.program.calls if not call.fast] == []
    check(phone, package, name)
