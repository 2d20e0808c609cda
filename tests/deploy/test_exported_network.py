"""Tests of an exported folder as a network of torch."""

from importlib.util import find_spec

import pytest
import torch

import limpq_hub
from limpq_hub import export
from limpq_hub.errors import ArtifactFormatError, ImageError

if find_spec("openvino") is None:
    pytest.skip('needs the extra "export"', allow_module_level=True)

from limpq_hub.deploy.exported_network import open_exported


def test_it_computes_the_logits_and_knows_its_classes_and_its_preparation(tiny, tmp_path):
    model = limpq_hub.load(tiny.name, bitops="w3a3")
    export(model, tmp_path / "out", images=[tiny.images])
    opened = open_exported(tmp_path / "out")
    difference = (opened.network(tiny.images) - model(tiny.images)).abs()
    assert difference.amax(1).median() < 1e-4
    assert opened.classes == tuple(model.limpq.classes)
    assert opened.spec == model.limpq.network


def test_a_network_of_ones_own_needs_no_factory_once_it_is_exported(tiny, tmp_path):
    model = limpq_hub.load(tiny.name, bitops="w3a3")
    model.pretrained_cfg = dict(model.pretrained_cfg) | {"architecture": "my_networks__Net"}
    export(model, tmp_path / "out", images=[tiny.images])
    opened = open_exported(tmp_path / "out")
    assert opened.spec.architecture == "my_networks__Net"
    assert (opened.network(tiny.images) - model(tiny.images)).abs().amax(1).median() < 1e-4


def test_images_of_another_size_are_refused(tiny, tmp_path):
    export(limpq_hub.load(tiny.name, bitops="w3a3"), tmp_path / "out", images=[tiny.images])
    network = open_exported(tmp_path / "out").network
    with pytest.raises(ImageError, match=r"was exported for images of \[3, 32, 32\], found \[3, 16, 16\]"):
        network(torch.zeros(1, 3, 16, 16))


def test_a_network_that_is_none_of_timms_is_not_opened_for_pictures(exact_network, tmp_path):
    network, images = exact_network()
    export(network, tmp_path / "out", images=[images])
    with pytest.raises(
        ArtifactFormatError,
        match="none that timm has by name, or was built with arguments or channels of its own",
    ):
        open_exported(tmp_path / "out")
