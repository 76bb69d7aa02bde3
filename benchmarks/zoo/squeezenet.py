"""SqueezeNet 1.1 (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016)."""

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    """A 1x1 that narrows, then a 1x1 and a 3x3 side by side, concatenated along channels."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, kernel_size=1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, kernel_size=1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, kernel_size=3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, value: Tensor) -> Tensor:
        value = self.squeeze_activation(self.squeeze(value))
        branches = self.expand1x1_activation(self.expand1x1(value)), self.expand3x3_activation(self.expand3x3(value))
        return torch.cat(branches, 1)


def overlapping_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)


class SqueezeNet(nn.Module):
    """Eight fire modules between a strided 3x3 and a 1x1 classifier averaged over the plane.

    Input [N, 3, 224, 224], output [N, classes].
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=3, stride=2),
            nn.ReLU(inplace=True),
            overlapping_pool(),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            overlapping_pool(),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            overlapping_pool(),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(512, classes, kernel_size=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(image)), 1)
