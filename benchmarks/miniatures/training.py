"""Training from scratch on images in memory: SGD on one cycle, fresh noise every epoch, the weights' moving average kept."""

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

BATCH = 64
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.05
AVERAGE_DECAY = 0.998

Inputs = NDArray[np.float32]
Labels = NDArray[np.int64]


def shift(batch: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    """Move a whole batch by up to `largest` pixels each way, repeating the border."""
    if largest == 0:
        return batch
    padded = functional.pad(batch, (largest,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * largest + 1, (2,), generator=generator).tolist()
    return padded[:, :, top : top + batch.shape[2], left : left + batch.shape[3]]


def update_average(average: nn.Module, network: nn.Module, step: int) -> None:
    """Let `average` follow `network`: fast in the first steps, then over the last 1 / (1 - AVERAGE_DECAY)."""
    decay = min(AVERAGE_DECAY, (1 + step) / (10 + step))
    with torch.no_grad():
        for followed, leader in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if followed.is_floating_point():
                followed.lerp_(leader, 1 - decay)
            else:
                followed.copy_(leader)


def reorder(network: nn.Module, order: torch.memory_format) -> None:
    """Lay the weights out in another order in memory: channels last trains faster on a processor."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=order)


def train(
    construct: Callable[[], nn.Module],
    inputs: Callable[[int], Inputs],
    labels: Labels,
    *,
    epochs: int,
    seed: int,
    peak_learning_rate: float,
    largest_shift: int,
    report: Callable[[str], object] = lambda line: None,
) -> nn.Module:
    """A network trained from scratch, in eval mode.

    `inputs(epoch)` gives that epoch's images, float32 [N, C, H, W], in the order of `labels`, so that noise can be drawn afresh.
    Equal seeds give equal weights on one machine with one thread.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = construct()
    reorder(network, torch.channels_last)
    average = copy.deepcopy(network)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=peak_learning_rate, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    batches = len(labels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_learning_rate, total_steps=epochs * batches, pct_start=0.2)
    targets = torch.from_numpy(labels)
    network.train()
    for epoch in range(epochs):
        started, total_loss = time.monotonic(), 0.0
        images = torch.from_numpy(inputs(epoch)).contiguous(memory_format=torch.channels_last)
        order = torch.randperm(len(images), generator=generator)
        for batch, chosen in enumerate(order[: batches * BATCH].split(BATCH)):
            logits = network(shift(images[chosen], largest_shift, generator))
            loss = functional.cross_entropy(logits, targets[chosen], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            update_average(average, network, epoch * batches + batch)
            total_loss += loss.item()
        report(f"epoch {epoch + 1} of {epochs}: loss {total_loss / batches:.3f}, {time.monotonic() - started:.0f} s")
    reorder(average, torch.contiguous_format)
    return average.eval()


def predictions(network: nn.Module, inputs: Inputs, batch: int = 500) -> Labels:
    """The most likely class of every image, int64 [N]; the network is put into eval mode."""
    network.eval()
    with torch.no_grad():
        parts = [network(torch.from_numpy(inputs[start : start + batch])).argmax(1) for start in range(0, len(inputs), batch)]
    return torch.cat(parts).numpy()


def accuracy(network: nn.Module, inputs: Inputs, labels: Labels) -> float:
    """Top-1, as a share of one."""
    return float((predictions(network, inputs) == labels).mean())
