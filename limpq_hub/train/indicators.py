r"""Joint training: learn every layer's step size at every candidate bit-width, once per network.

    accelerate launch -m limpq_hub.train.indicators --model resnet18 --input-size 64 --data ~/tiny-imagenet \
        --weights resnet18_tiny_imagenet.safetensors --distill 0.5 --output out/resnet18-joint

Writes an entry folder: `indicators.json` (what the search reads), `supernet.safetensors` (what any policy can be
served from), `float.safetensors` (what it started from), `anchors.*`, `classes.json`, `metrics.json`, and
`config.json` with the sha256 of each, last; and `curves.png`. With `--unlabelled FOLDER` the pictures need no labels:
the float network is the teacher.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from limpq_hub.errors import ArtifactFormatError, TrainingError
from limpq_hub.plan.first_budget import first_budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.quant.batch_norm_calibration import check_enough_to_calibrate
from limpq_hub.quant.convert import to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.restored_batch_norm import folded_batch_norms, restore_batch_norm_
from limpq_hub.train.carried_options import carried_options, carried_recipe, picture_options, typed_options
from limpq_hub.train.data.description import data_record
from limpq_hub.train.data.loaders import calibration_batches, first_images, training_loader, validation_loader
from limpq_hub.train.data.network_classes import classes_of_network
from limpq_hub.train.entry_export import announced_export, export_entry
from limpq_hub.train.launching import command_of, run
from limpq_hub.train.loop.batch_size import check_batch_size
from limpq_hub.train.loop.inputs import check_inputs
from limpq_hub.train.loop.provenance import provenance
from limpq_hub.train.loop.run import training_run
from limpq_hub.train.measure.evaluate import accuracy_text, evaluate, full_precision, log_probabilities
from limpq_hub.train.measure.failure_signs import concerns, sameness
from limpq_hub.train.measure.joint_summary import figures_at_uniform_bits
from limpq_hub.train.measure.kept_measurements import MEASURED, forget_measurements
from limpq_hub.train.method.joint_training import train_jointly_
from limpq_hub.train.options import add_data_options, add_network_options, add_push_options, parser_of, settings_of
from limpq_hub.train.push import announce, check_push
from limpq_hub.train.settings import AugmentationSettings, DataSettings, NetworkSettings, PushSettings
from limpq_hub.train.settings_conversion import arguments_of
from limpq_hub.train.training_options import (
    add_export_options,
    add_joint_options,
    add_quantization_options,
    add_quantizer_options,
    add_training_options,
)
from limpq_hub.train.training_settings import (
    ExportSettings,
    JointSettings,
    LossSettings,
    QuantizationSettings,
    TrainingSettings,
)
from limpq_hub.train.weights.entry_weights import float_file_in
from limpq_hub.train.weights.fetched_weights import fetched_content, file_content, is_fetched
from limpq_hub.train.weights.float_weights import local_file
from limpq_hub.train.weights.networks import description_of, float_network, placed
from limpq_hub.train.weights.picture_preparation import preparation_note
from limpq_hub.zoo.card_commands import last_component, without_folders
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import METRICS, load_float_network, seal_entry
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.hub.publishing import push_entry
from limpq_hub.zoo.network import PREPARATION, NetworkSpec

_FIRST_IMAGES = 256


@dataclass(frozen=True)
class IndicatorsSettings:
    """What this command is asked for.

    Attributes:
        calibrate_images: training images for step sizes and BatchNorm statistics.
        class_names: JSON file of {class folder: name}, or of all class ids in the order of the outputs.
    """

    network: NetworkSettings
    data: DataSettings
    augmentation: AugmentationSettings
    quantization: QuantizationSettings
    joint: JointSettings
    loss: LossSettings
    training: TrainingSettings
    export: ExportSettings
    push: PushSettings
    calibrate_images: int
    class_names: Path | None


def parse_options(argv: Sequence[str] | None) -> IndicatorsSettings:
    """Return what was typed, as settings."""
    parser = parser_of(__doc__, "indicators")
    add_network_options(parser, teacher=True)
    add_quantization_options(parser)
    add_joint_options(parser)
    add_export_options(parser)
    add_push_options(parser)
    add_data_options(parser)
    add_training_options(parser, epochs=5, lr=0.01, weight_decay=2.5e-5, validates=False)
    add_quantizer_options(parser)
    return settings_of(IndicatorsSettings, parser, "indicators", argv, recipe=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the supernet, export what it learned, and measure it and the float network that it started from."""
    settings = parse_options(argv)
    data, training, output = settings.data, settings.training, settings.training.run.output
    check_push(settings.push)
    with training_run(training) as accelerator:
        start = settings.network
        known = timm.get_pretrained_cfg(start.model) if timm.is_model_pretrained(start.model) else None
        if start.weights == "pretrained" and known is not None:  # before anything is fetched
            classes_of_network(known.num_classes, data, settings.class_names)
        network = float_network(start, start.weights, None).to(accelerator.device)
        how_trained = _how_trained(start.weights)  # now: the file may be another after hours of training
        spec = NetworkSpec.of(network)
        accelerator.print(description_of(network, start.weights))
        same_size = replace(start, input_size=spec.input_size)
        loss = settings.loss
        teacher = float_network(same_size, loss.teacher or start.weights, spec.num_classes, loss.teacher_option)
        asked = [key for key in PREPARATION if getattr(start, key) is not None]
        note = preparation_note(loss.teacher, spec, loss.teacher_option, model=start.model, typed=asked)
        if note:
            accelerator.print(note)
        classes = classes_of_network(spec.num_classes, data, settings.class_names)
        ids = [record["id"] for record in classes]
        loader, validation = (
            training_loader(data, settings.augmentation, spec, ids),
            validation_loader(data, spec, classes=ids),
        )
        content = fetched_content("weights", start.weights, network)
        content |= fetched_content("teacher", settings.loss.teacher, teacher)
        content |= file_content("class-names", settings.class_names)
        check_inputs(accelerator, training.run, data, spec, content)
        if folded_batch_norms(network):
            restore_batch_norm_(network, calibration_batches(data, spec, _FIRST_IMAGES, accelerator.device))
        # The step sizes start from the images of the first step: the same ones for any number of processes.
        per_step = data.batch_size * accelerator.num_processes * training.schedule.gradient_accumulation
        first = first_images(data, settings.augmentation, spec, min(_FIRST_IMAGES, per_step)).to(accelerator.device)
        if not training.freeze_batch_norm:
            check_batch_size(network, data.batch_size, accelerator.num_processes)
        drawn = min(settings.calibrate_images, len(loader.source) if loader.source else settings.calibrate_images)
        if drawn == 1:
            check_enough_to_calibrate(network, first[:1])
        for concern in sameness([_scores(network, first)]):
            accelerator.print(concern)
        quantization = settings.quantization
        costs = profile_module(network, first, exclude=quantization.exclude, fix=quantization.fix)
        if all(cost.fixed is not None for cost in costs.values()):
            raise TrainingError("--exclude and --fix leave no layer whose bits can be searched; name fewer layers")
        supernet = to_supernet(network, settings.joint.candidates, example_input=first, **vars(quantization)).train()
        supernet, teacher = (
            placed(module, accelerator.device, channels_last=training.device.channels_last)
            for module in (supernet, teacher)
        )
        coming = announced_export(settings.export, supernet, costs, drawn)
        if coming:
            accelerator.print(coming, flush=True)
        seconds = train_jointly_(accelerator, supernet, teacher, costs, loader, settings.joint, settings.loss, training)
        record = provenance(accelerator, training.invocation, seconds)
        record["model"] = start.model  # with its tag, which says which of timm's weights
        record["data"] = data_record(data, settings.augmentation)
        images = calibration_batches(data, spec, settings.calibrate_images, accelerator.device)
        if accelerator.is_main_process:
            with full_precision():
                export_entry(settings.export, supernet, network, costs, classes, images, record)
            print("now validating the float network", flush=True)
        accelerator.wait_for_everyone()
        shipped = load_float_network(open_local_folder(output, "entry", unfinished=True)).to(accelerator.device)
        # Without labels: how near the network in half precision is to the one that it started from.
        of_start = log_probabilities(accelerator, network, validation) if data.data is None else None
        figures = evaluate(accelerator, shipped, validation, of_start)
        if accelerator.is_main_process:
            measured = figures | {"data": data_record(data), "provenance": how_trained}
            write_json(output / METRICS, {"float": measured, "joint": []})
            seal_entry(output, spec)
            print(f"float {accuracy_text(figures)}", flush=True)
        accelerator.wait_for_everyone()
        joint = {}
        reference = log_probabilities(accelerator, shipped, validation)
        for bits, joint[bits] in figures_at_uniform_bits(accelerator, output, validation, reference):
            accelerator.print(f"joint weights, all layers at {bits} bits: {_quality(joint[bits])}", flush=True)
        if accelerator.is_main_process:
            forget_measurements(output / MEASURED)
            for concern in concerns(output, joint[max(joint)], spec.num_classes):
                print(concern)
            _tell_and_push(settings)


@torch.no_grad()
def _scores(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of images, [images, classes]."""
    scores: Tensor = network(images)
    return scores


def _how_trained(weights: str | None) -> dict[str, object]:
    """Return what `pretrain` or an entry says of how the weights came about, or no more than where they came from."""
    unknown: dict[str, object] = {"weights": weights and last_component(weights)}
    file = None if weights is None or is_fetched(weights) else local_file(weights)
    if file is None or not os.path.isfile(file.with_name("metrics.json")):
        return unknown
    try:
        record: Any = read_json(file.with_name("metrics.json"))
    except ArtifactFormatError:  # that of another tool
        return unknown
    if float_file_in(file.parent) == file:
        figures = record.get("float") if isinstance(record, dict) else None
        record = figures.get("provenance") if isinstance(figures, dict) else None
        return record if isinstance(record, dict) else unknown
    if not _is_of_a_training_here(record):
        return unknown
    return record | {"command": without_folders(record["command"])}


def _is_of_a_training_here(record: Any) -> bool:
    """Return whether a record is one that a command of this library wrote: what others write is not to be published."""
    versions = record.get("versions") if isinstance(record, dict) else None
    return isinstance(versions, dict) and "limpq-hub" in versions and isinstance(record.get("command"), str)


def _quality(figures: Mapping[str, Any]) -> str:
    """Return how right a network is and how near to the float network."""
    accuracy = f"top-1 {figures['top1']:.2f} %" if "top1" in figures else f"agreement {figures['agreement']:.2f} %"
    return f"{accuracy}, KL to float {figures['kl']:.4f}"


def _tuning_options(settings: IndicatorsSettings) -> list[str]:
    """Return the options of a fine-tuning that goes with this training: its recipe, teacher, statistics and device."""
    training, unlabelled = settings.training, settings.data.unlabelled
    carried = carried_options(training.invocation, "finetune")
    if training.freeze_batch_norm and "--freeze-batch-norm" not in carried:
        carried.append("--freeze-batch-norm")
    # Without labels the teacher is all there is to learn from in fine-tuning, whatever its share was here.
    if carried_recipe(training.invocation, "finetune"):
        return [*carried, *(["--distill", "1"] if unlabelled else typed_options(training.invocation, "--distill"))]
    return [*arguments_of(settings.loss, *(("teacher",) if unlabelled else ("teacher", "distill"))), *carried]


def _tell_and_push(settings: IndicatorsSettings) -> None:
    output, data, push = settings.training.run.output, settings.data, settings.push
    print(f"indicators in {output}, their picture in curves.png")
    searched = output
    if settings.quantization.per_channel:
        better = (
            "with a step per channel, measured pairs chose better bits than learned steps wherever both were tried "
            "(training/README.md)"
        )
        if settings.export.measure_images:
            searched = Path(f"{output}-entry")
            publish = command_of("publish", "--joint", output, "--importance", "measured", "--output", searched)
            print(f"first: {better}: {publish}")
        else:
            print(f"note: {better}: the same command with --resume and no --measure-images 0 measures them")
    budget = first_budget(Indicators.load(output / "indicators.json"))
    print(f"next: {shell_command('limpq', 'search', searched / 'indicators.json', '--bitops', budget)}")
    carried = _tuning_options(settings)
    tune = ("--model", f"local-dir:{searched}", "--bitops", budget, *picture_options(data), *carried)
    print(f"then: {command_of('finetune', *tune, '--output', Path(f'{output}-{budget}'))}")
    if push.push_to_hub:
        entry = find_entry(f"local-dir:{output}")
        pushed = push_entry(entry, push.push_to_hub, private=push.private, license=push.license)
        announce(pushed, entry.indicators)


if __name__ == "__main__":
    run(main)
