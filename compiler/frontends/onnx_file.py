"""Reading ONNX files: the model without its weights, and the weights as arrays.

Weights leave the model at once, so that what works on the model afterwards (inliner, version converter) handles kilobytes, and a
model whose weights pass protobuf's 2 GB with its external data is like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends.model_file import check_is_file
from tapdot.compiler.frontends.problems import Problems, listed, reason_of
from tapdot.compiler.frontends.weights import check_finite
from tapdot.compiler.types import DTYPES

KEPT_IN_MODEL = 64
"""Elements up to which an initializer also stays inside the model: the version converter looks at shapes, axes and scales."""


@dataclass(frozen=True)
class OnnxFile:
    """A model and its initializers; of the large ones ``model`` keeps the name and type alone."""

    name: str
    model: onnx.ModelProto
    weights: dict[str, np.ndarray]


def read_onnx(source: str | Path | onnx.ModelProto, problems: Problems) -> OnnxFile:
    """Reads a file or takes a model over (a copy of it); raises ModelError where there is no model to speak of."""
    if isinstance(source, onnx.ModelProto):
        model, folder = onnx.ModelProto(), Path()
        model.CopyFrom(source)
    else:
        model, folder = _parse(Path(source)), Path(source).parent
    weights = _take_weights(model, folder, problems)
    return OnnxFile(problems.model, model, weights)


def _parse(path: Path) -> onnx.ModelProto:
    check_is_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
    if not data:
        raise ModelError(f"Expected an ONNX model in {str(path)!r}, found an empty file; export or download it again.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"Expected an ONNX model in {str(path)!r}, found {len(data)} bytes that do not decode as one: the file is "
            "truncated or of another format; export or download it again."
        ) from error
    if not model.graph.node or not model.opset_import:
        missing = "nodes" if not model.graph.node else "an operator set version"
        raise ModelError(
            f"Expected an ONNX model in {str(path)!r}, found one without {missing}: the file is truncated or of another "
            "format; export or download it again."
        )
    return model


def _take_weights(model: onnx.ModelProto, folder: Path, problems: Problems) -> dict[str, np.ndarray]:
    """Takes the initializers out of the model, large ones leaving an input of the same name and type behind."""
    graph, weights = model.graph, {}
    for sparse in graph.sparse_initializer:
        problems.add(
            f"Initializer {sparse.values.name!r} is stored sparse, which is not read; store it dense (zeros in dense weights "
            "are found and used by the sparse recipes)."
        )
    declared, kept = {value.name for value in graph.input}, []
    for tensor in graph.initializer:
        name = tensor.name
        array = tensor_array(tensor, folder, f"initializer {name!r}", problems)
        if array is None:
            continue
        weights[name] = array
        if array.size <= KEPT_IN_MODEL:
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor = numpy_helper.from_array(array, name)
            kept.append(tensor)
        elif name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    # Serialized copies, because clearing the list destroys its elements.
    small = [tensor.SerializeToString() for tensor in kept]
    del graph.initializer[:]
    for data in small:
        graph.initializer.add().ParseFromString(data)
    return weights


def tensor_array(tensor: TensorProto, folder: Path, where: str, problems: Problems) -> np.ndarray | None:
    """The array of a tensor, or None with the reason added to ``problems``."""
    if dtype_name(tensor.data_type) is None:
        problems.add(f"The {where} has the element type {_onnx_type(tensor.data_type)}, which is not supported; use float32.")
        return None
    external = tensor.data_location == TensorProto.EXTERNAL
    try:
        if external:
            # Checks that the file lies inside the model's folder, then reads just this tensor's part of it.
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        array = numpy_helper.to_array(tensor)
    except (OSError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "?")
        source = f"from the external data file {location!r} beside the model" if external else "from the model"
        problems.add(f"The {where} of shape {list(tensor.dims)} cannot be read {source}: {reason_of(error)}.")
        return None
    finally:
        if external:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
    check_finite(array, where, problems)
    return np.array(array)


def dtype_name(element_type: int) -> str | None:
    """The name of an ONNX element type in the graph's types, or None where it has none."""
    try:
        name = onnx.helper.tensor_dtype_to_np_dtype(element_type).name
    except (KeyError, ValueError):
        return None
    return name if name in DTYPES and element_type in _PLAIN else None


# bfloat16, the 8-bit floats and 4-bit integers also map to numpy types, of other packages.
_PLAIN = {
    getattr(TensorProto, name)
    for name in ["FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL"]
}


def _onnx_type(element_type: int) -> str:
    return TensorProto.DataType.Name(element_type) if element_type in TensorProto.DataType.values() else f"number {element_type}"


def input_dtype(value: onnx.ValueInfoProto, problems: Problems) -> str | None:
    """The element type of a graph input, or None with the reason added to ``problems``."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        problems.add(
            f"Input {value.name!r} is a {(kind or 'value without type').removesuffix('_type')}; only tensors are supported."
        )
        return None
    name = dtype_name(value.type.tensor_type.elem_type)
    if name is None:
        found = _onnx_type(value.type.tensor_type.elem_type)
        problems.add(f"Input {value.name!r} has the element type {found}, which is not supported; use {listed(['float32'])}.")
    return name
