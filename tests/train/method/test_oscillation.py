"""Which layers count as oscillating, by hand on a few weights, and when they are chosen."""

import json

import pytest
import torch
from torch import nn

from limpq_hub.quant.convert import to_supernet
from limpq_hub.train.method.oscillation import oscillating_layers, update_oscillating_

NAMES = ["1", "2", "3", "4"]


def supernet_of(weights: dict[str, list[float]], candidates=(4, 2), steps=None) -> nn.Module:
    """Linear layers of four weights each between the ends; the step is 1 at every bit-width unless given."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), *(nn.Linear(2, 2) for _ in NAMES), nn.Linear(2, 2))
    supernet = to_supernet(network, candidates, example_input=torch.randn(3, 2))
    for name in NAMES:
        layer = supernet.get_submodule(name)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weights.get(name, [0.0, 0.0, 0.0, 0.0])).view(2, 2))
        for bits in candidates:
            layer.weight_quantizer.set_step_(bits, (steps or {}).get(bits, 1.0))
    return supernet


def test_layers_are_ordered_by_how_many_weights_are_near_a_rounding_boundary():
    supernet = supernet_of(
        {
            "1": [0.5, 0.1, 0.2, 0.0],  # one weight on the boundary between 0 and 1
            "2": [0.6, -0.6, 0.4, 0.9],  # three within an eighth of a step
            "3": [0.0, 1.0, -1.0, 0.3],  # none
            "4": [-0.5, -1.45, 0.3, 0.0],  # two
        }
    )
    assert oscillating_layers(supernet, 1.0) == ["2", "4", "1", "3"]
    assert oscillating_layers(supernet, 0.5) == ["2", "4"]
    assert oscillating_layers(supernet, 0.25) == ["2"]
    assert oscillating_layers(supernet, 0.2) == []
    assert oscillating_layers(supernet, 0.0) == []


@pytest.mark.parametrize(("inside", "outside"), [(0.62, 0.63), (0.38, 0.37), (-1.62, -1.63), (-1.38, -1.37)])
def test_near_is_within_an_eighth_of_a_step(inside, outside):
    assert oscillating_layers(supernet_of({"3": [inside, 0, 0, 0], "1": [outside] * 4}), 0.25) == ["3"]


def test_near_is_measured_in_the_step_of_each_channel():
    supernet = supernet_of({"1": [0.5, 0.1, 5.0, 3.0], "2": [0.5, 0.4, 0.0, 0.0], "3": [0.0, 0.0, 0.5, 0.5]})
    layer = supernet.get_submodule("1")
    layer.add_quantizers_((4, 2), (4, 2), grid="signed", per_channel=True)
    for bits in (4, 2):
        layer.weight_quantizer.set_step_(bits, torch.tensor([1.0, 10.0]))
    # Of layer 1, 0.5 is half of the first channel's step and 5.0 half of the second's.
    assert oscillating_layers(supernet, 0.75) == ["1", "2", "3"]
    layer.weight_quantizer.set_step_(4, torch.tensor([1.0, 1.0]))
    layer.weight_quantizer.set_step_(2, torch.tensor([1.0, 1.0]))
    assert oscillating_layers(supernet, 0.5) == ["2", "3"]


def test_near_is_measured_in_steps_of_each_bit_width():
    # 0.25 is half a step at 2 bits, where the step is 0.5; 0.05 is half a step at 4 bits, where it is 0.1.
    supernet = supernet_of({"1": [0.05, 0.05, 0, 0], "4": [0.26, 0, 0, 0]}, steps={2: 0.5, 4: 0.1})
    # Layer 1: two of four at 4 bits, none at 2 (0.05 is a tenth of a step): 2/4/4 = 0.125.
    # Layer 4: one of four at 2 bits, none at 4 (2.6 steps are inside but 0.1 off is near): 1/4/2 + 1/4/4 = 0.1875.
    assert oscillating_layers(supernet, 0.5) == ["4", "1"]


def test_fewer_bits_weigh_more_by_their_inverse():
    # At 2 bits the grid ends at 1, so 1.5 and 2.5 are near a boundary at 4 bits only.
    three_at_four = {"1": [1.5, 2.5, 3.5, 0.0]}  # 3/4 of the weights, at 4 bits: 3/16
    one_at_both = {"2": [0.5, 0.0, 0.0, 0.0]}  # 1/4 at 2 and at 4 bits: 1/8 + 1/16 = 3/16, the same
    two_at_both = {"3": [0.5, -0.5, 0.0, 0.0]}  # 6/16
    assert oscillating_layers(supernet_of(three_at_four | two_at_both), 0.5) == ["3", "1"]
    assert oscillating_layers(supernet_of(one_at_both | {"1": [1.5, 2.5, 3.5, 4.5]}), 0.5) == ["1", "2"]
    assert oscillating_layers(supernet_of(one_at_both | {"1": [1.5, 2.5, 0.0, 0.0]}), 0.5) == ["2", "1"]


def test_clipped_weights_do_not_count():
    clipped = [-8.5, 7.5, 8.5, -9.5]  # all halfway between integers, all beyond -8 or 7
    assert oscillating_layers(supernet_of({"4": clipped, "3": [0.5, 0, 0, 0]}), 0.25) == ["3"]


def test_first_and_last_layer_are_never_named():
    assert oscillating_layers(supernet_of({}), 1.0) == NAMES


def test_layers_are_chosen_from_epoch_5_on_in_every_other_epoch():
    before, after = supernet_of({"2": [0.5] * 4}), supernet_of({"3": [0.5] * 4})
    choice: dict[str, object] = {}
    for epoch in range(5):
        assert list(update_oscillating_(choice, before, 0.25, epoch)) == []
    assert choice == {}
    assert list(update_oscillating_(choice, before, 0.25, 5)) == ["2"]
    for epoch in (5, 5, 6, 6):  # also the later steps of an epoch keep the choice
        assert list(update_oscillating_(choice, after, 0.25, epoch)) == ["2"]
    assert list(update_oscillating_(choice, after, 0.25, 7)) == ["3"]
    assert list(update_oscillating_(choice, before, 0.25, 8)) == ["3"]
    assert list(update_oscillating_(choice, before, 0.25, 9)) == ["2"]
    assert choice["chosen_in_epoch"] == 9


def test_the_choice_survives_as_json():
    choice: dict[str, object] = {}
    update_oscillating_(choice, supernet_of({"2": [0.5] * 4}), 0.5, 5)
    restored = json.loads(json.dumps(choice))
    assert restored == choice == {"chosen_in_epoch": 5, "oscillating": ["2", "1"]}
    other = supernet_of({"3": [0.5] * 4})
    assert list(update_oscillating_(restored, other, 0.5, 6)) == ["2", "1"]
    assert list(update_oscillating_(restored, other, 0.5, 7)) == ["3", "1"]


def test_without_a_share_nothing_is_chosen_or_remembered():
    choice: dict[str, object] = {}
    assert list(update_oscillating_(choice, supernet_of({"2": [0.5] * 4}), 0.0, 7)) == []
    assert choice == {}
