"""`SwitchableBatchNorm2d`: a batch normalization with statistics of its own for each bit-width."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from limpq_hub.quant.tracing.forward_trace import copy_of


class SwitchableBatchNorm2d(nn.Module):
    """One copy of a batch normalization per candidate bit-width; the weight bits of the layer before choose it.

    Works for subclasses of `nn.BatchNorm2d` too, timm's `BatchNormAct2d` among them: the copies are of their class.

    Attributes:
        layer: name of the quantized layer whose weight bits choose the copy.
        bits: the weight bit-width whose copy runs.
    """

    def __init__(self, norm: nn.BatchNorm2d, candidates: tuple[int, ...], layer: str) -> None:
        super().__init__()
        self.layer = layer
        self.copies = nn.ModuleDict({str(bits): copy_of(norm) for bits in candidates})
        self.bits = candidates[0]

    @property
    def active(self) -> nn.BatchNorm2d:
        """The copy that runs."""
        # A ModuleDict does not tell the class of its modules.
        return cast(nn.BatchNorm2d, self.copies[str(self.bits)])

    def __getattr__(self, name: str) -> Any:
        """Return what a network reads of its normalization, such as the weight, of the copy that runs."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name in ("active", "bits", "copies"):
                raise
            return getattr(self.active, name)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return what the active copy computes of the same arguments, both [batch, channels, height, width]."""
        return cast(Tensor, self.active(*args, **kwargs))


def switching_norms(model: nn.Module) -> dict[str, str]:
    """Return, by the name of each switchable batch normalization, the layer whose weight bits choose its copy."""
    return {name: module.layer for name, module in model.named_modules() if isinstance(module, SwitchableBatchNorm2d)}
