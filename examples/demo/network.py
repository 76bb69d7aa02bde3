"""The demo's network: a small residual one, and how an image becomes its input."""

from benchmarks.miniatures.dataset import prepare
from torch import Tensor, nn

__all__ = ["GlyphNetwork", "prepare"]


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut, projected where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.activation = nn.ReLU()

    def forward(self, value: Tensor) -> Tensor:
        return self.activation(self.body(value) + self.shortcut(value))


class GlyphNetwork(nn.Module):
    """A stem and four residual blocks on planes of 16, 8 and 4, a global average, one linear layer.

    Input [N, 3, 32, 32], output [N, classes]; about 340 thousand parameters.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.blocks = nn.Sequential(
            Residual(24, 24, stride=2), Residual(24, 48, stride=2), Residual(48, 96, stride=2), Residual(96, 96, stride=1)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(96, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.pool(self.blocks(self.stem(image))).flatten(1))
