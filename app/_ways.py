"""The ways to compute one policy and its float network: by torch, and by OpenVINO from files where it is installed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from _held import network_bytes
from _hub_models import fetched_folder
from _model_cache import Networks, Weights
from _photographs import photographs
from _zoo import is_published
from torch import Tensor, nn

from limpq_hub.deploy.export_folder import MODEL
from limpq_hub.deploy.exporting import export
from limpq_hub.deploy.formats import Format, check_format
from limpq_hub.deploy.runtimes import open_runtime
from limpq_hub.errors import OutputError, UnsupportedLayerError
from limpq_hub.pictures import read_picture
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.plan.policy import Policy
from limpq_hub.zoo.loading import load
from limpq_hub.zoo.network import NetworkSpec

_FORMAT: Format = "openvino"
_INTEGERS, _FLOAT = "integers", "float.onnx"


@dataclass(frozen=True)
class Way:
    """A way to compute a network.

    Attributes:
        runtime: what computes it, with its version.
        integers: whether it is the policy, convolutions multiplying integers; else the float network.
        run: from images, [batch, 3, height, width], to logits, [batch, classes].
        file_bytes: of the file that it runs from; None where there is none.
    """

    runtime: str
    integers: bool
    run: Callable[[Tensor], Tensor]
    file_bytes: int | None = None


@dataclass(frozen=True)
class Ways:
    """The ways to compute one policy and its float network.

    Attributes:
        each: the float network in torch first.
        weights: of the policy.
        in_float: how many layers torch leaves in float, and of how many.
        checked: what the export was checked for, in words; None where nothing was exported.
        missing: why nothing was exported; None where it was.
    """

    each: tuple[Way, ...]
    weights: Weights
    in_float: tuple[int, int]
    checked: str | None
    missing: str | None

    @property
    def held_bytes(self) -> int:
        """Bytes of the parameters and buffers of networks, and of the files that OpenVINO has read."""
        runs = (network_bytes(way.run) if isinstance(way.run, nn.Module) else way.file_bytes or 0 for way in self.each)
        return sum(runs)


def ways_of(
    model: str, policy: Policy, spec: NetworkSpec, networks: Networks, report: Callable[[float, str], None]
) -> Ways:
    """Return the ways to compute a policy, with the weights that `limpq_hub.load` hands out, and its float network.

    Args:
        report: called with the share that is done, 0..1, and what comes next; what it raises ends the work.

    Raises:
        ArtifactError: a file of the entry is damaged.
        UnknownModelError: the entry has no float network.
    """
    report(0.1, "Loading the networks")
    weights: Weights = "finetuned" if is_published(model, policy) else "joint"
    float_network, quantized = networks.get(model, None), networks.get(model, policy, weights)
    folder = fetched_folder(model)
    integer = load(model, policy=policy, weights=weights, arithmetic="integer", cache_dir=folder, token=False)
    torch_name = f"torch {torch.__version__.partition('+')[0]}"
    ways = [Way(torch_name, False, float_network), Way(torch_name, True, integer)]
    report(0.3, "Writing the integers as a file, and checking it")
    checked = missing = None
    try:
        # The runtime has read the files once they are open.
        with tempfile.TemporaryDirectory(prefix="limpq-demo-") as folder:
            exported, checked = _exported(float_network, quantized, spec, Path(folder))
        ways += exported
    except (OutputError, UnsupportedLayerError) as error:
        missing = str(error)
    return Ways(tuple(ways), weights, (len(integer.limpq.in_float), len(policy.layers)), checked, missing)


def _exported(float_network: nn.Module, quantized: nn.Module, spec: NetworkSpec, folder: Path) -> tuple[list[Way], str]:
    """Return the float network and the integers as OpenVINO runs them from files, and what was checked, in words.

    Raises:
        OutputError: what is needed is not installed, or the file is not the network that it was made of.
        UnsupportedLayerError: the network cannot be exported.
    """
    check_format(_FORMAT)
    # It needs onnx, which is installed if `check_format` has not raised.
    from limpq_hub.deploy.float_graph import float_graph

    exported = export(quantized, folder / _INTEGERS, format=_FORMAT, images=[_pictures(spec)])
    (folder / _FLOAT).write_bytes(float_graph(float_network, spec.input_shape).SerializeToString())
    files = {folder / _FLOAT: False, folder / _INTEGERS / MODEL: True}
    ways = [_from_file(file, integers) for file, integers in files.items()]
    layers: Mapping[str, bool] = exported.integer_layers or {}
    in_integers = f"; {sum(layers.values())} of {len(layers)} layers run in integers there" if layers else ""
    return ways, f"{exported.integers:,} weights were read back, the same bit for bit; {exported.parity}{in_integers}"


def _from_file(file: Path, integers: bool) -> Way:
    """Return the way that runs an exported file in its runtime."""
    runtime = open_runtime(file, _FORMAT, threads=torch.get_num_threads())
    return Way(
        runtime.description,
        integers,
        lambda images: torch.from_numpy(runtime.run(images.numpy())),
        file.stat().st_size,
    )


def _pictures(spec: NetworkSpec) -> Tensor:
    """Return the photographs of the demo as they are, mirrored, and upside down, as one batch."""
    plain = torch.stack([preparation_of(spec)(read_picture(photograph.path)) for photograph in photographs()])
    return torch.cat([plain, plain.flip(3), plain.flip(2)])
