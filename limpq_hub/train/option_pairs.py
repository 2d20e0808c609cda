"""Options that mean something only together: what follows from the others is filled in, what contradicts is refused."""

from __future__ import annotations

import argparse
from collections import Counter

from limpq_hub.train.training_settings import FIRST_SPARING_EPOCH


def settle_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Fill in the share of the teacher; exit like argparse where options contradict each other.

    Args:
        options: of any command; what it does not have is not looked at.
    """
    _settle_labels(parser, options)
    _check_precision(parser, options)
    _check_schedule(parser, options)
    _check_augmentation(parser, options)
    _check_passes(parser, options)
    _check_comparisons_of_passes(parser, options)
    _check_measured_images(parser, options)
    _check_push(parser, options)


def _check_precision(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if getattr(options, "float64", False) and options.mixed_precision != "no":
        parser.error(f"--float64 and --mixed-precision {options.mixed_precision} contradict each other; give one")


def _check_schedule(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    warmup, epochs = getattr(options, "warmup_epochs", 0), getattr(options, "epochs", None)
    if epochs is not None and warmup > epochs:
        parser.error(f"--warmup-epochs {warmup:g}: in --epochs {epochs} the learning rate would never be reached")
    for name in ("optimizer", "step_optimizer"):
        if getattr(options, name, None) == "sgd" and options.momentum == 0:
            parser.error(
                f"--momentum 0: --{name.replace('_', '-')} sgd is Nesterov's, which is nothing without momentum; give "
                "one above 0, or momentum as the optimizer, which is plain SGD at 0"
            )


def _check_augmentation(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    jitter, policy = getattr(options, "color_jitter", 0), getattr(options, "auto_augment", None)
    if jitter and policy and "3a" not in policy:
        parser.error(
            f"--color-jitter {jitter:g}: timm leaves it out beside --auto-augment {policy}; give one of them, or a "
            "policy of 3a"
        )


def _check_passes(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit unless every candidate of a joint training is trained."""
    candidates = getattr(options, "candidates", ())
    twice = [bits for bits, count in Counter(candidates).items() if count > 1]
    if twice:
        parser.error(f"--candidates: {twice[0]} stands twice; give each bit-width once")
    if len(candidates) > 1 and options.uniform == "highest" and not options.mixtures:
        parser.error(
            f"--uniform highest --mixtures 0 would train {max(candidates)} bits alone; give --mixtures 1 or more, or "
            "--uniform all"
        )


def _check_comparisons_of_passes(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit where an option needs passes that a joint step does not have."""
    if not hasattr(options, "mixtures"):
        return
    uniform = len(options.candidates) if options.uniform == "all" else 1
    for name in ("in_place_distill", "output_distance"):
        if getattr(options, name) and uniform + options.mixtures < 2:
            parser.error(
                f"--{name.replace('_', '-')} {getattr(options, name):g} compares passes, and a step has one; give "
                "--mixtures 1 or more, or leave it out"
            )
    if not options.spare_oscillating:
        return
    spared = f"--spare-oscillating {options.spare_oscillating:g}"
    if not options.mixtures:
        parser.error(f"{spared} is of the passes at random bits; give --mixtures 1 or more, or --spare-oscillating 0")
    if options.epochs <= FIRST_SPARING_EPOCH:
        parser.error(
            f"{spared} begins after {FIRST_SPARING_EPOCH} epochs, and --epochs {options.epochs} ends before; give "
            f"--epochs {FIRST_SPARING_EPOCH + 1} or more, or --spare-oscillating 0"
        )


def _check_measured_images(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    corrected = getattr(options, "measure_images", 0) and options.freeze_batch_norm
    for name in ("measure_images", "calibrate_images"):
        if corrected and getattr(options, name) == 1:
            parser.error(
                f"--{name.replace('_', '-')} 1: --freeze-batch-norm corrects statistics by two images or more, those "
                "of each pair of bits too; give as many, or --measure-images 0"
            )
    if getattr(options, "calibrate_images", None) == 1 and getattr(options, "alpha", 1.0) is None:
        parser.error(
            "--calibrate-images 1: alpha is measured on two images or more; give as many, or --alpha with a number"
        )


def _check_push(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if getattr(options, "push_to_hub", "") is None:
        for name in ("private", "license"):
            if getattr(options, name):
                parser.error(f"--{name} is for what --push-to-hub publishes; give both, or neither")


def _settle_labels(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Fill in the share of the teacher; exit where there is nothing to learn from, or a teacher that is not asked."""
    unlabelled = getattr(options, "unlabelled", None)
    if unlabelled is not None and not unlabelled and options.data is None:
        parser.error(
            "the following arguments are required: --data, or --unlabelled where there are pictures without labels"
        )
    if not hasattr(options, "distill"):
        return
    in_place = getattr(options, "in_place_distill", 0.0)
    if options.distill is None:
        options.distill = 1 - in_place if unlabelled else 0.0
    if unlabelled and (options.distill == 0 or abs(options.distill + in_place - 1) > 1e-9):
        shares = f"--distill {options.distill:g}" + (f" and --in-place-distill {in_place:g}" if in_place else "")
        parser.error(
            f"{shares}: pictures without labels leave nothing else to learn from; give --distill "
            f"{1 - in_place if in_place < 1 else 1:g}"
            + (" and a smaller --in-place-distill" if in_place >= 1 else ", or leave it out")
        )
    if options.distill + in_place > 1 + 1e-9:
        parser.error(f"--distill {options.distill} and --in-place-distill {in_place} are above 1")
    if options.teacher and not options.distill:
        parser.error("--teacher is learned from only with --distill; give its share of the loss, or leave both out")
