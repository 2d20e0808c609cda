"""Several processes that train one network: as many as asked, the same gradients, the same batch statistics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from timm.layers import BatchNormAct2d
from torch import Tensor, distributed, nn
from torch.autograd import Function

from limpq_hub.errors import TrainingError
from limpq_hub.quant.quantizer import widened

_LAUNCHERS = re.compile(
    r"(accelerate(_cli)?(\.py|\.exe)?\0launch|accelerate-launch|accelerate\.commands\.launch)(\0|$)"
)


def check_processes(accelerator: Accelerator) -> None:
    """Raise `TrainingError` if `accelerate launch` was asked for more processes than it started.

    `accelerate launch --cpu --num_processes 2` starts one process without a word.
    """
    asked = _processes_asked_for()
    if asked is not None and asked != accelerator.num_processes:
        raise TrainingError(
            f"accelerate launch was asked for {asked} processes and started {accelerator.num_processes}; on CPUs use "
            f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node {asked} with the same script"
        )


@torch.no_grad()
def same_everywhere_(accelerator: Accelerator, model: nn.Module) -> None:
    """Give every process the parameters and buffers of the main one."""
    if accelerator.num_processes > 1:
        tensors = list(model.state_dict().values())
        for tensor, received in zip(tensors, broadcast([tensor.clone() for tensor in tensors]), strict=True):
            tensor.copy_(received)


@torch.no_grad()
def reduce_gradients_(accelerator: Accelerator, parameters: Iterable[nn.Parameter], *, stop: bool = False) -> bool:
    """Average the gradients over all processes, in one flat message.

    Args:
        parameters: a gradient is missing on all processes or on none.
        stop: whether this process was asked to stop.

    Returns:
        Whether any process was asked to stop; the same on all.
    """
    if accelerator.num_processes == 1:
        return stop
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    asked = torch.tensor([float(stop)], device=accelerator.device)
    flat = torch.cat([gradient.flatten() for gradient in gradients] + [asked])
    flat = accelerator.reduce(flat, reduction="mean")
    for gradient, part in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    return bool(flat[-1] > 0)


@contextmanager
def batch_norm_over_all_processes(accelerator: Accelerator, model: nn.Module) -> Iterator[None]:
    """Let every batch normalization of `model` use the statistics of the whole batch, of all processes together.

    With them, the result does not depend on how many processes share a batch.

    Raises:
        TrainingError: a batch normalization is not a plain `nn.BatchNorm2d` or timm's `BatchNormAct2d`.
    """
    if accelerator.num_processes == 1:
        yield
        return
    kinds = {nn.BatchNorm2d: _SynchronizedBatchNorm2d, BatchNormAct2d: _SynchronizedBatchNormAct2d}
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        plain = norm.affine and norm.track_running_stats and norm.momentum is not None
        if type(norm) not in kinds or not plain:
            raise TrainingError(f"{type(norm).__name__} as it is cannot span several processes; train with one")
    own = [type(norm) for norm in norms]
    for norm in norms:
        norm.__class__ = kinds[type(norm)]
    try:
        yield
    finally:
        for norm, kind in zip(norms, own, strict=True):
            norm.__class__ = kind


class _SynchronizedBatchNorm2d(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        if not _spans_all_processes(self):
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        return _BatchNormOverAllProcesses.apply(
            x, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps
        )


class _SynchronizedBatchNormAct2d(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        if not _spans_all_processes(self):
            return super().forward(x)
        return self.act(self.drop(_SynchronizedBatchNorm2d.forward(self, x)))


def _spans_all_processes(norm: nn.BatchNorm2d) -> bool:
    # Without momentum a plain average is being taken, of images that are the same on every process.
    return norm.training and norm.momentum is not None


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
        wide = widened(x)
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


def _processes_asked_for() -> int | None:
    """Return the `--num_processes` of the `accelerate launch` that started this process, or None."""
    try:
        launcher = psutil.Process().parent()
        words = launcher.cmdline() if launcher else []
    except psutil.Error:
        return None
    if not _LAUNCHERS.search("\0".join(words[:4])):
        return None
    launch = next(place for place, word in enumerate(words) if "launch" in word)
    words = words[launch + 1 :]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.endswith(".py") or word.startswith("limpq_hub."):
            return None  # what stands behind the script, or behind the module of `-m`, is its own
        name, _, value = word.replace("-", "_").partition("=")
        if name == "__num_processes":
            return int(value or following)
    return None
