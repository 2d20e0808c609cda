"""What a search finds its policies by: the same record where it finds the same ones."""

import dataclasses

import pytest

from limpq_hub import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.search_record import search_record


@pytest.fixture
def measured(network) -> Indicators:
    """Indicators of two layers with a divergence for each pair of bits."""
    steps = {"a": {4: 0.1, 2: 0.3}, "b": {4: 0.2, 2: 0.5}}
    indicators = network(steps, steps)
    pairs = {name: {LayerBits(w, a): 1 / (w * a) for w in (4, 2) for a in (4, 2)} for name in steps}
    return dataclasses.replace(indicators, divergences=pairs)


def test_steps_are_told_by_what_is_added_up_and_how_near_bits_are_held(measured):
    assert search_record(measured) == {"objective": "learned", "apart": None}
    assert search_record(measured.using("coupled", 1)) == {"objective": "coupled", "apart": 1}


def test_pairs_that_were_measured_anew_are_another_search_where_they_are_added_up(measured):
    name, pairs = next(iter(measured.divergences.items()))
    bits, divergence = next(iter(pairs.items()))
    changed = {**measured.divergences, name: {**pairs, bits: divergence * 2}}
    turned = {name: dict(reversed(pairs.items())) for name, pairs in reversed(measured.divergences.items())}
    other, same = (dataclasses.replace(measured, divergences=divergences) for divergences in (changed, turned))
    assert search_record(other) == search_record(measured)
    record = search_record(measured.using("measured"))
    assert record.keys() == {"objective", "apart", "pairs_sha256"}
    assert search_record(same.using("measured")) == record
    assert search_record(other.using("measured")) != record
