"""What `compare.py` measures: policies of one entry before and after the same fine-tuning, each measured once."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from scipy.stats import spearmanr
from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.plan.baseline_policies import random_policy, reversed_importance, uniform_filled, uniform_splits
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import total_bitops
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.calibrate import recalibrate_batch_norm_
from limpq_hub.quant.convert import select_policy
from limpq_hub.train.data.loaders import calibration_batches, validation_loader
from limpq_hub.train.loop.run import new_accelerator, weights_record
from limpq_hub.train.measure.divergence import Divergence
from limpq_hub.train.measure.evaluate import evaluate, log_probabilities
from limpq_hub.train.measure.measurement_cache import Figures, MeasurementCache
from limpq_hub.train.method.networks import check_fits, float_network_of
from limpq_hub.train.options import options_record
from limpq_hub.train.recipe import path_of
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry_folder import SUPERNET, load_supernet
from limpq_hub.zoo.float_file import FLOAT
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.planning import search

_CHOOSING_IMAGES = 2048
# Options that no figure depends on, or that its key names.
_MAY_CHANGE = {"bitops", "random", "correlated", "correlate_every", "steps", "output", "workers", "threads"}


class Study:
    """Policies of one entry, measured on the validation images; what was measured before is not measured again."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Load the networks and the images.

        Raises:
            TrainingError: what was measured before was measured with other options, or there are several processes.
        """
        self.options = options
        self.accelerator: Accelerator = new_accelerator(options)
        if self.accelerator.num_processes > 1:
            raise TrainingError("compare.py runs as one process: start it with python training/compare.py")
        self.entry = find_entry(options.model)
        check_fits(options, self.entry)
        settings = {key: value for key, value in options_record(options).items() if key not in _MAY_CHANGE}
        settings |= weights_record(options)
        files = self.entry.folder.config["files"]
        settings |= {name: files[name]["sha256"] for name in (SUPERNET, FLOAT) if name in files}
        if options.recipe:
            settings["recipe_sha256"] = hashlib.sha256(path_of(options.recipe).read_bytes()).hexdigest()
        self.measured = MeasurementCache(options.output / "measured.json", settings)
        self.indicators: Indicators = self.entry.indicators
        spec = NetworkSpec.from_config(self.entry.folder.config, self.entry.name)
        device = self.accelerator.device
        self.supernet = load_supernet(self.entry.folder, self.indicators).to(device)
        network = float_network_of(self.entry, options.weights).to(device)
        choosing = [batch.to(device) for batch in calibration_batches(options, spec, _CHOOSING_IMAGES)]
        self.divergence = Divergence(self.supernet, network, choosing)
        self.images = [batch.to(device) for batch in calibration_batches(options, spec, options.calibrate_images)]
        self.loaders = {every: validation_loader(options, spec, every=every) for every in (1, options.correlate_every)}
        self.references = {
            every: log_probabilities(self.accelerator, network, loader) for every, loader in self.loaders.items()
        }

    def at_budget(self, bitops: str) -> list[Figures]:
        """Return a row per contender: what it is, and its figures before and after fine-tuning."""
        rows = []
        for contender, policy in self.contenders(bitops).items():
            row = {"budget": bitops, "contender": contender, **self.described(policy), "joint": self.joint(policy)}
            if self.options.steps:
                row["finetuned"] = self.finetuned(policy)
            print(f"{bitops} {contender}: {row}", file=sys.stderr, flush=True)
            rows.append(row)
        return rows

    def contenders(self, bitops: str) -> dict[str, Policy]:
        """Return the policies to compare, all within the same budget."""
        found = search(self.indicators, bitops=bitops)
        limit = self.limit(bitops)

        def fits(policy: Policy) -> bool:
            return total_bitops(self.indicators.costs, policy) <= limit

        splits = uniform_splits(self.indicators, fits)
        return {
            "learned": found.policy,
            "uniform filled": uniform_filled(self.indicators, fits),
            "uniform, best split": min(splits, key=self.divergence),
            **{
                f"random, seed {seed}": random_policy(self.indicators, fits, seed)
                for seed in range(self.options.random)
            },
            "reversed": search(reversed_importance(self.indicators), bitops=bitops).policy,
        }

    def limit(self, bitops: str) -> int:
        """Return the BitOps of a budget as a whole number."""
        budget = Budget(bitops=bitops).bitops
        if isinstance(budget, int):
            return budget
        costs = self.indicators.costs
        return total_bitops(costs, Policy.uniform(self.indicators.model, costs, budget.weight, budget.activation))

    def correlations(self) -> Figures:
        """Return the rank correlations of the objective with what was measured, and the points behind them."""
        count = self.options.correlated
        least, most = self.indicators.bitops_range()
        limits = {
            f"at {self.options.bitops[0]}": [self.limit(self.options.bitops[0])] * count,
            "over all budgets": [least + (most - least) * (place + 1) // (count + 1) for place in range(count)],
        }
        return {
            name: self.correlation([self.random_within(limit, 1000 + seed) for seed, limit in enumerate(of_name)])
            for name, of_name in limits.items()
        }

    def random_within(self, limit: int, seed: int) -> Policy:
        """Return a random policy of at most `limit` BitOps."""
        return random_policy(self.indicators, lambda policy: total_bitops(self.indicators.costs, policy) <= limit, seed)

    def correlation(self, policies: Sequence[Policy]) -> Figures:
        """Return Spearman's rank correlation of the objective with KL and top-1, and each policy's figures."""
        points = [
            {**self.described(policy), **self.joint(policy, every=self.options.correlate_every)} for policy in policies
        ]
        return {**{key: _rank_correlation(points, key) for key in ("kl", "top1")}, "points": points}

    def described(self, policy: Policy) -> Figures:
        """Return what a policy costs, and its objective."""
        plan = Plan.of_policy(self.indicators, policy)
        mean_weight_bits, mean_activation_bits = plan.mean_bits()
        return {
            "policy_sha256": policy.digest(),
            "bitops": plan.bitops,
            "objective": plan.objective,
            "mean_weight_bits": round(mean_weight_bits, 3),
            "mean_activation_bits": round(mean_activation_bits, 3),
        }

    def joint(self, policy: Policy, *, every: int = 1) -> Figures:
        """Return the figures of the jointly trained network at a policy, BatchNorm recalibrated."""

        def measure() -> Figures:
            model = select_policy(self.supernet, policy).eval()
            recalibrate_batch_norm_(model, self.images)
            return self.figures(model, every)

        return self.measured.figures_of(f"joint {every} {policy.digest()}", measure)

    def finetuned(self, policy: Policy) -> Figures:
        """Return the figures of the policy after the same fine-tuning as all others."""

        def measure() -> Figures:
            folder = self.options.output / f"{policy.digest()[:12]}-{self.options.steps}"
            write_json(self.options.output / f"{folder.name}.json", policy.to_json())
            code = subprocess.run([sys.executable, *self.finetuning(folder)], check=False).returncode
            if code:
                raise TrainingError(f"fine-tuning in {folder} ended with exit code {code}; run the same command again")
            model, _ = load_checkpoint(open_local_folder(folder, "checkpoint"))
            return self.figures(model.to(self.accelerator.device), 1)

        return self.measured.figures_of(f"finetuned {self.options.steps} {policy.digest()}", measure)

    def finetuning(self, folder: Path) -> list[str]:
        """Return the command line that fine-tunes the policy of a folder."""
        options = self.options
        command = ["-m", "limpq_hub.train.finetune", "--model", options.model, "--data", options.data]
        command += ["--policy", f"{folder}.json", "--max-steps", str(options.steps), "--output", str(folder)]
        command += ["--batch-size", str(options.batch_size), "--seed", str(options.seed)]
        command += ["--workers", str(options.workers), "--no-compile"]
        command += ["--train-split", options.train_split, "--val-split", options.val_split]
        command += ["--data-root", options.data_root] if options.data_root else []
        command += ["--mixed-precision", options.mixed_precision] if options.mixed_precision != "no" else []
        command += ["--float64"] if options.float64 else []
        command += ["--cache-images"] if options.cache_images else []
        command += ["--recipe", options.recipe] if options.recipe else []
        command += ["--weights", options.weights] if options.weights else []
        command += ["--threads", str(options.threads)] if options.threads else []
        command += ["--channels-last"] if options.channels_last else []
        return [*command, "--resume"]

    def figures(self, model: nn.Module, every: int) -> Figures:
        """Return top-1 and KL to the float network, with standard errors."""
        return evaluate(self.accelerator, model, self.loaders[every], self.references[every])


def _rank_correlation(points: Sequence[Figures], key: str) -> float:
    """Return Spearman's rank correlation of the objective with a figure; 0 where one of them does not vary."""
    objectives, figures = ([point[name] for point in points] for name in ("objective", key))
    if len(set(objectives)) < 2 or len(set(figures)) < 2:
        return 0.0
    return round(float(spearmanr(objectives, figures).statistic), 4)
