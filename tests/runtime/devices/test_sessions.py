"""What every kind of device does alike: this machine, an agent of its architecture, and an emulated phone."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.conftest import StartAgent, device_of

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices import connect
from tapdot.runtime.devices.base import Device
from tapdot.runtime.echo import ELEMENTS, SYMBOL, echo_library, run_echo


@pytest.fixture(params=["host", "native agent", pytest.param("emulated", marks=pytest.mark.emulated)])
def any_device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "native agent":
        start: StartAgent = request.getfixturevalue("start_agent")
        yield device_of(start())
    else:
        yield connect(request.param)


@pytest.fixture
def library(any_device: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = "aarch64" if any_device.emulated else platform.machine()
    return echo_library(architecture, tmp_path_factory.mktemp("echo") / "echo.so")


def test_a_session(any_device: Device, library: Path, tmp_path: Path) -> None:
    """One session for all of it: starting an emulated phone takes a second."""
    weights = tmp_path / "weights.bin"
    weights.write_bytes(np.random.default_rng(1).bytes(64 * 1000))
    part = weights.read_bytes()[640:]
    with any_device.open(60) as session:
        information = session.information()
        assert information.emulated == any_device.emulated
        assert information.architecture == ("aarch64" if any_device.emulated else platform.machine())
        assert information.cores >= 1 and information.memory_mebibytes > information.free_memory_mebibytes > 0
        assert "dotprod" in information.features if any_device.emulated else information.features
        assert not any_device.emulated or information.cpu == "cortex-a76"

        run_echo(session, library)
        module = session.load_library(library)
        values = np.arange(ELEMENTS, dtype=np.float32)
        x, y = session.tensor(values), session.empty((ELEMENTS,), np.float32)
        for threads in range(1, information.cores + 1):
            session.set_threads(threads)
            seconds = session.time(module, SYMBOL, [x, y], number=3, repeat=4)
            assert len(seconds) == 4 and min(seconds) > 0
        assert np.array_equal(session.array(y), 2 * values)
        for threads in (0, information.cores + 1):
            with pytest.raises(DeviceError, match=f"asked for {threads} threads"):
                session.set_threads(threads)

        for array in (np.float32(3.5).reshape(()), np.zeros((0, 3), np.int8), np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)):
            assert np.array_equal(session.array(session.tensor(array)), array)
        for _ in range(2):  # the second time from the device's cache
            mapped = session.map_weights(weights, hashlib.sha256(part).hexdigest(), 640, len(part))
            assert session.array(mapped).tobytes() == part

        broken = tmp_path / "broken.so"
        broken.write_bytes(library.read_bytes()[:100])
        with pytest.raises(DeviceError, match=r"broken\.so"):
            session.load_library(broken)
        with pytest.raises((DeviceError, AttributeError), match="nowhere"):
            session.call(module, "nowhere", [])
        with pytest.raises((DeviceError, TypeError), match=SYMBOL):
            session.call(module, SYMBOL, [x])
        session.call(module, SYMBOL, [x, y])  # none of that ended the session
        session.close()
    session.close()


def test_the_default_target_fits(any_device: Device) -> None:
    assert any_device.default_target() == ("cortex-a76" if any_device.emulated else "host")


def test_a_library_replaced_in_place_is_loaded_anew(tmp_path: Path) -> None:
    library = echo_library(platform.machine(), tmp_path / "kernel.so")
    with connect("host").open() as session:
        run_echo(session, library)
        library.unlink()
        library.write_bytes(b"not a library")
        with pytest.raises(DeviceError):
            session.load_library(library)
