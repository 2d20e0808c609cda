"""`record_forward`: what a quantized network computes in one forward pass, call by call.

It runs on two images, and every call of a torch function on a value of the run is recorded. Control flow in Python has
been executed by then, so that it needs no analysis; what differs between the two is no constant, and refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limpq_hub.deploy.call_recorder import CallRecorder
from limpq_hub.deploy.recorded_call import Call, Value
from limpq_hub.deploy.refusals import function_name, refusal
from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.modes import in_eval_mode

_DIFFERS = "by what differs from image to image (numbers taken with .item() or numpy, or drawn, are in no file)"


@dataclass(frozen=True)
class ForwardRecord:
    """All calls of a forward pass in their order.

    Attributes:
        image: the input, [1, channels, height, width].
        logits: what the network returns, [1, classes, ...].
    """

    calls: tuple[Call, ...]
    image: Value
    logits: Value

    def consumers(self, value: Value) -> list[Call]:
        """Return the calls that take a value."""
        return [call for call in self.calls if value in call.inputs]

    def producer(self, value: Value) -> Call | None:
        """Return the call that a value comes from; None of the image."""
        return next((call for call in self.calls if call.output == value), None)


# Not in inference mode, whose tensors do not count what is written into them.
@torch.inference_mode(False)
@torch.no_grad()
def record_forward(network: nn.Module, input_shape: tuple[int, ...]) -> ForwardRecord:
    """Return what a quantized network computes of an image.

    Args:
        network: on the CPU, in float32; it runs in eval mode, on two images of noise.
        input_shape: (channels, height, width) of one image.

    Raises:
        UnsupportedLayerError: it returns something else than one tensor that depends on the image and has a dimension
            of classes, or computes in a way that calls do not tell: from one of several results of a function, from
            what was written over in part or under another name, or from numbers of the image that no call of torch
            carries.
    """
    generator = torch.Generator().manual_seed(0)
    record, again = (_recorded(network, torch.randn(1, *input_shape, generator=generator)) for _ in range(2))
    for call, of_other in itertools.zip_longest(record.calls, again.calls):
        if call is None or of_other is None or not call.same_as(of_other):
            differing = call or of_other
            raise refusal(differing.module, f"calls {function_name(differing.function)} {_DIFFERS}")
    if record.logits != again.logits:
        raise refusal("", f"returns one result or another {_DIFFERS}")
    return record


def _recorded(network: nn.Module, image: Tensor) -> ForwardRecord:
    """Return what a network computes of one image; what depends on it in no recorded way is a constant there."""
    recorder = CallRecorder(network, image)
    with in_eval_mode(network), recorder.recording():
        output = network(image)
    logits = recorder.value_of(output)
    if logits is None:
        raise UnsupportedLayerError(
            f"{type(network).__name__} returns {type(output).__name__} that is not one tensor computed from the image: "
            "export a network that returns logits alone"
        )
    if len(logits.shape) < 2:
        raise UnsupportedLayerError(
            f"{type(network).__name__} returns a tensor of shape {list(logits.shape)} of one image; export one of "
            "[batch, classes], also of a single image or class: flatten(1), not squeeze()"
        )
    return ForwardRecord(tuple(recorder.calls), recorder.image, logits)


@torch.inference_mode(False)
@torch.no_grad()
def value_ranges(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest number of each value over images, by the names of `record_forward`.

    Args:
        network: as `record_forward` takes it.
        batches: [batch, 3, height, width] each.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def note(name: str, x: Tensor) -> None:
        """Widen the range of a value to hold `x`; a range always holds 0."""
        low, high = ranges.get(name, (0.0, 0.0))
        ranges[name] = (min(low, float(x.min())), max(high, float(x.max())))

    with in_eval_mode(network):
        for batch in batches:
            images = batch.clone()
            with CallRecorder(network, images, note).recording():
                network(images)
    return ranges
