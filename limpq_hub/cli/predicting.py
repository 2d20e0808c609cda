"""The command that classifies pictures: predict."""

from __future__ import annotations

import argparse
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpq_hub.cli.options import MODEL, add_load_options, count, found_request, next_command, search_arguments
from limpq_hub.cli.output import new_table, note, print_json, print_notes, print_table
from limpq_hub.errors import ImageError, OutputError, quoted
from limpq_hub.plan.option_wording import as_typed
from limpq_hub.plan.quantities import format_bitops, format_size
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.zoo.class_names import names_told_apart

if TYPE_CHECKING:
    from PIL.Image import Image

    from limpq_hub.pictures import Guess
    from limpq_hub.plan.plan import Plan
    from limpq_hub.zoo.entry import Entry


def add_predict_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command of this module."""
    predict = command("predict", _predict, "Say what a quantized network sees in pictures.")
    predict.add_argument(
        "picture",
        type=_picture,
        nargs="+",
        help="JPEG, PNG, WebP, GIF or AVIF files, HEIC with limpq-hub[heic], and folders of such, nested or flat",
    )
    which = predict.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help=MODEL)
    which.add_argument("--exported", type=Path, metavar="DIR", help="folder of limpq export, run by its runtime")
    add_load_options(predict)
    predict.add_argument(
        "--arithmetic",
        choices=("simulated", "integer"),
        default="simulated",
        help="integer: convolutions multiply integers; the same network, but for rounding ties",
    )
    predict.add_argument(
        "--top", type=count, default=5, help="how many classes to show; of several pictures with --json only"
    )


@dataclass(frozen=True)
class _Classifier:
    """A network ready to classify pictures, and how the output describes it.

    Attributes:
        classify: returns the most likely classes of a picture, most likely first.
        record: describes the network in the JSON output.
        class_names: what a table calls each class, by its id.
        name: names the network in the title of a table.
        caption: line below a table.
        without_effect: keywords of limits that every choice of bits meets.
    """

    classify: Callable[[Image], list[Guess]]
    record: dict[str, Any]
    class_names: Mapping[str, str]
    name: str
    caption: str
    without_effect: Sequence[str] = ()


def _predict(options: argparse.Namespace) -> None:
    _check_paths(options)
    request = None if options.exported else found_request(options)
    if request is None:
        _check_exported(options)
    from limpq_hub.pictures import read_picture

    paths = _files_of(options.picture)
    single = read_picture(paths[0]) if len(paths) == 1 else None  # before the network, which takes longer
    classifier = _exported(options) if request is None else _loaded(options, *request)
    guessed = dict(_classified(classifier, paths)) if single is None else {paths[0]: classifier.classify(single)}
    if not guessed:
        raise ImageError(f"none of the {len(paths)} pictures can be read")
    if options.json:
        pictures = [{"picture": str(path), "guesses": list(map(vars, guesses))} for path, guesses in guessed.items()]
        print_json(classifier.record | ({"pictures": pictures} if single is None else pictures[0]))
        return
    _print(classifier, guessed)
    if request is not None:
        then = next_command(
            options.model,
            search_arguments(options),
            options.policy,
            without_effect=classifier.without_effect,
            indicators=request[0].indicators,
        )
        note(f"next: {then}")


def _print(classifier: _Classifier, guessed: dict[Path, list[Guess]]) -> None:
    if len(guessed) == 1:
        ((path, guesses),) = guessed.items()
        table = new_table(f"{path.name}, seen by {classifier.name}", "class", "probability")
        for guess in guesses:
            table.add_row(classifier.class_names[guess.id], f"{guess.probability:.1%}")
    else:
        table = new_table(f"{len(guessed)} pictures, seen by {classifier.name}", "picture", "class", "probability")
        for path, guesses in guessed.items():
            table.add_row(str(path), classifier.class_names[guesses[0].id], f"{guesses[0].probability:.1%}")
    table.caption = classifier.caption
    print_table(table)


def _picture(text: str) -> Path:
    """Return the path of a picture or folder that was typed; an address on the web is refused."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is an address, and pictures are read from this machine: download it first"
        )
    return Path(text)


def _check_paths(options: argparse.Namespace) -> None:
    """Raise `ImageError` where nothing is at a path, before torch is imported."""
    from limpq_hub.zoo.catalog import list_models

    for typed in map(str, options.picture):
        if not os.path.exists(typed):
            advice = "give the path of a picture, or of a folder of pictures"
            if typed.startswith(("local-dir:", "hf-hub:")) or list_models(typed):
                advice = f"it names a model: {shell_command('limpq', 'predict', 'PICTURE', '--model', typed)}"
            raise ImageError(f"there is no file or folder {quoted(typed)}; {advice}")


def _files_of(typed: Sequence[Path]) -> list[Path]:
    """Return the pictures that were typed, those of folders in natural order."""
    from limpq_hub.train.data.picture_files import left_out_text, pictures_below

    paths = []
    for path in typed:
        if not path.is_dir():
            paths.append(path)
            continue
        files = pictures_below(path)
        if not files.names:
            raise ImageError(
                f"{quoted(str(path))} has no pictures in it; give a folder of JPEG, PNG, WebP or GIF files"
            )
        if files.left_out:
            note(f"note: {path}: {left_out_text(files.left_out)}")
        paths += [path / name for name in files.names]
    return paths


def _classified(classifier: _Classifier, paths: Sequence[Path]) -> Iterator[tuple[Path, list[Guess]]]:
    """Yield the classes of each picture; a picture that cannot be read is named on stderr and left out."""
    from limpq_hub.pictures import read_picture

    for path in paths:
        try:
            guesses = classifier.classify(read_picture(path))
        except ImageError as error:
            note(f"note: left out: {error}")
        else:
            yield path, guesses


def _loaded(options: argparse.Namespace, entry: Entry, plan: Plan) -> _Classifier:
    """Return the network of an entry at a plan."""
    from limpq_hub.pictures import top_classes
    from limpq_hub.zoo.loading import load_entry
    from limpq_hub.zoo.measurement import top1_on_images, top1_record

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_entry(
            entry,
            plan,
            policy=options.policy,
            weights=options.weights,
            arithmetic=options.arithmetic,
            **search_arguments(options),
        )
    print_notes(model.limpq.plan)
    for warning in caught:
        note(f"note: {as_typed(str(warning.message))}")
    for name, reason in model.limpq.in_float.items():
        note(f"note: {name} is simulated: {reason}")
    loaded, measured = model.limpq, model.limpq.measurement
    record = {
        "model": options.model,
        "weights": loaded.weights,
        "arithmetic": loaded.arithmetic,
        "bitops": loaded.plan.bitops,
        "size_bytes": loaded.plan.size_bytes,
        **top1_record(loaded.top1, measured),
    }
    caption = (
        f"one of {loaded.network.num_classes} classes; {loaded.weights} weights, "
        f"{format_bitops(loaded.plan.bitops)} BitOps, {format_size(loaded.plan.size_bytes)}"
        + (f"\n{top1_on_images(loaded.top1, measured)}" if loaded.top1 is not None else "")
    )
    without_effect = loaded.plan.without_effect
    return _Classifier(
        lambda picture: top_classes(model, picture, options.top),
        record,
        names_told_apart(loaded.classes),
        options.model,
        caption,
        without_effect,
    )


def _check_exported(options: argparse.Namespace) -> None:
    """Check that a folder of `limpq export` is one, and that nothing is asked of it that it cannot change."""
    from limpq_hub.deploy.export_folder import open_export

    asked = search_arguments(options) or options.policy or options.weights != "auto"
    if asked or options.arithmetic == "integer":
        raise OutputError(
            "--exported has the bits and the weights that it was exported with: leave out budget, policy, --weights "
            "and --arithmetic"
        )
    open_export(options.exported)


def _exported(options: argparse.Namespace) -> _Classifier:
    """Return the network of a folder of `limpq export`."""
    from limpq_hub.deploy.exported_network import open_exported
    from limpq_hub.pictures import most_likely

    opened = open_exported(options.exported)
    if opened.caution:
        note(f"note: {options.exported}: {opened.caution}")
    classes = opened.classes or [{"id": str(index), "name": str(index)} for index in range(opened.spec.num_classes)]
    runtime = opened.network.runtime.description
    return _Classifier(
        lambda picture: most_likely(opened.network, picture, opened.spec, classes, options.top),
        {"exported": str(options.exported), "runtime": runtime},
        names_told_apart(classes),
        f"{options.exported} in {runtime}",
        f"one of {opened.spec.num_classes} classes; {opened.spec.title}, for "
        f"{opened.verification['file_format']}: {format_size(opened.size_bytes)}",
    )
