"""Studies: every proposal is a configuration nobody tried, and records and studies agree whoever died between them."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest
from tuning_fakes import CONFIGURATIONS, FAMILY, TARGET, problem, seconds, subject, workload

from tapdot.runtime.tuning.neighbours import distance
from tapdot.runtime.tuning.record import DONE, FAILED, Finding, Record, config_text
from tapdot.runtime.tuning.records import Records
from tapdot.runtime.tuning.study import SAMPLERS, Space, Storage, WorkloadStudy
from tapdot.runtime.tuning.workloads import configurations

ALL = configurations(FAMILY, workload(), TARGET, FAMILY.default_config(workload(), TARGET))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all studies here, each about a workload of its own: making Optuna's tables takes a second."""
    with Records(tmp_path_factory.mktemp("study") / "records.db") as records:
        return records.url


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    found = Storage(url)
    yield found
    found.close()


def record(size: int, config: dict[str, int], value: float) -> Record:
    return Record(**problem(size).facts, config=config_text(config), state=DONE, value=value, runs=9)


def test_a_space_is_what_its_points_settle_on() -> None:
    assert len(ALL) == CONFIGURATIONS
    assert ALL[0] == {"a": 1, "b": 1, "c": 0}
    assert len({config_text(config) for config in ALL}) == len(ALL)
    assert all((config["a"] + config["b"]) % 2 == 0 for config in ALL)


def test_the_default_belongs_to_a_space_that_does_not_have_it() -> None:
    found = configurations(FAMILY, workload(), TARGET, {"a": 77, "b": 0, "c": 0})
    assert found[0] == {"a": 77, "b": 0, "c": 0} and len(found) == CONFIGURATIONS + 1


def test_of_a_huge_space_the_same_part_is_taken_every_time() -> None:
    some = configurations(FAMILY, workload(), TARGET, ALL[0], most=12)
    assert some == configurations(FAMILY, workload(), TARGET, ALL[0], most=12)
    assert 1 < len(some) <= 13


def test_points_move_to_the_nearest_untried_configuration() -> None:
    space = Space(ALL)
    place = space.nearest({"a": 4, "b": 2, "c": 1}, ())
    assert place is not None and space.configurations[place] == {"a": 4, "b": 2, "c": 1}
    other = space.nearest({"a": 4, "b": 2, "c": 1}, {place})
    assert other is not None and other != place
    assert space.nearest({"a": 4, "b": 2, "c": 1}, range(len(ALL))) is None
    assert space.nearest_to({"a": 5, "b": 100, "c": 0}) in ALL
    assert space.nearest_to({"a": 3, "b": 1, "c": 0}) == {"a": 3, "b": 1, "c": 0}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_try_every_configuration_once(storage: Storage, sampler: str) -> None:
    size = 100 + list(SAMPLERS).index(sampler)
    study = WorkloadStudy(storage, problem(size), ALL, (), sampler=sampler, seed=1)
    found = []
    while not study.exhausted:
        config = study.propose()
        found.append(config_text(config))
        study.tell(config, Finding(DONE, seconds(subject(size), config), 0.0, 9))
    assert sorted(found) == sorted(config_text(config) for config in ALL)


def test_a_seed_repeats_the_choices(storage: Storage) -> None:
    def first(size: int, seed: int) -> list[str]:
        study, found = WorkloadStudy(storage, problem(size), ALL, (), seed=seed), []
        for _ in range(5):
            config = study.propose()
            found.append(config_text(config))
            study.tell(config, Finding(DONE, seconds(subject(size), config), 0.0, 9))
        return found

    assert first(200, 5) == first(201, 5) != first(202, 6)


def test_a_wish_comes_first_and_what_was_not_tried_comes_again(storage: Storage) -> None:
    study = WorkloadStudy(storage, problem(400), ALL, (), seed=0)
    assert study.propose(ALL[7]) == ALL[7]
    assert not study.has(ALL[7])
    study.tell(ALL[7], None)
    assert study.has(ALL[7])
    assert study.propose(ALL[7]) == ALL[7]
    study.tell(ALL[7], Finding(FAILED, detail="it crashed"))
    assert not study.has(ALL[7])


def test_a_study_knows_what_the_records_know(storage: Storage, url: str) -> None:
    known = [record(500, config, seconds(subject(), config)) for config in ALL[:9]]
    study = WorkloadStudy(storage, problem(500), ALL, known, seed=0)
    assert not any(study.has(config) for config in ALL[:9])
    again = Storage(url)
    WorkloadStudy(again, problem(500), ALL, known, seed=0)
    trials = optuna.load_study(study_name=problem(500).name, storage=again.rdb).get_trials()
    assert len(trials) == 9
    again.close()


def test_trials_of_the_dead_are_ended_and_those_of_the_living_are_not(storage: Storage) -> None:
    study = WorkloadStudy(storage, problem(600), ALL, (), seed=0)
    dead, recorded, living = (study.propose(config) for config in ALL[:3])
    known = [record(600, recorded, 1e-6)]  # died between its record and the study
    again = WorkloadStudy(storage, problem(600), ALL, known, {config_text(living)}, seed=0)
    assert again.has(dead) and not again.has(recorded)
    states = [trial.state.name for trial in optuna.load_study(study_name=problem(600).name, storage=storage.rdb).get_trials()]
    assert sorted(states) == ["COMPLETE", "FAIL", "FAIL", "RUNNING"]


def test_neighbours_are_of_one_operator_and_near_shapes() -> None:
    assert distance(workload(16), workload(16)) == 0
    assert distance(workload(16), workload(32)) < distance(workload(16), workload(64)) < float("inf")
