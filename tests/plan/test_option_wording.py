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
        ("too: add {'a.b': [3, 4]} at the end of candidates", "too: add a.b=3,4 to --candidates"),
        ("too: give {'*': [2, 3], 'a.b': [3, 4]} as candidates", "too: add a.b=3,4 to --candidates"),
        ("add {'a b': [4]} at the end of candidates", "add 'a b=4' to --candidates"),
        ("give policy= or pin=, not both", "give --policy or --pin, not both"),
        ("tie= and exclude= differ; pin={'a': (4, 4)}", "--tie and --exclude differ; pin={'a': (4, 4)}"),
    ],
)
def test_a_keyword_becomes_its_option_and_its_value_the_word_that_is_typed(message, typed):
    assert as_typed(message) == typed


@pytest.mark.parametrize(
    "message",
    [
        "local-dir:alpha=2/m: there is no such folder",
        "local-dir:alpha=2: no config.json there",
        "runs/alpha=0.5/indicators.json is missing",
        "runs/alpha=0.5: no config.json there",
        "alpha=0.5/config.json is missing",
        r"C:\runs\alpha=0.5 and alpha=0.5\config.json",
        "'alpha=0.5' is no model, nor is \"policy=a b.json\", nor 'it\\'s points=3'",
        f"{quoted('x alpha=0.5 ' * 40)} is no model",
        "next: limpq search 'size=3 alpha=2' --bitops 3G",
        "No such file or directory: 'runs/vnni=False'",
        "runs/vnni=True/x and vnni=True/x",
    ],
)
def test_a_name_that_looks_like_a_keyword_stays_as_it_is(message):
    assert as_typed(message) == message


def test_beside_what_is_quoted_and_the_apostrophe_of_a_word_a_keyword_is_still_told_as_its_option():
    message = "timm's 'alpha=2' and the entries' own: give alpha=2, or \"size=3\" as size=3, or leave out vnni=True."
    typed = "timm's 'alpha=2' and the entries' own: give --alpha 2, or \"size=3\" as --size 3, or leave out --vnni."
    assert as_typed(message) == typed


@pytest.mark.parametrize(
    "word", ["alpha=2.json", "./alpha=2.json", "local-dir:alpha=2.json", "--policy=alpha=2.json", "a/../alpha=2.json"]
)
def test_a_name_that_was_typed_stays_where_the_message_does_not_quote_it(word, monkeypatch):
    message = "alpha=2.json is not JSON; alpha=2 is another"
    typed = "alpha=2.json is not JSON; --alpha 2 is another"
    assert as_typed(message, ["search", word]) == typed
    monkeypatch.setattr("sys.argv", ["limpq", "search", word])
    assert as_typed(message) == typed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_limit_is_told_as_its_option(kind):
    assert as_typed(f"{kind.name}='x' cannot be") == f"{kind.flag} x cannot be"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_value_that_is_cut_stands_apart_from_its_option(kind):
    cut = quoted("9" * 400)
    assert cut.endswith("9...")
    assert as_typed(f"{kind.name}={cut} is not '3G'") == f"{kind.flag} {cut[1:]} is not '3G'"
