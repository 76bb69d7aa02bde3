"""What adb says, and what is made of it. The texts are adb 1.0.41's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.runtime.devices.conftest import STAND_IN, StandIn

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices import connect, list_devices
from tapdot.runtime.devices.adb import AdbDevice, PhoneFacts, parse_free_mebibytes
from tapdot.runtime.devices.adb_tool import Adb, AttachedPhone, find_adb, parse_phones

LISTING = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
0A041FDD40012B         device usb:1-1 product:oriole model:Pixel_6 device:oriole transport_id:1
192.168.1.5:5555       offline product:x model:y device:z transport_id:2
emulator-5554          unauthorized transport_id:3
R58M                   no permissions (user in plugdev group; are your udev rules wrong?); see [http://d.android.com] usb:1-2

"""


def test_the_list_of_phones_is_read() -> None:
    assert parse_phones(LISTING) == [
        AttachedPhone("0A041FDD40012B", "device", "Pixel 6"),
        AttachedPhone("192.168.1.5:5555", "offline", "y"),
        AttachedPhone("emulator-5554", "unauthorized"),
        AttachedPhone("R58M", "no permissions"),
    ]
    assert parse_phones("List of devices attached\n\n") == []


@pytest.mark.parametrize(
    ("table", "mebibytes"),
    [
        (
            [
                "Filesystem       1K-blocks     Used Available Use% Mounted on",
                "/dev/block/dm-8  110000000 50000000 1048576  46% /data",
            ],
            1024,
        ),
        (["Filesystem 1K-blocks Used Available Use% Mounted on", "/dev/fuse 100 100 0 100% /storage/emulated"], 0),
        (["df: /data/local/tmp: Permission denied"], None),
        ([], None),
    ],
)
def test_free_space_is_read(table: list[str], mebibytes: float | None) -> None:
    assert parse_free_mebibytes(table) == mebibytes


def test_adb_is_looked_for_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ADB", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match=r"needs adb, which is not installed\. Run: apt install adb"):
        find_adb()
    monkeypatch.setenv("PATH", str(STAND_IN.parent))
    assert find_adb() == str(STAND_IN)
    tools = tmp_path / "sdk" / "platform-tools"
    tools.mkdir(parents=True)
    (tools / "adb").symlink_to(STAND_IN)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    assert find_adb() == str(tools / "adb")
    monkeypatch.setenv("ADB", str(STAND_IN))
    assert find_adb() == str(STAND_IN)
    monkeypatch.setenv("ADB", "/nowhere/adb")
    with pytest.raises(DeviceError, match="ADB is /nowhere/adb, which is no program"):
        find_adb()


def refusal(serial: str | None = None) -> str:
    with pytest.raises(DeviceError) as caught:
        AdbDevice(serial).open()
    return str(caught.value)


def test_a_phone_that_cannot_be_used_is_a_sentence(stand_in: StandIn) -> None:
    assert refusal().startswith("No phone is attached. Plug one in whose developer options have USB debugging switched on")
    assert "No phone with the serial number phone9 is attached. No phone is attached." in refusal("phone9")
    stand_in.plug("phone1", state="unauthorized")
    assert refusal().startswith(
        "The phone adb:phone1 is attached, and adb calls it 'unauthorized'. Unlock it and allow USB debug"
    )
    stand_in.plug("phone1", state="offline")
    assert "adb calls it 'offline'. Pull the cable and plug it in again" in refusal("phone1")
    stand_in.plug("phone1", state="recovery")
    assert "adb calls it 'recovery'. Start Android on it." in refusal()
    stand_in.plug("phone1")
    stand_in.plug("phone2")
    assert refusal() == "2 phones are attached; say which, as one of: adb:phone1, adb:phone2."
    assert refusal("phone9") == "No phone with the serial number phone9 is attached. Attached are: adb:phone1, adb:phone2."
    stand_in.plug("phone2", abi="armeabi-v7a")
    assert refusal("phone2") == (
        "The phone adb:phone2 runs programs for armeabi-v7a, and tapdot's agent for Android is for arm64-v8a only. Use a 64-bit "
        "ARM phone."
    )
    stand_in.plug("phone1", disk_mebibytes=10)
    assert refusal("phone1").startswith(
        "The phone adb:phone1 has 10 MiB free, and the agent needs 44 MiB in /data/local/tmp/tapdot"
    )


def test_devices_lists_phones_by_their_lines(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def phones() -> list[tuple[str, bool | None]]:
        return [(device.line, device.available) for device in list_devices() if device.line.startswith("adb")]

    assert phones() == [("adb[:SERIAL]", False)]
    stand_in.plug("phone1", model="Pixel_6")
    stand_in.plug("phone2", state="unauthorized")
    assert phones() == [("adb:phone1", True), ("adb:phone2", False)]
    monkeypatch.setenv("ADB", "/nowhere")
    assert phones() == [("adb[:SERIAL]", False)]


def test_a_line_names_a_phone() -> None:
    for line, serial in (("adb", None), ("adb:0A041FDD", "0A041FDD"), ("adb:192.168.1.5:5555", "192.168.1.5:5555")):
        device = connect(line)
        assert isinstance(device, AdbDevice) and (device.line, device.serial) == (line, serial)


def test_an_adb_that_hangs_or_fails_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapdot.runtime.devices.adb_tool.COMMAND_SECONDS", 0.5)
    program = tmp_path / "adb"
    for script, sentence in (
        ("sleep 5", "adb did not finish within 0 s. Look at the phone's screen, or run: adb kill-server"),
        ("echo 'adb: error: cannot connect to daemon' >&2; exit 1", "cannot connect to daemon."),
        ("exit 3", "adb ended with status 3."),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        with pytest.raises(DeviceError) as caught:
            Adb(str(program)).attached()
        assert str(caught.value) == sentence
    program.write_text("not a program")
    with pytest.raises(DeviceError, match=r"cannot be started \(Exec format error\)"):
        Adb(str(program)).attached()


def test_facts_of_a_phone(stand_in: StandIn) -> None:
    from tapdot.runtime.devices.adb import phone_facts

    stand_in.plug("phone1", model="Phone_1", disk_mebibytes=100)
    assert phone_facts(Adb(find_adb(), "phone1")) == PhoneFacts(("arm64-v8a",), "tapdot Phone 1", True, 100.0)
