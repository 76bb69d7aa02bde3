"""Small networks and data for tests of pruning."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from tapdot.compiler.frontends import trace
from tapdot.compiler.graph import Graph

CLASSES = 4


class SmallNetwork(nn.Module):
    """Every kind of layer that is pruned or left: a stem, 3x3, depthwise, 1x1, 5x5, two fully connected ones."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.body_norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 24, 1)
        self.wide = nn.Conv2d(24, 8, 5, padding=2)
        self.down = nn.Conv2d(8, 20, 3, stride=2, padding=1)
        self.hidden = nn.Linear(20, 12)
        self.last = nn.Linear(12, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.body_norm(self.body(x)) + x)
        x = torch.relu(self.point(self.depthwise(x)))
        x = torch.relu(self.down(self.wide(x)))
        return self.last(torch.relu(self.hidden(x.mean((2, 3)))))


class Classifier(nn.Module):
    """Two 3x3 layers with batch norms behind a stem; learns :func:`samples` in seconds."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.last = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(x).mean((2, 3)))


@cache
def small_graph(seed: int = 0) -> Graph:
    """The network as a graph."""
    return trace(SmallNetwork(seed).eval(), (torch.zeros(1, 3, 8, 8),))


def samples(count: int = 192, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright stripe, bar, corner or frame: float32 ``[count, 3, 8, 8]`` and the class of each."""
    numbers = np.random.default_rng(seed)
    labels = numbers.integers(0, CLASSES, count)
    images = numbers.standard_normal((count, 3, 8, 8)).astype(np.float32)
    shapes = np.zeros((CLASSES, 8, 8), np.float32)
    shapes[0, 3:5], shapes[1, :, 3:5], shapes[2, :4, :4], shapes[3, 4:, 4:] = 1, 1, 1, 1
    return images + 1.2 * shapes[labels][:, None], labels.astype(np.int64)


@cache
def trained_classifier() -> Graph:
    """A graph of the classifier that has learned, with its batch norms, for batches of one."""
    network = Classifier()
    images, labels = (torch.from_numpy(array) for array in samples(512, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for step in range(96):
        chosen = slice(step * 32 % 512, step * 32 % 512 + 32)
        loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return trace(network.eval(), (torch.zeros(1, 3, 8, 8),))
