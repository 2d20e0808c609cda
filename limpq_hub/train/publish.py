"""Put together an entry of the zoo, joint training, fine-tuned checkpoints and measured figures, and publish it.

    python training/publish.py --joint out/resnet18-joint --checkpoint 3G=out/resnet18-3G \
        --front out/front.json --output out/my-entry --repo-id you/resnet18-limpq

The folder is what `limpq_hub.load("local-dir:...")` takes; without --repo-id nothing leaves this machine. With it the
folder becomes one commit of that Hub repository, with a card, a tag, read back and compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from limpq_hub.errors import TrainingError, shown
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.train.options import parser_of, run
from limpq_hub.train.push import add_push_options, push
from limpq_hub.zoo.assembly import assemble_entry, is_policy_name
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.folder import open_local_folder

# What only a push takes.
ONLY_WITH_REPO_ID = ("tag", "license", "private", "create_pr", "revision", "base_model")


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--joint", type=Path, required=True, help="output folder of indicators.py")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=DIR", help="output of finetune.py")
    parser.add_argument("--front", type=Path, help="output of front.py for --joint")
    parser.add_argument("--output", type=Path, required=True, help="folder of the entry; an entry there is replaced")
    add_push_options(parser, name="--repo-id")
    parser.add_argument("--create-pr", action="store_true", help="propose the commit instead of making it")
    parser.add_argument("--revision", help="branch that the commit goes to; the main branch if not given")
    parser.add_argument("--tag", help="name of the commit; the next of v1, v2, ... if not given")
    parser.add_argument("--base-model", help="Hub repository of the float network, if it is there")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Copy what verifies, seal it, read it back, and publish it."""
    options = parse_options(argv)
    ignored = [name for name in ONLY_WITH_REPO_ID if getattr(options, name) not in (None, False)]
    if ignored and not options.repo_id:
        raise TrainingError(f"--{ignored[0].replace('_', '-')} is for what --repo-id publishes; give both, or neither")
    if options.output.resolve() == options.joint.resolve():
        raise TrainingError("--output would replace --joint; choose another --output")
    checkpoints = dict(map(_named_folder, options.checkpoint))
    assemble_entry(
        open_local_folder(options.joint, "entry"),
        {name: open_local_folder(folder, "checkpoint") for name, folder in checkpoints.items()},
        options.output,
        read_json(options.front) if options.front else None,
    )
    entry = find_entry(f"local-dir:{options.output}")
    size = sum(listed["bytes"] for listed in entry.folder.config["files"].values())
    count = len(entry.published)
    print(f"{options.output}: {count} {'policy' if count == 1 else 'policies'}, {size / 1e6:.1f} MB in all")
    if options.repo_id:
        push(
            entry,
            options.repo_id,
            private=options.private,
            create_pr=options.create_pr,
            branch=options.revision,
            tag=options.tag,
            license=options.license,
            base_model=options.base_model,
        )
    else:
        print(f"next: limpq push local-dir:{options.output} you/{entry.indicators.model}-limpq")


def _named_folder(pair: str) -> tuple[str, str]:
    name, equals, folder = pair.partition("=")
    if not equals or not folder or not is_policy_name(name):
        raise TrainingError(f"--checkpoint {shown(pair)} is not NAME=DIR, for example 3G=out/resnet18-3G")
    return name, folder


if __name__ == "__main__":
    run(main)
