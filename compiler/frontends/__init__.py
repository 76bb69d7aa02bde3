"""From models to graphs: :func:`trace` takes whatever people have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends.model_file import ONNX, check_model_file

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn
    from torch.export import ExportedProgram

    from tapdot.compiler.frontends.torch import Examples
    from tapdot.compiler.graph import Graph


def trace(
    model: str | Path | nn.Module | ExportedProgram | ModelProto | Graph,
    example_inputs: Examples | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """The graph of a model: an ``.onnx`` or ``.pt2`` file, a torch module, an exported program or a loaded ONNX model.

    A torch module needs ``example_inputs`` (a tensor, a sequence, or a mapping by parameter name); for the others ``shapes``
    fixes dimensions they leave open, by input name. A graph is returned as it is. What was decided on the way is in the graph's
    ``notes``. Raises ModelError that lists all that is wrong.
    """
    from onnx import ModelProto  # (not the package: the submodule of that name would hide it)
    from torch import nn
    from torch.export import ExportedProgram

    from tapdot.compiler.graph import Graph

    if isinstance(model, Graph):
        return model
    if isinstance(model, (nn.Module, ExportedProgram)):
        return _from_torch(model, example_inputs, shapes)
    if isinstance(model, ModelProto):
        return _from_onnx(model, shapes)
    if not isinstance(model, (str, Path)):
        raise ModelError(
            f"Expected a path, a torch module, an exported program or an ONNX model, found {type(model).__name__}; see "
            "tapdot.trace."
        )
    if check_model_file(Path(model)) == ONNX:
        return _from_onnx(model, shapes)
    return _from_torch(model, None, shapes)


def _from_torch(model: Any, example_inputs: Examples | None, shapes: Mapping[str, Sequence[int]] | None) -> Graph:
    from tapdot.compiler.frontends.torch import import_torch  # takes seconds to import

    return import_torch(model, example_inputs, shapes=shapes)


def _from_onnx(model: str | Path | ModelProto, shapes: Mapping[str, Sequence[int]] | None) -> Graph:
    from tapdot.compiler.frontends.onnx import import_onnx

    return import_onnx(model, shapes=shapes)
