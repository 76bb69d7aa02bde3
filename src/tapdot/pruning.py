"""``tapdot.prune``: from a trained model to one with most of its weights removed, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.compiler.frontends import trace
from tapdot.compiler.graph import Graph
from tapdot.passes import prune as passes
from tapdot.passes.prune_training import Step, Training
from tapdot.passes.sparsity_plan import Pruning

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn
    from torch.export import ExportedProgram


def prune(
    model: nn.Module | ExportedProgram | ModelProto | Graph | str | os.PathLike[str],
    example_inputs: Sequence[Any] | None = None,
    *,
    data: object = None,
    validation: object = None,
    pruning: Pruning | None = None,
    training: Training | None = None,
    one_shot: bool = False,
    log: str | os.PathLike[str] | None = None,
    resume: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Callable[[Step], object] = lambda step: None,
    **options: Any,
) -> passes.Pruned:
    """Prunes a model by patterns, connectivity and quads, and retrains it.

    >>> pruned = tapdot.prune("net.onnx", data="train.npz", rate=8, share=2, epochs=8)
    >>> pruned.save("pruned.onnx");  package = tapdot.compile(pruned.graph, recipe="float")

    ``options`` are fields of :class:`Pruning` and :class:`Training` by name: ``rate``, ``quad_rate``, ``share``, ``patterns``,
    ``epochs``, ``retrain_epochs``, ``seed``, ... With ``one_shot`` weights are removed at once rather than by ADMM and then
    retrained; without ``data`` they are removed at once and nothing is trained. ``log`` is a folder for the log, a checkpoint and
    plots; ``resume`` goes on with the run in it. The checkpoint stays until the result's ``save`` or ``finish`` is called.

    The result's ``graph`` goes into :func:`tapdot.compile`. Raises TapdotError for anything the user can act on.
    """
    pruning, training = pruning or Pruning(), training or Training()
    known = {*Pruning.__dataclass_fields__, *Training.__dataclass_fields__}
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"prune() has no option {unknown[0]!r}; see Pruning and Training in tapdot.passes.prune.")
    pruning = replace(pruning, **{name: value for name, value in options.items() if name in Pruning.__dataclass_fields__})
    training = replace(training, **{name: value for name, value in options.items() if name in Training.__dataclass_fields__})
    if one_shot:
        training = replace(training, epochs=0)
    graph = trace(Path(model) if isinstance(model, os.PathLike) else model, example_inputs, shapes=shapes)
    return passes.prune(
        graph,
        data,
        pruning,
        training,
        validation=validation,
        folder=None if log is None else Path(log),
        resume=resume,
        progress=progress,
    )
