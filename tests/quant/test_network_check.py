"""Tests of what a check says of a network: known counts, what stays in float and why, what it costs at most."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.costs import FIXED_BITS
from limpq_hub.quant.network_check import check_network
from limpq_hub.zoo.meta_network import input_shape_of, network_on_meta


class Mixed(nn.Module):
    """Three layers, a product of two activations, a product with a parameter, and an auxiliary head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.LayerNorm(4)
        self.middle = nn.Linear(4, 4)
        self.mixing = nn.Parameter(torch.ones(4, 4))
        self.auxiliary = nn.Linear(4, 10)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.norm(self.stem(x).flatten(2).transpose(1, 2))
        x = self.middle(x)
        x = functional.linear(x, self.mixing)
        x = (x.transpose(1, 2) @ x).mean(1)
        return self.head(x)


@pytest.fixture(scope="module")
def mixed():
    return check_network(Mixed(), (3, 6, 6))


# 6 x 6 pixels, 3 x 3 kernel: 16 places, which are 16 tokens of 4 channels from then on.
MIXED_MACS = {"stem": 16 * 4 * 27, "middle": 16 * 16, "mixing": 16 * 16, "product0": 16 * 16, "head": 4 * 2}


def test_each_operation_has_its_kind_and_its_cost(mixed):
    kinds = {name: operation.kind for name, operation in mixed.operations.items()}
    expected = {"stem": "convolution", "middle": "linear", "mixing": "float", "product0": "product", "head": "linear"}
    assert kinds == expected
    assert {name: cost.macs for name, cost in mixed.costs.items()} == MIXED_MACS
    assert mixed.of_kind("linear") == {name: mixed.costs[name] for name in ("middle", "head")}


def test_the_first_and_the_last_layer_are_fixed_and_the_rest_is_searched(mixed):
    assert mixed.fixed == {"stem": FIXED_BITS, "head": FIXED_BITS}
    assert mixed.searched == ("middle", "product0")


def test_what_is_multiplied_by_a_parameter_of_its_own_stays_in_float_and_says_so(mixed):
    assert {name: operation.reason for name, operation in mixed.operations.items() if operation.reason} == {
        "mixing": "a parameter that is no layer's"
    }


def test_what_is_multiplied_by_a_buffer_or_in_an_unregistered_module_stays_in_float_and_says_so():
    class Blurred(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.hidden, self.head = nn.Conv2d(3, 3, 3), [Product()], nn.Linear(36, 2)
            self.register_buffer("blur", torch.ones(3, 1, 1, 1))

        def forward(self, x):
            x = functional.conv2d(self.stem(x), self.blur, groups=3)
            return self.head(self.hidden[0](x.flatten(1)))

    class Product(nn.Module):
        def forward(self, x):
            return x @ (x.transpose(0, 1) @ x)

    check = check_network(Blurred(), (3, 14, 2 + 1))
    assert {name: operation.reason for name, operation in check.operations.items() if operation.kind == "float"} == {
        "network:conv2d": "neither a layer's nor a product of two activations",
        "unregistered:product0": "multiplied by a module that is registered nowhere",
        "unregistered:product1": "multiplied by a module that is registered nowhere",
    }
    assert check.agrees


def test_the_auxiliary_head_is_named_and_normalizations_are_counted_by_class(mixed):
    assert mixed.uncalled == ("auxiliary",)
    assert mixed.normalizations == {"LayerNorm": 1}


def test_the_ranges_are_those_of_the_fewest_and_of_the_most_bits(mixed):
    fixed = (MIXED_MACS["stem"] + MIXED_MACS["head"]) * 64 + MIXED_MACS["mixing"] * 32 * 32
    searched = MIXED_MACS["middle"] + MIXED_MACS["product0"]
    assert mixed.bitops_range == (fixed + searched * 4, fixed + searched * 36)
    fixed_bits = (4 * 27 + 8) * 8 + 16 * 32
    assert mixed.size_bytes_range == ((fixed_bits + 16 * 2) // 8, (fixed_bits + 16 * 6) // 8)


def test_other_candidates_give_other_ranges():
    check = check_network(Mixed(), (3, 6, 6), candidates=(8, 3))
    assert check.candidates == (3, 8)
    assert check.bitops_range[1] - check.bitops_range[0] == (MIXED_MACS["middle"] + MIXED_MACS["product0"]) * (64 - 9)


def test_the_counts_of_a_network_are_those_of_the_flop_counter(mixed):
    assert mixed.agrees
    assert mixed.macs == mixed.flop_counter_macs == sum(MIXED_MACS.values())


def test_patterns_leave_layers_in_float_or_fix_them():
    check = check_network(Mixed(), (3, 6, 6), exclude=["middle"], fix=["product*"])
    assert check.searched == ()
    assert check.fixed == {"stem": FIXED_BITS, "product0": FIXED_BITS, "head": FIXED_BITS}
    assert check.operations["middle"].reason == "excluded"
    assert check.operations["middle"].kind == "float"


def test_the_network_stays_as_it_was():
    network = Mixed().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    check_network(network, (3, 6, 6))
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_layers_that_share_a_weight_are_named():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    network[2].weight = network[1].weight
    check = check_network(network, (4,))
    assert check.ties == {"2": "1"}
    assert (check.costs["1"].macs, check.costs["1"].weights) == (32, 16)
    assert check.agrees


def test_a_network_of_another_input_size_is_refused_with_what_to_do():
    network = network_on_meta("vit_tiny_patch16_224")
    with pytest.raises(
        UnsupportedLayerError, match=r"VisionTransformer does not run on a batch of one input of shape \[3, 32, 32\]"
    ):
        check_network(network, (3, 32, 32))


# Multiply-accumulates in billions, as the papers and timm's own tables of results have them without the products of
# attention or with them; PyTorch's flop counter counts them.
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("mobilevit_xxs", 407_364_096),
        ("swin_tiny_patch4_window7_224", 4_490_566_656),
        ("vit_tiny_patch16_224", 1_253_683_200),
        ("mobilenetv3_small_100", 56_510_400),
    ],
)
def test_the_counts_of_timm_networks_are_those_of_the_flop_counter(name, macs):
    network = network_on_meta(name)
    check = check_network(network, input_shape_of(network))
    assert check.agrees
    assert check.macs == check.flop_counter_macs == macs
    assert not check.of_kind("float")


def test_a_check_on_the_meta_device_is_the_one_of_a_real_network():
    on_meta = check_network(network_on_meta("test_vit"), (3, 160, 160))
    assert on_meta == check_network(timm.create_model("test_vit"), (3, 160, 160))


@pytest.mark.parametrize("pattern", ["1", "2"])
def test_a_layer_that_is_excluded_by_either_of_its_names_says_so(pattern):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    network[2].weight = network[1].weight
    operation = check_network(network, (4,), exclude=[pattern]).operations["1"]
    assert (operation.kind, operation.reason) == ("float", "excluded")
