"""How far a policy of the supernet is from the float network on training images: what choices are made by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from limpq_hub.errors import DataError
from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.batch_norm_calibration import halves
from limpq_hub.quant.convert import select_policy
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.policy_statistics import Statistics, statistics_setter
from limpq_hub.train.measure.measured_divergence import measured_divergence


class Divergence:
    """KL divergence of the supernet at a policy from the float network, in nats; each policy is measured once.

    Half of the images set the BatchNorm statistics of the policy, the other half are measured.
    """

    def __init__(
        self,
        supernet: nn.Module,
        network: nn.Module,
        images: Sequence[Tensor],
        statistics: Statistics = "measured",
        kept: Path | None = None,
    ) -> None:
        """Take the images, not augmented, at least two, [batch, 3, height, width] each batch.

        Args:
            statistics: where those of a policy come from.
            kept: JSON file in which each divergence is kept as it is measured, by the digest of its policy; those that
                are in it, of the same networks and images, are not measured again.

        Raises:
            DataError: there are fewer than two images.
        """
        if sum(map(len, images)) < 2:
            raise DataError("two images or more tell how far a policy is from the float network: give more of them")
        setting, self.held_out = halves(images)
        self.supernet = supernet
        self._set_statistics_ = statistics_setter(statistics, setting, network)
        self._kept = kept
        self._measured: dict[str, float] = read_json(kept) if kept and kept.exists() else {}
        with torch.no_grad():
            self.reference = torch.cat([network(batch) for batch in self.held_out]).log_softmax(-1)

    @torch.no_grad()
    def __call__(self, policy: Policy) -> float:
        """Return the divergence from the float network, averaged over the images held out.

        Raises:
            TrainingError: the predictions are no numbers.
        """
        digest = policy.digest()
        if digest not in self._measured:
            quantized = select_policy(self.supernet, policy).eval()
            self._set_statistics_(quantized)
            logits = torch.cat([quantized(batch) for batch in self.held_out])
            self._measured[digest] = measured_divergence(float(kl_divergence(logits, self.reference)), "a policy")
            if self._kept:
                write_json(self._kept, self._measured)
        return self._measured[digest]
