"""The public functions: from a model to a package, in one call each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.compiler import pipeline
from tapdot.compiler.errors import TargetError
from tapdot.compiler.frontends import trace
from tapdot.compiler.graph import Graph
from tapdot.compiler.lower import lower
from tapdot.compiler.options import configure
from tapdot.compiler.package import Package, load
from tapdot.kernels.target import Target, UnknownTargetError, find_target
from tapdot.passes.assign_layouts import AssignLayouts
from tapdot.passes.plan_memory import plan_memory
from tapdot.passes.recipes import recipe as find_recipe

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn
    from torch.export import ExportedProgram

__all__ = ["compile", "load", "trace"]


NAMELESS = ("main_graph", "torch_jit", "graph", "")
"""What exporters call a graph when they have no name for it; the file's name says more."""


def compile(  # noqa: A001 the natural name, always used as tapdot.compile
    model: nn.Module | ExportedProgram | ModelProto | Graph | str | os.PathLike[str],
    example_inputs: Sequence[Any] | None = None,
    *,
    target: str | Target = "host",
    recipe: str = "float",
    shapes: Mapping[str, Sequence[int]] | None = None,
    settings: Sequence[str] = (),
    dump: Path | None = None,
    check: bool = False,
) -> Package:
    """Compiles a model: a torch module with example inputs, an ``.onnx`` or ``.pt2`` file, or what those hold, loaded.

    ``target`` is a name from ``tapdot devices --targets``; ``shapes`` sets dynamic dimensions by input name; ``settings`` are
    lines such as ``fuse.max_operators=8``, for any pass; ``dump`` is a folder for the graph after every pass; ``check`` compares
    the reference's answers before and after every pass. Raises TapdotError for anything the user can act on.
    """
    target = _target(target)
    phases = configure((*find_recipe(recipe), pipeline.Phase("layout", (AssignLayouts(target),))), settings)
    graph = trace(Path(model) if isinstance(model, os.PathLike) else model, example_inputs, shapes=shapes)
    outcome = pipeline.run(graph, phases, dump=dump, check=check)
    lowered = lower(outcome.graph, plan_memory(outcome.graph), target, outputs=graph.outputs)
    given = isinstance(model, str | os.PathLike)
    name = Path(model).stem if given and graph.name in NAMELESS else graph.name  # type: ignore[arg-type]
    return Package.create(lowered, target, name=name, recipe=recipe, notes=outcome.notes, import_notes=graph.notes)


def _target(name: str | Target) -> Target:
    try:
        return find_target(name)
    except UnknownTargetError as error:
        raise TargetError(str(error)) from error
