r"""What several seeds of one comparison say together of each policy beside one of its budget.

    python tests/benchmarks/comparison_over_seeds.py out/seed0 out/seed1 out/seed2

The folders are those of `training/compare.py ... --seed N`. Each image's differences are averaged over the seeds. The
standard error has two parts, added as squares: that of the images, and that of the seeds, their spread by the root of
their number. Policies stand beside the first of their budget, or with `--beside NAME` the one of that name. Where a
folder has fine-tunings of several lengths, `--steps N` says which.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from limpq_hub.plan.jsonfile import read_json
from limpq_hub.train.measure.paired import verdict_of
from limpq_hub.zoo.tensors import tensors_from_bytes

FIGURES = {"kl": (1.0, 4), "right": (100.0, 2)}


def main() -> None:
    """Print a row for each policy of each budget that all folders have."""
    options = parse_options()
    whose = "the first's" if options.beside is None else f"that of `{options.beside}`"
    print(f"| budget | policy | KL above {whose}, nats | of each seed | top-1, points | of each seed | verdict |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows_of(options.folders, options.beside, options.steps)))


def rows_of(folders: Sequence[Path], beside: str | None = None, steps: int | None = None) -> list[str]:
    """Return a row in Markdown for each policy of each budget that the comparisons in all folders have."""
    differences: dict[tuple[str, str], list[dict[str, Tensor]]] = defaultdict(list)
    for folder in folders:
        for key, of_images in differences_of(folder, beside, steps).items():
            differences[key].append(of_images)
    return [
        f"| {budget} | {contender} | {' | '.join(cells(of_seeds))} |"
        for (budget, contender), of_seeds in differences.items()
        if len(of_seeds) == len(folders)
    ]


def differences_of(
    folder: Path, beside: str | None = None, steps: int | None = None
) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Return what each fine-tuned policy has above one of its budget, by budget and contender.

    Args:
        beside: the contender that they stand beside; the first of the budget if None.
        steps: of the fine-tuning; needed where the folder has several lengths.

    Returns:
        "kl" in nats and "right", -1, 0 or 1, [images] each.
    """
    found: dict[str, dict[str, dict[str, Tensor]]] = defaultdict(dict)
    for row in read_json(folder / "comparison.json")["comparison"]:
        if "finetuned" not in row:
            continue
        path = of_images_of(folder, row["policy_sha256"], steps)
        measured = tensors_from_bytes(path.read_bytes(), str(path))
        found[row["budget"]][row["contender"]] = {name: measured[name].double() for name in FIGURES}
    differences = {}
    for budget, of_contenders in found.items():
        name = beside or next(iter(of_contenders))
        if name not in of_contenders:
            raise SystemExit(f"{folder} has no {name} at {budget}; choose from {', '.join(of_contenders)}")
        of_one = of_contenders[name]
        for contender, measured in of_contenders.items():
            if measured is not of_one:
                differences[budget, contender] = {name: measured[name] - of_one[name] for name in FIGURES}
    return differences


def of_images_of(folder: Path, digest: str, steps: int | None) -> Path:
    """Return the file of each image's figures of a fine-tuned policy, by its sha256."""
    name = f"finetuned-{'*' if steps is None else steps}-{digest[:16]}.safetensors"
    paths = sorted((folder / "of-images").glob(name))
    if len(paths) > 1:
        raise SystemExit(f"{folder} has fine-tunings of several lengths: choose one with --steps; {len(paths)} {name}")
    if not paths:
        raise SystemExit(f"{folder / 'of-images' / name} is not there: run the comparison of this folder again")
    return paths[0]


def cells(of_seeds: Sequence[dict[str, Tensor]]) -> list[str]:
    """Return the cells of a row: both figures with their errors and those of each seed, and the verdict by KL."""
    texts, verdict = [], ""
    counts = sorted({len(of_images["kl"]) for of_images in of_seeds})
    if len(counts) > 1:
        raise SystemExit(
            f"comparisons of {' and '.join(map(str, counts))} images cannot be averaged: use the same ones"
        )
    for name, (scale, digits) in FIGURES.items():
        stacked = scale * torch.stack([of_images[name] for of_images in of_seeds])
        means = stacked.mean(dim=1)
        of_images = float(stacked.mean(dim=0).std()) / math.sqrt(stacked.shape[1])
        of_the_seeds = float(means.std()) / math.sqrt(len(means)) if len(means) > 1 else 0.0
        mean, error = float(means.mean()), math.hypot(of_images, of_the_seeds)
        texts += [f"{mean:+.{digits}f} ± {error:.{digits}f}", " ".join(f"{one:+.{digits}f}" for one in means.tolist())]
        if name == "kl":
            verdict = verdict_of(mean, error)
    return [*texts, verdict]


def parse_options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="a comparison of each seed")
    parser.add_argument(
        "--beside", help="the policy that the others stand beside; the first of each budget if not given"
    )
    parser.add_argument("--steps", type=int, help="of the fine-tuning; if not given, the only ones that are there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
