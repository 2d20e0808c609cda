r"""Train a float network on a data set: what timm's pretrained weights are for ImageNet.

    accelerate launch -m limpq_hub.train.pretrain --model resnet18 --input-size 64 --data ~/tiny-imagenet --epochs 60 \
        --output out/resnet18-float

Starts from random weights, or with `--weights pretrained` (a file, a folder, a repository) from trained features: where
these are for other classes, they get a new head. `--epochs` is 60 then or 20, `--lr` 0.05 or 0.01, `--warmup-epochs` a
twentieth of the epochs, for whoever does not say otherwise.

Writes `model.safetensors` and timm's `config.json` beside it (for `--weights` of the other commands; timm takes the
folder as `local-dir:`), and `metrics.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.train.carried_options import carried_options, picture_options
from limpq_hub.train.data.description import class_records, data_record
from limpq_hub.train.data.loaders import training_loader, validation_loader
from limpq_hub.train.launching import command_of, run
from limpq_hub.train.loop.inputs import check_inputs
from limpq_hub.train.loop.provenance import provenance
from limpq_hub.train.loop.run import training_run
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.train.measure.failure_signs import concerns
from limpq_hub.train.method.classifier_training import train_classifier_
from limpq_hub.train.options import add_data_options, add_network_options, parser_of, settings_of
from limpq_hub.train.settings import AugmentationSettings, DataSettings, NetworkSettings
from limpq_hub.train.training_options import add_training_options
from limpq_hub.train.training_settings import LossSettings, TrainingSettings
from limpq_hub.train.weights.fetched_weights import fetched_content
from limpq_hub.train.weights.networks import classifier_for, description_of, placed
from limpq_hub.zoo.model_args import typed_text
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import tensors_to_bytes
from limpq_hub.zoo.timm_config import timm_config

# Epochs and peak rate of what starts from random weights, and of what starts from trained ones. A rate of 0.4 without
# warm-up, which ResNets bear in batches of 512, leaves a MobileNet at chance.
_FROM_RANDOM = {"epochs": 60, "lr": 0.05}
_FROM_TRAINED = {"epochs": 20, "lr": 0.01}
_WARMUP_SHARE = 0.05


@dataclass(frozen=True)
class PretrainSettings:
    """What this command is asked for."""

    network: NetworkSettings
    data: DataSettings
    augmentation: AugmentationSettings
    loss: LossSettings
    training: TrainingSettings


def parse_options(argv: Sequence[str] | None) -> PretrainSettings:
    """Return what was typed, as settings."""
    parser = parser_of(__doc__, "pretrain")
    add_network_options(parser)
    add_data_options(parser, labels=True)
    where_not_given = {
        name: f"{value} if not given, {_FROM_TRAINED[name]} with --weights" for name, value in _FROM_RANDOM.items()
    }
    where_not_given["warmup_epochs"] = f"{_WARMUP_SHARE:g} of --epochs if not given"
    add_training_options(
        parser, epochs=None, lr=None, weight_decay=1e-4, warmup_epochs=None, where_not_given=where_not_given
    )

    def complete(options: argparse.Namespace) -> None:
        """Refuse pictures without labels, and fill in the epochs and rates that were not typed."""
        if options.unlabelled:
            parser.error(
                "--unlabelled: a float network is trained on labels, and these pictures have none; give --data alone, "
                f"or start from a trained network: {command_of('indicators')} --unlabelled"
            )
        if options.data is None:
            parser.error("the following arguments are required: --data")
        _set_schedule(options)

    return settings_of(PretrainSettings, parser, "pretrain", argv, recipe=True, complete=complete)


def _set_schedule(options: argparse.Namespace) -> None:
    """Fill in the epochs and rates that were not typed."""
    for name, value in (_FROM_TRAINED if options.weights else _FROM_RANDOM).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.warmup_epochs is None:
        options.warmup_epochs = _WARMUP_SHARE * options.epochs


def main(argv: Sequence[str] | None = None) -> None:
    """Train, save, measure."""
    settings = parse_options(argv)
    network, data, output = settings.network, settings.data, settings.training.run.output
    with training_run(settings.training) as accelerator:
        torch.manual_seed(settings.training.seed)
        model, new_head = classifier_for(network, len(class_records(data)))
        spec = NetworkSpec.of(model)
        accelerator.print(description_of(model, network.weights, new_head=new_head))
        placed(model.train(), accelerator.device, channels_last=settings.training.device.channels_last)
        validation = validation_loader(data, spec)
        content = fetched_content("weights", network.weights, model, new_head=new_head)
        check_inputs(accelerator, settings.training.run, data, spec, content)

        def validate(trained: nn.Module) -> dict[str, float | int]:
            return evaluate(accelerator, trained, validation)

        loader = training_loader(data, settings.augmentation, spec)
        seconds = train_classifier_(accelerator, model, loader, settings.loss, settings.training, validate=validate)
        weights = output / "model.safetensors"
        if accelerator.is_main_process:  # before they are measured: pictures that cannot be read take nothing away
            write_bytes(weights, tensors_to_bytes(model.state_dict()))
            write_json(output / "config.json", timm_config(model))
            (output / "metrics.json").unlink(missing_ok=True)  # of a shorter run
        figures = validate(model)
        if accelerator.is_main_process:
            record = provenance(accelerator, settings.training.invocation, seconds)
            record["data"] = data_record(data, settings.augmentation)
            write_json(output / "metrics.json", figures | record)
            print(f"top-1 {figures['top1']:.2f} %; weights in {weights}")
            for concern in concerns(output, figures, spec.num_classes):
                print(concern)
            carried = carried_options(settings.training.invocation, "indicators")
            print(f"next: {_next_command(network, data, weights, spec.input_size, carried)}")


def _next_command(
    network: NetworkSettings, data: DataSettings, weights: Path, input_size: int, carried: Sequence[str] = ()
) -> str:
    start: list[str | Path] = ["--model", network.model, "--input-size", str(input_size)]
    start += ["--weights", weights]
    if network.model_args:
        start += ["--model-args", *typed_text(network.model_args)]
    teaching = [] if "--recipe" in carried else ["--distill", "0.5"]
    return command_of("indicators", *start, *picture_options(data), *carried, *teaching, "--output", "out/joint")


if __name__ == "__main__":
    run(main)
