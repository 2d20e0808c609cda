"""Batch normalization over the batches of all processes: the result does not depend on how many share a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate import Accelerator
from timm.layers import BatchNormAct2d
from torch import Tensor, distributed, nn
from torch.autograd import Function

from limpq_hub.errors import TrainingError
from limpq_hub.quant.fake_quantization import upcast_half


def check_batch_norms(model: nn.Module) -> None:
    """Raise `TrainingError` if a batch normalization cannot span several processes."""
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            _check_plain(norm)


@contextmanager
def batch_norm_over_all_processes(accelerator: Accelerator, model: nn.Module) -> Iterator[None]:
    """Let every batch normalization of `model` use the statistics of the whole batch, of all processes together.

    Inside, a synchronized module stands in the place of each, under the same names and with the same parameters and
    buffers; at the end the model has its own modules again. With one process nothing is replaced.

    Raises:
        TrainingError: a batch normalization is not a plain `nn.BatchNorm2d` or timm's `BatchNormAct2d`.
    """
    if accelerator.num_processes == 1:
        yield
        return
    norms = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    synchronized = {norm: _synchronized(norm) for norm in norms.values()}
    for name, norm in norms.items():
        model.set_submodule(name, synchronized[norm])
    try:
        yield
    finally:
        for name, norm in norms.items():
            norm.training = synchronized[norm].training
            model.set_submodule(name, norm)


def _synchronized(norm: nn.Module) -> nn.BatchNorm2d:
    """Return a synchronized module with the parameters and buffers of `norm`: no copies, the same tensors."""
    norm = _check_plain(norm)
    module: nn.BatchNorm2d
    # On "meta" it has no tensors of its own.
    if isinstance(norm, BatchNormAct2d):
        module = SynchronizedBatchNormAct2d(norm.num_features, norm.eps, device="meta")
        module.drop, module.act = norm.drop, norm.act
    else:
        module = SynchronizedBatchNorm2d(norm.num_features, norm.eps, device="meta")
    module.momentum, module.training = norm.momentum, norm.training
    module.weight, module.bias = norm.weight, norm.bias
    module.running_mean, module.running_var = norm.running_mean, norm.running_var
    module.num_batches_tracked = norm.num_batches_tracked
    return module


def _check_plain(norm: nn.Module) -> nn.BatchNorm2d:
    # A subclass may compute something else.
    own_class = type(norm) in (nn.BatchNorm2d, BatchNormAct2d)
    if not (own_class and norm.affine and norm.track_running_stats and norm.momentum is not None):
        raise TrainingError(f"{type(norm).__name__} as it is cannot span several processes; train with one")
    return cast(nn.BatchNorm2d, norm)


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that normalizes by the statistics of all processes in train mode."""

    def forward(self, input: Tensor) -> Tensor:
        """Return images normalized, [batch, channels, height, width]; the argument is called as torch calls it."""
        return _normalized_over_all_processes(self, input) if _spans_all_processes(self) else super().forward(input)


class SynchronizedBatchNormAct2d(BatchNormAct2d):
    """timm's `BatchNormAct2d` that normalizes by the statistics of all processes in train mode."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalized and activated, [batch, channels, height, width]."""
        if not _spans_all_processes(self):
            return super().forward(x)
        return self.act(self.drop(_normalized_over_all_processes(self, x)))


def _spans_all_processes(norm: nn.BatchNorm2d) -> bool:
    # Without gradients statistics are being measured, on images that are the same on every process.
    return norm.training and torch.is_grad_enabled()


def _normalized_over_all_processes(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return _BatchNormOverAllProcesses.apply(
        x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps
    )


class _BatchNormOverAllProcesses(Function):
    """Batch normalization in train mode over the batches of all processes, which are of equal size.

    Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015, equations of the backward pass in section 3.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        wide = upcast_half(x)
        count = x.numel() // x.shape[1] * distributed.get_world_size()
        own_var, own_mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)
        moments = torch.stack([own_mean.double(), own_var.double() + own_mean.double() ** 2])
        distributed.all_reduce(moments)
        mean, square = moments / distributed.get_world_size()
        var = (square - mean**2).clamp_min(0)
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
        mean, scale = mean.to(wide.dtype), (var + eps).rsqrt().to(wide.dtype)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.count = count
        factor = scale * weight
        return (wide * _per_channel(factor) + _per_channel(bias - mean * factor)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        wide_gradient = gradient.to(scale.dtype)
        normalized = (x.to(scale.dtype) - _per_channel(mean)) * _per_channel(scale)
        own = torch.stack([wide_gradient.sum((0, 2, 3)), (wide_gradient * normalized).sum((0, 2, 3))])
        shared = own.clone()
        distributed.all_reduce(shared)
        of_bias, of_weight = (_per_channel(total / ctx.count) for total in shared)
        x_gradient = (wide_gradient - of_bias - normalized * of_weight) * _per_channel(scale * weight)
        return x_gradient.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None, None, None


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
