"""``tapdot.sensitivity``: from a model to how much each layer's bits or sparsity matter to its answers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.compiler import pipeline
from tapdot.compiler.errors import InputError
from tapdot.compiler.frontends import trace
from tapdot.compiler.graph import Graph
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.sensitivity import Sensitivity, checked, measure_sensitivity
from tapdot.passes.sensitivity_candidates import WeightForm

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn
    from torch.export import ExportedProgram


def sensitivity(
    model: nn.Module | ExportedProgram | ModelProto | Graph | str | os.PathLike[str],
    example_inputs: Sequence[Any] | None = None,
    *,
    data: object = None,
    zero_shot: bool = False,
    method: str = "kl",
    candidates: Sequence[str | int | WeightForm] = (8, 4),
    of: str = "weights",
    samples: int | None = None,
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    settings: Sequence[str] = (),
    progress: Callable[[str], object] = pipeline.silent,
) -> Sensitivity:
    """How sensitive a model is to each layer's candidates: bits of its weights, or rates at which it is pruned.

    ``model`` is what :func:`tapdot.compile` takes. Samples come from ``data`` (as there; the method hessian uses labels, where
    there are any), or with ``zero_shot`` are distilled from the model's batch norms. ``method`` is kl, prediction, masked or
    hessian; ``candidates`` are bits (2 to 8) or labels such as ``rate 4 share 2``; ``of="activations"`` asks for the bits of
    tensors instead. ``samples`` of the data are used (by default 16 to 256, by what the network costs), picked by ``seed``.
    ``settings`` are lines such as ``distill_samples.count=32``; ``progress`` gets a line now and then.

    Layers have the names that the graph shows once it is cleaned up. Raises TapdotError for anything the user can act on.
    """
    checked(method, candidates, of)
    if (data is None) is not zero_shot:
        found = "both" if zero_shot else "neither"
        raise InputError(
            "Sensitivity is measured on samples: expected data (--data DATA) or inputs distilled without any (--zero-shot), "
            f"found {found}."
        )
    if zero_shot and not any(line.strip().startswith("distill_samples.seed") for line in settings):
        settings = (*settings, f"distill_samples.seed={seed}")
    phases = recipe("int8", settings, Calibration(data, zero_shot))
    calibrate = next(step for phase in phases for step in phase.passes if isinstance(step, Calibrate))
    before = tuple(itertools.takewhile(lambda phase: phase.name != "calibrate", phases))
    graph = trace(Path(model) if isinstance(model, os.PathLike) else model, example_inputs, shapes=shapes)
    outcome = pipeline.run(graph, before, progress=progress)
    return measure_sensitivity(
        outcome.graph,
        calibrate.data,
        method=method,
        candidates=candidates,
        of=of,
        samples=samples,
        seed=seed,
        source="distilled" if zero_shot else "data",
        progress=progress,
    )
