"""Joint training: learn every layer's step size at every candidate bit-width, once per network.

    accelerate launch training/indicators.py --model resnet18 --data ~/tiny-imagenet --input-size 64 \
        --weights resnet18.safetensors --distill 0.5 --output out/resnet18-joint

Writes `indicators.json` (what the search reads), `supernet.safetensors` (what any policy can be served from),
`classes.json`, `metrics.json` and `config.json` with the sha256 of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from _data import class_records, data_record, training_loader, validation_loader
from _loop import (
    accumulate_joint_gradients,
    classification_loss,
    evaluate,
    fit,
    float_network,
    joint_policies,
    provenance,
    start,
)
from _options import add_float_options, command_line, parser_of

from limpq_hub.plan.costs import FIXED_BITS
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.calibrate import calibrate_steps_
from limpq_hub.quant.convert import DEFAULT_CANDIDATES, read_indicators, set_policy_, to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.zoo.entry import load_supernet, save_entry

CALIBRATION_BATCHES = 4


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0], epochs=5, learning_rate=0.01)
    add_float_options(parser, distill=0.0)
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=list(DEFAULT_CANDIDATES), help="bit-widths, each in 2..8"
    )
    parser.add_argument("--alpha", type=float, default=2.0, help="weight of the weight steps in a search by default")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, export, and measure what was exported."""
    options = parse_options(argv)
    accelerator = start(options)
    train, validate, classes = training_loader(options), validation_loader(options), class_records(options)
    teacher = float_network(options, len(classes)).to(accelerator.device)
    first_images = next(iter(train))[0].to(accelerator.device)
    costs = profile_module(teacher, first_images)
    supernet = to_supernet(teacher, options.candidates, example_input=first_images).train()
    if options.channels_last:
        supernet, teacher = (net.to(memory_format=torch.channels_last) for net in (supernet, teacher))

    def accumulate(images: torch.Tensor, labels: torch.Tensor, step: int) -> torch.Tensor:
        policies = joint_policies(options.model, costs, options.candidates, seed=options.seed, step=step)
        with torch.no_grad(), accelerator.autocast():
            taught = teacher(images) if options.distill else None
        losses = accumulate_joint_gradients(
            accelerator,
            supernet,
            images,
            policies,
            lambda logits: classification_loss(
                logits, labels, taught, smoothing=options.smoothing, distill=options.distill
            ),
        )
        return losses.mean()

    seconds = fit(accelerator, supernet, train, accumulate, options)
    if not accelerator.is_main_process:
        return
    fixed = [name for name, cost in costs.items() if cost.fixed]
    highest = Policy.uniform(options.model, costs, max(options.candidates))
    batches = [images.to(accelerator.device) for _, (images, _) in zip(range(CALIBRATION_BATCHES), train, strict=False)]
    calibrate_steps_(set_policy_(supernet, highest), fixed, batches)
    record = provenance(accelerator, command_line(argv), options, seconds) | {"data": data_record(options)}
    indicators = read_indicators(
        supernet,
        costs,
        input_size=options.input_size,
        num_classes=len(classes),
        alpha=options.alpha,
        provenance=record,
    )
    save_entry(options.output, supernet, indicators, classes, {"float": evaluate(accelerator, teacher, validate)})
    shipped, metrics = load_supernet(options.output), {}
    for bits in indicators.candidates:
        policy = Policy.uniform(options.model, costs, bits)
        metrics[f"w{bits}a{bits}"] = evaluate(accelerator, set_policy_(shipped, policy), validate)
        print(f"uniform {bits}/{bits} ({FIXED_BITS.weight}/{FIXED_BITS.activation} at both ends): {metrics[f'w{bits}a{bits}']}")
    print(f"search it: limpq search {options.output}/indicators.json --bitops w4a4")


if __name__ == "__main__":
    main()
