"""BatchNorm statistics set in each pass, so that its output has the mean and variance of the float network."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limpq_hub.errors import PolicyError
from limpq_hub.quant.batch_norm_correction import check_same_norms, corrected_statistics
from limpq_hub.quant.batch_norm_moments import Moments
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.running_statistics import active_batch_norms, placed_batch_norms, set_statistics_, statistics_of
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d
from limpq_hub.quant.watched_inputs import watched_inputs


class MatchedBatchNorm:
    """Corrects BatchNorm while a quantized network runs, from the input moments of the float network on these images.

    Each call of a BatchNorm that is called twice is corrected by itself, where `BatchNormCorrection` has one average.
    `BatchNormCorrection` needs one pass to measure a quantized network before the pass that uses the correction; here
    the same pass does both, which saves half of the passes where a network runs once at each of many bit-widths.
    """

    @torch.no_grad()
    def __init__(self, float_network: nn.Module, images: Tensor) -> None:
        """Measure the float network in eval mode.

        Args:
            float_network: what the quantized networks come from.
            images: at least two, [batch, 3, height, width], normalized.
        """
        self._norms = active_batch_norms(float_network)
        # One for each call: a BatchNorm that is called twice takes in two different things.
        self._moments: dict[str, list[Moments]] = {name: [] for name in self._norms}

        def measure(name: str, norm: _BatchNorm, x: Tensor) -> None:
            """Note the moments of what a BatchNorm takes in."""
            self._moments[name].append(_moments_of(x))

        with watched_inputs(self._norms, measure), in_eval_mode(float_network):
            float_network(images)

    @contextmanager
    def matching(self, model: nn.Module) -> Iterator[None]:
        """Inside the block, correct each BatchNorm of `model` by what it takes in; afterwards all are as before.

        Args:
            model: in eval mode, run on the images of this object.

        Raises:
            PolicyError: the networks have other BatchNorms, or call one more often.
        """
        norms = placed_batch_norms(model)
        check_same_norms(norms, self._norms)
        before = {name: copy.deepcopy(norm.state_dict()) for name, norm in norms.items()}
        calls: Counter[str] = Counter()

        def correct_(name: str, norm: _BatchNorm | SwitchableBatchNorm2d, x: Tensor) -> None:
            """Set the statistics of a BatchNorm so that its output on `x` has the moments of the float network."""
            running = norm.active if isinstance(norm, SwitchableBatchNorm2d) else norm
            if calls[name] == len(self._moments[name]):
                raise PolicyError(f"BatchNorm {name} runs more often than in the float network; give the one it is of")
            of_pass, of_float = _moments_of(x), self._moments[name][calls[name]]
            calls[name] += 1
            statistics = corrected_statistics(statistics_of(self._norms[name]), of_pass, of_float, running.eps)
            set_statistics_(running, statistics)

        each_pass = model.register_forward_pre_hook(lambda module, inputs: calls.clear())
        try:
            with watched_inputs(norms, correct_):
                yield
        finally:
            each_pass.remove()
            for name, state in before.items():
                norms[name].load_state_dict(state)


def _moments_of(x: Tensor) -> Moments:
    moments = Moments()
    moments.add_(x)
    return moments
