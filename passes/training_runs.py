"""Training a graph from beginning to end: as a module for batches, with a journal, back to the last good state where training
diverges. What pruning and quantization-aware training share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import GraphModule, interpret
from tapdot.passes.distill import with_batch
from tapdot.passes.prune_checkpoint import DAMAGES, Journal
from tapdot.passes.prune_training import EpochRecord, NotFiniteLossError, Trainer

Module = TypeVar("Module", bound=GraphModule)

RESTART = 1 / 3
"""What a restart multiplies learning rates by."""


class ForgottenError(TapdotError):
    """The loss is finite, but the network no longer knows what it knew."""


class TrainingStoppedError(TapdotError):
    """Training could not go on; ``last_good`` is the graph after the last epoch that went well."""

    def __init__(self, message: str, last_good: Graph) -> None:
        super().__init__(message)
        self.last_good = last_good


@dataclass(frozen=True)
class Trainable(Generic[Module]):
    """A graph as a module, how many samples it takes at once, and what there is to say of that."""

    module: Module
    size: int
    notes: tuple[str, ...] = ()


def trainable(graph: Graph, batch: int, make: Callable[[Graph], Module] = GraphModule) -> Trainable[Module]:  # type: ignore[assignment]
    """The graph as a module for batches of that size, or of its own where its shapes allow no other."""
    wider = with_batch(graph, batch)
    if wider is not None and _same_answers(graph, wider):
        return Trainable(make(wider), batch)
    size = graph.type(graph.inputs[0]).shape[0]
    note = f"The model's shapes fix its batch to {size}, so it was trained with so many samples a step"
    note += ", and its batch norms kept their statistics." if size == 1 else "."
    return Trainable(make(graph), size, (note,))


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


def begin(trainer: Trainer, journal: Journal | None, resume: bool) -> list[EpochRecord]:
    """Prepares the folder, or takes up what is in it; returns the records so far."""
    if journal is None:
        return []
    if not resume:
        journal.begin()
        return []
    checkpoint = journal.read()
    try:
        trainer.load_state(checkpoint.state)
    except DAMAGES as error:
        raise journal.damaged() from error
    return list(checkpoint.records)


def run(
    trainer: Trainer,
    journal: Journal | None,
    records: list[EpochRecord],
    last_good: Callable[[], Graph],
    check: Callable[[EpochRecord], object] = lambda record: None,
) -> tuple[list[EpochRecord], tuple[str, ...]]:
    """Trains to the end; a loss that is not finite leads back to the last good state, and so does a ForgottenError of ``check``,
    which sees every epoch."""
    good, restarts, notes = trainer.state(), trainer.training.restarts, []
    while not trainer.finished:
        try:
            record = trainer.epoch()
            check(record)
        except (NotFiniteLossError, ForgottenError) as error:
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
