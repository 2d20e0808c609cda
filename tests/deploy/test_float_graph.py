"""Tests of the float network as a file, which integers are compared with: it is the network of torch."""

import numpy as np
import pytest
import torch

from limpq_hub.deploy.runtimes import open_runtime


@pytest.mark.parametrize("file_format", ["openvino", "onnxruntime"])
def test_the_file_gives_the_logits_of_torch_for_any_number_of_images(float_network, tmp_path, file_format):
    pytest.importorskip("onnx")
    pytest.importorskip(file_format)
    from limpq_hub.deploy.float_graph import float_graph

    network = float_network.eval()
    (tmp_path / "float.onnx").write_bytes(float_graph(network, (3, 32, 32)).SerializeToString())
    runtime = open_runtime(tmp_path / "float.onnx", file_format, threads=1)
    for count in (1, 3):
        images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))
        with torch.inference_mode():
            expected = network(images).numpy()
        np.testing.assert_allclose(runtime.run(images.numpy()), expected, rtol=1e-3, atol=1e-4)
