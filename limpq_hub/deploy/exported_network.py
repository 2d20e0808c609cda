"""`open_exported`: an exported folder as a network of torch, for `limpq predict` and the validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limpq_hub.deploy.export_folder import CONFIG, MODEL, open_export
from limpq_hub.deploy.formats import check_format
from limpq_hub.deploy.runtimes import Runtime, open_runtime
from limpq_hub.errors import ArtifactFormatError, ImageError
from limpq_hub.plan.jsonfile import check_shape
from limpq_hub.quant.integer_layers import has_vnni
from limpq_hub.zoo.class_names import check_classes
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.timm_config import parse_timm_config


class ExportedNetwork(nn.Module):
    """A network that another runtime computes.

    Args:
        runtime: what computes it.
        input_shape: (channels, height, width) that it was exported for.
    """

    def __init__(self, runtime: Runtime, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.runtime, self._input_shape = runtime, input_shape

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, [batch, classes], of images on the CPU, [batch, 3, height, width].

        Raises:
            ImageError: they are of another size than the network was exported for.
        """
        if tuple(images.shape[1:]) != self._input_shape:
            raise ImageError(
                f"the network was exported for images of {list(self._input_shape)}, found {list(images.shape[1:])}"
            )
        return torch.from_numpy(self.runtime.run(images.cpu().numpy()))


@dataclass(frozen=True)
class OpenedExport:
    """An exported folder that is ready to run.

    Attributes:
        network: on the CPU.
        spec: how it takes pictures.
        classes: id and name of each class, in the order of the logits; empty if it does not say.
        verification: what `verify.json` says.
        size_bytes: of `model.onnx`.
    """

    network: ExportedNetwork
    spec: NetworkSpec
    classes: tuple[Mapping[str, str], ...]
    verification: Mapping[str, Any]
    size_bytes: int

    @property
    def caution(self) -> str:
        """Why the logits may not be those that were checked, on this CPU; empty where they are."""
        # Files of earlier versions do not say: most have integers of 8 bits.
        needs_vnni = self.verification.get("needs_vnni", self.verification["file_format"] == "openvino")
        if not needs_vnni or has_vnni():
            return ""
        return (
            "torch finds no VNNI on this CPU: weights of 8 bits that the file holds as integers can overflow, and the "
            "logits differ from those that were checked; export it again on this CPU"
        )


def open_exported(path: Path) -> OpenedExport:
    """Return an exported network, every file verified.

    Raises:
        ArtifactError: it is no export, or was changed, or does not say how it takes pictures.
        OutputError: what runs it is not installed.
    """
    folder = open_export(path)
    check_shape(folder.config, {"file_format": str}, f"{path}/verify.json")
    check_format(folder.config["file_format"], f"what was exported to {path}")
    config, where = folder.read_json(CONFIG), f"{path}/{CONFIG}"
    timm = parse_timm_config(config, where)
    if timm is None or timm.num_classes is None:
        raise ArtifactFormatError(
            f"{where} does not say how the network takes pictures: it is none that timm has by name, or was built with "
            "arguments or channels of its own, or was exported for pictures that are not square; prepare them "
            "yourself, and run model.onnx in its runtime"
        )
    check_shape(config, {"pretrained_cfg": {"input_size": [int]}}, where)
    values = {**timm.preparation, "model_args": timm.model_args}
    values |= {"architecture": timm.architecture, "num_classes": timm.num_classes}
    values |= {"input_size": config["pretrained_cfg"]["input_size"][-1]}
    spec = NetworkSpec.from_config(values, str(path), to_build=False)
    ids, names = config.get("label_names", []), config.get("label_descriptions", {})
    check_shape(ids, [str], f"{where}: label_names")
    check_shape(names, dict, f"{where}: label_descriptions")
    classes = [{"id": label, "name": names.get(label, label)} for label in ids]
    if classes:
        check_classes(classes, spec.num_classes, f"{where}: label_names")
    runtime = open_runtime(path / MODEL, folder.config["file_format"])
    return OpenedExport(
        network=ExportedNetwork(runtime, spec.input_shape),
        spec=spec,
        classes=tuple(classes),
        verification=folder.config,
        size_bytes=folder.config["files"][MODEL]["bytes"],
    )
