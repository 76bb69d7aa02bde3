"""Train the demo's network and write what the repository ships: glyphs.onnx, classes.txt, samples.npz.

python -m examples.demo.train                # about eight minutes on one core; needs the extra `examples`
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from benchmarks.miniatures import glyphs
from benchmarks.miniatures.training import accuracy, train
from benchmarks.zoo.export import write_onnx

from examples.demo.network import GlyphNetwork, prepare

FOLDER = Path(__file__).parent
PEAK_LEARNING_RATE = 0.1
LARGEST_SHIFT = 2
TRAIN_SEED, TEST_SEED, SAMPLE_SEED = 0, 1, 2


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

    images, labels = glyphs.clean_images(arguments.images, TRAIN_SEED, glyphs.DEMO_CLASSES)
    network = train(
        lambda: GlyphNetwork(len(glyphs.DEMO_CLASSES)),
        lambda epoch: prepare(glyphs.add_noise(images, seed=1000 + epoch)),
        labels,
        epochs=arguments.epochs,
        seed=arguments.seed,
        peak_learning_rate=PEAK_LEARNING_RATE,
        largest_shift=LARGEST_SHIFT,
        report=lambda line: print(line, flush=True),
    )
    test_images, test_labels = glyphs.clean_images(arguments.test_images, TEST_SEED, glyphs.DEMO_CLASSES)
    share = accuracy(network, prepare(glyphs.add_noise(test_images, 3)), test_labels)
    print(f"top-1 on {len(test_labels)} new images: {share:.1%}")

    # Batch norms stay in the file: folding them is the compiler's work.
    path = write_onnx(network, (1, 3, glyphs.SIZE, glyphs.SIZE), arguments.to / "glyphs.onnx", fold=False)
    samples, labels = glyphs.clean_images(arguments.samples, SAMPLE_SEED, glyphs.DEMO_CLASSES)
    np.savez_compressed(arguments.to / "samples.npz", images=glyphs.add_noise(samples, 4), labels=labels)
    (arguments.to / "classes.txt").write_text("\n".join(glyphs.DEMO_CLASSES) + "\n")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
