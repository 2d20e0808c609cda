"""The tables of a comparison, beside lines written by hand."""

from __future__ import annotations

from limpq_hub.train.measure.comparison_tables import as_table, as_verdicts


def figures(top1: float, kl: float) -> dict[str, float]:
    return {"top1": top1, "top1_standard_error": 0.5, "kl": kl, "kl_standard_error": 0.01}


ROWS = [
    {
        "budget": "w3a3",
        "contender": "learned",
        "bitops": 2_000_000_000,
        "mean_weight_bits": 3.25,
        "mean_activation_bits": 3.0,
        "joint": figures(61.0, 0.25),
        "finetuned": figures(66.0, 0.125),
    },
    {
        "budget": "w3a3",
        "contender": "uniform",
        "bitops": 2_000_000_000,
        "mean_weight_bits": 3.0,
        "mean_activation_bits": 3.0,
        "joint": figures(60.0, 0.5),
        "paired": {
            "joint": {
                "kl": 0.25,
                "kl_standard_error": 0.02,
                "right": -1.0,
                "right_standard_error": 0.3,
                "verdict": "behind",
            }
        },
    },
]


def test_a_table_has_a_line_for_each_policy_and_a_dash_for_what_was_not_measured():
    assert as_table(ROWS).splitlines() == [
        "| budget | policy | BitOps | bits (W / A) | joint: top-1, % | KL, nats | fine-tuned: top-1, % | KL, nats |",
        "|---|---|---|---|---|---|---|---|",
        "| w3a3 | learned | 2.00G | 3.2 / 3.0 | 61.00 ± 0.50 | 0.2500 ± 0.0100 | 66.00 ± 0.50 | 0.1250 ± 0.0100 |",
        "| w3a3 | uniform | 2.00G | 3.0 / 3.0 | 60.00 ± 0.50 | 0.5000 ± 0.0100 | - | - |",
    ]


def test_the_verdicts_are_of_all_policies_but_the_first():
    assert as_verdicts(ROWS).splitlines() == [
        "| budget | policy | joint: KL above learned's, nats | top-1, points | verdict "
        "| fine-tuned: KL above learned's, nats | top-1, points | verdict |",
        "|---|---|---|---|---|---|---|---|",
        "| w3a3 | uniform | +0.2500 ± 0.0200 | -1.00 ± 0.30 | behind | - | - | - |",
    ]
