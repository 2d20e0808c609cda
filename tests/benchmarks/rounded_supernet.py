r"""What the joint weights of an entry lose where they are stored with fewer digits, and how many bytes it saves.

    python tests/benchmarks/rounded_supernet.py --model resnet18 --data TINY --bitops 3G w3a3 1.5G 1.2G

TINY holds a folder `val` of labelled pictures. Prints the bytes of the supernet's file for each `whole_places` of
`limpq_hub.quant.moved_planes.rounded_moves`, and beside the weights as they are (1) how top-1 in points and KL
divergence to the float network in nats differ, image by image, with standard errors.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

from accelerate import Accelerator

import limpq_hub
from limpq_hub.train.data.loaders import validation_loader
from limpq_hub.train.data.network_classes import classes_of_entry
from limpq_hub.train.measure.evaluate import OfImages, evaluate_each, log_probabilities
from limpq_hub.train.measure.paired import paired
from limpq_hub.train.settings import DataSettings
from limpq_hub.train.weights.networks import float_network_of
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import seal_entry
from limpq_hub.zoo.entry_tensors import SUPERNET, supernet_tensors, write_supernet
from limpq_hub.zoo.folder_copy import copy_verified
from limpq_hub.zoo.loading import NotFineTunedWarning
from limpq_hub.zoo.network import NetworkSpec


def main() -> None:
    """Measure every rounding at every budget."""
    options = parse_options()
    warnings.simplefilter("ignore", NotFineTunedWarning)
    accelerator, entry = Accelerator(), find_entry(options.model)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    data = DataSettings(options.data, batch_size=250, workers=0, seed=0)
    loader = validation_loader(data, spec, batch_size=250, classes=classes_of_entry(entry, data))
    reference = log_probabilities(accelerator, float_network_of(entry, None).to(accelerator.device), loader)
    as_they_are: dict[str, OfImages] = {}
    for places in (1, *options.places):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "entry"
            copy_verified(entry.folder, folder)
            write_supernet(folder, supernet_tensors(entry.folder), whole_places=places)
            seal_entry(folder, spec)
            print(f"whole places {places}: {(folder / SUPERNET).stat().st_size:,} bytes", flush=True)
            for bitops in options.bitops:
                model = limpq_hub.load(f"local-dir:{folder}", bitops=bitops, weights="joint").to(accelerator.device)
                figures, of_images = evaluate_each(accelerator, model, loader, reference)
                before = as_they_are.setdefault(bitops, of_images)
                print(bitops, figures, "less as they are:", paired(of_images, before), flush=True)


def parse_options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="entry with a float network")
    parser.add_argument("--data", required=True, help="folder with val/")
    parser.add_argument("--bitops", nargs="+", default=["3G", "w3a3", "1.5G", "1.2G"], help="budgets")
    parser.add_argument("--places", nargs="+", type=int, default=[4, 16], help="roundings beside 1, none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
