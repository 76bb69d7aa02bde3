"""One study a workload in Optuna: its samplers propose, its storage lies in the database of the records.

Spaces of kernels are ragged: most points of the product of their fields are no kernel, and several are the same one. So what a
sampler proposes is moved to the nearest configuration that is one and was not tried; the study learns of the point it became.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from tapdot.kernels.family import Config
from tapdot.runtime.tuning.database import BUSY_SECONDS, explained, set_up_sqlite
from tapdot.runtime.tuning.record import DONE, Finding, Problem, Record, config_text

MOST_PARENTS = 16
"""Population of the genetic search: kernels get dozens of trials, not thousands."""
FIRST_TRIALS = 8
"""Random ones, before the sampler tpe has seen enough."""
TRIES = 5
"""Of making Optuna's tables."""

ATTEMPTS = 5
"""To begin a trial that another tuner ends before it has begun."""


def _genetic(seed: int | None) -> BaseSampler:
    return NSGAIISampler(population_size=MOST_PARENTS, seed=seed)


def _tpe(seed: int | None) -> BaseSampler:
    return TPESampler(n_startup_trials=FIRST_TRIALS, seed=seed)


def _random(seed: int | None) -> BaseSampler:
    return RandomSampler(seed=seed)


SAMPLERS: Mapping[str, Callable[[int | None], BaseSampler] | None] = {
    "tpe": _tpe,
    "genetic": _genetic,
    "random": _random,
    "grid": None,
}
"""By name: tree-structured Parzen estimators (the default), a genetic search as in PatDNN (section 5.5), random, all in order."""


class Storage:
    """Optuna's storage in a record database."""

    def __init__(self, url: str, busy_seconds: float = BUSY_SECONDS) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.url = url
        arguments = {"connect_args": {"timeout": busy_seconds}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        with explained(url):
            self.rdb = _made(lambda: RDBStorage(url, engine_kwargs=arguments))
            set_up_sqlite(self.rdb.engine)
            self.rdb.engine.dispose()  # connections made from here on are set up

    def close(self) -> None:
        """Lets the database go."""
        self.rdb.remove_session()
        self.rdb.engine.dispose()


def _made(make: Callable[[], RDBStorage]) -> RDBStorage:
    """A storage; where two processes make its tables at once, the slower one tries again."""
    for attempt in range(1, TRIES + 1):
        try:
            return make()
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            there = isinstance(error, IntegrityError) or "already exists" in str(error).lower()
            if not there or attempt == TRIES:
                raise
            time.sleep(0.1 * attempt)
    raise AssertionError


class Space:
    """Configurations as points of a grid: each field's values in ascending order, by number."""

    def __init__(self, configurations: Sequence[Config]) -> None:
        self.configurations = configurations
        self.fields = sorted(configurations[0])
        self.values = {name: sorted({config[name] for config in configurations}) for name in self.fields}
        self._numbers = {name: {value: number for number, value in enumerate(values)} for name, values in self.values.items()}
        self.points = np.array([list(self.point(config).values()) for config in configurations], np.int64)
        self._steps = np.array([max(1, len(self.values[name]) - 1) for name in self.fields], np.float64)
        self.places = {config_text(config): place for place, config in enumerate(configurations)}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """As Optuna knows them."""
        return {name: IntDistribution(0, len(values) - 1) for name, values in self.values.items()}

    def point(self, config: Config) -> dict[str, int]:
        """The numbers of a configuration's values."""
        return {name: self._numbers[name][config[name]] for name in self.fields}

    def nearest(self, point: Mapping[str, float], tried: Collection[int]) -> int | None:
        """The place of the untried configuration nearest to a point; None when all were tried."""
        where = np.array([point[name] for name in self.fields], np.float64)
        distance = (np.abs(self.points - where) / self._steps).sum(axis=1)
        if tried:
            distance[list(tried)] = np.inf
        best = int(np.argmin(distance))
        return best if np.isfinite(distance[best]) else None

    def nearest_to(self, config: Config) -> Config:
        """The configuration nearest to one of another workload, by its values."""
        where = {
            name: float(np.interp(config.get(name, self.values[name][0]), self.values[name], range(len(self.values[name]))))
            for name in self.fields
        }
        place = self.nearest(where, ())
        assert place is not None
        return self.configurations[place]


class _Proposals(BaseSampler):
    """A sampler whose points are moved onto configurations nobody tried."""

    def __init__(self, inner: BaseSampler | None, space: Space) -> None:
        self.inner, self.space = inner, space
        self.tried: set[int] = set()
        self.wish: int | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        place, self.wish = self.wish, None
        if place is None:
            place = self._sampled(study, trial)
        return {name: int(number) for name, number in zip(self.space.fields, self.space.points[place], strict=True)}

    def _sampled(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if self.inner is None:
            return next(place for place in range(len(self.space.points)) if place not in self.tried)
        known = self.inner.infer_relative_search_space(study, trial)
        found = dict(self.inner.sample_relative(study, trial, known))
        for name, distribution in self.space.distributions.items():
            if name not in found:
                found[name] = self.inner.sample_independent(study, trial, name, distribution)
        place = self.space.nearest(found, self.tried)
        assert place is not None  # whoever asks has looked whether any is left
        return place

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise AssertionError("every field is sampled with the others")

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if self.inner is not None:
            self.inner.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        if self.inner is not None:
            self.inner.after_trial(study, trial, state, values)


class WorkloadStudy:
    """The search for one problem. Whatever the records know, the study knows."""

    def __init__(
        self,
        storage: Storage,
        problem: Problem,
        configurations: Sequence[Config],
        known: Sequence[Record],
        under_way: Collection[str] = (),
        sampler: str = "tpe",
        seed: int | None = None,
    ) -> None:
        self.url = storage.url
        self.space = Space(configurations)
        make = SAMPLERS[sampler]
        self._sampler = _Proposals(None if make is None else make(seed), self.space)
        with explained(self.url):
            self._study = optuna.create_study(
                storage=storage.rdb, study_name=problem.name, sampler=self._sampler, direction="minimize", load_if_exists=True
            )
            self._running: dict[str, int] = {}
            self._catch_up(known, under_way)

    @property
    def exhausted(self) -> bool:
        """Whether every configuration was tried."""
        return len(self._sampler.tried) >= len(self.space.points)

    def has(self, config: Config) -> bool:
        """Whether the configuration is one of the space that was not tried."""
        place = self.space.places.get(config_text(config))
        return place is not None and place not in self._sampler.tried

    def propose(self, wish: Config | None = None) -> Config:
        """A configuration that nobody tried: the one that is wished, or the sampler's."""
        self._sampler.wish = None if wish is None else self.space.places[config_text(wish)]
        with explained(self.url):
            trial = self._ask()
        config = {name: self.space.values[name][trial.params[name]] for name in self.space.fields}
        self._running[config_text(config)] = trial.number
        self.mark(config)
        return config

    def _ask(self) -> optuna.Trial:
        """A trial of Optuna's. Another tuner may take one that has no parameters yet for abandoned, and end it: then another."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._study.ask(self.space.distributions)
            except optuna.exceptions.UpdateFinishedTrialError:
                continue
        return self._study.ask(self.space.distributions)

    def mark(self, config: Config) -> None:
        """Notes that a configuration need not be proposed."""
        if (place := self.space.places.get(config_text(config))) is not None:
            self._sampler.tried.add(place)

    def tell(self, config: Config, finding: Finding | None) -> None:
        """How a proposed configuration fared; None where it was not tried after all, which leaves it to be proposed again."""
        number = self._running.pop(config_text(config), None)
        if number is None:
            return
        done = finding is not None and finding.state == DONE and finding.value is not None
        with explained(self.url):
            if done and finding is not None:
                self._study.tell(number, finding.value, skip_if_finished=True)
            else:
                self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        if finding is None:
            self._sampler.tried.discard(self.space.places[config_text(config)])

    def _catch_up(self, known: Sequence[Record], under_way: Collection[str]) -> None:
        """Adds what the records know and the study does not, and ends its trials that nobody is at any more.

        A process may end between its record and the study; ``under_way`` are the texts of configurations that others are at.
        """
        told: set[str] = set()
        for trial in self._study.get_trials(deepcopy=False):
            config = self._config(trial.params)
            if trial.state is TrialState.COMPLETE and config is not None:
                told.add(config_text(config))
            elif trial.state is TrialState.RUNNING and (config is None or config_text(config) not in under_way):
                self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        for record in known:
            config = record.configuration
            self.mark(config)
            if record.state == DONE and record.config not in told and record.config in self.space.places:
                self._study.add_trial(
                    create_trial(value=record.value, params=self.space.point(config), distributions=self.space.distributions)
                )

    def _config(self, numbers: Mapping[str, Any]) -> Config | None:
        """The configuration of a trial's parameters; None for those of another space."""
        try:
            return {name: self.space.values[name][numbers[name]] for name in self.space.fields}
        except (KeyError, IndexError):
            return None
