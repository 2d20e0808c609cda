"""Small convolutional networks whose arithmetic can be made exact in float32, for the tests of exported ones."""

from __future__ import annotations

from torch import Tensor, nn


class Block(nn.Module):
    """Every kind of layer that a small convolutional network has, with two quantizers on one value."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.expand = nn.Conv2d(8, 16, 1, bias=False)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.project = nn.Conv2d(16, 8, 1, bias=True)
        self.shortcut = nn.Conv2d(8, 8, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, eps=0) for channels in (8, 16, 16, 8))
        self.activation = activation
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        first = self.activation(self.norms[0](self.stem(x)))
        inside = self.activation(self.norms[1](self.expand(first)))
        inside = self.activation(self.norms[2](self.depthwise(inside)))
        added = self.norms[3](self.project(inside)) + self.shortcut(first)
        return self.classifier(self.pool(added.relu()).flatten(1))


class InvertedResidual(nn.Module):
    """A shortcut between linear bottlenecks, which no activation function follows, as in MobileNetV2."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.expand = nn.Conv2d(8, 16, 1, bias=False)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.project = nn.Conv2d(16, 8, 1, bias=False)
        self.head = nn.Conv2d(8, 16, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, eps=0) for channels in (8, 16, 16, 8))
        self.activation = activation
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        first = self.norms[0](self.stem(x))
        inside = self.activation(self.norms[1](self.expand(first)))
        inside = self.activation(self.norms[2](self.depthwise(inside)))
        added = self.norms[3](self.project(inside)) + first
        return self.classifier(self.pool(self.activation(self.head(added))).flatten(1))
