"""InceptionV3 (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016).

The published weights were trained on images scaled to [-1, 1]: feed those, not the mean and deviation of ImageNet.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BasicConv2d(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, value: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(value)), inplace=True)


def row_convolution(in_channels: int, out_channels: int, taps: int) -> BasicConv2d:
    """A 1 x taps convolution that keeps the plane's size."""
    return BasicConv2d(in_channels, out_channels, (1, taps), padding=(0, taps // 2))


def column_convolution(in_channels: int, out_channels: int, taps: int) -> BasicConv2d:
    """A taps x 1 convolution that keeps the plane's size."""
    return BasicConv2d(in_channels, out_channels, (taps, 1), padding=(taps // 2, 0))


def average_neighbours(value: Tensor) -> Tensor:
    """The 3x3 average that keeps the plane's size; border averages count the padding's zeros."""
    return functional.avg_pool2d(value, kernel_size=3, stride=1, padding=1)


class InceptionA(nn.Module):
    """1x1, 5x5, double 3x3 and pooled branches on the 35x35 plane (the paper's figure 5)."""

    def __init__(self, in_channels: int, pool_features: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 64, 1)
        self.branch5x5_1 = BasicConv2d(in_channels, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(in_channels, pool_features, 1)

    def forward(self, value: Tensor) -> Tensor:
        branches = (
            self.branch1x1(value),
            self.branch5x5_2(self.branch5x5_1(value)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(value))),
            self.branch_pool(average_neighbours(value)),
        )
        return torch.cat(branches, 1)


class InceptionB(nn.Module):
    """From the 35x35 plane to 17x17 (the paper's figure 10)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride=2)

    def forward(self, value: Tensor) -> Tensor:
        branches = (
            self.branch3x3(value),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(value))),
            functional.max_pool2d(value, kernel_size=3, stride=2),
        )
        return torch.cat(branches, 1)


class InceptionC(nn.Module):
    """7x7 convolutions factored into rows and columns on the 17x17 plane (the paper's figure 6)."""

    def __init__(self, in_channels: int, narrow: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7_1 = BasicConv2d(in_channels, narrow, 1)
        self.branch7x7_2 = row_convolution(narrow, narrow, 7)
        self.branch7x7_3 = column_convolution(narrow, 192, 7)
        self.branch7x7dbl_1 = BasicConv2d(in_channels, narrow, 1)
        self.branch7x7dbl_2 = column_convolution(narrow, narrow, 7)
        self.branch7x7dbl_3 = row_convolution(narrow, narrow, 7)
        self.branch7x7dbl_4 = column_convolution(narrow, narrow, 7)
        self.branch7x7dbl_5 = row_convolution(narrow, 192, 7)
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, value: Tensor) -> Tensor:
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(value)))
        branches = (
            self.branch1x1(value),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(value))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(twice)),
            self.branch_pool(average_neighbours(value)),
        )
        return torch.cat(branches, 1)


class InceptionD(nn.Module):
    """From the 17x17 plane to 8x8."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7x3_2 = row_convolution(192, 192, 7)
        self.branch7x7x3_3 = column_convolution(192, 192, 7)
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, stride=2)

    def forward(self, value: Tensor) -> Tensor:
        factored = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(value)))
        branches = (
            self.branch3x3_2(self.branch3x3_1(value)),
            self.branch7x7x3_4(factored),
            functional.max_pool2d(value, kernel_size=3, stride=2),
        )
        return torch.cat(branches, 1)


class InceptionE(nn.Module):
    """Rows and columns side by side on the 8x8 plane (the paper's figure 7)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 320, 1)
        self.branch3x3_1 = BasicConv2d(in_channels, 384, 1)
        self.branch3x3_2a = row_convolution(384, 384, 3)
        self.branch3x3_2b = column_convolution(384, 384, 3)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = row_convolution(384, 384, 3)
        self.branch3x3dbl_3b = column_convolution(384, 384, 3)
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, value: Tensor) -> Tensor:
        single = self.branch3x3_1(value)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(value))
        branches = (
            self.branch1x1(value),
            torch.cat((self.branch3x3_2a(single), self.branch3x3_2b(single)), 1),
            torch.cat((self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)), 1),
            self.branch_pool(average_neighbours(value)),
        )
        return torch.cat(branches, 1)


class AuxiliaryClassifier(nn.Module):
    """The training-time head on the 17x17 plane: held so that published weights load in full, never run here."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.conv0 = BasicConv2d(in_channels, 128, 1)
        self.conv1 = BasicConv2d(128, 768, 5)
        self.fc = nn.Linear(768, classes)


class InceptionV3(nn.Module):
    """A convolutional stem, eleven inception blocks on planes of 35, 17 and 8, a global average.

    Input [N, 3, 299, 299] in [-1, 1], output [N, classes].
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Mixed_5b = InceptionA(192, pool_features=32)
        self.Mixed_5c = InceptionA(256, pool_features=64)
        self.Mixed_5d = InceptionA(288, pool_features=64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, narrow=128)
        self.Mixed_6c = InceptionC(768, narrow=160)
        self.Mixed_6d = InceptionC(768, narrow=160)
        self.Mixed_6e = InceptionC(768, narrow=192)
        self.AuxLogits = AuxiliaryClassifier(768, classes)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(2048, classes)

    def forward(self, image: Tensor) -> Tensor:
        value = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(image)))
        value = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(value)))
        value = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(self.maxpool2(value))))
        value = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(value)))
        value = self.Mixed_6e(self.Mixed_6d(value))
        value = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(value)))
        return self.fc(self.dropout(torch.flatten(self.avgpool(value), 1)))
