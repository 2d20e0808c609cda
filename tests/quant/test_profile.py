"""Tests of the layer costs against hand-computed ones and the method's table, and of the grids of the inputs."""

import math

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.quant.profile import measure_costs, profile_module

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


@pytest.mark.parametrize("convolution", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
@pytest.mark.parametrize("padding", ["given", "same"])
@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
def test_padding_of_any_mode_costs_the_same(convolution, padding, mode):
    sides = [8, 9, 10][: {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[convolution]]
    kernel, paddings = [3, 5, 7][: len(sides)], [1, 2, 3][: len(sides)]
    network = nn.Sequential(
        convolution(4, 6, kernel, padding=paddings if padding == "given" else padding, padding_mode=mode)
    )
    cost = profile_module(network, torch.randn(1, 4, *sides))["0"]
    macs = 6 * 4 * math.prod(kernel) * math.prod(sides)
    assert (cost.inputs, cost.macs, cost.macs_limpq) == (4 * math.prod(sides), macs, macs)


class PadsByThree(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (3, 3, 3, 3)))


@pytest.mark.parametrize(
    ("convolution", "outputs"), [(Conv2dSame(4, 6, 3, stride=2), 4 * 5), (PadsByThree(4, 6, 3, stride=2), 6 * 7)]
)
def test_the_inputs_of_a_convolution_that_pads_for_itself_are_those_it_was_given(convolution, outputs):
    cost = profile_module(nn.Sequential(convolution), torch.randn(1, 4, 8, 9))["0"]
    assert (cost.inputs, cost.macs) == (4 * 8 * 9, 6 * outputs * 4 * 9)


def test_padding_by_a_module_in_front_is_of_the_inputs():
    cost = profile_module(nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3)), torch.randn(1, 4, 8, 9))["1"]
    assert cost.inputs == 4 * 10 * 11


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


@pytest.mark.parametrize("seed", [35, 0])
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("efficientnet_b0", ["blocks.1.1.se.conv_expand", "blocks.1.1.conv_pwl"]),  # behind SiLU
        ("mobilenetv3_small_100", ["blocks.3.1.conv_pwl"]),  # behind hard-swish
        ("vit_tiny_patch16_224", ["blocks.0.mlp.fc2"]),  # behind GELU
    ],
)
def test_an_input_that_some_picture_makes_negative_is_signed_whatever_a_few_pictures_show(name, layers, seed):
    torch.manual_seed(seed)
    network = timm.create_model(name, num_classes=10).eval()
    for images in (torch.zeros(2, 3, 224, 224), torch.randn(2, 3, 224, 224)):
        costs = profile_module(network, images)
        assert all(costs[layer].signed for layer in layers)


def test_layers_come_in_the_order_of_execution(tiny, tiny_images):
    assert list(profile_module(tiny, tiny_images)) == ["stem", "strided", "grouped", "classifier"]


def test_published_counting_rounds_the_area_down_and_not_the_sides():
    convolution = nn.Conv2d(1, 2, 3, stride=2, padding=1)  # 8 pixels: a side of 4.5, 20.25 outputs instead of 16
    costs = measure_costs(convolution, (1, 8, 8))
    assert (costs[""].macs, costs[""].macs_limpq) == (2 * 16 * 9, 2 * 20 * 9)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_published_counting_of_named_padding_is_the_exact_one(padding):
    side = {"same": 8, "valid": 4}[padding]
    cost = measure_costs(nn.Conv2d(1, 2, 3, padding=padding, dilation=2), (1, 8, 8))[""]
    assert cost.macs == cost.macs_limpq == 2 * side**2 * 9


def test_linear_layers_on_tokens_count_every_token():
    costs = measure_costs(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), (10, 4))
    assert [(cost.macs, cost.inputs) for cost in costs.values()] == [(10 * 24, 40), (10 * 12, 60)]


def test_every_layer_that_timm_names_as_first_or_classifier_is_fixed(tiny):
    tiny.pretrained_cfg = {"first_conv": "strided", "classifier": ("grouped", "absent")}
    costs = measure_costs(tiny, (3, 8, 8))
    assert all(cost.fixed == FIXED for cost in costs.values())


def test_classifier_without_a_name_still_fixes_the_ends(tiny):
    tiny.pretrained_cfg = {"first_conv": None, "classifier": None}
    costs = measure_costs(tiny, (3, 8, 8))
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
    costs = measure_costs(network, (3, input_size, input_size))
    found = {bits: f"{total_bitops(costs, Policy.uniform(model, costs, bits)) / GIGA:.2f}" for bits in bitops}
    assert f"{sum(cost.macs for cost in costs.values()) / GIGA:.3f}" == macs
    assert found == bitops
    overcount = sum(cost.macs_limpq for cost in costs.values()) / sum(cost.macs for cost in costs.values())
    assert 1 <= overcount < 1.06


def costs_of(name: str) -> dict[str, LayerCost]:
    with torch.device("meta"):
        network = timm.create_model(name)
    return measure_costs(network, network.pretrained_cfg["input_size"])


def test_only_the_first_convolution_of_resnet18_has_a_signed_input():
    assert [name for name, cost in costs_of("resnet18").items() if cost.signed] == ["conv1"]


def test_linear_bottlenecks_of_mobilenetv2_have_signed_inputs():
    costs = costs_of("mobilenetv2_100")
    # inputs that come out of a block: they leave its last, linear convolution
    after_bottleneck = {name for name in costs if name.endswith("conv_pw") and not name.startswith("blocks.0.")}
    assert len(after_bottleneck) == 16
    assert {name for name, cost in costs.items() if cost.signed} == {"conv_stem", "conv_head", *after_bottleneck}
    assert not any(cost.offset for cost in costs.values())


def test_inputs_behind_silu_can_be_negative_whatever_the_pictures_and_have_a_zero_point_of_their_own():
    costs = costs_of("efficientnet_b0")
    for name in ("blocks.1.1.se.conv_expand", "blocks.1.1.conv_dw", "blocks.1.1.conv_pwl", "classifier"):
        assert costs[name].signed, name
        assert costs[name].offset, name
    assert costs["conv_stem"].signed
    assert not costs["conv_stem"].offset


@pytest.mark.parametrize("negative_call", ["first", "last"])
def test_sign_of_one_of_two_calls_counts(negative_call):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            calls = (x, x.abs()) if negative_call == "first" else (x.abs(), x)
            return sum(self.layer(call) for call in calls)

    assert measure_costs(Twice(), (4,))["layer"].signed


@pytest.mark.parametrize(
    ("name", "macs"),
    [("swin_tiny_patch4_window7_224", 4.490), ("mobilevit_xxs", 0.407), ("vit_tiny_patch16_224", 1.254)],
)
def test_products_of_attention_and_folded_tokens_are_counted(name, macs):
    costs = costs_of(name)
    assert sum(cost.macs for cost in costs.values()) / GIGA == pytest.approx(macs, abs=1e-3)
    products = {layer: cost for layer, cost in costs.items() if cost.is_product}
    assert {layer.rpartition(".")[2] for layer in products} == {"qk", "av"}
    # The output of a softmax is never negative, queries can be.
    assert all(cost.signed == layer.endswith("qk") for layer, cost in products.items())


def test_what_is_excluded_is_in_float_and_what_is_fixed_has_eight_bits(tiny):
    costs = measure_costs(tiny, (3, 8, 8), exclude=["stri*"], fix=["grouped"])
    assert costs["strided"].fixed == LayerBits(32, 32)
    assert costs["grouped"].fixed == FIXED


def test_float_part_of_the_budget_counts_thirty_two_bits(tiny):
    costs = measure_costs(tiny, (3, 8, 8), exclude=["grouped"])
    in_float, quantized = costs.pop("grouped"), measure_costs(tiny, (3, 8, 8))["grouped"]
    assert in_float.bitops(in_float.fixed) == quantized.macs * 32 * 32
    assert in_float.size_bits(in_float.fixed) == quantized.weights * 32


@pytest.mark.parametrize("training", [True, False])
def test_profiling_leaves_the_network_unchanged(training, network, images, state_of):
    network.train(training)
    before = state_of(network)
    profile_module(network, images)
    assert state_of(network) == before
