"""Tests of networks on the meta device: the shapes that timm's own have, at no cost."""

import pytest
import timm
import torch
from torch import nn

from limpq_hub.errors import UnknownModelError, UnsupportedLayerError
from limpq_hub.zoo.meta_network import input_shape_of, network_on_meta


def test_it_has_the_shapes_of_timms_own_network_and_no_values():
    network = network_on_meta("test_vit", num_classes=7, input_size=64)
    real = timm.create_model("test_vit", num_classes=7, img_size=64)
    assert {name: p.shape for name, p in network.named_parameters()} == {
        name: p.shape for name, p in real.named_parameters()
    }
    assert all(parameter.is_meta for parameter in network.parameters())
    assert not network.training
    assert input_shape_of(network) == (3, 64, 64)


def test_without_a_size_it_is_as_timm_has_it_and_a_tag_may_be_named():
    network = network_on_meta("resnet18.a1_in1k")
    assert (network.num_classes, input_shape_of(network)) == (1000, (3, 224, 224))


def test_a_network_that_reads_a_tensor_while_it_is_built_is_built_on_the_cpu(monkeypatch):
    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, int(torch.ones(3).sum()))

    monkeypatch.setattr(timm, "create_model", lambda *arguments, **options: Reading())
    layer = network_on_meta("resnet18").layer
    assert (layer.weight.shape, layer.weight.is_meta) == ((3, 2), True)


@pytest.mark.parametrize("kind", [RuntimeError, NotImplementedError, ValueError, TypeError])
def test_whatever_timm_raises_is_told_with_what_was_asked_for_and_what_to_leave_out(monkeypatch, kind):
    def fail(*arguments: object, **options: object) -> nn.Module:
        raise kind("no such width")

    monkeypatch.setattr(timm, "create_model", fail)
    message = "^timm cannot build resnet18 for 32 x 32 pixels: 'no such width'; leave --input-size out$"
    with pytest.raises(UnsupportedLayerError, match=message):
        network_on_meta("resnet18", input_size=32)
    message = "^timm cannot build resnet18 depth=3 for 224 x 224 pixels: 'no such width'; leave --model-args out$"
    with pytest.raises(UnsupportedLayerError, match=message):
        network_on_meta("resnet18", model_args={"depth": 3})


def test_a_name_in_capitals_is_answered_with_timms_own():
    with pytest.raises(UnknownModelError, match=r"^timm has no network 'RESNET18'; did you mean resnet18 or"):
        network_on_meta("RESNET18")


def test_an_unknown_name_is_refused_with_the_nearest_ones():
    with pytest.raises(UnknownModelError, match="timm has no network 'resnet81'; did you mean resnet18 or"):
        network_on_meta("resnet81")
