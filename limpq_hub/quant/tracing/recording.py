"""`Recorder`: notes, while a network runs, what it multiplies and which modules do so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limpq_hub.quant.bounds.value_bounds import ValueBounds
from limpq_hub.quant.module_calls import watched_module_calls
from limpq_hub.quant.tracing.mac_counter import MacCounter, parameter_behind
from limpq_hub.quant.tracing.operations import (
    ATTENTION,
    BATCH_NORM,
    CONVOLUTIONS,
    WEIGHT_OPERATIONS,
    Multiplication,
    attention,
    batch_norm,
    product,
    weighted,
)
from limpq_hub.quant.tracing.quantizable import LAYER_CLASSES, layers_of


@dataclass
class Operation:
    """What one forward pass of one image shows of a layer or product; a layer that is called twice counts twice.

    Attributes:
        kind: "layer" of a convolution or linear map, "product" of two activations, "float" of what stays in float.
        macs: multiply-accumulate operations.
        macs_limpq: the same as the published script counts them.
        inputs: elements of the largest input that it was given.
        padded_inputs: the same of what it multiplies; more than `inputs` where it pads by itself, as a convolution of
            TensorFlow or one that pads by reflection does.
        weights: elements of its weight; 0 of a product.
        low, high: between which values its input lies, whatever the pictures.
        computes_weight: whether the layer makes its weight anew at every call, such as a standardised one.
        mixes_weights: whether it multiplies by its own weight and by one that it makes.
        elements_per_sample: of its largest first and second operand whose first dimension is not the batch alone, as of
            windows [batch * windows, tokens, channels]; None where it is.
    """

    kind: Literal["layer", "product", "float"]
    macs: int = 0
    macs_limpq: int = 0
    inputs: int = 0
    padded_inputs: int = 0
    weights: int = 0
    low: float = inf
    high: float = -inf
    computes_weight: bool = False
    mixes_weights: bool = False
    elements_per_sample: tuple[int | None, int | None] = (None, None)


@dataclass
class ModuleCall:
    """One call of a module.

    Attributes:
        name: of the module; None of one that is registered nowhere.
        given: elements of its first argument; None where that is no tensor or was given by name.
        products: how many products it has made so far, outside of the modules that it called.
    """

    module: nn.Module
    name: str | None
    given: int | None
    products: int = 0


@dataclass(frozen=True)
class Call:
    """One call of a function that multiplies.

    Attributes:
        key: name of the layer whose weight it takes, or (name of the module, index) of a product.
        inside: the module calls that were running, the outermost first.
    """

    key: str | tuple[str | None, int]
    inside: tuple[ModuleCall, ...]


class Recorder(TorchFunctionMode):
    """Records the calls of functions that multiply, as long as it is active.

    Args:
        network: what runs meanwhile.

    Attributes:
        operations: by the key of their calls, in the order of execution; those that were dispatched in any other way by
            "module:operation".
        calls: in the order of execution.
        norm_feeds: for each batch normalization, by name, the convolution that ran last before it.
        ties: for each layer that shares its weight with one before it, by name, that one.
        constants: buffers that are multiplied by as they are, by name; not those that a layer computes its weight in.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.operations: dict[Any, Operation] = {}
        self.calls: list[Call] = []
        self.norm_feeds: dict[str, str] = {}
        self.ties: dict[str, str] = {}
        self._names = {id(module): name for name, module in network.named_modules()}
        self._parameters = {id(parameter): name for name, parameter in network.named_parameters()}
        self.constants: set[str] = set()
        self._buffers = {id(buffer): (name, buffer._version) for name, buffer in network.named_buffers()}
        self._layer_of: dict[int, str] = {}
        for name, layer in layers_of(network):
            first = self._layer_of.setdefault(id(layer.weight), name)
            if first != name:
                self.ties[name] = first
        self._counter, self._bounds = MacCounter(self._unclaimed), ValueBounds()
        self._running: list[ModuleCall] = []
        self._last_convolution = ""

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what runs inside."""
        with watched_module_calls(self._enter, self._leave), self._bounds, self._counter, self:
            yield

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        if function in WEIGHT_OPERATIONS:
            return self._weighted(function, weighted(function, args, options))
        if function is ATTENTION:
            return attention(*args, **options, multiply_scores=self._product, multiply_values=self._product)
        if function is BATCH_NORM:
            return batch_norm(*args, **options)
        multiplication = product(function, args, options)
        return function(*args, **options) if multiplication is None else self._product(multiplication)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note that a module starts, and the convolution in front of a batch normalization."""
        name = self._names.get(id(module))
        given = inputs[0].numel() if inputs and isinstance(inputs[0], Tensor) else None
        self._running.append(ModuleCall(module, name, given))
        if isinstance(module, nn.BatchNorm2d) and name is not None and self._last_convolution:
            self.norm_feeds.setdefault(name, self._last_convolution)

    def _leave(self, module: nn.Module, inputs: object, output: object) -> None:
        self._running.pop()

    def _weighted(self, function: Callable[..., Any], multiplication: Multiplication) -> Tensor:
        """Count a convolution or linear map for the layer whose weight it takes; return its result."""
        running, weight = self._running[-1], multiplication.second
        layer = self._layer_of.get(id(weight))
        constant, version = self._buffers.get(id(weight), ("", -1))
        if constant and weight._version == version:
            self.constants.add(constant)
        else:
            constant = ""
        computes_weight = layer is None and id(weight) not in self._parameters and not constant
        if computes_weight and isinstance(running.module, LAYER_CLASSES) and running.name is not None:
            layer = self.ties.get(running.name, running.name)
        if layer is None:
            return self._counted(self._unclaimed(function.__name__, [multiplication.first, weight]), multiplication)
        operation = self.operations.setdefault(
            layer, Operation("layer", weights=weight.numel(), computes_weight=computes_weight)
        )
        operation.mixes_weights |= operation.computes_weight != computes_weight
        self.calls.append(Call(layer, tuple(self._running)))
        if function in CONVOLUTIONS:
            self._last_convolution = layer
        operation.elements_per_sample = (
            _sample_elements(multiplication.first, operation.elements_per_sample[0]),
            None,
        )
        return self._counted(operation, multiplication)

    def _product(self, multiplication: Multiplication) -> Tensor:
        running = self._running[-1]
        key = (running.name, running.products)
        running.products += 1
        self.calls.append(Call(key, tuple(self._running)))
        operation = self.operations.setdefault(key, Operation("product"))
        first, second = operation.elements_per_sample
        operation.elements_per_sample = (
            _sample_elements(multiplication.first, first),
            _sample_elements(multiplication.second, second),
        )
        return self._counted(operation, multiplication)

    def _counted(self, operation: Operation, multiplication: Multiplication) -> Tensor:
        x, before = multiplication.first, operation.macs
        with self._counter.counting_in(operation):
            output = multiplication.result()
        published = _macs_limpq(self._running[-1].module, multiplication, output)
        operation.macs_limpq += operation.macs - before if published is None else published
        operation.inputs = max(operation.inputs, _numbers_given(self._running[-1], x))
        operation.padded_inputs = max(operation.padded_inputs, x.numel())
        bounds = self._bounds.of(x)
        operation.low, operation.high = min(operation.low, bounds.low), max(operation.high, bounds.high)
        return output

    def _unclaimed(self, function: str, operands: list[Tensor]) -> Operation:
        """Return what to count an operation in that belongs to no layer: one for each module and function."""
        parameters = [parameter for x in operands if (parameter := parameter_behind(x)) is not None and x.ndim > 1]
        where = (self._running[-1].name if self._running else None) or "network"
        names = [self._parameters[id(parameter)] for parameter in parameters if id(parameter) in self._parameters]
        operation = self.operations.setdefault(names[0] if names else f"{where}:{function}", Operation("float"))
        operation.weights = operation.weights or sum(parameter.numel() for parameter in parameters)
        inputs = [x for x in operands if parameter_behind(x) is None] or operands[:1]  # of two parameters the first
        operation.inputs = max([operation.inputs, *(x.numel() for x in inputs)])
        return operation


def _sample_elements(x: Tensor, largest: int | None) -> int | None:
    """Return the elements of an operand of one image, or of the largest before it; None if all were of a batch of 1."""
    return largest if x.shape[:1] == (1,) else max(largest or 0, x.numel())


def _numbers_given(running: ModuleCall, x: Tensor) -> int:
    """Return how many numbers a layer was given that multiplies `x`: a convolution may have padded them by itself."""
    if running.given is None or not isinstance(running.module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return x.numel()
    return min(running.given, x.numel())


def _macs_limpq(layer: nn.Module, multiplication: Multiplication, output: Tensor) -> int | None:
    """Return the MACs of a convolution as the published script counts them: it rounds the area down, not each side."""
    weight = multiplication.second
    if not isinstance(layer, nn.Conv2d) or isinstance(layer.padding, str) or weight.ndim != 4:
        return None
    # Other modes than zeros pad before they multiply.
    paddings = layer.padding if layer.padding_mode == "zeros" else (0, 0)
    height, width = (
        (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1
        for size, padding, dilation, kernel, stride in zip(
            multiplication.first.shape[-2:],
            paddings,
            layer.dilation,
            layer.kernel_size,
            layer.stride,
            strict=True,
        )
    )
    return layer.out_channels * int(height * width) * weight[0].numel()
