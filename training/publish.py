"""Put together an entry of the zoo: joint training, fine-tuned checkpoints and measured figures in one folder.

    python training/publish.py --joint out/resnet18-joint --checkpoint 3G=out/resnet18-3G \
        --front out/front.json --output limpq_hub/zoo/bundled/resnet18.tiny_imagenet

The folder is what `limpq_hub.load("local-dir:...")` takes.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from _options import parser_of, run

from limpq_hub.errors import TrainingError, shown
from limpq_hub.plan.jsonfile import check_shape, read_json, write_json
from limpq_hub.zoo.catalog import JOINT_RECORD, find_entry
from limpq_hub.zoo.entry import SUPERNET, seal_entry
from limpq_hub.zoo.folder import SealedFolder, open_local_folder
from limpq_hub.zoo.network import NetworkSpec


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--joint", type=Path, required=True, help="output folder of indicators.py")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=DIR", help="output of finetune.py")
    parser.add_argument("--front", type=Path, help="output of front.py for --joint")
    parser.add_argument("--output", type=Path, required=True, help="folder of the entry; an entry there is replaced")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Copy what verifies, seal it, and read it back."""
    options = parse_options(argv)
    if options.output.resolve() == options.joint.resolve():
        raise TrainingError("--output would replace --joint; choose another --output")
    if options.output.exists():
        open_local_folder(options.output, "entry")
    checkpoints = [_named_folder(pair) for pair in options.checkpoint]
    joint = open_local_folder(options.joint, "entry")
    building = options.output.with_name(f".{options.output.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    copy_verified(joint, building)
    for name, folder in checkpoints:
        copy_verified(open_local_folder(folder, "checkpoint"), building / "policies" / name)
    metrics = joint.read_json("metrics.json")
    if options.front:
        front = read_json(options.front)
        check_shape(front, {"joint": [JOINT_RECORD], "supernet_sha256": str}, str(options.front))
        if front["supernet_sha256"] != joint.config["files"][SUPERNET]["sha256"]:
            raise TrainingError(
                f"--front {options.front} was measured on another supernet than that of --joint {options.joint}; "
                f"measure it with training/front.py --model local-dir:{options.joint}"
            )
        metrics |= {"joint": front.pop("joint"), "joint_provenance": front}
    write_json(building / "metrics.json", metrics)
    seal_entry(building, NetworkSpec.from_config(joint.config, joint.name))
    shutil.rmtree(options.output, ignore_errors=True)
    building.rename(options.output)
    entry = find_entry(f"local-dir:{options.output}")
    size = sum(listed["bytes"] for listed in entry.folder.config["files"].values())
    print(f"{options.output}: {len(entry.published)} policies, {size / 1e6:.1f} MB in all")


def _named_folder(pair: str) -> tuple[str, str]:
    name, equals, folder = pair.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise TrainingError(f"--checkpoint {shown(pair)} is not NAME=DIR, for example 3G=out/resnet18-3G")
    return name, folder


def copy_verified(source: SealedFolder, target: Path) -> None:
    """Copy every file of a sealed folder that its `config.json` vouches for, and the `config.json`."""
    for file in (*source.files, "config.json"):
        if file != "config.json":
            source.read(file)
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.fetch(file), target / file)


if __name__ == "__main__":
    run(main)
