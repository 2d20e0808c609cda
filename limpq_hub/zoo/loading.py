"""load(): from a name and a budget to a quantized network in eval mode."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError, UnknownModelError, quoted
from limpq_hub.plan.budget import split_limits
from limpq_hub.plan.frozen import FrozenMapping
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.quant.batch_norm_calibration import (
    FEWEST_IMAGES,
    Recalibration,
    average_batch_norm_,
    recalibrate_if_better_,
)
from limpq_hub.quant.frozen_layers import freeze_
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.integer_layers import run_in_integers_
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.entry_tensors import check_supernet_size
from limpq_hub.zoo.finetuning_advice import how_to_finetune, nearest_finetuned
from limpq_hub.zoo.float_file import float_file_of
from limpq_hub.zoo.limpq_model import Arithmetic, LimpqModel, Loaded, Weights, accuracy_text
from limpq_hub.zoo.measurement import policy_measurement, top1_measurement
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.own_network import use_factory
from limpq_hub.zoo.planning import SearchOptions, options_in_effect
from limpq_hub.zoo.policy_networks import joint_network, published_network, random_network
from limpq_hub.zoo.policy_request import plan_for

if TYPE_CHECKING:
    from typing_extensions import Unpack

_CPU = torch.device("cpu")


class NotFineTunedWarning(UserWarning):
    """A network runs a policy that its weights were not fine-tuned for."""


class NotRecalibratedWarning(UserWarning):
    """The images that were given to calibrate would have made a network worse, or were too few to tell."""


def load(
    model: str,
    *,
    policy: Policy | Plan | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    weights: Literal["auto", "finetuned", "joint"] = "auto",
    pretrained: bool = True,
    revision: str | None = None,
    cache_dir: str | None = None,
    token: str | bool | None = None,
    device: str | torch.device = "cpu",
    calibrate: Iterable[Tensor] | None = None,
    arithmetic: Arithmetic = "simulated",
    build: Callable[..., nn.Module] | None = None,
    **options: Unpack[SearchOptions],
) -> LimpqModel:
    """Return a quantized timm network in eval mode, its parameters frozen, with `.limpq` telling what it is.

    Args:
        model: name of an entry: "resnet18", "hf-hub:owner/name", "local-dir:path".
        policy: bits per layer instead of a search; also the content or path of a `policy.json`.
        weights: "finetuned" or "joint" insist; "auto" takes the checkpoint fine-tuned for exactly this policy if
            there is one, else the jointly trained weights.
        pretrained: False leaves the weights random; not beside `weights`.
        revision, cache_dir, token: for the Hub.
        device: where the network goes.
        calibrate: unlabelled image batches, [batch, 3, height, width], normalized; BatchNorm is recalibrated on them.
            Where the entry has its float network, only if that brings the predictions closer to it: `.limpq` says.
        arithmetic: "simulated" multiplies floats that lie on the grids of the integers, batch normalizations folded
            into them (`limpq_hub.quant.frozen_layers`). "integer" multiplies the integers of convolutions as such, on a
            CPU: the same network, but for rounding ties. Layers where that is slower or could overflow are simulated,
            and `.limpq.in_float` says which and why; so is every layer in train mode, where gradients are wanted, in
            another precision than float32, on another device, and where a value is no number.
        build: makes a network that timm does not have (`limpq_hub.zoo.own_network`); no entry makes one be imported.
        options: every keyword of `limpq_hub.search`: a limit such as bitops="3G", and choices such as pin=.

    Raises:
        BudgetError: neither a limit nor a policy was given, or one is malformed.
        PolicyError: the policy is for another network, or integers were asked for where there are none.
        InfeasibleBudgetError: no policy meets the budget.
        UnknownModelError: no such entry, or no such weights.
        ArtifactError: a file is damaged; nothing is half-loaded.
        HubError: the Hub does not give it.
    """
    if weights not in ("auto", "finetuned", "joint"):
        raise UnknownModelError(f'weights={quoted(weights)} is not known: use "auto", "finetuned" or "joint"')
    device = torch.device(device)
    if not pretrained and weights != "auto":
        raise UnknownModelError(f"weights={quoted(weights)} and pretrained=False contradict each other: give one")
    if arithmetic not in ("simulated", "integer"):
        raise PolicyError(f'arithmetic={quoted(arithmetic)} is not known: use "simulated" or "integer"')
    if arithmetic == "integer" and device.type != "cpu":
        raise PolicyError(f'arithmetic="integer" runs on a CPU, not on {device}: leave out device= or arithmetic=')
    entry = find_entry(model, revision=revision, cache_dir=cache_dir, token=token)
    return load_entry(
        entry,
        policy=policy,
        weights=weights,
        pretrained=pretrained,
        device=device,
        calibrate=calibrate,
        arithmetic=arithmetic,
        build=build,
        **options,
    )


def load_entry(
    entry: Entry,
    plan: Plan | None = None,
    *,
    policy: Policy | Plan | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    weights: Literal["auto", "finetuned", "joint"] = "auto",
    pretrained: bool = True,
    device: torch.device = _CPU,
    calibrate: Iterable[Tensor] | None = None,
    arithmetic: Arithmetic = "simulated",
    build: Callable[..., nn.Module] | None = None,
    **options: Unpack[SearchOptions],
) -> LimpqModel:
    """Return what `load` does of an entry that was found already; the others are its arguments, and go together.

    Args:
        plan: what `plan_for` made of `policy` and `options`, if it was asked already.
    """
    if build is not None:
        use_factory(build, entry.indicators.model, entry.name)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    plan = plan_for(entry, policy, **options) if plan is None else plan
    in_effect = options_in_effect(entry.indicators, options, proven=plan.optimal)
    digest, advice = plan.policy.digest(), how_to_finetune(entry, policy, in_effect)
    exact = entry.published_at(digest)
    if weights == "finetuned" and exact is None:
        names = ", ".join(published.name for published in entry.published) or "none"
        raise UnknownModelError(
            f'weights="finetuned": {entry.name} has no checkpoint fine-tuned for exactly this policy of '
            f'{format_bitops(plan.bitops)} BitOps (it has: {names}); use weights="auto", or {advice}'
        )
    top1: float | None
    source: Weights
    # What is made in inference mode could take part in no later pass with gradients.
    with torch.inference_mode(mode=False):
        if not pretrained:
            check_supernet_size(entry.folder, spec)
            source, top1, network = "random", None, random_network(spec, plan.policy)
        elif exact is not None and weights != "joint":
            source, top1, network = "finetuned", exact.top1, published_network(entry, spec, exact)
        else:
            source, top1, network = "joint", entry.joint_top1(digest), joint_network(entry, plan.policy)
        network.requires_grad_(False).to(device)
        recalibration = None
        if calibrate is not None:
            guard = float_file_of(entry.folder) is not None and pretrained
            reference = load_float_network(entry.folder).to(device) if guard else None
            recalibration = _recalibrate_(network, _image_batches(calibrate, device), reference)
        as_shipped = recalibration is None or not recalibration.accepted
        if not as_shipped:
            top1 = None
        in_float = {}
        if arithmetic == "integer":
            in_float = run_in_integers_(network)
        else:
            freeze_(network, spec.input_shape)
    only_bitops = in_effect.keys() - set(plan.without_effect) <= {"bitops"} <= in_effect.keys()
    on_front = source == "joint" and as_shipped and only_bitops
    loaded = cast(LimpqModel, network)
    loaded.limpq = Loaded(
        plan=plan,
        weights=source,
        top1=top1,
        measurement=None
        if top1 is None
        else top1_measurement(entry, digest, "joint" if source == "joint" else "fine-tuned"),
        expected_top1=entry.expected_top1(plan.bitops) if on_front and top1 is None else None,
        nearest=nearest_finetuned(entry, plan, options),
        source=entry.source,
        revision=entry.revision,
        network=spec,
        classes=tuple(entry.classes),
        recalibration=recalibration,
        arithmetic=arithmetic,
        in_float=FrozenMapping(in_float),
    )
    if recalibration is not None and recalibration.images and not recalibration.accepted:
        _warn_not_recalibrated(entry.name, recalibration)
    if source != "finetuned":
        _warn(entry, loaded.limpq, split_limits(in_effect)[0].keys(), advice)
    return loaded


def _recalibrate_(network: nn.Module, batches: Iterable[Tensor], reference: nn.Module | None) -> Recalibration:
    """Recalibrate BatchNorm on the images; with a float network at hand, only if they bring `network` closer to it."""
    if reference is not None:
        return recalibrate_if_better_(network, batches, reference)
    image_count = average_batch_norm_(network, batches)
    return Recalibration(image_count, None, None, accepted=image_count > 0)


def _image_batches(batches: Iterable[Tensor], device: str | torch.device) -> Iterator[Tensor]:
    for images in batches:
        yield image_batch(images, "calibrate", PolicyError, dimensions=4).to(device)


def _nearest_text(entry: Entry, loaded: Loaded, limits: Collection[str]) -> str:
    """Return which fine-tuned policy is the nearest; `limits` are the keywords of what a search had to meet."""
    plan, nearest = loaded.plan, loaded.nearest
    by_others = set(limits) - {"bitops"}
    if nearest is None:
        return f"no fine-tuned policy {'meets the same limits' if by_others else 'lies below it'}"
    if nearest.policy_sha256 == plan.policy.digest():
        which = "fine-tuned for this policy"
    elif nearest.bitops > total_bitops(plan.costs, plan.policy):  # what else was asked for can leave a budget unspent
        which = "the fine-tuned policy of the most BitOps within the same limits"
    else:
        which = f"the fine-tuned policy next below{' within the same limits' if by_others else ''}"
    accuracy = accuracy_text(nearest.top1, policy_measurement(entry, nearest.name))
    return f"{which} is {nearest.name} ({format_bitops(nearest.bitops)} BitOps, {accuracy})"


def _warn_not_recalibrated(name: str, recalibration: Recalibration) -> None:
    if recalibration.kl_before is None:
        why = f"{recalibration.images} images are too few to tell whether that helps; give {FEWEST_IMAGES} or more"
    else:
        why = (
            f"with statistics of half of the {recalibration.images} images, KL to the float network on the other half "
            f"is {recalibration.kl_after:.4f} instead of {recalibration.kl_before:.4f}"
        )
    warnings.warn(f"calibrate: {name} keeps its BatchNorm statistics: {why}", NotRecalibratedWarning, stacklevel=4)


def _warn(entry: Entry, loaded: Loaded, limits: Collection[str], advice: str) -> None:
    warnings.warn(
        f"{entry.name} at {format_bitops(loaded.plan.bitops)} BitOps was not fine-tuned ({loaded.weights} weights, "
        f"{accuracy_text(loaded.top1, loaded.measurement, loaded.expected_top1)}): "
        f"{_nearest_text(entry, loaded, limits)}; {advice}",
        NotFineTunedWarning,
        stacklevel=4,
    )
