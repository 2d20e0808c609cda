"""Tests of the quantization maps of optimum-quanto: its types, chosen by hand for every bit-width."""

from fnmatch import fnmatch

import pytest

from limpq_hub.interop.formats import write_policy_as

# Bits: the name of quanto's smallest integer type that holds them.
WEIGHTS = {2: "qint2", 3: "qint4", 4: "qint4", 5: "qint8", 6: "qint8", 7: "qint8", 8: "qint8"}


@pytest.mark.parametrize("bits", WEIGHTS)
def test_weights_get_the_next_type_and_activations_8_bits(policy, bits):
    content, notes = write_policy_as(policy("resnet18", {"conv1": (bits, bits)}), "quanto")
    assert content == {"conv1": {"weights": WEIGHTS[bits], "activations": "qint8"}}
    expected = []
    if bits not in (2, 4, 8):
        expected.append(f"weights of {bits} bits become {WEIGHTS[bits]}, in 1 layer: conv1")
    if bits != 8:
        expected.append(f"activations of {bits} bits become qint8, in 1 layer: conv1")
    assert notes == tuple(expected)


def test_every_layer_has_an_entry_and_a_pattern_that_matches_it_alone(policy, small_resnet):
    content, notes = write_policy_as(policy("resnet18", small_resnet), "quanto")
    assert list(content) == list(small_resnet)
    for pattern in content:
        assert [name for name in small_resnet if fnmatch(name, pattern)] == [pattern]
    assert notes == (
        "weights of 3 bits become qint4, in 1 layer: layer1.0.conv2",
        "weights of 5 bits become qint8, in 1 layer: layer2.0.conv2",
        "weights of 6 bits become qint8, in 1 layer: layer2.0.downsample.0",
        "activations of 3 bits become qint8, in 1 layer: layer1.0.conv1",
        "activations of 4 bits become qint8, in 1 layer: layer1.0.conv2",
        "activations of 5 bits become qint8, in 2 layers: layer2.0.conv1, layer2.0.downsample.0",
        "activations of 6 bits become qint8, in 1 layer: layer2.0.conv2",
        "activations of 7 bits become qint8, in 1 layer: fc",
    )
