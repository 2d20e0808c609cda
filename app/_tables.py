"""Tables and sentences as HTML: totals, proof, and two policies layer by layer."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from _texts import term
from _zoo import Accuracy

from limpq_hub.plan.costs import FLOAT, Costs
from limpq_hub.plan.importance import IMPORTANCE_WORDS, apart_words
from limpq_hub.plan.layer_bits import FLOAT_BITS
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy

NONE = "–"


@dataclass(frozen=True)
class Column:
    """A policy in a table of totals: its costs, and its top-1 with weights of either kind, each with its like."""

    plan: Plan
    joint: Accuracy | None
    fine_tuned: Accuracy | None


def totals_table(columns: Mapping[str, Column], float_accuracy: Accuracy | None) -> str:
    """Return the totals of policies side by side, and of the float network.

    Args:
        columns: by heading, which is HTML.
    """
    plans = [column.plan for column in columns.values()]
    costs, means = plans[0].costs, [plan.mean_bits() for plan in plans]
    float_size = FLOAT_BITS // 8 * sum(cost.weights for cost in costs.values())
    rows = {
        term("BitOps") + ", G": [*(f"{plan.bitops / 1e9:.2f}" for plan in plans), NONE],
        term("size", "Size") + ", MB": [*(f"{plan.size_bytes / 1e6:.2f}" for plan in plans), f"{float_size / 1e6:.2f}"],
        "Times smaller": [*(f"{plan.compression:.1f}" for plan in plans), "1.0"],
        "Mean " + term("bits") + ": " + term("weights"): [*(f"{bits:.1f}" for bits, _ in means), str(FLOAT_BITS)],
        "Mean bits: " + term("activations"): [*(f"{bits:.1f}" for _, bits in means), str(FLOAT_BITS)],
        term("objective", "Objective"): [*(f"{plan.objective:.4f}" for plan in plans), NONE],
        f"{term('top-1', 'Top-1')}, %, {term('joint')}": [
            *(accuracy_text(column.joint) for column in columns.values()),
            accuracy_text(float_accuracy),
        ],
    }
    if any(column.fine_tuned for column in columns.values()):
        rows[f"Top-1, %, {term('fine-tuned')}"] = [
            *(accuracy_text(column.fine_tuned) for column in columns.values()),
            accuracy_text(float_accuracy),
        ]
    head = "".join(f"<th scope='col'>{name}</th>" for name in ["", *columns, term("float", "Float")])
    body = "".join(row_of(name, cells) for name, cells in rows.items())
    return table(f"<tr>{head}</tr>", [body])


def proof_text(plan: Plan) -> str:
    """Return how the plan of a search was proven, how long that took, and what else there is to know of it."""
    near = f" with {apart_words(plan.apart)}" if plan.apart is not None else ""
    first = (
        f"<b>Proven: no policy within this budget{near} scores better</b> by the "
        f"{term(IMPORTANCE_WORDS[plan.importance])} of the layers. "
        f"{term('objective', 'Objective')} {plan.objective:.6f} = {term('lower bound')} {plan.bound:.6f}; found in "
        f"{plan.seconds * 1000:.1f} ms by {term('method', plan.way)}."
    )
    notes = [
        f"{html.escape(outlier.layer)}: {outlier.bits} {outlier.kind} bits are left out, because they learned a "
        f"smaller {term('step')} than more bits did"
        for outlier in plan.excluded
    ]
    listed = "".join(f"<li class='note'>{note}</li>" for note in [*notes, *map(html.escape, plan.notes)])
    return f"<div class='proof' role='status'>{first}{f'<ul>{listed}</ul>' if listed else ''}</div>"


def refusal_text(sentence: str) -> str:
    """Return why there is nothing to show, as HTML.

    Args:
        sentence: HTML, as errors of the page are.
    """
    return f"<p class='refused' role='alert'><b>Not possible.</b> {sentence}</p>"


def download_link(policy: Policy) -> str:
    """Return a link that holds the `policy.json` itself: nothing is kept on the server."""
    content = base64.b64encode((json.dumps(policy.to_json(), indent=1) + "\n").encode()).decode()
    link = f"data:application/json;base64,{content}"
    return f"<a class='download' id='policy_download' download='policy.json' href='{link}'>Download policy.json</a>"


def layers_table(policies: Mapping[str, Policy], costs: Costs) -> str:
    """Return the bits of two policies layer by layer; those that differ are bold."""
    first, second = policies.values()
    kinds = f"<span class='note'>{term('weights')} / {term('activations')}</span>"
    heads = "".join(f"<th scope='col'>{html.escape(name)}: {term('bits')}<br>{kinds}</th>" for name in policies)
    rows = []
    for name, cost in costs.items():
        pair = (first.layers[name], second.layers[name])
        mark = " class='changed'" if pair[0] != pair[1] else ""
        bits = "".join(f"<td{mark}>{layer.weight} / {layer.activation}</td>" for layer in pair)
        kept = term("in float" if cost.fixed == FLOAT else "fixed")
        fixed = f" <span class='note'>({kept})</span>" if cost.fixed else ""
        macs = f"<td class='wide'>{cost.macs / 1e6:.2f}</td>"
        layer = html.escape(name)
        rows.append(f"<tr><th scope='row'>{layer}{fixed}</th>{macs}{bits}</tr>")
    macs = f"<th scope='col' class='wide'>{term('MACs')}, millions</th>"
    return table(f"<tr><th scope='col'>Layer</th>{macs}{heads}</tr>", rows)


def accuracy_text(accuracy: Accuracy | None) -> str:
    """Return top-1 in percent as HTML, or that it was not measured."""
    if accuracy is None:
        return "<span class='note'>not measured</span>"
    return accuracy.text.replace(" %", "")  # which the heading of its row has


def table(head: str, rows: Sequence[str]) -> str:
    """Return a table, which scrolls where it is wider than the page."""
    body = f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody>"
    return f"<div class='scroll'><table class='facts'>{body}</table></div>"


def row_of(name: str, cells: Sequence[str]) -> str:
    """Return a row of a table; name and cells are HTML."""
    return f"<tr><th scope='row'>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
