"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018)."""

from torch import Tensor, nn

# The paper's table 2, one row a stage: expansion, output channels, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvolutionBlock(nn.Sequential):
    """Convolution, batch norm, ReLU6; `groups` equal to the channels makes it depthwise."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=kernel_size // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter by depthwise 3x3, narrow by a linear 1x1; a shortcut where the shapes allow one."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        widen = [] if expansion == 1 else [ConvolutionBlock(in_channels, hidden, 1)]
        self.conv = nn.Sequential(
            *widen,
            ConvolutionBlock(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, value: Tensor) -> Tensor:
        return value + self.conv(value) if self.has_shortcut else self.conv(value)


class MobileNetV2(nn.Module):
    """A strided stem, seventeen inverted residuals, a 1x1 to 1280 channels, a global average.

    Input [N, 3, 224, 224], output [N, classes].
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        channels = 32
        layers: list[nn.Module] = [ConvolutionBlock(3, channels, 3, stride=2)]
        for expansion, width, blocks, first_stride in STAGES:
            for position in range(blocks):
                stride = first_stride if position == 0 else 1
                layers.append(InvertedResidual(channels, width, expansion, stride))
                channels = width
        layers.append(ConvolutionBlock(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).mean((2, 3)))
