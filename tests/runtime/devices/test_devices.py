"""The lines that name devices."""

from __future__ import annotations

import pytest

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices import connect
from tapdot.runtime.devices.adb import AdbDevice
from tapdot.runtime.devices.emulated import EmulatedDevice
from tapdot.runtime.devices.host import HostDevice
from tapdot.runtime.devices.remote import RemoteDevice
from tapdot.runtime.devices.tracker import TrackerDevice

WRONG_LINES = [
    *("", "phone", "rpc://", "rpc://phone", "rpc://phone:", "rpc://:1", "emulated:", "host:1", "adb:", "adb:two words"),
    *("tracker://shelf:1", "tracker://shelf:1/", "tracker://shelf/key", "tracker://shelf:1/a/b", "tracker://shelf:1/two words"),
]
FORMS = r"names no device.*host, emulated\[:CPU\], adb\[:SERIAL\], rpc://HOST:PORT, tracker://HOST:PORT/KEY\."


@pytest.mark.parametrize(
    ("line", "kind", "name", "emulated"),
    [
        ("host", HostDevice, "host", False),
        (" host ", HostDevice, "host", False),
        ("emulated", EmulatedDevice, "emulated", True),
        ("emulated:max", EmulatedDevice, "emulated:max", True),
        ("rpc://phone.local:9190", RemoteDevice, "rpc://phone.local:9190", False),
        ("rpc://127.0.0.1:1", RemoteDevice, "rpc://127.0.0.1:1", False),
        ("rpc://[::1]:9190", RemoteDevice, "rpc://[::1]:9190", False),
        ("adb", AdbDevice, "adb", False),
        ("adb:0A041FDD", AdbDevice, "adb:0A041FDD", False),
        ("tracker://shelf.local:9190/pixel-6", TrackerDevice, "tracker://shelf.local:9190/pixel-6", False),
        ("tracker://[::1]:9190/pixel-6", TrackerDevice, "tracker://[::1]:9190/pixel-6", False),
    ],
)
def test_a_line_names_a_device(line: str, kind: type, name: str, emulated: bool) -> None:
    device = connect(line)
    assert type(device) is kind and (device.line, device.emulated) == (name, emulated)


@pytest.mark.parametrize("line", WRONG_LINES)
def test_another_line_is_refused_with_the_forms_there_are(line: str) -> None:
    with pytest.raises(DeviceError, match=FORMS):
        connect(line)


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_out_of_range_is_refused(port: str) -> None:
    for line in (f"rpc://phone:{port}", f"tracker://shelf:{port}/key"):
        with pytest.raises(DeviceError, match="no port from 1 to 65535"):
            connect(line)


def test_a_device_far_away_needs_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("TAPDOT_KEY", raising=False)
    monkeypatch.delenv("TAPDOT_KEY_FILE", raising=False)
    device = RemoteDevice("127.0.0.1", 9)
    with pytest.raises(DeviceError, match="needs its agent's key"):
        device.open()
    monkeypatch.setenv("TAPDOT_KEY_FILE", str(tmp_path / "missing"))
    with pytest.raises(DeviceError, match="cannot be read or is empty"):
        device.open()
    (tmp_path / "key").write_text("from-a-file\nignored\n")
    monkeypatch.setenv("TAPDOT_KEY_FILE", str(tmp_path / "key"))
    assert device.key == "from-a-file"
    monkeypatch.setenv("TAPDOT_KEY", "from-the-environment")
    assert device.key == "from-the-environment"
    assert RemoteDevice("127.0.0.1", 9, "given").key == "given"
