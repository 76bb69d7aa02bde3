"""Which of ONNX's own operator tests are not run, and why: one sentence for each, found by rule or given by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import TensorProto
from onnx.backend.test.case.test_case import TestCase

from tapdot.compiler.frontends.onnx_file import dtype_name
from tapdot.compiler.frontends.onnx_opset import DEFAULT_DOMAINS, OLDEST, default_version
from tapdot.compiler.operators import registered

TRAINING = "asks for training mode; graphs are for inference"
NEWER = "uses an attribute or a meaning that came after the table's opset"
CONTROL = "decides at run time what is computed"
INDICES = "reads the indices of a max pool, which are not made"
WIDE = "torch does not compute with this integer type"
HALF = "rounds float16 in another order than the reference"

BY_NAME = {
    "test_batchnorm_example_training_mode": TRAINING,
    "test_batchnorm_epsilon_training_mode": TRAINING,
    "test_training_dropout": TRAINING,
    "test_training_dropout_mask": TRAINING,
    "test_training_dropout_default": TRAINING,
    "test_training_dropout_default_mask": TRAINING,
    "test_training_dropout_zero_ratio": TRAINING,
    "test_training_dropout_zero_ratio_mask": TRAINING,
    "test_averagepool_2d_dilations": NEWER,
    "test_averagepool_3d_dilations_small": NEWER,
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True": NEWER,
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False": NEWER,
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True": NEWER,
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False": NEWER,
    "test_spacetodepth_crd_mode_example": NEWER,
    "test_mod_float16_mixed_sign_fmod_0": NEWER,
    "test_mod_float32_mixed_sign_fmod_0": NEWER,
    "test_mod_float64_mixed_sign_fmod_0": NEWER,
    "test_mod_float_edge_cases_fmod_0_float16": NEWER,
    "test_mod_float_edge_cases_fmod_0_float32": NEWER,
    "test_mod_float_edge_cases_fmod_0_float64": NEWER,
    "test_if": CONTROL,
    "test_if_seq": CONTROL,
    "test_if_opt": CONTROL,
    "test_maxpool_with_argmax_2d_precomputed_pads": INDICES,
    "test_maxpool_with_argmax_2d_precomputed_strides": INDICES,
    "test_bitwise_not_3d": WIDE,
    "test_attention_4d_causal_fp16_expanded": HALF,
    "test_dequantizelinear_blocked": NEWER,
    "test_quantizelinear_blocked_asymmetric": NEWER,
    "test_quantizelinear_blocked_symmetric": NEWER,
}

DIAGONAL = "no kernel takes a diagonal (an index twice in one operand of Einsum)"
EMPTY = "no kernel splits off a part without elements"
DOUBLE = "no kernel takes the remainder of float64"
SCALE = "an activation is quantized by a scale that is known at run time only, or by channel"

NOT_COMPILED = {
    "test_einsum_batch_diagonal": DIAGONAL,
    "test_rotary_embedding_expanded": EMPTY,
    "test_rotary_embedding_interleaved_expanded": EMPTY,
    "test_rotary_embedding_no_position_ids_expanded": EMPTY,
    "test_rotary_embedding_no_position_ids_interleaved_expanded": EMPTY,
    "test_rotary_embedding_3d_input_expanded": EMPTY,
    "test_mod_mixed_sign_float64": DOUBLE,
    "test_dequantizelinear": SCALE,
    "test_dequantizelinear_axis": SCALE,
    "test_dequantizelinear_int16": SCALE,
    "test_dequantizelinear_uint16": SCALE,
    "test_quantizelinear": SCALE,
    "test_quantizelinear_axis": SCALE,
    "test_quantizelinear_int16": SCALE,
    "test_quantizelinear_uint16": SCALE,
    "test_dynamicquantizelinear_expanded": SCALE,
    "test_dynamicquantizelinear_max_adjusted_expanded": SCALE,
    "test_dynamicquantizelinear_min_adjusted_expanded": SCALE,
}
"""Cases that the interpreter passes and that are refused when compiled, in words with the node's name."""


def excluded(cases: Iterable[TestCase]) -> dict[str, str]:
    """Name and reason of every case that is not run."""
    return {case.name: reason for case in cases if (reason := reason_against(case))}


def reason_against(case: TestCase) -> str:
    """Why a case is not run, or an empty string."""
    if case.name in BY_NAME:
        return BY_NAME[case.name]
    model = case.model
    assert model is not None
    nodes = list(_nodes(model.graph))
    for node in nodes:
        if node.domain not in DEFAULT_DOMAINS:
            return f"uses an operator of domain {node.domain}"
    local = {(function.domain, function.name) for function in model.functions}
    for node in nodes:
        known = node.op_type in registered() or node.op_type in ("Constant", "If") or (node.domain, node.op_type) in local
        if not known:
            return f"uses {node.op_type}, which is not in the operator table"
    for value in [*model.graph.input, *model.graph.output]:
        if not value.type.HasField("tensor_type"):
            return "has sequences or optional values"
        if dtype_name(value.type.tensor_type.elem_type) is None:
            return f"has the element type {TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()}"
    if any(
        size.HasField("dim_value") and size.dim_value == 0
        for value in model.graph.input
        for size in value.type.tensor_type.shape.dim
    ):
        return "has tensors without elements"
    if default_version(model) < OLDEST:
        return "is written for an opset that is not read"
    for node in nodes:
        if node.op_type == "Cast" and dtype_name(next(entry.i for entry in node.attribute if entry.name == "to")) is None:
            return "casts to an element type that graphs do not hold"
    return ""


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for entry in node.attribute:
            if entry.HasField("g"):
                yield from _nodes(entry.g)
