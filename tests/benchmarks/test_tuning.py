"""The tuning benchmark from end to end, on a few configurations of one small layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import tuning
from benchmarks.sparse.layers import Form, Shape


def test_one_layer_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = tuning.Named(Shape(16, 16, 9), Form(), "float")
    monkeypatch.setitem(tuning.WORKLOADS, "dense-float-3x3", small)
    out = tmp_path / "out.json"
    options = ["--workloads", "dense-float-3x3", "--folder", str(tmp_path), "--most", "6", "--seeds", "1", "--rounds", "5"]
    tuning.main([*options, "--json", str(out)])
    (found,) = json.loads(out.read_text())["workloads"]
    assert found["configurations"] == 6 and found["trials"] == 2 and len(found["ratios"]) == 1
    assert found["gain"] > 0 and found["default_microseconds"] > 0
    assert "| dense-float-3x3 | 6 |" in capsys.readouterr().out


def test_the_named_workloads_are_what_they_say() -> None:
    assert len(tuning.WORKLOADS) == 6
    for name, named in tuning.WORKLOADS.items():
        form, precision, size = name.split("-")
        assert (form == "pattern") == bool(named.form.share)
        assert precision == named.precision
        assert size == f"{named.shape.kernel}x{named.shape.kernel}"
