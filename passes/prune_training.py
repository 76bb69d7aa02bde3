"""Training a graph while it is pruned: epochs under ADMM's penalty, then epochs with masks, taught by the dense network too.

Every number follows from the seed and the place in the training, so a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import GraphModule, to_array
from tapdot.passes.admm import RHO, RHO_GROWTH, RHO_MOST, Distance, Pruner
from tapdot.passes.training_data import Augmentation, TrainingData, accuracy, evaluate

ADMM, RETRAIN = "admm", "retrain"
MOST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Training:
    """How a network is trained while it is pruned. Stochastic gradient descent with Nesterov's momentum."""

    epochs: int = 8
    """Under ADMM's penalty; 0 removes weights at once."""
    retrain_epochs: int = 16
    """With masks."""
    batch: int = 64
    learning_rate: float = 0.02
    """Under the penalty: constant, after a short rise."""
    retrain_learning_rate: float = 0.05
    """With masks: at its highest, after a tenth of the steps; from there to zero along a cosine."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    """Of weights with more than one axis."""
    distillation: float = 0.7
    """What share of the loss is the distance to the dense network's answers, rather than to the labels.

    A network trained to its end is a good teacher: on the miniature ResNet at 8x, 0.7 gives 1.1 points more than labels alone.
    One that is still far from there holds the pruned network back; leave it at 0 for such.
    """
    temperature: float = 2.0
    """That both answers are softened by for it (Hinton et al., 2015)."""
    rho: float = RHO
    rho_growth: float = RHO_GROWTH
    rho_most: float = RHO_MOST
    seed: int = 0
    shift: int = 0
    """Images move by up to so many pixels."""
    flip: bool = False
    """Images are mirrored left to right, half of the time."""
    restarts: int = 0
    """How often a loss that turns NaN may be answered by going back an epoch with a third of the learning rate."""

    def check(self) -> None:
        """Raises TapdotError for values that make no sense."""
        for name in ("epochs", "retrain_epochs", "shift", "restarts"):
            if getattr(self, name) < 0:
                raise TapdotError(f"Expected {name} to be at least 0, found {getattr(self, name)}.")
        for name in ("batch", "learning_rate", "retrain_learning_rate", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise TapdotError(f"Expected {name} above 0, found {getattr(self, name)}.")
        if not 0 <= self.seed <= MOST_SEED:
            raise TapdotError(f"Expected a seed from 0 to {MOST_SEED}, found {self.seed}.")
        if not 0 <= self.distillation <= 1:
            raise TapdotError(f"Expected distillation between 0 and 1, found {self.distillation:g}.")


class NotFiniteLossError(TapdotError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Step:
    """What is told of a step of training; as text, a line."""

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float

    def __str__(self) -> str:
        title = "under ADMM" if self.phase == ADMM else "retraining"
        return f"{title}, epoch {self.epoch + 1} of {self.epochs}, step {self.step + 1} of {self.steps}: loss {self.loss:.3f}"


@dataclass(frozen=True)
class EpochRecord:
    """A line of the log."""

    phase: str
    epoch: int
    """Counted from 1 in each phase."""
    loss: float
    accuracy: float
    """On the training samples as they were learned from; a share of one."""
    validation: float | None
    """On samples kept apart, if there are any."""
    rho: float | None
    learning_rate: float
    """At the end of the epoch."""
    seconds: float
    distances: Mapping[str, Distance]
    """Of every layer, before the projection that ends the epoch."""

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "distances": {name: asdict(distance) for name, distance in self.distances.items()}}


class Trainer:
    """One run of training; :meth:`epoch` runs the next epoch of it."""

    def __init__(
        self,
        module: GraphModule,
        pruner: Pruner | None,
        data: TrainingData,
        training: Training,
        *,
        size: int,
        validation: TrainingData | None = None,
        progress: Callable[[Step], object] = lambda step: None,
        teacher: Graph | None = None,
    ) -> None:
        """``size`` is how many samples the module takes at once. Without a pruner the network stays dense; without a teacher it
        is taught by itself as it is before training."""
        self.module, self.pruner, self.data, self.training = module, pruner, data, training
        self.size, self.validation, self.progress = size, validation, progress
        self.teacher = _teacher(teacher or module.graph) if training.distillation else None
        _reorder(module)
        self._endless = _not_finite(module)
        """Names of what may be infinite, as the upper end of a Clip may."""
        self.phase, self.done = ADMM if training.epochs else RETRAIN, 0
        self.scale = 1.0
        """Of learning rates, after restarts."""
        self._optimizer = self._new_optimizer()
        if self.phase == RETRAIN and pruner is not None:
            pruner.apply_masks()

    @property
    def finished(self) -> bool:
        """Whether all epochs of both phases are done."""
        return self.phase == RETRAIN and self.done >= self.training.retrain_epochs

    def _new_optimizer(self) -> torch.optim.SGD:
        parameters = list(self.module.parameters())
        decayed = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.training.weight_decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        return torch.optim.SGD(groups, lr=0.0, momentum=self.training.momentum, nesterov=self.training.momentum > 0)

    def _learning_rate(self, share: float) -> float:
        """After a share of the phase's steps."""
        if self.phase == ADMM:
            return self._highest * min(1.0, 0.1 + 20 * share)
        rise = 0.1
        return self._highest * (share / rise if share < rise else (1 + math.cos(math.pi * (share - rise) / (1 - rise))) / 2)

    def epoch(self) -> EpochRecord:
        """Trains for the next epoch; raises NotFiniteLossError where the loss is not finite, or could not be so in the next."""
        begin = time.monotonic()
        training, epochs = self.training, self.training.epochs if self.phase == ADMM else self.training.retrain_epochs
        place = self.done + (training.epochs if self.phase == RETRAIN else 0)
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + place)
        torch.manual_seed(training.seed * 1_000_003 + place)  # of dropouts
        inputs = _ordered(torch.from_numpy(self.data.inputs(place)))
        labels = torch.from_numpy(self.data.labels)
        order = torch.randperm(len(labels), generator=generator)
        if len(order) < self.size:
            order = order.repeat(-(-self.size // len(order)))
        batches = order[: len(order) // self.size * self.size].split(self.size)
        augment = Augmentation(training.shift, training.flip)
        self.module.train(self.size > 1)
        total, right, rate = 0.0, 0.0, 0.0
        for step, chosen in enumerate(batches):
            rate = self._learning_rate((self.done * len(batches) + step) / (epochs * len(batches)))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            batch = augment(inputs[chosen], generator)
            scores = self.module(batch).reshape(self.size, -1)
            loss = self._loss(scores, labels[chosen], batch)
            if self.pruner is not None:
                loss = loss + self.pruner.penalty()
            value = loss.item()
            if not math.isfinite(value):
                raise NotFiniteLossError(
                    f"The loss became {value} in epoch {self.done + 1} of {epochs} ({_title(self.phase)}), at step {step + 1} of "
                    f"{len(batches)} and a learning rate of {rate:.3g}"
                )
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            total += value
            right += accuracy(scores.detach(), labels[chosen])
            self.progress(Step(self.phase, self.done, epochs, step, len(batches), value))
        where = f"after epoch {self.done + 1} of {epochs} ({_title(self.phase)}), at a learning rate of up to {self._highest:.3g}"
        if not self._endless.issuperset(_not_finite(self.module)):
            raise NotFiniteLossError(f"The weights are no longer finite {where}")
        rho = None if self.pruner is None or self.pruner.masked else self.pruner.rho
        with np.errstate(over="ignore", invalid="ignore"):
            distances = {} if self.pruner is None else self.pruner.end_of_epoch()
        if not all(math.isfinite(one.connectivity) and math.isfinite(one.pattern or 0) for one in distances.values()):
            raise NotFiniteLossError(f"The weights are too large to be measured {where}")
        # A step's loss is that before its update, so nothing above has seen what the last update did.
        value, steep = self._next_loss(inputs[batches[0]], labels[batches[0]])
        if not math.isfinite(value) or steep:
            raise NotFiniteLossError(f"The loss became {value} {where}" if not steep else f"The gradient is not finite {where}")
        self.done += 1
        validation = None if self.validation is None else evaluate(self.module, self.validation, self.size)
        record = EpochRecord(
            self.phase,
            self.done,
            total / len(batches),
            right / len(batches),
            validation,
            rho,
            rate,
            round(time.monotonic() - begin, 3),
            distances,
        )
        if self.phase == ADMM and self.done == training.epochs:
            self.phase, self.done = RETRAIN, 0
            if self.pruner is not None:
                self.pruner.apply_masks()
            self._optimizer = self._new_optimizer()
        return record

    @property
    def _highest(self) -> float:
        return self.scale * (self.training.learning_rate if self.phase == ADMM else self.training.retrain_learning_rate)

    def _next_loss(self, batch: Tensor, labels: Tensor) -> tuple[float, bool]:
        """The loss of the module as it is now, in training mode, and whether it is finite and has a gradient that is not.

        Nothing changes by it, gradients and the statistics of batch norms neither.
        """
        statistics = [buffer.clone() for buffer in self.module.buffers()]
        loss = self._loss(self.module(batch).reshape(self.size, -1), labels, batch)
        if self.pruner is not None:
            loss = loss + self.pruner.penalty()
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        with torch.no_grad():
            for buffer, before in zip(self.module.buffers(), statistics, strict=True):
                buffer.copy_(before)
        finite = all(bool(torch.isfinite(gradient).all()) for gradient in gradients if gradient is not None)
        value = loss.item()
        return value, math.isfinite(value) and not finite

    def _loss(self, scores: Tensor, labels: Tensor, batch: Tensor) -> Tensor:
        logarithms = self._log_probabilities(scores)
        loss = F.nll_loss(logarithms, labels)
        share, heat = self.training.distillation, self.training.temperature
        if self.teacher is None:
            return loss
        with torch.no_grad():
            taught = self._log_probabilities(self.teacher(batch).reshape(scores.shape))
        answer, wanted = F.log_softmax(logarithms / heat, 1), F.log_softmax(taught / heat, 1)
        soft = F.kl_div(answer, wanted, reduction="batchmean", log_target=True)
        return (1 - share) * loss + share * heat**2 * soft

    def _log_probabilities(self, scores: Tensor) -> Tensor:
        """Of what the model gives: logits, their logarithms of softmax, or probabilities where it ends in a Softmax."""
        last = self.module.graph.producer(self.module.graph.outputs[0])
        if last is not None and last.op == "Softmax":
            return scores.clamp_min(1e-12).log()
        return F.log_softmax(scores, 1)

    # -- stopping and going on ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the rest of the run follows from, as plain arrays."""
        state = {f"weight {name}": array for name, array in self.module.weights().items()}
        pruner = {} if self.pruner is None else self.pruner.state()
        state.update({f"pruner {name}": np.array(array) for name, array in pruner.items()})
        for name, parameter in self.module.named_parameters():
            if (buffer := self._optimizer.state.get(parameter, {}).get("momentum_buffer")) is not None:
                state[f"momentum {name}"] = np.array(to_array(buffer))
        return {**state, "phase": np.array(self.phase), "done": np.array(self.done), "scale": np.array(self.scale)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from there."""
        self.module.load_weights(_part(state, "weight "))
        if self.pruner is not None:
            self.pruner.load_state(_part(state, "pruner "))
        self.phase, self.done, self.scale = str(state["phase"]), int(state["done"]), float(state["scale"])
        self._optimizer = self._new_optimizer()
        for name, parameter in self.module.named_parameters():
            if f"momentum {name}" in state:
                buffer = torch.from_numpy(np.array(state[f"momentum {name}"]))
                self._optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)


def _part(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}


def _not_finite(module: GraphModule) -> frozenset[str]:
    """Names of parameters and buffers that are not finite."""
    named = (*module.named_parameters(), *module.named_buffers())
    return frozenset(name for name, array in named if not bool(torch.isfinite(array).all()))


def _title(phase: str) -> str:
    return "under ADMM" if phase == ADMM else "retraining"


def _ordered(tensor: Tensor) -> Tensor:
    """Images channels last in memory, in which a processor trains faster; the numbers are the same."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _reorder(module: GraphModule) -> GraphModule:
    for parameter in module.parameters():
        parameter.data = _ordered(parameter.data)
    return module


def _teacher(graph: Graph) -> GraphModule:
    """A network that only answers."""
    twin = _reorder(GraphModule(graph)).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin
