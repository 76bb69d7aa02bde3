"""The public functions: from a model to a package, in one call each."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.compiler import pipeline
from tapdot.compiler.data import open_data
from tapdot.compiler.errors import TargetError
from tapdot.compiler.frontends import trace
from tapdot.compiler.graph import Graph
from tapdot.compiler.lower import Lowered, lower
from tapdot.compiler.package import Package, TensorGap, load
from tapdot.compiler.precision import coverage
from tapdot.compiler.sparse_storage import layer_structures
from tapdot.compiler.workloads import VIEWS
from tapdot.kernels.target import Target, UnknownTargetError, find_target
from tapdot.passes.assign_layouts import AssignLayouts
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.numeric_gap import numeric_gap
from tapdot.passes.plan_memory import plan_memory
from tapdot.passes.recipe_names import check_bits, check_calibration
from tapdot.passes.recipes import Calibration
from tapdot.passes.recipes import recipe as find_recipe

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn
    from torch.export import ExportedProgram

    from tapdot.passes.sparse_choice import Figures
    from tapdot.runtime.layer_costs import MeasuredCosts

__all__ = ["compile", "load", "trace"]


NAMELESS = ("main_graph", "torch_jit", "graph", "")
"""What exporters call a graph when they have no name for it; the file's name says more."""


def compile(  # noqa: A001 the natural name, always used as tapdot.compile
    model: nn.Module | ExportedProgram | ModelProto | Graph | str | os.PathLike[str],
    example_inputs: Sequence[Any] | None = None,
    *,
    target: str | Target = "host",
    recipe: str = "float",
    data: object = None,
    zero_shot: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    settings: Sequence[str] = (),
    bits: BitWidths | None = None,
    train: object = None,
    dump: Path | None = None,
    check: bool = False,
    records: str | os.PathLike[str] | None = None,
    progress: pipeline.Progress = pipeline.silent,
) -> Package:
    """Compiles a model: a torch module with example inputs, an ``.onnx`` or ``.pt2`` file, or what those hold, loaded.

    ``target`` is a name from ``tapdot devices --targets``; ``shapes`` sets dynamic dimensions by input name; ``settings`` are
    lines such as ``fuse.max_operators=8``, for any pass; ``dump`` is a folder for the graph after every pass; ``check`` compares
    the reference's answers before and after every pass; ``progress`` gets a line now and then while a pass takes long.
    ``records`` is a database that :func:`tapdot.tune` wrote, a file or a URL: kernels are configured by its winners.

    The recipe ``int8`` chooses the ranges of activations from samples: ``data`` (an ``.npz`` file with ``x``, a folder of class
    folders of images, an array, or any iterable of batches), or with ``zero_shot`` samples that are distilled from the model's
    batch norms. A model that was quantized elsewhere says its own ranges and needs neither. ``pattern`` and ``pattern-int8`` are
    ``float`` and ``int8`` with sparse kernels for what is pruned in the model. ``mixed`` is ``int8`` with ``bits`` (or the line
    ``mixed.bits=FILE`` among the settings) saying which layer's weights and activations get 8, 4 or 2 bits.
    ``train``, samples with labels in the same forms, lets the weights of a recipe with integers learn to live with their codes;
    ``train_quantized.epochs`` and its other options are set as those of any pass.

    Raises TapdotError for anything the user can act on.
    """
    target = _target(target)
    check_calibration(recipe, data is not None, zero_shot, settings)
    check_bits(recipe, bits is not None, settings)
    layout = pipeline.Phase("layout", (AssignLayouts(target),))
    phases = find_recipe(
        recipe,
        settings,
        Calibration(_replayed(data), zero_shot, train),
        target=target,
        measure=_measure,
        bits=bits,
        then=(layout,),
    )
    graph = trace(Path(model) if isinstance(model, os.PathLike) else model, example_inputs, shapes=shapes)
    outcome = pipeline.run(graph, phases, dump=dump, check=check, progress=progress)
    gap = _numeric_gap(outcome, phases)
    lowered, tuned = _lower(outcome.graph, target, graph.outputs, records)
    given = isinstance(model, str | os.PathLike)
    name = Path(model).stem if given and graph.name in NAMELESS else graph.name  # type: ignore[arg-type]
    return Package.create(
        lowered,
        target,
        name=name,
        recipe=recipe,
        notes=(*outcome.notes, *tuned),
        import_notes=graph.notes,
        coverage=coverage(outcome.graph, outcome.reasons),
        numeric_gap=gap,
        sparsity=layer_structures(outcome.graph, lowered.program),
    )


def _lower(
    graph: Graph, target: Target, outputs: Sequence[str], records: str | os.PathLike[str] | None
) -> tuple[Lowered, tuple[str, ...]]:
    """The graph's program, and what there is to say of its kernels' configurations."""
    plan = plan_memory(graph)
    if records is None:
        return lower(graph, plan, target, outputs=outputs), ()
    from tapdot.runtime.tuning.configured import Recorded
    from tapdot.runtime.tuning.records import Records

    with Records(records, create=False) as opened:
        configure = Recorded(opened)
        return lower(graph, plan, target, configure, outputs), configure.notes()


def _measure(dense: Graph, sparse: Graph, names: frozenset[str], target: Target) -> tuple[Mapping[str, Figures], MeasuredCosts]:
    """The layers of those names on this machine."""
    from tapdot.runtime.devices import connect
    from tapdot.runtime.layer_costs import LayerTimes

    return LayerTimes(connect("host"))(dense, sparse, names, target)


def _replayed(data: object) -> object:
    """Data that several passes can go through, though it be an iterator; a list of batches is that already."""
    return data if data is None or isinstance(data, list | tuple) else open_data(data)


def _numeric_gap(outcome: pipeline.Outcome, phases: pipeline.Recipe) -> tuple[TensorGap, ...]:
    """Each integer tensor against the float network that was calibrated, on the samples it was calibrated with."""
    places = {type(step): place for place, phase in enumerate(phases) for step in phase.passes}
    steps = {type(step): step for phase in phases for step in phase.passes}
    calibrate = steps.get(Calibrate)
    if not isinstance(calibrate, Calibrate) or (isinstance(calibrate.data, list) and not calibrate.data):
        return ()  # nothing was calibrated, or the model came with its own scales and nothing was distilled
    reference = outcome.after[phases[places[Calibrate] - 1].name]
    gaps = numeric_gap(reference, outcome.after["requantize"], calibrate.data)
    return tuple(
        TensorGap(gap.value, gap.node, gap.op, None if math.isinf(gap.decibels) else gap.decibels)
        for gap in gaps
        if gap.op not in VIEWS
    )


def _target(name: str | Target) -> Target:
    try:
        return find_target(name)
    except UnknownTargetError as error:
        raise TargetError(str(error)) from error
