"""`record_forward`: what a quantized network computes in one forward pass, call by call.

It runs once on one image, and every call of a torch function on a value of the run is recorded. Control flow in Python
has been executed by then, so that it needs no analysis.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limpq_hub.deploy.lost_tensors import LostTensors, share_memory
from limpq_hub.deploy.refusals import function_name, refusal
from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.module_calls import watched_module_calls
from limpq_hub.quant.quantizer import LsqQuantizer


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the image.

    Attributes:
        name: unlike that of any other.
        shape: with the batch dimension, which is 1 here.
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a function of torch, or of the quantizer of an input.

    Attributes:
        function: of torch; None of a quantizer.
        arguments, options: positional and by keyword; a `Value` where the run depends on the image, a tensor where a
            parameter or buffer is taken.
        output: what it returns.
        module: name of the module that calls.
        quantizer: the quantizer that it is a call of, or None.
    """

    function: Callable[..., Any] | None
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    output: Value
    module: str
    quantizer: LsqQuantizer | None = None

    @property
    def inputs(self) -> list[Value]:
        """The values that it takes, in the order of its arguments."""
        return list(_leaves((self.arguments, tuple(self.options.values())), Value))

    def same_as(self, other: Call) -> bool:
        """Return whether another call is of the same function, with the same values and constants."""
        return (
            (self.function, self.output, self.module) == (other.function, other.output, other.module)
            and self.quantizer is other.quantizer
            and _same(self.arguments, other.arguments)
            and _same(dict(self.options), dict(other.options))
        )


@dataclass(frozen=True)
class ForwardRecord:
    """All calls of a forward pass in their order.

    Attributes:
        image: the input, [1, channels, height, width].
        logits: what the network returns.
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


@torch.no_grad()
def record_forward(network: nn.Module, input_shape: tuple[int, ...]) -> ForwardRecord:
    """Return what a quantized network computes of an image.

    Args:
        network: on the CPU, in float32; it runs in eval mode, on two images of noise.
        input_shape: (channels, height, width) of one image.

    Raises:
        UnsupportedLayerError: it returns something else than one tensor that depends on the image, or computes in a
            way that calls do not tell: from one of several results of a function, from what was written over in part
            or under another name, or from numbers of the image that no call of torch carries.
    """
    generator = torch.Generator().manual_seed(0)
    record, again = (_recorded(network, torch.randn(1, *input_shape, generator=generator)) for _ in range(2))
    for call, of_other in itertools.zip_longest(record.calls, again.calls):
        if call is None or of_other is None or not call.same_as(of_other):
            differing = call or of_other
            raise refusal(
                differing.module, f"calls {function_name(differing.function)} with what differs from image to image"
            )
    return record


def _recorded(network: nn.Module, image: Tensor) -> ForwardRecord:
    """Return what a network computes of one image; what depends on it in no recorded way is a constant there."""
    recorder = _Recorder(network, image)
    with in_eval_mode(network), recorder.recording():
        output = network(image)
    logits = recorder.value_of(output)
    if logits is None:
        raise UnsupportedLayerError(
            f"{type(network).__name__} returns {type(output).__name__} that is not one tensor computed from the image: "
            "export a network that returns logits alone"
        )
    return ForwardRecord(tuple(recorder.calls), recorder.image, logits)


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
        for images in batches:
            with _Recorder(network, images, note).recording():
                network(images)
    return ranges


class _Recorder(TorchFunctionMode):
    """Notes the calls whose result depends on the image.

    Args:
        network: what runs meanwhile.
        image: its input.
        note_result: is called with the name of each value, and the value.
    """

    def __init__(
        self, network: nn.Module, image: Tensor, note_result: Callable[[str, Tensor], None] = lambda name, x: None
    ) -> None:
        super().__init__()
        self._note_result = note_result
        self.calls: list[Call] = []
        self._names = {id(module): name for name, module in network.named_modules()}
        self._running: list[nn.Module] = []
        # By identity of the tensor, which is held: a tensor that is gone could give its identity to another one.
        self._values: dict[int, tuple[Tensor, Value]] = {}
        self._lost = LostTensors()
        self._refusal: UnsupportedLayerError | None = None
        self._state = {id(x) for x in (*network.parameters(), *network.buffers())}
        self.image = self._new_value(image, "image")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what runs inside.

        Raises:
            UnsupportedLayerError: something cannot be followed.
        """
        try:
            with watched_module_calls(self._running.append, self._leave), self:
                yield
        finally:
            # Python takes an error of this kind inside of an operator such as + for "try the other operand".
            if self._refusal is not None:
                raise self._refusal

    def value_of(self, x: object) -> Value | None:
        """Return the value that a tensor is; None of whatever does not depend on the image."""
        held = self._values.get(id(x))
        return None if held is None else held[1]

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        taken = list(_leaves((args, tuple(options.values())), Tensor))
        versions = [x._version for x in taken]
        result = function(*args, **options)
        # Inside a quantizer nothing is noted: the quantizer is one call.
        if any(isinstance(module, LsqQuantizer) for module in self._running):
            return result
        written = [x for x, version in zip(taken, versions, strict=True) if x._version != version]
        lost = self._lost_of(taken)
        if lost is None and all(self.value_of(x) is None for x in taken):
            return result
        if isinstance(result, Tensor):
            self._check_followed(lost)
            followed = self.value_of(result) is not None
            self._note(function, _replaced(args, self._known), _replaced(options, self._known), result)
            self._lose_written(written, result if followed else None)
        else:
            self._lose_written(written, None)
            for x in _leaves(result, Tensor):
                self._lost.lose(x, f"one of several results of {function_name(function)}")
        return result

    def _lost_of(self, taken: Iterable[Tensor]) -> str | None:
        """Return what the first of these tensors that cannot be followed is; None if all can."""
        return next((why for x in taken if self.value_of(x) is None and (why := self._lost.why(x)) is not None), None)

    def _check_followed(self, lost: str | None) -> None:
        """Raise `UnsupportedLayerError` if something that cannot be followed is taken; `recording` raises it again."""
        if lost is not None:
            refused = refusal(self._module(), f"takes {lost}, which cannot be followed")
            self._refusal = self._refusal or refused
            raise refused

    def _lose_written(self, written: Iterable[Tensor], followed: Tensor | None) -> None:
        """Note that whatever shares its memory with what was written over cannot be followed.

        Args:
            followed: what was written over and returned, which is a value of its own.
        """
        for x in written:
            self._lost.lose(x, "what was written over in part or under another name")
            for held, _ in list(self._values.values()):
                if held is not followed and share_memory(held, x):
                    del self._values[id(held)]

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._running.pop()
        if isinstance(module, LsqQuantizer) and module.bits is not None and inputs:
            self._check_followed(self._lost_of(inputs[:1]))
            if (x := self.value_of(inputs[0])) is not None:
                self._note(None, (x,), {}, output, module)

    def _note(
        self,
        function: Callable[..., Any] | None,
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Tensor,
        quantizer: LsqQuantizer | None = None,
    ) -> None:
        module = self._module()
        output = self._new_value(result, f"{module or 'network'}:{len(self.calls)}")
        self.calls.append(Call(function, arguments, options, output, module, quantizer))
        if function is not None:
            self._note_result(output.name, result)

    def _module(self) -> str:
        """Return the name of the innermost module that runs and has one; empty for the network itself."""
        return next((name for running in reversed(self._running) if (name := self._names.get(id(running)))), "")

    def _new_value(self, x: Tensor, name: str) -> Value:
        value = Value(name, tuple(x.shape))
        # What works in place returns the tensor that it was given, which is another value from then on.
        self._values[id(x)] = (x, value)
        return value

    def _known(self, x: object) -> object:
        value = self.value_of(x)
        if value is None and isinstance(x, Tensor) and id(x) not in self._state:
            return x.clone()  # a constant of the pass, which may be written over later
        return value or x


def _replaced(content: Any, replace: Callable[[object], object]) -> Any:
    """Return nested tuples, lists and dictionaries with every other object replaced."""
    if isinstance(content, tuple | list) and not isinstance(content, torch.Size):
        return type(content)(_replaced(item, replace) for item in content)
    if isinstance(content, dict):
        return {key: _replaced(item, replace) for key, item in content.items()}
    return replace(content)


def _same(content: Any, other: Any) -> bool:
    """Return whether nested tuples, lists and dictionaries hold the same; two numbers that are none are the same."""
    if isinstance(content, Tensor) and isinstance(other, Tensor):
        return content.shape == other.shape and torch.allclose(content, other, rtol=0, atol=0, equal_nan=True)
    if isinstance(content, tuple | list) and isinstance(other, tuple | list):
        return len(content) == len(other) and all(map(_same, content, other))
    if isinstance(content, dict) and isinstance(other, dict):
        return content.keys() == other.keys() and all(_same(content[key], other[key]) for key in content)
    return bool(content == other)


def _leaves(content: Any, kind: type) -> Iterator[Any]:
    """Yield every object of a class in nested tuples and lists."""
    if isinstance(content, tuple | list):
        for item in content:
            yield from _leaves(item, kind)
    elif isinstance(content, kind):
        yield content
