r"""Put together an entry of the zoo, joint training, fine-tuned checkpoints and measured figures, and publish it.

    python -m limpq_hub.train.publish --joint out/resnet18-joint --checkpoint 3G=out/resnet18-3G \
        --front out/front.json --output out/my-entry --repo-id you/resnet18-limpq

The folder is what `limpq_hub.load("local-dir:...")` takes; without --repo-id nothing leaves this machine. With it the
folder becomes one commit of that Hub repository, with a card, a tag, read back and compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from limpq_hub.errors import BudgetError, TrainingError, quoted
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.first_budget import first_budget
from limpq_hub.plan.importance import APART, Importance
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.search_record import search_record
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.launching import command_of, run
from limpq_hub.train.option_types import whole_number
from limpq_hub.train.options import add_push_options, parser_of, settings_of
from limpq_hub.train.push import announce
from limpq_hub.zoo.anchors import search_of_anchors
from limpq_hub.zoo.assembly import assemble_entry, is_policy_name
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.factory_path import factory_of
from limpq_hub.zoo.finetuning_advice import pictures_option
from limpq_hub.zoo.folder import SealedFolder, open_local_folder
from limpq_hub.zoo.hub.card_there import stated_in
from limpq_hub.zoo.hub.publishing import push_entry

# What only a push takes.
_ONLY_WITH_REPO_ID = ("tag", "license", "private", "create_pr", "revision", "base_model")


@dataclass(frozen=True)
class PublishSettings:
    """What this command is asked for.

    Attributes:
        joint: output folder of `indicators`.
        checkpoint: NAME=DIR of each fine-tuned policy.
        front: output of `front`.
        indicators: output of `limpq measure` for `joint`; None to publish its own.
        importance: what a search adds up unless it is told otherwise; None for what the indicators say.
        apart: how far apart the bits of a layer may be in such a search; None for what the indicators say of their own
            importance, and any for another.
        reason: why a search does so, in a sentence for the card.
        output: folder of the entry.
        recode: whether what earlier versions wrote is written in fewer bytes.
        repo_id: owner/name of the Hub repository; None to send nothing.
        revision: branch that the commit goes to; the others are for the Hub as well.
    """

    joint: Path
    checkpoint: Sequence[str]
    front: Path | None
    indicators: Path | None
    importance: Importance | None
    apart: int | None
    reason: str | None
    output: Path
    recode: bool
    repo_id: str | None
    private: bool
    license: str | None
    create_pr: bool
    revision: str | None
    tag: str | None
    base_model: str | None


def parse_options(argv: Sequence[str] | None) -> PublishSettings:
    """Return what was typed, as settings."""
    parser = parser_of(__doc__, "publish")
    parser.add_argument("--joint", type=_folder, required=True, help="folder that the command indicators wrote")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="folder that the command finetune wrote, and the name of its policy: 3G=out/3G; once for each policy",
    )
    parser.add_argument("--front", type=Path, help="file that the command front wrote for --joint")
    parser.add_argument(
        "--indicators", type=Path, help="file that limpq measure wrote for --joint, in place of its own"
    )
    parser.add_argument(
        "--importance",
        choices=get_args(Importance),
        help="what a search adds up unless it is told otherwise; what the indicators say if not given",
    )
    parser.add_argument(
        "--apart",
        type=whole_number(0, max(APART)),
        metavar="BITS",
        help="how far apart the weight and the activation bits of a layer may be in such a search: 0 for equal bits",
    )
    parser.add_argument("--reason", help="why such a search was chosen, in a sentence for the card")
    parser.add_argument("--output", type=Path, required=True, help="folder of the entry; an entry there is replaced")
    parser.add_argument(
        "--recode",
        action="store_true",
        help="store what earlier versions wrote in fewer bytes; the numbers stay the same",
    )
    add_push_options(parser, name="--repo-id")
    parser.add_argument("--create-pr", action="store_true", help="propose the commit instead of making it")
    parser.add_argument("--revision", help="branch that the commit goes to; the main branch if not given")
    parser.add_argument("--tag", help="name of the commit; the next of v1, v2, ... if not given")
    parser.add_argument("--base-model", help="Hub repository of the float network, if it is there")
    return settings_of(PublishSettings, parser, "publish", argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Copy what verifies, seal it, read it back, and publish it."""
    settings = parse_options(argv)
    ignored = [name for name in _ONLY_WITH_REPO_ID if getattr(settings, name) not in (None, False)]
    if ignored and not settings.repo_id:
        raise TrainingError(f"--{ignored[0].replace('_', '-')} is for what --repo-id publishes; give both, or neither")
    if settings.output.resolve() == settings.joint.resolve():
        raise TrainingError("--output would replace --joint; choose another --output")
    checkpoints = _named_folders(settings.checkpoint)
    joint = open_local_folder(settings.joint, "entry")
    assemble_entry(
        joint,
        {name: open_local_folder(folder, "checkpoint") for name, folder in checkpoints.items()},
        settings.output,
        read_json(settings.front) if settings.front else None,
        indicators=Indicators.load(settings.indicators) if settings.indicators else None,
        importance=settings.importance,
        apart=settings.apart,
        reason=settings.reason,
        recode=settings.recode,
    )
    entry = find_entry(f"local-dir:{settings.output}")
    size_bytes = sum(listed["bytes"] for listed in entry.folder.config["files"].values())
    policies = len(entry.published)
    print(
        f"{settings.output}: {policies} {'policy' if policies == 1 else 'policies'}, {size_bytes / 1e6:.1f} MB in all"
    )
    _tell_of_another_search(joint, entry, settings.output)
    budget = first_budget(entry.indicators)
    for policy in entry.published:
        limit = _bitops_of_name(entry, policy.name) if policy.name in checkpoints else None
        if limit is not None and policy.bitops <= limit:
            budget = policy.name
        elif limit is not None:
            print(
                f"warning: policy {policy.name} takes {format_bitops(policy.bitops)} BitOps, more than the "
                f"{format_bitops(limit)} that its name says: was {checkpoints[policy.name]} meant?"
            )
    if settings.repo_id:
        _push(entry, settings.repo_id, settings, stated_in(joint))
    else:
        repository = f"you/{entry.indicators.model}-limpq"
        model = f"local-dir:{settings.output}"
        factory = factory_of(entry.indicators.model)
        if factory:  # no command takes one
            print(f'next: limpq_hub.load("{model}", bitops="{budget}", build={factory[1]})')
        else:
            print(f"next: {shell_command('limpq', 'predict', 'PICTURE', '--model', model, '--bitops', budget)}")
        print(f"to publish it for everyone, or with --private: {shell_command('limpq', 'push', model, repository)}")


def _tell_of_another_search(joint: SealedFolder, entry: Entry, output: Path) -> None:
    """Say what is to be measured anew where it lies along another search than that of the entry."""
    if Entry(joint.name, joint, "local").metrics.get("joint") and not entry.metrics["joint"]:
        print(f"note: the front of {joint.name} is left out: it lies along another search")
    if search_of_anchors(entry.folder) not in (None, search_record(entry.indicators)):
        words = ("--model", f"local-dir:{output}", pictures_option(entry.indicators), "FOLDER", "--output", "OUTPUT")
        own = factory_of(entry.indicators.model)  # no command takes one
        how = "limpq_hub.zoo.anchors.save_anchors" if own else command_of("anchors", *words)
        print(f"note: the BatchNorm statistics lie along another search; measure them with: {how}")


def _push(entry: Entry, repo: str, settings: PublishSettings, stated: Mapping[str, Any]) -> None:
    announce(
        push_entry(
            entry,
            repo,
            private=settings.private,
            create_pr=settings.create_pr,
            branch=settings.revision,
            tag=settings.tag,
            license=settings.license,
            base_model=settings.base_model,
            stated=stated,
        ),
        entry.indicators,
    )


def _bitops_of_name(entry: Entry, name: str) -> int | None:
    """Return the limit that a policy's name is, read as a budget of BitOps, or None where it is none."""
    try:
        (constraint,) = SearchProblem.of(entry.indicators, Budget(bitops=name)).programme.constraints
    except BudgetError:
        return None
    return int(constraint.limit)


def _folder(text: str) -> Path:
    """Return a folder, that other commands take as local-dir:FOLDER, as an argparse type."""
    return Path(text.removeprefix("local-dir:"))


def _named_folders(pairs: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each name; raise `TrainingError` where two have one name."""
    folders: dict[str, Path] = {}
    for name, folder in map(_named_folder, pairs):
        if folders.setdefault(name, folder) != folder:
            raise TrainingError(
                f"--checkpoint {quoted(name)} is given for {folders[name]} and for {folder}; give one another name"
            )
    return folders


def _named_folder(pair: str) -> tuple[str, Path]:
    name, equals, folder = pair.partition("=")
    if not equals or not folder or not is_policy_name(name):
        advice = "for example 3G=out/resnet18-3G"
        if os.path.isdir(pair) and is_policy_name(Path(pair).name):
            advice = f"write {shell_command('--checkpoint', f'{Path(pair).name}={pair}')}"
        raise TrainingError(f"--checkpoint {quoted(pair)} is not NAME=DIR, {advice}")
    return name, _folder(folder)


if __name__ == "__main__":
    run(main)
