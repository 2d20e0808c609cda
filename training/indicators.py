"""Joint training: learn every layer's step size at every candidate bit-width, once per network.

    accelerate launch training/indicators.py --model resnet18 --input-size 64 --data ~/tiny-imagenet \
        --weights resnet18_tiny_imagenet.safetensors --distill 0.5 --output out/resnet18-joint

Writes an entry folder: `indicators.json` (what the search reads), `supernet.safetensors` (what any policy can be
served from), `classes.json`, `metrics.json`, and `config.json` with the sha256 of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from _data import calibration_batches, class_records, data_record, training_loader, validation_loader
from _loop import evaluate, finish, fit, float_network, provenance, start
from _method import accumulate_joint_gradients, classification_loss, joint_policies
from _options import add_data_options, add_network_options, add_training_options, command_line, parser_of, positive, run

from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.calibrate import calibrate_steps_
from limpq_hub.quant.convert import DEFAULT_CANDIDATES, read_indicators, set_policy_, to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.zoo.anchors import anchor_policies, save_anchors
from limpq_hub.zoo.entry import load_supernet, save_entry, seal_entry
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec

STEP_BATCHES = 4


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    add_network_options(parser, distill=0.0)
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=list(DEFAULT_CANDIDATES), help="bit-widths, each in 2..8"
    )
    parser.add_argument("--alpha", type=float, default=2.0, help="default weight of the weight steps in a search")
    parser.add_argument(
        "--calibrate-images",
        type=positive(int),
        default=2048,
        help="training images for steps and BatchNorm statistics",
    )
    parser.add_argument("--anchors", type=positive(int), default=16, help="budgets to keep BatchNorm statistics for")
    parser.add_argument("--class-names", type=Path, help="JSON file of {class folder: name}")
    add_data_options(parser)
    add_training_options(parser, epochs=5, lr=0.01, weight_decay=2.5e-5)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the supernet, then export what it learned."""
    options = parse_options(argv)
    accelerator = start(options)
    classes = class_records(options, options.class_names)
    network, teacher = (
        float_network(options.model, len(classes), options.input_size, weights).to(accelerator.device)
        for weights in (options.weights, options.teacher or options.weights)
    )
    spec = NetworkSpec.of(network)
    train = training_loader(options, spec)
    first_images = next(iter(train))[0].to(accelerator.device)
    costs = profile_module(network, first_images)
    supernet = to_supernet(network, options.candidates, example_input=first_images).train()
    if options.channels_last:
        supernet, teacher = (network.to(memory_format=torch.channels_last) for network in (supernet, teacher))

    def accumulate(images: torch.Tensor, labels: torch.Tensor, step: int) -> torch.Tensor:
        policies = joint_policies(options.model, costs, options.candidates, seed=options.seed, step=step)
        with torch.no_grad(), accelerator.autocast():
            taught = teacher(images) if options.distill else None

        def loss_of(logits: torch.Tensor) -> torch.Tensor:
            return classification_loss(logits, labels, taught, smoothing=options.smoothing, distill=options.distill)

        return accumulate_joint_gradients(accelerator, supernet, images, policies, loss_of).mean()

    seconds = fit(accelerator, supernet, train, accumulate, options)
    # First and last layer were float until now: their 8-bit steps come from training images.
    ends = [name for name, cost in costs.items() if cost.fixed]
    images = [batch.to(accelerator.device) for batch in calibration_batches(options, spec, options.calibrate_images)]
    set_policy_(supernet, Policy.uniform(options.model, costs, max(options.candidates)))
    calibrate_steps_(supernet, ends, images[:STEP_BATCHES])
    measured = evaluate(accelerator, network, validation_loader(options, spec))
    if accelerator.is_main_process:
        record = provenance(accelerator, command_line(argv), options, seconds) | {"data": data_record(options)}
        indicators = read_indicators(
            supernet,
            costs,
            input_size=options.input_size,
            num_classes=len(classes),
            alpha=options.alpha,
            provenance=record,
        )
        write_json(options.output / "metrics.json", {"float": measured, "joint": []})
        save_entry(options.output, supernet, indicators, classes)
        # What is shipped is in half precision: its statistics are measured on what is shipped.
        shipped = load_supernet(open_local_folder(options.output, "entry"), indicators).to(accelerator.device)
        save_anchors(options.output, shipped, anchor_policies(indicators, options.anchors), images)
        seal_entry(options.output, spec)
        print(
            f"float top-1 {measured['top1']:.2f} %; indicators of {len(costs) - len(ends)} layers in {options.output}"
        )
        print(f"next: limpq search {options.output}/indicators.json --bitops w4a4")
    finish(accelerator)


if __name__ == "__main__":
    run(main)
