"""Medians, ratios and shares, on times made up here."""

import json

import pytest
from benchmarks.machine import Machine, choose_cores, describe
from benchmarks.report import Rate, Report, Table, Timing
from benchmarks.worker import Turn


def timing(engine: str, *rounds: list[float], interruptions: int = 0) -> Timing:
    return Timing(engine, "1.0", 1e-6, 0.5, [Turn(seconds, interruptions) for seconds in rounds])


@pytest.fixture
def report() -> Report:
    table = Table("resnet18", macs=2_000_000_000)
    # The machine halves its speed in the second round: ratios must not notice.
    table.timings = [
        timing("tapdot", [0.010, 0.010], [0.020, 0.020], [0.010, 0.010]),
        timing("onnxruntime", [0.015, 0.015], [0.030, 0.030], [0.015, 0.015]),
    ]
    table.absent["openvino"] = "openvino is not installed: pip install openvino"
    rate = Rate("float32 multiply-add", "MAC/s", "avx2 fma", 1_000_000_000, [Turn([0.004], 0)] * 3)
    machine = Machine("box", "Some CPU", 4, "Linux", "2026-01-01 00:00 UTC")
    return Report(machine, "float", 1, 3, "wall", [table], {rate.name: rate})


def test_ratios_are_paired_by_round(report: Report) -> None:
    tapdot, other = report.tables[0].timings
    assert other.ratio_to(tapdot) == pytest.approx(1.5)
    tapdot.turns[0], tapdot.turns[1] = tapdot.turns[1], tapdot.turns[0]
    assert other.ratio_to(tapdot) == pytest.approx(1.5), "0.75, 3 and 1.5: the middle one"


def test_markdown_names_everything(report: Report) -> None:
    text = report.markdown()
    assert "Some CPU (4 cores, Linux), 2026-01-01 00:00 UTC: float, batch 1, threads: 1, 3 interleaved rounds" in text
    assert "float32 multiply-add 250.0 GMAC/s (avx2 fma)" in text
    assert "| tapdot 1.0 | 10.00 | 10.00 to 17.50 | 10.00 | 1.00 | 80% | 1.0e-06 |" in text
    assert "| onnxruntime 1.0 | 15.00 | 15.00 to 26.25 | 15.00 | 1.50 | 53% | 1.0e-06 |" in text
    assert "- OpenVINO: openvino is not installed: pip install openvino" in text
    assert "not quiet" not in text


def test_without_tapdot_or_limits_the_others_still_stand(report: Report) -> None:
    report.limits.clear()
    del report.tables[0].timings[0]
    assert "| onnxruntime 1.0 | 15.00 | 15.00 to 26.25 | 15.00 | - | - | 1.0e-06 |" in report.markdown()
    engine = report.json()["models"]["resnet18"]["engines"]["onnxruntime"]
    assert engine["ratio_to_tapdot"] is None and engine["share_of_limit"] is None


def test_a_machine_that_is_not_quiet_is_told(report: Report) -> None:
    report.tables[0].timings[0] = timing("tapdot", [0.01], [0.01], [0.01], interruptions=2)
    assert report.interrupted_share() == 0.5
    assert "in 50% of the turns" in report.markdown()


def test_json_is_whole(report: Report) -> None:
    document = json.loads(json.dumps(report.json()))
    engine = document["models"]["resnet18"]["engines"]["onnxruntime"]
    assert engine["milliseconds"] == pytest.approx(15)
    assert engine["rounds_ms"][1] == pytest.approx([30, 30])
    assert engine["share_of_limit"] == pytest.approx(2 / 0.015 / 250)
    assert document["machine"]["host"] == "box" and document["clock"] == "wall"


def test_machine_describes_itself() -> None:
    machine = describe()
    assert machine.processor and machine.cores >= 1 and machine.date.endswith("UTC")
    assert len(choose_cores(1)) == 1
    with pytest.raises(ValueError, match="threads need 100000 cores"):
        choose_cores(100_000)
