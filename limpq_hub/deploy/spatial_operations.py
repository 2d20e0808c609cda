"""How convolutions, linear maps, pooling and padding of torch are written in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from limpq_hub.deploy.node_writer import NodeWriter
from limpq_hub.deploy.recorded_call import Value


class SpatialOperations(NodeWriter):
    """Writes calls that look at neighbours; each method takes the arguments of the function of its name."""

    def adaptive_pool(self, input: Value, output_size: Any) -> str:
        """Write the mean of each channel; no other size is known."""
        sizes = {output_size} if isinstance(output_size, int) else set(output_size)
        if sizes != {1}:
            raise self.refused(f"to {output_size}; only to a single value per channel can be exported")
        return self.node("GlobalAveragePool", [self.name_of(input)])

    def avg_pool(
        self,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> str:
        """Write an average pooling of two dimensions."""
        if divisor_override is not None:
            raise self.refused("with a divisor of its own")
        x, before, after = self.name_of(input), _sides(padding, 2), _sides(padding, 2)
        counted = int(count_include_pad)
        if ceil_mode:
            beyond = self._windows_end(input, kernel_size, stride, before)
            if count_include_pad and any(before):
                # What a window has of the padding counts as zeros, what it has beyond does not count.
                zeros = [min(most, end) for most, end in zip(before, beyond, strict=True)]
                x = self._padded(input, before, zeros)
                before, beyond = [0, 0], [end - done for end, done in zip(beyond, zeros, strict=True)]
            after, counted = beyond, 0
        return self._pool("AveragePool", x, kernel_size, stride, [*before, *after], count_include_pad=counted)

    def max_pool(
        self,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> str:
        """Write a maximum pooling of two dimensions."""
        before, kernel, gaps = _sides(padding, 2), _sides(kernel_size, 2), _sides(dilation, 2)
        after = before
        if ceil_mode:
            extents = [(side - 1) * gap + 1 for side, gap in zip(kernel, gaps, strict=True)]
            after = self._windows_end(input, extents, stride or kernel_size, before)
        # ONNX Runtime takes no padding as wide as the kernel, which a dilated one can have at its end.
        rounds_up = any(end >= side for end, side in zip(after, kernel, strict=True))
        return self._pool(
            "MaxPool",
            self.name_of(input),
            kernel_size,
            stride,
            [*before, *(before if rounds_up else after)],
            dilations=gaps,
            ceil_mode=int(rounds_up),
        )

    def _windows_end(self, input: Value, kernel: Any, stride: Any, before: Sequence[int]) -> list[int]:
        """Return how far the last window of each side ends beyond the input, 0 where it does not.

        With that as the padding, and rounding down, there are as many windows as torch has of `ceil_mode`: what reads
        ONNX counts them in other ways, and divides by other numbers.
        """
        windows = zip(
            input.shape[-2:],
            self.call.output.shape[-2:],
            _sides(kernel, 2),
            _sides(stride or kernel, 2),
            before,
            strict=True,
        )
        return [max(0, (count - 1) * step + side - size - start) for size, count, side, step, start in windows]

    def _pool(self, operator: str, x: str, kernel: Any, stride: Any, pads: Sequence[int], **attributes: Any) -> str:
        return self.node(
            operator,
            [x],
            kernel_shape=_sides(kernel, 2),
            strides=_sides(stride or kernel, 2),
            pads=pads,
            **attributes,
        )

    def pad(self, input: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> str:
        """Write padding with a constant."""
        if mode != "constant":
            raise self.refused(f"with {mode} padding; only padding with a constant can be exported")
        # torch counts from the last dimension, before and after.
        return self._padded(input, list(pad[0::2])[::-1], list(pad[1::2])[::-1], value or 0.0)

    def _padded(self, input: Value, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> str:
        """Write padding of the last dimensions with a number."""
        free = [0] * (len(input.shape) - len(before))
        amounts = self.number([*free, *before, *free, *after], np.int64)
        return self.node("Pad", [self.name_of(input), amounts, self.number(value)])

    def linear(self, input: Value, weight: Tensor | str, bias: Tensor | str | None = None) -> str:
        """Write a linear map; a weight or bias may be given by its name in the graph."""
        x, factors = self.name_of(input), weight if isinstance(weight, str) else self.name_of(weight)
        offset = None if bias is None else bias if isinstance(bias, str) else self.name_of(bias)
        if len(input.shape) == 2:
            return self.node("Gemm", [x, factors, *([] if offset is None else [offset])], transB=1)
        product = self.node("MatMul", [x, self.node("Transpose", [factors], perm=[1, 0])])
        return product if offset is None else self.node("Add", [product, offset])

    def convolution(
        self,
        input: Value,
        weight: Tensor | str,
        bias: Tensor | str | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> str:
        """Write a convolution; a weight or bias may be given by its name in the graph."""
        factors = weight if isinstance(weight, str) else self.name_of(weight)
        offset = [] if bias is None else [bias if isinstance(bias, str) else self.name_of(bias)]
        dims, kernel = len(input.shape) - 2, self._kernel(weight)
        return self.node(
            "Conv",
            [self.name_of(input), factors, *offset],
            kernel_shape=kernel,
            strides=_sides(stride, dims),
            pads=_paddings(padding, kernel, _sides(dilation, dims)),
            dilations=_sides(dilation, dims),
            group=groups,
        )

    def _kernel(self, weight: Tensor | str) -> list[int]:
        taken = self.call.arguments[1] if len(self.call.arguments) > 1 else self.call.options["weight"]
        return list((weight if isinstance(weight, Tensor) else taken).shape[2:])


def _sides(size: Any, dims: int) -> list[int]:
    sizes = [size] if isinstance(size, int) else list(size)
    return sizes * dims if len(sizes) == 1 else sizes


def _paddings(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Return the padding before and after each side, as ONNX has it."""
    if padding == "same":
        totals = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        return [total // 2 for total in totals] + [total - total // 2 for total in totals]
    return (_sides(0, len(kernel)) if padding == "valid" else _sides(padding, len(kernel))) * 2
