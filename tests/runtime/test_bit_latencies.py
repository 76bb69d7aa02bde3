"""Layers measured by width, on a device that drops out in between and comes back."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.test_cli_int8 import IMAGES, residual_with_softmax

import tapdot
from tapdot.compiler.errors import DeviceError, InputError
from tapdot.kernels.target import find_target
from tapdot.passes.bit_candidates import LATENCY
from tapdot.runtime import layer_costs
from tapdot.runtime.bit_latencies import measure_layers, measured_kind
from tapdot.runtime.devices.host import HostDevice, HostSession


class Absences:
    """A host that is gone at the measurements of these numbers, counted from 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *gone: int) -> None:
        self.asked = 0
        measure = HostDevice.measure

        def watched(device: HostDevice, *arguments: Any, **options: Any) -> Any:
            self.asked += 1
            if self.asked - 1 in gone:
                raise DeviceError("The device host hung up.")
            return measure(device, *arguments, **options)

        monkeypatch.setattr(HostDevice, "measure", watched)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layer_costs, "cache_directory", lambda: tmp_path / "cache")
    residual_with_softmax(tmp_path / "residual.onnx")
    return tmp_path / "residual.onnx"


def test_a_target_of_another_device_is_refused_before_anything_is_compiled() -> None:
    """Trying again would not help, and is not advised."""
    other = find_target("x86-64-v3" if platform.machine() == "aarch64" else "cortex-a76")
    with pytest.raises(DeviceError, match=f"target {other.name}") as error:
        measure_layers(HostDevice(), {}, [], other)
    assert "Try again" not in str(error.value)
    assert measured_kind(HostDevice(), find_target("host")) == LATENCY


def test_an_emulated_device_has_no_latencies_to_keep_a_budget_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the model is read."""
    information = HostSession.information
    monkeypatch.setattr(HostSession, "information", lambda session: replace(information(session), emulated=True))
    with pytest.raises(InputError, match=r"\(size, bops, instructions\), found 'latency'"):
        tapdot.bit_choices("missing.onnx", data=IMAGES, kinds=["latency"])


def test_what_was_measured_before_a_device_dropped_out_stays(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> Any:
        return tapdot.bit_choices(model, data=IMAGES, bits=(8, 4), samples=4, device="host")

    absences = Absences(monkeypatch, 1)
    with pytest.raises(DeviceError) as error:
        ask()
    assert str(error.value) == (
        "The device host hung up; of weights of 8 bits the figures are kept. Try again: what was measured is not measured again."
    )
    kept = {path: path.read_bytes() for path in (model.parent / "cache").rglob("*.json")}
    assert kept and absences.asked == 2
    figures = ask().figures
    assert absences.asked == 3, "8 bits were measured again"
    assert all(path.read_bytes() == text for path, text in kept.items())
    assert all(np.isfinite(list(of.values())).all() and set(of) == {8, 4} for of in figures.by_layer.values())
    ask()
    assert absences.asked == 3
