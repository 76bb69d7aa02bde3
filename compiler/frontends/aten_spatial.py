"""Rows for convolutions, pools, normalizations and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapdot.compiler.frontends.aten_table import Call, aten

Ints = int | Sequence[int]


def spread(value: Ints, axes: int) -> tuple[int, ...]:
    """One number an axis from torch's "one number, or one for each"."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _batched(call: Call, x: str, spatial: int, compute: Any) -> str:
    """Applies ``compute`` to a batch: where torch was given one image without batch axis, the axis is added and taken away
    again.
    """
    if call.rank(x) == spatial + 2:
        return compute(x)
    axis = call.ints([0], "axes")
    inner = Call(call.builder, f"{call.name}.unbatched", call.dtype)
    batch = call.emit("Unsqueeze", x, axis, part="batch")
    call_name, call.name = call.name, inner.name
    result = compute(batch)
    call.name = call_name
    return call.emit("Squeeze", result, axis)


# -- convolutions ---------------------------------------------------------------------------------------------------------------


def _conv(call: Call, x: str, w: str, b: str | None, stride: Ints, padding: Ints | str, dilation: Ints, groups: int) -> str:
    spatial = call.rank(w) - 2
    attributes: dict[str, Any] = {
        "kernel_shape": call.shape(w)[2:],
        "strides": spread(stride, spatial),
        "dilations": spread(dilation, spatial),
        "group": groups,
    }
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(attributes["dilations"], attributes["kernel_shape"], strict=True)]
        attributes["pads"] = tuple(total // 2 for total in totals) + tuple(total - total // 2 for total in totals)
    else:
        attributes["pads"] = spread(0 if isinstance(padding, str) else padding, spatial) * 2
    return _batched(call, x, spatial, lambda x: call.emit("Conv", x, w, b or "", **attributes))


@aten("conv1d", "conv2d", "conv3d")
def conv(
    call: Call,
    x: str,
    weight: str,
    bias: str | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> str:
    return _conv(call, x, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    call: Call, x: str, w: str, b: str | None, stride: Ints, padding: Ints, output_padding: Ints, groups: int, dilation: Ints
) -> str:
    spatial = call.rank(w) - 2
    return _batched(
        call,
        x,
        spatial,
        lambda x: call.emit(
            "ConvTranspose",
            x,
            w,
            b or "",
            kernel_shape=call.shape(w)[2:],
            strides=spread(stride, spatial),
            pads=spread(padding, spatial) * 2,
            output_padding=spread(output_padding, spatial),
            dilations=spread(dilation, spatial),
            group=groups,
        ),
    )


@aten("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(
    call: Call,
    x: str,
    weight: str,
    bias: str | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> str:
    return _conv_transpose(call, x, weight, bias, stride, padding, output_padding, groups, dilation)


@aten("convolution")
def convolution(
    call: Call,
    x: str,
    weight: str,
    bias: str | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
) -> str:
    if transposed:
        return _conv_transpose(call, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(call, x, weight, bias, stride, padding, dilation, groups)


# -- pools ----------------------------------------------------------------------------------------------------------------------


def _pool_attributes(kernel: Ints, stride: Ints | None, padding: Ints, ceil_mode: bool, spatial: int) -> dict[str, Any]:
    return {
        "kernel_shape": spread(kernel, spatial),
        "strides": spread(stride or kernel, spatial),
        "pads": spread(padding, spatial) * 2,
        "ceil_mode": int(ceil_mode),
    }


def _max_pool(spatial: int) -> Any:
    def row(
        call: Call,
        x: str,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
    ) -> str:
        attributes = _pool_attributes(kernel_size, stride, padding, ceil_mode, spatial)
        return _batched(call, x, spatial, lambda x: call.emit("MaxPool", x, dilations=spread(dilation, spatial), **attributes))

    return row


def _average_pool(spatial: int) -> Any:
    def row(
        call: Call,
        x: str,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> str:
        if divisor_override is not None:
            raise call.refusal("has a divisor_override, which is not supported; scale the result instead")
        attributes = _pool_attributes(kernel_size, stride, padding, ceil_mode, spatial)
        return _batched(
            call, x, spatial, lambda x: call.emit("AveragePool", x, count_include_pad=int(count_include_pad), **attributes)
        )

    return row


for _spatial in (1, 2, 3):
    aten(f"max_pool{_spatial}d")(_max_pool(_spatial))
    aten(f"avg_pool{_spatial}d")(_average_pool(_spatial))


@aten("max_pool2d_with_indices", "max_pool3d_with_indices")
def max_pool_with_indices(call: Call, x: str, kernel_size: Sequence[int], *rest: Any, **named: Any) -> tuple[str]:
    """The indices are not made: reading them is refused."""
    return (_max_pool(len(kernel_size))(call, x, kernel_size, *rest, **named),)


def _adaptive_pool(window_op: str, global_op: str, spatial: int) -> Any:
    def row(call: Call, x: str, output_size: Sequence[int | None]) -> str:
        sizes = call.shape(x)[-spatial:]
        wanted = [size if out is None else out for size, out in zip(sizes, spread_optional(output_size, spatial), strict=True)]
        if any(size % out for size, out in zip(sizes, wanted, strict=True)):
            raise call.refusal(
                f"makes {wanted} positions of {list(sizes)}, whose windows differ in size; choose sizes that divide the input's"
            )
        window = tuple(size // out for size, out in zip(sizes, wanted, strict=True))
        if all(out == 1 for out in wanted):
            return _batched(call, x, spatial, lambda x: call.emit(global_op, x))
        if all(size == 1 for size in window):
            return x
        return _batched(call, x, spatial, lambda x: call.emit(window_op, x, kernel_shape=window, strides=window))

    return row


def spread_optional(value: Any, axes: int) -> tuple[int | None, ...]:
    """As :func:`spread`, for lists in which None means the input's size."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * axes if len(values) == 1 else values


for _spatial in (1, 2, 3):
    aten(f"adaptive_avg_pool{_spatial}d", f"_adaptive_avg_pool{_spatial}d")(
        _adaptive_pool("AveragePool", "GlobalAveragePool", _spatial)
    )
    _row = _adaptive_pool("MaxPool", "GlobalMaxPool", _spatial)
    # With the indices as second result, which is not made.
    aten(f"adaptive_max_pool{_spatial}d")(lambda call, x, output_size, row=_row: (row(call, x, output_size),))


# -- normalizations -------------------------------------------------------------------------------------------------------------


def _statistics(call: Call, x: str, weight: str | None, bias: str | None) -> tuple[str, str]:
    """Scale and shift of every channel, ones and zeros where torch has none."""
    channels = call.shape(x)[1]
    return (
        weight or call.constant([1.0] * channels, part="weight"),
        bias or call.constant([0.0] * channels, part="bias"),
    )


@aten("batch_norm")
def batch_norm(
    call: Call,
    x: str,
    weight: str | None,
    bias: str | None,
    running_mean: str | None,
    running_var: str | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> str:
    if training or running_mean is None or running_var is None:
        raise call.refusal("normalizes by the statistics of the batch; call module.eval() and track running statistics")
    scale, shift = _statistics(call, x, weight, bias)
    return call.emit(
        "BatchNormalization", x, scale, shift, running_mean, running_var, epsilon=eps, momentum=1.0 - (momentum or 0.0)
    )


@aten("_native_batch_norm_legit_no_training")
def batch_norm_no_training(
    call: Call, x: str, weight: str | None, bias: str | None, mean: str, var: str, momentum: float, eps: float
) -> tuple[str]:
    return (batch_norm(call, x, weight, bias, mean, var, False, momentum, eps),)


@aten("layer_norm")
def layer_norm(
    call: Call,
    x: str,
    normalized_shape: Sequence[int],
    weight: str | None = None,
    bias: str | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> str:
    shape = tuple(normalized_shape)
    if weight is None:
        weight = call.builder.constant(_ones(call, shape), f"{call.name}.weight")
    return call.emit("LayerNormalization", x, weight, bias or "", axis=call.rank(x) - len(shape), epsilon=eps)


@aten("native_layer_norm")
def native_layer_norm(
    call: Call, x: str, normalized_shape: Sequence[int], weight: str | None, bias: str | None, eps: float
) -> tuple[str]:
    return (layer_norm(call, x, normalized_shape, weight, bias, eps),)


def _ones(call: Call, shape: tuple[int, ...]) -> Any:
    import numpy as np

    return np.ones(shape, call.dtype)


@aten("group_norm")
def group_norm(
    call: Call,
    x: str,
    num_groups: int,
    weight: str | None = None,
    bias: str | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> str:
    scale, shift = _statistics(call, x, weight, bias)
    return call.emit("GroupNormalization", x, scale, shift, num_groups=num_groups, epsilon=eps)


@aten("native_group_norm")
def native_group_norm(
    call: Call, x: str, weight: str | None, bias: str | None, n: int, c: int, positions: int, groups: int, eps: float
) -> tuple[str]:
    return (group_norm(call, x, groups, weight, bias, eps),)


@aten("instance_norm")
def instance_norm(
    call: Call,
    x: str,
    weight: str | None,
    bias: str | None,
    running_mean: str | None,
    running_var: str | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> str:
    if not use_input_stats:
        return batch_norm(call, x, weight, bias, running_mean, running_var, False, momentum, eps)
    scale, shift = _statistics(call, x, weight, bias)
    return call.emit("InstanceNormalization", x, scale, shift, epsilon=eps)


# -- resizing -------------------------------------------------------------------------------------------------------------------


def _resize(call: Call, x: str, sizes: Sequence[int] | None, factors: Sequence[float] | None, **attributes: Any) -> str:
    spatial = call.rank(x) - 2
    if factors is not None:
        scales = call.constant([1.0, 1.0, *factors], "float32", "scales")
        return call.emit("Resize", x, "", scales, **attributes)
    assert sizes is not None
    target = call.ints([*call.shape(x)[:2], *spread(tuple(sizes), spatial)], "sizes")
    return call.emit("Resize", x, "", "", target, **attributes)


def _factors(sizes: Any, scales: Sequence[float | None]) -> Sequence[float] | None:
    """Scale factors that count: torch computes coordinates by them only where they are given."""
    return None if any(scale is None for scale in scales) else [float(scale) for scale in scales if scale is not None]


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def upsample_nearest_vec(call: Call, x: str, output_size: Any, scale_factors: Any) -> str:
    return _resize(
        call, x, output_size, scale_factors, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


@aten("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def upsample_nearest(call: Call, x: str, output_size: Any, *scales: float | None) -> str:
    return upsample_nearest_vec(call, x, output_size, _factors(output_size, scales) if scales else None)


def _interpolation(mode: str) -> Any:
    def vec(call: Call, x: str, output_size: Any, align_corners: bool, scale_factors: Any = None) -> str:
        coordinates = "align_corners" if align_corners else "pytorch_half_pixel" if mode == "linear" else "half_pixel"
        return _resize(
            call, x, output_size, scale_factors, mode=mode, coordinate_transformation_mode=coordinates, cubic_coeff_a=-0.75
        )

    def sized(call: Call, x: str, output_size: Any, align_corners: bool, *scales: float | None) -> str:
        return vec(call, x, output_size, align_corners, _factors(output_size, scales) if scales else None)

    return vec, sized


for _name, _mode in (
    ("linear1d", "linear"),
    ("bilinear2d", "linear"),
    ("trilinear3d", "linear"),
    ("bicubic2d", "cubic"),
):
    _vec, _sized = _interpolation(_mode)
    aten(f"upsample_{_name}.vec")(_vec)
    aten(f"upsample_{_name}")(_sized)


@aten("pixel_shuffle")
def pixel_shuffle(call: Call, x: str, upscale_factor: int) -> str:
    return call.emit("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


@aten("channel_shuffle")
def channel_shuffle(call: Call, x: str, groups: int) -> str:
    """Channels as a [groups, channels / groups] matrix, transposed."""
    shape = call.shape(x)
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    grouped = call.emit("Reshape", x, call.ints(split, "groups"), part="split")
    swapped = call.emit("Transpose", grouped, part="swap", perm=(0, 2, 1, *range(3, len(split))))
    return call.emit("Reshape", swapped, call.ints(shape, "shape"))
