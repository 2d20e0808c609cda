"""How each function of torch that networks call between their quantized layers is written in ONNX."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from limpq_hub.deploy.recorded_call import Call, Value
from limpq_hub.deploy.spatial_operations import SpatialOperations

Bound: TypeAlias = Value | Tensor | float
ADDITIONS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}


class FloatOperations(SpatialOperations):
    """Writes calls in float; each method takes the arguments of the function that it is for."""

    def write(self, call: Call, *, weight: str | None = None, bias: str | None = None) -> str:
        """Write a call and return the name of its result.

        Args:
            weight, bias: names of what a convolution or linear map multiplies by and adds, instead of what it is
                called with.

        Raises:
            UnsupportedLayerError: the function is none of those known here, or is called in a way that ONNX has not.
        """
        method = self.method_of(call)
        arguments, options = list(call.arguments), dict(call.options)
        for place, key, name in ((1, "weight", weight), (2, "bias", bias)):
            if name is not None and len(arguments) > place:
                arguments[place] = name
            elif name is not None:
                options[key] = name
        try:
            inspect.signature(method).bind(*arguments, **options)
        except TypeError as error:
            raise self.refused(f"with arguments that this writer does not know ({error})") from error
        return method(*arguments, **options)

    def method_of(self, call: Call) -> Callable[..., str]:
        """Return what writes calls of the function that a call is of; the call becomes the current one.

        Raises:
            UnsupportedLayerError: the function is none of those known here.
        """
        self.call = call
        method = self._methods().get(call.function)
        if method is None:
            raise self.refused("which this writer does not know")
        return method

    def _methods(self) -> dict[Any, Callable[..., str]]:
        relu, clip, add, multiply = self._relu, self._clip, self._add, self._multiply
        tensor_methods: dict[Any, Callable[..., str]] = {
            functional.relu: relu,
            functional.relu6: self._relu6,
            functional.hardtanh: self._hardtanh,
            functional.batch_norm: self._batch_norm,
            functional.silu: self._silu,
            functional.hardswish: self._hardswish,
            functional.hardsigmoid: self._hardsigmoid,
            functional.gelu: self._gelu,
            functional.dropout: self._same,
            functional.pad: self.pad,
            functional.linear: self.linear,
            functional.avg_pool2d: self.avg_pool,
            functional.adaptive_avg_pool2d: self.adaptive_pool,
            torch.adaptive_avg_pool1d: self.adaptive_pool,
            torch.max_pool2d: self.max_pool,
            functional.max_pool2d: self.max_pool,
            torch.conv1d: self.convolution,
            torch.conv2d: self.convolution,
            torch.conv3d: self.convolution,
            torch.cat: self._concatenate,
            Tensor.view: self._reshape,
            Tensor.contiguous: self._same,
            Tensor.clone: self._same,
            Tensor.float: self._same,
        }
        in_both: dict[str, Callable[..., str]] = {
            "relu": relu,
            "relu_": relu,
            "clamp": clip,
            "clamp_": clip,
            "add": add,
            "add_": add,
            "__add__": add,
            "__iadd__": add,
            "__radd__": add,
            "mul": multiply,
            "mul_": multiply,
            "__mul__": multiply,
            "__imul__": multiply,
            "__rmul__": multiply,
            "sigmoid": self._sigmoid,
            "sigmoid_": self._sigmoid,
            "mean": self._mean,
            "flatten": self._flatten,
            "reshape": self._reshape,
        }
        for name, method in in_both.items():
            for owner in (torch, Tensor):
                if hasattr(owner, name):
                    tensor_methods[getattr(owner, name)] = method
        return tensor_methods

    def _same(self, input: Value, *_: Any, **__: Any) -> str:
        return self.name_of(input)

    def _relu(self, input: Value, inplace: bool = False) -> str:
        return self.node("Relu", [self.name_of(input)])

    def _clip(self, input: Value, min: Bound | None = None, max: Bound | None = None, inplace: bool = False) -> str:
        x = self.name_of(input)
        if not any(isinstance(bound, Tensor | Value) for bound in (min, max)):
            return self.node("Clip", [x, *("" if bound is None else self.name_of(bound) for bound in (min, max))])
        # Clip takes numbers alone, not one for each channel.
        for operator, bound in (("Max", min), ("Min", max)):
            if bound is not None:
                x = self.node(operator, [x, self.name_of(bound)])
        return x

    def _relu6(self, input: Value, inplace: bool = False) -> str:
        return self._clip(input, 0.0, 6.0)

    def _hardtanh(self, input: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> str:
        return self._clip(input, min_val, max_val)

    def _sigmoid(self, input: Value) -> str:
        return self.node("Sigmoid", [self.name_of(input)])

    def _silu(self, input: Value, inplace: bool = False) -> str:
        return self.node("Mul", [self.name_of(input), self._sigmoid(input)])

    def _hardswish(self, input: Value, inplace: bool = False) -> str:
        return self.node("HardSwish", [self.name_of(input)])

    def _hardsigmoid(self, input: Value, inplace: bool = False) -> str:
        return self.node("HardSigmoid", [self.name_of(input)], alpha=1 / 6, beta=0.5)

    def _gelu(self, input: Value, approximate: str = "none") -> str:
        return self.node("Gelu", [self.name_of(input)], approximate=approximate)

    def _add(self, input: Value | float, other: Value | Tensor | float, *, alpha: float = 1) -> str:
        if alpha != 1:
            raise self.refused(f"with a factor of {alpha}, which ONNX has not")
        return self.node("Add", [self.name_of(input), self.name_of(other)])

    def _multiply(self, input: Value | float, other: Value | Tensor | float) -> str:
        return self.node("Mul", [self.name_of(input), self.name_of(other)])

    def _concatenate(self, tensors: Sequence[Value | Tensor], dim: int = 0) -> str:
        image = self.call.inputs[0]
        within_images = dim % len(image.shape) != 0
        names = [
            self._for_each_image(x, image) if within_images and isinstance(x, Tensor) else self.name_of(x)
            for x in tensors
        ]
        return self.node("Concat", names, axis=dim)

    def _for_each_image(self, constant: Tensor, value: Value) -> str:
        """Write a constant, [1, ...], as often as a value has images."""
        if self._batch is not None:
            return self.name_of(constant)
        images = self.node("Shape", [self.name_of(value)], start=0, end=1)
        sizes = self.node("Concat", [images, self.number(constant.shape[1:], np.int64)], axis=0)
        return self.node("Expand", [self.name_of(constant), sizes])

    def normalization(self, call: Call) -> tuple[np.ndarray, np.ndarray]:
        """Return what a call of `batch_norm` multiplies each channel by, and then adds to it: float32, [channels].

        Raises:
            UnsupportedLayerError: it depends on the other pictures of the batch.
        """
        self.call = call
        return self._factor_and_offset(*call.arguments, **call.options)

    def _batch_norm(self, input: Value, *numbers: Any, **options: Any) -> str:
        factor, offset = self._factor_and_offset(input, *numbers, **options)
        shape = [1, -1] + [1] * (len(input.shape) - 2)
        scaled = self.node("Mul", [self.name_of(input), self.number(factor.reshape(shape))])
        return self.node("Add", [scaled, self.number(offset.reshape(shape))])

    def _factor_and_offset(
        self,
        input: Value,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> tuple[np.ndarray, np.ndarray]:
        if training or running_mean is None or running_var is None:
            raise self.refused("with the statistics of the batch, which depend on the other pictures of it")
        factor = (1.0 if weight is None else weight.detach().double()) / (running_var.detach().double() + eps).sqrt()
        offset = (0.0 if bias is None else bias.detach().double()) - running_mean.detach().double() * factor
        return factor.float().numpy(), offset.float().numpy()

    def _mean(self, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> str:
        if dim is None:
            raise self.refused("over the whole batch")
        axes = self.number([dim] if isinstance(dim, int) else list(dim), np.int64)
        return self.node("ReduceMean", [self.name_of(input), axes], keepdims=int(keepdim))

    def _flatten(self, input: Value, start_dim: int = 0, end_dim: int = -1) -> str:
        first, last = (dim % len(input.shape) for dim in (start_dim, end_dim))
        if not first:
            raise self.refused("over the batch")
        middle = math.prod(input.shape[first : last + 1])
        return self._reshaped(input, [*input.shape[1:first], middle, *input.shape[last + 1 :]])

    def _reshape(self, input: Value, *shape: Any) -> str:
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if self.call.output.shape[0] != 1:
            raise self.refused(f"to {list(sizes)}, which mixes the batch with other dimensions")
        return self._reshaped(input, self.call.output.shape[1:])

    def _reshaped(self, input: Value, sizes: Sequence[int]) -> str:
        # 0 leaves the batch as it is.
        return self.node("Reshape", [self.name_of(input), self.number([0, *sizes], np.int64)])
