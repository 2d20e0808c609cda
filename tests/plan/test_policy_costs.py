"""The counting rules, against figures worked out by hand."""

from __future__ import annotations

import pytest

from limpq_hub.errors import PolicyError
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import (
    check_layers,
    compression_ratio,
    peak_activation_bytes,
    total_bitops,
    total_size_bits,
    total_size_bytes,
)

COSTS = {
    "conv": LayerCost(macs=1000, macs_limpq=1010, weights=27, inputs=101, signed=False),
    "head": LayerCost(macs=50, macs_limpq=50, weights=50, inputs=5, signed=False, fixed=LayerBits(8, 8)),
}
POLICY = Policy("toynet", {"conv": LayerBits(3, 5), "head": LayerBits(8, 8)})


def test_bitops_are_macs_times_weight_bits_times_activation_bits_of_every_layer():
    assert total_bitops(COSTS, POLICY) == 1000 * 15 + 50 * 64


def test_bitops_counted_as_the_published_script_does_use_its_macs():
    assert total_bitops(COSTS, POLICY, "limpq") == 1010 * 15 + 50 * 64


def test_size_is_weights_times_weight_bits_of_every_layer():
    assert total_size_bits(COSTS, POLICY) == 27 * 3 + 50 * 8
    assert total_size_bytes(COSTS, POLICY) == 61  # 481 bits are 60.125 bytes


def test_compression_is_the_32_bit_size_divided_by_the_size():
    assert compression_ratio(COSTS, POLICY) == pytest.approx(32 * 77 / 481)


def test_activation_memory_is_the_largest_layer_input_in_whole_bytes():
    assert COSTS["conv"].activation_bytes(LayerBits(3, 5)) == 64  # 505 bits are 63.125 bytes
    assert COSTS["head"].activation_bytes(LayerBits(8, 8)) == 5
    assert peak_activation_bytes(COSTS, POLICY) == 64


def test_counts_stay_exact_beyond_the_precision_of_floats():
    macs = 2**61 + 1
    costs = {"huge": LayerCost(macs=macs, macs_limpq=macs, weights=macs, inputs=macs, signed=True)}
    policy = Policy.uniform("toynet", costs, 3, 7)
    assert total_bitops(costs, policy) == 21 * 2**61 + 21
    assert total_size_bits(costs, policy) == 3 * 2**61 + 3
    assert peak_activation_bytes(costs, policy) == (7 * 2**61 + 7 + 7) // 8


@pytest.mark.parametrize(
    "count", [total_bitops, total_size_bits, total_size_bytes, compression_ratio, peak_activation_bytes, check_layers]
)
def test_a_policy_for_other_layers_is_refused_by_every_count(count):
    other = Policy("toynet", {"conv": LayerBits(3, 5), "fc": LayerBits(8, 8)})
    with pytest.raises(PolicyError, match="it lacks head; it has foreign fc; give bits for exactly the 2 layers"):
        count(COSTS, other)


def test_a_policy_with_many_foreign_layers_names_three_of_them():
    foreign = {f"block{index}": LayerBits(2, 2) for index in range(5)}
    with pytest.raises(PolicyError, match="it has foreign block0, block1, block2 and 2 more; give bits"):
        total_bitops(COSTS, Policy("toynet", {**POLICY.layers, **foreign}))
