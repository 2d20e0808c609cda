r"""How two fine-tuned checkpoints of one entry differ, image by image.

    python tests/benchmarks/paired_checkpoints.py --model mobilenetv2_100 --data PHOTOS \
        --checkpoints out/w4a4 out/w4a4-uniform

PHOTOS holds a folder of labelled pictures for the split. Prints the figures of each, and the first minus the second:
top-1 in points, KL divergence to the float network of the entry in nats, each with its standard error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from accelerate import Accelerator

from limpq_hub.train.data.loaders import validation_loader
from limpq_hub.train.data.network_classes import classes_of_entry
from limpq_hub.train.measure.evaluate import evaluate_each, log_probabilities
from limpq_hub.train.measure.paired import paired
from limpq_hub.train.settings import DataSettings
from limpq_hub.train.weights.networks import float_network_of
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec


def main() -> None:
    """Measure both on the same images."""
    options = parse_options()
    accelerator = Accelerator()
    entry = find_entry(options.model)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    data = DataSettings(options.data, batch_size=50, workers=0, seed=0, val_split=options.split)
    loader = validation_loader(data, spec, batch_size=50, classes=classes_of_entry(entry, data))
    reference = log_probabilities(accelerator, float_network_of(entry, None).to(accelerator.device), loader)
    of_images = []
    for path in options.checkpoints:
        model, _ = load_checkpoint(open_local_folder(path, "checkpoint"))
        figures, of_each = evaluate_each(accelerator, model.to(accelerator.device), loader, reference)
        print(path, figures, flush=True)
        of_images.append(of_each)
    print("first minus second:", paired(*of_images))


def parse_options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="entry that both are of")
    parser.add_argument("--data", required=True, help="folder with the split")
    parser.add_argument("--split", default="val", help="folder of --data with the labelled pictures")
    parser.add_argument("--checkpoints", nargs=2, type=Path, required=True, help="two folders of finetune.py")
    return parser.parse_args()


if __name__ == "__main__":
    main()
