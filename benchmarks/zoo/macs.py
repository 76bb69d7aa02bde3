"""Multiply-accumulates of a network, counted from the shapes that reach its convolutions and linear layers."""

from typing import Any

import torch
from torch import Tensor, nn


def count_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """MACs of one forward pass over `input_shape`; runs on the meta device too, where it needs no weights.

    Each output of a convolution costs (input channels / groups) * taps, each output of a linear layer its inputs;
    biases, norms, pools and activations are not counted, which is the convention of the published figures.
    """
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        total += output.numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    device = next(module.parameters()).device
    try:
        with torch.no_grad():
            module(torch.empty(input_shape, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return total
