r"""Whether terms between neighbouring layers rank policies better than the sum of what each layer costs alone.

    python tests/benchmarks/neighbour_terms.py --data TINY --output neighbour_terms.json

The policies are the random ones of `ranks` in the proof, with their KL and top-1 on all validation images. On training
images without labels it measures, in the jointly trained network with all other layers at 3 bits, the KL divergence
of each of their layers alone, and of each layer together with the next in the order of execution. The term of two
layers is what both cost together, less what each costs alone. Prints Spearman's rank correlations without the terms,
with half of them and with all, and what they add, ± the standard error by resampling the policies.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import spearmanr

from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import set_policy_
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.train.data.loaders import calibration_batches
from limpq_hub.train.measure.contenders import random_policies_to_correlate
from limpq_hub.train.measure.pair_importance import Measuring
from limpq_hub.train.settings import DataSettings
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.network import NetworkSpec

PROOF = Path(__file__).parents[2] / "training/results/resnet18.tiny_imagenet/proof.json"
BUDGET = "1.5G"
RESAMPLES = 2000

# The bits of one layer, or of two; all others have those of the background.
Changed: TypeAlias = Mapping[str, LayerBits]


def main() -> None:
    """Measure what the policies need, and print how well each objective ranks them."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    entry = find_entry("resnet18")
    points = read_json(PROOF)["ranks"][f"at {BUDGET}"]["points"]
    drawn = random_policies_to_correlate(entry.indicators.using("learned"), BUDGET, len(points), ["budget"])
    policies = drawn[f"at {BUDGET}"]
    if [policy.digest() for policy in policies] != [point["policy_sha256"] for point in points]:
        raise SystemExit(f"{PROOF} has other policies: it is of another entry")
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    images = calibration_batches(DataSettings(options.data, batch_size=100, workers=0, seed=0), spec, options.images)
    divergence = DivergenceInTheMiddle(Measuring(entry, images, "joint", 3), load_float_network(entry.folder))
    layers = list(entry.indicators.weight_steps)

    alone, terms, sizes = [], [], []
    for policy in track(policies, "policies"):
        single = {name: divergence.above({name: policy.layers[name]}) for name in layers}
        of_policy = [
            divergence.above({first: policy.layers[first], then: policy.layers[then]}) - single[first] - single[then]
            for first, then in itertools.pairwise(layers)
        ]
        alone.append(math.fsum(single.values()))
        terms.append(math.fsum(of_policy))
        sizes += [abs(term) for term in of_policy]

    learned = [point["objective"] for point in points]
    figures = {
        "images": options.images,
        "divergences measured": len(divergence.measured),
        "mean of the sums, nats": round(float(np.mean(alone)), 4),
        "mean of the terms' sums, nats": round(float(np.mean(terms)), 4),
        "mean size of a term, nats": round(float(np.mean(sizes)), 5),
        "objectives": {
            "kl-joint@3": ranks_with(terms, alone, points),
            "learned+kl-joint@3": ranks_with(terms, alone, points, also=learned),
        },
    }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    write_json(options.output, figures | {"alone": alone, "terms": terms})


class DivergenceInTheMiddle:
    """KL divergence where some layers have other bits than the background; each is measured once."""

    def __init__(self, measuring: Measuring, network: torch.nn.Module) -> None:
        """Load the network that is measured."""
        self.images = measuring.images
        self.supernet, background = measuring.network()
        if background is None:
            raise SystemExit("the other layers need bits")
        self.background = background
        self.supernet.eval()
        with torch.no_grad():
            self.references = [network(images).log_softmax(-1) for images in self.images]
        self.measured: dict[str, float] = {}
        self.of_background = self._of(background)

    def above(self, changed: Changed) -> float:
        """Return the divergence above that of the background, in nats."""
        layers = {**self.background.layers, **changed}
        return self._of(Policy(self.background.model, layers, self.background.input_size)) - self.of_background

    @torch.no_grad()
    def _of(self, policy: Policy) -> float:
        if (digest := policy.digest()) not in self.measured:
            set_policy_(self.supernet, policy)
            sums = [
                float(kl_divergence(self.supernet(images), reference, of_each_image=True).double().sum())
                for images, reference in zip(self.images, self.references, strict=True)
            ]
            self.measured[digest] = math.fsum(sums) / sum(map(len, self.images))
        return self.measured[digest]


def ranks_with(
    terms: Sequence[float],
    alone: Sequence[float],
    points: Sequence[Mapping[str, float]],
    also: Sequence[float] | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the rank correlations of an objective by the share of the terms in it, and what this share adds.

    Args:
        also: another objective that is added, each by its spread over the policies.
    """
    without = np.array(alone)
    if also is not None:
        without += without.std() / np.std(also) * np.array(also)
    random = np.random.default_rng(0)
    resampled = [random.integers(len(points), size=len(points)) for _ in range(RESAMPLES)]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for key in ("kl", "top1"):
        figure = np.array([point[key] for point in points])
        found[key] = {"none": {"Spearman": round(rank(without, figure), 4)}}
        for share, factor in (("half", 0.5), ("all", 1.0)):
            values = without + factor * np.array(terms)
            added = [rank(values[drawn], figure[drawn]) - rank(without[drawn], figure[drawn]) for drawn in resampled]
            found[key][share] = {
                "Spearman": round(rank(values, figure), 4),
                "added": round(rank(values, figure) - rank(without, figure), 4),
                "standard error": round(float(np.std(added)), 4),
            }
    return found


def rank(objective: NDArray[np.float64], figure: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation."""
    return float(spearmanr(objective, figure).statistic)


def parse_options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/ and val/; labels are not read")
    parser.add_argument("--images", type=int, default=100, help="training images to measure on (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
