"""The nine networks that ship inside the onnx package, on this machine and on an emulated phone.

Their own weights are constants and their own answers almost uniform, so each is run once more with seeded weights, against
onnxruntime's logits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
from tests import light_models

import tapdot
from tapdot.compiler.frontends.onnx import import_onnx
from tapdot.runtime.devices.base import Session
from tapdot.runtime.program import LoadedProgram

LOGITS_TOLERANCE = 1e-3
"""Largest error of a logit, as a share of the range of all logits."""

ON_HOST = ("bvlc_alexnet", "shufflenet", "squeezenet")
ON_A_PHONE = ("shufflenet", "squeezenet")
"""What the usual run compiles; ``--soak`` compiles all nine."""


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    with tapdot.connect("host").open() as session:
        yield session


@pytest.fixture(scope="module")
def phone() -> Iterator[Session]:
    with tapdot.connect("emulated").open() as session:
        yield session


@pytest.mark.parametrize("name", light_models.NAMES)
def test_shipped_answers_on_host(name: str, host: Session, request: pytest.FixtureRequest) -> None:
    usual_or_skip(request, name, ON_HOST)
    check_shipped_answer(name, host, "host")


@pytest.mark.parametrize("name", light_models.NAMES)
def test_seeded_weights_on_host(name: str, host: Session, request: pytest.FixtureRequest) -> None:
    usual_or_skip(request, name, ON_HOST)
    check_seeded_weights(name, host, "host")


@pytest.mark.emulated
@pytest.mark.parametrize("name", light_models.NAMES)
def test_shipped_answers_on_a_phone(name: str, phone: Session, request: pytest.FixtureRequest) -> None:
    usual_or_skip(request, name, ON_A_PHONE)
    check_shipped_answer(name, phone, "cortex-a76")


@pytest.mark.emulated
@pytest.mark.parametrize("name", light_models.NAMES)
def test_seeded_weights_on_a_phone(name: str, phone: Session, request: pytest.FixtureRequest) -> None:
    usual_or_skip(request, name, ON_A_PHONE)
    check_seeded_weights(name, phone, "cortex-a76")


def usual_or_skip(request: pytest.FixtureRequest, name: str, usual: tuple[str, ...]) -> None:
    if name not in usual and not request.config.getoption("--soak"):
        pytest.skip("takes minutes; runs with --soak")


def check_shipped_answer(name: str, session: Session, target: str) -> None:
    """The tolerances are those of onnx's own test runner."""
    package = tapdot.compile(light_models.path(name), target=target)
    model = onnx.load(light_models.path(name))
    (answer,) = LoadedProgram(session, package).run({light_models.input_name(model): light_models.shipped_input(model)}).values()
    np.testing.assert_allclose(answer, light_models.shipped_output(name), rtol=1e-3, atol=1e-7)


def check_seeded_weights(name: str, session: Session, target: str) -> None:
    model = light_models.randomised(name)
    inputs = {light_models.input_name(model): light_models.shipped_input(model)}
    expected = reference_logits(model, inputs)
    assert np.ptp(expected) > 0.1, "the logits say something"
    (logits,) = LoadedProgram(session, tapdot.compile(import_onnx(model), target=target)).run(inputs).values()
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= LOGITS_TOLERANCE * np.ptp(expected)


def reference_logits(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What onnxruntime answers, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, inputs)
    return np.asarray(logits)
