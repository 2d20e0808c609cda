"""LSQ fine-tuning of one policy: from a budget to a packed checkpoint.

    accelerate launch training/finetune.py --model local-dir:out/resnet18-joint --bitops 3G --data ~/tiny-imagenet \
        --distill 0.5 --output out/resnet18-3G

Searches the policy in the entry's indicators (or takes `--policy`), starts from the jointly trained weights and
steps (`--from joint`) or from the float network (`--from float`), and writes a checkpoint folder. Its
`metrics.json` is measured on the checkpoint as it lies on the disk.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.plan.plan import Plan
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.quant.calibrate import initialize_activation_steps_, recalibrate_batch_norm_
from limpq_hub.quant.convert import build_quantized, select_policy
from limpq_hub.train.data.loaders import (
    calibration_batches,
    data_record,
    first_images,
    training_loader,
    validation_loader,
)
from limpq_hub.train.loop.fit import StepPosition, Validate, fit
from limpq_hub.train.loop.run import provenance, training_run
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.train.method.joint_step import classification_loss
from limpq_hub.train.method.networks import budget_of, check_fits, float_network_of, run_compiled_
from limpq_hub.train.options import (
    add_data_options,
    add_entry_options,
    add_quantizer_options,
    add_training_options,
    command_line,
    parse,
    parser_of,
    positive,
    run,
)
from limpq_hub.train.push import add_push_options, check_push, push_with_policy
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint, save_checkpoint
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.policy_request import plan_for

FIRST_IMAGES = 256


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    add_entry_options(parser, distill=0.0)
    parser.add_argument(
        "--from", dest="start_from", choices=("joint", "float"), default="joint", help="weights to start from"
    )
    parser.add_argument(
        "--calibrate-images", type=positive(int), default=6000, help="training images for the BatchNorm statistics"
    )
    add_data_options(parser)
    add_training_options(parser, epochs=95, lr=0.04, weight_decay=2.5e-5)
    add_quantizer_options(parser)
    add_push_options(parser)
    return parse(parser, "finetune", argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Fine-tune one policy, save it packed, and measure what was saved."""
    options = parse_options(argv)
    policy_name = options.bitops or options.output.name
    check_push(options, policy_name)
    with training_run(options) as accelerator:
        entry = find_entry(options.model)
        plan = plan_for(entry, **budget_of(options))
        spec = NetworkSpec.from_config(entry.folder.config, entry.name)
        check_fits(options, entry)
        train = training_loader(options, spec)
        # Random crops shift the statistics of BatchNorm: pictures are validated whole.
        images = calibration_batches(options, spec, options.calibrate_images)
        images = [batch.to(accelerator.device) for batch in images]
        validation = validation_loader(options, spec)

        def validate(copied: nn.Module) -> dict[str, float | int]:
            recalibrate_batch_norm_(copied, images)
            return evaluate(accelerator, copied, validation)

        model = _network_to_train(accelerator, entry, plan, spec, options)
        seconds = _train(accelerator, model, entry, train, validate, options)
        recalibrate_batch_norm_(model, images)
        record = provenance(accelerator, command_line(argv), options, seconds) | {"data": data_record(options)}
        if accelerator.is_main_process:
            save_checkpoint(options.output, model, plan.costs, provenance=record)
        accelerator.wait_for_everyone()
        saved, _ = load_checkpoint(open_local_folder(options.output, "checkpoint"))
        metrics = evaluate(accelerator, saved.to(accelerator.device), validation)
        if accelerator.is_main_process:
            save_checkpoint(options.output, model, plan.costs, metrics=metrics, provenance=record)
            print(f"top-1 {metrics['top1']:.2f} % at {format_bitops(plan.bitops)} BitOps, in {options.output}")
            if not options.push_to_hub:
                print(
                    f"next: python training/publish.py --joint FOLDER_OF_INDICATORS --checkpoint "
                    f"{policy_name}={options.output} --output out/my-entry"
                )
            if options.push_to_hub:
                checkpoint = open_local_folder(options.output, "checkpoint")
                push_with_policy(
                    entry,
                    policy_name,
                    checkpoint,
                    options.push_to_hub,
                    private=options.private,
                    license=options.license,
                )


def _network_to_train(
    accelerator: Accelerator, entry: Entry, plan: Plan, spec: NetworkSpec, options: argparse.Namespace
) -> nn.Module:
    """Return the network at the plan's policy, with the jointly trained weights and steps or from the float network."""
    if options.start_from == "float":
        network = float_network_of(entry, options.weights)
        model = build_quantized(network, plan.policy, plan.costs)
        initialize_activation_steps_(model, first_images(options, spec, FIRST_IMAGES))
    else:
        model = select_policy(load_supernet(entry.folder, entry.indicators), plan.policy)
    model.to(accelerator.device).train()
    return model.to(memory_format=torch.channels_last) if options.channels_last else model


def _train(
    accelerator: Accelerator,
    model: nn.Module,
    entry: Entry,
    train: torch.utils.data.DataLoader,
    validate: Validate,
    options: argparse.Namespace,
) -> float:
    """Train `model` in place; return the seconds it took."""
    teacher = None
    if options.distill:
        teacher = float_network_of(entry, options.teacher or options.weights).to(accelerator.device)
        teacher = teacher.to(memory_format=torch.channels_last) if options.channels_last else teacher
    if options.compile:
        run_compiled_(accelerator, model)

    def accumulate(images: Tensor, labels: Tensor, moment: StepPosition) -> Tensor:
        with torch.no_grad(), accelerator.autocast():
            taught = teacher(images) if teacher else None
        with accelerator.autocast():
            logits = model(images)
            loss = classification_loss(logits, labels, (taught, options.distill), smoothing=options.smoothing)
        accelerator.backward(loss * moment.share)
        return loss.detach()

    return fit(accelerator, model, train, accumulate, options, validate=validate)


if __name__ == "__main__":
    run(main)
