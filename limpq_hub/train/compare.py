"""The proof: at the same BitOps, the learned policy beside uniform, random and reversed ones.

    python training/compare.py --model local-dir:out/joint --data ~/tiny-imagenet --bitops w3a3 1.5G --steps 200 \
        --recipe zoo-resnet18-tiny-imagenet --output out/compare

Each policy is set in the jointly trained network with BatchNorm recalibrated, then fine-tuned for the same steps.
Random policies, at one budget and at many, tell how well the objective ranks policies. Writes `comparison.json`,
`comparison.png` and `correlation.png`. What was measured is kept: the same command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.train.data.loaders import data_record
from limpq_hub.train.loop.run import finish, provenance
from limpq_hub.train.measure.comparison_pictures import save_comparison, save_correlation
from limpq_hub.train.measure.measurement_cache import Figures
from limpq_hub.train.measure.study import Study
from limpq_hub.train.options import add_data_options, command_line, count, parser_of, positive, run

FORMAT = 1


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    group = parser.add_argument_group("comparison")
    group.add_argument("--model", required=True, help="entry: resnet18, local-dir:out/my-joint, hf-hub:owner/name")
    group.add_argument("--bitops", nargs="+", default=["w3a3"], help="budgets at which policies are compared")
    group.add_argument("--steps", type=count, default=200, help="fine-tuning steps of each policy; 0 leaves it out")
    group.add_argument("--recipe", help="of the fine-tuning; --steps, --batch-size and --seed win over it")
    group.add_argument("--random", type=positive(int), default=3, help="random policies per budget")
    group.add_argument(
        "--correlated", type=count, default=40, help="random policies at the first budget, and over all budgets"
    )
    group.add_argument(
        "--correlate-every", type=positive(int), default=1, help="of so many validation images take one for these"
    )
    group.add_argument("--calibrate-images", type=count, default=1000, help="training images to recalibrate BatchNorm")
    group.add_argument("--weights", help="safetensors file of the float network; that of the entry if not given")
    group.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_data_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not known yet, then write and show all of it."""
    options = parse_options(argv)
    study = Study(options)
    rows = [row for bitops in options.bitops for row in study.at_budget(bitops)]
    correlations = study.correlations() if options.correlated else {}
    result = {
        "format": FORMAT,
        "model": study.entry.name,
        "comparison": rows,
        "correlation": correlations,
        **provenance(study.accelerator, command_line(argv, "python"), options, seconds=None),
        "data": data_record(options),
    }
    write_json(options.output / "comparison.json", result)
    save_comparison(options.output / "comparison.png", rows)
    print(as_table(rows))
    if correlations:
        save_correlation(options.output / "correlation.png", correlations)
        for name, found in correlations.items():
            print(f"{name}: Spearman of the objective with KL {found['kl']:.2f}, with top-1 {found['top1']:.2f}")
    print(f"figures and all numbers in {options.output}")
    finish(study.accelerator)


def as_table(rows: Sequence[Figures]) -> str:
    """Return the comparison as a table in Markdown."""
    lines = [
        "| budget | policy | BitOps | bits (W / A) | joint: top-1, % | KL, nats | fine-tuned: top-1, % | KL, nats |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        bits = f"{row['mean_weight_bits']:.1f} / {row['mean_activation_bits']:.1f}"
        figures = [_cells(row["joint"]), _cells(row["finetuned"]) if "finetuned" in row else "- | -"]
        cells = [row["budget"], row["contender"], format_bitops(row["bitops"]), bits, *figures]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(figures: Figures) -> str:
    return (
        f"{figures['top1']:.2f} ± {figures['top1_standard_error']:.2f} | "
        f"{figures['kl']:.4f} ± {figures['kl_standard_error']:.4f}"
    )


if __name__ == "__main__":
    run(main)
