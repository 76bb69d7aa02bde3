"""Train the demo's network and write what the repository ships: glyphs.onnx, classes.txt, samples.npz.

python -m examples.demo.train                # about eight minutes on one core; needs the extra `examples`
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from benchmarks.zoo.export import write_onnx
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from examples.demo import glyphs
from examples.demo.network import GlyphNetwork, prepare

FOLDER = Path(__file__).parent
BATCH = 64
PEAK_LEARNING_RATE = 0.1
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.05
AVERAGE_DECAY = 0.998
LARGEST_SHIFT = 2
TRAIN_SEED, TEST_SEED, SAMPLE_SEED = 0, 1, 2


def shift(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Move a whole batch by up to LARGEST_SHIFT pixels each way, repeating the border."""
    padded = functional.pad(batch, (LARGEST_SHIFT,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * LARGEST_SHIFT + 1, (2,), generator=generator).tolist()
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


def accuracy(network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Top-1, as a share of one."""
    network.eval()
    with torch.no_grad():
        predictions = [network(torch.from_numpy(prepare(part))).argmax(1) for part in np.array_split(images, 16)]
    return float((torch.cat(predictions).numpy() == labels).mean())


def train(images: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int, seed: int) -> nn.Module:
    """A network trained from scratch: SGD on one cycle, fresh noise every epoch; the weights' moving average is returned."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = GlyphNetwork(len(glyphs.CLASSES))
    reorder(network, torch.channels_last)
    average = copy.deepcopy(network)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=PEAK_LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=epochs * batches, pct_start=0.2)
    targets = torch.from_numpy(labels)
    for epoch in range(epochs):
        started, total_loss = time.monotonic(), 0.0
        network.train()
        noisy = torch.from_numpy(prepare(glyphs.add_noise(images, seed=1000 + epoch)))
        inputs = noisy.contiguous(memory_format=torch.channels_last)
        order = torch.randperm(len(images), generator=generator)
        for batch, chosen in enumerate(order[: batches * BATCH].split(BATCH)):
            loss = functional.cross_entropy(
                network(shift(inputs[chosen], generator)), targets[chosen], label_smoothing=LABEL_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            update_average(average, network, epoch * batches + batch)
            total_loss += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total_loss / batches:.3f}, {time.monotonic() - started:.0f} s", flush=True)
    return average.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo's network on generated glyphs and write its files.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=20_000, help="training images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--test-images", type=int, default=4_000)
    parser.add_argument("--samples", type=int, default=12, help="images shipped for the demo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    network = train(*glyphs.clean_images(arguments.images, TRAIN_SEED), arguments.epochs, arguments.seed)
    test_images, test_labels = glyphs.clean_images(arguments.test_images, TEST_SEED)
    print(f"top-1 on {len(test_labels)} new images: {accuracy(network, glyphs.add_noise(test_images, 3), test_labels):.1%}")

    reorder(network, torch.contiguous_format)
    # Batch norms stay in the file: folding them is the compiler's work.
    path = write_onnx(network, (1, 3, glyphs.SIZE, glyphs.SIZE), arguments.to / "glyphs.onnx", fold=False)
    samples, labels = glyphs.clean_images(arguments.samples, SAMPLE_SEED)
    np.savez_compressed(arguments.to / "samples.npz", images=glyphs.add_noise(samples, 4), labels=labels)
    (arguments.to / "classes.txt").write_text("\n".join(glyphs.CLASSES) + "\n")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
