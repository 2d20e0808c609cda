"""A network that multiplies by the weight of a layer which it never calls."""

from torch import Tensor, nn


class TakesAWeight(nn.Module):
    """A linear map by the weight of a layer that is never called, between two that are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu().mean((2, 3))
        return self.head(nn.functional.linear(x, self.middle.weight).relu())
