"""Tests of the layer costs against hand-computed ones and the method's table, and of the signs of the inputs."""

from collections import defaultdict

import pytest
import timm
import torch
from torch import Tensor, nn

from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.quant.profile import measure_costs, probe_signs, profile_module

GIGA = 10**9
FIXED = LayerBits(8, 8)


class Tiny(nn.Module):
    """Registered last to first; the grouped convolution runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(6, 5)
        self.grouped = nn.Conv2d(6, 6, (3, 5), padding=(1, 2), groups=2)
        self.strided = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.stem = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.strided(self.stem(x).relu()).relu()
        x = self.grouped(self.grouped(x)).relu()
        return self.classifier(x.mean((2, 3)))


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


@pytest.fixture
def tiny_images() -> Tensor:
    return torch.rand(2, 3, 8, 7, generator=torch.Generator().manual_seed(0))


def test_costs_equal_those_counted_by_hand(tiny, tiny_images):
    # strided: sides (8+2-2-1)/2+1 = 4.5 and (7+2-2-1)/2+1 = 4, so 4 x 4 outputs, and int(4.5 * 4) = 18 as published
    assert profile_module(tiny, tiny_images) == {
        "stem": LayerCost(4 * 56 * 3, 4 * 56 * 3, 12, 3 * 56, True, FIXED),
        "strided": LayerCost(6 * 16 * 36, 6 * 18 * 36, 6 * 36, 4 * 56, False),
        "grouped": LayerCost(2 * 6 * 16 * 45, 2 * 6 * 16 * 45, 6 * 45, 6 * 16, True),
        "classifier": LayerCost(30, 30, 30, 6, False, FIXED),
    }


def test_layers_come_in_the_order_of_execution(tiny, tiny_images):
    assert list(profile_module(tiny, tiny_images)) == ["stem", "strided", "grouped", "classifier"]


def test_published_counting_rounds_the_area_down_and_not_the_sides():
    convolution = nn.Conv2d(1, 2, 3, stride=2, padding=1)  # 8 pixels: a side of 4.5, 20.25 outputs instead of 16
    costs = measure_costs(convolution, (1, 8, 8), {"": True})
    assert (costs[""].macs, costs[""].macs_limpq) == (2 * 16 * 9, 2 * 20 * 9)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_published_counting_of_named_padding_is_the_exact_one(padding):
    side = {"same": 8, "valid": 4}[padding]
    cost = measure_costs(nn.Conv2d(1, 2, 3, padding=padding, dilation=2), (1, 8, 8), {"": True})[""]
    assert cost.macs == cost.macs_limpq == 2 * side**2 * 9


def test_linear_layers_on_tokens_count_every_token():
    costs = measure_costs(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), (10, 4), {"0": True, "1": True})
    assert [(cost.macs, cost.inputs) for cost in costs.values()] == [(10 * 24, 40), (10 * 12, 60)]


def test_every_layer_that_timm_names_as_first_or_classifier_is_fixed(tiny):
    tiny.pretrained_cfg = {"first_conv": "strided", "classifier": ("grouped", "absent")}
    costs = measure_costs(tiny, (3, 8, 8), defaultdict(bool))
    assert all(cost.fixed == FIXED for cost in costs.values())


def test_classifier_without_a_name_still_fixes_the_ends(tiny):
    tiny.pretrained_cfg = {"first_conv": None, "classifier": None}
    costs = measure_costs(tiny, (3, 8, 8), defaultdict(bool))
    assert [name for name, cost in costs.items() if cost.fixed] == ["stem", "classifier"]


@pytest.mark.parametrize(
    ("model", "classes", "input_size", "macs", "bitops"),
    [
        ("resnet18", 200, 64, "0.148", {2: "1.18", 3: "1.87", 4: "2.84", 6: "5.61"}),
        ("resnet18", 1000, 224, "1.814", {2: "14.37", 3: "22.85", 4: "34.71", 6: "68.63"}),
        ("mobilenetv1_100", 200, 64, "0.047", {2: "0.25", 3: "0.48", 4: "0.80", 6: "1.71"}),
    ],
)
def test_bitops_of_real_networks_match_the_table_of_the_method(model, classes, input_size, macs, bitops):
    with torch.device("meta"):
        network = timm.create_model(model, num_classes=classes)
    costs = measure_costs(network, (3, input_size, input_size), defaultdict(bool))
    found = {bits: f"{total_bitops(costs, Policy.uniform(model, costs, bits)) / GIGA:.2f}" for bits in bitops}
    assert f"{sum(cost.macs for cost in costs.values()) / GIGA:.3f}" == macs
    assert found == bitops
    overcount = sum(cost.macs_limpq for cost in costs.values()) / sum(cost.macs for cost in costs.values())
    assert 1 <= overcount < 1.06


def test_only_the_first_convolution_of_resnet18_has_a_signed_input():
    torch.manual_seed(0)
    signs = probe_signs(timm.create_model("resnet18"), torch.randn(2, 3, 32, 32))
    assert [name for name, signed in signs.items() if signed] == ["conv1"]


def test_linear_bottlenecks_of_mobilenetv2_have_signed_inputs():
    torch.manual_seed(0)
    signs = probe_signs(timm.create_model("mobilenetv2_100"), torch.randn(2, 3, 32, 32))
    # inputs that come out of a block: they leave its last, linear convolution
    after_bottleneck = {name for name in signs if name.endswith("conv_pw") and not name.startswith("blocks.0.")}
    assert len(after_bottleneck) == 16
    assert {name for name, signed in signs.items() if signed} == {"conv_stem", "conv_head", *after_bottleneck}


def test_sign_is_also_probed_with_noise():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    assert probe_signs(network, torch.ones(2, 1, 4, 4))["0"]


@pytest.mark.parametrize("negative_call", ["first", "last"])
def test_sign_seen_in_one_of_two_calls_counts(negative_call):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            calls = (x, x.abs()) if negative_call == "first" else (x.abs(), x)
            return sum(self.layer(call) for call in calls)

    assert probe_signs(Twice(), torch.randn(2, 4))["layer"]


def test_probing_signs_twice_gives_the_same_answer_and_draws_no_global_randomness(tiny, tiny_images):
    state = torch.get_rng_state()
    assert probe_signs(tiny, tiny_images) == probe_signs(tiny, tiny_images)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("training", [True, False])
def test_profiling_leaves_the_network_unchanged(training, network, images, state_of):
    network.train(training)
    before = state_of(network)
    profile_module(network, images)
    assert state_of(network) == before
