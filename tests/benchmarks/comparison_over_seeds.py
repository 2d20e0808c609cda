r"""What several seeds of one comparison say together of each policy beside the first of its budget.

    python tests/benchmarks/comparison_over_seeds.py out/seed0 out/seed1 out/seed2

The folders are those of `training/compare.py ... --seed N`. Each image's differences are averaged over the seeds. The
standard error has two parts, added as squares: that of the images, and that of the seeds, their spread by the root of
their number.
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
from limpq_hub.zoo.tensors import tensors_from_bytes

FIGURES = {"kl": (1.0, 4), "right": (100.0, 2)}


def main() -> None:
    """Print a row for each policy of each budget that all folders have."""
    print("| budget | policy | KL above the first's, nats | of each seed | top-1, points | of each seed | verdict |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows_of(parse_options().folders)))


def rows_of(folders: Sequence[Path]) -> list[str]:
    """Return a row in Markdown for each policy of each budget that the comparisons in all folders have."""
    differences: dict[tuple[str, str], list[dict[str, Tensor]]] = defaultdict(list)
    for folder in folders:
        for key, of_images in differences_of(folder).items():
            differences[key].append(of_images)
    return [
        f"| {budget} | {contender} | {' | '.join(cells(of_seeds))} |"
        for (budget, contender), of_seeds in differences.items()
        if len(of_seeds) == len(folders)
    ]


def differences_of(folder: Path) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Return what each fine-tuned policy has above the first of its budget, by budget and contender.

    Returns:
        "kl" in nats and "right", -1, 0 or 1, [images] each.
    """
    first: dict[str, dict[str, Tensor]] = {}
    found = {}
    for row in read_json(folder / "comparison.json")["comparison"]:
        if "finetuned" not in row:
            continue
        path = next((folder / "of-images").glob(f"finetuned-*-{row['policy_sha256'][:16]}.safetensors"))
        measured = {name: value.double() for name, value in tensors_from_bytes(path.read_bytes(), str(path)).items()}
        if (budget := row["budget"]) not in first:
            first[budget] = measured
        else:
            found[budget, row["contender"]] = {name: measured[name] - first[budget][name] for name in FIGURES}
    return found


def cells(of_seeds: Sequence[dict[str, Tensor]]) -> list[str]:
    """Return the cells of a row: both figures with their errors and those of each seed, and the verdict by KL."""
    texts, verdict = [], ""
    for name, (scale, digits) in FIGURES.items():
        stacked = scale * torch.stack([of_images[name] for of_images in of_seeds])
        means = stacked.mean(dim=1)
        of_images = float(stacked.mean(dim=0).std()) / math.sqrt(stacked.shape[1])
        of_the_seeds = float(means.std()) / math.sqrt(len(means)) if len(means) > 1 else 0.0
        mean, error = float(means.mean()), math.hypot(of_images, of_the_seeds)
        texts += [f"{mean:+.{digits}f} ± {error:.{digits}f}", " ".join(f"{one:+.{digits}f}" for one in means.tolist())]
        if name == "kl":
            verdict = "level" if abs(mean) <= 2 * error else "ahead" if mean < 0 else "behind"
    return [*texts, verdict]


def parse_options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="a comparison of each seed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
