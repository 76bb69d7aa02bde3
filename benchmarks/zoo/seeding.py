"""Seeded weights that behave like trained ones: no layer dies, none explodes, classes and images stay apart."""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Octaves of the seeded images: planes of 1x1, 4x4, ... up to the image itself, each half as strong as the one before.
OCTAVES = (1, 4, 16, 64, None)
STATISTICS_BATCHES = 2
STATISTICS_BATCH_SIZE = 4


def seeded_images(count: int, size: int, seed: int = 0) -> Tensor:
    """Images whose noise is strongest at low frequencies, as photographs' contents are: float32 [count, 3, size, size].

    White noise would look alike to a network after its first average; these differ from one another at every scale.
    The values have zero mean and unit deviation over the batch.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 3, size, size)
    strength = 1.0
    for octave in OCTAVES:
        side = size if octave is None else min(octave, size)
        noise = torch.randn(count, 3, side, side, generator=generator)
        images += strength * functional.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)
        strength /= 2
    return images / images.std()


def seed_weights(module: nn.Module, input_size: int, seed: int) -> None:
    """Fill every parameter and statistic of `module`, in place, from `seed` alone.

    1. Convolutions and linear layers draw He et al.'s normal weights (deviation sqrt(2 / fan in)), which keep the second
       moment through a ReLU; biases are small.
    2. Batch norms draw a gain in [0.5, 1.5] and a small shift, as trained ones have.
    3. Their statistics are those of seeded images sent through the network, so every normalised value really is
       normalised and a residual sum grows by one unit a block, not by a factor.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    nn.init.normal_(layer.bias, std=0.05, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(layer.bias, std=0.2, generator=generator)
        if norms:
            settle_statistics(module, norms, input_size, seed)
    module.eval()


def settle_statistics(module: nn.Module, norms: list[nn.BatchNorm2d], input_size: int, seed: int) -> None:
    """Average the batch norms' statistics over a few batches. Only the norms train: dropout must not draw numbers."""
    module.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = None  # torch's word for a plain average over the batches seen
    for batch in range(STATISTICS_BATCHES):
        module(seeded_images(STATISTICS_BATCH_SIZE, input_size, seed + 1 + batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
