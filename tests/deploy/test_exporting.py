"""Tests of `export`: the same integers, the same logits, and nothing half-written."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from unittest.mock import Mock

import numpy as np
import pytest
import timm
import torch
from exact_blocks import Block, InvertedResidual
from torch import nn
from torch.nn import functional

import limpq_hub
from limpq_hub import LayerBits, Policy, export, to_quantized
from limpq_hub.deploy.export_folder import open_export
from limpq_hub.deploy.exported_network import open_exported
from limpq_hub.deploy.parity import Parity
from limpq_hub.deploy.runtimes import open_runtime
from limpq_hub.errors import ArtifactError, ArtifactIntegrityError, OutputError, UnsupportedLayerError
from limpq_hub.plan.policy_costs import total_bitops, total_size_bits
from limpq_hub.quant.integer_layers import has_vnni
from limpq_hub.quant.profile import profile_module

needs_export = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxruntime", "openvino", "qonnx"))), reason='needs the extra "export"'
)
pytestmark = needs_export
QUANTIZED = ("stem", "expand", "project", "classifier")


def run(folder, file_format, images):
    return open_runtime(folder / "model.onnx", file_format, threads=1).run(images.numpy())


@pytest.mark.parametrize(
    ("file_format", "activation", "per_channel"),
    [
        ("openvino", nn.ReLU(), False),
        ("openvino", nn.ReLU6(), True),
        ("openvino", nn.Hardtanh(-0.5, 2.0), False),
        ("qonnx", nn.ReLU6(), True),
        ("qonnx", nn.Hardtanh(-0.5, 2.0), False),
    ],
    ids=["openvino-relu", "openvino-relu6-channels", "openvino-tanh", "qonnx-relu6-channels", "qonnx-tanh"],
)
def test_where_float_arithmetic_is_exact_every_runtime_gives_exactly_the_simulated_logits(
    exact_network, tmp_path, file_format, activation, per_channel
):
    network, images = exact_network(activation, per_channel=per_channel)
    exported = export(network, tmp_path / "out", format=file_format, images=[images])
    assert exported.parity.largest_difference == 0
    assert np.array_equal(run(tmp_path / "out", file_format, images), network(images).numpy())
    assert network(images).std(0).max() > 1e-3, "the network tells nothing apart"


def test_a_network_that_multiplies_integers_in_torch_is_exported_as_the_simulated_one(tiny, tmp_path):
    for arithmetic in ("simulated", "integer"):
        model = limpq_hub.load(tiny.name, bitops="w3a3", arithmetic=arithmetic)
        export(model, tmp_path / arithmetic, images=[tiny.images])
    files = [tmp_path / arithmetic / "model.onnx" for arithmetic in ("simulated", "integer")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_verdict_says_what_is_promised_and_by_what_it_is_met(tiny, tmp_path):
    exported = export(limpq_hub.load(tiny.name, bitops="w3a3"), tmp_path / "out", images=[tiny.images])
    near = replace(exported, parity_of_layers=None, parity=Parity(64, 1.0, 1.0, 0.0))
    promised = "90% of the pictures within 0.0001 and 99.5% of one class"
    assert near.verdict == f"OK: at least {promised}, as is promised"
    assert replace(near, parity=Parity(64, 63 / 64, 63 / 64, 0.5)).verdict == (
        f"OK: at most one of 64 pictures differs, which a rounding tie can do; of many at least {promised} are promised"
    )
    assert replace(exported, parity_of_layers=Mock()).verdict == (
        "OK, layer by layer: each computes what exact arithmetic does with its integers; the logits alone do not "
        "tell, not 90% of the pictures within 0.0001 and 99.5% of one class, since a rounding tie changes all that "
        "follows it, and ties are many"
    )
    assert replace(exported, format="onnxruntime").verdict == (
        "an approximation, as this format always is: the figures are reported, and nothing is promised"
    )


def test_onnx_runtime_gets_the_same_integers_and_nearly_the_same_logits(exact_network, tmp_path):
    network, images = exact_network(nn.ReLU6(), per_channel=True)
    exported = export(network, tmp_path / "out", format="onnxruntime", images=[images])
    logits = network(images).numpy()
    assert exported.parity.largest_difference < 0.1 * np.ptp(logits)
    in_float = [name for name, in_integers in exported.integer_layers.items() if not in_integers]
    assert in_float == ["classifier"], "ONNX Runtime has no integer Gemm with a result in float"
    assert run(tmp_path / "out", "onnxruntime", images[:1]).shape == (1, 10)


class NormalizedTokens(nn.Module):
    """A linear map of the positions of each channel, and a normalization of the channels, as many as positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.norm, self.head = (
            nn.Conv2d(3, 9, 1),
            nn.Linear(9, 9),
            nn.BatchNorm1d(9),
            nn.Linear(81, 5),
        )
        nn.init.uniform_(self.norm.weight, -2, 2)
        nn.init.uniform_(self.norm.bias, -1, 1)

    def forward(self, x):
        return self.head(self.norm(self.mix(self.stem(x).flatten(2))).flatten(1))


def at_eight_bits(network, images):
    policy = Policy(type(network).__name__, dict.fromkeys(profile_module(network, images), LayerBits(8, 8)))
    return to_quantized(network.eval(), policy, example_input=images).eval()


def test_onnx_runtime_normalizes_the_channels_that_torch_does(tmp_path):
    torch.manual_seed(0)
    images = torch.randn(64, 3, 3, 3)
    network = at_eight_bits(NormalizedTokens(), images)
    export(network, tmp_path / "out", format="onnxruntime", images=[images])
    logits = network(images).detach().numpy()
    assert np.abs(run(tmp_path / "out", "onnxruntime", images) - logits).max() < 0.05 * np.ptp(logits)


@pytest.mark.parametrize(
    "last",
    [
        lambda x: x.flatten(1),
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: functional.dropout(x.view(x.shape[0], -1), training=False),
        lambda x: x.flatten(1).contiguous().float(),
    ],
    ids=["flatten", "reshape", "view and dropout", "float"],
)
def test_onnx_runtime_does_not_round_logits_that_are_only_brought_into_shape(tmp_path, last):
    import onnx

    torch.manual_seed(0)
    images = torch.randn(8, 3, 4, 4)
    network = at_eight_bits(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 2)), images)
    network.register_forward_hook(lambda module, inputs, output: last(output))
    export(network, tmp_path / "out", format="onnxruntime", images=[images])
    rounded = [node.name for node in onnx.load(tmp_path / "out/model.onnx").graph.node if "octets" in node.name]
    assert not rounded


def test_a_file_for_pictures_of_another_size_says_so_and_takes_them(tiny, tmp_path):
    network = limpq_hub.load(tiny.name, bitops="w4a4")
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    export(network, tmp_path / "out", images=[images])
    opened = open_exported(tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (opened.spec.input_size, config["pretrained_cfg"]["input_size"]) == (48, [3, 48, 48])
    assert opened.network(images).argmax(1).tolist() == network(images).argmax(1).tolist()


def test_a_file_for_pictures_that_are_not_square_does_not_say_how_they_are_prepared(tiny, tmp_path):
    network = limpq_hub.load(tiny.name, bitops="w4a4")
    assert export(network, tmp_path / "out", images=[torch.zeros(2, 3, 32, 48)]).verdict.startswith("OK")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["architecture"], "pretrained_cfg" in config) == ("test_resnet", False)
    with pytest.raises(ArtifactError, match="was exported for pictures that are not square"):
        open_exported(tmp_path / "out")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [(2, 3, 32, 32), (2, 3, 16, 16)],
            "pictures of [3, 16, 16] and [3, 32, 32]; a file is for",
        ),
        ([(2, 1, 32, 32)], "pictures of [1, 32, 32], the network takes 3 channels: give such"),
        ([(0, 3, 32, 32)], "a batch holds no picture; give one picture or more in each"),
    ],
    ids=str,
)
def test_pictures_that_no_file_is_for_are_refused(tiny, tmp_path, shapes, message):
    network = limpq_hub.load(tiny.name, bitops="w4a4")
    with pytest.raises(OutputError, match=f"^images: {re.escape(message)}"):
        export(network, tmp_path / "out", images=[torch.zeros(shape) for shape in shapes])
    assert not (tmp_path / "out").exists()


def test_ranges_are_not_measured_on_noise(tiny, tmp_path):
    model = limpq_hub.load(tiny.name, bitops="w3a3")
    with pytest.raises(OutputError, match='format="onnxruntime" measures ranges on pictures: give images='):
        export(model, tmp_path / "out", format="onnxruntime")


def test_a_shortcut_that_no_activation_function_follows_is_added_for_any_number_of_images(exact_network, tmp_path):
    network, images = exact_network(nn.ReLU6(), block=InvertedResidual)
    exported = export(network, tmp_path / "out", images=[images])
    assert exported.parity.largest_difference == 0
    assert exported.integer_layers["depthwise"]
    assert np.array_equal(run(tmp_path / "out", "openvino", images[:1]), network(images[:1]).numpy())


class LearnedClip(nn.Module):
    """Cuts each channel off at a number of its own, and below at one for all, which are learned or not."""

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.lowest = nn.Parameter(torch.tensor([-0.25]), requires_grad=learned)
        self.highest = nn.Parameter(torch.arange(16).reshape(16, 1, 1) / 8, requires_grad=learned)

    def forward(self, x):
        return torch.clamp(x, self.lowest, self.highest[: x.shape[1]])


@pytest.mark.parametrize("file_format", ["openvino", "qonnx"])
@pytest.mark.parametrize("learned", [False, True])
def test_a_bound_that_is_a_tensor_is_written(exact_network, tmp_path, file_format, learned):
    network, images = exact_network(LearnedClip(learned))
    network.activation.requires_grad_(learned)
    exported = export(network, tmp_path / "out", format=file_format, images=[images])
    assert exported.parity.largest_difference == 0


def test_onnx_runtime_takes_a_bound_that_is_a_tensor(exact_network, tmp_path):
    network, images = exact_network(LearnedClip(learned=True))
    exported = export(network, tmp_path / "out", format="onnxruntime", images=[images])
    assert exported.parity.largest_difference < 0.1 * np.ptp(network(images).numpy())


class Clamped(nn.Module):
    """Cuts values off below or above a number, or both."""

    def __init__(self, **bounds: float) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, x):
        return x.clamp(**self.bounds)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={bound:g}" for name, bound in self.bounds.items())


@pytest.mark.parametrize("file_format", ["openvino", "qonnx", "onnxruntime"])
@pytest.mark.parametrize(
    "activation",
    [
        Clamped(min=0.0),
        Clamped(max=1.0),
        Clamped(min=0.0, max=1.5),
        Clamped(min=0.25),
        Clamped(min=2.0, max=1.0),
        Clamped(min=0.0, max=math.inf),
        Clamped(max=torch.finfo(torch.float32).max),
        nn.Hardtanh(0.0, math.inf),
    ],
    ids=str,
)
@pytest.mark.parametrize("block", [Block, InvertedResidual])
def test_what_clamps_on_one_side_or_on_both_is_written(exact_network, tmp_path, file_format, activation, block):
    network, images = exact_network(activation, block=block)
    exported = export(network, tmp_path / "out", format=file_format, images=[images])
    allowed = 0.1 * np.ptp(network(images).numpy()) if file_format == "onnxruntime" else 0
    assert exported.parity.largest_difference <= allowed


class Keeping(nn.ReLU):
    """Keeps what it computed, which torch does not copy."""

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept


def test_a_network_that_keeps_what_it_computed_is_exported(exact_network, tmp_path):
    network, images = exact_network(Keeping())
    network.requires_grad_(True)(images)
    assert not network.activation.kept.is_leaf
    assert export(network, tmp_path / "out", images=[images]).parity.largest_difference == 0


def test_layers_that_stay_in_float_are_written_in_float(exact_network, tmp_path):
    network, images = exact_network(in_float=["depthwise", "shortcut"])
    exported = export(network, tmp_path / "out", images=[images])
    assert exported.parity.largest_difference == 0
    assert exported.integers == sum(network.get_submodule(name).weight.numel() for name in QUANTIZED)


def test_a_file_takes_any_number_of_images_at_once(exact_network, tmp_path):
    network, images = exact_network()
    export(network, tmp_path / "out", images=[images])
    runtime = open_runtime(tmp_path / "out" / "model.onnx", "openvino", threads=1)
    for batch in (images[:1], images[:3], images):
        assert np.array_equal(runtime.run(batch.numpy()), network(batch).numpy())


def test_weights_of_eight_bits_stay_in_float_where_they_could_overflow(exact_network, tmp_path):
    network, images = exact_network()
    exported = export(network, tmp_path / "out", images=[images], vnni=False)
    assert exported.parity.largest_difference == 0
    assert not exported.integer_layers["stem"]
    assert not exported.integer_layers["classifier"]
    assert exported.integer_layers["expand"]
    assert not exported.needs_vnni


@pytest.mark.parametrize("vnni", [False, True])
def test_a_file_is_written_as_is_exact_on_the_cpu_that_writes_it(exact_network, tmp_path, monkeypatch, vnni):
    network, images = exact_network()
    export(network, tmp_path / "asked", images=[images], vnni=False)
    if vnni and not has_vnni():
        pytest.skip("this CPU has no VNNI")
    monkeypatch.setattr("limpq_hub.deploy.exporting.has_vnni", lambda: vnni)
    exported = export(network, tmp_path / "out", images=[images])
    assert exported.needs_vnni == exported.integer_layers["stem"] == vnni
    files = [(tmp_path / folder / "model.onnx").read_bytes() for folder in ("asked", "out")]
    assert (files[0] == files[1]) == (not vnni)


def test_integers_that_were_asked_for_are_refused_where_they_overflow(exact_network, tmp_path, monkeypatch):
    network, images = exact_network()
    monkeypatch.setattr("limpq_hub.deploy.exporting.has_vnni", lambda: False)
    monkeypatch.setattr("limpq_hub.deploy.runtimes.OpenVino.run", lambda runtime, batch: np.zeros((len(batch), 10)))
    with pytest.raises(OutputError, match="weights of 8 bits can overflow: leave out vnni=True"):
        export(network, tmp_path / "out", images=[images], vnni=True)
    with pytest.raises(OutputError, match="another version of the runtime"):
        export(network, tmp_path / "out", images=[images])


def test_what_a_folder_says_of_itself_is_what_timm_and_transformers_read(tiny, tmp_path):
    import onnx

    model = limpq_hub.load(tiny.name, bitops="w3a3")
    exported = export(model, tmp_path / "out", images=[tiny.images])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("test_resnet", 10)
    assert config["label_names"][3] == "n0003"
    assert config["id2label"]["3"] == "noise 3"
    assert config["pretrained_cfg"]["mean"] == [0.4, 0.5, 0.6]
    preprocessor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert (preprocessor["image_mean"], preprocessor["size"]) == ([0.4, 0.5, 0.6], {"shortest_edge": 32})
    metadata = {item.key: item.value for item in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    assert Policy.from_json(json.loads(metadata["limpq.policy"])).layers == model.limpq.plan.policy.layers
    assert metadata["limpq.policy_sha256"] == model.limpq.plan.policy.digest()
    verification = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert verification["parity"]["pictures"] == 8
    assert verification["integers_equal"] == exported.integers == sum(cost.weights for cost in tiny.costs.values())


def test_qonnx_counts_the_bitops_and_weight_bits_of_the_plan(tiny, tmp_path):
    from qonnx.util.inference_cost import inference_cost

    model = limpq_hub.load(tiny.name, bitops="w3a3")
    export(model, tmp_path / "out", format="qonnx", images=[tiny.images])
    cost = inference_cost(str(tmp_path / "out" / "model.onnx"), discount_sparsity=False)["total_cost"]
    policy = tiny.policies["small"]
    assert cost["total_bops"] == total_bitops(tiny.costs, policy)
    assert cost["total_mem_w_bits"] == total_size_bits(tiny.costs, policy)
    assert cost["total_macs"] == sum(layer.macs for layer in tiny.costs.values())


@pytest.mark.parametrize("architecture", ["mobilenetv2_100", "tf_efficientnet_lite0", "efficientnet_b0"])
@pytest.mark.slow
def test_networks_of_timm_are_written_as_they_compute(architecture, tmp_path):
    import onnxruntime

    from limpq_hub.deploy.layer_formats import QuantizeDequantize
    from limpq_hub.deploy.network_graph import network_graph

    torch.manual_seed(0)
    images = torch.randn(8, 3, 64, 64)
    network = timm.create_model(architecture, num_classes=10).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Else the values of an untrained network fade away from layer to layer.
            module.weight.data.uniform_(0.5, 1.5)
            module.running_var.uniform_(0.5, 1.5)
    policy = Policy.uniform(architecture, profile_module(network, images), 8)
    quantized = to_quantized(network, policy, example_input=images).eval()
    graph = network_graph(quantized, (3, 64, 64), QuantizeDequantize(), {})
    options = onnxruntime.SessionOptions()
    # As it is written: what ONNX Runtime makes of it otherwise is another question.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = quantized(images).numpy()
    differences = np.abs(session.run(None, {"image": images.numpy()})[0] - expected).max(1)
    # A value on the edge between two integers may be rounded to the other one, and be felt; most images have none.
    assert np.median(differences) < 0.01 * np.abs(expected).max()


def test_a_network_with_attention_is_refused_by_name(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=3).eval()
    images = torch.randn(1, 3, 32, 32)
    policy = Policy.uniform("vit_tiny_patch16_224", profile_module(network, images), 4)
    quantized = to_quantized(network, policy, example_input=images)
    with pytest.raises(UnsupportedLayerError, match=r"blocks\.0\.attn\.qk is a product of two quantized activations"):
        export(quantized, tmp_path / "out", images=[images])
    assert not (tmp_path / "out").exists()


def test_a_function_that_cannot_be_written_is_named_with_the_module_that_calls_it(exact_network, tmp_path):
    class Cosine(nn.Module):
        def forward(self, x):
            return torch.cos(x)

    network, images = exact_network(Cosine())
    with pytest.raises(UnsupportedLayerError, match="activation calls cos, which this writer does not know"):
        export(network, tmp_path / "out", images=[images])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pooling", "size"),
    [
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True), 8),
        (nn.AvgPool2d(3, 3, 1, ceil_mode=True), 8),
        (nn.AvgPool2d(4, 3, (2, 0), ceil_mode=True), 9),
        (nn.AvgPool2d(2, 2, (0, 1), ceil_mode=True), 9),
        (nn.AvgPool2d(2, 2, (0, 1), ceil_mode=True, count_include_pad=False), 9),
        (nn.AvgPool2d(2, 3, ceil_mode=True), 9),
        (nn.MaxPool2d(2, 2, (0, 1), ceil_mode=True), 9),
        (nn.MaxPool2d(2, 2, 1, dilation=3, ceil_mode=True), 9),
    ],
    ids=str,
)
def test_pooling_whose_last_window_ends_beyond_its_input_is_that_of_torch(pooling, size, tmp_path):
    torch.manual_seed(0)
    images = torch.randn(32, 3, size, size)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), pooling, nn.Flatten(), nn.LazyLinear(5)).eval()
    network(images)
    policy = Policy.uniform("Sequential", profile_module(network, images), 8)
    quantized = to_quantized(network, policy, example_input=images).eval()
    for file_format in ("openvino", "qonnx"):
        assert export(quantized, tmp_path / file_format, format=file_format, images=[images]).parity.same_rows > 0.9


class WithCoordinates(nn.Module):
    """A convolution that takes constants beside the image, expanded to the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.linspace(-1, 1, 4).reshape(1, 1, 4, 1).expand(1, 1, 4, 4).clone())
        self.stem, self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(6, 6, 3), nn.Linear(24, 5)

    def forward(self, x):
        rows = self.rows.expand(len(x), -1, -1, -1).relu()
        x = torch.cat([rows, self.stem(x).relu(), rows.transpose(2, 3)], 1)
        return self.head(self.conv(x).relu().flatten(1))


@pytest.mark.parametrize("file_format", ["openvino", "onnxruntime", "qonnx"])
def test_a_constant_beside_the_image_is_there_for_any_number_of_images(tmp_path, file_format):
    torch.manual_seed(0)
    images = torch.randn(8, 3, 4, 4)
    network = at_eight_bits(WithCoordinates(), images)
    export(network, tmp_path / "out", format=file_format, images=[images])
    logits = network(images).detach().numpy()
    for count in (1, 3):
        found = run(tmp_path / "out", file_format, images[:count])
        assert np.abs(found - logits[:count]).max() < 0.05 * np.ptp(logits)


def test_a_shape_that_mixes_the_batch_with_other_dimensions_is_refused(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Unflatten(1, (2, 2)), nn.Linear(2, 5)).eval()
    network[1].forward = lambda x: x.view(-1, 2)
    images = torch.randn(2, 3, 3, 3)
    quantized = at_eight_bits(network, images)
    for file_format in ("openvino", "onnxruntime", "qonnx"):
        with pytest.raises(
            UnsupportedLayerError, match=r"^1 calls view, to \[-1, 2\], which mixes the batch with other"
        ):
            export(quantized, tmp_path / "out", format=file_format, images=[images])


@pytest.mark.parametrize("file_format", ["openvino", "onnxruntime", "qonnx"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_layer_that_cannot_be_written_is_named_whatever_the_shape_of_its_weight(tmp_path, file_format, per_channel):
    torch.manual_seed(0)
    images = torch.randn(4, 3, 6, 6)
    layers = (nn.Conv2d(3, 6, 3), nn.ConvTranspose2d(6, 4, 2), nn.Flatten(), nn.Linear(100, 5))
    network = nn.Sequential(*layers).eval()
    policy = Policy.uniform("Sequential", profile_module(network, images), 8)
    quantized = to_quantized(network, policy, example_input=images, per_channel=per_channel).eval()
    with pytest.raises(UnsupportedLayerError, match="^1 calls conv_transpose2d, which this writer does not know"):
        export(quantized, tmp_path / "out", format=file_format, images=[images])


def test_arguments_that_cannot_be_written_are_refused_with_the_module_that_gives_them(exact_network, tmp_path):
    class DoubleMean(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True, dtype=torch.float64).float()

    network, images = exact_network(DoubleMean())
    message = (
        r"activation calls mean, with arguments that this writer does not know \(got an unexpected keyword argument "
    )
    with pytest.raises(UnsupportedLayerError, match=message + "'dtype'"):
        export(network, tmp_path / "out", images=[images])


def test_padding_that_cannot_be_written_is_refused_in_every_format(tmp_path):
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(256, 5)
    ).eval()
    policy = Policy.uniform("Sequential", profile_module(network, images), 8)
    quantized = to_quantized(network, policy, example_input=images).eval()
    for file_format in ("openvino", "onnxruntime", "qonnx"):
        with pytest.raises(UnsupportedLayerError, match="^0 calls pad, with "):
            export(quantized, tmp_path / "out", format=file_format, images=[images])


def test_a_network_in_float_and_a_format_that_is_none_are_refused(exact_network, tmp_path):
    network, images = exact_network()
    with pytest.raises(OutputError, match="format='tflite' is not known: use openvino"):
        export(network, tmp_path / "out", format="tflite", images=[images])
    with pytest.raises(UnsupportedLayerError, match="Linear has no quantized layer: give a network from"):
        export(nn.Linear(2, 2), tmp_path / "out", images=[images])
    with pytest.raises(OutputError, match="not say what it takes: it is none that timm has by name; give images="):
        export(network, tmp_path / "out")
    with pytest.raises(OutputError, match="images: give at least one batch of pictures"):
        export(network, tmp_path / "out", images=[])
    for vnni in (False, True):
        with pytest.raises(OutputError, match=f"vnni={vnni} is for format=\"openvino\", not for 'qonnx': leave it out"):
            export(network, tmp_path / "out", format="qonnx", images=[images], vnni=vnni)
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named_with_the_command_that_brings_it(exact_network, tmp_path, monkeypatch):
    network, images = exact_network()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        OutputError, match=r'needs onnx, ml_dtypes and openvino, which are not installed: pip install "limpq-hub\['
    ):
        export(network, tmp_path / "out", images=[images])


def test_a_file_that_computes_something_else_is_not_written(exact_network, tmp_path, monkeypatch):
    network, images = exact_network()
    monkeypatch.setattr("limpq_hub.deploy.runtimes.OpenVino.run", lambda runtime, batch: np.zeros((len(batch), 10)))
    with pytest.raises(
        OutputError, match="the exported network is not the one that it was made of, .* Measured: 0.00% of 8"
    ):
        export(network, tmp_path / "out", images=[images])
    assert not list(tmp_path.iterdir())


def test_an_export_is_replaced_and_anything_else_left_alone(exact_network, tmp_path):
    network, images = exact_network()
    for _ in range(2):
        export(network, tmp_path / "out", images=[images])
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'notes\.txt': it is no export, and would be lost"):
        export(network, tmp_path / "out", images=[images])
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_an_edited_file_is_told_when_the_folder_is_opened(exact_network, tmp_path):
    network, images = exact_network()
    export(network, tmp_path / "out", images=[images])
    assert open_export(tmp_path / "out").config["kind"] == "export"
    file = tmp_path / "out" / "model.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactIntegrityError, match=r"model\.onnx is damaged: .*export it again"):
        open_export(tmp_path / "out")
    with pytest.raises(ArtifactError, match=r"is no exported network: verify\.json cannot be read"):
        open_export(tmp_path)


SIGNAL_AFTER_RUNTIMES = """
import os, signal, sys
from limpq_hub.deploy.runtimes import open_runtime
opened = [open_runtime(sys.argv[1], "openvino", threads=1) for _ in range(3)]
while opened:
    del opened[0]
def handle(number, frame):
    raise SystemExit(75)
signal.signal(signal.SIGTERM, handle)
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_handled_after_networks_were_run_and_freed(exact_network, tmp_path):
    network, images = exact_network()
    export(network, tmp_path / "out", images=[images])
    command = [sys.executable, "-c", SIGNAL_AFTER_RUNTIMES, str(tmp_path / "out" / "model.onnx")]
    assert subprocess.run(command, check=False).returncode == 75
