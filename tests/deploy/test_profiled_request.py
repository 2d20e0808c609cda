"""Tests of the file whose layers are timed: it is that of an export on this CPU."""

from importlib.util import find_spec

import pytest

if not all(map(find_spec, ("onnx", "openvino"))):
    pytest.skip('needs the extra "export"', allow_module_level=True)

from limpq_hub.deploy.layer_latency import profiled_request
from limpq_hub.deploy.read_back import read_layers


@pytest.mark.parametrize("vnni", [False, True])
def test_weights_of_eight_bits_are_timed_as_they_would_be_exported_here(exact_network, tmp_path, monkeypatch, vnni):
    network, images = exact_network()
    monkeypatch.setattr("limpq_hub.deploy.layer_latency.has_vnni", lambda: vnni)
    profiled_request(tmp_path / "model.onnx", network, tuple(images.shape[1:]), 1)
    layers = read_layers(tmp_path / "model.onnx")
    assert (layers["stem"].integers is not None) == vnni
    assert layers["expand"].integers is not None, "its weights have 4 bits"
