"""A trained graph in, the same graph with most of its weights zero out: plan, ADMM, hard masks, masked retraining.

``compile`` needs nothing but the zeros: it finds patterns, kernels that are gone and groups of filters that agree by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import GraphModule
from tapdot.passes.admm import Pruner
from tapdot.passes.prune_checkpoint import Journal, data_digest, draw, model_digest
from tapdot.passes.prune_training import EpochRecord, Step, Trainer, Training
from tapdot.passes.sparsity_plan import Plan, Pruning, graph_plan, kept_macs, prune_by_projection
from tapdot.passes.training_data import TrainingData, evaluate, training_data
from tapdot.passes.training_runs import Trainable, begin, run, trainable


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
    held = None if validation is None else training_data(graph, validation, validation=True)
    batches: Trainable[GraphModule] = trainable(graph, min(training.batch, len(samples.labels)))
    module, size = batches.module, batches.size
    pruner = Pruner(module, **_options(pruning), rho=training.rho, rho_growth=training.rho_growth, rho_most=training.rho_most)
    measured = held or TrainingData(samples.inputs, samples.labels)
    before = evaluate(module, measured, size)
    trainer = Trainer(module, pruner, samples, training, size=size, validation=held, progress=progress)
    journal = None
    if folder is not None:
        journal = Journal(folder, model_digest(graph), _settings(pruning, training), data_digest(samples))
    records = begin(trainer, journal, resume)
    records, more = run(trainer, journal, records, lambda: _with_weights(graph, module))
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
        (*_idle(plan, pruning), *batches.notes, *more),
        folder,
    )


def train_dense(
    graph: Graph, data: object, training: Training | None = None, *, progress: Callable[[Step], object] = lambda step: None
) -> Graph:
    """The dense graph, trained as :func:`prune` trains, as long, and taught by itself: what pruned networks are compared with."""
    training = training or Training()
    training.check()
    samples = training_data(graph, data)
    batches: Trainable[GraphModule] = trainable(graph, min(training.batch, len(samples.labels)))
    module = batches.module
    trainer = Trainer(module, None, samples, training, size=batches.size, progress=progress)
    run(trainer, None, [], lambda: _with_weights(graph, module))
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


def _with_weights(graph: Graph, module: GraphModule) -> Graph:
    """The graph with the module's trained arrays; shapes, which another batch size may have changed, stay."""
    trained = {name: array for name, array in module.weights().items() if array.dtype.kind == "f"}
    return graph.replace(constants={**graph.constants, **trained})


def equal_epochs(training: Training) -> Training:
    """One-shot projection with as many epochs in all: what ADMM has to beat."""
    return replace(training, epochs=0, retrain_epochs=training.epochs + training.retrain_epochs)


def kept_share(graph: Graph, plan: Plan) -> float:
    """Of the pruned layers' weights, how many are not zero; a share of one."""
    total = sum(layer.weights for layer in plan.layers)
    return sum(int(np.count_nonzero(graph.constants[layer.weight])) for layer in plan.layers) / total
