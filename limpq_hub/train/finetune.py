r"""LSQ fine-tuning of one policy: from a budget to a packed checkpoint.

    accelerate launch -m limpq_hub.train.finetune --model local-dir:out/resnet18-joint --bitops 3G \
        --data ~/tiny-imagenet --distill 0.5 --output out/resnet18-3G

Searches the policy in the entry's indicators (or takes `--policy`), starts from the jointly trained weights and
steps (`--from joint`) or from the float network (`--from float`), and writes a checkpoint folder. Its
`metrics.json` is measured on the checkpoint as it lies on the disk: top-1 where there are labels, agreement with the
float network and KL divergence from it; with `--unmeasured` there is none, for others to measure. With `--unlabelled
FOLDER` the pictures need no labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.quant.batch_norm_calibration import check_enough_to_calibrate, recalibrate_batch_norm_
from limpq_hub.quant.batch_norm_correction import correct_batch_norm_
from limpq_hub.quant.calibrate import StepStart, start_steps_
from limpq_hub.quant.convert import build_quantized, select_policy
from limpq_hub.train.carried_options import picture_options
from limpq_hub.train.data.description import data_record
from limpq_hub.train.data.loaders import calibration_batches, first_images, training_loader, validation_loader
from limpq_hub.train.data.network_classes import classes_of_entry
from limpq_hub.train.launching import command_of, run
from limpq_hub.train.loop.inputs import check_inputs
from limpq_hub.train.loop.provenance import provenance
from limpq_hub.train.loop.run import training_run
from limpq_hub.train.measure.evaluate import accuracy_text, evaluate
from limpq_hub.train.measure.failure_signs import concerns, sameness
from limpq_hub.train.measure.reference import reference_of
from limpq_hub.train.method.classifier_training import train_classifier_
from limpq_hub.train.option_types import MOST_CALIBRATION_IMAGES, whole_number
from limpq_hub.train.options import (
    SWITCH,
    add_data_options,
    add_policy_options,
    add_push_options,
    parser_of,
    settings_of,
)
from limpq_hub.train.plan_notes import print_plan_notes
from limpq_hub.train.push import check_push, publishing_command, push_with_policy
from limpq_hub.train.settings import AugmentationSettings, DataSettings, PushSettings
from limpq_hub.train.training_options import add_quantizer_options, add_training_options
from limpq_hub.train.training_settings import LossSettings, TrainingSettings
from limpq_hub.train.weights.entry_weights import timm_name_of
from limpq_hub.train.weights.fetched_weights import fetched_content, is_fetched
from limpq_hub.train.weights.networks import float_network_of, placed
from limpq_hub.train.weights.picture_preparation import preparation_note
from limpq_hub.zoo.assembly import is_policy_name
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint, save_checkpoint
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.entry_tensors import SUPERNET
from limpq_hub.zoo.float_file import float_file_of
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.policy_request import plan_for

_FIRST_IMAGES = 256
# Of whole pictures: for statistics that are measured anew, and to correct those that are kept.
_MEASURING_IMAGES, _CORRECTION_IMAGES = 6000, 256
# Of a policy whose folder has a name that none can be published under.
_ADVISED_NAME = "finetuned"


@dataclass(frozen=True)
class FinetuneSettings:
    """What this command is asked for.

    Attributes:
        model: entry as `limpq_hub.load` takes it.
        constraints: budgets or the policy that were given, as `limpq_hub.load` takes them.
        weights: safetensors file of the float network; None for those of the entry.
        start_from: "joint" or "float": the weights to start from.
        step_start: "lsq" or "least-error": what the step sizes start from with `start_from` "float".
        calibrate_images: training images for the BatchNorm statistics; None for 6000, or 256 to correct frozen ones.
        unmeasured: whether the checkpoint is left to others to measure, and has no `metrics.json`.
    """

    model: str
    constraints: Mapping[str, Any]
    weights: str | None
    data: DataSettings
    augmentation: AugmentationSettings
    loss: LossSettings
    training: TrainingSettings
    push: PushSettings
    start_from: str
    step_start: StepStart
    calibrate_images: int | None
    unmeasured: bool


def parse_options(argv: Sequence[str] | None) -> FinetuneSettings:
    """Return what was typed, as settings."""
    parser = parser_of(__doc__, "finetune")
    add_policy_options(parser, teacher=True)
    parser.add_argument(
        "--from", dest="start_from", choices=("joint", "float"), default="joint", help="weights to start from"
    )
    parser.add_argument(
        "--calibrate-images",
        type=whole_number(1, MOST_CALIBRATION_IMAGES),
        help="training images for the BatchNorm statistics; 6000 if not given, 256 to correct frozen ones",
    )
    parser.add_argument(
        "--unmeasured",
        action=SWITCH,
        default=False,
        help="save the checkpoint without metrics.json; measure it later with validate --checkpoint",
    )
    add_data_options(parser)
    add_training_options(parser, epochs=95, lr=0.04, weight_decay=2.5e-5)
    add_quantizer_options(parser)
    add_push_options(parser)
    return settings_of(FinetuneSettings, parser, "finetune", argv, recipe=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Fine-tune one policy, save it packed, and measure what was saved unless others will."""
    settings = parse_options(argv)
    data, training, output = settings.data, settings.training, settings.training.run.output
    if settings.unmeasured and settings.push.push_to_hub:
        raise TrainingError("--unmeasured with --push-to-hub: what is published has its figures; leave one of them out")
    check_push(settings.push, _budget_name(settings))
    with training_run(training) as accelerator:
        entry = find_entry(settings.model)
        plan = plan_for(entry, **settings.constraints)
        print_plan_notes(accelerator, plan)
        spec = NetworkSpec.from_config(entry.folder.config, entry.name)
        ids = classes_of_entry(entry, data)
        loader = training_loader(data, settings.augmentation, spec, ids)
        # Random crops shift the statistics of BatchNorm: pictures are validated whole.
        usual = _CORRECTION_IMAGES if training.freeze_batch_norm else _MEASURING_IMAGES
        calibration = calibration_batches(data, spec, settings.calibrate_images or usual, accelerator.device)
        images = [] if training.freeze_batch_norm else calibration
        validation = validation_loader(data, spec, classes=ids)
        check_inputs(accelerator, training.run, data, spec, _contents(entry, plan, settings))
        reference = None
        if not settings.unmeasured or training.run.validate_epochs:
            reference = reference_of(accelerator, entry, settings.weights, validation, needed=data.data is None)
        for concern in sameness(reference or ()):
            accelerator.print(concern)

        def validate(trained: nn.Module) -> dict[str, float | int]:
            recalibrate_batch_norm_(trained, images)
            return evaluate(accelerator, trained, validation, reference)

        loss, channels_last = settings.loss, training.device.channels_last
        model = _starting_network(entry, plan, spec, settings).train()
        model = placed(model, accelerator.device, channels_last=channels_last)
        if len(images) == 1:
            check_enough_to_calibrate(model, images[0])
        if training.freeze_batch_norm:
            original = float_network_of(entry, settings.weights).to(accelerator.device)
            correct_batch_norm_(model, calibration, original)
        teacher = None
        if loss.distill:
            teacher = float_network_of(entry, loss.teacher or settings.weights, loss.teacher_option)
            teacher = placed(teacher, accelerator.device, channels_last=channels_last)
        for option, name in (("--weights", settings.weights), ("--teacher", loss.teacher)):
            note = preparation_note(name, spec, option, model=timm_name_of(entry))
            if note:
                accelerator.print(note)
        seconds = train_classifier_(accelerator, model, loader, loss, training, teacher=teacher, validate=validate)
        recalibrate_batch_norm_(model, images)
        record = provenance(accelerator, training.invocation, seconds)
        record["data"] = data_record(data, settings.augmentation)
        if accelerator.is_main_process:
            save_checkpoint(
                output, model, plan.costs, provenance=record, classes=ids, unfinished=not settings.unmeasured
            )
        if settings.unmeasured:
            accelerator.print(f"not measured, at {format_bitops(plan.bitops)} BitOps, in {output}")
            labelled = ["--data", "FOLDER"] if data.data is None else picture_options(replace(data, unlabelled=()))
            accelerator.print(f"next: {command_of('validate', '--checkpoint', output, *labelled)}")
            return
        accelerator.wait_for_everyone()
        saved, _ = load_checkpoint(open_local_folder(output, "checkpoint", unfinished=True))
        figures = evaluate(accelerator, saved.to(accelerator.device), validation, reference)
        if accelerator.is_main_process:
            save_checkpoint(output, model, plan.costs, metrics=figures, provenance=record, classes=ids)
            print(f"{accuracy_text(figures)} at {format_bitops(plan.bitops)} BitOps, in {output}")
            for concern in concerns(output, figures, spec.num_classes):
                print(concern)
            _push_or_tell(entry, _policy_name(settings, plan, entry), settings)


def _budget_name(settings: FinetuneSettings) -> str:
    """Return what a policy is called after: its budget of BitOps, or the folder that it is in."""
    return str(settings.constraints.get("bitops") or settings.training.run.output.name)


def _policy_name(settings: FinetuneSettings, plan: Plan, entry: Entry) -> str:
    """Return what the policy is published as: after its BitOps where the budget is more than any policy takes."""
    budget = settings.constraints.get("bitops")
    if budget is None:
        return _budget_name(settings)
    (constraint,) = SearchProblem.of(entry.indicators, Budget(bitops=budget)).programme.constraints
    return format_bitops(plan.bitops) if constraint.limit > constraint.most else _budget_name(settings)


def _contents(entry: Entry, plan: Plan, settings: FinetuneSettings) -> dict[str, str]:
    """Return a sha256 of the policy, of each file of the entry that the training reads, and of weights of the Hub."""
    files = entry.folder.config["files"]
    read = {
        f"{entry.name}/{file}": files[file]["sha256"]
        for file in (SUPERNET, float_file_of(entry.folder))
        if file in files
    }
    for option, name in (("weights", settings.weights), ("teacher", settings.loss.teacher)):
        if is_fetched(name):
            read |= fetched_content(option, name, float_network_of(entry, name, f"--{option}"))
    return {"policy": plan.policy.digest(), **read}


def _starting_network(entry: Entry, plan: Plan, spec: NetworkSpec, settings: FinetuneSettings) -> nn.Module:
    """Return the network at the plan's policy, with the jointly trained weights and steps or from the float network."""
    if settings.start_from == "joint":
        return select_policy(load_supernet(entry.folder, entry.indicators), plan.policy)
    model = build_quantized(
        float_network_of(entry, settings.weights),
        plan.policy,
        plan.costs,
        spec.input_shape,
        per_channel=entry.indicators.per_channel,
    )
    first = first_images(settings.data, settings.augmentation, spec, _FIRST_IMAGES)
    start_steps_(model, first, settings.step_start)
    return model


def _push_or_tell(entry: Entry, policy_name: str, settings: FinetuneSettings) -> None:
    output, push = settings.training.run.output, settings.push
    if push.push_to_hub:
        checkpoint = open_local_folder(output, "checkpoint")
        push_with_policy(entry, policy_name, checkpoint, push.push_to_hub, private=push.private, license=push.license)
    else:
        named = policy_name if is_policy_name(policy_name) else _ADVISED_NAME
        print(f"next: {publishing_command(settings.model, '--checkpoint', f'{named}={output}')}")


if __name__ == "__main__":
    run(main)
