"""What a comparison found, as tables in Markdown: each policy, and how it differs from the first of its budget."""

from __future__ import annotations

from collections.abc import Sequence

from limpq_hub.plan.quantities import format_bitops
from limpq_hub.train.measure.evaluate import ACCURACY_LABELS, accuracy_of
from limpq_hub.train.measure.measurement_cache import Figures
from limpq_hub.train.measure.paired import Paired

_STAGES = {"calibrated": "without training", "joint": "joint", "finetuned": "fine-tuned"}


def as_table(rows: Sequence[Figures]) -> str:
    """Return the comparison as a table in Markdown."""
    label = ACCURACY_LABELS[accuracy_of(rows[0]["joint"])]
    stages = _stages(rows)
    heads = [f"{_STAGES[stage]}: {label} | KL, nats" for stage in stages]
    lines = [
        f"| budget | policy | BitOps | bits (W / A) | {' | '.join(heads)} |",
        "|---|---|---|---|" + "---|---|" * len(stages),
    ]
    for row in rows:
        bits = f"{row['mean_weight_bits']:.1f} / {row['mean_activation_bits']:.1f}"
        figures = [_cells(row[stage]) if stage in row else "- | -" for stage in stages]
        cells = [row["budget"], row["contender"], format_bitops(row["bitops"]), bits, *figures]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def as_verdicts(rows: Sequence[Figures]) -> str:
    """Return how each policy differs from the first of its budget on the same images, as a table in Markdown."""
    label = ACCURACY_LABELS[accuracy_of(rows[0]["joint"])].removesuffix(", %")
    first, stages = rows[0]["contender"], _stages(rows)
    heads = [f"{_STAGES[stage]}: KL above {first}'s, nats | {label}, points | verdict" for stage in stages]
    lines = [f"| budget | policy | {' | '.join(heads)} |", "|---|---|" + "---|---|---|" * len(stages)]
    for row in rows:
        if "paired" in row:
            differences = [_difference(row["paired"].get(stage)) for stage in stages]
            lines.append(f"| {' | '.join([row['budget'], row['contender'], *differences])} |")
    return "\n".join(lines)


def _stages(rows: Sequence[Figures]) -> list[str]:
    """Return what the tables have columns of."""
    return [stage for stage in _STAGES if stage != "calibrated" or stage in rows[0]]


def _difference(difference: Paired | None) -> str:
    if difference is None:
        return "- | - | -"
    return (
        f"{difference['kl']:+.4f} ± {difference['kl_standard_error']:.4f} | "
        f"{difference['right']:+.2f} ± {difference['right_standard_error']:.2f} | {difference['verdict']}"
    )


def _cells(figures: Figures) -> str:
    key = accuracy_of(figures)
    return (
        f"{figures[key]:.2f} ± {figures[f'{key}_standard_error']:.2f} | "
        f"{figures['kl']:.4f} ± {figures['kl_standard_error']:.4f}"
    )
