"""What fine-tuning there is near a policy, and how to do it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limpq_hub.plan.budget import Budget, limit_words, split_limits
from limpq_hub.plan.budget_check import fits_of
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.zoo.checkpoint import read_checkpoint_policy
from limpq_hub.zoo.entry import Entry, Published
from limpq_hub.zoo.factory_path import factory_of


def nearest_finetuned(entry: Entry, plan: Plan, options: Mapping[str, Any]) -> Published | None:
    """Return the fine-tuned policy of the most BitOps that meets the limits, or costs no more than a given policy."""
    limits, choices = split_limits({key: value for key, value in options.items() if value is not None})
    budget = Budget(**limits) if limits else Budget(bitops=plan.bitops)
    below, counting = list(entry.published), choices.get("counting", "exact")
    told = isinstance(budget.bitops, int) and counting == "exact"
    if told:  # the entry says what each costs: most are ruled out without reading them
        below = [published for published in below if published.bitops <= budget.bitops]
    if limits.keys() - {"bitops"} or not told:
        fits = fits_of(entry.indicators, budget, counting)
        below = [published for published in below if fits(read_checkpoint_policy(entry.checkpoint(published.name)))]
    return below[-1] if below else None


def pictures_option(indicators: Indicators) -> str:
    """Return the option by which `training/` takes such pictures as the indicators were made with."""
    made_by = str(indicators.provenance.get("command"))
    return "--unlabelled" if " --unlabelled " in made_by and " --data " not in made_by else "--data"


def how_to_finetune(entry: Entry, policy: object, options: Mapping[str, Any]) -> str:
    """Return how to fine-tune exactly the policy that was asked for; arguments as `plan_for` takes them."""
    if factory_of(entry.indicators.model):
        return "fine-tune it in a training loop of your own: python -m pydoc limpq_hub.zoo.own_network shows one"
    which: list[str | Path]
    which, hint = ["--policy", "policy.json"], "; write model.limpq.plan.policy.to_json() to policy.json first"
    limits, choices = split_limits({key: value for key, value in options.items() if value is not None})
    words = limit_words(limits)
    if isinstance(policy, str | os.PathLike):
        which, hint = ["--policy", Path(policy)], ""
    elif words and not choices:
        which, hint = [*words], ""
    needs = "" if find_spec("accelerate") else ' (pip install "limpq-hub[train]" brings what that needs)'
    rest = [pictures_option(entry.indicators), "FOLDER", "--output", f"out/{entry.indicators.model}-finetuned"]
    command = shell_command(
        *("accelerate", "launch", "-m", "limpq_hub.train.finetune", "--model", entry.name, *which, *rest)
    )
    return f"fine-tune it{needs} with: {command}{hint}"
