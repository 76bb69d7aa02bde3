"""One-node models for the operator table, by theme: what an operator is given, nothing about what it answers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """Operands (None: omitted) and attributes of one node."""

    op: str
    operands: Sequence[np.ndarray | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    results: int = 1
    tolerance: float = 1e-5
    label: str = ""
    judge: str = "onnx"
    """``onnxruntime`` where ONNX's reference evaluator fails or departs from the standard."""

    def __str__(self) -> str:
        shapes = "_".join("none" if x is None else "x".join(map(str, x.shape)) or "scalar" for x in self.operands)
        settings = "_".join(f"{name}={value}" for name, value in self.attributes.items())
        return "-".join(filter(None, (self.op, self.label, shapes, settings.replace(" ", ""))))


def normal(*shape: int, seed: str = "") -> np.ndarray:
    """Standard normal float32 numbers; equal shapes and seeds give equal numbers."""
    return np.random.default_rng(zlib.crc32(f"{shape}{seed}".encode())).normal(size=shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(normal(*shape, seed="positive")) + np.float32(0.1)


def whole(*shape: int, low: int = -5, high: int = 6, dtype: str = "int64") -> np.ndarray:
    """Random integers in ``[low, high)``."""
    rng = np.random.default_rng(zlib.crc32(repr(shape).encode()))
    return rng.integers(low, high, shape).astype(dtype)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float, dtype: str = "float32") -> np.ndarray:
    return np.array(value, dtype)


ORT = "onnxruntime"
X = normal(2, 3, 4)
Y = normal(3, 1, seed="y")
UNIT = np.clip(X, -0.95, 0.95)

ARITHMETIC = [
    *(Case(op, (X, Y)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")),
    *(Case(op, (X, Y, normal(4))) for op in ("Max", "Min", "Sum", "Mean")),
    *(Case(op, (whole(3, 4), whole(4, low=1)), label="int64") for op in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min")),
    *(
        Case(op, (whole(3, 4, low=1, dtype=kind), whole(4, low=1, dtype=kind)), label=kind)
        for op in ("Add", "Mul", "Div", "Mod", "Max", "Less")
        for kind in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32")
    ),
    Case("Div", (whole(3, 4, low=-9, high=-1), whole(4, low=2, high=5)), label="towards_zero"),
    Case("Mod", (whole(3, 4), ints(3, -3, 2, -2))),
    Case("Mod", (whole(3, 4), ints(3, -3, 2, -2)), {"fmod": 1}),
    Case("Mod", (X, positive(4)), {"fmod": 1}),
    Case("Pow", (positive(2, 3), normal(3))),
    Case("Pow", (X, ints(2))),
    Case("Pow", (whole(3, 4, low=1), number(2.5))),
    Case("Clip", (X, number(-0.5), number(0.5))),
    Case("Clip", (X, None, number(0.5))),
    Case("Clip", (X, number(-0.5))),
    Case("Clip", (X,)),
    Case("Clip", (whole(3, 4), number(-1, "int64"), number(2, "int64"))),
    Case("Where", (X > 0, X, Y)),
    *(Case(op, (X.round(), Y.round())) for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")),
    *(Case(op, (X > 0, Y > 0)) for op in ("And", "Or", "Xor", "Equal")),
    *(Case(op, (whole(3, 4, dtype="int32"), whole(4, dtype="int32"))) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    Case("BitShift", (whole(3, 4, low=0, dtype="uint8"), whole(4, low=0, high=3, dtype="uint8")), {"direction": "LEFT"}),
    Case("BitShift", (whole(3, 4, low=0, dtype="uint32"), whole(4, low=0, high=3, dtype="uint32")), {"direction": "RIGHT"}),
]

_ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -1.5, 2.5, 0.5], np.float32)

UNARY = [
    *(
        Case(op, (X,))
        for op in (
            *("Neg", "Abs", "Sign", "Reciprocal", "Exp", "Erf", "Floor", "Ceil", "Round", "Identity"),
            *("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Tanh", "Asinh"),
            *("Relu", "LeakyRelu", "ThresholdedRelu", "Shrink", "Elu", "Selu", "Celu"),
            *("Sigmoid", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Mish"),
        )
    ),
    *(Case(op, (positive(2, 3, 4),)) for op in ("Sqrt", "Log")),
    *(Case(op, (UNIT,)) for op in ("Asin", "Acos", "Atanh")),
    *(Case(op, (whole(3, 4),), label="int64") for op in ("Neg", "Abs", "Sign")),
    Case("Acosh", (positive(2, 3) + 1,)),
    Case("Round", (_ODD[3:],), label="halves"),
    Case("Not", (X > 0,)),
    Case("BitwiseNot", (whole(3, 4, dtype="int32"),)),
    Case("IsNaN", (_ODD,)),
    Case("IsInf", (_ODD,)),
    Case("IsInf", (_ODD,), {"detect_negative": 0}),
    Case("IsInf", (_ODD,), {"detect_positive": 0}),
    Case("LeakyRelu", (X,), {"alpha": 0.3}),
    Case("ThresholdedRelu", (X,), {"alpha": 0.3}),
    Case("Shrink", (X,), {"bias": 0.2, "lambd": 0.7}),
    Case("Elu", (X,), {"alpha": 2.0}),
    Case("Selu", (X,), {"alpha": 2.0, "gamma": 3.0}),
    Case("Celu", (X,), {"alpha": 2.0}),
    Case("HardSigmoid", (X,), {"alpha": 0.5, "beta": 0.25}),
    Case("PRelu", (X, Y)),
    Case("Softplus", (X * 100,), label="large"),
]

IMAGE = normal(2, 4, 9, 8)

CONVOLUTIONS = [
    Case("Conv", (IMAGE, normal(6, 4, 3, 3), normal(6)), {"pads": (1, 1, 1, 1)}),
    Case("Conv", (IMAGE, normal(6, 4, 3, 3)), {"strides": (2, 2), "pads": (0, 1, 2, 0)}),
    Case("Conv", (IMAGE, normal(6, 2, 3, 2)), {"group": 2, "dilations": (2, 1)}),
    Case("Conv", (IMAGE, normal(4, 1, 3, 3)), {"group": 4, "pads": (1, 1, 1, 1), "kernel_shape": (3, 3)}),
    *(
        Case("Conv", (IMAGE, normal(5, 4, 3, 2)), {"auto_pad": kind, "strides": (2, 3)})
        for kind in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    Case("Conv", (normal(2, 3, 11), normal(4, 3, 3), normal(4)), {"pads": (1, 2), "strides": (2,)}),
    Case("Conv", (normal(1, 2, 5, 6, 4), normal(3, 2, 2, 3, 2)), {"pads": (0, 1, 1, 1, 0, 0), "strides": (1, 2, 1)}),
    Case("ConvTranspose", (normal(1, 2, 4, 5), normal(2, 3, 3, 3), normal(3))),
    Case("ConvTranspose", (normal(1, 2, 4, 5), normal(2, 3, 3, 3)), {"strides": (3, 2), "pads": (1, 2, 0, 1)}),
    Case("ConvTranspose", (normal(1, 2, 4, 5), normal(2, 3, 3, 3)), {"strides": (3, 2), "output_padding": (1, 1)}),
    Case("ConvTranspose", (normal(1, 2, 4, 5), normal(2, 3, 3, 3)), {"strides": (3, 2), "output_shape": (10, 8)}, judge=ORT),
    Case("ConvTranspose", (normal(1, 2, 4, 5), normal(2, 3, 3, 3)), {"strides": (2, 2), "auto_pad": "SAME_UPPER"}),
    Case("ConvTranspose", (normal(1, 2, 4, 5), normal(2, 3, 2, 2)), {"dilations": (2, 2)}),
    Case("ConvTranspose", (normal(2, 2, 5), normal(2, 3, 3)), {"strides": (2,)}),
    Case("ConvTranspose", (normal(1, 1, 3, 3, 2), normal(1, 2, 2, 2, 2)), {"strides": (2, 1, 2)}),
]

POOLS = [
    *(
        Case(op, (IMAGE,), {"kernel_shape": (3, 2), **settings}, judge=ORT)
        for op in ("MaxPool", "AveragePool", "LpPool")
        for settings in (
            {},
            {"strides": (2, 2)},
            {"strides": (2, 3), "pads": (1, 1, 1, 0)},
            {"strides": (2, 3), "ceil_mode": 1},
            {"strides": (2, 2), "auto_pad": "SAME_UPPER"},
            {"strides": (2, 2), "auto_pad": "SAME_LOWER"},
            {"strides": (2, 2), "auto_pad": "VALID"},
        )
    ),
    Case("MaxPool", (IMAGE,), {"kernel_shape": (3, 2), "strides": (2, 3), "pads": (1, 0, 1, 1), "ceil_mode": 1}),
    Case("MaxPool", (IMAGE,), {"kernel_shape": (3, 2), "dilations": (2, 3)}),
    Case("MaxPool", (whole(1, 2, 6, 6, dtype="int8"),), {"kernel_shape": (2, 2), "pads": (1, 1, 1, 1)}, label="int8", judge=ORT),
    Case("AveragePool", (IMAGE,), {"kernel_shape": (3, 2), "pads": (1, 1, 1, 1), "count_include_pad": 1}),
    Case("AveragePool", (IMAGE,), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (2, 2), "ceil_mode": 1}),
    *(
        Case(op, (normal(2, 3, 9),), {"kernel_shape": (3,), "strides": (2,), "pads": (1, 0)})
        for op in ("MaxPool", "AveragePool", "LpPool")
    ),
    *(
        Case(op, (normal(1, 2, 5, 6, 4),), {"kernel_shape": (2, 3, 2), "pads": (1, 1, 0, 1, 0, 1)}, judge=ORT)
        for op in ("MaxPool", "AveragePool", "LpPool")
    ),
    Case("LpPool", (IMAGE,), {"kernel_shape": (2, 2), "p": 3, "dilations": (2, 2)}, tolerance=1e-4),
    *(
        Case(op, (x,), judge=ORT)
        for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
        for x in (IMAGE, normal(2, 3, 5), normal(1, 2, 2, 3, 4))
    ),
]

CHANNELS = (positive(4), normal(4), normal(4, seed="mean"), positive(4) * 2)

NORMALIZATIONS = [
    Case("BatchNormalization", (IMAGE, *CHANNELS)),
    Case("BatchNormalization", (IMAGE[:, :, 0, 0], *CHANNELS), {"epsilon": 0.01}),
    Case("InstanceNormalization", (IMAGE, *CHANNELS[:2])),
    Case("LayerNormalization", (IMAGE, normal(8), normal(8, seed="b")), results=3),
    Case("LayerNormalization", (IMAGE, normal(4, 9, 8)), {"axis": 1, "epsilon": 0.1}, results=3),
    Case("GroupNormalization", (IMAGE, normal(2), normal(2, seed="b")), {"num_groups": 2}),
    Case("LRN", (IMAGE,), {"size": 3}, judge=ORT),
    Case("LRN", (normal(1, 9, 3, 2),), {"size": 5, "alpha": 0.3, "beta": 0.6, "bias": 2.0}, judge=ORT),
    Case("LRN", (normal(3, 3, 3, 2),), {"size": 4, "alpha": 0.3}, label="torch_pads_the_other_side"),
    *(Case(op, (X,), {"axis": axis}) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, 1, -1)),
    Case("Softmax", (X * 200,), label="large"),
    Case("LpNormalization", (X,), {"p": 1, "axis": 1}, judge=ORT),
    Case("LpNormalization", (X * (np.arange(3) > 0)[:, None],), {"p": 2}),
    Case("MeanVarianceNormalization", (IMAGE,)),
    Case("Dropout", (X,)),
    Case("Dropout", (X, number(0.3)), results=2),
]

MOVEMENTS = [
    Case("Reshape", (X, ints(0, -1))),
    Case("Reshape", (X, ints(4, 3, 2))),
    Case("Reshape", (normal(0, 3), ints(3, 0)), {"allowzero": 1}),
    *(Case("Flatten", (IMAGE,), {"axis": axis}) for axis in (0, 1, 2, 4, -1)),
    Case("Squeeze", (normal(1, 3, 1, 2),)),
    Case("Squeeze", (normal(1, 3, 1, 2), ints(-2))),
    Case("Unsqueeze", (X, ints(0, -1))),
    Case("Unsqueeze", (X, ints(3, 1))),
    Case("Transpose", (X,)),
    Case("Transpose", (X,), {"perm": (1, 2, 0)}),
    Case("Expand", (Y, ints(2, 1, 4))),
    Case("Expand", (X, ints(1))),
    Case("Tile", (X, ints(2, 1, 3))),
    Case("Concat", (X, normal(2, 5, 4), normal(2, 1, 4)), {"axis": 1}),
    Case("Concat", (X, X), {"axis": -1}),
    Case("Split", (X,), {"axis": 2, "num_outputs": 2}, results=2),
    Case("Split", (normal(7, 2),), {"num_outputs": 3}, results=3),
    Case("Split", (normal(2, 7), ints(1, 0, 6)), {"axis": -1}, results=3),
    Case("Slice", (normal(6, 7), ints(1, 2), ints(5, 100))),
    Case("Slice", (normal(6, 7), ints(-4), ints(-1), ints(-1))),
    Case("Slice", (normal(6, 7), ints(1, 0), ints(6, 7), ints(0, 1), ints(2, 3))),
    Case("Slice", (normal(6, 7), ints(5, 100), ints(0, -100), ints(0, 1), ints(-2, -1))),
    Case("Slice", (normal(6, 7), ints(4), ints(2), ints(0))),
    *(Case("Pad", (X, ints(0, 1, 2, 1, 0, 3)), {"mode": mode}) for mode in ("constant", "reflect", "edge") if mode != "reflect"),
    Case("Pad", (normal(4, 5), ints(2, 3, 1, 4)), {"mode": "reflect"}),
    Case("Pad", (X, ints(0, 1, 2, 1, 0, 3), number(1.5))),
    Case("Pad", (X, ints(1, 2), number(1.5), ints(-1))),
    Case("DepthToSpace", (normal(2, 8, 2, 3),), {"blocksize": 2}),
    Case("DepthToSpace", (normal(2, 8, 2, 3),), {"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", (normal(2, 3, 4, 6),), {"blocksize": 2}),
]

INDEXING = [
    Case("Gather", (X, whole(2, 2, low=-3, high=3)), {"axis": 1}),
    Case("Gather", (X, number(1, "int64"))),
    Case("Gather", (X, whole(5, low=0, high=4, dtype="int32")), {"axis": -1}),
    Case("GatherElements", (X, whole(2, 2, 4, low=-3, high=3)), {"axis": 1}),
    Case("GatherND", (X, np.array([[0, 1], [1, 2]]))),
    Case("GatherND", (X, np.array([[[2, 3]], [[0, -1]]])), {"batch_dims": 1}),
    Case("GatherND", (X, np.array([[0, 1, 3], [1, 2, 0]]))),
    Case("ScatterElements", (X, whole(2, 1, 4, low=0, high=3), normal(2, 1, 4)), {"axis": 1}),
    Case("ScatterElements", (X, whole(2, 2, 4, low=0, high=3), normal(2, 2, 4)), {"axis": 1, "reduction": "add"}),
    Case("ScatterND", (X, np.array([[0, 1], [1, 2]]), normal(2, 4))),
    *(
        Case("ScatterND", (X, np.array([[0], [0]]), normal(2, 3, 4)), {"reduction": kind})
        for kind in ("add", "mul", "max", "min")
    ),
    Case("OneHot", (ints(0, 2, -1, 7), number(3, "int64"), np.array([-1.0, 2.0], np.float32))),
    Case("OneHot", (whole(2, 3, low=0, high=4), number(4, "int64"), np.array([0, 1])), {"axis": 1}),
    Case("TopK", (X, ints(2)), results=2),
    Case("TopK", (X.round(), ints(3)), {"axis": 1, "largest": 0}, results=2),
    Case("Trilu", (X,)),
    Case("Trilu", (X, number(1, "int64")), {"upper": 0}),
]

_REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")

REDUCTIONS = [
    *(
        Case(f"Reduce{kind}", (X, *axes), settings)
        for kind in _REDUCTIONS
        for axes, settings in (((), {}), ((ints(1),), {"keepdims": 0}), ((ints(0, -1),), {}))
    ),
    *(Case(f"Reduce{kind}", (whole(3, 4), ints(0)), label="int64") for kind in ("Sum", "Max", "Min", "Prod", "L1", "SumSquare")),
    Case("ReduceLogSum", (positive(2, 3, 4), ints(1))),
    Case("ReduceSum", (X,), {"noop_with_empty_axes": 1}),
    *(
        Case(op, (X.round(),), {"axis": 1, **settings})
        for op in ("ArgMax", "ArgMin")
        for settings in ({}, {"keepdims": 0}, {"select_last_index": 1})
    ),
    *(
        Case("CumSum", (X, number(1, "int64")), {"exclusive": exclusive, "reverse": reverse})
        for exclusive in (0, 1)
        for reverse in (0, 1)
    ),
]

SHAPES = [
    Case("Shape", (X,)),
    Case("Shape", (X,), {"start": 1, "end": -1}),
    Case("Size", (X,)),
    Case("Range", (number(1, "int64"), number(9, "int64"), number(3, "int64"))),
    Case("Range", (number(2.0), number(-1.0), number(-0.5))),
    *(Case("Cast", (X * 3,), {"to": to}) for to in (1, 6, 7, 9, 10, 11)),
    Case("Cast", (whole(3, 4),), {"to": 1}),
    Case("CastLike", (whole(3, 4), X)),
]

LINEAR = [
    Case("MatMul", (normal(3, 4), normal(4, 5))),
    Case("MatMul", (normal(2, 3, 4), normal(4, 5))),
    Case("MatMul", (normal(2, 1, 3, 4), normal(3, 4, 5))),
    Case("MatMul", (normal(4), normal(4, 5))),
    Case("MatMul", (normal(3, 4), normal(4))),
    Case("Gemm", (normal(3, 4), normal(4, 5), normal(5))),
    Case("Gemm", (normal(4, 3), normal(5, 4), normal(3, 1)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (normal(3, 4), normal(4, 5))),
    Case("Einsum", (normal(2, 3, 4), normal(2, 4, 5)), {"equation": "bij,bjk->bik"}),
]

_TO_SIZES = (None, None, ints(1, 2, 7, 3))
_SMALL, _HALF, _LARGER = (np.array([1, 1, *factors], np.float32) for factors in ((0.6, 0.6), (0.5, 0.5), (2.0, 1.7)))
_PLANE = normal(1, 2, 5, 6)

RESIZES = [
    *(
        Case("Resize", (_PLANE, None, scales), {"mode": mode, "coordinate_transformation_mode": places})
        for mode in ("nearest", "linear", "cubic")
        for places in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
        for scales in (_SMALL, _LARGER)
    ),
    *(Case("Resize", (_PLANE, *_TO_SIZES), {"mode": mode}) for mode in ("nearest", "linear", "cubic")),
    *(
        Case("Resize", (_PLANE, None, _LARGER), {"nearest_mode": mode, "coordinate_transformation_mode": "asymmetric"})
        for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    *(Case("Resize", (_PLANE, None, _HALF), {"mode": mode, "antialias": 1}) for mode in ("linear", "cubic")),
    *(Case("Resize", (_PLANE, None, scales), {"mode": "cubic", "exclude_outside": 1}) for scales in (_SMALL, _LARGER)),
    Case("Resize", (_PLANE, None, _LARGER), {"mode": "cubic", "cubic_coeff_a": -0.5}),
    Case("Resize", (_PLANE, None, None, ints(7, 8)), {"axes": (2, 3), "mode": "linear"}),
    *(
        Case("Resize", (_PLANE, None, None, ints(7, 8)), {"axes": (2, 3), "keep_aspect_ratio_policy": policy})
        for policy in ("not_larger", "not_smaller")
    ),
    Case(
        "Resize",
        (_PLANE, np.array([0, 0, 0.3, -0.2, 1, 1, 0.8, 1.3], np.float32), None, ints(1, 2, 4, 5)),
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0},
    ),
    Case("Resize", (whole(1, 1, 3, 4, dtype="uint8", low=0), None, np.array([1, 1, 2, 2], np.float32)), label="uint8"),
]

_PLANE_SCALES, _PLANE_ZEROS = np.array([0.1, 0.25, 0.02], np.float32), np.array([3, -7, 0], np.int8)
_CODES = whole(2, 3, 4, low=-128, high=128, dtype="int8")
QUANTIZATION = [
    Case("QuantizeLinear", (X * 3, number(0.25))),
    Case("QuantizeLinear", (X * 3, number(0.25), number(100, "uint8"))),
    Case("QuantizeLinear", (X * 300, number(0.25), number(-3, "int8")), label="saturates"),
    Case("QuantizeLinear", (np.arange(-6, 6, dtype=np.float32) / 4, number(0.5), number(1, "int8")), label="ties"),
    Case("QuantizeLinear", (X, _PLANE_SCALES, _PLANE_ZEROS)),
    Case("QuantizeLinear", (X.transpose(0, 2, 1).copy(), _PLANE_SCALES, _PLANE_ZEROS), {"axis": -1}),
    Case("DequantizeLinear", (_CODES, number(0.25)), judge=ORT),
    Case("DequantizeLinear", (_CODES, number(0.25), number(-9, "int8")), judge=ORT),
    Case("DequantizeLinear", (_CODES, _PLANE_SCALES, _PLANE_ZEROS), judge=ORT),
    Case("DequantizeLinear", (whole(3, 4, low=-100000, high=100000, dtype="int32"), _PLANE_SCALES), {"axis": 0}, judge=ORT),
]

ALL = [
    *(*ARITHMETIC, *UNARY, *CONVOLUTIONS, *POOLS, *NORMALIZATIONS, *MOVEMENTS),
    *(*INDEXING, *REDUCTIONS, *SHAPES, *LINEAR, *RESIZES, *QUANTIZATION),
]
