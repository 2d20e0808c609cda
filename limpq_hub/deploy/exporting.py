"""`export`: a quantized network as a folder that a runtime takes, its integers and its logits checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limpq_hub.deploy.export_folder import CONFIG, MODEL, PREPROCESSOR, VERIFICATION, new_export_folder
from limpq_hub.deploy.formats import Format, check_format
from limpq_hub.deploy.forward_record import value_ranges
from limpq_hub.deploy.integer_layer import IntegerLayer, integer_layers
from limpq_hub.deploy.parity import (
    FEWEST_AGREEING,
    FEWEST_SAME_ROWS,
    SAME_LOGITS,
    Parity,
    check_integers,
    compare_logits,
)
from limpq_hub.deploy.runtimes import open_runtime
from limpq_hub.deploy.self_description import SelfDescription
from limpq_hub.errors import OutputError
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.integer_layers import has_vnni, run_simulated_
from limpq_hub.quant.tracing.forward_trace import copy_of
from limpq_hub.version import __version__
from limpq_hub.zoo.seal import sealed

if TYPE_CHECKING:
    from limpq_hub.deploy.layer_parity import LayerParity

_NOISE_PICTURES = 64
_OVERFLOWS = "torch finds no VNNI on this CPU, without which weights of 8 bits can overflow: leave out vnni=True"


@dataclass(frozen=True)
class Exported:
    """What `export` wrote, and what it found out about it.

    Attributes:
        folder: with `model.onnx`, `verify.json` and more.
        format: "openvino", "onnxruntime" or "qonnx".
        size_bytes: of `model.onnx`.
        integers: how many weights were read back and are those of the network, bit for bit.
        parity: how near the logits are on pictures.
        parity_of_layers: how near each layer is to exact arithmetic on the integers that it has there; None where the
            logits are near enough without that.
        noise: whether the pictures were noise, because none were given.
        runtime: what ran the file, with its version.
        integer_layers: whether each layer runs in integers in that runtime on this CPU, in the order of execution;
            None if the runtime does not tell.
        needs_vnni: whether the file is exact only on a CPU with VNNI: it has weights of 8 bits as integers, of which
            two products can overflow elsewhere.
    """

    folder: Path
    format: Format
    size_bytes: int
    integers: int
    parity: Parity
    parity_of_layers: LayerParity | None
    noise: bool
    runtime: str
    integer_layers: Mapping[str, bool] | None
    needs_vnni: bool

    @property
    def verdict(self) -> str:
        """Whether the logits are within what is promised of the format, and what that is."""
        if self.format == "onnxruntime":
            return "an approximation, as this format always is: the figures are reported, and nothing is promised"
        promised = (
            f"{FEWEST_SAME_ROWS:.0%} of the pictures within {SAME_LOGITS:g} and {FEWEST_AGREEING:.1%} of one class"
        )
        if self.parity_of_layers is None:
            if self.parity.same_rows >= FEWEST_SAME_ROWS and self.parity.agreement >= FEWEST_AGREEING:
                return f"OK: at least {promised}, as is promised"
            return (
                f"OK: at most one of {self.parity.pictures} pictures differs, which a rounding tie can do; of many at "
                f"least {promised} are promised"
            )
        return (
            "OK, layer by layer: each computes what exact arithmetic does with its integers; the logits alone do not "
            f"tell, not {promised}, since a rounding tie changes all that follows it, and ties are many"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `verify.json` and `limpq export --json` say."""
        return {
            "file_format": self.format,
            "model_bytes": self.size_bytes,
            "integers_equal": self.integers,
            "parity": self.parity.to_json() | {"noise": self.noise},
            "parity_of_layers": self.parity_of_layers and self.parity_of_layers.to_json(),
            "runtime": self.runtime,
            "integer_layers": None if self.integer_layers is None else dict(self.integer_layers),
            "needs_vnni": self.needs_vnni,
        }


def export(
    model: nn.Module,
    output: str | os.PathLike[str],
    *,
    format: Format = "openvino",
    images: Iterable[Tensor] | None = None,
    vnni: bool | None = None,
) -> Exported:
    """Write a quantized network into a folder as ONNX, checked; needs `pip install "limpq-hub[export]"`.

    The folder has `model.onnx` for any number of images (one for "qonnx"), `config.json` and
    `preprocessor_config.json` as timm and transformers name things, and `verify.json` with the sha256 of each and what
    was checked: the integers and steps read back are those of the network bit for bit, and the logits of pictures are
    the same. What does not reach that is not written.

    Args:
        model: a convolutional network from `load`, `to_quantized` or `select_policy`.
        output: the folder; an export there is replaced, anything else is left alone.
        format: "openvino" for exact integers on a CPU; compile it with `INFERENCE_PRECISION_HINT` "f32".
            "onnxruntime" for speed: an approximation, whose logits are compared and not judged. "qonnx" for FINN and
            hls4ml, which make hardware of the bits.
        images: batches of pictures to compare on, [batch, 3, height, width], normalized; noise if None. For
            "onnxruntime" every other batch is measured, and the others compared.
        vnni: False stores weights of 8 bits in float, for a CPU without VNNI (AVX2), where they could overflow; True as
            integers, which are exact only with VNNI. None chooses what is exact on this CPU. For "openvino" alone.

    Raises:
        OutputError: the format is not known or not installed, the folder holds something else, or the file is not the
            network that it was made of.
        UnsupportedLayerError: the network has something that cannot be exported, attention for instance.
    """
    check_format(format)
    # Here, where it is sure that what they need is installed.
    from limpq_hub.deploy.fused_graph import fused_graph
    from limpq_hub.deploy.layer_formats import QonnxQuant, QuantizeDequantize
    from limpq_hub.deploy.layer_parity import layer_parity
    from limpq_hub.deploy.network_graph import network_graph
    from limpq_hub.deploy.read_back import read_layers

    if vnni is not None and format != "openvino":
        raise OutputError(f'vnni={vnni} is for format="openvino", not for {format!r}: leave it out')
    network = copy_of(model).to("cpu", torch.float32).eval()
    run_simulated_(network)
    described = SelfDescription.of(model)
    batches, noise = _batches(images, described)
    described = described.of_pictures(tuple(batches[0].shape[1:]))
    layers = list(integer_layers(network).values())
    without_vnni = not has_vnni() if vnni is None else not vnni
    needs_vnni = format == "openvino" and not without_vnni and any(layer.bits.weight == 8 for layer in layers)
    shape, metadata, fused = tuple(batches[0].shape[1:]), described.metadata(), format == "onnxruntime"
    if fused:
        if noise:
            raise OutputError('format="onnxruntime" measures ranges on pictures: give images=')
        # Every other batch, so that the comparison is on pictures that were not measured, if there are several.
        graph = fused_graph(network, shape, value_ranges(network, batches[::2]), metadata)
        batches = batches[1::2] or batches
    else:
        layer_format = QonnxQuant() if format == "qonnx" else QuantizeDequantize(without_vnni=without_vnni)
        graph = network_graph(network, shape, layer_format, metadata)
    with new_export_folder(Path(output)) as folder:
        file = folder / MODEL
        write_bytes(file, graph.SerializeToString())
        integers = check_integers(layers, read_layers(file), normalized_steps=fused)
        runtime = open_runtime(file, format)
        with torch.inference_mode():
            expected = [network(batch).numpy() for batch in batches]
        parity = compare_logits(expected, [batch.numpy() for batch in batches], runtime)
        advice = _OVERFLOWS if needs_vnni and not has_vnni() else None
        of_layers = (
            None if fused else parity.check(lambda: layer_parity(file, format, network, batches, runtime), advice)
        )
        exported = Exported(
            folder=Path(output),
            format=format,
            size_bytes=file.stat().st_size,
            integers=integers,
            parity=parity,
            parity_of_layers=of_layers,
            noise=noise,
            runtime=runtime.description,
            integer_layers=_in_order(layers, runtime.integer_layers()),
            needs_vnni=needs_vnni,
        )
        write_json(folder / CONFIG, described.config())
        if described.preprocessor() is not None:
            write_json(folder / PREPROCESSOR, described.preprocessor())
        write_bytes(folder / VERIFICATION, sealed(_verification(folder, described, exported)))
    return exported


def _batches(images: Iterable[Tensor] | None, described: SelfDescription) -> tuple[list[Tensor], bool]:
    """Return pictures in batches, and whether they are noise."""
    if images is not None:
        batches = [image_batch(batch, "images", OutputError, dimensions=4).cpu().float() for batch in images]
        if not batches:
            raise OutputError("images: give at least one batch of pictures, a tensor [batch, 3, height, width]")
        if not all(map(len, batches)):
            raise OutputError("images: a batch holds no picture; give one picture or more in each")
        if len({batch.shape[1:] for batch in batches}) > 1:
            sizes = " and ".join(sorted({str(list(batch.shape[1:])) for batch in batches}))
            raise OutputError(f"images: pictures of {sizes}; a file is for pictures of one size: give such")
        return batches, False
    if described.spec is None:
        raise OutputError(f"the network does not say what it takes: {described.unsaid}; give images=")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(_NOISE_PICTURES, *described.spec.input_shape, generator=generator)
    return list(noise.split(16)), True


def _in_order(layers: list[IntegerLayer], in_integers: Mapping[str, bool] | None) -> dict[str, bool] | None:
    # A layer that the runtime does not list has become part of another operation, and is no integer layer there.
    return None if in_integers is None else {layer.name: in_integers.get(layer.name, False) for layer in layers}


def _verification(folder: Path, described: SelfDescription, exported: Exported) -> dict[str, Any]:
    contents = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    return {
        "format": 2,
        "kind": "export",
        "version": __version__,
        "policy_sha256": described.policy.digest(),
        **exported.to_json(),
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in contents.items()
        },
    }
