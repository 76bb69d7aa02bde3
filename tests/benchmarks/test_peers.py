"""Workers, engines and the command line, end to end on the smallest network."""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks import engines, machine, peers, worker
from benchmarks.worker import CLOCKS, Assignment, MissingEngineError, Turn, Worker, WorkerError

CORES = tuple(machine.choose_cores(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


def test_a_report_from_end_to_end(folder: Path) -> None:
    options = peers.parse(
        ["--models", "squeezenet", "--engines", "onnxruntime", "--rounds", "2", "--no-limits", "--folder", str(folder)]
    )
    report = peers.measure(options)
    (timing,) = report.tables[0].timings
    assert len(timing.turns) == 2 and all(len(turn.seconds) >= peers.CALLS[0] for turn in timing.turns)
    assert 0 < timing.best <= timing.median and timing.error < 1e-5
    assert "| onnxruntime" in report.markdown()


def test_wrong_logits_are_never_timed(folder: Path) -> None:
    model = engines.Model("squeezenet", folder)
    expected = peers.reference(model)
    model.onnx()
    assignment = Assignment("onnxruntime", CORES, model.name, str(folder))
    with pytest.raises(WorkerError, match="not timed, its logits differ"):
        peers.start_engine("onnxruntime", assignment, expected + np.linspace(0, 1, 1000))


def test_errors_are_shares_of_the_range() -> None:
    expected = np.array([0.0, 1.0, 4.0])
    assert peers.largest_error(expected + 0.04, expected) == pytest.approx(0.01)
    assert peers.largest_error(expected[:2], expected) == np.inf
    assert np.isnan(peers.largest_error(np.array([0, np.nan, 4]), expected)), "which no tolerance lets pass"


def test_a_dead_worker_is_one_engines_loss(folder: Path) -> None:
    model = engines.Model("squeezenet", folder)
    model.onnx()
    started = Worker(Assignment("onnxruntime", CORES, model.name, str(folder)), folder / "log")
    started._process.kill()
    started._process.wait()
    with pytest.raises(WorkerError, match="its process ended"):
        started.turn("forward", 1)
    started.close()


def test_a_missing_engine_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = engines.Entry("Absent", "benchmarks.engines.absent_engine", "Absent", ("absent-engine", "its-converter"))
    monkeypatch.setitem(engines.ENGINES, "absent", absent)
    answers = io.StringIO()
    worker.serve(Assignment("absent", CORES), io.StringIO(), answers)
    (line,) = answers.getvalue().splitlines()
    assert "pip install absent-engine its-converter" in json.loads(line)["missing"]


def test_an_engine_that_fails_says_why(folder: Path) -> None:
    answers = io.StringIO()
    with pytest.raises(WorkerError):
        worker.serve(Assignment("onnxruntime", CORES, "squeezenet", str(folder), precision="int4"), io.StringIO(), answers)
    assert "no int4 adapter" in json.loads(answers.getvalue())["error"]


def test_one_call_is_not_timed() -> None:
    calls: list[int] = []
    turn = worker.timed(lambda: calls.append(1), 3, CLOCKS["cpu"])
    assert isinstance(turn, Turn) and len(turn.seconds) == 3 and len(calls) == 4


def test_calls_fill_a_turn() -> None:
    assert peers.calls_a_turn(10.0) == 2
    assert peers.calls_a_turn(0.01) == 5
    assert peers.calls_a_turn(1e-6) == 20


def test_quantized_files_run(folder: Path) -> None:
    report = peers.measure(
        peers.parse(
            [
                *("--models", "squeezenet", "--engines", "onnxruntime", "--precision", "int8"),
                *("--rounds", "1", "--no-limits", "--folder", str(folder)),
            ]
        )
    )
    assert report.tables[0].timings[0].error < peers.TOLERANCE["int8"]


def test_tapdot_quantizes_with_the_calibration_images_of_its_peers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = engines.Model("squeezenet", folder)
    asked = {}

    class CompiledError(Exception):
        pass

    def compile_only(path: Path, **choices: object) -> None:
        asked.update(path=path, **choices)
        raise CompiledError

    monkeypatch.setattr("tapdot.compile", compile_only)
    for precision in ("int8", "float"):
        assert precision in engines.load("tapdot").precisions
        with pytest.raises(CompiledError):
            engines.load("tapdot")().prepare(model, precision, 1)
        assert (asked["path"], asked["recipe"]) == (model.onnx(), precision), "the float model, also for int8"
        if precision == "int8":
            np.testing.assert_array_equal(np.stack(model.calibration()), np.asarray(asked["data"])[:, np.newaxis])
        else:
            assert asked["data"] is None


def test_the_command_line_refuses_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="unknown network 'alexnet'; there are vgg16"):
        peers.names("alexnet", dict(peers.zoo.NETWORKS), "network")
    for wrong in (["--models", "alexnet"], ["--clock", "cpu", "--threads", "2"]):
        with pytest.raises(SystemExit) as exit_info:
            peers.parse(wrong)
        assert exit_info.value.code == 2


def test_missing_engine_is_a_worker_error() -> None:
    assert issubclass(MissingEngineError, WorkerError)


def test_the_others_go_on_when_one_dies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile:
        """A worker that answers one turn and dies in the next."""

        prepared = {"call_seconds": 1.0}  # noqa: RUF012

        def __init__(self, lives: int) -> None:
            self.lives = lives

        def turn(self, subject: str, calls: int, clock: str) -> Turn:
            self.lives -= 1
            if self.lives < 0:
                raise WorkerError("its process ended with status -9")
            return Turn([0.01] * calls, 0)

        def close(self) -> None:
            pass

    lives = {"onnxruntime": 100, "openvino": 1}
    monkeypatch.setattr(
        peers, "start_engine", lambda name, *_: (Fragile(lives[name]), peers.Timing(name, "1", error=0.0, prepare_seconds=0.0))
    )
    model = engines.Model("squeezenet", folder)
    table = peers.measure_model(model, list(lives), "float", list(CORES), 3, "wall", None, None)
    assert [timing.engine for timing in table.timings] == ["onnxruntime"]
    assert len(table.timings[0].turns) == 3
    assert table.absent == {"openvino": "its process ended with status -9"}
