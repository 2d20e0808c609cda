"""The commands that talk to the Hub: pull and push."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from limpq_hub.cli.options import MODEL
from limpq_hub.cli.output import note, print_json
from limpq_hub.plan.first_budget import first_budget
from limpq_hub.plan.quantities import format_size
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.option_types import LICENSE_HELP

if TYPE_CHECKING:
    from limpq_hub.zoo.entry import Entry


def add_hub_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands of this module."""
    pull = command("pull", _pull, "Fetch every file of a model, verified, so that it works offline.")
    pull.add_argument("model", help="hf-hub:owner/name, or hf-hub:owner/name@revision")
    pull.add_argument("--output", type=Path, help="copy the files to this folder as well")

    push = command("push", _push, "Publish an entry on the Hub: one commit with a card, tagged and read back.")
    push.epilog = "what a repository holds, and what is checked: python -m pydoc limpq_hub.zoo.hub"
    push.add_argument("model", help=MODEL)
    push.add_argument("repository", help="owner/name, for example you/resnet18-limpq")
    push.add_argument(
        "--private", action="store_true", help="create the repository as a private one; one that is public is refused"
    )
    push.add_argument("--create-pr", action="store_true", help="propose the commit instead of making it")
    push.add_argument("--revision", help="branch that the commit goes to; the main branch if not given")
    push.add_argument("--tag", help="name of the commit; the next of v1, v2, ... if not given")
    push.add_argument("--license", help=LICENSE_HELP)
    push.add_argument("--base-model", help="Hub repository of the float network; else as --license")
    push.add_argument(
        "--dry-run",
        type=Path,
        metavar="FOLDER",
        help="write what would be sent to this folder instead; the Hub is not asked what its card states",
    )


def _pull(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.catalog import find_entry
    from limpq_hub.zoo.folder_copy import check_place, check_replaceable, copy_verified, replaced_folder
    from limpq_hub.zoo.hub.card_there import copy_card

    if options.output:
        check_replaceable(options.output)  # before anything is fetched
    entry = find_entry(options.model)
    if options.output:
        check_place(entry.folder, options.output)
    for file in entry.folder.files:
        entry.folder.read(file)
    if options.output:
        with replaced_folder(options.output) as folder:
            copy_verified(entry.folder, folder)
            copy_card(entry.folder, folder)
        note(f"wrote {options.output}; next: {_search_of(f'local-dir:{options.output}', entry)}")
    size = sum(listed["bytes"] for listed in entry.folder.config["files"].values())
    record = {"model": entry.name, "revision": entry.revision, "files": len(entry.folder.files), "bytes": size}
    if options.json:
        print_json(record)
        return
    commit = f"; commit {entry.revision}" if entry.revision else ""
    print(f"{entry.name}: {len(entry.folder.files)} files, {format_size(size)}, verified{commit}")


def _push(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.catalog import find_entry
    from limpq_hub.zoo.folder_copy import check_place, check_replaceable, replaced_folder
    from limpq_hub.zoo.hub.publishing import check_names, push_entry, write_repository

    check_names(options.repository, tag=options.tag, branch=options.revision)
    if options.dry_run:
        check_replaceable(options.dry_run)
    entry = find_entry(options.model)
    card = {"license": options.license, "base_model": options.base_model}
    if options.dry_run:
        check_place(entry.folder, options.dry_run)
        with replaced_folder(options.dry_run) as folder:
            write_repository(entry, folder, options.repository, **card)
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        if options.json:
            written = {"repo": options.repository, "folder": str(options.dry_run)}
            print_json(written | {"files": len(sizes), "bytes": sum(sizes)})
        note(f"wrote {options.dry_run}; without --dry-run it becomes {options.repository}")
        return
    pushed = push_entry(
        entry,
        options.repository,
        private=options.private,
        branch=options.revision,
        create_pr=options.create_pr,
        tag=options.tag,
        **card,
    )
    if options.json:
        print_json(vars(pushed))
    else:
        print(f"{pushed.repo}@{pushed.commit}" + (f", tag {pushed.tag}" if pushed.tag else ""))
    if pushed.unchanged:
        note(f"nothing changed: {pushed.repo} holds exactly this already")
    # Beside the main branch the commit alone is sure to be found.
    elsewhere = f"@{pushed.commit}" if options.revision or options.create_pr else ""
    note(f"next: {_search_of(f'hf-hub:{pushed.repo}{elsewhere}', entry)}")


def _search_of(model: str, entry: Entry) -> str:
    return shell_command("limpq", "search", model, "--bitops", first_budget(entry.indicators))
