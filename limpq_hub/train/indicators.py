"""Joint training: learn every layer's step size at every candidate bit-width, once per network.

    accelerate launch training/indicators.py --model resnet18 --input-size 64 --data ~/tiny-imagenet \
        --weights resnet18_tiny_imagenet.safetensors --distill 0.5 --output out/resnet18-joint

Writes an entry folder: `indicators.json` (what the search reads), `supernet.safetensors` (what any policy can be
served from), `float.safetensors.gz` (what it started from), `anchors.*`, `classes.json`, `metrics.json`, and
`config.json` with the sha256 of each; and `curves.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.plan.costs import Costs
from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.quant.convert import DEFAULT_CANDIDATES, to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.data.loaders import (
    calibration_batches,
    class_records,
    data_record,
    first_images,
    training_loader,
    validation_loader,
)
from limpq_hub.train.entry_export import export_entry
from limpq_hub.train.loop.fit import StepPosition, fit
from limpq_hub.train.loop.run import provenance, training_run
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies
from limpq_hub.train.method.layer_outputs import LayerOutputs
from limpq_hub.train.method.networks import float_network, run_compiled_
from limpq_hub.train.method.oscillation import update_oscillating_
from limpq_hub.train.method.shared_stem import SharedStem
from limpq_hub.train.options import (
    add_data_options,
    add_network_options,
    add_quantizer_options,
    add_training_options,
    at_least_zero,
    command_line,
    count,
    parse,
    parser_of,
    positive,
    run,
    share,
)
from limpq_hub.train.push import add_push_options, check_push, push
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_float_network, seal_entry
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec

FIRST_IMAGES = 256


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    add_network_options(parser, distill=0.0)
    joint = parser.add_argument_group("joint training")
    joint.add_argument(
        "--candidates", type=int, nargs="+", default=list(DEFAULT_CANDIDATES), help="bit-widths, each in 2..8"
    )
    joint.add_argument(
        "--uniform", choices=("all", "highest"), default="all", help="uniform passes: each candidate, or the most bits"
    )
    joint.add_argument("--mixtures", type=count, default=1, help="passes at random bits per step")
    joint.add_argument(
        "--in-place-distill", type=share, default=0.0, help="share of the loss that is KL to the pass at the most bits"
    )
    joint.add_argument(
        "--output-distance",
        type=float,
        default=0.0,
        help="factor on the squared difference of each layer's output to that of the pass at the most bits",
    )
    joint.add_argument(
        "--spare-oscillating",
        type=share,
        default=0.0,
        help="share of layers, those whose weights flip most, kept from their fewest bits at times from epoch 5 on",
    )
    joint.add_argument(
        "--share-stem",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run what comes before the first searched layer once per step; the gradients stay the same",
    )
    result = parser.add_argument_group("result")
    result.add_argument(
        "--alpha",
        type=at_least_zero,
        help="default factor of the weight importance in a search; if not given, the one of least KL at some budgets",
    )
    result.add_argument(
        "--calibrate-images",
        type=positive(int),
        default=2048,
        help="training images for steps and BatchNorm statistics",
    )
    result.add_argument(
        "--anchor-gap",
        type=positive(int),
        default=8,
        help="bits by which neighbouring policies differ whose BatchNorm statistics are kept",
    )
    add_push_options(parser)
    result.add_argument("--class-names", type=Path, help="JSON file of {class folder: name}")
    add_data_options(parser)
    add_training_options(parser, epochs=5, lr=0.01, weight_decay=2.5e-5, validates=False)
    add_quantizer_options(parser)
    options = parse(parser, "indicators", argv)
    if options.distill + options.in_place_distill > 1:
        parser.error(f"--distill {options.distill} and --in-place-distill {options.in_place_distill} are above 1")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train the supernet, then export what it learned."""
    options = parse_options(argv)
    check_push(options)
    with training_run(options) as accelerator:
        classes = class_records(options, options.class_names)
        network, teacher = (
            float_network(options.model, len(classes), options.input_size, weights).to(accelerator.device)
            for weights in (options.weights, options.teacher or options.weights)
        )
        spec = NetworkSpec.of(network)
        train = training_loader(options, spec)
        first = _first_images(accelerator, options, spec)
        costs = profile_module(network, first)
        supernet = to_supernet(network, options.candidates, example_input=first).train()
        seconds = train_jointly_(accelerator, supernet, teacher, costs, train, options)
        record = provenance(accelerator, command_line(argv), options, seconds) | {"data": data_record(options)}
        images = calibration_batches(options, spec, options.calibrate_images)
        images = [batch.to(accelerator.device) for batch in images]
        if accelerator.is_main_process:
            export_entry(options, supernet, network, costs, classes, images, record)
            print("now validating the float network", flush=True)
        accelerator.wait_for_everyone()
        shipped = load_float_network(open_local_folder(options.output, "entry")).to(accelerator.device)
        measured = evaluate(accelerator, shipped, validation_loader(options, spec))
        if accelerator.is_main_process:
            measured["provenance"] = _how_trained(options.weights)
            write_json(options.output / "metrics.json", {"float": measured, "joint": []})
            seal_entry(options.output, spec)
            print(f"float top-1 {measured['top1']:.2f} %; indicators in {options.output}, their picture in curves.png")
            print(f"next: limpq search {options.output}/indicators.json --bitops w4a4")
            if options.push_to_hub:
                entry = find_entry(f"local-dir:{options.output}")
                push(entry, options.push_to_hub, private=options.private, license=options.license)


def train_jointly_(
    accelerator: Accelerator,
    supernet: nn.Module,
    teacher: nn.Module,
    costs: Costs,
    train: torch.utils.data.DataLoader,
    options: argparse.Namespace,
) -> float:
    """Train `supernet` in place; return the seconds it took."""
    if options.channels_last:
        supernet, teacher = (network.to(memory_format=torch.channels_last) for network in (supernet, teacher))
    if options.compile:
        run_compiled_(accelerator, supernet)
    image = torch.zeros(1, *NetworkSpec.of(supernet).input_shape, device=accelerator.device)
    stem = SharedStem(supernet, image) if options.share_stem else None
    outputs = LayerOutputs(supernet, options.output_distance) if options.output_distance else None
    memory: dict[str, object] = {}

    def accumulate(images: Tensor, labels: Tensor, moment: StepPosition) -> Tensor:
        policies = joint_policies(
            options.model,
            costs,
            options.candidates,
            seed=options.seed,
            step=moment.step,
            uniform=options.uniform,
            mixtures=options.mixtures,
            oscillating=update_oscillating_(memory, supernet, options.spare_oscillating, moment.epoch),
        )
        with torch.no_grad(), accelerator.autocast():
            taught = teacher(images) if options.distill else None

        def loss_of(logits: Tensor, highest: Tensor | None) -> Tensor:
            teachers = ((taught, options.distill), (highest, options.in_place_distill))
            return classification_loss(logits, labels, *teachers, smoothing=options.smoothing)

        return accumulate_joint_gradients(
            accelerator, supernet, images, policies, loss_of, stem=stem, outputs=outputs, share=moment.share
        )

    return fit(accelerator, supernet, train, accumulate, options, memory=memory)


def _how_trained(weights: str) -> dict[str, object]:
    """Return what `pretrain.py` wrote beside the weights, or no more than where they came from."""
    beside = Path(weights).with_name("metrics.json")
    return read_json(beside) if beside.is_file() else {"weights": weights}


def _first_images(accelerator: Accelerator, options: argparse.Namespace, spec: NetworkSpec) -> Tensor:
    """Return the images that the steps start from: the same on all processes, and however many there are."""
    per_step = options.batch_size * accelerator.num_processes * options.gradient_accumulation
    return first_images(options, spec, min(FIRST_IMAGES, per_step)).to(accelerator.device)


if __name__ == "__main__":
    run(main)
