"""The command that measures importance without training: measure."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from limpq_hub.cli.options import MODEL, count
from limpq_hub.cli.output import note, print_json
from limpq_hub.cli.outputs import check_outputs
from limpq_hub.errors import DataError, quoted
from limpq_hub.plan.first_budget import first_budget
from limpq_hub.plan.layer_bits import BIT_WIDTHS
from limpq_hub.plan.output_file import is_replaced
from limpq_hub.plan.progress_file import progress_file_of
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.measure.usual_pairs import (
    MEASURED_BATCH,
    USUAL_IMAGES,
    MeasuredWeights,
    usual_others,
    usual_weights,
)
from limpq_hub.train.option_types import MOST_THREADS, output_file, seed, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from limpq_hub.zoo.network import NetworkSpec


def add_measure_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command of this module."""
    measure = command(
        "measure", _measure, "Measure what each pair of bits of each layer does to the predictions; needs no labels."
    )
    measure.epilog = (
        "the same command goes on where one was cut off; needs: pip install limpq-hub, without an extra; the commands "
        "of limpq_hub.train need its [train]"
    )
    measure.add_argument("model", help=MODEL)
    measure.add_argument("--images", required=True, metavar="FOLDER", help="pictures, nested or flat; no label is read")
    measure.add_argument(
        "--count", type=count, default=USUAL_IMAGES, help="how many of them, drawn by --seed; fewer take less"
    )
    measure.add_argument("--seed", type=seed, default=0, help="of the draw")
    measure.add_argument(
        "--weights",
        choices=get_args(MeasuredWeights),
        help="of the jointly trained network, or of the float one; if not given, float where every channel has a step "
        "of its own, else joint",
    )
    measure.add_argument(
        "--others",
        type=whole_number(min(BIT_WIDTHS), max(BIT_WIDTHS)),
        metavar="BITS",
        help=f"the most bits of all other layers; if not given, {usual_others('joint')} in the jointly trained network "
        "and float in the float one",
    )
    measure.add_argument(
        "--threads",
        type=whole_number(1, MOST_THREADS),
        help=f"CPU threads, at most {MOST_THREADS}; as many as torch takes if not given",
    )
    measure.add_argument(
        "--output",
        type=output_file("indicators.json", ending=".json"),
        required=True,
        help="the indicators.json to write",
    )


def _measure(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.catalog import find_entry

    check_outputs(options)
    entry = find_entry(options.model)
    check_folder(options.images)
    # Torch, which takes seconds, only after what was typed is known to be there.
    import torch

    from limpq_hub.train.loop.huge_pages import use_huge_pages
    from limpq_hub.train.measure.pair_importance import Measuring, measured_indicators
    from limpq_hub.train.progress import progress_teller
    from limpq_hub.zoo.network import NetworkSpec

    use_huge_pages()
    if options.threads:
        torch.set_num_threads(options.threads)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    images = drawn_pictures(options.images, options.count, options.seed, spec)
    weights = options.weights or usual_weights(entry.indicators.per_channel)
    others = usual_others(weights) if options.others is None else options.others
    with progress_file_of(options.output) as kept, progress_teller("measuring the importance", "layers") as tell:
        try:
            indicators = measured_indicators(Measuring(entry, images, weights, others), kept, tell=tell)
        except KeyboardInterrupt:
            if kept.exists() and is_replaced(options.output):
                note(f"{kept} keeps what was measured: the same command goes on from there")
            raise
        indicators.save(options.output)
        kept.unlink(missing_ok=True)  # another run with this output may have been done with it
    if options.json:
        print_json(indicators.to_json())
    note(f"measured on {sum(map(len, images))} pictures, in {options.output}")
    if is_replaced(options.output):
        budget = first_budget(indicators, importance="measured")
        search = shell_command("limpq", "search", options.output, "--bitops", budget, "--importance", "measured")
        note(f"next: {search}")


def check_folder(folder: str) -> None:
    """Raise `DataError` unless the folder of --images is there."""
    if not os.path.isdir(folder):
        raise DataError(f"--images {quoted(folder)}: there is no such folder; give one with pictures")


def drawn_pictures(folder: str, most: int, drawn_by: int, spec: NetworkSpec) -> list[Tensor]:
    """Return so many pictures of a folder, drawn by the seed, prepared for the network, [batch, 3, height, width]."""
    import torch

    from limpq_hub.pictures.preparation import preparation_of
    from limpq_hub.pictures.reading import read_picture
    from limpq_hub.train.data.picture_files import pictures_below

    check_folder(folder)
    names = pictures_below(folder).names
    if not names:
        raise DataError(f"--images {quoted(folder)} holds no picture; is this the right folder?")
    drawn = torch.randperm(len(names), generator=torch.Generator().manual_seed(drawn_by))[:most].tolist()
    prepare = preparation_of(spec)
    images = torch.stack([prepare(read_picture(Path(folder, names[index]))) for index in drawn])
    return list(images.split(MEASURED_BATCH))
