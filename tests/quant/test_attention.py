"""Tests of quantized attention: the products of query with key and attention with value, in every way of writing it."""

from __future__ import annotations

import itertools

import pytest
import timm
import torch
from timm.layers import Attention
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import build_quantized, to_quantized, to_supernet
from limpq_hub.quant.multihead_attention import ExplicitAttention
from limpq_hub.quant.profile import measure_costs
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.tracing.operations import attention


def uniform(network: nn.Module, shape: tuple[int, ...], bits: int) -> Policy:
    return Policy(type(network).__name__, dict.fromkeys(measure_costs(network, shape), LayerBits(bits, bits)))


def on_grid(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    return (x / step).clamp(low, high).round() * step


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fused", [True, False])
def test_products_of_attention_are_quantized_as_by_hand(fused, tokens):
    torch.manual_seed(0)
    network = Attention(8, num_heads=2, qkv_bias=True)
    network.fused_attn = fused
    model = to_quantized(network, uniform(network, (6, 8), 4), example_input=tokens).eval()
    assert {name for name, _ in quantized_layers(model)} == {"qkv", "qk", "av", "proj"}
    step = {
        (name, operand): getattr(layer, f"{operand}_quantizer").step[0]
        for name, layer in quantized_layers(model)
        for operand in ("weight", "activation")
    }
    qkv = functional.linear(
        on_grid(tokens, step["qkv", "activation"], -8, 7), on_grid(network.qkv.weight, step["qkv", "weight"], -8, 7)
    )
    query, key, value = (qkv + network.qkv.bias).reshape(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
    scores = on_grid(query * 0.5, step["qk", "activation"], -8, 7) @ on_grid(
        key, step["qk", "weight"], -8, 7
    ).transpose(-2, -1)
    weights = on_grid(scores.softmax(-1), step["av", "activation"], 0, 15)
    mixed = (weights @ on_grid(value, step["av", "weight"], -8, 7)).transpose(1, 2).reshape(2, 6, 8)
    expected = functional.linear(
        on_grid(mixed, step["proj", "activation"], -8, 7), on_grid(network.proj.weight, step["proj", "weight"], -8, 7)
    )
    torch.testing.assert_close(model(tokens), expected + network.proj.bias)


def test_fused_and_written_out_attention_give_the_same_costs_and_results(tokens):
    torch.manual_seed(0)
    network = Attention(8, num_heads=2)
    models = []
    for fused in (True, False):
        network.fused_attn = fused
        policy = uniform(network, (6, 8), 4)
        models.append(to_quantized(network, policy, example_input=tokens).eval())
    torch.testing.assert_close(models[0](tokens), models[1](tokens))
    assert models[0].state_dict().keys() == models[1].state_dict().keys()


MASKS = {
    "none": {},
    "boolean": {"attn_mask": torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) > 0.3},
    "added": {"attn_mask": torch.randn(6, 6, generator=torch.Generator().manual_seed(2))},
    "causal": {"is_causal": True},
    "scaled": {"scale": 0.3},
}


@pytest.mark.parametrize("mask", MASKS)
def test_attention_written_out_is_that_of_torch(mask):
    query, key, value = torch.randn(3, 2, 4, 6, 8, generator=torch.Generator().manual_seed(3))
    options = MASKS[mask]
    result = attention(
        query, key, value, **options, multiply_scores=lambda call: call.result(), multiply_values=lambda c: c.result()
    )
    torch.testing.assert_close(result, functional.scaled_dot_product_attention(query, key, value, **options))


def test_attention_of_grouped_queries_written_out_is_that_of_torch():
    generator = torch.Generator().manual_seed(3)
    query, key = torch.randn(2, 4, 6, 8, generator=generator), torch.randn(2, 2, 5, 8, generator=generator)
    expected = functional.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    result = attention(
        query,
        key,
        key,
        enable_gqa=True,
        multiply_scores=lambda call: call.result(),
        multiply_values=lambda call: call.result(),
    )
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(("batch_first", "bias", "same_size"), list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("mask", ["none", "boolean", "added", "per head", "padding"])
@pytest.mark.parametrize("average", [True, False])
def test_explicit_attention_is_multihead_attention(batch_first, bias, same_size, mask, average):
    torch.manual_seed(0)
    sizes = {} if same_size else {"kdim": 5, "vdim": 7}
    module = nn.MultiheadAttention(8, 2, bias=bias, batch_first=batch_first, **sizes).eval()
    explicit = ExplicitAttention(module)
    query, key, value = (
        torch.randn(3, 6, 8),
        torch.randn(3, 4, sizes.get("kdim", 8)),
        torch.randn(3, 4, sizes.get("vdim", 8)),
    )
    if not batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    options = {
        "none": {},
        "boolean": {"attn_mask": torch.eye(6, 4).bool()},
        "added": {"attn_mask": torch.randn(6, 4)},
        "per head": {"attn_mask": torch.randn(6, 6, 4)},
        "padding": {"key_padding_mask": torch.tensor([[False, True, False, True]] * 3)},
    }[mask]
    expected = module(query, key, value, average_attn_weights=average, **options)
    torch.testing.assert_close(explicit(query, key, value, average_attn_weights=average, **options), expected)
    alone = explicit(query, key, value, need_weights=False, **options)
    assert alone[1] is None
    torch.testing.assert_close(alone[0], expected[0])


@pytest.mark.parametrize("frozen", ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"])
def test_what_of_an_attention_is_frozen_stays_frozen_and_nothing_else(frozen):
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    attention.get_parameter(frozen).requires_grad_(False)
    key = frozen.rpartition("_" if frozen.startswith("in") else ".")[2]
    parts = ("query", "key", "value") if frozen.startswith("in") else ("out_proj",)
    explicit = dict(ExplicitAttention(attention).named_parameters())
    assert {name for name, parameter in explicit.items() if not parameter.requires_grad} == {
        f"{part}.{key}" for part in parts
    }


def test_attention_whose_output_layer_is_pruned_is_told_with_a_way_on():
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    prune.l1_unstructured(network.self_attn.out_proj, "weight", 0.5)
    with pytest.raises(UnsupportedLayerError, match=r"self_attn.out_proj .* prune.remove, or leave it in float"):
        measure_costs(network, (5, 8))


def test_explicit_attention_takes_tokens_without_a_batch():
    torch.manual_seed(0)
    module, tokens = nn.MultiheadAttention(8, 2).eval(), torch.randn(6, 8)
    torch.testing.assert_close(ExplicitAttention(module)(tokens, tokens, tokens), module(tokens, tokens, tokens))


def test_encoder_of_torch_runs_its_quantized_layers_in_eval_mode(tokens):
    torch.manual_seed(0)
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    model = to_quantized(network, uniform(network, (6, 8), 2), example_input=tokens).eval()
    with torch.no_grad():
        assert not torch.allclose(model(tokens), network(tokens), atol=1e-3)
        for _, layer in quantized_layers(model):
            layer.set_bits_(None)
        torch.testing.assert_close(model(tokens), network(tokens))


def test_windows_of_swin_are_quantized():
    torch.manual_seed(0)
    network = WindowAttention(8, num_heads=2, window_size=3)
    windows = torch.randn(4, 9, 8)
    supernet = to_supernet(network, (8, 2), example_input=windows)
    assert {name for name, _ in quantized_layers(supernet)} == {"qkv", "qk", "av", "proj"}


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "eva02_tiny_patch14_224", "swinv2_tiny_window8_256"])
def test_layers_whose_weights_a_module_takes_itself_are_quantized(name):
    torch.manual_seed(0)
    with torch.device("meta"):
        network = timm.create_model(name, depth=2) if name.startswith(("beit", "eva")) else timm.create_model(name)
    costs = measure_costs(network, network.pretrained_cfg["input_size"])
    assert all(cost.fixed != LayerBits(32, 32) for cost in costs.values())
    assert any(layer.endswith("attn.qkv") for layer in costs)


def test_every_step_of_a_vision_transformer_gets_a_gradient():
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=32, num_classes=5)
    images = torch.randn(2, 3, 32, 32)
    costs = measure_costs(network, (3, 32, 32))
    policy = Policy("vit", {layer: cost.fixed or LayerBits(4, 4) for layer, cost in costs.items()})
    model = to_quantized(network, policy, example_input=images).train()
    model(images).square().sum().backward()
    for layer, module in quantized_layers(model):
        for quantizer in (module.weight_quantizer, module.activation_quantizer):
            assert quantizer.step.grad is not None, layer
            assert bool(quantizer.step.grad.isfinite().all()), layer
    assert len(dict(quantized_layers(model))) == len(costs) == 2 * 6 + 2
    assert build_quantized(network, policy, costs, (3, 32, 32))


@pytest.mark.parametrize(("bias", "sizes"), [(True, {}), (False, {}), (True, {"kdim": 5, "vdim": 7})])
def test_what_networks_read_of_an_attention_is_there_written_out(bias, sizes):
    module = nn.MultiheadAttention(8, 2, bias=bias, **sizes)
    explicit = ExplicitAttention(module)
    read = [key for key in vars(module) if not key.startswith("_")]
    assert {"embed_dim", "kdim", "vdim", "head_dim", "add_zero_attn", "bias_k", "bias_v"} <= set(read)
    assert {key: getattr(explicit, key) for key in read} == {key: getattr(module, key) for key in read}
    for key in ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
        expected, found = getattr(module, key), getattr(explicit, key)
        assert (found is None) if expected is None else torch.equal(found, expected)


class Reading(nn.Module):
    """Scales its tokens by a number that it reads of an attention."""

    def __init__(self, key: str, attention: type[nn.MultiheadAttention] = nn.MultiheadAttention) -> None:
        super().__init__()
        self.key, self.attention, self.last = key, attention(8, 2, batch_first=True), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        read = getattr(self.attention, self.key)
        x = x * (read.ndim if isinstance(read, Tensor) else read if isinstance(read, int) else 1)
        return self.last(self.attention(x, x, x)[0])


@pytest.mark.parametrize("key", ["head_dim", "in_proj_weight", "q_proj_weight"])
def test_network_that_reads_its_attention_is_converted(tokens, key):
    network = Reading(key).eval()
    model = to_quantized(network, uniform(network, (6, 8), 8), example_input=tokens).eval()
    assert (model(tokens) - network(tokens)).abs().max() < 0.1 * network(tokens).abs().max()


class OwnAttention(nn.MultiheadAttention):
    """What the message advises."""


def test_network_that_reads_of_an_attention_what_is_not_there_is_told_what_works(tokens):
    message = "Reading reads what is not there on a batch .* has no attribute 'merge_masks'.*make it one of a subclass"
    with pytest.raises(UnsupportedLayerError, match=message):
        measure_costs(Reading("merge_masks"), (6, 8))
    network = Reading("merge_masks", OwnAttention).eval()
    costs = measure_costs(network, (6, 8))
    assert {name for name, cost in costs.items() if cost.fixed != LayerBits(32, 32)} == {"last"}
    model = to_supernet(network, (8,), example_input=tokens).eval()
    torch.testing.assert_close(model(tokens), network(tokens))


def test_network_without_an_attention_that_reads_what_is_not_there_is_told_without_advice_of_one():
    network = nn.Sequential(nn.Linear(4, 4))
    del network[0].in_features, network[0].bias
    message = r"Sequential reads what is not there on a batch of one input of shape \[4\]: .* has no attribute 'bias'"
    with pytest.raises(UnsupportedLayerError, match=message + ".*run on such a batch by itself first$"):
        measure_costs(network, (4,))


class Padded(nn.Module):
    """An encoder that leaves the last token out."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        is_left_out = (torch.arange(x.shape[1], device=x.device) == x.shape[1] - 1).expand(x.shape[:2])
        return self.encoder(x, src_key_padding_mask=is_left_out)[:, :-1]


def test_encoder_of_torch_that_leaves_tokens_out_is_quantized(tokens):
    torch.manual_seed(0)
    network = Padded().eval()
    expected = network(tokens).detach()  # without gradients torch takes a path of its own
    model = to_quantized(network, uniform(network, (6, 8), 8), example_input=tokens).eval()
    with torch.no_grad():
        assert (model(tokens) - expected).abs().max() < 0.1 * expected.abs().max()
