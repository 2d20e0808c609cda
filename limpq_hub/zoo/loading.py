"""load(): from a name and a budget to a quantized network in eval mode."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from limpq_hub.errors import ArtifactIntegrityError, PolicyError, UnknownModelError, shown
from limpq_hub.plan.budget import CONSTRAINTS, Budget, format_bitops, format_size
from limpq_hub.plan.costs import total_bitops
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.calibrate import recalibrate_batch_norm_
from limpq_hub.quant.convert import select_policy, to_quantized
from limpq_hub.quant.layers import switching_norms
from limpq_hub.zoo.anchors import apply_nearest_anchors_
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry import Entry, Published
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.planning import SearchOptions
from limpq_hub.zoo.policy_request import plan_for

if TYPE_CHECKING:
    from typing_extensions import Unpack


class NotFineTunedWarning(UserWarning):
    """A network runs a policy that its weights were not fine-tuned for."""


@dataclass(frozen=True)
class Loaded:
    """What `load` knows about the network that it returned, as `model.limpq`.

    Attributes:
        plan: policy, costs and proof.
        weights: "finetuned" for exactly this policy, "joint" from joint training, or "random".
        top1: percent, measured for exactly these weights and this policy, else None.
        expected_top1: percent, on a line between the measured budgets of the joint weights on both sides; None where
            `top1` is known, BatchNorm was recalibrated, or the policy is not the best for a BitOps budget alone.
        nearest: the published fine-tuned policy next below in BitOps, or None.
        source: "bundled", "local" or "hub".
        revision: commit on the Hub, or None.
        network: architecture, input size and preprocessing.
        classes: id and name of each class, in the order of the class indices.
    """

    plan: Plan
    weights: Literal["finetuned", "joint", "random"]
    top1: float | None
    expected_top1: float | None
    nearest: Published | None
    source: str
    revision: str | None
    network: NetworkSpec
    classes: tuple[Mapping[str, str], ...] = field(repr=False)

    def __str__(self) -> str:
        """Return the figures in one line."""
        proof = "proven optimal" if self.plan.optimal else "not searched"
        return (
            f"{self.network.architecture} at {self.network.input_size}x{self.network.input_size}: "
            f"{self.plan.bitops:,} BitOps ({proof}), {format_size(self.plan.size_bytes)} of weights, "
            f"{self.weights} weights, {_measured(self.top1, self.expected_top1)}"
        )


def load(
    model: str,
    *,
    policy: Policy | Plan | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    weights: Literal["auto", "finetuned", "joint"] = "auto",
    pretrained: bool = True,
    revision: str | None = None,
    cache_dir: str | None = None,
    token: str | None = None,
    device: str | torch.device = "cpu",
    calibrate: Iterable[Tensor] | None = None,
    **constraints: Unpack[SearchOptions],
) -> nn.Module:
    """Return a quantized timm network in eval mode, its parameters frozen, with `.limpq` telling what it is.

    Args:
        model: name of an entry: "resnet18", "hf-hub:owner/name", "local-dir:path".
        policy: bits per layer instead of a search; also the content or path of a `policy.json`.
        weights: "finetuned" or "joint" insist; "auto" takes the checkpoint fine-tuned for exactly this policy if
            there is one, else the jointly trained weights.
        pretrained: False leaves the weights random.
        revision, cache_dir, token: for the Hub.
        device: where the network goes.
        calibrate: unlabelled image batches, [batch, 3, height, width], normalized; BatchNorm is recalibrated on them.
        constraints: every argument of `search`: bitops="3G", size=, compression=, activation_memory=, latency=, alpha=,
            candidates=, pin=, exclude=, tie=, counting=, time_limit_s=.

    Raises:
        BudgetError: neither a constraint nor a policy was given, or one is malformed.
        InfeasibleBudgetError: no policy meets the budget.
        UnknownModelError: no such entry, or no such weights.
        ArtifactError: a file is damaged; nothing is half-loaded.
        HubError: the Hub does not give it.
    """
    if weights not in ("auto", "finetuned", "joint"):
        raise UnknownModelError(f'weights={shown(weights)} is not known: use "auto", "finetuned" or "joint"')
    device = torch.device(device)
    entry = find_entry(model, revision=revision, cache_dir=cache_dir, token=token)
    plan = plan_for(entry, policy, **constraints)
    digest, advice = plan.policy.digest(), _finetune(entry, constraints)
    exact = next((published for published in entry.published if published.policy_sha256 == digest), None)
    if weights == "finetuned" and exact is None:
        names = ", ".join(published.name for published in entry.published) or "none"
        raise UnknownModelError(
            f'weights="finetuned": {entry.name} has no checkpoint fine-tuned for exactly this policy of '
            f'{format_bitops(plan.bitops)} BitOps (it has: {names}); use weights="auto", or {advice}'
        )
    if not pretrained:
        kind, top1, network = "random", None, _random_network(entry, plan.policy)
    elif exact is not None and weights != "joint":
        kind, top1 = "finetuned", exact.top1
        network = _published_network(entry, exact, plan)
    else:
        kind, top1 = "joint", entry.measured(digest)
        supernet = load_supernet(entry.folder, entry.indicators)
        network = select_policy(supernet, plan.policy).eval()
        apply_nearest_anchors_(network, plan.policy, entry.folder, switching_norms(supernet))
    network.requires_grad_(False).to(device)
    as_shipped = calibrate is None or not recalibrate_batch_norm_(network, _image_batches(calibrate, device))
    if not as_shipped:
        top1 = None
    limit = _bitops_limit(plan, constraints)
    alone = {key for key, value in constraints.items() if value is not None} == {"bitops"}
    on_front = kind == "joint" and as_shipped and alone
    below = [published for published in entry.published if published.bitops <= limit]
    network.limpq = Loaded(
        plan=plan,
        weights=kind,
        top1=top1,
        expected_top1=entry.expected_top1(plan.bitops) if on_front and top1 is None else None,
        nearest=below[-1] if below else None,
        source=entry.source,
        revision=entry.revision,
        network=NetworkSpec.from_config(entry.folder.config, entry.name),
        classes=tuple(entry.classes),
    )
    if kind != "finetuned":
        _warn(entry.name, network.limpq, advice)
    return network


def _published_network(entry: Entry, published: Published, plan: Plan) -> nn.Module:
    """Return the fine-tuned network, after checking that entry and checkpoint speak of the same one."""
    folder = entry.checkpoint(published.name)
    network, _ = load_checkpoint(folder)
    specs = [NetworkSpec.from_config(config, entry.name) for config in (entry.folder.config, folder.config)]
    if specs[0] != specs[1] or total_bitops(plan.costs, plan.policy) != published.bitops:
        raise ArtifactIntegrityError(
            f"{folder.name} is a checkpoint of another network than {entry.name}; {folder.advice}"
        )
    return network


def _image_batches(batches: Iterable[Tensor], device: str | torch.device) -> Iterator[Tensor]:
    for images in batches:
        if not isinstance(images, Tensor) or images.ndim != 4:
            raise PolicyError("calibrate: give batches of images alone, tensors [batch, 3, height, width], no labels")
        yield images.to(device)


def _bitops_limit(plan: Plan, constraints: Mapping[str, Any]) -> int:
    """Return the BitOps budget that was asked for, or what the plan costs if none was."""
    asked = constraints.get("bitops")
    limit = None if asked is None else Budget(bitops=asked).bitops
    return limit if isinstance(limit, int) else total_bitops(plan.costs, plan.policy)


def _random_network(entry: Entry, policy: Policy) -> nn.Module:
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    return to_quantized(spec.build(), policy, example_input=torch.randn(8, *spec.input_shape))


def _finetune(entry: Entry, constraints: Mapping[str, Any]) -> str:
    """Return how to fine-tune exactly the policy that was asked for."""
    given = {key: value for key, value in constraints.items() if value is not None}
    which, hint = "--policy policy.json", "; write model.limpq.plan.policy.to_json() to policy.json first"
    if given and all(key in CONSTRAINTS and isinstance(value, str | int | float) for key, value in given.items()):
        which = " ".join(f"--{key.replace('_', '-')} {shlex.quote(str(value))}" for key, value in given.items())
        hint = ""
    return (
        "fine-tune it with: accelerate launch -m limpq_hub.train.finetune "
        f"--model {shlex.quote(entry.name)} {which} --data FOLDER --output out/{entry.indicators.model}-finetuned{hint}"
    )


def _warn(name: str, loaded: Loaded, advice: str) -> None:
    nearest = loaded.nearest
    better = (
        f"the fine-tuned policy next below is {nearest.name} ({format_bitops(nearest.bitops)} BitOps, "
        f"{_measured(nearest.top1)})"
        if nearest
        else "no fine-tuned policy lies below it"
    )
    warnings.warn(
        f"{name} at {format_bitops(loaded.plan.bitops)} BitOps was not fine-tuned ({loaded.weights} weights, "
        f"{_measured(loaded.top1, loaded.expected_top1)}): {better}; {advice}",
        NotFineTunedWarning,
        stacklevel=3,
    )


def _measured(top1: float | None, expected: float | None = None) -> str:
    if top1 is not None:
        return f"measured {top1:.2f} % top-1"
    return "accuracy not measured" if expected is None else f"about {expected:.1f} % top-1 expected"
