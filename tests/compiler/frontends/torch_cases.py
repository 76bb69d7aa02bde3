"""Small torch modules, one for each kind of operator that import must know: (module, inputs) by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

IMAGE = (2, 8, 12, 10)
Case = tuple[nn.Module, list[Tensor]]


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def layer(module: nn.Module, *shapes: tuple[int, ...]) -> Case:
    return module, [torch.randn(shape) for shape in shapes or (IMAGE,)]


def of(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Case:
    return layer(Function(function), *shapes)


def relu_after_a_view_of_its_operand(x: Tensor) -> Tensor:
    y = x * 2
    view = y.view(2, -1)
    y.relu_()
    return view


def relu_after_a_reader(x: Tensor) -> Tensor:
    y = x * 2
    before = y + 1
    y.relu_()
    return before + y


def assigned(x: Tensor) -> Tensor:
    y = x * 1
    y[:, 0] = 0
    y[:, 2:4] = x[:, :2]
    return y


def convolutions() -> dict[str, Case]:
    return {
        "conv1d": layer(nn.Conv1d(4, 6, 3, 2, 1), (2, 4, 17)),
        "conv3d": layer(nn.Conv3d(4, 6, 3, padding=1, groups=2), (1, 4, 5, 6, 7)),
        "conv_same": layer(nn.Conv2d(8, 6, 4, padding="same", dilation=2)),
        "conv_valid": layer(nn.Conv2d(8, 6, 3, padding="valid")),
        "conv_unbatched": layer(nn.Conv2d(8, 6, 3), (8, 12, 10)),
        "conv_reflect": layer(nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect")),
        "conv_circular": layer(nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular")),
        "conv_transpose1d": layer(nn.ConvTranspose1d(4, 6, 3, 2, 1, 1), (2, 4, 9)),
        "conv_transpose2d": layer(nn.ConvTranspose2d(8, 6, 4, 2, 1, groups=2)),
        "conv_transpose3d": layer(nn.ConvTranspose3d(4, 6, 3, 2), (1, 4, 3, 4, 5)),
        "conv_double": (nn.Conv2d(8, 3, 3).double(), [torch.randn(IMAGE, dtype=torch.float64)]),
        "weight_norm": layer(parametrizations.weight_norm(nn.Conv2d(8, 4, 3))),
        "blur_pool": of(
            lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), torch.ones(8, 1, 3, 3) / 9, groups=8, stride=2)
        ),
    }


def normalizations() -> dict[str, Case]:
    return {
        "batch_norm1d": layer(nn.BatchNorm1d(4), (2, 4, 9)),
        "batch_norm_vector": layer(nn.BatchNorm1d(4), (2, 4)),
        "batch_norm_plain": layer(nn.BatchNorm2d(8, affine=False)),
        "layer_norm": layer(nn.LayerNorm([12, 10])),
        "layer_norm_plain": layer(nn.LayerNorm(10, elementwise_affine=False)),
        "group_norm": layer(nn.GroupNorm(4, 8)),
        "instance_norm": layer(nn.InstanceNorm2d(8, affine=True)),
        "instance_norm_statistics": layer(nn.InstanceNorm2d(8, affine=True, track_running_stats=True)),
        "local_response_norm": layer(nn.LocalResponseNorm(3)),
        "rms_norm": layer(nn.RMSNorm(10)),
        "normalize": of(lambda x: F.normalize(x, dim=1) + x / x.norm(dim=1, keepdim=True)),
        "softmax2d": layer(nn.Softmax2d()),
        "log_softmax": layer(nn.LogSoftmax(1)),
    }


def pools() -> dict[str, Case]:
    return {
        "max_pool": layer(nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        "max_pool1d": layer(nn.MaxPool1d(3, 2), (2, 4, 9)),
        "average_pool": layer(nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
        "average_pool_without_pads": layer(nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        "average_pool3d": layer(nn.AvgPool3d(2), (1, 2, 4, 4, 6)),
        "adaptive_to_divisors": layer(nn.AdaptiveAvgPool2d((4, 5))),
        "adaptive_to_own_size": layer(nn.AdaptiveAvgPool2d((None, 1))),
        "adaptive1d": layer(nn.AdaptiveAvgPool1d(1), (2, 4, 9)),
        "adaptive_max": layer(nn.AdaptiveMaxPool2d(2)),
        "lp_pool": (nn.LPPool2d(2, 2), [torch.rand(IMAGE)]),
        "area": of(lambda x: F.interpolate(x, size=(6, 5), mode="area")),
        "nearest": layer(nn.Upsample(scale_factor=2)),
        "nearest_to_size": layer(nn.Upsample(size=(17, 23))),
        "bilinear": layer(nn.Upsample(scale_factor=1.7, mode="bilinear")),
        "bilinear_recomputed": layer(nn.Upsample(scale_factor=1.7, mode="bilinear", recompute_scale_factor=True)),
        "bilinear_to_size": layer(nn.Upsample(size=(7, 5), mode="bilinear")),
        "bilinear_aligned": layer(nn.Upsample(size=(17, 23), mode="bilinear", align_corners=True)),
        "bicubic": layer(nn.Upsample(scale_factor=2, mode="bicubic")),
        "trilinear": layer(nn.Upsample(scale_factor=2, mode="trilinear"), (1, 2, 3, 4, 5)),
        "linear1d": layer(nn.Upsample(scale_factor=3, mode="linear"), (1, 2, 5)),
    }


def activations() -> dict[str, Case]:
    return {
        "prelu": layer(nn.PReLU(8, 0.3)),
        "prelu_shared": layer(nn.PReLU()),
        "glu": of(lambda x: F.glu(x, 1)),
        "clipped": of(lambda x: F.relu6(x) + F.hardtanh(x) + F.hardswish(x) + F.hardsigmoid(x) + F.threshold(x, 0.1, 20)),
        "smooth": of(
            lambda x: F.silu(x) + F.gelu(x) + F.gelu(x, approximate="tanh") + F.mish(x) + F.softsign(x) + F.logsigmoid(x)
        ),
        "exponential": of(lambda x: F.elu(x, 0.5) + F.selu(x) + F.celu(x, 1.3) + F.softplus(x) + F.softplus(x, beta=2)),
        "others": of(lambda x: F.leaky_relu(x) + F.sigmoid(x) + F.hardshrink(x) + F.softshrink(x) + F.tanhshrink(x)),
        "dropouts": of(lambda x: F.dropout2d(F.dropout(x, training=False), training=False)),
    }


def arithmetic() -> dict[str, Case]:
    return {
        "scalars": of(lambda x: (x * 2 + 1 - 0.5) / 3 - (1 - x) + 2 / (x.abs() + 1)),
        "alpha": of(lambda x, y: torch.add(x, y, alpha=2) + torch.sub(x, y, alpha=3) + torch.rsub(x, y, alpha=2), IMAGE, IMAGE),
        "powers": of(lambda x: x**2 + x.abs() ** 0.5 + (x.abs() + 1) ** -0.5 + x**3 + 2**x),
        "roots": of(
            lambda x: (x.abs() + 1).rsqrt() + x.abs().sqrt() + torch.log1p(x.abs()) + torch.expm1(x) + torch.log2(x.abs() + 1)
        ),
        "functions": of(lambda x: x.sin() + x.cos() + x.tanh() + x.erf() + torch.atan(x) + x.sinh() + x.exp().log()),
        "rounding": of(lambda x: x.floor() + x.ceil() + x.round() + x.sign() + x.trunc() + x.frac()),
        "division": of(lambda x: x // 0.3 + torch.div(x, 0.3, rounding_mode="trunc") + x % 0.7 + torch.fmod(x, 0.7)),
        "clamp": of(lambda x: x.clamp(-1, 1) + x.clamp(min=0) + x.clamp_max(0.5) + torch.clamp(x, min=x * 0.5)),
        "extremes": of(lambda x, y: torch.maximum(x, y) - torch.minimum(x, y), IMAGE, IMAGE),
        "choices": of(
            lambda x, y: torch.where(x > y, x, y * 2) + torch.where(x > 0, x, 0.5) + x.masked_fill(y > 0, 3.0), IMAGE, IMAGE
        ),
        "comparisons": of(
            lambda x, y: ((x > y) & (x > 0) | (y <= 0.5)).float() + (x != y).float() + (~(x >= y)).float(), IMAGE, IMAGE
        ),
        "mixtures": of(lambda x, y: torch.lerp(x, y, 0.3) + torch.addcmul(x, x, y, value=2), IMAGE, IMAGE),
        "integers": (Function(lambda x: x.float() * 2 + (x + 1)), [torch.ones(IMAGE, dtype=torch.int32)]),
        "half_and_back": of(lambda x: x.half().float()),
        "constants": of(lambda x: x + torch.zeros_like(x) + torch.full((12, 1), 2.0) + torch.arange(10) + x.new_full((10,), 3.0)),
    }


def in_place() -> dict[str, Case]:
    return {
        "in_place": of(lambda x: F.relu_(F.conv2d(x, torch.ones(3, 8, 1, 1))) + 1),
        "in_place_chain": of(lambda x: (x * 1).add_(1).mul_(2).relu_()),
        "in_place_after_view": of(relu_after_a_view_of_its_operand),
        "in_place_after_reader": of(relu_after_a_reader),
        "assigned": of(assigned),
    }


def movement() -> dict[str, Case]:
    return {
        "cat": of(lambda x, y: torch.cat([x, y], 1), IMAGE, IMAGE),
        "stack": of(lambda x, y: torch.stack([x, y], -1), IMAGE, IMAGE),
        "split": of(lambda x: sum(part.mean(1) for part in x.split([1, 3, 4], 1))),
        "chunk": of(lambda x: torch.cat(x.chunk(3, 1)[::-1], 1)),
        "unbind": of(lambda x: x.unbind(1)[2] + x.unbind(1)[0]),
        "slices": of(lambda x: x[:, 1:-1, ::2] + x[:, :-2, ::2]),
        "select": of(lambda x: x[:, -1] + x[:, 0]),
        "new_axis": of(lambda x: x[:, None, ..., 0]),
        "index": of(lambda x: x[..., [0, 2, 1]]),
        "flip": of(lambda x: x.flip(2, 3)),
        "roll": of(lambda x: torch.roll(x, (2, -3), (2, 3))),
        "view": of(lambda x: x.view(2, -1, 10)),
        "shuffle": of(lambda x: x.view(2, 2, 4, 12, 10).transpose(1, 2).contiguous().view(IMAGE)),
        "permute": of(lambda x: x.permute(0, 2, 3, 1).flatten(1, 2).transpose(-1, -2).unsqueeze(0).squeeze(0).squeeze()),
        "unflatten": of(lambda x: x.reshape(x.shape[0], -1).unflatten(1, (8, -1)).movedim(1, 2)),
        "expand": of(lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 12, 10) + x[:1].expand_as(x)),
        "repeat": of(lambda x: x.repeat(2, 1, 1, 3) + 1),
        "repeat_interleave": of(lambda x: x.repeat_interleave(2, 1)),
        "pixel_shuffle": layer(nn.PixelShuffle(2)),
        "pixel_unshuffle": layer(nn.PixelUnshuffle(2)),
        "channel_shuffle": layer(nn.ChannelShuffle(4)),
        "pad_constant": layer(nn.ConstantPad2d((1, 2, 0, -3), 1.5)),
        "pad_reflect": layer(nn.ReflectionPad2d((1, 2, 0, 3))),
        "pad_replicate": layer(nn.ReplicationPad2d((1, 2, 0, 3))),
        "embedding": (nn.Embedding(10, 4), [torch.tensor([[1, 2], [3, 9]])]),
        "gather": (Function(lambda x, i: x.gather(1, i)), [torch.randn(IMAGE), torch.zeros(IMAGE, dtype=torch.int64)]),
    }


def reductions() -> dict[str, Case]:
    return {
        "reductions": of(lambda x: x.mean((2, 3)) + x.sum((2, 3)) + x.amax((2, 3)) + x.amin((2, 3)) + x.logsumexp((2, 3))),
        "one_axis": of(lambda x: x.max(3)[0].max(2).values + x.prod(3).sum(2) + x.mean(3).mean(2)),
        "of_everything": of(lambda x: x.sum() + x.mean() + x.max() + x.min()),
        "variances": of(lambda x: x.var((2, 3)) + x.var((2, 3), unbiased=False) + x.std((2, 3)) + torch.var_mean(x, (2, 3))[0]),
        "positions": of(lambda x: x.argmax(1) + x.argmin(1)),
        "top_k": of(lambda x: x.topk(3, 1)[0]),
        "cumsum": of(lambda x: x.cumsum(2)),
        "linear_on_last_axis": layer(nn.Linear(10, 7)),
        "linear_without_bias": layer(nn.Linear(10, 7, bias=False), (5, 10)),
        "matmul": of(lambda x, y: x @ y.transpose(-1, -2), IMAGE, IMAGE),
        "baddbmm": of(lambda x, y: torch.bmm(x, y) + torch.baddbmm(x, x, y, alpha=2, beta=0.5), (3, 5, 5), (3, 5, 5)),
        "addmm": of(lambda c, x, y: torch.addmm(c, x, y, alpha=2), (4, 5), (4, 3), (3, 5)),
        "einsum": of(lambda x, y: torch.einsum("bchw,bdhw->bcd", x, y), IMAGE, IMAGE),
        "attention": layer(nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8), (2, 5, 8), (2, 5, 8)),
        "transformer": layer(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
        "lstm": layer(nn.LSTM(4, 5, batch_first=True), (1, 3, 4)),
        "several_outputs": of(lambda x: (x + 1, [x * 2, {"a": x.mean()}])),
    }


def cases() -> dict[str, Case]:
    """All of them, from one seed, in eval mode, with statistics worth normalizing by."""
    torch.manual_seed(0)
    found: dict[str, Case] = {}
    for group in (convolutions, normalizations, pools, activations, arithmetic, in_place, movement, reductions):
        found |= group()
    for module, _ in found.values():
        for part in module.eval().modules():
            if isinstance(getattr(part, "running_var", None), Tensor):
                part.running_var.uniform_(0.5, 2.0)
                part.running_mean.normal_()
    return found
