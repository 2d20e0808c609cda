"""Which reduction over the steps of its channels makes the best indicator of a layer.

    python tests/benchmarks/channel_reduction.py --data TINY_IMAGENET

The bundled ResNet-18, one weight step for each output channel, all steps at the least squared rounding error on 256
training images, nothing trained. Random policies are ranked by their objective, with each reduction, and by their KL to
the float network on training images: Spearman's rank correlation of both, over policies of all budgets ("any") and over
policies of nearly the same BitOps ("w3a3").
"""

from __future__ import annotations

import argparse
import math

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import to_supernet
from limpq_hub.quant.learned_indicators import read_indicators, root_mean_square
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.data.loaders import calibration_batches
from limpq_hub.train.measure.contenders import random_policies_to_correlate
from limpq_hub.train.measure.divergence import Divergence
from limpq_hub.train.settings import DataSettings
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.network import NetworkSpec

REDUCTIONS = {
    "root mean square": root_mean_square,
    "mean": torch.mean,
    "largest": torch.amax,
    "root mean square of the mean and the largest": lambda steps: root_mean_square(
        torch.stack([steps.mean(), steps.amax()])
    ),
}
ALPHAS = (1.0, 2.0, 3.0)


def main() -> None:
    """Print the correlations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Tiny-ImageNet as folders")
    parser.add_argument("--policies", type=int, default=40, help="random policies of each kind")
    parser.add_argument("--images", type=int, default=1024, help="training images; half of them set BatchNorm")
    options = parser.parse_args()
    entry = find_entry("resnet18")
    spec, network = NetworkSpec.from_config(entry.folder.config, entry.name), load_float_network(entry.folder)
    data = DataSettings(data=options.data, batch_size=128, workers=0, seed=0)
    images = calibration_batches(data, spec, options.images, torch.device("cpu"))
    first = torch.cat(list(images))[:256]
    supernet = to_supernet(network, example_input=first, per_channel=True)
    costs = profile_module(network, first)

    def indicators_with(reduction: object) -> Indicators:
        return read_indicators(
            supernet, costs, input_size=spec.input_size, num_classes=spec.num_classes, reduction=reduction
        )

    learned = indicators_with(root_mean_square)
    policies = random_policies_to_correlate(learned, "w3a3", options.policies, ("budget", "range"))
    divergence = Divergence(supernet, network, images)
    measured = {
        kind: [divergence(policy) for policy in track(chosen, description=f"KL of policies, {kind}")]
        for kind, chosen in policies.items()
    }
    table = Table("reduction", "alpha", *policies, title="Spearman's correlation of objective and KL")
    for name, reduction in REDUCTIONS.items():
        indicators = indicators_with(reduction)
        for alpha in ALPHAS:
            correlations = [
                spearmanr(
                    [_objective(indicators, policy, alpha) for policy in policies[kind]], measured[kind]
                ).statistic
                for kind in policies
            ]
            table.add_row(name, f"{alpha:g}", *(f"{correlation:.3f}" for correlation in correlations))
    Console().print(table)


def _objective(indicators: Indicators, policy: Policy, alpha: float) -> float:
    searched = indicators.weight_steps
    return math.fsum(indicators.importance(name, policy.layers[name], alpha) for name in searched)


if __name__ == "__main__":
    main()
