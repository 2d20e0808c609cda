"""What the library calls a keyword is told at a shell as the option that was typed."""

import pytest

from limpq_hub.errors import quoted
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.deadline import MORE_TIME
from limpq_hub.plan.option_wording import as_typed


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("bitops='3X' is not a budget", "--bitops 3X is not a budget"),
        ('bitops="1" cannot be met', "--bitops 1 cannot be met"),
        ('Use bitops="14.4G" or more, or size="3MB".', "Use --bitops 14.4G or more, or --size 3MB."),
        ("alpha=nan cannot be: use", "--alpha nan cannot be: use"),
        ("raise time_limit_s=20.5, please", "raise --time-limit 20.5, please"),
        (MORE_TIME, "raise --time-limit, or use fewer candidates"),
        ('0.01 or "1%": allow_gap=1% is', '0.01 or "1%": --allow-gap 1% is'),
        ('format="openvino" needs onnx', "--format openvino needs onnx"),
        (
            "vnni=False is for format=\"openvino\", not for 'qonnx'",
            "--no-vnni is for --format openvino, not for 'qonnx'",
        ),
        ("can overflow: leave out vnni=True", "can overflow: leave out --vnni"),
        ("bitops='3 gbitops' was read as 3G", "--bitops '3 gbitops' was read as 3G"),
        ('leave it in float with exclude=["*rnn_v", "b"]', "leave it in float with --exclude '*rnn_v' b"),
        ("candidates=[7, 8]: choose from", "--candidates 7 8: choose from"),
        ("between 1G and 2G, or size= or policy=; there", "between 1G and 2G, or --size or --policy; there"),
        ("policy='x' is for others", "--policy x is for others"),
        (
            "fine-tune it with: x --policy policy.json; write model.limpq.plan.policy.to_json() to policy.json first",
            "fine-tune it with: x --policy policy.json; limpq search --output policy.json writes it",
        ),
        ("give images=, a folder, to measure", "give --images, a folder, to measure"),
        ("points=1 cannot be: use", "--points 1 cannot be: use"),
        (
            "every activation went to its most bits; add bitops= or",
            "every activation went to its most bits; add --bitops or",
        ),
        ("in_place_alpha=3 and x.size=3 and --size=3MB", "in_place_alpha=3 and x.size=3 and --size=3MB"),
        ('use latency=(table, "3.04") or more', "use --latency TABLE.csv 3.04 or more"),
        ("latency={'a': 3}", "latency={'a': 3}"),
    ],
)
def test_a_keyword_becomes_its_option_and_its_value_the_word_that_is_typed(message, typed):
    assert as_typed(message) == typed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_limit_is_told_as_its_option(kind):
    assert as_typed(f"{kind.name}='x' cannot be") == f"{kind.flag} x cannot be"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_value_that_is_cut_stands_apart_from_its_option(kind):
    cut = quoted("9" * 400)
    assert cut.endswith("9...")
    assert as_typed(f"{kind.name}={cut} is not '3G'") == f"{kind.flag} {cut[1:]} is not '3G'"
