r"""EfficientNet-Lite0 with its trained weights, exported: are the files the network that they were made of?

    python tests/benchmarks/efficientnet_export.py --data PHOTOGRAPHS --weights tf_efficientnet_lite0.safetensors \
        --pictures 300 --output out/efficientnet-export

PHOTOGRAPHS and the ways of converting are those of `efficientnet_without_training.py`: photographs of train/ set the
steps and correct the BatchNorm statistics, those of val/ are compared. Each pair of bits is exported for OpenVINO,
which must be exact or nothing is written, and for ONNX Runtime, an approximation. Shown are the figures of
`verify.json`, and top-1 in percent of the float network, of the simulation, and of both files.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from efficientnet_without_training import BITS, MODEL, WAYS, Converter, Photographs, float_network
from rich.console import Console
from rich.table import Table

import limpq_hub
from limpq_hub.deploy.export_folder import MODEL as FILE
from limpq_hub.deploy.formats import Format
from limpq_hub.deploy.runtimes import open_runtime
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.quant.profile import profile_module

FORMATS: tuple[Format, ...] = ("openvino", "onnxruntime")


@torch.no_grad()
def main() -> None:
    """Print a row for each pair of bits and format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train/ and val/, a folder per class in both"
    )
    parser.add_argument("--weights", type=Path, required=True, help=f"safetensors file of timm's {MODEL}")
    parser.add_argument("--output", type=Path, required=True, help="folder for the exports and figures.json")
    parser.add_argument("--pictures", type=int, default=300, help="of val/, to compare on")
    parser.add_argument("--calibrate-images", type=int, default=256, help="of train/, to correct BatchNorm on")
    parser.add_argument("--step-images", type=int, default=32, help="the first of these, to set the steps on")
    parser.add_argument("--bits", nargs="+", choices=BITS, default=["8/8", "4/8"], help="of weights / activations")
    parser.add_argument("--way", choices=WAYS, default="a channel, corrected", help="of converting")
    parser.add_argument("--batch-size", type=int, default=50, help="pictures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-vnni", action="store_true", help="keep weights of 8 bits in float in the OpenVINO file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network, settings = float_network(options.weights)
    photographs = Photographs.read(options.data / "val", options.pictures, settings)
    batches, labels = photographs.batches(options.batch_size), photographs.labels.numpy()
    images = Photographs.read(options.data / "train", options.calibrate_images, settings).batches(options.batch_size)
    converter = Converter(network, profile_module(network, images[0][:2]), images, options.step_images)

    def top1(logits: list[np.ndarray]) -> float:
        return 100 * float((np.concatenate(logits).argmax(1) == labels).mean())

    figures: dict[str, dict[str, object]] = {"float": {"top1": top1([network(batch).numpy() for batch in batches])}}
    shown = Table("bits", "file", "MB", "runs in integers", "parity", "top-1 %")
    shown.add_row("float", "", "", "", "", f"{figures['float']['top1']:.2f}")
    for bits in options.bits:
        quantized, _ = converter.convert(bits, WAYS[options.way])
        simulated = top1([quantized(batch).numpy() for batch in batches])
        figures[bits] = {"top1": simulated}
        shown.add_row(bits, "simulated", "", "", "", f"{simulated:.2f}")
        for file_format in FORMATS:
            folder = options.output / f"{bits.replace('/', '-')}-{file_format}"
            shutil.rmtree(folder, ignore_errors=True)
            vnni = False if options.no_vnni and file_format == "openvino" else None
            exported = limpq_hub.export(quantized, folder, format=file_format, images=batches, vnni=vnni)
            runtime = open_runtime(folder / FILE, file_format, threads=options.threads)
            found = top1([runtime.run(batch.numpy()) for batch in batches])
            figures[f"{bits} {file_format}"] = exported.to_json() | {"top1": found}
            told = exported.integer_layers or {}
            layers, megabytes = f"{sum(told.values())} of {len(told)}", f"{exported.size_bytes / 1e6:.2f}"
            shown.add_row(bits, exported.runtime, megabytes, layers, str(exported.parity), f"{found:.2f}")
        write_json(options.output / "figures.json", {"pictures": len(labels), "way": options.way, "figures": figures})
    Console().print(shown)


if __name__ == "__main__":
    main()
