"""Tables of the tab with the picture, as HTML: what looked at it, in integers too, and what many pictures say."""

from __future__ import annotations

import html
from collections.abc import Sequence

from _integers import ROUNDS, IntegerRun
from _measured import Measured
from _prediction import Prediction
from _tables import NONE, accuracy_text, row_of, table
from _texts import bits_by, term

from limpq_hub.plan.importance import IMPORTANCE_WORDS, Importance
from limpq_hub.plan.quantities import format_size


def many_pictures_table(measured: Measured, gigabitops: float, importance: Importance) -> str:
    """Return what bits of a search and uniform bits did to many pictures at each budget; the nearest one is bold.

    Args:
        gigabitops: where the page is, in 1e9 BitOps.
        importance: what the search added up.
    """
    # The heading of each column, and whether a narrow page does without it.
    words = IMPORTANCE_WORDS[importance]
    columns = [(f"As float, %: {words}", ""), ("uniform", ""), (f"KL: {words}", "wide"), ("uniform", "wide")]
    columns.append(("KL: difference", ""))
    if measured.float_top1 is not None:
        columns += [(f"Top-1, %: {words}", "wide"), ("uniform", "wide")]
    heads = "".join(f"<th scope='col' class='{wide}'>{name}</th>" for name, wide in columns)
    classes = [wide for _, wide in columns]
    nearest, rows = measured.nearest(gigabitops), []
    for budget in measured.budgets:
        pair = (budget.searched, budget.uniform)
        cells = [f"{figures.agreement:.1f}" for figures in pair] + [f"{figures.kl:.3f}" for figures in pair]
        cells.append(f"{budget.kl_difference:+.3f} ± {budget.kl_difference_error:.3f}")
        if measured.float_top1 is not None:
            cells += [
                NONE if figures.top1 is None else accuracy_text(measured.accuracy(figures.top1)) for figures in pair
            ]
        mark = "changed" if budget == nearest else ""
        body = "".join(f"<td class='{mark} {wide}'>{cell}</td>" for cell, wide in zip(cells, classes, strict=True))
        rows.append(f"<tr><th scope='row'>{budget.gigabitops:.2f}</th>{body}</tr>")
    float_top1 = ""
    if measured.float_top1 is not None:
        float_top1 = f" The float network has {measured.accuracy(measured.float_top1).text} top-1."
    head = f"<tr><th scope='col'>{term('BitOps')}, G</th>{heads}</tr>"
    what = (
        f"<p class='note'>One picture proves little. Here are {measured.images:,} ({html.escape(measured.data)}): how "
        f"many {term('agreement', 'are answered as float answers')}, and {term('KL')}. The {bits_by(importance)} "
        f"beside {term('uniform, filled up', 'uniform ones, filled up')}, both with the {term('joint')} weights."
        f"{float_top1}</p>"
    )
    how = (
        f"<p class='note'>The difference is that of {words} less uniform, ± one standard error: below zero, the "
        f"{bits_by(importance)} are nearer to float. <code>{html.escape(measured.command)}</code>, on "
        f"{html.escape(measured.device)}.</p>"
    )
    return what + table(head, rows) + how


def integers_table(run: IntegerRun) -> str:
    """Return the ways to compute a network with their times, and how they were measured."""
    reference, rows = run.rows[0], []
    for row in run.rows:
        size = NONE if row.file_bytes is None else format_size(row.file_bytes)
        verdict = (
            "" if row is reference else "same as float" if row.class_id == reference.class_id else "another than float"
        )
        answer = f"{html.escape(row.answer)} {row.probability:.0%}<br><span class='note'>{verdict}</span>"
        name = f"{'Integers' if row.integers else 'Float'}, {html.escape(row.runtime)}"
        rows.append(row_of(name, [f"{row.milliseconds:.1f}", size, answer]))
    heads = "".join(f"<th scope='col'>{head}</th>" for head in ("", "ms a picture", "File", "First answer"))
    in_float, layers = run.in_float
    notes = [
        f"The policy has its {term('fine-tuned' if run.weights == 'finetuned' else 'joint')} weights, as "
        f"<code>limpq_hub.load</code> hands them out; stored in the bits of the policy they have "
        f"{format_size(run.size_bytes)}.",
        f"Medians of {ROUNDS} rounds in which the rows took turns, one picture at a time, threads: {run.threads}; "
        f"{html.escape(run.cpu)}, with whatever else this machine does.",
        f"torch multiplies integers in {layers - in_float} of {layers} layers. 8 bits are multiplied whatever the "
        "policy says: on a CPU fewer bits buy size, not time.",
    ]
    if run.checked is not None:
        notes.append(f"The file of the integers was checked: {html.escape(run.checked)}.")
    if run.missing is not None:
        notes.append(f"Not exported: {html.escape(run.missing)}.")
    listed = "".join(f"<li class='note'>{note}</li>" for note in notes)
    return f"{table(f'<tr>{heads}</tr>', rows)}<div class='proof'><ul>{listed}</ul></div>"


def networks_table(predictions: Sequence[Prediction]) -> str:
    """Return what the networks are that have looked at a picture, side by side."""
    rows = {
        term("size", "Size"): [format_size(prediction.size_bytes) for prediction in predictions],
        term("BitOps") + ", G": [
            NONE if prediction.bitops is None else f"{prediction.bitops / 1e9:.2f}" for prediction in predictions
        ],
        "Weights": [term(prediction.weights) for prediction in predictions],
        term("top-1", "Top-1") + ", %": [accuracy_text(prediction.accuracy) for prediction in predictions],
        term("agreement", "As float") + ", %": [
            NONE if prediction.agreement is None else f"{prediction.agreement:.1f}" for prediction in predictions
        ],
    }
    heads = "".join(f"<th scope='col'>{html.escape(title)}</th>" for title in ["", *(p.title for p in predictions)])
    return table(f"<tr>{heads}</tr>", [row_of(name, cells) for name, cells in rows.items()])
