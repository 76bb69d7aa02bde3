"""From torch modules and exported programs to graphs.

torch.export gives a program of ATen operators. Where each has a row in the table (``aten_*.py``), the program is read as it
stands; else torch decomposes those that have none into core ATen operators, which mostly have one. Batch norms are kept either
way.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from tapdot.compiler.errors import GraphError, ModelError

# Importing a module of rows puts them into the table.
from tapdot.compiler.frontends import aten_elementwise, aten_movement, aten_reduction, aten_spatial  # noqa: F401
from tapdot.compiler.frontends.aliasing import mutated_operand, walks_in_order
from tapdot.compiler.frontends.aten_table import Call, result_dtype, row_of
from tapdot.compiler.frontends.problems import Problems, reason_of
from tapdot.compiler.frontends.pt2_file import read_pt2
from tapdot.compiler.frontends.shapes import Dimension, fix_shapes
from tapdot.compiler.frontends.weights import check_finite
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.operators.table import DTYPE_NAMES, TORCH_DTYPES
from tapdot.compiler.types import TensorType

Examples = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]

PLACEMENT = ("dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "copy")
"""Keyword arguments that say where and how torch stores a result; its element type is read off the result."""


def import_torch(
    source: nn.Module | ExportedProgram | str | Path,
    example_inputs: Examples | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """The graph of a module (in eval mode), an exported program or a ``.pt2`` file.

    A module needs ``example_inputs``: a tensor, a sequence of them, or a mapping by parameter name; or ``shapes``, for float32
    inputs. ``shapes`` also fixes dimensions that an exported program left open. Constants are named as the module's parameters
    and buffers, nodes by the path of their module. The graph holds copies: training the module afterwards does not change it.

    Raises ModelError that lists all that is wrong: what torch cannot export, operators that are not supported (with module
    path and source line), weights that are not finite, a file that is none.
    """
    if isinstance(source, nn.Module):
        name = type(source).__name__
        program = _export(source, *_arguments(source, example_inputs, shapes), name)
    elif isinstance(source, ExportedProgram):
        name, program = "the exported program", source
    else:
        name, program = repr(str(source)), read_pt2(Path(source))
    problems = Problems(name)
    _check_mode(program, problems)
    program = _with_static_shapes(program, shapes, problems)
    importer = _Importer(_in_rows(program), problems, copy=not isinstance(source, (str, Path)))
    return importer.graph(re.sub(r"\W+", "_", Path(source).stem if isinstance(source, (str, Path)) else name))


# -- getting a program of known shapes ------------------------------------------------------------------------------------------


def _arguments(
    module: nn.Module, examples: Examples | None, shapes: Mapping[str, Sequence[int]] | None
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """Positional and named arguments to call the module with."""
    if examples is None:
        if not shapes:
            raise ModelError(
                f"Expected example inputs to trace {type(module).__name__} with, found none; give a tensor of the input's "
                "shape, or a tuple of several."
            )
        return (), {name: torch.zeros(tuple(shape)) for name, shape in shapes.items()}
    if isinstance(examples, Mapping):
        return (), dict(examples)
    arguments = (examples,) if isinstance(examples, torch.Tensor) else tuple(examples)
    for argument in arguments:
        if not isinstance(argument, torch.Tensor):
            raise ModelError(
                f"Expected example inputs to be tensors, found {type(argument).__name__}; convert it with torch.as_tensor."
            )
    return arguments, {}


def _export(module: nn.Module, arguments: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], name: str) -> ExportedProgram:
    """Exports in eval mode and puts every submodule back into the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad():
            return torch.export.export(module.eval(), arguments, named or None)
    except Exception as error:  # whatever the module's own code or torch's tracer raises
        raise ModelError(
            f"torch.export cannot trace {name} with inputs of shape "
            f"{', '.join(str(list(value.shape)) for value in (*arguments, *named.values()))}: {reason_of(error)}. Check that "
            "the module runs on them, and that its code does not branch on tensor values."
        ) from error
    finally:
        for part, mode in modes.items():
            part.training = mode


def _check_mode(program: ExportedProgram, problems: Problems) -> None:
    """Notes operators that compute as in training: batch norms over the batch, dropouts that drop."""
    flags = {"aten::batch_norm": 5, "aten::dropout": 2}
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        index = flags.get(schema.name) if schema is not None else None
        if index is not None and len(node.args) > index and node.args[index]:
            problems.add("It was exported in training mode, so it is not the network that predicts; export module.eval().")


def _with_static_shapes(
    program: ExportedProgram, shapes: Mapping[str, Sequence[int]] | None, problems: Problems
) -> ExportedProgram:
    """The program, exported again where it left dimensions open."""
    declared = {name: _dimensions(node) for name, node in _user_inputs(program).items()}
    fixed = fix_shapes(declared, shapes, problems)
    problems.raise_any()
    if all(isinstance(size, int) for dimensions in declared.values() for size in dimensions):
        return program
    examples = tuple(torch.zeros(fixed[name], dtype=node.meta["val"].dtype) for name, node in _user_inputs(program).items())
    # Its guards are Python source, and the shapes were checked above.
    return _export_again(program.module(check_guards=False), examples, problems.model)


def _export_again(module: nn.Module, examples: tuple[torch.Tensor, ...], name: str) -> ExportedProgram:
    try:
        return torch.export.export(module, examples)
    except Exception as error:  # as in _export
        sizes = ", ".join(str(list(example.shape)) for example in examples)
        raise ModelError(
            f"{name} does not run on inputs of shape {sizes}: {reason_of(error)}. Choose shapes it was exported for."
        ) from error


def _user_inputs(program: ExportedProgram) -> dict[str, fx.Node]:
    """The program's tensor inputs by name."""
    names = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT}
    return {
        node.name: node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names and isinstance(node.meta.get("val"), torch.Tensor)
    }


def _dimensions(node: fx.Node) -> list[Dimension]:
    return [size if isinstance(size, int) else str(size) for size in node.meta["val"].shape]


def _in_rows(program: ExportedProgram) -> ExportedProgram:
    """The program in operators that have a row, as far as torch's decompositions lead there."""
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    if all(_is_read(node.target) for node in calls) and walks_in_order(program.graph):
        return program
    table = torch.export.default_decompositions()
    for target in list(table):
        if row_of(target) is not None:
            del table[target]
    return program.run_decompositions(table)


def _is_read(target: Any) -> bool:
    return target is operator.getitem or is_assertion(target) or row_of(target) is not None


def is_assertion(target: Any) -> bool:
    """Whether an operator checks what shapes and types have settled already."""
    return str(target).startswith("aten._assert_")


# -- walking it ----------------------------------------------------------------------------------------------------------------


class _Importer:
    """Turns the nodes of a program into nodes of a graph; what cannot be turned is noted, and its readers are passed over."""

    def __init__(self, program: ExportedProgram, problems: Problems, copy: bool) -> None:
        self.program = program
        self.problems = problems
        self.copy = copy
        self.builder = GraphBuilder("graph")
        self.values: dict[fx.Node, Any] = {}
        """What each node of the program is here: the name of a value, a tuple of names, or a plain number."""
        self.lost: set[fx.Node] = set()
        self.unsupported: dict[str, list[fx.Node]] = {}

    def graph(self, name: str) -> Graph:
        """The whole graph, verified."""
        specs = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs if hasattr(spec.arg, "name")}
        outputs: list[str] = []
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name])
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "get_attr":
                self.lost.add(node)  # a sub-graph of control flow, which its reader is refused for
            elif node.op == "output":
                outputs = self._outputs(node)
        for target, nodes in self.unsupported.items():
            places = "; ".join(place(node) for node in nodes[:3]) + (f"; and {len(nodes) - 3} more" if len(nodes) > 3 else "")
            self.problems.add(
                f"Operator {target} ({places}) is not supported; rewrite that part of the module with other operators, or "
                "leave it out of the module and compute it outside."
            )
        self.problems.raise_any()
        self.builder.name = name
        return self.builder.build(outputs).replace(notes=tuple(self.problems.notes)).verify()

    def _placeholder(self, node: fx.Node, spec: Any) -> None:
        value = node.meta.get("val")
        if spec.kind is InputKind.USER_INPUT:
            if not isinstance(value, torch.Tensor):
                self.values[node] = value  # a number or None that was an argument when exporting
                return
            if value.dtype not in DTYPE_NAMES:
                self.lost.add(node)
                self.problems.add(f"Input {node.name!r} has the element type {value.dtype}, which is not supported; use float32.")
                return
            self.values[node] = self.builder.input(node.name, TensorType(tuple(value.shape), DTYPE_NAMES[value.dtype]))
            return
        tensor = self.program.state_dict.get(spec.target, self.program.constants.get(spec.target))
        if not isinstance(tensor, torch.Tensor) or tensor.dtype not in DTYPE_NAMES:
            found = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            self.lost.add(node)
            self.problems.add(f"The weight {spec.target!r} is of type {found}, which is not supported; use float32 tensors.")
            return
        array = tensor.detach().cpu().contiguous().numpy()
        check_finite(array, f"weight {spec.target!r}", self.problems)
        self.values[node] = self.builder.constant(np.array(array) if self.copy else array, spec.target)

    def _outputs(self, node: fx.Node) -> list[str]:
        outputs = []
        for result, spec in zip(node.args[0], self.program.graph_signature.output_specs, strict=True):  # type: ignore[arg-type]
            if spec.kind is OutputKind.USER_OUTPUT:
                if result in self.lost:
                    continue
                value = self.values.get(result) if isinstance(result, fx.Node) else result
                if not isinstance(value, str):
                    self.problems.add(
                        f"It returns {value!r} among its outputs, and only tensors are supported; return tensors alone."
                    )
                else:
                    outputs.append(value)
            elif spec.kind is OutputKind.BUFFER_MUTATION:
                self.problems.add(
                    f"It changes its buffer {spec.target!r} while it runs, which is not supported; return the new value instead."
                )
        return outputs

    def _call(self, node: fx.Node) -> None:
        if any(argument in self.lost for argument in node.all_input_nodes) and row_of(node.target) is not None:
            self.lost.add(node)
            return
        try:
            if node.target is operator.getitem:
                self.values[node] = self._item(node)
                return
            if is_assertion(node.target):
                return
            row = row_of(node.target)
            if row is None:
                self.unsupported.setdefault(str(node.target), []).append(node)
                self.lost.add(node)
                return
            self.values[node] = self._apply(row, node)
            self._store(node)
        except (GraphError, ModelError) as error:
            self.lost.add(node)
            self.problems.add(f"Operator {node.target} ({place(node)}) {str(error).rstrip('.')}.")

    def _store(self, node: fx.Node) -> None:
        """After an in-place operator, its operand is the result (see ``aliasing``)."""
        operand = mutated_operand(node)
        while operand is not None:
            self.values[operand] = self.values[node]
            operand = mutated_operand(operand)

    def _item(self, node: fx.Node) -> str:
        source, index = node.args
        assert isinstance(source, fx.Node) and isinstance(index, int)
        if source in self.lost:
            self.lost.add(node)
            return ""
        results = self.values[source]
        if index >= len(results) and not node.users:
            return ""
        if index >= len(results):
            raise ModelError(
                f"reads result {index} of {source.target}, such as indices, which is not supported; use its first result alone"
            )
        return results[index]

    def _apply(self, row: Any, node: fx.Node) -> Any:
        value = node.meta.get("val")
        first = value[0] if isinstance(value, (tuple, list)) else value
        if isinstance(first, torch.Tensor) and first.dtype not in DTYPE_NAMES:
            raise ModelError(f"makes values of type {first.dtype}, which is not supported; use float32")
        call = Call(self.builder, node_name(node), result_dtype(first))
        arguments = fx.node.map_arg(node.args, lambda argument: self.values[argument])
        named = {
            key: fx.node.map_arg(argument, lambda part: self.values[part])
            for key, argument in node.kwargs.items()
            if key not in PLACEMENT
        }
        try:
            inspect.signature(row).bind(call, *arguments, **named)
        except TypeError as error:
            raise ModelError(f"has arguments that are not supported ({error})") from error
        result = row(call, *arguments, **named)
        self._check(node, result, value)
        return result

    def _check(self, node: fx.Node, result: Any, value: Any) -> None:
        """Types inferred from the operator table must be those torch saw; anything else is a wrong row."""
        results = result if isinstance(result, tuple) else (result,)
        for name, expected in zip(results, value if isinstance(value, (tuple, list)) else (value,), strict=False):
            found = self.builder.types[name]
            if tuple(expected.shape) != found.shape or TORCH_DTYPES[found.dtype] != expected.dtype:
                raise AssertionError(
                    f"{node.target} gives {expected.dtype}{list(expected.shape)} in torch but {found} in the graph."
                )


# -- names ---------------------------------------------------------------------------------------------------------------------


def module_path(node: fx.Node) -> tuple[str, str]:
    """Path and type of the innermost module a node comes from; empty for the module itself."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", ""
    path, kind = list(stack.values())[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return re.sub(r"^L\['self'\]\.?|@\d+$", "", path), kind


def node_name(node: fx.Node) -> str:
    """The module's path for what one of torch's own layers computes; the path and the operator's name for code around them."""
    path, kind = module_path(node)
    name = re.sub(r"\W+.*|_$", "", str(node.target).removeprefix("aten.").lstrip("_"))
    if not path:
        return name
    return path if kind.startswith("torch.nn.modules.") and ".container." not in kind else f"{path}.{name}"


def place(node: fx.Node) -> str:
    """Where in the user's code a node comes from: module path and source line, as far as they are known."""
    path, _ = module_path(node)
    where = f"in module {path!r}" if path else "in the model itself"
    frames = re.findall(r'File "([^"]+)", line (\d+), in \w+\n\s*(.*)', node.meta.get("stack_trace") or "")
    if frames:
        own = [frame for frame in frames if not frame[0].startswith(str(Path(torch.__file__).parent))]
        file, line, code = (own or frames)[-1]
        where += f", {Path(file).name}:{line}: {code.strip()}"
    return where
