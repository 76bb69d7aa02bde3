"""``tapdot tune``, ``tapdot records`` and ``tapdot compile --records`` as a user runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.command_line import Tapdot, failed
from tests.conftest import HEARS_CONTROL_C

import tapdot as package_of_tapdot
from tapdot.runtime.tuning.records import Records
from tapdot.runtime.tuning.tuner import Options

TRIALS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)).eval()
    path = tmp_path_factory.mktemp("model") / "small.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 12, 12),)), path)
    return path


@pytest.fixture(scope="module")
def tuned(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a few trials of the model on this machine."""
    records = tmp_path_factory.mktemp("tuned") / "records.db"
    package_of_tapdot.tune(model, trials=TRIALS, records=records, seed=0)
    return records


def test_tune_then_compile(tapdot: Tapdot, model: Path, tuned: Path, tmp_path: Path) -> None:
    again = tapdot("tune", model, "--trials", TRIALS, "--records", tuned, "--json")
    assert again.status == 0
    document = again.json()
    assert (document["trials"], document["new_trials"], document["unit"]) == (TRIALS, 0, "seconds")
    assert {row["family"] for row in document["rows"]} == {"convolution", "pooling"}
    assert 0 <= document["own_share"] <= 1
    out = tmp_path / "small.tapdot"
    compiled = tapdot("compile", model, "-o", out, "--records", tuned)
    assert compiled.status == 0
    assert f"Tuning records {tuned}: " in compiled.sentence
    assert tapdot("verify", out).status == 0
    assert any(note.startswith("Tuning records") for note in package_of_tapdot.load(out).notes)


def test_winners_of_records_are_compiled(tapdot: Tapdot, model: Path, tuned: Path, tmp_path: Path) -> None:
    plain = package_of_tapdot.compile(model)
    call = next(call for call in plain.program.calls if call.family == "pooling")
    with Records(tuned) as records:
        others = [record for record in records.find(workload=call.workload.key) if record.configuration != dict(call.config)]
        copy = tmp_path / "copy.db"
        with Records(copy) as wanted:
            wanted.take([type(others[0])(**{**others[0].json(), "gain": 9.0})], records.facts())
    package = package_of_tapdot.compile(model, records=copy)
    chosen = next(call for call in package.program.calls if call.family == "pooling")
    assert dict(chosen.config) == others[0].configuration
    assert package_of_tapdot.connect("host").verify(package).passed


def test_a_package_can_be_tuned(tapdot: Tapdot, model: Path, tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.tapdot"
    package_of_tapdot.compile(model).save(out)
    found = tapdot("tune", out, "--trials", TRIALS, "--records", tuned)
    assert found.status == 0 and f"{TRIALS} trials of 2 workloads" in found.out


def test_records_are_shown_exported_and_taken_over(tapdot: Tapdot, tuned: Path, tmp_path: Path) -> None:
    shown = tapdot("records", "show", "--records", tuned)
    assert shown.status == 0 and "FusedConv 3x3, 3x12x12 to 16x12x12" in shown.out
    assert "; target host, 1 thread " in shown.out and "best, us" in shown.out and " 0.0 " not in shown.out
    listed = tapdot("records", "show", "--records", tuned, "--json").json()
    assert sum(row["trials"] for row in listed["kernels"]) == TRIALS and listed["stale"] == []
    lines, other = tmp_path / "lines.jsonl", tmp_path / "other.db"
    assert tapdot("records", "export", lines, "--records", tuned).sentence.startswith(f"Wrote {TRIALS} records")
    assert f"{TRIALS} new" in tapdot("records", "import", lines, "--records", other).sentence
    assert "0 new" in tapdot("records", "merge", tuned, "--records", other).sentence


def test_bad_choices_are_wrong_usage(tapdot: Tapdot, model: Path) -> None:
    assert tapdot("tune", model, "--sampler", "luck").status == 2
    assert tapdot("tune", model, "--trials", 0).status == 2
    for seed in (-1, 2**31):
        assert tapdot("tune", model, f"--seed={seed}").status == 2
        with pytest.raises(package_of_tapdot.TapdotError, match=f"from 0 to {2**31 - 1}, found {seed}"):
            Options(8, seed=seed)
    assert Options(8, seed=2**31 - 1).seed == 2**31 - 1
    failed(tapdot("tune", model, "--device", "toaster"), "names no device")
    for option in (["--recipe", "int8"], ["--zero-shot"], ["--target", "host"]):
        ignored = tapdot("tune", "some.tapdot", *option)  # what a package was compiled with stays
        assert ignored.status == 2 and "some.tapdot is a package, compiled already" in ignored.sentence


def test_bad_records_are_said_in_a_sentence(tapdot: Tapdot, model: Path, tmp_path: Path) -> None:
    failed(tapdot("compile", model, "-o", tmp_path / "x.tapdot", "--records", tmp_path / "none.db"), "There are no records")
    failed(tapdot("tune", model, "--records", "sqlite://"), "in the memory of one process")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"SQLite format 3\0" + bytes(4000))
    failed(tapdot("tune", model, "--records", damaged), "damaged")
    failed(tapdot("records", "show", "--records", tmp_path / "none.db"), "There are no records")
    failed(tapdot("records", "import", tmp_path / "none.jsonl", "--records", tmp_path / "new.db"), "There are no records")
    assert not (tmp_path / "new.db").exists() and not (tmp_path / "x.tapdot").exists()


def test_control_c_keeps_what_was_found(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.db"
    script = HEARS_CONTROL_C + (
        "import sys; from tapdot.cli import main\n"
        f"sys.argv = ['tapdot', 'tune', {str(model)!r}, '--trials', '1000', '--records', {str(records)!r}]; main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + 240
    while _recorded(records) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors and "trials are recorded in" in " ".join(errors.split())
    assert "trials of 2 workloads" in out
    with Records(records) as opened, opened.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM tapdot_records WHERE state = 'claimed'").scalar() == 0


def _recorded(place: Path) -> int:
    if not place.exists():
        return 0
    try:
        with Records(place, create=False) as records:
            return len(records.find())
    except package_of_tapdot.TapdotError:
        return 0  # its tables are being made
