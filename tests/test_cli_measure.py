"""``tapdot measure`` of one package and of several: tables, JSON, and what a user can get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command_line import Tapdot, failed
from tests.runtime.test_measure import in_a_row, losing
from tests.small_networks import small_onnx

import tapdot as library
from tapdot.runtime.devices.host import HostSession


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages of one model."""
    folder = tmp_path_factory.mktemp("measure")
    small_onnx(folder / "small.onnx")
    for name, target in (("one", "host:generic"), ("two", "host")):
        library.compile(folder / "small.onnx", target=target).save(folder / f"{name}.tapdot")
    return folder


def test_two_packages_in_turns(tapdot: Tapdot, folder: Path) -> None:
    packages = (folder / "one.tapdot", folder / "two.tapdot")
    outcome = tapdot("measure", *packages, "--runs", "8")
    assert outcome.status == 0 and outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0] == "On host, 1 thread, 8 rounds in turns:"
    assert lines[1].startswith("one ") and lines[2].startswith("two ") and lines[2].endswith(" times one")
    document = tapdot("measure", *packages, "--runs", "3", "--json").json()
    assert document["rounds"] == 3 and document["fastest"] is None and "too few" in document["verdict"]
    assert [entry["target"] for entry in document["packages"]] == ["host:generic", "host"]


def test_a_profile_cut_short(tapdot: Tapdot, folder: Path) -> None:
    outcome = tapdot("measure", folder / "one.tapdot", "--runs", "2", "--per-layer", "--top", "1", "--sort", "order")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("kernel"))
    assert lines[header].split() == ["kernel", "family", "us", "share", "rate", "of", "limit"]
    assert lines[header + 2].startswith("... and ")
    assert lines[-1].startswith("Limits of ")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("--per-layer", "two.tapdot"), "--per-layer"),
        (("--top", "3"), "--top"),
        (("--sort", "time"), "--sort"),
        (("--per-layer", "--sort", "size"), "--sort"),
        (("--cores", "fast"), "--cores"),
        (("--cores", "3-1"), "--cores"),
        (("--runs", "0"), "--runs"),
    ],
)
def test_wrong_usage(tapdot: Tapdot, folder: Path, arguments: tuple[str, ...], option: str) -> None:
    outcome = tapdot("measure", folder / "one.tapdot", *arguments)
    assert outcome.status == 2 and outcome.out == ""
    assert f"Invalid value for {option}" in outcome.err.replace("'", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--threads", "4096"), "asked for 4096 threads"),
        (("--cores", "4094-4095"), "asked for core 4094, 4095, and a session there may use"),
    ],
)
def test_what_the_device_has_not(tapdot: Tapdot, folder: Path, arguments: tuple[str, ...], words: str) -> None:
    failed(tapdot("measure", folder / "one.tapdot", *arguments), words)
    failed(tapdot("measure", folder / "one.tapdot", folder / "two.tapdot", *arguments), words)


def test_what_was_measured_is_printed_though_the_device_was_lost(
    tapdot: Tapdot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = HostSession.time
    monkeypatch.setattr(HostSession, "time", losing(time, in_a_row(5), 2))
    outcome = tapdot("measure", folder / "one.tapdot", "--runs", "20")
    assert outcome.status == 1 and "ms median of 5 runs" in outcome.out
    assert outcome.sentence == "tapdot: The cable came out. 5 of 20 runs had been timed."
    monkeypatch.setattr(HostSession, "time", losing(time, in_a_row(5), 2))
    outcome = tapdot("measure", folder / "one.tapdot", "--runs", "20", "--json")
    assert outcome.status == 1 and outcome.json()["runs"] == 5
    assert outcome.json()["interrupted"] == "The cable came out. 5 of 20 runs had been timed."
