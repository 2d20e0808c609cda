"""Publishing on the Hub, as the scripts offer it."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from limpq_hub.errors import HubNotFoundError, HubRefusedError
from limpq_hub.zoo.assembly import assemble_entry
from limpq_hub.zoo.catalog import Entry, find_entry
from limpq_hub.zoo.entry import SUPERNET
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.hub import check_repository, tags_of
from limpq_hub.zoo.publishing import push_entry

# Options that change nothing but where a result goes.
PUSH_OPTIONS = {"push_to_hub", "private"}


def add_push_options(parser: argparse.ArgumentParser, *, name: str = "--push-to-hub") -> None:
    """Add where the result is published."""
    group = parser.add_argument_group("Hub")
    group.add_argument(name, metavar="OWNER/NAME", help="repository that the result is published in; none if not given")
    group.add_argument("--private", action="store_true", help="create the repository as a private one")


def check_push(options: argparse.Namespace) -> None:
    """Raise `HubError` where `--push-to-hub` names nothing that can be a repository: before a training, not after."""
    if options.push_to_hub:
        check_repository(options.push_to_hub)
        tags_of(options.push_to_hub)


def push(entry: Entry, repo: str, *, private: bool, **how: object) -> None:
    """Publish an entry and say where it is."""
    pushed = push_entry(entry, repo, private=private, **how)
    named = f", tag {pushed.tag}" if pushed.tag else ""
    print(f"published {repo}@{pushed.commit[:12]}{named}; next: limpq search hf-hub:{repo} --bitops w4a4")


def push_with_policy(entry: Entry, name: str, checkpoint: SealedFolder, repo: str, *, private: bool) -> None:
    """Publish an entry with one more fine-tuned policy, beside those that the repository holds already.

    Raises:
        HubRefusedError: the repository holds another network.
    """
    try:
        there = find_entry(f"hf-hub:{repo}")
    except HubNotFoundError:
        there = entry
    if there.folder.config["files"][SUPERNET] != entry.folder.config["files"][SUPERNET]:
        raise HubRefusedError(f"{repo} holds another network than {entry.name}; publish in another repository")
    entry = there
    with tempfile.TemporaryDirectory(prefix="limpq-") as temporary:
        folder = Path(temporary) / "entry"
        assemble_entry(entry.folder, {name: checkpoint}, folder)
        push(find_entry(f"local-dir:{folder}"), repo, private=private)
