"""How far each quantized layer's output is from its output at the most bits: a loss of the retraining-free recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from limpq_hub.quant.fake_quantization import upcast_half
from limpq_hub.quant.quantized import quantized_layers


class LayerOutputs:
    """Compares the outputs of the quantized layers in each pass with those of the first pass of a step.

    A layer whose weight another module takes, `F.linear(x, self.qkv.weight)`, is never called and not compared.

    Args:
        supernet: the network of the passes.
        weight: factor on the distance.

    Source: Tang et al., "Retraining-free Model Quantization via One-Shot Weight-Coupling Learning", CVPR 2024.
    """

    def __init__(self, supernet: nn.Module, weight: float) -> None:
        self.weight = weight
        self._layers = [layer for _, layer in quantized_layers(supernet) if len(layer.weight_quantizer.candidates) > 1]
        self._of_first_pass: list[Tensor] = []
        self._of_this_pass: list[Tensor] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note the outputs of the passes inside; at the end they are let go of."""
        # Copies, because an operation in place after a layer, such as a ReLU, writes into its output.
        handles = [
            layer.register_forward_hook(lambda layer, inputs, output: self._of_this_pass.append(output.clone()))
            for layer in self._layers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._of_first_pass, self._of_this_pass = [], []

    def distance(self) -> Tensor | float:
        """Return the weighted sum over the layers of the mean squared difference to the first pass; 0 in it."""
        outputs, self._of_this_pass = self._of_this_pass, []
        if not self._of_first_pass:
            self._of_first_pass = [output.detach() for output in outputs]
            return 0.0
        pairs = zip(outputs, self._of_first_pass, strict=True)
        return self.weight * sum(
            nn.functional.mse_loss(upcast_half(output), upcast_half(first)) for output, first in pairs
        )
