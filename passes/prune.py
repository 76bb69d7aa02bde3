"""A trained graph in, the same graph with most of its weights zero out: plan, ADMM, hard masks, masked retraining.

``compile`` needs nothing but the zeros: it finds patterns, kernels that are gone and groups of filters that agree by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import GraphModule, interpret
from tapdot.passes.admm import Pruner
from tapdot.passes.distill import with_batch
from tapdot.passes.prune_checkpoint import Journal, draw, model_digest
from tapdot.passes.prune_training import EpochRecord, NotFiniteLossError, Step, Trainer, Training
from tapdot.passes.sparsity_plan import Plan, Pruning, graph_plan, kept_macs, prune_by_projection
from tapdot.passes.training_data import TrainingData, evaluate, training_data

RESTART = 1 / 3
"""What a restart multiplies learning rates by."""


class TrainingStoppedError(TapdotError):
    """Training could not go on; ``last_good`` is the graph after the last epoch whose loss was finite."""

    def __init__(self, message: str, last_good: Graph) -> None:
        super().__init__(message)
        self.last_good = last_good


@dataclass(frozen=True)
class Pruned:
    """The result."""

    graph: Graph
    plan: Plan
    records: tuple[EpochRecord, ...] = ()
    """Of every epoch."""
    macs_before: int = 0
    """Multiply-accumulates of the dense network, one run of the graph."""
    macs: int = 0
    """The same of the pruned network."""
    accuracy_before: float | None = None
    """Top-1 of the dense network, a share of one: on validation samples, else on the training samples; None without data."""
    accuracy: float | None = None
    """The same of the pruned network."""
    validated: bool = False
    """Whether these are of validation samples."""
    notes: tuple[str, ...] = ()
    folder: Path | None = None
    """Of the log and, until :meth:`finish`, the checkpoint."""

    def save(self, path: str | Path) -> None:
        """Writes the pruned model as ONNX, which ``tapdot compile`` and other tools read, and then finishes the run."""
        from tapdot.compiler.exporters.onnx import save_onnx

        save_onnx(self.graph, Path(path))
        self.finish()

    def finish(self) -> None:
        """Removes the run's checkpoint, as the result is safe; its folder may then hold another run. Log and plots stay."""
        if self.folder is not None:
            Journal(self.folder, "", {}).finish()


def prune(
    graph: Graph,
    data: object = None,
    pruning: Pruning | None = None,
    training: Training | None = None,
    *,
    validation: object = None,
    folder: Path | None = None,
    resume: bool = False,
    progress: Callable[[Step], object] = lambda step: None,
) -> Pruned:
    """Prunes a graph, before any pass (batch norms still there, if it has any).

    ``data`` (anything ``compiler.data`` opens, with labels) is what it is trained on. Without data the weights are projected and
    nothing is trained. ``folder`` gets the log, a checkpoint after every epoch, and plots; with ``resume`` the run found there
    goes on, and ends as if it had never stopped. The checkpoint stays until :meth:`Pruned.save` or :meth:`Pruned.finish`.

    Raises TapdotError for options that cannot be met or do not fit a checkpoint, InputError for data that does not fit, and
    TrainingStoppedError where the loss is not finite.
    """
    pruning, training = pruning or Pruning(), training or Training()
    training.check()
    _check_float(graph)
    plan = graph_plan(graph, pruning)
    if data is None:
        notes = (*_idle(plan, pruning), "Nothing was trained: there was no data.")
        return Pruned(prune_by_projection(graph, pruning), plan, (), *kept_macs(graph, plan), notes=notes)
    samples = training_data(graph, data)
    held = None if validation is None else training_data(graph, validation)
    module, size, notes = _trainable(graph, min(training.batch, len(samples.labels)))
    pruner = Pruner(module, **_options(pruning), rho=training.rho, rho_growth=training.rho_growth, rho_most=training.rho_most)
    measured = held or TrainingData(samples.inputs, samples.labels)
    before = evaluate(module, measured, size)
    trainer = Trainer(module, pruner, samples, training, size=size, validation=held, progress=progress)
    journal = None if folder is None else Journal(folder, model_digest(graph), _settings(pruning, training))
    records = _begin(trainer, journal, resume)
    records, more = _run(trainer, journal, records, lambda: _with_weights(graph, module))
    pruner.apply_masks()
    if folder is not None and (missing := draw(folder, records)):
        more = (*more, missing)
    return Pruned(
        _with_weights(graph, module),
        pruner.plan,
        tuple(records),
        *kept_macs(graph, pruner.plan),
        before,
        evaluate(module, measured, size),
        held is not None,
        (*_idle(plan, pruning), *notes, *more),
        folder,
    )


def train_dense(
    graph: Graph, data: object, training: Training | None = None, *, progress: Callable[[Step], object] = lambda step: None
) -> Graph:
    """The dense graph, trained as :func:`prune` trains, as long, and taught by itself: what pruned networks are compared with."""
    training = training or Training()
    training.check()
    samples = training_data(graph, data)
    module, size, _ = _trainable(graph, min(training.batch, len(samples.labels)))
    trainer = Trainer(module, None, samples, training, size=size, progress=progress)
    _run(trainer, None, [], lambda: _with_weights(graph, module))
    return _with_weights(graph, module)


def _check_float(graph: Graph) -> None:
    """Rounding to codes has no gradient, and scales would not fit the new weights."""
    rounding = [node.name for node in graph.nodes if node.op in ("QuantizeLinear", "DequantizeLinear", "FakeQuantize")]
    if rounding:
        raise TapdotError(
            f"The model was quantized before (node {rounding[0]!r} rounds to codes); prune the float model it was made from, and "
            "quantize the result."
        )


def _idle(plan: Plan, pruning: Pruning) -> tuple[str, ...]:
    """Says where a rate that was asked for is the rate of nothing."""
    if pruning.quad_rate != 1 and not any(layer.by_quads for layer in plan.layers):
        return (f"The quad rate {pruning.quad_rate:g} is that of no layer: no 1x1 or fully connected layer is pruned.",)
    return ()


def _options(pruning: Pruning) -> dict[str, Any]:
    return {name: getattr(pruning, name) for name in Pruning.__dataclass_fields__}


def _settings(pruning: Pruning, training: Training) -> dict[str, object]:
    """As plain data that survive JSON."""
    plain = {**asdict(pruning), **asdict(training), "skip": sorted(pruning.skip)}
    return {name: dict(value) if name.startswith("layer_") else value for name, value in plain.items()}  # type: ignore[call-overload]


def _trainable(graph: Graph, batch: int) -> tuple[GraphModule, int, tuple[str, ...]]:
    """The graph as a module for batches, how many samples it takes at once, and what there is to say of that."""
    wider = with_batch(graph, batch)
    if wider is not None and _same_answers(graph, wider):
        return GraphModule(wider), batch, ()
    size = graph.type(graph.inputs[0]).shape[0]
    note = f"The model's shapes fix its batch to {size}, so it was trained with so many samples a step"
    note += ", and its batch norms kept their statistics." if size == 1 else "."
    return GraphModule(graph), size, (note,)


def _same_answers(graph: Graph, wider: Graph) -> bool:
    """Whether the graph for larger batches keeps samples apart and gives each its answer."""
    (name,) = graph.inputs
    size, batch = graph.type(name).shape[0], wider.type(name).shape[0]
    rows = min(size, batch)
    x = torch.randn(wider.type(name).shape, generator=torch.Generator().manual_seed(0))
    some = torch.cat([x[-rows:]] * -(-size // rows))[:size]
    with torch.inference_mode():
        together = interpret(wider, {name: x})[wider.outputs[0]][-rows:]
        alone = interpret(graph, {name: some})[graph.outputs[0]][:rows]
    return bool(torch.allclose(together, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max())))


def _with_weights(graph: Graph, module: GraphModule) -> Graph:
    """The graph with the module's trained arrays; shapes, which another batch size may have changed, stay."""
    trained = {name: array for name, array in module.weights().items() if array.dtype.kind == "f"}
    return graph.replace(constants={**graph.constants, **trained})


def _begin(trainer: Trainer, journal: Journal | None, resume: bool) -> list[EpochRecord]:
    """Prepares the folder, or takes up what is in it; returns the records so far."""
    if journal is None:
        return []
    if not resume:
        journal.begin()
        return []
    checkpoint = journal.read()
    trainer.load_state(checkpoint.state)
    return list(checkpoint.records)


def _run(
    trainer: Trainer, journal: Journal | None, records: list[EpochRecord], last_good: Callable[[], Graph]
) -> tuple[list[EpochRecord], tuple[str, ...]]:
    """Trains to the end; a loss that is not finite leads back to the last good state."""
    good, restarts, notes = trainer.state(), trainer.training.restarts, []
    while not trainer.finished:
        try:
            record = trainer.epoch()
        except NotFiniteLossError as error:
            scale = trainer.scale * RESTART
            trainer.load_state(good)
            if not restarts:
                raise TrainingStoppedError(f"{error}. {_advice(journal, bool(records))}", last_good()) from error
            restarts -= 1
            trainer.scale = scale
            notes.append(f"{error}; the epoch was begun again with learning rates {scale:.2g} times as large.")
            continue
        records.append(record)
        good = trainer.state()
        if journal is not None:
            journal.write(good, records)
    return records, tuple(notes)


def _advice(journal: Journal | None, begun: bool) -> str:
    """What to do about a loss that is not finite."""
    if journal is None or not begun:
        return "Start again with smaller learning rates (--learning-rate), or allow restarts (--restarts 3)."
    return (
        f"The state after the epoch before is kept in {journal.folder}: go on from there with smaller learning rates (--resume "
        f"{journal.folder} --learning-rate ...), or allow restarts (--restarts 3)."
    )


def equal_epochs(training: Training) -> Training:
    """One-shot projection with as many epochs in all: what ADMM has to beat."""
    return replace(training, epochs=0, retrain_epochs=training.epochs + training.retrain_epochs)


def kept_share(graph: Graph, plan: Plan) -> float:
    """Of the pruned layers' weights, how many are not zero; a share of one."""
    total = sum(layer.weights for layer in plan.layers)
    return sum(int(np.count_nonzero(graph.constants[layer.weight])) for layer in plan.layers) / total
