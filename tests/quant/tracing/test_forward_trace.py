"""Tests of what a forward pass multiplies, counted beside PyTorch's flop counter, and of what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import ScaledStdConv2d
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.tracing.forward_trace import trace
from limpq_hub.quant.tracing.operations import batch_norm


class Wrapped(nn.Module):
    """A layer between two plain ones, called as `call(layer, x)`."""

    def __init__(self, layer: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inner = layer
        self.last = nn.Linear(4, 2)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.call(self.inner, self.first(x)))


def macs_of_flop_counter(network: nn.Module, shape: tuple[int, ...]) -> int:
    # The flop counter knows neither the fused path of `nn.MultiheadAttention` nor the fused attention of the CPU.
    torch.backends.mha.set_fastpath_enabled(False)
    on_meta = copy.deepcopy(network).to("meta").eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            on_meta(torch.zeros(1, *shape, device="meta"))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops() // 2


def test_each_norm_is_fed_by_the_convolution_that_ran_before_it(network):
    assert trace(network, (3, 8, 8)).norm_feeds == {
        f"{name}_norm": name for name in ("stem", "expand", "depthwise", "project", "final")
    }


def test_norm_before_the_first_convolution_is_fed_by_none():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert trace(network, (3, 4, 4)).norm_feeds == {"2": "1"}


class Kernel(nn.Module):
    """A convolution with a parameter of its own, out of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.kernel = nn.Parameter(torch.randn(5, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(self.layer(x), self.kernel)


class BoundForward(nn.Module):
    """Calls a layer through a reference to its forward method."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.run = self.layer.forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class Listed(nn.Module):
    """Runs its layers from a list that holds them beside their registration."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3)
        self.layers = [self.first, self.second]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(input=x)
        return x


class Folded(nn.Module):
    """A linear layer whose tokens are folded into the batch, as windows of attention do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(2).permute(2, 0, 1).reshape(-1, 3))


class Einsum(nn.Module):
    """Two products of activations, one by einsum and one by baddbmm, without a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x.flatten(2))
        scores = torch.einsum("bij,bkj->bik", x, x)
        return torch.baddbmm(x, scores, x)


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x).relu())


@pytest.mark.parametrize(
    ("network", "shape", "names"),
    [
        (Kernel(), (3, 6, 6), ["layer", "kernel"]),
        (BoundForward(), (3, 6, 6), ["layer"]),
        (Listed(), (3, 6, 6), ["first", "second"]),
        (Folded(), (3, 6, 6), ["layer"]),
        (Einsum(), (5, 2, 3), ["layer", "product0", "product1"]),
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.ConvTranspose1d(4, 2, 3, stride=2)), (3, 9), ["0", "1"]),
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2, groups=1), nn.Conv2d(4, 4, 1)), (3, 5, 5), ["0", "1"]),
        (nn.Sequential(nn.Conv3d(3, 4, 3)), (3, 5, 5, 5), ["0"]),
        (nn.Sequential(ScaledStdConv2d(3, 4, 3), nn.Conv2d(4, 4, 1)), (3, 5, 5), ["0", "1"]),
        (
            Wrapped(nn.MultiheadAttention(4, 2, batch_first=True), lambda layer, x: layer(x, x, x)[0]),
            (6, 4),
            ["first", "inner.query", "inner.key", "inner.value", "inner.qk", "inner.av", "inner.out_proj", "last"],
        ),
        (Wrapped(nn.Linear(4, 4), lambda layer, x: functional.linear(x, layer.weight)), (6, 4), None),
        (Wrapped(nn.Linear(4, 4), lambda layer, x: x @ layer.weight), (6, 4), ["first", "inner.weight", "last"]),
        (
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
            (6, 4),
            [f"self_attn.{name}" for name in ("query", "key", "value", "qk", "av", "out_proj")]
            + ["linear1", "linear2"],
        ),
        (Tied(), (4,), ["encoder"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_all_that_is_multiplied_is_counted_and_named(network, shape, names):
    operations = trace(network, shape).operations
    assert list(operations) == (names or ["first", "inner", "last"])
    assert sum(operation.macs for operation in operations.values()) == macs_of_flop_counter(network, shape)


def test_parameter_of_no_layer_stays_in_float_and_counts_its_weights():
    kernel = trace(Kernel(), (3, 6, 6)).operations["kernel"]
    assert (kernel.kind, kernel.weights, kernel.macs) == ("float", 5 * 27, 16 * 5 * 27)


def test_shared_weight_is_counted_twice_in_macs_and_once_in_bytes():
    traced = trace(Tied(), (4,))
    assert traced.ties == {"decoder": "encoder"}
    assert (traced.operations["encoder"].macs, traced.operations["encoder"].weights) == (32, 16)


def test_heads_that_evaluation_never_calls_are_named_and_left_out():
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.auxiliary = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) + (self.auxiliary(x) if self.training else 0)

    traced = trace(Auxiliary(), (4,))
    assert traced.uncalled == ("auxiliary",)
    assert list(traced.operations) == ["body"]


@pytest.mark.parametrize("name", ["resnet18", "mobilevit_xxs", "swinv2_cr_tiny_ns_224", "eva02_tiny_patch14_224"])
def test_count_of_real_networks_is_that_of_the_flop_counter(name):
    with torch.device("meta"):
        network = timm.create_model(name).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, *network.pretrained_cfg["input_size"]))
    operations = trace(network, network.pretrained_cfg["input_size"]).operations.values()
    assert sum(operation.macs for operation in operations) == counter.get_total_flops() // 2


@pytest.mark.parametrize("layer", [nn.Bilinear(3, 3, 4), nn.LSTM(3, 4), nn.GRUCell(3, 4)])
def test_layer_that_multiplies_out_of_reach_is_refused_by_name_with_a_way_on(layer):
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(layer))
    message = (
        rf"^1\.0 \({type(layer).__name__}\) cannot be quantized: it multiplies inside one operation, out of a "
        r"quantizer's reach, or leave it in float with exclude=\[\"1\.0\"\]$"
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        trace(network, (3, 4, 4))


def test_layer_with_a_parametrized_weight_is_refused_by_name_with_a_way_on():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    message = (
        r"^1 \(ParametrizedConv2d\) cannot be quantized: it computes its weight anew at every call; keep it with "
        r"torch\.nn\.utils\.parametrize\.remove_parametrizations\(network\.1, \"weight\"\), or leave it in float"
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        trace(network, (3, 5, 5))
    assert trace(network, (3, 5, 5), exclude=["1"]).operations["1"].kind == "float"


def test_excluded_layer_that_multiplies_out_of_reach_is_counted_in_float():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.memory = nn.Linear(4, 4), nn.LSTM(4, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.memory(self.layer(x))[0]

    network = Recurrent()
    operations = trace(network, (5, 4), exclude=["memory"]).operations
    assert sum(operation.macs for operation in operations.values()) == 5 * 16 + 5 * 2 * 64
    assert {operation.kind for name, operation in operations.items() if name.startswith("memory.")} == {"float"}


def test_pattern_that_excludes_nothing_is_refused():
    with pytest.raises(UnsupportedLayerError, match="^exclude: no layer, product or module is named 'heads\\.\\*'$"):
        trace(Tied(), (4,), exclude=["heads.*"])


def test_wrong_input_size_is_refused_with_what_the_network_said():
    message = (
        "^Tied does not run on a batch of one input of shape \\[5\\]: .*; give the input size that it is made for$"
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        trace(Tied(), (5,))


def test_network_without_layers_is_refused():
    message = "^Sequential has no convolution or linear layer: there is nothing to quantize$"
    with pytest.raises(UnsupportedLayerError, match=message):
        profile_module(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 8, 6), (2, 3)])
def test_a_batch_normalization_on_meta_gives_what_torch_makes_of_it(shape, affine):
    x = torch.empty(shape, device="meta")
    norm = [torch.empty(3, device="meta") for _ in range(4 if affine else 2)]
    found, expected = batch_norm(x, *norm), torch.nn.functional.batch_norm(x, *norm)
    assert (found.shape, found.stride(), found.dtype) == (expected.shape, expected.stride(), expected.dtype)
    assert found.is_meta
    assert found is not x


def test_a_batch_normalization_that_is_not_on_meta_or_moves_its_statistics_is_computed():
    x, mean, var = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(3), torch.ones(3)
    torch.testing.assert_close(batch_norm(x, mean, var), x, rtol=1e-4, atol=1e-4)
    batch_norm(x, mean, var, training=True, momentum=1.0)
    torch.testing.assert_close(mean, x.mean(0))
