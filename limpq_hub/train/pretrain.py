"""Train a float network on a data set: what timm's pretrained weights are for ImageNet.

    accelerate launch training/pretrain.py --model resnet18 --input-size 64 --data ~/tiny-imagenet --epochs 60 \
        --output out/resnet18-float

Writes `model.safetensors` (for `--weights` of the other scripts) and `metrics.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from limpq_hub.plan.jsonfile import write_bytes, write_json
from limpq_hub.train.data.loaders import class_records, data_record, training_loader, validation_loader
from limpq_hub.train.loop.fit import StepPosition, fit
from limpq_hub.train.loop.run import provenance, training_run
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.train.method.joint_step import classification_loss
from limpq_hub.train.method.networks import float_network
from limpq_hub.train.options import (
    add_data_options,
    add_network_options,
    add_training_options,
    command_line,
    parse,
    parser_of,
    run,
)
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import tensors_to_bytes


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    add_network_options(parser)
    parser.add_argument("--weights", help="safetensors file to start from; random weights if not given")
    add_data_options(parser)
    add_training_options(parser, epochs=60, lr=0.4, weight_decay=1e-4)
    return parse(parser, "pretrain", argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, save, measure."""
    options = parse_options(argv)
    with training_run(options) as accelerator:
        torch.manual_seed(options.seed)
        model = float_network(options.model, len(class_records(options)), options.input_size, options.weights)
        spec = NetworkSpec.of(model)
        model.to(accelerator.device).train()
        if options.channels_last:
            model.to(memory_format=torch.channels_last)

        def accumulate(images: torch.Tensor, labels: torch.Tensor, moment: StepPosition) -> torch.Tensor:
            with accelerator.autocast():
                loss = classification_loss(model(images), labels, smoothing=options.smoothing)
            accelerator.backward(loss * moment.share)
            return loss.detach()

        validation = validation_loader(options, spec)

        def validate(copied: torch.nn.Module) -> dict[str, float | int]:
            return evaluate(accelerator, copied, validation)

        train = training_loader(options, spec)
        seconds = fit(accelerator, model, train, accumulate, options, validate=validate)
        metrics = validate(model)
        if accelerator.is_main_process:
            write_bytes(options.output / "model.safetensors", tensors_to_bytes(model.state_dict()))
            record = provenance(accelerator, command_line(argv), options, seconds) | {"data": data_record(options)}
            write_json(options.output / "metrics.json", metrics | record)
            weights = f"{options.output}/model.safetensors"
            print(f"top-1 {metrics['top1']:.2f} %; weights in {weights}")
            print(
                f"next: accelerate launch training/indicators.py --model {options.model} --input-size "
                f"{options.input_size} --data {options.data} --weights {weights} --output out/joint"
            )


if __name__ == "__main__":
    run(main)
