"""What bfloat16 autocast does to the gradients of the step sizes: their cosine to those of float32.

    python tests/benchmarks/step_gradients.py --data ~/tiny-imagenet

Takes the jointly trained ResNet-18 of the zoo and joint steps on training images, in both precisions from the same
weights, and prints the cosine over the steps of all weights and over those of all activations.
"""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from limpq_hub.train.data.loaders import training_loader
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies
from limpq_hub.train.options import add_data_options, parser_of
from limpq_hub.train.settings import AugmentationSettings, DataSettings
from limpq_hub.train.settings_conversion import settings_from
from limpq_hub.train.training_options import add_training_options
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.network import NetworkSpec

ENTRY, STEPS = "resnet18", 4


def main() -> None:
    """Measure, and print the cosines."""
    parser = parser_of(__doc__, "indicators")
    add_data_options(parser)
    add_training_options(parser, epochs=1, lr=0.01, weight_decay=0.0)
    options = vars(parser.parse_args([*sys.argv[1:], "--output", "none"]))
    data, augmentation = (settings_from(kind, options) for kind in (DataSettings, AugmentationSettings))
    torch.set_num_threads(options["threads"] or torch.get_num_threads())
    entry = find_entry(ENTRY)
    loader = iter(training_loader(data, augmentation, NetworkSpec.from_config(entry.folder.config, entry.name)))
    cosines_of: dict[str, list[float]] = {"weight": [], "activation": []}
    for number in range(STEPS):
        images, labels = next(loader)
        whole, half = (step_gradients(entry, images, labels, number, precision) for precision in ("no", "bf16"))
        for kind, cosines in cosines_of.items():
            cosines.append(float(nn.functional.cosine_similarity(whole[kind], half[kind], dim=0)))
    print(f"{ENTRY}, {STEPS} joint steps of {data.batch_size} training images; cosine of bfloat16 to float32:")
    for kind, cosines in cosines_of.items():
        print(f"  {kind} steps: {min(cosines):.3f} to {max(cosines):.3f}")


def step_gradients(entry: Entry, images: Tensor, labels: Tensor, number: int, precision: str) -> dict[str, Tensor]:
    """Return the gradients of all weight steps and of all activation steps after one joint step, flat."""
    accelerator = _accelerator(precision)
    supernet = load_supernet(entry.folder, entry.indicators).train().to(accelerator.device)
    images, labels = images.to(accelerator.device), labels.to(accelerator.device)
    costs, candidates = entry.indicators.costs, entry.indicators.candidates
    policies = joint_policies(ENTRY, costs, candidates, seed=0, step=number)

    def loss_of(logits: Tensor, highest: Tensor | None) -> Tensor:
        return classification_loss(logits, labels, smoothing=0.1)

    accumulate_joint_gradients(accelerator, supernet, images, policies, loss_of)
    gradients = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    return {
        kind: torch.cat([grad for name, grad in gradients.items() if name.endswith(f"{kind}_quantizer.step")])
        for kind in ("weight", "activation")
    }


def _accelerator(precision: str) -> Accelerator:
    # Accelerate keeps the first precision of a process.
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


if __name__ == "__main__":
    main()
