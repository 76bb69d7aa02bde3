"""``tapdot pareto`` as a user runs it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.bit_tables import GOLDEN, random_table
from tests.command_line import Outcome, Tapdot, failed, names
from tests.test_cli_int8 import IMAGES, residual_with_softmax

from tapdot.cli.bit_choices import SECONDS, choose_for_model
from tapdot.passes.assign_bits import Assignment, assign
from tapdot.passes.bit_budgets import Budget, parse_budgets
from tapdot.passes.bit_table import BitTable, Candidate, TableLayer
from tapdot.passes.bit_table_files import write_table
from tapdot.passes.pareto_front import Front, pareto_front
from tapdot.passes.sensitivity import FORMAT

PUBLISHED = json.loads(GOLDEN.read_text())["published_bits"]
FIXED = "stage1.unit2.quant_convbn2"
OTHER, THIS = ("x86-64-v3", "host") if platform.machine() == "aarch64" else ("cortex-a76", "host")
"""A target that does not run on this machine, and the one that does."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_last_line_has_the_bits(tapdot: Tapdot, name: str) -> None:
    kind, _, share = name.partition("_")
    kind = {"modelsize": "size"}.get(kind, kind)
    outcome = tapdot("pareto", "--table", GOLDEN, "--budget", f"{kind}={100 * float(share):g}%")
    assert outcome.status == 0
    assert outcome.out.splitlines()[-1] == PUBLISHED[name]


def test_the_last_line_in_a_pipe_of_both_streams(tmp_path: Path) -> None:
    """The bits come last even where stderr goes to the same place and a plot was asked for."""
    pytest.importorskip("matplotlib")
    arguments = ["pareto", "--table", GOLDEN, "--budget", "size=50%", "--plot", tmp_path / "p.png", "--points", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "tapdot.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == PUBLISHED["modelsize_0.5"]
    assert f"Wrote {tmp_path / 'p.png'}." in done.stdout


def test_the_table_of_a_choice(tapdot: Tapdot) -> None:
    outcome = tapdot("pareto", "--table", GOLDEN, "--budget", "size=60%", "--budget", "latency=4.6ms", "--fix", f"{FIXED}=4")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["layer", "bits", "sensitivity", "size", "bops", "latency"]
    assert lines[4].split()[:2] == [FIXED, "4"]
    assert lines[4].endswith("fixed")
    assert lines[5].endswith("tie 1")
    assert lines[7].endswith("tie 1")
    assert [line.partition(":")[0] for line in lines[20:24]] == ["size", "bops", "latency", "sensitivity"]
    assert "of 4.6 ms (latency=4.6ms)" in lines[22]
    assert lines[23].endswith("the least possible")
    assert lines[24][3] == "4"
    assert len(lines) == 25


def test_the_dynamic_program(tapdot: Tapdot) -> None:
    outcome = tapdot("pareto", "--table", GOLDEN, "--budget", "latency=50%", "--method", "dp")
    assert outcome.out.splitlines()[-1] == PUBLISHED["latency_0.5"]
    assert "by the dynamic program" in outcome.out
    failed(
        tapdot("pareto", "--table", GOLDEN, "--budget", "latency=50%", "--budget", "size=50%", "--method", "dp"),
        "takes one budget, found 2",
    )


def test_the_front(tapdot: Tapdot) -> None:
    outcome = tapdot("pareto", "--table", GOLDEN, "--kind", "latency", "--points", "5")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["latency", "share", "sensitivity", "size", "bops", "bits"]
    assert lines[1].split()[-1] == "4" * 19
    assert lines[-1].split()[-1] == "8" * 19
    assert 4 <= len(lines) <= 6


def test_a_front_of_many_layers_counts_them(tapdot: Tapdot, tmp_path: Path) -> None:
    write_table(random_table(100, 0, "free"), tmp_path / "table.json")
    outcome = tapdot("pareto", "--table", tmp_path / "table.json", "--points", "3", "--method", "dp")
    assert outcome.out.splitlines()[1].rstrip().endswith("100 x 2")


def test_json(tapdot: Tapdot) -> None:
    document = tapdot("pareto", "--table", GOLDEN, "--budget", "size=50%", "--json").json()
    assert document["model"] == "resnet18"
    chosen = document["chosen"]
    assert chosen["bits"] == PUBLISHED["modelsize_0.5"]
    assert list(chosen["layers"].values()) == list(PUBLISHED["modelsize_0.5"])
    assert chosen["costs"]["size"] <= chosen["budgets"]["size"]["limit"]
    assert "fronts" not in document
    front = tapdot("pareto", "--table", GOLDEN, "--points", "3", "--json").json()
    assert "chosen" not in front
    assert [point["bits"] for point in front["fronts"][0]["points"]][:: len(front["fronts"][0]["points"]) - 1] == [
        "4" * 19,
        "8" * 19,
    ]


def test_plots(tapdot: Tapdot, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, start in (("p.png", b"\x89PNG"), ("p.svg", b"<?xml")):
        outcome = tapdot("pareto", "--table", GOLDEN, "--budget", "size=50%", "--points", "3", "--plot", tmp_path / name)
        assert outcome.status == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    assert tapdot("pareto", "--table", GOLDEN, "--points", "3", "--plot", tmp_path / "p.pdf", "--method", "dp").status == 0
    assert (tmp_path / "p.pdf").read_bytes().startswith(b"%PDF")
    assert names(tmp_path) == ["p.pdf", "p.png", "p.svg"]
    text = (tmp_path / "p.svg").read_text()
    for words in ("stage1.unit1.quant_convbn1", "budget size=50%", "all at 4 bits", "what each layer loses"):
        assert words in text  # matplotlib leaves the words as a comment beside their shapes


def test_plots_of_unusual_tables(tapdot: Tapdot, tmp_path: Path) -> None:
    """Labels that are no bits, sensitivities of 0, one layer, ninety layers, one point."""
    pytest.importorskip("matplotlib")
    forms = (Candidate("dense", 0.0, {"instructions": 4.0}), Candidate("rate 4 share 2", 1.0, {"instructions": 1.5}))
    tables = {
        "labels": BitTable((TableLayer("one", forms), TableLayer("two", forms)), (("one", "two"),)),
        "zeros": BitTable(
            (TableLayer("one", (Candidate.of_bits(4, 0.0, {"size": 1.0}), Candidate.of_bits(8, 0.0, {"size": 2.0}))),)
        ),
        "many": random_table(90, 0, "stages"),
    }
    for name, share in (("labels", "60%"), ("labels", None), ("zeros", "60%"), ("many", None)):
        path, plot = tmp_path / f"{name}.json", tmp_path / "plot.png"
        write_table(tables[name], path)
        extra = () if share is None else ("--budget", f"{tables[name].kinds[0]}={share}")
        outcome = tapdot("pareto", "--table", path, *extra, "--points", "3", "--plot", plot)
        assert outcome.status == 0, outcome
        assert plot.stat().st_size > 10_000
        plot.unlink()


def test_no_matplotlib(tapdot: Tapdot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    failed(tapdot("pareto", "--table", GOLDEN, "--plot", tmp_path / "p.png"), "Plots need matplotlib", "tapdot[examples]")
    assert names(tmp_path) == []


def test_what_the_user_gets_wrong(tapdot: Tapdot, tmp_path: Path) -> None:
    failed(tapdot("pareto", "--table", tmp_path / "none.json", "--budget", "size=50%"), "Could not read the table")
    (tmp_path / "text.json").write_text("layer bits")
    failed(tapdot("pareto", "--table", tmp_path / "text.json"), "is no JSON")
    failed(tapdot("pareto", "--table", GOLDEN, "--budget", "size=1MB"), "the least size is 5.32 MiB", "size=5.32032MiB")
    failed(tapdot("pareto", "--table", GOLDEN, "--budget", "instructions=1M"), "no cost of the kind 'instructions'")
    failed(tapdot("pareto", "--table", GOLDEN, "--kind", "energy"), "no cost of the kind 'energy'")
    failed(tapdot("pareto", "--table", GOLDEN, "--fix", "conv9=8"), "no layer 'conv9' to fix")
    failed(tapdot("pareto", "--table", GOLDEN, "--fix", "stage1.unit1.quant_convbn1=5"), "no candidate '5'; it has 4, 8")
    failed(tapdot("pareto", "--table", GOLDEN, "--plot", tmp_path / "p.jpg"), "ends in .png, .svg, .pdf")
    failed(tapdot("pareto", "--table", GOLDEN, "--plot", tmp_path / "none" / "p.png"), "There is no folder")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--budget", "size=fifty"),
        ("--budget", "energy=5"),
        ("--budget", "size=50%", "--budget", "size=3MB"),
        ("--budget", "size=50%", "--kind", "size"),
        ("--method", "greedy"),
        ("--fix", "8"),
        ("--fix", "a=4", "--fix", "a=8"),
        ("--points", "1"),
    ],
)
def test_wrong_usage(tapdot: Tapdot, arguments: tuple[str, ...]) -> None:
    outcome = tapdot("pareto", "--table", GOLDEN, *arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert arguments[-2] in outcome.err
    assert tapdot("pareto").status == 2


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """A model and its data, whose layers nobody measures: what is wrong must be said before."""

    def measured(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("sensitivities were measured first")

    monkeypatch.setattr("tapdot.mixed.measure_sensitivity", measured)
    residual_with_softmax(tmp_path / "residual.onnx")
    np.savez(tmp_path / "x.npz", x=IMAGES)
    return (tmp_path / "residual.onnx", "--data", tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "rpc://127.0.0.1:1"), "127.0.0.1:1"),
        (("--device", "host", "--target", OTHER), f"--target {THIS}"),
        (("--budget", "instructions=50%"), "(size, bops, latency), found 'instructions'"),
        (("--kind", "energy"), "Expected a kind of cost (size, bops, latency, instructions), found 'energy'"),
        (("--budget", "size=50%", "--budget", "bops=50%", "--method", "dp"), "takes one budget, found 2"),
    ],
)
def test_what_cannot_work_is_said_before_sensitivities_are_measured(
    tapdot: Tapdot, model: tuple[object, ...], options: tuple[str, ...], words: str
) -> None:
    failed(tapdot("pareto", *model, *options), words)


def test_a_target_of_another_device_is_no_lost_device(tapdot: Tapdot, model: tuple[object, ...]) -> None:
    outcome = tapdot("pareto", *model, "--device", "host", "--target", OTHER)
    failed(outcome, OTHER)
    assert "Try again" not in outcome.sentence


@pytest.mark.parametrize("method", ["hessian", "masked"])
def test_losses_of_two_units_are_not_added(tapdot: Tapdot, model: tuple[object, ...], method: str) -> None:
    outcome = tapdot("pareto", *model, "--sensitivity", method, "--activations", "own")
    assert outcome.status == 2 and "What activations lose is measured by kl or prediction" in told(outcome)


def told(outcome: Outcome) -> str:
    """What wrong usage is answered with, without its frame."""
    return " ".join(outcome.err.replace("│", " ").split())


@pytest.mark.parametrize(
    "options",
    [
        ("--widths", "4,x"),
        ("--activations", "bla"),
        ("--sensitivity", "masked"),
        ("--data", "/nonexistent"),
        ("--device", "nowhere"),
        ("--zero-shot",),
        ("--image-mean", "1"),
        ("--image-deviation", "1"),
        ("--target", "host"),
        ("--shape", "x=1"),
        ("--set", "fuse.max_operators=8"),
    ],
)
def test_a_table_takes_no_options_of_a_model(tapdot: Tapdot, options: tuple[str, ...]) -> None:
    outcome = tapdot("pareto", "--table", GOLDEN, "--budget", "size=50%", *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert "it is for a model" in told(outcome) and options[0] in told(outcome)


@pytest.mark.parametrize("recipe", [("float",), ("mixed", "--bits", "b.json")])
@pytest.mark.parametrize(
    "options",
    [("--fix", "nobody=2"), ("--device", "host"), ("--widths", "2"), ("--activations", "own"), ("--sensitivity", "masked")],
)
def test_compile_takes_no_options_of_a_choice_without_a_budget(
    tapdot: Tapdot, model: tuple[object, ...], tmp_path: Path, recipe: tuple[str, ...], options: tuple[str, ...]
) -> None:
    outcome = tapdot("compile", model[0], "-o", tmp_path / "r.tapdot", "--recipe", *recipe, *options)
    assert outcome.status == 2
    assert "only with a budget (--budget)" in told(outcome) and options[0] in told(outcome)


def test_a_budget_of_compile_has_a_time_limit_and_says_the_gap(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As `pareto` has: without one, a table can take any time."""
    limits: list[float | None] = []

    def search(table: BitTable, budgets: Sequence[Budget], *, time_limit: float | None = None) -> Assignment:
        limits.append(time_limit)
        return replace(assign(table, budgets), gap=0.125)

    choices = SimpleNamespace(
        table=random_table(4, 1, "free"), notes=(), figures=None, predicted=lambda chosen: None, widths=lambda chosen: chosen.text
    )
    monkeypatch.setattr("tapdot.passes.assign_bits.assign", search)
    monkeypatch.setattr("tapdot.cli.bit_choices.choices_of_model", lambda *arguments, **options: choices)
    choose_for_model(Path("net.pt2"), None, None, True, budgets=parse_budgets(["size=50%"]))
    assert limits == [SECONDS]
    assert "at most 0.125 above the least possible (time ran out)" in capfd.readouterr().err


def test_a_front_says_what_a_time_limit_left_open(tapdot: Tapdot, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(table: BitTable, kind: str, *arguments: Any, **options: Any) -> Front:
        front = pareto_front(table, kind, points=5)
        return replace(front, points=(*front.points[:-1], replace(front.points[-1], gap=0.5)), missed=3)

    whole = tapdot("pareto", "--table", GOLDEN, "--points", "5")
    assert "time" not in whole.out
    monkeypatch.setattr("tapdot.passes.pareto_front.pareto_front", search)
    lines = tapdot("pareto", "--table", GOLDEN, "--points", "5").out.splitlines()
    assert lines[-2] == f"1 of {len(whole.out.splitlines()) - 1} points may not be the best (time ran out)"
    assert lines[-1] == "no choice was found in time at 3 more of the budgets"


def test_sensitivities_are_no_table(tapdot: Tapdot, tmp_path: Path) -> None:
    (tmp_path / "sensitivity.json").write_text(json.dumps({"format": FORMAT, "version": 1, "layers": []}))
    failed(
        tapdot("pareto", "--table", tmp_path / "sensitivity.json", "--budget", "size=50%"),
        "holds sensitivities without costs",
        ".table(costs, ties)",
    )


def test_words_of_another_formulation_are_noticed(tapdot: Tapdot, tmp_path: Path) -> None:
    document = json.loads(GOLDEN.read_text())
    document["formulation"]["bops"] = "as ever"
    (tmp_path / "table.json").write_text(json.dumps(document))
    outcome = tapdot("pareto", "--table", tmp_path / "table.json", "--budget", "bops=50%")
    assert "formulates bops in other words" in outcome.sentence
    assert outcome.out.splitlines()[-1] == PUBLISHED["bops_0.5"]
