"""What is answered to a name that timm does not have."""

import pytest
import timm
import torch
import torchvision

from limpq_hub.zoo.timm_names import _OF_TORCHVISION, architecture_of, naming_advice


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mnasnet1_0", "efficientnet_v2_s", "swin_t"])
def test_a_name_of_torchvision_is_answered_with_the_network_of_as_many_weights(name):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name)
        ours = timm.create_model(naming_advice(name).rpartition(" ")[2])
    assert sum(map(torch.numel, theirs.parameters())) == sum(map(torch.numel, ours.parameters()))


def test_every_name_that_is_offered_is_one_of_timm_and_stands_for_one_of_torchvision():
    assert all(map(timm.is_model, _OF_TORCHVISION.values()))
    assert {*_OF_TORCHVISION} <= {*torchvision.models.list_models()}
    assert not any(map(timm.is_model, _OF_TORCHVISION))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("alexnet", "torchvision has it; quantize a network that timm has not as a module: limpq_hub.to_supernet"),
        ("resnte18", "did you mean resnet18 or"),
        ("zzzzzzzz", "timm.list_models() names them"),
    ],
)
def test_other_names_are_answered_with_the_nearest(name, advice):
    assert naming_advice(name).startswith(advice)


@pytest.mark.parametrize(
    ("source", "architecture"),
    [
        ("hf-hub:timm/mobilenetv3_small_100.lamb_in1k@v1", "mobilenetv3_small_100"),
        ("hf-hub:timm/mobilenetv3_small_100", "mobilenetv3_small_100"),
        ("hf-hub:you/mine", "resnet18"),
        ("local-dir:out/float", "resnet18"),
    ],
)
def test_a_place_for_weights_names_its_architecture_or_an_example(source, architecture):
    assert architecture_of(source) == architecture
