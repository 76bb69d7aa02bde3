"""Three published architectures in miniature, of the zoo's own blocks, and a tiny one for scikit-learn's digits."""

from torch import Tensor, nn

from benchmarks.zoo.mobilenet_v2 import ConvolutionBlock, InvertedResidual
from benchmarks.zoo.resnet import BasicBlock


class MiniatureResNet(nn.Module):
    """A strided stem and three basic blocks on planes of 16, 8 and 4. Input [N, 3, 32, 32]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(BasicBlock(16, 24, 1), BasicBlock(24, 48, 2), BasicBlock(48, 96, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(96, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.pool(self.blocks(self.stem(image))).flatten(1))


class MiniatureMobileNetV2(nn.Module):
    """A strided stem, seven inverted residuals (depthwise, ReLU6, linear bottlenecks), a 1x1. Input [N, 3, 32, 32]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvolutionBlock(3, 16, 3, stride=2),
            InvertedResidual(16, 16, expansion=1, stride=1),
            InvertedResidual(16, 24, expansion=3, stride=1),
            InvertedResidual(24, 24, expansion=3, stride=1),
            InvertedResidual(24, 40, expansion=4, stride=2),
            InvertedResidual(40, 40, expansion=4, stride=1),
            InvertedResidual(40, 64, expansion=4, stride=2),
            InvertedResidual(64, 64, expansion=4, stride=1),
            ConvolutionBlock(64, 160, 1),
        )
        self.classifier = nn.Linear(160, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).mean((2, 3)))


class MiniatureVGG(nn.Module):
    """Six 3x3 convolutions with batch norm in four stages ended by max pools, two linear layers. Input [N, 3, 32, 32]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in ((16,), (32, 32), (64, 64), (96,)):
            for width in stage:
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(channels * 2 * 2, 128), nn.ReLU(inplace=True), nn.Linear(128, classes))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).flatten(1))


class DigitsNetwork(nn.Module):
    """Two convolutions with batch norm and a linear layer. Input [N, 1, 8, 8]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(32 * 4 * 4, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).flatten(1))
