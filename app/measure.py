"""Measure over many pictures what the demo says of bits of a search and of uniform bits; store it in measured.json.

    python app/measure.py --model resnet18.tiny_imagenet --data DATA/val --images 2000

Both sides have the joint weights, as they ship, and the same budgets: those of the fine-tuned policies and a few in
between. Of each: for how many pictures it finds the class of the float network, and its KL divergence from it.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limpq_hub.zoo.hub_address import end_without_address

if __name__ == "__main__":  # before what reads it is imported
    end_without_address("measure.py")

import torch
from _measured import FILE, FORMAT, digests_of, stored
from _model_cache import Networks
from _request import Request
from _zoo import (
    budget_leading_to,
    entry_of,
    plan_of,
    published_names,
    rival_policies,
    searched_plan,
    slider_range,
)
from rich.console import Console
from rich.progress import track

from limpq_hub import list_models
from limpq_hub.deploy.processor import cpu_name
from limpq_hub.errors import DataError, LimpqError, UnknownModelError, quoted
from limpq_hub.pictures import read_picture
from limpq_hub.pictures.formats import picture_suffixes
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.train.option_types import whole_number
from limpq_hub.zoo.measurement import measurement_of
from limpq_hub.zoo.network import NetworkSpec

_BATCH = 64
# Shares of the way from the fewest to the most BitOps.
_IN_BETWEEN = (0.05, 0.1, 0.2, 0.4)
# Of two budgets nearer than this share of one, the one of a fine-tuned policy is measured.
_APART = 0.05


def main(argv: Sequence[str] | None = None) -> None:
    """Measure one entry, and write its figures beside those of the others; what cannot be is told in a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="bundled entry, as `limpq list` names it")
    parser.add_argument("--data", type=_folder, required=True, help="folder with a folder of pictures for each class")
    parser.add_argument(
        "--images", type=whole_number(2, 1_000_000), default=500, help="how many pictures, spread over the folders"
    )
    options = parser.parse_args(argv)
    try:
        record = measure(options.model, options.data, options.images)
    except LimpqError as error:
        parser.exit(error.exit_code, f"measure.py: {error}\n")
    # The folder by its name alone, and not where it is on this machine.
    words = ["python", "app/measure.py", "--model", options.model, "--data", f"DATA/{options.data.name}"]
    record["command"] = shlex.join([*words, "--images", str(options.images)])
    write_json(FILE, {"format": FORMAT, "models": dict(sorted((stored() | {options.model: record}).items()))})


def measure(model: str, data: Path, images: int) -> dict[str, Any]:
    """Return the record of an entry, as `_measured` reads it.

    Args:
        data: folder with a folder of pictures for each class.
        images: how many of them.

    Raises:
        UnknownModelError: it is not bundled.
        DataError: there are fewer than two pictures.
    """
    if model not in list_models():
        raise UnknownModelError(
            f"--model {quoted(model)} is not bundled, and no other is measured; use one of: {', '.join(list_models())}"
        )
    entry = entry_of(model)
    spec, networks = NetworkSpec.from_config(entry.folder.config, entry.name), Networks(most_bytes=0)
    paths = _spread(data, images)
    prepare = preparation_of(spec)
    batches = [
        torch.stack([prepare(read_picture(path)) for path in paths[start : start + _BATCH]])
        for start in track(range(0, len(paths), _BATCH), "pictures", console=Console(stderr=True))
    ]
    places = {label["id"]: place for place, label in enumerate(entry.classes)}
    are_classes = all(path.parent.name in places for path in paths)
    labels = torch.tensor([places[path.parent.name] for path in paths]) if are_classes else None
    reference = _logits(networks.get(model, None), batches).log_softmax(-1)

    def figures(policy: Policy) -> tuple[dict[str, Any], torch.Tensor]:
        """Return the figures of a policy over all pictures, and its KL divergence on each of them, [pictures]."""
        logits = _logits(networks.get(model, policy), batches)
        divergences = kl_divergence(logits, reference, of_each_image=True).double()
        return {
            "policy_sha256": policy.digest(),
            "bitops": plan_of(Request(model, 1), policy).bitops,
            "agreement": _percent(logits.argmax(1) == reference.argmax(1)),
            "kl": round(divergences.mean().item(), 5),
            "top1": None if labels is None else _percent(logits.argmax(1) == labels),
        }, divergences

    budgets = []
    for gigabitops in track(budgets_of(model), "budgets", console=Console(stderr=True)):
        request = Request(model, gigabitops)
        uniform = rival_policies(request).get("uniform filled")
        if uniform is None:
            continue
        (searched, of_searched), (filled, of_filled) = figures(searched_plan(request).policy), figures(uniform)
        difference = of_searched - of_filled
        budgets.append(
            {
                "gigabitops": gigabitops,
                "searched": searched,
                "uniform": filled,
                "kl_difference": round(difference.mean().item(), 5),
                "kl_difference_error": round((difference.std() / math.sqrt(len(difference))).item(), 5),
            }
        )
    return {
        **digests_of(model),
        "images": len(paths),
        "data": f"{measurement_of(entry, {}, None).data or data.parent.name}, {data.name}",
        "device": f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "float_top1": None if labels is None else _percent(reference.argmax(1) == labels),
        "budgets": budgets,
    }


def budgets_of(model: str) -> list[float]:
    """Return the budgets that are measured, in 1e9 BitOps: of each fine-tuned policy, and some in between."""
    low, high = slider_range(model)
    published = {budget_leading_to(model, name) for name in published_names(model)}
    between = {round(low + share * (high - low), 2) for share in _IN_BETWEEN}
    apart = {budget for budget in between if all(abs(budget / other - 1) > _APART for other in published)}
    return sorted(apart | published)


def _spread(data: Path, images: int) -> list[Path]:
    """Return so many pictures, at least two, evenly spread over all of a folder in the order of their names."""
    paths = sorted(path for path in data.glob("*/*") if path.suffix.lower() in picture_suffixes())
    if not paths or images < 1:
        raise DataError(f"{data} holds no folders of pictures, or none are asked for: give --data FOLDER --images 500")
    count = min(images, len(paths))
    if count < 2:
        raise DataError(
            "of one picture there is no standard error: give --data a folder with more, and --images 2 or more"
        )
    return [paths[place * len(paths) // count] for place in range(count)]


@torch.inference_mode()
def _logits(network: torch.nn.Module, batches: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the logits of a network on all batches, [pictures, classes]."""
    return torch.cat([network(batch) for batch in batches])


def _percent(hits: torch.Tensor) -> float:
    """Return the share of true values, [pictures], in percent with two decimals."""
    return round(100 * hits.double().mean().item(), 2)


def _folder(text: str) -> Path:
    """Return the path of a folder with a name, also of "." and "..", as an argparse type."""
    return Path(os.path.abspath(text))


if __name__ == "__main__":
    main()
