"""Networks that share parts, or call parts of their own as torch calls others: their entries and checkpoints load."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import _registry
from torch import Tensor, nn
from torch.nn.utils import prune

import limpq_hub
from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.quant.convert import select_policy, set_policy_, to_quantized, to_supernet
from limpq_hub.quant.learned_indicators import read_indicators
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.running_statistics import active_batch_norms
from limpq_hub.zoo.anchors import save_anchors
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint, save_checkpoint
from limpq_hub.zoo.entry_folder import load_supernet, save_entry, save_float_network, seal_entry
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.own_network import own_network
from limpq_hub.zoo.packed_tensors import packed_tensors
from limpq_hub.zoo.searched_weights import searched_weights
from limpq_hub.zoo.tensors import own_state

CLASSES = [{"id": str(index), "name": f"class {index}"} for index in range(4)]
Saved = tuple[Path, nn.Module, nn.Module, Any]  # folder, float network, supernet, costs


class Plain(nn.Module):
    """Two convolutions and a linear layer, the base of the others."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, num_classes)

    def middle(self, x: Tensor) -> Tensor:
        """Return what lies between the first normalization and the last layer, pooled."""
        return self.second(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.norm(self.first(x)).relu()))


class SharedBlock(Plain):
    """A block with a batch normalization, registered and called twice."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.third = self.second

    def middle(self, x: Tensor) -> Tensor:
        return self.third(self.second(x)).mean((2, 3))


class SharedWeight(Plain):
    """Two convolutions that share a weight."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.third.weight = self.second.weight

    def middle(self, x: Tensor) -> Tensor:
        return self.third(self.second(x).relu()).mean((2, 3))


class Centered(Plain):
    """Subtracts a mean of its own, without a variance."""

    name, value = "running_mean", 0.1

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.own = nn.Module()
        self.own.register_buffer(self.name, torch.full((8,), self.value))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x) - self.own.get_buffer(self.name)


class Scaled(Centered):
    """Divides by a variance of its own, without a mean."""

    name, value = "running_var", 1.7

    def middle(self, x: Tensor) -> Tensor:
        return super(Centered, self).middle(x) / self.own.get_buffer(self.name).sqrt()


class OwnStep(Plain):
    """Multiplies by a parameter that is called as the step size of a quantizer is."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.own = nn.Module()
        self.own.register_parameter("step", nn.Parameter(torch.tensor([[-0.5], [0.0]])))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x) * self.own.get_parameter("step").sum()


class TiedEmbedding(Plain):
    """A linear layer with the weight of an embedding, which is registered first and read as it is."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.own = nn.Embedding(5, 8)
        self.tied, self.last = nn.Linear(8, 5), nn.Linear(5, num_classes)
        self.tied.weight = self.own.weight

    def middle(self, x: Tensor) -> Tensor:
        return self.tied(super().middle(x) + self.own.weight[2])


class TiedToEmbedding(TiedEmbedding):
    """The same with the linear layer registered first."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        embedding = self.own
        del self.own
        self.own = embedding


class FloatParameter(Plain):
    """A linear map by a parameter, and many more numbers in another one than its layers have."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.map, self.table = nn.Parameter(torch.eye(8)), nn.Parameter(torch.zeros(700_000))

    def middle(self, x: Tensor) -> Tensor:
        return nn.functional.linear(super().middle(x), self.map) + self.table[:8]


class Attention(Plain):
    """The weights of three linear maps in one parameter."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def middle(self, x: Tensor) -> Tensor:
        tokens = self.second(x).flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0].mean(1)


class Masked(Plain):
    """Adds a buffer that is infinite where something is left out."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("mask", torch.tensor([0.0, -math.inf] * 4))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x) * (x.amax((2, 3)) + self.mask).softmax(1)


@pytest.fixture(scope="module", autouse=True)
def _registry_of_before():
    """What is registered here is none of timm's for the tests that go over all of its networks."""
    known = {name: dict(getattr(_registry, name)) for name in ("_model_entrypoints", "_model_to_module")}
    yield
    for name, entries in known.items():
        getattr(_registry, name).clear()
        getattr(_registry, name).update(entries)
    _registry._module_to_models.pop(__name__, None)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(images, tmp_path) -> Callable[..., Saved]:
    """A function that writes the entry of a network, with its float network, and returns what it was made from."""

    def write(factory: type[nn.Module], exclude: tuple[str, ...] = ()) -> Saved:
        torch.manual_seed(0)
        network = own_network(factory, num_classes=4, input_size=12)
        costs = profile_module(network, images, exclude=exclude)
        supernet = to_supernet(network, (2, 4), example_input=images, exclude=exclude).eval()
        indicators = read_indicators(supernet, costs, input_size=12, num_classes=4)
        save_float_network(tmp_path, network)
        save_entry(tmp_path, supernet, indicators, CLASSES)
        return tmp_path, network, supernet, costs

    return write


def uniform(supernet: nn.Module, costs: Any, bits: int) -> Policy:
    return Policy.uniform(supernet.pretrained_cfg["architecture"], costs, bits, input_size=12)


@pytest.mark.parametrize("factory", [SharedBlock, SharedWeight, Centered, Scaled])
def test_the_statistics_of_anchors_reach_each_batch_norm_and_nothing_else(factory, saved, images):
    folder, _, supernet, costs = saved(factory)
    policies = [uniform(supernet, costs, bits) for bits in (2, 4)]
    save_anchors(folder, supernet, policies, [images])
    seal_entry(folder, NetworkSpec.of(supernet))
    for policy in policies:
        expected = select_policy(supernet, policy).eval()
        recalibrate_batch_norm_(expected, [images])
        with pytest.warns(UserWarning, match="was not fine-tuned"):
            loaded = limpq_hub.load(f"local-dir:{folder}", policy=policy, build=factory)
        norms = active_batch_norms(loaded)
        assert {f"{name}.running_{key}" for name in norms for key in ("mean", "var")} | {
            name for name in own_state(loaded) if name.startswith("own.")
        } == {name for name in own_state(loaded) if ".running_" in name}
        for name, norm in norms.items():
            for key in ("running_mean", "running_var"):
                value = expected.get_submodule(name).get_buffer(key)
                assert torch.equal(norm.get_buffer(key), value.half().float()), (name, key)
        for name, value in own_state(loaded).items():
            if name.startswith("own."):
                assert torch.equal(value, own_state(expected)[name])


@pytest.mark.parametrize("factory", [TiedEmbedding, TiedToEmbedding])
def test_a_weight_that_an_embedding_has_too_comes_back_in_float_and_on_its_grid(factory, images, tmp_path):
    torch.manual_seed(0)
    network = own_network(factory, num_classes=4, input_size=12)
    costs = profile_module(network, images)
    quantized = to_quantized(network, uniform(network, costs, 3), example_input=images).eval()
    save_checkpoint(tmp_path, quantized, costs)
    loaded, _ = load_checkpoint(open_local_folder(tmp_path, "checkpoint"))
    assert loaded.tied.weight is loaded.own.weight
    assert torch.equal(loaded.own.weight, network.own.weight)
    with torch.no_grad():
        assert torch.equal(loaded(images), quantized(images))
    assert quantized(images).shape == (8, 4)
    # Of layers alone the integers are stored, and nothing else.
    names = {name for name in packed_tensors(quantized, uniform(network, costs, 3)) if name.endswith(".weight")}
    assert names == {"norm.weight", "own.weight" if factory is TiedEmbedding else "tied.weight"}


def test_one_of_two_layers_that_share_a_weight_cannot_be_pruned_and_stored(images, tmp_path):
    network = own_network(SharedWeight, num_classes=4, input_size=12)
    costs = profile_module(network, images)
    quantized = to_quantized(network, uniform(network, costs, 3), example_input=images)
    prune.l1_unstructured(quantized.third, "weight", 0.5)
    with pytest.raises(
        UnsupportedLayerError, match=r"^third \(QuantConv2d\) cannot be stored: it computes its weight "
    ):
        save_checkpoint(tmp_path, quantized, costs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("factory", "exclude"),
    [
        (Plain, ()),
        (TiedEmbedding, ()),
        (TiedToEmbedding, ()),
        (FloatParameter, ()),
        (Attention, ("attention.qk", "attention.av")),
        (Plain, ("last",)),
    ],
)
def test_a_sensitivity_takes_the_weights_of_searched_layers_whatever_else_the_network_has(factory, exclude, saved):
    folder, network, _, costs = saved(factory, exclude)
    assert "sensitivity" in limpq_hub.baselines(f"local-dir:{folder}", bitops="w4a4")
    weights = searched_weights(find_entry(f"local-dir:{folder}"))
    assert list(weights) == [name for name, cost in costs.items() if cost.fixed is None]
    for name, weight in weights.items():
        if name.startswith("attention.") and not name.endswith("out_proj"):
            place = ("query", "key", "value").index(name.removeprefix("attention."))
            expected = network.attention.in_proj_weight[8 * place : 8 * place + 8]
        else:
            expected = network.get_submodule(name).weight
        assert weight.dtype == np.float32
        assert np.array_equal(weight, expected.detach().half().float().numpy().ravel()), name


def test_without_its_factory_a_network_with_other_names_has_every_other_baseline(saved, monkeypatch):
    folder, _, _, _ = saved(TiedEmbedding)
    with_factory = limpq_hub.baselines(f"local-dir:{folder}", bitops="w4a4")
    monkeypatch.setattr(_registry, "_model_entrypoints", {})
    without = limpq_hub.baselines(f"local-dir:{folder}", bitops="w4a4")
    assert without == {name: policy for name, policy in with_factory.items() if name != "sensitivity"} != with_factory


def test_a_parameter_called_step_is_taken_for_no_step_size(saved, images, tmp_path):
    folder, network, supernet, costs = saved(OwnStep)
    entry = find_entry(f"local-dir:{folder}")
    loaded = load_supernet(entry.folder, entry.indicators)
    assert loaded.own.step.tolist() == [[-0.5], [0.0]]
    quantized = set_policy_(select_policy(supernet, uniform(network, costs, 4)), uniform(network, costs, 4)).eval()
    save_checkpoint(tmp_path / "checkpoint", quantized, costs)
    again, _ = load_checkpoint(open_local_folder(tmp_path / "checkpoint", "checkpoint"))
    assert again.own.step.tolist() == [[-0.5], [0.0]]
    with torch.no_grad():
        assert torch.equal(again(images), quantized(images))


def test_a_buffer_that_is_built_infinite_is_stored(saved, images, tmp_path):
    folder, network, supernet, costs = saved(Masked)
    entry = find_entry(f"local-dir:{folder}")
    assert torch.equal(load_supernet(entry.folder, entry.indicators).mask, network.mask)
    quantized = select_policy(supernet, uniform(network, costs, 4)).eval()
    save_checkpoint(tmp_path / "checkpoint", quantized, costs)
    again, _ = load_checkpoint(open_local_folder(tmp_path / "checkpoint", "checkpoint"))
    with torch.no_grad():
        assert torch.equal(again(images), quantized(images))
