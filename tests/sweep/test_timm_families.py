"""One network of each of timm's families: counted, quantized, trained a step, saved and loaded."""

import pytest
import timm
from families import FAMILIES
from network_sweep import complaints, document, record_of

# Those of more parameters, in millions, take minutes; the command of `network_sweep` runs them too.
LARGEST = 35.0
# Random weights spread any noise: one per cent of it at the input turns the float logits of Inception-v3 to a cosine of
# 0.95, and each layer adds as much. What rounding adds to an operand is small: 2 % at most; 6 % in ConvMixer, whose
# activations have long tails.
LEAST_COSINE, LEAST_COSINE_OF = 0.9, {"inception_v3": 0.6, "convmixer": 0.6}
# Multiplies inside one operation, where no quantizer can reach.
REFUSED = {"sequencer": "(LSTM) cannot be quantized"}
SMALL = [family for family, sample in FAMILIES.items() if sample.parameters <= LARGEST]


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in SMALL if family not in REFUSED])
def test_a_network_of_the_family_goes_through_every_step(family):
    record = record_of(family, FAMILIES[family])
    assert complaints(record) == []
    assert record["steps"] > 0
    assert record["cosine"] > LEAST_COSINE_OF.get(family, LEAST_COSINE)


@pytest.mark.slow
@pytest.mark.parametrize("family", REFUSED)
def test_what_is_refused_says_why(family):
    assert REFUSED[family] in record_of(family, FAMILIES[family])["refused"]


def test_every_family_that_timm_has_is_in_the_sweep():
    assert set(timm.list_modules()) <= set(FAMILIES)


def test_the_document_says_what_works_and_what_does_not():
    counted = {
        "layers": 3, "products": 1, "macs": 2_000, "counts_agree": True, "searched_share": 0.5, "in_float": ["a", "b"],
    }  # fmt: skip
    common = {"family": "f", "network": "n", "input_size": 64}
    swept = {"cosine": 0.99, "steps": 6, "steps_without_gradient": [], "reloaded_equal": True, "seconds": 1.0}
    faults = {"steps_without_gradient": ["x weight"], "reloaded_equal": False}
    records = [
        common | {"counted": counted} | swept,
        common | {"counted": counted},
        common | {"counted": counted | {"counts_agree": False}} | swept | faults,
        common | {"refused": "a | b"},
        common | {"failed": "KeyError"},
    ]
    text = document(records, "the command")
    assert "`the command`" in text
    assert "1 of 5 go through every step" in text
    rows = [line.removeprefix("| f | n | 64 | ") for line in text.splitlines() if line.startswith("| f ")]
    assert rows == [
        "3 | 1 | 2.00K | 50.0 % | 0.9900 | in float: a, b |",
        "3 | 1 | 2.00K | 50.0 % |  | in float: a, b; counted only |",
        "3 | 1 | 2.00K | 50.0 % | 0.9900 | the flop counter counts otherwise; no gradient: x weight; other logits "
        "after loading; in float: a, b |",
        " |  |  |  |  | refused: a / b |",
        " |  |  |  |  | failed: KeyError |",
    ]
