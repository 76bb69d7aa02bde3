"""A pruning run on disk: its log, its last good state, and pictures of how it went.

=================== ==========================================================================================================
in the folder       is
=================== ==========================================================================================================
``log.jsonl``       a line of JSON for every epoch: loss, accuracy, rho, and each layer's distance from its sets
``checkpoint.npz``  the state after the last epoch, while the run is not finished; plain arrays, no pickle
``accuracy.svg``    accuracy over the epochs, and ``distance.svg``, ``||W - Z|| / ||W||`` (drawn where matplotlib is installed)
=================== ==========================================================================================================
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.files import make_folder, replacing, write_text
from tapdot.compiler.graph import Graph
from tapdot.passes.admm import Distance
from tapdot.passes.prune_training import ADMM, EpochRecord
from tapdot.passes.training_data import TrainingData

VERSION = 1
LOG, CHECKPOINT = "log.jsonl", "checkpoint.npz"
DAMAGES = (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile)
"""What reading and taking up a file that is no checkpoint, or half of one, raises."""
CHANGEABLE = ("learning_rate", "retrain_learning_rate", "restarts")
"""Settings that may be others when a run goes on."""


def model_digest(graph: Graph) -> str:
    """What a model is known by: its operators, shapes and weights, in 16 hexadecimal digits."""
    return hashlib.sha256(str(graph).encode()).hexdigest()[:16]


def data_digest(data: TrainingData) -> str:
    """What training data are known by: the samples of the first epoch and all labels, in 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in (data.inputs(0), data.labels):
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Checkpoint:
    """What was stored."""

    state: Mapping[str, np.ndarray]
    records: tuple[EpochRecord, ...]


@dataclass(frozen=True)
class Journal:
    """The folder of one run, of one model with some settings and data."""

    folder: Path
    digest: str
    settings: Mapping[str, Any]
    """Plain data."""
    data: str = ""
    """What :func:`data_digest` says of the training data."""

    def begin(self) -> None:
        """Makes the folder; raises TapdotError where it holds an unfinished run."""
        if (self.folder / CHECKPOINT).exists():
            raise TapdotError(
                f"{self.folder} holds a run that is not finished; go on with it (--resume {self.folder}, in Python "
                "resume=True), or delete it or choose another folder (--log DIR, in Python log=). In Python, a run is finished "
                "by its result's save(), or by finish() where that is kept in another way."
            )
        make_folder(self.folder)

    def write(self, state: Mapping[str, np.ndarray], records: Sequence[EpochRecord]) -> None:
        """Replaces the checkpoint and the log; TapdotError where the disk refuses, and then both are as they were."""
        log = "".join(json.dumps(record.json(), allow_nan=False) + "\n" for record in records)
        facts = {"version": VERSION, "model": self.digest, "data": self.data, "settings": self.settings}
        arrays: dict[str, Any] = {
            "facts": np.array(json.dumps(facts)),
            "log": np.array(log),
            **{f"state {name}": state[name] for name in state},
        }
        with replacing(self.folder / CHECKPOINT) as file:
            np.savez(file, **arrays)
        write_text(self.folder / LOG, log)

    def read(self) -> Checkpoint:
        """The last checkpoint; raises TapdotError where there is none, or one of another model, version, data or settings."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            raise TapdotError(f"There is no run to go on with in {self.folder}: it holds no {CHECKPOINT}.")
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            facts, log = json.loads(str(arrays["facts"])), str(arrays["log"])
            records = tuple(_record(json.loads(line)) for line in log.splitlines())
            self._check(path, facts)
        except DAMAGES as error:
            raise self.damaged() from error
        return Checkpoint({name[6:]: array for name, array in arrays.items() if name.startswith("state ")}, records)

    def damaged(self) -> TapdotError:
        """What to raise for a checkpoint that cannot be read, or lacks something that is gone on from."""
        return TapdotError(f"{self.folder / CHECKPOINT} is damaged or no checkpoint; delete it and start again.")

    def _check(self, path: Path, facts: Mapping[str, Any]) -> None:
        if facts["version"] != VERSION:
            raise TapdotError(f"Expected a checkpoint of version {VERSION} at {path}, found {facts['version']}; start again.")
        if facts["model"] != self.digest:
            raise TapdotError(
                f"{path} is of another model (digest {facts['model']}, this one has {self.digest}); give the model that the run "
                "was started with, or start a new run."
            )
        if facts.get("data", self.data) != self.data:  # checkpoints of before this was stored say nothing of it
            raise TapdotError(
                f"The run in {self.folder} was started with other training data (digest {facts['data']}, these have "
                f"{self.data}); give the same samples and labels in the same order, or start a new run."
            )
        stored = facts["settings"]
        different = [name for name in self.settings if name not in CHANGEABLE and stored.get(name) != self.settings[name]]
        if different:
            name = different[0]
            raise TapdotError(
                f"The run in {self.folder} was started with {name}={stored.get(name)}, and now it is {self.settings[name]}; go "
                "on with the same options (only learning rates may change), or start a new run."
            )

    def finish(self) -> None:
        """Removes the checkpoint of a run whose result is safe; log and pictures stay."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


def _record(document: dict[str, Any]) -> EpochRecord:
    distances = {name: Distance(**distance) for name, distance in document.pop("distances").items()}
    return EpochRecord(**document, distances=distances)


def draw(folder: Path, records: Sequence[EpochRecord]) -> str | None:
    """Draws ``accuracy.svg`` and ``distance.svg``; says what is missing where it cannot."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return "Plots need matplotlib; install it with: pip install 'tapdot[examples]'."
    if not records:
        return None
    epochs = np.arange(1, len(records) + 1)
    masked = sum(record.phase == ADMM for record in records)

    def picture(name: str, label: str, lines: Mapping[str, Sequence[float]], logarithmic: bool) -> None:
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for title, values in lines.items():
            axes.plot(epochs[: len(values)], values, label=title, linewidth=1.2)
        if 0 < masked < len(records):
            axes.axvline(masked + 0.5, color="grey", linestyle=":", linewidth=1)
        axes.set(xlabel="epoch (masks from the dotted line on)", ylabel=label)
        if logarithmic:
            axes.set_yscale("log")
        if len(lines) <= 12:
            axes.legend(fontsize="small")
        with replacing(folder / name) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})

    lines = {"training samples": [record.accuracy for record in records]}
    if all(record.validation is not None for record in records):
        lines["validation samples"] = [float(record.validation or 0) for record in records]
    picture("accuracy.svg", "top-1", lines, False)
    pulled = [record.distances for record in records if record.distances]
    if pulled:
        by_layer = {name: [max(entry[name].largest, 1e-6) for entry in pulled] for name in pulled[0]}
        picture("distance.svg", "||W - Z|| / ||W||, the farther of both sets", by_layer, True)
    return None
