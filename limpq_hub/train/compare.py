r"""Compare policies of equal BitOps: that of a search with those of other importances, uniform, random, reversed.

    python -m limpq_hub.train.compare --model local-dir:out/joint --data ~/tiny-imagenet --bitops w3a3 1.5G \
        --steps 200 --recipe zoo-resnet18-tiny-imagenet --output out/compare

Each policy is set in the jointly trained network with BatchNorm recalibrated (where joint training kept the float
network's statistics, with these corrected), then fine-tuned for the same steps; with `--calibrated` also in the float
network.
Random policies, at one budget and at many, show how well the objective ranks policies. Writes `comparison.json`,
`comparison.png`, `correlation.png`, and an indicators file for each criterion that is a measured divergence, such as
`kl-joint.json`, which `publish --indicators` takes. Measurements are cached: the same command, run again, continues
where it was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from limpq_hub.plan.importance import Importance
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.train import finetune
from limpq_hub.train.data.description import data_record
from limpq_hub.train.launching import run
from limpq_hub.train.loop.folder import locked
from limpq_hub.train.loop.provenance import provenance
from limpq_hub.train.loop.run import finish
from limpq_hub.train.measure.comparison_pictures import save_comparison, save_correlation
from limpq_hub.train.measure.comparison_tables import as_table, as_verdicts
from limpq_hub.train.measure.criteria import HELP as CRITERIA_HELP
from limpq_hub.train.measure.criteria import criterion, is_divergence
from limpq_hub.train.measure.evaluate import ACCURACY_LABELS, accuracy_of
from limpq_hub.train.measure.given_policies import named_files
from limpq_hub.train.measure.same_finetuning import Finetuning, finetuning_arguments
from limpq_hub.train.measure.study import Study
from limpq_hub.train.option_types import MOST_CALIBRATION_IMAGES, whole_number
from limpq_hub.train.options import FLOAT_HELP, add_data_options, add_entry_option, parser_of, settings_of
from limpq_hub.train.settings import ComparisonSettings, CorrelateOver
from limpq_hub.zoo.card_commands import last_component

FORMAT = 1


def parse_options(argv: Sequence[str] | None) -> ComparisonSettings:
    """Return what was typed, as settings."""
    parser = parser_of(__doc__, "compare")
    group = parser.add_argument_group("comparison")
    add_entry_option(group)
    group.add_argument("--bitops", nargs="+", default=["w3a3"], help="budgets at which policies are compared")
    group.add_argument(
        "--steps", type=whole_number(0), default=200, help="fine-tuning steps of each policy; 0 leaves it out"
    )
    group.add_argument("--recipe", help="of the fine-tuning; --steps, --batch-size and --seed win over it")
    group.add_argument("--random", type=whole_number(0, 1000), default=3, help="random policies per budget")
    group.add_argument(
        "--correlated",
        type=whole_number(0, 10_000),
        default=40,
        help="random policies to correlate the objective with what is measured; 0 for none",
    )
    group.add_argument(
        "--correlate-over",
        nargs="+",
        choices=get_args(CorrelateOver),
        default=get_args(CorrelateOver),
        help="where these are: budget, within the first one; range, within budgets spread over the whole range",
    )
    group.add_argument(
        "--correlate-every", type=whole_number(), default=1, help="of so many validation images take one for these"
    )
    group.add_argument(
        "--calibrate-images",
        type=whole_number(0, MOST_CALIBRATION_IMAGES),
        help="training images for the BatchNorm statistics of the joint weights; if not given, 1000 that recalibrate, "
        "or 256 that correct the float network's where joint training kept these",
    )
    group.add_argument(
        "--contenders",
        nargs="+",
        default=(),
        metavar="POLICY",
        help='of the table these alone, by their names in it: learned, "uniform filled", ...',
    )
    group.add_argument(
        "--policies",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="policies that were chosen elsewhere, files such as policy.json, compared as well; each within every "
        "budget of --bitops",
    )
    group.add_argument(
        "--calibrated",
        action="store_true",
        help="measure each policy without training too: steps and BatchNorm of the float network set on 256 images",
    )
    group.add_argument(
        "--importance",
        choices=get_args(Importance),
        help="what the first policy is searched by, that the others are set beside; the entry's own if not given",
    )
    group.add_argument("--criteria", nargs="+", default=(), metavar="CRITERION", help=CRITERIA_HELP)
    group.add_argument(
        "--criterion-images",
        type=whole_number(),
        default=100,
        help="training images that these are measured on; no label is read",
    )
    group.add_argument("--weights", help=FLOAT_HELP)
    group.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_data_options(parser)
    return settings_of(ComparisonSettings, parser, "compare", argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Refuse what cannot be before anything is measured; then compare, in a folder that no other process writes."""
    settings = parse_options(argv)
    for name in settings.criteria:
        criterion(name)
    given = named_files(settings.policies)
    finetuning = _finetuning(settings) if settings.steps else None
    with locked(settings.output):
        _compare(settings, given, finetuning)


def _finetuning(settings: ComparisonSettings) -> Finetuning:
    """Return how the fine-tuning is done, by the recipe; wrong options are told before hours of measuring.

    Raises:
        SystemExit: the recipe has no options for it, or wrong ones.
    """
    folder = settings.output / "policy"
    _, _, *words = finetuning_arguments(settings, settings.model, folder.with_suffix(".json"), folder)
    parsed = finetune.parse_options(words)
    named = {"weights": parsed.weights, "teacher": parsed.loss.teacher}
    of_recipe = {option: name for option, name in named.items() if name is not None and name != settings.weights}
    return Finetuning(parsed.augmentation, parsed.training.schedule, of_recipe)


def _compare(settings: ComparisonSettings, given: Mapping[str, str], finetuning: Finetuning | None) -> None:
    """Measure what is not known yet, then write and show all of it; the arguments are those of `Study`."""
    study = Study(settings, given, finetuning)
    how_made = provenance(study.accelerator, settings.invocation, seconds=None)
    for name, indicators in study.criteria.items():
        if is_divergence(name):
            measured = {"criterion": name, "images": study.criterion_images, "command": how_made["command"]}
            described = replace(indicators, provenance=dict(indicators.provenance) | {"divergences": measured})
            described.save(settings.output / f"{name.replace(':', '-')}.json")
    rows = [row for bitops in settings.bitops for row in study.at_budget(bitops)]
    correlations = study.correlations() if settings.correlated else {}
    result = {
        "format": FORMAT,
        "model": last_component(study.entry.name),
        "comparison": rows,
        "correlation": correlations,
        **how_made,
        "data": data_record(settings.data),
    }
    write_json(settings.output / "comparison.json", result)
    save_comparison(settings.output / "comparison.png", rows)
    print(as_table(rows))
    print()
    print(as_verdicts(rows))
    if correlations:
        save_correlation(settings.output / "correlation.png", correlations)
        for name, ranks in correlations.items():
            key = accuracy_of(ranks)
            label = ACCURACY_LABELS[key].removesuffix(", %")
            print(f"{name}: Spearman of the objective with KL {ranks['kl']:.2f}, with {label} {ranks[key]:.2f}")
            for rival, of_rival in ranks.get("criteria", {}).items():
                print(f"{name}: {rival} with KL {of_rival['kl']:.2f}, with {label} {of_rival[key]:.2f}")
    print(f"figures and all numbers in {settings.output}")
    finish(study.accelerator)


if __name__ == "__main__":
    run(main)
