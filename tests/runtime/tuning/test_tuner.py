"""The loop, over a family and devices that are formulas."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tuning_fakes import CONFIGURATIONS, PLACE, FakeRunner, build, problem, seconds, subject

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.tuning.record import CLAIMED, DONE, FAILED, WRONG, Finding, config_text
from tapdot.runtime.tuning.records import Records
from tapdot.runtime.tuning.report import Snapshot, TuningResult
from tapdot.runtime.tuning.tuner import Options, Tuner

BEST = {"a": 4, "b": 2, "c": 1}
DEFAULT = {"a": 1, "b": 1, "c": 0}
SUBJECTS = (subject(16, nodes=2), subject(64))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


def tune(place: Path, trials: int, runners=None, subjects=SUBJECTS, **options) -> TuningResult:
    watch = options.pop("watch", lambda snapshot: None)
    with Records(place) as records:
        runners = runners or [FakeRunner()]
        choices = Options(trials, seed=options.pop("seed", 0), **options)
        return Tuner("model", subjects, PLACE, "made-up", records, runners, choices, watch=watch, build=build).run()


def runs(runner: FakeRunner) -> list[tuple[str, str]]:
    return [(workload, config_text(config)) for workload, config in runner.log]


def test_everything_is_tried_once_and_the_best_wins(place: Path) -> None:
    runner = FakeRunner()
    result = tune(place, 1000, [runner])
    assert result.trials == 2 * CONFIGURATIONS
    assert len(runs(runner)) == len(set(runs(runner))) == 2 * (CONFIGURATIONS - 2)  # two of each cannot be built
    for row in result.rows:
        assert row.config == BEST and row.trials == row.configurations == CONFIGURATIONS
        assert row.gain == pytest.approx(seconds(SUBJECTS[0], DEFAULT) / seconds(SUBJECTS[0], BEST))
    assert result.wrong == 4 and result.failed == 4
    assert result.total_gain == pytest.approx(result.rows[0].gain)


def test_wrong_answers_and_failures_are_recorded_and_never_win(place: Path) -> None:
    tune(place, 1000)
    with Records(place) as records:
        states = {record.config: record for record in records.of(problem())}
    wrong, failed = states[config_text({"a": 2, "b": 0, "c": 1})], states[config_text({"a": 5, "b": 1, "c": 1})]
    assert (wrong.state, wrong.value) == (WRONG, None) and "16 of 16 elements differ" in wrong.detail
    assert (failed.state, failed.value) == (FAILED, None) and "of all things" in failed.detail


def test_the_default_comes_first(place: Path) -> None:
    runner = FakeRunner()
    (remark,) = tune(place, 2, [runner]).remarks
    assert remark.startswith("2 trials are little more than the defaults of 2 workloads: give 8 or more")
    assert not tune(place.with_name("more.db"), 8).remarks
    assert {config_text(config) for _, config in runner.log} == {config_text(DEFAULT)}
    assert len(runner.log) == 2


def test_the_same_command_goes_on_where_it_ended(place: Path) -> None:
    first, second, third = FakeRunner(), FakeRunner(), FakeRunner()
    assert tune(place, 10, [first]).new_trials == 10
    result = tune(place, 14, [second])
    assert (result.trials, result.new_trials) == (14, 4)
    assert not set(runs(first)) & set(runs(second))
    again = tune(place, 14, [third])
    assert (again.trials, again.new_trials, third.log) == (14, 0, [])
    assert [row.gain for row in again.rows] == pytest.approx([row.gain for row in result.rows])
    with Records(place) as records:
        assert {record.runs for record in records.of(problem()) if record.gain is not None} == {15}


def test_winners_of_neighbours_are_tried_early(place: Path) -> None:
    tune(place, 1000, subjects=(subject(32),))
    runner = FakeRunner()
    tune(place, 3, [runner], subjects=(subject(64),))
    assert config_text(BEST) in {config for _, config in runs(runner)}


def test_two_tuners_share_the_work(place: Path) -> None:
    runners = [FakeRunner(pause=0.005), FakeRunner(pause=0.005)]
    results: list[TuningResult] = []
    threads = [threading.Thread(target=lambda runner=runner: results.append(tune(place, 1000, [runner]))) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    done = runs(runners[0]) + runs(runners[1])
    assert len(done) == len(set(done)) == 2 * (CONFIGURATIONS - 2)
    with Records(place) as records:
        assert len(records.of(problem(16))) == len(records.of(problem(64))) == CONFIGURATIONS


def test_several_devices_work_at_once(place: Path) -> None:
    log: list = []
    tune(place, 16, [FakeRunner(log) for _ in range(4)])
    assert len({(workload, config_text(config)) for workload, config in log}) == len(log)


def test_trials_of_a_dead_device_are_redone_elsewhere(place: Path) -> None:
    dead, alive = FakeRunner(), FakeRunner(pause=0.002)
    dead.away = True
    result = tune(place, 10, [dead, alive])
    assert result.new_trials == 10 and dead.log == []


def test_a_device_that_comes_back_works_again(place: Path) -> None:
    runner = FakeRunner(pause=0.001)
    missed = []

    def watch(snapshot: Snapshot) -> None:
        if snapshot.trials >= 3 and len(missed) < 3:
            missed.append(snapshot)
        runner.away = len(missed) in (1, 2)

    assert tune(place, 10, [runner], watch=watch, away_seconds=20).trials == 10
    assert missed


def test_when_every_device_is_gone_tuning_ends_and_keeps_its_records(place: Path) -> None:
    runner = FakeRunner()

    def watch(snapshot: Snapshot) -> None:
        runner.away = snapshot.trials >= 4

    with pytest.raises(DeviceError, match=r"The made-up device is away\. \d+ trials are recorded in"):
        tune(place, 1000, [runner], watch=watch, away_seconds=0.3)
    with Records(place) as records:
        kept = len(records.of(problem(16))) + len(records.of(problem(64)))
        assert kept >= 4
        assert not records.under_way(problem(16)) | records.under_way(problem(64))
    assert tune(place, 1000).trials == 2 * CONFIGURATIONS


def test_an_interruption_leaves_everything_recorded(place: Path) -> None:
    runner = FakeRunner(pause=0.002)

    def watch(snapshot: Snapshot) -> None:
        if snapshot.trials >= 6:
            raise KeyboardInterrupt

    result = tune(place, 1000, [runner], watch=watch)
    assert result.interrupted and 6 <= result.trials < 2 * CONFIGURATIONS
    with Records(place) as records:
        assert len(records.of(problem(16))) + len(records.of(problem(64))) == result.trials
        assert not records.under_way(problem(16)) | records.under_way(problem(64))


def test_a_time_limit_ends_it(place: Path) -> None:
    result = tune(place, 1000, time_limit=0)
    assert result.trials == 0 and result.rows[0].config is None


def test_what_others_record_meanwhile_counts(place: Path) -> None:
    def watch(snapshot: Snapshot) -> None:
        if snapshot.trials >= 3 and others.claim(problem(16), BEST) is None:
            others.finish(problem(16), BEST, Finding(DONE, 1e-9, 0.0, 9))

    with Records(place) as others:
        runner = FakeRunner(pause=0.05)
        result = tune(place, 12, [runner], watch=watch, look_seconds=0)
        assert others.of(problem(16)) and result.trials == 12
        if (problem(16).workload.key, config_text(BEST)) not in runs(runner):
            assert result.new_trials == 11 and result.rows[0].config == BEST


def test_what_others_claimed_is_left_to_them(place: Path) -> None:
    with Records(place) as others:
        for config in (DEFAULT, BEST):
            others.claim(problem(16), config)
        result = tune(place, 1000)
        assert result.trials == 2 * CONFIGURATIONS - 2
        known = others.claim(problem(16), BEST)
        assert known is not None and known.state == CLAIMED
        others.finish(problem(16), BEST, Finding(DONE, 1e-6, 0.0, 9))
        others.release(problem(16), DEFAULT)
    assert tune(place, 1000).trials == 2 * CONFIGURATIONS


def test_snapshots_tell_how_it_goes(place: Path) -> None:
    shown: list[Snapshot] = []
    result = tune(place, 8, [FakeRunner(pause=0.03)], watch=shown.append)
    assert shown[-1].doing == "done" and shown[-1].trials == shown[-1].wanted == 8
    assert sum(row.share for row in shown[-1].rows) == pytest.approx(1)
    assert 0 <= result.own_share <= 1
    assert "8 trials of 2 workloads" in str(result)
