"""What runs an exported file: OpenVINO, ONNX Runtime, or QONNX's own interpreter, all on the CPU."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from limpq_hub.deploy.formats import INPUT, OUTPUT, Format
from limpq_hub.deploy.openvino_core import openvino_core

# OpenVINO computes in bfloat16 where the CPU does, and that is another network.
OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
_CPU = ["CPUExecutionProvider"]
_WEIGHT = ".weight_integers"
_INTEGER_OPERATORS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "MatMulInteger", "ConvInteger")
_MULTIPLYING = ("Convolution", "FullyConnected", "MatMul")
# What the constants and nodes of a layer are called in a file.
_OF_LAYER = re.compile(
    r"(.+?)(?:\.weight|\.weight_integers|/weight/Cast|/input/(?:Clip|QuantizeLinear|DequantizeLinear)(?:_[0-9]+)?)"
)


class Runtime(Protocol):
    """A file that is ready to run.

    Attributes:
        description: name and version of what runs it.
    """

    description: str

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, [batch, classes], of images, float32 [batch, channels, height, width]."""

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return all outputs of the file by name: the logits, and what was made an output beside them."""

    def integer_layers(self) -> dict[str, bool] | None:
        """Return whether each layer runs in integers, by name; None if the runtime does not tell."""


def open_runtime(file: Path, file_format: Format, *, threads: int | None = None) -> Runtime:
    """Return what runs a file.

    Args:
        file: a `model.onnx` that `export` wrote.
        file_format: the format that it was written in.
        threads: how many to use; as many as the runtime takes if None.
    """
    runtimes: Mapping[Format, Any] = {"openvino": OpenVino, "onnxruntime": OnnxRuntime, "qonnx": Qonnx}
    return runtimes[file_format](file, threads)


class OpenVino:
    """OpenVINO's CPU plugin, in float32 wherever it does not compute in integers."""

    def __init__(self, file: Path, threads: int | None = None) -> None:
        import openvino

        core = openvino_core()
        settings: dict[str, Any] = {**OPENVINO_SETTINGS, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(core.read_model(file), "CPU", settings)
        self.description = f"OpenVINO {openvino.__version__.split('-')[0]}"

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, [batch, classes]."""
        return self.outputs(images)[OUTPUT]

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return all outputs of the file by name."""
        values = self._compiled([images])
        return {output.get_any_name(): np.array(values[output]) for output in self._compiled.outputs}

    def integer_layers(self) -> dict[str, bool]:
        """Return whether each layer runs in integers: by the type that the compiled operator computes in."""
        nodes = self._compiled.get_runtime_model().get_ops()
        multiplying = [node for node in nodes if _told(node, "layerType") in _MULTIPLYING]
        types = {_layer_of(node): _told(node, "primitiveType") for node in multiplying}
        return {name: computed_in.upper().endswith("_I8") for name, computed_in in types.items() if name is not None}


def _told(node: Any, key: str) -> str:
    return node.get_rt_info()[key].astype(str)


def _layer_of(node: Any) -> str | None:
    """Return the name of the layer that an operator computes, by the constant or else the input that it takes."""
    weight, data = node.input_value(1).get_node(), node.input_value(0).get_node()
    # However the weight is laid out anew on the way.
    while weight.get_input_size():
        weight = weight.input_value(0).get_node()
    while _told(data, "layerType") == "Reorder":
        data = data.input_value(0).get_node()
    names = [weight.get_friendly_name(), *_told(weight, "originalLayersNames").split(",")]
    names += _told(data, "originalLayersNames").split(",")[::-1]
    matches = (_OF_LAYER.fullmatch(name) for name in names)
    return next((match[1] for match in matches if match), None)


class OnnxRuntime:
    """ONNX Runtime's CPU provider."""

    def __init__(self, file: Path, threads: int | None = None) -> None:
        import onnxruntime

        self._file = file
        self._session = onnxruntime.InferenceSession(file, _options(threads), providers=_CPU)
        self.description = f"ONNX Runtime {onnxruntime.__version__}"

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, [batch, classes]."""
        return self.outputs(images)[OUTPUT]

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return all outputs of the file by name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {INPUT: images}), strict=True))

    def integer_layers(self) -> dict[str, bool]:
        """Return whether each layer runs in integers: by the operator that takes its weight once all is fused."""
        import onnx
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            options = _options(1)
            options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
            onnxruntime.InferenceSession(self._file, options, providers=_CPU)
            nodes = onnx.load(options.optimized_model_filepath).graph.node
        return {
            name.removesuffix(_WEIGHT): node.op_type in _INTEGER_OPERATORS
            for node in nodes
            for name in node.input
            if name.endswith(_WEIGHT)
        }


def _options(threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


class Qonnx:
    """The interpreter of the QONNX package: a reference, one image after the other, in float."""

    def __init__(self, file: Path, threads: int | None = None) -> None:
        from importlib.metadata import version

        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.infer_shapes import InferShapes

        self._model = ModelWrapper(str(file)).transform(InferShapes())
        self._outputs = list(self._model.graph.output)
        self.description = f"QONNX {version('qonnx')}"

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, [batch, classes]."""
        return self.outputs(images)[OUTPUT]

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return all outputs of the file by name."""
        from qonnx.core.onnx_exec import execute_onnx

        values = [execute_onnx(self._model, {INPUT: image[None]}) for image in images]
        return {output.name: np.concatenate([value[output.name] for value in values]) for output in self._outputs}

    def integer_layers(self) -> None:
        """Return None: nothing here runs in integers, the hardware that is made of the file does."""
        return None
