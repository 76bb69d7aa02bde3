"""The loop: the budget picks a workload, its study a configuration, the records grant it, the pipeline tries it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tapdot.compiler.errors import DeviceError, TapdotError
from tapdot.kernels.family import Config
from tapdot.kernels.workload import Workload
from tapdot.runtime.tuning import budget
from tapdot.runtime.tuning.candidates import Candidate, CandidateError, build_candidate
from tapdot.runtime.tuning.neighbours import distance
from tapdot.runtime.tuning.pipeline import Ended, Pipeline, Trial
from tapdot.runtime.tuning.record import CLAIMED, DONE, FAILED, WRONG, Finding, Place, Problem, Record, config_text
from tapdot.runtime.tuning.records import Records, best
from tapdot.runtime.tuning.report import Row, Snapshot, TuningResult
from tapdot.runtime.tuning.runners import Runner
from tapdot.runtime.tuning.state import State, figures_of, finding_of, record_of
from tapdot.runtime.tuning.study import Storage, WorkloadStudy
from tapdot.runtime.tuning.verdict import gain
from tapdot.runtime.tuning.workloads import Subject

WARM_STARTS = 3
"""Configurations of neighbours that a workload tries at most."""
COMPARED = 3
"""Best configurations that are measured again in turns with the default."""
ROUNDS = 15
SECONDS_BETWEEN_SNAPSHOTS = 0.25
SECONDS_BETWEEN_LOOKS = 5.0
"""At what others have recorded meanwhile."""

LARGEST_SEED = 2**31 - 1
"""Samplers take 32 bits, and every workload's is one more than the last one's."""

Watch = Callable[[Snapshot], object]


@dataclass(frozen=True)
class Options:
    """``trials``: how many configurations are tried of all workloads together, those in the records included. ``time_limit``:
    seconds for all of it; ``trial_limit``: seconds for one candidate. ``away``: how long to wait for devices that left.
    """

    trials: int
    sampler: str = "tpe"
    seed: int | None = None
    time_limit: float | None = None
    trial_limit: float = 30.0
    away_seconds: float = 60.0
    look_seconds: float = SECONDS_BETWEEN_LOOKS

    def __post_init__(self) -> None:
        if self.seed is not None and not 0 <= self.seed <= LARGEST_SEED:
            raise TapdotError(f"The seed of a tuning is from 0 to {LARGEST_SEED}, found {self.seed}.")


class Tuner:
    """Tunes subjects at a place. ``runners`` are the devices, one each; ``alone`` says that builds would disturb them."""

    def __init__(
        self,
        name: str,
        subjects: Sequence[Subject],
        place: Place,
        device: str,
        records: Records,
        runners: Sequence[Runner],
        options: Options,
        *,
        alone: bool = False,
        watch: Watch = lambda snapshot: None,
        build: Callable[[Subject, Config], Candidate] = build_candidate,
        started: float | None = None,
    ) -> None:
        self.name, self.place, self.device, self.records, self.options = name, place, device, records, options
        self.watch, self._build = watch, build
        self.started = time.monotonic() if started is None else started
        self.states = [self._state(subject) for subject in subjects]
        self.storage = Storage(records.url, records.busy_seconds)
        self._winners: dict[str, tuple[Workload, Record]] = {}
        self._others = self._known_elsewhere()
        builders = os.cpu_count() or 1
        self.capacity = builders + 2 * len(runners)
        self.runners = runners
        self.pipeline = Pipeline(runners, builders, build, options.trial_limit, alone, options.away_seconds)
        self.in_flight: dict[str, Trial] = {}
        self.new = self.wrong = self.failed = 0
        self.remarks: list[str] = []
        self._shown = 0.0
        self._looked = time.monotonic()

    def run(self) -> TuningResult:
        """All trials, then the winners against the defaults. Ctrl-C ends it early, with everything recorded.

        Raises DeviceError where no device answers any more, RecordsError where the database fails; what was found is kept.
        """
        interrupted = False
        try:
            try:
                self._trials()
            finally:
                self.pipeline.stop(drop=bool(self.in_flight))
                self._give_back()
            self._compare_winners()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            for runner in self.runners:
                runner.close()
            self.storage.close()
        return self._result(interrupted)

    # -- trials -------------------------------------------------------------------------------------------------------------

    @property
    def trials(self) -> int:
        """What is known of these workloads."""
        return sum(len(state.account.bests) for state in self.states)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def _trials(self) -> None:
        while True:
            while self._may_start() and self._start_one():
                pass
            self._look()
            self._show()
            if not self.in_flight:
                return
            ended = self.pipeline.get(SECONDS_BETWEEN_SNAPSHOTS)
            if ended is not None:
                self._end(ended)

    def _may_start(self) -> bool:
        limit = self.options.time_limit
        in_time = limit is None or self.seconds < limit
        return in_time and len(self.in_flight) < self.capacity and self.trials + len(self.in_flight) < self.options.trials

    def _start_one(self) -> bool:
        """Starts a trial, or learns of one that others made; False when nothing is left to try."""
        index = budget.choose([state.account for state in self.states])
        if index is None:
            return False
        state = self.states[index]
        config = self._proposal(state)
        if config is None:
            state.account.exhausted = True
            return True
        known = self.records.claim(state.problem, config)
        if known is None:
            trial = Trial(index, state.subject, config, state.best[0] if state.best else None)
            self.in_flight[state.problem.key(config)] = trial
            state.account.pending += 1
            self.pipeline.put(trial)
            return True
        self._study(state).tell(config, None)
        self._study(state).mark(config)
        if known.state != CLAIMED:
            self._learn(state, known.configuration, finding_of(known))
        elif config_text(config) == config_text(state.subject.default):
            state.default_tried = True
        return True

    def _proposal(self, state: State) -> Config | None:
        """The next configuration of a workload: what somebody died over, the default, neighbours' winners, the sampler's."""
        study = self._study(state)
        while state.abandoned:
            if study.has(config := state.abandoned.pop()):
                return study.propose(config)
        if not state.default_tried:
            state.default_tried = True
            if study.has(state.subject.default):
                return study.propose(state.subject.default)
        if (wish := self._warm_start(state, study)) is not None:
            return study.propose(wish)
        return None if study.exhausted else study.propose()

    def _warm_start(self, state: State, study: WorkloadStudy) -> Config | None:
        """What was fastest for the nearest other workloads, as far as it is new here."""
        if len(state.warm_starts) >= WARM_STARTS:
            return None
        own = state.problem.workload
        found = [
            (away, winner.configuration)
            for key, (workload, winner) in {**self._others, **self._winners}.items()
            if key != own.key and winner.family == state.problem.family and (away := distance(own, workload)) < float("inf")
        ]
        for _, config in sorted(found, key=lambda entry: entry[0])[:WARM_STARTS]:
            here = study.space.nearest_to(config)
            if study.has(here):
                state.warm_starts.add(config_text(here))
                return here
        return None

    def _end(self, ended: Ended) -> None:
        """A trial is over: its record first, then the study, so that a death between the two loses nothing."""
        trial, state = ended.trial, self.states[ended.trial.index]
        del self.in_flight[state.problem.key(trial.config)]
        state.account.pending -= 1
        if ended.finding is None:
            self.records.release(state.problem, trial.config)
            self._study(state).tell(trial.config, None)
            assert ended.error is not None
            if isinstance(ended.error, DeviceError):
                raise DeviceError(f"{ended.error} {self.trials} trials are recorded in {self.records.title}.") from ended.error
            raise ended.error
        if self.records.finish(state.problem, trial.config, ended.finding):
            self.new += 1
            self.wrong += ended.finding.state == WRONG
            self.failed += ended.finding.state == FAILED
        self._study(state).tell(trial.config, ended.finding)
        self._learn(state, trial.config, ended.finding)

    def _look(self) -> None:
        """Learns what other tuners have recorded meanwhile: it counts as if it had been found here."""
        if time.monotonic() - self._looked < self.options.look_seconds:
            return
        self._looked = time.monotonic()
        for state in self.states:
            for record in self.records.of(state.problem):
                if record.config not in state.known and state.problem.key(record.configuration) not in self.in_flight:
                    if state.study is not None:
                        state.study.mark(record.configuration)
                    self._learn(state, record.configuration, finding_of(record))

    def _learn(self, state: State, config: Config, finding: Finding) -> None:
        state.learn(config, finding)
        if state.best is not None and config_text(state.best[1]) == config_text(config):
            self._winners[state.problem.workload.key] = (state.problem.workload, record_of(state.problem, config, finding))

    def _give_back(self) -> None:
        """Claims of trials that were dropped."""
        for trial in self.in_flight.values():
            state = self.states[trial.index]
            state.account.pending -= 1
            with suppress(TapdotError):  # they expire
                self.records.release(state.problem, trial.config)
                self._study(state).tell(trial.config, None)
        self.in_flight.clear()

    # -- what is known ------------------------------------------------------------------------------------------------------

    def _state(self, subject: Subject) -> State:
        """A workload with all that the records know of it."""
        problem = Problem.of(subject.workload, subject.family, self.place)
        state = State(subject, problem, budget.Account(subject.occurrences, subject.estimate))
        for record in sorted(self.records.of(problem), key=lambda record: record.finished):
            state.learn(record.configuration, finding_of(record))
        state.abandoned = list(self.records.abandoned(problem))
        return state

    def _study(self, state: State) -> WorkloadStudy:
        """The study of a workload, opened when it is first needed."""
        if state.study is None:
            number, seed = self.states.index(state), self.options.seed
            state.study = WorkloadStudy(
                self.storage,
                state.problem,
                state.subject.configurations,
                self.records.of(state.problem),
                self.records.under_way(state.problem),
                self.options.sampler,
                None if seed is None else seed + number,
            )
        return state.study

    def _known_elsewhere(self) -> dict[str, tuple[Workload, Record]]:
        """The fastest configuration of every workload of these families at this place."""
        found: dict[str, tuple[Workload, Record]] = {}
        for family, version in {(state.problem.family, state.problem.version) for state in self.states}:
            facts = {**self.states[0].problem.facts, "family": family, "version": version}
            del facts["workload"]
            groups: dict[str, list[Record]] = {}
            for record in self.records.find(**facts):
                groups.setdefault(record.workload, []).append(record)
            for key, group in groups.items():
                workload, winner = self.records.workload(key), best(group)
                if workload is not None and winner is not None:
                    found[key] = (workload, winner)
        return found

    # -- winners ------------------------------------------------------------------------------------------------------------

    def _compare_winners(self) -> None:
        """Measures the best configurations of every workload again, in turns with the default."""
        gate, self._looked = self.pipeline.gate, 0.0
        self._look()
        for state in self.states:
            ranked = self._ranked(state)
            if state.default is None or not ranked:
                continue
            if all(record.gain is not None for record in ranked[:COMPARED]):
                self._settle(state, [(record.gain or 1.0, record.configuration) for record in ranked[:COMPARED]])
                continue
            self._show(f"comparing {state.subject.title}")
            try:
                with gate.building():
                    rivals = [self._build(state.subject, record.configuration) for record in ranked[:COMPARED]]
                    default = self._build(state.subject, state.subject.default)
                with gate.running():
                    figures = self.runners[0].compare([default, *rivals], ROUNDS, self.options.trial_limit * ROUNDS)
            except (CandidateError, DeviceError) as error:
                self.remarks.append(f"{state.subject.title}: its winner was not compared with the default: {error}")
                continue
            own, *others = figures
            gains = [(gain(own, samples, len(rivals)), rival.config) for samples, rival in zip(others, rivals, strict=True)]
            self.records.confirm(state.problem, state.subject.default, figures_of(figures[0]), None)
            for (value, config), samples in zip(gains, figures[1:], strict=True):
                self.records.confirm(state.problem, config, figures_of(samples), value)
            state.default = statistics.median(figures[0])
            medians = [statistics.median(samples) for samples in figures]
            fastest = medians.index(min(medians))
            state.best = (medians[fastest], (default, *rivals)[fastest].config)
            self._settle(state, gains)
        self._show("done")

    def _ranked(self, state: State) -> list[Record]:
        """Configurations faster than the default by what the trials say, fastest first."""
        records = [record for record in self.records.of(state.problem) if record.state == DONE]
        faster = [record for record in records if state.default is not None and (record.value or 0.0) < state.default]
        return sorted(faster, key=lambda record: record.value or 0.0)

    def _settle(self, state: State, gains: Sequence[tuple[float, Config]]) -> None:
        """The winner: the largest gain, or the default where there is none outside the noise."""
        value, config = max(gains, key=lambda entry: entry[0])
        state.gain = value
        state.config = config if value > 1.0 else state.subject.default

    # -- reporting ----------------------------------------------------------------------------------------------------------

    def _rows(self) -> tuple[Row, ...]:
        share = budget.shares([state.account for state in self.states]) if self.states else []
        return tuple(
            Row(
                state.subject.title,
                state.problem.family,
                state.problem.workload.key,
                state.subject.occurrences,
                part,
                len(state.account.bests),
                len(state.study.space.points) if state.study is not None else None,
                state.default,
                None if state.best is None else state.best[0],
                state.config if state.config is not None else state.best[1] if state.best is not None else None,
                state.gain,
            )
            for state, part in zip(self.states, share, strict=True)
        )

    def _show(self, doing: str = "") -> None:
        now = time.monotonic()
        if not doing and now - self._shown < SECONDS_BETWEEN_SNAPSHOTS:
            return
        self._shown = now
        wanted = max(self.options.trials, self.trials)
        left = None
        if self.new:
            left = (wanted - self.trials) * self.seconds / self.new
            if self.options.time_limit is not None:
                left = min(left, max(0.0, self.options.time_limit - self.seconds))
        self.watch(Snapshot(self._rows(), self.trials, wanted, self.seconds, left, self.place.unit, doing))

    def _result(self, interrupted: bool) -> TuningResult:
        gate, total = self.pipeline.gate, max(self.seconds, 1e-9)
        least = budget.FIRST_TRIALS * len(self.states)
        if self.trials >= self.options.trials and self.options.trials < least and not interrupted:
            self.remarks.append(
                f"{self.options.trials} trials are little more than the defaults of {len(self.states)} workloads: give {least} "
                "or more, of which these count."
            )
        return TuningResult(
            self.name,
            self.device,
            self.place.target.name,
            self.place.threads,
            self.records.title,
            self.place.unit,
            self._rows(),
            self.trials,
            self.new,
            self.wrong,
            self.failed,
            total,
            gate.building_seconds / total,
            gate.running_seconds / total,
            max(0.0, 1 - gate.busy_seconds / total),
            tuple(self.remarks),
            interrupted,
        )
