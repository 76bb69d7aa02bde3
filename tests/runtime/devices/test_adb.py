"""Sessions with a phone on a cable, from plugging it in to pulling the cable at the wrong moment."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from tests.conftest import HEARS_CONTROL_C
from tests.runtime.conftest import MISBEHAVING_SOURCE, link_source
from tests.runtime.devices.conftest import StandIn

from tapdot.compiler.cache import cache_directory
from tapdot.compiler.errors import DeviceError
from tapdot.runtime.bundle import Bundle, build_bundle
from tapdot.runtime.devices import adb as adb_module
from tapdot.runtime.devices import connect, remote
from tapdot.runtime.devices.adb_tool import Adb
from tapdot.runtime.doctor import doctor
from tapdot.runtime.echo import echo_library, run_echo

pytestmark = pytest.mark.emulated


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def nothing_is_left(phone: StandIn) -> bool:
    """No process, no forward, no transfer cut short, nobody's record of a forward."""
    records = list((cache_directory() / "adb-forwards").glob("*"))
    return not (phone.processes() or phone.forwards() or [name for name in phone.files() if "arriving" in name] or records)


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of forwards are this test's own; bundles are not."""
    build_bundle("aarch64")
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("bundles", "wheels", "libraries", "objects"):
        real = cache_directory() / name
        if real.exists():
            (folder / name).symlink_to(real)
    monkeypatch.setenv("TAPDOT_CACHE", str(folder))


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return echo_library("aarch64", tmp_path_factory.mktemp("echo") / "echo.so")


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_source(MISBEHAVING_SOURCE, "aarch64", tmp_path_factory.mktemp("library") / "misbehaving.so")


def test_a_session_from_cable_to_answer(stand_in: StandIn, echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.plug("phone1", model="Phone_1")
    weights = tmp_path / "weights"
    weights.write_bytes(np.random.default_rng(0).bytes(100_000))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    keys = []
    start = adb_module.RunningAgent.__init__

    def note(agent: adb_module.RunningAgent, command: list[str], key: str, *rest: object, **named: object) -> None:
        keys.append(key)
        start(agent, command, key, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(adb_module.RunningAgent, "__init__", note)
    with connect("adb").open(120) as session:
        information = session.information()
        assert information.cpu == "cortex-a76" and information.emulated and information.machine == "tapdot Phone 1"
        run_echo(session, echo)
        assert session.array(session.map_weights(weights, digest)).tobytes() == weights.read_bytes()
        processes = stand_in.processes()
        assert len(processes) >= 3 and stand_in.forwards().startswith("phone1 tcp:")
        assert not [command for command in processes if keys[0] in command]
    wait_for(lambda: nothing_is_left(stand_in))

    pushed = []
    monkeypatch.setattr(Adb, "push", lambda *arguments, **named: pushed.append(arguments))
    with connect("adb:phone1").open(120) as session:  # all is there
        assert session.array(session.map_weights(weights, digest)).tobytes() == weights.read_bytes()
    assert not pushed and keys[0] != keys[1]
    wait_for(lambda: nothing_is_left(stand_in))


def test_only_what_differs_is_copied(stand_in: StandIn, echo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.plug()
    adb = Adb(os.environ["ADB"], "phone1")
    facts = adb_module.phone_facts(adb)
    bundle = build_bundle("aarch64")
    pushed: list[list[str]] = []
    push = Adb.push

    def note(self: Adb, files: list[Path], folder: str, doing: str) -> None:
        pushed.append([file.name for file in files])
        push(self, files, folder, doing)

    monkeypatch.setattr(Adb, "push", note)
    folder = adb_module.install(adb, bundle, facts)
    there = stand_in.folder / "phones/phone1/files/tapdot" / Path(folder).relative_to(adb_module.FOLDER)
    assert len(pushed.pop()) == len(list(bundle.directory.iterdir())) == len(list(there.iterdir()))
    adb_module.install(adb, bundle, facts)
    assert not pushed
    (there / "libm.so.6").write_bytes(b"damaged")
    (there / "tapdot-run").unlink()
    adb_module.install(adb, bundle, facts)
    assert pushed == [["libm.so.6", "tapdot-run"]]
    assert (there / "libm.so.6").read_bytes() == (bundle.directory / "libm.so.6").read_bytes()


def test_old_bundles_go_unless_an_agent_runs_from_them(stand_in: StandIn) -> None:
    stand_in.plug()
    adb = Adb(os.environ["ADB"], "phone1")
    bundle = build_bundle("aarch64")
    bundles = stand_in.folder / "phones/phone1/files/tapdot/bundles"
    for name, days in (("aarch64-old", 9), ("aarch64-running", 9), ("aarch64-recent", 3), (bundle.directory.name, 9)):
        (bundles / name).mkdir(parents=True)
        (bundles / name / "tapdot-agent").write_bytes(bytes(30 * 2**20 if name == "aarch64-recent" else 10))
        os.utime(bundles / name, (0, time.time() - days * 86400))

    def left() -> set[str]:
        return {path.name.removeprefix("aarch64-") for path in bundles.iterdir()}

    own = bundle.directory.name.removeprefix("aarch64-")
    with subprocess.Popen(["sleep", "600"], cwd=bundles / "aarch64-running") as agent:
        try:
            adb_module.install(adb, bundle, adb_module.phone_facts(adb))
            assert left() == {own, "running", "recent"}
            (bundles / bundle.directory.name / "libm.so.6").unlink()
            stand_in.plug("phone1", disk_mebibytes=60)  # too little for a copy, unless what nobody uses goes
            adb_module.install(adb, bundle, adb_module.phone_facts(adb))
            assert left() == {own, "running"}
        finally:
            agent.kill()


def test_a_session_says_that_its_bundle_is_used(stand_in: StandIn, echo: Path) -> None:
    stand_in.plug()
    adb = Adb(os.environ["ADB"], "phone1")
    folder = adb_module.install(adb, build_bundle("aarch64"), adb_module.phone_facts(adb))
    there = stand_in.folder / "phones/phone1/files/tapdot" / Path(folder).relative_to(adb_module.FOLDER)
    os.utime(there, (0, 0))
    other = Bundle(Path("aarch64-of-another-version"), "aarch64")
    with connect("adb").open(120) as session:
        assert there.stat().st_mtime > time.time() - 600
        adb_module._remove_bundles(adb, other, idle_days=0)  # what another user's newer tapdot would do
        run_echo(session, echo)
    assert there.is_dir()
    wait_for(lambda: nothing_is_left(stand_in))
    adb_module._remove_bundles(adb, other, idle_days=0)
    assert not there.exists()


def test_a_disk_that_fills_during_the_copy_is_a_sentence(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.plug("phone1", disk_mebibytes=5)
    monkeypatch.setattr(adb_module, "_check_space", lambda *arguments: None)  # something else took the room meanwhile
    with pytest.raises(
        DeviceError, match=r"The disk of adb:phone1 became full while the agent was copied there, which takes 12 MiB"
    ):
        connect("adb").open()
    assert not stand_in.files() and nothing_is_left(stand_in)


def test_a_disk_too_full_for_weights_or_a_library_is_a_sentence(
    stand_in: StandIn, echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.plug("phone1", disk_mebibytes=15)
    monkeypatch.setattr(adb_module, "SPARE_MEBIBYTES", 1.0)
    library = tmp_path / "large.so"
    library.write_bytes(bytes(5 * 2**20))
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(60 * 2**20))
    with connect("adb").open(120) as session:
        with pytest.raises(DeviceError, match="the device has no room for 62914560 bytes of weights"):
            session.map_weights(weights, hashlib.sha256(weights.read_bytes()).hexdigest())
        with pytest.raises(DeviceError, match=r"Loading large\.so failed on adb: .*the file on the device"):
            session.load_library(library)
        run_echo(session, echo)  # the session goes on
    wait_for(lambda: nothing_is_left(stand_in))
    assert not list((stand_in.folder / "phones/phone1/files/tapdot/weights").iterdir())


def test_a_cable_pulled_during_the_copy_costs_nothing(stand_in: StandIn, echo: Path) -> None:
    stand_in.plug("phone1", unplug_after_bytes=3_000_000)
    with pytest.raises(
        DeviceError, match=r"Copying the agent to the phone failed: the phone adb:phone1 was unplugged, or lost its"
    ):
        connect("adb").open()
    assert not stand_in.processes() and not stand_in.forwards()
    stand_in.plug()
    with connect("adb").open(120) as session:
        run_echo(session, echo)
    wait_for(lambda: nothing_is_left(stand_in))


def test_a_cable_pulled_while_weights_are_sent_costs_nothing(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(np.random.default_rng(0).bytes(100_000))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    chunks = remote.chunks

    def pulled(file: BinaryIO, size: int) -> Iterator[bytes]:
        monkeypatch.setattr(remote, "CHUNK_BYTES", 10_000)
        for number, chunk in enumerate(chunks(file, size)):
            if number == 5:
                stand_in.unplug()
                wait_for(lambda: not stand_in.forwards())
            yield chunk

    stand_in.plug()
    with connect("adb").open(120) as session, monkeypatch.context() as patch:
        patch.setattr(remote, "chunks", pulled)
        with pytest.raises(DeviceError, match=r"Sending the weights ended without an answer: the phone adb:phone1 was unplugged"):
            session.map_weights(weights, digest)
    wait_for(lambda: nothing_is_left(stand_in))
    folder = stand_in.folder / "phones/phone1/files/tapdot/weights"
    for half in folder.glob("partial-*"):
        os.utime(half, (0, 0))  # the next upload removes what nobody has written to for a while
    stand_in.plug()
    with connect("adb").open(120) as session:
        assert session.array(session.map_weights(weights, digest)).tobytes() == weights.read_bytes()
        assert [path.name for path in folder.iterdir() if path.stat().st_size] == [digest]  # no half of it


def test_a_cable_pulled_during_a_run_is_a_sentence(stand_in: StandIn, misbehaving: Path) -> None:
    stand_in.plug()
    with connect("adb").open(120) as session:
        module = session.load_library(misbehaving)
        threading.Timer(0.5, stand_in.unplug).start()
        with pytest.raises(DeviceError, match=r"Running hang ended without an answer: the phone adb:phone1 was unplugged"):
            session.call(module, "hang", [])
    wait_for(lambda: nothing_is_left(stand_in))  # the agent has noticed, too, and took its session along
    with pytest.raises(DeviceError, match="No phone is attached"):
        connect("adb").open()
    stand_in.plug()
    with connect("adb").open(120) as session:
        session.call(session.load_library(misbehaving), "nothing", [])


def test_a_crash_on_the_phone_is_a_sentence(stand_in: StandIn, misbehaving: Path) -> None:
    stand_in.plug()
    with (
        connect("adb").open(120) as session,
        pytest.raises(DeviceError, match=r"Running crash ended without an answer: adb closed the connection\. .* crashed there"),
    ):
        session.call(session.load_library(misbehaving), "crash", [])
    wait_for(lambda: nothing_is_left(stand_in))


OPEN_AND_WAIT = """
from tapdot.runtime.devices import connect
with connect("adb").open() as session:
    print("open", flush=True)
    input()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_client_leaves_nothing_on_the_phone(stand_in: StandIn, how: signal.Signals) -> None:
    stand_in.plug()
    client = subprocess.Popen(
        [sys.executable, "-c", HEARS_CONTROL_C + OPEN_AND_WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdout is not None and client.stdout.readline() == b"open\n"
    client.send_signal(how)
    client.wait(timeout=30)
    client.communicate()
    if how == signal.SIGKILL:  # adb's server keeps a forward until somebody removes it
        wait_for(lambda: not [command for command in stand_in.processes() if "tapdot-agent" in command])
        assert stand_in.forwards().startswith("phone1 tcp:")
        with connect("adb").open(120):
            assert len(stand_in.forwards().splitlines()) == 1
    wait_for(lambda: nothing_is_left(stand_in))


def test_an_agent_that_does_not_start_is_a_sentence(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.plug("phone1", cpu="pentium")
    with pytest.raises(
        DeviceError, match=r"The agent did not start: .*pentium.* It was started on adb:phone1 in /data/local/tmp/"
    ):
        connect("adb").open()
    assert nothing_is_left(stand_in)


def test_the_doctor_walks_each_step(stand_in: StandIn) -> None:
    def walk() -> list[tuple[str, bool]]:
        return [(step.name, step.passed) for step in doctor("adb")]

    assert walk() == [("TVM", True), ("adb", True), ("phone", False)]
    stand_in.plug("phone1", disk_mebibytes=10)
    first = ["TVM", "adb", "phone", "processor", "bundle", "free space"]
    assert walk() == [(name, name != "free space") for name in first]
    stand_in.plug("phone1", disk_mebibytes=2000, abi="x86_64")
    assert walk() == [(name, name != "processor") for name in first[:4]]
    stand_in.plug("phone1", abi="arm64-v8a")
    later = [
        "agent on the phone",
        "key",
        "session",
        "agent version",
        "device",
        "target",
        "ping",
        "echo kernel",
        "instruction counter",
    ]
    assert walk() == [(name, True) for name in first + later]
    wait_for(lambda: nothing_is_left(stand_in))
